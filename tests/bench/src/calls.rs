//! One stage at a time: a function called natively beside the same function as a plugin, in the stage's own worker.
//!
//! Owns the four functions and the sizes of batches and records. Invariant: both sides take the same batches and hand what
//! comes out, gathered, to a sink that counts it; the counts have to agree.

use std::sync::Arc;

use anyhow::{Context as _, anyhow, ensure};
use hashbrown::HashMap;
use tidegate::{
    batch::{Batch, ColumnBuilder},
    config::{OnError, Then, WhenFull},
    letter,
    plugin::{Engine, Fault, Instance, Interrupt, Kind, Limits, Plugin},
    stage::{
        aggregate::{Peers, Room, Rules, Windowing},
        breaker::Terms,
        gate::{Bell, Gate},
        meter::Meter,
        outcome::Outcome,
        prepare::Wants,
        worker::{Maker, ReadPorts, SavedGroups, Spec, Work, Worker},
    },
};
use workloads::{Access, Sum};

use crate::clock::{Side, Start, Took, alternate};
use crate::records;

/// Sizes of batches, in records.
pub const BATCHES: [u64; 3] = [1, 64, 1024];

/// Sizes of records, in bytes.
pub const SIZES: [usize; 3] = [64, 256, 1024];

/// Bytes that one run goes through, so that each takes long enough to be timed and all together not too long.
const RUN: usize = 16 << 20;

/// Most records of one run.
const RECORDS: usize = 1 << 16;

/// What is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workload {
    /// A filter that searches the value for a text.
    Contains,
    /// A map that parses JSON and writes JSON.
    Reshape,
    /// An aggregate into 100 groups.
    Fold,
    /// A filter that keeps everything and looks at nothing.
    Identity,
}

impl Workload {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Contains, Self::Reshape, Self::Fold, Self::Identity];

    /// What it is called in the table.
    pub fn title(self) -> &'static str {
        match self {
            Self::Contains => "substring filter",
            Self::Reshape => "JSON map",
            Self::Fold => "fold, 100 groups",
            Self::Identity => "identity filter",
        }
    }

    fn guest(self) -> &'static str {
        match self {
            Self::Contains => "contains",
            Self::Reshape => "reshape",
            Self::Fold => "fold",
            Self::Identity => "identity",
        }
    }
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// What was computed.
    pub workload: Workload,
    /// Records in a batch.
    pub batch: u64,
    /// Bytes of a record.
    pub size: usize,
    /// Records in a run.
    pub records: u64,
    /// Native Rust.
    pub native: Took,
    /// The plugin as it runs in a pipeline by default.
    pub plugin: Took,
    /// The plugin without fuel, hence without a limit of time.
    pub unmetered: Took,
}

/// Counts what arrives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counted {
    records: u64,
    bytes: u64,
}

impl Counted {
    fn take(&mut self, batch: &Batch) {
        self.records += batch.len() as u64;
        self.bytes += batch.values().data().len() as u64;
    }
}

/// Measures one row over `rounds` rounds.
///
/// # Errors
/// When a plugin cannot be run, or the sides come to different results.
pub fn measure(workload: Workload, batch: u64, size: usize, rounds: usize) -> anyhow::Result<Row> {
    let records = RECORDS.min(RUN / size) as u64;
    let input = records::batches(records, size, batch);
    let expected = native(workload, &input)?;
    let side = |engine: Engine| -> anyhow::Result<Side<'_>> {
        let spec = spec(workload.guest(), &engine, OnError::Stop)?;
        let input = &input;
        Ok(Box::new(move || {
            // A worker for each run, so that no run finds the groups of the one before.
            let mut worker = Worker::new(spec.clone(), 0, 0, &SavedGroups::new(), |_| true, None).map_err(failed)?;
            let started = Start::now();
            let counted = plugged(&mut worker, input)?;
            let took = started.took();
            ensure!(counted == expected, "the plugin came to {counted:?}, native code to {expected:?}");
            Ok(took)
        }))
    };
    let mut sides: Vec<Side<'_>> = vec![
        Box::new(|| {
            let started = Start::now();
            native(workload, &input)?;
            Ok(started.took())
        }),
        side(Engine::new(None)?)?,
        side(Engine::unmetered(None)?)?,
    ];
    let took = alternate(rounds, &mut sides)?;
    let [native, plugin, unmetered] = took[..] else { return Err(anyhow!("three sides were measured")) };
    Ok(Row { workload, batch, size, records, native, plugin, unmetered })
}

