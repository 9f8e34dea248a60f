//! A small AWS in memory, behind the proxy that fails on the script: the calls of SQS, DynamoDB, Secrets Manager, KMS and
//! EventBridge that the functions make, with what AWS promises and no more. It keeps what the oracle looks at.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, OnceLock, Weak,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::{
    lambda::Process,
    net::{Answer, Fate, Request, Server},
    script::{Dice, Fault, Script},
};

/// How much faster the queue's time goes, so that a pause of minutes takes seconds.
const SPEED: u64 = 40;
/// The queue's visibility timeout, six times the processor's time, in milliseconds.
const VISIBILITY_MS: u64 = 120_000;
/// The longest delay of a job, in seconds, that the registrar has also written down, so that it goes at its own speed.
const WRITTEN_SECONDS: u64 = 60;
/// The delay of a job from which on it belongs to another day, in seconds.
const ANOTHER_DAY_SECONDS: u64 = 900;
/// The number of times that the queue hands a message over before it moves it to the dead letters.
const MOST_RECEIVES: u32 = 20;
/// The most messages of a batch.
const BATCH: usize = 10;
/// The most keys that the queue's dice hold a message back, in milliseconds.
const LONGEST_DELAY_MS: u64 = 60_000;

/// A message of the inbox.
#[derive(Clone, Debug, Default)]
pub struct Message {
    /// Its body.
    pub body: Arc<str>,
    /// The id of the delivery that it holds.
    pub delivery: String,
    /// How often it was handed over.
    pub receives: u32,
    /// How often an answer said that it is done.
    pub done: u32,
    /// How often nobody said what became of it.
    pub gone: u32,
    /// How often it came back.
    pub failed: u32,
    /// `true` when the queue no longer has it.
    pub deleted: bool,
    /// The number of invocations that have it.
    pub held: u32,
    /// Seconds until it comes back, as the processor has asked.
    pub hidden: Option<u64>,
}

/// A write into the table of entities.
#[derive(Clone, Debug)]
pub struct Write {
    /// The item before.
    pub old: Option<Value>,
    /// The item after.
    pub new: Option<Value>,
}

#[derive(Default)]
struct Row {
    now: Option<Value>,
    before: Option<Value>,
}

type Key = (String, String);

/// What AWS keeps.
#[derive(Default)]
pub struct State {
    tables: BTreeMap<String, BTreeMap<Key, Row>>,
    /// The stream of the table of entities.
    pub stream: Vec<Write>,
    /// The messages of the inbox, by id.
    pub messages: BTreeMap<String, Message>,
    waiting: BTreeSet<(u64, u64, String)>,
    jobs: BTreeSet<(u64, u64, String)>,
    busy: usize,
    /// The bodies of the dead letters.
    pub letters: Vec<Arc<str>>,
    /// The ids of messages that the queue itself moved to the dead letters.
    pub moved: BTreeSet<String>,
    /// The details of the events on the bus.
    pub events: Vec<Value>,
    /// The number of writes that the publisher has told.
    pub told: usize,
    sent: u64,
    alive: usize,
    holds: usize,
}

impl State {
    /// Returns all items of the table of entities.
    pub fn items(&self) -> impl Iterator<Item = (&Key, &Value)> {
        self.tables.get("entities").into_iter().flatten().filter_map(|(key, row)| Some((key, row.now.as_ref()?)))
    }

    /// Returns 0 when neither queue has a message left and nobody holds one; otherwise how many there are, roughly.
    pub fn left(&self) -> usize {
        self.alive + self.holds + self.jobs_left()
    }

    /// Returns the number of jobs that are on the registrar's queue or with it.
    pub fn jobs_left(&self) -> usize {
        self.jobs.len() + self.busy
    }
}

/// The small AWS.
pub struct Cloud {
    /// What strikes its calls.
    pub script: Arc<Script>,
    state: Mutex<State>,
    changed: Condvar,
    began: Instant,
    /// The processes of the environments, by their number, and whether each has to end.
    pub environments: Mutex<Vec<(Process, Arc<AtomicBool>)>>,
    server: OnceLock<Weak<Server>>,
    dice: Mutex<Dice>,
    doubles: u64,
    delays: u64,
    signing_keys: String,
}

fn text(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or_default().to_owned()
}

fn key_of(item: &Value) -> Key {
    (text(&item["pk"], "S"), text(&item["sk"], "S"))
}

fn refusal(kind: &str) -> (u16, Value) {
    (400, json!({ "__type": kind, "message": "No." }))
}

