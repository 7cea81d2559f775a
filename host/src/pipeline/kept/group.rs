//! One group as a line of JSON.
//!
//! Owns the form in which a group leaves a store and comes back, to the byte: a key that is not UTF-8 and a state that
//! is not JSON in one line stand there in base64.
//!
//! | field | holds |
//! |---|---|
//! | `stage` | name of the stage |
//! | `key` or `key_base64` | the key |
//! | `window` | `start` and `end` in milliseconds since 1970, where the stage has windows of time |
//! | `counted` | records of the window so far, where windows count records; 0 elsewhere |
//! | `time` | latest event time folded, milliseconds since 1970 |
//! | `seen` | the further of watermark and event time when a record last came, milliseconds since 1970 |
//! | `panes` | results that the window has given |
//! | `late` | whether it has taken a record after it was due |
//! | `state` or `state_base64` | the state |

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::super::durable::{self, ALL, Unfit};
use crate::{
    stage::table::{Facts, Saved},
    store::Place,
    time::Window,
};

/// One group.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// Name of the stage.
    pub stage: String,
    /// The key, where it is UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The key in base64, where it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_base64: Option<String>,
    /// Its window, in a stage that divides time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<GroupWindow>,
    /// Records of its window so far, where windows count records.
    pub counted: u64,
    /// Latest event time folded, milliseconds since 1970.
    pub time: i64,
    /// The further of watermark and event time when a record last came, milliseconds since 1970.
    pub seen: i64,
    /// Results that its window has given.
    pub panes: u32,
    /// Whether it has taken a record after it was due.
    pub late: bool,
    /// The state, where it is JSON in one line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<Box<RawValue>>,
    /// The state in base64, where it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_base64: Option<String>,
}

/// A stretch of event time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupWindow {
    /// First millisecond, since 1970.
    pub start: i64,
    /// First millisecond after it.
    pub end: i64,
}

impl Group {
    /// The group that stands at a place of the store.
    pub(super) fn of(place: &Place<'_>, value: &[u8]) -> Result<Self, Unfit> {
        let ((key, window), Saved { state, facts }) = durable::group(place, value)?;
        let (key, key_base64) = match String::from_utf8(key) {
            Ok(text) => (Some(text), None),
            Err(error) => (None, Some(STANDARD.encode(error.as_bytes()))),
        };
        let json = verbatim(&state);
        let state_base64 = json.is_none().then(|| STANDARD.encode(&state));
        Ok(Self {
            stage: place.participant.to_string(),
            key,
            key_base64,
            window: (window != ALL).then_some(GroupWindow { start: window.start, end: window.end }),
            counted: facts.count,
            time: facts.time,
            seen: facts.seen,
            panes: facts.panes,
            late: facts.is_late,
            state: json,
            state_base64,
        })
    }

    /// Its key, window, state and facts.
    ///
    /// # Errors
    /// What is missing, there twice, or no base64.
    pub(super) fn parts(&self) -> Result<(Vec<u8>, Window, Saved), String> {
        let key = one("key", self.key.as_ref().map(|text| text.as_bytes()), self.key_base64.as_deref())?;
        let state = one("state", self.state.as_ref().map(|json| json.get().as_bytes()), self.state_base64.as_deref())?;
        let window = self.window.map_or(ALL, |window| Window { start: window.start, end: window.end });
        let facts =
            Facts { count: self.counted, time: self.time, seen: self.seen, panes: self.panes, is_late: self.late };
        Ok((key, window, Saved { state, facts }))
    }
}

/// The state as JSON, where that gives the same bytes back.
fn verbatim(state: &[u8]) -> Option<Box<RawValue>> {
    // `null` reads as a field that is not there.
    if state.contains(&b'\n') || state.contains(&b'\r') || state == b"null" {
        return None;
    }
    let json: Box<RawValue> = serde_json::from_slice(state).ok()?;
    (json.get().as_bytes() == state).then_some(json)
}

fn one(field: &str, plain: Option<&[u8]>, encoded: Option<&str>) -> Result<Vec<u8>, String> {
    match (plain, encoded) {
        (Some(plain), None) => Ok(plain.to_vec()),
        (None, Some(text)) => STANDARD.decode(text).map_err(|error| format!("`{field}_base64` is no base64: {error}")),
        (Some(_), Some(_)) => Err(format!("`{field}` and `{field}_base64` are both there")),
        (None, None) => Err(format!("neither `{field}` nor `{field}_base64` is there")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{pipeline::durable::GROUP, stage::table::slot};

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        const WORDS: &[&str] =
            &["null", "1", " 1", "1 ", "{\"a\": 1}", "[1,\n2]", "1.0", "\"\\u00e9\"", "{}{}", "", "é", "\u{feff}1"];
        prop_oneof![
            prop::sample::select(WORDS).prop_map(|word| word.as_bytes().to_vec()),
            prop::collection::vec(any::<u8>(), 0..12),
        ]
    }

    proptest! {
        /// Whatever a group holds, its line is one line and gives back the same bytes, key by key and bit by bit.
        #[test]
        fn a_group_comes_back_from_its_line_as_it_was(
            key in bytes(),
            state in bytes(),
            window in prop::option::of((any::<i64>(), any::<i64>())),
            (count, time, seen, panes, is_late) in any::<(u64, i64, i64, u32, bool)>(),
        ) {
            let window = window.map_or(ALL, |(start, end)| Window { start, end });
            let facts = Facts { count, time, seen, panes, is_late };
            let place = Place::group(GROUP, "sums", slot(&key), &key, (window != ALL).then_some((window.start, window.end)));
            let value = durable::value_of(&state, facts);
            let line = serde_json::to_string(&Group::of(&place, &value).unwrap()).unwrap();
            prop_assert!(!line.contains('\n'));
            let back: Group = serde_json::from_str(&line).unwrap();
            prop_assert_eq!(back.parts().unwrap(), (key, window, Saved { state, facts }));
        }
    }

    #[test]
    fn a_line_that_names_a_thing_twice_or_not_at_all_is_refused() {
        let facts = r#""counted":1,"time":0,"seen":0,"panes":0,"late":false"#;
        for (fields, why) in [
            (r#""key":"a""#, "neither `state`"),
            (r#""state":1"#, "neither `key`"),
            (r#""key":"a","key_base64":"YQ==","state":1"#, "both there"),
            (r#""key":"a","state_base64":"!""#, "no base64"),
        ] {
            let group: Group = serde_json::from_str(&format!(r#"{{"stage":"sums",{fields},{facts}}}"#)).unwrap();
            assert!(group.parts().unwrap_err().contains(why), "{fields}");
        }
    }
}
