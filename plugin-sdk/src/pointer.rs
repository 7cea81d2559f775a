//! JSON pointers (RFC 6901) that come from a configuration.
//!
//! Owns finding what one points at in a single pass. It must not know records. Invariant: no document is built, and
//! what is found is a slice of what was searched.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// A JSON pointer, such as `/labels/host`, checked when the configuration is read.
///
/// ```
/// use tidegate_plugin::prelude::*;
///
/// #[derive(Deserialize, JsonSchema)]
/// struct Config { field: Pointer }
///
/// #[filter]
/// fn present(config: &Config, record: &Record) -> Result<bool> {
///     Ok(record.pick(&config.field)?.is_some())
/// }
/// # fn main() {
/// let records = [testing::json(r#"{ "a": { "b": 1 } }"#), testing::json(r#"{ "a": {} }"#)];
/// assert_eq!(testing::filter::<present>(r#"{ "field": "/a/b" }"#, records).kept, [0]);
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, schemars::JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Pointer {
    text: String,
    steps: Vec<String>,
}

impl Pointer {
    /// The last step of the pointer, unescaped: the name of the field that it points at.
    pub fn name(&self) -> &str {
        self.steps.last().map_or("", String::as_str)
    }

    /// Raw JSON of what it points at in `json`.
    pub(crate) fn find<'a>(&self, json: &'a [u8]) -> serde_json::Result<Option<&'a str>> {
        let mut reader = serde_json::Deserializer::from_slice(json);
        let found = Find { steps: &self.steps }.deserialize(&mut reader)?;
        reader.end()?;
        Ok(found)
    }
}

impl TryFrom<String> for Pointer {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if !text.is_empty() && !text.starts_with('/') {
            return Err(format!("a JSON pointer begins with a slash: `/{text}`"));
        }
        let steps = text.split('/').skip(1).map(|step| step.replace("~1", "/").replace("~0", "~")).collect();
        Ok(Self { text, steps })
    }
}

impl From<Pointer> for String {
    fn from(pointer: Pointer) -> Self {
        pointer.text
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[derive(Clone, Copy)]
struct Find<'s> {
    steps: &'s [String],
}

impl<'de> DeserializeSeed<'de> for Find<'_> {
    type Value = Option<&'de str>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        if self.steps.is_empty() {
            return <&RawValue>::deserialize(reader).map(|raw| Some(raw.get()));
        }
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Find<'_> {
    type Value = Option<&'de str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Self::Value, A::Error> {
        let Some((step, steps)) = self.steps.split_first() else { return Ok(None) };
        let mut found = None;
        while let Some(here) = fields.next_key_seed(Is(step))? {
            if here {
                found = fields.next_value_seed(Find { steps })?;
            } else {
                fields.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let Some((step, steps)) = self.steps.split_first() else { return Ok(None) };
        let wanted = step.parse::<usize>().ok();
        let (mut at, mut found) = (0, None);
        loop {
            if wanted == Some(at) {
                match items.next_element_seed(Find { steps })? {
                    Some(item) => found = item,
                    None => return Ok(found),
                }
            } else if items.next_element::<IgnoredAny>()?.is_none() {
                return Ok(found);
            }
            at += 1;
        }
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}

/// Whether a field's name, with escapes resolved, is this one.
struct Is<'s>(&'s str);

impl<'de> DeserializeSeed<'de> for Is<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<bool, D::Error> {
        reader.deserialize_str(self)
    }
}

impl Visitor<'_> for Is<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field's name")
    }

    fn visit_str<E>(self, name: &str) -> Result<bool, E> {
        Ok(name == self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::Pointer;

    #[track_caller]
    fn check(pointer: &str, json: &str, expected: Option<&str>) {
        let pointer = Pointer::try_from(pointer.to_owned()).unwrap();
        assert_eq!(pointer.find(json.as_bytes()).unwrap(), expected);
    }

    #[test]
    fn a_pointer_finds_what_it_points_at() {
        check("/a", r#"{"a": 1}"#, Some("1"));
        check("/a/b", r#"{"x": {"b": 0}, "a": {"b": "t"}}"#, Some(r#""t""#));
        check("/a/1", r#"{"a": [1, {"c": 2}, 3]}"#, Some(r#"{"c": 2}"#));
        check("/a~1b/m~0n", r#"{"a/b": {"m~n": null}}"#, Some("null"));
        check("/é", r#"{"\u00e9": 7}"#, Some("7"));
        check("", r#" [1] "#, Some("[1]"));
        check("/a", r#"{"a": 1, "a": 2}"#, Some("2"));
    }

    #[test]
    fn a_pointer_to_nothing_finds_nothing() {
        for json in ["{}", "[]", "1", "-1", "1.5", "true", "null", r#""a""#, r#"{"a": 3}"#, r#"{"a": []}"#] {
            check("/a/0", json, None);
        }
    }

    #[test]
    fn what_is_not_json_is_an_error_also_behind_the_find() {
        for json in ["", "{", r#"{"a": 1"#, r#"{"a": 1} x"#, r#"{"a": 1, "b": }"#] {
            assert!(Pointer::try_from("/a".to_owned()).unwrap().find(json.as_bytes()).is_err(), "{json}");
        }
    }

    #[test]
    fn a_pointer_without_a_slash_is_refused_with_the_cure() {
        let error = serde_json::from_str::<Pointer>(r#""a""#).unwrap_err().to_string();
        assert_eq!(error, "a JSON pointer begins with a slash: `/a`");
    }
}