/// Encrypts as KMS does, as far as anybody can tell.
pub fn encrypted(context: &Value, plain: &str) -> String {
    STANDARD.encode(json!({ "context": context, "plain": STANDARD.encode(plain) }).to_string())
}

impl Cloud {
    /// Makes an AWS without anything in it.
    pub fn new(script: Arc<Script>, dice: Dice, doubles: u64, delays: u64) -> Arc<Self> {
        Arc::new(Self {
            script,
            state: Mutex::default(),
            changed: Condvar::new(),
            began: Instant::now(),
            environments: Mutex::default(),
            server: OnceLock::new(),
            dice: Mutex::new(dice),
            doubles,
            delays,
            signing_keys: tests::world::signing_keys(),
        })
    }

    /// Serves it, and returns the server. The first part of a path is the number of the environment that calls.
    pub fn serve(self: &Arc<Self>) -> Arc<Server> {
        let cloud = Arc::clone(self);
        let server = Server::start(move |request| cloud.call(&request));
        let _ = self.server.set(Arc::downgrade(&server));
        server
    }

    /// Returns what it keeps.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Waits for a change of what it keeps, for a moment at most.
    pub fn wait(&self, moment: Duration) {
        let _ = self.changed.wait_timeout(self.state(), moment).unwrap();
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap() * SPEED
    }

    /// Puts an item into a table.
    pub fn seed(&self, table: &str, item: Value) {
        let key = key_of(&item);
        let row = Row { now: Some(item), before: None };
        self.state().tables.entry(table.to_owned()).or_default().insert(key, row);
    }

    // the queue

    fn send(&self, state: &mut State, body: &str, seconds: u64) -> String {
        state.sent += 1;
        state.alive += 1;
        let id = format!("message-{:07}", state.sent);
        let delivery = serde_json::from_str::<Value>(body).map(|body| text(&body, "delivery_id")).unwrap_or_default();
        let (late, place) = {
            let mut dice = self.dice.lock().unwrap();
            let late = if self.script.strike(&mut dice, self.delays) { dice.below(LONGEST_DELAY_MS) } else { 0 };
            (late, dice.throw())
        };
        let message = Message { body: body.into(), delivery, ..Message::default() };
        state.messages.insert(id.clone(), message);
        state.waiting.insert((self.now_ms() + seconds * 1000 + late, place, id.clone()));
        self.changed.notify_all();
        id
    }

    /// Takes the next messages off the queue, with their bodies and how often each has been handed over.
    pub fn receive(&self) -> Vec<(String, Arc<str>, u32)> {
        let (mut state, now, mut batch) = (self.state(), self.now_ms(), Vec::new());
        let state = &mut *state;
        let mut dice = self.dice.lock().unwrap();
        while batch.len() < BATCH {
            let Some(first) = state.waiting.first().filter(|first| first.0 <= now).cloned() else { break };
            state.waiting.remove(&first);
            let Some(message) = state.messages.get_mut(&first.2) else { continue };
            if batch.iter().any(|(id, _, _)| *id == first.2) {
                continue;
            }
            message.receives += 1;
            if message.receives > MOST_RECEIVES && !message.deleted {
                message.deleted = true;
                state.alive -= 1;
                state.moved.insert(first.2.clone());
                state.letters.push(Arc::clone(&message.body));
                continue;
            }
            message.held += 1;
            state.holds += 1;
            if self.script.strike(&mut dice, self.doubles) {
                state.waiting.insert((now + dice.below(2_000), dice.throw(), first.2.clone()));
            }
            batch.push((first.2, Arc::clone(&message.body), message.receives));
        }
        batch
    }

    /// Ends the hold on a message: `Some(true)` when it is done, `Some(false)` when it comes back, `None` when nobody
    /// said.
    pub fn finish(&self, id: &str, done: Option<bool>) {
        let (mut state, now) = (self.state(), self.now_ms());
        let place = self.dice.lock().unwrap().throw();
        let state = &mut *state;
        let Some(message) = state.messages.get_mut(id) else { return };
        message.held -= 1;
        state.holds -= 1;
        match done {
            Some(true) => {
                message.done += 1;
                state.alive -= usize::from(!message.deleted);
                message.deleted = true;
            }
            Some(false) => message.failed += 1,
            None => message.gone += 1,
        }
        if !message.deleted {
            let hidden = message.hidden.take().map_or(VISIBILITY_MS, |seconds| seconds * 1000);
            state.waiting.insert((now + hidden, place, id.to_owned()));
        }
        self.changed.notify_all();
    }

