//! Tests of [`super`].
#![allow(clippy::unwrap_used)]
use bytes::Bytes;
use http::{HeaderMap, HeaderValue};

use super::*;
use crate::{
    platform::pull::{Access, Pull},
    platforms::bigcommerce::BigCommerce,
    timestamp::Timestamp,
};

const AT: Timestamp = Timestamp::from_millis(1_760_000_000_000);

fn answer(status: u16, body: &Value) -> ApiResponse {
    ApiResponse { status, headers: HeaderMap::new(), body: Bytes::from(body.to_string()) }
}

fn v3(data: &Value) -> ApiResponse {
    answer(200, &json!({ "data": data, "meta": {} }))
}

fn no_content() -> ApiResponse {
    ApiResponse { status: 204, headers: HeaderMap::new(), body: Bytes::new() }
}

fn pull(entity: EntityKind, id: &str, answers: &[ApiResponse]) -> Result<Next, Fault> {
    let none = Map::new();
    let site = "https://api.bigcommerce.com/stores/abc123";
    let access = Access { site, credentials: r#"{"access_token":"tok"}"#, settings: &none };
    BigCommerce.pull(&Wanted { access, entity, id: &id.parse().unwrap(), at: AT }, answers)
}

/// Gives the scripted answers one after the other. Returns the calls, below the store's path, and the result.
fn run(entity: EntityKind, id: &str, answers: &[ApiResponse]) -> (Vec<String>, Result<Mapped, Fault>) {
    let mut asked = Vec::new();
    for count in 0..=answers.len() {
        match pull(entity, id, &answers[..count]) {
            Ok(Next::Ask(request)) => {
                assert_eq!(request.headers["x-auth-token"], "tok");
                asked.push(request.url.as_str().split_once("/stores/abc123/").unwrap().1.to_owned());
            }
            Ok(Next::Done(mapped)) => return (asked, Ok(mapped)),
            Err(fault) => return (asked, Err(fault)),
        }
    }
    unreachable!("more is asked than is scripted: {asked:?}")
}

fn content(mapped: Result<Mapped, Fault>) -> (Option<String>, Value, Value) {
    let Ok(Mapped::Change(_, Change::Upsert(upsert))) = mapped else { unreachable!("{mapped:?}") };
    assert!(upsert.observed && upsert.received == AT);
    let source = upsert.source.map(|at| at.to_string());
    {
        let content = std::sync::Arc::unwrap_or_clone(upsert.content);
        (source, Value::Object(content.fields), Value::Object(content.extra))
    }
}

fn gone(id: &str) -> Mapped {
    Mapped::Change(id.parse().unwrap(), Change::Delete(Delete { source: None, received: AT }))
}

fn product(base_variant_id: Value) -> Value {
    json!({
        "id": 174, "name": "Jar 1L", "type": "physical", "sku": "JAR-1L", "price": 9.95, "sale_price": 0,
        "calculated_price": 7.95,
        "categories": [21, 23], "brand_id": 36, "inventory_level": 12, "inventory_tracking": "product",
        "is_visible": true,
        "availability": "available", "date_created": "2025-02-01T10:00:00+00:00",
        "date_modified": "2025-03-01T11:22:33+00:00",
        "base_variant_id": base_variant_id, "custom_url": {"url": "/jar-1l/", "is_customized": false},
        "total_sold": 5,
        "view_count": 7, "gtin": "", "upc": "012345678905", "cost_price": 3.1,
        "images": [
            {"url_zoom": "https://cdn.example.com/b.jpg", "sort_order": 0, "is_thumbnail": false},
            {"url_standard": "https://cdn.example.com/a.jpg", "sort_order": 1, "is_thumbnail": true},
        ],
        "custom_fields": [{"id": 1, "name": "Glass", "value": "green"}],
    })
}

#[test]
fn a_simple_product_is_one_call() {
    let (asked, mapped) = run(EntityKind::Product, "174", &[v3(&product(json!(345)))]);
    assert_eq!(asked, ["v3/catalog/products/174?include=images%2Ccustom_fields"]);
    let (source, fields, extra) = content(mapped);
    assert_eq!(source.as_deref(), Some("2025-03-01T11:22:33Z"));
    assert_eq!(
        fields,
        json!({
            "id": "174", "kind": "physical", "name": "Jar 1L", "sku": "JAR-1L", "barcode": "012345678905",
            "status": "available",
            "price": "7.95", "regular_price": "9.95", "stock": {"quantity": "12"}, "url": "/jar-1l/",
            "categories": [{"id": "21"}, {"id": "23"}],
            "images": ["https://cdn.example.com/a.jpg", "https://cdn.example.com/b.jpg"],
            "created_at": "2025-02-01T10:00:00Z", "updated_at": "2025-03-01T11:22:33Z",
        })
    );
    assert_eq!(
        extra,
        json!({
            "base_variant_id": "345", "brand_id": 36, "cost_price": 3.1, "inventory_tracking": "product",
            "is_visible": true,
            "custom_fields": [{"id": 1, "name": "Glass", "value": "green"}],
        })
    );
}

#[test]
fn stock_that_nobody_counts_is_none() {
    let mut product = product(json!(345));
    product["inventory_tracking"] = json!("none");
    let (_, fields, _) = content(run(EntityKind::Product, "174", &[v3(&product)]).1);
    assert!(fields.get("stock").is_none());
}

#[test]
fn variants_are_asked_for_until_their_last_page() {
    let variant = |id: u32, size: &str| {
        json!({
            "id": id, "sku": format!("JAR-{size}"), "price": null, "calculated_price": 7.95, "inventory_level": 3,
            "purchasing_disabled": false, "option_values": [{"option_display_name": "Size", "label": size}],
        })
    };
    let page = |number: u32, variants: Value| {
        answer(200, &json!({ "data": variants, "meta": {"pagination": {"total_pages": 2, "current_page": number}} }))
    };
    let answers = [
        v3(&product(json!(null))),
        page(1, json!([variant(1, "S"), variant(2, "L")])),
        page(2, json!([variant(3, "S")])),
    ];
    let (asked, mapped) = run(EntityKind::Product, "174", &answers);
    let variants = "v3/catalog/products/174/variants?limit=250&page=";
    assert_eq!(asked[1..], [format!("{variants}1"), format!("{variants}2")]);
    let (_, fields, extra) = content(mapped);
    assert_eq!(fields["variations"], json!(["1", "2", "3"]));
    assert_eq!(fields["choices"], json!([{"name": "Size", "values": ["S", "L"]}]));
    assert_eq!(
        extra["variants"]["2"],
        json!({"sku": "JAR-L", "price": "7.95", "quantity": "3", "choices": {"Size": "L"}})
    );
    // Without pagination, a page that is not full is the last.
    let (asked, mapped) = run(EntityKind::Product, "174", &[v3(&product(json!(null))), v3(&json!([]))]);
    assert!(asked.len() == 2 && mapped.is_ok());
    let endless: Vec<_> = std::iter::once(answers[0].clone())
        .chain((0..MAX_PAGES).map(|_| answer(200, &json!({"data": [], "meta": {"pagination": {"total_pages": 999}}}))))
        .collect();
    assert!(matches!(run(EntityKind::Product, "174", &endless).1, Err(Fault::Unreadable(_))));
}

fn order() -> Value {
    json!({
        "id": 250, "customer_id": 0, "date_created": "Tue, 05 Mar 2019 21:40:11 +0000",
        "date_modified": "Wed, 06 Mar 2019 21:40:11 +0000", "date_shipped": "", "status_id": 11, "status": "Wartet",
        "custom_status": "Wartet", "total_inc_tax": "67.8400", "total_tax": "7.8400",
        "shipping_cost_ex_tax": "10.0000",
        "shipping_cost_tax": "0.0000", "discount_amount": "0.0000", "refunded_amount": "5.0000",
        "currency_code": "EUR",
        "default_currency_code": "USD", "is_deleted": false, "payment_method": "Manual", "customer_message": "",
        "billing_address": {"first_name": "Ann", "street_1": "1 Road", "state": "Texas", "zip": "7",
        "country": "United States",
            "country_iso2": "US", "email": "ann@example.com", "form_fields": []},
        "products": {"url": "https://api.bigcommerce.com/x", "resource": "/orders/250/products"},
        "shipping_addresses": {"url": "https://api.bigcommerce.com/x",
        "resource": "/orders/250/shipping_addresses"},
        "coupons": {"url": "https://api.bigcommerce.com/x", "resource": "/orders/250/coupons"},
        "consignments": {"url": "https://api.bigcommerce.com/x", "resource": "/orders/250/consignments"},
        "fees": {"url": "https://api.bigcommerce.com/x", "resource": "/orders/250/fees"},
    })
}

fn line(id: usize) -> Value {
    json!({
        "id": id, "order_id": 250, "product_id": 174, "variant_id": 345, "name": "Jar", "sku": "JAR-1L",
        "quantity": 2,
        "price_ex_tax": "25.0000", "total_ex_tax": "50.0000", "total_tax": "7.8400", "base_price": "25.0000",
    })
}

#[test]
fn an_order_is_a_bucket_of_several_calls() {
    let address = json!({
        "id": 9, "order_id": 250, "first_name": "Bob", "street_1": "2 Road", "country_iso2": "US",
        "shipping_method": "Ground",
        "cost_ex_tax": "10.0000", "cost_tax": "0.0000",
    });
    let shipment = json!({
        "id": 12, "order_id": 250, "tracking_number": "T1", "shipping_provider": "", "tracking_carrier": "ups",
        "shipping_method": "Ground", "date_created": "Thu, 07 Mar 2019 21:40:11 +0000",
    });
    let answers = [
        answer(200, &order()),
        answer(200, &json!([line(1)])),
        answer(200, &json!([address])),
        answer(200, &json!([shipment])),
        no_content(),
        no_content(),
        v3(&json!([])),
    ];
    let (asked, mapped) = run(EntityKind::Order, "250", &answers);
    assert_eq!(
        asked,
        [
            "v2/orders/250",
            "v2/orders/250/products?limit=50&page=1",
            "v2/orders/250/shipping_addresses?limit=50&page=1",
            "v2/orders/250/shipments?limit=50&page=1",
            "v2/orders/250/coupons?limit=50&page=1",
            "v2/orders/250/fees",
            "v3/orders/250/payment_actions/refunds",
        ]
    );
    let (source, fields, extra) = content(mapped);
    assert_eq!(source.as_deref(), Some("2019-03-06T21:40:11Z"));
    assert_eq!(
        fields,
        json!({
            "id": "250", "number": "250", "status": "Awaiting Fulfillment", "currency": "USD",
            "totals": {"total": "67.84", "tax": "7.84", "shipping": "10", "shipping_tax": "0", "discount": "0"},
            "lines": [{"id": "1", "product": "174", "variation": "345", "name": "Jar", "sku": "JAR-1L",
            "quantity": "2",
                "price": "25", "subtotal": "50", "total": "50", "tax": "7.84"}],
            "shipping_lines": [{"id": "9", "title": "Ground", "total": "10", "tax": "0"}],
            "billing": {"first_name": "Ann", "line1": "1 Road", "region": "Texas", "postcode": "7", "country": "US",
                "email": "ann@example.com"},
            "shipping": {"first_name": "Bob", "line1": "2 Road", "country": "US"},
            "payment": {"method": "Manual"},
            "packages": {"12": {"carrier": "ups", "method": "Ground", "tracking_number": "T1",
            "shipped_at": "2019-03-07T21:40:11Z"}},
            "created_at": "2019-03-05T21:40:11Z", "updated_at": "2019-03-06T21:40:11Z",
        })
    );
    assert_eq!(extra["products"]["1"]["base_price"], "25.0000");
    assert_eq!(extra["refunded_amount"], "5.0000");
    assert_eq!((&extra["status_id"], &extra["currency_code"]), (&json!(11), &json!("EUR")));
    assert!(!extra.to_string().contains("https://"), "a link: {extra}");
}

#[test]
fn lists_of_v2_end_with_a_page_that_is_not_full_or_with_no_content() {
    let full = |from: usize| answer(200, &(from..from + V2_PAGE).map(line).collect());
    let lines = |pages: &[ApiResponse]| {
        let mut answers = vec![answer(200, &order())];
        answers.extend_from_slice(pages);
        answers.extend([answer(200, &json!([])), no_content(), no_content(), no_content(), v3(&json!([]))]);
        let (asked, mapped) = run(EntityKind::Order, "250", &answers);
        assert_eq!(asked.len(), answers.len());
        content(mapped).1["lines"].as_array().map_or(0, Vec::len)
    };
    assert_eq!(lines(&[no_content()]), 0);
    assert_eq!(lines(&[answer(200, &json!([line(1)]))]), 1);
    assert_eq!(lines(&[full(1), answer(200, &json!([line(60)]))]), 51);
    assert_eq!(lines(&[full(1), no_content()]), 50);
}

#[test]
fn incomplete_and_archived_orders_are_none() {
    let with = |name: &str, value: Value| {
        let mut order = order();
        order[name] = value;
        by_path(&json!({ "entity": "order", "id": "250", "answers": {
            "v2/orders/250": { "status": 200, "body": order },
        }}))
    };
    let incomplete = with("status_id", json!(0)).1;
    let Ok(Mapped::IfKnown(_, Change::Upsert(upsert), INCOMPLETE_ORDER)) = incomplete else {
        unreachable!("{incomplete:?}")
    };
    assert_eq!(upsert.content.fields["status"], "Incomplete");
    // For an unknown order, nothing more is called.
    let none = Map::new();
    let (site, id) = ("https://api.bigcommerce.com/stores/abc123", "250".parse().unwrap());
    let access = Access { site, credentials: "{}", settings: &none };
    let wanted = |entity| Wanted { access, entity, id: &id, at: AT };
    let shown = |status: Value| vec![answer(200, &json!({ "id": 250, "status_id": status }))];
    let rule = |entity, answers: &[ApiResponse]| BigCommerce.only_if_known(&wanted(entity), answers);
    for status in [json!(0), json!("0")] {
        assert_eq!(rule(EntityKind::Order, &shown(status)), Some(INCOMPLETE_ORDER));
    }
    for status in [json!(11), json!(null), json!({})] {
        assert_eq!(rule(EntityKind::Order, &shown(status)), None);
    }
    assert_eq!(rule(EntityKind::Product, &shown(json!(0))), None);
    assert_eq!(rule(EntityKind::Order, &[]), None);
    assert_eq!(with("is_deleted", json!(true)).1, Ok(gone("250")));
    assert!(matches!(with("id", json!(251)).1, Err(Fault::Unreadable(_))));
}

#[test]
fn a_customer_comes_with_all_addresses() {
    let address = |id: u32| {
        json!({"id": id, "customer_id": 5, "address1": "1 Road", "country_code": "US",
    "country": "United States"})
    };
    let customer = |count: u32| {
        json!([{"id": 5, "email": "ann@example.com", "first_name": "Ann", "company": "Jars", "address_count": count,
            "addresses": [address(60)], "date_modified": "2025-03-01T11:22:33Z"}])
    };
    let first = "v3/customers?id%3Ain=5&include=addresses";
    let (asked, mapped) = run(EntityKind::Customer, "5", &[v3(&customer(1))]);
    assert_eq!(asked, [first]);
    let (_, fields, extra) = content(mapped);
    assert_eq!((&fields["email"], &extra["company"]), (&json!("ann@example.com"), &json!("Jars")));
    assert_eq!(extra["addresses"], json!({"60": {"line1": "1 Road", "country": "US"}}));

    let (asked, mapped) = run(EntityKind::Customer, "5", &[v3(&customer(2)), v3(&json!([address(60), address(61)]))]);
    assert_eq!(asked, [first, "v3/customers/addresses?customer_id%3Ain=5&limit=250&page=1"]);
    assert_eq!(content(mapped).2["addresses"].as_object().map(Map::len), Some(2));
    // An id that the query splits into two returns other entities, which are refused.
    assert!(matches!(run(EntityKind::Customer, "4,5", &[v3(&customer(1))]).1, Err(Fault::Unreadable(_))));
}

#[test]
fn categories_carts_and_prices() {
    let category = json!({"id": 8, "parent_id": 0, "name": "Jars", "is_visible": true, "views": 9,
    "custom_url": {"url": "/jars/"}});
    let (asked, mapped) = run(EntityKind::Category, "8", &[v3(&category)]);
    assert_eq!(asked, ["v3/catalog/categories/8"]);
    let expected = json!({"id": "8", "name": "Jars", "visible": true, "url": "/jars/"});
    assert_eq!(content(mapped), (None, expected, json!({})));

    let cart = json!({
        "id": "a-b", "customer_id": 0, "email": "", "currency": {"code": "USD"}, "cart_amount": 30.5,
        "coupons": [{"code": "TEN"}],
        "line_items": {
            "physical_items": [{"id": "l1", "product_id": 174, "variant_id": 345, "name": "Jar", "quantity": 2,
            "list_price": 11,
                "sale_price": 10, "extended_list_price": 22, "extended_sale_price": 20, "is_taxable": true}],
            "gift_certificates": [{"id": "l2", "name": "Gift", "amount": 10.5}],
        },
        "updated_time": "2025-03-01T11:22:33+00:00",
        "redirect_urls": {"checkout_url": "https://example.com/?token=t"},
    });
    let (asked, mapped) = run(EntityKind::Cart, "a-b", &[v3(&cart)]);
    assert_eq!(asked, ["v3/carts/a-b"]);
    let (source, fields, extra) = content(mapped);
    assert_eq!(source.as_deref(), Some("2025-03-01T11:22:33Z"));
    assert_eq!(
        fields["lines"],
        json!([
            {"id": "l1", "product": "174", "variation": "345", "name": "Jar", "quantity": "2", "price": "10",
            "subtotal": "22",
                "total": "20"},
            {"id": "l2", "name": "Gift", "quantity": "1", "price": "10.5", "subtotal": "10.5", "total": "10.5"},
        ])
    );
    assert_eq!((&fields["total"], &fields["coupons"]), (&json!("30.5"), &json!(["TEN"])));
    assert!(!extra.to_string().contains("token"));

    let record = |currency: &str, price: f64| {
        json!({"price_list_id": 1, "variant_id": 7, "currency": currency,
    "price": price, "sale_price": 0, "sku": "J"})
    };
    let (asked, mapped) = run(EntityKind::Price, "1:7", &[v3(&json!([record("usd", 9.5), record("eur", 8.0)]))]);
    assert_eq!(asked, ["v3/pricelists/1/records/7?include=bulk_pricing_tiers"]);
    let (source, fields, extra) = content(mapped);
    assert_eq!(source, None);
    assert_eq!(fields["prices"], json!([{"currency": "EUR", "price": "8"}, {"currency": "USD", "price": "9.5"}]));
    assert_eq!(extra, json!({"records": {"EUR": {"sku": "J"}, "USD": {"sku": "J"}}}));
    assert!(matches!(run(EntityKind::Price, "1:8", &[v3(&json!([record("usd", 9.5)]))]).1, Err(Fault::Unreadable(_))));
    assert!(matches!(pull(EntityKind::Price, "17", &[]), Err(Fault::Unreadable(_))));
}

#[test]
fn only_the_platform_s_own_not_found_is_a_delete() {
    let own = [json!({"status":404,"title":"Not found","type":"x"}), json!([{"status":404,"message":"Not found"}])];
    for (entity, id) in [
        (EntityKind::Product, "174"),
        (EntityKind::Category, "8"),
        (EntityKind::Customer, "5"),
        (EntityKind::Order, "250"),
        (EntityKind::Cart, "a-b"),
        (EntityKind::Price, "1:7"),
    ] {
        for body in &own {
            assert_eq!(run(entity, id, &[answer(404, body)]).1, Ok(gone(id)), "{entity}");
        }
        let page = ApiResponse { body: Bytes::from_static(b"<html>"), ..answer(404, &json!(null)) };
        assert!(matches!(run(entity, id, &[page]).1, Err(Fault::Connection(_))), "{entity}");
        assert!(matches!(run(entity, id, &[answer(410, &own[0])]).1, Err(Fault::Connection(_))), "{entity}");
        assert!(matches!(run(entity, id, &[no_content()]).1, Err(Fault::Unreadable(_))), "{entity}");
        assert!(matches!(run(entity, id, &[answer(200, &json!("?"))]).1, Err(Fault::Unreadable(_))), "{entity}");
    }
    for (entity, id) in [(EntityKind::Customer, "5"), (EntityKind::Price, "1:7")] {
        assert_eq!(run(entity, id, &[v3(&json!([]))]).1, Ok(gone(id)), "{entity}: an empty list");
    }
}

#[test]
fn faults_are_told_apart() {
    let fault = |status: u16, headers: &[(&'static str, &'static str)]| {
        let headers =
            headers.iter().map(|(name, value)| (http::HeaderName::from_static(name), HeaderValue::from_static(value)));
        let answer = ApiResponse { headers: HeaderMap::from_iter(headers), ..answer(status, &json!({})) };
        run(EntityKind::Order, "250", &[answer]).1.unwrap_err()
    };
    const RESET: &str = "x-rate-limit-time-reset-ms";
    for (millis, seconds) in [("0", 1), ("1", 1), ("1000", 1), ("1001", 2), ("30000", 30), ("soon", 120)] {
        assert_eq!(fault(429, &[(RESET, millis)]), Fault::Throttled { seconds }, "{millis}");
    }
    assert_eq!(fault(429, &[]), Fault::Throttled { seconds: 120 });
    assert_eq!(fault(503, &[("retry-after", "9")]), Fault::Throttled { seconds: 9 });
    for status in [423, 500, 503, 507] {
        assert!(matches!(fault(status, &[]), Fault::Unavailable(_)), "{status}");
    }
    for status in [401, 403, 422] {
        assert!(matches!(fault(status, &[]), Fault::Connection(_)), "{status}");
    }
}

#[test]
fn ids_stay_in_their_segment_of_the_path() {
    let asked = |id: &str| pull(EntityKind::Cart, id, &[]).map(|next| format!("{next:?}"));
    assert!(asked("../orders?x=1").unwrap().contains("/v3/carts/..%2Forders%3Fx=1"));
    for id in [".", ".."] {
        assert!(matches!(asked(id), Err(Fault::Unreadable(_))), "{id}");
    }
    assert!(matches!(pull(EntityKind::Price, "..:1", &[]), Err(Fault::Unreadable(_))));
    assert!(matches!(pull(EntityKind::Coupon, "1", &[]), Err(Fault::Unreadable(_))));
}

/// Runs a pull with answers scripted by path; other paths have no content. Returns the calls and the result.
fn by_path(case: &Value) -> (Vec<String>, Result<Mapped, Fault>) {
    let entity = serde_json::from_value(case["entity"].clone()).unwrap();
    let id = case["id"].as_str().unwrap();
    let (mut answers, mut asked) = (Vec::new(), Vec::new());
    loop {
        match pull(entity, id, &answers) {
            Ok(Next::Ask(request)) => {
                let path = request.url.path().strip_prefix("/stores/abc123/").unwrap();
                asked.push(request.url.as_str().split_once("/stores/abc123/").unwrap().1.to_owned());
                answers.push(match case["answers"].get(path) {
                    Some(scripted) => {
                        let status = scripted["status"].as_u64().unwrap().try_into().unwrap();
                        answer(status, &scripted["body"])
                    }
                    None => no_content(),
                });
            }
            Ok(Next::Done(mapped)) => return (asked, Ok(mapped)),
            Err(fault) => return (asked, Err(fault)),
        }
    }
}

#[test]
fn entities_as_stores_have_them() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/platforms/bigcommerce/cases");
    let mut count = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let file = file.unwrap().path();
        let name = file.file_stem().unwrap().to_str().unwrap();
        let case: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        let Ok(Mapped::Change(_, Change::Upsert(upsert))) = by_path(&case).1 else { unreachable!("{name}") };
        let Content { fields, extra, unreadable } = std::sync::Arc::unwrap_or_clone(upsert.content);
        for (part, found) in [("fields", Value::Object(fields)), ("extra", Value::Object(extra))] {
            for (place, right) in case["right"][part].as_object().unwrap() {
                let found = found.pointer(place).unwrap_or(&Value::Null);
                assert_eq!(found, right, "{name}: {part}{place}");
            }
        }
        assert_eq!(json!(unreadable), case["right"]["unreadable"], "{name}");
        count += 1;
    }
    assert!(count > 10);
}

