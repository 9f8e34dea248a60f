//! The sender: sends changes on to the endpoints of the vendor's own application.
//!
//! An event of the bus becomes a delivery for each endpoint that wants it ([`Sender::fan_out`]). The queue of deliveries
//! keeps the order of one subject at one endpoint, and a delivery that fails comes back before those behind it
//! ([`Sender::deliver`]). An endpoint that fails again and again is left alone for a while.

pub mod config;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use cloud::{
    EdgeError,
    connections::Vault,
    coordination::{Coordination, Note, Terms, update_json},
    endpoints::{Deliveries, Endpoints},
    outbound::Outbound,
    telemetry::{self, traced},
};
use commerce::{
    change_event::ChangeEvent,
    endpoint::{Circuit, Endpoint, Outgoing, TRIED_SECONDS, delivery, endpoint_key, retry_seconds},
    key::ConnectionKey,
    scheme::standard_webhooks::whsec,
    timestamp::Timestamp,
};
use serde::Deserialize;
use serde_json::json;
use url::Url;
use zeroize::Zeroizing;

/// The time for which a decrypted secret is kept, in seconds: KMS bills each call.
const OPENED_SECONDS: i64 = 5 * 60;
/// The age in seconds at which the list of endpoints is read again.
const ENDPOINTS_SECONDS: i64 = 30;
/// The name of the note with an endpoint's circuit.
const CIRCUIT: &str = "circuit";
/// The prefix of the names of notes with the sequence that was delivered last; the subject follows.
const DELIVERED: &str = "delivered#";
/// The time for which the last sequence is noted, in seconds: longer than anything is under way or put aside.
const DELIVERED_SECONDS: i64 = 21 * 24 * 60 * 60;
/// The time for which a circuit is noted, in seconds.
const CIRCUIT_SECONDS: i64 = 7 * 24 * 60 * 60;
/// The number of attempts to write a note that others write, too.
const TRIES: u32 = 5;
/// The pause of a delivery to an endpoint that is paused, in seconds.
const PAUSED_SECONDS: i64 = 15 * 60;
/// The longest that a message may be hidden, in seconds, and a little less.
const LONGEST_SECONDS: i64 = 11 * 60 * 60;

/// The types of a [`Sender`]'s edges: those of AWS, or their in-memory twins.
pub trait Parts {
    /// The endpoints.
    type Endpoints: Endpoints + Sync;
    /// The vault that decrypts secrets.
    type Vault: Vault + Sync;
    /// The notes about endpoints.
    type Notes: Coordination + Sync;
    /// The client for calls to endpoints.
    type Outbound: Outbound + Sync;
    /// The queue of deliveries.
    type Deliveries: Deliveries + Sync;
}

/// The edges of a [`Sender`].
pub struct Edges<P: Parts> {
    /// The endpoints.
    pub endpoints: P::Endpoints,
    /// The vault that decrypts secrets.
    pub vault: P::Vault,
    /// The notes about endpoints.
    pub notes: P::Notes,
    /// The client for calls to endpoints.
    pub outbound: P::Outbound,
    /// The queue of deliveries.
    pub deliveries: P::Deliveries,
}

/// A message of one of the two queues, as the event source mapping hands it over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// The message's id from SQS.
    pub id: String,
    /// The receipt handle.
    pub receipt_handle: String,
    /// The message's text.
    pub body: String,
    /// The number of times that SQS delivered the message, this time included.
    pub attempts: u32,
    /// The time at which SQS took it.
    pub sent: Timestamp,
}

/// The end of a delivery, this time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum End {
    /// The endpoint took it.
    Delivered,
    /// The endpoint has a later state of the subject already.
    Superseded,
    /// The endpoint is gone.
    Dropped,
    /// It was tried for three days, and put aside.
    GivenUp,
    /// It comes back after this many seconds.
    PutOff(i64),
}

impl End {
    const fn name(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Superseded => "superseded",
            Self::Dropped => "dropped",
            Self::GivenUp => "given-up",
            Self::PutOff(_) => "put-off",
        }
    }
}

/// Returns the event of a message, if it can be read.
fn event(message: &Message) -> Option<ChangeEvent> {
    serde_json::from_str(&message.body).ok().map(|Envelope { detail }| detail)
}

