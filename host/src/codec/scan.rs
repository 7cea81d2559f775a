//! Reads JSON in one pass: whether it is valid, and the raw bytes at a set of JSON pointers.
//!
//! Owns the pointers (RFC 6901) and the walk along them; `reader` owns the grammar, `text` the escapes. It must not
//! build a document nor allocate for a value. Invariant: it takes what `serde_json` takes, and finds what
//! `serde_json` finds; only a number may be of any size.

mod reader;
mod text;

use reader::Reader;
pub use text::text;
pub(super) use text::{is_named, push_escaped, push_text, unescape};

/// Why bytes are not JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected} at byte {at}")]
pub struct JsonError {
    /// Offset of the byte that does not fit.
    pub at: usize,
    /// What would have fitted.
    pub expected: &'static str,
}

/// Where a pointer leads to: start and end of the raw value. A value is never empty, so an end of 0 is nothing.
pub(super) type Span = (usize, usize);

/// So many pointers are looked for without allocating.
const INLINE: usize = 16;

/// A set of JSON pointers, ready to be looked for together.
#[derive(Clone, Debug)]
pub struct Pointers {
    /// The pointers as a tree; the root is the first.
    steps: Vec<Step>,
    count: usize,
}

/// What is known about one place in a document.
#[derive(Clone, Debug, Default)]
struct Step {
    /// Pointers that lead here.
    here: Vec<usize>,
    /// Pointers that lead here or further down.
    below: Vec<usize>,
    next: Vec<Next>,
}

/// A way on from a place.
#[derive(Clone, Debug)]
struct Next {
    name: Box<str>,
    /// The name as a position in an array, if it can be one.
    index: Option<usize>,
    step: usize,
}

impl Pointers {
    /// Prepares `pointers`; one that [`is_pointer`] turns down is never found.
    pub fn new<P: AsRef<str>>(pointers: &[P]) -> Self {
        let mut set = Self { steps: vec![Step::default()], count: pointers.len() };
        for (i, pointer) in pointers.iter().enumerate() {
            let pointer = pointer.as_ref();
            if is_pointer(pointer) {
                let end = pointer.split('/').skip(1).fold(set.pass(0, i), |step, part| {
                    let next = set.way(step, &part.replace("~1", "/").replace("~0", "~"));
                    set.pass(next, i)
                });
                set.steps[end].here.push(i);
            }
        }
        set
    }

    fn pass(&mut self, step: usize, pointer: usize) -> usize {
        self.steps[step].below.push(pointer);
        step
    }

    fn way(&mut self, step: usize, name: &str) -> usize {
        if let Some(next) = self.steps[step].next.iter().find(|next| &*next.name == name) {
            return next.step;
        }
        let to = self.steps.len();
        let index =
            if name.starts_with('+') || (name.starts_with('0') && name.len() > 1) { None } else { name.parse().ok() };
        self.steps[step].next.push(Next { name: name.into(), index, step: to });
        self.steps.push(Step::default());
        to
    }

    /// Checks that `value` is one JSON value and calls `found` with the position of each pointer that leads to
    /// something, in order, and the raw JSON there. Of members with the same name the last counts.
    ///
    /// # Errors
    /// When `value` is not JSON; `found` has not been called then.
    pub fn scan(&self, value: &[u8], mut found: impl FnMut(usize, &[u8])) -> Result<(), JsonError> {
        let mut few = [(0, 0); INLINE];
        let mut many = Vec::new();
        let spans = match few.get_mut(..self.count) {
            Some(spans) => spans,
            None => {
                many.resize(self.count, (0, 0));
                many.as_mut_slice()
            }
        };
        self.locate(value, spans)?;
        for (i, &(start, end)) in spans.iter().enumerate() {
            if end > 0 {
                found(i, value.get(start..end).unwrap_or_default());
            }
        }
        Ok(())
    }

