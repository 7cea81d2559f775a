//! Aggregates: what a plugin folds the records of a group into.
//!
//! Owns the trait that an author implements, and what a group looks like to it. It must not know where states are kept;
//! the host keeps them. Invariant: a plugin sees a state only during a call.

mod calls;

pub use calls::Groups;
pub(crate) use calls::{Accumulated, accumulate, finish, merge, migrate};

use anyhow::{Result, anyhow, bail};
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::contract::types::Column;
use crate::describe::Plugin;
use crate::outputs::Outputs;
use crate::record::Record;

/// A plugin that folds the records of each group (a key, or a key in a window) into a state that the host keeps.
///
/// Everything that has to be remembered belongs into [`State`](Self::State): it survives crashes, reloads and moves.
/// States cross in [postcard](https://postcard.jamesmunns.com)'s form, which is compact and the same for equal states;
/// it cannot hold serde's `flatten`, `skip_serializing_if` and untagged enums, nor JSON values. Use maps whose order does
/// not change between runs.
///
/// ```
/// use tidegate_plugin::prelude::*;
///
/// #[derive(Default, Serialize, Deserialize)]
/// struct Sum { count: u64, total: f64 }
///
/// struct Mean;
///
/// #[aggregate(needs = ["keys"])]
/// impl Aggregate for Mean {
///     type Config = NoConfig;
///     type State = Sum;
///
///     fn add(_: &NoConfig, sum: &mut Sum, record: &Record, _: &mut Outputs) -> Result<()> {
///         sum.total += record.text()?.parse::<f64>()?;
///         sum.count += 1;
///         Ok(())
///     }
///
///     fn merge(_: &NoConfig, sum: &mut Sum, later: Sum) {
///         sum.total += later.total;
///         sum.count += later.count;
///     }
///
///     fn finish(_: &NoConfig, group: &Group, sum: &Sum, out: &mut Outputs) -> Result<()> {
///         let key = std::str::from_utf8(group.key()?)?;
///         out.json(&json!({ "key": key, "mean": sum.total / sum.count as f64 }))?;
///         Ok(())
///     }
/// }
/// # fn main() {
/// let mut groups = testing::Groups::<Mean>::new("");
/// groups.add([testing::text("1").key("a"), testing::text("4").key("a"), testing::text("?").key("a")]);
/// assert_eq!(groups.finish(Occasion::Closed).outputs[0].json(), json!({ "key": "a", "mean": 2.5 }));
/// # }
/// ```
pub trait Aggregate: Sized + 'static {
    /// What the stage's `config` has to hold; [`NoConfig`](crate::NoConfig) for nothing.
    type Config: DeserializeOwned + JsonSchema + 'static;
    /// What is remembered of a group. A group that is new has the default.
    type State: Serialize + DeserializeOwned + Default;

    /// Folds `record` into the state of its group, and puts out what has to come out at once.
    ///
    /// # Errors
    /// Refuses the record: what it put out is taken back, and the state is as if it had never come. That is had by
    /// folding the group's earlier records of the batch again, so that nothing is paid where nothing is refused; `add`
    /// therefore has to do the same when it is given the same.
    fn add(config: &Self::Config, state: &mut Self::State, record: &Record<'_>, out: &mut Outputs<'_>) -> Result<()>;

    /// Folds `later`, the state of records that came after those of `state`, into `state`: sessions that grow together,
    /// slices of a sliding window, partial results of several workers.
    fn merge(config: &Self::Config, state: &mut Self::State, later: Self::State);

    /// Puts out what the group has come to: as its window closes, or when somebody asks.
    ///
    /// # Errors
    /// Refuses the group.
    fn finish(config: &Self::Config, group: &Group<'_>, state: &Self::State, out: &mut Outputs<'_>) -> Result<()>;

    /// Whether the host may forget the group, because its state says no more than the default.
    fn is_over(_config: &Self::Config, _state: &Self::State) -> bool {
        false
    }

    /// Rewrites a state of version `from` as one of version `to`; one of the two is the plugin's own.
    /// [`state::decode`](crate::state::decode) and [`state::encode`](crate::state::encode) read and write them.
    ///
    /// # Errors
    /// Refuses the group. Without this method, every group.
    fn migrate(from: u32, to: u32, _state: &[u8]) -> Result<Vec<u8>> {
        bail!("the plugin cannot rewrite states of version {from} as version {to}")
    }
}

/// An aggregate of which the attribute has told the facts.
pub trait Fold: Aggregate + Plugin<Config = <Self as Aggregate>::Config> {}

impl<P: Aggregate + Plugin<Config = <P as Aggregate>::Config>> Fold for P {}

/// Why a group is finished.
///
/// ```
/// use tidegate_plugin::Occasion;
///
/// assert_ne!(Occasion::Closed, Occasion::Asked);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occasion {
    /// The watermark has passed the window's end, or the input has ended.
    Closed,
    /// The window is not complete.
    Early,
    /// A record has come after the window had closed.
    Late,
    /// Somebody asks for the state as it is.
    Asked,
}

/// A stretch of event time.
///
/// ```
/// let window = tidegate_plugin::Window { start: 0, end: 10_000 };
/// assert_eq!(window.end - window.start, 10_000);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Its first millisecond, since the Unix epoch.
    pub start: i64,
    /// The first millisecond after it.
    pub end: i64,
}

/// A group that is being finished.
///
/// ```
/// use tidegate_plugin::prelude::*;
///
/// struct Count;
///
/// #[aggregate(needs = ["windows"])]
/// impl Aggregate for Count {
///     type Config = NoConfig;
///     type State = u64;
///     fn add(_: &NoConfig, count: &mut u64, _: &Record, _: &mut Outputs) -> Result<()> { *count += 1; Ok(()) }
///     fn merge(_: &NoConfig, count: &mut u64, later: u64) { *count += later; }
///     fn finish(_: &NoConfig, group: &Group, count: &u64, out: &mut Outputs) -> Result<()> {
///         let until = group.window().map(|window| window.end);
///         out.json(&json!({ "until": until, "count": count, "final": group.why() == Occasion::Closed }))?;
///         Ok(())
///     }
/// }
/// # fn main() {
/// let mut groups = testing::Groups::<Count>::new("").window(0, 10);
/// groups.add([testing::text("x"), testing::text("y")]);
/// assert_eq!(groups.finish(Occasion::Early).outputs[0].json(), json!({ "until": 10, "count": 2, "final": false }));
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Group<'a> {
    keys: Option<&'a Column>,
    windows: Option<&'a [Window]>,
    at: usize,
    why: Occasion,
}

impl<'a> Group<'a> {
    /// Its key; empty where records have none. Needs `keys`.
    ///
    /// # Errors
    /// Where the plugin did not ask for it.
    pub fn key(&self) -> Result<&'a [u8]> {
        let keys = self.keys.ok_or_else(|| anyhow!("the plugin did not ask for this: add `needs = [\"keys\"]`"))?;
        Ok(crate::batch::item(keys, self.at))
    }

    /// Its window; `None` where the stage has no windows, or the plugin did not ask for `windows`.
    pub fn window(&self) -> Option<Window> {
        self.windows.and_then(|windows| windows.get(self.at)).copied()
    }

    /// Why it is finished.
    pub fn why(&self) -> Occasion {
        self.why
    }
}