    /// Brings the dead letters back, as `make redrive` does, and returns their number.
    pub fn redrive(&self) -> usize {
        let mut state = self.state();
        let letters = std::mem::take(&mut state.letters);
        for body in &letters {
            self.send(&mut state, body, 0);
        }
        letters.len()
    }

    /// Puts a job on the registrar's queue.
    pub fn send_job(&self, state: &mut State, body: &str, seconds: u64) {
        if seconds >= ANOTHER_DAY_SECONDS {
            return;
        }
        let wait = if seconds > WRITTEN_SECONDS { seconds * 1000 } else { seconds * 1000 * SPEED };
        state.sent += 1;
        state.jobs.insert((self.now_ms() + wait, state.sent, body.to_owned()));
        self.changed.notify_all();
    }

    /// Takes the next jobs off the registrar's queue.
    pub fn take_jobs(&self) -> Vec<String> {
        let (mut state, now) = (self.state(), self.now_ms());
        let mut taken = Vec::new();
        while taken.len() < BATCH {
            let Some(first) = state.jobs.first().filter(|first| first.0 <= now).cloned() else { break };
            state.jobs.remove(&first);
            state.busy += 1;
            taken.push(first.2);
        }
        taken
    }

    /// Ends the hold on a job, which comes back unless it is done.
    pub fn finish_job(&self, body: &str, is_done: bool) {
        let mut state = self.state();
        if !is_done {
            self.send_job(&mut state, body, WRITTEN_SECONDS + 1);
        }
        state.busy -= 1;
        self.changed.notify_all();
    }

    // the proxy

    fn call(self: &Arc<Self>, request: &Request) -> Fate {
        let caller = request.target.split('/').nth(1).and_then(|number| number.parse::<usize>().ok());
        let target = request.headers.get("x-amz-target").map_or("", String::as_str);
        let operation = target.rsplit('.').next().unwrap_or_default();
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let fault = self.script.next(operation);
        match fault {
            Some(Fault::Error) => {
                return Fate::Answer(aws(500, &json!({ "__type": "InternalServerError", "message": "No." })));
            }
            Some(Fault::Throttle) => return Fate::Answer(throttled(operation)),
            Some(Fault::Silence) => return Fate::Silence,
            Some(Fault::DropBefore) => return Fate::Drop,
            Some(Fault::KillBefore) => {
                self.kill(caller);
                return Fate::Drop;
            }
            Some(Fault::Slow(ms)) => thread::sleep(Duration::from_millis(ms)),
            Some(Fault::OutOfMemory) => self.starve(caller),
            Some(Fault::Away(ms) | Fault::Restart(ms)) => {
                self.go_away(ms, matches!(fault, Some(Fault::Restart(_))));
                return Fate::Drop;
            }
            Some(Fault::Conflict) => {
                let kind = "com.amazonaws.dynamodb.v20120810#TransactionConflictException";
                let (status, answer) = refusal(kind);
                return Fate::Answer(aws(status, &answer));
            }
            _ => {}
        }
        let (status, answer) = self.work(operation, &body, fault);
        let answer = aws(status, &answer);
        match fault {
            Some(Fault::DropAfter) => Fate::Drop,
            Some(Fault::SilenceAfter) => Fate::Silence,
            Some(Fault::Cut) => Fate::Cut(answer),
            Some(Fault::KillAfter) => {
                self.kill(caller);
                Fate::Drop
            }
            _ => Fate::Answer(answer),
        }
    }

    /// Kills the process of an environment, as Lambda ends one that needs too much.
    fn kill(&self, caller: Option<usize>) {
        let environments = self.environments.lock().unwrap();
        let Some((process, _)) = caller.and_then(|caller| environments.get(caller)) else { return };
        if let Some(child) = process.lock().unwrap().as_mut() {
            let _ = child.kill();
        }
    }

    /// Lets the process of an environment have no more memory than it has. If it gets through its invocation with that,
    /// it ends after it.
    fn starve(&self, caller: Option<usize>) {
        let environments = self.environments.lock().unwrap();
        let Some((process, doomed)) = caller.and_then(|caller| environments.get(caller)) else { return };
        doomed.store(true, Ordering::SeqCst);
        let id = process.lock().unwrap().as_ref().map(std::process::Child::id);
        if let Some(id) = id {
            let _ = Command::new("prlimit").args(["--pid", &id.to_string(), "--as=4096", "--data=4096"]).output();
        }
    }

