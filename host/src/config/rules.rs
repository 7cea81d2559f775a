//! What the fields of a pipeline must keep, each for itself.
//!
//! Owns names, numbers, kinds and pointers. What they come to together is checked in `graph`.

use std::ops::Range;

use super::{
    Pipeline, Sink, Source, Stage,
    breaker::{Breaker, Then},
    codes,
    diagnostic::Flaw,
    pipeline::{Capacity, GiveUp, Window},
    place::{Spanned, Table},
    state::{State, WhenFull},
    tree::Tree,
};
use crate::{codec::Format, sink::http::Misuse, source::journal::Answer};

/// Whether `name` can name a pipeline, source, stage, sink, side output or variable.
pub(crate) fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_lowercase())
        && name.len() <= 63
        && bytes.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_' || byte == b'-')
}

/// Which parts of a file were cut out because they did not fit: what is missing there is no further fault.
pub(crate) type IsDamaged<'a> = &'a dyn Fn(&[&str]) -> bool;

/// All faults of `pipeline` that a field has by itself; `tree` says which fields were written.
pub(crate) fn check(pipeline: &Pipeline, tree: &Tree, damaged: IsDamaged<'_>) -> Vec<Flaw> {
    let mut rules = Rules { faults: Vec::new() };
    for field in ["version", "name"] {
        if tree.get(field).is_none() {
            let message = format!("the field `{field}` is missing");
            rules.fault(codes::MISSING_FIELD, message, &tree.span, &format!("add `{field}:` to the file"));
        }
    }
    if pipeline.version.value != 1 && !pipeline.version.span.is_empty() {
        let message = format!("version {} of the file is not known", pipeline.version.value);
        rules.fault(codes::WRONG_VERSION, message, &pipeline.version.span, "write `version: 1`");
    }
    if !pipeline.name.span.is_empty() {
        rules.name("pipeline", &pipeline.name);
    }
    rules.names("variable", &pipeline.vars);
    rules.names("source", &pipeline.sources);
    rules.names("stage", &pipeline.stages);
    rules.names("sink", &pipeline.sinks);
    rules.range("epoch", pipeline.epoch.0.as_millis(), 10..=3_600_000, "ms", &pipeline.epoch.span);
    rules.range("records", pipeline.batch.records.value.into(), 1..=1 << 20, "", &pipeline.batch.records.span);
    rules.range("bytes", pipeline.batch.bytes.0.into(), 1..=1 << 30, " bytes", &pipeline.batch.bytes.span);
    let max = &pipeline.dead_letters.max;
    rules.range("max", max.0.into(), 1 << 20..=1 << 50, " bytes", &max.span);
    for (name, source) in pipeline.sources.iter() {
        let lost = |kind: &str| damaged(&["sources", &name.value, kind]);
        rules.one_kind(
            "source",
            name,
            &[
                ("file", source.file.is_some()),
                ("stdin", source.stdin.is_some()),
                ("http", source.http.is_some()),
                ("topic", source.topic.is_some()),
                ("generate", source.generate.is_some()),
                ("host_metrics", source.host_metrics.is_some()),
            ],
            &lost,
        );
        rules.source(source, tree.get("sources").and_then(|sources| sources.get(&name.value)));
    }
    for (name, stage) in pipeline.stages.iter() {
        let lost = |kind: &str| damaged(&["stages", &name.value, kind]);
        rules.one_kind(
            "stage",
            name,
            &[
                ("filter", stage.filter.is_some()),
                ("map", stage.map.is_some()),
                ("aggregate", stage.aggregate.is_some()),
            ],
            &lost,
        );
        let written = tree.get("stages").and_then(|stages| stages.get(&name.value));
        rules.stage(stage, written, damaged(&["stages", &name.value, "window"]));
        let probation = &stage.reload.probation;
        rules.range("probation", probation.0.as_millis(), 0..=86_400_000, "ms", &probation.span);
        rules.was(stage, &pipeline.stages);
    }
    for (name, sink) in pipeline.sinks.iter() {
        let lost = |kind: &str| damaged(&["sinks", &name.value, kind]);
        rules.one_kind(
            "sink",
            name,
            &[
                ("file", sink.file.is_some()),
                ("http", sink.http.is_some()),
                ("topic", sink.topic.is_some()),
                ("stdout", sink.stdout.is_some()),
                ("discard", sink.discard.is_some()),
            ],
            &lost,
        );
        rules.sink(sink, tree.get("sinks").and_then(|sinks| sinks.get(&name.value)));
    }
    for edge in &pipeline.edges {
        rules.capacity(&edge.capacity);
    }
    rules.variables(pipeline, tree, damaged);
    rules.faults
}

