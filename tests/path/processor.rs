//! The processor: the outcomes of messages in any order and number, and its conduct when something fails.

use std::{collections::BTreeMap, sync::OnceLock};

use cloud::memory::{MemoryPlatform, TableFault};
use commerce::{
    change::Change,
    connection::{Connection, ConnectionStatus, DeletePolicy},
    entity::EntityKind,
    envelope::Envelope,
    http_call::{ApiResponse, Fault},
    item::Item,
    key::Generation,
    outcome::Rule,
    platform::{
        Platform,
        mapping::{Incoming, MapError, Mapped, Mapping},
        pull::{Next, Pull, Wanted},
    },
    transfer::EntityProcessor,
};
use processor::Message;
use proptest::{prelude::*, sample::Index};
use serde_json::{Value, json};
use tests::{
    platforms::{Simulator, Trouble},
    world::{Outside, World, delivered, key, message, messages, outcomes},
};

const CREDENTIALS: &str = r#"{"consumer_key":"ck_1","consumer_secret":"cs_1"}"#;
/// A time after everything that was recorded.
const LATER: i64 = 1_795_225_730_000;

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

async fn one_by_one(world: &World, messages: &[Message]) -> Vec<String> {
    let mut all = Vec::new();
    for message in messages {
        all.extend(outcomes(&world.process(std::slice::from_ref(message)).await));
    }
    all
}

/// Returns the final state of the recording.
fn recorded() -> &'static Vec<Item> {
    static STATE: OnceLock<Vec<Item>> = OnceLock::new();
    // A separate thread plays it, because the caller may already be running a runtime.
    STATE.get_or_init(|| {
        let played = std::thread::spawn(|| {
            let world = World::connected();
            run(one_by_one(&world, &messages()));
            world.state()
        });
        played.join().unwrap()
    })
}

fn order(status: &str, modified: &str) -> String {
    json!({ "id": 13, "status": status, "date_modified_gmt": modified, "total": "1.00" }).to_string()
}

mod recording {
    use super::*;

    #[tokio::test]
    async fn every_delivery_ends_in_an_outcome() {
        let world = World::connected();
        let outcomes = one_by_one(&world, &messages()).await;
        assert_eq!(outcomes.len(), 15);
        assert_eq!(outcomes.iter().filter(|outcome| *outcome == "applied").count(), 13);
        assert_eq!(outcomes.iter().filter(|outcome| *outcome == "unchanged").count(), 2);
        assert!(world.queues.dead().is_empty());
        for (entity, deleted) in [
            ("order#13", true),
            ("product#10", true),
            ("product#11", false),
            ("product#13", true),
            ("customer#2", true),
        ] {
            assert_eq!(world.item(entity).deleted, deleted, "{entity}");
        }
        assert_eq!(world.item("order#13").fields["status"], "completed");
    }

    #[tokio::test]
    async fn two_deliveries_with_one_delivery_id_both_take_effect() {
        let world = World::connected();
        let two: Vec<_> = messages().into_iter().skip(1).take(2).collect();
        let ids: Vec<_> = two.iter().map(|message| Envelope::parse(&message.body).unwrap().delivery_id).collect();
        assert_eq!(ids[0], ids[1]);
        assert_eq!(one_by_one(&world, &two).await, ["applied", "applied"]);
        assert_eq!(world.item("customer#2").fields["last_name"], "Lindqvist");
    }

