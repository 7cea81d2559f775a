//! The records of one request, encoded, and the requests that a refused one is divided into.
//!
//! Owns how records become a body, where a request is full, and its key. It must not know the network. Invariant: every
//! record is in one piece of its load until it has been answered for.

use bytes::Bytes;
use xxhash_rust::xxh3::Xxh3;

use super::Form;
use crate::{
    batch::{Batch, ID, Limit},
    codec::{Encoder, Format, Refusal, scan},
};

/// Bytes of a record's id.
const ID_BYTES: usize = 16;

/// Records that will be one request.
#[derive(Debug, Default)]
pub(super) struct Filling {
    lines: Vec<u8>,
    rows: Vec<Row>,
}

/// A record in a load.
#[derive(Clone, Copy, Debug)]
struct Row {
    /// Its number among all that the sink took in.
    number: u64,
    /// Where its line ends.
    end: usize,
    id: Option<[u8; ID_BYTES]>,
}

/// Records that are one request, or were before it was divided.
#[derive(Debug)]
pub(super) struct Load {
    lines: Bytes,
    rows: Vec<Row>,
    /// The pieces that have not been answered for, the next one last.
    pieces: Vec<Piece>,
}

/// Consecutive records of a load: one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Piece {
    from: usize,
    to: usize,
}

/// What a receiver said about the records of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    /// Positions in the request of records that were refused, and why.
    pub(super) refused: Vec<(usize, String)>,
    /// Whether further records were refused, which it did not name.
    pub(super) is_partial: bool,
}

impl Filling {
    /// Records in it.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Adds the record at `at` of `batch`, the `number`th of all. Where it makes the request larger than `limit` allows,
    /// it begins another one, and the request so far is returned.
    ///
    /// # Errors
    /// Why the record cannot be written.
    pub(super) fn add(
        &mut self,
        encoder: &mut Encoder,
        batch: &Batch,
        (at, number): (usize, u64),
        form: Form,
        limit: Limit,
    ) -> Result<Option<Load>, String> {
        let start = self.lines.len();
        let mut unfit: Vec<Refusal> = Vec::new();
        if let (Form::Json, Some(value)) = (form, batch.values().get(at)) {
            // One that is none would spoil the array that it stands in, or pass for several.
            scan::check(value).map_err(|error| format!("not JSON: {error}"))?;
        }
        encoder.encode(batch, at..at + 1, &mut self.lines, &mut unfit);
        if let Some(refusal) = unfit.pop() {
            self.lines.truncate(start);
            return Err(refusal.reason);
        }
        let id = batch.named(ID).and_then(|ids| ids.get(at)).and_then(|id| id.try_into().ok());
        let is_over = self.rows.len() >= limit.records || self.lines.len() > limit.bytes;
        if !is_over || self.rows.is_empty() {
            self.rows.push(Row { number, end: self.lines.len(), id });
            return Ok(None);
        }
        let line = self.lines.split_off(start);
        let full = self.take();
        self.rows.push(Row { number, end: line.len(), id });
        self.lines = line;
        Ok(full)
    }

    /// Number of the first record in it.
    pub(super) fn oldest(&self) -> Option<u64> {
        self.rows.first().map(|row| row.number)
    }

    /// Whether nothing more fits.
    pub(super) fn is_full(&self, limit: Limit) -> bool {
        self.rows.len() >= limit.records || self.lines.len() >= limit.bytes
    }

    /// The request so far, if it has any record.
    pub(super) fn take(&mut self) -> Option<Load> {
        let Self { lines, rows } = std::mem::take(self);
        let whole = Piece { from: 0, to: rows.len() };
        (!rows.is_empty()).then(|| Load { lines: lines.into(), rows, pieces: vec![whole] })
    }
}

impl Load {
    /// Number of the first record that has not been answered for.
    pub(super) fn oldest(&self) -> Option<u64> {
        let first = self.pieces.iter().map(|piece| piece.from).min()?;
        self.rows.get(first).map(|row| row.number)
    }

    /// Records that have not been answered for.
    pub(super) fn unsettled(&self) -> u64 {
        self.pieces.iter().map(|piece| (piece.to - piece.from) as u64).sum()
    }

    /// The body of the next request; none once every record has been answered for.
    pub(super) fn body(&self, form: Form) -> Option<Bytes> {
        let piece = self.pieces.last()?;
        let lines = self.lines.slice(self.start(piece.from)..self.start(piece.to));
        Some(match form {
            Form::Ndjson => lines,
            Form::Json => array(&lines, self.rows.get(piece.from..piece.to)?, self.start(piece.from)).into(),
        })
    }