struct Rules {
    faults: Vec<Flaw>,
}

impl Rules {
    fn fault(&mut self, code: &'static str, message: String, span: &Range<usize>, cure: &str) {
        let cure = Some(cure.to_owned());
        self.faults.push(Flaw { code, message, labels: vec![(span.clone(), String::new())], cure });
    }

    fn name(&mut self, what: &str, name: &Spanned<String>) {
        if !is_name(&name.value) {
            let message = format!("`{}` cannot be the name of a {what}", name.value);
            let cure = "use lowercase letters, digits, `_` and `-`, a letter first, at most 63";
            self.fault(codes::BAD_NAME, message, &name.span, cure);
        }
    }

    fn names<T>(&mut self, what: &str, table: &Table<T>) {
        for (name, _) in table.iter() {
            self.name(what, name);
        }
    }

    fn range(
        &mut self,
        field: &str,
        value: u128,
        allowed: std::ops::RangeInclusive<u128>,
        unit: &str,
        span: &Range<usize>,
    ) {
        if !allowed.contains(&value) {
            let message = format!("`{field}` cannot be {value}{unit}");
            let cure = format!("take something from {} to {}{unit}", allowed.start(), allowed.end());
            self.fault(codes::OUT_OF_RANGE, message, span, &cure);
        }
    }

    fn one_kind(&mut self, what: &str, name: &Spanned<String>, kinds: &[(&str, bool)], lost: &dyn Fn(&str) -> bool) {
        let listed = |all: &[&str]| all.iter().map(|kind| format!("`{kind}`")).collect::<Vec<_>>().join(", ");
        let set: Vec<_> = kinds.iter().filter(|kind| kind.1).map(|kind| kind.0).collect();
        let all: Vec<_> = kinds.iter().map(|kind| kind.0).collect();
        match set.as_slice() {
            [_] => {}
            [] if all.iter().any(|kind| lost(kind)) => {}
            [] => {
                let message = format!("the {what} `{}` is of no kind", name.value);
                self.fault(codes::NOT_ONE_KIND, message, &name.span, &format!("add one of {}", listed(&all)));
            }
            many => {
                let message = format!("the {what} `{}` is of {} kinds at once", name.value, many.len());
                self.fault(codes::NOT_ONE_KIND, message, &name.span, &format!("keep one of {}", listed(many)));
            }
        }
    }

    fn no_effect(&mut self, field: &str, span: &Range<usize>) {
        self.fault(codes::NO_EFFECT, format!("{field} would have no effect"), span, "take it out");
    }

    fn pointer(&mut self, field: &str, pointer: Option<&Spanned<String>>) {
        let Some(pointer) = pointer else { return };
        if !is_pointer(&pointer.value) {
            let message = format!("`{field}` is not a JSON pointer: `{}`", pointer.value);
            let cure = format!("did you mean `/{}`?", pointer.value.trim_start_matches(['$', '.']).replace('.', "/"));
            self.fault(codes::BAD_POINTER, message, &pointer.span, &cure);
        }
    }

    fn source(&mut self, source: &Source, written: Option<&Tree>) {
        if let Some(topic) = &source.topic {
            let at =
                |field: &str| written.and_then(|written| written.get("topic")?.get(field)).map(|it| it.span.clone());
            self.name("topic", &Spanned { value: topic.name.clone(), span: at("name").unwrap_or_default() });
            if let Some(group) = &topic.group {
                self.name("group", &Spanned { value: group.clone(), span: at("group").unwrap_or_default() });
            }
            if let Some(max_record) = written.and_then(|written| written.get("max_record")) {
                self.no_effect("`max_record` of a source whose records have been decoded", &max_record.span);
            }
        }
        self.pointer("key", source.key.as_ref());
        self.pointer("time", source.time.as_ref());
        self.range("max_record", source.max_record.0.into(), 1..=1 << 30, " bytes", &source.max_record.span);
        if let Some(http) = source.http.as_ref().filter(|http| !http.journal && http.answer == Some(Answer::Journaled))
        {
            let answer = written.and_then(|written| written.get("http")?.get("answer"));
            let span = answer.map_or(0..0, |answer| answer.span.clone());
            let message =
                format!("no request to `{}` can be answered once it is in a journal: there is none", http.listen);
            self.fault(codes::NO_EFFECT, message, &span, "add `journal: true`");
        }
        let Some(decode) = &source.decode else { return };
        if source.topic.is_some() {
            self.no_effect("`decode` of a source whose records have been decoded", &decode.span);
        }
        if (source.generate.is_some() || source.host_metrics.is_some()) && decode.value != Format::Json {
            self.no_effect("`decode` of a source that makes JSON", &decode.span);
        }
    }

