//! Tests of the whole way from a text to a graph.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use super::{
    Diagnostic, Loaded,
    diagnostic::{Colour, Text, render},
    graph::{Fallback, Graph, PluginFacts, check},
    load::load_text,
};
use crate::plugin::Kind;

mod advice;
mod bad_files;
mod budgets;
mod domains;
mod fuzz;
mod graphs;
mod guarantees;
mod properties;
mod topics;

/// Reads a text as `pipelines/test.yaml`.
fn loaded(yaml: &str, env: &[(&str, &str)]) -> Result<Loaded, Vec<Diagnostic>> {
    let text = Arc::new(Text { path: Path::new("pipelines/test.yaml").to_owned(), text: yaml.to_owned() });
    let env: BTreeMap<_, _> = env.iter().copied().collect();
    load_text(&text, yaml, &|name| env.get(name).map(|value| (*value).to_owned()))
}

/// Plugins that tests may name, by the stage's plugin: `f` filters, `m` maps, `a` aggregates, and so on.
fn facts(loaded: &Loaded) -> BTreeMap<String, PluginFacts> {
    let facts = |kind| PluginFacts {
        kind,
        outputs: Vec::new(),
        outputs_from_config: false,
        needs: Vec::new(),
        config_schema: None,
    };
    let known = |plugin: &str| match plugin {
        "f" => Some(facts(Kind::Filter)),
        "by_status" => Some(PluginFacts {
            needs: vec!["field:/status".to_owned()],
            config_schema: Some(serde_json::json!({
                "type": "object",
                "properties": { "min": { "type": "integer" }, "deep": { "properties": { "list": { "items": { "type": "string" } } } } },
                "required": ["min"],
                "additionalProperties": false,
            })),
            ..facts(Kind::Filter)
        }),
        "m" => Some(facts(Kind::Map)),
        "split" => Some(PluginFacts { outputs: vec!["odd".to_owned(), "even".to_owned()], ..facts(Kind::Map) }),
        "route" => Some(PluginFacts { outputs_from_config: true, ..facts(Kind::Map) }),
        "seeded" => Some(PluginFacts { needs: vec!["id".to_owned()], ..facts(Kind::Map) }),
        "greedy" => Some(PluginFacts { needs: vec!["offset".to_owned()], ..facts(Kind::Map) }),
        "a" => Some(facts(Kind::Aggregate)),
        _ => None,
    };
    let stages = loaded.pipeline.stages.iter();
    stages
        .flat_map(|(name, stage)| {
            let fallback = stage.breaker.stands_in().map(|plugin| (Fallback::name(&name.value), plugin));
            stage.plugin().map(|plugin| (name.value.clone(), plugin)).into_iter().chain(fallback)
        })
        .filter_map(|(name, plugin)| Some((name, known(&plugin.value)?)))
        .collect()
}

/// Reads and checks a text.
fn checked(yaml: &str, env: &[(&str, &str)]) -> Result<Graph, Vec<Diagnostic>> {
    let loaded = loaded(yaml, env)?;
    check(&loaded, &facts(&loaded), None)
}

/// The faults of a text, as people read them.
fn shown(yaml: &str, env: &[(&str, &str)]) -> String {
    checked(yaml, env).map_or_else(|faults| render(&faults, Colour::Off), |_| String::new())
}
