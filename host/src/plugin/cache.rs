//! Compiled code on disk, so that a second start compiles nothing.
//!
//! Owns the folder and its key. It must not know plugins. Invariant: nothing is given out that was not sealed with the key
//! of a folder which only we can write; an entry that does not bear the seal is compiled anew.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use hmac::{Hmac, Mac};
use rand::TryRngCore;
use rand::rngs::OsRng;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use sha2::Sha256;
use wasmtime::component::Component;

use super::{artifact::Artifact, engine::plain};

const KEY_FILE: &str = "key";
const KEY_BYTES: usize = 32;
const SEAL_BYTES: usize = 32;
/// Bytes of an entry that are read: compiled code is some four times as large as what it was compiled from.
const ENTRY_BYTES: u64 = 512 << 20;

/// A folder of compiled code that only its owner can write. Cloning is cheap.
#[derive(Clone)]
pub struct Cache {
    inner: Arc<Inner>,
}

struct Inner {
    path: PathBuf,
    folder: OwnedFd,
    key: zeroize::Zeroizing<[u8; KEY_BYTES]>,
}

impl Cache {
    /// Opens `folder`, which is made if it is not there.
    ///
    /// # Errors
    /// When the folder or its key is a symbolic link, is not ours, or others can write the one or read the other.
    pub fn open(folder: &Path) -> anyhow::Result<Self> {
        let named = || format!("open the cache of compiled code {}", folder.display());
        if let Err(error) = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
            && error.kind() != ErrorKind::AlreadyExists
        {
            return Err(error).with_context(named);
        }
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(CWD, folder, flags, Mode::empty())
            .context("it is no folder, or a symbolic link")
            .with_context(named)?;
        is_ours(&opened, 0o022).context("the folder").with_context(named)?;
        let key = key(&opened).context("its key").with_context(named)?;
        Ok(Self { inner: Arc::new(Inner { path: folder.to_owned(), folder: opened, key }) })
    }

    /// The compiled code kept under `name`, if it bears our seal and suits `engine`.
    pub(super) fn get(&self, engine: &wasmtime::Engine, name: &str) -> Option<Component> {
        let kept = match self.read(name) {
            Ok(Some(kept)) => kept,
            Ok(None) => return None,
            Err(error) => {
                tracing::warn!(cache = %self.inner.path.display(), entry = name, error = format!("{error:#}"),
                    "a cached plugin is not used, and compiled anew");
                return None;
            }
        };
        match kept.component(engine) {
            Ok(component) => Some(component),
            Err(error) => {
                tracing::warn!(cache = %self.inner.path.display(), entry = name, error = format!("{error:#}"),
                    "a cached plugin cannot be used, and is compiled anew");
                None
            }
        }
    }

    /// Keeps `component` under `name`. A cache that cannot be written costs time, nothing else, so it is only logged.
    pub(super) fn put(&self, name: &str, component: &Component) {
        let kept = component.serialize().map_err(plain).and_then(|code| self.write(name, &code));
        if let Err(error) = kept {
            tracing::warn!(cache = %self.inner.path.display(), entry = name, error = format!("{error:#}"),
                "a compiled plugin is not cached");
        }
    }

    fn read(&self, name: &str) -> anyhow::Result<Option<Artifact>> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&self.inner.folder, name, flags, Mode::empty()) {
            Ok(file) => file,
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mut bytes = Vec::new();
        File::from(file).take(ENTRY_BYTES).read_to_end(&mut bytes)?;
        let (seal, code) = bytes.split_at_checked(SEAL_BYTES).context("it is cut short")?;
        self.seal(name, code)?
            .verify_slice(seal)
            .ok()
            .context("its seal is not ours: it was damaged or tampered with")?;
        Ok(Some(Artifact::of_ours(bytes, SEAL_BYTES)))
    }

    fn write(&self, name: &str, code: &[u8]) -> anyhow::Result<()> {
        let seal = self.seal(name, code)?.finalize().into_bytes();
        // Two processes may compile the same plugin at once; each renames a file of its own over the other's.
        let draft = format!("{name}.{}.{:x}", std::process::id(), OsRng.try_next_u64()?);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = &self.inner.folder;
        let mut file = File::from(rustix::fs::openat(folder, &draft, flags, Mode::from_raw_mode(0o600))?);
        let written = file
            .write_all(&seal)
            .and_then(|()| file.write_all(code))
            .and_then(|()| Ok(rustix::fs::renameat(folder, &draft, folder, name)?));
        if let Err(error) = written {
            rustix::fs::unlinkat(folder, &draft, AtFlags::empty()).context("remove a draft")?;
            return Err(error.into());
        }
        Ok(())
    }

    fn seal(&self, name: &str, code: &[u8]) -> anyhow::Result<Hmac<Sha256>> {
        let mut seal = Hmac::<Sha256>::new_from_slice(self.inner.key.as_slice())?;
        // The name is part of what is sealed, so that one entry cannot be passed off as another.
        seal.update(&(name.len() as u64).to_le_bytes());
        seal.update(name.as_bytes());
        seal.update(code);
        Ok(seal)
    }
}

fn key(folder: &OwnedFd) -> anyhow::Result<zeroize::Zeroizing<[u8; KEY_BYTES]>> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut key = zeroize::Zeroizing::new([0; KEY_BYTES]);
    let draft = format!("{KEY_FILE}.{}.{:x}", std::process::id(), OsRng.try_next_u64()?);
    let flags_read = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut found = rustix::fs::openat(folder, KEY_FILE, flags_read, Mode::empty());
    if let Err(rustix::io::Errno::NOENT) = found {
        OsRng.try_fill_bytes(key.as_mut_slice())?;
        let mut file = File::from(rustix::fs::openat(folder, &draft, flags, Mode::from_raw_mode(0o600))?);
        file.write_all(key.as_slice())?;
        // Whoever links first makes the key; everybody reads that one, whole.
        let linked = rustix::fs::linkat(folder, &draft, folder, KEY_FILE, AtFlags::empty());
        rustix::fs::unlinkat(folder, &draft, AtFlags::empty())?;
        match linked {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        found = rustix::fs::openat(folder, KEY_FILE, flags_read, Mode::empty());
    }
    let file = found?;
    is_ours(&file, 0o077)?;
    let status = rustix::fs::fstat(&file)?;
    ensure!(FileType::from_raw_mode(status.st_mode) == FileType::RegularFile, "it is no file");
    ensure!(status.st_size == KEY_BYTES as i64, "it has {} bytes instead of {KEY_BYTES}", status.st_size);
    File::from(file).read_exact(key.as_mut_slice())?;
    Ok(key)
}

/// Checks that we own what is opened, and that it grants nobody else any right of `forbidden`.
fn is_ours(opened: &OwnedFd, forbidden: u32) -> anyhow::Result<()> {
    let status = rustix::fs::fstat(opened)?;
    let ours = rustix::process::geteuid().as_raw();
    if status.st_uid != ours {
        bail!("it belongs to user {}, not to {ours}", status.st_uid);
    }
    if status.st_mode & forbidden != 0 {
        bail!("its mode is {:o}, which lets others in", status.st_mode & 0o777);
    }
    Ok(())
}
