//! Bounds on input, and the treatment of input that cannot be read: deliveries, items, pages, settings.

use cloud::memory::MemoryPlatform;
use commerce::{
    connection::Connection,
    entity::{EntityKey, EntityKind},
    envelope::Envelope,
    http_call::{ApiRequest, ApiResponse, Fault},
    key::ConnectionKey,
    request::WebhookPath,
};
use serde_json::{Value, json};
use tests::{
    platforms::{Delivery, json_answer},
    world::{BASE, Outside, World, delivered, gateway_event, key, message, outcomes, request},
};
use tools::events::sample_ring;

const WOO: &str = r#"{"consumer_key":"ck_1","consumer_secret":"cs_1"}"#;
const LATER: i64 = 1_795_225_730_000;

fn of(platform: &str, connection: &str) -> ConnectionKey {
    WebhookPath::parse(platform, connection, None).unwrap().key
}

/// Makes a world with one connection, and a platform that answers by a function.
fn scripted(
    key: &ConnectionKey,
    site: &str,
    credentials: &str,
    answer: impl Fn(&ApiRequest) -> ApiResponse + Send + Sync + 'static,
) -> (World, MemoryPlatform) {
    let mut world = World::new();
    let platform = MemoryPlatform::new(move |request| Ok::<_, Fault>(answer(request)));
    world.outside = Outside::Scripted(platform.clone());
    let credentials = Some(format!("{key}|{credentials}"));
    world.tables.connect(key, Connection { revision: 1, credentials, ..Connection::new(site) });
    (world, platform)
}

mod directscale {
    use super::*;

    fn world() -> World {
        let world = World::new();
        world.tables.connect(&of("directscale", "acme"), Connection::new("https://acme.corpadmin.directscale.com"));
        world
    }

