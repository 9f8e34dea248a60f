//! The first import of a Shopify shop: by pages, as it is built, and by bulk operations, as it could be. Both are run at
//! the simulator, and its model of the cost says what each takes. `docs/platforms/shopify.md` has the table and the
//! decision.
//!
//! `SIZES=1000,10000 cargo test -p tests --test path -- bulk --nocapture` prints the table.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use cloud::outbound::MAX_ANSWER_BYTES;
use commerce::{
    change::Change,
    entity::{EntityKind, ExternalId},
    http_call::{ApiRequest, ApiResponse, Fault, Loopback},
    platform::{
        mapping::Mapped,
        pull::{Access, Next, Wanted},
    },
    platforms::shopify::{PLATFORM, queries},
};
use http::{HeaderMap, Method};
use rand::{SeedableRng, rngs::StdRng};
use serde_json::{Map, Value, json};
use tests::{
    platforms::{
        Simulator,
        shopify::{ACCESS_TOKEN, Shop, bulk::HOST},
    },
    truth::connect,
    world::{Clock, Outside, World},
};

const SITE: &str = "http://127.0.0.1:20000";
/// The points that come back each second on the cheapest plan, and on Plus.
const PLANS: [f64; 2] = [100.0, 1_000.0];
/// The time between two questions about bulk operations, in seconds.
const LOOK_AGAIN: i64 = 30;
/// Each kind of entity, with its query, the field at that query's root, and its list.
const KINDS: [(EntityKind, &str, &str, &str); 4] = [
    (EntityKind::Customer, "query Customer(", "customer(id: $id) {", "customers"),
    (EntityKind::Category, "query Collection(", "collection(id: $id) {", "collections"),
    (EntityKind::Product, "query Product(", "product(id: $id) {", "products"),
    (EntityKind::Order, "query Order(", "order(id: $id) {", "orders"),
];
const RUN: &str = "mutation Run($query: String!) {
  bulkOperationRunQuery(query: $query) { bulkOperation { id } userErrors { code } }
}";
const LOOK: &str = "query Look($id: ID!) { bulkOperation(id: $id) { status errorCode url } }";

/// The number of parts of each entity: a product's variants, an order's lines.
type Parts = BTreeMap<(EntityKind, String), usize>;

/// The calls, the points and the time that one import took.
#[derive(Debug)]
struct Cost {
    calls: usize,
    points: f64,
    seconds: i64,
}

/// A full shop, and a caller of its API who keeps to the budget of calls and to the points.
struct Importer {
    clock: Clock,
    shop: Shop,
    credentials: String,
    settings: Map<String, Value>,
    calls: AtomicUsize,
}

impl Importer {
    /// Makes a shop of so many products, each with an order.
    fn new(count: usize, points_a_second: f64) -> Self {
        let clock = Clock::default();
        let shop = Shop::new(clock.function());
        shop.set_plan(points_a_second);
        shop.fill(count, &mut StdRng::seed_from_u64(1));
        let credentials = json!({ "access_token": ACCESS_TOKEN }).to_string();
        Self { clock, shop, credentials, settings: Map::new(), calls: AtomicUsize::new(0) }
    }

