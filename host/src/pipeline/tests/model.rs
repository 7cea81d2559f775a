//! Models P1 and P2: whole pipelines whose parts take turns as a seed says, without a thread.
//!
//! Sources, conductors, workers, sinks, the coordinator and what is committed are the pipeline's own; only who goes on next
//! is decided here, one step at a time, and where the process or the machine falls. The reference is a fold over the inputs.
//! After every step nothing is acknowledged beyond the commit; after every commit the state, and what sinks can take
//! back, are the fold of the committed prefix; at the end all of it. When nobody can go on, that is a deadlock.
//!
//! `TIDEGATE_SEEDS` says how many seeds; `make chaos` sets it.

mod files;
mod life;
mod shape;
mod world;

use rand::{Rng, SeedableRng, rngs::SmallRng};
use shape::Shape;
use world::{Fall, World};

use crate::disk::{Sim, sim::Failure};

/// Seeds in a run, unless somebody wants more.
const SEEDS: u64 = 400;

/// One seed in so many keeps its commits in a store on a disk that falls too.
const STORED: u64 = 12;

/// What has to have happened in some of all runs, or they have shown nothing.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    machine_falls: u64,
    host_panics: u64,
    /// Falls while a commit was being written.
    falls_in_commits: u64,
    /// Records that were read again.
    repeated: u64,
    /// Records that a sink which takes nothing back was given twice.
    doubled: u64,
    late_epochs: u64,
    commits: u64,
}

fn run(seed: u64) -> Seen {
    let random = &mut SmallRng::seed_from_u64(seed);
    let shape = Shape::new(random);
    let mut falls: Vec<(usize, bool)> = (0..random.random_range(0..=5))
        .map(|_| (random.random_range(1..400), shape.can_seek && random.random_bool(0.7)))
        .collect();
    let mut world = World::new(&shape, seed);
    world.disk = (shape.can_seek && seed.is_multiple_of(STORED)).then(Sim::new);
    let mut restored = None;
    while !world.is_over {
        let (durable, found) = world.reopened().unzip();
        let is_stored = durable.is_some();
        let found = if is_stored { found.flatten() } else { restored.take() };
        if let Some(disk) = &world.disk {
            // Whatever the next operations are, one of them may be the last.
            let failure = if random.random() { Failure::CrashBefore } else { Failure::CrashAfter };
            disk.fail(if falls.is_empty() { u64::MAX } else { random.random_range(1..200) }, failure);
        }
        let Ok(mut life) = world.begin(durable, found) else {
            world.disk.iter().for_each(|disk| disk.restart(seed));
            falls.pop();
            continue;
        };
        if world.is_over {
            // The next process has set its sinks back before it finds that nothing is left to do.
            break;
        }
        loop {
            let fall = falls.pop();
            let Err(mut fall) = world.live(&mut life, fall.as_slice(), random) else { break };
            world.fell(&life);
            // After a panic, a commit on its way into the store is waited for.
            if matches!(fall, Fall::Panic) && world.write(&mut life).is_err() {
                fall = Fall::Machine;
            }
            match fall {
                Fall::Machine => {
                    world.seen.machine_falls += 1;
                    // Without a store, a commit that was being written has been, or not.
                    if !is_stored
                        && random.random()
                        && let Some((epoch, points, is_over)) = life.writing.take()
                    {
                        world.committed.apply(epoch, points);
                        world.is_over = is_over;
                    }
                    restored = Some(world.restored());
                    world.is_over = false;
                    drop(life);
                    world.disk.iter().for_each(|disk| disk.restart(seed));
                    break;
                }
                Fall::Panic => {
                    world.seen.host_panics += 1;
                    life = world.begin_again(life);
                }
            }
        }
    }
    world.finish()
}

#[test]
fn whatever_the_order_and_wherever_it_falls_the_outcome_is_the_fold_of_the_input() {
    let seeds: u64 = std::env::var("TIDEGATE_SEEDS").map_or(SEEDS, |seeds| seeds.parse().unwrap());
    // Nothing waits for time here, but a timer cannot be made without a runtime.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let _entered = runtime.enter();
    let mut seen = Seen::default();
    for seed in 0..seeds {
        let one = std::panic::catch_unwind(|| run(seed)).unwrap_or_else(|_| panic!("seed {seed}"));
        seen.machine_falls += one.machine_falls;
        seen.host_panics += one.host_panics;
        seen.falls_in_commits += one.falls_in_commits;
        seen.repeated += one.repeated;
        seen.doubled += one.doubled;
        seen.late_epochs += one.late_epochs;
        seen.commits += one.commits;
    }
    println!("{seeds} seeds: {seen:?}");
    let Seen { machine_falls, host_panics, falls_in_commits, repeated, doubled, late_epochs, commits } = seen;
    let all = [machine_falls, host_panics, falls_in_commits, repeated, doubled, late_epochs, commits];
    assert!(all.iter().all(|times| *times > 0), "something that had to happen never did: {seen:?}");
}
