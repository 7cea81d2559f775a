//! Randomness that a replay repeats.
//!
//! Owns the generator. It must not know where its seed comes from. Invariant: the same seed gives the same numbers in
//! every version of this crate, since outputs already sent may depend on them.

/// Random numbers of one record; see [`Record::random`](crate::Record::random).
///
/// Good enough for sampling, not for secrets. The numbers are those of SplitMix64 (Steele, Lea and Flood 2014).
///
/// ```
/// use tidegate_plugin::prelude::*;
///
/// #[filter(needs = ["id"])]
/// fn one_in_ten(record: &Record) -> Result<bool> {
///     Ok(record.random()?.below(10) == 0)
/// }
/// # fn main() {
/// let kept = testing::filter::<one_in_ten>("", (0..1000).map(|id| testing::text("x").id(id))).kept.len();
/// assert!((60..140).contains(&kept));
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
}

impl Random {
    /// The numbers that belong to `id`.
    pub(crate) fn of(id: [u8; 16]) -> Self {
        let id = u128::from_le_bytes(id);
        // Mixed before use, for ids that differ in one half only.
        let mut seed = Self { state: id as u64 };
        let low = seed.next_u64();
        Self { state: low ^ (id >> 64) as u64 }
    }

    /// Any number, each as likely as the others.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`; 0 where `limit` is 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        // Multiply and shift: for limits far below 2⁶⁴ its bias is beyond measuring.
        ((u128::from(self.next_u64()) * u128::from(limit)) >> 64) as u64
    }

    /// A fraction, at least 0 and below 1.
    pub fn fraction(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }
}
