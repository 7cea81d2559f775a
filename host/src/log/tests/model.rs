//! Random sequences of everything a log is asked, against a list.

use proptest::prelude::*;

use super::*;
use crate::log::{Keep, Reader};

#[derive(Clone, Debug)]
enum Act {
    Append(usize),
    Sync,
    /// Commits the last sync.
    Commit,
    Read(From, usize),
    Retain {
        bytes: u64,
        needed: Option<u64>,
    },
    /// The process ends, the machine goes on.
    Reopen,
    /// The power goes; the commit that is found is the last one, or that of the last sync.
    Crash {
        seed: u64,
        is_synced: bool,
    },
}

fn act() -> impl Strategy<Value = Act> {
    let from = prop_oneof![
        Just(From::Start),
        Just(From::End),
        (0u64..60).prop_map(From::Offset),
        (0i64..600).prop_map(From::Time),
    ];
    prop_oneof![
        8 => (0usize..=400).prop_map(Act::Append),
        3 => Just(Act::Sync),
        3 => Just(Act::Commit),
        3 => (from, 0usize..12).prop_map(|(from, blocks)| Act::Read(from, blocks)),
        1 => (0u64..4000, proptest::option::of(0u64..60)).prop_map(|(bytes, needed)| Act::Retain { bytes, needed }),
        1 => Just(Act::Reopen),
        2 => (any::<u64>(), any::<bool>()).prop_map(|(seed, is_synced)| Act::Crash { seed, is_synced }),
    ]
}

/// The log as a list.
#[derive(Default)]
struct Model {
    appended: Vec<(u64, Block)>,
    synced: Mark,
    committed: Mark,
    first: u64,
}

impl Model {
    fn end(&self) -> u64 {
        self.appended.last().map_or(0, |(offset, block)| offset + u64::from(block.records))
    }

    fn visible(&self) -> Vec<(u64, Block)> {
        let is_visible = |offset| self.first <= offset && offset < self.committed.offset;
        self.appended.iter().filter(|(offset, _)| is_visible(*offset)).cloned().collect()
    }

    fn cut(&mut self, committed: Mark) {
        (self.synced, self.committed) = (committed, committed);
        self.appended.retain(|(offset, _)| *offset < committed.offset);
    }

    /// What a reader that begins there is to find; `None` where it cannot begin.
    fn from(&self, from: From) -> Option<Vec<(u64, Block)>> {
        let visible = self.visible();
        let at = match from {
            From::Start => Some(0),
            From::End => Some(visible.len()),
            From::Offset(offset) if offset < self.first || offset > self.committed.offset => return None,
            From::Offset(wanted) => {
                visible.iter().position(|(offset, block)| offset + u64::from(block.records) > wanted)
            }
            From::Time(time) => visible.iter().position(|(_, block)| block.times.1 >= time),
        };
        Some(visible[at.unwrap_or(visible.len())..].to_vec())
    }
}

/// A reader, and the offset that comes next.
fn follow(reader: &mut Reader, model: &Model, blocks: usize) {
    for _ in 0..blocks {
        let at = reader.offset();
        match reader.next() {
            Ok(Some((offset, found))) => {
                assert_eq!(offset, at);
                assert!(offset < model.committed.offset);
                assert!(model.appended.contains(&(offset, found)));
            }
            Ok(None) => assert_eq!(at, model.committed.offset),
            Err(Error::Gone { first }) => assert!(at < first && first == model.first),
            Err(error) => panic!("{error}"),
        }
    }
}

fn holds(acts: Vec<Act>) {
    let sim = disk();
    let (mut log, mut model, mut readers) = (open(&sim, None), Model::default(), Vec::<Reader>::new());
    for act in acts {
        match act {
            Act::Append(size) => model.appended.extend(append(&log, &[size])),
            Act::Sync => {
                model.synced = log.sync().unwrap();
                assert_eq!(model.synced.offset, model.end());
            }
            Act::Commit => {
                model.committed = model.synced;
                log.committed(model.synced);
            }
            Act::Read(from, blocks) => {
                let (found, error) = read(&log, from);
                match model.from(from) {
                    Some(expected) => assert!(error.is_none() && found == expected, "{from:?} {error:?}"),
                    None => assert!(matches!(error, Some(Error::Gone { .. } | Error::Beyond { .. }))),
                }
                readers.extend(log.reader(from));
                readers.iter_mut().for_each(|reader| follow(reader, &model, blocks));
            }
            Act::Retain { bytes, needed } => {
                let before = log.first();
                log.retain(0, Keep { bytes: Some(bytes), needed, ..Keep::default() }).unwrap();
                let needed = needed.unwrap_or(u64::MAX).max(before);
                assert!(log.first() <= needed.min(model.committed.segment.max(before)));
                model.first = log.first();
            }
            Act::Reopen => {
                model.cut(model.committed);
                (log, readers) = (open(&sim, model.committed), Vec::new());
            }
            Act::Crash { seed, is_synced } => {
                model.cut(if is_synced { model.synced } else { model.committed });
                sim.restart(seed);
                (log, readers) = (open(&sim, model.committed), Vec::new());
            }
        }
        assert_eq!(log.end(), model.committed.offset);
        assert_eq!(read_all(&log), model.visible());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_log_is_a_list_that_is_cut_at_the_commit(acts in proptest::collection::vec(act(), 1..60)) {
        holds(acts);
    }
}
