//! Which plugins a stage names: its own, and the one that stands in for it while its breaker is open.
//!
//! Owns how the second becomes a part of the pipeline, and how either is told that it does not take its configuration. It
//! must not know when one of them is called.

use super::{
    build::PluginPart,
    open::{configured, part_of},
};
use crate::{
    config::{self, Diagnostic, Loaded, Spanned, codes, graph::Stage},
    plugin::Plugin,
};

/// Which plugin of a stage is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Own,
    /// The one that stands in for it.
    Fallback,
}

/// The plugins that a stage names.
pub(super) fn written(stage: &config::Stage) -> impl Iterator<Item = (Place, &Spanned<String>)> {
    let own = stage.plugin().map(|plugin| (Place::Own, plugin));
    own.into_iter().chain(stage.breaker.stands_in().map(|plugin| (Place::Fallback, plugin)))
}

/// A plugin, ready to stand in for that of a stage.
///
/// # Errors
/// Why it does not take the stage's configuration.
pub(super) fn standing_in(stage: &Stage, plugin: &Plugin) -> Result<PluginPart, String> {
    let (written, needs) = stage.fallback.clone().map(|fallback| (fallback.plugin, fallback.needs)).unwrap_or_default();
    Ok(PluginPart { needs, ..part_of(stage, &written, plugin, configured(stage, plugin)?) })
}

/// A fault of a plugin that does not take the configuration of its stage.
pub(super) fn refused(loaded: &Loaded, stage: &Stage, place: Place, message: String) -> Diagnostic {
    let found = loaded.pipeline.stages.iter().find(|(name, _)| name.value == stage.name);
    let plugin = found.and_then(|(_, stage)| written(stage).find(|(at, _)| *at == place)).map(|(_, plugin)| plugin);
    let named = plugin.map_or("", |plugin| plugin.value.as_str());
    let message = format!("stage `{}`: `{named}` refuses its configuration: {message}", stage.name);
    let fault = Diagnostic::error(codes::CONFIG_REFUSED, &loaded.text, message);
    match plugin {
        Some(plugin) => fault.at(plugin.span.clone()),
        None => fault,
    }
}
