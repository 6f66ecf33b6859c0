//! Medians and ratios of interleaved runs.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::load::Sample;

/// One run of one test on one data plane.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    /// The round it was part of, from 0.
    pub round: usize,
    /// The data plane with its parameters.
    pub dataplane: String,
    /// The test: what is done, and where to.
    pub test: String,
    /// What was measured, or why nothing was.
    pub outcome: Result<Sample, String>,
}

/// Renders a table for each test. Each ratio is the median over the rounds of this data plane's figure divided by the first
/// one's figure of the same round, since a noisy neighbour disturbs a whole round more than its parts.
pub fn render(rows: &[Row], dataplanes: &[String], tests: &[String]) -> String {
    let mut text = String::new();
    for test in tests {
        let mut by_plane: BTreeMap<&str, BTreeMap<usize, &Sample>> = BTreeMap::new();
        for row in rows.iter().filter(|row| &row.test == test) {
            if let Ok(sample) = &row.outcome {
                by_plane
                    .entry(&row.dataplane)
                    .or_default()
                    .insert(row.round, sample);
            }
        }
        let _ = writeln!(text, "\n{test}");
        let _ = writeln!(
            text,
            "{:<34} {:>12} {:>10} {:>9} {:>7} {:>10} {:>10} {:>6}",
            "DATA PLANE", "OPS/S", "CPU NS/OP", "CPU RATIO", "RUNS", "P50 US", "P99 US", "ERRORS"
        );
        for plane in dataplanes {
            let Some(samples) = by_plane.get(plane.as_str()) else {
                let reason = rows.iter().find_map(|row| match &row.outcome {
                    Err(reason) if &row.dataplane == plane && &row.test == test => {
                        Some(reason.as_str())
                    }
                    _ => None,
                });
                let _ = writeln!(text, "{plane:<34} FAILED: {}", reason.unwrap_or("no run"));
                continue;
            };
            let all = |figure: fn(&Sample) -> Option<f64>| {
                median(samples.values().filter_map(|sample| figure(sample)))
            };
            let base = dataplanes
                .first()
                .and_then(|first| by_plane.get(first.as_str()));
            let ratio =
                base.and_then(|base| {
                    median(samples.iter().filter_map(|(round, sample)| {
                        Some(sample.cpu_ns / base.get(round)?.cpu_ns)
                    }))
                });
            let number = |value: Option<f64>, digits: usize| {
                value.map_or("-".into(), |value| format!("{value:.digits$}"))
            };
            let _ = writeln!(
                text,
                "{plane:<34} {:>12} {:>10} {:>9} {:>7} {:>10} {:>10} {:>6}",
                number(
                    all(|s| s.gbps.or(Some(s.per_second))),
                    if samples.values().any(|s| s.gbps.is_some()) {
                        2
                    } else {
                        0
                    }
                ),
                number(all(|s| Some(s.cpu_ns)), 0),
                number(ratio, 3),
                samples.len(),
                number(all(|s| s.connect_p50.or(s.total_p50)), 1),
                number(all(|s| s.connect_p99.or(s.total_p99)), 1),
                samples.values().map(|s| s.errors).sum::<u64>(),
            );
        }
    }
    text
}

/// The median of the per-round ratios of CPU time per operation, `plane` over `base`.
pub fn cpu_ratio(rows: &[Row], test: &str, plane: &str, base: &str) -> Option<f64> {
    let of = |plane: &str| -> BTreeMap<usize, f64> {
        rows.iter()
            .filter(|row| row.test == test && row.dataplane == plane)
            .filter_map(|row| Some((row.round, row.outcome.as_ref().ok()?.cpu_ns)))
            .collect()
    };
    let base = of(base);
    median(
        of(plane)
            .into_iter()
            .filter_map(|(round, figure)| Some(figure / base.get(&round)?)),
    )
}

fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len().checked_sub(1)? / 2;
    Some(if values.len() % 2 == 1 {
        values[middle]
    } else {
        f64::midpoint(values[middle], values[middle + 1])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(round: usize, dataplane: &str, cpu_ns: f64) -> Row {
        let outcome = Ok(Sample {
            cpu_ns,
            ..Sample::default()
        });
        Row {
            round,
            dataplane: dataplane.into(),
            test: "crr-pod".into(),
            outcome,
        }
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        // The second round ran on a machine half as fast: the ratio is the same all the same.
        let rows = [
            row(0, "plain", 100.0),
            row(0, "x", 90.0),
            row(1, "plain", 200.0),
            row(1, "x", 180.0),
        ];
        assert_eq!(cpu_ratio(&rows, "crr-pod", "x", "plain"), Some(0.9));
    }

    #[test]
    fn a_round_that_failed_takes_no_part() {
        let mut rows = vec![
            row(0, "plain", 100.0),
            row(0, "x", 50.0),
            row(1, "plain", 100.0),
        ];
        rows.push(Row {
            outcome: Err("refused".into()),
            ..row(1, "x", 0.0)
        });
        assert_eq!(cpu_ratio(&rows, "crr-pod", "x", "plain"), Some(0.5));
        assert!(
            render(&rows, &["plain".into(), "x".into()], &["crr-pod".into()]).contains("0.500")
        );
    }

    #[test]
    fn the_median_of_an_even_number_is_in_the_middle() {
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()), Some(2.5));
        assert_eq!(median(std::iter::empty()), None);
    }
}
