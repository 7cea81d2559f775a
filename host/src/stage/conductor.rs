//! A stage at work: takes what comes in, in one order; has it done by its workers; sends on what it comes to.
//!
//! Owns the loop that drives intake, workers, turns and outlet. A stage with one worker does the work on the thread of
//! its conductor; with several, filters and maps deal out whole batches in turn, and aggregates divide each batch by
//! key. Invariant: the changes of an epoch are handed over before its barrier is sent on.

use std::{sync::Arc, time::Instant};

use super::{
    Item,
    control::Control,
    exchange::Pending,
    failure::Failure,
    generation::Standing,
    intake::{Appetite, Intake, Taken},
    lane::{Fill, Freight, Gone, Inbox, Lane, Sender},
    outcome::Outcome,
    outlet::{self, Outlet, Port},
    pace::Pace,
    prepare::Wants,
    table::{Changes, owner},
    tally::Tally,
    turns::{Resume, Turn, Turns},
    worker::{Done, Spec, Work, Worked, Worker},
};
use crate::{
    batch::{Batch, Column},
    bug,
    config::Then,
    crash,
    epoch::Epoch,
    letter::Again,
    plugin::Kind,
    time::Mark,
};

/// Turns under way for each worker: one in hand and one waiting, so that no worker idles while its result is sent on.
const TURNS: usize = 2;

/// What a stage hands over when a barrier passes it.
#[derive(Debug)]
pub struct Handed {
    /// The epoch that ends.
    pub epoch: Epoch,
    /// Groups that changed in it.
    pub changes: Changes,
    /// What became of all records so far.
    pub tally: Tally,
    /// The watermark.
    pub watermark: i64,
    /// Records received so far, of each input.
    pub received: Vec<u64>,
    /// Records sent so far, of each edge.
    pub sent: Vec<u64>,
    /// Which generation serves it, and what each has served since the last barrier.
    pub standing: Standing,
}

/// Where a stage hands over to.
pub type Report = Box<dyn FnMut(Handed) -> Result<(), Gone> + Send>;

/// Who does the work.
pub enum Crew {
    /// The conductor itself.
    Alone(Box<Worker>),
    /// Workers on threads of their own, whose answers come on the lanes behind the inputs.
    Many {
        /// Their inboxes.
        tasks: Vec<Sender<Task>>,
        /// What a batch needs before it can be divided by key; of an aggregate only.
        divide: Option<Wants>,
        /// Whose turn it is.
        next: usize,
    },
}

/// Work on its way to a worker.
#[derive(Debug)]
pub struct Task {
    work: Work,
    /// A worker that has left something of a round leaves whatever follows of that round, so that its order stays.
    round: u64,
}

impl Freight for Task {
    /// The turns bound what is under way.
    fn load(&self) -> Option<Fill> {
        None
    }

    fn is_replaced_by(&self, _: &Self) -> bool {
        false
    }
}

/// A stage at work.
pub struct Conductor {
    /// What the stage is.
    pub spec: Arc<Spec>,
    /// Its lanes: first the inputs, then what it is told from outside, then the answers of its workers.
    pub inbox: Inbox,
    /// Alignment of the inputs.
    pub intake: Intake,
    /// Who does the work.
    pub crew: Crew,
    /// Where outputs go.
    pub outlet: Outlet,
    /// Where changes are handed over.
    pub report: Report,
    /// What became of records up to the last commit.
    pub tally: Tally,
    /// Records received up to the last commit, of each input.
    pub received: Vec<u64>,
    /// How often what the breaker had left was taken up again.
    pub round: u64,
    /// Which generation leaves its mark on what is sent on.
    pub standing: Standing,
    /// States are being rewritten: nothing else is begun.
    pub is_migrating: bool,
    /// How fast it may take records in, where that is limited.
    pub pace: Option<Pace>,
    /// When it began, from which its pace counts.
    pub began: tokio::time::Instant,
}

/// What a conductor does next.
pub(crate) enum Next {
    /// It acts on what it is told.
    Told(Control),
    /// It begins with what has come in.
    Taken(Taken),
    /// It takes up what the breaker has left.
    Resumes,
    /// It goes on with what a worker has come to.
    Done(Box<Done>),
}

/// Takes what is next from the lanes, if there is something.
pub(crate) type Take<'a> = dyn FnMut(&mut [Lane<Item>]) -> Option<Next> + 'a;

/// How far a conductor has come.
#[derive(Default)]
pub(crate) struct Course {
    turns: Turns<Behind, Work>,
    /// All inputs are over.
    is_last: bool,
}

impl Course {
    /// Whether nothing is left to do.
    pub(crate) fn is_over(&self) -> bool {
        self.is_last && self.turns.is_empty()
    }
}

