//! Any stream of bytes as a source, for standard input and for programs that embed the library.
//!
//! Owns the bytes between the stream and the decoder. It must not know where the stream comes from. It cannot go back:
//! what it has handed out and was not committed is kept by the caller.

use std::fmt;

use bytes::Bytes;
use futures::{
    FutureExt as _, Stream, StreamExt as _,
    future::BoxFuture,
    stream::{BoxStream, Fuse},
};
use tokio::io::AsyncRead;
use tokio_util::io::ReaderStream;

use super::{Chunk, Position, Read, Source, Undecoded};
use crate::{
    batch::{BatchBuilder, Limit},
    codec::{Decoder, MAX_UNDECODED, Origin, is_full},
};

/// Bytes of one read of an [`AsyncRead`].
const BLOCK: usize = 64 << 10;

/// A source that reads a stream.
pub struct StreamSource {
    name: String,
    stream: Fuse<BoxStream<'static, anyhow::Result<Bytes>>>,
    cut: Cut,
    decoder: Decoder,
    builder: BatchBuilder,
    /// What has been taken from the stream and not used up, from `from` on.
    block: Vec<u8>,
    from: usize,
    /// Offset of the byte at `from`, within the frame or the stream.
    offset: u64,
    /// Frames taken so far.
    frames: u64,
    /// Whether an input is open: the frame in hand, or the stream.
    open: bool,
    ended: bool,
    stopping: bool,
    /// An error that came behind records which are handed out first.
    failed: Option<anyhow::Error>,
}

/// What an item of the stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    /// Whole records.
    Frame,
    /// Some bytes, cut anywhere.
    Anywhere,
}

/// A source of which every item is a frame: one or more whole records, as `decoder` reads them. With
/// [`Format::Raw`](crate::codec::Format::Raw) every frame is one record. An error of the stream ends the pipeline.
pub fn from_stream(
    name: &str,
    frames: impl Stream<Item = anyhow::Result<Bytes>> + Send + 'static,
    decoder: Decoder,
) -> StreamSource {
    start(name, frames.boxed(), Cut::Frame, decoder)
}

/// A source whose items are bytes that are cut anywhere; what follows the last separator is a record at the end.
pub fn from_bytes(
    name: &str,
    bytes: impl Stream<Item = anyhow::Result<Bytes>> + Send + 'static,
    decoder: Decoder,
) -> StreamSource {
    start(name, bytes.boxed(), Cut::Anywhere, decoder)
}

/// A source that reads `reader` to its end.
pub fn from_reader(name: &str, reader: impl AsyncRead + Send + 'static, decoder: Decoder) -> StreamSource {
    from_bytes(name, ReaderStream::with_capacity(reader, BLOCK).map(|read| Ok(read?)), decoder)
}

fn start(name: &str, stream: BoxStream<'static, anyhow::Result<Bytes>>, cut: Cut, decoder: Decoder) -> StreamSource {
    StreamSource {
        name: name.to_owned(),
        stream: stream.fuse(),
        cut,
        builder: decoder.builder(),
        decoder,
        block: Vec::new(),
        from: 0,
        offset: 0,
        frames: 0,
        open: cut == Cut::Anywhere,
        ended: false,
        stopping: false,
        failed: None,
    }
}

impl fmt::Debug for StreamSource {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut to = to.debug_struct("StreamSource");
        to.field("name", &self.name).field("frames", &self.frames).field("offset", &self.offset).finish_non_exhaustive()
    }
}

