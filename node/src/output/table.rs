//! Tables as kubectl prints them: heads in capitals, three blanks between columns, no borders.

use std::time::Duration;

/// Rows under heads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    heads: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without rows.
    pub fn new(heads: &[&'static str]) -> Self {
        Self::with_heads(heads.iter().map(|&head| head.to_owned()).collect())
    }

    /// A table without rows, whose heads are known at run time.
    pub fn with_heads(heads: Vec<String>) -> Self {
        Self {
            heads,
            rows: Vec::new(),
        }
    }

    /// Adds a row; an empty cell is printed as `-` so that columns can be cut by blanks.
    pub fn row<T: Into<String>>(&mut self, cells: impl IntoIterator<Item = T>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    /// True without rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The printed table; nothing at all when it has no rows.
    pub fn render(&self, heads: bool) -> String {
        if self.rows.is_empty() {
            return String::new();
        }
        self.render_all(heads)
    }

    /// The printed table, with its heads even when it has no rows.
    pub fn render_all(&self, heads: bool) -> String {
        let lines = || heads.then_some(&self.heads).into_iter().chain(&self.rows);
        let widths: Vec<usize> = (0..self.heads.len())
            .map(|column| {
                lines()
                    .filter_map(|row| row.get(column))
                    .map(|cell| width(cell))
                    .max()
                    .unwrap_or(0)
            })
            .collect();
        let mut out = String::new();
        for row in lines() {
            let mut line = String::new();
            for (cell, &wide) in row.iter().zip(&widths) {
                let cell = if cell.is_empty() { "-" } else { cell };
                line.push_str(cell);
                line.extend(std::iter::repeat_n(
                    ' ',
                    wide.max(1) + GAP - width(cell).min(wide.max(1)),
                ));
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }
}

/// A duration with its two largest units: `3h12m`, `4d2h`, `12s`.
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, minutes) => format!("{minutes}m{}s", seconds % 60),
        (0, hours, minutes) => format!("{hours}h{minutes}m"),
        (days, hours, _) => format!("{days}d{hours}h"),
    }
}

fn width(cell: &str) -> usize {
    cell.chars().count()
}

const GAP: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_empty_cells_are_dashes() {
        let mut table = Table::new(&["NAME", "CIDR"]);
        table.row(["a", "10.0.0.0/8"]);
        table.row(["longer", ""]);
        assert_eq!(
            table.render(true),
            "NAME     CIDR\na        10.0.0.0/8\nlonger   -\n"
        );
        assert_eq!(table.render(false), "a        10.0.0.0/8\nlonger   -\n");
    }

    #[test]
    fn an_empty_table_prints_nothing() {
        assert_eq!(Table::new(&["NAME"]).render(true), "");
    }

    #[test]
    fn durations_have_two_units() {
        for (seconds, text) in [
            (0, "0s"),
            (59, "59s"),
            (61, "1m1s"),
            (11_520, "3h12m"),
            (90_000, "1d1h"),
        ] {
            assert_eq!(duration(Duration::from_secs(seconds)), text);
        }
    }
}