pub(crate) fn failed(failure: tidegate::stage::failure::Failure) -> anyhow::Error {
    anyhow!("the stage failed: {failure:?}")
}

struct Fresh(Plugin);

impl Maker for Fresh {
    fn make(&self, _: &Interrupt) -> Result<Box<dyn Instance>, Box<Fault>> {
        Ok(Box::new(self.0.instantiate(&Limits::default(), &serde_json::json!({}))?))
    }
}

/// A stage of the plugin `guest` alone.
pub(crate) fn spec(guest: &str, engine: &Engine, on_error: OnError) -> anyhow::Result<Arc<Spec>> {
    let path = crate::guest(guest);
    let bytes = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
    let plugin = Plugin::load(engine, &bytes)?;
    let kind = plugin.kind();
    let rules = Rules {
        stage: guest.to_owned(),
        windowing: Windowing::None,
        ttl: None,
        room: Room { most: usize::MAX, when_full: WhenFull::Pause },
        groups: 1024,
        has_ids: false,
        peers: Peers::None,
        state_version: plugin.described().state_version,
    };
    Ok(Arc::new(Spec {
        stage: guest.to_owned(),
        plugin: path.display().to_string(),
        about: letter::Plugin { name: guest.to_owned(), version: String::new(), digest: String::new() },
        kind,
        wants: Wants::new(&plugin.described().needs.iter().map(ToString::to_string).collect::<Vec<_>>(), None),
        on_error,
        is_read: ReadPorts::default(),
        rules: (kind == Kind::Aggregate).then_some(rules),
        generation: 1,
        state_version: plugin.described().state_version,
        service: Arc::default(),
        maker: Arc::new(Fresh(plugin)),
        meter: Arc::new(Meter::default()),
        gate: Arc::new(Gate::new(String::new(), Terms::never(), Bell::default())),
        then: Then::Pause,
        interrupt: Interrupt::default(),
        fallback: None,
        stepping: None,
    }))
}

fn plugged(worker: &mut Worker, input: &[Batch]) -> anyhow::Result<Counted> {
    let mut counted = Counted::default();
    let mut take = |outcome: Outcome| outcome.outputs.iter().for_each(|output| counted.take(&output.batch));
    for batch in input {
        take(worker.work(Work::Batch(0, batch.clone())).map_err(failed)?.outcome);
    }
    take(worker.work(Work::Close).map_err(failed)?.outcome);
    Ok(counted)
}

fn native(workload: Workload, input: &[Batch]) -> anyhow::Result<Counted> {
    let mut counted = Counted::default();
    match workload {
        Workload::Contains => {
            for batch in input {
                let keep: Vec<u32> = (0..)
                    .zip(batch.values().iter())
                    .filter(|(_, value)| workloads::contains(value))
                    .map(|(at, _)| at)
                    .collect();
                counted.take(&batch.gather(&keep));
            }
        }
        Workload::Reshape => {
            for batch in input {
                let mut values = ColumnBuilder::with_capacity(batch.len(), batch.values().data().len());
                for value in batch.values().iter() {
                    serde_json::to_writer(values.open(), &serde_json::from_slice::<Access>(value)?.slim())?;
                    values.close();
                }
                counted.take(&batch.clone().with_values(values.finish())?);
            }
        }
        Workload::Fold => {
            let mut groups: HashMap<Box<[u8]>, Sum, foldhash::fast::RandomState> = HashMap::default();
            for batch in input {
                let keys = batch.keys().context("records have keys")?;
                for (key, value) in keys.iter().zip(batch.values().iter()) {
                    match groups.get_mut(key) {
                        Some(sum) => sum.add(value.len() as u64),
                        None => groups.entry(key.into()).or_default().add(value.len() as u64),
                    }
                }
            }
            let values = groups.values().map(serde_json::to_string).collect::<Result<Vec<_>, _>>()?;
            counted.take(&Batch::of_values(values.iter().collect()));
        }
        Workload::Identity => input.iter().for_each(|batch| counted.take(&batch.clone())),
    }
    Ok(counted)
}
