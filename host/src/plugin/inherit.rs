//! What single outputs inherit in a column that others set.
//!
//! Owns the bits of the contract's `inherit` column. It must not know where origins come from. Invariant: without that
//! column nothing is copied.

use super::Produced;
use crate::batch::{Batch, Column, ColumnBuilder, NULL};

/// The output inherits its value.
pub const INHERITS_VALUE: u8 = 1;
/// The output inherits its key.
pub const INHERITS_KEY: u8 = 2;
/// The output inherits its event time.
pub const INHERITS_TIME: u8 = 4;
/// The output inherits its headers.
pub const INHERITS_HEADERS: u8 = 8;

impl Produced {
    /// The same outputs with what single ones inherit filled in; item `i` of `origins` is the origin of output `i`.
    #[must_use]
    pub fn over(mut self, origins: &Batch) -> Self {
        let Some(inherit) = self.inherit.take() else { return self };
        let bits: Vec<u8> = inherit.iter().map(|item| item.first().copied().unwrap_or(0)).collect();
        let inherits = |bit: u8| bits.iter().any(|bits| bits & bit != 0);
        let mixed = |own: Column, theirs: Option<&Column>, bit: u8| {
            if inherits(bit) { mix(&own, theirs, &bits, bit) } else { own }
        };
        if inherits(INHERITS_VALUE) && (self.values.is_some() || self.nulls.is_some()) {
            // An inherited value that is none stays none.
            let nulls = origins.named(NULL);
            self.nulls = match (self.nulls, nulls) {
                (None, None) => None,
                (own, theirs) => {
                    let own = own.unwrap_or_else(|| Column::repeat(&[0], self.len));
                    let zeros = Column::repeat(&[0], self.len);
                    Some(mix(&own, Some(theirs.unwrap_or(&zeros)), &bits, INHERITS_VALUE))
                }
            };
        }
        self.values = self.values.map(|own| mixed(own, Some(origins.values()), INHERITS_VALUE));
        self.keys = self.keys.map(|own| mixed(own, origins.keys(), INHERITS_KEY));
        self.headers = self.headers.map(|own| mixed(own, origins.headers(), INHERITS_HEADERS));
        if let (Some(own), Some(theirs)) = (&mut self.timestamps, origins.timestamps()) {
            for ((own, theirs), bits) in own.iter_mut().zip(theirs).zip(&bits) {
                if bits & INHERITS_TIME != 0 {
                    *own = *theirs;
                }
            }
        }
        self
    }
}

fn mix(own: &Column, theirs: Option<&Column>, bits: &[u8], bit: u8) -> Column {
    let mut mixed = ColumnBuilder::with_capacity(bits.len(), own.data().len());
    for (at, bits) in bits.iter().enumerate() {
        let from = if bits & bit == 0 { Some(own) } else { theirs };
        mixed.push(from.and_then(|column| column.get(at)).unwrap_or_default());
    }
    mixed.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(items: &[&str]) -> Column {
        items.iter().collect()
    }

    #[test]
    fn an_output_that_sets_nothing_inherits_what_its_neighbours_set() {
        let origins = Batch::of_values(column(&["a", "b", "c"]))
            .with_keys(column(&["1", "2", "3"]))
            .and_then(|batch| batch.with_timestamps(vec![1, 2, 3]))
            .and_then(|batch| batch.with_named(NULL.into(), Column::from_iter([[0], [1], [0]])))
            .unwrap();
        let produced = Produced {
            len: 3,
            values: Some(column(&["A", "", "C"])),
            keys: Some(column(&["", "", "k"])),
            timestamps: Some(vec![0, 7, 0]),
            inherit: Some(Column::from_iter([
                [INHERITS_KEY | INHERITS_TIME],
                [INHERITS_VALUE | INHERITS_KEY],
                [INHERITS_TIME],
            ])),
            ..Produced::default()
        };
        let filled = produced.over(&origins);
        assert_eq!(filled.values, Some(column(&["A", "b", "C"])));
        assert_eq!(filled.keys, Some(column(&["1", "2", "k"])));
        assert_eq!(filled.timestamps, Some(vec![1, 7, 3]));
        assert_eq!(filled.nulls, Some(Column::from_iter([[0], [1], [0]])));
        assert_eq!(filled.inherit, None);
    }
}
