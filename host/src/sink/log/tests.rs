//! The log sink over a simulated disk: room, commits, falls, damage.

use std::path::Path;

use super::*;
use crate::{
    batch::Column,
    disk::{Sim, sim::Failure},
    log::From,
    sink::tests::write,
};

const FOLDER: &str = "/state/logs/test";

/// A block for each record, of its value alone.
fn form() -> Form {
    Arc::new(|batch, epoch, now| {
        let block = |value: &[u8]| Block { payload: value.to_vec().into(), records: 1, times: (now, now), epoch };
        batch.values().iter().map(block).collect()
    })
}

fn terms(disk: &Sim) -> Terms {
    disk.create_folder(Path::new("/state")).unwrap();
    Terms {
        disk: Arc::new(disk.clone()),
        state: "/state".into(),
        folder: "logs/test".into(),
        keep: Duration::from_secs(3600),
        max: 1 << 20,
        room: Room::Person,
        cure: "make room".to_owned(),
    }
}

/// The sink as a process opens it that finds this position in the store.
async fn opened(terms: Terms, position: &Value) -> (LogSink, Access) {
    let access = Access::default();
    let mut sink = open(terms, form(), access.clone(), None);
    sink.restore(position).await.unwrap();
    (sink, access)
}

fn records(values: &[&str]) -> Batch {
    Batch::of_values(values.iter().collect())
}

/// What readers see.
fn shown(access: &Access) -> Vec<String> {
    let mut reader = access.readable().unwrap().log.reader(From::Start).unwrap();
    std::iter::from_fn(|| reader.next().unwrap())
        .map(|(_, block)| String::from_utf8(block.payload.to_vec()).unwrap())
        .collect()
}

async fn commit(sink: &mut LogSink) -> Value {
    sink.flush(&mut Vec::new()).await.unwrap();
    let position = sink.position();
    sink.committed(&position);
    position
}

#[tokio::test]
async fn readers_see_what_has_been_committed_and_nothing_more() {
    let disk = Sim::new();
    let (mut sink, access) = opened(terms(&disk), &Value::Null).await;
    sink.begins(Epoch(3));
    write(&mut sink, &records(&["a", "b"])).await.unwrap();
    sink.flush(&mut Vec::new()).await.unwrap();
    let position = sink.position();
    write(&mut sink, &records(&["c"])).await.unwrap();
    sink.flush(&mut Vec::new()).await.unwrap();
    assert_eq!(shown(&access), Vec::<String>::new(), "nothing is committed");
    sink.committed(&position);
    assert_eq!(shown(&access), ["a", "b"]);
    let (_, block) = access.readable().unwrap().log.reader(From::Start).unwrap().next().unwrap().unwrap();
    assert_eq!(block.epoch, Epoch(3));
}

#[tokio::test]
async fn what_was_written_behind_the_commit_is_taken_back() {
    let disk = Sim::new();
    let (mut sink, _) = opened(terms(&disk), &Value::Null).await;
    let begun = sink.position();
    write(&mut sink, &records(&["a"])).await.unwrap();
    let position = commit(&mut sink).await;
    write(&mut sink, &records(&["b"])).await.unwrap();
    sink.flush(&mut Vec::new()).await.unwrap();
    sink.restore(&position).await.unwrap();
    write(&mut sink, &records(&["c"])).await.unwrap();
    let position = commit(&mut sink).await;
    let (mut sink, access) = opened(terms(&disk), &position).await;
    assert_eq!(shown(&access), ["a", "c"]);
    sink.restore(&begun).await.unwrap();
    assert_eq!(shown(&access), Vec::<String>::new());
}

#[tokio::test]
async fn a_log_that_the_store_does_not_know_is_refused_and_kept() {
    let disk = Sim::new();
    let (mut sink, _) = opened(terms(&disk), &Value::Null).await;
    assert_ne!(sink.position(), Value::Null, "a log that was opened once is known");
    write(&mut sink, &records(&["a"])).await.unwrap();
    let position = commit(&mut sink).await;
    drop(sink);
    let refused =
        open(terms(&disk), form(), Access::default(), None).restore(&Value::Null).await.unwrap_err().to_string();
    assert!(refused.contains(FOLDER) && refused.contains("make room"), "{refused}");
    let (_, access) = opened(terms(&disk), &position).await;
    assert_eq!(shown(&access), ["a"]);
}

#[tokio::test]
async fn a_full_disk_is_waited_for_and_nothing_is_lost_or_doubled() {
    for nth in 1.. {
        let disk = Sim::new();
        let (mut sink, access) = opened(terms(&disk), &Value::Null).await;
        disk.fail(nth, Failure::NoSpace);
        for value in ["a", "b", "c"] {
            let mut result = write(&mut sink, &records(&[value])).await.map(|_| ());
            if result.is_ok() {
                result = sink.flush(&mut Vec::new()).await;
            }
            while let Err(error) = result {
                assert!(matches!(error, SinkError::Later(_)), "{error}");
                result = sink.flush(&mut Vec::new()).await;
            }
            let position = sink.position();
            sink.committed(&position);
        }
        assert_eq!(shown(&access), ["a", "b", "c"], "operation {nth}");
        if !disk.fired() {
            assert!(nth > 3);
            return;
        }
    }
}

