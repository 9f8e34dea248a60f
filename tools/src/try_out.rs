//! Shows what a declaration makes of a request, without storing anything.

use std::{fs, path::PathBuf};

use clap::Args;
use commerce::{
    declaration::Declaration,
    platforms::PLATFORMS,
    trial::{self, Trial},
};
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
    /// The account that the connection is for.
    #[arg(long)]
    account: Option<String>,
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
    let constants = options.constants.iter().map(|constant| {
        let (name, value) = constant.split_once('=').ok_or(format!("--constant {constant}: must be NAME=VALUE"))?;
        Ok((name.to_owned(), Value::from(value)))
    });
    let trial = Trial::read(json!({
        "declaration": yaml(&options.declaration)?,
        "request": yaml(&options.request)?,
        "keys": options.keys.as_ref().map(keys).transpose()?.unwrap_or_default(),
        "account": options.account,
        "constants": constants.collect::<Result<Map<_, _>, Failure>>()?,
        "now": options.now,
    }))?;
    let by = PLATFORMS.iter().find_map(|platform| platform.mapping.by_settings()).ok_or("no platform is declared")?;
    let shown = trial::run(&trial, by, cloud::now())?;
    shown.steps.iter().for_each(|step| println!("  {step}"));
    let mut rest = serde_json::to_value(&shown)?;
    rest.as_object_mut().map(|members| members.remove("steps"));
    println!("{rest:#}");
    Ok(shown.refused.is_none())
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
    let told = |error: std::io::Error| format!("{}: {error}; name a file that can be read", path.display());
    if fs::metadata(path).map_err(told)?.len() > MAX_FILE_BYTES {
        return Err(format!("{}: is longer than {MAX_FILE_BYTES} bytes", path.display()).into());
    }
    Ok(fs::read_to_string(path).map_err(told)?)
}

fn yaml(path: &PathBuf) -> Result<Value, Failure> {
    Ok(serde_saphyr::from_str(&read(path)?).map_err(|error| format!("{}: {error}", path.display()))?)
}

fn keys(path: &PathBuf) -> Result<Vec<Value>, Failure> {
    let text = read(path)?;
    if text.starts_with("-----BEGIN") {
        return Ok(vec![text.into()]);
    }
    let named = |(place, key): (usize, &str)| json!({ "id": format!("line {}", place + 1), "key": key });
    Ok(text.lines().filter(|line| !line.is_empty()).enumerate().map(named).collect())
}
