//! The measurement of the release binaries. A small server, which acts as Lambda's Runtime API and as the AWS services,
//! drives each of them in one run, beside a function that does nothing. Linux only, because it reads `/proc`.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use commerce::change::Change;
use serde_json::{Value, json};
use tools::{
    events,
    runtime::{Answers, Failure, Lambda, taken},
    worst::{self, Measured},
};

/// The extent of the measurement.
#[derive(clap::Args)]
pub struct Options {
    /// The folder of the release binaries.
    #[arg(long, default_value = "target/release")]
    binaries: PathBuf,
    /// The file to write the table to.
    #[arg(long, default_value = "docs/benchmarks.md")]
    output: PathBuf,
    /// The number of cold starts.
    #[arg(long, default_value_t = 30)]
    starts: usize,
    /// The number of warm requests.
    #[arg(long, default_value_t = 1000)]
    requests: usize,
}

/// The measurements of one function. Durations are medians, in milliseconds.
struct Row {
    name: &'static str,
    size_mb: f64,
    start: (f64, f64, f64),
    start_cpu: f64,
    first: Option<(f64, f64)>,
    warm: Option<(f64, f64)>,
    peak_mb: f64,
    calls: String,
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Gives an event that must not fail, and returns the duration of its answer.
async fn done(bench: &mut Lambda, event: &str) -> Result<Duration, Failure> {
    let (body, took) = bench.request(event).await?;
    let http = body["statusCode"].as_u64().is_some_and(|status| status != 200);
    if http || body["batchItemFailures"].as_array().is_some_and(|failed| !failed.is_empty()) {
        return Err(format!("the function failed: {body}").into());
    }
    Ok(took)
}

async fn measure(name: &'static str, event: Option<String>, options: &Options) -> Result<Row, Failure> {
    let binary = options.binaries.join(name);
    let mut bench = Lambda::new(Arc::new(taken)).await?;
    let (mut starts, mut start_cpus, mut firsts, mut first_cpus) = (vec![], vec![], vec![], vec![]);
    let (mut warm, mut warm_cpu, mut peak, mut calls) = (vec![], 0.0, 0.0, BTreeMap::new());
    for round in 0..options.starts {
        // Each start has its own server, because a killed function may have left an open request at the one before.
        bench = if round == 0 { bench } else { Lambda::new(Arc::new(taken)).await? };
        let spawned = Instant::now();
        let running = bench.start(&binary, &[])?;
        starts.push(ms(bench.asked().await? - spawned));
        let cpu = running.cpu()?;
        start_cpus.push(ms(cpu));
        peak = running.peak_mb()?;
        let Some(event) = &event else { continue };
        bench.calls();
        firsts.push(ms(done(&mut bench, event).await?));
        first_cpus.push(ms(running.cpu()? - cpu));
        if round + 1 == options.starts {
            bench.calls();
            let cpu = running.cpu()?;
            for _ in 0..options.requests {
                warm.push(ms(done(&mut bench, event).await?));
            }
            #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
            let requests = options.requests as f64;
            warm_cpu = ms(running.cpu()? - cpu) / requests;
            peak = running.peak_mb()?;
            calls = bench.calls();
        }
    }
    let requests = u64::try_from(options.requests)?;
    let calls: Vec<_> = calls.iter().map(|(name, count)| format!("{} {name}", count / requests)).collect();
    #[expect(clippy::cast_precision_loss, reason = "a file of some MB")]
    let size_mb = fs::metadata(&binary)?.len() as f64 / 1e6;
    let middle = median(&mut starts);
    Ok(Row {
        name,
        size_mb,
        start: (starts[0], middle, starts[starts.len() - 1]),
        start_cpu: median(&mut start_cpus),
        first: event.is_some().then(|| (median(&mut firsts), median(&mut first_cpus))),
        warm: event.is_some().then(|| (median(&mut warm), warm_cpu)),
        peak_mb: peak,
        calls: if calls.is_empty() { "none".into() } else { calls.join(", ") },
    })
}

/// Measures, prints the table, and writes it.
pub async fn run(options: &Options) -> Result<(), Failure> {
    let samples = events::load("woocommerce")?;
    let mut order = samples.iter().find(|event| event.name.starts_with("018")).ok_or("no sample order")?.clone();
    // The stub's signing key is the sample key as a bare string; secrets depend on the key's bytes only.
    order.sign(&events::sample_ring());
    let one = order.sqs(&events::sample_ring()).ok_or("no message")?;
    let rows = [
        measure("nothing", Some(order.request.to_string()), options).await?,
        measure("receiver", Some(order.request.to_string()), options).await?,
        measure("processor", Some(batch_of_ten(&one)?.to_string()), options).await?,
        measure("publisher", None, options).await?,
        measure("registrar", None, options).await?,
    ];
    let mut worst_of_all = Vec::new();
    for case in worst::cases()? {
        worst_of_all.push((case.name, worst::run(&options.binaries.join("processor"), &case).await?));
    }
    let chain = chain(&order, options).await?;
    let page = page(&rows, &write_units(&samples)?, &worst_of_all, &chain, options)?;
    fs::write(&options.output, &page)?;
    println!("{page}\nwritten to {}", options.output.display());
    Ok(())
}

/// The time from the receipt of a delivery to its state and to its change event, in milliseconds.
struct Chain {
    state: Vec<f64>,
    event: Vec<f64>,
}

/// Hands deliveries to the receiver, what it queues to the processor, and what that writes to the publisher, one after the
/// other. Queue and stream hand over at once, so it is the functions' own part of the time.
async fn chain(one: &events::Event, options: &Options) -> Result<Chain, Failure> {
    let (queued, written) = (Arc::new(Mutex::new(None)), Arc::new(Mutex::new(None)));
    let answers = {
        let (queued, written) = (Arc::clone(&queued), Arc::clone(&written));
        move |operation: &str, request: &Value| {
            let seen = match operation {
                "SendMessage" => &queued,
                "PutItem" => &written,
                _ => return taken(operation, request),
            };
            *seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(request.clone());
            taken(operation, request)
        }
    };
    let take = |seen: &Mutex<Option<Value>>| seen.lock().unwrap_or_else(PoisonError::into_inner).take();
    let answers: Answers = Arc::new(answers);
    let mut functions = Vec::new();
    for name in ["receiver", "processor", "publisher"] {
        let mut function = Lambda::new(Arc::clone(&answers)).await?;
        let running = function.start(&options.binaries.join(name), &[])?;
        function.asked().await?;
        functions.push((function, running));
    }
    let mut chain = Chain { state: Vec::new(), event: Vec::new() };
    for n in 0..=options.requests {
        // Another order each time, so that each is new.
        let mut order = one.clone();
        let body = one.body().replacen(r#"{"id":13,"#, &format!(r#"{{"id":{},"#, 1_000 + n), 1);
        order.request["body"] = body.into();
        order.sign(&events::sample_ring());
        let begun = Instant::now();
        done(&mut functions[0].0, &order.request.to_string()).await?;
        let message = take(&queued).ok_or("nothing was queued")?;
        let record = json!({
            "messageId": format!("m{n}"), "receiptHandle": "r", "body": message["MessageBody"],
            "attributes": { "ApproximateReceiveCount": "1" }, "eventSource": "aws:sqs",
        });
        done(&mut functions[1].0, &json!({ "Records": [record] }).to_string()).await?;
        let state = begun.elapsed();
        let item = take(&written).ok_or("nothing was written")?;
        let write = json!({
            "eventName": "INSERT",
            "dynamodb": {
                "NewImage": item["Item"], "SequenceNumber": "1", "ApproximateCreationDateTime": 1_795_219_200.0,
            },
        });
        done(&mut functions[2].0, &json!({ "Records": [write] }).to_string()).await?;
        // The first one opens connections.
        if n > 0 {
            chain.state.push(ms(state));
            chain.event.push(ms(begun.elapsed()));
        }
    }
    chain.state.sort_by(f64::total_cmp);
    chain.event.sort_by(f64::total_cmp);
    Ok(chain)
}

/// Returns a batch of ten orders.
fn batch_of_ten(one: &Value) -> Result<Value, Failure> {
    let record = &one["Records"][0];
    let text = record["body"].as_str().ok_or("no body")?;
    let records: Vec<_> = (0..10)
        .map(|n| {
            let mut record = record.clone();
            record["messageId"] = format!("{}-{n}", record["messageId"]).into();
            record["body"] = text.replacen(r#"{\"id\":13,"#, &format!(r#"{{\"id\":{},"#, 13 + n), 1).into();
            record
        })
        .collect();
    Ok(json!({ "Records": records }))
}

/// Returns the sizes of the recorded entities' items, in bytes as DynamoDB counts them.
fn write_units(samples: &[events::Event]) -> Result<Vec<(String, usize)>, Failure> {
    use commerce::{
        change::State,
        connection::DeletePolicy,
        entity::EntityKey,
        item::{Projection, Writer},
        origin::Origin,
        platform::{
            find,
            mapping::{Incoming, Mapped, Resolved, resolve},
        },
        platforms::PLATFORMS,
    };
    let mut units = Vec::new();
    for prefix in ["013", "017", "022"] {
        let sample = samples.iter().find(|event| event.name.starts_with(prefix)).ok_or("a sample is missing")?;
        let path = sample.path().ok_or("no path")?;
        let platform = find(PLATFORMS, &path.key.platform).ok_or("no platform")?;
        let scope = sample.scope().ok_or("no scope")?;
        let Resolved::Entity(entity, action) = resolve(platform, &scope) else { return Err("an unknown scope".into()) };
        let raw = sample.raw();
        let incoming = Incoming {
            connection: &path.key,
            scope: &scope,
            delivery_id: None,
            entity,
            action,
            body: &raw.body,
            received: raw.received,
        };
        let Mapped::Change(id, change @ Change::Upsert(_)) = platform.mapping.map(&incoming)? else {
            return Err("no upsert".into());
        };
        let key = EntityKey { connection: path.key, kind: entity, id };
        let by = "5fea7756-0ea4-451a-a703-a558b933e274";
        let writer = Writer { by, origin: Origin::Webhook, now: cloud::now() };
        let none = serde_json::Map::new();
        let projection = Projection::new(DeletePolicy::Mark, &none);
        let item = projection.item(&key, &State::of(&change), None, writer)?;
        units.push((sample.name.clone(), item.size()));
    }
    Ok(units)
}

fn page(
    rows: &[Row],
    units: &[(String, usize)],
    worst: &[(&str, Measured)],
    chain: &Chain,
    options: &Options,
) -> Result<String, Failure> {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = cpu.lines().find_map(|line| line.strip_prefix("model name\t: ")).unwrap_or("unknown");
    let cores = std::thread::available_parallelism()?;
    let mut page = String::new();
    writeln!(page, "# Benchmarks\n")?;
    writeln!(
        page,
        "Written by `make bench`: the release binaries, driven through a small server that is Lambda's Runtime API and"
    )?;
    writeln!(
        page,
        "a stub of AWS on the same machine, beside a function that does nothing, in one run. So it shows what the code"
    )?;
    writeln!(
        page,
        "costs, not what a network does. Medians; {} cold starts and {} warm requests each.\n",
        options.starts, options.requests
    )?;
    writeln!(
        page,
        "Machine: {cpu}, {cores} cores. The receiver gets a recorded order, the processor ten of them as one batch.\n"
    )?;
    writeln!(page, "| | {} |", rows.iter().map(|row| row.name).collect::<Vec<_>>().join(" | "))?;
    writeln!(page, "|---|{}", "---:|".repeat(rows.len()))?;
    let mut line = |what: &str, cell: &dyn Fn(&Row) -> String| {
        writeln!(page, "| {what} | {} |", rows.iter().map(cell).collect::<Vec<_>>().join(" | "))
    };
    let some = |value: Option<f64>, digits: usize| value.map_or("–".to_owned(), |value| format!("{value:.digits$}"));
    line("binary, MB", &|row| format!("{:.1}", row.size_mb))?;
    line("exec to first `/next`, ms (least to most)", &|row| {
        format!("{:.1} ({:.1} to {:.1})", row.start.1, row.start.0, row.start.2)
    })?;
    line("CPU until then, ms", &|row| format!("{:.1}", row.start_cpu))?;
    line("first request, ms", &|row| some(row.first.map(|first| first.0), 2))?;
    line("CPU of the first request, ms", &|row| some(row.first.map(|first| first.1), 2))?;
    line("warm request, ms", &|row| some(row.warm.map(|warm| warm.0), 3))?;
    line("CPU of a warm request, ms", &|row| some(row.warm.map(|warm| warm.1), 3))?;
    line("peak memory, MB", &|row| format!("{:.1}", row.peak_mb))?;
    line("AWS calls of a warm request", &|row| row.calls.clone())?;
    writeln!(page, "\nWhat a change of the recorded entities costs to write, with `extra` as one JSON text:\n")?;
    writeln!(page, "| entity | bytes | write units |\n|---|---:|---:|")?;
    for (name, bytes) in units {
        writeln!(page, "| {name} | {bytes} | {} |", bytes.div_ceil(1024))?;
    }
    writeln!(page, "\nFrom the receipt of a delivery on, with a queue and a stream that hand over at once:\n")?;
    writeln!(page, "| until | p50, ms | p99, ms |\n|---|---:|---:|")?;
    for (name, times) in [("the state is written", &chain.state), ("the change event is on the bus", &chain.event)] {
        let at = |part: usize| times.get(times.len() * part / 100).copied().unwrap_or(f64::NAN);
        writeln!(page, "| {name} | {:.2} | {:.2} |", at(50), at(99))?;
    }
    writeln!(
        page,
        "\nOn AWS, the window of the queue (`BatchingWindow`, a second by default), the queue and the stream come on top."
    )?;
    writeln!(page, "\nWhat the worst batches take of the processor, each in a process of its own:\n")?;
    writeln!(page, "| batch | peak memory, MB | CPU, ms |\n|---|---:|---:|")?;
    for (name, measured) in worst {
        writeln!(page, "| {name} | {:.0} | {:.0} |", measured.peak_mb, ms(measured.cpu))?;
    }
    Ok(page)
}
