//! WASI as a plugin sees it: everything is linked, and nothing leads outside.
//!
//! Owns what each interface answers. It must not know the contract of plugins. Invariant: no function here waits, reads
//! a real clock, or touches a file, the network, the environment or the operating system's randomness. Sockets are not
//! even linked, so that a plugin which wants them is refused by name before it runs.

use wasmtime::component::{HasData, HasSelf, Linker, Resource, ResourceTable};
use wasmtime_wasi::cli::{WasiCli, WasiCliCtxView};
use wasmtime_wasi::filesystem::{WasiFilesystem, WasiFilesystemCtxView};
use wasmtime_wasi::p2::bindings::clocks::{monotonic_clock, wall_clock};
use wasmtime_wasi::p2::bindings::random::{insecure, insecure_seed, random};
use wasmtime_wasi::p2::bindings::{cli, filesystem};
use wasmtime_wasi::p2::{DynOutputStream, DynPollable, OutputStream, Pollable, StreamResult};
use wasmtime_wasi_io::bindings::wasi::io;
use wasmtime_wasi_io::{async_trait, bytes::Bytes};

use super::guest::{Denied, Guest, Tail};

/// Random bytes that one call of the host gives; more is asked for again.
const RANDOM_BYTES: u64 = 64 << 10;
/// Bytes that a stream takes at once, as WASI wants of every stream.
const WRITE_BYTES: usize = 4096;

/// Interfaces that plugins are granted, without their versions.
pub(super) const GRANTED: &[&str] = &[
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stderr",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stderr",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/wall-clock",
    "wasi:filesystem/preopens",
    "wasi:filesystem/types",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:random/random",
];

struct Handles;

impl HasData for Handles {
    type Data<'a> = &'a mut ResourceTable;
}

/// Links every interface of [`GRANTED`].
pub(super) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    type Own = HasSelf<Guest>;

    fn command(guest: &mut Guest) -> WasiCliCtxView<'_> {
        WasiCliCtxView { ctx: &mut guest.cli, table: &mut guest.handles }
    }
    fn files(guest: &mut Guest) -> WasiFilesystemCtxView<'_> {
        WasiFilesystemCtxView { ctx: &mut guest.files, table: &mut guest.handles }
    }

    io::error::add_to_linker::<Guest, Handles>(linker, |guest| &mut guest.handles)?;
    io::poll::add_to_linker::<Guest, Handles>(linker, |guest| &mut guest.handles)?;
    io::streams::add_to_linker::<Guest, Handles>(linker, |guest| &mut guest.handles)?;
    cli::environment::add_to_linker::<Guest, WasiCli>(linker, command)?;
    cli::exit::add_to_linker::<Guest, WasiCli>(linker, command)?;
    cli::stdin::add_to_linker::<Guest, WasiCli>(linker, command)?;
    cli::stdout::add_to_linker::<Guest, Own>(linker, |guest| guest)?;
    cli::stderr::add_to_linker::<Guest, Own>(linker, |guest| guest)?;
    cli::terminal_input::add_to_linker::<Guest, WasiCli>(linker, command)?;
    cli::terminal_output::add_to_linker::<Guest, WasiCli>(linker, command)?;
    cli::terminal_stdin::add_to_linker::<Guest, WasiCli>(linker, command)?;
    cli::terminal_stdout::add_to_linker::<Guest, WasiCli>(linker, command)?;
    cli::terminal_stderr::add_to_linker::<Guest, WasiCli>(linker, command)?;
    wall_clock::add_to_linker::<Guest, Own>(linker, |guest| guest)?;
    monotonic_clock::add_to_linker::<Guest, Own>(linker, |guest| guest)?;
    filesystem::preopens::add_to_linker::<Guest, WasiFilesystem>(linker, files)?;
    filesystem::types::add_to_linker::<Guest, WasiFilesystem>(linker, files)?;
    random::add_to_linker::<Guest, Own>(linker, |guest| guest)?;
    insecure::add_to_linker::<Guest, Own>(linker, |guest| guest)?;
    insecure_seed::add_to_linker::<Guest, Own>(linker, |guest| guest)
}

