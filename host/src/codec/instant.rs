//! Event times in JSON: RFC 3339, or a number of milliseconds.
//!
//! Owns how a raw JSON value becomes a time. It must not know where the value came from. Invariant: a time lies in
//! the years -9999 to 9999, so that nothing that adds a window to it overflows, and a number of micro- or
//! nanoseconds is told from milliseconds.

use jiff::Timestamp;

use super::scan::text;

/// Milliseconds since the Unix epoch that a raw JSON value stands for: an RFC 3339 string, rounded down, or a
/// number, truncated.
pub fn milliseconds(raw: &[u8]) -> Option<i64> {
    let milliseconds = match raw.first()? {
        b'"' => {
            let text = text(raw);
            short(&text).or_else(|| long(&text))
        }
        b'-' | b'0'..=b'9' => number(std::str::from_utf8(raw).ok()?),
        _ => None,
    }?;
    let known = Timestamp::MIN.as_millisecond()..=Timestamp::MAX.as_millisecond();
    known.contains(&milliseconds).then_some(milliseconds)
}

fn number(text: &str) -> Option<i64> {
    // What does not fit an integer saturates here and is out of range there.
    text.parse()
        .ok()
        .or_else(|| text.parse::<f64>().ok().filter(|number| number.is_finite()).map(|number| number as i64))
}

fn long(text: &[u8]) -> Option<i64> {
    let time: Timestamp = std::str::from_utf8(text).ok()?.parse().ok()?;
    i64::try_from(time.as_nanosecond().div_euclid(1_000_000)).ok()
}

/// The shape that nearly all times have, `2026-01-31T23:59:59.999Z` with any number of fractional digits or none,
/// and an offset in place of `Z`, in a tenth of the time of the general way.
fn short(text: &[u8]) -> Option<i64> {
    let (date, rest) = text.split_first_chunk::<19>()?;
    let [a, b, c, d, b'-', e, f, b'-', g, h, b'T' | b't' | b' ', i, j, b':', k, l, b':', m, n] = *date else {
        return None;
    };
    let year = two(a, b)? * 100 + two(c, d)?;
    let (month, day, hour, minute, second) = (two(e, f)?, two(g, h)?, two(i, j)?, two(k, l)?, two(m, n)?);
    if !(1..=12).contains(&month) || day < 1 || day > days(year, month) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let (fraction, zone) = match rest {
        [b'.', digits @ ..] => {
            let length = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
            if !(1..=9).contains(&length) {
                return None;
            }
            let digit = |at: usize| i64::from(digits.get(at).filter(|_| at < length).map_or(0, |byte| byte - b'0'));
            (digit(0) * 100 + digit(1) * 10 + digit(2), digits.get(length..)?)
        }
        _ => (0, rest),
    };
    let offset = match *zone {
        [b'Z' | b'z'] => 0,
        [sign @ (b'+' | b'-'), a, b, b':', c, d] => {
            let (hours, minutes) = (two(a, b)?, two(c, d)?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            (hours * 60 + minutes) * if sign == b'-' { -1 } else { 1 }
        }
        _ => return None,
    };
    let seconds = (day_of(year, month, day) * 24 + hour) * 3600 + (minute - offset) * 60 + second;
    Some(seconds * 1000 + fraction)
}

fn two(tens: u8, ones: u8) -> Option<i64> {
    (tens.is_ascii_digit() && ones.is_ascii_digit()).then(|| i64::from(tens - b'0') * 10 + i64::from(ones - b'0'))
}

fn days(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since the Unix epoch, after Howard Hinnant's `days_from_civil`; for years from 0.
fn day_of(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_short_way_and_the_long_way_agree(
            year in 0i64..=9999, rest in (0i64..14, 0i64..33, 0i64..25, 0i64..61, 0i64..61),
            fraction in "(\\.[0-9]{1,10})?", zone in prop_oneof![Just("Z".to_owned()), "[+-][0-2][0-9]:[0-6][0-9]"],
        ) {
            let (month, day, hour, minute, second) = rest;
            let text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}{zone}");
            if let Some(found) = short(text.as_bytes()) {
                let known = long(text.as_bytes());
                // The general way knows fewer times at the very ends of the calendar.
                if known.is_some() || (1..9999).contains(&year) {
                    prop_assert_eq!(Some(found), known, "{}", text);
                }
            }
        }

        #[test]
        fn any_bytes_are_a_time_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..30)) {
            milliseconds(&bytes);
        }
    }

    #[test]
    fn times_are_read_in_every_form_that_json_has() {
        let cases = [
            ("0", Some(0)),
            ("1767225600000", Some(1_767_225_600_000)),
            ("1767225600000.9", Some(1_767_225_600_000)),
            ("1.7672256e12", Some(1_767_225_600_000)),
            ("-1500.9", Some(-1500)),
            ("1767225600000000000", None),
            ("1e300", None),
            ("99999999999999999999999", None),
            ("true", None),
            ("null", None),
            ("\"2026-01-01T00:00:00Z\"", Some(1_767_225_600_000)),
            ("\"2026-01-01T00:00:00.5Z\"", Some(1_767_225_600_500)),
            ("\"2026-01-01T00:00:00.123456789Z\"", Some(1_767_225_600_123)),
            ("\"2026-01-01T01:30:00+01:30\"", Some(1_767_225_600_000)),
            ("\"2025-12-31T19:00:00-05:00\"", Some(1_767_225_600_000)),
            ("\"1969-12-31T23:59:59.9999Z\"", Some(-1)),
            ("\"2026-01-01t00:00:00z\"", Some(1_767_225_600_000)),
            ("\"2026-01-01\\u005400:00:00Z\"", Some(1_767_225_600_000)),
            ("\"2016-12-31T23:59:60Z\"", Some(1_483_228_799_000)),
            ("\"2024-02-29T00:00:00Z\"", Some(1_709_164_800_000)),
            ("\"2025-02-29T00:00:00Z\"", None),
            ("\"2026-01-01\"", None),
            ("\"2026-01-01T00:00:00\"", None),
            ("\"yesterday\"", None),
            ("\"\"", None),
        ];
        for (raw, expected) in cases {
            assert_eq!(milliseconds(raw.as_bytes()), expected, "{raw}");
        }
    }
}