#[tokio::test]
async fn a_failed_sync_is_never_tried_again() {
    let mut synced = false;
    for nth in 1.. {
        let disk = Sim::new();
        let (mut sink, _) = opened(terms(&disk), &Value::Null).await;
        disk.fail(nth, Failure::Eio);
        let written = write(&mut sink, &records(&["a"])).await.map(|_| ());
        let result = if written.is_ok() { sink.flush(&mut Vec::new()).await } else { written };
        if !disk.fired() {
            assert!(synced);
            return;
        }
        let error = result.unwrap_err();
        assert!(matches!(error, SinkError::Never(_)), "{error}");
        if error.to_string().contains("sync ") {
            synced = true;
            assert!(matches!(sink.flush(&mut Vec::new()).await, Err(SinkError::Never(_))));
        }
    }
}

#[tokio::test]
async fn a_log_at_its_limit_takes_nothing_more_until_what_is_old_has_gone() {
    let disk = Sim::new();
    let full = Terms { max: 16 << 10, ..terms(&disk) };
    let (mut sink, _) = opened(full.clone(), &Value::Null).await;
    let value = "x".repeat(1000);
    let mut taken = 0;
    let mut position = sink.position();
    let error = loop {
        match write(&mut sink, &records(&[&value])).await {
            Ok(_) => position = commit(&mut sink).await,
            Err(error) => break error,
        }
        taken += 1;
    };
    let told = error.to_string();
    assert!(matches!(error, SinkError::Later(_)) && told.contains("16KiB") && told.contains("make room"), "{told}");
    assert!(matches!(sink.flush(&mut Vec::new()).await, Err(SinkError::Later(_))), "it is still full");
    assert!((9..16).contains(&taken), "{taken}");

    // Whoever keeps nothing for long makes room by itself.
    let (mut sink, access) = opened(Terms { keep: Duration::ZERO, ..full }, &position).await;
    let old = access.readable().unwrap().records();
    let opened_at = now();
    while now() <= opened_at {
        std::hint::spin_loop();
    }
    write(&mut sink, &records(&["new"])).await.unwrap();
    commit(&mut sink).await;
    assert!(access.readable().unwrap().records() < old);
    assert_eq!(shown(&access).last().unwrap(), "new");
}

#[tokio::test]
async fn what_a_person_has_given_up_stays_given_up() {
    let disk = Sim::new();
    let (mut sink, access) = opened(terms(&disk), &Value::Null).await;
    write(&mut sink, &records(&["a", "b", "c"])).await.unwrap();
    let position: Position = serde_json::from_value(commit(&mut sink).await).unwrap();
    assert_eq!(access.readable().unwrap().records(), 3);
    let (mut sink, access) = opened(terms(&disk), &json!(Position { from: 2, ..position })).await;
    write(&mut sink, &records(&["d"])).await.unwrap();
    let position = commit(&mut sink).await;
    assert_eq!((access.readable().unwrap().first(), access.readable().unwrap().records()), (2, 2));
    assert_eq!(position["from"], 2);
}

/// Of a torn record that was not committed nothing is left, whatever a fall has made of it.
#[tokio::test]
async fn after_a_fall_at_any_operation_the_log_holds_what_was_committed() {
    for failure in [Failure::CrashBefore, Failure::CrashAfter, Failure::Short] {
        for nth in 1.. {
            let disk = Sim::new();
            let begin = terms(&disk);
            disk.sync_folder(Path::new("/")).unwrap();
            disk.fail(nth, failure);
            let mut sink = open(begin, form(), Access::default(), None);
            let (mut position, mut committed) = (Value::Null, 0);
            if sink.restore(&Value::Null).await.is_ok() {
                position = sink.position();
                for value in ["a", "b", "c"] {
                    let written = write(&mut sink, &records(&[value, value])).await.is_ok();
                    if !written || sink.flush(&mut Vec::new()).await.is_err() {
                        break;
                    }
                    position = sink.position();
                    committed += 2;
                }
            }
            let is_over = !disk.fired();
            drop(sink);
            disk.restart(nth);
            let (_, access) = opened(terms(&disk), &position).await;
            assert_eq!(shown(&access), ["a", "a", "b", "b", "c", "c"][..committed], "{failure:?} {nth}");
            if is_over {
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_flipped_bit_is_refused_with_its_place_and_a_torn_tail_is_cut() {
    let disk = Sim::new();
    let (mut sink, _) = opened(terms(&disk), &Value::Null).await;
    write(&mut sink, &records(&["a", "b"])).await.unwrap();
    let position = commit(&mut sink).await;
    write(&mut sink, &records(&["torn"])).await.unwrap();
    sink.flush(&mut Vec::new()).await.unwrap();
    drop(sink);
    let file = disk.list(Path::new(FOLDER)).unwrap().remove(0);
    let whole = disk.content(&file).unwrap();
    disk.set_content(&file, &whole[..whole.len() - 2]);
    let (_, access) = opened(terms(&disk), &position).await;
    assert_eq!(shown(&access), ["a", "b"]);

    let mut flipped = disk.content(&file).unwrap();
    flipped[80] ^= 1;
    disk.set_content(&file, &flipped);
    let mut sink = open(terms(&disk), form(), Access::default(), None);
    let refused = format!("{:#}", sink.restore(&position).await.unwrap_err());
    assert!(refused.contains(file.to_str().unwrap()) && refused.contains("at byte 72"), "{refused}");
}

#[tokio::test]
async fn an_empty_batch_is_no_record() {
    let disk = Sim::new();
    let (mut sink, access) = opened(terms(&disk), &Value::Null).await;
    write(&mut sink, &Batch::of_values(Column::blank(0))).await.unwrap();
    commit(&mut sink).await;
    assert_eq!(access.readable().unwrap().records(), 0);
}
