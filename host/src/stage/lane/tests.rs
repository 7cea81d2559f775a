//! What a lane lets in and gives out, and who is woken.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::{
    batch::Batch,
    epoch::Epoch,
    stage::intake::Intake,
    time::{BEGIN, Mark},
};

fn batch(records: usize) -> Item {
    Item::Batch(Batch::of_values((0..records).map(|_| "x").collect()))
}

fn pop(lanes: &mut [Lane<Item>]) -> Option<Item> {
    lanes.iter_mut().find_map(Lane::pop)
}

#[test]
fn a_full_lane_admits_no_batch_but_always_a_barrier() {
    let (inbox, senders) = lanes(&[Limit { records: 4, bytes: 1 << 20 }]);
    for _ in 0..2 {
        assert_eq!(senders[0].offer(&mut Some(batch(2))), Ok(true));
    }
    assert_eq!(senders[0].offer(&mut Some(batch(1))), Ok(false));
    assert_eq!(senders[0].offer(&mut Some(Item::Barrier(Epoch(1)))), Ok(true));
    assert_eq!(inbox.handle().fill(), [Fill { records: 4, bytes: 2 * (2 + 8) }]);
    inbox.wait_blocking(pop).unwrap();
    assert_eq!(senders[0].offer(&mut Some(batch(1))), Ok(true));
}

#[test]
fn a_batch_larger_than_the_lane_travels_alone() {
    let (_inbox, senders) = lanes(&[Limit { records: 4, bytes: 8 }]);
    assert_eq!(senders[0].offer(&mut Some(batch(50))), Ok(true));
    assert_eq!(senders[0].offer(&mut Some(batch(1))), Ok(false));
}

#[test]
fn marks_in_a_row_become_the_last_one() {
    let (inbox, senders) = lanes(&[Limit::default()]);
    for time in 0..3 {
        senders[0].send_blocking(Item::Mark(Mark::At(time))).unwrap();
    }
    assert!(matches!(inbox.wait_blocking(pop), Ok(Item::Mark(Mark::At(2)))));
    assert!(senders[0].is_empty());
}

#[test]
fn a_sender_that_waits_goes_on_when_there_is_room_and_gives_up_when_the_inbox_is_killed() {
    let (inbox, mut senders) = lanes(&[Limit { records: 1, bytes: 1 << 20 }]);
    let sender = senders.remove(0);
    sender.send_blocking(batch(1)).unwrap();
    let handle = inbox.handle();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(move || (sender.send_blocking(batch(1)), sender.send_blocking(batch(1))));
        inbox.wait_blocking(pop).unwrap();
        handle.kill();
        let (first, second) = waiting.join().unwrap();
        assert!(second == Err(Gone) || first == Err(Gone));
    });
}

#[test]
fn a_lane_is_over_when_its_sender_is_gone_and_it_is_empty() {
    let (inbox, senders) = lanes(&[Limit::default()]);
    senders[0].send_blocking(batch(1)).unwrap();
    drop(senders);
    assert_eq!(inbox.wait_blocking(|lanes| Some(lanes[0].is_over())), Ok(false));
    inbox.wait_blocking(pop).unwrap();
    assert_eq!(inbox.wait_blocking(|lanes| Some(lanes[0].is_over())), Ok(true));
}

#[test]
fn a_part_of_a_batch_leaves_the_others_in_front_and_accounts_for_them() {
    let (inbox, senders) = lanes(&[Limit { records: 5, bytes: 1 << 20 }]);
    for item in [batch(5), Item::Barrier(Epoch(1))] {
        senders[0].send_blocking(item).unwrap();
    }
    let mut records = Vec::new();
    while let Item::Batch(part) = inbox.wait_blocking(|lanes| lanes[0].pop_part(2)).unwrap() {
        records.push((part.len(), senders[0].fill()));
    }
    let fill = |records| Fill { records, bytes: records * 5 };
    assert_eq!(records, [(2, fill(3)), (2, fill(1)), (1, fill(0))]);
}

