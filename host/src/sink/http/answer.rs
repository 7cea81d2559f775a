//! What an answer means for the records of its request.
//!
//! Owns the statuses, the list of refused records and `Retry-After`. It must not know how requests are sent. Invariant:
//! nothing is taken for delivered without a status of success, and nothing is given up that might be taken later.
//!
//! | status | meaning |
//! |---|---|
//! | 2xx | taken, but for the records that a JSON body of 200 or 207 lists: `{"refused": [{"index": 0, "reason": "…"}]}`, ascending; `unlisted` counts further ones |
//! | 408, 425, 429, 5xx | try again |
//! | 401, 403, 404, 405, 406, 407, 410, 415, 421, 426, and all of 1xx and 3xx | nothing is wrong with the records: say so, and try again |
//! | other 4xx | some or all of the records are refused |

use std::time::Duration;

use hyper::{
    HeaderMap, StatusCode,
    header::{CONTENT_TYPE, LOCATION, RETRY_AFTER},
};
use jiff::{Timestamp, fmt::rfc2822};
use serde::Deserialize;

use super::load::Said;
use crate::secret::mask;

/// Characters of an answer, or of a reason, that are shown.
const SHOWN: usize = 200;

/// The longest wait that a receiver may ask for; after it, it is asked whether it still means that.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It was taken, as far as it is not said otherwise.
    Taken(Said),
    /// The receiver will not take these records together.
    Refused(String),
    /// It may be taken later, and not before the time that the receiver asked for.
    Later(String, Option<Duration>),
}

/// An answer as our own source gives it, and as others may.
#[derive(Deserialize)]
struct Listing {
    refused: Vec<Entry>,
    #[serde(default)]
    unlisted: u64,
}

#[derive(Deserialize)]
struct Entry {
    index: usize,
    #[serde(default)]
    reason: String,
}

/// Whether the body of an answer may list refused records.
pub(super) fn may_list(status: StatusCode, headers: &HeaderMap) -> bool {
    let is_json = |kind: &str| {
        let essence = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        essence == "application/json" || essence.ends_with("+json")
    };
    matches!(status, StatusCode::OK | StatusCode::MULTI_STATUS)
        && headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).is_some_and(is_json)
}

/// What an answer of `shown` (the address) means; `body` is as much of it as was read.
pub(super) fn judge(shown: &str, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Verdict {
    let wait = || headers.get(RETRY_AFTER)?.to_str().ok().and_then(|text| wait(text, Timestamp::now()));
    let said = || {
        let text = excerpt(&String::from_utf8_lossy(body));
        if text.is_empty() {
            format!("{shown} answered {status}")
        } else {
            format!("{shown} answered {status}: {text}")
        }
    };
    match status.as_u16() {
        200..=299 if may_list(status, headers) => Verdict::Taken(listed(body)),
        200..=299 => Verdict::Taken(Said::default()),
        408 | 425 | 429 | 500..=599 => Verdict::Later(said(), wait()),
        401 | 403 | 404 | 405 | 406 | 407 | 410 | 415 | 421 | 426 => {
            Verdict::Later(format!("{}; that concerns `url`, `token` or `headers`, not the records", said()), wait())
        }
        400..=499 => Verdict::Refused(format!("refused: {}", said())),
        _ => {
            let to = headers.get(LOCATION).and_then(|to| to.to_str().ok()).map(excerpt);
            let to = to.map_or_else(String::new, |to| format!(" to `{to}`; write that as `url` if it is right"));
            Verdict::Later(format!("{shown} answered {status}, which is not followed{to}"), wait())
        }
    }
}

/// The refused records that a body lists; none where it is of another form.
fn listed(body: &[u8]) -> Said {
    let Ok(Listing { refused, unlisted }) = serde_json::from_slice(body) else { return Said::default() };
    let told = |entry: Entry| {
        let reason = excerpt(&entry.reason);
        (entry.index, if reason.is_empty() { "refused without a reason".to_owned() } else { reason })
    };
    Said { refused: refused.into_iter().map(told).collect(), is_partial: unlisted > 0 }
}

/// How long `Retry-After` asks to wait: seconds, or until a date.
fn wait(text: &str, now: Timestamp) -> Option<Duration> {
    let text = text.trim();
    let wait = if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        Duration::from_secs(text.parse().unwrap_or(u64::MAX))
    } else {
        // A date that has passed asks for no wait.
        let date = rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
        Duration::try_from(date.duration_since(now)).unwrap_or_default()
    };
    Some(wait.min(LONGEST_WAIT))
}

