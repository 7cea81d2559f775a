//! Windows over event time.
//!
//! Owns which window a time belongs to, and when a window closes and is forgotten. All of it is arithmetic.

use std::time::Duration;

/// First millisecond of a window, and the first one after it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Window {
    /// First millisecond, since the Unix epoch.
    pub start: i64,
    /// First millisecond after it.
    pub end: i64,
}

/// Windows of one size, side by side, aligned to the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tumbling {
    size: i64,
    lateness: i64,
}

impl Tumbling {
    /// Windows of `size`, at least a millisecond, whose late records are taken until `lateness` after their end.
    pub fn new(size: Duration, lateness: Duration) -> Self {
        let millis = |span: Duration| i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
        Self { size: millis(size).max(1), lateness: millis(lateness) }
    }

    /// The window that `time` belongs to.
    pub fn window(&self, time: i64) -> Window {
        let start = time.saturating_sub(time.rem_euclid(self.size));
        Window { start, end: start.saturating_add(self.size) }
    }

    /// Whether the watermark has passed the window's end, so that it fires.
    pub fn is_closed(&self, window: Window, watermark: i64) -> bool {
        watermark >= window.end
    }

    /// The watermark at which the window is forgotten: records after that are too late.
    pub fn forgotten_at(&self, window: Window) -> i64 {
        window.end.saturating_add(self.lateness)
    }

    /// Whether a record of this window is too late.
    pub fn is_late(&self, window: Window, watermark: i64) -> bool {
        watermark >= self.forgotten_at(window)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_time_lies_in_its_window_and_windows_do_not_overlap(time in any::<i64>(), size in 1u64..100_000) {
            let windows = Tumbling::new(Duration::from_millis(size), Duration::ZERO);
            let window = windows.window(time);
            prop_assert!(window.start <= time && (time < window.end || window.end == i64::MAX));
            if window.start > i64::MIN + size as i64 && window.end < i64::MAX {
                prop_assert_eq!(windows.window(window.start), window);
                prop_assert_eq!(windows.window(window.start - 1).end, window.start);
            }
        }
    }

    #[test]
    fn lateness_keeps_a_closed_window_for_a_while() {
        let windows = Tumbling::new(Duration::from_millis(10), Duration::from_millis(5));
        let window = windows.window(-1);
        assert_eq!(window, Window { start: -10, end: 0 });
        assert!(!windows.is_closed(window, -1) && windows.is_closed(window, 0));
        assert!(!windows.is_late(window, 4) && windows.is_late(window, 5));
    }
}
