//! Whether a plugin keeps its promise to keep nothing: it gives the same whatever calls its records come in, and however old
//! the instance is that they come to.
//!
//! Owns which arrangements are tried and how they are compared, and what vectors a plugin is tried with. It must not know who
//! asks. Invariant: the same plugin, configuration and records come to the same verdict, unless the plugin draws on what it
//! should not have.

mod arrange;
mod vectors;

use std::fmt;

use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};
use serde::Serialize;
use serde_json::Value;

pub use arrange::{Gave, Out, What};
pub use vectors::{Unfit, Vector, vectors};

use self::arrange::arrange;
use crate::{
    batch::Batch,
    plugin::{Fault, Instance, Kind, Limits, Plugin, WasmInstance},
};

/// Records of a call, as in a pipeline with defaults.
const BATCH: usize = 1024;
/// Rounds through all records that make an instance old.
const AGE: usize = 5;
/// Ways of cutting records at random.
const SPLITS: u64 = 4;
/// Differences that are told of one arrangement: the first says most.
const TOLD: usize = 3;

/// A way in which records come to a plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// In one batch, on a second fresh instance.
    Again,
    /// In one batch, on an instance that has been called often.
    Aged,
    /// One by one, on an instance that has been called often.
    OneByOne,
    /// Cut at random, on an instance that has been called often.
    Split,
    /// Cut at random, each piece on an instance of its own that is handed the states.
    HandedOver,
}

impl fmt::Display for How {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(match self {
            Self::Again => "a second fresh instance, the same batch",
            Self::Aged => "an instance that has been called before, the same batch",
            Self::OneByOne => "an instance that has been called before, one record at a time",
            Self::Split => "an instance that has been called before, the records cut into other batches",
            Self::HandedOver => "a fresh instance for each of several batches",
        })
    }
}

impl How {
    /// What makes plugins differ in this way, most often.
    pub fn hint(self) -> &'static str {
        match self {
            Self::Again => "it draws on something other than its input, its configuration and its state",
            Self::Aged | Self::OneByOne | Self::Split => {
                "it keeps something between calls: a static, a cache, or a `HashMap` that is iterated, whose order depends on \
                 how many were made before; use a `BTreeMap`, and keep what must be kept in the state"
            }
            Self::HandedOver => {
                "what it should keep in the state of a group it keeps elsewhere, or what it puts out depends on its batch"
            }
        }
    }
}

/// A record of which two arrangements did not come to the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The arrangement that was compared with one batch on a fresh instance.
    pub how: How,
    /// Position of the record.
    pub record: usize,
    /// What came of it in one batch on a fresh instance.
    pub fresh: String,
    /// What came of it here.
    pub found: String,
}

/// A record that makes the plugin fault when it comes alone to a fresh instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Poison {
    /// Position of the record.
    pub record: usize,
    /// What it brought about.
    pub fault: Fault,
}

/// What was found out about a plugin.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Records that were tried.
    pub records: usize,
    /// Of these, in one batch on a fresh instance, came out or were folded.
    pub passed: usize,
    /// Of these, were refused.
    pub refused: usize,
    /// Arrangements that were compared.
    pub arrangements: usize,
    /// Records that make it fault; they are left out of the comparison.
    pub poison: Vec<Poison>,
    /// What did not come to the same, the first few of each arrangement.
    pub differences: Vec<Difference>,
}

/// Tries `plugin` with `records`, which hold what it needs.
///
/// # Errors
/// When no instance can be made.
pub fn verify(plugin: &Plugin, limits: &Limits, config: &Value, records: &Batch) -> Result<Verdict, Box<Fault>> {
    let bench = Bench { plugin, limits, config };
    let poison = bench.poison(records)?;
    let is_good = |at: &u32| poison.iter().all(|one| one.record != *at as usize);
    let good: Vec<u32> = (0..records.len() as u32).filter(is_good).collect();
    let all = records.gather(&good);
    let number = |at: u32| good.get(at as usize).map_or(at, |at| *at) as usize;
    let mut verdict = Verdict { records: records.len(), poison, ..Verdict::default() };

    let whole: Vec<(usize, usize)> =
        (0..all.len()).step_by(BATCH).map(|at| (at, (at + BATCH).min(all.len()))).collect();
    let fresh = match arrange(plugin.kind(), &all, &whole, once(&mut bench.instance()?)) {
        Ok(fresh) => fresh,
        Err((at, fault)) => {
            // Together they are too much, or one does harm to another: nothing can be compared.
            verdict.poison.push(Poison { record: number(at as u32), fault: *fault });
            return Ok(verdict);
        }
    };
    verdict.refused = fresh.iter().filter(|gave| is_refusal(gave)).count();
    verdict.passed = match plugin.kind() {
        Kind::Aggregate => all.len().saturating_sub(verdict.refused),
        Kind::Filter | Kind::Map => {
            let mut passed: Vec<u32> = fresh.iter().filter(|gave| !is_refusal(gave)).map(|gave| gave.at).collect();
            passed.dedup();
            passed.len()
        }
    };

    let mut aged = bench.aged(&all)?;
    let singles: Vec<(usize, usize)> = (0..all.len()).map(|at| (at, at + 1)).collect();
    let splits =
        (0..SPLITS).flat_map(|seed| [(How::Split, split(all.len(), seed)), (How::HandedOver, split(all.len(), seed))]);
    let ways = [(How::Again, whole.clone()), (How::Aged, whole), (How::OneByOne, singles)];
    for (how, pieces) in ways.into_iter().chain(splits) {
        let found = match how {
            How::Again => arrange(plugin.kind(), &all, &pieces, once(&mut bench.instance()?)),
            How::HandedOver => arrange(plugin.kind(), &all, &pieces, |call| call(&mut bench.instance()?)),
            How::Aged | How::OneByOne | How::Split => {
                let found = arrange(plugin.kind(), &all, &pieces, once(&mut aged));
                if found.is_err() {
                    aged = bench.aged(&all)?;
                }
                found
            }
        };
        verdict.arrangements += 1;
        verdict
            .differences
            .extend(compared(how, &fresh, &found).map(|one| Difference { record: number(one.0), ..one.1 }));
    }
    Ok(verdict)
}

