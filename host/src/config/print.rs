//! A pipeline as a file again: variables replaced, defaults filled in, secrets masked.
//!
//! Owns the way back. Invariant: reading what was printed gives the same pipeline, unless a secret was in it.

use super::{
    Pipeline,
    tree::{Tree, Value},
    yaml,
};

/// The file of `pipeline`.
///
/// # Errors
/// Where the file would be larger than what can be read again: variables may hold that much.
pub fn print(pipeline: &Pipeline) -> anyhow::Result<String> {
    let (tree, _) = yaml::parse(&serde_saphyr::to_string(pipeline)?);
    let mut tree = tree.ok_or_else(|| anyhow::anyhow!("print the pipeline: it is larger than a file may be"))?;
    if let Value::Map(sections) = &mut tree.value {
        for (section, below) in sections {
            match section.value.as_str() {
                "vars" => continue,
                "sources" | "sinks" => without_nulls(below),
                "stages" => without_idle_limits(below),
                _ => {}
            }
            escape(below);
        }
    }
    Ok(serde_saphyr::to_string(&tree)?)
}

/// Writes `${` so that it is not taken for a variable.
fn escape(tree: &mut Tree) {
    match &mut tree.value {
        Value::Text(text) => *text = text.replace("${", "$${"),
        Value::List(items) => items.iter_mut().for_each(escape),
        Value::Map(entries) => entries.iter_mut().for_each(|(_, below)| escape(below)),
        _ => {}
    }
}

/// An optional field that is not there is printed by some as null; nothing takes null.
fn without_nulls(tree: &mut Tree) {
    if let Value::Map(entries) = &mut tree.value {
        entries.retain(|(_, below)| !below.is_null());
        entries.iter_mut().for_each(|(_, below)| without_nulls(below));
    }
}

/// Limits that have an effect on aggregates only are refused elsewhere.
fn without_idle_limits(stages: &mut Tree) {
    let Value::Map(stages) = &mut stages.value else { return };
    for (_, stage) in stages {
        if stage.get("aggregate").is_some() {
            continue;
        }
        let Value::Map(fields) = &mut stage.value else { continue };
        for (field, limits) in fields {
            if let ("limits", Value::Map(limits)) = (field.value.as_str(), &mut limits.value) {
                limits.retain(|(limit, _)| limit.value != "state");
            }
        }
    }
}
