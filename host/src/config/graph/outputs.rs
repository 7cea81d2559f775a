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
    Facts, Fallback, PluginFacts, Windowing,
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
    /// What stands in for it, as far as that is known.
    pub(super) fallback: Option<Fallback>,
}

impl Settled<'_> {
    /// JSON pointers that the stage reads of its input.
    pub(super) fn fields(&self) -> impl Iterator<Item = &str> {
        let key = self.stage.key.as_ref().map(|key| key.value.as_str());
        self.all_needs().filter_map(|need| need.strip_prefix("field:")).chain(key)
    }

    /// What it needs, and what stands in for it.
    pub(super) fn all_needs(&self) -> impl Iterator<Item = &str> {
        let others = self.fallback.iter().flat_map(|fallback| &fallback.needs);
        self.needs.iter().chain(others).map(String::as_str)
    }

    /// Whether it puts records to `.late`.
    pub(super) fn puts_late(&self) -> bool {
        matches!(self.window, Windowing::Tumbling { late: Late::Side, .. })
    }
}

/// Every stage of the file, in its order.
pub(super) fn settle<'p>(loaded: &'p Loaded, facts: &dyn Facts, flaws: &mut Vec<Flaw>) -> Vec<Settled<'p>> {
    loaded.pipeline.stages.iter().map(|(name, stage)| one(name, stage, facts, flaws)).collect()
}

fn one<'p>(
    name: &'p Spanned<String>,
    stage: &'p pipeline::Stage,
    all: &dyn Facts,
    flaws: &mut Vec<Flaw>,
) -> Settled<'p> {
    let facts = all.of(&name.value);
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
    let (needs, fallback) = (Vec::new(), None);
    let mut settled = Settled { name, stage, kind, plugin, outputs: None, needs, config: None, window, fallback };
    let (Some(facts), Some(kind), Some(plugin)) = (facts, kind, plugin) else { return settled };
    if let Some(flaw) = of_kind(plugin, facts, kind) {
        flaws.push(flaw.cure(format!("write `{}: {}`", word(facts.kind), plugin.value)));
    }
    flaws.extend(unknown_needs(plugin, facts));
    settled.needs.clone_from(&facts.needs);
    settled.outputs = Some(outputs(stage, plugin, facts, flaws));
    match fit(&Told { config: &stage.config, plugin: &plugin.value, span: &plugin.span }, facts.config_schema.as_ref())
    {
        Ok(config) => settled.config = Some(config),
        Err(misfits) => flaws.extend(misfits),
    }
    let fallback = stage.breaker.value.stands_in();
    if let (Some(written), Some(facts)) = (fallback, all.of(&Fallback::name(&name.value))) {
        settled.fallback = Some(standing_in(&settled, written, facts, kind, flaws));
    }
    settled
}

/// A plugin that stands in for that of a stage does the same: its kind, its configuration and its outputs are the same.
fn standing_in(
    settled: &Settled<'_>,
    written: &Spanned<String>,
    facts: &PluginFacts,
    kind: Kind,
    flaws: &mut Vec<Flaw>,
) -> Fallback {
    flaws.extend(of_kind(written, facts, kind).map(|flaw| flaw.cure("name a plugin of the stage's kind")));
    flaws.extend(unknown_needs(written, facts));
    let told = Told { config: &settled.stage.config, plugin: &written.value, span: &written.span };
    flaws.extend(fit(&told, facts.config_schema.as_ref()).err().into_iter().flatten());
    let (of_stage, own) =
        (settled.outputs.as_deref().unwrap_or_default(), outputs(settled.stage, written, facts, &mut Vec::new()));
    if !of_stage.starts_with(&own) {
        let listed = |names: &[String]| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        let (own, of_stage) = (listed(&own), listed(of_stage));
        let message = format!("the side outputs of `{}` are {own}, those of the stage {of_stage}", written.value);
        let flaw = Flaw::at(codes::WRONG_KIND, &written.span, message);
        flaws.push(flaw.cure("name a plugin that has the same, or the first of them"));
    }
    Fallback { plugin: written.value.clone(), needs: facts.needs.clone() }
}

fn of_kind(plugin: &Spanned<String>, facts: &PluginFacts, kind: Kind) -> Option<Flaw> {
    let (is, says) = (word(facts.kind), word(kind));
    let message = || format!("`{}` is {} {is}, not {} {says}", plugin.value, article(is), article(says));
    (facts.kind != kind).then(|| Flaw::at(codes::WRONG_KIND, &plugin.span, message()))
}

fn unknown_needs(plugin: &Spanned<String>, facts: &PluginFacts) -> Vec<Flaw> {
    let is_known = |need: &str| matches!(need, "id" | "input" | "null") || need.starts_with("field:/");
    let unknown = facts.needs.iter().filter(|need| !is_known(need));
    let message = |need| format!("`{}` needs the column `{need}`, which is not known", plugin.value);
    unknown.map(|need| Flaw::at(codes::UNKNOWN_NEED, &plugin.span, message(need))).collect()
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