#[test]
fn an_order_says_itself_which_of_its_parts_there_may_be() {
    let asked = |coupons: Value, fees: Value, taken_off: &str, code: Value| {
        let order = json!({ "id": 7, "status_id": 11, "coupons": coupons, "fees": fees, "coupon_discount": taken_off });
        let discounts = json!([{ "id": "coupon", "amount": "1.0000", "code": code }]);
        let line = json!({ "id": 1, "quantity": 1, "applied_discounts": discounts });
        let case = json!({ "entity": "order", "id": "7", "answers": {
            "v2/orders/7": { "status": 200, "body": order },
            "v2/orders/7/products": { "status": 200, "body": [line] },
        }});
        by_path(&case).0.split_off(4)
    };
    let link = || json!({ "url": "x", "resource": "y" });
    let (coupons, fees) = ("v2/orders/7/coupons?limit=50&page=1", "v2/orders/7/fees");
    let refunds = "v3/orders/7/payment_actions/refunds";
    assert_eq!(asked(link(), link(), "0.0000", json!(null)), [coupons, fees, refunds]);
    assert_eq!(asked(json!(null), json!([]), "0.0000", json!(null)), [refunds]);
    assert_eq!(asked(json!(null), json!(null), "1.0000", json!(null)), [coupons, refunds]);
    assert_eq!(asked(json!(null), json!(null), "0.0000", json!("TEN")), [coupons, refunds]);
}

