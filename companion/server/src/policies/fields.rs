//! The fields of the policies, in one table: names, ranges, and how a change of some of them is read.

use serde_json::{Map, Value, json};

use super::SecurityPolicies;

/// What a field holds.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Number { least: u32, most: u32 },
    Flag,
}

const FLAG: Kind = Kind::Flag;

const fn number(least: u32, most: u32) -> Kind {
    Kind::Number { least, most }
}

/// A field's name, and what it holds.
type Field = (&'static str, Kind);

/// A section's name, and its fields.
const SECTIONS: [(&str, &[Field]); 4] = [
    (
        "rate",
        &[
            ("api_calls_per_minute", number(0, 1_000_000)),
            ("login_attempts_per_minute", number(0, 1_000_000)),
            ("file_uploads_per_minute", number(0, 1_000_000)),
            ("report_generation_per_minute", number(0, 1_000_000)),
        ],
    ),
    (
        "password",
        &[
            // NIST SP 800-63B: 64 and more must be possible, so that nobody may ask for more than that.
            ("min_length", number(1, 64)),
            ("require_uppercase", FLAG),
            ("require_lowercase", FLAG),
            ("require_numbers", FLAG),
            ("require_special_chars", FLAG),
            ("max_age_days", number(0, 3660)),
        ],
    ),
    (
        "session",
        &[
            ("session_timeout_minutes", number(1, 44_640)),
            ("max_concurrent_sessions", number(1, 1000)),
            ("inactive_timeout_minutes", number(1, 44_640)),
        ],
    ),
    (
        "database",
        &[
            ("auto_apply", FLAG),
            ("allow_btree", FLAG),
            ("allow_partial", FLAG),
            ("allow_expression", FLAG),
            ("allow_covering", FLAG),
            ("allow_brin", FLAG),
            ("max_index_megabytes", number(1, 16_000_000)),
            ("budget_megabytes", number(0, 16_000_000)),
            ("max_write_tax_percent", number(0, 1000)),
            ("window_start_hour", number(0, 23)),
            ("window_end_hour", number(0, 24)),
        ],
    ),
];

/// Why a change cannot be: the field and what it must be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct PatchError {
    /// The field, as `rate.api_calls_per_minute`.
    pub path: String,
    /// What it must be.
    pub problem: String,
}

fn wrong(path: impl Into<String>, problem: impl Into<String>) -> PatchError {
    PatchError { path: path.into(), problem: problem.into() }
}

/// Applies what `patch` names to `own`.
pub fn apply(own: &mut Map<String, Value>, patch: &Value) -> Result<(), PatchError> {
    let patch = patch.as_object().ok_or_else(|| wrong("body", "must be an object"))?;
    for (name, fields) in patch {
        let Some((section, known)) = SECTIONS.iter().find(|(section, _)| section == name) else {
            return Err(wrong(
                shown(name),
                format!("not known; known are {}", names(SECTIONS.iter().map(|(name, _)| *name))),
            ));
        };
        if fields.is_null() {
            own.remove(*section);
            continue;
        }
        let fields = fields.as_object().ok_or_else(|| wrong(*section, "must be an object or null"))?;
        let mut mine = own.get(*section).and_then(Value::as_object).cloned().unwrap_or_default();
        for (name, value) in fields {
            let Some((field, kind)) = known.iter().find(|(field, _)| field == name) else {
                let path = format!("{section}.{}", shown(name));
                return Err(wrong(
                    path,
                    format!("not known; known are {}", names(known.iter().map(|(name, _)| *name))),
                ));
            };
            if value.is_null() {
                mine.remove(*field);
                continue;
            }
            check(*kind, value).map_err(|problem| wrong(format!("{section}.{field}"), problem))?;
            mine.insert((*field).to_owned(), value.clone());
        }
        if mine.is_empty() {
            own.remove(*section);
        } else {
            own.insert((*section).to_owned(), Value::Object(mine));
        }
    }
    Ok(())
}

fn check(kind: Kind, value: &Value) -> Result<(), String> {
    match kind {
        Kind::Flag if value.is_boolean() => Ok(()),
        Kind::Flag => Err("must be true, false or null".to_owned()),
        Kind::Number { least, most } => {
            let fits =
                value.as_u64().is_some_and(|number| (u64::from(least)..=u64::from(most)).contains(&number));
            fits.then_some(())
                .ok_or_else(|| format!("must be a whole number from {least} to {most}, or null"))
        }
    }
}

/// What no field can tell by itself.
pub fn check_whole(policies: &SecurityPolicies) -> Result<(), PatchError> {
    let session = &policies.session;
    if session.inactive_timeout_minutes > session.session_timeout_minutes {
        return Err(wrong(
            "session.inactive_timeout_minutes",
            format!(
                "must not be longer than session_timeout_minutes, which is {}",
                session.session_timeout_minutes
            ),
        ));
    }
    Ok(())
}

