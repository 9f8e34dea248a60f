//! The publisher: tells readers of what changed in the table of entities.
//!
//! It gets the table's stream, makes an event of each write that a reader can see ([`commerce::change_event`]), and puts it on
//! the bus, in the order of the stream. A write that cannot be told comes back with all that follow it in its shard. An item
//! that cannot be read as a whole is told as far as it can be read, as the processor takes it; what is no item of ours is
//! not told.

pub mod config;

use std::{collections::BTreeMap, sync::Arc};

use cloud::{bus::Bus, state::stored, telemetry};
use commerce::{
    change_event::{ChangeEvent, Detail, change_event},
    item::Item,
    origin::Origin,
    timestamp::{Timestamp, parse_utc},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// A batch of the stream, as Lambda hands it over.
#[derive(Deserialize)]
pub struct StreamEvent {
    /// The writes of one shard, in their order.
    #[serde(rename = "Records")]
    pub records: Vec<Record>,
}

/// A write.
#[derive(Deserialize)]
pub struct Record {
    /// The images of the item.
    pub dynamodb: Images,
}

/// The images of an item, before and after a write.
#[derive(Deserialize)]
pub struct Images {
    /// The item before the write; absent for a new one.
    #[serde(rename = "OldImage")]
    pub before: Option<serde_dynamo::Item>,
    /// The item after the write; absent for a removed one.
    #[serde(rename = "NewImage")]
    pub after: Option<serde_dynamo::Item>,
    /// The time of the write in seconds since 1970.
    #[serde(rename = "ApproximateCreationDateTime")]
    pub written: f64,
    /// The position of the write in its shard.
    #[serde(rename = "SequenceNumber")]
    pub sequence_number: String,
}

/// The answer to Lambda: the first write that has to come back, where one has.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// The failures; Lambda goes on at the first of them.
    pub batch_item_failures: Vec<Failure>,
}

/// A write that has to come back.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// The position of the write in its shard.
    pub item_identifier: String,
}

/// The publisher.
pub struct Publisher<B> {
    bus: B,
    detail: Detail,
    clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
}

impl<B: Bus> Publisher<B> {
    /// Makes a publisher that puts this part of each change on a bus.
    pub fn new(bus: B, detail: Detail, clock: Arc<dyn Fn() -> Timestamp + Send + Sync>) -> Self {
        Self { bus, detail, clock }
    }

    /// Tells of a batch of writes.
    pub async fn publish(&self, event: StreamEvent) -> Answer {
        let writes: Vec<Write> = event.records.into_iter().map(|record| Write::new(record.dynamodb)).collect();
        let traces: Vec<String> = writes.iter().map(|write| write.trace().to_owned()).collect();
        telemetry::traced(traces, self.publish_writes(&writes)).await
    }

    async fn publish_writes(&self, writes: &[Write]) -> Answer {
        let told = writes.iter().filter_map(|write| Some((write, self.event(write)?)));
        let (of, events): (Vec<&Write>, Vec<ChangeEvent>) = told.unzip();
        let published = match self.bus.put(&events).await {
            Ok(published) => published,
            Err(error) => {
                telemetry::error("not-published", &error.to_string());
                0
            }
        };
        let shown = |(write, event): (&&Write, &ChangeEvent)| json!({ "trace": write.trace(), "id": event.id, "type": event.kind, "subject": event.subject });
        let events: Vec<_> = of.iter().zip(&events).take(published).map(shown).collect();
        telemetry::emit(&json!({ "level": "INFO", "event": "published", "writes": writes.len(), "events": events }));
        self.latencies(&of[..published.min(of.len())]).iter().for_each(telemetry::emit);
        let first = of.into_iter().nth(published);
        let failures = first.map(|write| Failure { item_identifier: write.sequence_number.clone() });
        Answer { batch_item_failures: failures.into_iter().collect() }
    }

    /// Returns the times from the receipt of deliveries to the events on the bus, as metrics by platform.
    fn latencies(&self, told: &[&Write]) -> Vec<Value> {
        let now = (self.clock)();
        let mut found: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
        for after in told.iter().filter_map(|write| item(&write.after)) {
            let received = after.received.filter(|_| after.origin == Some(Origin::Webhook));
            if let (Some(received), Some((platform, _))) = (received, after.pk.split_once('#')) {
                found.entry(platform).or_default().push(now.millis_since(received));
            }
        }
        let lines = |(platform, times): (&str, Vec<i64>)| telemetry::durations("ReceiptToEvent", platform, &times, now);
        found.into_iter().flat_map(lines).collect()
    }

    /// Returns the event of a write; `None` if there is nothing to tell.
    fn event(&self, write: &Write) -> Option<ChangeEvent> {
        if matches!(write.before, Some(None)) || matches!(write.after, Some(None)) {
            let why = format!("position {}: it lacks pk, sk or rev", write.sequence_number);
            telemetry::error("not-an-item", &why);
        }
        change_event(item(&write.before), item(&write.after), self.detail)
    }
}

/// A write as it was read: each image, if there is one, and the item of it, if it is one.
struct Write {
    before: Option<Option<Item>>,
    after: Option<Option<Item>>,
    sequence_number: String,
}

impl Write {
    fn new(images: Images) -> Self {
        let Images { before, after, written, sequence_number } = images;
        let (before, after) = (before.map(|image| read(image, written)), after.map(|image| read(image, written)));
        Self { before, after, sequence_number }
    }

    /// Returns the trace id of what brought the write. If the item does not tell, it is the position of the write.
    fn trace(&self) -> &str {
        item(&self.after).and_then(|after| after.trace.as_deref()).unwrap_or(&self.sequence_number)
    }
}

fn item(image: &Option<Option<Item>>) -> Option<&Item> {
    image.as_ref().and_then(Option::as_ref)
}

/// Reads an image, as far as it can be read. If its clock is lost, the end of the second of the write takes its place.
fn read(image: serde_dynamo::Item, written: f64) -> Option<Item> {
    let (mut item, damaged) = stored(image.into())?;
    if damaged && parse_utc(&item.changed_at).is_none() {
        #[allow(clippy::cast_possible_truncation, reason = "a time of this millennium")]
        let second = written as i64;
        let end = second.saturating_mul(1_000_000).saturating_add(999_999);
        item.changed_at = Timestamp::from_micros(end).sortable();
    }
    Some(item)
}
