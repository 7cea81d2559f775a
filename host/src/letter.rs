//! Dead letters: records that could not be processed, kept with the reason.
//!
//! Owns what a letter is, the headers by which a refused record says who refused it and why, and its form in a log. It must
//! not know who refuses, how the log is written, or who reads. Invariant: the record in a letter is the record that was
//! refused, byte for byte; what says why stands beside it.

mod form;
mod record;
mod search;

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    batch::{Batch, Column, ColumnBuilder, push_header},
    secret::mask,
};

pub use form::{Unreadable, blocks};
pub use search::{Page, Query, page};

/// Header that names the source, stage or sink that refused a record.
pub const REFUSED_BY: &str = "tidegate-refused-by";
/// Header that says why it did.
pub const REASON: &str = "tidegate-reason";
/// Header that says where in its input a record stood that could not be decoded.
pub const PLACE: &str = "tidegate-place";

/// Who refuses records, by name.
pub type Origins = Arc<BTreeMap<String, Origin>>;

/// A source, stage or sink that refuses records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Its name.
    pub name: String,
    /// What it is.
    pub part: Part,
    /// The plugin of a stage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin: Option<Plugin>,
}

/// What refuses records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// A source, which could not decode them.
    Source,
    /// A stage, whose plugin turned them down.
    Stage,
    /// A sink, whose other side does not take them.
    Sink,
}

/// The plugin that refused a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plugin {
    /// Its name, as its author gave it.
    pub name: String,
    /// Its version, as its author gave it.
    pub version: String,
    /// SHA-256 of its bytes, in hexadecimal.
    pub digest: String,
}

impl Plugin {
    /// The same records, all of them refused by this.
    pub fn beside(&self, batch: Batch) -> Batch {
        // Names always are JSON.
        let item = serde_json::to_vec(self).unwrap_or_default();
        let column = Column::repeat(&item, batch.len());
        batch.clone().with_named(Arc::from(BY), column).unwrap_or(batch)
    }

    /// Which one refused record `at` of a batch, where that is known.
    fn of(batch: &Batch, at: usize) -> Option<Self> {
        serde_json::from_slice(batch.named(BY)?.get(at)?).ok()
    }

    /// Whether `named` is its name, or the beginning of its digest.
    fn is(&self, named: &str) -> bool {
        self.name == named || (!named.is_empty() && self.digest.starts_with(named))
    }
}

/// Why a record became a letter, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// It was turned down.
    Refused,
    /// It could not be decoded; the letter holds its raw bytes.
    Decode,
    /// The plugin panics or traps whenever it gets it.
    Trap,
    /// It uses more fuel than a call has.
    OutOfFuel,
    /// It takes longer than a call may.
    Deadline,
    /// It makes the plugin want more memory than it may have.
    MemoryLimit,
    /// It makes the plugin put out or log more than it may.
    OutputLimit,
    /// The plugin's answer does not fit.
    BadReply,
    /// It makes the plugin exit.
    Exit,
    /// The breaker of its stage or sink was open: nobody has tried it.
    BreakerOpen,
    /// The host fell whenever its stage was called with it.
    HostCrash,
}

/// Name of the further column of refused records that says their kind, in one byte each: its place in [`KINDS`]. Absent
/// or empty for what a source or sink refused.
const WHY: &str = "why";

/// Name of the further column of refused records that says which plugin refused them, as JSON: a stage may have had another
/// one since.
const BY: &str = "by";

/// A byte never changes its meaning, for it is kept.
const KINDS: [Kind; 11] = [
    Kind::Refused,
    Kind::Decode,
    Kind::Trap,
    Kind::OutOfFuel,
    Kind::Deadline,
    Kind::MemoryLimit,
    Kind::OutputLimit,
    Kind::BadReply,
    Kind::Exit,
    Kind::BreakerOpen,
    Kind::HostCrash,
];

impl Kind {
    /// Why record `at` of a batch of refused ones is there; none where no stage refused it.
    pub fn of(batch: &Batch, at: usize) -> Option<Self> {
        match batch.named(WHY)?.get(at)? {
            [byte] => KINDS.get(usize::from(*byte)).copied(),
            _ => None,
        }
    }

    /// The same records, all of them refused for this.
    pub fn beside(self, batch: Batch) -> Batch {
        let Some(byte) = KINDS.iter().position(|known| *known == self).and_then(|at| u8::try_from(at).ok()) else {
            return batch;
        };
        let column = Column::repeat(&[byte], batch.len());
        batch.clone().with_named(Arc::from(WHY), column).unwrap_or(batch)
    }

