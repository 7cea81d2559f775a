//! What each stage puts out, as far as its plugin and its fields say.
//!
//! Owns the merging of what the file says with what the plugin says. It must not know who reads what.

use super::{
    super::{
        Late, Loaded, Secret, codes,
        diagnostic::Flaw,
        pipeline,
        place::Spanned,
        plugin_config::{Told, fit},
        rules::is_name,
        tree::Value,
    },
    Facts, PluginFacts, Windowing,
};
use crate::plugin::Kind;

/// Names of outputs that the host itself makes.
pub(super) const OWN: [&str; 3] = ["rest", "late", "refused"];

/// A stage with what is known of its plugin.
pub(super) struct Settled<'p> {
    pub(super) name: &'p Spanned<String>,
    pub(super) stage: &'p pipeline::Stage,
    /// None if the file does not say exactly one.
    pub(super) kind: Option<Kind>,
    pub(super) plugin: Option<&'p Spanned<String>>,
    /// None if the plugin is not known.
    pub(super) outputs: Option<Vec<String>>,
    pub(super) needs: Vec<String>,
    pub(super) config: Option<Secret>,
    pub(super) window: Windowing,
}

impl Settled<'_> {
    /// JSON pointers that the stage reads of its input.
    pub(super) fn fields(&self) -> impl Iterator<Item = &str> {
        let key = self.stage.key.as_ref().map(|key| key.value.as_str());
        self.needs.iter().filter_map(|need| need.strip_prefix("field:")).chain(key)
    }

    /// Whether it puts records to `.late`.
    pub(super) fn puts_late(&self) -> bool {
        matches!(self.window, Windowing::Tumbling { late: Late::Side, .. })
    }
}

/// Every stage of the file, in its order.
pub(super) fn settle<'p>(loaded: &'p Loaded, facts: &dyn Facts, flaws: &mut Vec<Flaw>) -> Vec<Settled<'p>> {
    loaded.pipeline.stages.iter().map(|(name, stage)| one(name, stage, facts.of(&name.value), flaws)).collect()
}

fn one<'p>(
    name: &'p Spanned<String>,
    stage: &'p pipeline::Stage,
    facts: Option<&PluginFacts>,
    flaws: &mut Vec<Flaw>,
) -> Settled<'p> {
    let kinds = [(Kind::Filter, &stage.filter), (Kind::Map, &stage.map), (Kind::Aggregate, &stage.aggregate)];
    let mut set = kinds.iter().filter_map(|(kind, plugin)| plugin.as_ref().map(|plugin| (*kind, plugin)));
    let (kind, plugin) = match (set.next(), set.next()) {
        (Some((kind, plugin)), None) => (Some(kind), Some(plugin)),
        _ => (None, None),
    };
    let window = match &stage.window {
        Some(window) => windowing(window),
        None => Windowing::None,
    };
    let mut settled = Settled { name, stage, kind, plugin, outputs: None, needs: Vec::new(), config: None, window };
    let (Some(facts), Some(kind), Some(plugin)) = (facts, kind, plugin) else { return settled };
    if facts.kind != kind {
        let (is, says) = (word(facts.kind), word(kind));
        let flaw = Flaw::at(
            codes::WRONG_KIND,
            &plugin.span,
            format!("`{}` is {} {is}, not {} {says}", plugin.value, article(is), article(says)),
        );
        flaws.push(flaw.cure(format!("write `{is}: {}`", plugin.value)));
    }
    for need in &facts.needs {
        let known = matches!(need.as_str(), "id" | "input" | "null") || need.starts_with("field:/");
        if !known {
            let message = format!("`{}` needs the column `{need}`, which is not known", plugin.value);
            flaws.push(Flaw::at(codes::UNKNOWN_NEED, &plugin.span, message));
        }
    }
    settled.needs.clone_from(&facts.needs);
    settled.outputs = Some(outputs(stage, plugin, facts, flaws));
    match fit(&Told { config: &stage.config, plugin: &plugin.value, span: &plugin.span }, facts.config_schema.as_ref())
    {
        Ok(config) => settled.config = Some(config),
        Err(misfits) => flaws.extend(misfits),
    }
    settled
}

fn outputs(
    stage: &pipeline::Stage,
    plugin: &Spanned<String>,
    facts: &PluginFacts,
    flaws: &mut Vec<Flaw>,
) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for name in &facts.outputs {
        if !is_name(name) || OWN.contains(&name.as_str()) || all.contains(name) {
            let message = format!("`{}` describes an output `{name}`, which cannot be its name", plugin.value);
            flaws.push(Flaw::at(codes::BAD_DESCRIPTION, &plugin.span, message));
        }
        // Even a bad name keeps its place: ports are counted by it.
        all.push(name.clone());
    }
    if let (true, Value::Map(entries)) = (facts.outputs_from_config, &stage.config.value) {
        let described = all.len();
        for (name, _) in entries {
            if !is_name(&name.value) || OWN.contains(&name.value.as_str()) {
                let flaw = Flaw::at(codes::BAD_NAME, &name.span, format!("`{}` cannot name an output", name.value));
                flaws.push(
                    flaw.cure("use lowercase letters, digits, `_` and `-`, and none of `rest`, `late`, `refused`"),
                );
            } else if !all.contains(&name.value) {
                all.push(name.value.clone());
            }
        }
        // Ports are counted in ascending order of the names: that is the order in which plugins see an object's fields.
        if let Some(named) = all.get_mut(described..) {
            named.sort_unstable();
        }
    }
    all
}

fn windowing(window: &pipeline::Window) -> Windowing {
    match (window.tumbling, window.count) {
        (Some(size), None) => Windowing::Tumbling {
            size,
            lateness: window.lateness.unwrap_or(crate::unit::Span(std::time::Duration::ZERO)),
            late: window.late.unwrap_or_default(),
        },
        (None, Some(count)) => Windowing::Count(count),
        _ => Windowing::None,
    }
}

/// The field that names a kind.
pub(super) fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Filter => "filter",
        Kind::Map => "map",
        Kind::Aggregate => "aggregate",
    }
}

fn article(word: &str) -> &'static str {
    if word.starts_with('a') { "an" } else { "a" }
}
