//! Shows what a declaration makes of a request, without storing anything.

use std::{collections::BTreeMap, fs, path::PathBuf};

use clap::Args;
use commerce::{
    change::Change,
    declaration::{Arrived, Declaration, Examined, Extracted, Key},
    platform::mapping::{MapError, Mapped, Meant, PART, Part, Settled},
    platforms::custom::map_by,
    verify::UNNAMED_SCOPE,
};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value, json};

/// The longest file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 8 * 1024 * 1024;

#[derive(Args)]
pub struct Options {
    /// The declaration, as YAML or JSON; `shared/commerce/presets/` has one for each known sender.
    #[arg(long)]
    declaration: PathBuf,
    /// The request, as YAML or JSON: method, target, url, headers and body.
    #[arg(long)]
    request: PathBuf,
    /// A file with the keys, one on each line, or one PEM; without it, nothing is proven.
    #[arg(long)]
    keys: Option<PathBuf>,
    /// A constant of the connection, as NAME=VALUE.
    #[arg(long = "constant")]
    constants: Vec<String>,
    /// The time to take for now, in seconds since 1970.
    #[arg(long)]
    now: Option<i64>,
}

type Failure = Box<dyn std::error::Error>;

/// Prints each step of the proof, and what was found. Returns whether the request is a delivery or a handshake.
///
/// # Errors
/// A text that names the file, the place in it, and what is wrong.
pub fn run(options: &Options) -> Result<bool, Failure> {
    let declaration = Declaration::read(yaml(&options.declaration)?)
        .map_err(|error| format!("{}: {error}", options.declaration.display()))?;
    let request = yaml(&options.request)?;
    let text = |name: &str, default: &'static str| request[name].as_str().unwrap_or(default).to_owned();
    let (method, target, url) = (text("method", "POST"), text("target", "/"), text("url", ""));
    let body = text("body", "");
    let headers = headers(&request["headers"])?;
    let constants = options.constants.iter().map(|constant| {
        let (name, value) = constant.split_once('=').ok_or(format!("--constant {constant}: must be NAME=VALUE"))?;
        Ok((name.to_owned(), value.to_owned()))
    });
    let constants = constants.collect::<Result<BTreeMap<_, _>, Failure>>()?;
    let keys = options.keys.as_ref().map(keys).transpose()?.unwrap_or_default();
    let now = options.now.and_then(|now| now.checked_mul(1000)).map(commerce::timestamp::Timestamp::from_millis);
    let arrived = Arrived {
        method: &method,
        target: &target,
        url: &url,
        headers: &headers,
        body: body.as_bytes(),
        constants: &constants,
    };
    let mut steps = Vec::new();
    let examined = declaration.examine(&arrived, &keys, now.unwrap_or_else(cloud::now), Some(&mut steps));
    steps.iter().for_each(|step| println!("  {step}"));
    println!("{:#}", shown(&examined));
    if let Examined::Delivery(_, extracted) = &examined {
        println!("{:#}", meant(&declaration, &arrived, extracted));
    }
    Ok(!matches!(examined, Examined::Refused(_)))
}

fn shown(examined: &Examined) -> Value {
    match examined {
        Examined::Handshake(answer) => json!({
            "handshake": { "status": answer.status, "headers": answer.headers, "body": answer.body },
        }),
        Examined::Delivery(proven, extracted) => json!({
            "delivery": {
                "key": proven.key_id, "covers": proven.strength, "topic": extracted.topic, "id": extracted.id,
                "message": extracted.message, "account": extracted.account,
                "time": extracted.time.and_then(|time| time.timestamp()).map(|time| time.to_string()),
            },
        }),
        Examined::Refused(refusal) => json!({ "refused": refusal.to_string() }),
    }
}

