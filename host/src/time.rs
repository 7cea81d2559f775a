//! Event time: watermarks and windows; and the time of day, for records that have none.
//!
//! Owns what time means to records. It must not know tasks, plugins or files. Invariant: a watermark never falls.

mod clock;
mod merge;
mod wall;
mod window;

pub use clock::{Clock, ClockState, Cut};
pub use merge::{Mark, Merge};
pub use wall::{Reading, Wall, now};
pub use window::{Tumbling, Window};

/// The watermark after the last record there will ever be.
pub const END: i64 = i64::MAX;

/// The watermark before anything is known.
pub const BEGIN: i64 = i64::MIN;
