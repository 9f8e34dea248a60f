//! The receiver: the deliveries that it accepts, and its answers to everything else.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use commerce::{
    envelope::{Body, Content, Envelope, MAX_MESSAGE_BYTES},
    keys::KeyRing,
};
use proptest::prelude::*;
use rand::{RngCore, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use tests::world::{World, event, events, request, signing_keys};
use tools::events::{Event, sample_ring};

async fn status(world: &World, event: &Event) -> u16 {
    let response = world.receive(event).await;
    assert!(response.body().is_empty(), "a body must tell nothing");
    response.status().as_u16()
}

/// Returns an event that was changed after it was signed.
fn tampered(prefix: &str, change: impl FnOnce(&mut Value)) -> Event {
    let mut event = event(prefix);
    change(&mut event.request);
    event
}

fn sent(world: &World) -> Vec<Envelope> {
    world.queues.sent().iter().map(|(sealed, _)| Envelope::parse(sealed.text()).unwrap()).collect()
}

#[tokio::test]
async fn all_sixteen_recorded_requests_are_answered_200_and_fifteen_are_queued() {
    let world = World::new();
    for event in events() {
        assert_eq!(status(&world, &event).await, 200, "{}", event.name);
    }
    let queued = world.queues.sent();
    assert_eq!(queued.len(), 15);
    assert!(queued.iter().all(|(sealed, delay)| sealed.group() == "woocommerce#shop.example.com" && *delay == 0));
    assert_eq!(world.signing.fetches(), 1, "keys are cached");
}

/// A function URL has no routes, but its path says the same.
#[tokio::test]
async fn at_a_function_url_the_path_says_what_a_route_would() {
    let world = World::new();
    let at = |path: &str| {
        tampered("018", |event| {
            event["routeKey"] = "$default".into();
            event["rawPath"] = path.into();
            event["requestContext"]["routeKey"] = "$default".into();
            event["requestContext"]["http"]["path"] = path.into();
            event.as_object_mut().unwrap().remove("pathParameters");
        })
    };
    assert_eq!(status(&world, &at("/hooks/woocommerce/shop.example.com")).await, 200);
    assert_eq!(status(&world, &at("/hooks/woocommerce/shop%2Eexample.com/1")).await, 200);
    for path in ["/hooks/woocommerce/shop.example.com/2", "/hooks/woocommerce/other.example.com"] {
        assert_eq!(status(&world, &at(path)).await, 401, "{path}");
    }
    for path in
        ["/", "/hooks", "/hooks/woocommerce", "/hooks/woocommerce/a/1/b", "/hooks/woocommerce/%zz", "/x/hooks/a/b"]
    {
        assert_eq!(status(&world, &at(path)).await, 404, "{path}");
    }
    assert_eq!(world.queues.sent().len(), 2);
}

#[tokio::test]
async fn an_accepted_delivery_carries_the_id_that_sqs_gave_it() {
    let response = World::new().receive(&event("018")).await;
    assert_eq!(response.headers()["x-message-id"], "message-1");
}

#[tokio::test]
async fn a_base64_body_is_the_same_delivery() {
    let world = World::new();
    let encoded = tampered("018", |event| {
        event["body"] = STANDARD.encode(event["body"].as_str().unwrap()).into();
        event["isBase64Encoded"] = true.into();
    });
    assert_eq!(status(&world, &event("018")).await, 200);
    assert_eq!(status(&world, &encoded).await, 200);
    let queued = world.queues.sent();
    assert_eq!(queued[0].0.text(), queued[1].0.text());
}

#[tokio::test]
async fn what_is_not_proven_is_refused_and_not_queued() {
    let world = World::new();
    let set = |name: &'static str, value: &'static str| move |event: &mut Value| event["headers"][name] = value.into();
    let remove =
        |name: &'static str| move |event: &mut Value| _ = event["headers"].as_object_mut().unwrap().remove(name);
    let mut other_key = event("018");
    other_key.sign(&KeyRing::parse("another-key-of-at-least-32-bytes!").unwrap());
    for (why, event) in [
        (
            "a changed body",
            tampered("018", |event| event["body"] = event["body"].as_str().unwrap().replace("76.00", "0.01").into()),
        ),
        (
            "a body with a space more",
            tampered("018", |event| event["body"] = format!("{} ", event["body"].as_str().unwrap()).into()),
        ),
        ("no signature", tampered("018", remove("x-wc-webhook-signature"))),
        ("an empty signature", tampered("018", set("x-wc-webhook-signature", ""))),
        ("no base64", tampered("018", set("x-wc-webhook-signature", "%%%"))),
        (
            "the store's own secret",
            tampered("018", set("x-wc-webhook-signature", "zdNyzoVS6ekuzqPiytl3rN7UZ3ejktPK7gJBsLjitkk=")),
        ),
        ("another key", other_key),
        ("no topic", tampered("018", remove("x-wc-webhook-topic"))),
        // 026 and 027 have the same body. With one secret for both, either could be sent as the other.
        ("another topic", tampered("026", set("x-wc-webhook-topic", "order.deleted"))),
        (
            "another connection",
            tampered("018", |event| event["pathParameters"]["connection"] = "other.example.com".into()),
        ),
        ("another generation", tampered("018", |event| event["pathParameters"]["generation"] = "2".into())),
        ("a ping with a store's headers", tampered("018", |event| event["body"] = "webhook_id=1".into())),
        ("no ping", tampered("001", |event| event["body"] = "webhook_id=1&x=2".into())),
    ] {
        assert_eq!(status(&world, &event).await, 401, "{why}");
    }
    assert!(world.queues.sent().is_empty());
}

#[tokio::test]
async fn a_delivery_of_a_later_generation_has_a_secret_of_its_own() {
    let world = World::new();
    let mut event = tampered("018", |event| event["pathParameters"]["generation"] = "2".into());
    event.sign(&sample_ring());
    assert_eq!(status(&world, &event).await, 200);
    assert_eq!(sent(&world)[0].generation.number(), 2);
}

#[tokio::test]
async fn unknown_platforms_and_malformed_ids_are_not_found() {
    let world = World::new();
    for (name, value) in
        [("platform", "nosuch"), ("connection", "a b"), ("connection", ""), ("generation", "01"), ("generation", "x")]
    {
        let event = tampered("018", |event| event["pathParameters"][name] = value.into());
        assert_eq!(status(&world, &event).await, 404, "{name}={value}");
    }
    let bare = tampered("018", |event| _ = event.as_object_mut().unwrap().remove("pathParameters"));
    assert_eq!(status(&world, &bare).await, 404);
}

#[tokio::test]
async fn upper_case_connections_are_the_same() {
    let world = World::new();
    let upper = tampered("018", |event| event["pathParameters"]["connection"] = "Shop.Example.com".into());
    assert_eq!(status(&world, &upper).await, 200);
    assert_eq!(sent(&world)[0].key.connection.as_str(), "shop.example.com");
}

#[tokio::test(start_paused = true)]
async fn a_fault_of_ours_makes_the_platform_try_again() {
    let world = World::new();
    world.queues.refuse(true);
    assert_eq!(status(&world, &event("018")).await, 503);
    world.queues.refuse(false);
    assert_eq!(status(&world, &event("018")).await, 200);

    let world = World::new();
    world.signing.set(None);
    assert_eq!(status(&world, &event("018")).await, 503);
    assert_eq!(status(&world, &event("001")).await, 200, "a ping needs no keys");
    world.signing.set(Some("too short"));
    assert_eq!(status(&world, &event("018")).await, 503);
    world.signing.set(Some(&signing_keys()));
    let fetches = world.signing.fetches();
    assert_eq!(status(&world, &event("018")).await, 503);
    assert_eq!(
        world.signing.fetches(),
        fetches,
        "what is wrong with the secret itself is not looked at with every request"
    );
    world.clock.pass_seconds(3);
    assert_eq!(status(&world, &event("018")).await, 200);
}

/// A sender that is refused may never send the delivery again.
#[tokio::test(start_paused = true)]
async fn the_keys_are_looked_for_as_long_as_the_sender_waits() {
    let world = World::new();
    world.signing.set(None);
    // A first fetch fails while Lambda initialises.
    let started = tokio::time::Instant::now();
    world.receiver.warm().await;
    assert!(started.elapsed() <= Duration::from_secs(2) && world.signing.fetches() > 2);
    let delivery = event("018");
    let (answered, ()) = tokio::join!(status(&world, &delivery), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        world.signing.set(Some(&signing_keys()));
    });
    assert_eq!(answered, 200);
    // Only then are deliveries refused, within the time that a store waits, less the queue's share. One of many fetches
    // for all.
    let world = World::new();
    world.signing.set(None);
    let started = tokio::time::Instant::now();
    let answers = futures_util::future::join_all((0..20).map(|_| status(&world, &delivery))).await;
    assert_eq!(answers, [503; 20]);
    let took = started.elapsed();
    assert!(took >= Duration::from_secs(2) && took <= Duration::from_secs(3), "{took:?}");
    assert!(world.signing.fetches() < 20, "{}", world.signing.fetches());
}

