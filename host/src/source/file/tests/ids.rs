//! What ids of records of files are made of.

use super::*;

/// Ids of all records up to the end, in batches of `records`; another source goes on after every batch where `restarts`.
async fn ids(folder: &TempDir, path: &str, records: usize, restarts: bool) -> Vec<Vec<u8>> {
    let stamp = Stamp { ids: Some(1), ..Stamp::default() };
    let fresh = || open(&config(path, false), folder.path(), "in", Format::Json, &stamp, 1 << 20).unwrap();
    let (mut source, mut ids) = (fresh(), Vec::new());
    while let Read::Chunk(chunk) =
        timeout(NEVER, source.read(Limit { records, bytes: 1 << 20 })).await.unwrap().unwrap()
    {
        ids.extend(chunk.batch.named(crate::batch::ID).unwrap().iter().map(<[u8]>::to_vec));
        if restarts {
            let position = source.position();
            source = fresh();
            assert!(source.seek(&position).await.unwrap());
        }
    }
    ids
}

/// P11 at its beginning: what an id is made of is the file and the number of the record in it.
#[tokio::test]
async fn ids_are_those_of_places_however_files_are_cut_read_and_renamed() {
    let folder = tempdir().unwrap();
    for name in ["a.log", "b.log"] {
        let line = |n: usize| if n % 7 == 3 { "nonsense\n".to_owned() } else { "{\"same\":1}\n".to_owned() };
        write(&folder, name, &(0..50).map(line).collect::<String>());
    }
    let all = ids(&folder, "*.log", 1 << 10, false).await;
    let once: std::collections::BTreeSet<_> = all.iter().collect();
    assert_eq!((all.len(), once.len()), (86, 86), "another id for each, though all say the same");
    for (records, restarts) in [(1, true), (3, true), (7, false), (100, true)] {
        assert_eq!(ids(&folder, "*.log", records, restarts).await, all, "{records} {restarts}");
    }
    fs::rename(folder.path().join("b.log"), folder.path().join("a.log.1")).unwrap();
    assert_eq!(ids(&folder, "a.log.1", 5, true).await, all[43..], "it is the same file");
}

#[tokio::test]
async fn a_file_that_is_written_anew_has_other_ids() {
    let folder = tempdir().unwrap();
    let stamp = Stamp { ids: Some(1), ..Stamp::default() };
    write(&folder, "a.log", "1\n2\n");
    let mut source = open(&config("a.log", true), folder.path(), "in", Format::Json, &stamp, 1 << 20).unwrap();
    source.round.get().unwrap().poll = Duration::from_millis(2);
    let mut seen = std::collections::BTreeSet::new();
    for (text, all) in [("3\n4\n", 2), ("5\n6\n", 4), ("", 6)] {
        while seen.len() < all {
            let read = timeout(NEVER, source.read(Limit::default())).await.expect("records in time").unwrap();
            let Read::Chunk(chunk) = read else { panic!("the file is followed") };
            let ids = chunk.batch.named(crate::batch::ID).unwrap();
            ids.iter().for_each(|id| assert!(seen.insert(id.to_vec()), "an id of another record"));
        }
        write(&folder, "a.log", text);
    }
}