/// Time stands still in a call: it is the time that the call was given.
impl wall_clock::Host for Guest {
    fn now(&mut self) -> wasmtime::Result<wall_clock::Datetime> {
        let now = self.now_millis();
        let nanoseconds = u32::try_from(now % 1000).unwrap_or(0) * 1_000_000;
        Ok(wall_clock::Datetime { seconds: now / 1000, nanoseconds })
    }

    fn resolution(&mut self) -> wasmtime::Result<wall_clock::Datetime> {
        Ok(wall_clock::Datetime { seconds: 0, nanoseconds: 1_000_000 })
    }
}

impl monotonic_clock::Host for Guest {
    fn now(&mut self) -> wasmtime::Result<u64> {
        Ok(self.now_millis().saturating_mul(1_000_000))
    }

    fn resolution(&mut self) -> wasmtime::Result<u64> {
        Ok(1_000_000)
    }

    fn subscribe_instant(&mut self, when: u64) -> wasmtime::Result<Resource<DynPollable>> {
        let now = monotonic_clock::Host::now(self)?;
        monotonic_clock::Host::subscribe_duration(self, when.saturating_sub(now))
    }

    /// A wait of no time is over at once; of any other, a plugin would learn nothing but that the clock stands still.
    fn subscribe_duration(&mut self, duration: u64) -> wasmtime::Result<Resource<DynPollable>> {
        if duration > 0 {
            return Err(Denied::Sleep.into());
        }
        let over = self.handles.push(Over)?;
        wasmtime_wasi::p2::subscribe(&mut self.handles, over)
    }
}

struct Over;

#[async_trait]
impl Pollable for Over {
    async fn ready(&mut self) {}
}

impl Guest {
    fn random_bytes(&mut self, len: u64) -> wasmtime::Result<Vec<u8>> {
        self.in_time()?;
        if len > RANDOM_BYTES {
            return Err(Denied::Random(len).into());
        }
        let mut bytes = Vec::with_capacity(len as usize + 8);
        while (bytes.len() as u64) < len {
            bytes.extend_from_slice(&self.random().to_le_bytes());
        }
        bytes.truncate(len as usize);
        Ok(bytes)
    }
}

impl random::Host for Guest {
    fn get_random_bytes(&mut self, len: u64) -> wasmtime::Result<Vec<u8>> {
        self.random_bytes(len)
    }

    fn get_random_u64(&mut self) -> wasmtime::Result<u64> {
        Ok(self.random())
    }
}

impl insecure::Host for Guest {
    fn get_insecure_random_bytes(&mut self, len: u64) -> wasmtime::Result<Vec<u8>> {
        self.random_bytes(len)
    }

    fn get_insecure_random_u64(&mut self) -> wasmtime::Result<u64> {
        Ok(self.random())
    }
}

impl insecure_seed::Host for Guest {
    fn insecure_seed(&mut self) -> wasmtime::Result<(u64, u64)> {
        Ok((self.random(), self.random()))
    }
}

impl cli::stdout::Host for Guest {
    fn get_stdout(&mut self) -> wasmtime::Result<Resource<DynOutputStream>> {
        self.words()
    }
}

impl cli::stderr::Host for Guest {
    fn get_stderr(&mut self) -> wasmtime::Result<Resource<DynOutputStream>> {
        self.words()
    }
}

impl Guest {
    fn words(&mut self) -> wasmtime::Result<Resource<DynOutputStream>> {
        let stream: DynOutputStream = Box::new(Words { tail: self.said.clone() });
        Ok(self.handles.push(stream)?)
    }
}

/// A stream that keeps the end of what is written, and is always ready for more.
struct Words {
    tail: Tail,
}

#[async_trait]
impl Pollable for Words {
    async fn ready(&mut self) {}
}

impl OutputStream for Words {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.tail.write(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES)
    }
}