#[test]
fn fees_come_as_a_list_in_an_object_or_with_the_order() {
    let fee = json!({ "id": 1, "display_name_merchant": "Eco", "cost_ex_tax": "4.0000", "cost_tax": "0.4000" });
    let with = |own: Value, answer: Value| {
        let order = json!({ "id": 7, "status_id": 11, "fees": own, "total_inc_tax": "4.4000" });
        let case = json!({ "entity": "order", "id": "7", "answers": {
            "v2/orders/7": { "status": 200, "body": order }, "v2/orders/7/fees": answer,
        }});
        by_path(&case).1
    };
    let link = || json!({ "url": "x", "resource": "y" });
    let ok = |body: Value| json!({ "status": 200, "body": body });
    let expected = json!([{ "id": "1", "name": "Eco", "total": "4", "tax": "0.4" }]);
    for mapped in [
        with(link(), ok(json!([fee]))),
        with(link(), ok(json!({ "fees": [fee] }))),
        with(json!([fee]), json!({ "status": 500 })),
    ] {
        assert_eq!(content(mapped).1["fees"], expected);
    }
    assert!(matches!(with(link(), ok(json!({ "x": [] }))), Err(Fault::Unreadable(_))));
    assert!(matches!(with(link(), ok(json!("x"))), Err(Fault::Unreadable(_))));
}

