//! The host's one durable store: what each pipeline commits, and what it is given back after a restart.
//!
//! Owns the store's file, its format, its lock and its thread. It knows nothing of what a value means, of channels, of
//! stages or of plugins, and only here is the embedded store named. Invariant: what was acknowledged is there after any
//! crash, and a commit that was in flight is there as a whole or not at all; damage is refused, never read.
//!
//! A value lies at a [`Place`] of a pipeline. A pipeline hands in a [`Commit`] and waits; one thread writes all commits
//! that wait in one transaction and syncs it once. The store's own page, its tables and its keys are described in
//! `store/front.rs`, `store/engine.rs` and `store/key.rs`; [`FORMAT`] is the version of all of it.

mod backing;
mod ballast;
mod commit;
mod committer;
mod copy;
mod engine;
mod error;
mod front;
mod key;
mod lock;
mod pace;
mod record;
mod rows;
mod table;
#[cfg(test)]
mod tests;
mod trouble;
mod values;

use std::{
    fmt,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tokio::sync::{mpsc, oneshot};

pub use self::{
    commit::{Commit, Committed},
    copy::{Verified, discard, is_in, repair, restore_from, verify},
    error::StoreError,
    front::FORMAT,
    key::{Place, Places},
    lock::Lock,
    pace::pace,
    record::Past,
};
use self::{
    committer::{Committer, Request},
    engine::Engine,
};
use crate::disk::{Disk, File, How};

/// The store's file in the host's folder.
const NAME: &str = "store";

/// Commits that may wait for the store's thread. A pipeline has one epoch in flight, so this bounds how many pipelines
/// wait in the channel rather than at it.
const WAITING: usize = 64;

/// What a host may set of its store.
#[derive(Clone)]
pub struct Settings {
    /// Bytes kept on the disk for the last commit before a pause, 16 MiB unless said otherwise.
    pub ballast: u64,
    /// Bytes of memory for pages, 64 MiB unless said otherwise. State lives in its own slabs; the store only writes what
    /// changed, so it gains little from more.
    pub cache: usize,
    /// Time since any one moment, by which commits are measured.
    pub clock: Arc<dyn Fn() -> Duration + Send + Sync>,
}

impl Default for Settings {
    fn default() -> Self {
        let began = Instant::now();
        Self { ballast: 16 << 20, cache: 64 << 20, clock: Arc::new(move || began.elapsed()) }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.debug_struct("Settings").field("ballast", &self.ballast).field("cache", &self.cache).finish_non_exhaustive()
    }
}

/// What a pipeline is told beside its values when it is restored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// The last epoch that was committed; nothing where none was.
    pub epoch: Option<u64>,
    /// How many values there are.
    pub values: u64,
}

/// A host's store, open. Dropping it waits for the commits in hand and closes the file.
#[derive(Debug)]
pub struct Store {
    opened: Arc<Opened>,
    /// To the store's thread, which ends when this is dropped.
    requests: Option<mpsc::Sender<Request>>,
    thread: Option<JoinHandle<()>>,
    /// Let go of last, after the file is closed.
    _lock: Lock,
}

/// What the store's thread and its readers share.
#[derive(Debug)]
struct Opened {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    settings: Settings,
    generation: u64,
    /// Nothing while it waits for room on the disk to be opened again.
    engine: RwLock<Option<Arc<Engine>>>,
}

impl Store {
    /// Opens the store of a folder whose lock is held, or makes one where there was none, as a new generation: from now
    /// on no host that opened it before can write.
    ///
    /// # Errors
    /// `Format`, `Missing` or `Damaged` when the file is not a whole store of this format, `Full` when even the ballast
    /// is no room enough, `Failed` when the disk fails.
    pub fn open(disk: Arc<dyn Disk>, folder: &Path, lock: Lock, settings: Settings) -> Result<Self, StoreError> {
        let failed = failed(&folder.join(NAME));
        make_folder(&*disk, folder).map_err(|error| failed("making the folder", error))?;
        let begin = || take_over(&*disk, folder, settings.cache);
        let (generation, engine) = begin().or_else(|error| {
            let full = matches!(error, StoreError::Full { .. });
            let released =
                full && ballast::release(&*disk, folder).map_err(|error| failed("emptying the ballast", error))?;
            if released { begin() } else { Err(error) }
        })?;
        let room = ballast::fill(&*disk, folder, settings.ballast)
            .map_err(|error| failed("keeping room for a last commit", error))?;
        // So that the ballast shows that the folder was in use, whatever happens from now on.
        disk.sync_folder(folder).map_err(|error| failed("syncing the folder", error))?;
        let engine = RwLock::new(Some(Arc::new(engine)));
        let opened = Arc::new(Opened { disk, folder: folder.to_owned(), settings, generation, engine });
        let (requests, waiting) = mpsc::channel(WAITING);
        let committer = Committer::new(opened.clone(), room);
        let thread = thread::Builder::new()
            .name("tidegate-store".into())
            .spawn(move || committer.run(waiting))
            .map_err(|error| failed("starting the store's thread", error))?;
        Ok(Self { opened, requests: Some(requests), thread: Some(thread), _lock: lock })
    }

