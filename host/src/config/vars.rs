//! Variables: the only names that `${…}` may use.
//!
//! Owns how they are declared. Invariant: a variable's value is never parsed, so that it cannot change a tree's shape.

use std::{borrow::Cow, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{MapAccess, Visitor, value::MapAccessDeserializer},
};

pub(crate) mod interpolation;

/// Where the value of a variable comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum Var {
    /// It stands in the file.
    Literal(Literal),
    /// It is looked up.
    Lookup(Lookup),
}

/// A variable that is looked up: exactly one of `env`, `secret`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Lookup {
    /// Name of an environment variable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<String>,
    /// What is taken where the environment variable is not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<Literal>,
    /// Where a secret is read; its value is masked wherever it could be shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretLookup>,
}

/// Where a secret is read: exactly one of `file`, `env`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretLookup {
    /// Path of a file, relative to the pipeline's; line ends at its end are cut off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Name of an environment variable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<String>,
}

/// A scalar that is taken as the text it is written as.
#[derive(Clone, Debug, PartialEq)]
pub struct Literal(pub String);

impl Serialize for Literal {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Literal {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match Var::deserialize(from)? {
            Var::Literal(literal) => Ok(literal),
            Var::Lookup(_) => Err(serde::de::Error::custom("expected a text, found a mapping")),
        }
    }
}

impl JsonSchema for Literal {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Literal".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({ "type": ["string", "number", "boolean"] })
    }
}

impl Serialize for Var {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Literal(literal) => literal.serialize(to),
            Self::Lookup(lookup) => lookup.serialize(to),
        }
    }
}

impl<'de> Deserialize<'de> for Var {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Var;

            fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
                to.write_str("a text, `{ env: … }` or `{ secret: … }`")
            }
            fn visit_bool<E: serde::de::Error>(self, truth: bool) -> Result<Var, E> {
                Ok(Var::Literal(Literal(truth.to_string())))
            }
            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Var, E> {
                Ok(Var::Literal(Literal(number.to_string())))
            }
            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Var, E> {
                Ok(Var::Literal(Literal(number.to_string())))
            }
            fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<Var, E> {
                Ok(Var::Literal(Literal(number.to_string())))
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Var, E> {
                Ok(Var::Literal(Literal(text.to_owned())))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Var, A::Error> {
                Lookup::deserialize(MapAccessDeserializer::new(map)).map(Var::Lookup)
            }
        }
        from.deserialize_any(Either)
    }
}

impl JsonSchema for Var {
    fn schema_name() -> Cow<'static, str> {
        "Var".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = Lookup::json_schema(generator);
        schema.insert("type".to_owned(), serde_json::json!(["object", "string", "number", "boolean"]));
        schema
    }
}
