//! Where a group begins that has read nothing yet.
//!
//! Owns the words for it. Invariant: what is printed parses to the same.

use std::{borrow::Cow, fmt, str::FromStr};

use jiff::Timestamp;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Where a group begins that has read nothing yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// The first records that are still there.
    #[default]
    Beginning,
    /// Behind what has been written before the group was there.
    End,
    /// The record with this offset in the log of each writer.
    Offset(u64),
    /// The first record that was written at this time, in milliseconds since the Unix epoch, or later.
    Time(i64),
}

/// What a start should have looked like.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {EXPECTED}, found `{0}`")]
pub struct BadStart(String);

const EXPECTED: &str = "`beginning`, `end`, an offset such as `offset 1200` or a time such as `2026-01-31T23:59:59Z`";

impl FromStr for Start {
    type Err = BadStart;

    fn from_str(text: &str) -> Result<Self, BadStart> {
        let bad = || BadStart(text.to_owned());
        match text.trim() {
            "beginning" => Ok(Self::Beginning),
            "end" => Ok(Self::End),
            other => match other.strip_prefix("offset ") {
                Some(offset) => offset.trim().parse().map(Self::Offset).map_err(|_| bad()),
                None => other.parse().map(|time: Timestamp| Self::Time(time.as_millisecond())).map_err(|_| bad()),
            },
        }
    }
}

impl fmt::Display for Start {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Beginning => to.write_str("beginning"),
            Self::End => to.write_str("end"),
            Self::Offset(offset) => write!(to, "offset {offset}"),
            Self::Time(time) => match Timestamp::from_millisecond(*time) {
                Ok(time) => time.fmt(to),
                Err(_) => Err(fmt::Error),
            },
        }
    }
}

impl Serialize for Start {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Start {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Text;
        impl serde::de::Visitor<'_> for Text {
            type Value = Start;

            fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
                to.write_str(EXPECTED)
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Start, E> {
                text.parse().map_err(E::custom)
            }
        }
        from.deserialize_str(Text)
    }
}

impl JsonSchema for Start {
    fn schema_name() -> Cow<'static, str> {
        "Start".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({
            "type": "string",
            "pattern": r"^(beginning|end|offset [0-9]+|[0-9]{4}-.*)$",
            "examples": ["beginning", "end", "offset 1200", "2026-01-31T23:59:59Z"],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_parses_to_the_same() {
        for text in ["beginning", "end", "offset 1200", "2026-01-31T23:59:59Z"] {
            assert_eq!(text.parse::<Start>().unwrap().to_string(), text);
        }
        let told = "yesterday".parse::<Start>().unwrap_err().to_string();
        assert!(told.contains("`offset 1200`") && told.ends_with("found `yesterday`"), "{told}");
    }
}
