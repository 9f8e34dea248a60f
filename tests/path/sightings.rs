//! The processor's notes of the deliveries that it sees, and its jobs for the registrar.

use cloud::{
    EdgeError,
    coordination::{Coordination, Note, deployment},
    memory::{MemoryBus, MemoryPlatform, MemoryQueues, MemoryTables, MemoryVault},
};
use commerce::{
    activity::{Activity, KeyUse, OTHER, SEEN, USED},
    connection::{Connection, ConnectionStatus},
    http_call::{ApiRequest, ApiResponse, Loopback},
    job::{Job, Trigger},
    key::ConnectionKey,
    platform::delivery::PROBE,
    platforms::PLATFORMS,
    request::WebhookPath,
};
use processor::{Edges, Message, Parts, Processor};
use serde_json::{Value, json};
use tests::{
    platforms::json_answer,
    world::{Clock, Outside, World, key, message, outcomes},
};

const STORE: &str = "https://api.bigcommerce.com/stores/abc123";

/// Returns a proven delivery, received so many seconds after the clock began.
fn delivered(key: &ConnectionKey, scope: &str, generation: u32, key_id: &str, seconds: i64) -> Message {
    let received = Clock::default().now().plus_seconds(seconds).micros();
    let text = json!({
        "version": 1, "provenance": "delivery", "platform": key.platform, "connection": key.connection,
        "generation": generation, "scope": scope, "delivery_id": format!("{scope}{received}"), "key_id": key_id,
        "strength": "caller", "received": received, "content": { "delivery": { "text": json!({ "id": 13 }).to_string() } },
    });
    message(usize::try_from(received.rem_euclid(1_000_000_000)).unwrap(), &text.to_string())
}

async fn seen(world: &World, key: &ConnectionKey, scope: &str) -> Option<(Activity, u64)> {
    let note = world.tables.note(key, &format!("{SEEN}{scope}")).await.unwrap()?;
    Some((serde_json::from_str(&note.body).unwrap(), note.revision))
}

async fn used(world: &World, id: &str) -> Option<KeyUse> {
    let note = world.tables.note(&deployment(), &format!("{USED}{id}")).await.unwrap()?;
    Some(serde_json::from_str(&note.body).unwrap())
}

#[tokio::test]
async fn each_scope_is_noted_once_in_a_while() {
    let world = World::connected();
    let now = world.clock.now();
    let order = |seconds| delivered(&key(), "order.deleted", 1, "sample", seconds);
    // The last delivery of a batch counts, whatever their order.
    world.process(&[order(1), order(3), order(2)]).await;
    let (sighting, revision) = seen(&world, &key(), "order.deleted").await.unwrap();
    assert_eq!((sighting.last, revision), (now.plus_seconds(3), 1));
    assert_eq!((sighting.gaps.len(), sighting.key_id.as_str()), (0, "sample"));
    assert_eq!(used(&world, "sample").await, Some(KeyUse { last: now.plus_seconds(3) }));
    // Nothing new is noted for a delivery that is repeated, late, or only a moment newer. Each comes to another
    // environment.
    for seconds in [3, 4, -600, 302] {
        world.process(&[order(seconds)]).await;
    }
    assert_eq!(seen(&world, &key(), "order.deleted").await, Some((sighting, 1)));
    // An environment that noted a topic a moment ago does not even ask.
    let lasting = world.processor();
    for (seconds, revision) in [(303, 2), (304, 2), (602, 2), (603, 3)] {
        lasting.process(&[order(seconds)], world.clock.now().plus_seconds(60)).await;
        assert_eq!(seen(&world, &key(), "order.deleted").await.unwrap().1, revision, "{seconds}");
    }
    let (sighting, _) = seen(&world, &key(), "order.deleted").await.unwrap();
    assert_eq!((sighting.gaps, sighting.last), (vec![300, 300], now.plus_seconds(603)));
    assert_eq!(used(&world, "sample").await, Some(KeyUse { last: now.plus_seconds(603) }));
    assert_eq!(seen(&world, &key(), "order.created").await, None);
}

#[tokio::test]
async fn what_a_connection_has_refused_was_not_seen() {
    let world = World::connected();
    let former = delivered(&key(), "order.deleted", 2, "new", 0);
    let unknown = WebhookPath::parse("woocommerce", "other.example.com", None).unwrap().key;
    let unknown = delivered(&unknown, "order.deleted", 1, "new", 0);
    let report = world.process(&[former.clone(), unknown]).await;
    assert_eq!(outcomes(&report), ["ignored: retired-generation", "ignored: unknown-connection"]);
    assert_eq!((seen(&world, &key(), "order.deleted").await, used(&world, "new").await), (None, None));

    // A pause, a rule or a quarantine does not keep a delivery from being seen, and a probe is seen too.
    let paused = Connection { status: ConnectionStatus::Paused, ..world.connection() };
    world.tables.connect(&key(), paused);
    let scopes = [PROBE, "order.deleted", "nobody.knows"];
    let messages = scopes.map(|scope| delivered(&key(), scope, 1, "brought-0", 0));
    world.process(&messages).await;
    // Topics that no entity processor declares share one note.
    for scope in [PROBE, "order.deleted", OTHER] {
        assert!(seen(&world, &key(), scope).await.is_some(), "{scope}");
    }
    assert_eq!(seen(&world, &key(), "nobody.knows").await, None);
    assert_eq!(used(&world, "brought-0").await, None, "each client may bring one");

    let gone = Connection { status: ConnectionStatus::Disconnected, ..world.connection() };
    world.tables.connect(&key(), gone);
    world.process(&[delivered(&key(), "order.created", 1, "sample", 0)]).await;
    assert_eq!((seen(&world, &key(), "order.created").await, used(&world, "sample").await), (None, None));
}

