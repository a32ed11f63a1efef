//! One operation of the description, put together piece by piece.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

/// The operations, and the schemas that they name.
pub(super) struct Description {
    pub schemas: schemars::SchemaGenerator,
    pub paths: Map<String, Value>,
}

/// One operation, as it is put together.
pub(super) struct Operation<'a> {
    description: &'a mut Description,
    path: &'static str,
    method: &'static str,
    value: Map<String, Value>,
    parameters: Vec<Value>,
    responses: Map<String, Value>,
}

impl Description {
    pub fn new() -> Self {
        let mut settings = SchemaSettings::draft2020_12();
        settings.definitions_path = "/components/schemas".into();
        Self { schemas: settings.into_generator(), paths: Map::new() }
    }

    /// Begins an operation that asks for a token.
    pub fn add(&mut self, method: &'static str, path: &'static str, summary: &str) -> Operation<'_> {
        let parameters = [
            ("{tenant_id}", tenant()),
            ("{session_id}", session()),
            ("{value_id}", value()),
            ("{job_id}", job()),
            ("{plan_id}", plan()),
            ("{name}", name()),
        ];
        let parameters =
            parameters.into_iter().filter(|(name, _)| path.contains(name)).map(|(_, value)| value).collect();
        let value = Map::from_iter([("summary".to_owned(), summary.into())]);
        let mut operation =
            Operation { description: self, path, method, value, parameters, responses: Map::new() };
        operation.problems(&["400", "401", "403", "414", "429", "503"]);
        if path.contains('{') {
            operation.problems(&["404"]);
        }
        operation
    }
}

impl Operation<'_> {
    pub fn problems(&mut self, statuses: &[&str]) {
        for status in statuses {
            self.responses.insert((*status).to_owned(), json!({"$ref": "#/components/responses/Problem"}));
        }
    }

    /// Answers a JSON document.
    pub fn answers<T: JsonSchema>(mut self, status: &str, description: &str) -> Self {
        let schema = self.description.schemas.subschema_for::<T>();
        self.responses.insert(
            status.to_owned(),
            json!({"description": description, "content": {"application/json": {"schema": schema}}}),
        );
        self
    }

    /// Answers something else.
    pub fn answers_as(mut self, media_type: &str, description: &str) -> Self {
        let content = Map::from_iter([(media_type.to_owned(), json!({}))]);
        self.responses.insert("200".to_owned(), json!({"description": description, "content": content}));
        self
    }

    /// Answers without a body.
    pub fn answers_nothing(mut self, description: &str) -> Self {
        self.responses.insert("204".to_owned(), json!({"description": description}));
        self
    }

    /// Takes a JSON document.
    pub fn takes<T: JsonSchema>(self) -> Self {
        let schema = self.description.schemas.subschema_for::<T>();
        self.takes_schema(schema.into())
    }

    pub fn takes_schema(mut self, schema: Value) -> Self {
        self.problems(&["404", "408", "413", "415", "422"]);
        let body = json!({"required": true, "content": {"application/json": {"schema": schema}}});
        self.value.insert("requestBody".to_owned(), body);
        self
    }

    pub fn parameter(mut self, parameter: Value) -> Self {
        self.parameters.push(parameter);
        self
    }

    /// Asks for no token.
    pub fn open(mut self) -> Self {
        self.value.insert("security".to_owned(), json!([]));
        self
    }

    pub fn also(mut self, problems: &[&str]) -> Self {
        self.problems(problems);
        self
    }

    pub fn done(mut self) {
        if !self.parameters.is_empty() {
            self.value.insert("parameters".to_owned(), self.parameters.into());
        }
        self.value.insert("responses".to_owned(), self.responses.into());
        let path = self.description.paths.entry(self.path).or_insert_with(|| json!({}));
        if let Some(path) = path.as_object_mut() {
            path.insert(self.method.to_owned(), self.value.into());
        }
    }
}

fn tenant() -> Value {
    json!({"name": "tenant_id", "in": "path", "required": true,
        "schema": {"type": "string", "pattern": "^[!-~]{1,50}$"}})
}

fn session() -> Value {
    json!({"name": "session_id", "in": "path", "required": true, "schema": {"type": "string", "pattern": "^[0-9a-f]{32}$"}})
}

/// Of a business metric, a rule of alerts or a webhook.
fn name() -> Value {
    json!({"name": "name", "in": "path", "required": true, "schema": {"type": "string", "pattern": "^[a-z][a-z0-9_]{0,49}$"}})
}

fn job() -> Value {
    json!({"name": "job_id", "in": "path", "required": true, "schema": {"type": "string", "pattern": "^[0-9a-f]{16}$"}})
}

fn plan() -> Value {
    json!({"name": "plan_id", "in": "path", "required": true, "schema": {"type": "string", "pattern": "^[0-9a-f]{12}$"}})
}

fn value() -> Value {
    json!({"name": "value_id", "in": "path", "required": true, "schema": {"type": "integer", "minimum": 1, "format": "int64"}})
}

pub(super) fn query(name: &str, required: bool, schema: &Value) -> Value {
    json!({"name": name, "in": "query", "required": required, "schema": schema})
}
