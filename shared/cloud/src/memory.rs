//! The in-memory twins of all edges, for tests of the whole path. They have the faults of the real edges, too: reads
//! may be stale, writes may conflict, be done without an answer, or be refused.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use commerce::{
    change_event::ChangeEvent,
    connection::Connection,
    cursor::Cursor,
    declaration::SenderRecord,
    endpoint::{Endpoint, Outgoing},
    entity::{EntityKey, EntityKind},
    envelope::Sealed,
    health::WebhookRecord,
    http_call::{ApiRequest, ApiResponse, Fault},
    item::Item,
    job::{Job, shard},
    key::ConnectionKey,
    keys::BroughtKey,
    timestamp::Timestamp,
};

use aws_sdk_dynamodb::types::AttributeValue;
use serde_dynamo::aws_sdk_dynamodb_1::to_item;

use crate::{
    EdgeError,
    bus::Bus,
    connections::{Attributes, Check, Connections, Entry, EntryPage, Loaded, Vault},
    coordination::{Coordination, Note},
    endpoints::{Deliveries, Endpoints},
    outbound::Outbound,
    proof_keys::{Brought, KeepProofKeys, ProofKeys},
    queue::{DeadLetter, DeadLetters, Inbox, Jobs, Received, Retries},
    secrets::{KeepSecret, SecretSource},
    senders::{KeepSenders, Senders},
    state::{CountPage, Entities, KeyPage, Put, Read, Stored, stored},
};

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The bus.
#[derive(Clone, Default)]
pub struct MemoryBus(Arc<Mutex<BusContent>>);

#[derive(Default)]
struct BusContent {
    events: Vec<ChangeEvent>,
    /// The events until the next failure; `None` for no failure.
    fails_after: Option<usize>,
}

impl MemoryBus {
    /// Returns all events, in the order in which they came.
    pub fn events(&self) -> Vec<ChangeEvent> {
        lock(&self.0).events.clone()
    }

    /// Makes the bus fail once, after so many more events.
    pub fn fail_after(&self, events: usize) {
        lock(&self.0).fails_after = Some(events);
    }
}

impl Bus for MemoryBus {
    async fn put(&self, events: &[ChangeEvent]) -> Result<usize, EdgeError> {
        let mut content = lock(&self.0);
        for (place, event) in events.iter().enumerate() {
            if content.fails_after == Some(0) {
                content.fails_after = None;
                return Ok(place);
            }
            content.fails_after = content.fails_after.map(|left| left - 1);
            content.events.push(event.clone());
        }
        Ok(events.len())
    }
}

/// The inbox, the dead-letter queue and the registrar's queue.
#[derive(Clone, Default)]
pub struct MemoryQueues(Arc<Mutex<Queues>>);

/// The content of the queues.
#[derive(Default)]
struct Queues {
    sent: Vec<(Sealed, i32)>,
    dead: Vec<DeadLetter>,
    /// The texts of the dead letters that are hidden, which are their handles.
    hidden: BTreeSet<String>,
    retried: Vec<(String, i32)>,
    jobs: VecDeque<(Job, i32)>,
    refuse: bool,
    refuse_next: usize,
}

impl MemoryQueues {
    /// Returns all messages that were sent to the inbox, with their delays in seconds.
    pub fn sent(&self) -> Vec<(Sealed, i32)> {
        lock(&self.0).sent.clone()
    }

    /// Returns all dead letters.
    pub fn dead(&self) -> Vec<DeadLetter> {
        lock(&self.0).dead.clone()
    }

    /// Returns the receipt handles that are to come back, with their delays in seconds.
    pub fn retried(&self) -> Vec<(String, i32)> {
        lock(&self.0).retried.clone()
    }

    /// Takes the oldest job, with its delay in seconds.
    pub fn next_job(&self) -> Option<(Job, i32)> {
        lock(&self.0).jobs.pop_front()
    }

    /// Returns the waiting jobs, with their delays in seconds.
    pub fn jobs(&self) -> Vec<(Job, i32)> {
        lock(&self.0).jobs.iter().cloned().collect()
    }

    /// Makes the queues refuse everything from now on, or accept it again.
    pub fn refuse(&self, refuse: bool) {
        lock(&self.0).refuse = refuse;
    }

