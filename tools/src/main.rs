//! The commands behind `make`. Region, endpoint and credentials come from the environment, as everywhere: `.local/env`
//! sets them for the local AWS, `make env` for a stack on AWS.

mod bench;
mod redrive;
mod try_out;
mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use cloud::{
    aws::{Aws, Patience, variable},
    secrets::{Keys, SecretsManager},
};
use commerce::{
    keys::KeyRing,
    platform::{find, mapping::declared_scopes},
    platforms::PLATFORMS,
    request::WebhookPath,
    scheme::Scheme,
};
use tools::events;

#[derive(Parser)]
#[command(about = "Commands for commerce-hooks", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Prints the secret of a webhook, to be entered at the store.
    Secret {
        /// The platform, for example woocommerce.
        platform: String,
        /// The connection, for example shop.example.com.
        connection: String,
        /// The topic, for example order.updated; only for platforms whose webhooks have a secret each.
        scope: Option<String>,
        /// The connection's generation.
        #[arg(long, default_value = "1")]
        generation: String,
    },
    /// Mints a token for the admin interface.
    Token {
        /// The time for which it is valid, in minutes; 60 at most.
        #[arg(long, default_value_t = 15)]
        minutes: i64,
        /// Its permissions, separated by spaces: read, write, reveal, rotate.
        #[arg(long, default_value = "read write")]
        scopes: String,
        /// The name of its owner, which the log shows.
        #[arg(long = "for")]
        name: Option<String>,
    },
    /// Signs the sample events anew.
    Events {
        /// Prints them signed with the stack's own key, as a JSON array, instead of writing files.
        #[arg(long)]
        print: bool,
        /// The platform; without it, all of them.
        platform: Option<String>,
    },
    /// Brings dead letters back to their queue.
    Redrive(redrive::Options),
    /// Compares what is here with the stores' own APIs. Exits with 0 if all is equal, with 3 if something differs, and
    /// with 2 if something could not be compared.
    Verify(verify::Options),
    /// Measures the release binaries.
    Bench(bench::Options),
    /// Shows what a declaration makes of a request, without storing anything. Exits with 3 if the request is refused.
    Try(try_out::Options),
    /// Prints a declaration as JSON, as a connection's settings take it.
    Declaration {
        /// The declaration, as YAML or JSON.
        file: std::path::PathBuf,
    },
}

type Outcome = Result<(), Box<dyn std::error::Error>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let command = match Cli::parse().command {
        Command::Verify(options) => return verify::run(&options).await,
        Command::Try(options) => return tried(&options),
        command => command,
    };
    match run(command).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> Outcome {
    match command {
        Command::Secret { platform, connection, scope, generation } => {
            secret(&platform, &connection, scope.as_deref(), &generation).await
        }
        Command::Token { minutes, scopes, name } => {
            let unknown = scopes.split_whitespace().find(|scope| !registrar::PERMISSIONS.contains(scope));
            if let Some(scope) = unknown {
                return Err(format!("no scope {scope:?}; there are: {}", registrar::PERMISSIONS.join(", ")).into());
            }
            let ring = ring("ADMIN_KEY").await?;
            println!("{}", registrar_token(&ring, minutes, &scopes, name.as_deref())?);
            Ok(())
        }
        Command::Events { print: false, platform } => {
            for platform in named_or_all(platform.as_deref()) {
                for (name, text) in events::files(platform)? {
                    std::fs::write(events::folder(platform).join(name), text)?;
                }
            }
            Ok(())
        }
        Command::Events { print: true, platform } => {
            let ring = ring("SIGNING_KEYS").await?;
            let mut signed = Vec::new();
            for platform in named_or_all(platform.as_deref()) {
                for mut event in events::load(platform)? {
                    event.sign(&ring);
                    signed.push(serde_json::json!({ "name": event.name, "request": event.request }));
                }
            }
            println!("{}", serde_json::Value::Array(signed));
            Ok(())
        }
        Command::Redrive(options) => redrive::run(&options).await,
        // It has exit codes of its own.
        Command::Verify(options) => verify::verify(&options).await.map(|_| ()),
        Command::Bench(options) => bench::run(&options).await,
        Command::Try(options) => try_out::run(&options).map(|_| ()),
        Command::Declaration { file } => try_out::print(&file),
    }
}

fn tried(options: &try_out::Options) -> ExitCode {
    match try_out::run(options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(3),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Returns a platform, or all that have sample events: those whose deliveries mean the same for every connection.
fn named_or_all(platform: Option<&str>) -> Vec<&str> {
    let sampled = || PLATFORMS.iter().filter(|platform| platform.mapping.by_settings().is_none());
    platform.map_or_else(|| sampled().map(|platform| platform.name).collect(), |name| vec![name])
}

/// Returns the ring of the secret that an environment variable names.
async fn ring(name: &'static str) -> Result<std::sync::Arc<KeyRing>, Box<dyn std::error::Error>> {
    let source = SecretsManager::new(Aws::from_env(Patience::Worker)?.secretsmanager(), variable(name)?);
    Ok(Keys::new(source).current(cloud::now()).await?)
}

fn registrar_token(ring: &KeyRing, minutes: i64, scopes: &str, name: Option<&str>) -> Result<String, String> {
    registrar::ADMIN_TOKEN
        .mint(ring, cloud::now(), minutes.saturating_mul(60), scopes, name)
        .map_err(|_| "a token is good for 1 to 60 minutes".to_owned())
}

async fn secret(platform: &str, connection: &str, scope: Option<&str>, generation: &str) -> Outcome {
    let known: Vec<_> = PLATFORMS.iter().map(|platform| platform.name).collect();
    let found =
        find(PLATFORMS, platform).ok_or(format!("no platform {platform:?}; there are: {}", known.join(", ")))?;
    let path = WebhookPath::parse(platform, connection, Some(generation))
        .ok_or("CONNECTION must be 1 to 100 of a-z, 0-9, '.', '_' and '-'; GENERATION a number from 1")?;
    let scopes: Vec<_> = declared_scopes(found).collect();
    if found.delivery.scheme() == Scheme::Declared {
        return Err(format!("the secret of a {platform} connection is its sender's own; it shows it").into());
    }
    let bound = match (found.delivery.secret_per_scope(), scope) {
        (false, _) => None,
        (true, Some(scope)) if scopes.contains(&scope) => Some(scope),
        (true, _) => return Err(format!("SCOPE must be one of: {}", scopes.join(", ")).into()),
    };
    println!("{}", ring("SIGNING_KEYS").await?.signing().webhook_secret(&path, bound).reveal());
    Ok(())
}