    fn go_away(self: &Arc<Self>, ms: u64, forgets: bool) {
        let Some(server) = self.server.get().and_then(Weak::upgrade) else { return };
        thread::spawn(move || {
            server.leave();
            thread::sleep(Duration::from_millis(ms));
            server.come_back();
        });
        if forgets {
            // Whoever holds a message goes on with it, while the queue hands it to somebody else as well.
            let (mut state, now) = (self.state(), self.now_ms());
            let state = &mut *state;
            let held = state.messages.iter().filter(|(_, message)| message.held > 0 && !message.deleted);
            let held: Vec<_> = held.map(|(id, _)| (now, 0, id.clone())).collect();
            state.waiting.extend(held);
        }
    }

    fn work(&self, operation: &str, body: &Value, fault: Option<Fault>) -> (u16, Value) {
        let mut state = self.state();
        let state = &mut *state;
        match operation {
            "GetSecretValue" => {
                let secret = if body["SecretId"] == "signing-keys" { self.signing_keys.as_str() } else { "{}" };
                (200, json!({ "SecretString": secret }))
            }
            "Decrypt" => decrypt(body),
            "SendMessage" => {
                let (url, message) = (text(body, "QueueUrl"), text(body, "MessageBody"));
                let delay = body["DelaySeconds"].as_u64().unwrap_or(0);
                if fault == Some(Fault::Lose) {
                    state.sent += 1;
                    return (200, json!({ "MessageId": format!("message-{:07}", state.sent) }));
                }
                let id = match url.rsplit('/').next() {
                    Some("inbox") => self.send(state, &message, delay),
                    Some("dead-letters") => {
                        state.letters.push(message.into());
                        format!("letter-{}", state.letters.len())
                    }
                    _ => {
                        self.send_job(state, &message, delay);
                        "job".to_owned()
                    }
                };
                (200, json!({ "MessageId": id }))
            }
            "SendMessageBatch" => {
                let entries = body["Entries"].as_array().cloned().unwrap_or_default();
                let inbox = text(body, "QueueUrl").ends_with("/inbox");
                let sent: Vec<_> = entries
                    .iter()
                    .map(|entry| {
                        let (message, delay) =
                            (text(entry, "MessageBody"), entry["DelaySeconds"].as_u64().unwrap_or(0));
                        let id = if inbox {
                            self.send(state, &message, delay)
                        } else {
                            self.send_job(state, &message, delay);
                            "job".to_owned()
                        };
                        json!({ "Id": entry["Id"], "MessageId": id })
                    })
                    .collect();
                (200, json!({ "Successful": sent, "Failed": [] }))
            }
            "ChangeMessageVisibility" => {
                let handle = text(body, "ReceiptHandle");
                match state.messages.get_mut(&handle) {
                    Some(message) => message.hidden = body["VisibilityTimeout"].as_u64(),
                    None => return refusal("ReceiptHandleIsInvalid"),
                }
                (200, json!({}))
            }
            "GetQueueAttributes" => (200, json!({ "Attributes": {} })),
            "PutEvents" => self.put_events(state, body, fault),
            "BatchGetItem" => self.batch_get(state, body, fault),
            "GetItem" => {
                let stale = fault == Some(Fault::Stale) && body["ConsistentRead"] != true;
                let row = state.tables.get(&text(body, "TableName")).and_then(|table| table.get(&key_of(&body["Key"])));
                match row.and_then(|row| seen(row, stale)) {
                    Some(item) => (200, json!({ "Item": item })),
                    None => (200, json!({})),
                }
            }
            "Query" => query(state, body),
            "PutItem" if fault == Some(Fault::Forget) => (200, json!({})),
            "PutItem" => self.put(state, body),
            other => panic!("the small AWS does not know {other}"),
        }
    }

    fn put_events(&self, state: &mut State, body: &Value, fault: Option<Fault>) -> (u16, Value) {
        let mut failed = 0;
        let entries = body["Entries"].as_array().cloned().unwrap_or_default();
        let answers: Vec<_> = entries
            .iter()
            .map(|entry| {
                if fault == Some(Fault::Partial) && self.dice.lock().unwrap().in_thousand(400) {
                    failed += 1;
                    return json!({ "ErrorCode": "InternalFailure", "ErrorMessage": "No." });
                }
                state.events.push(serde_json::from_str(entry["Detail"].as_str().unwrap_or("null")).unwrap_or_default());
                json!({ "EventId": "11710aed-b79e-4468-a20b-bb3c0c3b4860" })
            })
            .collect();
        (200, json!({ "FailedEntryCount": failed, "Entries": answers }))
    }