    /// Makes the inbox refuse this many of the next messages.
    pub fn refuse_next(&self, messages: usize) {
        lock(&self.0).refuse_next = messages;
    }
}

impl Inbox for MemoryQueues {
    async fn send(&self, sealed: &Sealed, delay_seconds: i32) -> Result<String, EdgeError> {
        let mut queues = lock(&self.0);
        if queues.refuse || queues.refuse_next > 0 {
            queues.refuse_next = queues.refuse_next.saturating_sub(1);
            return Err(EdgeError::new("SendMessage", "refused"));
        }
        queues.sent.push((sealed.clone(), delay_seconds));
        Ok(format!("message-{}", queues.sent.len()))
    }

    async fn send_all(&self, sealed: &[Sealed]) -> Result<(), EdgeError> {
        for message in sealed {
            self.send(message, 0).await?;
        }
        Ok(())
    }
}

impl Jobs for MemoryQueues {
    async fn send_jobs(&self, jobs: &[(Job, i32)]) -> Result<(), EdgeError> {
        let mut queues = lock(&self.0);
        if queues.refuse {
            return Err(EdgeError::new("SendMessageBatch of jobs", "refused"));
        }
        queues.jobs.extend(jobs.iter().cloned());
        Ok(())
    }
}

impl DeadLetters for MemoryQueues {
    async fn quarantine(&self, letter: &DeadLetter) -> Result<(), EdgeError> {
        let mut queues = lock(&self.0);
        if queues.refuse {
            return Err(EdgeError::new("SendMessage", "refused"));
        }
        queues.dead.push(letter.clone());
        Ok(())
    }

    async fn receive(&self) -> Result<Vec<Received>, EdgeError> {
        let mut queues = lock(&self.0);
        if queues.refuse {
            return Err(EdgeError::new("ReceiveMessage", "refused"));
        }
        let seen = queues.dead.iter().map(|letter| letter.body.clone());
        let seen: Vec<String> = seen.filter(|body| !queues.hidden.contains(body)).take(10).collect();
        queues.hidden.extend(seen.iter().cloned());
        Ok(seen.into_iter().map(|body| Received { handle: body.clone(), body }).collect())
    }

    async fn remove(&self, handle: &str) -> Result<(), EdgeError> {
        let mut queues = lock(&self.0);
        let place = queues.dead.iter().position(|dead| dead.body == handle);
        place.into_iter().for_each(|place| _ = queues.dead.remove(place));
        queues.hidden.remove(handle);
        Ok(())
    }

    async fn release(&self, handle: &str) {
        lock(&self.0).hidden.remove(handle);
    }
}

impl Retries for MemoryQueues {
    async fn retry_in(&self, receipt_handle: &str, seconds: i32) -> Result<(), EdgeError> {
        lock(&self.0).retried.push((receipt_handle.to_owned(), seconds));
        Ok(())
    }
}

/// A fault of one call to the tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TableFault {
    /// A read returns what was stored one write ago.
    StaleRead,
    /// A read leaves keys unprocessed to the end.
    Unprocessed,
    /// A write is refused.
    WriteRefused,
    /// A write is done, but its answer is lost, and the client's own retry then meets what it wrote.
    AnswerLost,
    /// A write is done, but an error comes back.
    LandsAndFails,
    /// The item expires just before it is written.
    Expires,
    /// A cursor is not written.
    CursorRefused,
}

/// All tables.
#[derive(Clone, Default)]
pub struct MemoryTables(Arc<Mutex<Tables>>);

#[derive(Default)]
struct Tables {
    items: BTreeMap<(String, String), Attributes>,
    previous: BTreeMap<(String, String), Option<Attributes>>,
    stream: Vec<(Option<Attributes>, Option<Attributes>)>,
    connections: BTreeMap<ConnectionKey, Loaded>,
    base_urls: BTreeSet<String>,
    notes: BTreeMap<(ConnectionKey, String), Note>,
    endpoints: BTreeMap<String, Endpoint>,
    brought: BTreeMap<ConnectionKey, Vec<BroughtKey>>,
    brought_reads: usize,
    senders: BTreeMap<ConnectionKey, SenderRecord>,
    sender_reads: usize,
    faults: VecDeque<TableFault>,
    reads: usize,
    writes: usize,
    used: Used,
}

