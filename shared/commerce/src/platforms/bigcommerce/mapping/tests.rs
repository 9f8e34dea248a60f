//! Tests of [`super`].
#![allow(clippy::unwrap_used)]
use bytes::Bytes;
use http::HeaderMap;

use super::*;
use crate::{
    http_call::{ApiResponse, Fault},
    platform::{
        lists::{Listed, Lists},
        mapping::{Resolved, declared_scopes, resolve},
        notice::Notices,
        pull::Access,
    },
    platforms::bigcommerce::scopes::{APP_UNINSTALLED, DELIVERY_EXCEPTION, PRICE_LIST_DELETED, PRICE_LISTS_DELETED},
    request::WebhookPath,
    transfer::Listing,
};

const AT: Timestamp = Timestamp::from_millis(1_760_000_000_000);

fn delivered(scope: &str, body: &str) -> Result<Mapped, MapError> {
    let Resolved::Entity(entity, action) = resolve(&super::super::PLATFORM, scope) else { unreachable!("{scope}") };
    let connection = WebhookPath::parse("bigcommerce", "abc123", None).unwrap().key;
    BigCommerce.map(&Incoming {
        connection: &connection,
        scope,
        delivery_id: None,
        entity,
        action,
        body: body.as_bytes(),
        received: AT,
    })
}

fn callback(scope: &str, data: &Value) -> Result<Mapped, MapError> {
    delivered(scope, &json!({ "scope": scope, "producer": "stores/abc123", "data": data }).to_string())
}

fn answer(status: u16, body: &Value) -> ApiResponse {
    ApiResponse { status, headers: HeaderMap::new(), body: Bytes::from(body.to_string()) }
}

fn v3(data: &Value) -> ApiResponse {
    answer(200, &json!({ "data": data, "meta": {} }))
}

fn no_content() -> ApiResponse {
    ApiResponse { status: 204, headers: HeaderMap::new(), body: Bytes::new() }
}

fn gone(id: &str) -> Mapped {
    Mapped::Change(id.parse().unwrap(), Change::Delete(Delete { source: None, received: AT }))
}