/// What follows a turn's outputs downstream.
pub(super) enum Behind {
    Control(outlet::Control),
    /// A barrier, with where the stage stood when it was taken in: by the time it leaves, others of several workers may
    /// be busy with what stands behind it.
    Barrier {
        epoch: Epoch,
        watermark: i64,
        received: Vec<u64>,
    },
    /// Workers have got ready for another generation.
    Prepared(Pending),
    /// They have exchanged theirs.
    Exchanged(Pending),
    Nothing,
}

impl Conductor {
    /// Works until all inputs are over. Blocks the thread.
    ///
    /// # Errors
    /// What ended the stage early.
    pub fn run(mut self) -> Result<(), Failure> {
        let mut course = Course::default();
        while !course.is_over() {
            let due = self.due();
            self.step(&mut course, |inbox, take| match due {
                None => inbox.wait_blocking(take).map(Some),
                Some(due) => inbox.wait_until(due, take),
            })?;
        }
        Ok(())
    }

    /// Does the next thing, if `wait` comes back with one, and says whether it did.
    ///
    /// # Errors
    /// What ended the stage early.
    pub(crate) fn step(
        &mut self,
        course: &mut Course,
        wait: impl FnOnce(&Inbox, &mut Take<'_>) -> Result<Option<Next>, Gone>,
    ) -> Result<bool, Failure> {
        let workers = match &self.crew {
            Crew::Alone(_) => 1,
            Crew::Many { tasks, .. } => tasks.len(),
        };
        let appetite = self.appetite();
        let head = course.turns.left().map(|work| self.may_take_up(work));
        let (is_quiet, under_way, is_last) = (course.turns.is_quiet(), course.turns.len(), course.is_last);
        let (intake, inputs, gate) = (&mut self.intake, self.received.len(), &self.spec.gate);
        let is_migrating = self.is_migrating;
        let others = inputs + usize::from(is_migrating);
        let mut take = |lanes: &mut [Lane<Item>]| {
            if let Some(next) = answer(lanes, others) {
                return Some(next);
            }
            if let Some(may_take_up) = head {
                return (is_quiet && may_take_up).then_some(Next::Resumes);
            }
            // A probe is of the head of what there is, and what follows waits for what becomes of it.
            let most = if gate.is_closed() { workers * TURNS } else { 1 };
            let may_begin = !is_last && !is_migrating && under_way < most;
            may_begin.then(|| intake.take_of(lanes, appetite)).flatten().map(Next::Taken)
        };
        let Some(next) = wait(&self.inbox, &mut take)? else { return Ok(false) };
        match next {
            // The breaker may be tried now.
            Next::Told(Control::Look) => {}
            // A stage that has nothing more to do exchanges nothing; whoever asked learns that the answer will not come.
            Next::Told(Control::Swap(swap)) if course.is_last => drop(swap),
            Next::Told(Control::Swap(swap)) => self.prepare(swap, &mut course.turns)?,
            Next::Taken(Taken::Over) => course.is_last = true,
            Next::Taken(taken) => self.begin(taken, &mut course.turns)?,
            Next::Resumes => self.resume(&mut course.turns)?,
            Next::Done(done) => {
                let Worked { outcome, left } = done.result?;
                course.turns.done(done.worker, outcome, done.changes, left);
            }
        }
        while let Some(turn) = course.turns.pop() {
            self.emit(turn, &mut course.turns)?;
        }
        Ok(true)
    }

    /// What it takes in now.
    fn appetite(&self) -> Appetite {
        let spec = &self.spec;
        let due = self.pace.as_ref().and_then(|pace| pace.wait(self.began.elapsed()));
        spec.meter.paced(due.is_some());
        // What may pass while this is decided wakes it at once; and no work is done meanwhile that could make room without
        // being heard of here.
        if due.is_some() || !spec.takes() || spec.meter.is_full() {
            return Appetite::NoRecords;
        }
        self.pace.as_ref().map_or(Appetite::All, |pace| Appetite::Most(pace.most()))
    }

    /// When to look again, though nothing has come: the breaker may be tried then, or make further letters, or the rate allow
    /// further records.
    fn due(&self) -> Option<Instant> {
        let Spec { gate, then, fallback, .. } = &*self.spec;
        let standby = fallback.as_ref().and_then(|spec| spec.gate.due());
        let letters = if *then == Then::DeadLetter && !gate.is_closed() { gate.letters_due() } else { None };
        let now = tokio::time::Instant::now();
        let pace = self.pace.as_ref().and_then(|pace| pace.wait(now - self.began)).map(|due| self.began + due);
        gate.due()
            .into_iter()
            .chain(standby)
            .chain(letters)
            .chain(pace)
            .filter(|due| *due > now)
            .min()
            .map(tokio::time::Instant::into_std)
    }

    /// Whether what was left can be taken up: what needs the plugin, when the breaker lets it through.
    fn may_take_up(&self, work: &Work) -> bool {
        match work {
            Work::Batch(..) | Work::Share(..) => self.spec.takes(),
            Work::Advance(_) | Work::Close => !divides(self.spec.kind) || self.spec.gate.lets_through(),
            Work::Barrier(_) | Work::Prepare(_) | Work::Settle(_) => true,
        }
    }

    /// Takes up what the breaker has left: the head alone, where that is a probe.
    fn resume(&mut self, turns: &mut Turns<Behind, Work>) -> Result<(), Failure> {
        let most = if self.spec.gate.is_closed() { Resume::All } else { Resume::Head };
        self.round += 1;
        let mut is_shut = false;
        for (number, work) in turns.resume(most) {
            match &mut self.crew {
                // What follows what was left again is left too.
                Crew::Alone(_) if is_shut => turns.done(number, Outcome::default(), Changes::default(), Some(work)),
                Crew::Alone(worker) => {
                    let is_barrier = matches!(work, Work::Barrier(_));
                    let Worked { outcome, left } = worker.work(work)?;
                    let changes = if is_barrier { worker.take_changes() } else { Changes::default() };
                    is_shut = left.is_some();
                    turns.done(number, outcome, changes, left);
                }
                Crew::Many { tasks, .. } => {
                    if let Some(worker) = tasks.get(number) {
                        worker.send_blocking(Task { work, round: self.round })?;
                    }
                }
            }
        }
        Ok(())
    }

    fn begin(&mut self, taken: Taken, turns: &mut Turns<Behind, Work>) -> Result<(), Failure> {
        match taken {
            Taken::Batch(input, batch) => {
                if let Some(count) = self.received.get_mut(input) {
                    *count += batch.len() as u64;
                }
                if let Some(pace) = &mut self.pace {
                    pace.took(self.began.elapsed(), batch.len());
                }
                self.begin_batch(input, batch, turns)
            }
            Taken::Mark(mark @ (Mark::At(time) | Mark::Idle(time))) => {
                self.begin_all(|| Work::Advance(time), Behind::Control(outlet::Control::Mark(mark)), turns)
            }
            Taken::Barrier(epoch) => {
                let (watermark, received) = (self.intake.watermark(), self.received.clone());
                if bug::is_seeded("barrier-before-the-handover") {
                    self.outlet.control(outlet::Control::Barrier(epoch))?;
                }
                self.begin_all(|| Work::Barrier(epoch), Behind::Barrier { epoch, watermark, received }, turns)
            }
            Taken::Close => self.begin_all(|| Work::Close, Behind::Control(outlet::Control::Close), turns),
            Taken::Over => Ok(()),
        }
    }

    fn begin_batch(&mut self, input: usize, batch: Batch, turns: &mut Turns<Behind, Work>) -> Result<(), Failure> {
        match &mut self.crew {
            Crew::Alone(worker) => {
                let Worked { outcome, left } = worker.work(Work::Batch(input, batch))?;
                turns.begin([0], None);
                turns.done(0, outcome, Changes::default(), left);
            }
            Crew::Many { tasks, divide: None, next } => {
                turns.begin([*next], None);
                if let Some(worker) = tasks.get(*next) {
                    worker.send_blocking(Task { work: Work::Batch(input, batch), round: self.round })?;
                }
                *next = (*next + 1) % tasks.len();
            }
            Crew::Many { tasks, divide: Some(wants), .. } => {
                let batch = wants.prepare(input, batch);
                let blank = Column::blank(batch.len());
                let keys = batch.keys().unwrap_or(&blank);
                let workers = tasks.len();
                let mut shares = batch.partition(workers, |row| owner(keys.get(row).unwrap_or_default(), workers));
                turns.begin(
                    (0..workers).filter(|worker| shares.get(*worker).is_some_and(|(_, share)| !share.is_empty())),
                    None,
                );
                for (worker, (rows, share)) in
                    tasks.iter().zip(shares.drain(..)).filter(|(_, (_, share))| !share.is_empty())
                {
                    worker.send_blocking(Task { work: Work::Share(input, share, rows), round: self.round })?;
                }
            }
        }
        Ok(())
    }

    /// Work for every worker. Filters and maps need a barrier or a mark only as a place in the order.
    pub(super) fn begin_all(
        &mut self,
        mut work: impl FnMut() -> Work,
        behind: Behind,
        turns: &mut Turns<Behind, Work>,
    ) -> Result<(), Failure> {
        match &mut self.crew {
            Crew::Alone(worker) => {
                let Worked { outcome, left } = worker.work(work())?;
                let is_barrier = matches!(behind, Behind::Barrier { .. });
                let changes = if is_barrier { worker.take_changes() } else { Changes::default() };
                turns.begin([0], Some(behind));
                turns.done(0, outcome, changes, left);
            }
            Crew::Many { tasks, .. } => {
                turns.begin(0..tasks.len(), Some(behind));
                for worker in tasks {
                    worker.send_blocking(Task { work: work(), round: self.round })?;
                }
            }
        }
        Ok(())
    }

    fn emit(&mut self, turn: Turn<Behind>, turns: &mut Turns<Behind, Work>) -> Result<(), Failure> {
        let since = Instant::now();
        for output in turn.outcome.outputs {
            // Who comes next has refused none of it.
            let batch = if output.port == Port::Refused { output.batch } else { Again::forgotten(output.batch) };
            self.outlet.send_blocking(output.port, &batch)?;
        }
        self.spec.meter.blocked(since.elapsed().as_nanos() as u64);
        self.spec.meter.count(&turn.outcome.tally);
        self.tally.add(&turn.outcome.tally);
        // What another plugin did in its place no generation has served.
        self.standing.serve(turn.outcome.tally.received - turn.outcome.tally.stood_in);
        match turn.control {
            None | Some(Behind::Nothing) => Ok(()),
            Some(Behind::Prepared(pending)) => self.prepared(pending, turns),
            Some(Behind::Exchanged(pending)) => {
                self.exchanged(pending);
                Ok(())
            }
            Some(Behind::Control(control)) => Ok(self.outlet.control(control)?),
            Some(Behind::Barrier { epoch, watermark, received }) => {
                let (changes, tally, sent) = (turn.changes, self.tally, self.outlet.sent());
                let standing = self.standing.hand_over();
                crash::point("stage.before-handover");
                (self.report)(Handed { epoch, changes, tally, watermark, received, sent, standing })?;
                crash::point("stage.after-handover");
                if bug::is_seeded("barrier-before-the-handover") {
                    return Ok(());
                }
                Ok(self.outlet.control(outlet::Control::Barrier(epoch))?)
            }
        }
    }
}

/// What does not come from an input; what the stage is told comes before what its workers answer.
fn answer(lanes: &mut [Lane<Item>], inputs: usize) -> Option<Next> {
    lanes.get_mut(inputs..)?.iter_mut().find_map(|lane| match lane.pop() {
        Some(Item::Done(done)) => Some(Next::Done(done)),
        Some(Item::Control(control)) => Some(Next::Told(control)),
        _ => None,
    })
}

/// A worker of several, on its own thread: does what it is given until there is no more. One that has failed stays until its
/// conductor has gone: a conductor that found it gone, before it has read the answer, would end for that, and nobody would
/// say why.
///
/// # Errors
/// What it could not do; the conductor has been told.
pub fn work(mut worker: Worker, number: usize, inbox: &Inbox<Task>, answers: &Sender) -> Result<(), Failure> {
    while let Order::Task(task) = inbox.wait_blocking(order)? {
        if !obey(&mut worker, number, task, answers)? {
            while let Order::Task(_) = inbox.wait_blocking(order)? {}
            break;
        }
    }
    Ok(())
}

/// What a worker of several is to do next.
pub(crate) enum Order {
    /// A piece of work.
    Task(Task),
    /// Nothing more.
    Over,
}

/// The next order, if there is one.
pub(crate) fn order(lanes: &mut [Lane<Task>]) -> Option<Order> {
    let lane = lanes.first_mut()?;
    match lane.pop() {
        Some(task) => Some(Order::Task(task)),
        None => lane.is_over().then_some(Order::Over),
    }
}

/// Does a piece of work, answers, and says whether to go on.
///
/// # Errors
/// When nobody waits for the answer.
pub(crate) fn obey(worker: &mut Worker, number: usize, task: Task, answers: &Sender) -> Result<bool, Gone> {
    let Task { work, round } = task;
    let is_barrier = matches!(work, Work::Barrier(_));
    let result = worker.work_in(round, work);
    let is_left = matches!(&result, Ok(Worked { left: Some(_), .. }));
    let changes = if is_barrier && !is_left { worker.take_changes() } else { Changes::default() };
    let goes_on = result.is_ok();
    answers.send_blocking(Item::Done(Box::new(Done { worker: number, result, changes })))?;
    Ok(goes_on)
}

/// Whether a stage of this kind divides batches by key among its workers.
pub fn divides(kind: Kind) -> bool {
    kind == Kind::Aggregate
}

#[cfg(test)]
mod tests;
