//! The measurement of the release binaries. A small server, which acts as Lambda's Runtime API and as the AWS services,
//! drives each of them in one run, beside a function that does nothing and the same receiver in other languages. Linux
//! only, because it reads `/proc`.

mod page;
mod subject;

use std::{
    env, fs,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use commerce::change::Change;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::sync::Notify;
use tools::{
    events::{self, Event},
    runtime::{Answers, Failure, Lambda, taken},
    worst::{self, Measured},
};

use self::subject::{Start, Subject, Warm, done, ms, order, starts, warm, warm_behind_tls};

/// The extent of the measurement.
#[derive(clap::Args)]
pub struct Options {
    /// The folder of the release binaries.
    #[arg(long, default_value = "target/release")]
    binaries: PathBuf,
    /// The folder of the release binaries of an earlier release, to compare with.
    #[arg(long)]
    base: Option<PathBuf>,
    /// The folder of the receivers in other languages.
    #[arg(long, default_value = "tests/bench/peers")]
    peers: PathBuf,
    /// The Python that has what the receiver in Python needs.
    #[arg(long, default_value = ".local/peers/bin/python")]
    python: PathBuf,
    /// Node.
    #[arg(long, default_value = "/usr/bin/node")]
    node: PathBuf,
    /// The file to write the tables to.
    #[arg(long, default_value = "docs/benchmarks.md")]
    output: PathBuf,
    /// The number of cold starts.
    #[arg(long, default_value_t = 30)]
    starts: usize,
    /// The number of warm requests.
    #[arg(long, default_value_t = 1000)]
    requests: usize,
    /// The short form, for `make test`: it shows that everything can be measured, and measures little.
    #[arg(long)]
    short: bool,
}

impl Options {
    /// Returns a release binary: where a variable says, or in the folder.
    fn binary(&self, name: &str) -> Subject {
        let given = env::var_os(name.to_uppercase()).filter(|path| !path.is_empty());
        Subject::binary(name, given.map_or_else(|| self.binaries.join(name), PathBuf::from))
    }
}

/// The sizes of bodies that receivers are measured with: what they are called, in bytes, and the part of the requests.
const SIZES: [(&str, usize, usize); 5] =
    [("256 B", 256, 1), ("2 KB", 2_048, 1), ("16 KB", 16_384, 2), ("256 KB", 262_144, 10), ("4 MB", 4_194_304, 50)];
/// The longest body that a queue takes as it is, which is what the receivers in other languages send.
const LONGEST_PLAIN: usize = 262_144;
/// The batches that the processor is measured with: the size of a body, and the number of messages.
const BATCHES: [(&str, usize, &[usize]); 3] =
    [("2 KB", 2_048, &[1, 10, 100, 1_000]), ("20 KB", 20_480, &[1, 10, 100]), ("200 KB", 204_800, &[1, 10])];
/// The most bytes of a request in the short form.
const SHORT_BYTES: usize = 20_480;
/// The sizes of memory that a share of a core stands for: Lambda gives a whole one for 1,769 MB.
const MEMORY: [u32; 3] = [128, 256, 512];

/// The receivers' measurements for one size of a body.
struct OfSize {
    name: &'static str,
    bytes: usize,
    /// By receiver; `None` for one that cannot take it.
    warm: Vec<Option<Warm>>,
}

/// The processor's measurement for one batch.
struct OfBatch {
    size: &'static str,
    bytes: usize,
    messages: usize,
    is_one_entity: bool,
    warm: Warm,
}

/// The measurements of one function.
struct Row {
    name: String,
    sizes: Option<(f64, f64)>,
    start: Start,
    warm: Option<Warm>,
    /// Starts and warm requests whose calls of AWS go through TLS.
    behind_tls: Option<(Start, Warm)>,
}

/// All that was measured.
struct Report {
    rows: Vec<Row>,
    receivers: Vec<String>,
    by_size: Vec<OfSize>,
    /// By memory: the processor's share of a core, and the receivers; `None` where the machine allows no quota.
    by_memory: Option<Vec<(u32, Vec<Warm>)>>,
    batches: Vec<OfBatch>,
    units: Vec<(String, usize)>,
    chain: Chain,
    throughput: Throughput,
    worst: Vec<(&'static str, Measured)>,
}

/// Measures, prints the tables, and writes them.
pub async fn run(options: &Options) -> Result<(), Failure> {
    let most = if options.short { SHORT_BYTES } else { usize::MAX };
    let samples = events::load("woocommerce")?;
    let sample = samples.iter().find(|event| event.name.starts_with("018")).ok_or("no sample order")?.clone();
    let binary = |name: &str| options.binary(name);
    let based = |name: &str| {
        options.base.as_ref().map(|base| Subject::binary(format!("{name}, {}", base.display()), base.join(name)))
    };
    let peers = Subject::peers(&options.peers, &options.python, &options.node);

    let mut recorded = sample.clone();
    // The stub's signing key is the sample key as a bare string; secrets depend on the key's bytes only.
    recorded.sign(&events::sample_ring());
    let (request, plain) = (recorded.request.to_string(), signed_plainly(&recorded).to_string());
    let batch = batch(&sample, 10, 0, false)?;
    let mut subjects = vec![(binary("nothing"), Some(&request)), (binary("receiver"), Some(&request))];
    subjects.extend(based("receiver").map(|subject| (subject, Some(&request))));
    subjects.extend(peers.into_iter().map(|peer| (peer, Some(&plain))));
    subjects.push((binary("processor"), Some(&batch)));
    subjects.extend(based("processor").map(|subject| (subject, Some(&batch))));
    subjects.extend([(binary("publisher"), None), (binary("sender"), None), (binary("registrar"), None)]);
    let mut rows = Vec::new();
    for (subject, event) in &subjects {
        let start = starts(subject, event.map(String::as_str), options.starts, false).await?;
        let (warm, behind_tls) = match event {
            Some(event) => {
                let start = starts(subject, Some(event), options.starts, true).await?;
                let behind_tls = (start, warm_behind_tls(subject, event, options.requests).await?);
                (Some(warm(subject, event, options.requests, None).await?), Some(behind_tls))
            }
            None => (None, None),
        };
        rows.push(Row { name: subject.name.clone(), sizes: subject.sizes()?, start, warm, behind_tls });
    }

    let is_receiver = |subject: &Subject| {
        !["processor", "publisher", "sender", "registrar"].iter().any(|one| subject.name.starts_with(one))
    };
    let receivers: Vec<Subject> = subjects.into_iter().map(|(subject, _)| subject).filter(is_receiver).collect();
    let mut by_size = Vec::new();
    for (name, bytes, part) in SIZES.into_iter().filter(|(_, bytes, _)| *bytes <= most) {
        let mut measured = Vec::new();
        for subject in &receivers {
            let is_plain = ["python", "node"].contains(&subject.name.as_str());
            if is_plain && bytes > LONGEST_PLAIN {
                measured.push(None);
                continue;
            }
            let event = sized(&sample, bytes, is_plain).to_string();
            measured.push(Some(warm(subject, &event, options.requests.div_ceil(part), None).await?));
        }
        by_size.push(OfSize { name, bytes, warm: measured });
    }
    let by_memory = by_memory(&sample, &receivers, options).await;

    let processor = binary("processor");
    let mut batches = Vec::new();
    for (size, bytes, counts) in BATCHES {
        for &messages in counts.iter().filter(|&&messages| messages * bytes <= most) {
            let kinds: &[bool] = if messages == 10 { &[false, true] } else { &[false] };
            for &is_one_entity in kinds {
                let event = self::batch(&sample, messages, bytes, is_one_entity)?;
                let requests = (options.requests * 2_048 / bytes / messages).clamp(3, options.requests);
                let warm = warm(&processor, &event, requests, None).await?;
                batches.push(OfBatch { size, bytes, messages, is_one_entity, warm });
            }
        }
    }
    let mut worst_of_all = Vec::new();
    for case in worst::cases()?.into_iter().filter(|_| !options.short) {
        worst_of_all.push((case.name, worst::run(processor.program(), &case).await?));
    }
    let receivers = receivers.into_iter().map(|subject| subject.name).collect();
    let chain = chain(&recorded, options).await?;
    let throughput = throughput(&sample, options).await?;
    let report = Report {
        rows,
        receivers,
        by_size,
        by_memory,
        batches,
        units: write_units(&samples)?,
        chain,
        throughput,
        worst: worst_of_all,
    };
    let page = page::page(&report, options)?;
    let before = fs::read_to_string(&options.output).unwrap_or_default();
    let by_hand = before.split_once(page::MEASURED).map_or("# Benchmarks\n\n", |(by_hand, _)| by_hand);
    fs::write(&options.output, format!("{by_hand}{}{page}", page::MEASURED))?;
    println!("{page}\nwritten to {}", options.output.display());
    Ok(())
}

/// Measures the receivers with the share of a core that each size of memory stands for.
async fn by_memory(sample: &Event, receivers: &[Subject], options: &Options) -> Option<Vec<(u32, Vec<Warm>)>> {
    let mut measured = Vec::new();
    for memory in MEMORY {
        let mut row = Vec::new();
        for subject in receivers {
            let is_plain = ["python", "node"].contains(&subject.name.as_str());
            let event = sized(sample, 2_048, is_plain).to_string();
            let share = f64::from(memory) / 1_769.0;
            row.push(warm(subject, &event, options.requests.div_ceil(4), Some(share)).await.ok()?);
        }
        measured.push((memory, row));
    }
    Some(measured)
}

/// Returns a delivery whose body has about so many bytes, signed with the key that its webhook has, or plainly with the
/// one key of the receivers in other languages.
fn sized(sample: &Event, bytes: usize, is_plain: bool) -> Value {
    let mut event = sample.clone();
    event.request["body"] = order(13, bytes).into();
    if is_plain {
        return signed_plainly(&event);
    }
    event.sign(&events::sample_ring());
    event.request
}

/// Returns a delivery signed with the sample key itself.
fn signed_plainly(event: &Event) -> Value {
    let mut request = event.request.clone();
    let code = Hmac::<Sha256>::new_from_slice(events::SAMPLE_KEY.as_bytes()).map(|mut mac| {
        mac.update(event.body().as_bytes());
        STANDARD.encode(mac.finalize().into_bytes())
    });
    request["headers"]["x-wc-webhook-signature"] = code.unwrap_or_default().into();
    request
}

/// Returns a batch of orders: the recorded one with other ids, or made ones of about so many bytes.
fn batch(sample: &Event, messages: usize, bytes: usize, is_one_entity: bool) -> Result<String, Failure> {
    let ring = events::sample_ring();
    let mut records = Vec::with_capacity(messages);
    for n in 0..messages {
        let mut event = sample.clone();
        let id = if is_one_entity { 13 } else { 13 + n };
        event.request["body"] = match bytes {
            0 => sample.body().replacen(r#"{"id":13,"#, &format!(r#"{{"id":{id},"#), 1).into(),
            bytes => order(id, bytes).into(),
        };
        event.sign(&ring);
        let mut record = event.sqs(&ring).ok_or("no message")?["Records"][0].take();
        record["messageId"] = format!("{}-{n}", record["messageId"]).into();
        records.push(record);
    }
    Ok(json!({ "Records": records }).to_string())
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
        let running = options.binary(name).start(&function)?;
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

/// The deliveries that a receiver and a processor bring through together.
struct Throughput {
    /// The deliveries in a second.
    rate: f64,
    /// The AWS calls of one delivery, both functions' together.
    calls: f64,
    /// The messages of a batch, on average.
    batch: f64,
}

/// The most messages of a batch.
const BATCH: usize = 10;

/// Gives deliveries of 2 KB to the receiver one after the other, and what it queues meanwhile to the processor, in batches.
async fn throughput(sample: &Event, options: &Options) -> Result<Throughput, Failure> {
    let count = options.requests.max(BATCH);
    let ring = events::sample_ring();
    let deliveries: Vec<String> = (0..count)
        .map(|n| {
            let mut event = sample.clone();
            event.request["body"] = order(1_000 + n, 2_048).into();
            event.sign(&ring);
            event.request.to_string()
        })
        .collect();
    let queue = Arc::new((Mutex::new(Vec::<Value>::new()), Notify::new()));
    let answers: Answers = {
        let queue = Arc::clone(&queue);
        Arc::new(move |operation: &str, request: &Value| {
            if operation == "SendMessage" {
                queue.0.lock().unwrap_or_else(PoisonError::into_inner).push(request["MessageBody"].clone());
                queue.1.notify_one();
            }
            taken(operation, request)
        })
    };
    let (mut first, mut second) = (Lambda::new(Arc::clone(&answers)).await?, Lambda::new(answers).await?);
    let (_receiver, _processor) =
        (options.binary("receiver").start(&first)?, options.binary("processor").start(&second)?);
    first.asked().await?;
    second.asked().await?;
    let begun = Instant::now();
    let receive = async {
        for delivery in &deliveries {
            done(&mut first, delivery).await?;
        }
        Ok::<_, Failure>(())
    };
    let process = async {
        let (mut processed, mut batches) = (0, 0_usize);
        while processed < count {
            let bodies: Vec<Value> = {
                let mut queued = queue.0.lock().unwrap_or_else(PoisonError::into_inner);
                let most = queued.len().min(BATCH);
                queued.drain(..most).collect()
            };
            if bodies.is_empty() {
                queue.1.notified().await;
                continue;
            }
            let records: Vec<Value> = (processed..)
                .zip(&bodies)
                .map(|(n, body)| {
                    json!({
                        "messageId": format!("m{n}"), "receiptHandle": "r", "body": body,
                        "attributes": { "ApproximateReceiveCount": "1" }, "eventSource": "aws:sqs",
                    })
                })
                .collect();
            done(&mut second, &json!({ "Records": records }).to_string()).await?;
            processed += bodies.len();
            batches += 1;
        }
        Ok::<_, Failure>(batches)
    };
    let ((), batches) = tokio::try_join!(receive, process)?;
    let took = begun.elapsed();
    let calls: u64 = [first.calls(), second.calls()].iter().flat_map(|calls| calls.values()).sum();
    #[expect(clippy::cast_precision_loss, reason = "some thousands")]
    let (count, calls, batches) = (count as f64, calls as f64, batches as f64);
    Ok(Throughput { rate: count / took.as_secs_f64(), calls: calls / count, batch: count / batches })
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
        let writer = Writer { by, origin: Origin::Webhook, trace: None, received: None, now: cloud::now() };
        let none = serde_json::Map::new();
        let projection = Projection::new(DeletePolicy::Mark, &none);
        let item = projection.item(&key, &State::of(&change), None, writer)?;
        units.push((sample.name.clone(), item.size()));
    }
    Ok(units)
}