/// The use of the tables, as DynamoDB bills it on demand.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Used {
    /// The number of calls.
    pub calls: u64,
    /// The number of half read units, each the cost of an eventually consistent read of 4 KB.
    pub read_halves: u64,
    /// The number of write units of 1 KB.
    pub write_units: u64,
}

impl Used {
    fn read(&mut self, bytes: impl IntoIterator<Item = usize>, halves: u64) {
        self.calls += 1;
        self.read_halves += bytes.into_iter().map(|bytes| halves * units(bytes, 4096)).sum::<u64>();
    }

    fn write(&mut self, bytes: usize) {
        self.calls += 1;
        self.write_units += units(bytes, 1024);
    }
}

fn units(bytes: usize, of: usize) -> u64 {
    bytes.div_ceil(of).max(1) as u64
}

/// Returns the size of an item in bytes, as DynamoDB counts it.
fn bytes(item: &Attributes) -> usize {
    item.iter().map(|(name, value)| name.len() + value_bytes(value)).sum()
}

fn value_bytes(value: &AttributeValue) -> usize {
    match value {
        AttributeValue::S(text) => text.len(),
        AttributeValue::N(number) => number.len().div_ceil(2) + 2,
        AttributeValue::M(members) => {
            3 + members.iter().map(|(name, member)| 1 + name.len() + value_bytes(member)).sum::<usize>()
        }
        AttributeValue::L(elements) => 3 + elements.iter().map(|element| 1 + value_bytes(element)).sum::<usize>(),
        _ => 1,
    }
}

impl MemoryTables {
    /// Returns all items of `Entities`.
    pub fn items(&self) -> Vec<Item> {
        lock(&self.0).items.values().filter_map(|item| Some(stored(item.clone())?.0)).collect()
    }

    /// Returns the images of the stream of `Entities` as they are stored: before and after each write.
    pub fn images(&self) -> Vec<(Option<Attributes>, Option<Attributes>)> {
        lock(&self.0).stream.clone()
    }

    /// Returns the stream of `Entities`: the images of each item that was written or removed, before and after, in the order
    /// of the writes.
    pub fn stream(&self) -> Vec<(Option<Item>, Option<Item>)> {
        let read = |image: &Option<Attributes>| image.clone().and_then(stored).map(|(item, _)| item);
        lock(&self.0).stream.iter().map(|(before, after)| (read(before), read(after))).collect()
    }

    /// Returns the attributes of an item, as they are stored.
    pub fn attributes(&self, entity: &EntityKey) -> Option<Attributes> {
        lock(&self.0).items.get(&(entity.partition(), entity.sort())).cloned()
    }

    /// Stores attributes, as somebody else may have written them.
    pub fn plant(&self, entity: &EntityKey, attributes: Attributes) {
        lock(&self.0).items.insert((entity.partition(), entity.sort()), attributes);
    }

    /// Removes an item, as somebody else may have done.
    pub fn unplant(&self, entity: &EntityKey) {
        lock(&self.0).items.remove(&(entity.partition(), entity.sort()));
    }

    /// Returns the numbers of reads and of writes of `Entities`.
    pub fn calls(&self) -> (usize, usize) {
        let tables = lock(&self.0);
        (tables.reads, tables.writes)
    }

    /// Returns the number of reads of declared senders.
    pub fn sender_reads(&self) -> usize {
        lock(&self.0).sender_reads
    }

    /// Returns the number of reads of the keys that clients brought.
    pub fn brought_reads(&self) -> usize {
        lock(&self.0).brought_reads
    }

    /// Returns the use since the last call.
    pub fn used(&self) -> Used {
        std::mem::take(&mut lock(&self.0).used)
    }

    /// Makes these faults happen, in this order, each with the next call that it can happen to.
    pub fn break_next(&self, faults: impl IntoIterator<Item = TableFault>) {
        lock(&self.0).faults.extend(faults);
    }

    /// Returns all records of a connection.
    pub fn connection(&self, key: &ConnectionKey) -> Loaded {
        lock(&self.0).connections.get(key).cloned().unwrap_or_default()
    }

