//! Replies of any shape against a checker that is slow and obvious. Model P13, target F4, guest S11.

use arbitrary::{Result, Unstructured};
use proptest::prelude::*;

use super::super::abi::{
    AccumulatedOut, BatchOut, ColumnOut, NamedOut, ProducedAndRefused, ProducedOut, RefusalsOut, SelectionOut,
};
use super::super::reply::{self, Expected};
use super::*;

/// Small numbers, so that what fits comes up as often as what does not.
fn positions(bytes: &mut Unstructured<'_>) -> Result<Vec<u32>> {
    let mut positions = Vec::new();
    for _ in 0..bytes.int_in_range(0..=4)? {
        positions.push(bytes.int_in_range(0..=5)?);
    }
    if bytes.ratio(4, 5)? {
        positions.sort_unstable();
    }
    if bytes.ratio(1, 2)? {
        positions.dedup();
    }
    Ok(positions)
}

fn column(bytes: &mut Unstructured<'_>, items: usize) -> Result<ColumnOut> {
    let mut ends = Vec::new();
    let items = if bytes.ratio(1, 8)? { bytes.int_in_range(0..=4)? } else { items };
    let unit = bytes.int_in_range(0..=2)?;
    for item in 1..=items as u32 {
        ends.push(if bytes.ratio(1, 12)? { bytes.int_in_range(0..=9)? } else { item * unit });
    }
    let mut length = ends.last().copied().unwrap_or(0);
    if bytes.ratio(1, 12)? {
        length = bytes.int_in_range(0..=9)?;
    }
    Ok(ColumnOut { data: vec![bytes.int_in_range(0..=2)?; length as usize], ends })
}

fn refusals(bytes: &mut Unstructured<'_>) -> Result<RefusalsOut> {
    let at = if bytes.ratio(1, 2)? { Vec::new() } else { positions(bytes)? };
    Ok(RefusalsOut { reasons: column(bytes, at.len())?, at })
}

fn produced(bytes: &mut Unstructured<'_>, inputs: usize) -> Result<ProducedOut> {
    let origins = if bytes.ratio(2, 3)? { Some(positions(bytes)?) } else { None };
    let len = origins.as_ref().map_or(inputs, Vec::len);
    let mut more = Vec::new();
    for _ in 0..bytes.int_in_range(0..=2)? {
        let name = (*bytes.choose(&["null", "inherit", "id"])?).to_owned();
        more.push(NamedOut { name, items: column(bytes, len)? });
    }
    let some = |bytes: &mut Unstructured<'_>| bytes.ratio(1, 3);
    let counted = |bytes: &mut Unstructured<'_>| Ok(if bytes.ratio(1, 8)? { bytes.int_in_range(0..=4)? } else { len });
    Ok(ProducedOut {
        records: BatchOut {
            values: column(bytes, len)?,
            keys: if some(bytes)? { Some(column(bytes, len)?) } else { None },
            timestamps: if some(bytes)? { Some(vec![7; counted(bytes)?]) } else { None },
            headers: if some(bytes)? { Some(column(bytes, len)?) } else { None },
            more,
        },
        ports: if some(bytes)? { Some(vec![bytes.int_in_range(0..=3)?; counted(bytes)?]) } else { None },
        origins,
    })
}

mod slow {
    //! The contract's promises, one after another, as one would check them by hand.

    use super::*;

    pub(super) fn column(column: &ColumnOut, items: usize) -> bool {
        let never_fall = (0..column.ends.len()).all(|i| (0..i).all(|j| column.ends[j] <= column.ends[i]));
        let finish = column.ends.iter().max().copied().unwrap_or(0) as usize == column.data.len();
        column.ends.len() == items && never_fall && finish
    }

    fn ascend(at: &[u32], inputs: usize) -> bool {
        at.iter().all(|&i| (i as usize) < inputs) && (0..at.len()).all(|i| (0..i).all(|j| at[j] < at[i]))
    }

    pub(super) fn refusals(refused: &RefusalsOut, inputs: usize) -> bool {
        ascend(&refused.at, inputs) && column(&refused.reasons, refused.at.len())
    }

    pub(super) fn selection(answer: &SelectionOut, inputs: usize) -> bool {
        ascend(&answer.keep, inputs)
            && refusals(&answer.refused, inputs)
            && answer.keep.iter().all(|at| !answer.refused.at.contains(at))
    }

