//! What the host keeps for one instance: its clock, its randomness, what it said, and what it may still use.
//!
//! Owns the data of a store. It must not know how calls are made. Invariant: [`Guest::begin`] leaves nothing that one
//! call could read from the one before; what a call logged and counted is kept only by [`Guest::settle`].

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use wasmtime::ResourceLimiter;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::cli::WasiCliCtx;
use wasmtime_wasi::filesystem::WasiFilesystemCtx;

use super::interrupt::Until;
use super::symbols::Symbols;
use super::{Effects, Level, Limits};

/// Names of counters that one plugin may use.
const COUNTERS: usize = 64;
/// Bytes of a counter's name.
const COUNTER_NAME: usize = 128;
/// Elements of all tables together: as many functions can be called by pointer.
const TABLE_ELEMENTS: usize = 200_000;
/// Core instances that a component may consist of.
const INSTANCES: usize = 64;
/// Handles to streams and the like that a plugin may hold at once.
const HANDLES: usize = 256;
/// Bytes kept of what a plugin wrote to standard output and error.
const TAIL: usize = 8 << 10;
/// Where the random stream starts at each call: the first digits of π, so that nobody need wonder.
const SEED: u64 = 0x243f_6a88_85a3_08d3;

/// Why the host ended a call from inside one of its functions.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum Denied {
    #[error("the plugin logged more than {0} bytes in one call")]
    Logs(u64),
    #[error("the plugin counts under more than {COUNTERS} names")]
    Counters,
    #[error("the plugin counts under a name of more than {COUNTER_NAME} bytes")]
    CounterName,
    #[error("the plugin handed {0} bytes to a host function, its limit is {1}")]
    Handed(usize, u64),
    #[error("the plugin asked for {0} random bytes at once")]
    Random(u64),
    #[error("the plugin asked to sleep, which plugins cannot")]
    Sleep,
    #[error("the time for the call ran out")]
    Deadline,
    #[error("the pipeline is being taken down")]
    Interrupted,
}

/// The panic hook's last words.
#[derive(Clone, Debug)]
pub(super) struct Panicked {
    pub(super) at: Option<u32>,
    pub(super) message: String,
    pub(super) place: String,
}

struct Counter {
    name: Arc<str>,
    by: u64,
    settled: u64,
}

/// The data of one store.
pub(super) struct Guest {
    pub(super) handles: ResourceTable,
    pub(super) files: WasiFilesystemCtx,
    pub(super) cli: WasiCliCtx,
    pub(super) memory: Memory,
    pub(super) said: Tail,
    pub(super) panicked: Option<Panicked>,
    /// What names the places in a backtrace.
    pub(super) symbols: Arc<Symbols>,
    /// Whether the engine counts fuel.
    pub(super) is_metered: bool,
    /// Logical time, in milliseconds since the Unix epoch.
    now: u64,
    pub(super) until: Until,
    random: u64,
    logs: Vec<(Level, String)>,
    logs_settled: usize,
    log_bytes: u64,
    log_limit: u64,
    output_limit: u64,
    counters: Vec<Counter>,
}

impl Guest {
    pub(super) fn new(limits: &Limits, is_metered: bool, symbols: &Arc<Symbols>) -> Self {
        let mut handles = ResourceTable::new();
        handles.set_max_capacity(HANDLES);
        Self {
            handles,
            files: WasiFilesystemCtx::default(),
            cli: WasiCliCtx::default(),
            memory: Memory::new(limits.memory),
            said: Tail::default(),
            panicked: None,
            symbols: Arc::clone(symbols),
            is_metered,
            now: 0,
            until: Until::after(limits.time),
            random: SEED,
            logs: Vec::new(),
            logs_settled: 0,
            log_bytes: 0,
            log_limit: limits.logs,
            output_limit: limits.output,
            counters: Vec::new(),
        }
    }

    /// Readies everything for one call, and says how long it may go on.
    pub(super) fn begin(&mut self, now: i64, deadline: Instant) -> Until {
        self.now = u64::try_from(now).unwrap_or(0);
        self.until.deadline = deadline;
        self.random = SEED;
        self.log_bytes = 0;
        self.panicked = None;
        self.memory.denied = None;
        self.said.clear();
        self.until.clone()
    }

    /// Keeps what the call that just succeeded has logged and counted.
    pub(super) fn settle(&mut self) {
        self.logs_settled = self.logs.len();
        for counter in &mut self.counters {
            counter.settled = counter.settled.saturating_add(std::mem::take(&mut counter.by));
        }
    }

