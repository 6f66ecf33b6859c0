//! Who reaches whom: the questions, the answers expected and the answers seen, printed as one table.

use std::{fmt, net::IpAddr};

/// What is asked of the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Proto {
    /// Connect, and read what the server says.
    Tcp(u16),
    /// One datagram and its echo.
    Udp(u16),
    /// ICMP or ICMPv6 echo.
    Ping,
}

impl fmt::Display for Proto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(port) => write!(f, "tcp/{port}"),
            Self::Udp(port) => write!(f, "udp/{port}"),
            Self::Ping => write!(f, "ping"),
        }
    }
}

/// What the network answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The server answered; it saw the client under this address (unknown for a ping).
    Answered {
        /// The client's address as the server saw it.
        seen_as: Option<IpAddr>,
    },
    /// The other side refused: RST or ICMP port unreachable.
    Refused,
    /// Nothing came back.
    Silent,
    /// The way there does not exist: the kernel or a router said so.
    Unreachable(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered { .. } => write!(f, "answers"),
            Self::Refused => write!(f, "refused"),
            Self::Silent => write!(f, "silent"),
            Self::Unreachable(why) => write!(f, "unreachable ({why})"),
        }
    }
}

/// What should happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// An answer comes, and the server sees the client's own address.
    Reaches,
    /// Reached, and refused there.
    Refused,
    /// Dropped on the way.
    Silent,
}

impl fmt::Display for Expect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reaches => "answers",
            Self::Refused => "refused",
            Self::Silent => "silent",
        })
    }
}

/// One question in one address family.
#[derive(Clone, Debug)]
pub struct Row {
    /// The name of the asking station.
    pub from: String,
    /// The name of the asked station.
    pub to: String,
    /// The address asked from.
    pub source: IpAddr,
    /// The address asked.
    pub target: IpAddr,
    /// The question.
    pub proto: Proto,
    /// The answer that is right.
    pub expected: Expect,
    /// The answer that came, once asked.
    pub seen: Option<Outcome>,
    /// The rule that decided, where it is known.
    pub decided_by: Option<String>,
}

impl Row {
    /// Whether the answer is there and as expected.
    pub fn is_right(&self) -> bool {
        match (&self.seen, self.expected) {
            (Some(Outcome::Answered { seen_as }), Expect::Reaches) => {
                seen_as.is_none_or(|seen| seen == self.source)
            }
            (Some(Outcome::Refused), Expect::Refused) | (Some(Outcome::Silent), Expect::Silent) => {
                true
            }
            _ => false,
        }
    }
}

/// Many questions, judged together.
#[derive(Clone, Debug, Default)]
pub struct Matrix {
    /// The questions in the order of their asking.
    pub rows: Vec<Row>,
}

impl Matrix {
    /// How many rows have no or another answer than expected.
    pub fn wrong(&self) -> usize {
        self.rows.iter().filter(|row| !row.is_right()).count()
    }
}

impl fmt::Display for Matrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<[String; 6]> = self
            .rows
            .iter()
            .map(|row| {
                let family = if row.target.is_ipv4() { "v4" } else { "v6" };
                let seen = match &row.seen {
                    Some(Outcome::Answered {
                        seen_as: Some(other),
                    }) if *other != row.source => format!("answers {other}"),
                    Some(outcome) => outcome.to_string(),
                    None => "-".to_owned(),
                };
                [
                    row.from.clone(),
                    row.to.clone(),
                    format!("{} {family}", row.proto),
                    row.expected.to_string(),
                    seen,
                    row.decided_by.clone().unwrap_or_default(),
                ]
            })
            .collect();
        let heads = ["from", "to", "asks", "expected", "seen", "decided by"];
        let width = |column: usize| {
            lines
                .iter()
                .map(|line| line[column].chars().count())
                .chain([heads[column].len()])
                .max()
                .unwrap_or(0)
        };
        let widths: [usize; 6] = std::array::from_fn(width);
        let decided = lines.iter().any(|line| !line[5].is_empty());
        let shown = if decided { 6 } else { 5 };
        let line = |cells: &[String]| {
            let padded = cells
                .iter()
                .zip(widths)
                .take(shown)
                .map(|(cell, width)| format!("{cell:width$}"));
            padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        writeln!(f, "  {}", line(&heads.map(str::to_owned)))?;
        for (cells, row) in lines.iter().zip(&self.rows) {
            let mark = if row.is_right() { "" } else { "  <---- WRONG" };
            writeln!(f, "  {}{mark}", line(cells))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(expected: Expect, seen: Option<Outcome>) -> Row {
        Row {
            from: "client".into(),
            to: "web".into(),
            source: "10.0.0.1".parse().unwrap(),
            target: "10.0.0.2".parse().unwrap(),
            proto: Proto::Tcp(80),
            expected,
            seen,
            decided_by: None,
        }
    }

    #[test]
    fn a_row_is_right_only_with_the_expected_answer() {
        let answered = |by: &str| {
            Some(Outcome::Answered {
                seen_as: Some(by.parse().unwrap()),
            })
        };
        let cases = [
            ("own address", Expect::Reaches, answered("10.0.0.1"), true),
            (
                "translated address",
                Expect::Reaches,
                answered("10.0.0.9"),
                false,
            ),
            (
                "pinged",
                Expect::Reaches,
                Some(Outcome::Answered { seen_as: None }),
                true,
            ),
            ("not asked", Expect::Silent, None, false),
            ("silent", Expect::Silent, Some(Outcome::Silent), true),
            (
                "refused is not silent",
                Expect::Silent,
                Some(Outcome::Refused),
                false,
            ),
            (
                "no way is not silent",
                Expect::Silent,
                Some(Outcome::Unreachable("no route".into())),
                false,
            ),
            ("refused", Expect::Refused, Some(Outcome::Refused), true),
            (
                "reached though forbidden",
                Expect::Silent,
                answered("10.0.0.1"),
                false,
            ),
        ];
        for (name, expected, seen, right) in cases {
            assert_eq!(row(expected, seen).is_right(), right, "{name}");
        }
    }

    #[test]
    fn wrong_rows_are_marked_and_counted() {
        let matrix = Matrix {
            rows: vec![
                row(Expect::Silent, Some(Outcome::Silent)),
                row(Expect::Reaches, Some(Outcome::Silent)),
            ],
        };
        assert_eq!(matrix.wrong(), 1);
        let text = matrix.to_string();
        let marked: Vec<&str> = text
            .lines()
            .filter(|line| line.ends_with("<---- WRONG"))
            .collect();
        assert_eq!(
            marked,
            ["  client  web  tcp/80 v4  answers   silent  <---- WRONG"]
        );
    }
}
