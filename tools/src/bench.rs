//! Measures the release binaries: each is driven through a small server that is Lambda's Runtime API and the AWS services that
//! it calls, beside a function that does nothing, in one run. Linux only, for it reads `/proc`.

use std::{
    collections::BTreeMap,
    error::Error,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Bytes,
    extract::{Path as UrlPath, State},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use commerce::change::Change;
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    sync::{Mutex as AsyncMutex, mpsc},
};
use tools::events;

/// What to measure.
#[derive(clap::Args)]
pub struct Options {
    /// Where the release binaries are.
    #[arg(long, default_value = "target/release")]
    binaries: PathBuf,
    /// Where the table goes.
    #[arg(long, default_value = "docs/benchmarks.md")]
    output: PathBuf,
    /// How many cold starts.
    #[arg(long, default_value_t = 30)]
    starts: usize,
    /// How many warm requests.
    #[arg(long, default_value_t = 1000)]
    requests: usize,
}

/// What a function is waited for at most.
const PATIENCE: Duration = Duration::from_secs(10);

type Failure = Box<dyn Error>;

/// What the server tells the bench.
enum Said {
    /// The function asks for an event.
    Next(Instant),
    /// The function has answered.
    Answered(Instant, StatusCode, Bytes),
    /// The function cannot start.
    Failed(String),
}

struct Server {
    events: AsyncMutex<mpsc::UnboundedReceiver<String>>,
    said: mpsc::UnboundedSender<Said>,
    calls: Mutex<BTreeMap<String, u64>>,
}

/// The server with both ends of what goes through it.
struct Bench {
    address: String,
    give: mpsc::UnboundedSender<String>,
    said: mpsc::UnboundedReceiver<Said>,
    server: Arc<Server>,
}

async fn next(State(server): State<Arc<Server>>) -> Response {
    let _ = server.said.send(Said::Next(Instant::now()));
    let Some(event) = server.events.lock().await.recv().await else { return StatusCode::GONE.into_response() };
    let deadline = cloud::now().plus_seconds(60).micros() / 1000;
    let headers = [
        ("lambda-runtime-aws-request-id", "8476a536-e9f4-11e8-9739-2dfe598c3fcd".to_owned()),
        ("lambda-runtime-deadline-ms", deadline.to_string()),
        ("lambda-runtime-invoked-function-arn", "arn:aws:lambda:us-east-1:000000000000:function:bench".to_owned()),
        ("lambda-runtime-trace-id", "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700".to_owned()),
        ("content-type", "application/json".to_owned()),
    ];
    (headers, event).into_response()
}

async fn answered(State(server): State<Arc<Server>>, UrlPath((_, what)): UrlPath<(String, String)>, body: Bytes) {
    let status = if what == "response" { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR };
    let _ = server.said.send(Said::Answered(Instant::now(), status, body));
}

async fn failed(State(server): State<Arc<Server>>, body: String) {
    let _ = server.said.send(Said::Failed(body));
}

/// The AWS services, as far as the functions ask them: everything is taken, nothing is kept.
async fn aws(State(server): State<Arc<Server>>, headers: HeaderMap, body: Bytes) -> Response {
    let target = headers.get("x-amz-target").and_then(|target| target.to_str().ok()).unwrap_or_default();
    let operation = target.rsplit('.').next().unwrap_or_default().to_owned();
    let answer = match operation.as_str() {
        "SendMessage" => json!({ "MessageId": "5fea7756-0ea4-451a-a703-a558b933e274" }),
        "GetSecretValue" => json!({ "SecretString": events::SAMPLE_KEY }),
        "BatchGetItem" => batch_get_item(&serde_json::from_slice(&body).unwrap_or_default()),
        _ => json!({}),
    };
    *server.calls.lock().unwrap_or_else(PoisonError::into_inner).entry(operation).or_default() += 1;
    ([("content-type", "application/x-amz-json-1.0")], answer.to_string()).into_response()
}