    /// Hands out what was kept since this was last asked.
    pub(super) fn take_effects(&mut self) -> Effects {
        let logs = self.logs.drain(..self.logs_settled).collect();
        self.logs_settled = 0;
        let counts = self
            .counters
            .iter_mut()
            .filter(|counter| counter.settled > 0)
            .map(|counter| (counter.name.clone(), std::mem::take(&mut counter.settled)))
            .collect();
        Effects { logs, counts }
    }

    /// Ends the call where it may not go on. Host functions whose work grows with what they are asked for call
    /// this, for fuel does not see them.
    pub(super) fn in_time(&self) -> Result<(), Denied> {
        self.until.check()
    }

    pub(super) fn now_millis(&self) -> u64 {
        self.now
    }

    /// Room for a log line of `bytes` bytes.
    pub(super) fn may_log(&mut self, bytes: usize) -> Result<(), Denied> {
        self.in_time()?;
        // An empty line costs the host as much as a short one.
        self.log_bytes = self.log_bytes.saturating_add(bytes as u64 + 16);
        if self.log_bytes > self.log_limit { Err(Denied::Logs(self.log_limit)) } else { Ok(()) }
    }

    pub(super) fn log(&mut self, level: Level, message: String) {
        self.logs.push((level, message));
    }

    /// Room for `bytes` bytes that a host function answers with because of what it was handed.
    pub(super) fn may_hand(&self, bytes: usize) -> Result<(), Denied> {
        self.in_time()?;
        if bytes as u64 > self.output_limit { Err(Denied::Handed(bytes, self.output_limit)) } else { Ok(()) }
    }

    /// Room for the name of a counter of `bytes` bytes.
    pub(super) fn may_name(&self, bytes: usize) -> Result<(), Denied> {
        if bytes > COUNTER_NAME { Err(Denied::CounterName) } else { Ok(()) }
    }

    pub(super) fn count(&mut self, name: &str, by: u64) -> Result<(), Denied> {
        if let Some(counter) = self.counters.iter_mut().find(|counter| &*counter.name == name) {
            counter.by = counter.by.saturating_add(by);
            return Ok(());
        }
        if self.counters.len() >= COUNTERS {
            return Err(Denied::Counters);
        }
        self.counters.push(Counter { name: name.into(), by, settled: 0 });
        Ok(())
    }

    /// The next number of the stream, by SplitMix64 (Steele, Lea, Flood 2014).
    pub(super) fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// What an instance holds of memory and tables, against what it may.
pub(super) struct Memory {
    limit: usize,
    held: usize,
    elements: usize,
    /// What was asked for and not given, in the call in hand.
    pub(super) denied: Option<String>,
}

impl Memory {
    fn new(limit: u64) -> Self {
        Self { limit: usize::try_from(limit).unwrap_or(usize::MAX), held: 0, elements: 0, denied: None }
    }

    /// Linear memory held, in bytes; it never shrinks.
    pub(super) fn held(&self) -> u64 {
        self.held as u64
    }
}

impl ResourceLimiter for Memory {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let held = self.held.saturating_add(desired.saturating_sub(current));
        if held > self.limit {
            self.denied = Some(format!("the plugin asked for {held} bytes of memory, its limit is {}", self.limit));
            return Ok(false);
        }
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        self.held = held;
        Ok(true)
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let elements = self.elements.saturating_add(desired.saturating_sub(current));
        if elements > TABLE_ELEMENTS {
            let message = format!("the plugin asked for {elements} table elements, the limit is {TABLE_ELEMENTS}");
            self.denied = Some(message);
            return Ok(false);
        }
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        self.elements = elements;
        Ok(true)
    }

    fn instances(&self) -> usize {
        INSTANCES
    }
}

/// The end of what a plugin wrote to standard output and error. Shared with the streams that it writes to.
#[derive(Clone, Default)]
pub(super) struct Tail {
    bytes: Arc<Mutex<VecDeque<u8>>>,
}

impl Tail {
    pub(super) fn write(&self, bytes: &[u8]) {
        let mut tail = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = bytes.get(bytes.len().saturating_sub(TAIL)..).unwrap_or_default();
        let over = (tail.len() + kept.len()).saturating_sub(TAIL);
        tail.drain(..over);
        tail.extend(kept);
    }

    fn clear(&self) {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// All of it, lossily.
    pub(super) fn text(&self) -> String {
        let mut tail = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(tail.make_contiguous()).into_owned()
    }
}