#[test]
fn lists_for_polling_are_by_the_time_of_the_last_change_with_its_time_of_day() {
    let none = Map::new();
    let site = "https://api.bigcommerce.com/stores/abc123";
    let access = Access { site, credentials: r#"{"access_token":"tok"}"#, settings: &none };
    let asked = |listing: &Listing| {
        let request = BigCommerce.list(&access, listing).unwrap();
        let query: Vec<_> = request.url.query_pairs().map(|(name, value)| format!("{name}={value}")).collect();
        format!("{} {}", request.url.path().strip_prefix("/stores/abc123/").unwrap(), query.join(" "))
    };
    let poll = |entity, since| BigCommerce.poll(entity, since);
    let first = |entity, since| asked(&poll(entity, since).unwrap());
    for (entity, since, expected) in [
        (
            EntityKind::Product,
            Some(AT),
            "v3/catalog/products sort=date_modified direction=asc include_fields=date_modified \
             date_modified:min=2025-10-09T08:53:19Z limit=250 page=1",
        ),
        (
            EntityKind::Customer,
            Some(AT),
            "v3/customers sort=date_modified:asc date_modified:min=2025-10-09T08:53:19Z limit=250 page=1",
        ),
        (
            EntityKind::Order,
            Some(AT),
            "v2/orders sort=date_modified:asc min_date_modified=2025-10-09T08:53:19Z limit=50 page=1",
        ),
        (EntityKind::Order, None, "v2/orders sort=date_modified:asc limit=50 page=1"),
        (EntityKind::Category, None, "v3/catalog/categories limit=250 page=1"),
    ] {
        assert_eq!(first(entity, since), expected);
    }
    assert_eq!(poll(EntityKind::Category, Some(AT)), None, "they have no time");
    assert_eq!(poll(EntityKind::Cart, None), None);

    let orders = poll(EntityKind::Order, Some(AT)).unwrap();
    let listed = |listing: &Listing, answer: &ApiResponse| BigCommerce.read_page(&access, listing, answer, AT).unwrap();
    assert_eq!(listed(&orders, &no_content()), Listed { found: vec![], next: None });
    let order = |id: u64, at: &str| json!({ "id": id, "date_modified": at, "status": "Pending" });
    let two = json!([order(7, "Thu, 09 Oct 2025 08:54:00 +0000"), order(8, "Thu, 09 Oct 2025 08:55:00 +0000")]);
    let page = listed(&orders, &answer(200, &two));
    let found: Vec<_> = page.found.iter().map(|found| (found.id.as_str(), found.changed)).collect();
    let at = |seconds| Some(AT.plus_seconds(seconds));
    assert_eq!(found, [("7", at(40)), ("8", at(100))]);
    // The next page shows by its times that the list has ended.
    let next = page.next.unwrap();
    assert!(asked(&next).contains("min_date_modified=2025-10-09T08:54:59Z"));
    let again = json!([order(8, "Thu, 09 Oct 2025 08:55:00 +0000")]);
    assert_eq!(listed(&next, &answer(200, &again)).next, None);

    // Entities whose parts have no time of their own are always pulled when all are listed.
    let product = v3(&json!([{ "id": 5, "date_modified": "2025-10-09T08:54:00+00:00" }]));
    let changed = |since| listed(&poll(EntityKind::Product, since).unwrap(), &product).found[0].changed;
    assert_eq!((changed(Some(AT)), changed(None)), (at(40), None));
    let old = answer(200, &json!([order(7, "Thu, 09 Oct 2025 08:00:00 +0000")]));
    assert!(matches!(BigCommerce.read_page(&access, &orders, &old, AT), Err(Fault::Unreadable(_))));
}

/// Returns every documented row: data, topics, and the entity to pull, or a deleted one (`-`).
fn documented_callbacks() -> Vec<(Value, &'static [&'static str], &'static str)> {
    vec![
        (json!({"type":"product","id":205}), &["product/created", "product/updated"], "205"),
        (
            json!({"type":"product","id":205,"properties":["name"],"context":{"channel_id":1}}),
            &["product/updated"],
            "205",
        ),
        (json!({"type":"product","id":205}), &["product/deleted"], "-205"),
        (
            json!({"type":"product","id":206,"inventory":{"product_id":206,"method":"absolute","value":5}}),
            &["product/inventory/updated", "product/inventory/order/updated"],
            "206",
        ),
        (json!({"type":"product","id":206}), &["product/inventory/updated"], "206"),
        (
            json!({"type":"sku","id":7,"sku":{"product_id":206,"variant_id":509}}),
            &["sku/created", "sku/updated", "sku/deleted"],
            "206",
        ),
        (
            json!({"type":"sku","id":7,"inventory":{"product_id":206,"method":"relative","variant_id":509}}),
            &["sku/inventory/updated", "sku/inventory/order/updated"],
            "206",
        ),
        (
            json!({"variant_id":12,"product_id":"206","location_id":1}),
            &[
                "channel/*/inventory/product/stock_changed",
                "channel/*/inventory/product/low_stock_reached",
                "channel/*/inventory/product/out_of_stock_reached",
                "channel/*/inventory/product/settings_changed",
            ],
            "206",
        ),
        (json!({"type":"category","id":8}), &["category/created", "category/updated"], "8"),
        (json!({"type":"category","id":"8"}), &["category/deleted"], "-8"),
        (json!({"type":"order","id":250}), &["order/created", "order/updated", "order/statusUpdated"], "250"),
        (json!({"type":"order","id":250}), &["order/archived"], "-250"),
        (
            json!({"type":"order","id":250,"status":{"previous_status_id":0,"new_status_id":11}}),
            &["order/statusUpdated"],
            "250",
        ),
        (json!({"type":"order","id":250,"message":{"order_message_id":3}}), &["order/message/created"], "250"),
        (json!({"type":"order","id":250,"refund":{"refund_id":2}}), &["order/refund/created"], "250"),
        (
            json!({"type":"transaction","order_id":"250","transaction_id":"9","result":{"code":"x"}}),
            &["order/transaction/created", "order/transaction/updated"],
            "250",
        ),
        (
            json!({"type":"shipment","id":12,"orderId":251}),
            &["shipment/created", "shipment/updated", "shipment/deleted"],
            "251",
        ),
        (json!({"type":"customer","id":5}), &["customer/created", "customer/updated"], "5"),
        (json!({"type":"customer","id":5}), &["customer/payment/instrument/default/updated"], "5"),
        (json!({"type":"customer","id":5}), &["customer/deleted"], "-5"),
        (
            json!({"type":"customer","id":60,"address":{"customer_id":5}}),
            &["customer/address/created", "customer/address/updated", "customer/address/deleted"],
            "5",
        ),
        (json!({"type":"cart","id":"09346904-4175-44fd"}), &["cart/created", "cart/updated"], "09346904-4175-44fd"),
        (json!({"type":"cart","id":"09346904","couponId":1}), &["cart/couponApplied"], "09346904"),
        (json!({"type":"cart","id":"09346904"}), &["cart/deleted"], "-09346904"),
        (
            json!({"type":"cart_line_item","id":"e2a9","cartId":"09346904"}),
            &["cart/lineItem/created", "cart/lineItem/updated", "cart/lineItem/deleted"],
            "09346904",
        ),
    ]
}

