//! `plugin call`: records through one instance, and what comes out.
//!
//! Owns how outputs are shown. An aggregate is given all records without windows, then asked to finish every group.

use std::{collections::BTreeMap, sync::Arc};

use clap::Args;
use serde::Serialize;
use serde_json::json;

use super::{Answer, Exit, Outcome, Trouble, Which, figure, load, records};
use crate::{
    batch::{Batch, Column},
    config::codes,
    plugin::{Fault, FaultKind, Groups, Instance, Kind, Limits, Mapped, Occasion, Plugin, Produced, Refusals},
    stage::failure::Report,
};

/// Records for each call, as in a pipeline with defaults.
const BATCH: usize = 1024;

#[derive(Args, Debug)]
pub(in crate::cli) struct Call {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    reading: records::Reading,
}

/// A record that came out.
#[derive(Serialize)]
struct Out {
    /// `main`, the name of a side output, or `rest`.
    output: Arc<str>,
    /// Position of the record or group that it came from.
    origin: u64,
    value: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<i64>,
}

/// A record or group that was refused.
#[derive(Serialize)]
struct No {
    /// Its position.
    at: u64,
    reason: String,
}

#[derive(Default)]
struct Gathered {
    outputs: Vec<Out>,
    refused: Vec<No>,
    names: Vec<Arc<str>>,
}

impl Call {
    pub(super) fn perform(self) -> Outcome {
        let plugin = load(&self.which.plugin)?;
        let (batch, undecoded) = self.reading.read(std::io::stdin().lock(), "standard input", &plugin)?;
        let mut instance = plugin
            .instantiate(&Limits::default(), &self.which.config)
            .map_err(|fault| refused_config(&self.which.plugin, &fault))?;
        let mut gathered = Gathered { names: plugin.described().outputs(&self.which.config), ..Gathered::default() };
        let done = match plugin.kind() {
            Kind::Filter => filter(&mut instance, &batch, &mut gathered),
            Kind::Map => map(&mut instance, &batch, &mut gathered),
            Kind::Aggregate => aggregate(&mut instance, &batch, &mut gathered),
        };
        done.map_err(|broken| {
            let (at, part, fault) = *broken;
            faulted(&self.which.plugin, &plugin, at, &part, *fault)
        })?;

        let (effects, usage) = (instance.take_effects(), instance.usage());
        let mut answer = gathered.answer(batch.len());
        for lost in &undecoded {
            answer.notes.push_str(&format!("not decoded: {}: {}\n", lost.place, lost.reason));
        }
        for (level, line) in &effects.logs {
            answer.notes.push_str(&format!("log {level:?}: {line}\n"));
        }
        let mut counts: BTreeMap<Arc<str>, u64> = BTreeMap::new();
        for (name, by) in effects.counts {
            *counts.entry(name).or_default() += by;
        }
        for (name, count) in &counts {
            answer.notes.push_str(&format!("count {name}: {count}\n"));
        }
        let logs: Vec<_> =
            effects.logs.iter().map(|(level, line)| json!([format!("{level:?}").to_lowercase(), line])).collect();
        let undecoded: Vec<_> =
            undecoded.iter().map(|lost| json!({ "at": lost.place, "reason": lost.reason })).collect();
        answer.result = json!({
            "outputs": gathered.outputs,
            "refused": gathered.refused,
            "undecoded": undecoded,
            "logs": logs,
            "counts": counts,
            "fuel": usage.fuel,
            "nanos": usage.nanos,
        });
        Ok(answer)
    }
}

type Broken = Box<(usize, Batch, Box<Fault>)>;

/// The parts of a batch that are given to one call each, with the position of their first record.
fn parts(batch: &Batch) -> impl Iterator<Item = (usize, Batch)> {
    (0..batch.len()).step_by(BATCH).map(|at| (at, batch.slice(at, at + BATCH)))
}

fn filter(instance: &mut dyn Instance, batch: &Batch, to: &mut Gathered) -> Result<(), Broken> {
    for (start, part) in parts(batch) {
        let selection = instance.filter(0, &part).map_err(|fault| Box::new((start, part.clone(), fault)))?;
        let mut keep = selection.keep.iter().copied().peekable();
        for at in (0_u32..).take(part.len()) {
            let output: Arc<str> = if keep.next_if_eq(&at).is_some() {
                "main".into()
            } else if selection.refused.at.binary_search(&at).is_ok() {
                continue;
            } else {
                "rest".into()
            };
            to.outputs.push(out(output, start, at, &part, at as usize));
        }
        to.refuse(start, &selection.refused);
    }
    Ok(())
}

fn map(instance: &mut dyn Instance, batch: &Batch, to: &mut Gathered) -> Result<(), Broken> {
    for (start, part) in parts(batch) {
        let Mapped { produced, refused } =
            instance.map(0, &part).map_err(|fault| Box::new((start, part.clone(), fault)))?;
        to.produce(start, &produced, &part);
        to.refuse(start, &refused);
    }
    Ok(())
}

/// Every record into the state of its key; then every group finished, in the order of keys.
fn aggregate(instance: &mut dyn Instance, batch: &Batch, to: &mut Gathered) -> Result<(), Broken> {
    let mut held: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    for (start, part) in parts(batch) {
        let (groups, group_of) = grouped(&part, &held);
        let answer = instance
            .accumulate(0, &groups, &group_of, &part)
            .map_err(|fault| Box::new((start, part.clone(), fault)))?;
        for (key, state) in groups.keys.iter().zip(answer.states.iter()) {
            if state.is_empty() {
                held.remove(key);
            } else {
                held.insert(key.to_vec(), state.to_vec());
            }
        }
        if let Some(produced) = &answer.produced {
            to.produce(start, produced, &part);
        }
        to.refuse(start, &answer.refused);
    }
    let keys: Column = held.keys().collect();
    let groups = Groups { states: held.values().collect(), keys: keys.clone(), windows: None };
    let heads = Batch::of_values(Column::blank(keys.len()));
    let heads = heads.clone().with_keys(keys).unwrap_or(heads);
    if !groups.states.is_empty() {
        let finished =
            instance.finish(0, &groups, Occasion::Closed).map_err(|fault| Box::new((0, heads.clone(), fault)))?;
        to.produce(0, &finished.produced, &heads);
        to.refuse(0, &finished.refused);
    }
    Ok(())
}