    pub(super) fn produced(answer: &ProducedOut, refused: &RefusalsOut, inputs: usize, outputs: usize) -> bool {
        let everything: Vec<u32> = (0..inputs as u32).collect();
        let origins = answer.origins.as_ref().unwrap_or(&everything);
        let in_order = origins.is_sorted() && origins.iter().all(|&at| (at as usize) < inputs);
        let disjoint =
            origins.iter().all(|at| !refused.at.contains(at)) && (answer.origins.is_some() || refused.at.is_empty());
        let n = origins.len();
        let records = &answer.records;
        let no_values = records.values.ends.is_empty() && records.values.data.is_empty();
        let names: Vec<&str> = records.more.iter().map(|named| named.name.as_str()).collect();
        let bytes = |named: &NamedOut, most: u8| {
            column(&named.items, n)
                && named.items.data.len() == n
                && named.items.ends.iter().zip(1..).all(|(&end, item)| end == item)
                && named.items.data.iter().all(|&byte| byte <= most)
        };
        let well_formed = |headers: &ColumnOut| {
            // Bytes are 0, 1 or 2 here and items short: the one pair that fits is that of two empty strings.
            let starts = [0].into_iter().chain(headers.ends.iter().copied());
            let mut items = starts.zip(&headers.ends).map(|(start, &end)| &headers.data[start as usize..end as usize]);
            items.all(|item| item.is_empty() || item == [0; 8])
        };
        in_order
            && disjoint
            && (no_values || column(&records.values, n))
            && records.keys.as_ref().is_none_or(|keys| column(keys, n))
            && records.timestamps.as_ref().is_none_or(|times| times.len() == n)
            && records.headers.as_ref().is_none_or(|headers| column(headers, n) && well_formed(headers))
            && names.iter().all(|name| names.iter().filter(|other| *other == name).count() == 1)
            && records.more.iter().all(|named| match named.name.as_str() {
                "null" => bytes(named, 1),
                "inherit" => bytes(named, 15),
                _ => false,
            })
            && answer
                .ports
                .as_ref()
                .is_none_or(|ports| ports.len() == n && ports.iter().all(|&port| port as usize <= outputs))
    }
}

/// One reply of each kind made of `bytes`: accepted exactly where the slow checker finds nothing.
fn check(mut bytes: Unstructured<'_>) -> Result<()> {
    let bytes = &mut bytes;
    let expected = Expected { inputs: bytes.int_in_range(0..=4)?, outputs: bytes.int_in_range(0..=2)? };
    let Expected { inputs, outputs } = expected;

    let answer = SelectionOut { keep: positions(bytes)?, refused: refusals(bytes)? };
    let valid = slow::selection(&answer, inputs);
    let found = reply::selection(expected, answer.clone());
    assert_eq!(found.is_ok(), valid, "{answer:?} of {inputs}: {found:?}");

    let answer = ProducedAndRefused { refused: refusals(bytes)?, produced: produced(bytes, inputs)? };
    let valid =
        slow::refusals(&answer.refused, inputs) && slow::produced(&answer.produced, &answer.refused, inputs, outputs);
    let found = reply::mapped(expected, answer.clone());
    assert_eq!(found.is_ok(), valid, "{answer:?} of {inputs}: {found:?}");
    assert_eq!(reply::finished(expected, answer).is_ok(), valid);

    let (groups, limit) = (bytes.int_in_range(0..=3)?, bytes.int_in_range(0..=2)?);
    let answer = AccumulatedOut {
        states: column(bytes, groups)?,
        produced: if bytes.ratio(1, 2)? { Some(produced(bytes, inputs)?) } else { None },
        refused: refusals(bytes)?,
    };
    let states = slow::column(&answer.states, groups);
    let bounds: Vec<u32> = [0].iter().chain(&answer.states.ends).copied().collect();
    let within = bounds.windows(2).all(|pair| u64::from(pair[1].saturating_sub(pair[0])) <= limit);
    let rest = slow::refusals(&answer.refused, inputs)
        && answer.produced.as_ref().is_none_or(|made| slow::produced(made, &answer.refused, inputs, outputs));
    let found = reply::accumulated(expected, groups, limit, answer.clone());
    assert_eq!(found.is_ok(), states && within && rest, "{answer:?} of {inputs}: {found:?}");
    if states && !within {
        assert_eq!(found.unwrap_err().kind, FaultKind::OutputLimit);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn a_reply_is_used_exactly_if_it_keeps_every_promise(bytes in prop::collection::vec(any::<u8>(), 0..160)) {
        // Running out of bytes ends a case early, which is what the fuzzer does too.
        let _ = check(Unstructured::new(&bytes));
    }
}
