//! Gets a batch ready for a plugin: the columns it asked for, and the key that an aggregate groups by.
//!
//! Owns when a record's JSON is looked at a second time: only where no column of that name came along. A column made
//! here travels on, so that the next stage finds it.

use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_128;

use crate::{
    batch::{Batch, Column, ColumnBuilder, FIELD, ID, INPUT},
    codec::scan::{self, Pointers},
    letter::Again,
};

/// Bytes that a field is expected to have: most are numbers and short names, and one that is longer only costs growth.
const FIELD_BYTES: usize = 16;

/// What a stage needs of each batch.
#[derive(Clone, Debug, Default)]
pub struct Wants {
    names: Vec<Arc<str>>,
    pointers: Option<Pointers>,
    key: Option<usize>,
    input: bool,
}

impl Wants {
    /// What a plugin with these `needs` wants, grouped by the JSON pointer `key`, if there is one.
    pub fn new(needs: &[String], key: Option<&str>) -> Self {
        let mut names: Vec<Arc<str>> =
            needs.iter().filter(|need| need.starts_with(FIELD)).map(|need| need.as_str().into()).collect();
        let key = key.map(|pointer| {
            let name = format!("{FIELD}{pointer}");
            names.iter().position(|known| **known == *name).unwrap_or_else(|| {
                names.push(name.into());
                names.len() - 1
            })
        });
        let paths: Vec<&str> = names.iter().filter_map(|name| name.strip_prefix(FIELD)).collect();
        let pointers = (!paths.is_empty()).then(|| Pointers::new(&paths));
        Self { names, pointers, key, input: needs.iter().any(|need| need == INPUT) }
    }

    /// The same, for a batch whose key has been set already.
    pub fn keyed(mut self) -> Self {
        self.key = None;
        self
    }

    /// The batch with everything that is wanted.
    pub fn prepare(&self, input: usize, mut batch: Batch) -> Batch {
        if let Some(pointers) = &self.pointers
            && self.names.iter().any(|name| batch.named(name).is_none())
        {
            for (name, column) in self.names.iter().zip(fields(pointers, self.names.len(), batch.values())) {
                batch = fitting(batch.clone(), batch.with_named(name.clone(), column));
            }
        }
        if let Some(raw) = self.key.and_then(|key| self.names.get(key)).and_then(|name| batch.named(name)) {
            let keys = texts(raw);
            batch = fitting(batch.clone(), batch.with_keys(keys));
        }
        // A letter comes from where it came from when it was refused.
        if self.input && !(Again::is_in(&batch) && batch.named(INPUT).is_some()) {
            let column = Column::repeat(&[u8::try_from(input).unwrap_or(u8::MAX)], batch.len());
            batch = fitting(batch.clone(), batch.with_named(INPUT.into(), column));
        }
        batch
    }
}

/// Columns made here always fit; should one not, the batch goes on as it was, and the reply's check tells.
fn fitting(before: Batch, after: Result<Batch, crate::batch::Misfit>) -> Batch {
    debug_assert!(after.is_ok());
    after.unwrap_or(before)
}

/// The raw JSON at each pointer of each value; empty where it is absent or the value is not JSON.
fn fields(pointers: &Pointers, count: usize, values: &Column) -> Vec<Column> {
    let builder = |_| ColumnBuilder::with_capacity(values.len(), values.len() * FIELD_BYTES);
    let mut columns: Vec<ColumnBuilder> = (0..count).map(builder).collect();
    for (done, value) in values.iter().enumerate() {
        let scanned = pointers.scan(value, |field, raw| {
            if let Some(column) = columns.get_mut(field) {
                column.undo_open();
                column.open().extend_from_slice(raw);
            }
        });
        for column in &mut columns {
            if scanned.is_err() {
                column.undo_open();
            }
            column.close();
            debug_assert_eq!(column.len(), done + 1);
        }
    }
    columns.iter_mut().map(ColumnBuilder::finish).collect()
}

/// The contents of JSON strings, and other JSON as it stands.
fn texts(raw: &Column) -> Column {
    let mut column = ColumnBuilder::with_capacity(raw.len(), raw.data().len());
    for item in raw.iter() {
        column.push(&scan::text(item));
    }
    column.finish()
}

/// Ids of outputs: a hash of the stage, the origin's id and the output's ordinal among those of its origin.
pub fn output_ids(stage: &str, origin_ids: &Column, origins: &[u32]) -> Column {
    let mut column = ColumnBuilder::with_capacity(origins.len(), origins.len() * 16);
    let (mut last, mut ordinal) = (None, 0u32);
    let mut seed = Vec::with_capacity(stage.len() + 20);
    for &origin in origins {
        ordinal = if last == Some(origin) { ordinal + 1 } else { 0 };
        last = Some(origin);
        seed.clear();
        seed.extend_from_slice(stage.as_bytes());
        seed.extend_from_slice(origin_ids.get(origin as usize).unwrap_or_default());
        seed.extend_from_slice(&ordinal.to_le_bytes());
        column.push(&xxh3_128(&seed).to_le_bytes());
    }
    column.finish()
}

/// Whether a batch carries ids.
pub fn has_ids(batch: &Batch) -> bool {
    batch.named(ID).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(values: &[&str]) -> Batch {
        Batch::of_values(values.iter().collect())
    }

    fn items(column: &Column) -> Vec<&str> {
        column.iter().map(|item| std::str::from_utf8(item).unwrap()).collect()
    }

    #[test]
    fn a_field_that_did_not_come_along_is_read_from_the_value() {
        let wants = Wants::new(&["field:/status".into()], None);
        let made = wants.prepare(0, batch(&[r#"{"status":503}"#, "{}", "no json"]));
        assert_eq!(items(made.named("field:/status").unwrap()), ["503", "", ""]);
    }

    #[test]
    fn a_field_that_came_along_is_taken_as_it_is() {
        let wants = Wants::new(&["field:/status".into()], None);
        let carried = batch(&["{}"]).with_named("field:/status".into(), ["7"].iter().collect()).unwrap();
        assert_eq!(items(wants.prepare(0, carried).named("field:/status").unwrap()), ["7"]);
    }

    #[test]
    fn the_key_is_the_text_of_a_string_and_the_raw_form_of_anything_else() {
        let wants = Wants::new(&[], Some("/path"));
        let made = wants.prepare(0, batch(&[r#"{"path":"/\u0061"}"#, r#"{"path":7}"#, "{}"]));
        assert_eq!(items(made.keys().unwrap()), ["/a", "7", ""]);
    }

    #[test]
    fn outputs_of_one_origin_have_different_ids_that_never_change() {
        let origins: Column = [[1u8; 16], [2; 16]].iter().collect();
        let ids = output_ids("s", &origins, &[0, 0, 1]);
        let all: std::collections::BTreeSet<&[u8]> = ids.iter().collect();
        assert_eq!(all.len(), 3);
        assert_eq!(ids, output_ids("s", &origins, &[0, 0, 1]));
        assert_ne!(ids, output_ids("t", &origins, &[0, 0, 1]));
    }
}