    /// Stores a connection.
    pub fn connect(&self, key: &ConnectionKey, connection: Connection) {
        lock(&self.0).connections.entry(key.clone()).or_default().connection = Some(connection);
    }
}

impl Tables {
    fn fault(&mut self, possible: &[TableFault]) -> Option<TableFault> {
        let next = self.faults.front().copied().filter(|fault| possible.contains(fault))?;
        self.faults.pop_front();
        Some(next)
    }
}

impl Entities for MemoryTables {
    async fn read(&self, entities: &[EntityKey], connections: &[ConnectionKey]) -> Result<Read, EdgeError> {
        let mut tables = lock(&self.0);
        tables.reads += 1;
        let fault = tables.fault(&[TableFault::StaleRead, TableFault::Unprocessed]);
        if fault == Some(TableFault::Unprocessed) {
            return Err(EdgeError::new("BatchGetItem", "keys stay unprocessed"));
        }
        let item = |entity: &EntityKey| {
            let key = (entity.partition(), entity.sort());
            let stale = tables.previous.get(&key).filter(|_| fault == Some(TableFault::StaleRead));
            stale.cloned().unwrap_or_else(|| tables.items.get(&key).cloned())
        };
        let known = connections
            .iter()
            .filter_map(|key| Some((key.clone(), tables.connections.get(key)?.connection.clone()?)))
            .collect();
        let mut read = Read { connections: known, ..Read::default() };
        let mut sizes = Vec::new();
        for entity in entities {
            let found = item(entity);
            sizes.push(found.as_ref().map_or(0, bytes));
            if let Some(attributes) = found {
                read.items.insert(entity.clone(), Stored(attributes));
            }
        }
        tables.used.read(sizes, 1);
        // Connections are read consistently, in the same call, and none is above 4 KB.
        tables.used.read_halves += 2 * connections.len() as u64;
        Ok(read)
    }

    async fn known(&self, entities: &[EntityKey]) -> Result<BTreeSet<EntityKey>, EdgeError> {
        let mut tables = lock(&self.0);
        tables.reads += 1;
        let found = |entity: &EntityKey| tables.items.get(&(entity.partition(), entity.sort()));
        let sizes: Vec<_> = entities.iter().map(|entity| found(entity).map_or(0, bytes)).collect();
        let known = entities.iter().filter(|entity| found(entity).is_some()).cloned().collect();
        tables.used.read(sizes, 1);
        Ok(known)
    }

    async fn latest(&self, entity: &EntityKey) -> Result<Option<Item>, EdgeError> {
        let mut tables = lock(&self.0);
        let attributes = tables.items.get(&(entity.partition(), entity.sort())).cloned();
        tables.used.read([attributes.as_ref().map_or(0, bytes)], 2);
        Ok(attributes.and_then(|attributes| Some(stored(attributes)?.0)))
    }

    async fn keys(
        &self,
        key: &ConnectionKey,
        kind: Option<EntityKind>,
        after: Option<&str>,
        limit: u32,
    ) -> Result<KeyPage, EdgeError> {
        let tables = lock(&self.0);
        let (partition, limit) = (key.to_string(), usize::try_from(limit).unwrap_or(usize::MAX));
        let of = tables.items.iter().filter(|((pk, _), _)| *pk == partition);
        let of = of.filter(|((_, sk), _)| after.is_none_or(|after| sk.as_str() > after));
        let of = of.filter(|((_, sk), _)| kind.is_none_or(|kind| sk.starts_with(&format!("{kind}#"))));
        let found: Vec<_> = of.take(limit).collect();
        let next = found.last().filter(|_| found.len() == limit).map(|((_, sk), _)| sk.clone());
        let deleted = |item: &Attributes| item.get("deleted").is_some_and(|deleted| deleted.as_bool() == Ok(&true));
        let keys = found.iter().filter_map(|((_, sk), item)| Some((EntityKey::of(key, sk)?, !deleted(item))));
        Ok(KeyPage { keys: keys.collect(), next })
    }

