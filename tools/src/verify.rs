//! The command that compares what is here with the stores' own APIs, within each connection's budget of calls. It runs
//! the processor's own code on this machine, and keeps nothing.

use std::{process::ExitCode, time::Duration};

use cloud::{
    aws::{Aws, Patience, variable},
    connections::{Connections, DynamoConnections},
};
use commerce::{
    connection::{Connection, ConnectionStatus},
    entity::EntityKind,
    job::SHARDS,
    key::ConnectionKey,
    platform::{find, mapping::imported},
    platforms::PLATFORMS,
    request::WebhookPath,
    verification::{Conclusion, Difference, Extent, MAX_SAMPLE, Report, Unchecked, Verification},
};
use processor::{Processor, aws::AtAws, config::Config};
use serde_json::{Value, json};

/// The connections to verify, and the extent.
#[derive(clap::Args)]
pub struct Options {
    /// The platform, for example woocommerce; without it, all connections.
    #[arg(requires = "connection")]
    platform: Option<String>,
    /// The connection, for example shop.example.com.
    connection: Option<String>,
    /// The number of entities of each kind to compare.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_SAMPLE)))]
    sample: u32,
    /// Compares all entities.
    #[arg(long, conflicts_with = "sample")]
    full: bool,
    /// Only this kind of entity, for example order.
    #[arg(long)]
    entity: Option<String>,
    /// Queues what differs, for the processor to fetch.
    #[arg(long)]
    repair: bool,
    /// The form of the output.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// The form of the output.
#[derive(Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
enum Format {
    /// A line for each connection, and a table of its differences.
    #[default]
    Table,
    /// A JSON array.
    Json,
}

/// The exit code if something differs.
const DRIFT: u8 = 3;
/// The exit code if something could not be compared.
const UNKNOWN: u8 = 2;
/// The number of connections on a page of their list.
const PAGE: u32 = 100;
/// The most characters of a value in a table.
const WIDTH: usize = 40;

type Failure = Box<dyn std::error::Error>;

/// Verifies, and returns the exit code.
pub async fn run(options: &Options) -> ExitCode {
    match verify(options).await {
        Ok(Conclusion::Equal) => ExitCode::SUCCESS,
        Ok(Conclusion::Drift) => ExitCode::from(DRIFT),
        Ok(Conclusion::Unknown) => ExitCode::from(UNKNOWN),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(UNKNOWN)
        }
    }
}

/// Verifies the connections, prints the reports, and returns the worst result.
pub async fn verify(options: &Options) -> Result<Conclusion, Failure> {
    let aws = Aws::from_env(Patience::Worker)?;
    let connections = DynamoConnections::new(aws.dynamodb(), variable("CONNECTIONS_TABLE")?);
    let processor = processor::aws::processor(&aws, Config::from_env()?)?;
    let (mut worst, mut shown) = (Conclusion::Equal, Vec::new());
    for (key, connection) in wanted(options, &connections).await? {
        let report = report(options, &processor, &key, &connection).await?;
        worst = worst.max(report.conclusion());
        match options.format {
            Format::Table => print(&key, &report),
            Format::Json => shown.push(described(&key, &report)),
        }
    }
    if options.format == Format::Json {
        println!("{}", Value::Array(shown));
    }
    Ok(worst)
}