/// Returns what the delivery means, or the first thing that is wrong.
fn meant(declaration: &Declaration, arrived: &Arrived<'_>, extracted: &Extracted) -> Value {
    let claims = declaration.noted(arrived);
    let delivery = Settled {
        settings: &Map::new(),
        scope: extracted.topic.as_deref().unwrap_or(UNNAMED_SCOPE),
        delivery_id: extracted.message.as_deref(),
        claims: &claims,
        body: arrived.body,
        received: cloud::now(),
    };
    match map_by(declaration, None, &delivery) {
        Ok(Meant::Parts(parts)) => {
            let mut claims = claims.clone();
            claims.insert(PART.to_owned(), "true".to_owned());
            let part = |part: &Part| {
                let delivery = Settled { claims: &claims, scope: &part.scope, body: &part.body, ..delivery };
                map_by(declaration, None, &delivery).map_or_else(|error| wrong(&error), |meant| entity(&meant))
            };
            json!({ "parts": parts.iter().map(part).collect::<Vec<_>>() })
        }
        Ok(meant) => entity(&meant),
        Err(error) => wrong(&error),
    }
}

fn wrong(error: &MapError) -> Value {
    json!({ "quarantined": error.to_string() })
}

fn entity(meant: &Meant) -> Value {
    let (kind, mapped) = match meant {
        Meant::Entity(kind, mapped) => (kind, mapped),
        Meant::Ignored(rule) => return json!({ "ignored": rule.0 }),
        Meant::Parts(_) => return json!({ "quarantined": "a part has parts" }),
    };
    match mapped {
        Mapped::Change(id, Change::Upsert(upsert)) => {
            let mut fields = upsert.content.fields.clone();
            fields.insert("extra".to_owned(), upsert.content.extra.clone().into());
            json!({ "entity": kind, "id": id, "upsert": fields, "unreadable": upsert.content.unreadable })
        }
        Mapped::Change(id, Change::Delete(_)) => json!({ "entity": kind, "id": id, "delete": true }),
        Mapped::Change(id, Change::Restore { .. }) => json!({ "entity": kind, "id": id, "restore": true }),
        Mapped::Pull(id) => json!({ "entity": kind, "id": id, "pull": true }),
        _ => json!({ "entity": kind }),
    }
}

/// Prints a declaration as JSON, once it is read without an error.
///
/// # Errors
/// A text that names the file, the place in it, and what is wrong.
pub fn print(path: &PathBuf) -> Result<(), Failure> {
    let value = yaml(path)?;
    Declaration::read(value.clone()).map_err(|error| format!("{}: {error}", path.display()))?;
    println!("{value:#}");
    Ok(())
}

fn read(path: &PathBuf) -> Result<String, Failure> {
    let told = |error: std::io::Error| format!("{}: {error}", path.display());
    if fs::metadata(path).map_err(told)?.len() > MAX_FILE_BYTES {
        return Err(format!("{}: is longer than {MAX_FILE_BYTES} bytes", path.display()).into());
    }
    Ok(fs::read_to_string(path).map_err(told)?)
}

fn yaml(path: &PathBuf) -> Result<Value, Failure> {
    Ok(serde_saphyr::from_str(&read(path)?).map_err(|error| format!("{}: {error}", path.display()))?)
}

fn headers(given: &Value) -> Result<HeaderMap, Failure> {
    let mut headers = HeaderMap::new();
    for (name, value) in given.as_object().into_iter().flatten() {
        let values = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
        for value in values {
            let value = value.as_str().ok_or(format!("headers.{name}: must be a text, or a list of texts"))?;
            let parsed: HeaderName = name.parse().map_err(|_| format!("headers.{name}: is no name of a header"))?;
            let value: HeaderValue = value.parse().map_err(|_| format!("headers.{name}: is no value of a header"))?;
            headers.append(parsed, value);
        }
    }
    Ok(headers)
}

fn keys(path: &PathBuf) -> Result<Vec<Key>, Failure> {
    let text = read(path)?;
    let keys: Vec<&str> = match text.starts_with("-----BEGIN") {
        true => vec![text.trim()],
        false => text.lines().filter(|line| !line.is_empty()).collect(),
    };
    let named = keys
        .into_iter()
        .enumerate()
        .map(|(place, text)| Key { id: format!("line {}", place + 1), text: text.to_owned().into() });
    Ok(named.collect())
}
