//! The amounts of orders on all platforms. Lines, shipping, fees and taxes add up to the total, to the last minor unit
//! of the currency. Discounts add up to the lines' price before them minus their price after them. Otherwise the order
//! names the sum that is wrong.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use commerce::{
    change::Change,
    entity::{Content, EntityKind, unbalanced},
    platform::{
        find,
        mapping::{Incoming, Mapped},
    },
    platforms::woocommerce,
    timestamp::Timestamp,
    transfer::Action,
};
use proptest::prelude::*;
use rand::{SeedableRng, rngs::StdRng};
use rust_decimal::Decimal;
use serde_json::{Map, Value, json};
use tests::{
    platforms::simulators,
    truth::Connected,
    world::{self, World},
};

fn order_of(body: &[u8]) -> Content {
    let incoming = Incoming {
        connection: &world::key(),
        scope: "order.updated",
        delivery_id: None,
        entity: EntityKind::Order,
        action: Action::Updated,
        body,
        received: Timestamp::from_millis(1_795_225_721_000),
    };
    match woocommerce::PLATFORM.mapping.map(&incoming).unwrap() {
        Mapped::Change(_, Change::Upsert(upsert)) => Arc::unwrap_or_clone(upsert.content),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_recorded_orders_add_up() {
    let bodies =
        world::events().into_iter().filter(|event| event.scope().is_some_and(|scope| scope.starts_with("order.")));
    let orders: Vec<_> = bodies.filter(|event| event.body().contains("line_items")).collect();
    assert!(orders.len() >= 3);
    for event in orders {
        let content = order_of(event.body().as_bytes());
        assert!(content.fields["lines"].as_array().is_some_and(|lines| !lines.is_empty()), "{}", event.name);
        assert_eq!(content.unreadable, Vec::<String>::new(), "{}", event.name);
    }
}

/// A made-up order whose sums are wrong names them.
#[test]
fn what_does_not_add_up_is_named() {
    let file = format!("{}/path/data/woocommerce/guest-order.json", env!("CARGO_MANIFEST_DIR"));
    assert_eq!(order_of(&std::fs::read(file).unwrap()).unreadable, ["totals", "totals.tax"]);
}

/// An order from partial payloads has only the values of its events, and absent values are not summed.
#[test]
fn what_no_event_said_is_not_summed() {
    let platform = find(commerce::platforms::PLATFORMS, "directscale").unwrap();
    let folder = format!("{}/path/data/directscale", env!("CARGO_MANIFEST_DIR"));
    let (mut whole, mut count) = (Content::default(), 0);
    for file in ["CreateOrderEvent", "OrderEvent", "CreateOrderPaymentEvent", "UpdateOrderPackageStatusEvent"] {
        let data: Value =
            serde_json::from_slice(&std::fs::read(format!("{folder}/golden-{file}.json")).unwrap()).unwrap();
        let body = data["body"].to_string();
        let incoming = Incoming {
            connection: &world::key(),
            scope: file,
            delivery_id: None,
            entity: EntityKind::Order,
            action: Action::Updated,
            body: body.as_bytes(),
            received: Timestamp::from_millis(1_795_225_721_000),
        };
        let Ok(Mapped::Change(_, Change::Upsert(upsert))) = platform.mapping.map(&incoming) else { panic!("{file}") };
        assert_eq!(unbalanced(&upsert.content.fields), Vec::<&str>::new(), "{file}");
        whole.overlay(&upsert.content);
        count += usize::from(upsert.content.fields.contains_key("totals"));
        assert_eq!(unbalanced(&whole.fields), Vec::<&str>::new(), "{file}");
    }
    assert!(count > 0, "one of them has a total");
}

/// Calculates the sum without the code under test.
fn sum(fields: &Map<String, Value>) -> Decimal {
    let amount = |value: &Value| value.as_str().map_or(Decimal::ZERO, |text| text.parse().unwrap());
    let of = |list: &str| -> Decimal {
        let all = fields.get(list).and_then(Value::as_array);
        all.into_iter().flatten().map(|one| amount(&one["total"]) + amount(&one["tax"])).sum()
    };
    let totals = &fields["totals"];
    of("lines") + of("fees") + amount(&totals["shipping"]) + amount(&totals["shipping_tax"])
}

#[derive(Default, Debug)]
struct Seen {
    orders: usize,
    kinds: BTreeSet<String>,
}

/// Checks every order that the simulated platforms make, and returns the kinds of amounts that they had.
async fn generated(seed: u64, steps: usize) -> BTreeMap<&'static str, Seen> {
    let world = World::new();
    let mut random = StdRng::seed_from_u64(seed);
    let mut seen: BTreeMap<&'static str, Seen> = BTreeMap::new();
    for simulator in simulators(world.clock.function()) {
        for _ in 0..steps {
            simulator.change(&mut random);
            world.clock.pass_seconds(60);
        }
        let connected = Connected::new(&*simulator, "http://127.0.0.1:20000");
        for (kind, id, _) in simulator.entities().into_iter().filter(|(kind, ..)| *kind == EntityKind::Order) {
            world.clock.pass_seconds(31);
            let asked = connected.asked(&connected.entity(kind, &id), &*world.clock.function()).await;
            let Ok(Mapped::Change(_, Change::Upsert(upsert)) | Mapped::IfKnown(_, Change::Upsert(upsert), _)) = asked
            else {
                continue;
            };
            let Content { mut fields, unreadable, .. } = Arc::unwrap_or_clone(upsert.content);
            assert_eq!(unreadable, Vec::<String>::new(), "seed {seed}: {} {id}: {fields:?}", simulator.platform());
            let Some(total) = fields["totals"]["total"].as_str().map(|total| total.parse::<Decimal>().unwrap()) else {
                continue;
            };
            let seen = seen.entry(simulator.platform()).or_default();
            let totals = fields["totals"].as_object().unwrap();
            let of_totals =
                totals.iter().filter(|(_, value)| !["0", "0.00", "0.000"].iter().any(|zero| *value == zero));
            seen.kinds.extend(
                of_totals.map(|(name, value)| if value == false { name.clone() + " not" } else { name.clone() }),
            );
            seen.kinds.extend(
                ["fees", "coupons", "refunds"].map(str::to_owned).into_iter().filter(|name| fields.contains_key(name)),
            );
            seen.kinds.insert(fields["currency"].as_str().unwrap().to_owned());
            if !fields.contains_key("lines") {
                continue;
            }
            seen.orders += 1;
            assert_eq!(sum(&fields), total, "seed {seed}: {} {id}: {fields:?}", simulator.platform());
            // A total with one minor unit more is named.
            let places = match fields["currency"].as_str() {
                Some("JPY") => 0,
                Some("KWD") => 3,
                _ => 2,
            };
            fields["totals"]["total"] = json!((total + Decimal::new(1, places)).to_string());
            assert_eq!(unbalanced(&fields), ["totals"], "seed {seed}: {} {id}", simulator.platform());
        }
    }
    seen
}

/// The simulated platforms use every kind of amount.
#[tokio::test]
async fn no_kind_of_money_is_always_zero() {
    let seen = generated(1, 500).await;
    for (platform, own) in [("bigcommerce", &["store_credit", "gift_certificates"][..]), ("woocommerce", &[])] {
        let Seen { orders, kinds } = &seen[platform];
        assert!(*orders > 20, "{platform}: {orders}");
        let all = [
            "total",
            "tax",
            "shipping",
            "shipping_tax",
            "discount",
            "discount_tax",
            "prices_include_tax",
            "prices_include_tax not",
            "fees",
            "coupons",
            "refunds",
            "EUR",
            "USD",
            "JPY",
            "KWD",
        ];
        let missing: Vec<_> = all.iter().chain(own).filter(|kind| !kinds.contains(**kind)).collect();
        assert!(missing.is_empty(), "{platform}: {missing:?} of {kinds:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn generated_orders_add_up(seed: u64) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(generated(seed, 120));
    }
}