#[test]
fn whoever_looks_on_sees_who_waits_for_room_and_what_waits_behind_a_barrier() {
    let (inbox, senders) = lanes(&[Limit { records: 1, bytes: 1 << 20 }; 2]);
    let (handle, mut intake) = (inbox.handle(), Intake::new(2, BEGIN));
    senders[0].send_blocking(Item::Barrier(Epoch(1))).unwrap();
    assert_eq!(senders[0].offer(&mut Some(batch(1))), Ok(true));
    assert_eq!(senders[0].offer(&mut Some(batch(1))), Ok(false));
    inbox.wait_blocking(|lanes| Some(intake.take(lanes))).unwrap();
    let marks = |handle: &Handle| handle.views().iter().map(|view| (view.is_full, view.is_held)).collect::<Vec<_>>();
    assert_eq!(marks(&handle), [(true, true), (false, false)]);
    senders[1].send_blocking(Item::Barrier(Epoch(1))).unwrap();
    inbox.wait_blocking(|lanes| intake.take(lanes)).unwrap();
    inbox.wait_blocking(|lanes| intake.take(lanes)).unwrap();
    assert_eq!(senders[0].offer(&mut Some(batch(1))), Ok(true));
    assert_eq!(marks(&handle), [(false, false), (false, false)]);
}

/// What senders and the receiver do.
#[derive(Clone, Debug)]
enum Act {
    /// Lane `lane` is offered so many records, by somebody who does not wait.
    Offer(usize, usize),
    /// As much, by a task that is dropped if it has to wait.
    Cancelled(usize, usize),
    Barrier(usize),
    Pop(usize),
    /// At most so many records.
    Part(usize, usize),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        (0usize..2, 1usize..9).prop_map(|(lane, records)| Act::Offer(lane, records)),
        (0usize..2, 1usize..9).prop_map(|(lane, records)| Act::Cancelled(lane, records)),
        (0usize..2).prop_map(Act::Barrier),
        (0usize..2).prop_map(Act::Pop),
        (0usize..2, 1usize..5).prop_map(|(lane, most)| Act::Part(lane, most)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Model P12: against plain queues of lengths, whatever is sent, given up while it waited, and taken in whole or in part, a
    /// lane accounts for exactly what is in it; it never holds more than it may but for one batch alone; and once
    /// everything has been taken it is as empty as in the beginning.
    #[test]
    fn a_lane_never_holds_more_than_it_may_and_loses_no_credit(acts in proptest::collection::vec(act(), 0..80)) {
        let most = Limit { records: 6, bytes: 40 };
        let (inbox, senders) = lanes(&[most; 2]);
        // A barrier is 0.
        let mut queues: [VecDeque<usize>; 2] = Default::default();
        let fits = |queue: &VecDeque<usize>, records: usize| {
            let held: usize = queue.iter().sum();
            held == 0 || (held + records <= most.records && (held + records) * 5 <= most.bytes)
        };
        for act in acts {
            match act {
                Act::Offer(lane, records) => {
                    let fits = fits(&queues[lane], records);
                    prop_assert_eq!(senders[lane].offer(&mut Some(batch(records))), Ok(fits));
                    queues[lane].extend(fits.then_some(records));
                }
                Act::Cancelled(lane, records) => {
                    let fits = fits(&queues[lane], records);
                    let sent = futures::FutureExt::now_or_never(senders[lane].send(batch(records)));
                    prop_assert_eq!(sent, fits.then_some(Ok(())));
                    queues[lane].extend(fits.then_some(records));
                }
                Act::Barrier(lane) => {
                    senders[lane].send_blocking(Item::Barrier(Epoch(1))).unwrap();
                    queues[lane].push_back(0);
                }
                Act::Pop(lane) | Act::Part(lane, _) => {
                    let part = if let Act::Part(_, part) = act { part } else { usize::MAX };
                    let item = inbox.wait_blocking(|lanes| Some(lanes[lane].pop_part(part))).unwrap();
                    let taken = item.map(|item| item.load().map_or(0, |load| load.records));
                    let expected = queues[lane].pop_front();
                    prop_assert_eq!(taken, expected.map(|records| records.min(part)));
                    if let Some(rest) = expected.filter(|records| *records > part) {
                        queues[lane].push_front(rest - part);
                    }
                }
            }
            for (lane, (view, queue)) in inbox.handle().views().into_iter().zip(&queues).enumerate() {
                let records: usize = queue.iter().sum();
                prop_assert_eq!(view.fill, Fill { records, bytes: records * 5 });
                let is_alone = queue.iter().filter(|records| **records > 0).count() <= 1;
                prop_assert!(is_alone || (records <= most.records && records * 5 <= most.bytes), "lane {}", lane);
            }
        }
        while inbox.wait_blocking(|lanes| Some(lanes.iter_mut().find_map(Lane::pop))).unwrap().is_some() {}
        prop_assert_eq!(inbox.handle().fill(), [Fill::default(); 2]);
    }
}