    /// All of them.
    pub const ALL: [Self; 11] = KINDS;

    /// What it is called in one word, in files and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Decode => "decode",
            Self::Trap => "trap",
            Self::OutOfFuel => "out_of_fuel",
            Self::Deadline => "deadline",
            Self::MemoryLimit => "memory_limit",
            Self::OutputLimit => "output_limit",
            Self::BadReply => "bad_reply",
            Self::Exit => "exit",
            Self::BreakerOpen => "breaker_open",
            Self::HostCrash => "host_crash",
        }
    }
}

/// Bytes as people and programs read them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Data {
    /// UTF-8.
    Text(String),
    /// Anything else.
    Bytes {
        /// In hexadecimal.
        hex: String,
    },
}

/// One dead letter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Letter {
    /// Its place in the log of its pipeline, which names it.
    pub offset: u64,
    /// Who refused the record.
    #[serde(flatten)]
    pub by: Origin,
    /// Why, in a word.
    pub kind: Kind,
    /// Why.
    pub reason: String,
    /// Where in its input it stood, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// The epoch that it was committed with.
    pub epoch: u64,
    /// When it was refused first and last, in milliseconds since the Unix epoch.
    pub refused: (i64, i64),
    /// How often it was refused.
    pub attempts: u32,
    /// The record's payload.
    pub value: Data,
    /// Its key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Data>,
    /// Its event time, in milliseconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<i64>,
    /// Its headers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(Data, Data)>,
    /// Its id, in hexadecimal, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

impl Data {
    /// Bytes, as text where they are.
    pub fn of(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::Bytes { hex: hex(bytes) },
        }
    }

    /// The text, or the hexadecimal digits.
    pub fn shown(&self) -> Cow<'_, str> {
        match self {
            Self::Text(text) => text.into(),
            Self::Bytes { hex } => format!("0x{hex}").into(),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The same records with one more header each.
pub fn with_header(batch: &Batch, name: &str, values: &Column) -> Batch {
    let blank = Column::blank(batch.len());
    let mut headers = ColumnBuilder::default();
    for (item, value) in batch.headers().unwrap_or(&blank).iter().zip(values.iter()) {
        headers.open().extend_from_slice(item);
        push_header(headers.open(), name.as_bytes(), value);
        headers.close();
    }
    batch.clone().with_headers(headers.finish()).unwrap_or_else(|_| batch.clone())
}

/// A reason with its secrets masked.
fn hidden(reason: &[u8]) -> Cow<'_, [u8]> {
    match std::str::from_utf8(reason).map(mask) {
        Ok(Cow::Owned(masked)) => masked.into_bytes().into(),
        _ => reason.into(),
    }
}

/// Refused records with two more headers: who refused them, and why. Secrets in the reasons are masked: what a plugin says
/// may hold one that it was told.
pub fn with_reasons(batch: &Batch, by: &str, reasons: &Column) -> Batch {
    let reasons = &reasons.iter().map(hidden).collect();
    with_header(&with_header(batch, REFUSED_BY, &Column::repeat(by.as_bytes(), batch.len())), REASON, reasons)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn why_a_record_was_refused_can_be_read_beside_it() {
        let batch = || Batch::of_values(["a", "b"].iter().collect());
        for kind in KINDS {
            let beside = kind.beside(batch());
            assert_eq!((Kind::of(&beside, 1), Kind::of(&beside, 2)), (Some(kind), None));
        }
        assert_eq!(Kind::of(&batch(), 0), None);
        let mixed = Batch::concat(&[batch(), Kind::Refused.beside(batch())]);
        assert_eq!([0, 2].map(|at| Kind::of(&mixed, at)), [None, Some(Kind::Refused)]);
    }

    #[test]
    fn a_secret_in_a_reason_is_masked() {
        crate::secret::remember("hunter2-of-letters");
        let reasons = ["told hunter2-of-letters", "told nothing"].iter().collect();
        let refused = with_reasons(&Batch::of_values(["a", "b"].iter().collect()), "s", &reasons);
        let reason = |at: usize| {
            let headers = crate::batch::Headers::new(refused.headers().unwrap().get(at).unwrap());
            headers.filter(|(name, _)| *name == REASON.as_bytes()).map(|(_, value)| value.to_vec()).collect::<Vec<_>>()
        };
        assert_eq!((reason(0), reason(1)), (vec![b"told ***".to_vec()], vec![b"told nothing".to_vec()]));
    }
}
