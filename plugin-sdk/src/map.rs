//! Maps: what each record turns into.
//!
//! Owns the trait behind `#[map]` and the loop over records. It must not know the contract's exports. Invariant: a
//! record that is refused has put nothing out.

use crate::batch::Batch;
use crate::configure::Configured;
use crate::contract::types;
use crate::describe::Plugin;
use crate::outputs::Outputs;
use crate::record::Record;
use crate::refused::Refused;
use crate::{Result, in_hand};

/// A plugin that turns each record into none, one or many; written by [`macro@map`](crate::map).
///
/// ```
/// use tidegate_plugin::{Map, prelude::*};
///
/// #[map]
/// fn words(record: &Record) -> Result<Vec<Output>> {
///     Ok(record.text()?.split(' ').map(Output::value).collect())
/// }
///
/// fn is_a_map<P: Map>() {}
/// # fn main() {
/// is_a_map::<words>();
/// # }
/// ```
pub trait Map: Plugin {
    /// Puts out what the records of `input` turn into.
    ///
    /// # Errors
    /// Refuses every record of the batch, for the reason given.
    fn turn(config: &Self::Config, input: &Batch, out: &mut Outputs<'_>) -> Result<()>;
}

/// Asks `turn` about each record of `input`.
#[inline(always)]
pub fn turn_each(input: &Batch, out: &mut Outputs<'_>, turn: impl Fn(&Record<'_>, &mut Outputs<'_>) -> Result<()>) {
    for at in 0..input.len() {
        in_hand::take(at as u32);
        let before = out.begin(at as u32);
        if let Err(error) = turn(&input.record(at), out) {
            out.cut(before);
            out.refused.push(at as u32, &error);
        }
    }
    in_hand::put_down();
}

/// Answers `mapping.transform`.
pub(crate) fn run<P: Map>(configured: &Configured<P>, input: types::Batch) -> (types::Produced, Refused) {
    let input = Batch::new(input, &P::FACTS);
    let mut out = Outputs::new(&configured.outputs, input.len(), input.values().data().len());
    if let Err(error) = P::turn(&configured.config, &input, &mut out) {
        out = Outputs::new(&configured.outputs, input.len(), 0);
        (0..input.len()).for_each(|at| out.refused.push(at as u32, &error));
    }
    out.into_contract()
}
