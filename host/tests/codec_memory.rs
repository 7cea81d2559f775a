//! What decoding allocates: nothing per record, and nothing that grows with a record over the limit.
//!
//! A binary of its own, because the allocator is the process's and other tests would be counted as well.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use tidegate::batch::{BatchBuilder, Limit};
use tidegate::codec::{Decoder, Format, MAX_UNDECODED, Origin, Stamp, Undecoded, is_full};

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);
static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[expect(unsafe_code, reason = "an allocator cannot be written without")]
// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        PEAK.fetch_max(LIVE.fetch_add(layout.size(), Relaxed) + layout.size(), Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        unsafe { System.dealloc(at, layout) }
    }
}

/// Bytes that `run` has in hand at most beyond those that it began with, and how often it allocates.
fn measured(run: impl FnOnce()) -> (usize, usize) {
    let (live, before) = (LIVE.load(Relaxed), ALLOCATIONS.load(Relaxed));
    PEAK.store(live, Relaxed);
    run();
    (PEAK.load(Relaxed) - live, ALLOCATIONS.load(Relaxed) - before)
}

const CHUNK: usize = 16 << 10;

/// Passes `begin`, then `filler` again and again up to 100 MiB, then `end`, through a buffer that must not grow.
fn stream(decoder: &mut Decoder, buffer: &mut Vec<u8>, begin: &[u8], end: &[u8]) -> (BatchBuilder, Vec<Undecoded>) {
    let filler = [b'x'; CHUNK];
    let (mut out, mut undecoded) = (decoder.builder(), Vec::new());
    let mut offset = 0;
    let middle = std::iter::repeat_n(&filler[..], (100 << 20) / CHUNK);
    for chunk in std::iter::once(begin).chain(middle).chain([end]) {
        let room = buffer.capacity();
        buffer.extend_from_slice(chunk);
        assert_eq!(buffer.capacity(), room, "an unfinished record stays in the caller's buffer beyond the limit");
        let origin = Origin { name: "input", offset };
        let used = decoder.feed(buffer, origin, &mut out, &mut undecoded, Limit::default());
        buffer.drain(..used);
        offset += used as u64;
    }
    let origin = Origin { name: "input", offset };
    let used = decoder.end(buffer, origin, &mut out, &mut undecoded, Limit::default());
    assert_eq!(used, buffer.len());
    (out, undecoded)
}

// P10 and row 31. One test, because the counters are the process's.
#[test]
fn memory_does_not_grow_with_the_input() {
    let none = Stamp::default();
    for max in [1, 1000, 1 << 20] {
        let cases = [
            (Decoder::new(Format::Lines, &none, max), "", "\n1\n", 1),
            (Decoder::new(Format::Json, &none, max), "", "\n1\n", 1),
            (Decoder::new(Format::Csv, &none, max), "n\n", "\n1\n", 1),
            (Decoder::new(Format::Csv, &none, max), "n\n\"", "\n1\n", 1),
            (Decoder::new(Format::Raw, &none, max), "", "\n1\n", 0),
            (Decoder::of_document(&none, max), "[", ",1]", 1),
            (Decoder::of_document(&none, max), "[\"", "\",1]", 1),
        ];
        for (mut decoder, begin, end, records) in cases {
            let mut buffer = Vec::with_capacity(max + 2 + CHUNK);
            let case = format!("{decoder:?}");
            let (peak, _) = measured(|| {
                let (out, undecoded) = stream(&mut decoder, &mut buffer, begin.as_bytes(), end.as_bytes());
                assert_eq!((out.len(), undecoded.len()), (records, 1), "{case}");
            });
            assert!(peak <= MAX_UNDECODED + 4096, "{peak} bytes for a record over the limit of {max}: {case}");
        }
    }

    let stamp = Stamp { key: Some("/k".into()), time: Some("/t".into()), fields: ["/n".into()].into(), ids: None };
    let mut rows = b"k,t,n\n".to_vec();
    let mut lines = Vec::new();
    for i in 0..10_000 {
        lines.extend_from_slice(format!("{{\"k\":\"a\\n\",\"t\":\"2026-01-01T00:00:00Z\",\"n\":{i}}}\n").as_bytes());
        rows.extend_from_slice(format!("\"a\"\"\",2026-01-01T00:00:00Z,{i}\n").as_bytes());
    }
    for (format, input) in [(Format::Lines, &lines), (Format::Json, &lines), (Format::Csv, &rows)] {
        let mut decoder = Decoder::new(format, &stamp, 1000);
        let (mut out, mut undecoded) = (decoder.builder(), Vec::new());
        let most = Limit { records: 1 << 20, bytes: 1 << 30 };
        let (_, allocations) = measured(|| {
            let origin = Origin { name: "input", offset: 0 };
            assert_eq!(decoder.feed(input, origin, &mut out, &mut undecoded, most), input.len());
        });
        assert_eq!((out.len(), undecoded.len(), is_full(&out, &undecoded, most)), (10_000, 0, false));
        assert!(
            allocations < 150,
            "{allocations} allocations for 10,000 records of {format:?}: more than columns that grow"
        );
    }
}