/// Notes that never come.
struct Stuck;

impl Coordination for Stuck {
    async fn note(&self, _: &ConnectionKey, _: &str) -> Result<Option<Note>, EdgeError> {
        std::future::pending().await
    }

    async fn notes(&self, _: &ConnectionKey, _: &str) -> Result<Vec<(String, Note)>, EdgeError> {
        std::future::pending().await
    }

    async fn keep(&self, _: &ConnectionKey, _: &str, _: &Note) -> Result<bool, EdgeError> {
        std::future::pending().await
    }
}

/// In-memory edges, except for notes that never come.
struct NotesNeverCome;

impl Parts for NotesNeverCome {
    type Entities = MemoryTables;
    type Queues = MemoryQueues;
    type Vault = MemoryVault;
    type Outbound = Outside;
    type Notes = Stuck;
    type Jobs = MemoryQueues;
    type Bus = MemoryBus;
}

#[tokio::test]
async fn no_message_waits_for_its_note() {
    let world = World::connected();
    let edges = Edges::<NotesNeverCome> {
        entities: world.tables.clone(),
        queues: world.queues.clone(),
        vault: MemoryVault,
        outbound: Outside::Silent,
        notes: Stuck,
        jobs: world.queues.clone(),
        changes: None,
    };
    let processor = Processor::new(PLATFORMS, edges, Loopback::Refused, world.clock.function());
    let messages: Vec<_> = (0..40).map(|n| delivered(&key(), &format!("coupon.x{n}"), 1, "sample", n)).collect();
    let begun = std::time::Instant::now();
    let report = processor.process(&messages, world.clock.now().plus_seconds(60)).await;
    assert!(begun.elapsed().as_millis() < 4_000, "{:?}", begun.elapsed());
    assert!(report.failures.is_empty(), "{:?}", report.ends);
}

/// Makes a store with credentials, whose API answers by a function.
fn store(answer: impl Fn(&ApiRequest) -> ApiResponse + Send + Sync + 'static) -> (World, ConnectionKey) {
    let mut world = World::new();
    let key = WebhookPath::parse("bigcommerce", "abc123", None).unwrap().key;
    world.outside = Outside::Scripted(MemoryPlatform::new(move |request| Ok(answer(request))));
    let credentials = Some(format!("{key}|{}", json!({ "access_token": "t" })));
    world.tables.connect(&key, Connection { revision: 1, credentials, ..Connection::new(STORE) });
    (world, key)
}

fn callback(key: &ConnectionKey, scope: &str, data: &Value, seconds: i64) -> Message {
    let mut delivered: Value = serde_json::from_str(&delivered(key, scope, 1, "sample", seconds).body).unwrap();
    let body = json!({ "scope": scope, "store_id": "1001", "data": data, "hash": "x", "created_at": 1, "producer": "stores/abc123" });
    delivered["content"]["delivery"]["text"] = body.to_string().into();
    message(usize::try_from(seconds).unwrap(), &delivered.to_string())
}

#[tokio::test]
async fn the_registrar_is_told_of_a_notice_or_the_message_comes_back() {
    let (world, key) = store(|_| json_answer(200, &json!({})));
    let told = (Job::check(&key, Trigger::Told), 0);
    let gone = callback(&key, "store/app/uninstalled", &json!({ "type": "store" }), 1);
    world.queues.refuse(true);
    assert_eq!(outcomes(&world.process(std::slice::from_ref(&gone)).await), ["failed: state-unavailable"]);
    world.queues.refuse(false);
    assert_eq!(world.queues.jobs(), []);
    // The note exists by now, but the registrar was not told.
    assert_eq!(outcomes(&world.process(&[gone]).await), ["ignored: noted-for-the-registrar"]);
    assert_eq!(world.queues.jobs(), [told]);
}

#[tokio::test]
async fn the_registrar_is_told_of_refused_credentials_but_not_all_the_time() {
    for (status, jobs) in [(401, 1), (403, 1), (404, 0), (400, 0), (500, 0)] {
        let (world, key) = store(move |_| json_answer(status, &json!({ "title": "no" })));
        let processor = world.processor();
        let told = (Job::check(&key, Trigger::Refused), 0);
        let run = async |seconds: i64| {
            let order = callback(&key, "store/order/updated", &json!({ "type": "order", "id": seconds }), seconds);
            processor.process(&[order], world.clock.now().plus_seconds(60)).await
        };
        let ends = outcomes(&run(1).await);
        run(2).await;
        assert_eq!(world.queues.jobs(), vec![told.clone(); jobs], "{status}: {ends:?}");
        world.clock.pass_seconds(300);
        run(3).await;
        assert_eq!(world.queues.jobs(), vec![told.clone(); 2 * jobs], "{status}");
        // The job is only a hint: without it, the message ends the same way.
        world.clock.pass_seconds(300);
        world.queues.refuse(true);
        let same = outcomes(&run(4).await);
        world.queues.refuse(false);
        assert_eq!(same, ends);
        assert_eq!(world.queues.jobs().len(), 2 * jobs);
    }
}
