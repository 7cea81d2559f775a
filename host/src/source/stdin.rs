//! Source `stdin`: what is piped into the host.
//!
//! Owns a thread that reads, because a read of a terminal or a pipe cannot be taken back: the thread may hang in one
//! while the runtime and the process end. What it has read waits in a bounded channel.

use std::{io, thread};

use anyhow::Context as _;
use bytes::Bytes;
use futures::{Stream, stream};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::stream::{StreamSource, from_bytes};
use crate::codec::{Decoder, Format, Stamp};

/// What `stdin:` of a source takes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Whether what was read is written to a journal in the host's state before it goes on, so that it outlasts a fall.
    #[serde(default)]
    pub journal: bool,
}

/// Bytes of one read: what a pipe holds.
const BLOCK: usize = 64 << 10;
/// Blocks that wait at most; the writer of the pipe waits after them.
const BLOCKS: usize = 4;

/// Opens standard input. Records of more than `max_record` bytes are refused.
///
/// # Errors
/// When no thread can be started.
pub fn open(decode: Format, stamp: &Stamp, max_record: usize) -> anyhow::Result<StreamSource> {
    let blocks = read_on_a_thread(io::stdin())?;
    Ok(from_bytes("standard input", blocks, Decoder::new(decode, stamp, max_record)))
}

fn read_on_a_thread(
    mut input: impl io::Read + Send + 'static,
) -> anyhow::Result<impl Stream<Item = anyhow::Result<Bytes>> + Send + 'static> {
    let (blocks, inbox) = mpsc::channel(BLOCKS);
    let work = move || {
        let mut block = vec![0; BLOCK];
        loop {
            let outcome = match input.read(&mut block) {
                Ok(0) => return,
                Ok(count) => Ok(Bytes::copy_from_slice(&block[..count])),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => Err(anyhow::Error::new(error).context("read standard input")),
            };
            let failed = outcome.is_err();
            // The source has been dropped, or has been told that there will be no more.
            if blocks.blocking_send(outcome).is_err() || failed {
                return;
            }
        }
    };
    thread::Builder::new().name("stdin".to_owned()).spawn(work).context("start the thread of standard input")?;
    Ok(stream::unfold(inbox, |mut inbox| async { inbox.recv().await.map(|block| (block, inbox)) }))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc as blocking;

    use super::*;
    use crate::{
        batch::Limit,
        source::{Read, Source},
    };

    /// A terminal: gives the parts one by one, then hangs in a read until the sender is dropped.
    struct Terminal(blocking::Receiver<&'static str>);

    impl io::Read for Terminal {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let Ok(part) = self.0.recv() else { return Ok(0) };
            into[..part.len()].copy_from_slice(part.as_bytes());
            Ok(part.len())
        }
    }

    fn source(input: impl io::Read + Send + 'static) -> StreamSource {
        let decoder = Decoder::new(Format::Lines, &Stamp::default(), 1 << 20);
        from_bytes("standard input", read_on_a_thread(input).unwrap(), decoder)
    }

    async fn lines(source: &mut StreamSource) -> Option<Vec<String>> {
        match source.read(Limit::default()).await.unwrap() {
            Read::End | Read::Again(_) => None,
            Read::Chunk(chunk) => {
                Some(chunk.batch.values().iter().map(|line| String::from_utf8_lossy(line).into_owned()).collect())
            }
        }
    }

    #[tokio::test]
    async fn lines_arrive_as_they_are_typed_and_the_end_ends() {
        let (typist, keys) = blocking::channel();
        let mut source = source(Terminal(keys));
        typist.send("a\nb").unwrap();
        assert_eq!(lines(&mut source).await.unwrap(), ["a"]);
        typist.send("c\nd").unwrap();
        assert_eq!(lines(&mut source).await.unwrap(), ["bc"]);
        drop(typist);
        assert_eq!(lines(&mut source).await.unwrap(), ["d"]);
        assert_eq!(lines(&mut source).await, None);
    }

    #[test]
    fn a_runtime_shuts_down_while_a_terminal_is_silent() {
        let (typist, keys) = blocking::channel();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let mut source = runtime.block_on(async { source(Terminal(keys)) });
        runtime.block_on(async { assert!(futures::poll!(source.read(Limit::default())).is_pending()) });
        drop(runtime);
        drop(typist);
    }

    #[tokio::test]
    async fn an_error_of_the_input_is_told_after_what_was_read_before() {
        struct Broken(u8);
        impl io::Read for Broken {
            fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
                self.0 += 1;
                match self.0 {
                    1 => Err(io::ErrorKind::Interrupted.into()),
                    2 => {
                        into[..2].copy_from_slice(b"a\n");
                        Ok(2)
                    }
                    _ => Err(io::ErrorKind::BrokenPipe.into()),
                }
            }
        }
        let mut source = source(Broken(0));
        assert_eq!(lines(&mut source).await.unwrap(), ["a"]);
        assert!(source.read(Limit::default()).await.unwrap_err().to_string().contains("standard input"));
    }
}