/// Checks that a part with a 404 in BigCommerce's own form is empty and named, while the order exists.
#[test]
fn each_part_may_be_missing() {
    let own = [json!([{ "status": 404, "message": "Not found" }]), json!({ "status": 404, "title": "Not found" })];
    let link = || json!({ "url": "x", "resource": "y" });
    let order = json!({ "id": 7, "status_id": 11, "coupons": link(), "fees": link() });
    for (part, path) in [
        ("products", "v2/orders/7/products"),
        ("shipping_addresses", "v2/orders/7/shipping_addresses"),
        ("shipments", "v2/orders/7/shipments"),
        ("coupons", "v2/orders/7/coupons"),
        ("fees", "v2/orders/7/fees"),
        ("refunds", "v3/orders/7/payment_actions/refunds"),
    ] {
        for body in &own {
            let mut case = json!({ "entity": "order", "id": "7", "answers": {
                "v2/orders/7": { "status": 200, "body": order },
            }});
            case["answers"][path] = json!({ "status": 404, "body": body });
            let (asked, mapped) = by_path(&case);
            assert_eq!(asked.len(), 7, "{part}");
            let Ok(Mapped::Change(_, Change::Upsert(upsert))) = mapped else { unreachable!("{part}") };
            assert_eq!(upsert.content.unreadable, [part]);
            // A page of a server in between says nothing about the part.
            case["answers"][path] = json!({ "status": 404, "body": "<html>" });
            assert!(matches!(by_path(&case).1, Err(Fault::Connection(_))), "{part}");
        }
    }
}

