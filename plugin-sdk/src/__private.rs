//! What the attributes write into an author's crate; nobody else's to name.
//!
//! Owns the doors through which the contract's functions enter the SDK. It must not hold logic of its own beyond
//! moving a reply into the contract's types.

use crate::aggregate::{Accumulated, Fold};
use crate::output::IntoOutputs;
use crate::outputs::Outputs;
use crate::{Filter, Map, Result};

pub use crate::aggregate::{Groups, Occasion, Window};
pub use crate::configure::{Configured, configure};
pub use crate::contract::{host, types};
pub use crate::describe::describe;
pub use crate::filter::keep_each;
pub use crate::in_hand::report_panics;
pub use crate::map::turn_each;
pub use wit_bindgen;

/// What a second `configure` of one instance is told.
pub const TWICE: &str = "this instance is configured already";
/// What a call before `configure` ends with.
pub const NOT_CONFIGURED: &str = "the host has to configure an instance before it calls it";

/// Puts out all that a map's function returned.
///
/// # Errors
/// The function's own, or an output that the plugin has not.
#[inline(always)]
pub fn put_all(out: &mut Outputs<'_>, returned: Result<impl IntoOutputs>) -> Result<()> {
    returned?.put_into(out)
}

/// `filtering.filter`.
pub fn filter<P: Filter>(configured: &Configured<P>, input: types::Batch) -> (Vec<u32>, types::Refusals) {
    let selection = crate::filter::run::<P>(configured, input);
    (selection.keep, selection.refused.into_contract())
}

/// `mapping.transform`.
pub fn map<P: Map>(configured: &Configured<P>, input: types::Batch) -> (types::Produced, types::Refusals) {
    let (produced, refused) = crate::map::run::<P>(configured, input);
    (produced, refused.into_contract())
}

/// `aggregation.accumulate`.
pub fn accumulate<P: Fold>(
    configured: &Configured<P>,
    groups: Groups,
    group_of: &[u32],
    input: types::Batch,
) -> Accumulated {
    crate::aggregate::accumulate::<P>(configured, groups, group_of, input)
}

/// `aggregation.merge`.
pub fn merge<P: Fold>(
    configured: &Configured<P>,
    states: &types::Column,
    parts: &[u32],
    ends: &[u32],
) -> types::Column {
    crate::aggregate::merge::<P>(configured, states, parts, ends)
}

/// `aggregation.finish`.
pub fn finish<P: Fold>(
    configured: &Configured<P>,
    groups: Groups,
    why: Occasion,
) -> (types::Produced, types::Refusals) {
    let (produced, refused) = crate::aggregate::finish::<P>(configured, groups, why);
    (produced, refused.into_contract())
}

/// `aggregation.migrate`.
pub fn migrate<P: Fold>(
    _configured: &Configured<P>,
    from: u32,
    to: u32,
    states: &types::Column,
) -> (types::Column, types::Refusals) {
    let (states, refused) = crate::aggregate::migrate::<P>(from, to, states);
    (states, refused.into_contract())
}
