//! Stamps for records that are columns already.
//!
//! Owns the reading of key and event time from values that another pipeline has decoded. It must not know where they come
//! from. Invariant: without pointers a batch is passed on as it is; a record whose event time cannot be read is refused.

use super::{MAX_UNDECODED, Stamp, Undecoded, milliseconds, scan::Pointers, scan::push_text};
use crate::batch::{Batch, ColumnBuilder};

/// What is stamped anew.
#[derive(Debug)]
pub struct Restamp {
    key: Option<usize>,
    time: Option<(usize, String)>,
    pointers: Pointers,
}

impl Restamp {
    /// A stamp of the key and the event time that `stamp` names.
    pub fn new(stamp: &Stamp) -> Self {
        let pointers: Vec<&str> = stamp.key.as_deref().into_iter().chain(stamp.time.as_deref()).collect();
        let time = stamp.time.clone().map(|pointer| (pointers.len() - 1, pointer));
        Self { key: stamp.key.as_ref().map(|_| 0), time, pointers: Pointers::new(&pointers) }
    }

    /// The records of `batch` that have what is wanted, stamped; those that have not join `undecoded`, each with the place
    /// that `place` names by its position.
    pub fn stamp(&self, batch: Batch, undecoded: &mut Vec<Undecoded>, place: impl Fn(usize) -> String) -> Batch {
        if self.key.is_none() && self.time.is_none() {
            return batch;
        }
        let (mut keys, mut times, mut kept) = (ColumnBuilder::default(), Vec::new(), Vec::new());
        for (at, value) in batch.values().iter().enumerate() {
            let mut raws: [&[u8]; 2] = [b"", b""];
            let mut spans = [(0, 0); 2];
            let count = usize::from(self.key.is_some()) + usize::from(self.time.is_some());
            let spans = spans.get_mut(..count).unwrap_or_default();
            // What is no JSON has neither.
            if self.pointers.locate(value, spans).is_ok() {
                for (raw, (start, end)) in raws.iter_mut().zip(spans.iter()) {
                    *raw = value.get(*start..*end).unwrap_or_default();
                }
            }
            if let Some((nth, pointer)) = &self.time {
                let raw = raws.get(*nth).copied().unwrap_or_default();
                let Some(time) = milliseconds(raw) else {
                    let reason = format!("no event time at {pointer}: neither RFC 3339 nor milliseconds");
                    let raw = value.get(..MAX_UNDECODED).unwrap_or(value);
                    let raw = bytes::Bytes::copy_from_slice(raw);
                    undecoded.push(Undecoded { place: place(at), index: at as u64, reason, raw });
                    continue;
                };
                times.push(time);
            }
            if let Some(nth) = self.key {
                push_text(raws.get(nth).copied().unwrap_or_default(), keys.open());
                keys.close();
            }
            kept.push(at as u32);
        }
        let batch = if kept.len() == batch.len() { batch } else { batch.gather(&kept) };
        let keyed = if self.key.is_some() { batch.clone().with_keys(keys.finish()).unwrap_or(batch) } else { batch };
        if self.time.is_some() { keyed.clone().with_timestamps(times).unwrap_or(keyed) } else { keyed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_and_time_are_read_anew_and_a_record_without_its_time_is_refused() {
        let values = [r#"{"k":"a","t":5}"#, r#"{"k":7}"#, r#"{"t":"1970-01-01T00:00:01Z"}"#, "no json"];
        let batch = Batch::of_values(values.iter().collect()).with_timestamps(vec![0; 4]).unwrap();
        let stamp = Stamp { key: Some("/k".into()), time: Some("/t".into()), ..Stamp::default() };
        let mut undecoded = Vec::new();
        let stamped = Restamp::new(&stamp).stamp(batch.clone(), &mut undecoded, |at| format!("at {at}"));
        assert_eq!(stamped.timestamps().unwrap(), [5, 1000]);
        assert_eq!(stamped.keys().unwrap().iter().collect::<Vec<_>>(), [b"a".as_slice(), b""]);
        assert_eq!(undecoded.iter().map(|one| one.place.as_str()).collect::<Vec<_>>(), ["at 1", "at 3"]);
        assert_eq!(Restamp::new(&Stamp::default()).stamp(batch.clone(), &mut undecoded, |_| String::new()), batch);
    }
}
