//! The embedded store, opened: one transaction for many commits, and reading under a transaction of its own.
//!
//! Owns the tables' layout: the table `host` has a row for each pipeline and the head at the empty key; the table
//! `pipeline/NAME` has the pipeline's values. It must not know threads, the lock or the ballast. Invariant: what a reader
//! is given is what was committed, or it is told of damage.

use std::{
    collections::HashMap,
    ops::ControlFlow,
    path::Path,
    sync::{Arc, OnceLock},
    time::Duration,
};

use redb::{Builder, Database, ReadableDatabase, ReadableTable, WriteTransaction};

use super::{
    Commit, Past, Place, Places, StoreError,
    backing::Backing,
    front,
    record::{self, Head, Record, Tally},
    rows::{HEAD, HOST, check_rows, head_of, names, put_head, put_record, read_record, record_of},
    table::{Open, read_table, table, unsealed},
    trouble::{OnDamage, Trouble, guarded, refuse, spared},
    values::{apply, each, missing, table_of},
};
use crate::disk::File;

/// The embedded store in one file.
#[derive(Debug)]
pub(super) struct Engine {
    database: Database,
    backing: Backing,
    /// What failed after a commit stood; the next one is told.
    late: OnceLock<StoreError>,
}

impl Engine {
    /// Opens the embedded store for the generation that the file's first page has. What leads to the values is checked by
    /// [`Engine::head`], the values themselves as they are read.
    pub(super) fn open(file: Arc<dyn File>, path: &Path, generation: u64, cache: usize) -> Result<Self, StoreError> {
        let backing = Backing::new(file, path.to_owned(), generation);
        guarded(&backing.clone(), || {
            if redb::StorageBackend::len(&backing)? == 0 {
                return Err(Trouble::Damaged("it has a first page and nothing else".into()));
            }
            let database = Builder::new().set_cache_size(cache).create_with_backend(backing.clone())?;
            Ok(Self { database, backing, late: OnceLock::new() })
        })
    }

    /// Makes an empty embedded store in a file that has only its first page, of generation 0.
    pub(super) fn create(file: Arc<dyn File>, path: &Path, cache: usize) -> Result<Self, StoreError> {
        let backing = Backing::new(file, path.to_owned(), 0);
        guarded(&backing.clone(), || {
            let database = Builder::new().set_cache_size(cache).create_with_backend(backing.clone())?;
            let engine = Self { database, backing, late: OnceLock::new() };
            engine.write(|rows, _| put_head(rows, Head::default()))?;
            Ok(engine)
        })
    }

    /// The number of the last commit; all that leads to the values is checked.
    pub(super) fn head(&self) -> Result<u64, StoreError> {
        guarded(&self.backing, || Ok(check_rows(&self.database.begin_read()?)?.commit))
    }

    /// Names of the pipelines, ordered.
    pub(super) fn pipelines(&self) -> Result<Vec<String>, StoreError> {
        guarded(&self.backing, || names(&self.database.begin_read()?))
    }

    /// Writes all commits in one transaction, and syncs it. `before` is how long each pipeline's last commit took.
    pub(super) fn commit(&self, commits: &[Commit], before: &HashMap<Arc<str>, Duration>) -> Result<(), StoreError> {
        self.numbered(|rows, transaction, head| {
            for commit in commits {
                let mut record = record_of(rows, &commit.pipeline)?.unwrap_or_default();
                let name = table_of(&commit.pipeline);
                apply(commit, &name, &mut transaction.open_table(table(&name))?, &mut record.tally)?;
                if let Some(epoch) = commit.epoch {
                    let (writes, bytes) = (commit.len() as u64, commit.bytes() as u64);
                    let past = Past { epoch, at: commit.at, took: None, writes, bytes };
                    record.remember(past, before.get(&commit.pipeline).copied());
                }
                put_record(rows, &commit.pipeline, Some(&record), head)?;
            }
            crate::crash::point("commit.in-transaction");
            Ok(())
        })
    }

    /// Forgets a pipeline: its values, its epochs, its name.
    pub(super) fn forget(&self, pipeline: &str) -> Result<(), StoreError> {
        self.numbered(|rows, transaction, head| {
            transaction.delete_table(table(&table_of(pipeline)))?;
            put_record(rows, pipeline, None, head)
        })
    }

