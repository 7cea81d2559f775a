//! Serde's view of a [`Tree`].
//!
//! Owns the coercion of variables: a scalar that a variable is in takes the type that is asked of it, everything else
//! has to have it. A secret is given to none but a `Secret` or a `Tree`.

use std::ops::Range;

use serde::{
    Deserializer,
    de::{
        DeserializeSeed, EnumAccess, Expected, IntoDeserializer, MapAccess, SeqAccess, Unexpected, VariantAccess,
        Visitor, value::SeqDeserializer,
    },
    forward_to_deserialize_any,
};

use super::{
    super::{
        place::{ONE_OR_MANY, SPANNED, Spanned},
        tree::{Origin, TREE, Tree, Value},
    },
    misfit::{Error, Wrong, plainly},
};
use crate::secret::SECRET;

type Answer<T> = Result<T, Error>;

/// Reads a tree.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'de> {
    tree: &'de Tree,
    secrets: Secrets,
}

/// Whether a secret may be given away.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Secrets {
    Refused,
    Given,
}

impl<'de> Reader<'de> {
    pub(crate) fn new(tree: &'de Tree) -> Self {
        Self { tree, secrets: Secrets::Refused }
    }

    fn is_variable(self) -> bool {
        self.tree.origin != Origin::File
    }

    fn wrong(self, expected: &dyn Expected) -> Error {
        let expected = plainly(&expected.to_string());
        Error::at(Wrong::Kind { found: self.tree.what(), expected }, self.tree.span.clone())
    }

    fn scalar<T>(self, give: impl FnOnce(&'de Value) -> Answer<T>) -> Answer<T> {
        if self.tree.origin == Origin::Secret && self.secrets == Secrets::Refused {
            return Err(Error::at(Wrong::Secret, self.tree.span.clone()));
        }
        give(&self.tree.value).map_err(|error| error.within(&self.tree.span))
    }

    fn number<V: Visitor<'de>>(self, visitor: V) -> Answer<V::Value> {
        self.scalar(|value| {
            let parsed;
            let number = match value {
                Value::Number(number) => number,
                Value::Text(text) if self.is_variable() => match text.trim().parse::<serde_json::Number>() {
                    Ok(number) => {
                        parsed = number;
                        &parsed
                    }
                    Err(_) => return Err(self.wrong(&visitor)),
                },
                _ => return Err(self.wrong(&visitor)),
            };
            if let Some(number) = number.as_u64() {
                visitor.visit_u64(number)
            } else if let Some(number) = number.as_i64() {
                visitor.visit_i64(number)
            } else {
                visitor.visit_f64(number.as_f64().unwrap_or(f64::NAN))
            }
        })
    }

    fn text<V: Visitor<'de>>(self, visitor: V) -> Answer<V::Value> {
        self.scalar(|value| match value {
            Value::Text(text) => visitor.visit_borrowed_str(text),
            _ => Err(self.wrong(&visitor)),
        })
    }

    fn parts(self) -> Parts<'de> {
        Parts { start: self.tree.span.start, end: self.tree.span.end, rest: Rest::Value(self), next: 0 }
    }
}

macro_rules! numbers {
    ($($name:ident)*) => {$(
        fn $name<V: Visitor<'de>>(self, visitor: V) -> Answer<V::Value> {
            self.number(visitor)
        }
    )*};
}

