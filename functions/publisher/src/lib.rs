//! The publisher: tells readers of what changed in the table of entities.
//!
//! It gets the table's stream, makes an event of each write that a reader can see ([`commerce::change_event`]), and puts it on
//! the bus, in the order of the stream. A write that cannot be told comes back with all that follow it in its shard. An item
//! that cannot be read as a whole is told as far as it can be read, as the processor takes it; what is no item of ours is
//! not told.

pub mod config;

use cloud::{bus::Bus, state::stored, telemetry};
use commerce::{
    change_event::{ChangeEvent, Detail, change_event},
    item::Item,
    timestamp::{Timestamp, parse_utc},
};
use serde::{Deserialize, Serialize};
use serde_json::json;

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
}

impl<B: Bus> Publisher<B> {
    /// Makes a publisher that puts this part of each change on a bus.
    pub fn new(bus: B, detail: Detail) -> Self {
        Self { bus, detail }
    }

    /// Tells of a batch of writes.
    pub async fn publish(&self, event: StreamEvent) -> Answer {
        let writes = event.records.len();
        let told = event.records.into_iter().filter_map(|record| self.event(record.dynamodb));
        let (positions, events): (Vec<String>, Vec<ChangeEvent>) = told.unzip();
        let published = match self.bus.put(&events).await {
            Ok(published) => published,
            Err(error) => {
                telemetry::error("not-published", &error.to_string());
                0
            }
        };
        telemetry::emit(&json!({ "level": "INFO", "event": "published", "writes": writes, "events": published }));
        let first = positions.into_iter().nth(published);
        let failures = first.into_iter().map(|item_identifier| Failure { item_identifier });
        Answer { batch_item_failures: failures.collect() }
    }

    /// Returns the position and the event of a write; `None` if there is nothing to tell.
    fn event(&self, images: Images) -> Option<(String, ChangeEvent)> {
        let Images { before, after, written, sequence_number } = images;
        let (before, after) = (before.map(|image| read(image, written)), after.map(|image| read(image, written)));
        if matches!(before, Some(None)) || matches!(after, Some(None)) {
            telemetry::error("not-an-item", &format!("position {sequence_number}: it lacks pk, sk or rev"));
        }
        let event = change_event(before.flatten().as_ref(), after.flatten().as_ref(), self.detail)?;
        Some((sequence_number, event))
    }
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
