//! What a plugin answered, as a test reads it.
//!
//! Owns giving outputs what they inherit from their origins. It must not know how they were put out.

use serde_json::Value;

use super::input::Input;
use crate::batch::item;
use crate::contract::types::{Batch, Column, Produced, Refusals};
use crate::header::Headers;

/// What a filter did with the records of a call.
///
/// ```
/// use tidegate_plugin::prelude::*;
///
/// #[filter]
/// fn numbers(record: &Record) -> Result<bool> { Ok(record.text()?.parse::<i64>()? > 0) }
/// # fn main() {
/// let given = testing::filter::<numbers>("", [testing::text("1"), testing::text("-1"), testing::text("one")]);
/// assert_eq!((given.kept, given.refused.len()), (vec![0], 1));
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filtered {
    /// Positions of the records kept.
    pub kept: Vec<usize>,
    /// Records refused.
    pub refused: Vec<Refused>,
}

/// What a map, or an aggregate, put out.
///
/// ```
/// use tidegate_plugin::prelude::*;
///
/// #[map]
/// fn halves(record: &Record) -> Result<Vec<Output>> {
///     let number: i64 = record.json()?;
///     ensure!(number % 2 == 0, "odd");
///     Ok(vec![Output::json(&(number / 2))?; 2])
/// }
/// # fn main() {
/// let given = testing::map::<halves>("", [testing::json(4), testing::json(5)]);
/// assert_eq!((given.outputs.len(), given.refused[0].reason.as_str()), (2, "odd"));
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapped {
    /// Outputs, in order.
    pub outputs: Vec<Out>,
    /// Records, or groups, refused.
    pub refused: Vec<Refused>,
}

/// An output, with what it inherited.
///
/// ```
/// use tidegate_plugin::prelude::*;
///
/// #[map]
/// fn one(_record: &Record) -> Result<Output> { Ok(Output::value("1")) }
/// # fn main() {
/// let given = testing::map::<one>("", [testing::text("x").key("k")]);
/// assert_eq!((given.outputs[0].json(), given.outputs[0].key.as_slice()), (json!(1), &b"k"[..]));
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Out {
    /// Payload.
    pub value: Vec<u8>,
    /// Whether there is none: a tombstone.
    pub null: bool,
    /// Key; empty for none.
    pub key: Vec<u8>,
    /// Event time, in milliseconds since the Unix epoch.
    pub time: i64,
    /// Headers; names are shown lossily.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Name of the side output that it goes to; `None` for the main one.
    pub to: Option<String>,
    /// Position of the record, or group, that it came from.
    pub origin: usize,
}

impl Out {
    /// The payload as JSON.
    ///
    /// # Panics
    /// Where it is none.
    #[track_caller]
    pub fn json(&self) -> Value {
        match serde_json::from_slice(&self.value) {
            Ok(value) => value,
            Err(error) => panic!("{:?} is not JSON: {error}", String::from_utf8_lossy(&self.value)),
        }
    }
}

/// A record, or group, that the plugin refused.
///
/// ```
/// use tidegate_plugin::prelude::*;
///
/// #[filter]
/// fn none(_record: &Record) -> Result<bool> { bail!("never") }
/// # fn main() {
/// let refused = testing::Refused { at: 0, reason: "never".into() };
/// assert_eq!(testing::filter::<none>("", [testing::text("x")]).refused, [refused]);
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Its position in the call.
    pub at: usize,
    /// What the plugin said.
    pub reason: String,
}

pub(super) fn refused(refusals: &Refusals) -> Vec<Refused> {
    let reason = |at| String::from_utf8_lossy(item(&refusals.reasons, at)).into_owned();
    refusals.at.iter().enumerate().map(|(at, of)| Refused { at: *of as usize, reason: reason(at) }).collect()
}

pub(super) fn nothing() -> Produced {
    let column = Column { data: Vec::new(), ends: Vec::new() };
    let records = Batch { values: column, keys: None, timestamps: None, headers: None, more: Vec::new() };
    Produced { records, origins: Some(Vec::new()), ports: None }
}

pub(super) fn mapped(produced: Produced, refusals: &Refusals, names: &[String], inputs: &[Input]) -> Mapped {
    let Produced { records, origins, ports } = produced;
    let origins = origins.unwrap_or_else(|| (0..inputs.len() as u32).collect());
    let named = |name: &str| records.more.iter().find(|column| column.name == name).map(|column| &column.items);
    let byte = |name: &str, at: usize| named(name).and_then(|column| item(column, at).first()).copied().unwrap_or(0);
    let values = Some(&records.values).filter(|values| !values.ends.is_empty());
    let out = |(at, origin): (usize, &u32)| {
        let inputs: &Input = &inputs[*origin as usize];
        let inherits = byte("inherit", at);
        let from = |column: Option<&Column>, bit: u8, inherited: &[u8]| match column {
            Some(column) if inherits & bit == 0 => item(column, at).to_vec(),
            _ => inherited.to_vec(),
        };
        let gave_value = values.is_some() && inherits & 1 == 0;
        let time = records.timestamps.as_ref().filter(|_| inherits & 4 == 0).and_then(|times| times.get(at));
        let headers = from(records.headers.as_ref(), 8, &inputs.headers);
        let headers = Headers::new(&headers);
        let port = ports.as_ref().and_then(|ports| ports.get(at)).copied().unwrap_or(0) as usize;
        Out {
            value: from(values, 1, &inputs.value),
            null: if gave_value { byte("null", at) == 1 } else { inputs.null },
            key: from(records.keys.as_ref(), 2, &inputs.key),
            time: time.copied().unwrap_or(inputs.time),
            headers: headers
                .map(|(name, value)| (String::from_utf8_lossy(name).into_owned(), value.to_vec()))
                .collect(),
            to: port.checked_sub(1).map(|at| names[at].clone()),
            origin: *origin as usize,
        }
    };
    Mapped { outputs: origins.iter().enumerate().map(out).collect(), refused: refused(refusals) }
}