    async fn count(&self, key: &ConnectionKey, kind: EntityKind, after: Option<&str>) -> Result<CountPage, EdgeError> {
        let page = self.keys(key, Some(kind), after, 100).await?;
        let tables = lock(&self.0);
        let is_whole = |entity: &EntityKey| {
            let item = tables.items.get(&(entity.partition(), entity.sort()));
            let fields = item.and_then(|item| item.get("fields")?.as_m().ok());
            item.is_some() && fields.is_none_or(|fields| !fields.contains_key("parent"))
        };
        let alive = page.keys.iter().filter(|(entity, alive)| *alive && is_whole(entity)).count();
        Ok(CountPage { alive: alive as u64, next: page.next })
    }

    async fn remove(&self, entities: &[EntityKey]) -> Result<(), EdgeError> {
        let mut tables = lock(&self.0);
        for entity in entities {
            let key = (entity.partition(), entity.sort());
            let before = tables.items.remove(&key);
            tables.stream.extend(before.clone().map(|before| (Some(before), None)));
            tables.previous.insert(key, before);
        }
        Ok(())
    }

    async fn put(&self, item: &Item, expected: Option<&str>) -> Result<Put, EdgeError> {
        let mut tables = lock(&self.0);
        tables.writes += 1;
        let key = (item.pk.clone(), item.sk.clone());
        let fault = tables.fault(&[
            TableFault::WriteRefused,
            TableFault::AnswerLost,
            TableFault::LandsAndFails,
            TableFault::Expires,
        ]);
        match fault {
            Some(TableFault::WriteRefused) => return Err(EdgeError::new("PutItem", "refused")),
            // Only an item that its policy lets expire does.
            Some(TableFault::Expires) if tables.items.get(&key).is_some_and(|item| item.contains_key("expires")) => {
                let expired = tables.items.remove(&key);
                tables.stream.push((expired, None));
            }
            _ => {}
        }
        let attributes = to_item(item).map_err(|_| EdgeError::new("PutItem", "the item cannot be written"))?;
        let before = tables.items.get(&key).cloned();
        tables.used.write(bytes(&attributes).max(before.as_ref().map_or(0, bytes)));
        let rev = before.as_ref().and_then(|before| before.get("rev")?.as_s().ok());
        if before.is_some() != expected.is_some() || rev.map(String::as_str) != expected {
            return Ok(Put::Conflict(before.and_then(stored).map(|(item, _)| Box::new(item))));
        }
        tables.items.insert(key.clone(), attributes.clone());
        tables.stream.push((before.clone(), Some(attributes)));
        tables.previous.insert(key, before);
        match fault {
            Some(TableFault::AnswerLost) => Ok(Put::Conflict(Some(Box::new(item.clone())))),
            Some(TableFault::LandsAndFails) => Err(EdgeError::new("PutItem", "timed out")),
            _ => Ok(Put::Written),
        }
    }
}

impl Connections for MemoryTables {
    async fn load(&self, key: &ConnectionKey) -> Result<Loaded, EdgeError> {
        Ok(self.connection(key))
    }

    async fn save(&self, key: &ConnectionKey, connection: &Connection) -> Result<bool, EdgeError> {
        let before = self.connection(key).connection.map_or(0, |connection| connection.revision);
        let ours = before + 1 == connection.revision;
        if ours {
            self.connect(key, connection.clone());
        }
        Ok(ours)
    }

    async fn save_webhook(&self, key: &ConnectionKey, record: &WebhookRecord) -> Result<(), EdgeError> {
        let mut tables = lock(&self.0);
        let loaded = tables.connections.entry(key.clone()).or_default();
        loaded.webhooks.insert(record.scope.clone(), record.clone());
        Ok(())
    }

    async fn remove_webhook(&self, key: &ConnectionKey, scope: &str) -> Result<(), EdgeError> {
        lock(&self.0).connections.entry(key.clone()).or_default().webhooks.remove(scope);
        Ok(())
    }

    async fn save_cursor(&self, key: &ConnectionKey, cursor: &Cursor) -> Result<bool, EdgeError> {
        let mut tables = lock(&self.0);
        if tables.fault(&[TableFault::CursorRefused]).is_some() {
            return Err(EdgeError::new("PutItem of a cursor", "refused"));
        }
        let cursors = &mut tables.connections.entry(key.clone()).or_default().cursors;
        let ours = cursors.get(&cursor.entity).map_or(0, |before| before.revision) + 1 == cursor.revision;
        if ours {
            cursors.insert(cursor.entity, cursor.clone());
        }
        Ok(ours)
    }

