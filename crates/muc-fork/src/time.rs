//! Times as stanzas write them, in seconds since 1970.

#![warn(clippy::indexing_slicing, clippy::string_slice)]

use std::time::{Duration, UNIX_EPOCH};

/// A `DateTime` of XEP-0082, to the second. Without a zone it is taken for UTC, as is the form of XEP-0091.
pub(crate) fn parse(stamp: &str) -> Option<u64> {
    let (time, ahead) = without_offset(stamp)?;
    let time = humantime::parse_rfc3339_weak(time).ok()?.duration_since(UNIX_EPOCH).ok()?.as_secs();
    time.checked_add_signed(-ahead)
}

/// The form of XEP-0091: `CCYYMMDDThh:mm:ss`.
pub(crate) fn parse_legacy(stamp: &str) -> Option<u64> {
    let (day, time) = stamp.split_at_checked(8)?;
    let day = format!("{}-{}-{}{time}Z", day.get(..4)?, day.get(4..6)?, day.get(6..)?);
    let time = humantime::parse_rfc3339_weak(&day).ok()?;
    time.duration_since(UNIX_EPOCH).ok().map(|d| d.as_secs())
}

pub(crate) fn write(at: u64) -> String {
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(at)).to_string()
}

/// The time before a numeric offset, and how many seconds it is ahead of UTC.
fn without_offset(stamp: &str) -> Option<(&str, i64)> {
    let Some((time, offset)) = stamp.len().checked_sub(6).and_then(|at| stamp.split_at_checked(at)) else {
        return Some((stamp, 0));
    };
    let sign = match offset.as_bytes() {
        [b'+', _, _, b':', _, _] => 1,
        // The day of `2002-09-10` has no colon.
        [b'-', _, _, b':', _, _] => -1,
        _ => return Some((stamp, 0)),
    };
    let (hours, minutes) = offset.get(1..)?.split_once(':')?;
    let (hours, minutes): (u8, u8) = (hours.parse().ok()?, minutes.parse().ok()?);
    Some((time, sign * (i64::from(hours) * 3600 + i64::from(minutes) * 60)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_time_with_and_without_a_zone() {
        const AT: Option<u64> = Some(1_031_699_305);
        for stamp in [
            "2002-09-10T23:08:25Z",
            "2002-09-10T23:08:25.7Z",
            "2002-09-10T23:08:25",
            "2002-09-11T01:08:25+02:00",
            "2002-09-10T17:38:25.25-05:30",
        ] {
            assert_eq!(parse(stamp), AT, "{stamp}");
        }
        assert_eq!(parse_legacy("20020910T23:08:25"), AT);
        assert_eq!(write(1_031_699_305), "2002-09-10T23:08:25Z");
    }

    #[test]
    fn has_no_time_for_what_is_none() {
        for stamp in [
            "",
            "2",
            "20020910",
            "2002091°T23:08:25",
            "99999999T99:99:99",
            "+aa:bb",
            "1970-01-01T00:00:00+02:00",
        ] {
            assert_eq!(parse(stamp), None, "{stamp}");
            assert_eq!(parse_legacy(stamp), None, "{stamp}");
        }
    }
}
