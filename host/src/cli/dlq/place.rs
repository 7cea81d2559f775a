//! Where letters are read: in the folder of a host that does not run, or from one that does.
//!
//! Owns which of the two it is: whoever holds the lock on the folder is asked. Invariant: the folder is only touched with
//! its lock held.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use hyper::Method;

use super::super::{Answer, Exit, Trouble, ask::Ask};
use crate::{
    api::Letterbox,
    config::codes,
    disk::RealDisk,
    letter::{self, Letter, Page, Query},
    pipeline::letters::{Kept, Resting},
    store::{Lock, Settings, Store, StoreError},
};

/// What gives the letters that a query asks for, a page at a time.
type Pages<'a> = Box<dyn Fn(&Query) -> Result<Page, Box<Answer>> + 'a>;

/// Where letters are.
pub(super) enum Place {
    /// Nowhere: no host has ever kept anything in the folder.
    Nowhere,
    /// In a folder that no host uses.
    Folder(Resting),
    /// With the host that uses the folder.
    Host(PathBuf),
}

fn failed(error: &anyhow::Error) -> Box<Answer> {
    Box::new(Answer::failed(Exit::No, Trouble::of(format!("{error:#}"))))
}

fn unusable(error: &StoreError) -> Box<Answer> {
    Box::new(Answer::failed(Exit::Environment, Trouble::of(error.to_string()).code(codes::STATE_UNUSABLE)))
}

impl Place {
    /// Where the letters of the folder `state` are, or of the host on `socket` if one uses it.
    pub(super) fn open(state: &Path, socket: &Path) -> Result<Self, Box<Answer>> {
        if !state.join("store").exists() {
            return Ok(Self::Nowhere);
        }
        match Lock::take(state) {
            Ok(lock) => Self::with(state, lock),
            Err(StoreError::Held { .. }) => Ok(Self::Host(socket.to_owned())),
            Err(error) => Err(unusable(&error)),
        }
    }

    /// The folder `state`, which no host may use.
    pub(super) fn closed(state: &Path) -> Result<Self, Box<Answer>> {
        match Self::open(state, Path::new(""))? {
            Self::Host(_) => {
                let trouble = Trouble::of(format!("give up letters in {}: a host uses it", state.display()));
                let cure = "end that host with `tidegate drain` first";
                Err(Box::new(Answer::failed(Exit::Environment, trouble.code(codes::STATE_UNUSABLE).cure(cure))))
            }
            place => Ok(place),
        }
    }

    fn with(state: &Path, lock: Lock) -> Result<Self, Box<Answer>> {
        let store = Store::open(Arc::new(RealDisk), state, lock, Settings::default());
        let store = Arc::new(store.map_err(|error| unusable(&error))?);
        Ok(Self::Folder(Resting { disk: Arc::new(RealDisk), store, state: state.to_owned() }))
    }

    /// What is kept of each pipeline.
    pub(super) fn boxes(&self) -> Result<Vec<Letterbox>, Box<Answer>> {
        match self {
            Self::Nowhere => Ok(Vec::new()),
            Self::Host(socket) => Ask::at(socket).ask(Method::GET, "/api/v1/letters"),
            Self::Folder(resting) => {
                let mut boxes = Vec::new();
                for pipeline in resting.pipelines().map_err(|error| failed(&error))? {
                    let Kept { pipeline, letters } = resting.of(&pipeline).map_err(|error| failed(&error))?;
                    boxes.extend(letters.map(|letters| Letterbox::of(&pipeline, &letters)));
                }
                Ok(boxes)
            }
        }
    }

    /// Shows every letter of `pipeline` that `query` fits to `visit`, until that wants no more; whether it still does.
    pub(super) fn each(
        &self,
        pipeline: &str,
        query: &Query,
        visit: &mut dyn FnMut(Letter) -> bool,
    ) -> Result<bool, Box<Answer>> {
        let pages: Pages<'_> = match self {
            Self::Nowhere => Box::new(|_| Ok(Page::default())),
            Self::Host(socket) => Box::new(|query| {
                let query = serde_urlencoded::to_string(query).map_err(|error| failed(&error.into()))?;
                Ask::at(socket).ask(Method::GET, &format!("/api/v1/letters/{pipeline}?{query}"))
            }),
            Self::Folder(resting) => match resting.of(pipeline).map_err(|error| failed(&error))?.letters {
                None => Box::new(|_| Ok(Page::default())),
                Some(letters) => {
                    Box::new(move |query| letter::page(&letters, query).map_err(|error| failed(&error.into())))
                }
            },
        };
        let mut query = query.clone();
        loop {
            let page = pages(&query)?;
            for letter in page.letters {
                if !visit(letter) {
                    return Ok(false);
                }
            }
            match page.next {
                Some(next) => query.from = Some(next),
                None => return Ok(true),
            }
        }
    }

    /// The first letter of `pipeline` that was refused at `time` or later, or the end of them.
    pub(super) fn first_since(&self, pipeline: &str, time: i64) -> Result<u64, Box<Answer>> {
        let mut first = None;
        self.each(pipeline, &Query { since: Some(time), ..Query::default() }, &mut |letter| {
            first = Some(letter.offset);
            false
        })?;
        Ok(first.unwrap_or(u64::MAX))
    }

    /// The letters of `pipeline` that `query` fits.
    pub(super) fn offsets(&self, pipeline: &str, query: &Query) -> Result<Vec<u64>, Box<Answer>> {
        let mut offsets = Vec::new();
        self.each(pipeline, query, &mut |letter| {
            offsets.push(letter.offset);
            true
        })?;
        Ok(offsets)
    }

    /// How many letters of `pipeline` there are in front of `before`, or at all; none where nobody knows.
    pub(super) fn before(&self, pipeline: &str, before: Option<u64>) -> Result<Option<u64>, Box<Answer>> {
        let Self::Folder(resting) = self else { return Ok(Some(0)) };
        let kept = resting.of(pipeline).map_err(|error| failed(&error))?;
        let count = |letters: crate::log::Readable| {
            let (first, end) = (letters.first(), letters.log.end());
            let until = before.map_or(end, |before| before.clamp(first, end));
            until - first - letters.struck.count(first..until)
        };
        Ok(kept.letters.map(count))
    }

    /// Gives up the letters of `pipeline` in front of `before`, or all of them.
    pub(super) fn purge(&self, pipeline: &str, before: Option<u64>) -> Result<(), Box<Answer>> {
        let Self::Folder(resting) = self else { return Ok(()) };
        wait(resting.purge(pipeline, before))
    }

    /// Gives up these letters of `pipeline`.
    pub(super) fn strike(&self, pipeline: &str, offsets: &[u64]) -> Result<(), Box<Answer>> {
        let Self::Folder(resting) = self else { return Ok(()) };
        wait(resting.strike(pipeline, offsets))
    }
}

fn wait(change: impl Future<Output = anyhow::Result<()>>) -> Result<(), Box<Answer>> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(|error| failed(&error.into()))?;
    runtime.block_on(change).map_err(|error| failed(&error))
}
