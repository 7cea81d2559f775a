//! A JSON document: the elements of an array, or one value.
//!
//! Owns where an element ends. It must not judge what is in it: it counts brackets and quotes, so that what comes
//! after a bad element is found again wherever those are in pairs.

use memchr::memchr2;
use serde::{Deserialize, Serialize};

use super::{Cut, Framer, Progress, Skip, Tail, blanks};

/// Why the rest of a document is refused.
pub(super) const CUT_OFF: &str = "the document ends inside an array";

/// Where a document has been read to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::codec) enum Stand {
    #[default]
    Before,
    /// Behind the opening bracket.
    Opened,
    /// Where an element has to come.
    Element,
    /// Behind an element.
    Between,
    /// Behind the closing bracket.
    Closed,
    /// In a document that is no array.
    Single,
}

impl Stand {
    pub(super) fn is_inside(self) -> bool {
        matches!(self, Self::Opened | Self::Element | Self::Between)
    }
}

/// How deep a look through an element is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Nest {
    depth: u64,
    quoted: bool,
    escaped: bool,
}

impl Nest {
    /// Goes on at `at`, and says whether the end of the element is there.
    pub(super) fn run(&mut self, bytes: &[u8], at: &mut usize) -> bool {
        while let Some(&byte) = bytes.get(*at) {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' if self.quoted => self.escaped = true,
                b'"' => self.quoted = !self.quoted,
                _ if self.quoted => {
                    let rest = bytes.get(*at..).unwrap_or_default();
                    *at += memchr2(b'"', b'\\', rest).unwrap_or(rest.len());
                    continue;
                }
                b',' | b']' if self.depth == 0 => return true,
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
            *at += 1;
        }
        false
    }
}

impl Framer {
    pub(super) fn document<'a>(&mut self, progress: &mut Progress, rest: &'a [u8], tail: Tail) -> Cut<'a> {
        if progress.stand == Stand::Single {
            return self.whole(progress, rest, tail);
        }
        let blanks = blanks(rest);
        if blanks > 0 {
            return Cut::Pass(blanks);
        }
        let (stand, cut) = match (progress.stand, rest.first()) {
            (Stand::Before, Some(b'[')) => (Stand::Opened, Cut::Pass(1)),
            (Stand::Before, _) => (Stand::Single, Cut::Pass(0)),
            (Stand::Opened | Stand::Between, Some(b']')) => (Stand::Closed, Cut::Pass(1)),
            (Stand::Between, Some(b',')) => (Stand::Element, Cut::Pass(1)),
            (Stand::Opened | Stand::Element, _) => return self.element(progress, rest, tail),
            _ => {
                progress.skip = Some(Skip::Rest);
                let first = rest.get(..1).unwrap_or_default();
                return Cut::Refused(first, 0, "expected the end of the document".to_owned());
            }
        };
        progress.stand = stand;
        cut
    }

    fn element<'a>(&mut self, progress: &mut Progress, rest: &'a [u8], tail: Tail) -> Cut<'a> {
        let window = self.window(rest, 1);
        let mut at = self.seen.bytes;
        let mut nest = self.seen.nest;
        if nest.run(window, &mut at) {
            progress.stand = Stand::Between;
            return Cut::Record(window.get(..at).unwrap_or_default().trim_ascii_end(), at);
        }
        if self.is_over(window, 1, tail) {
            return self.over(progress, rest, Skip::Element(Nest::default()));
        }
        if tail == Tail::Last {
            progress.stand = Stand::Closed;
            return Cut::Refused(rest, rest.len(), CUT_OFF.to_owned());
        }
        self.seen.nest = nest;
        self.wait(window)
    }
}