/// Returns the trace id of an event: that of the delivery that brought the change, or else of the message.
fn trace(message: &Message, event: Option<&ChangeEvent>) -> String {
    event.and_then(|event| event.data.trace.clone()).unwrap_or_else(|| message.id.clone())
}

/// The list of endpoints, and the time at which it was read.
type Cached = Mutex<Option<(Timestamp, Arc<Vec<Endpoint>>)>>;

/// Decrypted secrets by their ciphertexts, each with the time at which it was decrypted.
type Opened = Mutex<BTreeMap<String, (Timestamp, Arc<Zeroizing<Vec<u8>>>)>>;

/// The sender on its edges.
pub struct Sender<P: Parts> {
    edges: Edges<P>,
    clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    endpoints: Cached,
    opened: Opened,
}

/// An event of EventBridge.
#[derive(Deserialize)]
struct Envelope {
    detail: ChangeEvent,
}

impl<P: Parts> Sender<P> {
    /// Makes a sender on these edges.
    pub fn new(edges: Edges<P>, clock: Arc<dyn Fn() -> Timestamp + Send + Sync>) -> Self {
        Self { edges, clock, endpoints: Mutex::default(), opened: Mutex::default() }
    }

    /// Queues a delivery for each endpoint that wants an event. Returns the ids of the messages that have to come back.
    pub async fn fan_out(&self, messages: &[Message]) -> Vec<String> {
        let events: Vec<Option<ChangeEvent>> = messages.iter().map(event).collect();
        let traces: Vec<String> = messages.iter().zip(&events).map(|(one, event)| trace(one, event.as_ref())).collect();
        traced(traces, self.fan_out_events(messages, &events)).await
    }

    async fn fan_out_events(&self, messages: &[Message], events: &[Option<ChangeEvent>]) -> Vec<String> {
        // A new endpoint gets what changes from now on.
        let endpoints = match self.read_endpoints().await {
            Ok(endpoints) => endpoints,
            Err(error) => {
                telemetry::error("not-fanned-out", &error.to_string());
                return messages.iter().map(|message| message.id.clone()).collect();
            }
        };
        let mut failures = Vec::new();
        for (message, event) in messages.iter().zip(events) {
            let fanned_out = async {
                // Another release may know what this one cannot read, so the message comes back, and is put aside in the end.
                let unreadable = || EdgeError::new("reading an event", format!("message {} is none", message.id));
                let done = match event {
                    Some(event) => self.fan_out_one(event, &endpoints).await,
                    None => Err(unreadable()),
                };
                done.map_err(|error| telemetry::error("not-fanned-out", &error.to_string()))
            };
            if traced([trace(message, event.as_ref())], fanned_out).await.is_err() {
                failures.push(message.id.clone());
            }
        }
        failures
    }

    async fn fan_out_one(&self, event: &ChangeEvent, endpoints: &[Endpoint]) -> Result<(), EdgeError> {
        let wanting = endpoints.iter().filter(|endpoint| endpoint.filter.passes(event));
        let deliveries: Vec<_> =
            wanting.map(|endpoint| Outgoing { endpoint: endpoint.id.clone(), event: event.clone() }).collect();
        self.edges.deliveries.queue(&deliveries).await
    }

    /// Delivers what is queued, in the order of each group. Returns the ids of the messages that have to come back: what
    /// failed, and all behind it in its group.
    pub async fn deliver(&self, messages: &[Message]) -> Vec<String> {
        let read = |message: &Message| serde_json::from_str(&message.body).ok();
        let deliveries: Vec<Option<Outgoing>> = messages.iter().map(read).collect();
        let events = deliveries.iter().map(|outgoing| outgoing.as_ref().map(|outgoing| &outgoing.event));
        let traces: Vec<String> = messages.iter().zip(events).map(|(one, event)| trace(one, event)).collect();
        traced(traces, self.deliver_in_order(messages, &deliveries)).await
    }