    /// The generation of this host: how many times the store has been opened.
    pub fn generation(&self) -> u64 {
        self.opened.generation
    }

    /// Commits. Once this has been polled the commit goes its way, whether or not its answer is waited for.
    ///
    /// # Errors
    /// `Full` when the disk has no room: hand the same commit in again when [`Store::room`] says that there is some.
    /// All others end the store: the pipeline stops, and what holds is known at the next start.
    pub async fn commit(&self, commit: Commit) -> Result<Committed, StoreError> {
        self.ask(|reply| Request::Commit(commit, reply)).await
    }

    /// Forgets a pipeline: its values, its epochs, its name.
    ///
    /// # Errors
    /// As of [`Store::commit`].
    pub async fn forget(&self, pipeline: Arc<str>) -> Result<(), StoreError> {
        self.ask(|reply| Request::Forget(pipeline, reply)).await
    }

    /// Tries to keep room for a last commit again where that was spent, and says whether it is kept. To be asked about
    /// once a second while pipelines pause for a full disk.
    ///
    /// # Errors
    /// When the disk fails otherwise than by being full.
    pub async fn room(&self) -> Result<bool, StoreError> {
        self.ask(Request::Room).await
    }

    /// Shows every value of a pipeline to `visit`, in order of places. What was shown counts only once this has
    /// succeeded: damage may be met after the first values.
    ///
    /// # Errors
    /// `Damaged`, with the place of the value, when a value is damaged, missing or not of the last commit.
    pub fn restore(&self, pipeline: &str, mut visit: impl FnMut(Place<'_>, &[u8])) -> Result<Restored, StoreError> {
        self.scan(pipeline, Places::All, |place, value| {
            visit(place, value);
            ControlFlow::Continue(())
        })
    }

    /// Shows the values at some of a pipeline's places to `visit`, in order, until it breaks; what it returns is of the
    /// whole pipeline, as of the same commit.
    ///
    /// # Errors
    /// `Damaged`, with the place of the value, when one is damaged.
    pub fn scan(
        &self,
        pipeline: &str,
        places: Places<'_>,
        mut visit: impl FnMut(Place<'_>, &[u8]) -> ControlFlow<()>,
    ) -> Result<Restored, StoreError> {
        let record = self.opened.engine()?.scan(pipeline, places, &mut visit)?;
        Ok(Restored { epoch: record.history.last().map(|past| past.epoch), values: record.tally.count })
    }

    /// The value at a place of a pipeline.
    ///
    /// # Errors
    /// `Damaged` when it is.
    pub fn get(&self, pipeline: &str, place: &Place<'_>) -> Result<Option<Vec<u8>>, StoreError> {
        let mut found = None;
        let mut places = std::iter::once(place.clone());
        self.opened.engine()?.get(pipeline, &mut places, &mut |_, value| found = Some(value.to_vec()))?;
        Ok(found)
    }

    /// Shows the values at `places` of a pipeline to `visit`, each with the place's number in the list, all as of one commit;
    /// where there is no value, nothing is shown.
    ///
    /// # Errors
    /// `Damaged`, with the place of the value, when one is.
    pub fn get_many<'a>(
        &self,
        pipeline: &str,
        mut places: impl Iterator<Item = Place<'a>>,
        mut visit: impl FnMut(usize, &[u8]),
    ) -> Result<(), StoreError> {
        self.opened.engine()?.get(pipeline, &mut places, &mut visit)
    }

    /// Names of the pipelines that have committed, ordered.
    ///
    /// # Errors
    /// `Damaged` when they cannot be read.
    pub fn pipelines(&self) -> Result<Vec<String>, StoreError> {
        self.opened.engine()?.pipelines()
    }

    /// The last 32 epochs of a pipeline, the oldest first.
    ///
    /// # Errors
    /// `Damaged` when they cannot be read.
    pub fn history(&self, pipeline: &str) -> Result<Vec<Past>, StoreError> {
        Ok(self.opened.engine()?.record(pipeline)?.history)
    }

    /// Copies the store as of now into a new file, checking every value, while commits go on.
    ///
    /// # Errors
    /// `Damaged` when a value is; `Full` or `Failed` when the file exists or cannot be written. No file is left then.
    pub fn backup(&self, to: &Path) -> Result<(), StoreError> {
        copy::backup(&*self.opened.disk, &*self.opened.engine()?, to, self.opened.settings.cache)
    }

    async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Request,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let gone = || StoreError::Failed { file: self.opened.path(), why: "the store's thread is gone".to_owned() };
        let requests = self.requests.as_ref().ok_or_else(gone)?;
        requests.send(request(reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been told to those who waited for it.
            let _ = thread.join();
        }
        self.opened.close();
    }
}

impl Opened {
    fn path(&self) -> PathBuf {
        self.folder.join(NAME)
    }

