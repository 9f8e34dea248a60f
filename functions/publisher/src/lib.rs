//! The publisher: tells readers of what changed in the table of entities.
//!
//! It gets the table's stream, makes an event of each write that a reader can see ([`commerce::change_event`]), and puts it on
//! the bus, in the order of the stream. A write that cannot be told comes back with all that follow it in its shard.

pub mod config;

use cloud::{bus::Bus, telemetry};
use commerce::{
    change_event::{ChangeEvent, Detail, change_event},
    item::Item,
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
        let (events, unreadable) = self.events(event.records);
        let told: Vec<ChangeEvent> = events.iter().map(|(_, event)| event.clone()).collect();
        let (published, failed) = match self.bus.put(&told).await {
            Ok(published) => (published, events.get(published).map(|(position, _)| position.clone())),
            Err(error) => {
                telemetry::error("not-published", &error.to_string());
                (0, events.first().map(|(position, _)| position.clone()))
            }
        };
        telemetry::emit(&json!({ "level": "INFO", "event": "published", "writes": writes, "events": published }));
        let first = failed.or(unreadable);
        let failures = first.into_iter().map(|item_identifier| Failure { item_identifier });
        Answer { batch_item_failures: failures.collect() }
    }

    /// Returns the events up to the first write that cannot be read, and the position of that.
    fn events(&self, records: Vec<Record>) -> (Vec<(String, ChangeEvent)>, Option<String>) {
        let mut events = Vec::new();
        for Record { dynamodb: Images { before, after, sequence_number } } in records {
            let read = |image: Option<serde_dynamo::Item>| image.map(serde_dynamo::from_item::<_, Item>).transpose();
            let (before, after) = match (read(before), read(after)) {
                (Ok(before), Ok(after)) => (before, after),
                (Err(error), _) | (_, Err(error)) => {
                    telemetry::error("unreadable-image", &error.to_string());
                    return (events, Some(sequence_number));
                }
            };
            if let Some(event) = change_event(before.as_ref(), after.as_ref(), self.detail) {
                events.push((sequence_number, event));
            }
        }
        (events, None)
    }
}
