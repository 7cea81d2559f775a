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

use super::{place::Spanned, secret::MASK};

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
                parts.next_element()?.ok_or_else(|| serde::de::Error::custom("a tree is cut short"))
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
