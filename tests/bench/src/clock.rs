//! How long things take, on a machine where other things run too.
//!
//! Owns alternation and medians. Invariant: the sides of a comparison take turns, so that whatever slows the machine
//! slows all of them.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// What one run of something took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Took {
    /// By the wall clock.
    pub wall: Duration,
    /// On all processors together.
    pub cpu: Duration,
}

impl Took {
    /// Nanoseconds of processor time for each of `count`.
    pub fn cpu_nanos_each(&self, count: u64) -> f64 {
        self.cpu.as_nanos() as f64 / count as f64
    }
}

/// Processor time of this process.
fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// The beginning of something.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    wall: Instant,
    cpu: Duration,
}

impl Start {
    /// Now.
    pub fn now() -> Self {
        Self { wall: Instant::now(), cpu: cpu() }
    }

    /// What it took until now.
    pub fn took(self) -> Took {
        Took { wall: self.wall.elapsed(), cpu: cpu().saturating_sub(self.cpu) }
    }
}

/// Something that can be measured: it does its work once and says what that took.
pub type Side<'a> = Box<dyn FnMut() -> anyhow::Result<Took> + 'a>;

/// The median of each side over `rounds` rounds in which they take turns, after one that warms up.
///
/// # Errors
/// Those of a side.
pub fn alternate(rounds: usize, sides: &mut [Side<'_>]) -> anyhow::Result<Vec<Took>> {
    let mut all: Vec<Vec<Took>> = sides.iter().map(|_| Vec::new()).collect();
    for round in 0..=rounds {
        for (side, took) in sides.iter_mut().zip(&mut all) {
            let run = side()?;
            if round > 0 {
                took.push(run);
            }
        }
    }
    Ok(all.iter().map(|runs| median(runs)).collect())
}

/// The median of both figures, each for itself.
pub fn median(runs: &[Took]) -> Took {
    let middle = |of: fn(&Took) -> Duration| {
        let mut all: Vec<Duration> = runs.iter().map(of).collect();
        all.sort_unstable();
        all.get(all.len() / 2).copied().unwrap_or_default()
    };
    Took { wall: middle(|took| took.wall), cpu: middle(|took| took.cpu) }
}
