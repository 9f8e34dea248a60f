//! One run: a kind of trouble, a seed, and a number of deliveries, driven through the release binaries until all is quiet
//! again.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};
use tools::events::SAMPLE_KEY;

use crate::{
    cloud::{Cloud, encrypted},
    lambda::{Ended, Environment, Function},
    net::{Answer, Fate, Request, Server},
    oracle::{Facts, Verdict, judge, order_of},
    script::{Dice, Fault, Kind, Script},
    store::{Delivery, KEY, PERSON, Shops, connection},
};

/// The number of shops, so that no shop's API is called more often than its budget allows.
const SHOPS: usize = 60;
const RECEIVERS: usize = 2;
const PROCESSORS: usize = 2;
/// Deliveries that wait to be sent, from which one is taken at random.
const WINDOW: usize = 30;
/// The most messages that may wait before the shops wait, too, so that trouble strikes processors as well.
const BACKLOG: usize = 400;
/// The longest time that the trouble goes on when all has been sent.
const AFTER: Duration = Duration::from_secs(40);
/// The longest time until all is quiet when the trouble is over.
const QUIET: Duration = Duration::from_secs(90);
const MOMENT: Duration = Duration::from_millis(5);
/// The records that the publisher gets at once.
const WRITES: usize = 100;
const AWS_SECRET: &str = "an-aws-secret-key-that-is-in-no-output";

/// The release binaries, and the library that moves clocks.
#[derive(Clone)]
pub struct Binaries {
    /// The folder, or the paths by name.
    pub path: BTreeMap<&'static str, PathBuf>,
    /// The library that moves the clock of a process.
    pub skew: PathBuf,
}

/// A run that is to be made.
#[derive(Clone)]
pub struct Plan {
    /// The kind of trouble.
    pub kind: Kind,
    /// The seed.
    pub seed: u64,
    /// The number of deliveries.
    pub deliveries: u64,
    /// The most strikes.
    pub limit: u64,
}

/// What came of a run.
pub struct Ran {
    /// The number of strikes.
    pub strikes: u64,
    /// Deliveries that the shops never sent.
    pub unsent: u64,
    /// Accepted deliveries.
    pub accepted: usize,
    /// Attempts beyond the first: of shops, and of the queue.
    pub retried: u64,
    /// Dead letters that were brought back.
    pub redriven: usize,
    /// Starts of environments.
    pub starts: u64,
    /// The time from the end of the trouble until all was quiet.
    pub recovery: Duration,
    /// The judgement.
    pub verdict: Verdict,
}

#[derive(Default)]
struct Heard {
    ends: BTreeMap<String, Vec<String>>,
    leaks: Vec<String>,
}

struct Pending {
    waiting: Vec<Delivery>,
    made: u64,
    sending: usize,
    dice: Dice,
}

struct World {
    plan: Plan,
    cloud: Arc<Cloud>,
    shops: Mutex<Shops>,
    pending: Mutex<Pending>,
    accepted: Mutex<Vec<(String, String)>>,
    answers: Mutex<Vec<String>>,
    heard: Arc<Mutex<Heard>>,
    again: AtomicU64,
    unsent: AtomicU64,
    starts: AtomicU64,
    over: AtomicBool,
    number: AtomicUsize,
}