    /// Shows the values at `places` to `visit`, in order, until it breaks; returns the pipeline's record as it was then.
    /// Where all of a pipeline was shown, none is missing.
    pub(super) fn scan(
        &self,
        pipeline: &str,
        places: Places<'_>,
        visit: &mut dyn FnMut(Place<'_>, &[u8]) -> ControlFlow<()>,
    ) -> Result<Record, StoreError> {
        guarded(&self.backing, || {
            let transaction = self.database.begin_read()?;
            let record = read_record(&transaction, pipeline)?.unwrap_or_default();
            let mut tally = Tally::default();
            let mut ended = ControlFlow::Continue(());
            each(&transaction, pipeline, places, &mut refuse, |key, value, sum| {
                let Some(place) = Place::decode(key) else {
                    return Err(Trouble::Damaged(format!(
                        "a key of `{pipeline}` is damaged: `{}`",
                        key.escape_ascii()
                    )));
                };
                tally.add(sum);
                ended = visit(place, value);
                Ok(ended)
            })?;
            if places == Places::All && ended.is_continue() && tally != record.tally {
                return Err(missing(pipeline, tally.count, record.tally.count));
            }
            Ok(record)
        })
    }

    /// Shows the values at `places` to `visit`, each with the place's number in the list, all as of one commit.
    pub(super) fn get(
        &self,
        pipeline: &str,
        places: &mut dyn Iterator<Item = Place<'_>>,
        visit: &mut dyn FnMut(usize, &[u8]),
    ) -> Result<(), StoreError> {
        guarded(&self.backing, || {
            let name = table_of(pipeline);
            let Some(values) = read_table(&self.database.begin_read()?, &name)? else { return Ok(()) };
            let mut key = Vec::new();
            for (nth, place) in places.enumerate() {
                key.clear();
                place.encode(&mut key);
                if let Some(sealed) = values.get(&*key)? {
                    visit(nth, unsealed(&name, &key, sealed.value())?.0);
                }
            }
            Ok(())
        })
    }

    /// Writes all that this store holds into an empty one, checking it on the way; what is damaged is left out where
    /// `on_damage` lets it.
    pub(super) fn copy_into(&self, other: &Self, on_damage: OnDamage<'_>) -> Result<(), StoreError> {
        let copied = guarded(&self.backing, || {
            let from = self.database.begin_read()?;
            let commit = check_rows(&from).map(|head| head.commit).or_else(|damage| spared(damage, on_damage))?;
            other.write(|rows, transaction| {
                let mut head = Head { commit, ..Head::default() };
                for pipeline in names(&from)? {
                    let mut record =
                        read_record(&from, &pipeline).or_else(|damage| spared(damage, on_damage))?.unwrap_or_default();
                    let name = table_of(&pipeline);
                    let mut values = transaction.open_table(table(&name))?;
                    let (mut tally, mut sealed) = (Tally::default(), Vec::new());
                    each(&from, &pipeline, Places::All, on_damage, |key, value, _| {
                        tally.add(record::seal(&name, key, value, &mut sealed));
                        values.insert(key, &*sealed)?;
                        Ok(ControlFlow::Continue(()))
                    })?;
                    if tally != record.tally {
                        spared::<()>(missing(&pipeline, tally.count, record.tally.count), on_damage)?;
                        record.tally = tally;
                    }
                    put_record(rows, &pipeline, Some(&record), &mut head)?;
                }
                put_head(rows, head)
            })
        });
        // Damage was read here; what the disk did is told of the file it was done to.
        copied.map_err(|error| other.backing.trouble().unwrap_or(error))
    }

    /// A pipeline's row: its tally and its last epochs.
    pub(super) fn record(&self, pipeline: &str) -> Result<Record, StoreError> {
        guarded(&self.backing, || Ok(read_record(&self.database.begin_read()?, pipeline)?.unwrap_or_default()))
    }

    /// The embedded store's own check of every page.
    pub(super) fn check_pages(&mut self) -> Result<(), StoreError> {
        let Self { database, backing, .. } = self;
        guarded(backing, || {
            if database.check_integrity()? { Ok(()) } else { Err(Trouble::Damaged("pages were out of order".into())) }
        })
    }

    /// One transaction that counts as a commit.
    fn numbered(
        &self,
        act: impl FnOnce(&mut Open<'_>, &WriteTransaction, &mut Head) -> Result<(), Trouble>,
    ) -> Result<(), StoreError> {
        self.late.get().cloned().map_or(Ok(()), Err)?;
        let number = guarded(&self.backing, || {
            self.write(|rows, transaction| {
                let mut head = head_of(rows.get(HEAD)?.as_ref().map(|sealed| sealed.value()))?;
                head.commit += 1;
                act(rows, transaction, &mut head)?;
                put_head(rows, head)?;
                Ok(head.commit)
            })
        })?;
        if let Err(error) = front::set_commit(&*self.backing.file, number) {
            self.late.get_or_init(|| self.backing.meaning("noting the commit", &error));
        }
        Ok(())
    }

    fn write<T>(&self, act: impl FnOnce(&mut Open<'_>, &WriteTransaction) -> Result<T, Trouble>) -> Result<T, Trouble> {
        self.backing.fence().map_err(redb::StorageError::Io)?;
        let mut transaction = self.database.begin_write()?;
        // A commit in two phases that also says which pages are free, so that no start after a crash has to read the whole
        // file, nor to write where the disk is full.
        transaction.set_quick_repair(true);
        let done = act(&mut transaction.open_table(table(HOST))?, &transaction)?;
        transaction.commit()?;
        Ok(done)
    }
}
