//! Which file each record of a batch goes to.
//!
//! Owns the grouping of records by path and the bound on different paths. It must not touch the file system.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    hash::BuildHasher as _,
    time::Duration,
};

use tokio::time::Instant;

use super::{
    super::Refused,
    template::{Filling, Template},
};
use crate::{
    batch::{Batch, FIELD},
    codec::scan::Pointers,
};

/// Different paths in an hour: more is a mistake in the template, and fills the disk with inodes.
const MOST_PATHS: usize = 10_000;
const HOUR: Duration = Duration::from_secs(3600);

/// What it takes to choose the path of a record.
#[derive(Debug)]
pub(super) struct Choice {
    template: Template,
    pointers: Pointers,
    names: Vec<String>,
    seen: HashSet<u64>,
    since: Instant,
    hasher: foldhash::quality::RandomState,
}

impl Choice {
    pub(super) fn new(template: Template) -> Self {
        let names = template.pointers();
        Self {
            pointers: Pointers::new(&names),
            names,
            template,
            seen: HashSet::new(),
            since: Instant::now(),
            hasher: foldhash::quality::RandomState::default(),
        }
    }

    /// Which records go to which path, in the order in which the paths first appear; `refused` gets those that go to none.
    pub(super) fn groups(&mut self, batch: &Batch, refused: &mut Vec<Refused>) -> Vec<(String, Vec<u32>)> {
        if self.since.elapsed() >= HOUR {
            self.seen.clear();
            self.since = Instant::now();
        }
        let columns: Vec<_> = self.names.iter().map(|name| batch.named(&format!("{FIELD}{name}"))).collect();
        let scan = columns.iter().any(Option::is_none);
        let mut groups = Vec::<(String, Vec<u32>)>::new();
        let mut found = HashMap::<String, usize>::new();
        let (mut path, mut fields) = (String::new(), vec![Vec::new(); self.names.len()]);
        for (at, value) in batch.values().iter().enumerate() {
            for (field, column) in fields.iter_mut().zip(&columns) {
                field.clear();
                field.extend_from_slice(column.and_then(|column| column.get(at)).unwrap_or_default());
            }
            if scan {
                let set = |i: usize, raw: &[u8]| {
                    if let (Some(field), Some(None)) = (fields.get_mut(i), columns.get(i)) {
                        field.clear();
                        field.extend_from_slice(raw);
                    }
                };
                // A value that is no JSON has no fields, which is what the refusal then says.
                let _ = self.pointers.scan(value, set);
            }
            let record = Record {
                key: batch.keys().and_then(|keys| keys.get(at)).unwrap_or_default(),
                time: batch.timestamps().and_then(|times| times.get(at).copied()),
                names: &self.names,
                fields: &fields,
            };
            let outcome = self.template.render(&record, &mut path).and_then(|()| {
                let hash = self.hasher.hash_one(&path);
                if self.seen.len() >= MOST_PATHS && !self.seen.contains(&hash) {
                    return Err(format!("more than {MOST_PATHS} different paths in an hour"));
                }
                self.seen.insert(hash);
                Ok(())
            });
            match outcome {
                Err(reason) => refused.push(Refused { at: at as i64, reason: format!("confinement: {reason}") }),
                Ok(()) => {
                    let group = match found.get(&path) {
                        Some(&group) => group,
                        None => {
                            found.insert(path.clone(), groups.len());
                            groups.push((path.clone(), Vec::new()));
                            groups.len() - 1
                        }
                    };
                    if let Some((_, list)) = groups.get_mut(group) {
                        list.push(at as u32);
                    }
                }
            }
        }
        groups
    }
}

/// One record, as a template sees it.
struct Record<'a> {
    key: &'a [u8],
    time: Option<i64>,
    names: &'a [String],
    fields: &'a [Vec<u8>],
}

impl Filling for Record<'_> {
    fn key(&self) -> &[u8] {
        self.key
    }

    fn time(&self) -> Option<i64> {
        self.time
    }

    fn field(&self, pointer: &str) -> Option<Cow<'_, [u8]>> {
        let at = self.names.iter().position(|name| name == pointer)?;
        self.fields.get(at).map(|raw| Cow::Borrowed(raw.as_slice()))
    }
}