/// Every connection is there, and no entity.
fn batch_get_item(request: &Value) -> Value {
    let keys = request["RequestItems"]["connections"]["Keys"].as_array().cloned().unwrap_or_default();
    let connections: Vec<_> = keys
        .into_iter()
        .map(|mut item| {
            item["status"] = json!({ "S": "active" });
            item["generation"] = json!({ "N": "1" });
            item["site"] = json!({ "S": "https://shop.example.com" });
            item
        })
        .collect();
    json!({ "Responses": { "connections": connections }, "UnprocessedKeys": {} })
}

impl Bench {
    async fn new() -> Result<Self, Failure> {
        let (give, events) = mpsc::unbounded_channel();
        let (say, said) = mpsc::unbounded_channel();
        let server = Arc::new(Server { events: AsyncMutex::new(events), said: say, calls: Mutex::default() });
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let router = Router::new()
            .route("/2018-06-01/runtime/invocation/next", get(next))
            .route("/2018-06-01/runtime/invocation/{id}/{what}", post(answered))
            .route("/2018-06-01/runtime/init/error", post(failed))
            .route("/", post(aws))
            .with_state(Arc::clone(&server));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self { address, give, said, server })
    }

    fn start(&self, binary: &Path) -> Result<Running, Failure> {
        let aws = format!("http://{}", self.address);
        let child = Command::new(binary)
            .env_clear()
            .envs([
                ("AWS_LAMBDA_RUNTIME_API", self.address.as_str()),
                ("AWS_LAMBDA_FUNCTION_NAME", "bench"),
                ("AWS_LAMBDA_FUNCTION_VERSION", "1"),
                ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256"),
                ("AWS_REGION", "us-east-1"),
                ("AWS_ACCESS_KEY_ID", "bench"),
                ("AWS_SECRET_ACCESS_KEY", "bench"),
                ("AWS_ENDPOINT_URL", &aws),
                ("INBOX_URL", &format!("{aws}/000000000000/inbox")),
                ("DLQ_URL", &format!("{aws}/000000000000/dead-letters")),
                ("ENTITIES_TABLE", "entities"),
                ("CONNECTIONS_TABLE", "connections"),
                ("COORDINATION_TABLE", "coordination"),
                ("PROOF_KEYS_TABLE", "proof-keys"),
                ("SIGNING_KEYS", "signing-keys"),
                ("APP_CREDENTIALS", "app-credentials"),
                ("ADMIN_KEY", "admin-key"),
                ("CREDENTIALS_KEY", "credentials-key"),
                ("PUBLIC_BASE_URL", "https://hooks.example.com"),
            ])
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
            .map_err(|error| format!("{}: {error}; build it with `make bench`", binary.display()))?;
        Ok(Running(child))
    }

    async fn hear(&mut self) -> Result<Said, Failure> {
        match tokio::time::timeout(PATIENCE, self.said.recv()).await {
            Ok(Some(Said::Failed(why))) => Err(format!("the function cannot start: {why}").into()),
            Ok(Some(said)) => Ok(said),
            _ => Err("the function says nothing".into()),
        }
    }

    async fn asked(&mut self) -> Result<Instant, Failure> {
        match self.hear().await? {
            Said::Next(at) => Ok(at),
            Said::Answered(..) | Said::Failed(_) => Err("an answer to nothing".into()),
        }
    }

    /// Gives an event, waits until the next is asked for, and gives how long the answer took.
    async fn request(&mut self, event: &str) -> Result<Duration, Failure> {
        let given = Instant::now();
        self.give.send(event.to_owned())?;
        let Said::Answered(at, status, body) = self.hear().await? else { return Err("no answer".into()) };
        let body: Value = serde_json::from_slice(&body)?;
        let http = body["statusCode"].as_u64().is_some_and(|status| status != 200);
        if !status.is_success() || http || body["batchItemFailures"].as_array().is_some_and(|failed| !failed.is_empty())
        {
            return Err(format!("the function failed: {body}").into());
        }
        self.asked().await?;
        Ok(at - given)
    }

    fn calls(&self) -> BTreeMap<String, u64> {
        std::mem::take(&mut *self.server.calls.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    /// CPU time of all threads so far.
    fn cpu(&self) -> Result<Duration, Failure> {
        let mut nanos = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.0.id()))? {
            let text = fs::read_to_string(task?.path().join("schedstat"))?;
            nanos += text.split(' ').next().and_then(|first| first.parse::<u64>().ok()).unwrap_or(0);
        }
        Ok(Duration::from_nanos(nanos))
    }

    /// The most memory that it ever held, in MB.
    fn peak_mb(&self) -> Result<f64, Failure> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
        let kib: f64 = line.trim().trim_end_matches(" kB").trim().parse()?;
        Ok(kib / 1024.0)
    }
}

