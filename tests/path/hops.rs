//! Snapshots of each hop: the message that a recorded request becomes, its outcome, and the item that it leaves.

use commerce::{
    entity::EntityKind,
    envelope::{Content, Envelope},
    platforms::{Incoming, Mapped, PLATFORMS, find},
    stamp::Stamp,
    transfer::Action,
};
use serde_json::{Value, json};
use tests::world::{PLATFORM, World, events, key};

#[tokio::test]
async fn each_hop_of_the_recording() {
    let world = World::connected();
    let mut queued = 0;
    for event in events() {
        let answer = world.receive(&event).await.status().as_u16();
        let outcomes = world.drain(queued).await;
        let message = world.queues.sent().get(queued).map(|(sealed, _)| {
            queued += 1;
            let mut message: Value = serde_json::from_str(sealed.text()).unwrap();
            // The bodies are those of the events, byte for byte.
            let Content::Delivery(body) = Envelope::parse(sealed.text()).unwrap().content else { panic!() };
            assert_eq!(body.unpack().unwrap(), event.body());
            message["content"] = "the body".into();
            message
        });
        let entity = event.scope().map(|scope| scope.split('.').next().unwrap().to_owned());
        let id = serde_json::from_str::<Value>(event.body()).map(|body| body["id"].to_string());
        let item = entity.zip(id.ok()).map(|(entity, id)| {
            let mut item = serde_json::to_value(world.item(&format!("{entity}#{id}"))).unwrap();
            item["changed_at"] = "a time".into();
            item
        });
        let hops = json!({ "answer": answer, "message": message, "outcome": outcomes.first(), "item": item });
        insta::assert_json_snapshot!(event.name.as_str(), hops);
    }
}

/// What one body becomes, beside the fields that the recording never fills.
#[test]
fn golden_entities() {
    for (name, entity, action) in [
        ("order", EntityKind::Order, Action::Updated),
        ("product", EntityKind::Product, Action::Updated),
        ("variation", EntityKind::Product, Action::Updated),
        ("customer", EntityKind::Customer, Action::Updated),
        ("coupon", EntityKind::Coupon, Action::Created),
        ("restored-coupon", EntityKind::Coupon, Action::Restored),
        ("guest-order", EntityKind::Order, Action::Created),
    ] {
        let file = format!("{}/path/data/{PLATFORM}/{name}.json", env!("CARGO_MANIFEST_DIR"));
        let body = std::fs::read(&file).unwrap_or_else(|_| panic!("{file} is missing"));
        let received = Stamp::from_millis(1_795_225_721_000);
        let mapping = find(PLATFORMS, PLATFORM).unwrap().mapping;
        let connection = &key();
        let incoming = Incoming { connection, scope: "", delivery_id: None, entity, action, body: &body, received };
        let mapped = mapping.map(&incoming).unwrap();
        let Mapped::Change(id, commerce::change::Change::Upsert(upsert)) = mapped else { panic!("{name}: {mapped:?}") };
        let golden = json!({
            "id": id,
            "source": upsert.source.map(|at| at.to_string()),
            "observed": upsert.observed,
            "content": upsert.content,
        });
        insta::assert_json_snapshot!(format!("golden-{name}"), golden);
    }
}