    fn access(&self) -> Access<'_> {
        Access { site: SITE, credentials: &self.credentials, settings: &self.settings }
    }

    async fn call(&self, request: &ApiRequest) -> ApiResponse {
        let budget = PLATFORM.budget;
        self.clock.pass_micros(i64::from(budget.seconds) * 1_000_000 / i64::from(budget.calls));
        self.calls.fetch_add(1, Ordering::SeqCst);
        self.shop.answer(request).await.unwrap()
    }

    /// Runs an import, and returns its parts and its cost.
    async fn measured(&self, import: impl AsyncFnOnce(&Self) -> Parts) -> (Parts, Cost) {
        let begun = self.clock.now();
        let parts = import(self).await;
        let seconds = self.clock.now().seconds() - begun.seconds();
        (parts, Cost { calls: self.calls.load(Ordering::SeqCst), points: self.shop.spent().0, seconds })
    }

    /// Imports everything as the registrar and the processor do: lists the ids, and pulls each entity.
    async fn by_pages(&self) -> Parts {
        let (lists, mut parts) = (PLATFORM.lists.unwrap(), Parts::new());
        for (kind, ..) in KINDS {
            let mut listing = lists.poll(kind, None);
            while let Some(at) = listing {
                let answer = self.call(&lists.list(&self.access(), &at).unwrap()).await;
                match lists.read_page(&self.access(), &at, &answer, self.clock.now()) {
                    Ok(page) => {
                        for transfer in page.found {
                            let count = self.pull(kind, &transfer.id).await;
                            parts.insert((kind, transfer.id.to_string()), count);
                        }
                        listing = page.next;
                    }
                    Err(fault) => {
                        self.wait(&fault);
                        listing = Some(at);
                    }
                }
            }
        }
        parts
    }

    /// Waits for as long as a call that was refused has to.
    fn wait(&self, fault: &Fault) {
        let Fault::Throttled { seconds } = fault else { panic!("{fault:?}") };
        self.clock.pass_seconds(*seconds);
    }

    /// Pulls an entity, and returns the number of its parts.
    async fn pull(&self, entity: EntityKind, id: &ExternalId) -> usize {
        let (puller, mut answers) = (PLATFORM.pull.unwrap(), Vec::new());
        loop {
            let wanted = Wanted { access: self.access(), entity, id, at: self.clock.now() };
            match puller.pull(&wanted, &answers) {
                Ok(Next::Ask(request)) => answers.push(self.call(&request).await),
                Ok(Next::Done(Mapped::Change(_, Change::Upsert(upsert)))) => {
                    if let Some(seconds) = answers.last().and_then(|answer| puller.rest(answer)) {
                        self.clock.pass_seconds(seconds);
                    }
                    let fields = &upsert.content.fields;
                    let all = fields.get("variations").or(fields.get("lines")).and_then(Value::as_array);
                    return all.map_or(0, Vec::len);
                }
                Ok(other) => panic!("{other:?}"),
                // What was asked before is asked again.
                Err(fault) => {
                    self.wait(&fault);
                    answers.clear();
                }
            }
        }
    }

    async fn ask(&self, query: &str, variables: &Value) -> Value {
        let url = format!("{SITE}/admin/api/2026-10/graphql.json").parse().unwrap();
        let request = ApiRequest::with_secret(Method::POST, url, "x-shopify-access-token", ACCESS_TOKEN).unwrap();
        let answer = self.call(&request.json(&json!({ "query": query, "variables": variables }))).await;
        let mut answer: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(answer.get("errors"), None, "{answer}");
        answer["data"].take()
    }

    /// Imports everything with one bulk operation for each kind of entity, side by side, and adds the files' lines and
    /// bytes to `read`.
    async fn in_bulk(&self, read: &mut (usize, usize)) -> Parts {
        let (mut running, mut parts) = (Vec::new(), Parts::new());
        for (kind, query, root, list) in KINDS {
            let run = self.ask(RUN, &json!({ "query": bulk_query(query, root, list) })).await;
            let begun = &run["bulkOperationRunQuery"];
            assert_eq!(begun["userErrors"], json!([]), "{list}");
            running.push((kind, begun["bulkOperation"]["id"].clone()));
        }
        while !running.is_empty() {
            self.clock.pass_seconds(LOOK_AGAIN);
            for (kind, id) in std::mem::take(&mut running) {
                let state = self.ask(LOOK, &json!({ "id": id })).await;
                match state["bulkOperation"]["url"].as_str() {
                    None => running.push((kind, id)),
                    Some(url) => {
                        let url: url::Url = url.parse().unwrap();
                        assert_eq!(url.host_str(), Some(HOST), "it is another host than the shop's");
                        let bare = ApiRequest { method: Method::GET, url, headers: HeaderMap::new(), body: "".into() };
                        let file = self.call(&bare).await;
                        assert_eq!(file.status, 200);
                        joined(kind, &file.body, &mut parts);
                        read.0 += file.body.iter().filter(|byte| **byte == b'\n').count();
                        read.1 += file.body.len();
                    }
                }
            }
        }
        parts
    }
}