    async fn remove_cursor(&self, key: &ConnectionKey, entity: EntityKind) -> Result<(), EdgeError> {
        lock(&self.0).connections.entry(key.clone()).or_default().cursors.remove(&entity);
        Ok(())
    }

    async fn save_check(&self, key: &ConnectionKey, check: &Check) -> Result<(), EdgeError> {
        lock(&self.0).connections.entry(key.clone()).or_default().check = Some(check.clone());
        Ok(())
    }

    async fn list(
        &self,
        part: u32,
        platform: Option<&str>,
        after: Option<&str>,
        limit: u32,
    ) -> Result<EntryPage, EdgeError> {
        let tables = lock(&self.0);
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let mut listed: Vec<(String, Entry)> = tables
            .connections
            .iter()
            .filter(|(key, _)| shard(key) == part && platform.is_none_or(|platform| key.platform == platform))
            .filter_map(|(key, loaded)| {
                let connection = loaded.connection.as_ref()?;
                let (status, site) = (connection.status, connection.site.clone());
                let entry = Entry { key: key.clone(), status, site, signed_with: connection.signed_with.clone() };
                Some((key.to_string(), entry))
            })
            .filter(|(listed, _)| after.is_none_or(|after| listed.as_str() > after))
            .collect();
        listed.sort_by(|one, other| one.0.cmp(&other.0));
        // A full page may be the last one all the same, as at DynamoDB.
        let next = (listed.len() >= limit).then(|| listed[limit - 1].0.clone());
        Ok(EntryPage { entries: listed.into_iter().take(limit).map(|(_, entry)| entry).collect(), next })
    }

    async fn base_urls(&self, current: &str) -> Result<BTreeSet<String>, EdgeError> {
        let mut tables = lock(&self.0);
        tables.base_urls.insert(current.to_owned());
        Ok(tables.base_urls.clone())
    }
}

impl Coordination for MemoryTables {
    async fn note(&self, key: &ConnectionKey, name: &str) -> Result<Option<Note>, EdgeError> {
        let mut tables = lock(&self.0);
        tables.used.read([0], 2);
        Ok(tables.notes.get(&(key.clone(), name.to_owned())).cloned())
    }

    async fn notes(&self, key: &ConnectionKey, prefix: &str) -> Result<Vec<(String, Note)>, EdgeError> {
        let tables = lock(&self.0);
        let fitting = tables.notes.iter().filter(|((of, name), _)| of == key && name.starts_with(prefix));
        Ok(fitting.map(|((_, name), note)| (name.clone(), note.clone())).collect())
    }

    async fn keep(&self, key: &ConnectionKey, name: &str, note: &Note) -> Result<bool, EdgeError> {
        let mut tables = lock(&self.0);
        let place = (key.clone(), name.to_owned());
        tables.used.write(note.body.len() + name.len());
        let ours = tables.notes.get(&place).map_or(0, |note| note.revision) + 1 == note.revision;
        if ours {
            tables.notes.insert(place, note.clone());
        }
        Ok(ours)
    }
}

impl Endpoints for MemoryTables {
    async fn endpoints(&self) -> Result<Vec<Endpoint>, EdgeError> {
        Ok(lock(&self.0).endpoints.values().cloned().collect())
    }

    async fn save_endpoint(&self, endpoint: &Endpoint) -> Result<bool, EdgeError> {
        let endpoints = &mut lock(&self.0).endpoints;
        let ours = endpoints.get(&endpoint.id).map_or(0, |before| before.revision) + 1 == endpoint.revision;
        if ours {
            endpoints.insert(endpoint.id.clone(), endpoint.clone());
        }
        Ok(ours)
    }

    async fn remove_endpoint(&self, id: &str) -> Result<(), EdgeError> {
        lock(&self.0).endpoints.remove(id);
        Ok(())
    }
}

/// The queue of deliveries, which keeps the order within a group: while a delivery is hidden, so are those behind it.
#[derive(Clone)]
pub struct MemoryDeliveries {
    queue: Arc<Mutex<DeliveryQueue>>,
    clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
}

