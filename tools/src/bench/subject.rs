//! The functions that are measured, and how each is measured.

use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use flate2::{Compression, write::DeflateEncoder};
use serde_json::{Value, json};
use tools::runtime::{Failure, Lambda, Running, taken};

/// A program that is measured.
pub struct Subject {
    /// Its name in the tables.
    pub name: String,
    program: PathBuf,
    arguments: Vec<String>,
    folder: Option<PathBuf>,
    more: Vec<(&'static str, String)>,
    /// `true` for a binary of its own, whose size says something.
    is_binary: bool,
}

impl Subject {
    /// Returns the subject that a release binary is.
    pub fn binary(name: impl Into<String>, program: PathBuf) -> Self {
        Self { name: name.into(), program, arguments: Vec::new(), folder: None, more: Vec::new(), is_binary: true }
    }

    /// Returns the receivers in other languages, as far as they are installed.
    pub fn peers(peers: &Path, python: &Path, node: &Path) -> Vec<Self> {
        let peer = |name: &str, program: &Path, arguments: &[&str]| Self {
            name: name.to_owned(),
            program: program.to_owned(),
            arguments: arguments.iter().map(|&one| one.to_owned()).collect(),
            folder: Some(peers.join(name)),
            more: vec![
                ("_HANDLER", "receiver.handler".to_owned()),
                ("LAMBDA_TASK_ROOT", peers.join(name).display().to_string()),
                ("POWERTOOLS_SERVICE_NAME", "receiver".to_owned()),
            ],
            is_binary: false,
        };
        let python = peer("python", python, &["-m", "awslambdaric", "receiver.handler"]);
        let node = peer("node", node, &["runtime.mjs"]);
        let installed = |subject: &Self| {
            let packages = subject.name != "node" || peers.join("node/node_modules").exists();
            subject.program.exists() && packages
        };
        [python, node].into_iter().filter(installed).collect()
    }

    /// Returns the program.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Starts it at a server.
    pub fn start(&self, lambda: &Lambda) -> Result<Running, Failure> {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments);
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        let more: Vec<(&str, &str)> = self.more.iter().map(|(name, value)| (*name, value.as_str())).collect();
        lambda.run(command, &more)
    }

    /// Returns the sizes of the binary and of its zip, in MB.
    pub fn sizes(&self) -> Result<Option<(f64, f64)>, Failure> {
        if !self.is_binary {
            return Ok(None);
        }
        let bytes = fs::read(&self.program)?;
        let mut packed = DeflateEncoder::new(Vec::new(), Compression::default());
        packed.write_all(&bytes)?;
        Ok(Some((mb(bytes.len()), mb(packed.finish()?.len()))))
    }
}

/// Returns bytes as MB.
#[expect(clippy::cast_precision_loss, reason = "some MB")]
pub fn mb(bytes: usize) -> f64 {
    bytes as f64 / 1e6
}