    /// A hash of the ids of the records of the next request, in order, of their bytes and of `scope`: the same after a
    /// restart, if the same records make up the request then. None if a record has no id.
    pub(super) fn key(&self, scope: &str) -> Option<u128> {
        let piece = self.pieces.last()?;
        let mut hash = Xxh3::new();
        hash.update(&(scope.len() as u64).to_le_bytes());
        hash.update(scope.as_bytes());
        for row in self.rows.get(piece.from..piece.to)? {
            hash.update(&row.id?);
        }
        // Numbers that ids are made of may begin anew; what does not say the same is not the same.
        hash.update(&self.lines.slice(self.start(piece.from)..self.start(piece.to)));
        Some(hash.digest128())
    }

    /// Takes in what was said about the records of the next request; those that were refused are added to `told`, by
    /// their numbers.
    pub(super) fn settle(&mut self, said: Said, told: &mut Vec<(u64, String)>) {
        let Some(piece) = self.pieces.pop() else { return };
        let Said { mut refused, is_partial } = said;
        refused.sort_by_key(|(at, _)| *at);
        refused.dedup_by_key(|(at, _)| *at);
        let rest = Piece { from: refused.last().map_or(piece.from, |(at, _)| piece.from + at + 1), to: piece.to };
        for (at, reason) in refused {
            if let Some(row) = self.rows.get(piece.from + at).filter(|_| piece.from + at < piece.to) {
                told.push((row.number, reason));
            }
        }
        // The others among them were refused too, or taken: only asking again for fewer can tell.
        if is_partial && rest.from < rest.to {
            self.divide(rest, "refused without a reason", told);
        }
    }

    /// Takes in that the next request was refused as a whole, for `reason`: it is divided, unless it is one record.
    pub(super) fn refuse(&mut self, reason: &str, told: &mut Vec<(u64, String)>) {
        if let Some(piece) = self.pieces.pop() {
            self.divide(piece, reason, told);
        }
    }

    /// Gives up every record that has not been answered for.
    pub(super) fn give_up(&mut self, reason: &str, told: &mut Vec<(u64, String)>) {
        for piece in std::mem::take(&mut self.pieces) {
            let rows = self.rows.get(piece.from..piece.to).unwrap_or_default();
            told.extend(rows.iter().map(|row| (row.number, reason.to_owned())));
        }
    }

    fn divide(&mut self, piece: Piece, reason: &str, told: &mut Vec<(u64, String)>) {
        if piece.to - piece.from == 1 {
            told.extend(self.rows.get(piece.from).map(|row| (row.number, reason.to_owned())));
            return;
        }
        let middle = piece.from + (piece.to - piece.from) / 2;
        self.pieces.push(Piece { from: middle, ..piece });
        self.pieces.push(Piece { to: middle, ..piece });
    }

    /// Where the line of the record at `at` begins.
    fn start(&self, at: usize) -> usize {
        at.checked_sub(1).and_then(|before| self.rows.get(before)).map_or(0, |row| row.end)
    }
}

/// Lines of JSON as one array: each line end becomes a comma, the last one the bracket.
fn array(lines: &[u8], rows: &[Row], start: usize) -> Vec<u8> {
    let mut array = Vec::with_capacity(lines.len() + 1);
    array.push(b'[');
    array.extend_from_slice(lines);
    for (nth, row) in rows.iter().enumerate() {
        if let Some(end) = array.get_mut(row.end - start) {
            *end = if nth + 1 == rows.len() { b']' } else { b',' };
        }
    }
    array
}

