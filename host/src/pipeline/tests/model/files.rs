//! The same with a file below, on the disk that also has the store: every operation of it fails, one in each run.

use std::path::Path;

use rand::{SeedableRng, rngs::SmallRng};

use super::{shape::Shape, world::World};
use crate::{
    disk::{Disk, Sim, sim::Failure},
    sink::file::{Config, Rotate},
    unit::Size,
};

/// Most lives that a run with one failure may take: the one that it comes in, and another.
const LIVES: usize = 3;

/// What is in the file, and in those that rotation has put aside, oldest first.
fn written(disk: &Sim) -> String {
    // Looked at from outside: to list a folder would be another operation.
    let content = |name: String| disk.content(Path::new(&format!("/data/out/sums.log{name}")));
    let aside = (1..).map_while(|number| content(format!(".{number}")));
    let contents = aside.chain(content(String::new()));
    String::from_utf8(contents.flatten().collect()).unwrap()
}

/// What a pipeline leaves in its file although the n-th operation of the disk fails; whether it did.
fn run(n: u64, failure: Failure) -> (String, bool) {
    let (shape, disk) = (Shape::windows(), Sim::new());
    disk.create_folder(Path::new("/data")).unwrap();
    disk.sync_folder(Path::new("/")).unwrap();
    let random = &mut SmallRng::seed_from_u64(7);
    let mut world = World::new(&shape, n);
    let rotate = Some(Rotate { bytes: Some(Size(200)), every: None });
    world.file = Some(Config { path: "out/sums.log".to_owned(), rotate });
    world.disk = Some(disk.clone());
    disk.fail(n, failure);
    for _ in 0..LIVES {
        let (durable, found) = world.reopened().unzip();
        if let Ok(mut life) = world.begin(durable, found.flatten())
            && (world.is_over || world.live(&mut life, &[], random).is_ok())
        {
            return (written(&disk), disk.fired());
        }
        let fired = disk.fired();
        disk.restart(n);
        assert!(fired, "it fell although nothing had failed");
    }
    panic!("{failure:?} at operation {n} ended {LIVES} lives");
}

/// Fails one operation after another, until there are no more.
fn every_operation(failure: Failure) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap();
    let _entered = runtime.enter();
    let (expected, _) = run(u64::MAX, failure);
    assert!(expected.lines().count() > 20, "{expected}");
    for n in 1.. {
        let (found, fired) = run(n, failure);
        assert_eq!(found, expected, "{failure:?} at operation {n}");
        if !fired {
            assert!(n > 5, "only {n} operations");
            return;
        }
    }
}

#[test]
fn an_error_of_any_operation_under_a_file_loses_and_doubles_nothing() {
    every_operation(Failure::Eio);
}

#[test]
fn a_disk_without_room_at_any_operation_under_a_file_loses_and_doubles_nothing() {
    every_operation(Failure::NoSpace);
}

#[test]
fn a_short_write_at_any_operation_under_a_file_loses_and_doubles_nothing() {
    every_operation(Failure::Short);
}

#[test]
fn a_fall_before_any_operation_under_a_file_loses_and_doubles_nothing() {
    every_operation(Failure::CrashBefore);
}

#[test]
fn a_fall_after_any_operation_under_a_file_loses_and_doubles_nothing() {
    every_operation(Failure::CrashAfter);
}
