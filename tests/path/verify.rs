//! The verification of a connection by the admin interface and by night, and the snapshot for new readers: both are
//! commands of the registrar that the processor carries out message by message.

use aws_sdk_dynamodb::types::AttributeValue;
use cloud::coordination::Coordination;
use commerce::{
    change_event::ChangeKind,
    entity::{EntityKey, EntityKind},
    envelope::Sealed,
    job::Job,
    verification::{Extent, Report, Verification},
};
use serde_json::{Value, json};
use tests::{
    platforms::Trouble,
    reader::Replica,
    world::{CONNECTION, World, key, message},
};

/// Makes a store with some products and orders, all of which are here.
async fn shop() -> World {
    let world = World::new();
    let settings = json!({ "site": "https://shop.example.com", "consumer_key": "ck_1", "consumer_secret": "cs_1" });
    assert_eq!(world.admin("PUT", CONNECTION, "", &settings.to_string()).await.0, 200);
    for id in 1..=30 {
        world.store().set("products", id, Some(product(id, "10.00")));
        world.store().set("orders", id, Some(order(id, "processing")));
    }
    settle(&world, 0).await;
    world
}

fn product(id: u64, price: &str) -> Value {
    json!({
        "id": id, "name": format!("Product {id}"), "type": "simple", "status": "publish", "price": price,
        "date_created_gmt": "2026-11-01T10:00:00", "date_modified_gmt": "2026-11-02T10:00:00",
    })
}

fn order(id: u64, status: &str) -> Value {
    json!({
        "id": id, "status": status, "currency": "EUR", "total": "12.00", "line_items": [], "customer_id": 0,
        "date_created_gmt": "2026-11-01T10:00:00", "date_modified_gmt": "2026-11-02T10:00:00",
    })
}

/// Runs all jobs and messages after the first `from` messages, those put off included, and returns the outcomes.
async fn settle(world: &World, mut from: usize) -> Vec<String> {
    let mut ends = Vec::new();
    loop {
        let jobs = world.run_jobs().await;
        let sent = world.queues.sent();
        if jobs == 0 && sent.len() == from {
            return ends;
        }
        for (n, (sealed, delay)) in sent.iter().enumerate().skip(from) {
            world.clock.pass_seconds(i64::from(*delay));
            let report = world.process(&[message(n, sealed.text())]).await;
            assert!(report.failures.is_empty(), "{:?}", report.ends);
            ends.extend(tests::world::outcomes(&report));
        }
        from = sent.len();
    }
}

async fn verify(world: &World, body: &Value) -> (u16, Value) {
    world.admin("POST", &format!("{CONNECTION}/verify"), "", &body.to_string()).await
}

async fn report(world: &World) -> Value {
    let (status, report) = world.admin("GET", &format!("{CONNECTION}/verification"), "", "").await;
    assert_eq!(status, 200, "{report}");
    report
}

/// Damages an item, as somebody with rights to the table may.
fn damage(world: &World, sort: &str) {
    let entity = EntityKey::of(&key(), sort).unwrap();
    let mut item = world.tables.attributes(&entity).unwrap();
    let Some(AttributeValue::M(fields)) = item.get_mut("fields") else { panic!() };
    fields.insert("status".into(), AttributeValue::S("damaged".into()));
    world.tables.plant(&entity, item);
}

