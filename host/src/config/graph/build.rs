//! The graph, once nothing is wrong with it.
//!
//! Owns the filling in of defaults and the numbering of stages by their order.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use xxhash_rust::xxh3::xxh3_128;

use super::{
    super::{Loaded, OnError, Retry, pipeline},
    Consumer, Edge, Graph, Input, Output, Producer, Sink, Source, Stage,
    fields::Wanted,
    outputs::Settled,
};
use crate::{
    batch::Limit,
    codec::{Format, Stamp},
    sink::http::Requests,
    source,
    unit::{Size, Span},
};

/// Bytes of an outbox, unless the file says otherwise.
const OUTBOX_MAX: Size = Size(1 << 30);

/// The format of a source: what it says, or what its kind has by default.
pub(super) fn format(source: &pipeline::Source) -> Option<Format> {
    let default = match input(source, "", "")? {
        Input::File(_) | Input::Stdin(_) => Format::Lines,
        // Whoever asks for fields of a topic's records takes them for JSON.
        Input::Http(_) | Input::Topic(..) | Input::Generate(_) | Input::HostMetrics(_) => Format::Json,
        Input::Passage(_) => Format::Raw,
    };
    Some(source.decode.as_ref().map_or(default, |decode| decode.value))
}

/// What `source`, called `name`, of a pipeline reads.
fn input(source: &pipeline::Source, pipeline: &str, name: &str) -> Option<Input> {
    let group = |topic: &source::topic::Config| topic.group.clone().unwrap_or_else(|| format!("{pipeline}.{name}"));
    let kinds = [
        source.file.clone().map(Input::File),
        source.stdin.clone().map(Input::Stdin),
        source.http.clone().map(Input::Http),
        source.topic.clone().map(|topic| Input::Topic(topic.clone(), group(&topic))),
        source.generate.clone().map(Input::Generate),
        source.host_metrics.clone().map(Input::HostMetrics),
    ];
    kinds.into_iter().flatten().next()
}

fn output(sink: &pipeline::Sink) -> Option<Output> {
    let kinds = [
        sink.file.clone().map(Output::File),
        sink.http.clone().map(|http| Output::Http(http, requests(sink))),
        sink.topic.clone().map(Output::Topic),
        sink.stdout.clone().map(Output::Stdout),
        sink.discard.clone().map(Output::Discard),
    ];
    kinds.into_iter().flatten().next()
}

/// How long a sink waits that does not say: a full topic has room as soon as its readers have come further.
fn retry(sink: &pipeline::Sink) -> Retry {
    let second = Span(Duration::from_secs(1)).into();
    if sink.topic.is_some() { Retry { max: second, ..Retry::default() } } else { Retry::default() }
}

fn requests(sink: &pipeline::Sink) -> Requests {
    let batch = sink.batch.as_ref().map(|batch| batch.value.clone()).unwrap_or_default();
    let whole = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    Requests {
        limit: Limit { records: whole(batch.records.value), bytes: batch.bytes.bytes() },
        linger: batch.linger.0,
        in_flight: sink.in_flight.as_ref().map_or(1, |in_flight| whole(in_flight.value)),
        outbox: sink.has_outbox().then(|| sink.outbox_max.as_ref().map_or(OUTBOX_MAX, |max| max.value)),
    }
}

fn shared(fields: Option<&BTreeSet<String>>) -> Arc<[Arc<str>]> {
    fields.into_iter().flatten().map(|field| Arc::from(field.as_str())).collect()
}

/// The graph; none where a part of it is not known, which has been told as a fault.
pub(super) fn build(
    loaded: &Loaded,
    settled: &[Settled<'_>],
    order: &[usize],
    mut edges: Vec<Edge>,
    wanted: &Wanted,
    on_error: OnError,
) -> Option<Graph> {
    let pipeline = &loaded.pipeline;
    let sources = pipeline.sources.iter().enumerate().map(|(i, (name, source))| {
        let (input, has_ids) =
            (input(source, &pipeline.name.value, &name.value)?, wanted.ids.contains(&Producer::Source(i)));
        let stamp = Stamp {
            key: source.key.as_ref().map(|key| key.value.clone()),
            time: source.time.as_ref().map(|time| time.value.clone()),
            fields: shared(wanted.of_sources.get(i)),
            ids: (has_ids && input.knows_places()).then(|| xxh3_128(name.value.as_bytes())),
        };
        Some(Source {
            name: name.value.clone(),
            input,
            format: format(source)?,
            stamp,
            watermark: source.watermark.clone(),
            rate: source.rate,
            max_record: source.max_record.value,
            ids: has_ids,
        })
    });
    let stages = order.iter().map(|i| {
        let settled = settled.get(*i)?;
        Some(Stage {
            name: settled.name.value.clone(),
            kind: settled.kind?,
            plugin: settled.plugin?.value.clone(),
            config: settled.config.clone()?,
            outputs: settled.outputs.clone()?,
            needs: settled.needs.clone(),
            rate: settled.stage.rate,
            fallback: settled.fallback.clone(),
            workers: usize::try_from(settled.stage.workers.value).ok()?,
            limits: settled.stage.limits.clone(),
            on_error: settled.stage.on_error.as_ref().map_or(on_error, |written| written.value),
            breaker: settled.stage.breaker.value.clone(),
            key: settled.stage.key.as_ref().map(|key| key.value.clone()),
            window: settled.window,
            ttl: settled.stage.ttl.as_ref().map(|ttl| ttl.value),
            reload: settled.stage.reload.clone(),
            state: settled.stage.state.as_ref().map(|state| state.value.clone()).unwrap_or_default(),
            was: settled.stage.was.as_ref().map(|was| was.value.clone()),
            fields: shared(wanted.of_stages.get(*i)),
            ids: wanted.ids.contains(&Producer::Stage(*i)),
        })
    });
    let sinks = pipeline.sinks.iter().map(|(name, sink)| {
        let format = sink.encode.as_ref().map_or(Format::Lines, |encode| encode.value);
        Some(Sink {
            name: name.value.clone(),
            output: output(sink)?,
            format,
            retry: sink.retry.as_ref().map_or_else(|| retry(sink), |retry| retry.value.clone()),
            breaker: sink.breaker.value.clone(),
            asked: sink.guarantee.as_ref().map(|asked| asked.value),
        })
    });
    let (sources, stages, sinks) =
        (sources.collect::<Option<_>>()?, stages.collect::<Option<Vec<_>>>()?, sinks.collect::<Option<_>>()?);
    let place = |old: usize| order.iter().position(|stage| *stage == old);
    for edge in &mut edges {
        if let Producer::Stage(old) = edge.from {
            edge.from = Producer::Stage(place(old)?);
        }
        if let Consumer::Stage(old) = edge.to {
            edge.to = Consumer::Stage(place(old)?);
        }
    }
    edges.sort_by_key(|edge| (edge.to, edge.input));
    Some(Graph {
        name: pipeline.name.value.clone(),
        folder: loaded.folder.clone(),
        epoch: pipeline.epoch.value,
        batch: Limit {
            records: usize::try_from(pipeline.batch.records.value).ok()?,
            bytes: pipeline.batch.bytes.bytes(),
        },
        linger: pipeline.batch.linger,
        uncommitted: pipeline.uncommitted,
        sources,
        stages,
        sinks,
        edges,
    })
}