    #[tokio::test]
    async fn of_two_states_in_one_second_the_later_received_wins() {
        let all = messages();
        let (processing, completed) = (all[7].clone(), all[10].clone());
        for order in [[&processing, &completed], [&completed, &processing]] {
            let world = World::connected();
            one_by_one(&world, &order.map(Clone::clone)).await;
            assert_eq!(world.item("order#13").fields["status"], "completed");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn any_order_any_number_any_batches_end_the_same(
            places in proptest::collection::vec(any::<Index>(), 15),
            again in proptest::collection::vec(any::<Index>(), 0..10),
            batch in 1_usize..12,
        ) {
            let mut rest = messages();
            let mut shuffled: Vec<Message> = places.iter().map(|place| rest.remove(place.index(rest.len()))).collect();
            for place in again {
                let copy = place.get(&shuffled).clone();
                shuffled.insert(place.index(shuffled.len()), copy);
            }
            let world = World::connected();
            run(async {
                for batch in shuffled.chunks(batch) {
                    assert!(world.process(batch).await.failures.is_empty());
                }
            });
            prop_assert_eq!(&world.state(), recorded());
        }
    }

    #[tokio::test]
    async fn what_was_deleted_stays_deleted_until_something_newer_comes() {
        let world = World::connected();
        one_by_one(&world, &messages()).await;
        // Delivery 022 comes again after 027, received later.
        let again: Value = serde_json::from_str(&messages()[10].body).unwrap();
        let body = again["content"]["delivery"]["text"].as_str().unwrap();
        one_by_one(&world, &[delivered("order.updated", body, LATER)]).await;
        assert!(world.item("order#13").deleted);
        // A body in the trash never revives, however new.
        let trashed = order("trash", "2026-11-21T02:00:00");
        one_by_one(&world, &[delivered("order.updated", &trashed, LATER + 1)]).await;
        assert!(world.item("order#13").deleted);
        // A newer source time revives it, and so does a restore, whose body is no newer.
        let newer = order("on-hold", "2026-11-21T02:00:00");
        one_by_one(&world, &[delivered("order.updated", &newer, LATER + 2)]).await;
        assert!(!world.item("order#13").deleted);
        one_by_one(&world, &[delivered("order.deleted", r#"{"id":13}"#, LATER + 3)]).await;
        assert!(world.item("order#13").deleted);
        one_by_one(&world, &[delivered("order.restored", &newer, LATER + 4)]).await;
        assert!(!world.item("order#13").deleted);
    }
}

mod economy {
    use super::*;

    #[tokio::test]
    async fn a_batch_is_one_read_and_at_most_one_write_for_each_entity() {
        let world = World::connected();
        let report = world.process(&messages()).await;
        assert!(report.failures.is_empty());
        assert_eq!(world.tables.calls(), (1, 5));
        assert_eq!(&world.state(), recorded());
        // Processing the batch again writes nothing, because nothing grows.
        world.process(&messages()).await;
        assert_eq!(world.tables.calls(), (2, 5));
    }

    #[tokio::test]
    async fn volatile_fields_make_no_change() {
        let world = World::connected();
        let product = |sales: i64, html: &str| {
            json!({ "id": 10, "name": "Tea", "date_modified_gmt": "2026-11-21T01:00:00", "total_sales": sales,
                    "price_html": html, "related_ids": [sales] })
            .to_string()
        };
        let first = delivered("product.updated", &product(1, "a"), LATER);
        let second = delivered("product.updated", &product(2, "b"), LATER + 1);
        assert_eq!(one_by_one(&world, &[first, second]).await, ["applied", "unchanged"]);
    }

    #[tokio::test]
    async fn the_recorded_items_cost_few_write_units() {
        let world = World::connected();
        let all = messages();
        one_by_one(&world, &all[..11]).await;
        let units = |sort: &str| world.item(sort).size().div_ceil(1024);
        assert_eq!((units("customer#2"), units("product#10"), units("order#13")), (1, 1, 2));
    }
}

mod rules {
    use super::*;

    #[tokio::test]
    async fn what_is_not_for_the_state_is_ignored_by_name() {
        let world = World::connected();
        let editor = json!({ "id": 1, "role": "editor", "email": "a@example.com" }).to_string();
        let vanished =
            json!({ "code": "woocommerce_rest_shop_order_invalid_id", "data": { "status": 404 } }).to_string();
        let messages = [
            delivered("action.woocommerce_add_to_cart", r#"{"action":"x","arg":"y"}"#, LATER),
            delivered("order.updated", &order("checkout-draft", "2026-11-21T02:00:00"), LATER + 1),
            delivered("customer.updated", &editor, LATER + 2),
            delivered("subscription.created", r#"{"id":1}"#, LATER + 3),
            delivered("order.updated", &vanished, LATER + 4),
        ];
        let expected = [
            "ignored: woocommerce-action",
            "ignored: woocommerce-checkout-draft",
            "ignored: woocommerce-not-a-customer",
            "ignored: unknown-scope",
            "ignored: woocommerce-vanished",
        ];
        assert_eq!(one_by_one(&world, &messages).await, expected);
        assert!(world.state().is_empty());
    }

    #[tokio::test]
    async fn the_connection_decides_what_is_taken() {
        let message = delivered("order.deleted", r#"{"id":13}"#, LATER);
        let take = async |change: &dyn Fn(&mut Connection)| {
            let world = World::connected();
            let mut connection = world.connection();
            change(&mut connection);
            world.tables.connect(&key(), connection);
            outcomes(&world.process(std::slice::from_ref(&message)).await).remove(0)
        };
        assert_eq!(take(&|_| {}).await, "applied");
        assert_eq!(take(&|c| c.status = ConnectionStatus::Disconnected).await, "ignored: disconnected");
        assert_eq!(take(&|c| c.generation = Generation::FIRST.next()).await, "ignored: retired-generation");
        let ignoring = BTreeMap::from([(EntityKind::Order, DeletePolicy::Ignore)]);
        assert_eq!(take(&|c| c.deletes = ignoring.clone()).await, "ignored: deletes-ignored");
        let unknown = World::new();
        assert_eq!(outcomes(&unknown.process(std::slice::from_ref(&message)).await), ["ignored: unknown-connection"]);
    }

    #[tokio::test]
    async fn remove_erases_the_fields_and_old_messages_do_not_bring_them_back() {
        let world = World::connected();
        let mut connection = world.connection();
        connection.deletes = BTreeMap::from([(EntityKind::Order, DeletePolicy::Remove)]);
        world.tables.connect(&key(), connection);
        let update = delivered("order.updated", &order("processing", "2026-11-21T01:48:40"), LATER);
        let delete = delivered("order.deleted", r#"{"id":13}"#, LATER + 1);
        assert_eq!(one_by_one(&world, &[update.clone(), delete]).await, ["applied", "applied"]);
        let item = world.item("order#13");
        assert!(item.deleted && item.fields.is_empty() && item.expires.is_some());
        // An old message must not create the item again on a table where it has expired.
        let later = World::connected();
        later.tables.connect(&key(), world.connection());
        later.clock.pass_seconds(24 * 24 * 60 * 60);
        assert_eq!(outcomes(&later.process(&[update]).await), ["quarantined: too-old"]);
        assert!(later.state().is_empty());
    }
}

mod quarantine {
    use super::*;

    #[tokio::test]
    async fn what_can_never_work_is_put_aside_at_once_with_its_reason_and_body() {
        let world = World::connected();
        let good = delivered("order.deleted", r#"{"id":13}"#, LATER);
        let mut other_platform = good.clone();
        other_platform.body = good.body.replace("woocommerce", "nosuch");
        let mut dropped = good.clone();
        dropped.body = good.body.replace(r#"{"text":"{\"id\":13}"}"#, r#"{"dropped":5300000}"#);
        assert_ne!(dropped.body, good.body);
        let denied = json!({ "code": "woocommerce_rest_cannot_view", "data": { "status": 401 } }).to_string();
        let cases = [
            (message(1, "hello"), "unknown-message"),
            (message(2, r#"{"version":99,"future":true}"#), "unknown-message"),
            (other_platform, "unknown-platform"),
            (dropped, "too-large"),
            (delivered("order.updated", "<html>", LATER + 1), "malformed"),
            (delivered("order.updated", "{}", LATER + 2), "malformed"),
            (delivered("order.updated", r#"{"id":13}"#, LATER + 3), "malformed"),
            (delivered("order.updated", r#"{"id":13,"status":"x","total":"many"}"#, LATER + 4), "malformed"),
            (delivered("order.updated", &denied, LATER + 5), "platform-error"),
            (
                delivered("order.updated", &format!(r#"{{"id":1,"data":[{}{{}}]}}"#, "{},".repeat(200_000)), LATER + 6),
                "too-large",
            ),
        ];
        for (bad, reason) in &cases {
            // The bad message does not affect a good one in the same batch.
            let report = world.process(&[bad.clone(), good.clone()]).await;
            assert!(report.failures.is_empty());
            assert_eq!(outcomes(&report)[0], format!("quarantined: {reason}"));
            let letter = world.queues.dead().pop().unwrap();
            assert_eq!((letter.body.as_str(), letter.reason.name()), (bad.body.as_str(), *reason));
            let lines = serde_json::to_string(&report.lines).unwrap();
            assert!(!lines.contains("many") && !lines.contains("<html>"), "{lines}");
        }
        let letter = world.queues.dead().pop().unwrap();
        let attributes = letter.attributes().into_iter().collect::<BTreeMap<_, _>>();
        assert_eq!(attributes["platform"], "woocommerce");
        assert_eq!(attributes["connection"], "shop.example.com");
        assert_eq!(attributes["scope"], "order.updated");
        assert!(world.item("order#13").deleted);
    }

    #[tokio::test]
    async fn an_item_that_is_too_large_loses_extra_first_and_is_then_put_aside() {
        let world = World::connected();
        let text = "x".repeat(420_000);
        let extra = json!({ "id": 10, "name": "Tea", "more": text }).to_string();
        let fields = json!({ "id": 11, "name": text }).to_string();
        let messages = [delivered("product.updated", &extra, LATER), delivered("product.updated", &fields, LATER + 1)];
        assert_eq!(one_by_one(&world, &messages).await, ["applied", "quarantined: item-too-large"]);
        let item = world.item("product#10");
        assert!(item.truncated && item.extra.is_empty() && item.fields["name"] == "Tea");
    }

    #[tokio::test]
    async fn a_body_that_is_too_large_takes_no_other_message_with_it() {
        let world = World::connected();
        let large =
            json!({ "id": 11, "name": "x".repeat(420_000), "date_modified_gmt": "2026-11-21T02:00:00" }).to_string();
        let small = json!({ "id": 11, "name": "Tin", "date_modified_gmt": "2026-11-21T01:00:00" }).to_string();
        let batch = [
            delivered("product.updated", &small, LATER),
            delivered("product.updated", &large, LATER + 1),
            delivered("product.deleted", r#"{"id":11}"#, LATER + 2),
        ];
        let ends = outcomes(&world.process(&batch).await);
        assert_eq!(ends, ["applied", "quarantined: item-too-large", "applied"]);
        let item = world.item("product#11");
        assert!(item.deleted && item.fields["name"] == "Tin");
    }

    #[tokio::test]
    async fn what_would_have_been_ignored_is_not_put_aside() {
        let world = World::connected();
        let mut connection = world.connection();
        connection.status = ConnectionStatus::Disconnected;
        world.tables.connect(&key(), connection);
        let report = world.process(&[delivered("order.updated", "<html>", LATER)]).await;
        assert_eq!(outcomes(&report), ["ignored: disconnected"]);
        assert!(world.queues.dead().is_empty());
    }

    #[tokio::test]
    async fn what_fails_comes_back_later_and_later_and_is_put_aside_the_fifth_time() {
        let world = World::connected();
        for attempts in 1..=5 {
            let failing = Message { attempts, ..delivered("order.deleted", r#"{"id":13}"#, LATER) };
            world.tables.break_next([TableFault::WriteRefused]);
            let report = world.process(std::slice::from_ref(&failing)).await;
            if attempts < 5 {
                assert_eq!(outcomes(&report), ["failed: state-unavailable"]);
                assert_eq!(report.failures, [failing.id]);
            } else {
                assert_eq!(outcomes(&report), ["quarantined: state-unavailable"]);
                assert!(report.lines.iter().any(|line| line["detail"] == "PutItem: refused"), "with its cause");
                assert!(report.failures.is_empty());
            }
        }
        let delays: Vec<_> = world.queues.retried().into_iter().map(|(_, seconds)| seconds).collect();
        assert_eq!(delays, [10, 40, 160, 640]);
    }

    #[tokio::test]
    async fn what_cannot_be_put_aside_stays_on_the_queue() {
        let world = World::connected();
        world.queues.refuse(true);
        let report = world.process(&[message(1, "hello")]).await;
        assert_eq!(report.failures, ["m1"]);
    }
}

mod isolation {
    use super::*;

    /// A mapping like WooCommerce's that panics on one entity.
    struct Panicking;

    impl Mapping for Panicking {
        fn processors(&self) -> &'static [EntityProcessor] {
            PLATFORM.mapping.processors()
        }
        fn ignores(&self, scope: &str) -> Option<Rule> {
            PLATFORM.mapping.ignores(scope)
        }
        fn map(&self, incoming: &Incoming<'_>) -> Result<Mapped, MapError> {
            assert!(incoming.body != br#"{"id":666}"#, "poison");
            PLATFORM.mapping.map(incoming)
        }
    }

    impl Pull for Panicking {
        fn pull(&self, _: &Wanted<'_>, _: &[ApiResponse]) -> Result<Next, Fault> {
            panic!("poison")
        }
    }

    static POISONED: [Platform; 1] = [Platform { mapping: &Panicking, pull: Some(&Panicking), ..PLATFORM }];
    const PLATFORM: Platform = commerce::platforms::woocommerce::PLATFORM;

    #[tokio::test]
    async fn a_panic_touches_no_other_message() {
        let world = World::connected();
        let poison = delivered("order.deleted", r#"{"id":666}"#, LATER);
        let good = delivered("order.deleted", r#"{"id":13}"#, LATER + 1);
        let deadline = world.clock.now().plus_seconds(60);
        let report = world.processor_for(&POISONED).process(&[poison.clone(), good], deadline).await;
        assert_eq!(outcomes(&report), ["failed: panic", "applied"]);
        assert_eq!(report.failures, [poison.id]);
    }

    #[tokio::test]
    async fn a_panic_while_an_entity_is_brought_up_to_date_touches_no_other_entity() {
        let world = World::connected();
        world.connect(Some(CREDENTIALS));
        let pulls = delivered("order.deleted", r#"{"id":13}"#, LATER);
        let does_not =
            delivered("order.updated", &order("processing", "2026-11-21T02:00:00").replace("13", "14"), LATER + 1);
        let deadline = world.clock.now().plus_seconds(60);
        let report = world.processor_for(&POISONED).process(&[pulls, does_not], deadline).await;
        assert_eq!(outcomes(&report), ["failed: panic", "applied"]);
    }

    #[tokio::test]
    async fn a_failed_write_fails_all_that_were_merged_into_it_and_nothing_else() {
        let world = World::connected();
        world.tables.break_next([TableFault::WriteRefused]);
        let messages = [
            delivered("customer.deleted", r#"{"id":1}"#, LATER),
            delivered("customer.deleted", r#"{"id":1}"#, LATER + 1),
            delivered("order.deleted", r#"{"id":13}"#, LATER + 2),
        ];
        let report = world.process(&messages).await;
        assert_eq!(outcomes(&report), ["failed: state-unavailable", "failed: state-unavailable", "applied"]);
    }

    #[tokio::test]
    async fn what_is_not_finished_by_the_deadline_comes_back() {
        let mut world = World::connected();
        world.connect(Some(CREDENTIALS));
        world.outside = Outside::Silent;
        let hangs = delivered("order.deleted", r#"{"id":13}"#, LATER);
        let does_not =
            delivered("order.updated", &order("processing", "2026-11-21T02:00:00").replace("13", "14"), LATER + 1);
        let report = world.processor().process(&[hangs.clone(), does_not], world.clock.now()).await;
        assert_eq!(outcomes(&report), ["unfinished", "applied"]);
        assert_eq!(report.failures, [hangs.id]);
        assert!(world.queues.dead().is_empty());
    }
}

mod if_known {
    use super::*;

    const DRAFT: Rule = Rule("a-draft");
    const PLATFORM: Platform = commerce::platforms::woocommerce::PLATFORM;

    /// A store whose orders begin as drafts, which count only if the order is known.
    #[derive(Debug)]
    struct Drafts;

    fn drafts(mapped: Mapped) -> Mapped {
        match mapped {
            Mapped::Change(id, Change::Upsert(upsert)) if upsert.content.fields["status"] == "sketch" => {
                Mapped::IfKnown(id, Change::Upsert(upsert), DRAFT)
            }
            other => other,
        }
    }

    impl Mapping for Drafts {
        fn processors(&self) -> &'static [EntityProcessor] {
            PLATFORM.mapping.processors()
        }
        fn ignores(&self, scope: &str) -> Option<Rule> {
            PLATFORM.mapping.ignores(scope)
        }
        fn map(&self, incoming: &Incoming<'_>) -> Result<Mapped, MapError> {
            PLATFORM.mapping.map(incoming).map(drafts)
        }
    }

    impl Pull for Drafts {
        /// Asks for the order twice.
        fn pull(&self, wanted: &Wanted<'_>, answers: &[ApiResponse]) -> Result<Next, Fault> {
            match (PLATFORM.pull.unwrap().pull(wanted, answers)?, PLATFORM.pull.unwrap().pull(wanted, &[])?) {
                (Next::Done(_), again @ Next::Ask(_)) if answers.len() == 1 => Ok(again),
                (Next::Done(mapped), _) => Ok(Next::Done(drafts(mapped))),
                (ask, _) => Ok(ask),
            }
        }
        fn only_if_known(&self, _: &Wanted<'_>, answers: &[ApiResponse]) -> Option<Rule> {
            let answer: Value = serde_json::from_slice(&answers.last()?.body).ok()?;
            (answer["status"] == "sketch").then_some(DRAFT)
        }
    }

    static DRAFTING: [Platform; 1] = [Platform { mapping: &Drafts, pull: Some(&Drafts), ..PLATFORM }];

    async fn process(world: &World, messages: &[Message]) -> Vec<String> {
        let deadline = world.clock.now().plus_seconds(60);
        outcomes(&world.processor_for(&DRAFTING).process(messages, deadline).await)
    }

    fn draft(at: i64) -> Message {
        delivered("order.updated", &order("sketch", "2026-11-21T02:00:00"), at)
    }

    #[tokio::test]
    async fn a_delivery_that_counts_only_if_its_entity_is_known() {
        let world = World::connected();
        assert_eq!(process(&world, &[draft(LATER)]).await, ["ignored: a-draft"]);
        assert!(world.state().is_empty());
        let placed = delivered("order.updated", &order("processing", "2026-11-21T01:00:00"), LATER + 1);
        assert_eq!(process(&world, &[placed]).await, ["applied"]);
        assert_eq!(process(&world, &[draft(LATER + 2)]).await, ["applied"]);
        assert_eq!(world.item("order#13").fields["status"], "sketch");
        // A deleted order is known too.
        let gone = delivered("order.deleted", r#"{"id":13}"#, LATER + 3);
        assert_eq!(process(&world, &[gone]).await, ["applied"]);
        assert!(world.item("order#13").deleted);
        let newer = delivered("order.updated", &order("sketch", "2026-11-21T03:00:00"), LATER + 4);
        assert_eq!(process(&world, &[newer]).await, ["applied"]);
        assert!(!world.item("order#13").deleted);
    }

    #[tokio::test]
    async fn within_one_batch_the_order_does_not_matter() {
        let placed = delivered("order.updated", &order("processing", "2026-11-21T01:00:00"), LATER + 1);
        for batch in [[draft(LATER), placed.clone()], [placed, draft(LATER)]] {
            let world = World::connected();
            assert!(!process(&world, &batch).await.contains(&"ignored: a-draft".to_owned()));
            assert_eq!(world.item("order#13").fields["status"], "sketch");
        }
    }

    #[tokio::test]
    async fn a_pull_that_counts_only_if_its_entity_is_known_asks_no_more_than_shows_it() {
        let world = World::new();
        world.connect(Some(CREDENTIALS));
        let at = |status: &str, time: &str| json!({ "id": 13, "status": status, "date_modified_gmt": time, "total": "1.00" });
        world.store().set("orders", 13, Some(at("sketch", "2026-11-21T02:00:00")));
        let hint = |n: i64| delivered("order.restored", &order("sketch", "2026-11-21T01:00:00"), LATER + n);
        assert_eq!(process(&world, &[hint(0)]).await, ["ignored: a-draft"]);
        assert_eq!(world.store().calls().len(), 1);
        assert!(world.state().is_empty());
        let placed = delivered("order.updated", &order("processing", "2026-11-21T01:00:00"), LATER + 1);
        assert_eq!(process(&world, &[placed]).await, ["applied"]);
        assert_eq!(process(&world, &[hint(2)]).await, ["applied"]);
        assert_eq!(world.store().calls().len(), 2);
        assert_eq!(world.item("order#13").fields["status"], "sketch");
        assert_eq!(process(&world, &[hint(3)]).await, ["unchanged"]);
    }
}

mod telling {
    use super::*;

    #[tokio::test]
    async fn a_batch_is_one_line_a_metric_for_each_outcome_and_a_line_for_what_went_wrong() {
        let world = World::connected();
        let messages = [
            delivered("order.deleted", r#"{"id":13}"#, LATER),
            delivered("action.x", "{}", LATER + 1),
            message(1, "hello"),
        ];
        let report = world.process(&messages).await;
        let lines: Vec<&Value> = report.lines.iter().collect();
        assert_eq!(lines.len(), 1 + 3 + 1 + 1);
        assert_eq!(lines[0]["event"], "batch");
        assert_eq!(lines[0]["outcomes"], json!({ "applied": 1, "ignored": 1, "quarantined": 1 }));
        assert_eq!(lines[0]["keys"], json!({ "sample": 2 }));
        let trace = "sample-027";
        let ended = |message: &Message, end: &str| json!({ "message_id": message.id, "trace": trace, "end": end });
        let mut deleted = ended(&messages[0], "applied");
        deleted["entity"] = "order/13".into();
        let ignored = ended(&messages[1], "ignored: woocommerce-action");
        let aside = json!({ "message_id": "m1", "trace": "m1", "end": "quarantined: unknown-message" });
        assert_eq!(lines[0]["ends"], json!([deleted, ignored, aside]));
        assert_eq!(lines[0]["traces"], json!(["m1", trace]));
        for metric in &lines[1..4] {
            assert_eq!(metric["_aws"]["CloudWatchMetrics"][0]["Dimensions"], json!([["outcome", "platform"]]));
            assert_eq!(metric["Messages"], 1);
        }
        let mut counted: Vec<_> = lines[1..4].iter().map(|l| format!("{} {}", l["platform"], l["outcome"])).collect();
        counted.sort();
        assert_eq!(counted, [r#""unknown" "quarantined""#, r#""woocommerce" "applied""#, r#""woocommerce" "ignored""#]);
        let took = &lines[4]["ReceiptToState"];
        assert!(took.as_array().is_some_and(|took| took.len() == 1 && took[0].as_i64() > Some(0)), "{took}");
        assert_eq!((&lines[4]["platform"], &lines[4]["trace"]), (&json!("woocommerce"), &json!(trace)));
        assert_eq!(lines[5]["reason"], "unknown-message");
        assert_eq!((&lines[5]["message_id"], &lines[5]["trace"]), (&json!("m1"), &json!("m1")));
    }
}

mod asking {
    use super::*;

    /// Makes a connected store with credentials, which has an order as the API shows it.
    fn with_store(order: Option<Value>) -> World {
        let world = World::new();
        world.connect(Some(CREDENTIALS));
        world.store().set("orders", 13, order);
        world
    }

    fn api_order(status: &str) -> Value {
        json!({ "id": 13, "status": status, "date_modified_gmt": "2026-11-21T01:48:40", "total": "1.00" })
    }

    /// Makes such a store, whose order was delivered before.
    async fn with_known(order: Option<Value>) -> World {
        let world = with_store(order);
        let before = delivered("order.created", &super::order("pending", "2026-11-21T01:00:00"), LATER - 1);
        assert_eq!(outcomes(&world.process(&[before]).await), ["applied"]);
        world.store().calls();
        world
    }

    async fn delete(world: &World) -> String {
        let mut ends = outcomes(&world.process(&[delivered("order.deleted", r#"{"id":13}"#, LATER)]).await);
        ends.remove(0)
    }

    #[tokio::test]
    async fn a_delete_is_confirmed_by_the_platform() {
        let gone = with_store(None);
        assert_eq!(delete(&gone).await, "ignored: never-here");
        assert!(gone.state().is_empty());
        assert_eq!(gone.store().calls(), ["GET /wp-json/wc/v3/orders/13"]);
        let known = with_known(None).await;
        assert_eq!(delete(&known).await, "applied");
        assert!(known.item("order#13").deleted);
        let trashed = with_store(Some(api_order("trash")));
        assert_eq!(delete(&trashed).await, "applied");
        assert!(trashed.item("order#13").deleted);
    }

    #[tokio::test]
    async fn a_delete_that_was_sent_again_does_not_delete_what_is_there() {
        let world = with_store(Some(api_order("processing")));
        assert_eq!(delete(&world).await, "applied");
        let item = world.item("order#13");
        assert!(!item.deleted && item.fields["status"] == "processing");
        assert_eq!(delete(&world).await, "unchanged");
    }

    #[tokio::test]
    async fn a_404_that_is_not_the_platform_s_own_is_never_a_delete() {
        let world = with_store(Some(api_order("processing")));
        world.store().trouble(&[Trouble::NotFoundPage]);
        assert_eq!(delete(&world).await, "failed: connection-fault");
        world.store().replace_key("ck_2", "cs_2");
        assert_eq!(delete(&world).await, "failed: connection-fault");
        assert!(world.state().is_empty());
        let fifth = Message { attempts: 5, ..delivered("order.deleted", r#"{"id":13}"#, LATER) };
        assert_eq!(outcomes(&world.process(&[fifth]).await), ["quarantined: connection-fault"]);
    }

    #[tokio::test]
    async fn a_store_that_is_down_or_busy_is_asked_again() {
        let world = with_known(None).await;
        world.store().trouble(&[Trouble::Broken, Trouble::TooMany(120)]);
        assert_eq!(delete(&world).await, "failed: platform-unavailable");
        assert_eq!(delete(&world).await, "deferred by 120 s");
        let (copy, delay) = world.queues.sent().remove(0);
        assert_eq!(delay, 120);
        let copy = message(1, copy.text());
        // The platform is not asked before that.
        assert_eq!(outcomes(&world.process(std::slice::from_ref(&copy)).await), ["deferred by 120 s"]);
        world.clock.pass_seconds(120);
        assert_eq!(Envelope::parse(&copy.body).unwrap().deferrals, 1);
        assert_eq!(outcomes(&world.process(&[copy]).await), ["applied"]);
    }

    #[tokio::test]
    async fn a_message_is_not_put_off_for_ever() {
        let world = with_store(None);
        world.store().trouble(&[Trouble::TooMany(1)]);
        let mut message = delivered("order.deleted", r#"{"id":13}"#, LATER);
        message.body = message.body.replace(r#""content""#, r#""deferrals":200,"content""#);
        assert_eq!(outcomes(&world.process(std::slice::from_ref(&message)).await), ["quarantined: deferred-too-often"]);
        // A message that is always told to wait for a second asks ever more rarely.
        world.store().trouble(&[Trouble::TooMany(1)]);
        message.body = message.body.replace(r#""deferrals":200"#, r#""deferrals":6"#);
        assert_eq!(outcomes(&world.process(&[message]).await), ["deferred by 64 s"]);
    }

    #[tokio::test]
    async fn many_hints_about_one_entity_are_one_call() {
        let world = with_known(None).await;
        let messages: Vec<_> = (0..5).map(|n| delivered("order.deleted", r#"{"id":13}"#, LATER + n)).collect();
        let ends = outcomes(&world.process(&messages).await);
        assert_eq!(ends, ["applied", "unchanged", "unchanged", "unchanged", "unchanged"]);
        assert_eq!(world.store().calls().len(), 1);
    }

    #[tokio::test]
    async fn a_tie_is_decided_by_the_platform() {
        let world = with_store(Some(api_order("completed")));
        let tied = |status: &str, at| delivered("order.updated", &order(status, "2026-11-21T01:48:40"), at);
        assert_eq!(outcomes(&world.process(&[tied("completed", LATER)]).await), ["applied"]);
        assert!(world.store().calls().is_empty());
        // This one is received later, but the store says that it is not newer.
        assert_eq!(outcomes(&world.process(&[tied("processing", LATER + 1)]).await), ["superseded"]);
        assert_eq!(world.item("order#13").fields["status"], "completed");
        assert_eq!(world.store().calls(), ["GET /wp-json/wc/v3/orders/13"]);
    }

    #[tokio::test]
    async fn a_restore_that_was_sent_again_does_not_revive_what_is_gone() {
        let world = with_known(None).await;
        assert_eq!(delete(&world).await, "applied");
        let again = delivered("order.restored", &order("processing", "2026-11-21T01:48:40"), LATER + 9);
        assert_eq!(outcomes(&world.process(&[again]).await), ["unchanged"]);
        assert!(world.item("order#13").deleted);
    }

    #[tokio::test]
    async fn a_pull_takes_no_deletes_where_the_connection_does_not() {
        let world = with_store(Some(api_order("trash")));
        let mut connection = world.connection();
        connection.deletes = BTreeMap::from([(EntityKind::Order, DeletePolicy::Ignore)]);
        world.tables.connect(&key(), connection);
        for (n, status) in ["processing", "completed"].into_iter().enumerate() {
            let tied =
                delivered("order.updated", &order(status, "2026-11-21T01:48:40"), LATER + i64::try_from(n).unwrap());
            assert_eq!(outcomes(&world.process(&[tied]).await), ["applied"]);
        }
        assert_eq!(world.store().calls().len(), 1);
        let item = world.item("order#13");
        assert!(!item.deleted && item.fields["status"] == "completed");
    }

    #[tokio::test]
    async fn a_pull_that_began_before_a_delete_does_not_revive() {
        // The store answers with the order from the time of the call; the delete comes during the call.
        let world = with_store(None);
        let clock = world.clock.clone();
        let scripted = MemoryPlatform::new(move |_| {
            clock.pass_seconds(10);
            let body = json!({ "id": 13, "status": "processing", "date_modified_gmt": "2026-11-21T01:48:40" });
            Ok(ApiResponse { status: 200, headers: http::HeaderMap::new(), body: body.to_string().into() })
        });
        let mut slow = world.clone();
        slow.outside = Outside::Scripted(scripted);
        let began = world.clock.now().micros() / 1000;
        assert_eq!(delete(&slow).await, "applied");
        assert!(!world.item("order#13").deleted);
        world.connect(None);
        let during = delivered("order.deleted", r#"{"id":13}"#, began + 5_000);
        assert_eq!(outcomes(&world.process(&[during]).await), ["applied"]);
        assert!(world.item("order#13").deleted);
    }

    #[tokio::test]
    async fn what_the_platform_answers_is_later_than_what_made_us_ask_whatever_the_clock_says() {
        let world = with_known(None).await;
        world.clock.pass_seconds(-3_600);
        assert_eq!(delete(&world).await, "applied");
        assert!(world.item("order#13").deleted);
    }

    #[tokio::test]
    async fn what_the_platform_answers_is_later_than_what_was_known_before_by_another_clock() {
        let world = with_store(Some(api_order("processing")));
        world.clock.pass_seconds(3_600);
        assert_eq!(delete(&world).await, "applied");
        assert!(!world.item("order#13").deleted);
        world.clock.pass_seconds(-3_590);
        world.store().set("orders", 13, None);
        assert_eq!(delete(&world).await, "applied");
        assert!(world.item("order#13").deleted);
    }

    #[tokio::test]
    async fn an_answer_that_meets_a_write_by_a_clock_ahead_is_asked_for_again() {
        let world = with_known(Some(api_order("processing"))).await;
        world.clock.pass_seconds(3_600);
        assert_eq!(delete(&world).await, "applied");
        world.clock.pass_seconds(-3_590);
        world.store().set("orders", 13, None);
        // The item is read as it was before the other environment wrote it.
        world.tables.break_next([TableFault::StaleRead]);
        assert_eq!(delete(&world).await, "failed: contention");
        assert_eq!(delete(&world).await, "applied");
        assert!(world.item("order#13").deleted);
    }

    #[tokio::test]
    async fn a_delete_that_finds_what_a_clock_ahead_has_made_meanwhile_is_asked_for_again() {
        let world = with_store(None);
        let hour_ahead = (world.clock.now().seconds() + 3_600) * 1000;
        let made = delivered("order.created", &super::order("pending", "2026-11-21T01:00:00"), hour_ahead);
        assert_eq!(outcomes(&world.process(&[made]).await), ["applied"]);
        // The order is read as it was before the other environment made it.
        world.tables.break_next([TableFault::StaleRead]);
        assert_eq!(delete(&world).await, "failed: contention");
        assert_eq!(delete(&world).await, "applied");
        assert!(world.item("order#13").deleted);
    }
}

mod writing {
    use super::*;

    #[tokio::test]
    async fn a_write_whose_answer_was_lost_is_known_by_its_writer() {
        let world = World::connected();
        world.tables.break_next([TableFault::AnswerLost]);
        let message = delivered("order.deleted", r#"{"id":13}"#, LATER);
        assert_eq!(outcomes(&world.process(&[message]).await), ["applied"]);
        assert_eq!(world.tables.calls(), (1, 1));
    }

    #[tokio::test]
    async fn unprocessed_keys_are_not_absent_keys() {
        let world = World::connected();
        world.tables.break_next([TableFault::Unprocessed]);
        let message = delivered("order.deleted", r#"{"id":13}"#, LATER);
        assert_eq!(outcomes(&world.process(&[message]).await), ["failed: state-unavailable"]);
        assert!(world.state().is_empty());
    }

    fn faults() -> impl Strategy<Value = TableFault> {
        prop_oneof![
            Just(TableFault::StaleRead),
            Just(TableFault::Unprocessed),
            Just(TableFault::WriteRefused),
            Just(TableFault::AnswerLost),
            Just(TableFault::LandsAndFails),
            Just(TableFault::Expires),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]

        /// Whatever faults the table has, the final state is the join of all deliveries.
        #[test]
        fn faults_change_nothing_but_the_number_of_tries(
            faults in proptest::collection::vec(faults(), 0..12),
            places in proptest::collection::vec(any::<Index>(), 15),
            batch in 1_usize..8,
        ) {
            let world = World::connected();
            world.tables.break_next(faults);
            let mut rest = messages();
            let mut waiting: Vec<Message> = places.iter().map(|place| rest.remove(place.index(rest.len()))).collect();
            run(async {
                while !waiting.is_empty() {
                    let taken: Vec<_> = waiting.drain(..batch.min(waiting.len())).collect();
                    let report = world.process(&taken).await;
                    waiting.extend(taken.into_iter().filter(|message| report.failures.contains(&message.id)));
                }
            });
            prop_assert_eq!(&world.state(), recorded());
            prop_assert!(world.queues.dead().is_empty());
        }
    }

    #[tokio::test]
    async fn an_item_that_expires_between_read_and_put_is_made_anew() {
        let world = World::connected();
        let mut connection = world.connection();
        connection.deletes = BTreeMap::from([(EntityKind::Order, DeletePolicy::Remove)]);
        world.tables.connect(&key(), connection);
        let gone = delivered("order.deleted", r#"{"id":13}"#, LATER);
        assert_eq!(outcomes(&world.process(&[gone]).await), ["applied"]);
        world.tables.break_next([TableFault::Expires]);
        let newer = delivered("order.updated", &order("processing", "2026-11-21T02:00:00"), LATER + 1);
        assert_eq!(outcomes(&world.process(&[newer]).await), ["applied"]);
        let item = world.item("order#13");
        assert!(!item.deleted && item.expires.is_none() && item.fields["status"] == "processing");
        assert_eq!(world.tables.calls(), (2, 3), "a conflict, and once more");
    }

    #[tokio::test]
    async fn processors_side_by_side_lose_nothing() {
        let world = World::connected();
        let all = messages();
        // Stale reads are as if two processors had read before either writes: every second write conflicts.
        world.tables.break_next([TableFault::StaleRead; 20]);
        for message in &all {
            let report = world.process(std::slice::from_ref(message)).await;
            assert!(report.failures.is_empty());
        }
        assert_eq!(&world.state(), recorded());
    }
}

mod policies {
    use commerce::job::{Job, Trigger};

    use super::*;

    fn with_policy(world: &World, policy: DeletePolicy) {
        let mut connection = world.connection();
        connection.deletes = BTreeMap::from([(EntityKind::Order, policy)]);
        world.tables.connect(&key(), connection);
    }

    #[tokio::test]
    async fn under_remove_nothing_new_is_seen_below_a_delete() {
        let world = World::connected();
        with_policy(&world, DeletePolicy::Remove);
        let changes = [
            delivered("order.updated", &order("processing", "2026-11-21T01:00:00"), LATER),
            delivered("order.deleted", r#"{"id":13}"#, LATER + 20),
            delivered("order.updated", &order("completed", "2026-11-21T01:00:05"), LATER + 10),
        ];
        let before = one_by_one(&world, &changes[..2]).await;
        assert_eq!(before, ["applied", "applied"]);
        let removed = world.item("order#13");
        assert!(removed.deleted && removed.fields.is_empty());
        world.clock.pass_seconds(5);
        assert_eq!(one_by_one(&world, &changes[2..]).await, ["unchanged"]);
        let later = world.item("order#13");
        assert_eq!((&later.changed_at, later.unchanged), (&removed.changed_at, true));
        assert_ne!(later.rev, removed.rev, "it is recorded all the same");
    }

    #[tokio::test]
    async fn one_message_says_applied_once_though_two_processors_hold_it() {
        let world = World::connected();
        let one = delivered("order.updated", &order("processing", "2026-11-21T01:00:00"), LATER);
        assert_eq!(outcomes(&world.process(std::slice::from_ref(&one)).await), ["applied"]);
        // The other processor has read before the first one wrote.
        world.tables.break_next([TableFault::StaleRead]);
        assert_eq!(outcomes(&world.process(std::slice::from_ref(&one)).await), ["unchanged"]);
        // A processor whose own write landed without an answer says so.
        let next = delivered("order.updated", &order("completed", "2026-11-21T01:00:09"), LATER + 1);
        world.tables.break_next([TableFault::AnswerLost]);
        assert_eq!(outcomes(&world.process(&[next]).await), ["applied"]);
    }

    #[tokio::test]
    async fn what_is_revived_without_its_content_is_asked_for() {
        let world = World::new();
        world.connect(Some(CREDENTIALS));
        with_policy(&world, DeletePolicy::Remove);
        world.store().set("orders", 13, None);
        let changes = [
            delivered("order.updated", &order("v3", "2026-11-21T01:00:03"), LATER),
            delivered("order.deleted", r#"{"id":13}"#, LATER + 20),
        ];
        assert_eq!(one_by_one(&world, &changes).await, ["applied", "applied"]);
        assert!(world.item("order#13").fields.is_empty());
        // The order exists again, but the delivery about it is an older one.
        let body: Value = serde_json::from_str(&order("v4", "2026-11-21T01:00:09")).unwrap();
        world.store().set("orders", 13, Some(body));
        world.clock.pass_seconds(60);
        let back = delivered("order.restored", &order("v2", "2026-11-21T01:00:02"), world.clock.now().micros() / 1000);
        assert_eq!(one_by_one(&world, &[back]).await, ["applied"]);
        let item = world.item("order#13");
        assert_eq!((item.deleted, item.partial, item.fields["status"].as_str()), (false, false, Some("v4")));
    }

    #[tokio::test]
    async fn a_changed_policy_applies_to_what_is_already_marked() {
        let world = World::connected();
        for id in 1..=130 {
            let body = order("x", "2026-11-21T01:00:00").replace("13", &id.to_string());
            world.process(&[delivered("order.updated", &body, LATER)]).await;
            if id % 2 == 0 {
                let gone = json!({ "id": id }).to_string();
                world.process(&[delivered("order.deleted", &gone, LATER + 1)]).await;
            }
        }
        let marked = world.item("order#2");
        assert!(marked.deleted && !marked.fields.is_empty());
        world.clock.pass_seconds(5);
        let settings = json!({ "site": world.connection().site, "deletes": { "order": "remove" } }).to_string();
        let sent = world.queues.sent().len();
        let (status, shown) = world.admin("PUT", "shop.example.com", "", &settings).await;
        assert_eq!(status, 200, "{shown}");
        let check = Job::check(&key(), Trigger::Connected);
        world.registrar().run(&check.text()).await.unwrap();
        assert!(world.connection().reproject.is_empty());
        assert_eq!(world.drain(sent).await, ["ignored: reprojected"]);
        let items = world.state();
        let emptied = items.iter().filter(|item| item.deleted && item.fields.is_empty() && item.expires.is_some());
        assert_eq!((emptied.count(), items.iter().filter(|item| !item.deleted).count()), (65, 65));
        assert!(world.item("order#2").changed_at > marked.changed_at);
        // Items that are as they should be are not written.
        let (_, writes) = world.tables.calls();
        world.process(&[message(1, world.queues.sent()[sent].0.text())]).await;
        assert_eq!(world.tables.calls().1, writes);
    }
}