#[test]
fn variants_that_are_not_found_are_looked_for_once_more_at_their_product() {
    let missing = answer(404, &json!({ "status": 404, "title": "Not found" }));
    let product = v3(&product(json!(null)));
    let there = run(EntityKind::Product, "174", &[product.clone(), missing.clone(), product.clone()]);
    assert_eq!(there.0.len(), 3);
    let Ok(Mapped::Change(_, Change::Upsert(upsert))) = there.1 else { unreachable!() };
    assert_eq!(upsert.content.unreadable, ["variants"]);
    let gone_since = run(EntityKind::Product, "174", &[product, missing.clone(), missing]);
    assert_eq!(gone_since.1, Ok(gone("174")));
}

#[test]
fn an_odd_member_is_dropped_by_its_name_but_no_identity_version_or_money() {
    let unreadable = |place: &str, value: Value| {
        let mut body = order();
        *body.pointer_mut(place).unwrap() = value;
        let case = json!({ "entity": "order", "id": "250", "answers": {
            "v2/orders/250": { "status": 200, "body": body },
            "v2/orders/250/products": { "status": 200, "body": [line(1)] },
        }});
        by_path(&case).1.map(|mapped| match mapped {
            Mapped::Change(_, Change::Upsert(upsert)) => upsert.content.unreadable.clone(),
            other => unreachable!("{other:?}"),
        })
    };
    assert_eq!(unreadable("/customer_message", json!({})), Ok(vec!["customer_message".to_owned()]));
    assert_eq!(unreadable("/date_created", json!("soon")), Ok(vec!["date_created".to_owned()]));
    assert_eq!(unreadable("/billing_address/first_name", json!([1])), Ok(vec!["billing_address.first_name".into()]));
    for (place, value) in [("/id", json!(true)), ("/date_modified", json!("soon")), ("/total_inc_tax", json!("1..2"))] {
        let name = place.trim_start_matches('/');
        assert_eq!(unreadable(place, value), Err(Fault::Unreadable(name.into())), "{place}");
    }
    let of_line = |name: &str, value: Value| {
        let mut lines = vec![line(1), line(2)];
        lines[1][name] = value;
        let case = json!({ "entity": "order", "id": "250", "answers": {
            "v2/orders/250": { "status": 200, "body": order() },
            "v2/orders/250/products": { "status": 200, "body": lines },
        }});
        by_path(&case).1
    };
    let named = of_line("sku", json!({}));
    let Ok(Mapped::Change(_, Change::Upsert(upsert))) = named else { unreachable!("{named:?}") };
    assert!(upsert.content.unreadable.contains(&"products[1].sku".to_owned()));
    assert_eq!(of_line("total_tax", json!("x")), Err(Fault::Unreadable("products[1].total_tax".into())));
}