/// Returns the query of one entity as a bulk operation wants it: of the whole list, without variables.
fn bulk_query(query: &str, root: &str, list: &str) -> String {
    let text = queries::ALL.iter().find(|text| text.starts_with(query)).unwrap();
    let (operation, fragments) = text.split_once("\n}\n").unwrap();
    let (_, fields) = operation.split_once(root).unwrap();
    let text = format!("query {{ {list} {{ nodes {{ {fields} }}\n}}\n{fragments}");
    let text = text.replace("(first: $first)", "").replace("(first: $levels)", "");
    assert!(!text.contains('$'), "{text}");
    text
}

/// Joins the lines of a file. A line may come long after its parent's, so all are held until the file has ended.
fn joined(kind: EntityKind, file: &[u8], parts: &mut Parts) {
    let part = match kind {
        EntityKind::Product => "/ProductVariant/",
        EntityKind::Order => "/LineItem/",
        _ => "/none/",
    };
    let number = |id: &str| id.rsplit('/').next().unwrap().to_owned();
    for line in file.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let line: Value = serde_json::from_slice(line).unwrap();
        let id = line["id"].as_str().unwrap_or_default();
        match line.get("__parentId").and_then(Value::as_str) {
            None => _ = parts.entry((kind, number(id))).or_default(),
            Some(parent) if id.contains(part) => *parts.entry((kind, number(parent))).or_default() += 1,
            Some(_) => {}
        }
    }
}

/// Returns the points that the registrar and the processor spend on an import, without those for webhooks.
async fn as_built(count: usize) -> f64 {
    let mut world = World::new();
    world.loopback = Loopback::Allowed;
    let shop = Arc::new(Shop::new(world.clock.function()));
    shop.fill(count, &mut StdRng::seed_from_u64(1));
    world.outside = Outside::Simulated(vec![(SITE.to_owned(), Arc::clone(&shop) as Arc<dyn Simulator>)]);
    connect(&world, &*shop, SITE).await;
    shop.calls();
    let before = shop.spent().0;
    let (mut from, mut calls) = (0, Vec::new());
    loop {
        world.run_jobs().await;
        let upto = world.queues.sent().len();
        if upto == from {
            break;
        }
        world.drain(from).await;
        from = upto;
        calls.extend(shop.calls());
        world.clock.pass_seconds(5);
    }
    assert!(calls.iter().all(|call| call.starts_with("query ")), "{calls:?}");
    let items: BTreeSet<_> = world.tables.items().into_iter().map(|item| item.sk).collect();
    assert_eq!(items.len(), 2 * count);
    shop.spent().0 - before
}

#[tokio::test]
async fn an_import_by_pages_costs_points_for_each_entity_and_one_in_bulk_next_to_none() {
    let sizes = env::var("SIZES").unwrap_or_else(|_| "40,200".into());
    let sizes: Vec<usize> = sizes.split(',').map(|size| size.parse().unwrap()).collect();
    let mut points_of_one = Vec::new();
    for size in sizes {
        let mut costs = Vec::new();
        for plan in PLANS {
            let (by_pages, paged) = Importer::new(size, plan).measured(Importer::by_pages).await;
            let mut read = (0, 0);
            let (in_bulk, cost) = Importer::new(size, plan).measured(async |bulk| bulk.in_bulk(&mut read).await).await;
            assert_eq!((by_pages.len(), &by_pages), (2 * size, &in_bulk), "both bring the same");
            assert!(by_pages.values().all(|parts| *parts == 3));
            costs.push((paged, cost, read));
        }
        let [(paged, bulk, (lines, bytes)), (plus, ..)] = &costs[..] else { unreachable!() };
        println!(
            "{size} products and {size} orders: by pages {} calls, {} points, {:.1} h, on Plus {:.1} h; in bulk {} calls, \
             {} points, {:.1} min as assumed, {lines} lines, {:.1} MB",
            paged.calls,
            paged.points,
            paged.seconds as f64 / 3600.0,
            plus.seconds as f64 / 3600.0,
            bulk.calls,
            bulk.points,
            bulk.seconds as f64 / 60.0,
            *bytes as f64 / 1e6,
        );
        let entities = 2.0 * size as f64;
        points_of_one.push(paged.points / entities);
        // By pages, a standard plan's points are what an import waits for, once its bucket is empty.
        let of_points = (paged.points - PLANS[0] * 20.0) / PLANS[0];
        assert!(((0.9 * of_points)..=(1.2 * of_points + 60.0)).contains(&(paged.seconds as f64)), "{paged:?}");
        // On Plus, it is the budget of calls.
        let of_calls = plus.calls as f64 * f64::from(PLATFORM.budget.seconds) / f64::from(PLATFORM.budget.calls);
        assert!((of_calls..=1.1 * of_calls + 60.0).contains(&(plus.seconds as f64)), "{plus:?}");
        // In bulk, the calls do not grow with the entities, but for the questions whether it is done.
        let looks = bulk.calls - 2 * KINDS.len();
        assert!(bulk.points <= 13.0 * KINDS.len() as f64 + looks as f64, "{bulk:?}");
        // The files outgrow what is read of any answer.
        let of_ten_thousand = *bytes as f64 / size as f64 * 10_000.0;
        assert!(of_ten_thousand > 5.0 * MAX_ANSWER_BYTES as f64, "{bytes}");
    }
    let (least, most) =
        points_of_one.iter().fold((f64::MAX, 0.0_f64), |(low, high), one| (low.min(*one), high.max(*one)));
    assert!(least > 20.0 && most < least * 1.05, "the points grow with the number of entities: {points_of_one:?}");
    // What is measured here is what the registrar and the processor do.
    let (built, measured) = (as_built(40).await / 80.0, points_of_one[0]);
    assert!((built - measured).abs() < 0.1 * measured, "{built} and {measured}");
}