/// An encoder of the lines of loads.
pub(super) fn encoder() -> Encoder {
    Encoder::new(Format::Json)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::batch::Column;

    fn batch(values: &[&str], ids: bool) -> Batch {
        let batch = Batch::of_values(values.iter().collect());
        let id: Column = (0..values.len()).map(|i| (i as u128).to_le_bytes()).collect();
        if ids { batch.with_named(ID.into(), id).unwrap() } else { batch }
    }

    fn loads(batch: &Batch, form: Form, limit: Limit) -> (Vec<Load>, Vec<(usize, String)>) {
        let (mut filling, mut loads, mut refused) = (Filling::default(), Vec::new(), Vec::new());
        let mut encoder = encoder();
        for at in 0..batch.len() {
            match filling.add(&mut encoder, batch, (at, at as u64), form, limit) {
                Ok(full) => loads.extend(full),
                Err(reason) => refused.push((at, reason)),
            }
        }
        loads.extend(filling.take());
        (loads, refused)
    }

    const ANY: Limit = Limit { records: 1000, bytes: 1 << 20 };

    #[test]
    fn a_request_ends_at_so_many_records_or_bytes_and_a_larger_record_travels_alone() {
        let values = ["1", "22", "333", "\"large, larger\"", "5", "6"];
        let bodies = |records, bytes| -> Vec<String> {
            let (loads, _) = loads(&batch(&values, false), Form::Ndjson, Limit { records, bytes });
            loads.iter().map(|load| String::from_utf8(load.body(Form::Ndjson).unwrap().to_vec()).unwrap()).collect()
        };
        assert_eq!(bodies(4, 1000), ["1\n22\n333\n\"large, larger\"\n", "5\n6\n"]);
        assert_eq!(bodies(9, 5), ["1\n22\n", "333\n", "\"large, larger\"\n", "5\n6\n"]);
        assert_eq!(bodies(1, 5).len(), 6);
    }

    #[test]
    fn an_array_holds_what_is_json_and_nothing_else() {
        let values = ["{\"a\":\n1}", "1,2", "[3]", "", "4"];
        let (loads, refused) = loads(&batch(&values, false), Form::Json, ANY);
        assert_eq!(loads[0].body(Form::Json).unwrap(), "[{\"a\": 1},[3],4]");
        assert_eq!(refused.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [1, 3]);
    }

    #[test]
    fn a_key_says_which_records_in_which_order_and_for_whom() {
        let key = |values: &[&str], scope: &str| loads(&batch(values, true), Form::Ndjson, ANY).0[0].key(scope);
        assert_eq!(key(&["1", "2"], "s"), key(&["1", "2"], "s"));
        assert!(key(&["1", "2"], "s").is_some());
        for other in [key(&["2", "1"], "s"), key(&["1", "2"], "t"), key(&["1"], "s"), key(&["1", "3"], "s")] {
            assert_ne!(key(&["1", "2"], "s"), other);
        }
        assert_eq!(loads(&batch(&["1"], false), Form::Ndjson, ANY).0[0].key("s"), None);
    }

    /// What a receiver that refuses a request with any of `bad` in it, or lists at most `most` of them, comes to.
    fn refused_by(mut load: Load, bad: &[bool], most: Option<usize>) -> (Vec<u64>, Vec<u64>, usize) {
        let (mut told, mut taken, mut requests) = (Vec::new(), Vec::new(), 0);
        while let Some(body) = load.body(Form::Ndjson) {
            requests += 1;
            let rows: Vec<usize> =
                std::str::from_utf8(&body).unwrap().lines().map(|row| row.parse().unwrap()).collect();
            let found: Vec<usize> = (0..rows.len()).filter(|&at| bad[rows[at]]).collect();
            match most {
                None if found.is_empty() => taken.extend(rows.iter().map(|&row| row as u64)),
                Some(most) => {
                    let listed = found.iter().take(most).map(|&at| (at, "bad".to_owned())).collect();
                    taken.extend(rows.iter().filter(|&&row| !bad[row]).map(|&row| row as u64));
                    load.settle(Said { refused: listed, is_partial: found.len() > most }, &mut told);
                    continue;
                }
                None => {
                    load.refuse("bad", &mut told);
                    continue;
                }
            }
            load.settle(Said::default(), &mut told);
        }
        (told.into_iter().map(|(number, _)| number).collect(), taken, requests)
    }

    proptest! {
        #[test]
        fn division_finds_exactly_the_refused_records_in_order(bad in proptest::collection::vec(any::<bool>(), 1..80)) {
            let values: Vec<String> = (0..bad.len()).map(|i| i.to_string()).collect();
            let values: Vec<&str> = values.iter().map(String::as_str).collect();
            let load = loads(&batch(&values, true), Form::Ndjson, ANY).0.remove(0);
            let expected = |of: bool| (0..bad.len()).filter(|&i| bad[i] == of).map(|i| i as u64).collect::<Vec<_>>();
            let (told, taken, requests) = refused_by(load, &bad, None);
            prop_assert_eq!(&told, &expected(true));
            prop_assert_eq!(taken, expected(false));
            prop_assert!(requests < 2 * bad.len());
        }

        #[test]
        fn what_a_receiver_refused_and_did_not_name_is_asked_for_again(
            bad in proptest::collection::vec(any::<bool>(), 1..80),
            most in 0usize..5,
        ) {
            let values: Vec<String> = (0..bad.len()).map(|i| i.to_string()).collect();
            let values: Vec<&str> = values.iter().map(String::as_str).collect();
            let load = loads(&batch(&values, true), Form::Ndjson, ANY).0.remove(0);
            let (told, mut taken, _) = refused_by(load, &bad, Some(most));
            taken.sort_unstable();
            taken.dedup();
            prop_assert_eq!(told, (0..bad.len()).filter(|&i| bad[i]).map(|i| i as u64).collect::<Vec<_>>());
            prop_assert_eq!(taken, (0..bad.len()).filter(|&i| !bad[i]).map(|i| i as u64).collect::<Vec<_>>());
        }
    }
}