fn is_refusal(gave: &Gave) -> bool {
    matches!(gave.what, What::Refused(_))
}

/// What is done with an instance.
type Call<'a> = dyn FnMut(&mut dyn Instance) -> Result<(), Box<Fault>> + 'a;

/// The same instance for every piece.
fn once(instance: &mut WasmInstance) -> impl FnMut(&mut Call<'_>) -> Result<(), Box<Fault>> {
    move |call| {
        let called = call(instance);
        drop(instance.take_effects());
        called
    }
}

/// What of `found` is not as in `fresh`, with positions; the first few.
fn compared<'a>(
    how: How,
    fresh: &'a [Gave],
    found: &'a Result<Vec<Gave>, (usize, Box<Fault>)>,
) -> Box<dyn Iterator<Item = (u32, Difference)> + 'a> {
    let told = move |at: u32, fresh: String, found: String| (at, Difference { how, record: 0, fresh, found });
    let shown =
        |gave: Option<&Gave>| gave.map_or_else(|| "nothing comes of it".to_owned(), |gave| gave.what.to_string());
    let found = match found {
        Ok(found) => found,
        Err((at, fault)) => {
            let what = format!("a fault, {}: {}", fault.kind.name(), fault.message);
            return Box::new(std::iter::once(told(*at as u32, "no fault".to_owned(), what)));
        }
    };
    let (mut fresh, mut found) = (fresh.iter().peekable(), found.iter().peekable());
    let next = move || loop {
        let (one, other) = (fresh.peek().copied(), found.peek().copied());
        match (one, other) {
            (None, None) => return None,
            (Some(one), Some(other)) if one == other => {
                fresh.next();
                found.next();
            }
            (Some(one), Some(other)) if one.at == other.at => {
                fresh.next();
                found.next();
                return Some(told(one.at, shown(Some(one)), shown(Some(other))));
            }
            (Some(one), other) if other.is_none_or(|other| one.at < other.at) => {
                fresh.next();
                return Some(told(one.at, shown(Some(one)), shown(None)));
            }
            (_, other) => {
                found.next();
                return other.map(|other| told(other.at, shown(None), shown(Some(other))));
            }
        }
    };
    Box::new(std::iter::from_fn(next).take(TOLD))
}

/// `0..len` cut into pieces of one to eight, or of any length.
fn split(len: usize, seed: u64) -> Vec<(usize, usize)> {
    let mut random = SmallRng::seed_from_u64(seed);
    let most = if seed.is_multiple_of(2) { 8 } else { len.clamp(1, BATCH) };
    let (mut pieces, mut start) = (Vec::new(), 0);
    while start < len {
        let end = len.min(start + random.random_range(1..=most));
        pieces.push((start, end));
        start = end;
    }
    pieces
}

/// What instances are made of.
struct Bench<'a> {
    plugin: &'a Plugin,
    limits: &'a Limits,
    config: &'a Value,
}

impl Bench<'_> {
    fn instance(&self) -> Result<WasmInstance, Box<Fault>> {
        self.plugin.instantiate(self.limits, self.config)
    }

    /// The records that make it fault alone, each on a fresh instance.
    fn poison(&self, records: &Batch) -> Result<Vec<Poison>, Box<Fault>> {
        let mut poison = Vec::new();
        for record in 0..records.len() {
            let mut instance = self.instance()?;
            let alone = records.slice(record, record + 1);
            if let Err((_, fault)) = arrange(self.plugin.kind(), &alone, &[(0, 1)], once(&mut instance)) {
                poison.push(Poison { record, fault: *fault });
            }
        }
        Ok(poison)
    }

    /// An instance that has seen all records several times, backwards and in pieces.
    fn aged(&self, all: &Batch) -> Result<WasmInstance, Box<Fault>> {
        let backwards: Vec<u32> = (0..all.len() as u32).rev().collect();
        let backwards = all.gather(&backwards);
        let mut aged = self.instance()?;
        for round in 0..AGE {
            // A fault is found in the comparison, for the same instance is called there.
            if arrange(self.plugin.kind(), &backwards, &split(all.len(), round as u64), once(&mut aged)).is_err() {
                break;
            }
        }
        Ok(aged)
    }
}

#[cfg(test)]
mod tests;
