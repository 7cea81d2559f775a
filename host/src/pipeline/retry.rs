//! What letters come to when their plugin, or another in its place, is given them again, without a pipeline.
//!
//! Owns how a letter becomes a call. It must not know where letters lie or who asks. Invariants: nothing is sent, kept or given
//! up; every letter gets an instance of its own, so that none can spoil another.

use std::sync::Arc;

use super::open;
use crate::{
    batch::{Batch, Column},
    config::graph::Stage,
    letter::{Kind, Letter},
    plugin::{self, Fault, Groups, Interrupt, Occasion, Plugin, Refusals, Window},
    stage::{aggregate::Putback, failure::reason, prepare::Wants, worker::Maker},
};

/// What a letter came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Again {
    /// It passes.
    Passes,
    /// It is refused again, or brings about a fault again.
    Fails {
        /// Why, in a word.
        kind: Kind,
        /// Why.
        reason: String,
    },
}

/// A plugin in the place of a stage.
pub struct Trial {
    kind: plugin::Kind,
    state_version: u32,
    maker: Arc<dyn Maker>,
    wants: Wants,
}

impl Trial {
    /// `plugin` under the configuration and the limits of `stage`.
    ///
    /// # Errors
    /// When it is of another kind or does not take the configuration.
    pub fn new(stage: &Stage, plugin: &Plugin) -> Result<Self, String> {
        if plugin.kind() != stage.kind {
            return Err(format!("it is a {}, and the stage is a {}", plugin.kind(), stage.kind));
        }
        let needs: Vec<String> = plugin.described().needs.iter().map(ToString::to_string).collect();
        Ok(Self {
            kind: stage.kind,
            state_version: plugin.described().state_version,
            maker: open::maker(stage, plugin)?,
            wants: Wants::new(&needs, stage.key.as_deref()),
        })
    }

    /// What becomes of `letter`.
    ///
    /// # Errors
    /// When no instance can be made.
    pub fn give(&self, letter: &Letter) -> Result<Again, Box<Fault>> {
        let Some(record) = letter.record() else {
            let reason = "what the letter holds cannot be read".to_owned();
            return Ok(Again::Fails { kind: letter.kind, reason });
        };
        let mut instance = self.maker.make(&Interrupt::default())?;
        let now = letter.time.unwrap_or_default();
        let refused = match Putback::of(&record) {
            Some(group) if group.version != self.state_version => {
                let reason =
                    format!("its state is of version {}, the plugin's are of {}", group.version, self.state_version);
                return Ok(Again::Fails { kind: Kind::Refused, reason });
            }
            Some(group) => {
                let states = [group.state].iter().collect();
                let groups = Groups { states, keys: keys(&record), windows: Some(vec![group.window]) };
                instance.finish(now, &groups, Occasion::Closed).map(|finished| finished.refused)
            }
            None => {
                let record = self.wants.prepare(0, record);
                match self.kind {
                    plugin::Kind::Filter => instance.filter(now, &record).map(|selection| selection.refused),
                    plugin::Kind::Map => instance.map(now, &record).map(|mapped| mapped.refused),
                    plugin::Kind::Aggregate => {
                        let windows = Some(vec![Window { start: now, end: now.saturating_add(1) }]);
                        let groups = Groups { states: Column::blank(1), keys: keys(&record), windows };
                        instance.accumulate(now, &groups, &[0], &record).map(|folded| folded.refused)
                    }
                }
            }
        };
        Ok(match refused {
            Ok(Refusals { at, .. }) if at.is_empty() => Again::Passes,
            Ok(Refusals { reasons, .. }) => {
                let reason = String::from_utf8_lossy(reasons.get(0).unwrap_or_default()).into_owned();
                Again::Fails { kind: Kind::Refused, reason }
            }
            Err(fault) => Again::Fails { kind: fault.kind.into(), reason: reason(&fault) },
        })
    }
}

