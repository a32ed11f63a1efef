//! Durations as text: `90s`, `15m`, `12h`, `30d`.

use std::time::Duration;

/// Why a text is no duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a duration; write a whole number and a unit, as 90s, 15m, 12h or 30d")]
pub struct MalformedDuration;

/// Reads a duration.
///
/// # Errors
/// [`MalformedDuration`].
pub fn duration(text: &str) -> Result<Duration, MalformedDuration> {
    let unit = text.chars().last().ok_or(MalformedDuration)?;
    let seconds_per_unit: u64 = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return Err(MalformedDuration),
    };
    let number = text.strip_suffix(unit).ok_or(MalformedDuration)?;
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(MalformedDuration);
    }
    let number: u64 = number.parse().map_err(|_| MalformedDuration)?;
    number.checked_mul(seconds_per_unit).map(Duration::from_secs).ok_or(MalformedDuration)
}

/// `text` cut after `max` characters, control characters replaced: what a column of a bounded width may hold.
#[must_use]
pub fn bounded(text: &str, max: usize) -> String {
    // As most are: nothing to cut, nothing to replace.
    if text.len() <= max && text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return text.to_owned();
    }
    text.chars()
        .take(max)
        .map(|char| if char.is_control() { char::REPLACEMENT_CHARACTER } else { char })
        .collect()
}

/// Whether a name is of the shape that what an administrator declares has: 1 to 50 lower-case letters, digits and underscores, a
/// letter first.
#[must_use]
pub fn is_plain_name(name: &str) -> bool {
    let mut letters = name.bytes();
    name.len() <= 50
        && letters.next().is_some_and(|first| first.is_ascii_lowercase())
        && letters.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_multiply() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("30d"), Ok(Duration::from_secs(30 * 86_400)));
        for bad in ["", "d", "30", "-1d", "1.5h", "1w", "99999999999999999999s", "999999999999999999d", "３d"]
        {
            assert_eq!(duration(bad), Err(MalformedDuration), "{bad}");
        }
    }

    #[test]
    fn text_is_cut_between_characters() {
        assert_eq!(bounded("añ€😀z", 4), "añ€😀");
        assert_eq!(bounded("a\0\x1b[2J\n", 10), "a\u{FFFD}\u{FFFD}[2J\u{FFFD}");
    }
}