fn now_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// Makes a run, and judges it.
pub fn run(plan: &Plan, binaries: &Binaries) -> Ran {
    let kind = plan.kind;
    let script = Arc::new(Script::new(kind, plan.seed, plan.limit));
    let cloud = Cloud::new(Arc::clone(&script), Dice::new(plan.seed, "queue"), kind.doubles, kind.delays);
    let shops = Shops::new(SHOPS, i64::try_from(now_ms() / 1000).unwrap());
    let secrets: Vec<String> =
        shops.secrets().cloned().chain([SAMPLE_KEY, KEY.1, PERSON, AWS_SECRET].map(str::to_owned)).collect();
    let world = Arc::new(World {
        plan: plan.clone(),
        cloud: Arc::clone(&cloud),
        shops: Mutex::new(shops),
        pending: Mutex::new(Pending {
            waiting: Vec::new(),
            made: 0,
            sending: 0,
            dice: Dice::new(plan.seed, "deliveries"),
        }),
        accepted: Mutex::default(),
        answers: Mutex::default(),
        heard: Arc::default(),
        again: AtomicU64::new(0),
        unsent: AtomicU64::new(0),
        starts: AtomicU64::new(0),
        over: AtomicBool::new(false),
        number: AtomicUsize::new(0),
    });
    let platform = {
        let world = Arc::clone(&world);
        Server::start(move |request| world.platform(&request))
    };
    for shop in 0..SHOPS {
        let context = json!({ "platform": "woocommerce", "connection": connection(shop), "purpose": "credentials" });
        let plain = json!({ "consumer_key": KEY.0, "consumer_secret": KEY.1 }).to_string();
        cloud.seed(
            "connections",
            json!({
                "pk": { "S": format!("woocommerce#{}", connection(shop)) }, "sk": { "S": "connection" },
                "status": { "S": "active" }, "generation": { "N": "1" }, "revision": { "N": "1" },
                "site": { "S": format!("http://127.0.0.1:{}/{shop}", platform.port) },
                "credentials": { "S": encrypted(&context, &plain) },
            }),
        );
    }
    let aws = cloud.serve();
    let secrets = Arc::new(secrets);
    let environment = |name: &'static str, seconds: f64| world.environment(name, seconds, binaries, aws.port, &secrets);
    let mut threads = Vec::new();
    for _ in 0..RECEIVERS {
        let (world, environment) = (Arc::clone(&world), environment("receiver", 10.0));
        threads.push(thread::spawn(move || world.deliver(environment)));
    }
    for _ in 0..PROCESSORS {
        let (world, environment) = (Arc::clone(&world), environment("processor", kind.seconds));
        threads.push(thread::spawn(move || world.process(environment)));
    }
    let registrar = environment("registrar", 60.0);
    threads.push({
        let world = Arc::clone(&world);
        thread::spawn(move || world.sync(registrar))
    });
    let publisher = environment("publisher", 60.0);
    threads.push({
        let world = Arc::clone(&world);
        thread::spawn(move || world.publish(publisher))
    });
    world.wait_for_the_end_of_traffic();
    script.heal();
    if kind.unsent > 0 {
        world.begin_syncs();
    }
    let healed = Instant::now();
    let mut redriven = 0;
    while healed.elapsed() < QUIET && !world.is_sent() {
        cloud.wait(MOMENT);
    }
    while healed.elapsed() < QUIET {
        let (left, told) = {
            let state = cloud.state();
            (state.left(), state.told == state.stream.len())
        };
        if left == 0 && told {
            // What was put aside in the trouble is brought back once. What is put aside without trouble stays.
            if redriven > 0 {
                break;
            }
            redriven = cloud.redrive();
            if redriven == 0 {
                break;
            }
        }
        cloud.wait(MOMENT);
    }
    let recovery = healed.elapsed();
    world.over.store(true, Ordering::SeqCst);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let facts = world.facts();
    let messages = facts.messages.values();
    let came_back: u64 = messages.map(|message| u64::from(message.failed + message.gone)).sum();
    Ran {
        strikes: script.strikes(),
        unsent: world.unsent.load(Ordering::SeqCst),
        accepted: facts.accepted.len(),
        retried: world.again.load(Ordering::SeqCst) + came_back,
        redriven,
        starts: world.starts.load(Ordering::SeqCst),
        recovery,
        verdict: judge(&facts),
    }
}

/// Hands messages to a function, as the event source mapping does. Returns for each whether it is done, or `None` where the
/// function said nothing.
fn hand_over(environment: &mut Environment, batch: &[(String, Arc<str>, u32)]) -> Vec<Option<bool>> {
    let record = |(id, body, receives): &(String, Arc<str>, u32)| {
        json!({
            "messageId": id, "receiptHandle": id, "body": &**body,
            "attributes": { "ApproximateReceiveCount": receives.to_string() }, "eventSource": "aws:sqs",
        })
    };
    let records: Vec<_> = batch.iter().map(record).collect();
    let ended = environment.invoke(&json!({ "Records": records }).to_string());
    let done = |id: &str| match &ended {
        Ended::Answered(answer) => {
            let mut failures = answer["batchItemFailures"].as_array().into_iter().flatten();
            Some(!failures.any(|failure| failure["itemIdentifier"] == *id))
        }
        Ended::Failed => Some(false),
        Ended::Gone | Ended::NotStarted => None,
    };
    batch.iter().map(|(id, ..)| done(id)).collect()
}

