//! Text that must not be seen: shown as `***`, wiped from memory when it goes.
//!
//! Owns the one type that holds a secret, and the list of all that were read, by which texts of others (a plugin's
//! message, a log line) are masked before anybody sees them. Invariant: only [`Secret::expose`] gives the text away.

use std::{
    borrow::Cow,
    fmt,
    sync::{Mutex, PoisonError},
};

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

/// Name by which [`Secret`] tells the deserializer of a tree that a secret may stand there.
pub(crate) const SECRET: &str = "tidegate::Secret";

/// What is shown in a secret's stead.
pub(crate) const MASK: &str = "***";

/// A shorter text is found in too many places by chance to be masked there.
const SHORTEST: usize = 4;

/// Every secret that was read, and how it looks in JSON.
static READ: Mutex<Vec<Zeroizing<String>>> = Mutex::new(Vec::new());

/// Notes a secret that was read, so that [`mask`] knows it.
pub(crate) fn remember(secret: &str) {
    let json = Zeroizing::new(serde_json::Value::from(secret).to_string());
    let inside = json.get(1..json.len().saturating_sub(1)).unwrap_or_default();
    let mut read = READ.lock().unwrap_or_else(PoisonError::into_inner);
    for form in [secret, inside] {
        if form.len() >= SHORTEST && !read.iter().any(|known| known.as_str() == form) {
            read.push(Zeroizing::new(form.to_owned()));
        }
    }
    // The longest first, so that none is left over of one that has another in it.
    read.sort_by_key(|known| std::cmp::Reverse(known.len()));
}

/// `text` with every secret that was read masked; one of less than four bytes is left alone.
pub fn mask(text: &str) -> Cow<'_, str> {
    let read = READ.lock().unwrap_or_else(PoisonError::into_inner);
    let mut masked = Cow::Borrowed(text);
    for secret in read.iter().filter(|secret| text.contains(secret.as_str())) {
        masked = Cow::Owned(masked.replace(secret.as_str(), MASK));
    }
    masked
}

/// A text that `Debug`, `Display` and `Serialize` mask.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes `text` into custody.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text itself, for the one who has to use it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(MASK)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(MASK)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(MASK)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> serde::de::Visitor<'de> for Text {
            type Value = Secret;

            fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
                to.write_str("a text")
            }

            fn visit_newtype_struct<D: Deserializer<'de>>(self, from: D) -> Result<Secret, D::Error> {
                String::deserialize(from).map(Secret::new)
            }
        }
        from.deserialize_newtype_struct(SECRET, Text)
    }
}

impl JsonSchema for Secret {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Secret".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({ "type": "string" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_that_was_read_is_masked_in_texts_of_others_and_in_their_json() {
        remember("s3cr\"et-of-this-test");
        remember("abc");
        assert_eq!(mask("plugin said s3cr\"et-of-this-test!"), "plugin said ***!");
        assert_eq!(mask(r#"{"said":"s3cr\"et-of-this-test"}"#), r#"{"said":"***"}"#);
        assert_eq!(mask("abc"), "abc");
    }
}
