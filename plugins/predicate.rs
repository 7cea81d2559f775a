//! A predicate over the fields of a JSON record, in the Common Expression Language (<https://cel.dev>).
//!
//! Owns what an expression sees, and what becomes of a field that is missing. It must not know what hangs on the
//! answer. A source file of both `where` and `route`. Invariant: an expression is parsed once, when the configuration
//! is read.

use std::collections::HashMap;

use cel::{Context, ExecutionError, Program, Value};
use tidegate_plugin::prelude::*;

/// A CEL expression such as `status >= 500 && path.startsWith('/api')`, over the fields of the record.
///
/// Where a field that decides is missing, the predicate does not hold, nor does its negation.
#[derive(Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String")]
pub(crate) struct Predicate {
    program: Program,
    /// The fields that the expression names.
    fields: Vec<Pointer>,
    /// CEL's own functions.
    scope: Context<'static, 'static>,
}

impl TryFrom<String> for Predicate {
    type Error = String;

    fn try_from(expression: String) -> Result<Self, String> {
        let program = Program::compile(&expression).map_err(|error| format!("`{expression}`: {error}"))?;
        let pointer = |name: &str| Pointer::try_from(format!("/{name}"));
        let mut fields = program.references().variables().into_iter().map(pointer).collect::<Result<Vec<_>, _>>()?;
        fields.sort_unstable_by(|a, b| a.name().cmp(b.name()));
        Ok(Self { program, fields, scope: Context::default() })
    }
}

impl Predicate {
    /// Whether it holds for `record`.
    ///
    /// # Errors
    /// Where the record is not JSON, or its fields are not of the types that the expression compares.
    pub(crate) fn holds(&self, record: &Record) -> Result<bool> {
        let mut scope = self.scope.new_inner_scope();
        for field in &self.fields {
            if let Some(json) = record.pick(field)? {
                scope.add_variable_from_value(field.name(), value(tidegate_plugin::parse(json)?));
            }
        }
        match self.program.execute(&scope) {
            Ok(Value::Bool(holds)) => Ok(holds),
            Ok(other) => bail!("the predicate comes to {}, neither true nor false", other.type_of()),
            Err(ExecutionError::NoSuchKey(_)) => Ok(false),
            Err(ExecutionError::UndeclaredReference(name)) if self.fields.iter().any(|field| field.name() == *name) => {
                Ok(false)
            }
            Err(error) => Err(anyhow!("the predicate cannot be computed: {error}")),
        }
    }
}

fn value(json: tidegate_plugin::prelude::Value) -> Value {
    use tidegate_plugin::prelude::Value as Json;
    match json {
        Json::Null => Value::Null,
        Json::Bool(word) => Value::Bool(word),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Value::Int(number),
            (None, Some(number)) => Value::UInt(number),
            (None, None) => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => Value::String(text.into()),
        Json::Array(items) => Value::List(items.into_iter().map(value).collect::<Vec<_>>().into()),
        Json::Object(fields) => {
            let fields: HashMap<String, Value> = fields.into_iter().map(|(name, field)| (name, value(field))).collect();
            Value::Map(fields.into())
        }
    }
}