/// What was measured of one function. Durations in milliseconds, each a median.
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

async fn measure(name: &'static str, event: Option<String>, options: &Options) -> Result<Row, Failure> {
    let binary = options.binaries.join(name);
    let mut bench = Bench::new().await?;
    let (mut starts, mut start_cpus, mut firsts, mut first_cpus) = (vec![], vec![], vec![], vec![]);
    let (mut warm, mut warm_cpu, mut peak, mut calls) = (vec![], 0.0, 0.0, BTreeMap::new());
    for round in 0..options.starts {
        // A server of its own for each: the one before may hold an open question of a function that was killed.
        bench = if round == 0 { bench } else { Bench::new().await? };
        let spawned = Instant::now();
        let running = bench.start(&binary)?;
        starts.push(ms(bench.asked().await? - spawned));
        let cpu = running.cpu()?;
        start_cpus.push(ms(cpu));
        peak = running.peak_mb()?;
        let Some(event) = &event else { continue };
        bench.calls();
        firsts.push(ms(bench.request(event).await?));
        first_cpus.push(ms(running.cpu()? - cpu));
        if round + 1 == options.starts {
            bench.calls();
            let cpu = running.cpu()?;
            for _ in 0..options.requests {
                warm.push(ms(bench.request(event).await?));
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
        measure("registrar", None, options).await?,
    ];
    let page = page(&rows, &write_units(&samples)?, options)?;
    fs::write(&options.output, &page)?;
    println!("{page}\nwritten to {}", options.output.display());
    Ok(())
}

/// Ten orders in one batch.
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

/// What the recorded entities cost to write: bytes as DynamoDB counts them, and units of 1 KB.
fn write_units(samples: &[events::Event]) -> Result<Vec<(String, usize)>, Failure> {
    use commerce::{
        change::State,
        connection::DeletePolicy,
        entity::EntityKey,
        item::{Projection, Writer},
        platforms::{Incoming, Mapped, PLATFORMS, find},
        transfer::{Resolved, resolve},
    };
    let mut units = Vec::new();
    for prefix in ["013", "017", "022"] {
        let sample = samples.iter().find(|event| event.name.starts_with(prefix)).ok_or("a sample is missing")?;
        let path = sample.path().ok_or("no path")?;
        let mapping = find(PLATFORMS, &path.key.platform).ok_or("no platform")?.mapping;
        let scope = sample.scope().ok_or("no scope")?;
        let Resolved::Entity(entity, action) = resolve(mapping, &scope) else { return Err("an unknown scope".into()) };
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
        let Mapped::Change(id, change @ Change::Upsert(_)) = mapping.map(&incoming)? else {
            return Err("no upsert".into());
        };
        let key = EntityKey { connection: path.key, kind: entity, id };
        let by = "5fea7756-0ea4-451a-a703-a558b933e274";
        let writer = Writer { by, now: cloud::now() };
        let projection = Projection { policy: DeletePolicy::Mark, deleted_fields: &serde_json::Map::new() };
        let item = projection.item(&key, &State::of(&change), None, writer)?;
        units.push((sample.name.clone(), item.size()));
    }
    Ok(units)
}

fn page(rows: &[Row], units: &[(String, usize)], options: &Options) -> Result<String, Failure> {
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
    Ok(page)
}
