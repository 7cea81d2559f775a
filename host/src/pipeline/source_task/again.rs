//! Letters that go back to who refused them, past the clock of their source.
//!
//! Owns how they are sent and counted. Invariant: they move no event time and hold none back, whatever times they bear.

use super::{Out, SourceTask};
use crate::{
    source::{Replayed, Role, To},
    stage::{
        outlet::{Control, Port, Sent},
        tally::Tally,
    },
    time::{BEGIN, Mark},
};

impl SourceTask {
    /// What the source has to do with the course of the pipeline.
    pub fn role(&self) -> Role {
        self.source.role()
    }

    /// Says at the beginning of a run that a source which only gives letters back holds nobody.
    pub(super) fn attend(&mut self) {
        if matches!(self.role(), Role::Attends | Role::Leads) {
            self.outbox.push_back(Out::Item(Sent::Control(Control::Mark(Mark::Idle(BEGIN)))));
        }
    }

    /// Sends letters where they go.
    pub(super) fn give_back(&mut self, Replayed { letters, outputs }: Replayed) {
        let of =
            |wanted: fn(To) -> bool| outputs.iter().filter(move |(to, _)| wanted(*to)).map(|(_, batch)| batch.len());
        let (refused, produced) =
            (of(|to| to == To::Refused).sum::<usize>(), of(|to| to != To::Refused).sum::<usize>());
        let refused = refused as u64;
        let tally = Tally {
            received: letters,
            passed: letters.saturating_sub(refused),
            refused,
            produced: produced as u64,
            ..Tally::default()
        };
        self.tally.add(&tally);
        self.meter.count(&tally);
        for (to, batch) in outputs {
            let port = match to {
                To::Reader(number) => Port::Named(number),
                To::Refused => Port::Refused,
            };
            self.outbox.push_back(Out::Item(Sent::Batch(port, batch)));
        }
    }
}
