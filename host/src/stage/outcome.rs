//! What one piece of work came to, before it leaves the stage.
//!
//! Owns how the outcomes of several workers become one: by order of origin, or by (end, key) for windows. Invariant 5:
//! records leave a stage in the order of their origins, however many workers it has.

use super::{outlet::Port, tally::Tally};
use crate::batch::Batch;

/// Where an output belongs among those of the other workers: by origin for records; by (window's end, key) for groups.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// Position of the origin in the batch that the stage received.
    Row(u32),
    /// The group that it came from.
    Group {
        /// End of its window, in milliseconds since the Unix epoch.
        end: i64,
        /// Its key.
        key: Box<[u8]>,
    },
}

/// Outputs of one port, in order.
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    /// Where they leave.
    pub port: Port,
    /// The records.
    pub batch: Batch,
    /// The rank of each record, ascending; empty where a single worker needs none.
    pub ranks: Vec<Rank>,
}

/// All that a piece of work came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// Outputs, those of one port in order.
    pub outputs: Vec<Output>,
    /// What became of the records.
    pub tally: Tally,
}

impl Outcome {
    /// Adds outputs without a rank, if there are any.
    pub fn put(&mut self, port: Port, batch: Batch) {
        self.put_ranked(port, batch, Vec::new());
    }

    /// Adds outputs, if there are any.
    pub fn put_ranked(&mut self, port: Port, batch: Batch, ranks: Vec<Rank>) {
        if !batch.is_empty() {
            self.outputs.push(Output { port, batch, ranks });
        }
    }

    /// Adds what followed.
    pub fn append(&mut self, other: Self) {
        self.outputs.extend(other.outputs);
        self.tally.add(&other.tally);
    }

    /// The same, ranked by the rows of the batch that a worker's share was taken from.
    pub fn in_rows(mut self, rows: &[u32]) -> Self {
        for rank in self.outputs.iter_mut().flat_map(|output| &mut output.ranks) {
            if let Rank::Row(row) = rank {
                *row = rows.get(*row as usize).copied().unwrap_or(*row);
            }
        }
        self
    }

    /// The same of a part of a batch that begins at row `start`.
    pub fn shifted(mut self, start: usize) -> Self {
        for rank in self.outputs.iter_mut().flat_map(|output| &mut output.ranks) {
            if let Rank::Row(row) = rank {
                *row += start as u32;
            }
        }
        self
    }

    /// One outcome of those of several workers who shared a piece of work, or of the parts of one.
    pub fn merge(mut parts: Vec<Self>) -> Self {
        if parts.len() == 1 {
            return parts.pop().unwrap_or_default();
        }
        let mut whole = Self::default();
        let mut outputs: Vec<Output> = Vec::new();
        for part in parts {
            whole.tally.add(&part.tally);
            outputs.extend(part.outputs);
        }
        let mut ports: Vec<Port> = Vec::new();
        for output in &outputs {
            if !ports.contains(&output.port) {
                ports.push(output.port);
            }
        }
        ports.sort_unstable();
        for port in ports {
            let (mut batches, mut ranks) = (Vec::new(), Vec::new());
            for output in outputs.iter_mut().filter(|output| output.port == port) {
                batches.push(output.batch.clone());
                ranks.append(&mut output.ranks);
            }
            let all = Batch::concat(&batches);
            if ranks.len() < all.len() {
                whole.put(port, all);
                continue;
            }
            // What is merged here may have to be merged once more, with what other workers made: ranks stay.
            let mut order: Vec<(Rank, u32)> = ranks.into_iter().zip(0..).collect();
            order.sort_unstable();
            let (ranks, rows): (Vec<Rank>, Vec<u32>) = order.into_iter().unzip();
            whole.put_ranked(port, all.gather(&rows), ranks);
        }
        whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(rows: &[u32]) -> Outcome {
        let mut outcome = Outcome::default();
        let values = rows.iter().map(|row| row.to_string()).collect();
        outcome.put_ranked(Port::Main, Batch::of_values(values), rows.iter().map(|row| Rank::Row(*row)).collect());
        outcome
    }

    #[test]
    fn what_workers_shared_comes_out_in_the_order_of_the_origins() {
        let whole = Outcome::merge(vec![output(&[0, 3, 3, 5]), output(&[1, 2, 4])]);
        let values: Vec<&[u8]> = whole.outputs[0].batch.values().iter().collect();
        assert_eq!(values, [b"0", b"1", b"2", b"3", b"3", b"4", b"5"]);
        assert_eq!(whole.outputs[0].ranks, [0, 1, 2, 3, 3, 4, 5].map(Rank::Row), "it may be merged again");
    }
}