/// `defaults`, and over them what is a tenant's own.
pub fn over(defaults: &SecurityPolicies, own: &Map<String, Value>) -> Option<SecurityPolicies> {
    let mut whole = serde_json::to_value(defaults).ok()?;
    for (section, fields) in own {
        let target = whole.get_mut(section)?.as_object_mut()?;
        for (field, value) in fields.as_object()? {
            target.insert(field.clone(), value.clone());
        }
    }
    serde_json::from_value(whole).ok()
}

fn names<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.collect::<Vec<_>>().join(", ")
}

/// A name that came from outside, for an error.
fn shown(name: &str) -> String {
    crate::units::bounded(name, 50)
}

/// The JSON Schema of a change.
#[must_use]
pub fn patch_schema() -> Value {
    let mut sections = Map::new();
    for (section, fields) in SECTIONS {
        let mut properties = Map::new();
        for (field, kind) in fields {
            let schema = match kind {
                Kind::Flag => json!({"type": ["boolean", "null"]}),
                Kind::Number { least, most } => {
                    json!({"type": ["integer", "null"], "minimum": least, "maximum": most})
                }
            };
            properties.insert((*field).to_owned(), schema);
        }
        sections.insert(
            section.to_owned(),
            json!({"type": ["object", "null"], "properties": properties, "additionalProperties": false}),
        );
    }
    sections
        .insert("tenant_id".to_owned(), json!({"type": "string", "description": "If given, the tenant's."}));
    sections.insert(
        "version".to_owned(),
        json!({"type": "integer", "minimum": 0, "description": "If given, what the tenant's version must still be."}),
    );
    sections.insert(
        "timestamp".to_owned(),
        json!({"description": "Passed over: so that what was read can be sent back."}),
    );
    json!({
        "type": "object", "properties": sections, "additionalProperties": false,
        "description": "What is named changes, null takes the default again, what is not named stays."
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patched(own: &Value, patch: &Value) -> Result<Value, String> {
        let mut own = own.as_object().unwrap().clone();
        apply(&mut own, patch).map_err(|error| error.to_string())?;
        Ok(Value::Object(own))
    }

    #[test]
    fn every_field_is_in_the_table_and_every_default_in_its_range() {
        let defaults = serde_json::to_value(SecurityPolicies::default()).unwrap();
        assert_eq!(patched(&json!({}), &defaults).unwrap(), defaults);
        let fields = |value: &Value| -> usize {
            value.as_object().unwrap().values().map(|section| section.as_object().unwrap().len()).sum()
        };
        assert_eq!(fields(&defaults), SECTIONS.iter().map(|(_, fields)| fields.len()).sum::<usize>());
    }

    #[test]
    fn what_is_named_changes_and_null_takes_the_default_again() {
        let own = json!({"rate": {"api_calls_per_minute": 7}});
        let more = patched(&own, &json!({"rate": {"file_uploads_per_minute": 0}, "password": {}})).unwrap();
        assert_eq!(more, json!({"rate": {"api_calls_per_minute": 7, "file_uploads_per_minute": 0}}));
        assert_eq!(patched(&more, &json!({"rate": null})).unwrap(), json!({}));
        assert_eq!(patched(&own, &json!({"rate": {"api_calls_per_minute": null}})).unwrap(), json!({}));
        let whole = over(&SecurityPolicies::default(), more.as_object().unwrap()).unwrap();
        assert_eq!((whole.rate.api_calls_per_minute, whole.rate.login_attempts_per_minute), (7, 5));
    }

    #[test]
    fn what_cannot_be_is_named() {
        for (patch, message) in [
            (json!([]), "body: must be an object"),
            (json!({"limits": {}}), "limits: not known; known are rate, password, session"),
            (json!({"rate": 7}), "rate: must be an object or null"),
            (json!({"session": {"ttl": 1}}), "session.ttl: not known; known are session_timeout_minutes, "),
            (
                json!({"rate": {"api_calls_per_minute": -1}}),
                "rate.api_calls_per_minute: must be a whole number from 0 to",
            ),
            (json!({"rate": {"api_calls_per_minute": 1.5}}), "rate.api_calls_per_minute: must be a whole"),
            (json!({"rate": {"api_calls_per_minute": "9"}}), "rate.api_calls_per_minute: must be a whole"),
            (
                json!({"password": {"min_length": 0}}),
                "password.min_length: must be a whole number from 1 to 64",
            ),
            (
                json!({"password": {"require_numbers": 1}}),
                "password.require_numbers: must be true, false or null",
            ),
        ] {
            let error = patched(&json!({}), &patch).unwrap_err();
            assert!(error.starts_with(message), "{patch}: {error}");
        }
        let mut policies = SecurityPolicies::default();
        policies.session.inactive_timeout_minutes = 61;
        assert_eq!(check_whole(&policies).unwrap_err().path, "session.inactive_timeout_minutes");
    }
}
