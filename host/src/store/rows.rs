//! The table `host`: a row for each pipeline, and the head at the empty key.
//!
//! Owns how rows are read, written and checked. It must not know pipelines' values. Invariant: the head's tally is that of
//! the rows.

use redb::{ReadOnlyTable, ReadTransaction, ReadableTable};

use super::{
    record::{self, Head, Record, Tally},
    table::{Bytes, Open, old_sum, read_table},
    trouble::Trouble,
};

/// The table's name; a pipeline's table begins otherwise.
pub(super) const HOST: &str = "host";
/// The head's key: no pipeline is without a name.
pub(super) const HEAD: &[u8] = b"";

fn host_rows(from: &ReadTransaction) -> Result<ReadOnlyTable<Bytes, Bytes>, Trouble> {
    read_table(from, HOST)?.ok_or_else(|| Trouble::Damaged("the table of pipelines is missing".into()))
}

pub(super) fn head_of(sealed: Option<&[u8]>) -> Result<Head, Trouble> {
    sealed
        .and_then(|sealed| record::unseal(HOST, HEAD, sealed))
        .and_then(|(head, _)| Head::decode(head))
        .ok_or_else(|| Trouble::Damaged("the row of the last commit is damaged".into()))
}

pub(super) fn put_head(rows: &mut Open<'_>, head: Head) -> Result<(), Trouble> {
    let mut sealed = Vec::new();
    record::seal(HOST, HEAD, &head.encode(), &mut sealed);
    rows.insert(HEAD, &*sealed)?;
    Ok(())
}

fn decoded(pipeline: &str, sealed: &[u8]) -> Result<(Record, u64), Trouble> {
    record::unseal(HOST, pipeline.as_bytes(), sealed)
        .and_then(|(row, sum)| Some((Record::decode(row)?, sum)))
        .ok_or_else(|| Trouble::Damaged(format!("the row of pipeline `{pipeline}` is damaged")))
}

pub(super) fn record_of(rows: &Open<'_>, pipeline: &str) -> Result<Option<Record>, Trouble> {
    let sealed = rows.get(pipeline.as_bytes())?;
    sealed.map(|sealed| Ok(decoded(pipeline, sealed.value())?.0)).transpose()
}

pub(super) fn read_record(from: &ReadTransaction, pipeline: &str) -> Result<Option<Record>, Trouble> {
    let sealed = host_rows(from)?.get(pipeline.as_bytes())?;
    sealed.map(|sealed| Ok(decoded(pipeline, sealed.value())?.0)).transpose()
}

/// Puts a pipeline's row, or takes it away, and keeps the tally of rows.
pub(super) fn put_record(
    rows: &mut Open<'_>,
    pipeline: &str,
    record: Option<&Record>,
    head: &mut Head,
) -> Result<(), Trouble> {
    let key = pipeline.as_bytes();
    if let Some(old) = rows.remove(key)? {
        head.rows.take(old_sum(HOST, key, old.value())?);
    }
    let Some(record) = record else { return Ok(()) };
    let mut sealed = Vec::new();
    head.rows.add(record::seal(HOST, key, &record.encode(), &mut sealed));
    rows.insert(key, &*sealed)?;
    Ok(())
}

/// Checks that all rows are there and whole.
pub(super) fn check_rows(from: &ReadTransaction) -> Result<Head, Trouble> {
    let rows = host_rows(from)?;
    let head = head_of(rows.get(HEAD)?.as_ref().map(|sealed| sealed.value()))?;
    let mut tally = Tally::default();
    for pipeline in names(from)? {
        let Some(sealed) = rows.get(pipeline.as_bytes())? else { continue };
        tally.add(decoded(&pipeline, sealed.value())?.1);
    }
    if tally == head.rows {
        return Ok(head);
    }
    Err(Trouble::Damaged("the rows of pipelines are not those of the last commit".into()))
}

pub(super) fn names(from: &ReadTransaction) -> Result<Vec<String>, Trouble> {
    let mut names = Vec::new();
    for row in host_rows(from)?.iter()? {
        let key = row?.0.value().to_vec();
        if key != HEAD {
            let name = String::from_utf8(key).ok().filter(|name| names.last().is_none_or(|last| last < name));
            names.push(name.ok_or_else(|| Trouble::Damaged("the name of a pipeline is damaged".into()))?);
        }
    }
    Ok(names)
}