#[test]
fn every_callback_leads_to_its_entity() {
    let mut seen = BTreeSet::new();
    for (data, scopes, expected) in documented_callbacks() {
        for scope in scopes {
            let scope = format!("store/{scope}");
            let expected = match expected.strip_prefix('-') {
                Some(id) => gone(id),
                None => Mapped::Pull(expected.parse().unwrap()),
            };
            assert_eq!(callback(&scope, &data), Ok(expected.clone()), "{scope} {data}");
            assert_eq!(callback(&scope, &json!([data])), Ok(expected), "{scope} {data}");
            seen.insert(scope);
        }
    }
    let prices = |scope: &&str| {
        scope.starts_with("store/priceList")
            || [CART_ABANDONED, CART_CONVERTED].contains(scope)
            || BigCommerce.scopes().contains(scope)
    };
    let missing: Vec<_> =
        declared_scopes(&super::super::PLATFORM).filter(|scope| !seen.contains(*scope) && !prices(scope)).collect();
    assert_eq!(missing, Vec::<&str>::new());
}

#[test]
fn what_names_no_entity_is_malformed() {
    for data in [
        json!(null),
        json!(5),
        json!([]),
        json!({}),
        json!({"id":null}),
        json!({"id":0}),
        json!({"id":-1}),
        json!({"id":"a\nb"}),
        json!({"id":{}}),
        json!([{"id":1},{}]),
    ] {
        let mapped = callback("store/order/updated", &data);
        assert_eq!(mapped, Err(MapError::Malformed("data: the id".into())), "{data}");
    }
    // A child's id is never taken for its parent's.
    for scope in
        ["store/sku/updated", "store/shipment/updated", "store/customer/address/updated", "store/cart/lineItem/updated"]
    {
        assert!(callback(scope, &json!({"id":1})).is_err(), "{scope}");
    }
    for body in ["", "[]", "<html>", r#"{"scope":"store/order/updated","data":"#] {
        assert!(delivered("store/order/updated", body).is_err(), "{body}");
    }
}

#[test]
fn prices_come_in_crowds() {
    let split = |data: Value| match callback("store/priceList/records/updated", &data) {
        Ok(Mapped::Split(parts)) => {
            assert!(parts.iter().all(|part| part.entity == EntityKind::Price));
            parts.iter().map(|part| part.id.to_string()).collect()
        }
        Ok(other) => unreachable!("{other:?}"),
        Err(error) => vec![error.to_string()],
    };
    let record =
        |list: u32, variant: u32, currency: &str| json!({"price_list_id":list,"variant_id":variant,"c":currency});
    let many = json!([record(1, 7, "usd"), record(1, 8, "usd"), record(1, 7, "eur"), record(2, 7, "usd")]);
    assert_eq!(split(many), ["1:7", "1:8", "2:7"]);
    assert_eq!(split(record(1, 7, "usd")), ["1:7"]);
    assert_eq!(split(json!([{"price_list_id":"1","variant_id":"7"}])), ["1:7"]);
    for bad in [
        json!([]),
        json!([{"price_list_id":1}]),
        json!([{"variant_id":1}]),
        json!([{"price_list_id":"1:2","variant_id":1}]),
    ] {
        assert_eq!(split(bad.clone()), ["the body is not what the platform documents, at data: the id"], "{bad}");
    }
    let two = callback("store/order/archived", &json!([{"id":1},{"id":2}]));
    assert!(matches!(&two, Ok(Mapped::Split(parts)) if parts.len() == 2), "{two:?}");
}