    fn stage(&mut self, stage: &Stage, written: Option<&Tree>, window_damaged: bool) {
        self.range("workers", stage.workers.value.into(), 1..=256, "", &stage.workers.span);
        self.pointer("key", stage.key.as_ref());
        self.breaker(&stage.breaker.value);
        if let Some(slow) = &stage.breaker.slow {
            self.no_effect("`slow` of a stage, whose plugin has `limits.time`,", &slow.span);
        }
        if stage.breaker.then.value == Then::Bypass && stage.aggregate.is_some() {
            let message = "an aggregate cannot be passed by: what would it put out?".to_owned();
            self.fault(codes::WRONG_VALUE, message, &stage.breaker.then.span, "take `pause`, `dead_letter` or `drop`");
        }
        if stage.breaker.then.value == Then::Fallback && stage.aggregate.is_some() {
            let message = "nothing can stand in for an aggregate: its states are those of its plugin".to_owned();
            self.fault(codes::WRONG_VALUE, message, &stage.breaker.then.span, "take `pause`, `dead_letter` or `drop`");
        }
        let limit = |name: &str| written?.get("limits")?.get(name);
        let at = |name: &str| limit(name).map_or(0..0, |tree| tree.span.clone());
        for (name, value) in [
            ("memory", u128::from(stage.limits.memory.0)),
            ("output", stage.limits.output.0.into()),
            ("state", stage.limits.state.0.into()),
            ("time", stage.limits.time.0.as_millis()),
        ] {
            if value == 0 {
                self.fault(codes::OUT_OF_RANGE, format!("`{name}` cannot be zero"), &at(name), "take more");
            }
        }
        if stage.aggregate.is_none() && (stage.filter.is_some() || stage.map.is_some()) {
            if let Some(key) = &stage.key {
                self.no_effect("`key` of a stage that does not aggregate", &key.span);
            }
            if let Some(window) = &stage.window {
                self.no_effect("`window` of a stage that does not aggregate", &window.span);
            }
            if let Some(ttl) = &stage.ttl {
                self.no_effect("`ttl` of a stage that does not aggregate", &ttl.span);
            }
            if let Some(state) = &stage.state {
                self.no_effect("`state` of a stage that does not aggregate", &state.span);
            }
            if limit("state").is_some() {
                self.no_effect("`limits.state` of a stage that does not aggregate", &at("state"));
            }
        }
        if let Some(ttl) = &stage.ttl {
            self.range("ttl", ttl.0.as_millis(), 1..=86_400_000 * 3660, "ms", &ttl.span);
            if stage.window.is_some() {
                self.no_effect("`ttl` of a stage with windows", &ttl.span);
            }
        }
        if let Some(state) = &stage.state {
            self.range("max", state.max.0.into(), 4096..=1 << 50, " bytes", &state.max.span);
            self.memory(state);
        }
        if let (Some(window), false) = (&stage.window, window_damaged) {
            self.window(&window.value, &window.span);
        }
    }

    fn memory(&mut self, state: &State) {
        let Some(memory) = &state.memory else { return };
        if memory.0 < 4096 || memory.0 > state.max.0 {
            let message = format!("`memory` cannot be {} where `max` is {}", memory.value, state.max.value);
            self.fault(codes::OUT_OF_RANGE, message, &memory.span, "take something from 4KiB to `max`");
        }
        if state.when_full.value == WhenFull::Evict {
            let message =
                "`evict` cannot tell which of the groups that are not in memory was seen longest ago".to_owned();
            let cure = "take `when_full: pause` or `refuse`, let groups expire by `ttl`, or take `memory` out";
            self.fault(codes::APART, message, &state.when_full.span, cure);
        }
    }

