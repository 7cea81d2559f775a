//! The source of the letters of a pipeline, opened.
//!
//! Owns who takes which letters back. It must not know what the letters hold.

use crate::{
    config::graph::{self, Graph},
    letter::Office,
    source::{
        self, Role, Source,
        letters::{Decode, Taker},
    },
};

/// The source of the letters of a pipeline.
pub(in crate::pipeline) fn open_replays(graph: &Graph, office: &Office, role: Role) -> Box<dyn Source> {
    let decode = |source: &graph::Source| {
        let graph::Source { format, stamp, ids, .. } = source;
        Decode { format: *format, stamp: stamp.clone(), max_record: source.max_record.bytes(), has_ids: *ids }
    };
    let sources = graph.sources.iter().map(|source| (&source.name, Some(decode(source))));
    let stages = graph.stages.iter().map(|stage| (&stage.name, None));
    let all = sources.chain(stages).chain(graph.sinks.iter().map(|sink| (&sink.name, None)));
    let takers = all.map(|(name, decode)| (name.clone(), Taker { readers: graph.takers(name), decode }));
    // The letters' own sink refuses nothing.
    let takers = takers.filter(|(name, _)| name != graph::LETTERS).collect();
    Box::new(source::letters::open(office.letters.clone(), office.desk.clone(), takers, role))
}
