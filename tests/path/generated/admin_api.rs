//! The page `docs/admin-api.md`, made from the OpenAPI description.

use std::fmt::Write;

use serde_json::Value;

const HEAD: &str = "\
# The admin interface

Every route of the registrar, with what it takes and answers. This page is made from the OpenAPI description, which a running stack
serves at `GET /admin/openapi.json`.

Every call carries a token: `Authorization: Bearer $(make -s token)`. A token is good for an hour at most, and for its permissions:
`make token SCOPES=\"read write reveal\"` mints one with three. Every write may be sent again: what is done already is not done twice. What
is wrong is answered as [problem details](https://www.rfc-editor.org/rfc/rfc9457) whose `detail` says what to change.
";

/// Returns the page.
pub fn page(document: &Value) -> String {
    let mut page = HEAD.to_owned();
    let paths = document["paths"].as_object().unwrap();
    page.push_str("\n| route | | permission |\n|---|---|---|\n");
    for (path, methods) in paths {
        for (method, operation) in methods.as_object().unwrap() {
            let (summary, permission) = (text(&operation["summary"]), text(&operation["security"][0]["token"][0]));
            let method = method.to_uppercase();
            writeln!(page, "| [`{method} {path}`](#{}) | {summary} | `{permission}` |", anchor(summary)).unwrap();
        }
    }
    for (path, methods) in paths {
        for (method, operation) in methods.as_object().unwrap() {
            route(&mut page, path, method, operation);
        }
    }
    page.push_str("\n## Forms\n");
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        form(&mut page, name, schema);
    }
    page
}

fn route(page: &mut String, path: &str, method: &str, operation: &Value) {
    let summary = text(&operation["summary"]);
    write!(page, "\n## {summary}\n\n    {} {path}\n\n{}\n", method.to_uppercase(), text(&operation["description"]))
        .unwrap();
    let rows: Vec<_> = operation["parameters"].as_array().unwrap().iter().filter(|one| one["in"] == "query").collect();
    if !rows.is_empty() {
        page.push_str("\n| query | |\n|---|---|\n");
        for row in rows {
            writeln!(page, "| `{}` | {} |", text(&row["name"]), text(&row["description"])).unwrap();
        }
    }
    page.push('\n');
    let body = &operation["requestBody"];
    if body.is_object() {
        let may = if body["required"] == true { "" } else { ", which may be left out" };
        write!(page, "Takes {}{may}. ", kind(&body["content"]["application/json"]["schema"])).unwrap();
    }
    let (mut good, mut problems) = (String::new(), Vec::new());
    for (status, response) in operation["responses"].as_object().unwrap() {
        match response["content"]["application/json"]["schema"].as_object() {
            Some(_) => good = format!("{status} with {}", kind(&response["content"]["application/json"]["schema"])),
            None => problems.push(status.as_str()),
        }
    }
    writeln!(page, "Answers {good}, or a problem: {}.", problems.join(", ")).unwrap();
}

fn form(page: &mut String, name: &str, schema: &Value) {
    write!(page, "\n### {name}\n\n").unwrap();
    if let Some(description) = schema["description"].as_str() {
        writeln!(page, "{description}").unwrap();
    }
    if let Some(members) = schema["properties"].as_object() {
        page.push_str("\n| member | | |\n|---|---|---|\n");
        rows(page, "", members, schema);
    } else {
        writeln!(page, "\n{}", kind(schema)).unwrap();
    }
}

/// Writes a row for each member, followed by the rows of its own members.
fn rows(page: &mut String, prefix: &str, members: &serde_json::Map<String, Value>, schema: &Value) {
    for (name, member) in members {
        let required = schema["required"].as_array().is_some_and(|required| required.iter().any(|one| one == name));
        let may = if required { "" } else { ", may be absent" };
        let description = member["description"].as_str().unwrap_or_default();
        writeln!(page, "| `{prefix}{name}` | {}{may} | {description} |", kind(member)).unwrap();
        let (inner, prefix) = match member["items"].as_object() {
            Some(_) => (&member["items"], format!("{prefix}{name}[].")),
            None => (not_null(member), format!("{prefix}{name}.")),
        };
        if let Some(members) = inner["properties"].as_object() {
            rows(page, &prefix, members, inner);
        }
    }
}

/// Returns the choice of a schema that is not null, or the schema itself.
fn not_null(schema: &Value) -> &Value {
    let choice = schema["anyOf"].as_array().and_then(|any| any.iter().find(|one| one["type"] != "null"));
    choice.unwrap_or(schema)
}

/// Describes a schema in a few words.
fn kind(schema: &Value) -> String {
    if let Some(reference) = schema["$ref"].as_str() {
        let name = reference.rsplit('/').next().unwrap();
        return format!("[{name}](#{})", anchor(name));
    }
    if let Some(any) = schema["anyOf"].as_array().or(schema["allOf"].as_array()) {
        return any.iter().map(kind).collect::<Vec<_>>().join(" or ");
    }
    if let Some(constant) = schema.get("const") {
        return format!("`{constant}`");
    }
    if let Some(among) = schema["enum"].as_array() {
        return among.iter().map(|one| format!("`{}`", one.as_str().unwrap_or("null"))).collect::<Vec<_>>().join(", ");
    }
    match &schema["type"] {
        Value::Array(kinds) => kinds.iter().map(|kind| word(text(kind), schema)).collect::<Vec<_>>().join(" or "),
        Value::String(kind) => word(kind, schema),
        _ => "anything".into(),
    }
}

fn word(kind_of: &str, schema: &Value) -> String {
    match kind_of {
        "array" if schema["items"]["properties"].is_object() => "list of objects".into(),
        "array" => format!("list of {}", kind(&schema["items"])),
        "string" if schema["format"] == "date-time" => "time".into(),
        "object" if schema["additionalProperties"].is_object() => {
            format!("object, by name: {}", kind(&schema["additionalProperties"]))
        }
        other => other.into(),
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Returns the anchor that GitHub makes from a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-'));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}