    fn breaker(&mut self, breaker: &Breaker) {
        if breaker.failures.0 <= 0.0 {
            self.fault(codes::OUT_OF_RANGE, "`failures` cannot be 0%".to_owned(), &breaker.failures.span, "take more");
        }
        self.range("samples", breaker.samples.value.into(), 1..=100_000, "", &breaker.samples.span);
        self.range("window", breaker.window.0.as_millis(), 100..=3_600_000, "ms", &breaker.window.span);
        self.range("open", breaker.open.0.as_millis(), 10..=3_600_000, "ms", &breaker.open.span);
        match (&breaker.fallback, breaker.then.value) {
            (None, Then::Fallback) => {
                let message = "`then: fallback` does not say what has the records".to_owned();
                let cure = "name a plugin, or a sink, under `fallback`";
                self.fault(codes::MISSING_FIELD, message, &breaker.then.span, cure);
            }
            (Some(fallback), then) if then != Then::Fallback => {
                self.no_effect("`fallback` without `then: fallback`", &fallback.span);
            }
            _ => {}
        }
    }

    /// What a file or a stream has taken a part of cannot be taken back from it.
    fn can_give_up(&mut self, sink: &Sink, span: &Range<usize>) {
        if sink.file.is_some() || sink.stdout.is_some() || sink.topic.is_some() {
            let message = "this kind of sink cannot give up what it has in hand".to_owned();
            self.fault(codes::WRONG_VALUE, message, span, "let it wait, or stop the pipeline");
        }
    }

    fn was(&mut self, stage: &Stage, all: &Table<Stage>) {
        let Some(was) = &stage.was else { return };
        self.name("stage", was);
        let is_there = all.iter().any(|(name, _)| name.value == was.value);
        let is_twice = all
            .iter()
            .filter_map(|(_, other)| other.was.as_ref())
            .any(|other| other.span.start < was.span.start && other.value == was.value);
        if is_there || is_twice {
            let why = if is_there { "is in the file" } else { "has been taken over by another stage" };
            let message = format!("`was` names `{}`, which {why}", was.value);
            self.fault(codes::TAKEN_NAME, message, &was.span, "name the stage that this one takes the place of");
        }
    }

    fn sink(&mut self, sink: &Sink, written: Option<&Tree>) {
        let at = |path: &[&str]| {
            let found = path.iter().try_fold(written?, |below, name| below.get(name));
            Some(found.or(written)?.span.clone())
        };
        if let Some(encode) = &sink.encode {
            if sink.discard.is_some() {
                self.no_effect("`encode` of a sink that discards", &encode.span);
            }
            if sink.topic.is_some() {
                self.no_effect("`encode` of a sink that keeps records as they are", &encode.span);
            }
            if sink.http.is_some() {
                self.no_effect("`encode` of a sink that has a `format` of its own", &encode.span);
            }
        }
        self.breaker(&sink.breaker.value);
        if sink.breaker.then.value == Then::Bypass {
            let message = "there is nothing to pass a sink by".to_owned();
            self.fault(codes::WRONG_VALUE, message, &sink.breaker.then.span, "take `pause`, `dead_letter` or `drop`");
        }
        if matches!(sink.breaker.then.value, Then::DeadLetter | Then::Drop | Then::Fallback) {
            self.can_give_up(sink, &sink.breaker.then.span);
        }
        if (sink.discard.is_some() || sink.topic.is_some()) && !sink.breaker.value.is_default() {
            self.no_effect("`breaker` of a sink whose other side is the host itself", &sink.breaker.span);
        }
        if let Some(retry) = &sink.retry {
            if sink.discard.is_some() {
                self.no_effect("`retry` of a sink that discards", &retry.span);
            }
            let most = retry.max.0.as_millis().max(1);
            self.range("first", retry.first.0.as_millis(), 1..=most, "ms", &retry.first.span);
            if let Some(attempts) = &retry.attempts {
                self.range("attempts", attempts.value.into(), 1..=1_000_000, "", &attempts.span);
            }
            if retry.then.value == GiveUp::DeadLetter {
                self.can_give_up(sink, &retry.then.span);
                if retry.attempts.is_none() {
                    self.no_effect("`then` of attempts without an end", &retry.then.span);
                }
            }
        }
        if let Some(max) = sink.outbox_max.as_ref().filter(|_| !sink.has_outbox()) {
            self.no_effect("`outbox_max` of a sink without `outbox: true`", &max.span);
        }
        if let Some(topic) = &sink.topic {
            let (name, max) = (at(&["topic", "name"]), at(&["topic", "max"]));
            self.name("topic", &Spanned { value: topic.name.clone(), span: name.unwrap_or_default() });
            self.range("max", topic.max.0.into(), 1 << 20..=1 << 50, " bytes", &max.unwrap_or_default());
        }
        let Some(http) = &sink.http else {
            // Of which kind it would be is not known where none could be read.
            if sink.file.is_some() || sink.topic.is_some() || sink.stdout.is_some() || sink.discard.is_some() {
                if let Some(batch) = &sink.batch {
                    self.no_effect("`batch` of a sink without requests", &batch.span);
                }
                if let Some(in_flight) = &sink.in_flight {
                    self.no_effect("`in_flight` of a sink without requests", &in_flight.span);
                }
                if let Some(outbox) = &sink.outbox {
                    self.no_effect("`outbox` of a sink without requests", &outbox.span);
                }
            }
            return;
        };
        for Misuse { path, message } in http.faults() {
            let place: Vec<&str> = ["http"].into_iter().chain(path.iter().map(String::as_str)).collect();
            let message = format!("`{}` {message}", path.join("."));
            self.fault(codes::BAD_REQUEST, message, &at(&place).unwrap_or_default(), "correct it");
        }
        if let Some(batch) = &sink.batch {
            self.range("records", batch.records.value.into(), 1..=1 << 20, "", &batch.records.span);
            self.range("bytes", batch.bytes.0.into(), 1..=1 << 30, " bytes", &batch.bytes.span);
        }
        if let Some(in_flight) = &sink.in_flight {
            self.range("in_flight", in_flight.value.into(), 1..=256, "", &in_flight.span);
        }
    }

