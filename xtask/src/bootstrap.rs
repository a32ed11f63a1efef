//! Renders Envoy's bootstrap from its template.
//!
//! The template is plain YAML whose scalars may hold `${NAME}`. Values are put into the parsed document, never into its
//! text; so no value, however odd, can change the document's shape. A scalar that is nothing but a placeholder takes
//! the value's own type, so that a port becomes a number.

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};

/// Renders a template.
///
/// # Errors
/// When the template is not YAML, or names what `values` does not have, or `values` has what the template never names.
pub fn render(template: &str, values: &Map<String, Value>) -> Result<Value> {
    let mut document: Value = serde_yaml_ng::from_str(template).context("the template is not YAML")?;
    let mut used = Vec::new();
    fill(&mut document, values, &mut used)?;
    if let Some(unused) = values.keys().find(|name| !used.contains(name)) {
        bail!("the template never names ${{{unused}}}");
    }
    Ok(document)
}

fn fill<'v>(node: &mut Value, values: &'v Map<String, Value>, used: &mut Vec<&'v String>) -> Result<()> {
    match node {
        Value::Array(list) => list.iter_mut().try_for_each(|item| fill(item, values, used)),
        Value::Object(map) => map.values_mut().try_for_each(|item| fill(item, values, used)),
        Value::String(text) if text.contains("${") => {
            *node = filled(text, values, used)?;
            Ok(())
        }
        _ => Ok(()),
    }
}

fn filled<'v>(text: &str, values: &'v Map<String, Value>, used: &mut Vec<&'v String>) -> Result<Value> {
    let mut whole = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let Some((name, after)) = after.split_once('}') else { bail!("`{text}`: a placeholder has no end") };
        let Some((name, value)) = values.get_key_value(name) else {
            bail!("`{text}`: there is no value `{name}`")
        };
        used.push(name);
        let stands_alone = rest.len() == text.len() && before.is_empty() && after.is_empty();
        if stands_alone {
            return Ok(value.clone());
        }
        whole.push_str(before);
        match value {
            Value::String(value) => whole.push_str(value),
            Value::Number(value) => whole.push_str(&value.to_string()),
            _ => bail!("`{text}`: the value `{name}` is no text and must stand alone"),
        }
        rest = after;
    }
    whole.push_str(rest);
    Ok(Value::String(whole))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rendered(template: &str, values: Value) -> Result<Value> {
        let Value::Object(values) = values else { panic!("an object") };
        render(template, &values)
    }

    #[test]
    fn values_keep_their_type_and_cannot_change_the_shape() {
        let odd = "x\"}\n- evil: true # ${PORT} \u{85}";
        let document = rendered(
            "a: {p: \"${PORT}\", t: \"${T}\"}\nl: [\"on ${PORT}: ${T}\"]\n",
            json!({"PORT": 7, "T": odd}),
        )
        .unwrap();
        assert_eq!(document, json!({"a": {"p": 7, "t": odd}, "l": [format!("on 7: {odd}")]}));
    }

    #[test]
    fn what_is_missing_or_left_over_is_named() {
        let error = rendered("a: \"${X}\"", json!({})).unwrap_err().to_string();
        assert!(error.contains("no value `X`"), "{error}");
        let error = rendered("a: 1", json!({"X": 1})).unwrap_err().to_string();
        assert!(error.contains("never names ${X}"), "{error}");
        assert!(rendered("a: \"${X\"", json!({"X": 1})).is_err());
        assert!(rendered("a: \"b${X}\"", json!({"X": {}})).is_err());
        assert!(rendered("a: [", json!({})).is_err());
    }
}