#[test]
fn what_became_of_a_cart_is_kept_beside_what_is_pulled() {
    let fate = |scope: &str, data: Value, at: Value| {
        let body = json!({ "scope": scope, "data": data, "created_at": at }).to_string();
        match delivered(scope, &body) {
            Ok(Mapped::PullWith(id, Change::Upsert(upsert))) => {
                assert!(!upsert.observed && upsert.received == AT && upsert.facets.len() == 1);
                let status = upsert.content.fields["status"].as_str().unwrap().to_owned();
                let order = upsert.content.fields["order"].as_str().map(str::to_owned);
                (id.to_string(), upsert.source, status, order)
            }
            other => unreachable!("{other:?}"),
        }
    };
    let is = |at: Timestamp, status: &str, order: Option<&str>| {
        ("c-1".to_owned(), Some(at), status.to_owned(), order.map(str::to_owned))
    };
    let cart = |order: Value| json!({ "type": "cart", "id": "c-1", "orderId": order });
    let ago = |seconds: i64| (AT.plus_seconds(-seconds), json!(AT.seconds() - seconds));
    let (at, seconds) = ago(3600);
    for order in [json!(252), json!("252")] {
        assert_eq!(fate(CART_CONVERTED, cart(order.clone()), seconds.clone()), is(AT, "converted", Some("252")));
        assert_eq!(fate(CART_CONVERTED, json!([cart(order)]), json!(null)), is(AT, "converted", Some("252")));
    }
    for odd in [json!(null), json!(0), json!({}), json!(true)] {
        assert_eq!(fate(CART_CONVERTED, cart(odd), seconds.clone()), is(AT, "converted", None));
    }
    assert_eq!(fate(CART_ABANDONED, cart(json!(252)), seconds), is(at, "abandoned", None));
    let (_, too_old) = ago(RETRIED_SECONDS);
    for odd in [json!(null), json!("soon"), json!(-1), json!(1e30), too_old] {
        assert_eq!(fate(CART_ABANDONED, cart(json!(null)), odd), is(AT, "abandoned", None));
    }
}

#[test]
fn a_price_list_that_is_deleted_concerns_all_its_prices() {
    let known = |scope: &str, data: Value| match callback(scope, &data) {
        Ok(Mapped::Known(EntityKind::Price, prefixes)) => prefixes,
        Ok(other) => unreachable!("{other:?}"),
        Err(error) => vec![error.to_string()],
    };
    assert_eq!(known(PRICE_LIST_DELETED, json!({"price_list_id": 5})), ["5:"]);
    assert_eq!(known(PRICE_LISTS_DELETED, json!({"price_list_ids": [5, "6", 5]})), ["5:", "6:"]);
    assert_eq!(known(PRICE_LISTS_DELETED, json!({"price_list_ids": 5})), ["5:"]);
    assert_eq!(known(PRICE_LISTS_DELETED, json!([{"price_list_id": 5}, {"price_list_id": 7}])), ["5:", "7:"]);
    for bad in [
        json!(null),
        json!({}),
        json!({"price_list_ids": []}),
        json!({"price_list_ids": [5, null]}),
        json!({"price_list_ids": [true]}),
        json!({"price_list_id": "5:1"}),
        json!([]),
    ] {
        let why = ["the body is not what the platform documents, at data: the id"];
        assert_eq!(known(PRICE_LISTS_DELETED, bad.clone()), why, "{bad}");
    }
}

#[test]
fn notices_carry_no_more_than_digits() {
    let notice = |scope: &str, data: Value| {
        let body = json!({ "scope": scope, "data": data }).to_string();
        BigCommerce.read(scope, body.as_bytes(), AT).map(|notice| (notice.kind, notice.detail, notice.received))
    };
    let exception = |detail: &str| Ok(("delivery-exception".to_owned(), detail.to_owned(), AT));
    let uninstalled = notice(APP_UNINSTALLED, json!({"type":"store"}));
    assert_eq!(uninstalled, Ok(("uninstalled".to_owned(), String::new(), AT)));
    let full = json!({"type":"webhook","id":20_000_001,"error_code":90002,"message":"text"});
    assert_eq!(notice(DELIVERY_EXCEPTION, full), exception("90002 20000001"));
    assert_eq!(notice(DELIVERY_EXCEPTION, json!({"id":"x y","error_code":"90001"})), exception("90001"));
    assert_eq!(notice(DELIVERY_EXCEPTION, json!(null)), exception(""));
    assert!(BigCommerce.read(APP_UNINSTALLED, b"<html>", AT).is_err());
}

#[test]
fn what_is_ignored_has_a_named_rule() {
    for (scope, rule) in [
        ("store/product/metafield/updated", METAFIELD),
        ("store/order/metafield/created", METAFIELD),
        ("store/subscriber/created", SUBSCRIBER),
        ("store/channel/1/order/updated", CHANNEL_COPY),
        ("store/channel/1/cart/lineItem/created", CHANNEL_COPY),
        ("store/information/updated", STORE_INFORMATION),
        ("store/channel/*/category/updated", Rule::UNKNOWN_SCOPE),
        ("store/product/reviewed", Rule::UNKNOWN_SCOPE),
        ("", Rule::UNKNOWN_SCOPE),
    ] {
        assert_eq!(resolve(&super::super::PLATFORM, scope), Resolved::Ignored(rule), "{scope}");
    }
}
