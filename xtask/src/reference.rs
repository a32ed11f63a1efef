//! Renders the JSON Schema of the configuration as Markdown: what an operator may write, with defaults.
//!
//! It knows the shapes that the configuration's types produce, not all of JSON Schema; what it does not know is shown as
//! `any`, and a test keeps that from happening.

use std::fmt::Write as _;

use serde_json::{Map, Value};

const HEAD: &str = "\
# Configuration

<!-- Made by `make docs` from the types that read it: change the doc comments there, not this page. -->

One JSON document configures the module, wherever it runs. Every key may be left out; `{}` is whole. Unknown keys are errors.
Lengths of time are text with a unit, like `\"250ms\"`, `\"30s\"`, `\"5m\"`, `\"24h\"` or `\"7d\"`. Check a document with
`portcullis check my-config.json`; editors take `configuration.schema.json` beside this page.
";

/// The page.
pub fn markdown(schema: &Value) -> String {
    let mut page = HEAD.to_owned();
    let empty = Map::new();
    let definitions = schema["$defs"].as_object().unwrap_or(&empty);
    page.push_str("\n## The document\n\n");
    properties(&mut page, schema);
    for name in in_order_of_use(schema, definitions) {
        if let Some(definition) = definitions.get(&name) {
            let _ = write!(page, "\n## {}\n\n", title(&name));
            describe(&mut page, definition);
        }
    }
    page
}

/// Definitions as a reader meets them: each after what refers to it.
fn in_order_of_use(schema: &Value, definitions: &Map<String, Value>) -> Vec<String> {
    let mut order: Vec<String> = references(&schema["properties"]);
    let mut at = 0;
    while let Some(name) = order.get(at).cloned() {
        let below = definitions.get(&name).map(references).unwrap_or_default();
        // Right behind it, so that a section and what belongs to it stand together.
        let new: Vec<String> = below.into_iter().filter(|below| !order.contains(below)).collect();
        let place = at.saturating_add(1);
        order.splice(place..place, new);
        at = place;
    }
    order
}

/// The names that a value refers to, in order, once each.
fn references(value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    collect(value, &mut found);
    found
}

fn collect(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(object) => {
            if let Some(name) = object.get("$ref").and_then(Value::as_str).and_then(definition_name)
                && !found.iter().any(|known| known == name)
            {
                found.push(name.to_owned());
            }
            object.values().for_each(|value| collect(value, found));
        }
        Value::Array(list) => list.iter().for_each(|value| collect(value, found)),
        _ => {}
    }
}

fn definition_name(reference: &str) -> Option<&str> {
    reference.strip_prefix("#/$defs/")
}

/// `ClientIpWire` is how the code says what a reader knows as `ClientIp`.
fn title(name: &str) -> &str {
    name.strip_suffix("Wire").filter(|rest| !rest.is_empty()).unwrap_or(name)
}

fn describe(page: &mut String, definition: &Value) {
    if let Some(text) = definition["description"].as_str() {
        let _ = write!(page, "{}\n\n", one_line(text));
    }
    if definition["properties"].is_object() {
        properties(page, definition);
    } else if let Some(choices) = definition["oneOf"].as_array() {
        for choice in choices {
            let text = choice["description"].as_str().unwrap_or_default();
            let values =
                choice.get("const").into_iter().chain(choice["enum"].as_array().into_iter().flatten());
            let values: Vec<String> = values.map(code).collect();
            let _ = writeln!(page, "- {}{}", values.join(", "), after_colon(text));
        }
    } else {
        let _ = writeln!(page, "{}.", kind(definition));
    }
}

fn after_colon(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(": {}", one_line(text)) }
}

fn properties(page: &mut String, object: &Value) {
    let Some(properties) = object["properties"].as_object() else { return };
    let required = object["required"].as_array();
    page.push_str("| key | type | default | meaning |\n|---|---|---|---|\n");
    for (key, value) in properties {
        let is_required = required.is_some_and(|list| list.iter().any(|name| name == key));
        let default = match value.get("default") {
            _ if is_required => "required".to_owned(),
            Some(Value::Null) | None => String::new(),
            Some(default) => code(default),
        };
        let meaning = one_line(value["description"].as_str().unwrap_or_default()).replace('|', "\\|");
        let _ = writeln!(page, "| `{key}` | {} | {default} | {meaning} |", kind(value));
    }
}

fn kind(value: &Value) -> String {
    if let Some(name) = value["$ref"].as_str().and_then(definition_name) {
        return format!("[{0}](#{1})", title(name), title(name).to_ascii_lowercase());
    }
    if let Some(choices) = value.get("anyOf").or_else(|| value.get("oneOf")).and_then(Value::as_array) {
        let kinds: Vec<String> = choices.iter().filter(|choice| choice["type"] != "null").map(kind).collect();
        return kinds.join(" or ");
    }
    if let Some(constant) = value.get("const") {
        return code(constant);
    }
    if let Some(values) = value["enum"].as_array() {
        return values.iter().map(code).collect::<Vec<_>>().join(" or ");
    }
    let name = match &value["type"] {
        Value::String(name) => name.as_str(),
        Value::Array(names) => {
            names.iter().filter_map(Value::as_str).find(|name| *name != "null").unwrap_or("any")
        }
        _ => "any",
    };
    match name {
        "array" => format!("list of {}", kind(&value["items"])),
        "object" if value["additionalProperties"].is_object() => {
            format!("map of {}", kind(&value["additionalProperties"]))
        }
        "integer" => range(value),
        name => name.to_owned(),
    }
}

/// A whole number, with the bounds that say more than the machine's.
fn range(value: &Value) -> String {
    match (value["minimum"].as_u64(), value["maximum"].as_u64()) {
        (Some(least), Some(most)) if value.get("format").is_none() => format!("integer, {least} to {most}"),
        _ => "integer".to_owned(),
    }
}

fn code(value: &Value) -> String {
    format!("`{}`", value.to_string().replace('|', "\\|"))
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_schema_becomes_a_page() {
        let page = markdown(&json!({
            "properties": {"tenant": {"$ref": "#/$defs/TenantWire", "description": "Whose\ntraffic."}},
            "$defs": {
                "Mode": {"oneOf": [{"const": "off", "description": "Nothing."}]},
                "TenantWire": {"properties": {
                    "mode": {"$ref": "#/$defs/Mode", "default": "off"},
                    "names": {"type": ["array", "null"], "items": {"type": "string"}},
                    "by": {"anyOf": [{"type": "boolean"}, {"type": "null"}]}
                }, "required": ["by"]}
            }
        }));
        for line in [
            "| `tenant` | [Tenant](#tenant) |  | Whose traffic. |",
            "| `mode` | [Mode](#mode) | `\"off\"` |  |",
            "| `names` | list of string |  |  |",
            "| `by` | boolean | required |  |",
            "- `\"off\"`: Nothing.",
        ] {
            assert!(page.contains(line), "{line} not in\n{page}");
        }
        assert!(page.find("## Tenant") < page.find("## Mode"));
    }

    #[test]
    fn every_shape_of_the_configuration_is_known() {
        let page = markdown(portcullis_chain::schema().as_value());
        assert!(!page.contains("| any") && !page.contains("of any"), "{page}");
    }
}
