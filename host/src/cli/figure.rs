//! Numbers as people read them.
//!
//! Owns separators and units. It must not know what is counted.

/// A count, such as `1,234,567`.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// So many a second, such as `1,234/s`.
pub(super) fn rate(number: u64, seconds: f64) -> String {
    let rate = if seconds > 0.0 { number as f64 / seconds } else { 0.0 };
    if rate > 0.0 && rate < 10.0 { format!("{rate:.1}/s") } else { format!("{}/s", count(rate.round() as u64)) }
}

/// A duration in nanoseconds, such as `1.25 ms`.
pub(super) fn nanos(nanos: f64) -> String {
    let (value, unit) = match nanos {
        small if small < 1e3 => (small, "ns"),
        small if small < 1e6 => (small / 1e3, "us"),
        middle if middle < 1e9 => (middle / 1e6, "ms"),
        large => (large / 1e9, "s"),
    };
    if value >= 100.0 { format!("{value:.0} {unit}") } else { format!("{value:.2} {unit}") }
}

/// A moment in milliseconds since 1970, such as `2026-01-31T12:00:00Z`; the ends of time have none.
pub(super) fn time(millis: i64) -> String {
    match jiff::Timestamp::from_millisecond(millis) {
        Ok(time) => time.to_string(),
        Err(_) if millis == crate::time::BEGIN => "the beginning".to_owned(),
        Err(_) if millis == crate::time::END => "the end".to_owned(),
        Err(_) => format!("{millis} ms"),
    }
}

/// A share, such as `2.5 %`.
pub(super) fn share(part: u64, whole: u64) -> String {
    if whole == 0 { "-".to_owned() } else { format!("{:.1} %", part as f64 * 100.0 / whole as f64) }
}

/// `word` in the number that `count` asks for, such as `2 stages`.
pub(super) fn several(count: usize, word: &str) -> String {
    format!("{count} {word}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_and_units_fit() {
        assert_eq!([count(0), count(999), count(1000), count(1_234_567)], ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([rate(5, 2.0), rate(50_000, 10.0), rate(1, 0.0)], ["2.5/s", "5,000/s", "0/s"]);
        assert_eq!([nanos(12.0), nanos(1_250_000.0), nanos(2.5e9)], ["12.00 ns", "1.25 ms", "2.50 s"]);
        assert_eq!(
            [time(0), time(i64::MIN), time(i64::MAX - 1)],
            ["1970-01-01T00:00:00Z", "the beginning", "9223372036854775806 ms"]
        );
        assert_eq!([share(1, 0), share(1, 40)], ["-", "2.5 %"]);
    }
}