    fn batch_get(&self, state: &State, body: &Value, fault: Option<Fault>) -> (u16, Value) {
        let (mut responses, mut left) = (json!({}), json!({}));
        for (table, wanted) in body["RequestItems"].as_object().into_iter().flatten() {
            let stale = fault == Some(Fault::Stale) && wanted["ConsistentRead"] != true;
            let (mut items, mut unprocessed) = (Vec::new(), Vec::new());
            for key in wanted["Keys"].as_array().into_iter().flatten() {
                if fault == Some(Fault::Unprocessed) && self.dice.lock().unwrap().in_thousand(500) {
                    unprocessed.push(key.clone());
                    continue;
                }
                let row = state.tables.get(table).and_then(|table| table.get(&key_of(key)));
                items.extend(row.and_then(|row| seen(row, stale)).cloned());
            }
            responses[table] = items.into();
            if !unprocessed.is_empty() {
                left[table] = json!({ "Keys": unprocessed, "ConsistentRead": wanted["ConsistentRead"] == true });
            }
        }
        (200, json!({ "Responses": responses, "UnprocessedKeys": left }))
    }

    fn put(&self, state: &mut State, body: &Value) -> (u16, Value) {
        let (table, item) = (text(body, "TableName"), body["Item"].clone());
        let row = state.tables.entry(table.clone()).or_default().entry(key_of(&item)).or_default();
        let is_met = match body["ConditionExpression"].as_str() {
            None => true,
            Some("attribute_not_exists(pk)") => row.now.is_none(),
            Some(condition) => {
                let Some((name, value)) = condition.split_once(" = ") else {
                    panic!("the small AWS cannot read {condition}")
                };
                let expected = &body["ExpressionAttributeValues"][value];
                row.now.as_ref().is_some_and(|now| now[name] == *expected)
            }
        };
        if !is_met {
            let (status, mut answer) = refusal("com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException");
            if let (Some(now), "ALL_OLD") =
                (&row.now, body["ReturnValuesOnConditionCheckFailure"].as_str().unwrap_or_default())
            {
                answer["Item"] = now.clone();
            }
            return (status, answer);
        }
        row.before = row.now.replace(item.clone());
        if table == "entities" {
            state.stream.push(Write { old: row.before.clone(), new: Some(item) });
            self.changed.notify_all();
        }
        (200, json!({}))
    }
}

fn seen(row: &Row, stale: bool) -> Option<&Value> {
    if stale { row.before.as_ref() } else { row.now.as_ref() }
}

fn query(state: &State, body: &Value) -> (u16, Value) {
    let values = &body["ExpressionAttributeValues"];
    let pk = text(&values[":pk"], "S");
    let prefix = [":prefix", ":kind"].map(|name| text(&values[name], "S")).concat();
    let rows = state.tables.get(&text(body, "TableName")).into_iter().flatten();
    let rows = rows.filter(|((partition, sort), _)| *partition == pk && sort.starts_with(&prefix));
    let items: Vec<_> = rows.filter_map(|(_, row)| row.now.clone()).collect();
    (200, json!({ "Count": items.len(), "Items": items }))
}

fn decrypt(body: &Value) -> (u16, Value) {
    let cipher = STANDARD.decode(text(body, "CiphertextBlob")).unwrap_or_default();
    let cipher: Value = serde_json::from_slice(&cipher).unwrap_or_default();
    if cipher["context"] != body["EncryptionContext"] || cipher.is_null() {
        return refusal("InvalidCiphertextException");
    }
    (200, json!({ "Plaintext": cipher["plain"], "KeyId": "credentials-key" }))
}

fn aws(status: u16, body: &Value) -> Answer {
    let headers = vec![("content-type", "application/x-amz-json-1.0".to_owned())];
    Answer { status, headers, body: body.to_string().into_bytes() }
}

fn throttled(operation: &str) -> Answer {
    let kind = match operation {
        "BatchGetItem" | "GetItem" | "PutItem" | "Query" => {
            "com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException"
        }
        "SendMessage" | "SendMessageBatch" | "ChangeMessageVisibility" => "com.amazonaws.sqs#RequestThrottled",
        _ => "ThrottlingException",
    };
    let (status, answer) = refusal(kind);
    aws(status, &answer)
}