    async fn deliver_in_order(&self, messages: &[Message], deliveries: &[Option<Outgoing>]) -> Vec<String> {
        let (mut failures, mut held, mut ends) = (Vec::new(), BTreeMap::new(), Vec::new());
        for (message, outgoing) in messages.iter().zip(deliveries) {
            // Another release may know what this one cannot read, so the message comes back, and is put aside in the end.
            let Some(outgoing) = outgoing else {
                telemetry::error("not-a-delivery", &format!("message {}", message.id));
                failures.push(message.id.clone());
                continue;
            };
            let trace = trace(message, Some(&outgoing.event));
            if let Some(seconds) = held.get(&outgoing.group()) {
                // It comes back with the one before it.
                let _ = self.edges.deliveries.put_off(&message.receipt_handle, *seconds).await;
                failures.push(message.id.clone());
                continue;
            }
            let delivered = async {
                self.deliver_one(outgoing, message).await.unwrap_or_else(|error| {
                    telemetry::error("not-delivered", &error.to_string());
                    End::PutOff(retry_seconds(message.attempts))
                })
            };
            let end = traced([trace.clone()], delivered).await;
            let (endpoint, id) = (&outgoing.endpoint, &outgoing.event.id);
            ends.push(json!({ "trace": trace, "endpoint": endpoint, "id": id, "end": end.name() }));
            if let End::PutOff(seconds) = end {
                let seconds = i32::try_from(seconds.clamp(1, LONGEST_SECONDS)).unwrap_or(1);
                // If this fails, the queue's own visibility timeout brings the message back.
                let _ = self.edges.deliveries.put_off(&message.receipt_handle, seconds).await;
                held.insert(outgoing.group(), seconds);
                failures.push(message.id.clone());
            }
        }
        telemetry::emit(&json!({ "level": "INFO", "event": "deliveries", "messages": messages.len(), "ends": ends }));
        failures
    }

    async fn deliver_one(&self, outgoing: &Outgoing, message: &Message) -> Result<End, EdgeError> {
        let now = (self.clock)();
        let find = |endpoints: &[Endpoint]| endpoints.iter().find(|endpoint| endpoint.id == outgoing.endpoint).cloned();
        let known = match find(&self.endpoints().await?) {
            Some(known) => Some(known),
            // It may be a new one.
            None => find(&self.read_endpoints().await?),
        };
        let Some((endpoint, key)) = known.and_then(|known| endpoint_key(&known.id).map(|key| (known, key))) else {
            return Ok(End::Dropped);
        };
        let endpoint = &endpoint;
        if message.sent.plus_seconds(TRIED_SECONDS) < now {
            self.edges.deliveries.give_up(outgoing).await?;
            return Ok(End::GivenUp);
        }
        if endpoint.paused {
            return Ok(End::PutOff(PAUSED_SECONDS));
        }
        let circuit = self.circuit(&key, now).await?;
        if let Some(seconds) = circuit.pause_seconds(now) {
            return Ok(End::PutOff(seconds));
        }
        let (sequence, subject) = (&outgoing.event.sequence, format!("{DELIVERED}{}", outgoing.subject()));
        let last = self.edges.notes.note(&key, &subject).await?.filter(|note| note.is_live(now));
        if last.is_some_and(|last| last.body > *sequence) {
            return Ok(End::Superseded);
        }
        if let Err(why) = self.post(endpoint, &key, &outgoing.event, now).await? {
            self.note_failure(&key, endpoint, &why, now).await?;
            return Ok(End::PutOff(retry_seconds(message.attempts)));
        }
        let terms = Terms::once(now, DELIVERED_SECONDS).tries(TRIES);
        let later = |before: Option<String>| before.is_none_or(|before| before < *sequence).then(|| sequence.clone());
        cloud::coordination::update(&self.edges.notes, &key, &subject, terms, later).await?;
        if circuit.failures > 0 {
            let terms = Terms::once(now, CIRCUIT_SECONDS).tries(TRIES);
            update_json(&self.edges.notes, &key, CIRCUIT, terms, |_: Option<Circuit>| Some(Circuit::default())).await?;
            telemetry::emit(&json!({ "level": "INFO", "event": "endpoint-works-again", "endpoint": endpoint.id }));
        }
        Ok(End::Delivered)
    }

