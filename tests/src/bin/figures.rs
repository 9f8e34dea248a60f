//! The figures of sweeps over many connections. The real registrar runs on tables and queues in memory, with a store
//! for each connection that answers as a real one would. Prints the counts and times, and asserts only that each
//! connection was checked exactly once.
//!
//!     make figures

#![allow(clippy::expect_used, reason = "a tool for whoever changes this")]

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use cloud::{connections::Connections, memory::MemoryPlatform};
use commerce::{
    connection::Connection,
    health::{Health, WebhookRecord},
    http_call::ApiResponse,
    job::Job,
    key::Generation,
    platform::mapping::declared_scopes,
    platforms::woocommerce::PLATFORM,
    request::WebhookPath,
};
use http::HeaderMap;
use serde_json::json;
use tests::world::{BASE, Outside, World};

/// The numbers of connections that are swept over.
const SIZES: [usize; 3] = [1_000, 10_000, 100_000];

#[expect(clippy::cast_precision_loss, reason = "at most some millions")]
fn real(count: usize) -> f64 {
    count as f64
}

/// Returns the number in a line of `/proc/self/status`, in MiB.
fn memory(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or_default() / 1024
}

fn path(number: usize) -> WebhookPath {
    WebhookPath::parse(PLATFORM.name, &format!("shop{number}.example.com"), None).expect("an id")
}

async fn connect(world: &World, number: usize) {
    let path = path(number);
    let key = path.key.clone();
    let credentials = Some(format!("{key}|{}", json!({ "consumer_key": "ck_1", "consumer_secret": "cs_1" })));
    let site = format!("https://{}", key.connection);
    let connection = Connection {
        revision: 1,
        credentials,
        signed_with: Some(tools::events::SAMPLE_KEY_ID.to_owned()),
        ..Connection::new(&site)
    };
    assert!(world.tables.save(&key, &connection).await.is_ok_and(|saved| saved));
    for (id, scope) in (1_u64..).zip(declared_scopes(&PLATFORM)) {
        let record = WebhookRecord {
            scope: scope.to_owned(),
            id: id.into(),
            url: format!("{BASE}{path}"),
            key_id: tools::events::SAMPLE_KEY_ID.to_owned(),
            fingerprint: None,
            generation: Generation::FIRST,
            health: Health::new(world.clock.now()),
        };
        assert!(world.tables.save_webhook(&key, &record).await.is_ok());
    }
}

/// The counts, the time and the memory of one sweep over all connections.
struct Swept {
    pages: usize,
    checks: usize,
    listed: usize,
    seconds: f64,
    /// The most memory that the process has held so far, in MiB.
    memory: u64,
}

/// Sweeps over so many connections, twice; the second sweep finds every list where it was.
async fn sweeps(count: usize) -> Vec<Swept> {
    let mut world = World::new();
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    world.outside = Outside::Scripted(MemoryPlatform::new(move |request| {
        counted.fetch_add(1, Ordering::SeqCst);
        let host = request.url.host_str().unwrap_or_default();
        let hooks = (1_u64..).zip(declared_scopes(&PLATFORM)).map(|(id, topic)| {
            json!({ "id": id, "status": "active", "topic": topic, "delivery_url": format!("{BASE}/hooks/woocommerce/{host}") })
        });
        let body = serde_json::Value::Array(hooks.collect()).to_string().into();
        Ok(ApiResponse { status: 200, headers: HeaderMap::new(), body })
    }));
    for number in 0..count {
        connect(&world, number).await;
    }
    let registrar = world.registrar();
    let mut swept = Vec::new();
    for _ in 0..2 {
        let (mut pages, mut checked) = (0, BTreeSet::new());
        calls.store(0, Ordering::SeqCst);
        let began = Instant::now();
        registrar.sweep().await.expect("the sweep begins");
        while let Some((job, _)) = world.queues.next_job() {
            match &job {
                Job::Sweep { .. } => pages += 1,
                Job::Check { key, .. } => assert!(checked.insert(key.clone()), "{key} was looked at twice"),
                Job::Rotate => {}
                Job::Poll { .. }
                | Job::Sync { .. }
                | Job::VerifyAll { .. }
                | Job::Verify { .. }
                | Job::Redact { .. } => continue,
            }
            registrar.run(&job.text()).await.expect("no job fails");
        }
        let seconds = began.elapsed().as_secs_f64();
        assert_eq!(checked.len(), count);
        let listed = calls.load(Ordering::SeqCst);
        swept.push(Swept { pages, checks: checked.len(), listed, seconds, memory: memory("VmHWM:") });
        world.clock.pass_seconds(3600);
    }
    swept
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let given: Vec<usize> = std::env::args().skip(1).filter_map(|count| count.parse().ok()).collect();
    let counts = if given.is_empty() { SIZES.to_vec() } else { given };
    let subscriptions = declared_scopes(&PLATFORM).count();
    println!("# Sweeps over many connections\n");
    println!(
        "The registrar as it is, on tables and queues in memory, with {subscriptions} subscriptions for each connection. What a check"
    );
    println!(
        "costs at AWS and at a platform is on top; this says that a sweep pages, fans out, and looks at each connection once."
    );
    println!("`make figures` measures it again.\n");
    println!(
        "| connections | sweep | pages of the list | checks | calls to list hooks | seconds | checks a second | memory, MiB |"
    );
    println!("|---:|---:|---:|---:|---:|---:|---:|---:|");
    let mut seconds = Vec::new();
    for count in counts {
        let swept = sweeps(count).await;
        for (number, Swept { pages, checks, listed, seconds, memory }) in (1..).zip(&swept) {
            let rate = real(*checks) / seconds;
            println!("| {count} | {number} | {pages} | {checks} | {listed} | {seconds:.2} | {rate:.0} | {memory} |");
        }
        let fastest = swept.iter().map(|swept| swept.seconds).fold(f64::INFINITY, f64::min);
        seconds.push((real(count), fastest));
    }
    if let [(few, begin), .., (many, end)] = seconds[..] {
        let exponent = (end / begin).ln() / (many / few).ln();
        println!(
            "\nThe time grows with the number of connections to the power of {exponent:.2}. The table in memory goes through all"
        );
        println!("connections for each page, which has its part in that; DynamoDB has an index.\n");
    }
    let built = if cfg!(debug_assertions) { "for debugging" } else { "for release" };
    println!("The memory is the most that the process has held so far, tables and queues included. Built {built}.");
}
