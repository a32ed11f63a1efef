//! The JSON Schema of the configuration document, made from the types that read it, so that neither can drift from the
//! other.

use schemars::{Schema, generate::SchemaSettings};
use serde_json::{Map, Value};

use crate::{document::DocumentWire, policies::section_schemas};

/// The schema (draft 2020-12) of a whole document. What a schema cannot say, such as that a name must be one of the
/// configured actions, `portcullis check` says.
pub fn schema() -> Schema {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    let sections: Map<String, Value> = section_schemas(&mut generator)
        .into_iter()
        .map(|(name, schema)| (name.to_owned(), schema.to_value()))
        .collect();
    let mut document = generator.into_root_schema_for::<DocumentWire>().to_value();
    let route = document.pointer_mut("/$defs/RouteWire");
    // A route overrides any section: the same keys may stand in it.
    route.into_iter().for_each(|route| add_properties(route, &sections));
    add_properties(&mut document, &sections);
    if let Value::Object(document) = &mut document {
        document.insert("title".to_owned(), "Configuration of Portcullis".into());
        document.insert(
            "description".to_owned(),
            "The module, the edge package and `portcullis check` read this.".into(),
        );
    }
    Schema::try_from(document).unwrap_or_default()
}

fn add_properties(object: &mut Value, more: &Map<String, Value>) {
    if let Some(Value::Object(properties)) = object.get_mut("properties") {
        properties.extend(more.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_section_stands_at_the_top_and_in_a_route() {
        let schema = schema().to_value();
        for place in ["/properties", "/$defs/RouteWire/properties"] {
            for section in crate::BUILT_IN {
                assert!(schema.pointer(&format!("{place}/{section}")).is_some(), "{place}/{section}");
            }
        }
        assert_eq!(schema["additionalProperties"], false);
        assert!(schema["properties"]["routes"].is_object());
    }
}
