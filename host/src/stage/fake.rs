//! A plugin in native Rust behind the face of the wasm ones, for tests of what the host makes of its answers.
//!
//! Values are decimal numbers. As a filter it keeps even ones; as a map it puts out `n` and `n + 1000`, to the main
//! output and the first side output, and nothing for multiples of 10; as an aggregate it sums, and counts what it
//! summed. The value `refuse` is refused, `fault` is a fault that names its record, `silent` one that does not, `pair`
//! one where there are two of it, `second` one that names the last record, in any but an instance's first call, `panic` a
//! panic of the host's own code. A group faults at its end if its key ends in `!`.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use super::{
    aggregate::Rules,
    breaker::Terms,
    gate::{Bell, Gate},
    live::Live,
    prepare::Wants,
    worker::{Maker, ReadPorts, Spec},
};
use crate::{
    batch::{Batch, Column, ColumnBuilder},
    config::{OnError, Then},
    letter,
    plugin::{
        Accumulated, Effects, Fault, FaultKind, Finished, Groups, Instance, Interrupt, Kind, Mapped, Occasion,
        Produced, Refusals, Selection, Usage,
    },
};

/// A fake; `panics` is disarmed by the panic it causes, so that a restarted pipeline gets on.
#[derive(Clone, Default)]
pub(crate) struct Fake {
    pub(crate) panics: Arc<AtomicBool>,
    /// A panic waits until this is no longer 0.
    pub(crate) panics_after: Option<Arc<AtomicUsize>>,
    /// Whether it fails, whatever it is given.
    pub(crate) mood: Arc<Mutex<Mood>>,
    /// Calls of this instance.
    calls: usize,
}

/// How a fake takes whatever it is given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mood {
    #[default]
    Well,
    /// It refuses every record.
    Refuses,
    /// Every call is a fault that names no record.
    Faults,
    /// Every call takes too long.
    Hangs,
    /// No instance can be made.
    Gone,
}

/// A stage of the fake whose every side output is read.
pub(crate) fn spec(kind: Kind, rules: Option<Rules>) -> Spec {
    Spec {
        stage: "s".to_owned(),
        plugin: "fake".to_owned(),
        about: letter::Plugin { name: "fake".to_owned(), version: "1".to_owned(), digest: "0".to_owned() },
        kind,
        wants: Wants::default(),
        on_error: OnError::Stop,
        is_read: ReadPorts { rest: true, late: true, refused: true },
        rules,
        generation: 1,
        state_version: 1,
        service: Arc::default(),
        maker: Arc::new(Fake::default()),
        interrupt: Interrupt::default(),
        meter: Arc::default(),
        gate: Arc::new(Gate::new(String::new(), Terms::never(), Bell::default())),
        then: Then::Pause,
        fallback: None,
        stepping: None,
    }
}

/// The fake, as a worker holds it.
pub(crate) fn live() -> Live {
    Live::new(Arc::new(spec(Kind::Aggregate, None))).unwrap()
}

impl Maker for Fake {
    fn make(&self, _: &Interrupt) -> Result<Box<dyn Instance>, Box<Fault>> {
        if *self.mood.lock().unwrap() == Mood::Gone {
            return Err(Box::new(Fault { kind: FaultKind::InstantiateFailed, ..fault(None) }));
        }
        Ok(Box::new(self.clone()))
    }
}

enum Seen {
    Number(u64),
    Refused,
}

impl Fake {
    fn see(&mut self, input: &Batch) -> Result<Vec<Seen>, Box<Fault>> {
        self.calls += 1;
        match *self.mood.lock().unwrap() {
            Mood::Well => {}
            Mood::Refuses => return Ok(input.values().iter().map(|_| Seen::Refused).collect()),
            Mood::Faults | Mood::Gone => return Err(Box::new(fault(None))),
            Mood::Hangs => return Err(Box::new(Fault { kind: FaultKind::Deadline, ..fault(None) })),
        }
        let mut seen = Vec::new();
        for (at, value) in (0u32..).zip(input.values().iter()) {
            seen.push(match value {
                b"refuse" => Seen::Refused,
                b"fault" => return Err(Box::new(fault(Some(at)))),
                b"silent" => return Err(Box::new(fault(None))),
                b"pair" if input.values().iter().filter(|other| *other == b"pair").count() > 1 => {
                    return Err(Box::new(fault(None)));
                }
                b"second" if self.calls > 1 => return Err(Box::new(fault(Some(input.len() as u32 - 1)))),
                b"pair" | b"second" => Seen::Number(2),
                b"panic" => {
                    while self.panics_after.as_ref().is_some_and(|count| count.load(Ordering::SeqCst) == 0) {
                        std::thread::yield_now();
                    }
                    assert!(!self.panics.swap(false, Ordering::Relaxed), "the host's own code panics");
                    Seen::Number(0)
                }
                number => Seen::Number(std::str::from_utf8(number).unwrap().parse().unwrap()),
            });
        }
        Ok(seen)
    }
}

