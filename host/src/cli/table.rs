//! Columns of text, as wide as they have to be.
//!
//! Owns alignment. It must not know what stands in them.

/// How a column is aligned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// Lays `rows` out, two spaces between columns and `indent` in front; a column that is empty in all rows is left out.
pub(super) fn lay_out(indent: &str, aligns: &[Align], rows: &[Vec<String>]) -> String {
    let widths: Vec<usize> = (0..aligns.len())
        .map(|column| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0))
        .collect();
    let mut out = String::new();
    for row in rows {
        let mut line = indent.to_owned();
        for ((cell, width), align) in row.iter().zip(&widths).zip(aligns).filter(|((_, width), _)| **width > 0) {
            let pad = " ".repeat(width.saturating_sub(cell.chars().count()));
            match align {
                Align::Left => line.extend([cell, pad.as_str(), "  "]),
                Align::Right => line.extend([pad.as_str(), cell, "  "]),
            }
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_empty_ones_go() {
        let rows = [["a", "", "10"], ["bcd", "", "5"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(lay_out("  ", &[Align::Left, Align::Left, Align::Right], &rows), "  a    10\n  bcd   5\n");
    }
}