#[derive(Default)]
struct DeliveryQueue {
    waiting: Vec<Waiting>,
    seen: BTreeMap<String, Timestamp>,
    given_up: Vec<Outgoing>,
}

/// A delivery in the queue.
#[derive(Clone, PartialEq, Debug)]
pub struct Waiting {
    /// The delivery.
    pub delivery: Outgoing,
    /// The handle by which it is put off or removed.
    pub handle: String,
    /// The number of times that it was received.
    pub attempts: u32,
    /// The time at which it was queued.
    pub sent: Timestamp,
    visible: Timestamp,
}

/// The time for which a received delivery is hidden, in seconds, as the template has it.
const DELIVERY_HIDDEN_SECONDS: i64 = 361;
/// The time within which a delivery that is queued again is dropped, in seconds, as at SQS.
const DEDUPLICATED_SECONDS: i64 = 300;

impl MemoryDeliveries {
    /// Makes an empty queue.
    pub fn new(clock: Arc<dyn Fn() -> Timestamp + Send + Sync>) -> Self {
        Self { queue: Arc::default(), clock }
    }

    /// Returns the number of deliveries in the queue.
    pub fn len(&self) -> usize {
        lock(&self.queue).waiting.len()
    }

    /// Returns whether the queue is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns what was given up.
    pub fn given_up(&self) -> Vec<Outgoing> {
        lock(&self.queue).given_up.clone()
    }

    /// Receives up to `most` visible deliveries, and none whose group has a hidden one before it.
    pub fn receive(&self, most: usize) -> Vec<Waiting> {
        let (mut queue, now) = (lock(&self.queue), (self.clock)());
        let (mut hidden, mut received) = (BTreeSet::new(), Vec::new());
        for waiting in &mut queue.waiting {
            let group = waiting.delivery.group();
            if hidden.contains(&group) || waiting.visible > now || received.len() == most {
                hidden.insert(group);
                continue;
            }
            waiting.attempts += 1;
            waiting.visible = now.plus_seconds(DELIVERY_HIDDEN_SECONDS);
            received.push(waiting.clone());
        }
        received
    }

    /// Removes a delivery.
    pub fn remove(&self, handle: &str) {
        lock(&self.queue).waiting.retain(|waiting| waiting.handle != handle);
    }
}

impl Deliveries for MemoryDeliveries {
    async fn queue(&self, deliveries: &[Outgoing]) -> Result<(), EdgeError> {
        let (mut queue, now) = (lock(&self.queue), (self.clock)());
        for delivery in deliveries {
            let seen = queue.seen.get(&delivery.deduplication()).copied();
            if seen.is_none_or(|seen| seen.plus_seconds(DEDUPLICATED_SECONDS) < now) {
                queue.seen.insert(delivery.deduplication(), now);
                let handle = format!("{}-{}", delivery.deduplication(), now.micros());
                let delivery = delivery.clone();
                queue.waiting.push(Waiting { delivery, handle, attempts: 0, sent: now, visible: now });
            }
        }
        Ok(())
    }

    async fn put_off(&self, receipt_handle: &str, seconds: i32) -> Result<(), EdgeError> {
        let (mut queue, now) = (lock(&self.queue), (self.clock)());
        let waiting = queue.waiting.iter_mut().find(|waiting| waiting.handle == receipt_handle);
        if let Some(waiting) = waiting {
            waiting.visible = now.plus_seconds(i64::from(seconds));
        }
        Ok(())
    }

    async fn give_up(&self, delivery: &Outgoing) -> Result<(), EdgeError> {
        lock(&self.queue).given_up.push(delivery.clone());
        Ok(())
    }
}

impl ProofKeys for MemoryTables {
    async fn all(&self) -> Result<Brought, EdgeError> {
        let mut tables = lock(&self.0);
        tables.brought_reads += 1;
        Ok(tables.brought.iter().map(|(key, keys)| (key.clone(), keys.clone().into())).collect())
    }
}

impl KeepProofKeys for MemoryTables {
    async fn replace(&self, key: &ConnectionKey, keys: &[BroughtKey]) -> Result<(), EdgeError> {
        lock(&self.0).brought.insert(key.clone(), keys.to_vec());
        Ok(())
    }
}