impl<'de> Deserializer<'de> for Reader<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Answer<V::Value> {
        match &self.tree.value {
            Value::Null => self.scalar(|_| visitor.visit_unit()),
            Value::Bool(truth) => self.scalar(|_| visitor.visit_bool(*truth)),
            Value::Number(_) => self.number(visitor),
            Value::Text(_) => self.text(visitor),
            Value::List(_) => self.deserialize_seq(visitor),
            Value::Map(_) => self.deserialize_map(visitor),
        }
    }

    numbers! {
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_u8 deserialize_u16 deserialize_u32
        deserialize_u64 deserialize_f32 deserialize_f64
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Answer<V::Value> {
        self.scalar(|value| match value {
            Value::Bool(truth) => visitor.visit_bool(*truth),
            Value::Text(text) if self.is_variable() && text == "true" => visitor.visit_bool(true),
            Value::Text(text) if self.is_variable() && text == "false" => visitor.visit_bool(false),
            _ => Err(self.wrong(&visitor)),
        })
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Answer<V::Value> {
        self.text(visitor)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Answer<V::Value> {
        self.text(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Answer<V::Value> {
        // An absent field is none; `stdout:` with nothing behind it is `stdout: {}`.
        visitor.visit_some(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Answer<V::Value> {
        match &self.tree.value {
            Value::List(items) => {
                visitor.visit_seq(Items { items, next: 0 }).map_err(|error| error.within(&self.tree.span))
            }
            _ => Err(self.wrong(&visitor)),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Answer<V::Value> {
        const NONE: &[(Spanned<String>, Tree)] = &[];
        let entries = match &self.tree.value {
            Value::Map(entries) => entries.as_slice(),
            Value::Null => NONE,
            _ => return Err(self.wrong(&visitor)),
        };
        visitor.visit_map(Entries { entries, next: 0 }).map_err(|error| error.within(&self.tree.span))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Answer<V::Value> {
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Answer<V::Value> {
        match &self.tree.value {
            Value::Text(text) => self.scalar(|_| visitor.visit_enum(Word(text))),
            _ => Err(self.wrong(&"a word")),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Answer<V::Value> {
        match name {
            SPANNED => visitor.visit_seq(self.parts()),
            TREE => visitor.visit_seq(Parts { rest: Rest::Tree(self.tree), ..self.parts() }),
            SECRET => visitor.visit_newtype_struct(Reader { secrets: Secrets::Given, ..self }),
            ONE_OR_MANY => match &self.tree.value {
                Value::List(_) => visitor.visit_newtype_struct(self),
                Value::Text(_) => visitor.visit_newtype_struct(One(self)),
                _ => Err(self.wrong(&visitor)),
            },
            _ => visitor.visit_newtype_struct(self),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Answer<V::Value> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! { i128 u128 char bytes byte_buf unit unit_struct tuple tuple_struct identifier }
}

/// A place, and what stands there.
struct Parts<'de> {
    start: usize,
    end: usize,
    rest: Rest<'de>,
    next: u8,
}

/// What a place is handed out with.
enum Rest<'de> {
    /// A value to be read.
    Value(Reader<'de>),
    /// A key.
    Key(&'de str),
    /// The tree itself: origin, kind, contents.
    Tree(&'de Tree),
}

impl<'de> SeqAccess<'de> for Parts<'de> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Answer<Option<T::Value>> {
        self.next += 1;
        match (self.next, &self.rest) {
            (1, _) => seed.deserialize(self.start.into_deserializer()),
            (2, _) => seed.deserialize(self.end.into_deserializer()),
            (3, Rest::Value(reader)) => seed.deserialize(*reader),
            (3, Rest::Key(key)) => seed.deserialize(Key(key, self.start..self.end)),
            (3, Rest::Tree(tree)) => seed.deserialize((tree.origin as u8).into_deserializer()),
            (4, Rest::Tree(tree)) => seed.deserialize(tree.value.kind().into_deserializer()),
            (5, Rest::Tree(tree)) => {
                let reader = Reader { tree, secrets: Secrets::Given };
                match &tree.value {
                    Value::Map(entries) => {
                        let pairs = entries.iter().map(|(key, tree)| Pair(key, tree));
                        seed.deserialize(SeqDeserializer::new(pairs))
                    }
                    _ => seed.deserialize(reader),
                }
            }
            _ => return Ok(None),
        }
        .map(Some)
    }
}

/// A key with what stands under it, as a list of two.
struct Pair<'de>(&'de Spanned<String>, &'de Tree);

impl<'de> IntoDeserializer<'de, Error> for Pair<'de> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Pair<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Answer<V::Value> {
        struct Two<'de>(Pair<'de>, u8);
        impl<'de> SeqAccess<'de> for Two<'de> {
            type Error = Error;

            fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Answer<Option<T::Value>> {
                self.1 += 1;
                match self.1 {
                    1 => seed.deserialize(Key(&self.0.0.value, self.0.0.span.clone())).map(Some),
                    2 => seed.deserialize(Reader { tree: self.0.1, secrets: Secrets::Given }).map(Some),
                    _ => Ok(None),
                }
            }
        }
        visitor.visit_seq(Two(self, 0))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// A scalar in the place of a list.
struct One<'de>(Reader<'de>);

impl<'de> Deserializer<'de> for One<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Answer<V::Value> {
        struct Single<'de>(Option<Reader<'de>>);
        impl<'de> SeqAccess<'de> for Single<'de> {
            type Error = Error;

            fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Answer<Option<T::Value>> {
                self.0.take().map(|reader| seed.deserialize(reader)).transpose()
            }
        }
        visitor.visit_seq(Single(Some(self.0)))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// The items of a list.
struct Items<'de> {
    items: &'de [Tree],
    next: usize,
}

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Answer<Option<T::Value>> {
        let Some(item) = self.items.get(self.next) else { return Ok(None) };
        let step = self.next;
        self.next += 1;
        seed.deserialize(Reader::new(item)).map(Some).map_err(|error| error.within(&item.span).below(step))
    }
}

/// The entries of a mapping.
struct Entries<'de> {
    entries: &'de [(Spanned<String>, Tree)],
    next: usize,
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Answer<Option<K::Value>> {
        let Some((key, _)) = self.entries.get(self.next) else { return Ok(None) };
        let step = self.next;
        self.next += 1;
        let reader = Key(&key.value, key.span.clone());
        seed.deserialize(reader).map(Some).map_err(|error| error.within(&key.span).below(step))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Answer<V::Value> {
        let step = self.next.saturating_sub(1);
        let Some((_, value)) = self.entries.get(step) else {
            return Err(Error::at(Wrong::Value("a value without a key".to_owned()), 0..0));
        };
        seed.deserialize(Reader::new(value)).map_err(|error| error.within(&value.span).below(step))
    }
}

/// A key of a mapping.
struct Key<'de>(&'de str, Range<usize>);

impl<'de> Deserializer<'de> for Key<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Answer<V::Value> {
        visitor.visit_borrowed_str(self.0)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Answer<V::Value> {
        if name == SPANNED {
            visitor.visit_seq(Parts { start: self.1.start, end: self.1.end, rest: Rest::Key(self.0), next: 0 })
        } else {
            visitor.visit_newtype_struct(self)
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// A word that names a variant.
struct Word<'de>(&'de str);

impl<'de> EnumAccess<'de> for Word<'de> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Answer<(V::Value, Self)> {
        Ok((seed.deserialize(Key(self.0, 0..0))?, self))
    }
}

impl<'de> VariantAccess<'de> for Word<'de> {
    type Error = Error;

    fn unit_variant(self) -> Answer<()> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, _: T) -> Answer<T::Value> {
        Err(serde::de::Error::invalid_type(Unexpected::UnitVariant, &"a word alone"))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Answer<V::Value> {
        Err(serde::de::Error::invalid_type(Unexpected::UnitVariant, &"a word alone"))
    }

    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], _: V) -> Answer<V::Value> {
        Err(serde::de::Error::invalid_type(Unexpected::UnitVariant, &"a word alone"))
    }
}