impl World {
    fn environment(
        &self,
        name: &'static str,
        seconds: f64,
        binaries: &Binaries,
        port: u16,
        secrets: &Arc<Vec<String>>,
    ) -> Environment {
        let number = self.number.fetch_add(1, Ordering::SeqCst);
        let queue = |name: &str| format!("http://127.0.0.1:{port}/000000000000/{name}");
        let skew = self.plan.kind.skews[number % self.plan.kind.skews.len()];
        let mut variables: BTreeMap<String, String> = [
            ("AWS_LAMBDA_FUNCTION_NAME", "commerce-hooks"),
            ("AWS_LAMBDA_FUNCTION_VERSION", "1"),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256"),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", "commerce-hooks"),
            ("AWS_SECRET_ACCESS_KEY", AWS_SECRET),
            ("AWS_ENDPOINT_URL", &format!("http://127.0.0.1:{port}/{number}")),
            ("INBOX_URL", &queue("inbox")),
            ("DLQ_URL", &queue("dead-letters")),
            ("JOBS_URL", &queue("jobs")),
            ("ENTITIES_TABLE", "entities"),
            ("CONNECTIONS_TABLE", "connections"),
            ("COORDINATION_TABLE", "coordination"),
            ("PROOF_KEYS_TABLE", "proof-keys"),
            ("SENDERS_TABLE", "senders"),
            ("SIGNING_KEYS", "signing-keys"),
            ("APP_CREDENTIALS", "app-credentials"),
            ("CREDENTIALS_KEY", "credentials-key"),
            ("ADMIN_KEY", "admin-key"),
            ("PUBLIC_BASE_URL", "https://hooks.example.com"),
            ("WEBHOOKS_OUT", "false"),
            ("CHANGE_EVENTS", "full"),
            ("CHANGES_BUS", "changes"),
            ("ALLOW_LOOPBACK_PLATFORMS", "true"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        if skew != 0 {
            variables.insert("LD_PRELOAD".to_owned(), binaries.skew.display().to_string());
            variables.insert("SKEW_SECONDS".to_owned(), skew.to_string());
        }
        let (heard, secrets) = (Arc::clone(&self.heard), Arc::clone(secrets));
        let hear = move |line: &str| {
            let mut heard = heard.lock().unwrap();
            if let Some(place) = secrets.iter().position(|secret| line.contains(secret.as_str())) {
                heard.leaks.push(format!("{name} printed secret {place}"));
            }
            if line.contains(r#""event":"batch""#)
                && let Ok(line) = serde_json::from_str::<Value>(line)
            {
                for end in line["ends"].as_array().into_iter().flatten() {
                    let text = |name: &str| end[name].as_str().unwrap_or_default().to_owned();
                    heard.ends.entry(text("message_id")).or_default().push(text("end"));
                }
            }
        };
        let binary = binaries.path[name].clone();
        let environment = Environment::new(Function { binary, variables, seconds, hear: Arc::new(hear) });
        let process = (Arc::clone(&environment.process), Arc::clone(&environment.doomed));
        self.cloud.environments.lock().unwrap().push(process);
        environment
    }

    fn platform(&self, request: &Request) -> Fate {
        let is_list = request.target.split('?').next().is_some_and(|path| path.ends_with("/orders"));
        let fault = self.cloud.script.next(if is_list { "list" } else { "platform" });
        match fault {
            Some(Fault::Error) => return Fate::Answer(Answer::json(500, "{}".to_owned())),
            Some(Fault::Throttle) => {
                let mut answer = Answer::json(429, "{}".to_owned());
                answer.headers.push(("retry-after", "1".to_owned()));
                return Fate::Answer(answer);
            }
            Some(Fault::Silence) => return Fate::Silence,
            Some(Fault::DropBefore) => return Fate::Drop,
            Some(Fault::Page(status)) => {
                let headers = vec![("content-type", "text/html".to_owned())];
                let body = b"<html><body>Back soon</body></html>".to_vec();
                return Fate::Answer(Answer { status, headers, body });
            }
            _ => {}
        }
        let answer = self.shops.lock().unwrap().answer(request, fault);
        match fault {
            Some(Fault::DropAfter) => Fate::Drop,
            Some(Fault::Cut) => Fate::Cut(answer),
            _ => Fate::Answer(answer),
        }
    }

    /// Takes a delivery to send, if one is due.
    fn take(&self) -> Option<(Delivery, bool)> {
        let mut pending = self.pending.lock().unwrap();
        while pending.made < self.plan.deliveries && pending.waiting.len() < WINDOW {
            let mut shops = self.shops.lock().unwrap();
            let delivery = shops.change(&mut pending.dice, self.plan.kind.orders, self.plan.kind.asked);
            pending.made += 1;
            if pending.dice.in_thousand(self.plan.kind.unsent) {
                self.unsent.fetch_add(1, Ordering::SeqCst);
                continue;
            }
            pending.waiting.push(delivery);
        }
        if pending.waiting.is_empty() {
            return None;
        }
        let count = u64::try_from(pending.waiting.len()).unwrap();
        let place = usize::try_from(pending.dice.below(count)).unwrap();
        let forged = pending.dice.in_thousand(self.plan.kind.forged);
        pending.sending += 1;
        Some((pending.waiting.swap_remove(place), forged))
    }

    fn is_sent(&self) -> bool {
        let pending = self.pending.lock().unwrap();
        pending.made == self.plan.deliveries && pending.waiting.is_empty() && pending.sending == 0
    }

    fn wait_for_the_end_of_traffic(&self) {
        let mut sent: Option<Instant> = None;
        let few = usize::try_from(self.plan.deliveries / 20).unwrap();
        loop {
            if self.is_sent() {
                if sent.is_none() && self.plan.kind.unsent > 0 {
                    self.begin_syncs();
                }
                let since = *sent.get_or_insert_with(Instant::now);
                let (left, jobs) = {
                    let state = self.cloud.state();
                    (state.left(), state.jobs_left())
                };
                if jobs == 0 && left <= few || since.elapsed() > AFTER {
                    return;
                }
            }
            self.cloud.wait(MOMENT);
        }
    }

    /// Sends deliveries to a receiver, again and again until each is accepted.
    fn deliver(&self, mut environment: Environment) {
        let mut invocations: u64 = 0;
        while !self.over.load(Ordering::SeqCst) {
            if self.cloud.state().left() > BACKLOG {
                self.cloud.wait(MOMENT);
                continue;
            }
            let Some((mut delivery, forged)) = self.take() else {
                self.cloud.wait(MOMENT);
                continue;
            };
            if forged {
                let event = self.shops.lock().unwrap().gateway(&delivery, now_ms(), false);
                if let Ended::Answered(answer) = environment.invoke(&event.to_string())
                    && answer["statusCode"].as_u64().is_none_or(|status| status < 400)
                {
                    self.answers.lock().unwrap().push(format!("a forged {} was not refused", delivery.id));
                }
            }
            let event = self.shops.lock().unwrap().gateway(&delivery, now_ms(), true);
            let ended = environment.invoke(&event.to_string());
            let answer = if let Ended::Answered(answer) = ended { answer } else { Value::Null };
            match (answer["statusCode"].as_u64(), answer["headers"]["x-message-id"].as_str()) {
                (Some(200..=299), Some(message)) => {
                    self.accepted.lock().unwrap().push((delivery.id, message.to_owned()));
                }
                (Some(200..=299), None) => {
                    self.answers.lock().unwrap().push(format!("{} was answered without a message", delivery.id));
                }
                (status, _) => {
                    if status.is_some_and(|status| status < 500) {
                        let what = format!("{} was refused with {status:?}", delivery.id);
                        self.answers.lock().unwrap().push(what);
                    }
                    self.again.fetch_add(1, Ordering::SeqCst);
                    delivery.attempts += 1;
                    self.pending.lock().unwrap().waiting.push(delivery);
                }
            }
            self.pending.lock().unwrap().sending -= 1;
            invocations += 1;
            self.live(&mut environment, invocations);
        }
        self.starts.fetch_add(environment.starts.load(Ordering::SeqCst), Ordering::SeqCst);
    }

    /// Ends an environment when its life is over, as long as there is trouble.
    fn live(&self, environment: &mut Environment, invocations: u64) {
        let lives = self.plan.kind.lives;
        if lives > 0 && invocations.is_multiple_of(lives) && !self.cloud.script.is_healed() {
            environment.end();
        }
    }

    /// Hands batches of the queue to a processor, as the event source mapping does.
    fn process(&self, mut environment: Environment) {
        let mut invocations: u64 = 0;
        while !self.over.load(Ordering::SeqCst) {
            let batch = self.cloud.receive();
            if batch.is_empty() {
                self.cloud.wait(MOMENT);
                continue;
            }
            for ((id, ..), done) in batch.iter().zip(hand_over(&mut environment, &batch)) {
                self.cloud.finish(id, done);
            }
            invocations += 1;
            self.live(&mut environment, invocations);
        }
        self.starts.fetch_add(environment.starts.load(Ordering::SeqCst), Ordering::SeqCst);
    }

    /// Has the registrar list all orders of every shop, or go on with that, as the hourly check of a connection does. A list
    /// that was read to its end is not read again.
    fn begin_syncs(&self) {
        let mut state = self.cloud.state();
        for shop in 0..SHOPS {
            for job in ["sync", "poll"] {
                let job = json!({
                    "job": job, "platform": "woocommerce", "connection": connection(shop), "entity": "order",
                });
                self.cloud.send_job(&mut state, &job.to_string(), 0);
            }
        }
    }

    /// Hands jobs of the registrar's queue to the registrar, as the event source mapping does.
    fn sync(&self, mut environment: Environment) {
        let mut invocations: u64 = 0;
        while !self.over.load(Ordering::SeqCst) {
            let jobs = self.cloud.take_jobs();
            if jobs.is_empty() {
                self.cloud.wait(MOMENT);
                continue;
            }
            let batch: Vec<_> =
                (0..).zip(&jobs).map(|(n, body): (u32, _)| (n.to_string(), Arc::from(body.as_str()), 1)).collect();
            for (body, done) in jobs.iter().zip(hand_over(&mut environment, &batch)) {
                self.cloud.finish_job(body, done == Some(true));
            }
            invocations += 1;
            self.live(&mut environment, invocations);
        }
        self.starts.fetch_add(environment.starts.load(Ordering::SeqCst), Ordering::SeqCst);
    }

    /// Hands the stream of the table to the publisher, in its order.
    fn publish(&self, mut environment: Environment) {
        while !self.over.load(Ordering::SeqCst) {
            let (from, writes) = {
                let state = self.cloud.state();
                let to = state.stream.len().min(state.told + WRITES);
                (state.told, state.stream[state.told..to].to_vec())
            };
            if writes.is_empty() {
                self.cloud.wait(MOMENT);
                continue;
            }
            let records: Vec<_> = writes
                .iter()
                .enumerate()
                // The mapping's filter.
                .filter(|(_, write)| write.new.as_ref().is_none_or(|new| new.get("unchanged").is_none()))
                .map(|(place, write)| {
                    let mut images = json!({
                        "SequenceNumber": (from + place).to_string(), "ApproximateCreationDateTime": now_ms() / 1000,
                    });
                    for (name, image) in [("OldImage", &write.old), ("NewImage", &write.new)] {
                        if let Some(image) = image {
                            images[name] = image.clone();
                        }
                    }
                    json!({ "eventName": "MODIFY", "dynamodb": images })
                })
                .collect();
            let mut told = from + writes.len();
            if !records.is_empty() {
                let Ended::Answered(answer) = environment.invoke(&json!({ "Records": records }).to_string()) else {
                    continue;
                };
                let failed = answer["batchItemFailures"][0]["itemIdentifier"].as_str();
                told = failed.and_then(|place| place.parse().ok()).unwrap_or(told);
            }
            self.cloud.state().told = told;
        }
        self.starts.fetch_add(environment.starts.load(Ordering::SeqCst), Ordering::SeqCst);
    }

    fn facts(&self) -> Facts {
        let state = self.cloud.state();
        let heard = self.heard.lock().unwrap();
        let items = state.items().filter_map(|((pk, sk), item)| Some((order_of(pk, sk)?, item.clone())));
        Facts {
            accepted: self.accepted.lock().unwrap().clone(),
            messages: state.messages.clone(),
            moved: state.moved.clone(),
            ends: heard.ends.clone(),
            source: self.shops.lock().unwrap().orders.clone(),
            items: items.collect(),
            stream: state.stream.clone(),
            told: state.told,
            events: state.events.clone(),
            letters: state.letters.len(),
            answers: self.answers.lock().unwrap().clone(),
            leaks: heard.leaks.clone(),
        }
    }
}