impl StreamSource {
    async fn next(&mut self, most: Limit) -> anyhow::Result<Read> {
        let mut undecoded = Vec::new();
        loop {
            self.decode(&mut undecoded, most);
            if !self.open && self.ended || self.stopping {
                self.give_up(&mut undecoded);
            }
            let nothing = self.builder.is_empty() && undecoded.is_empty();
            let over = self.stopping || self.ended && !self.open;
            if nothing && (over || self.failed.is_some()) {
                return self.failed.take().map_or(Ok(Read::End), Err);
            }
            if over || self.failed.is_some() || is_full(&self.builder, &undecoded, most) {
                return Ok(Read::Chunk(Chunk { batch: self.builder.finish(), undecoded, ..Chunk::default() }));
            }
            // Small items are put together as long as they are there; nothing is held while waiting for one.
            let item = match nothing {
                true => self.stream.next().await,
                false => match self.stream.next().now_or_never() {
                    Some(item) => item,
                    None => {
                        return Ok(Read::Chunk(Chunk { batch: self.builder.finish(), undecoded, ..Chunk::default() }));
                    }
                },
            };
            match item {
                Some(Ok(bytes)) => self.take(&bytes),
                Some(Err(error)) => self.failed = Some(error),
                None => self.ended = true,
            }
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        self.block.drain(..self.from);
        self.from = 0;
        self.block.extend_from_slice(bytes);
        if self.cut == Cut::Frame {
            self.frames += 1;
            self.offset = 0;
            self.open = true;
        }
    }

    fn decode(&mut self, undecoded: &mut Vec<Undecoded>, most: Limit) {
        let known = undecoded.len();
        while self.open {
            let bytes = &self.block[self.from..];
            let whole = self.cut == Cut::Frame || self.ended;
            let origin = Origin { name: &self.name, offset: self.offset };
            let used = match whole {
                true => self.decoder.end(bytes, origin, &mut self.builder, undecoded, most),
                false => self.decoder.feed(bytes, origin, &mut self.builder, undecoded, most),
            };
            self.from += used;
            self.offset += used as u64;
            if whole && self.from == self.block.len() {
                self.open = false;
            }
            if used == 0 || is_full(&self.builder, undecoded, most) {
                break;
            }
        }
        if self.cut == Cut::Frame {
            for undecoded in &mut undecoded[known..] {
                undecoded.place = format!("frame {} of {}", self.frames, undecoded.place);
            }
        }
    }

    /// At a drain: the beginning of a record, of which the rest will not be read, is shown and not lost silently.
    fn give_up(&mut self, undecoded: &mut Vec<Undecoded>) {
        let rest = &self.block[self.from..];
        if self.stopping
            && self.cut == Cut::Anywhere
            && !rest.is_empty()
            && self.builder.is_empty()
            && undecoded.is_empty()
        {
            undecoded.push(Undecoded {
                place: format!("{} (byte {})", self.name, self.offset),
                index: 0,
                reason: "the drain began in the middle of this record".to_owned(),
                raw: Bytes::copy_from_slice(&rest[..rest.len().min(MAX_UNDECODED)]),
            });
            self.block.clear();
            self.from = 0;
        }
    }
}

impl Source for StreamSource {
    fn read(&mut self, most: Limit) -> BoxFuture<'_, anyhow::Result<Read>> {
        self.next(most).boxed()
    }

    fn position(&self) -> Position {
        Position::default()
    }

    fn seek<'a>(&'a mut self, _: &'a Position) -> BoxFuture<'a, anyhow::Result<bool>> {
        async { Ok(false) }.boxed()
    }

    fn commit<'a>(&'a mut self, _: &'a Position) -> BoxFuture<'a, anyhow::Result<()>> {
        async { Ok(()) }.boxed()
    }