fn keys(record: &Batch) -> Column {
    record.keys().cloned().unwrap_or_else(|| Column::blank(1))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        letter::{Data, Origin, Part},
        plugin::{
            Limits, standard,
            tests::{ENGINE, guest},
        },
    };

    struct Of(Plugin, serde_json::Value);

    impl Maker for Of {
        fn make(&self, _: &Interrupt) -> Result<Box<dyn plugin::Instance>, Box<Fault>> {
            Ok(Box::new(self.0.instantiate(&Limits::default(), &self.1)?))
        }
    }

    fn trial(plugin: Plugin, config: serde_json::Value) -> Trial {
        let needs: Vec<String> = plugin.described().needs.iter().map(ToString::to_string).collect();
        let (kind, state_version) = (plugin.kind(), plugin.described().state_version);
        Trial { kind, state_version, maker: Arc::new(Of(plugin, config)), wants: Wants::new(&needs, None) }
    }

    fn letter(value: &str, headers: &[(&str, &[u8])]) -> Letter {
        Letter {
            offset: 0,
            by: Origin { name: "s".to_owned(), part: Part::Stage, plugin: None },
            kind: Kind::Trap,
            reason: String::new(),
            place: None,
            epoch: 1,
            refused: (0, 0),
            attempts: 1,
            was: None,
            value: Data::of(value.as_bytes()),
            key: Some(Data::of(b"k")),
            time: Some(5),
            headers: headers.iter().map(|(name, value)| (Data::of(name.as_bytes()), Data::of(value))).collect(),
            id: None,
            input: None,
        }
    }

    #[test]
    fn a_letter_passes_unless_its_record_is_refused_or_brings_about_a_fault() {
        let poison = trial(Plugin::load(&ENGINE, &guest(plugin::Kind::Filter, "poison")).unwrap(), json!({}));
        assert_eq!(poison.give(&letter("1", &[])).unwrap(), Again::Passes);
        let Again::Fails { kind, reason } = poison.give(&letter("panic", &[])).unwrap() else { panic!() };
        assert!(kind == Kind::Trap && reason.starts_with("trap: "), "{reason}");
        // An instance that faulted spoils no other.
        assert_eq!(poison.give(&letter("2", &[])).unwrap(), Again::Passes);

        let standard = |name: &str| Plugin::load(&ENGINE, standard::find(name).unwrap()).unwrap();
        let route = trial(standard("route"), json!({ "big": "a > 1" }));
        assert_eq!(route.give(&letter(r#"{"a":2}"#, &[])).unwrap(), Again::Passes);
        assert!(matches!(route.give(&letter("no json", &[])).unwrap(), Again::Fails { kind: Kind::Refused, .. }));
        let summary = trial(standard("summary"), json!({ "field": "/a" }));
        assert_eq!(summary.give(&letter(r#"{"a":2}"#, &[])).unwrap(), Again::Passes);
        assert!(matches!(summary.give(&letter(r#"{"a":"x"}"#, &[])).unwrap(), Again::Fails { .. }));
    }

    #[test]
    fn a_group_is_ended_again_from_the_state_in_its_headers() {
        let summary = Plugin::load(&ENGINE, standard::find("summary").unwrap()).unwrap();
        let version = summary.described().state_version;
        let trial = trial(summary, json!({ "field": "/a" }));
        let mut instance = trial.maker.make(&Interrupt::default()).unwrap();
        let record = trial.wants.prepare(0, letter(r#"{"a":2}"#, &[]).record().unwrap());
        let groups =
            Groups { states: Column::blank(1), keys: keys(&record), windows: Some(vec![Window { start: 0, end: 9 }]) };
        let state = instance.accumulate(0, &groups, &[0], &record).unwrap().states.get(0).unwrap().to_vec();

        let group = |state: &[u8], version: u32| {
            let version = version.to_string();
            let headers: [(&str, &[u8]); 4] = [
                ("tidegate-window-start", b"0"),
                ("tidegate-window-end", b"9"),
                ("tidegate-state", state),
                ("tidegate-state-version", version.as_bytes()),
            ];
            trial.give(&letter("", &headers)).unwrap()
        };
        assert_eq!(group(&state, version), Again::Passes);
        assert!(matches!(group(b"torn", version), Again::Fails { .. }), "the plugin cannot read it");
        let Again::Fails { reason, .. } = group(&state, version + 1) else { panic!() };
        assert!(reason.contains("its state is of version"), "{reason}");
    }
}