/// Returns a duration in milliseconds.
pub fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// Returns the value below which this part of the values lies, in percent.
pub fn percentile(values: &mut [f64], part: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get((values.len() * part / 100).min(values.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
}

/// Gives an event that must not fail, and returns the duration of its answer.
pub async fn done(lambda: &mut Lambda, event: &str) -> Result<Duration, Failure> {
    let (body, took) = lambda.request(event).await?;
    let http = body["statusCode"].as_u64().is_some_and(|status| status != 200);
    if http || body["batchItemFailures"].as_array().is_some_and(|failed| !failed.is_empty()) {
        return Err(format!("the function failed: {body}").into());
    }
    Ok(took)
}

/// The measurements of a start. Durations are medians, in milliseconds.
pub struct Start {
    /// The shortest, the middle and the longest time from the start of the program to its first question for an event.
    pub took: [f64; 3],
    /// The CPU time until then.
    pub cpu: f64,
    /// The time of the first request and its CPU time.
    pub first: Option<(f64, f64)>,
    /// The most memory that it held until then, in MB.
    pub peak_mb: f64,
}

/// Returns a server whose AWS services are behind TLS, or in the open.
async fn server(is_behind_tls: bool) -> Result<Lambda, Failure> {
    if is_behind_tls { Lambda::with_tls(Arc::new(taken)).await } else { Lambda::new(Arc::new(taken)).await }
}

/// Starts a program again and again, and gives each time one event.
pub async fn starts(
    subject: &Subject,
    event: Option<&str>,
    rounds: usize,
    is_behind_tls: bool,
) -> Result<Start, Failure> {
    let (mut took, mut cpus, mut firsts, mut first_cpus, mut peak) = (vec![], vec![], vec![], vec![], 0.0_f64);
    for _ in 0..rounds.max(1) {
        // Each start has its own server, because a killed function may have left an open request at the one before.
        let mut lambda = server(is_behind_tls).await?;
        let spawned = Instant::now();
        let running = subject.start(&lambda)?;
        took.push(ms(lambda.asked().await? - spawned));
        let cpu = running.cpu()?;
        cpus.push(ms(cpu));
        if let Some(event) = event {
            firsts.push(ms(done(&mut lambda, event).await?));
            first_cpus.push(ms(running.cpu()? - cpu));
        }
        peak = peak.max(running.peak_mb()?);
    }
    let took = [0, 50, 100].map(|part| percentile(&mut took, part));
    let first = event.is_some().then(|| (percentile(&mut firsts, 50), percentile(&mut first_cpus, 50)));
    Ok(Start { took, cpu: percentile(&mut cpus, 50), first, peak_mb: peak })
}

/// The measurements of warm requests, in milliseconds.
pub struct Warm {
    /// The median.
    pub p50: f64,
    /// The time below which 99 of 100 lie.
    pub p99: f64,
    /// The CPU time of one.
    pub cpu: f64,
    /// The most memory that the program held, in MB.
    pub peak_mb: f64,
    /// The AWS calls of one request.
    pub calls: BTreeMap<String, f64>,
}

/// Gives an event to a warm program again and again. With a share of a core, it gets no more CPU than that.
pub async fn warm(subject: &Subject, event: &str, requests: usize, quota: Option<f64>) -> Result<Warm, Failure> {
    warm_at(server(false).await?, subject, event, requests, quota).await
}

/// Gives an event to a warm program again and again, whose AWS services are behind TLS.
pub async fn warm_behind_tls(subject: &Subject, event: &str, requests: usize) -> Result<Warm, Failure> {
    warm_at(server(true).await?, subject, event, requests, None).await
}

async fn warm_at(
    mut lambda: Lambda,
    subject: &Subject,
    event: &str,
    requests: usize,
    quota: Option<f64>,
) -> Result<Warm, Failure> {
    let running = subject.start(&lambda)?;
    lambda.asked().await?;
    for _ in 0..3 {
        done(&mut lambda, event).await?;
    }
    let _quota = quota.map(|share| Quota::new(running.id(), share)).transpose()?;
    lambda.calls();
    let before = running.cpu()?;
    let mut took = Vec::with_capacity(requests);
    for _ in 0..requests.max(1) {
        took.push(ms(done(&mut lambda, event).await?));
    }
    #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
    let count = took.len() as f64;
    let cpu = ms(running.cpu()? - before) / count;
    #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
    let calls = lambda.calls().into_iter().map(|(name, calls)| (name, calls as f64 / count)).collect();
    Ok(Warm { p50: percentile(&mut took, 50), p99: percentile(&mut took, 99), cpu, peak_mb: running.peak_mb()?, calls })
}

/// A control group whose process gets a share of a core, in the rhythm that Lambda gives it: 20 ms.
pub struct Quota(PathBuf);

/// The period of a quota, in microseconds.
const PERIOD: f64 = 20_000.0;

impl Quota {
    /// Puts a process into a group of its own.
    ///
    /// # Errors
    /// The machine allows no such groups.
    pub fn new(process: u32, share: f64) -> Result<Self, Failure> {
        let group = Path::new("/sys/fs/cgroup/cpu").join(format!("commerce-hooks-bench-{process}"));
        fs::create_dir(&group)?;
        let quota = Self(group);
        fs::write(quota.0.join("cpu.cfs_period_us"), format!("{PERIOD:.0}"))?;
        fs::write(quota.0.join("cpu.cfs_quota_us"), format!("{:.0}", PERIOD * share))?;
        for thread in fs::read_dir(format!("/proc/{process}/task"))? {
            fs::write(quota.0.join("tasks"), thread?.file_name().as_encoded_bytes())?;
        }
        Ok(quota)
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        // The process leaves the group before the group can go.
        if let Ok(tasks) = fs::read_to_string(self.0.join("tasks")) {
            for thread in tasks.lines() {
                let _ = fs::write("/sys/fs/cgroup/cpu/tasks", thread);
            }
        }
        let _ = fs::remove_dir(&self.0);
    }
}

/// Returns an order of about so many bytes, as WooCommerce sends it: lines with what a shop has on them.
pub fn order(id: usize, bytes: usize) -> String {
    let mut order = json!({
        "id": id, "status": "processing", "currency": "EUR", "total": "44.98",
        "date_modified_gmt": "2026-11-21T01:48:40", "line_items": [],
    });
    let line = |n: usize| {
        json!({
            "id": n, "name": format!("A thing of everyday life, number {n}"), "product_id": n, "quantity": 1 + n % 3,
            "subtotal": "10.00", "subtotal_tax": "1.90", "total": "10.00", "total_tax": "1.90", "sku": format!("sku-{n}"),
            "price": 10, "meta_data": [{ "id": n, "key": "_colour", "value": format!("shade {}", n * 7919 % 1000) }],
        })
    };
    let first = order.to_string().len();
    let lines = bytes.saturating_sub(first) / (line(1000).to_string().len() + 1);
    order["line_items"] = (0..lines).map(line).collect::<Vec<Value>>().into();
    let rest = bytes.saturating_sub(order.to_string().len());
    order["customer_note"] = "n".repeat(rest.saturating_sub(19)).into();
    order.to_string()
}
