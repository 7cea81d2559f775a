//! Looking for letters.
//!
//! Owns filters and pages. It must not know where the log lies or who asks. Invariant: pages taken one after the other,
//! each from where the one before says, hold every letter that fits, once and in order.

use serde::{Deserialize, Serialize};

use super::{Kind, Letter, Unreadable, form::letters};
use crate::log::{self, From, Readable};

/// Most bytes of values in a page, and most bytes that are read for one, so that an answer is small and comes soon.
const MOST: usize = 8 << 20;

/// Most letters of a page.
const LETTERS: usize = 1000;

/// Which letters are looked for; by default all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Query {
    /// Refused by the source, stage or sink of this name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// Of this kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<Kind>,
    /// Refused by the plugin of this name, or whose digest begins with this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plugin: Option<String>,
    /// Refused at this time or later, in milliseconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<i64>,
    /// With this text in their reason, key or value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// From this offset on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<u64>,
    /// In front of this offset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
}

/// Some of the letters that were looked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// In the order of their offsets.
    pub letters: Vec<Letter>,
    /// Where the next page begins; none where this is the last.
    pub next: Option<u64>,
}

impl Query {
    fn fits(&self, letter: &Letter) -> bool {
        let is_in = |text: &str| {
            letter.reason.contains(text)
                || letter.value.shown().contains(text)
                || letter.key.as_ref().is_some_and(|key| key.shown().contains(text))
        };
        self.stage.as_ref().is_none_or(|stage| *stage == letter.by.name)
            && self.kind.is_none_or(|kind| kind == letter.kind)
            && self.plugin.as_ref().is_none_or(|plugin| letter.by.plugin.as_ref().is_some_and(|by| by.is(plugin)))
            && self.since.is_none_or(|since| letter.refused.1 >= since)
            && self.text.as_deref().is_none_or(is_in)
            && self.from.is_none_or(|from| letter.offset >= from)
            && self.until.is_none_or(|until| letter.offset < until)
    }
}

/// The first letters that `query` fits.
///
/// # Errors
/// What the log says, and blocks that hold no letters.
pub fn page(readable: &Readable, query: &Query) -> Result<Page, Unreadable> {
    let first = readable.first();
    let query = Query { from: Some(query.from.unwrap_or_default().max(first)), ..query.clone() };
    let begin = |from: Option<u64>| match (from, query.since) {
        // Times of refusals never fall but with the clock, so that the search may skip what is older.
        (Some(from), Some(since)) if from <= first => readable.log.reader(From::Time(since)),
        (Some(from), _) if from < readable.log.end() => readable.log.reader(From::Offset(from)),
        _ => readable.log.reader(From::End),
    };
    let mut reader = match begin(query.from) {
        Err(log::Error::Gone { first }) => begin(Some(first))?,
        reader => reader?,
    };
    let (mut page, mut held, mut read) = (Page::default(), 0, 0);
    while let Some((offset, block)) = reader.next()? {
        if query.until.is_some_and(|until| offset >= until) {
            break;
        }
        read += block.payload.len();
        for letter in letters(offset, &block)? {
            if readable.struck.contains(letter.offset) || !query.fits(&letter) {
                continue;
            }
            let size = letter.value.shown().len();
            if page.letters.len() == LETTERS || (held > 0 && held + size > MOST) {
                page.next = Some(letter.offset);
                return Ok(page);
            }
            held += size;
            page.letters.push(letter);
        }
        if read > MOST {
            page.next = Some(reader.offset());
            return Ok(page);
        }
    }
    Ok(page)
}

#[cfg(test)]
mod tests {
    use std::{path::Path, sync::Arc};

    use super::*;
    use crate::{
        batch::Batch,
        disk::Sim,
        epoch::Epoch,
        letter::{Origins, PLACE, blocks, with_header, with_reasons},
        log::{Log, Settings},
    };

    /// A log of `count` letters, refused one a second from second 0 on: even ones by `stage`, odd ones not decoded.
    fn filled(count: usize, size: usize) -> Readable {
        let log = Log::open(Arc::new(Sim::new()), Path::new("/log"), None, Settings::default()).unwrap();
        for at in 0..count {
            let value = format!("{at}{}", "x".repeat(size));
            let batch = Batch::of_values([value].iter().collect());
            let reasons = [format!("reason {}", at % 10)].iter().collect();
            let refused = match at % 2 {
                0 => with_reasons(&batch, "stage", &reasons),
                _ => with_reasons(&with_header(&batch, PLACE, &["f:1"].iter().collect()), "in", &reasons),
            };
            for block in blocks(&refused, &origins(), Epoch(1), at as i64 * 1000) {
                log.append(&block).unwrap();
            }
        }
        log.committed(log.sync().unwrap());
        Readable { log, from: 0, born: 0, struck: Arc::default() }
    }

    fn origins() -> Origins {
        super::super::form::tests::origins()
    }

    /// Offsets of all letters that fit, page by page.
    fn all(readable: &Readable, query: &Query) -> (Vec<u64>, usize) {
        let (mut query, mut found, mut pages) = (query.clone(), Vec::new(), 0);
        loop {
            let page = page(readable, &query).unwrap();
            found.extend(page.letters.iter().map(|letter| letter.offset));
            pages += 1;
            match page.next {
                Some(next) => query.from = Some(next),
                None => return (found, pages),
            }
        }
    }

    #[test]
    fn every_filter_finds_exactly_what_it_says() {
        let readable = filled(40, 0);
        let every = |keep: fn(&u64) -> bool| (0..40).filter(keep).collect::<Vec<u64>>();
        let some = |text: &str| Some(text.to_owned());
        for (query, expected) in [
            (Query::default(), every(|_| true)),
            (Query { stage: some("stage"), ..Query::default() }, every(|at| at % 2 == 0)),
            (Query { stage: some("nobody"), ..Query::default() }, vec![]),
            (Query { kind: Some(Kind::Decode), ..Query::default() }, every(|at| at % 2 == 1)),
            (Query { plugin: some("p"), ..Query::default() }, every(|at| at % 2 == 0)),
            (Query { plugin: some("d1"), ..Query::default() }, every(|at| at % 2 == 0)),
            (Query { plugin: some("d2"), ..Query::default() }, vec![]),
            (Query { since: Some(37_001), ..Query::default() }, vec![38, 39]),
            (Query { since: Some(40_000), ..Query::default() }, vec![]),
            (Query { text: some("reason 3"), ..Query::default() }, vec![3, 13, 23, 33]),
            (Query { from: Some(38), ..Query::default() }, vec![38, 39]),
            (Query { from: Some(7), until: Some(9), ..Query::default() }, vec![7, 8]),
            (Query { from: Some(40), ..Query::default() }, vec![]),
            (Query { from: Some(99), ..Query::default() }, vec![]),
            (Query { since: Some(10_000), stage: some("stage"), from: Some(35), ..Query::default() }, vec![36, 38]),
        ] {
            assert_eq!(all(&readable, &query).0, expected, "{query:?}");
        }
        let given_up = Readable { from: 37, ..readable };
        assert_eq!((given_up.records(), all(&given_up, &Query::default()).0), (3, vec![37, 38, 39]));
    }

    #[test]
    fn pages_are_small_and_hold_everything_once() {
        let (many, pages) = all(&filled(2500, 0), &Query::default());
        assert_eq!((many, pages), ((0..2500).collect(), 3));
        let (large, pages) = all(&filled(20, 1 << 20), &Query::default());
        assert_eq!(large, (0..20).collect::<Vec<u64>>());
        assert!(pages > 2, "{pages}");
    }
}