/// The groups that `part` touches, in order of first sight, and the group of each record.
fn grouped(part: &Batch, held: &BTreeMap<Vec<u8>, Vec<u8>>) -> (Groups, Vec<u32>) {
    let mut seen: BTreeMap<&[u8], u32> = BTreeMap::new();
    let (mut keys, mut group_of): (Vec<&[u8]>, Vec<u32>) = (Vec::new(), Vec::new());
    for at in 0..part.len() {
        let key = part.keys().and_then(|keys| keys.get(at)).unwrap_or_default();
        let next = u32::try_from(keys.len()).unwrap_or(u32::MAX);
        let group = *seen.entry(key).or_insert_with(|| {
            keys.push(key);
            next
        });
        group_of.push(group);
    }
    let states: Column = keys.iter().map(|key| held.get(*key).map_or(&[][..], Vec::as_slice)).collect();
    (Groups { states, keys: keys.into_iter().collect(), windows: None }, group_of)
}

fn out(output: Arc<str>, start: usize, origin: u32, from: &Batch, at: usize) -> Out {
    let text = |column: &Column| column.get(at).map(|item| String::from_utf8_lossy(item).into_owned());
    Out {
        output,
        origin: start as u64 + u64::from(origin),
        value: text(from.values()).unwrap_or_default(),
        key: from.keys().and_then(text).filter(|key| !key.is_empty()),
        time: from.timestamps().and_then(|times| times.get(at).copied()),
    }
}

impl Gathered {
    fn refuse(&mut self, start: usize, refusals: &Refusals) {
        self.refused.extend(refusals.at.iter().zip(refusals.reasons.iter()).map(|(at, reason)| No {
            at: start as u64 + u64::from(*at),
            reason: String::from_utf8_lossy(reason).into_owned(),
        }));
    }

    /// What a plugin left out is inherited from the origin, as in a pipeline.
    fn produce(&mut self, start: usize, produced: &Produced, origins: &Batch) {
        for at in 0..produced.len {
            let origin = match &produced.origins {
                Some(origins) => origins.get(at).copied().unwrap_or_default(),
                None => u32::try_from(at).unwrap_or(u32::MAX),
            };
            let port = produced.ports.as_ref().and_then(|ports| ports.get(at).copied()).unwrap_or_default();
            let name = (port as usize).checked_sub(1).and_then(|side| self.names.get(side).cloned());
            let mut made = out(name.unwrap_or_else(|| "main".into()), start, origin, origins, origin as usize);
            let text = |column: &Column| column.get(at).map(|item| String::from_utf8_lossy(item).into_owned());
            if let Some(value) = produced.values.as_ref().and_then(text) {
                made.value = value;
            }
            if let Some(key) = produced.keys.as_ref().and_then(text) {
                made.key = Some(key).filter(|key| !key.is_empty());
            }
            if let Some(time) = produced.timestamps.as_ref().and_then(|times| times.get(at).copied()) {
                made.time = Some(time);
            }
            self.outputs.push(made);
        }
    }

    /// The main output on standard output, everything else named on standard error.
    fn answer(&self, records: usize) -> Answer {
        let (mut text, mut notes) = (String::new(), String::new());
        for out in &self.outputs {
            match &*out.output {
                "main" => text.push_str(&format!("{}\n", out.value)),
                // What a filter drops is the rule, not news; `--json` lists it.
                "rest" => {}
                side => notes.push_str(&format!("output `{side}`: {}\n", out.value)),
            }
        }
        for no in &self.refused {
            notes.push_str(&format!("refused {}: {}\n", no.at, no.reason));
        }
        let made = self.outputs.iter().filter(|out| &*out.output != "rest").count();
        let summary =
            format!("{} in, {} out, {} refused", figure::several(records, "record"), made, self.refused.len());
        Answer { notes, ..Answer::fine(summary, serde_json::Value::Null, text) }
    }
}

/// A plugin that does not take its configuration, or cannot even be made.
pub(super) fn refused_config(name: &str, fault: &Fault) -> Box<Answer> {
    let (exit, code) = match fault.kind {
        FaultKind::InstantiateFailed => (Exit::Usage, codes::CONFIG_REFUSED),
        _ => (Exit::Plugin, codes::PLUGIN_FAULT),
    };
    let trouble = Trouble::of(format!("configure `{name}`: {}", fault.message)).code(code);
    Box::new(Answer::failed(exit, trouble.cure("`tidegate plugin inspect` shows what its configuration has to be")))
}

/// A fault, told as a pipeline tells it.
pub(super) fn faulted(name: &str, plugin: &Plugin, start: usize, batch: &Batch, fault: Fault) -> Box<Answer> {
    let stage = format!("call from record {start}");
    let report = Report::new(&stage, name, plugin.digest(), fault, Some(batch));
    let mut answer = Answer::failed(Exit::Plugin, Trouble::of(report.to_string()).code(codes::PLUGIN_FAULT));
    answer.result = json!({ "report": report });
    Box::new(answer)
}