    /// Posts an event. Returns why the endpoint did not take it, if it did not.
    async fn post(
        &self,
        endpoint: &Endpoint,
        key: &ConnectionKey,
        event: &ChangeEvent,
        now: Timestamp,
    ) -> Result<Result<(), String>, EdgeError> {
        let Ok(url) = Url::parse(&endpoint.url) else { return Ok(Err("its address cannot be read".into())) };
        let former = endpoint.former.as_ref().filter(|(_, until)| *until > now).map(|(secret, _)| secret);
        let mut secrets = Vec::new();
        for cipher in [&endpoint.secret].into_iter().chain(former) {
            secrets.push(self.secret(key, cipher, now).await?);
        }
        let secrets: Vec<&[u8]> = secrets.iter().map(|secret| secret.as_slice()).collect();
        let request = delivery(&url, event, &secrets, now)
            .map_err(|error| EdgeError::new("writing a delivery", error.to_string()))?;
        Ok(match self.edges.outbound.call(request).await {
            Ok(answer) if answer.is_success() => Ok(()),
            Ok(answer) => Err(format!("it answered {}", answer.status)),
            Err(fault) => Err(fault.to_string()),
        })
    }

    /// Returns a secret's raw bytes.
    async fn secret(
        &self,
        key: &ConnectionKey,
        cipher: &str,
        now: Timestamp,
    ) -> Result<Arc<Zeroizing<Vec<u8>>>, EdgeError> {
        let known = self.opened.lock().unwrap_or_else(PoisonError::into_inner).get(cipher).cloned();
        if let Some((_, secret)) = known.filter(|(opened, _)| now < opened.plus_seconds(OPENED_SECONDS)) {
            return Ok(secret);
        }
        let text = Zeroizing::new(self.edges.vault.decrypt(key, cipher).await?);
        let secret = whsec(&text).map_err(|_| EdgeError::new("Decrypt", "the secret of an endpoint is none"))?;
        let secret = Arc::new(Zeroizing::new(secret));
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        opened.retain(|_, (opened, _)| now < opened.plus_seconds(OPENED_SECONDS));
        opened.insert(cipher.to_owned(), (now, Arc::clone(&secret)));
        Ok(secret)
    }

    async fn circuit(&self, key: &ConnectionKey, now: Timestamp) -> Result<Circuit, EdgeError> {
        let note: Option<Note> = self.edges.notes.note(key, CIRCUIT).await?.filter(|note| note.is_live(now));
        Ok(note.and_then(|note| serde_json::from_str(&note.body).ok()).unwrap_or_default())
    }

    /// Counts a failure. Once in a row of failures, it opens the circuit and raises the alarm.
    async fn note_failure(
        &self,
        key: &ConnectionKey,
        endpoint: &Endpoint,
        why: &str,
        now: Timestamp,
    ) -> Result<(), EdgeError> {
        let (terms, mut after) = (Terms::once(now, CIRCUIT_SECONDS).tries(TRIES), Circuit::default());
        update_json(&self.edges.notes, key, CIRCUIT, terms, |before: Option<Circuit>| {
            after = before.unwrap_or_default().failed(now);
            Some(after)
        })
        .await?;
        telemetry::emit(&json!({
            "level": "WARN", "event": "endpoint-failed", "endpoint": endpoint.id, "why": why, "failures": after.failures,
        }));
        if after.has_just_opened() {
            telemetry::error("endpoint-left-alone", &format!("{}: {why}", endpoint.id));
        }
        // The alarm looks back for longer than the longest pause.
        if after.open_until.is_some() {
            telemetry::emit(&telemetry::count("EndpointsFailing", "all", 1, now));
        }
        Ok(())
    }

    async fn endpoints(&self) -> Result<Arc<Vec<Endpoint>>, EdgeError> {
        let now = (self.clock)();
        let cached = self.endpoints.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((_, endpoints)) = cached.filter(|(read, _)| now < read.plus_seconds(ENDPOINTS_SECONDS)) {
            return Ok(endpoints);
        }
        self.read_endpoints().await
    }

    async fn read_endpoints(&self) -> Result<Arc<Vec<Endpoint>>, EdgeError> {
        let now = (self.clock)();
        let endpoints = Arc::new(self.edges.endpoints.endpoints().await?);
        *self.endpoints.lock().unwrap_or_else(PoisonError::into_inner) = Some((now, Arc::clone(&endpoints)));
        Ok(endpoints)
    }
}