fn fault(at: Option<u32>) -> Fault {
    Fault {
        kind: FaultKind::Trap,
        message: "told to".to_owned(),
        at,
        place: None,
        backtrace: Vec::new(),
        stderr: String::new(),
        fuel: 7,
    }
}

fn refused(seen: &[Seen]) -> Refusals {
    let at: Vec<u32> = (0u32..).zip(seen).filter(|(_, one)| matches!(one, Seen::Refused)).map(|(at, _)| at).collect();
    Refusals { reasons: Column::repeat(b"told to", at.len()), at }
}

fn state(sum: u64, count: u64) -> [u8; 16] {
    let mut state = [0; 16];
    state[..8].copy_from_slice(&sum.to_le_bytes());
    state[8..].copy_from_slice(&count.to_le_bytes());
    state
}

fn parts(state: &[u8]) -> (u64, u64) {
    if state.is_empty() {
        return (0, 0);
    }
    (u64::from_le_bytes(state[..8].try_into().unwrap()), u64::from_le_bytes(state[8..].try_into().unwrap()))
}

impl Instance for Fake {
    fn filter(&mut self, _: i64, input: &Batch) -> Result<Selection, Box<Fault>> {
        let seen = self.see(input)?;
        let keep =
            (0u32..).zip(&seen).filter(|(_, one)| matches!(one, Seen::Number(n) if n % 2 == 0)).map(|(at, _)| at);
        Ok(Selection { keep: keep.collect(), refused: refused(&seen) })
    }

    fn map(&mut self, _: i64, input: &Batch) -> Result<Mapped, Box<Fault>> {
        let seen = self.see(input)?;
        let (mut values, mut origins, mut ports) = (ColumnBuilder::default(), Vec::new(), Vec::new());
        for (at, one) in (0u32..).zip(&seen) {
            if let Seen::Number(n) = one
                && n % 10 != 0
            {
                for (port, n) in [(0, *n), (1, n + 1000)] {
                    values.push(n.to_string().as_bytes());
                    origins.push(at);
                    ports.push(port);
                }
            }
        }
        let produced = Produced {
            len: origins.len(),
            values: Some(values.finish()),
            origins: Some(origins),
            ports: Some(ports),
            ..Produced::default()
        };
        Ok(Mapped { produced, refused: refused(&seen) })
    }

    fn accumulate(
        &mut self,
        _: i64,
        groups: &Groups,
        group_of: &[u32],
        input: &Batch,
    ) -> Result<Accumulated, Box<Fault>> {
        let seen = self.see(input)?;
        let mut states: Vec<(u64, u64)> = groups.states.iter().map(parts).collect();
        for (one, group) in seen.iter().zip(group_of) {
            if let Seen::Number(n) = one {
                states[*group as usize].0 += n;
                states[*group as usize].1 += 1;
            }
        }
        let blank_or = |(sum, count): &(u64, u64)| if *count == 0 { Vec::new() } else { state(*sum, *count).to_vec() };
        Ok(Accumulated { states: states.iter().map(blank_or).collect(), produced: None, refused: refused(&seen) })
    }

    fn merge(&mut self, _: i64, states: &Column, parts_of: &[u32], ends: &[u32]) -> Result<Column, Box<Fault>> {
        let mut start = 0;
        let merged = ends.iter().map(|&end| {
            let of = &parts_of[start..end as usize];
            start = end as usize;
            let (sum, count) =
                of.iter().map(|&i| parts(states.get(i as usize).unwrap())).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
            state(sum, count)
        });
        Ok(merged.collect())
    }

    fn finish(&mut self, _: i64, groups: &Groups, why: Occasion) -> Result<Finished, Box<Fault>> {
        if groups.keys.iter().any(|key| key.ends_with(b"!")) {
            return Err(Box::new(fault(None)));
        }
        let all = Vec::new();
        let windows = groups.windows.as_ref().unwrap_or(&all);
        let values = groups.states.iter().zip(groups.keys.iter()).enumerate().map(|(i, (state, key))| {
            let (sum, count) = parts(state);
            let start = windows.get(i).map_or(-1, |window| window.start);
            format!("{}@{start}={sum}/{count} {why:?}", String::from_utf8_lossy(key))
        });
        let values: Column = values.collect();
        let produced = Produced { len: values.len(), values: Some(values), ..Produced::default() };
        Ok(Finished { produced, refused: Refusals::default() })
    }

    fn migrate(&mut self, _: u32, _: u32, _: &Column) -> Result<Column, Box<Fault>> {
        Err(Box::new(fault(None)))
    }

    fn usage(&self) -> Usage {
        Usage::default()
    }

    fn take_effects(&mut self) -> Effects {
        Effects::default()
    }
}