/// The beginning of a text of somebody else's, on one line, without secrets that may have been sent back.
fn excerpt(text: &str) -> String {
    let text = mask(text.trim());
    text.chars().take(SHOWN).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(given: &[(&'static str, &str)]) -> HeaderMap {
        given.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    fn judged(status: u16, given: &[(&'static str, &str)], body: &str) -> Verdict {
        judge("http://h/", StatusCode::from_u16(status).unwrap(), &headers(given), body.as_bytes())
    }

    #[test]
    fn every_status_is_taken_refused_or_tried_again() {
        let later = [401, 403, 404, 405, 406, 407, 408, 410, 415, 421, 425, 426, 429];
        for status in 100..1000 {
            let verdict = judged(status, &[], "");
            let expected = match status {
                200..300 => matches!(verdict, Verdict::Taken(_)),
                400..500 if !later.contains(&status) => matches!(verdict, Verdict::Refused(_)),
                _ => matches!(verdict, Verdict::Later(..)),
            };
            assert!(expected, "{status}: {verdict:?}");
        }
    }

    #[test]
    fn an_answer_of_json_names_the_records_that_were_refused() {
        let json = [("content-type", "application/json; charset=utf-8")];
        let said = |refused: &[(usize, &str)], is_partial| {
            let refused = refused.iter().map(|(at, reason)| (*at, (*reason).to_owned())).collect();
            Verdict::Taken(Said { refused, is_partial })
        };
        let body = r#"{"accepted":1,"refused":[{"index":0,"reason":"bad\nline"},{"index":2}]}"#;
        let two = said(&[(0, "bad line"), (2, "refused without a reason")], false);
        for (status, given, body, expected) in [
            (200, &json[..], body, two.clone()),
            (207, &json, body, two.clone()),
            (200, &[("content-type", "application/vnd.x+json")], body, two),
            (200, &json, r#"{"refused":[],"unlisted":7}"#, said(&[], true)),
            (200, &json, r#"{"accepted":3,"refused":[]}"#, said(&[], false)),
            (200, &json, r#"{"ok":true}"#, said(&[], false)),
            (200, &json, "[", said(&[], false)),
            (200, &[], body, said(&[], false)),
            (202, &json, body, said(&[], false)),
        ] {
            assert_eq!(judged(status, given, body), expected, "{status} {given:?} {body}");
        }
    }

    #[test]
    fn a_wait_is_given_in_seconds_or_as_a_date_and_has_a_bound() {
        let now: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
        for (text, expected) in [
            ("0", Some(0)),
            (" 7 ", Some(7)),
            ("300", Some(300)),
            ("301", Some(300)),
            ("99999999999999999999999999", Some(300)),
            ("Sat, 21 Nov 2026 12:00:30 GMT", Some(30)),
            ("Sat, 21 Nov 2026 11:00:00 GMT", Some(0)),
            ("Sun, 22 Nov 2026 12:00:00 GMT", Some(300)),
            ("-1", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(wait(text, now), expected.map(Duration::from_secs), "{text}");
        }
        let asked = |status| judged(status, &[("retry-after", "9")], "");
        for status in [429, 503, 404] {
            assert!(
                matches!(asked(status), Verdict::Later(_, Some(wait)) if wait == Duration::from_secs(9)),
                "{status}"
            );
        }
    }

    #[test]
    fn what_is_shown_of_an_answer_is_short_and_on_one_line() {
        let Verdict::Refused(said) = judged(400, &[], &"line\n".repeat(1000)) else { panic!("it was refused") };
        assert!(
            said.starts_with("refused: http://h/ answered 400 Bad Request: line line ") && said.len() < 300,
            "{said}"
        );
    }

    #[test]
    fn a_redirection_is_named_and_not_followed() {
        for status in [301, 302, 303, 307, 308] {
            let Verdict::Later(why, _) = judged(status, &[("location", "https://other/")], "") else {
                panic!("{status}")
            };
            assert!(why.contains("not followed to `https://other/`; write that as `url`"), "{why}");
        }
    }
}
