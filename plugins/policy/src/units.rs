//! Units as text outside, as types inside.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// What a section does with what it finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Nothing runs.
    Off,
    /// Decide and report, let pass.
    Monitor,
    /// Decide, report, refuse.
    #[default]
    Enforce,
}

/// A length of time, written `"250ms"`, `"30s"`, `"5m"`, `"24h"` or `"7d"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

const UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

impl Span {
    /// Reads `"250ms"` and its like: a whole number and a unit, nothing else.
    pub fn parse(text: &str) -> Result<Self, String> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let factor = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor);
        match (number.parse::<u64>(), factor) {
            (Ok(number), Some(factor)) => number
                .checked_mul(factor)
                .map(|ms| Self(Duration::from_millis(ms)))
                .ok_or_else(|| format!("`{text}` is longer than can be counted")),
            _ => Err(format!(
                "`{text}` is not a length of time; write a whole number and ms, s, m, h or d, like \"30s\""
            )),
        }
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(D::Error::custom)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl std::fmt::Display for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ms = self.0.as_millis();
        let (unit, factor) = UNITS
            .iter()
            .rev()
            .find(|(_, factor)| ms >= u128::from(*factor) && ms.is_multiple_of(u128::from(*factor)))
            .copied()
            .unwrap_or(("s", 1));
        write!(f, "{}{unit}", ms / u128::from(factor))
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Span {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Span".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string", "pattern": "^[0-9]+(ms|s|m|h|d)$",
            "description": "A length of time: a whole number and ms, s, m, h or d."
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_and_written() {
        for (text, ms) in [("250ms", 250), ("30s", 30_000), ("5m", 300_000), ("24h", 86_400_000), ("0s", 0)] {
            let span = Span::parse(text).unwrap();
            assert_eq!(span.0, Duration::from_millis(ms));
            assert_eq!(Span::parse(&span.to_string()).unwrap(), span);
        }
        for wrong in ["", "5", "s", "-5s", "5 s", "1.5s", "99999999999999999999s", "18446744073709551615d"] {
            assert!(Span::parse(wrong).is_err(), "{wrong}");
        }
    }
}
