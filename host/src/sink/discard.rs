//! Sink `discard`: counts records and lets them go.

use futures::{FutureExt as _, future::BoxFuture};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Refused, Sink, SinkError};
use crate::batch::Batch;

/// What `discard:` of a sink takes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {}

/// Counts what it lets go.
#[derive(Debug, Default)]
pub struct Discard {
    records: u64,
}

/// Opens the sink.
pub fn open() -> Discard {
    Discard::default()
}

impl Discard {
    /// Records let go so far.
    pub fn records(&self) -> u64 {
        self.records
    }
}

impl Sink for Discard {
    fn write<'a>(&'a mut self, batch: &'a Batch, _: &'a mut Vec<Refused>) -> BoxFuture<'a, Result<(), SinkError>> {
        self.records += batch.len() as u64;
        async { Ok(()) }.boxed()
    }

    fn flush<'a>(&'a mut self, _: &'a mut Vec<Refused>) -> BoxFuture<'a, Result<(), SinkError>> {
        async { Ok(()) }.boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{batch::Column, sink::tests::write};

    #[tokio::test]
    async fn every_record_is_counted() {
        let mut sink = open();
        for len in [3, 0, 4] {
            assert_eq!(write(&mut sink, &Batch::of_values(Column::blank(len))).await.unwrap(), []);
        }
        sink.flush(&mut Vec::new()).await.unwrap();
        assert_eq!(sink.records(), 7);
    }
}