    fn stop(&mut self) {
        self.stopping = true;
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;
    use tokio::io::{AsyncWriteExt as _, duplex};

    use super::*;
    use crate::codec::{Format, Stamp};

    fn decoder(format: Format) -> Decoder {
        Decoder::new(format, &Stamp::default(), 64)
    }

    fn frames(items: &[&'static str]) -> impl Stream<Item = anyhow::Result<Bytes>> + Send + 'static {
        stream::iter(items.iter().map(|item| Ok(Bytes::from_static(item.as_bytes()))).collect::<Vec<_>>())
    }

    async fn all(mut source: StreamSource, most: Limit) -> (Vec<String>, Vec<String>) {
        let (mut records, mut refused) = (Vec::new(), Vec::new());
        while let Read::Chunk(chunk) = source.read(most).await.unwrap() {
            records.extend(chunk.batch.values().iter().map(|value| String::from_utf8_lossy(value).into_owned()));
            refused.extend(chunk.undecoded.into_iter().map(|undecoded| undecoded.place));
        }
        (records, refused)
    }

    #[tokio::test]
    async fn a_frame_is_a_record_or_holds_some_and_never_runs_into_the_next() {
        for most in [Limit::default(), Limit { records: 1, bytes: 1 }] {
            let raw = from_stream("feed", frames(&["a\nb", "c"]), decoder(Format::Raw));
            assert_eq!(all(raw, most).await.0, ["a\nb", "c"]);
            let lines = from_stream("feed", frames(&["a\nb", "c\n", "d"]), decoder(Format::Lines));
            assert_eq!(all(lines, most).await.0, ["a", "b", "c", "d"]);
        }
    }

    #[tokio::test]
    async fn what_cannot_be_decoded_is_told_with_its_frame_and_its_neighbours_are_not_touched() {
        let source = from_stream("feed", frames(&["{\"a\":1}", "{oops", "{\"b\":2}"]), decoder(Format::Json));
        let (records, refused) = all(source, Limit::default()).await;
        assert_eq!(records, ["{\"a\":1}", "{\"b\":2}"]);
        assert_eq!(refused.len(), 1);
        assert!(refused[0].starts_with("frame 2 of feed"), "{refused:?}");
    }

    #[tokio::test]
    async fn bytes_may_be_cut_anywhere() {
        let bytes = ["o", "ne\ntw", "o\n", "", "thr", "ee"];
        for most in [Limit::default(), Limit { records: 1, bytes: 1 }] {
            let source = from_bytes("pipe", frames(&bytes), decoder(Format::Lines));
            assert_eq!(all(source, most).await.0, ["one", "two", "three"]);
        }
    }

    #[tokio::test]
    async fn a_dropped_read_takes_nothing_along() {
        let (mut near, far) = duplex(1024);
        let mut source = from_reader("pipe", far, decoder(Format::Lines));
        let mut records = Vec::new();
        for part in ["a", "b\nc", "d\n"] {
            near.write_all(part.as_bytes()).await.unwrap();
            if let std::task::Poll::Ready(read) = futures::poll!(source.read(Limit::default())) {
                let Read::Chunk(chunk) = read.unwrap() else { panic!("the pipe is open") };
                records.extend(chunk.batch.values().iter().map(<[u8]>::to_vec));
            }
        }
        drop(near);
        records.extend(all(source, Limit::default()).await.0.into_iter().map(String::into_bytes));
        assert_eq!(records, [b"ab", b"cd"]);
    }

    #[tokio::test]
    async fn an_error_comes_after_the_records_before_it() {
        let items = vec![Ok(Bytes::from_static(b"a")), Err(anyhow::anyhow!("torn"))];
        let mut source = from_stream("feed", stream::iter(items), decoder(Format::Raw));
        assert!(matches!(source.read(Limit::default()).await, Ok(Read::Chunk(chunk)) if chunk.batch.len() == 1));
        assert_eq!(source.read(Limit::default()).await.unwrap_err().to_string(), "torn");
    }

    #[tokio::test]
    async fn a_drain_in_the_middle_of_a_record_says_so_and_ends() {
        let (mut near, far) = duplex(1024);
        near.write_all(b"whole\nha").await.unwrap();
        let mut source = from_reader("pipe", far, decoder(Format::Lines));
        assert!(matches!(source.read(Limit::default()).await, Ok(Read::Chunk(chunk)) if chunk.batch.len() == 1));
        source.stop();
        near.write_all(b"lf\n").await.unwrap();
        let Ok(Read::Chunk(chunk)) = source.read(Limit::default()).await else { panic!("the half record is gone") };
        assert_eq!(chunk.undecoded[0].place, "pipe (byte 6)");
        assert_eq!(&chunk.undecoded[0].raw[..], b"ha");
        assert!(matches!(source.read(Limit::default()).await, Ok(Read::End)));
        assert!(!source.seek(&Position::default()).await.unwrap());
    }
}
