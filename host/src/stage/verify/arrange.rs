//! Records through a plugin, cut into calls in one way or another, and what came of each.
//!
//! Owns how an arrangement is called, and what of an answer counts. Windows and lateness are a pipeline's; here every group is
//! one window that ends when the records do. Invariant: what counts depends on the records alone, if the plugin keeps its
//! promise to keep nothing.

use std::{collections::BTreeMap, fmt};

use crate::{
    batch::{Batch, Column},
    plugin::{Fault, Groups, Instance, Kind, Occasion, Produced, Refusals, Window},
};

/// Something that came of a record, or of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gave {
    /// Position of the record that it came from; of a group, that of its first record.
    pub at: u32,
    /// What.
    pub what: What,
}

/// What may come of a record or group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A filter keeps it.
    Kept,
    /// It is refused, with this reason.
    Refused(Vec<u8>),
    /// An output.
    Out(Box<Out>),
    /// The state of its group, when all records have been folded.
    State {
        /// The group.
        key: Vec<u8>,
        /// Its state.
        state: Vec<u8>,
    },
}

/// An output, with what it inherits filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Out {
    /// 0 = the main output, else position in the described outputs plus one.
    pub port: u32,
    /// Its payload.
    pub value: Vec<u8>,
    /// Its key.
    pub key: Vec<u8>,
    /// Its event time, in milliseconds since the Unix epoch.
    pub time: Option<i64>,
    /// Its headers, encoded as the contract says.
    pub headers: Vec<u8>,
    /// Whether it is a tombstone.
    pub is_null: bool,
}

/// Most bytes of a value that are shown.
const SHOWN: usize = 200;

impl fmt::Display for What {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |bytes: &[u8]| {
            let (shown, dots) = bytes.get(..SHOWN).map_or((bytes, ""), |first| (first, "…"));
            format!("{}{dots}", String::from_utf8_lossy(shown).escape_debug())
        };
        match self {
            Self::Kept => to.write_str("it is kept"),
            Self::Refused(reason) => write!(to, "it is refused: {}", text(reason)),
            Self::State { key, state } => write!(to, "the state of `{}` is {}", text(key), text(state)),
            Self::Out(out) => {
                let Out { port, value, key, time, headers, is_null } = &**out;
                let time = time.map(|time| format!(" at {time}")).unwrap_or_default();
                let null = if *is_null { "nothing" } else { "" };
                write!(to, "output {port}, key `{}`{time}: {null}{}", text(key), text(value))?;
                if headers.is_empty() { Ok(()) } else { write!(to, " with headers {}", text(headers)) }
            }
        }
    }
}

impl What {
    /// Outputs of one port keep their order; that between ports is nobody's business.
    fn class(&self) -> u32 {
        match self {
            Self::Kept => 0,
            Self::Refused(_) => 1,
            Self::State { .. } => 2,
            Self::Out(out) => out.port.saturating_add(3),
        }
    }
}

/// The groups of the records that have come so far.
#[derive(Default)]
struct Folded {
    /// Group and first record of each key.
    known: BTreeMap<Vec<u8>, (usize, u32)>,
    keys: Vec<Vec<u8>>,
    states: Vec<Vec<u8>>,
}

/// Calls a plugin of `kind` with the `pieces` of `all` in turn, each on the instance that `instance` gives for it, and an
/// aggregate once more at the end; what came of it, by position.
///
/// # Errors
/// The first fault, with the piece that brought it about.
pub(super) fn arrange(
    kind: Kind,
    all: &Batch,
    pieces: &[(usize, usize)],
    mut instance: impl FnMut(&mut dyn FnMut(&mut dyn Instance) -> Result<(), Box<Fault>>) -> Result<(), Box<Fault>>,
) -> Result<Vec<Gave>, (usize, Box<Fault>)> {
    let (mut gave, mut folded) = (Vec::new(), Folded::default());
    for &(start, end) in pieces {
        let piece = all.slice(start, end);
        let mut call = |instance: &mut dyn Instance| match kind {
            Kind::Filter => {
                let selection = instance.filter(0, &piece)?;
                gave.extend(selection.keep.iter().map(|at| Gave { at: start as u32 + at, what: What::Kept }));
                refusals(&mut gave, |at| start as u32 + at, &selection.refused);
                Ok(())
            }
            Kind::Map => {
                let mapped = instance.map(0, &piece)?;
                outputs(&mut gave, |at| start as u32 + at, &piece, mapped.produced);
                refusals(&mut gave, |at| start as u32 + at, &mapped.refused);
                Ok(())
            }
            Kind::Aggregate => folded.fold(start, &piece, instance, &mut gave),
        };
        instance(&mut call).map_err(|fault| (start, fault))?;
    }
    if kind == Kind::Aggregate && !folded.keys.is_empty() {
        let mut finish = |instance: &mut dyn Instance| folded.finish(instance, &mut gave);
        instance(&mut finish).map_err(|fault| (0, fault))?;
    }
    gave.sort_by_key(|gave| (gave.at, gave.what.class()));
    Ok(gave)
}

