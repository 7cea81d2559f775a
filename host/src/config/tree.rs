//! The text of a file as a tree, with the place of every value and where it came from.
//!
//! Owns the tree and its JSON. It must not know which fields there are. Invariant: what a variable put in is a
//! scalar, and a secret is never shown.

use std::{borrow::Cow, fmt, ops::Range};

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{SeqAccess, Visitor},
};
use serde_json::Number;
use zeroize::Zeroize;

use super::place::Spanned;
use crate::secret::MASK;

/// Name by which a [`Tree`] asks the deserializer of a tree for the tree itself.
pub(crate) const TREE: &str = "tidegate::Tree";

/// A value of a file, with what is below it.
#[derive(Clone, Default)]
pub struct Tree {
    /// The value.
    pub value: Value,
    /// Byte range in the file's text; of a mapping or list without a text of its own, that of its key.
    pub span: Range<usize>,
    /// Where the value came from.
    pub origin: Origin,
}

/// What a [`Tree`] is.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Value {
    /// Nothing.
    #[default]
    Null,
    /// True or false.
    Bool(bool),
    /// A number.
    Number(Number),
    /// A text.
    Text(String),
    /// A list.
    List(Vec<Tree>),
    /// A mapping, in the order of the file.
    Map(Vec<(Spanned<String>, Tree)>),
}

impl Value {
    /// The number that stands for the kind of value where a tree is handed over.
    pub(crate) fn kind(&self) -> u8 {
        match self {
            Self::Null => 0,
            Self::Bool(_) => 1,
            Self::Number(_) => 2,
            Self::Text(_) => 3,
            Self::List(_) => 4,
            Self::Map(_) => 5,
        }
    }
}

/// Where a scalar came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// It stands so in the file.
    #[default]
    File,
    /// A variable is in it: it takes the type that is asked of it.
    Variable,
    /// A secret is in it.
    Secret,
}

impl Tree {
    /// Whether there is nothing here.
    pub fn is_null(&self) -> bool {
        matches!(self.value, Value::Null)
    }

    /// What stands under `key`, if this is a mapping.
    pub fn get(&self, key: &str) -> Option<&Tree> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|(name, _)| name.value == key).map(|(_, tree)| tree),
            _ => None,
        }
    }

    /// Whether a secret is in here or below.
    pub fn has_secret(&self) -> bool {
        match &self.value {
            Value::List(items) => items.iter().any(Tree::has_secret),
            Value::Map(entries) => entries.iter().any(|(_, tree)| tree.has_secret()),
            _ => self.origin == Origin::Secret,
        }
    }

    /// The tree as JSON, secrets included.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        use serde_json::Value as Json;
        match &self.value {
            Value::Null => Json::Null,
            Value::Bool(truth) => Json::Bool(*truth),
            Value::Number(number) => Json::Number(number.clone()),
            Value::Text(text) => Json::String(text.clone()),
            Value::List(items) => Json::Array(items.iter().map(Tree::to_json).collect()),
            Value::Map(entries) => {
                Json::Object(entries.iter().map(|(key, tree)| (key.value.clone(), tree.to_json())).collect())
            }
        }
    }

    /// Writes the tree as JSON, keys in the order of the file, secrets included.
    pub(crate) fn write_json(&self, to: &mut String) {
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        match &self.value {
            Value::Null => to.push_str("null"),
            Value::Bool(truth) => to.push_str(&truth.to_string()),
            Value::Number(number) => to.push_str(&number.to_string()),
            Value::Text(text) => to.push_str(&quoted(text)),
            Value::List(items) => {
                to.push('[');
                for (i, item) in items.iter().enumerate() {
                    to.push_str(if i == 0 { "" } else { "," });
                    item.write_json(to);
                }
                to.push(']');
            }
            Value::Map(entries) => {
                to.push('{');
                for (i, (key, item)) in entries.iter().enumerate() {
                    to.push_str(if i == 0 { "" } else { "," });
                    to.push_str(&quoted(&key.value));
                    to.push(':');
                    item.write_json(to);
                }
                to.push('}');
            }
        }
    }

    /// What this is, in words.
    pub(crate) fn what(&self) -> String {
        match (&self.value, self.origin) {
            (_, Origin::Secret) => "a secret".to_owned(),
            (Value::Null, _) => "nothing".to_owned(),
            (Value::Bool(truth), _) => format!("`{truth}`"),
            (Value::Number(number), _) => format!("`{number}`"),
            (Value::Text(text), _) => format!("`{text}`"),
            (Value::List(_), _) => "a list".to_owned(),
            (Value::Map(_), _) => "a mapping".to_owned(),
        }
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        if let (Value::Text(text), Origin::Secret) = (&mut self.value, self.origin) {
            text.zeroize();
        }
    }
}

impl PartialEq for Tree {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl fmt::Debug for Tree {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.origin == Origin::Secret { to.write_str(MASK) } else { self.value.fmt(to) }
    }
}

impl Serialize for Tree {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match &self.value {
            _ if self.origin == Origin::Secret => to.serialize_str(MASK),
            Value::Null => to.serialize_unit(),
            Value::Bool(truth) => to.serialize_bool(*truth),
            Value::Number(number) => number.serialize(to),
            Value::Text(text) => to.serialize_str(text),
            Value::List(items) => to.collect_seq(items),
            Value::Map(entries) => to.collect_map(entries.iter().map(|(key, tree)| (&key.value, tree))),
        }
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Whole;
        impl<'de> Visitor<'de> for Whole {
            type Value = Tree;

            fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
                to.write_str("any value")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Tree, A::Error> {
                let short = || serde::de::Error::custom("a tree is cut short");
                let start = parts.next_element()?.ok_or_else(short)?;
                let end = parts.next_element()?.ok_or_else(short)?;
                let origin = match parts.next_element::<u8>()?.ok_or_else(short)? {
                    0 => Origin::File,
                    1 => Origin::Variable,
                    _ => Origin::Secret,
                };
                let value = match parts.next_element::<u8>()?.ok_or_else(short)? {
                    1 => Value::Bool(parts.next_element()?.ok_or_else(short)?),
                    2 => Value::Number(parts.next_element()?.ok_or_else(short)?),
                    3 => Value::Text(parts.next_element()?.ok_or_else(short)?),
                    4 => Value::List(parts.next_element()?.ok_or_else(short)?),
                    5 => Value::Map(parts.next_element()?.ok_or_else(short)?),
                    _ => Value::Null,
                };
                Ok(Tree { value, span: start..end, origin })
            }
        }
        from.deserialize_newtype_struct(TREE, Whole)
    }
}

impl JsonSchema for Tree {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Tree".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({ "description": "What the plugin is told, by the schema that it describes." })
    }
}
