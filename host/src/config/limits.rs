//! What a plugin may use in one call.
//!
//! Owns the figures and their defaults. It must not know how they are enforced.

use std::{fmt, str::FromStr, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::unit::{Size, Span};

/// What a stage's plugin may use.
///
/// A plugin that parses and writes JSON spends about 3,000 units of fuel and 10 a byte on a record, so that the
/// defaults leave it more than ten times what it needs, and an endless loop still ends within a second or so: fuel has
/// to run out long before `time`, which is there for a host that is itself slow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Fuel for a call, by the records (or groups) and bytes that it is given.
    pub fuel: Fuel,
    /// Linear memory of each instance.
    pub memory: Size,
    /// Wall clock of one call.
    pub time: Span,
    /// What one call may put out.
    pub output: Size,
    /// What one call may log.
    pub logs: Size,
    /// State of one group.
    pub state: Size,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            fuel: Fuel { record: 50_000, byte: 200 },
            memory: Size(64 << 20),
            time: Span(Duration::from_secs(10)),
            output: Size(8 << 20),
            logs: Size(64 << 10),
            state: Size(64 << 10),
        }
    }
}

/// Fuel of a call, written `50_000/record + 200/byte`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fuel {
    /// Units for each record (or group).
    pub record: u64,
    /// Units for each byte.
    pub byte: u64,
}

impl Fuel {
    /// Units for a call that is given so many records and bytes.
    pub fn of(self, records: usize, bytes: usize) -> u64 {
        let part = |each: u64, count: usize| each.saturating_mul(u64::try_from(count).unwrap_or(u64::MAX));
        part(self.record, records).saturating_add(part(self.byte, bytes))
    }
}

/// What a fuel limit should have looked like.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected fuel such as `50_000/record + 200/byte`, found `{0}`")]
pub struct BadFuel(String);

impl FromStr for Fuel {
    type Err = BadFuel;

    fn from_str(text: &str) -> Result<Self, BadFuel> {
        let bad = || BadFuel(text.to_owned());
        let (mut record, mut byte) = (None, None);
        for part in text.split('+') {
            let (count, unit) = part.trim().split_once('/').ok_or_else(bad)?;
            let count: u64 = count.trim().replace('_', "").parse().map_err(|_| bad())?;
            let seen = match unit.trim() {
                "record" => record.replace(count),
                "byte" => byte.replace(count),
                _ => return Err(bad()),
            };
            if seen.is_some() {
                return Err(bad());
            }
        }
        let fuel = Self { record: record.unwrap_or(0), byte: byte.unwrap_or(0) };
        if fuel.record == 0 { Err(bad()) } else { Ok(fuel) }
    }
}

impl fmt::Display for Fuel {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{}/record + {}/byte", self.record, self.byte)
    }
}

impl Serialize for Fuel {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Fuel {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Fuel {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Fuel".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "Fuel for a call, by the records (or groups) and bytes that it is given.",
            "examples": ["50_000/record + 200/byte"],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fuel_is_read_in_either_order_and_printed_the_same() {
        for text in ["50_000/record + 200/byte", "200/byte+50000/record"] {
            assert_eq!(text.parse::<Fuel>().unwrap().to_string(), "50000/record + 200/byte");
        }
        assert_eq!("7/record".parse::<Fuel>().unwrap().of(3, 100), 21);
    }

    #[test]
    fn what_is_no_fuel_is_refused() {
        for text in ["", "5", "5/byte", "5/record + 6/record", "-1/record", "5/call"] {
            assert!(text.parse::<Fuel>().is_err(), "{text}");
        }
    }
}
