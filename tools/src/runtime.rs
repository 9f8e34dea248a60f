//! A small server that acts as Lambda's Runtime API and as the AWS services that a function calls, and drives the
//! function's release binary. Linux only, because it reads `/proc`.

use std::{
    collections::BTreeMap,
    error::Error,
    fs,
    path::Path,
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
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    sync::{Mutex as AsyncMutex, mpsc},
};

use crate::{events, tls};

/// A failure of a function or of the server.
pub type Failure = Box<dyn Error>;

/// The answers of the AWS services, by the name of the operation and the request's JSON. [`Value::Null`] stands for a
/// 500.
pub type Answers = Arc<dyn Fn(&str, &Value) -> Value + Send + Sync>;

/// The tracing header of every invocation. Its lineage is Lambda's count of how often functions have made each other
/// run.
pub const TRACE: &str = "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Lineage=1:8f2a9c01:15";

/// The longest wait for a function.
const PATIENCE: Duration = Duration::from_secs(10);

/// An event that the server reports to the bench.
enum Said {
    /// A request of the function for an event.
    Next(Instant),
    /// An answer of the function.
    Answered(Instant, StatusCode, Bytes),
    /// A failed start of the function.
    Failed(String),
}

struct Server {
    answers: Answers,
    events: AsyncMutex<mpsc::UnboundedReceiver<String>>,
    said: mpsc::UnboundedSender<Said>,
    calls: Mutex<BTreeMap<String, u64>>,
    traces: Mutex<BTreeMap<String, String>>,
}

/// The server with both ends of its channels.
pub struct Lambda {
    address: String,
    /// The address of the AWS services.
    aws: String,
    /// The root certificate of the AWS services' own, where they are behind TLS.
    roots: Option<tls::Roots>,
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
        (
            "lambda-runtime-invoked-function-arn",
            "arn:aws:lambda:us-east-1:000000000000:function:commerce-hooks".to_owned(),
        ),
        ("lambda-runtime-trace-id", TRACE.to_owned()),
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

async fn aws(State(server): State<Arc<Server>>, headers: HeaderMap, body: Bytes) -> Response {
    let target = headers.get("x-amz-target").and_then(|target| target.to_str().ok()).unwrap_or_default();
    let operation = target.rsplit('.').next().unwrap_or_default().to_owned();
    if let Some(trace) = headers.get("x-amzn-trace-id").and_then(|trace| trace.to_str().ok()) {
        server.traces.lock().unwrap_or_else(PoisonError::into_inner).insert(operation.clone(), trace.to_owned());
    }
    let answer = (server.answers)(&operation, &serde_json::from_slice(&body).unwrap_or_default());
    let status = if answer.is_null() { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::OK };
    *server.calls.lock().unwrap_or_else(PoisonError::into_inner).entry(operation).or_default() += 1;
    (status, [("content-type", "application/x-amz-json-1.0")], answer.to_string()).into_response()
}

/// Answers as the AWS services that the functions call, which accept everything and keep nothing.
pub fn taken(operation: &str, request: &Value) -> Value {
    match operation {
        "SendMessage" => json!({ "MessageId": "5fea7756-0ea4-451a-a703-a558b933e274" }),
        "SendMessageBatch" => {
            let entries = request["Entries"].as_array().into_iter().flatten();
            let sent = entries.map(|entry| json!({ "Id": entry["Id"], "MessageId": entry["Id"] }));
            json!({ "Successful": sent.collect::<Vec<_>>(), "Failed": [] })
        }
        "PutEvents" => {
            let entries = request["Entries"].as_array().into_iter().flatten();
            let put = entries.map(|_| json!({ "EventId": "11710aed-b79e-4468-a20b-bb3c0c3b4860" }));
            json!({ "FailedEntryCount": 0, "Entries": put.collect::<Vec<_>>() })
        }
        "GetSecretValue" => json!({ "SecretString": events::SAMPLE_KEY }),
        "BatchGetItem" => batch_get_item(request),
        _ => json!({}),
    }
}

/// Answers with every connection and no entity.
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
    json!({ "Responses": { "connections": connections, "entities": [] }, "UnprocessedKeys": {} })
}

impl Lambda {
    /// Starts a server with these answers of the AWS services.
    ///
    /// # Errors
    /// Returns an error if there is no port.
    pub async fn new(answers: Answers) -> Result<Self, Failure> {
        Self::serve(answers, false).await
    }

    /// Starts a server whose AWS services are behind TLS, with a certificate of its own.
    ///
    /// # Errors
    /// Returns an error if there is no port or no certificate.
    pub async fn with_tls(answers: Answers) -> Result<Self, Failure> {
        Self::serve(answers, true).await
    }

