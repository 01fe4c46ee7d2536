//! The OpenAPI document of the server API, made from the table that routes and the types that are decoded.

use schemars::generate::SchemaSettings;
use schemars::{Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::batch::MAX_COMMANDS;
use super::method::{Method, Route};
use super::respond::{ErrorBody, status_of};
use crate::node::VERSION;

/// Where the document stands, below the prefix of the API.
pub(super) const PATH: &str = "openapi.json";

const INTRODUCTION: &str = "What back ends call to publish, to look and to close. Every call is a POST with a JSON \
    object, which may be empty. A call that failed answers 200 with an `error`, unless the header \
    `X-Centrifugo-Error-Mode: transport` or the setting `http_api.error_mode` asks for an HTTP status: then the body is \
    the bare error. Fields that are missing or null are unset; unknown fields are ignored.";

/// Error codes that a call may answer.
const CODES: [(u32, &str); 8] = [
    (100, "internal server error: trying again may help; use an idempotency key"),
    (102, "unknown channel: there is no such namespace"),
    (104, "not found"),
    (106, "limit exceeded"),
    (107, "bad request"),
    (108, "not available: the namespace has it switched off, or the server does not have it"),
    (112, "unrecoverable position: of another epoch"),
    (113, "conflict"),
];

/// Makes the document of the API below `prefix`, as JSON.
pub(super) fn document(prefix: &str) -> Vec<u8> {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut schemas = settings.into_generator();
    let error = schemas.subschema_for::<ErrorBody>();
    let paths: Map<String, Value> = Route::all()
        .map(|route| {
            let operation = match route {
                Route::Method(method) => one(method, &error, &mut schemas),
                Route::Batch => batch(&error, &mut schemas),
            };
            (format!("{prefix}/{}", route.name()), json!({ "post": operation }))
        })
        .collect();
    let codes =
        CODES.iter().map(|(code, about)| format!("| {code} | {} | {about} |\n", status_of(*code).as_u16()));
    let document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Bowline server API",
            "version": VERSION,
            "description":
                format!("{INTRODUCTION}\n\n| code | status | |\n|---|---|---|\n{}", codes.collect::<String>()),
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "servers": [{ "url": "/", "description": "the server the document came from" }],
        "security": [{ "header": [] }, { "authorization": [] }, { "query": [] }],
        "paths": paths,
        "components": {
            "schemas": schemas.take_definitions(true),
            "responses": {
                "Malformed": text("The body is not such a request; the text says what and where."),
                "Unauthorized": { "description": "The key is missing or not one of those configured." },
                "TooLarge": text("The body is longer than `http_api.max_request_body_size`."),
                "Failed": {
                    "description": "It failed, and failures were asked for as statuses.",
                    "content": { "application/json": { "schema": error } },
                },
            },
            "securitySchemes": {
                "header": { "type": "apiKey", "in": "header", "name": "X-API-Key" },
                "authorization": {
                    "type": "apiKey", "in": "header", "name": "Authorization",
                    "description": "`apikey`, a space, and the key.",
                },
                "query": {
                    "type": "apiKey", "in": "query", "name": "api_key",
                    "description": "Stands in logs of whatever is in between: the headers are better.",
                },
            },
        },
    });
    document.to_string().into_bytes()
}

fn text(description: &str) -> Value {
    json!({ "description": description, "content": { "text/plain": { "schema": { "type": "string" } } } })
}

/// One method: an answer with a `result` or an `error`.
fn one(method: Method, error: &Schema, schemas: &mut SchemaGenerator) -> Value {
    let [request, answer] = method.schemas(schemas);
    let answer = json!({ "oneOf": [
        { "type": "object", "required": ["result"], "properties": { "result": answer } },
        { "type": "object", "required": ["error"], "properties": { "error": error } },
    ] });
    operation(Route::Method(method), method.about(), &json!(request), &answer, true)
}

/// Many commands, each an object with one method, and as many replies.
fn batch(error: &Schema, schemas: &mut SchemaGenerator) -> Value {
    let (mut commands, mut replies) = (Map::new(), Map::new());
    for &method in Method::ALL {
        let [request, answer] = method.schemas(schemas);
        commands.insert(method.name().to_owned(), request.into());
        replies.insert(method.name().to_owned(), answer.into());
    }
    replies.insert("error".to_owned(), error.clone().into());
    let one_of = |properties: Map<String, Value>| json!({ "type": "object", "maxProperties": 1, "properties": properties });
    let request = json!({ "type": "object", "properties": {
        "commands": { "type": "array", "maxItems": MAX_COMMANDS, "items": one_of(commands) },
        "parallel": { "type": "boolean", "description": "Lets commands overlap; replies keep the order." },
    } });
    let answer = json!({ "type": "object", "required": ["replies"], "properties": {
        "replies": { "type": "array", "items": one_of(replies) },
    } });
    operation(Route::Batch, "Makes many calls in one request.", &request, &answer, false)
}

fn operation(route: Route, about: &str, request: &Value, answer: &Value, can_fail: bool) -> Value {
    let reference = |name: &str| json!({ "$ref": format!("#/components/responses/{name}") });
    let mut responses = json!({
        "200": { "description": "It ran.", "content": { "application/json": { "schema": answer } } },
        "400": reference("Malformed"),
        "401": reference("Unauthorized"),
        "413": reference("TooLarge"),
    });
    if can_fail && let Some(responses) = responses.as_object_mut() {
        responses.insert("default".to_owned(), reference("Failed"));
    }
    json!({
        "operationId": route.name(),
        "summary": about,
        "requestBody": { "required": true, "content": { "application/json": { "schema": request } } },
        "responses": responses,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_is_described_with_fields_that_are_decoded() {
        let document: Value = serde_json::from_slice(&document("/api")).unwrap();
        for route in Route::all() {
            let operation = &document["paths"][format!("/api/{}", route.name())]["post"];
            assert_eq!(operation["operationId"], route.name());
        }
        assert_eq!(document["paths"].as_object().unwrap().len(), Route::all().count());
        let schemas = &document["components"]["schemas"];
        assert_eq!(schemas["Publish"]["properties"]["version"]["format"], "uint64");
        assert!(schemas["Subscribe"]["properties"]["override"].is_object());
    }

    #[test]
    fn every_reference_leads_somewhere() {
        fn references(value: &Value, found: &mut Vec<String>) {
            match value {
                Value::Object(map) => {
                    found.extend(map.get("$ref").and_then(Value::as_str).map(str::to_owned));
                    map.values().for_each(|value| references(value, found));
                }
                Value::Array(items) => items.iter().for_each(|value| references(value, found)),
                _ => {}
            }
        }

        let document: Value = serde_json::from_slice(&document("/api")).unwrap();
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(found.len() > 20, "{found:?}");
        for reference in found {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
    }
}