    fn engine(&self) -> Result<Arc<Engine>, StoreError> {
        let engine = self.engine.read().unwrap_or_else(PoisonError::into_inner).clone();
        engine.ok_or_else(|| StoreError::Full { file: self.path() })
    }

    fn close(&self) {
        *self.engine.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Opens the file again after a failed write, for the embedded store refuses everything from then on.
    fn reopen(&self) -> Result<Arc<Engine>, StoreError> {
        self.close();
        let path = self.path();
        let file = self.disk.open(&path, How::Existing).map_err(|error| failed(&path)("opening", error))?;
        let engine = Arc::new(checked(file.into(), &path, self.generation, self.settings.cache)?);
        *self.engine.write().unwrap_or_else(PoisonError::into_inner) = Some(engine.clone());
        Ok(engine)
    }
}

/// Makes the folder where it is missing, so that it is there after a crash too.
fn make_folder(disk: &dyn Disk, folder: &Path) -> std::io::Result<()> {
    disk.create_folder(folder)?;
    disk.sync_folder(above(folder))
}

/// The folder that a file or folder lies in.
fn above(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Opens the folder's store, or makes one, under the next generation.
fn take_over(disk: &dyn Disk, folder: &Path, cache: usize) -> Result<(u64, Engine), StoreError> {
    let path = folder.join(NAME);
    let failed = failed(&path);
    if !disk.list(folder).map_err(|error| failed("listing the folder", error))?.contains(&path) {
        if ballast::exists(disk, folder).map_err(|error| failed("listing the folder", error))? {
            return Err(StoreError::Missing { file: path });
        }
        copy::make(disk, folder, cache)?;
    }
    let (generation, file) = claim(disk, &path)?;
    Ok((generation, checked(file, &path, generation, cache)?))
}

/// Makes this host the only one that can write the file.
fn claim(disk: &dyn Disk, path: &Path) -> Result<(u64, Arc<dyn File>), StoreError> {
    let failed = failed(path);
    let file: Arc<dyn File> = disk.open(path, How::Existing).map_err(|error| failed("opening", error))?.into();
    front::check(&*file, path)?;
    let before = front::generation(&*file).map_err(|error| failed("reading the generation", error))?;
    let Some(before) = before else {
        let what = "both places of the generation are damaged".to_owned();
        return Err(StoreError::Damaged { file: path.to_owned(), what });
    };
    front::set_generation(&*file, before + 1).map_err(|error| failed("writing the generation", error))?;
    Ok((before + 1, file))
}

/// Opens the embedded store, which may not be behind the last commit that is known to have been made.
fn checked(file: Arc<dyn File>, path: &Path, generation: u64, cache: usize) -> Result<Engine, StoreError> {
    let made = front::commit(&*file).map_err(|error| failed(path)("reading the last commit", error))?;
    let engine = Engine::open(file, path, generation, cache)?;
    let found = engine.head()?;
    match made {
        Some(made) if made > found => Err(StoreError::Damaged {
            file: path.to_owned(),
            what: format!("it has gone back to commit {found}, and commit {made} has been made"),
        }),
        _ => Ok(engine),
    }
}

/// What an error of the disk means for the store: see [`backing::Backing::meaning`].
fn failed(path: &Path) -> impl Fn(&str, std::io::Error) -> StoreError + use<> {
    let backing = path.to_owned();
    move |doing, error| backing::meaning(&backing, doing, &error)
}