impl Senders for MemoryTables {
    async fn sender(&self, key: &ConnectionKey) -> Result<Option<SenderRecord>, EdgeError> {
        let mut tables = lock(&self.0);
        tables.sender_reads += 1;
        Ok(tables.senders.get(key).cloned())
    }
}

impl KeepSenders for MemoryTables {
    async fn keep_sender(&self, key: &ConnectionKey, sender: Option<&SenderRecord>) -> Result<(), EdgeError> {
        let mut tables = lock(&self.0);
        match sender {
            Some(sender) => _ = tables.senders.insert(key.clone(), sender.clone()),
            None => _ = tables.senders.remove(key),
        }
        Ok(())
    }
}

/// A vault that binds what it holds to the connection, without hiding it.
#[derive(Clone, Copy, Default)]
pub struct MemoryVault;

impl Vault for MemoryVault {
    async fn encrypt(&self, key: &ConnectionKey, plain: &str) -> Result<String, EdgeError> {
        Ok(format!("{key}|{plain}"))
    }

    async fn decrypt(&self, key: &ConnectionKey, cipher: &str) -> Result<String, EdgeError> {
        let plain = cipher.strip_prefix(&format!("{key}|")).map(str::to_owned);
        plain.ok_or_else(|| EdgeError::new("Decrypt", "encrypted for another connection"))
    }
}

/// A secret that can be set, and be out of reach: its value, the number of fetches, and `true` when the next write's
/// answer is lost.
#[derive(Clone, Default)]
pub struct MemorySecret(Arc<Mutex<(Option<String>, usize, bool)>>);

impl MemorySecret {
    /// Makes a secret with a value.
    pub fn new(value: &str) -> Self {
        Self(Arc::new(Mutex::new((Some(value.to_owned()), 0, false))))
    }

    /// Sets the value; `None` puts it out of reach.
    pub fn set(&self, value: Option<&str>) {
        lock(&self.0).0 = value.map(str::to_owned);
    }

    /// Returns the present value.
    pub fn value(&self) -> Option<String> {
        lock(&self.0).0.clone()
    }

    /// Makes the next write succeed, but return an error.
    pub fn lose_next_answer(&self) {
        lock(&self.0).2 = true;
    }

    /// Returns the number of fetches.
    pub fn fetches(&self) -> usize {
        lock(&self.0).1
    }
}

impl KeepSecret for MemorySecret {
    async fn replace(&self, text: &str) -> Result<(), EdgeError> {
        self.set(Some(text));
        match std::mem::take(&mut lock(&self.0).2) {
            true => Err(EdgeError::new("PutSecretValue", "timed out")),
            false => Ok(()),
        }
    }
}

impl SecretSource for MemorySecret {
    async fn fetch(&self) -> Result<String, EdgeError> {
        let mut secret = lock(&self.0);
        secret.1 += 1;
        secret.0.clone().ok_or_else(|| EdgeError::new("GetSecretValue", "out of reach"))
    }
}

type Answer = dyn Fn(&ApiRequest) -> Result<ApiResponse, Fault> + Send + Sync;

/// A platform that answers as a function says, and remembers its calls.
#[derive(Clone)]
pub struct MemoryPlatform {
    answer: Arc<Answer>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl MemoryPlatform {
    /// Makes a platform with these answers.
    pub fn new(answer: impl Fn(&ApiRequest) -> Result<ApiResponse, Fault> + Send + Sync + 'static) -> Self {
        Self { answer: Arc::new(answer), asked: Arc::default() }
    }

    /// Makes a platform that cannot be reached.
    pub fn unreachable() -> Self {
        Self::new(|_| Err(Fault::Unavailable("the platform could not be reached".into())))
    }

    /// Returns the methods and addresses of its calls.
    pub fn asked(&self) -> Vec<String> {
        lock(&self.asked).clone()
    }
}

impl Outbound for MemoryPlatform {
    async fn call(&self, request: ApiRequest) -> Result<ApiResponse, Fault> {
        lock(&self.asked).push(format!("{request:?}"));
        (self.answer)(&request)
    }
}