#[tokio::test]
async fn the_report_says_what_was_compared_what_differs_and_what_was_repaired() {
    let world = shop().await;
    assert_eq!(world.admin("GET", &format!("{CONNECTION}/verification"), "", "").await.0, 404);
    let queued = world.queues.sent().len();
    let (status, begun) = verify(&world, &json!({ "full": true })).await;
    assert_eq!((status, &begun["ended"], &begun["extent"]), (202, &Value::Null, &json!("full")), "{begun}");
    assert_eq!(verify(&world, &json!({ "full": true })).await, (202, begun), "it is under way");
    assert_eq!(world.queues.sent().len(), queued + 1);
    assert_eq!(settle(&world, queued).await.last().unwrap(), "ignored: verified");
    let equal = report(&world).await;
    assert_eq!(
        (&equal["result"], &equal["checked"]),
        (&json!("equal"), &json!({ "order": 30, "product": 30 })),
        "{equal}"
    );

    damage(&world, "order#7");
    world.store().set("products", 31, Some(product(31, "1.00")));
    world.store().set("products", 8, None);
    let queued = world.queues.sent().len();
    verify(&world, &json!({ "full": true, "repair": true })).await;
    settle(&world, queued).await;
    let drift = report(&world).await;
    let rows: Vec<_> = drift["differences"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            let text = |name: &str| row[name].as_str().map(str::to_owned);
            (text("entity").unwrap(), text("id").unwrap(), text("field"), text("cause").unwrap())
        })
        .collect();
    let row = |entity: &str, id: &str, field: Option<&str>, cause: &str| {
        (entity.to_owned(), id.to_owned(), field.map(str::to_owned), cause.to_owned())
    };
    assert_eq!(
        rows,
        [
            row("product", "31", None, "not-told"),
            row("product", "8", Some("deleted"), "not-told"),
            row("order", "7", Some("status"), "told-and-lost"),
        ]
    );
    assert_eq!((&drift["result"], &drift["queued"]), (&json!("drift"), &json!(3)), "{drift}");
    assert_eq!(drift["drift_per_million"], 3 * 1_000_000 / 61);
    assert!(!drift.to_string().contains("damaged"), "no value is kept");
    assert_eq!(world.item("order#7").fields["status"], "processing");
    assert!(world.item("product#8").deleted);

    let queued = world.queues.sent().len();
    verify(&world, &json!({ "full": true })).await;
    settle(&world, queued).await;
    assert_eq!(report(&world).await["result"], "equal");
}

#[tokio::test]
async fn a_step_that_is_taken_twice_counts_once_and_a_later_verification_ends_an_earlier_one() {
    let world = shop().await;
    let connection = world.tables.connection(&key()).connection.unwrap();
    let begin = |second: i64| {
        let begun = world.clock.now().plus_seconds(second);
        let verification = Verification::new(begun, Extent::Full, false, vec![EntityKind::Order]);
        Sealed::verification(&key(), &connection, verification, begun)
    };
    let (first, second) = (begin(0), begin(10));
    let run = |text: String| {
        let world = &world;
        async move { tests::world::outcomes(&world.process(&[message(1, &text)]).await) }
    };
    let mut texts = vec![first.text().to_owned()];
    loop {
        let sent = world.queues.sent().len();
        let text = texts.last().unwrap().clone();
        // SQS may deliver a message twice.
        run(text.clone()).await;
        let ends = run(text).await;
        if ends == ["ignored: verified"] {
            break;
        }
        assert_eq!(ends, ["split: 1"]);
        texts.push(world.queues.sent()[sent].0.text().to_owned());
    }
    let note = world.tables.note(&key(), "verification").await.unwrap().unwrap();
    let counted: Report = serde_json::from_str(&note.body).unwrap();
    assert_eq!(counted.checked.values().sum::<u64>(), 30);
    assert!(texts.len() >= 2);
    run(second.text().to_owned()).await;
    assert_eq!(run(texts[1].clone()).await, ["ignored: verified-anew"]);
}

#[tokio::test]
async fn a_store_that_is_busy_is_waited_for_and_one_that_fails_is_reported() {
    let world = shop().await;
    world.store().trouble_after(3, Trouble::TooMany(40));
    let queued = world.queues.sent().len();
    verify(&world, &json!({ "full": true })).await;
    settle(&world, queued).await;
    assert!(world.queues.sent().iter().any(|(_, delay)| *delay >= 30), "it waited");
    assert_eq!(report(&world).await["result"], "equal");
    world.clock.pass_seconds(60);
    damage(&world, "order#3");
    world.store().set("orders", 4, None);
    world.store().trouble_after(1, Trouble::Broken);
    let queued = world.queues.sent().len();
    verify(&world, &json!({ "full": true, "entity": "order" })).await;
    settle(&world, queued).await;
    let failed = report(&world).await;
    assert_eq!(failed["failures"].as_array().unwrap().len(), 1, "{failed}");
    assert!(failed["checked"].as_object().unwrap().keys().eq(["order"]), "{failed}");
}

