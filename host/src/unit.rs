//! Quantities as people write them: `250ms`, `1MiB`, `50_000/s`.
//!
//! Owns the parsing and printing of durations, sizes and rates. It must not know which setting they belong to.

use std::{fmt, str::FromStr, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What a quantity should have looked like.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}, found `{found}`")]
pub struct BadUnit {
    expected: &'static str,
    found: String,
}

fn split(text: &str, expected: &'static str) -> Result<(f64, String), BadUnit> {
    let bad = || BadUnit { expected, found: text.to_owned() };
    let clean: String = text.trim().chars().filter(|c| *c != '_').collect();
    let at = clean.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(clean.len());
    let number: f64 = clean[..at].parse().map_err(|_| bad())?;
    Ok((number, clean[at..].trim().to_owned()))
}

const SPAN: &str = "a duration such as `250ms`, `5s`, `2m`, `1h` or `7d`";
const SIZE: &str = "a size such as `512B`, `64KiB`, `1MiB` or `2GiB`";
const SHARE: &str = "a share such as `1%` or `0.5%`";
const RATE: &str = "a rate such as `50_000/s`, `10/m` or `3/h`";

macro_rules! as_text {
    ($name:ident, $expected:expr, $pattern:literal, $example:literal) => {
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                struct Text;
                impl serde::de::Visitor<'_> for Text {
                    type Value = $name;

                    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
                        to.write_str($expected)
                    }
                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$name, E> {
                        text.parse().map_err(E::custom)
                    }
                }
                from.deserialize_str(Text)
            }
        }
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }
        impl JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "pattern": $pattern, "examples": [$example] })
            }
        }
    };
}

/// A stretch of time, written `250ms`, `5s`, `2m`, `1h` or `7d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

impl Span {
    /// Whole milliseconds, at most `i64::MAX`.
    pub fn millis(self) -> i64 {
        i64::try_from(self.0.as_millis()).unwrap_or(i64::MAX)
    }
}

impl FromStr for Span {
    type Err = BadUnit;

    fn from_str(text: &str) -> Result<Self, BadUnit> {
        let bad = || BadUnit { expected: SPAN, found: text.to_owned() };
        let (number, unit) = split(text, SPAN)?;
        let seconds = match unit.as_str() {
            "us" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            _ => return Err(bad()),
        };
        Duration::try_from_secs_f64(number * seconds).map(Self).map_err(|_| bad())
    }
}

impl fmt::Display for Span {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0.as_micros();
        for (unit, size) in
            [("d", 86_400_000_000), ("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000), ("ms", 1000)]
        {
            if micros >= size && micros.is_multiple_of(size) {
                return write!(to, "{}{unit}", micros / size);
            }
        }
        if micros == 0 { write!(to, "0s") } else { write!(to, "{micros}us") }
    }
}

as_text!(Span, SPAN, r"^[0-9_.]+ *(us|ms|s|m|h|d)$", "5s");

/// A number of bytes, written `512B`, `64KiB`, `1MiB`, `2GiB` (or `KB`, `MB`, `GB` for powers of ten).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl Size {
    /// The number of bytes as this machine counts.
    pub fn bytes(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl FromStr for Size {
    type Err = BadUnit;

    fn from_str(text: &str) -> Result<Self, BadUnit> {
        let (number, unit) = split(text, SIZE)?;
        let factor: u64 = match unit.as_str() {
            "B" => 1,
            "KB" => 1000,
            "MB" => 1_000_000,
            "GB" => 1_000_000_000,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            "TiB" => 1 << 40,
            _ => return Err(BadUnit { expected: SIZE, found: text.to_owned() }),
        };
        Ok(Self((number * factor as f64) as u64))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, shift) in [("GiB", 30), ("MiB", 20), ("KiB", 10)] {
            if self.0 >> shift > 0 && self.0.is_multiple_of(1 << shift) {
                return write!(to, "{}{unit}", self.0 >> shift);
            }
        }
        write!(to, "{}B", self.0)
    }
}

as_text!(Size, SIZE, r"^[0-9_.]+ *(B|KB|MB|GB|KiB|MiB|GiB|TiB)$", "1MiB");

/// So many in a stretch of time, written `50_000/s` or `10/m`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// How many.
    pub count: f64,
    /// In how long.
    pub per: Duration,
}

impl Rate {
    /// How many a second.
    pub fn per_second(self) -> f64 {
        self.count / self.per.as_secs_f64()
    }
}

impl FromStr for Rate {
    type Err = BadUnit;

    fn from_str(text: &str) -> Result<Self, BadUnit> {
        let bad = || BadUnit { expected: RATE, found: text.to_owned() };
        let (count, unit) = split(text, RATE)?;
        let per = match unit.as_str() {
            "/s" => 1,
            "/m" => 60,
            "/h" => 3600,
            _ => return Err(bad()),
        };
        if count <= 0.0 {
            return Err(bad());
        }
        Ok(Self { count, per: Duration::from_secs(per) })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.per.as_secs() {
            3600 => "h",
            60 => "m",
            _ => "s",
        };
        write!(to, "{}/{unit}", self.count)
    }
}

as_text!(Rate, RATE, r"^[0-9_.]+ */(s|m|h)$", "50_000/s");

/// A part of a whole, written `1%` or `0.5%`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share(
    /// Between 0 and 1.
    pub f64,
);

impl FromStr for Share {
    type Err = BadUnit;

    fn from_str(text: &str) -> Result<Self, BadUnit> {
        let bad = || BadUnit { expected: SHARE, found: text.to_owned() };
        let (count, unit) = split(text, SHARE)?;
        if unit == "%" && (0.0..=100.0).contains(&count) { Ok(Self(count / 100.0)) } else { Err(bad()) }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{}%", self.0 * 100.0)
    }
}

as_text!(Share, SHARE, r"^[0-9_.]+ *%$", "1%");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_parses_to_the_same() {
        for text in ["250ms", "5s", "2m", "1h", "7d", "0s", "15us"] {
            assert_eq!(text.parse::<Span>().unwrap().to_string(), text);
        }
        for text in ["512B", "64KiB", "1MiB", "3GiB"] {
            assert_eq!(text.parse::<Size>().unwrap().to_string(), text);
        }
        assert_eq!("50_000/s".parse::<Rate>().unwrap().to_string(), "50000/s");
        for text in ["0%", "0.5%", "1%", "100%"] {
            assert_eq!(text.parse::<Share>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_quantity_is_told_what_one_looks_like() {
        let error = "5 parsecs".parse::<Span>().unwrap_err().to_string();
        assert_eq!(error, "expected a duration such as `250ms`, `5s`, `2m`, `1h` or `7d`, found `5 parsecs`");
        assert!("".parse::<Size>().is_err() && "1e9s".parse::<Span>().is_err() && "0/s".parse::<Rate>().is_err());
        assert!("101%".parse::<Share>().is_err() && "1".parse::<Share>().is_err());
    }
}