    async fn serve(answers: Answers, is_behind_tls: bool) -> Result<Self, Failure> {
        let (give, events) = mpsc::unbounded_channel();
        let (say, said) = mpsc::unbounded_channel();
        let server = Arc::new(Server {
            answers,
            events: AsyncMutex::new(events),
            said: say,
            calls: Mutex::default(),
            traces: Mutex::default(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let router = Router::new()
            .route("/2018-06-01/runtime/invocation/next", get(next))
            .route("/2018-06-01/runtime/invocation/{id}/{what}", post(answered))
            .route("/2018-06-01/runtime/init/error", post(failed))
            .route("/", post(aws))
            .with_state(Arc::clone(&server));
        let (aws, roots) = if is_behind_tls {
            let (address, roots) = tls::serve(router.clone()).await?;
            (format!("https://localhost:{}", address.port()), Some(roots))
        } else {
            (format!("http://{address}"), None)
        };
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self { address, aws, roots, give, said, server })
    }

    /// Starts a function with these variables, besides those that all functions need.
    ///
    /// # Errors
    /// Returns an error if there is no such binary.
    pub fn start(&self, binary: &Path, more: &[(&str, &str)]) -> Result<Running, Failure> {
        self.run(Command::new(binary), more)
    }

    /// Starts a function by a command, which may have arguments and a folder, with these variables, besides those that
    /// all functions need.
    ///
    /// # Errors
    /// Returns an error if there is no such program.
    pub fn run(&self, mut command: Command, more: &[(&str, &str)]) -> Result<Running, Failure> {
        let aws = &self.aws;
        let child = command
            .env_clear()
            .envs([
                ("AWS_LAMBDA_RUNTIME_API", self.address.as_str()),
                ("AWS_LAMBDA_FUNCTION_NAME", "commerce-hooks"),
                ("AWS_LAMBDA_FUNCTION_VERSION", "1"),
                ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256"),
                ("AWS_REGION", "us-east-1"),
                ("AWS_DEFAULT_REGION", "us-east-1"),
                ("AWS_ACCESS_KEY_ID", "commerce-hooks"),
                ("AWS_SECRET_ACCESS_KEY", "commerce-hooks"),
                ("AWS_ENDPOINT_URL", aws),
                ("INBOX_URL", &format!("{aws}/000000000000/inbox")),
                ("DLQ_URL", &format!("{aws}/000000000000/dead-letters")),
                ("ENTITIES_TABLE", "entities"),
                ("CONNECTIONS_TABLE", "connections"),
                ("COORDINATION_TABLE", "coordination"),
                ("PROOF_KEYS_TABLE", "proof-keys"),
                ("SENDERS_TABLE", "senders"),
                ("SIGNING_KEYS", "signing-keys"),
                ("APP_CREDENTIALS", "app-credentials"),
                ("ADMIN_KEY", "admin-key"),
                ("CREDENTIALS_KEY", "credentials-key"),
                ("PUBLIC_BASE_URL", "https://hooks.example.com"),
                ("JOBS_URL", &format!("{aws}/000000000000/jobs")),
                ("CHANGE_EVENTS", "full"),
                ("CHANGES_BUS", "changes"),
                ("WEBHOOKS_OUT", "false"),
                ("DELIVERIES_URL", &format!("{aws}/000000000000/deliveries.fifo")),
                ("UNDELIVERED_URL", &format!("{aws}/000000000000/undelivered.fifo")),
            ])
            .envs(more.iter().copied())
            .envs(self.roots.iter().flat_map(tls::Roots::variables))
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
            .map_err(|error| format!("{}: {error}; it has to be built first", command.get_program().display()))?;
        Ok(Running(child))
    }

    async fn hear(&mut self) -> Result<Said, Failure> {
        match tokio::time::timeout(PATIENCE, self.said.recv()).await {
            Ok(Some(Said::Failed(why))) => Err(format!("the function cannot start: {why}").into()),
            Ok(Some(said)) => Ok(said),
            _ => Err("the function says nothing".into()),
        }
    }

    /// Waits until the function asks for an event, and returns the time of that.
    ///
    /// # Errors
    /// Returns an error if the function does something else.
    pub async fn asked(&mut self) -> Result<Instant, Failure> {
        match self.hear().await? {
            Said::Next(at) => Ok(at),
            Said::Answered(..) | Said::Failed(_) => Err("an answer to nothing".into()),
        }
    }

    /// Gives an event to the function, and waits until it asks for the next. Returns the answer and its duration.
    ///
    /// # Errors
    /// Returns an error if the function fails.
    pub async fn request(&mut self, event: &str) -> Result<(Value, Duration), Failure> {
        let given = Instant::now();
        self.give.send(event.to_owned())?;
        let Said::Answered(at, status, body) = self.hear().await? else { return Err("no answer".into()) };
        if !status.is_success() {
            return Err(format!("the function failed: {}", String::from_utf8_lossy(&body)).into());
        }
        self.asked().await?;
        Ok((serde_json::from_slice(&body)?, at - given))
    }

    /// Returns the tracing header of the last call of an AWS operation.
    pub fn trace(&self, operation: &str) -> Option<String> {
        self.server.traces.lock().unwrap_or_else(PoisonError::into_inner).get(operation).cloned()
    }

    /// Returns the number of calls of each AWS operation since the last time.
    pub fn calls(&self) -> BTreeMap<String, u64> {
        std::mem::take(&mut *self.server.calls.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A running function.
pub struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    /// Returns the CPU time of all threads so far.
    ///
    /// # Errors
    /// Returns an error if the function no longer runs.
    pub fn cpu(&self) -> Result<Duration, Failure> {
        let mut nanos = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.0.id()))? {
            let text = fs::read_to_string(task?.path().join("schedstat"))?;
            nanos += text.split(' ').next().and_then(|first| first.parse::<u64>().ok()).unwrap_or(0);
        }
        Ok(Duration::from_nanos(nanos))
    }

    /// Returns the id of the process.
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// Returns the most memory that it has ever held, in MB.
    ///
    /// # Errors
    /// Returns an error if the function no longer runs.
    pub fn peak_mb(&self) -> Result<f64, Failure> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
        let kib: f64 = line.trim().trim_end_matches(" kB").trim().parse()?;
        Ok(kib / 1024.0)
    }
}
