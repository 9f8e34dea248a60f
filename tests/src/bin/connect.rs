//! CloudBlue Connect's simulator on this machine, for `tests/cloudblue`. It has more requests and assets than a page
//! holds, many of them with the same time. Walks every list in every way that the product does, and prints one line of
//! JSON with its requests and the entries that it found. Its API answers until its input ends.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a simulation")]

use std::{
    collections::BTreeSet,
    io::Read,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use commerce::{
    entity::EntityKind,
    http_call::ApiRequest,
    platform::{
        Platform, find,
        mapping::{Incoming, Mapped},
        pull::Access,
    },
    platforms::PLATFORMS,
    request::WebhookPath,
    timestamp::Timestamp,
    transfer::{Action, Listing},
};
use rand::{SeedableRng, rngs::StdRng};
use serde_json::{Map, Value, json};
use tests::platforms::{
    Clock, Simulator,
    cloudblue::{Connect, PRODUCTS},
    listen,
};

const BEGIN: i64 = 1_800_000_000_000_000;
/// The numbers of purchases at one moment, and of those one after another.
const AT_ONCE: usize = 230;
const LATER: usize = 120;
/// The most pages that a list may take.
const MAX_PAGES: usize = 200;

struct Walk<'a> {
    platform: &'static Platform,
    connect: &'a Connect,
    site: &'a str,
    key: &'a str,
    asked: BTreeSet<String>,
}

impl Walk<'_> {
    fn note(&mut self, request: &ApiRequest) {
        let query = request.url.query().unwrap_or_default();
        self.asked.insert(format!("{}?{query}", request.url.path().strip_prefix("/public/v1").unwrap()));
    }

    /// Walks a list to its end, and then the lists that follow it. Returns the ids that it found, by list.
    async fn through(&mut self, settings: &Map<String, Value>, mut listing: Listing, now: Timestamp) -> Value {
        let access = Access { site: self.site, credentials: self.key, settings };
        let mut found = Map::new();
        for _ in 0..MAX_PAGES {
            let request = self.platform.lists.unwrap().list(&access, &listing).unwrap();
            self.note(&request);
            let answer = self.connect.answer(&request).await.unwrap();
            let listed = self.platform.lists.unwrap().read_page(&access, &listing, &answer, now).unwrap();
            let name = listing.what.split('+').next().unwrap().to_owned();
            let ids = found.entry(name).or_insert_with(|| json!([])).as_array_mut().unwrap();
            ids.extend(listed.found.iter().map(|transfer| json!(transfer.id)));
            match listed.next {
                Some(next) => listing = next,
                None => return Value::Object(found),
            }
        }
        panic!("a list does not end: {listing:?}");
    }

    /// Walks the list of webhooks to its end.
    async fn through_webhooks(&mut self, settings: &Map<String, Value>, now: Timestamp) {
        let access = Access { site: self.site, credentials: self.key, settings };
        let webhooks = self.platform.setup.webhooks().unwrap();
        for page in 1.. {
            let request = webhooks.list(&access, page).unwrap();
            self.note(&request);
            let answer = self.connect.answer(&request).await.unwrap();
            if !webhooks.listed(&answer, page, now).unwrap().more {
                break;
            }
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let time = Arc::new(AtomicI64::new(BEGIN));
    let clock: Clock = {
        let time = Arc::clone(&time);
        Arc::new(move || Timestamp::from_micros(time.load(Ordering::SeqCst)))
    };
    let connect = Arc::new(Connect::new(clock));
    let mut random = StdRng::seed_from_u64(11);
    for number in 0..AT_ONCE + LATER {
        if number >= AT_ONCE {
            time.fetch_add(700_001, Ordering::SeqCst);
        }
        connect.purchase(&mut random, number.is_multiple_of(3));
        if number.is_multiple_of(4) {
            connect.change(&mut random);
        }
    }
    for number in 0..130 {
        connect.add_webhook("fulfillment_request", PRODUCTS[number % 2], &format!("https://x.example/{number}"));
    }
    let settings = connect.settings("https://api.connect.cloudblue.com");
    let (site, key) = (settings["site"].as_str().unwrap(), settings["api_key"].as_str().unwrap());
    let now = Timestamp::from_micros(time.load(Ordering::SeqCst)).plus_seconds(60);
    let platform = find(PLATFORMS, "cloudblue").unwrap();
    let mut walk = Walk { platform, connect: &connect, site, key, asked: BTreeSet::new() };
    let mut walks = Vec::new();
    for products in [&[][..], &PRODUCTS[..1], &PRODUCTS[..]] {
        let policies: Map<String, Value> = products.iter().map(|id| ((*id).to_owned(), json!("observe"))).collect();
        let settings = Map::from_iter([("products".to_owned(), json!(policies))]);
        let begin = Timestamp::from_micros(BEGIN);
        for since in [None, Some(begin), Some(begin.plus_seconds(40)), Some(begin.plus_seconds(100_000))] {
            for entity in [EntityKind::Request, EntityKind::Subscription] {
                let found = walk.through(&settings, platform.lists.unwrap().poll(entity, since).unwrap(), now).await;
                walks.push(json!({ "products": products, "since": since.map(|at| at.to_string()), "found": found }));
            }
        }
        let connection = WebhookPath::parse("cloudblue", "va-000-111", None).unwrap().key;
        for scope in ["fulfillment_request", "tier_config_request", "trigger"] {
            let incoming = Incoming {
                connection: &connection,
                scope,
                delivery_id: None,
                entity: EntityKind::Request,
                action: Action::Updated,
                body: b"{}",
                received: now,
            };
            let Ok(Mapped::List(listing)) = platform.mapping.map(&incoming) else { panic!("{scope} is no list") };
            let rest = platform.lists.unwrap().rest_of(listing.clone(), begin.plus_seconds(640));
            let (whole, rest) = (walk.through(&settings, listing, now).await, walk.through(&settings, rest, now).await);
            let since = now.plus_seconds(-24 * 60 * 60).to_string();
            walks.push(json!({ "products": products, "since": since, "found": whole }));
            let since = begin.plus_seconds(40).to_string();
            walks.push(json!({ "products": products, "since": since, "found": rest }));
        }
        walk.through_webhooks(&settings, now).await;
    }
    let (asked, [requests, tiers, assets, webhooks]) = (walk.asked, connect.counts());
    let counts = json!({
        "/requests": requests, "/tier/config-requests": tiers, "/assets": assets, "/notifications/webhooks": webhooks,
    });
    let url = format!("{}/public/v1", listen(Arc::clone(&connect) as Arc<dyn Simulator>).await);
    println!("{}", json!({ "url": url, "key": key, "counts": counts, "asked": asked, "walks": walks }));
    // The API answers until the input ends.
    let (done, ended) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        let _ = done.send(());
    });
    let _ = ended.await;
}