#[tokio::test]
async fn a_sample_is_of_each_kind_and_runs_every_night() {
    let world = shop().await;
    world.clock.pass_seconds(48 * 3600);
    let queued = world.queues.sent().len();
    world.registrar().verify_all(10).await.unwrap();
    assert!(world.queues.jobs().iter().all(|(job, _)| matches!(job, Job::VerifyAll { sample: 10, .. })));
    settle(&world, queued).await;
    let sampled = report(&world).await;
    assert_eq!(sampled["extent"], json!({ "sample": 10 }));
    assert_eq!((&sampled["checked"], &sampled["result"]), (&json!({ "order": 10, "product": 10 }), &json!("equal")));
    // Neighbours from another place each time.
    let places: std::collections::BTreeSet<String> = (0..20)
        .map(|n| {
            let begun = world.clock.now().plus_seconds(n * 86_400);
            Verification::new(begun, Extent::Sample(5), false, Vec::new()).start_of_sample(EntityKind::Order)
        })
        .collect();
    assert!(places.len() > 15, "{places:?}");
}

#[tokio::test]
async fn what_cannot_be_verified_says_why() {
    let world = World::connected();
    let detail = |answer: (u16, Value)| (answer.0, answer.1["detail"].as_str().unwrap_or_default().to_owned());
    let (status, why) = detail(verify(&world, &json!({})).await);
    assert!(status == 409 && why.contains("no credentials"), "{why}");
    for (body, why) in [
        (json!({ "full": true, "sample": 3 }), "sample: leave it out, or `full`"),
        (json!({ "sample": 0 }), "sample: must be a number from 1 to 1000"),
        (json!({ "repair": "yes" }), "repair: must be true or false"),
        (json!({ "entity": "cart" }), "entity: must be one of: customer, product, order, coupon"),
    ] {
        assert_eq!(detail(verify(&world, &body).await), (422, why.to_owned()), "{body}");
    }
}

#[tokio::test]
async fn a_snapshot_tells_a_new_reader_of_everything() {
    let world = shop().await;
    world.store().set("orders", 9, None);
    let queued = world.queues.sent().len();
    verify(&world, &json!({ "full": true, "repair": true })).await;
    settle(&world, queued).await;
    // The bus refuses in between.
    world.bus.fail_after(17);
    let queued = world.queues.sent().len();
    let (status, begun) = world.admin("POST", &format!("{CONNECTION}/snapshot"), "", "").await;
    assert_eq!((status, &begun["entity"]), (202, &Value::Null), "{begun}");
    assert_eq!(settle(&world, queued).await.last().unwrap(), "ignored: snapshot-told");
    assert!(world.queues.sent()[queued + 1..].iter().all(|(_, delay)| *delay >= 1), "at a bounded rate");
    let events = world.bus.events();
    assert_eq!(events.len(), world.tables.items().len());
    assert!(events.iter().all(|event| event.kind.ends_with(ChangeKind::Snapshot.as_str())));
    let mut copy = Replica::default();
    for event in events {
        copy.take(event);
    }
    assert_eq!(copy.difference(&world.tables.items()), None);
    let one = world.admin("POST", &format!("{CONNECTION}/snapshot"), "", r#"{"entity":"order"}"#).await;
    assert_eq!((one.0, &one.1["entity"]), (202, &json!("order")));
    let refused = world.admin("POST", &format!("{CONNECTION}/snapshot"), "", r#"{"entity":"x"}"#).await;
    assert_eq!(refused.0, 422);
}
