//! Whether what a plugin is told fits the schema that it describes.
//!
//! Owns the check and the places of what does not fit. It must not know what a plugin does. Invariant: no message
//! shows a secret.

use std::ops::Range;

use jsonschema::{ValidationError, error::ValidationErrorKind};
use serde_json::Value as Json;

use super::{
    Secret, codes,
    diagnostic::Flaw,
    tree::{Origin, Tree, Value},
};

/// The longest part of a message that repeats the user's values.
const MOST_CHARS: usize = 200;

/// What is checked, and what faults call it.
pub(crate) struct Told<'a> {
    /// The stage's `config`.
    pub(crate) config: &'a Tree,
    /// The plugin, as the file names it.
    pub(crate) plugin: &'a str,
    /// Where the plugin is named: the place of faults that have no other.
    pub(crate) span: &'a Range<usize>,
}

/// Checks `told` by `schema`, variables taking the type that it asks for; answers the JSON that `configure` is given.
/// An absent `config` is `{}`.
pub(crate) fn fit(told: &Told<'_>, schema: Option<&Json>) -> Result<Secret, Vec<Flaw>> {
    let mut config = told.config.clone();
    if config.is_null() {
        config.value = Value::Map(Vec::new());
    }
    if let Some(schema) = schema {
        let validator = jsonschema::validator_for(schema).map_err(|error| {
            let message = format!("the schema that `{}` describes cannot be used: {error}", told.plugin);
            vec![Flaw::at(codes::BAD_DESCRIPTION, told.span, message)]
        })?;
        loop {
            let json = config.to_json();
            let errors: Vec<_> = validator.iter_errors(&json).collect();
            let ways: Vec<Vec<String>> = errors.iter().filter(|error| is_type(error)).map(way).collect();
            let coerced = ways.iter().filter(|way| at_mut(&mut config, way).is_some_and(coerce)).count();
            if coerced == 0 {
                if errors.is_empty() {
                    break;
                }
                return Err(errors.iter().flat_map(|error| flaws(error, &config, told)).collect());
            }
        }
    }
    let mut text = String::new();
    config.write_json(&mut text);
    Ok(Secret::new(text))
}

fn is_type(error: &ValidationError<'_>) -> bool {
    use ValidationErrorKind as Kind;
    matches!(error.kind(), Kind::Type { .. } | Kind::Enum { .. } | Kind::Constant { .. })
}

fn way(error: &ValidationError<'_>) -> Vec<String> {
    let path = error.instance_path().as_str();
    path.split('/').skip(1).map(|step| step.replace("~1", "/").replace("~0", "~")).collect()
}

fn at_mut<'t>(mut tree: &'t mut Tree, way: &[String]) -> Option<&'t mut Tree> {
    for step in way {
        tree = match &mut tree.value {
            Value::Map(entries) => entries.iter_mut().find(|(key, _)| key.value == *step).map(|(_, below)| below)?,
            Value::List(items) => items.get_mut(step.parse::<usize>().ok()?)?,
            _ => return None,
        };
    }
    Some(tree)
}

/// Makes a number or a truth of a variable's text.
fn coerce(tree: &mut Tree) -> bool {
    if tree.origin == Origin::File {
        return false;
    }
    let Value::Text(text) = &tree.value else { return false };
    let value = match text.trim() {
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        number => match number.parse() {
            Ok(number) => Value::Number(number),
            Err(_) => return false,
        },
    };
    tree.value = value;
    true
}

fn flaws(error: &ValidationError<'_>, config: &Tree, told: &Told<'_>) -> Vec<Flaw> {
    let fault = |span: &Range<usize>, what: String| {
        let span = if span.is_empty() { told.span } else { span };
        let what: String = what.chars().take(MOST_CHARS).collect();
        let message = format!("the configuration does not fit `{}`: {what}", told.plugin);
        Flaw::at(codes::CONFIG_MISFIT, span, message)
    };
    let mut at = config;
    for step in way(error) {
        let below = match &at.value {
            Value::List(items) => step.parse::<usize>().ok().and_then(|step| items.get(step)),
            _ => at.get(&step),
        };
        let Some(below) = below else { break };
        at = below;
    }
    match error.kind() {
        ValidationErrorKind::AdditionalProperties { unexpected } => unexpected
            .iter()
            .map(|name| {
                let key = match &at.value {
                    Value::Map(entries) => entries.iter().find(|(key, _)| key.value == *name),
                    _ => None,
                };
                fault(key.map_or(&at.span, |(key, _)| &key.span), format!("it does not know `{name}`"))
            })
            .collect(),
        ValidationErrorKind::Required { property } => {
            let name = property.as_str().unwrap_or_default();
            vec![fault(&at.span, format!("`{name}` is missing"))]
        }
        _ if at.has_secret() => vec![fault(&at.span, error.masked_with("the value").to_string())],
        _ => vec![fault(&at.span, error.to_string())],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variable(text: &str, origin: Origin) -> Tree {
        let value = Tree { value: Value::Text(text.to_owned()), span: 5..9, origin };
        Tree { value: Value::Map(vec![("min".to_owned().into(), value)]), span: 0..9, origin: Origin::File }
    }

    fn fitted(config: &Tree) -> Result<Secret, Vec<Flaw>> {
        let schema = serde_json::json!({ "properties": { "min": { "type": "integer", "maximum": 9 } } });
        fit(&Told { config, plugin: "p.wasm", span: &(0..1) }, Some(&schema))
    }

    #[test]
    fn a_variable_takes_the_type_that_the_schema_asks_for_and_other_text_does_not() {
        assert_eq!(fitted(&variable("7", Origin::Variable)).unwrap().expose(), r#"{"min":7}"#);
        let flaws = fitted(&variable("7", Origin::File)).unwrap_err();
        assert_eq!((flaws[0].code, flaws[0].labels[0].0.clone()), (codes::CONFIG_MISFIT, 5..9));
    }

    #[test]
    fn no_message_shows_a_secret() {
        for text in ["hunter2", "42424242"] {
            let flaws = fitted(&variable(text, Origin::Secret)).unwrap_err();
            assert!(!flaws[0].message.contains(text), "{}", flaws[0].message);
        }
    }
}