impl Folded {
    fn fold(
        &mut self,
        start: usize,
        piece: &Batch,
        instance: &mut dyn Instance,
        gave: &mut Vec<Gave>,
    ) -> Result<(), Box<Fault>> {
        let mut touched: Vec<usize> = Vec::new();
        let mut group_of = Vec::with_capacity(piece.len());
        for at in 0..piece.len() {
            let key = piece.keys().and_then(|keys| keys.get(at)).unwrap_or_default();
            let group = match self.known.get(key) {
                Some((group, _)) => *group,
                None => {
                    self.known.insert(key.to_vec(), (self.keys.len(), (start + at) as u32));
                    self.keys.push(key.to_vec());
                    self.states.push(Vec::new());
                    self.keys.len() - 1
                }
            };
            let place = touched.iter().position(|known| *known == group).unwrap_or_else(|| {
                touched.push(group);
                touched.len() - 1
            });
            group_of.push(place as u32);
        }
        let of = |all: &[Vec<u8>]| touched.iter().filter_map(|group| all.get(*group)).collect::<Column>();
        let folded = instance.accumulate(0, &groups(of(&self.keys), of(&self.states)), &group_of, piece)?;
        for (group, state) in touched.iter().zip(folded.states.iter()) {
            if let Some(held) = self.states.get_mut(*group) {
                *held = state.to_vec();
            }
        }
        if let Some(produced) = folded.produced {
            outputs(gave, |at| start as u32 + at, piece, produced);
        }
        refusals(gave, |at| start as u32 + at, &folded.refused);
        Ok(())
    }

    fn finish(&self, instance: &mut dyn Instance, gave: &mut Vec<Gave>) -> Result<(), Box<Fault>> {
        // In the order of keys, as a pipeline's windows: which record came first is the arrangement's, not the plugin's.
        let ordered: Vec<(&Vec<u8>, &Vec<u8>, u32)> = self
            .known
            .iter()
            .filter_map(|(key, (group, first))| Some((key, self.states.get(*group)?, *first)))
            .collect();
        let state = |(key, state, at): &(&Vec<u8>, &Vec<u8>, u32)| Gave {
            at: *at,
            what: What::State { key: (*key).clone(), state: (*state).clone() },
        };
        gave.extend(ordered.iter().map(state));
        let open: Vec<_> = ordered.into_iter().filter(|(_, state, _)| !state.is_empty()).collect();
        if open.is_empty() {
            return Ok(());
        }
        let keys: Column = open.iter().map(|(key, ..)| key.as_slice()).collect();
        let states = open.iter().map(|(_, state, _)| state.as_slice()).collect();
        let finished = instance.finish(0, &groups(keys.clone(), states), Occasion::Closed)?;
        let origins = Batch::of_values(Column::blank(keys.len()));
        let origins = origins.clone().with_keys(keys).unwrap_or(origins);
        let first = |at: u32| open.get(at as usize).map_or(at, |(.., first)| *first);
        outputs(gave, first, &origins, finished.produced);
        refusals(gave, first, &finished.refused);
        Ok(())
    }
}

/// Groups of one window.
fn groups(keys: Column, states: Column) -> Groups {
    let windows = Some(vec![Window { start: 0, end: 60_000 }; keys.len()]);
    Groups { states, keys, windows }
}

fn refusals(gave: &mut Vec<Gave>, of: impl Fn(u32) -> u32, refused: &Refusals) {
    let refused = refused.at.iter().zip(refused.reasons.iter());
    gave.extend(refused.map(|(at, reason)| Gave { at: of(*at), what: What::Refused(reason.to_vec()) }));
}

fn outputs(gave: &mut Vec<Gave>, of: impl Fn(u32) -> u32, origins: &Batch, produced: Produced) {
    let from: Vec<u32> = match &produced.origins {
        Some(origins) => origins.clone(),
        None => (0..produced.len as u32).collect(),
    };
    let inherited = origins.gather(&from);
    let produced = produced.over(&inherited);
    for (at, origin) in from.into_iter().enumerate() {
        let item = |own: &Option<Column>, theirs: Option<&Column>| {
            own.as_ref().or(theirs).and_then(|column| column.get(at)).unwrap_or_default().to_vec()
        };
        let times = produced.timestamps.as_deref().or(inherited.timestamps());
        let out = Out {
            port: produced.ports.as_ref().and_then(|ports| ports.get(at).copied()).unwrap_or_default(),
            value: item(&produced.values, Some(inherited.values())),
            key: item(&produced.keys, inherited.keys()),
            time: times.and_then(|times| times.get(at).copied()),
            headers: item(&produced.headers, inherited.headers()),
            is_null: item(&produced.nulls, None) == [1],
        };
        gave.push(Gave { at: of(origin), what: What::Out(Box::new(out)) });
    }
}