/// The simulator's bulk operations are as Shopify documents them.
#[tokio::test]
async fn a_bulk_operation_is_one_of_five_and_its_file_lasts_for_seven_days() {
    let shop = Importer::new(3, PLANS[0]);
    let run = async |query: &str| {
        let begun = shop.ask(RUN, &json!({ "query": query })).await["bulkOperationRunQuery"].take();
        begun["bulkOperation"]["id"].as_str().map(str::to_owned).ok_or(begun["userErrors"][0]["code"].clone())
    };
    let look = async |id: &str| shop.ask(LOOK, &json!({ "id": id })).await["bulkOperation"].take();
    for wrong in [
        "query { products",
        "query { product { id } }",
        "query { products { nodes { id } } orders { nodes { id } } }",
        "query { things { nodes { id } } }",
        "query { products { nodes { nothing } } }",
        "query { products { nodes { variants { nodes { id a { nodes { b { nodes { id } } } } } } } } }",
        "query { products { nodes { a { nodes { id } } b { nodes { id } } c { nodes { id } } d { nodes { id } } \
         e { nodes { id } } } } }",
    ] {
        assert_eq!(run(wrong).await, Err(json!("INVALID")), "{wrong}");
    }
    let variants = "query { products { nodes { id variants(first: 1) { nodes { sku } } } } }";
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(run(variants).await.unwrap());
    }
    assert_eq!(run(variants).await, Err(json!("OPERATION_IN_PROGRESS")));
    assert_eq!(look(&ids[0]).await, json!({ "status": "RUNNING", "errorCode": null, "url": null }));
    shop.clock.pass_seconds(15);
    assert!(run(variants).await.is_ok(), "the others have ended");
    let url: url::Url = look(&ids[0]).await["url"].as_str().unwrap().parse().unwrap();
    let get = ApiRequest { method: Method::GET, url, headers: HeaderMap::new(), body: "".into() };
    let file = shop.call(&get).await;
    let lines: Vec<Value> =
        std::str::from_utf8(&file.body).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3 + 3 * 3, "each product, and all of its variants");
    for of_product in lines.chunks(4) {
        assert_eq!(of_product[0].as_object().unwrap().len(), 1);
        assert!(
            of_product[1..].iter().all(|line| line["__parentId"] == of_product[0]["id"] && line["sku"].is_string())
        );
    }
    shop.clock.pass_seconds(7 * 86_400 + 60);
    assert_eq!((look(&ids[0]).await["url"].clone(), shop.call(&get).await.status), (Value::Null, 403));
}
