//! Waiting for a condition: never for a time.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

/// Asks `check` until it answers `Ok` or `within` is over. `Err` is what was seen instead; each distinct value is
/// printed once, with its time, if the waiting is long; all of them are in the error.
pub fn eventually<T>(
    what: &str,
    within: Duration,
    mut check: impl FnMut() -> Result<T, String>,
) -> Result<T> {
    let start = Instant::now();
    let mut seen: Vec<String> = Vec::new();
    loop {
        let value = match check() {
            Ok(value) => return Ok(value),
            Err(value) => value,
        };
        let elapsed = start.elapsed();
        if seen.last() != Some(&value) {
            let line = format!("{:7.2} s: {value}", elapsed.as_secs_f64());
            if seen.len() < SEEN_MAX && elapsed > PATIENCE {
                eprintln!("    waiting for {what}: {line}");
            }
            seen.push(value);
        }
        if elapsed >= within {
            let shown = seen
                .iter()
                .rev()
                .take(SEEN_MAX)
                .rev()
                .map(String::as_str)
                .collect::<Vec<_>>()
                .join("\n    ");
            bail!("{what}: not within {within:?}; seen:\n    {shown}");
        }
        thread::sleep(PAUSE);
    }
}

/// A number of seconds.
pub const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// What comes within this time was not waited for.
const PATIENCE: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(50);
/// A value that changes at every look must not flood the output.
const SEEN_MAX: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_good_value_ends_the_waiting() {
        let mut left = 3;
        let value = eventually("a countdown", secs(5), || {
            left -= 1;
            if left == 0 {
                Ok("done")
            } else {
                Err(format!("{left} left"))
            }
        });
        assert_eq!(value.unwrap(), "done");
    }

    #[test]
    fn the_error_tells_each_distinct_value_in_order() {
        let mut n = 0;
        let error = eventually("a change", Duration::from_millis(200), || {
            n += 1;
            Err::<(), _>(if n < 2 {
                "first".to_owned()
            } else {
                "second".to_owned()
            })
        });
        let text = error.unwrap_err().to_string();
        assert!(text.ends_with("first\n    second"), "{text}");
    }
}