    fn window(&mut self, window: &Window, span: &Range<usize>) {
        match (window.tumbling, window.count) {
            (Some(size), None) => self.range("tumbling", size.0.as_millis(), 1..=86_400_000 * 366, "ms", span),
            (None, Some(count)) => {
                self.range("count", count.into(), 1..=u128::from(u32::MAX), "", span);
                if window.lateness.is_some() || window.late.is_some() {
                    self.no_effect("`lateness` and `late` of a window that counts records", span);
                }
            }
            (Some(_), Some(_)) => {
                let message = "the window is of 2 kinds at once".to_owned();
                self.fault(codes::NOT_ONE_KIND, message, span, "keep one of `tumbling`, `count`");
            }
            (None, None) => {
                let message = "the window is of no kind".to_owned();
                self.fault(codes::NOT_ONE_KIND, message, span, "add `tumbling` or `count`");
            }
        }
    }

    fn capacity(&mut self, capacity: &Capacity) {
        self.range("records", capacity.records.value.into(), 1..=1 << 24, "", &capacity.records.span);
        self.range("bytes", capacity.bytes.0.into(), 1..=1 << 40, " bytes", &capacity.bytes.span);
    }

    fn variables(&mut self, pipeline: &Pipeline, tree: &Tree, damaged: IsDamaged<'_>) {
        for (name, var) in pipeline.vars.iter() {
            let super::Var::Lookup(lookup) = var else { continue };
            let kinds = [("env", lookup.env.is_some()), ("secret", lookup.secret.is_some())];
            self.one_kind("variable", name, &kinds, &|kind| damaged(&["vars", &name.value, kind]));
            if let Some(secret) = &lookup.secret {
                let kinds = [("file", secret.file.is_some()), ("env", secret.env.is_some())];
                self.one_kind("secret", name, &kinds, &|kind| damaged(&["vars", &name.value, "secret", kind]));
                if lookup.default.is_some() {
                    let default = tree.get("vars").and_then(|vars| vars.get(&name.value)?.get("default"));
                    self.no_effect("`default` of a secret", &default.map_or(0..0, |tree| tree.span.clone()));
                }
            }
        }
    }
}

fn is_pointer(text: &str) -> bool {
    let escapes = text.split('~').skip(1).all(|rest| rest.starts_with('0') || rest.starts_with('1'));
    text.starts_with('/') && escapes && text.len() <= 1024
}