/// Returns the named connection, or all that are not disconnected.
async fn wanted(
    options: &Options,
    connections: &DynamoConnections,
) -> Result<Vec<(ConnectionKey, Connection)>, Failure> {
    if let (Some(platform), Some(connection)) = (&options.platform, &options.connection) {
        let known: Vec<_> = PLATFORMS.iter().map(|platform| platform.name).collect();
        find(PLATFORMS, platform).ok_or(format!("no platform {platform:?}; there are: {}", known.join(", ")))?;
        let path = WebhookPath::parse(platform, connection, None)
            .ok_or("CONNECTION must be 1 to 100 of a-z, 0-9, '.', '_' and '-'")?;
        let loaded = connections.load(&path.key).await?.connection;
        let connection = loaded.ok_or(format!("{} is not connected", path.key))?;
        return Ok(vec![(path.key, connection)]);
    }
    let mut wanted = Vec::new();
    for shard in 0..SHARDS {
        let mut after = None;
        loop {
            let page = connections.list(shard, None, after.as_deref(), PAGE).await?;
            for entry in page.entries {
                let loaded = connections.load(&entry.key).await?.connection;
                wanted.extend(loaded.filter(Connection::is_connected).map(|connection| (entry.key, connection)));
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
    }
    wanted.sort_by(|one, other| one.0.cmp(&other.0));
    Ok(wanted)
}

async fn report(
    options: &Options,
    processor: &Processor<AtAws>,
    key: &ConnectionKey,
    connection: &Connection,
) -> Result<Report, Failure> {
    let kinds = find(PLATFORMS, &key.platform).map(imported).unwrap_or_default();
    let meant = |kind: &EntityKind| options.entity.as_ref().is_none_or(|entity| entity == kind.as_str());
    let chosen: Vec<_> = kinds.iter().copied().filter(meant).collect();
    if chosen.is_empty() && options.platform.is_some() {
        let known: Vec<_> = kinds.into_iter().map(EntityKind::as_str).collect();
        return Err(format!("--entity must be one of: {}", known.join(", ")).into());
    }
    let extent = if options.full { Extent::Full } else { Extent::Sample(options.sample) };
    let first = Verification::new(cloud::now(), extent, options.repair, chosen);
    let mut report = Report::new(&first);
    if connection.status != ConnectionStatus::Active {
        let why = "the connection is not active".to_owned();
        first.kinds.iter().for_each(|kind| {
            report.add_unchecked(Unchecked { entity: *kind, id: None, why: why.clone() });
        });
        return Ok(report);
    }
    let mut next = Some(first).filter(|first| !first.kinds.is_empty());
    while let Some(verification) = next {
        let step = processor.verify(key, connection, &verification).await?;
        report.extend(step.found);
        next = step.next;
        // The budget of calls says how long to wait.
        if next.is_some() && step.wait_seconds > 0 {
            tokio::time::sleep(Duration::from_secs(u64::try_from(step.wait_seconds).unwrap_or(1))).await;
        }
    }
    report.ended = Some(cloud::now());
    Ok(report)
}

fn described(key: &ConnectionKey, report: &Report) -> Value {
    let time = |at: Option<commerce::timestamp::Timestamp>| at.map(|at| at.to_string());
    let differences: Vec<_> = report
        .differences
        .iter()
        .map(|of| {
            json!({
                "entity": of.entity, "id": of.id, "field": of.field, "here": of.here, "there": of.there,
                "since": time(of.since), "cause": of.cause,
            })
        })
        .collect();
    json!({
        "platform": key.platform, "connection": key.connection, "result": report.conclusion(),
        "begun": time(Some(report.begun)), "ended": time(report.ended), "extent": report.extent,
        "checked": report.checked, "different": report.different, "drift_per_million": report.drift_per_million(),
        "under_way": report.under_way, "unchecked": report.unchecked, "queued": report.queued,
        "unlisted": report.unlisted, "unfetchable": report.unfetchable, "differences": differences,
        "failures": report.failures,
    })
}

fn print(key: &ConnectionKey, report: &Report) {
    let result = match report.conclusion() {
        Conclusion::Equal => "equal",
        Conclusion::Drift => "DRIFT",
        Conclusion::Unknown => "not all could be compared",
    };
    let checked: u64 = report.checked.values().sum();
    println!(
        "{key}: {result}; {checked} compared, {} differ, {} in a million",
        differing(report),
        report.drift_per_million()
    );
    let names = |kinds: &std::collections::BTreeSet<EntityKind>| {
        kinds.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(", ")
    };
    if !report.unlisted.is_empty() {
        println!("  The platform cannot list: {}. What is not here was not looked for.", names(&report.unlisted));
    }
    if !report.unfetchable.is_empty() {
        println!(
            "  The platform does not show: {}, or not all of them. Those were not compared.",
            names(&report.unfetchable)
        );
    }
    if !report.differences.is_empty() {
        println!("  {:<28} {:<24} {:<WIDTH$} {:<WIDTH$} {:<20} why", "entity", "field", "here", "there", "since");
    }
    report.differences.iter().for_each(row);
    for Unchecked { entity, id, why } in &report.failures {
        let id = id.as_ref().map(|id| format!("/{id}")).unwrap_or_default();
        println!("  {entity}{id} could not be compared: {why}");
    }
    if report.queued > 0 {
        println!("  {} were queued, for the processor to fetch.", report.queued);
    }
}

fn differing(report: &Report) -> u64 {
    report.different.values().sum::<u64>() + report.under_way
}

fn row(difference: &Difference) {
    let entity = format!("{}/{}", difference.entity, difference.id);
    let value = |value: &Option<Value>| {
        let text = value.as_ref().map(Value::to_string).unwrap_or_default();
        if text.chars().count() > WIDTH {
            format!("{}…", text.chars().take(WIDTH - 1).collect::<String>())
        } else {
            text
        }
    };
    let field = difference.field.as_deref().unwrap_or("(not here)");
    let since = difference.since.map(|since| since.to_string()).unwrap_or_default();
    let (here, there) = (value(&difference.here), value(&difference.there));
    println!("  {entity:<28} {field:<24} {here:<WIDTH$} {there:<WIDTH$} {since:<20} {}", difference.cause);
}