    /// Like [`scan`](Self::scan), but notes where the values are; `spans` has one item for each pointer.
    pub(super) fn locate(&self, value: &[u8], spans: &mut [Span]) -> Result<(), JsonError> {
        spans.fill((0, 0));
        let mut reader = Reader::new(value);
        match self.steps.first() {
            Some(root) => self.value(&mut reader, root, 0, spans)?,
            None => reader.skip(0)?,
        }
        reader.end()
    }

    fn value(&self, reader: &mut Reader<'_>, step: &Step, depth: u32, spans: &mut [Span]) -> Result<(), JsonError> {
        reader.blanks();
        let start = reader.at;
        match reader.peek() {
            Some(b'{') if !step.next.is_empty() => self.object(reader, step, depth, spans)?,
            Some(b'[') if !step.next.is_empty() => self.array(reader, step, depth, spans)?,
            _ => reader.skip(depth)?,
        }
        for &pointer in &step.here {
            if let Some(span) = spans.get_mut(pointer) {
                *span = (start, reader.at);
            }
        }
        Ok(())
    }

    fn object(&self, reader: &mut Reader<'_>, step: &Step, depth: u32, spans: &mut [Span]) -> Result<(), JsonError> {
        reader.enter(depth)?;
        if reader.take(b'}') {
            return Ok(());
        }
        loop {
            let name = reader.name()?;
            let next = step.next.iter().find(|next| match name.escaped {
                false => next.name.as_bytes() == name.raw,
                true => is_named(name.raw, &next.name),
            });
            match next.and_then(|next| self.steps.get(next.step)) {
                Some(next) => {
                    // An earlier member of this name may have left something.
                    for &pointer in &next.below {
                        if let Some(span) = spans.get_mut(pointer) {
                            *span = (0, 0);
                        }
                    }
                    self.value(reader, next, depth + 1, spans)?;
                }
                None => reader.skip(depth + 1)?,
            }
            if !reader.comma(b'}')? {
                return Ok(());
            }
        }
    }

    fn array(&self, reader: &mut Reader<'_>, step: &Step, depth: u32, spans: &mut [Span]) -> Result<(), JsonError> {
        reader.enter(depth)?;
        if reader.take(b']') {
            return Ok(());
        }
        let mut index = 0;
        loop {
            let next = step.next.iter().find(|next| next.index == Some(index));
            match next.and_then(|next| self.steps.get(next.step)) {
                Some(next) => self.value(reader, next, depth + 1, spans)?,
                None => reader.skip(depth + 1)?,
            }
            if !reader.comma(b']')? {
                return Ok(());
            }
            index += 1;
        }
    }
}

/// Whether `pointer` is a JSON pointer: empty, or every part begun by `/`, and `~` only in `~0` and `~1`.
pub fn is_pointer(pointer: &str) -> bool {
    (pointer.is_empty() || pointer.starts_with('/'))
        && pointer.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']))
}

/// Checks that `value` is one JSON value.
///
/// # Errors
/// When it is not.
pub fn check(value: &[u8]) -> Result<(), JsonError> {
    let mut reader = Reader::new(value);
    reader.skip(0)?;
    reader.end()
}

/// Calls `member` with the name and the raw value of each member of the object `value`; a name without its quotes,
/// as it stands there.
///
/// # Errors
/// When `value` is not a JSON object; some members may have been seen then.
pub(super) fn members<'a>(value: &'a [u8], mut member: impl FnMut(&'a [u8], Span)) -> Result<(), JsonError> {
    let mut reader = Reader::new(value);
    reader.blanks();
    if reader.peek() != Some(b'{') {
        return Err(JsonError { at: reader.at, expected: "a JSON object" });
    }
    reader.enter(0)?;
    if !reader.take(b'}') {
        loop {
            let name = reader.name()?;
            reader.blanks();
            let start = reader.at;
            reader.skip(1)?;
            member(name.raw, (start, reader.at));
            if !reader.comma(b'}')? {
                break;
            }
        }
    }
    reader.end()
}

#[cfg(test)]
mod tests;
