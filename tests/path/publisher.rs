//! The publisher on the twin of its bus: the stream of a table becomes events.

use aws_sdk_dynamodb::types::AttributeValue;
use cloud::memory::MemoryBus;
use commerce::{
    change_event::{ChangeEvent, Detail},
    entity::EntityKey,
    envelope::{Envelope, Sealed},
    origin::Origin,
};
use publisher::{Answer, Failure, Publisher, StreamEvent};
use serde_json::{Value, json};
use tests::world::{World, delivered, events, key, message};

/// Returns the table's stream as Lambda hands it over, with the images in DynamoDB's JSON.
fn stream(world: &World) -> Vec<Value> {
    let record = |(n, (before, after)): (usize, (Option<_>, Option<_>))| {
        let image = |attributes: Option<std::collections::HashMap<String, AttributeValue>>| {
            attributes.map(|attributes| serde_json::to_value(serde_dynamo::Item::from(attributes)).unwrap())
        };
        json!({ "eventName": "MODIFY", "dynamodb": {
            "OldImage": image(before), "NewImage": image(after), "SequenceNumber": format!("{n:021}"),
            "ApproximateCreationDateTime": 1_795_219_200.0,
            "StreamViewType": "NEW_AND_OLD_IMAGES",
        } })
    };
    world.tables.images().into_iter().enumerate().map(record).collect()
}

fn batch(records: &[Value]) -> StreamEvent {
    serde_json::from_value(json!({ "Records": records })).unwrap()
}

/// Returns the events of the writes after the first `already`.
pub async fn told(world: &World, already: usize, detail: Detail) -> Vec<ChangeEvent> {
    let bus = MemoryBus::default();
    Publisher::new(bus.clone(), detail, world.clock.function()).publish(batch(&stream(world)[already..])).await;
    bus.events()
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
    let answer =
        Publisher::new(bus.clone(), Detail::Full, world.clock.function()).publish(batch(&stream(&world))).await;
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
    Publisher::new(whole.clone(), Detail::Ids, world.clock.function()).publish(batch(&all)).await;
    let bus = MemoryBus::default();
    let publisher = Publisher::new(bus.clone(), Detail::Ids, world.clock.function());
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

/// As for the processor, nothing that somebody wrote by hand may block what follows.
#[tokio::test]
async fn what_cannot_be_read_is_told_as_far_as_it_can_be_and_holds_nothing() {
    let world = recorded().await;
    let all = stream(&world);
    let whole = MemoryBus::default();
    Publisher::new(whole.clone(), Detail::Full, world.clock.function()).publish(batch(&all)).await;
    let mut damaged = all.clone();
    // The image before a write that readers see, which repairs what somebody damaged.
    let seen =
        |images: &Value| images["OldImage"]["sk"]["S"] == "order#13" && images["NewImage"]["unchanged"].is_null();
    let repair = damaged.iter().position(|record| seen(&record["dynamodb"])).unwrap();
    damaged[repair]["dynamodb"]["OldImage"]["deleted"] = json!({ "S": "damaged" });
    // No item of ours, and one whose clock is lost.
    let mut stranger = all[0].clone();
    stranger["dynamodb"]["NewImage"] = json!({ "pk": { "S": "x" } });
    let mut timeless = all[0].clone();
    timeless["dynamodb"]["NewImage"]["changed_at"] = json!({ "N": "1" });
    timeless["dynamodb"]["NewImage"]["sk"] = json!({ "S": "order#99" });
    damaged.splice(0..0, [stranger, timeless]);
    let bus = MemoryBus::default();
    assert_eq!(
        Publisher::new(bus.clone(), Detail::Full, world.clock.function()).publish(batch(&damaged)).await,
        Answer::default()
    );
    let told = bus.events();
    assert_eq!((told[0].subject.as_str(), told[0].sequence.as_str()), ("order/99", "2026-11-21T00:00:00.999999Z"));
    let ids = |events: &[ChangeEvent]| events.iter().map(|event| event.id.clone()).collect::<Vec<_>>();
    assert_eq!(ids(&told[1..]), ids(&whole.events()));
}

#[test]
fn the_answer_is_what_lambda_reads() {
    let answer = Answer { batch_item_failures: vec![Failure { item_identifier: "7".into() }] };
    assert_eq!(serde_json::to_value(answer).unwrap(), json!({ "batchItemFailures": [{ "itemIdentifier": "7" }] }));
}

#[tokio::test]
async fn an_event_tells_what_brought_the_change() {
    let world = World::connected();
    let order = |status: &str, second: u32| {
        let at = format!("2026-11-21T01:00:{second:02}");
        let body = json!({ "id": 13, "status": status, "date_modified_gmt": at, "line_items": [] });
        delivered("order.updated", &body.to_string(), 1_795_225_000_000 + i64::from(second))
    };
    world.process(&[order("pending", 1)]).await;
    let letter = Envelope::parse(&order("processing", 2).body).unwrap();
    world.process(&[message(9, Sealed::redriven(&letter).text())]).await;
    let bus = MemoryBus::default();
    Publisher::new(bus.clone(), Detail::Ids, world.clock.function()).publish(batch(&stream(&world))).await;
    let told: Vec<_> = bus.events().into_iter().map(|event| (event.kind, event.data.origin)).collect();
    assert_eq!(
        told,
        [("order.created".to_owned(), Some(Origin::Webhook)), ("order.updated".to_owned(), Some(Origin::Replay))]
    );
}
