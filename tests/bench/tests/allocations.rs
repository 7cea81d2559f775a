//! What a whole pipeline allocates: by the batch, hardly by the record.
//!
//! A binary of its own, because the allocator is the process's and other tests would be counted as well.

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use bench::records;
use bench::whole::{Fields, Pipeline};
use tidegate::plugin::{Cache, Engine};
use tokio::runtime::Runtime;

/// Allocations that a batch of 1,024 records may need beyond those of a batch of one: what grows by doubling, a buffer
/// for each column that is too large for the one before.
const MORE_A_BATCH: usize = 64;

/// Batches that are counted.
const BATCHES: usize = 200;

/// Batches before those, in which buffers and groups come to their size.
const WARM_UP: usize = 50;

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[expect(unsafe_code, reason = "an allocator cannot be written without")]
// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        unsafe { System.realloc(at, layout, size) }
    }
}

/// Allocations of a run over `batches` batches of `size` records.
fn run(folder: &Path, engine: &Engine, runtime: &Runtime, size: usize, batches: usize) -> usize {
    let pipeline = Pipeline::write(folder, Fields::Parsed, size as u64).unwrap();
    records::write(&folder.join("input.ndjson"), (batches * size) as u64, 256).unwrap();
    let before = ALLOCATIONS.load(Relaxed);
    pipeline.run(runtime, engine).unwrap();
    ALLOCATIONS.load(Relaxed) - before
}

#[test]
fn a_batch_of_1024_records_allocates_little_more_than_a_batch_of_one() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = Runtime::new().unwrap();
    let engine = Engine::new(Some(Cache::open(&folder.path().join("cache")).unwrap())).unwrap();
    let count = |size| {
        let of = |batches| run(folder.path(), &engine, &runtime, size, batches);
        of(1); // Compiles.
        let warm = of(WARM_UP);
        of(WARM_UP + BATCHES).saturating_sub(warm)
    };
    let (one, many) = (count(1), count(1024));
    assert!(one > 0, "nothing was counted");
    let more = many.saturating_sub(one) / BATCHES;
    assert!(more <= MORE_A_BATCH, "{more} allocations a batch more: {many} against {one}");
}