/// A failed send is tried again for a while, and one delivery's failure does not cost the next one its tries.
#[tokio::test(start_paused = true)]
async fn the_queue_is_tried_for_a_while() {
    let world = World::new();
    for _ in 0..50 {
        world.queues.refuse_next(5);
        assert_eq!(status(&world, &event("018")).await, 200);
    }
    world.queues.refuse(true);
    let started = tokio::time::Instant::now();
    assert_eq!(status(&world, &event("018")).await, 503);
    assert!(started.elapsed() <= Duration::from_secs(2), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_rotation_takes_effect_within_the_request_and_forgers_do_not_run_up_the_bill() {
    let world = World::new();
    assert_eq!(status(&world, &event("018")).await, 200);
    // The store signs with a key that was added in the meantime.
    let ring = json!({ "keys": [
        { "id": "new", "state": "sign", "secret": "a-new-key-of-at-least-32-bytes...." },
        { "id": "sample", "state": "verify", "secret": tools::events::SAMPLE_KEY },
    ] });
    world.signing.set(Some(&ring.to_string()));
    let mut with_new = event("018");
    with_new.sign(&KeyRing::parse(&ring.to_string()).unwrap());
    assert_eq!(status(&world, &with_new).await, 200);
    assert_eq!(status(&world, &event("018")).await, 200, "the old one is still good");
    assert_eq!(sent(&world).iter().map(|sent| sent.key_id.as_str()).collect::<Vec<_>>(), ["sample", "new", "sample"]);
    assert_eq!(world.signing.fetches(), 2);

    let forged = tampered("018", |event| event["body"] = "{}".into());
    for _ in 0..100 {
        assert_eq!(status(&world, &forged).await, 401);
    }
    assert_eq!(world.signing.fetches(), 2, "one refresh in half a minute");
    world.clock.pass_seconds(31);
    assert_eq!(status(&world, &forged).await, 401);
    assert_eq!(world.signing.fetches(), 3);
}

#[tokio::test]
async fn keys_are_refreshed_by_age_and_the_last_good_ones_kept() {
    let world = World::new();
    assert_eq!(status(&world, &event("018")).await, 200);
    world.clock.pass_seconds(299);
    assert_eq!(status(&world, &event("018")).await, 200);
    assert_eq!(world.signing.fetches(), 1);
    world.clock.pass_seconds(62);
    world.signing.set(None);
    assert_eq!(status(&world, &event("018")).await, 200, "out of reach, but known");
    assert_eq!(world.signing.fetches(), 2);
    assert_eq!(status(&world, &event("018")).await, 200);
    assert_eq!(world.signing.fetches(), 2, "not asked for again at once");
}

/// Somebody has edited the secret, and it is no longer valid.
#[tokio::test]
async fn what_is_no_ring_is_refused_and_the_last_good_one_kept() {
    let quoted = Value::from(tools::events::SAMPLE_KEY).to_string();
    let other = "another-key-of-at-least-32-bytes!";
    let twice = signing_keys().replacen("{\"keys\":", "{\"keys\":[],\"keys\":", 1);
    for broken in [
        quoted.as_str(),
        &format!("{other}\n{other}"),
        &format!("{other} {other}"),
        &format!("{other}\u{0}"),
        "\u{feff}{\"keys\":[]}",
        &format!("keys: [{other}]"),
        &format!("{{\"secret\":\"{other}\"}}"),
        &twice,
        "",
    ] {
        let world = World::new();
        assert_eq!(status(&world, &event("018")).await, 200);
        world.signing.set(Some(broken));
        world.clock.pass_seconds(400);
        let fetches = world.signing.fetches();
        assert_eq!(status(&world, &event("018")).await, 200, "{broken:?}");
        assert_eq!(world.signing.fetches(), fetches + 1, "{broken:?}: it was fetched, and not taken");
        // A wrong proof makes the receiver fetch it again, but it still does not become a key.
        assert_eq!(status(&world, &tampered("018", |event| event["body"] = "{}".into())).await, 401);
        assert_eq!(status(&world, &event("018")).await, 200, "{broken:?}");
        // Without a last good ring, no key is made up.
        let cold = World::new();
        cold.signing.set(Some(broken));
        assert_eq!(status(&cold, &event("018")).await, 503, "{broken:?}");
    }
    // A byte order mark is not part of the secret.
    let world = World::new();
    world.signing.set(Some(&format!("\u{feff}{}\r\n", signing_keys())));
    assert_eq!(status(&world, &event("018")).await, 200);
}

#[tokio::test]
async fn what_are_no_app_credentials_is_refused_and_the_last_good_ones_kept() {
    let callback = || {
        let mut event = tools::events::load("bigcommerce").unwrap().remove(0);
        let body = event.request["body"].as_str().unwrap().to_owned();
        let at = World::new().clock.now().seconds();
        let signed = commerce::scheme::standard_webhooks::STANDARD_HEADERS.sign(
            tests::platforms::bigcommerce::CLIENT_SECRET.as_bytes(),
            "msg_1",
            at,
            body.as_bytes(),
        );
        let mut headers = json!({});
        for (name, value) in
            [("webhook-id", "msg_1"), ("webhook-timestamp", &at.to_string()), ("webhook-signature", &signed)]
        {
            headers[name] = value.into();
        }
        event.request["headers"] = headers;
        event
    };
    for broken in [
        r#"{"bigcomerce":{"client_secret":"bigcommerce-client-secret-0123456789"}}"#,
        r#"{"bigcommerce":{"client_secret":"a"},"bigcommerce":{"client_secret":"b"}}"#,
        r#"{"bigcommerce":{"client_secret":"a","jwks":{"keys":"x"}}}"#,
        r#"{"bigcommerce":{"client_secret":""}}"#,
        "no JSON",
    ] {
        let world = World::new();
        assert_eq!(status(&world, &callback()).await, 200);
        world.apps.set(Some(broken));
        // A wrong proof makes the receiver fetch them again.
        let mut forged = callback();
        forged.request["body"] = "{}".into();
        assert_eq!(status(&world, &forged).await, 401, "{broken}");
        assert_eq!(status(&world, &callback()).await, 200, "{broken}");
        assert_eq!(world.apps.fetches(), 2, "{broken}");
    }
}

fn with_body(body: &str) -> Event {
    let mut event = tampered("018", |event| event["body"] = body.into());
    event.sign(&sample_ring());
    event
}

#[tokio::test]
async fn large_bodies_are_compressed_and_what_still_does_not_fit_goes_without_its_body() {
    let world = World::new();
    let large = format!(r#"{{"id":1,"text":"{}"}}"#, "Linen ".repeat(900_000));
    assert_eq!(status(&world, &with_body(&large)).await, 200);
    let mut noise = vec![0; 1_500_000];
    StdRng::seed_from_u64(1).fill_bytes(&mut noise);
    let incompressible = format!(r#"{{"id":1,"text":"{}"}}"#, STANDARD.encode(noise));
    assert_eq!(status(&world, &with_body(&incompressible)).await, 200, "a 4xx would switch the hook off");
    let [compressed, dropped] = sent(&world).try_into().unwrap();
    let Content::Delivery(body @ Body::Deflate(_)) = compressed.content else { panic!("not compressed") };
    assert_eq!(body.unpack().unwrap(), large.as_bytes());
    let length = u64::try_from(incompressible.len()).unwrap();
    assert_eq!(dropped.content, Content::Delivery(Body::Dropped(length)));
    assert!(world.queues.sent().iter().all(|(sealed, _)| sealed.text().len() <= MAX_MESSAGE_BYTES));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// No request makes the receiver panic, and only a ping is greeted without a proof.
    #[test]
    fn nothing_unproven_gets_in(body in any::<String>(), topic in "[a-z.]{0,20}", signature in "[A-Za-z0-9+/=]{0,50}") {
        prop_assume!(!body.starts_with("webhook_id="));
        let event = tampered("018", |event| {
            event["body"] = body.into();
            event["headers"]["x-wc-webhook-topic"] = topic.into();
            event["headers"]["x-wc-webhook-signature"] = signature.into();
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let world = World::new();
        let response = runtime.block_on(world.receiver.receive(request(&event.request)));
        prop_assert_eq!(response.status().as_u16(), 401);
        prop_assert!(world.queues.sent().is_empty());
    }
}
