//! The publisher on the twin of its bus: the stream of a table becomes events.

use aws_sdk_dynamodb::types::AttributeValue;
use cloud::memory::MemoryBus;
use commerce::{change_event::Detail, entity::EntityKey};
use publisher::{Answer, Failure, Publisher, StreamEvent};
use serde_json::{Value, json};
use tests::world::{World, events, key};

/// Returns the table's stream as Lambda hands it over, with the images in DynamoDB's JSON.
fn stream(world: &World) -> Vec<Value> {
    let record = |(n, (before, after)): (usize, (Option<_>, Option<_>))| {
        let image = |attributes: Option<std::collections::HashMap<String, AttributeValue>>| {
            attributes.map(|attributes| serde_json::to_value(serde_dynamo::Item::from(attributes)).unwrap())
        };
        json!({ "eventName": "MODIFY", "dynamodb": {
            "OldImage": image(before), "NewImage": image(after), "SequenceNumber": format!("{n:021}"),
            "StreamViewType": "NEW_AND_OLD_IMAGES",
        } })
    };
    world.tables.images().into_iter().enumerate().map(record).collect()
}

fn batch(records: &[Value]) -> StreamEvent {
    serde_json::from_value(json!({ "Records": records })).unwrap()
}

/// Returns the world after the recording.
pub async fn recorded() -> World {
    let world = World::connected();
    let mut queued = 0;
    // One after the other, as they came.
    for event in events() {
        world.receive(&event).await;
        if world.queues.sent().len() > queued {
            world.drain(queued).await;
            queued = world.queues.sent().len();
        }
    }
    world
}

#[tokio::test]
async fn the_recording_is_told_change_by_change() {
    let world = recorded().await;
    let bus = MemoryBus::default();
    let answer = Publisher::new(bus.clone(), Detail::Full).publish(batch(&stream(&world))).await;
    assert_eq!(answer, Answer::default());
    let kinds: Vec<_> = bus.events().into_iter().map(|event| format!("{} {}", event.kind, event.subject)).collect();
    assert!(
        kinds.contains(&"order.created order/13".to_owned()) && kinds.contains(&"order.deleted order/13".to_owned())
    );
    let order = EntityKey::of(&key(), "order#13").unwrap();
    let last = bus.events().into_iter().rfind(|event| event.subject == "order/13").unwrap();
    let item = world.tables.items().into_iter().find(|item| item.sk == order.sort()).unwrap();
    assert_eq!((last.sequence, last.data.entity), (item.changed_at, Some(item.fields)));
}

#[tokio::test]
async fn what_cannot_be_told_comes_back_with_all_that_follows() {
    let world = recorded().await;
    let all = stream(&world);
    let whole = MemoryBus::default();
    Publisher::new(whole.clone(), Detail::Ids).publish(batch(&all)).await;
    let bus = MemoryBus::default();
    let publisher = Publisher::new(bus.clone(), Detail::Ids);
    bus.fail_after(3);
    let mut from = 0;
    loop {
        let Answer { batch_item_failures } = publisher.publish(batch(&all[from..])).await;
        let Some(Failure { item_identifier }) = batch_item_failures.first() else { break };
        assert!(from == 0, "it fails once");
        from = item_identifier.parse().unwrap();
        assert!(from > 0);
    }
    assert!(
        from > 0 && bus.events() == whole.events(),
        "nothing is told twice, nothing is missing, and the order stays"
    );
}

#[tokio::test]
async fn an_image_that_cannot_be_read_holds_what_follows_and_nothing_before() {
    let world = recorded().await;
    let mut all = stream(&world);
    let before = MemoryBus::default();
    Publisher::new(before.clone(), Detail::Full).publish(batch(&all[..2])).await;
    all[2]["dynamodb"]["NewImage"] = json!({ "pk": { "S": "x" } });
    let bus = MemoryBus::default();
    let answer = Publisher::new(bus.clone(), Detail::Full).publish(batch(&all)).await;
    assert_eq!(answer.batch_item_failures, [Failure { item_identifier: format!("{:021}", 2) }]);
    assert!(!before.events().is_empty() && bus.events() == before.events());
    assert_eq!(
        serde_json::to_value(&answer).unwrap(),
        json!({ "batchItemFailures": [{ "itemIdentifier": format!("{:021}", 2) }] })
    );
}