    /// Delivers a body as DirectScale does, and processes it.
    async fn deliver(world: &World, headers: &[(&str, &str)], body: &str) -> String {
        let path = WebhookPath::parse("directscale", "acme", None).unwrap();
        let key = sample_ring().signing().webhook_secret(&path, None).reveal().to_owned();
        let already = world.queues.sent().len();
        let own = [
            ("authorization", format!("Bearer {key}")),
            ("x-directscale-client-id", "acme".to_owned()),
            ("x-directscale-message-id", format!("m{already}")),
        ];
        let mut all: Vec<_> = own.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        all.extend(headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let url = format!("{BASE}/hooks/directscale/acme");
        let delivery =
            Delivery { method: http::Method::POST, url, headers: all, body: body.to_owned().into(), attempts: 0 };
        world.clock.pass_seconds(1);
        let event = gateway_event(&delivery, world.clock.now()).unwrap();
        assert_eq!(world.receiver.receive(request(&event)).await.status().as_u16(), 200);
        world.drain(already).await.remove(0)
    }

    fn order(time: u8, members: &str) -> String {
        format!(
            r#"{{"EventType":"CreateOrderEvent","EventDateUtc":"2026-11-21T01:48:{time:02}Z","OrderNumber":7,{members}}}"#
        )
    }

    fn nested(levels: usize) -> String {
        format!("{}1{}", "[".repeat(levels), "]".repeat(levels))
    }

    #[tokio::test]
    async fn who_it_was_travels_with_the_delivery() {
        let world = world();
        let user = [("x-directscale-user", "ada@example.com")];
        assert_eq!(deliver(&world, &user, r#"{"EventType":"DailyEvent"}"#).await, "applied");
        assert_eq!(world.item("record#m0").fields["user"], "ada@example.com");
        assert_eq!(deliver(&world, &user, &order(1, r#""OrderStatus":"Paid""#)).await, "applied");
        assert_eq!(world.item("order#7").extra["users"], json!({"CreateOrderEvent": "ada@example.com"}));
        // Without a user, the delivery says the same.
        assert_eq!(deliver(&world, &[], &order(1, r#""OrderStatus":"Paid""#)).await, "unchanged");
        assert_eq!(deliver(&world, &[], r#"{"EventType":"DailyEvent"}"#).await, "applied");
        assert_eq!(world.item("record#m3").fields.get("user"), None);
        let sent: Vec<_> =
            world.queues.sent().iter().map(|(sealed, _)| Envelope::parse(sealed.text()).unwrap().user).collect();
        assert_eq!(sent, [Some("ada@example.com".to_owned()), Some("ada@example.com".to_owned()), None, None]);
        // An invalid name is left out, and does not stop the delivery.
        for bad in ["x".repeat(300).as_str(), " ", "a\tb"] {
            let end = deliver(&world, &[("x-directscale-user", bad)], r#"{"EventType":"DailyEvent"}"#).await;
            assert_eq!(end, "applied", "{bad}");
        }
        assert_eq!(world.state().iter().filter(|item| item.fields.contains_key("user")).count(), 1);
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_put_aside_and_what_is_too_much_is_known_before_it_is_built() {
        let world = world();
        for body in [
            "{",
            r#""\u0001garbage""#,
            "\u{1}garbage",
            r#"{"EventType":"CreateOrderEvent","OrderNumber":7"#,
            r#"{"EventType":["CreateOrderEvent"],"OrderNumber":7}"#,
            r#"{"EventType":"CreateOrderEvent","EventType":"CreateOrderEvent","OrderNumber":7}"#,
            &order(1, r#""OrderNumber":7"#),
            &order(1, r#""orderNumber":7"#),
        ] {
            assert_eq!(deliver(&world, &[], body).await, "quarantined: malformed", "{body}");
        }
        let many = |count: usize| (0..count).map(|n| format!("\"k{n}\":1")).collect::<Vec<_>>().join(",");
        assert_eq!(deliver(&world, &[], &order(1, &many(40_000))).await, "quarantined: too-large");
        assert!(world.state().is_empty());
        // Clients' own events may be any JSON, and the documentation's examples are accepted.
        for body in ["7", "[1,]", "\u{feff}{\"EventType\":\"Mine\",}", &order(1, &many(200))] {
            assert_eq!(deliver(&world, &[], body).await, "applied", "{body:.100}");
        }
        let dead = world.queues.dead();
        assert_eq!((dead.len(), dead.last().unwrap().reason.name()), (9, "too-large"));
    }

    #[tokio::test]
    async fn a_deep_member_does_not_keep_its_entity_from_changing() {
        for levels in [1, 90, 99, 124, 127, 128, 5_000] {
            let world = world();
            let deep = order(1, &format!(r#""OrderStatus":"s0","more":{}"#, nested(levels)));
            assert_eq!(deliver(&world, &[], &deep).await, "applied", "{levels}");
            assert_eq!(deliver(&world, &[], &order(2, r#""OrderStatus":"s1""#)).await, "applied", "{levels}");
            let item = world.item("order#7");
            assert_eq!((&item.fields["status"], item.truncated), (&json!("s1"), false), "{levels}");
            // The member is complete, however deep it is.
            let mut text = serde_json::to_string(&item.extra["more"]).unwrap();
            text.retain(|letter| !"\"\\".contains(letter));
            assert_eq!(text, nested(levels), "{levels}");
        }
    }

    fn order_key() -> EntityKey {
        EntityKey { connection: of("directscale", "acme"), kind: EntityKind::Order, id: 7.into() }
    }

    /// Changes a text of a stored item.
    fn rewrite(world: &World, key: &EntityKey, name: &str, change: impl FnOnce(&str) -> String) {
        let mut attributes = world.tables.attributes(key).unwrap();
        let text = attributes[name].as_s().unwrap().clone();
        attributes.insert(name.to_owned(), serde_dynamo::to_attribute_value(change(&text)).unwrap());
        world.tables.plant(key, attributes);
    }

    #[tokio::test]
    async fn an_item_that_was_written_deeper_than_json_is_read_is_read_all_the_same() {
        for levels in [124, 127] {
            let world = world();
            assert_eq!(deliver(&world, &[], &order(1, r#""OrderStatus":"s0","more":"here""#)).await, "applied");
            // Former releases wrote such items, because they did not check the depth.
            for name in ["facets", "extra"] {
                rewrite(&world, &order_key(), name, |text| text.replace("\"here\"", &nested(levels)));
            }
            let stored = world.tables.attributes(&order_key()).unwrap();
            let facets = stored["facets"].as_s().unwrap();
            assert!(serde_json::from_str::<Value>(facets).is_err(), "it is deeper than JSON is read elsewhere");
            assert_eq!(deliver(&world, &[], &order(2, r#""OrderStatus":"s1""#)).await, "applied", "{levels}");
            let item = world.item("order#7");
            assert_eq!((&item.fields["status"], item.truncated), (&json!("s1"), false));
            assert_eq!(item.extra["more"].to_string(), nested(levels));
            assert_eq!(deliver(&world, &[], &order(3, r#""more":2"#)).await, "applied");
            assert_eq!(world.item("order#7").extra["more"], 2);
        }
    }

    #[tokio::test]
    async fn an_item_of_which_a_part_cannot_be_read_goes_on_with_the_rest() {
        for broken in ["{\"core\":", "[]", "{\"core\":{\"v\":1}}", &format!("{{\"a\":{}}}", nested(1_000))] {
            let world = world();
            let first = order(1, r#""OrderStatus":"s0","CustomerId":77,"more":1"#);
            assert_eq!(deliver(&world, &[], &first).await, "applied");
            rewrite(&world, &order_key(), "facets", |_| broken.to_owned());
            // The fields that readers saw stay, below all later changes.
            assert_eq!(deliver(&world, &[], &order(2, r#""OrderStatus":"s1""#)).await, "applied", "{broken:.30}");
            let item = world.item("order#7");
            assert_eq!((&item.fields["status"], &item.fields["customer"]), (&json!("s1"), &json!("77")));
            assert_eq!((item.deleted, item.truncated), (false, true), "and says that something is missing");
            // Once written, the item is whole again, and the same delivery changes nothing.
            assert_eq!(deliver(&world, &[], &order(2, r#""OrderStatus":"s1""#)).await, "unchanged");
        }
    }
}

mod items {
    use super::*;

    fn order(status: &str, second: u8) -> Value {
        json!({ "id": 13, "status": status, "total": "1.00", "date_modified_gmt": format!("2026-11-21T01:00:{second:02}"),
            "meta_data": [{ "id": 1, "key": "k", "value": "here" }] })
    }

    /// The platform is asked again for an item that cannot be read, if it can be asked.
    #[tokio::test]
    async fn a_damaged_item_is_replaced_by_what_the_platform_says() {
        let (world, platform) =
            scripted(&key(), "https://shop.example.com", WOO, |_| json_answer(200, &order("processing", 5)));
        let entity = EntityKey { connection: key(), kind: EntityKind::Order, id: 13.into() };
        for (name, broken) in
            [("extra", json!("{")), ("extra", json!("[1]")), ("fields", json!("x")), ("t", json!("x")), ("v", json!(7))]
        {
            let first = delivered("order.updated", &order("pending", 1).to_string(), LATER);
            assert_ne!(outcomes(&world.process(&[first]).await), ["quarantined: malformed"]);
            let mut attributes = world.tables.attributes(&entity).unwrap();
            attributes.insert(name.to_owned(), serde_dynamo::to_attribute_value(broken).unwrap());
            world.tables.plant(&entity, attributes);
            let asked = platform.asked().len();
            // Even a known delivery causes it.
            let again = delivered("order.updated", &order("pending", 1).to_string(), LATER + 1_000);
            assert_eq!(outcomes(&world.process(&[again]).await), ["applied"], "{name}");
            assert_eq!(platform.asked().len(), asked + 1, "{name}");
            let item = world.item("order#13");
            assert_eq!((&item.fields["status"], item.truncated), (&json!("processing"), false), "{name}");
            assert!(!item.extra.is_empty() && !item.deleted, "{name}");
        }
    }

    /// An item without its fingerprint cannot be replaced without risk.
    #[tokio::test]
    async fn an_item_without_its_fingerprint_is_left_alone() {
        let world = World::connected();
        let entity = EntityKey { connection: key(), kind: EntityKind::Order, id: 13.into() };
        let deliver = async |n: i64| {
            let body = order("pending", u8::try_from(n).unwrap()).to_string();
            outcomes(&world.process(&[delivered("order.updated", &body, LATER + n)]).await).remove(0)
        };
        assert_eq!(deliver(1).await, "applied");
        let mut attributes = world.tables.attributes(&entity).unwrap();
        attributes.remove("rev");
        world.tables.plant(&entity, attributes.clone());
        assert_eq!(deliver(2).await, "failed: state-unavailable");
        assert_eq!(world.tables.attributes(&entity), Some(attributes));
    }
}

mod lists {
    use super::*;

    const BIG: &str = "https://api.bigcommerce.com/stores/abc123";

    /// Returns a delivery of BigCommerce with so many price records, as the processor gets it.
    fn records(count: u32) -> processor::Message {
        let data: Vec<_> = (0..count).map(|n| json!({ "price_list_id": 3, "variant_id": n + 1 })).collect();
        let body = json!({ "scope": "store/priceList/records/updated", "producer": "stores/abc123", "data": data });
        let text = json!({
            "version": 1, "provenance": "delivery", "platform": "bigcommerce", "connection": "abc123", "generation": 1,
            "scope": "store/priceList/records/updated", "key_id": "sample", "strength": "caller",
            "received": LATER * 1000, "content": { "delivery": { "text": body.to_string() } },
        });
        message(1, &text.to_string())
    }

    #[tokio::test]
    async fn a_delivery_stands_for_as_many_entities_as_a_platform_takes_at_once_and_no_more() {
        let key = of("bigcommerce", "abc123");
        let (world, _) = scripted(&key, BIG, r#"{"access_token":"tok"}"#, |_| json_answer(404, &json!({})));
        assert_eq!(outcomes(&world.process(&[records(1_000)]).await), ["split: 1000"]);
        assert_eq!(world.queues.sent().len(), 1_000);
        for count in [1_001, 60_000] {
            assert_eq!(outcomes(&world.process(&[records(count)]).await), ["quarantined: too-large"], "{count}");
        }
        assert_eq!(world.queues.sent().len(), 1_000, "and nothing came of those");
    }

    /// Makes a store that answers every list with a page of so many entries.
    fn store(entries: u32) -> (World, MemoryPlatform) {
        scripted(&key(), "https://shop.example.com", WOO, move |_| {
            json_answer(200, &(0..entries).map(|n| json!({ "id": n + 1 })).collect())
        })
    }

    #[tokio::test]
    async fn a_page_of_more_than_was_asked_for_is_none() {
        for entries in [101, 1_000, 99_000] {
            let (world, _) = store(entries);
            let report = world.process(&[delivered("order.updated", r#"{"code":"x"}"#, LATER)]).await;
            let end = outcomes(&report).remove(0);
            assert!(end.starts_with("failed: ") || end.starts_with("quarantined: "), "{entries}: {end}");
            assert!(world.queues.sent().is_empty(), "{entries}: nothing of it is queued");
        }
        let (world, platform) = store(100);
        let report = world.process(&[delivered("order.updated", r#"{"code":"x"}"#, LATER)]).await;
        assert_eq!(outcomes(&report), ["split: 501"], "five full pages, and the rest of the list");
        assert_eq!((world.queues.sent().len(), platform.asked().len()), (501, 5));
    }

    #[tokio::test]
    async fn polling_has_the_same_bound() {
        for (entries, queued) in [(100, true), (101, false), (99_000, false)] {
            let (world, _) = store(entries);
            let (status, _) = world.admin("POST", "shop.example.com/poll", "", r#"{"entity":"order"}"#).await;
            assert_eq!(status, 202, "{entries}");
            let (job, _) = world.queues.next_job().unwrap();
            let _ = world.registrar().run(&job.text()).await;
            assert_eq!(!world.queues.sent().is_empty(), queued, "{entries}");
        }
    }
}

mod settings {
    use super::*;

    #[tokio::test]
    async fn what_would_do_nothing_is_refused_and_nothing_is_kept_of_it() {
        let world = World::new();
        let put = async |path: &str, body: &str| world.admin("PUT", path, "", body).await;
        let site = r#""site":"https://shop.example.com""#;
        for (field, members) in [
            ("ignores", r#""ignores":["order.update"]"#),
            ("deletes", r#""deletes":{"subscription":"remove"}"#),
            ("presets", r#""presets":[{"scope":"order.updated","entity":"order"}]"#),
            ("presets", r#""presets":[{"scope":"","entity":"order"}]"#),
            ("presets", r#""presets":[{"scope":"message","at":"/~9","entity":"order"}]"#),
            ("body", r#""site":"https://b.example.com""#),
            ("body", r#""polls":{"order":900,"order":300}"#),
        ] {
            let (status, problem) = put("shop.example.com", &format!("{{{site},{members}}}")).await;
            assert_eq!(status, 422, "{members}: {problem}");
            assert!(problem.to_string().contains(field), "{members}: {problem}");
        }
        assert!(world.tables.connection(&key()).connection.is_none());
        // This holds for later changes too.
        world.connect(None);
        for (path, body) in [
            ("shop.example.com/settings", r#"{"ignores":["order.update"]}"#),
            ("shop.example.com/settings", r#"{"ignores":[],"ignores":["order.updated"]}"#),
            ("shop.example.com/settings", r#"{"deletes":{"order":"mark","order":"remove"}}"#),
            ("shop.example.com/presets", r#"{"presets":[],"presets":[]}"#),
            ("shop.example.com/presets", r#"{"presets":[{"scope":"order.updated","entity":"order"}]}"#),
        ] {
            let (status, problem) = put(path, body).await;
            assert_eq!(status, 422, "{body}: {problem}");
        }
        assert_eq!(world.connection().revision, 1);
        assert_eq!(put("shop.example.com/settings", r#"{"ignores":["order.*"]}"#).await.0, 200);
        let order = json!({ "id": 13, "status": "pending", "total": "1.00" }).to_string();
        let ended = world.process(&[delivered("order.updated", &order, LATER)]).await;
        assert_eq!(outcomes(&ended), ["ignored: unwanted-scope"]);
    }

    /// A preset may explain a topic that the platform's own rule ignores.
    #[tokio::test]
    async fn a_preset_explains_what_a_rule_would_ignore() {
        let (world, platform) = scripted(&key(), "https://shop.example.com", WOO, |_| {
            json_answer(200, &json!({ "id": 13, "status": "pending", "total": "1.00" }))
        });
        let action = || delivered("action.x", r#"{"arg":"o-13"}"#, LATER);
        assert_eq!(outcomes(&world.process(&[action()]).await), ["ignored: woocommerce-action"]);
        let preset = json!({ "presets": [{ "scope": "action.x", "at": "/arg", "prefix": "o-", "entity": "order" }] });
        assert_eq!(world.admin("PUT", "shop.example.com/presets", "", &preset.to_string()).await.0, 200);
        assert_eq!(outcomes(&world.process(&[action()]).await), ["split: 1"]);
        assert!(platform.asked().is_empty(), "it is asked for by a message of its own");
    }
}

/// One connection's messages delay the others of a batch by at most one turn.
#[tokio::test(start_paused = true)]
async fn a_store_that_never_answers_keeps_nobody_else_waiting() {
    let mut world = World::new();
    let order = |request: &ApiRequest| {
        let id: u64 = request.url.path().rsplit('/').next().unwrap().parse().unwrap();
        // The order is heavy enough to take the only place for heavy ones.
        let more = "x".repeat(400_000);
        json_answer(
            200,
            &json!({ "id": id, "status": "completed", "date_modified_gmt": "2026-11-21T01:48:40", "more": more }),
        )
    };
    let platform = MemoryPlatform::new(move |request| Ok::<_, Fault>(order(request)));
    world.outside = Outside::SilentAt("silent.example.com".into(), platform);
    let mut messages = Vec::new();
    for n in 0..10 {
        let host = if n < 9 { "silent.example.com" } else { "shop.example.com" };
        let key = of("woocommerce", host);
        let credentials = Some(format!("{key}|{WOO}"));
        let site = format!("https://{host}");
        world.tables.connect(&key, Connection { revision: 1, credentials, ..Connection::new(&site) });
        let delivery = delivered("order.deleted", &json!({ "id": n + 1 }).to_string(), LATER);
        messages.push(message(n, &delivery.body.replace("shop.example.com", host)));
    }
    let ends = outcomes(&world.process(&messages).await);
    assert_eq!(ends[..9], vec!["unfinished".to_owned(); 9]);
    assert_eq!(ends[9], "applied");
}
