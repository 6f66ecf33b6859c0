//! Times as they are stored: RFC 3339 to the second, in UTC.

use std::{
    fmt,
    str::FromStr,
    time::{SystemTime, UNIX_EPOCH},
};

/// A second since 1970, in UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

/// The text is no RFC 3339 time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no RFC 3339 time")]
pub struct NoTimestamp;

impl Timestamp {
    /// The system's time.
    pub fn now() -> Self {
        let seconds = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        Self(seconds as i64)
    }

    /// How many seconds have passed since then; none if it is still to come.
    pub fn seconds_until(self, now: Timestamp) -> u64 {
        now.0.saturating_sub(self.0).max(0) as u64
    }
}

/// Days from 1970-01-01 to a date of the Gregorian calendar. Years are counted from March, so that
/// a leap day is the last of its year.
fn days_from_date(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

fn date_from_days(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let month = (month_from_march + 2) % 12 + 1;
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    (year, month, day)
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = date_from_days(self.0.div_euclid(86_400));
        let rest = self.0.rem_euclid(86_400);
        let (hour, minute, second) = (rest / 3_600, rest / 60 % 60, rest % 60);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z"
        )
    }
}

impl FromStr for Timestamp {
    type Err = NoTimestamp;

    /// Reads any offset; fractions of a second are dropped.
    fn from_str(text: &str) -> Result<Self, NoTimestamp> {
        let bytes = text.as_bytes();
        let number = |from: usize, to: usize| -> Result<i64, NoTimestamp> {
            let digits = bytes.get(from..to).ok_or(NoTimestamp)?;
            digits.iter().try_fold(0, |number, byte| {
                if byte.is_ascii_digit() {
                    Ok(number * 10 + i64::from(byte - b'0'))
                } else {
                    Err(NoTimestamp)
                }
            })
        };
        let separated = [(4, "-"), (7, "-"), (10, "Tt"), (13, ":"), (16, ":")]
            .into_iter()
            .all(|(at, allowed)| {
                bytes
                    .get(at)
                    .is_some_and(|byte| allowed.as_bytes().contains(byte))
            });
        if !separated {
            return Err(NoTimestamp);
        }
        let days = days_from_date(number(0, 4)?, number(5, 7)?, number(8, 10)?);
        let seconds = number(11, 13)? * 3_600 + number(14, 16)? * 60 + number(17, 19)?;
        let mut zone = &bytes[19..];
        if let Some(fraction) = zone.strip_prefix(b".") {
            let digits = fraction.iter().take_while(|byte| byte.is_ascii_digit());
            zone = &fraction[digits.count()..];
        }
        let offset = match zone {
            b"Z" | b"z" => 0,
            [sign @ (b'+' | b'-'), _, _, b':', _, _] => {
                let at = bytes.len() - 5;
                let offset = number(at, at + 2)? * 3_600 + number(at + 3, at + 5)? * 60;
                if *sign == b'+' { offset } else { -offset }
            }
            _ => return Err(NoTimestamp),
        };
        Ok(Self(days * 86_400 + seconds - offset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_any_offset_and_written_in_utc() {
        for (text, seconds, written) in [
            ("1970-01-01T00:00:00Z", 0, "1970-01-01T00:00:00Z"),
            ("2000-02-28T23:59:59Z", 951_782_399, "2000-02-28T23:59:59Z"),
            ("2000-02-29T00:00:00Z", 951_782_400, "2000-02-29T00:00:00Z"),
            (
                "2100-03-01T00:00:00Z",
                4_107_542_400,
                "2100-03-01T00:00:00Z",
            ),
            (
                "2024-02-29T23:59:59Z",
                1_709_251_199,
                "2024-02-29T23:59:59Z",
            ),
            (
                "2026-11-22T03:17:52.123456+02:00",
                1_795_310_272,
                "2026-11-22T01:17:52Z",
            ),
            (
                "2026-11-22T00:17:52-01:00",
                1_795_310_272,
                "2026-11-22T01:17:52Z",
            ),
        ] {
            let read: Timestamp = text.parse().unwrap();
            assert_eq!(read, Timestamp(seconds), "{text}");
            assert_eq!(read.to_string(), written, "{text}");
        }
    }

    #[test]
    fn other_texts_are_no_times() {
        for text in [
            "",
            "2026",
            "2026-11-22",
            "2026-11-22T01:17:5",
            "2026-11-22T01:17:52",
            "2026-11-22T01:17:52+2",
            "x026-11-22T01:17:52Z",
            "2026-11-22T01:17:52Zß",
        ] {
            assert_eq!(text.parse::<Timestamp>(), Err(NoTimestamp), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_is_read_back(seconds in -62_135_596_800i64..253_402_300_799) {
            let time = Timestamp(seconds);
            proptest::prop_assert_eq!(time.to_string().parse(), Ok(time));
        }
    }
}
