//! Tests of [`super`].
#![allow(clippy::unwrap_used)]
use bytes::Bytes;
use http::{HeaderMap, Method};

use super::*;
use crate::{
    change::State,
    http_call::{ApiResponse, Fault},
    platform::{
        delivery::Delivery,
        mapping::{Resolved, resolve},
        pull::{Access, Next, Pull, Wanted},
    },
    platforms::directscale::pull::NO_SERVICE,
    redaction,
    request::RawRequest,
    verify::UNNAMED_SCOPE,
};

const RECEIVED: Timestamp = Timestamp::from_millis(1_795_219_200_123);

/// Delivers a body as the receiver and the processor do.
fn deliver_at(body: &str, received: Timestamp) -> Result<(EntityKind, String, Change), MapError> {
    let headers = HeaderMap::new();
    let raw = RawRequest {
        target: String::new(),
        method: Method::POST,
        headers,
        body: Bytes::copy_from_slice(body.as_bytes()),
        received,
    };
    let scope = DirectScale.scope(&raw).unwrap_or_else(|| UNNAMED_SCOPE.into());
    let Resolved::Entity(entity, action) = resolve(&super::super::PLATFORM, &scope) else { unreachable!() };
    let connection = "acme".parse().unwrap();
    let connection = crate::key::ConnectionKey { platform: "directscale".into(), connection };
    let incoming = Incoming {
        connection: &connection,
        scope: &scope,
        delivery_id: Some("m-1"),
        entity,
        action,
        body: &raw.body,
        received,
    };
    match DirectScale.map(&incoming)? {
        Mapped::Change(id, change) => Ok((entity, id.to_string(), change)),
        other => unreachable!("{other:?}"),
    }
}

fn deliver(body: &str) -> (EntityKind, String, Change) {
    deliver_at(body, RECEIVED).unwrap()
}

fn malformed(body: &str) -> String {
    match deliver_at(body, RECEIVED) {
        Err(MapError::Malformed(place)) => place,
        other => unreachable!("{other:?}"),
    }
}

/// Returns entity and id, the facets' names, and a reader's view.
fn shown(body: &str) -> (String, Vec<String>, Value, Value) {
    let (entity, id, change) = deliver(body);
    let state = State::of(&change);
    let content = state.content().unwrap_or_default().into_owned();
    let facets = state.facets.into_keys().collect();
    (format!("{entity}#{id}"), facets, content.fields.into(), content.extra.into())
}

fn together(bodies: &[&str]) -> (State, Value) {
    let state = bodies.iter().fold(State::default(), |state, body| state.merge(&deliver(body).2).state);
    let fields = state.content().map(|content| content.fields.clone()).unwrap_or_default();
    (state, fields.into())
}

const CREATE: &str = r#"{"OrderNumber":1042,"CustomerId":77,"OrderDateUtc":"2024-03-01T10:00:00.123456Z",
    "OrderStatus":"Pending processing","OrderType":"Standard","EventDateUtc":"2024-03-01T10:00:00.2345678Z",
    "EventCategory":"OrderEvents","EventType":"CreateOrderEvent"}"#;
const FINALIZE: &str = r#"{"OrderNumber":1042,"CustomerId":77,"OrderDateUtc":"2024-03-01T10:00:00.123456Z",
    "OrderStatus":"Paid","OrderType":"Standard","EventDateUtc":"2024-03-01T10:00:02.2345678Z",
    "EventType":"FinalizeOrderEvent"}"#;
const PAYMENT: &str = r#"{"OrderNumber":1042,"OrderPaymentId":9,"PaymentStatus":"Paid","PaymentType":"Charge",
    "Amount":20.10,"CurrencyCode":"USD","EventDateUtc":"2024-03-01T10:00:02.5Z","EventCategory":"OrderEvents",
    "EventType":"CreateOrderPaymentEvent"}"#;
const PACKAGE: &str = r#"{"OrderNumber":1042,"PackageId":5,"PackageStatus":"Shipped","WarehouseId":1,
    "ShipMethodId":3,"TrackingNumber":"1Z","Carrier":"UPS","ShipByDateUtc":"2024-03-02T00:00:00Z",
    "ShippedDateUtc":"2024-03-01T12:00:00Z","EventDateUtc":"2024-03-01T12:00:01Z",
    "EventType":"UpdateOrderPackageStatusEvent"}"#;

#[test]
fn events_of_an_order_make_one_order() {
    let (entity, facets, fields, extra) = shown(CREATE);
    assert_eq!((entity.as_str(), facets), ("order#1042", vec!["core".to_owned()]));
    let core = json!({"id": "1042", "number": "1042", "customer": "77", "status": "Pending processing",
        "created_at": "2024-03-01T10:00:00.123456Z"});
    assert_eq!((fields, extra), (core, json!({"OrderType": "Standard"})));
    let Change::Upsert(upsert) = deliver(CREATE).2 else { unreachable!() };
    assert_eq!(upsert.source.unwrap().to_string(), "2024-03-01T10:00:00.234567Z");
    assert!(!upsert.observed);

    let (_, facets, _, extra) = shown(PACKAGE);
    assert_eq!(facets, ["package#5"]);
    assert_eq!(extra, json!({"packages": {"5": {"WarehouseId": 1, "ShipByDateUtc": "2024-03-02T00:00:00Z"}}}));

    let whole = json!({"id": "1042", "number": "1042", "customer": "77", "status": "Paid",
        "created_at": "2024-03-01T10:00:00.123456Z",
        "payments": {"9": {"status": "Paid", "kind": "Charge", "amount": "20.10", "currency": "USD"}},
        "packages": {"5": {"status": "Shipped", "carrier": "UPS", "method": "3", "tracking_number": "1Z",
            "shipped_at": "2024-03-01T12:00:00Z"}}});
    // The creation does not revert the status, however late it comes.
    assert_eq!(together(&[CREATE, FINALIZE, PAYMENT, PACKAGE]).1, whole);
    assert_eq!(together(&[PACKAGE, PAYMENT, FINALIZE, CREATE]), together(&[CREATE, FINALIZE, PAYMENT, PACKAGE]));
}

#[test]
fn the_documented_example_is_taken() {
    let body = include_str!("../../../../../../tests/path/data/directscale/documented-example.json");
    let (entity, facets, fields, _) = shown(body);
    assert_eq!((entity.as_str(), facets), ("order#1", vec!["payment#1".to_owned()]));
    assert_eq!(fields["payments"]["1"]["amount"], "20.0");
}

#[test]
fn legacy_events_by_name_or_number() {
    let order = r#"{"OrderId":"7","OrderDateUtc":"2018-05-01T00:00:00Z","DistributorId":"77","OrderType":"1",
        "OrderTotal":10.5,"OrderCountry":"US","OrderCurrency":"USD","OrderStatus":"Paid",
        "EventDateUtc":"2018-05-01T00:00:01Z","EventType":"OrderEvent"}"#;
    let (entity, facets, fields, extra) = shown(order);
    assert_eq!((entity.as_str(), facets.join(" ").as_str()), ("order#7", "core country total"));
    let expected = json!({"id": "7", "number": "7", "customer": "77", "status": "Paid", "currency": "USD",
        "created_at": "2018-05-01T00:00:00Z", "totals": {"total": "10.5"}});
    assert_eq!((fields, extra), (expected, json!({"OrderType": "Standard", "OrderCountry": "US"})));
    assert_eq!(shown(&order.replace("OrderEvent\"", "1\"")), shown(order));

    let enrolled = r#"{"DistributorId":"77","DistributorType":"1","DistributorStatus":"Active",
        "DistributorCountry":"US","SponsorId":"2","EnrollmentDateUtc":"2018-05-01T00:00:00Z",
        "EventDateUtc":"2018-05-01T00:00:01Z","EventType":0}"#;
    let (entity, facets, fields, extra) = shown(enrolled);
    assert_eq!((entity.as_str(), facets.join(" ").as_str()), ("customer#77", "enrollment"));
    assert_eq!(fields, json!({"id": "77", "created_at": "2018-05-01T00:00:00Z"}));
    assert_eq!(extra["SponsorId"], "2");
}

#[test]
fn associates_are_customers() {
    let updated = r#"{"AssociateId":77,"Username":"ada","FirstName":"Ada","LastName":"L","CompanyName":"",
        "EmailAddress":"ada@example.com","AssociateStatus":1,"AssociateType":2,"WebAliases":["ada"],
        "BackOfficeId":"B77","ExternalReferenceId":null,"EventDateUtc":"2024-03-01T10:00:00Z",
        "EventType":"UpdateAssociateEvent"}"#;
    let (entity, facets, fields, extra) = shown(updated);
    assert_eq!((entity.as_str(), facets.join(" ").as_str()), ("customer#77", "core"));
    let expected = json!({"id": "77", "first_name": "Ada", "last_name": "L", "email": "ada@example.com"});
    assert_eq!(fields, expected);
    let expected = json!({"Username": "ada", "AssociateStatus": 1, "AssociateType": 2, "WebAliases": ["ada"],
        "BackOfficeId": "B77"});
    assert_eq!(extra, expected);
    // `null` and an empty text clear the former value.
    let before = updated.replace(r#""CompanyName":"""#, r#""CompanyName":"Old""#).replace("10:00:00Z", "09:00:00Z");
    assert_eq!(shown(&before).2["billing"]["company"], "Old");
    assert_eq!(together(&[&before, updated]).1.get("billing"), None);
}

#[test]
fn a_void_subscription_is_gone_by_the_event_s_clock() {
    let event = |time: &str, void: &str| {
        format!(
            r#"{{"AssociateId":77,"SubscriptionId":3,"SubscriptionName":"Gold","ExpirationDateUtc":"2025-01-01T00:00:00",
            "IsVoid":{void},"EventDateUtc":"2024-03-01T10:00:{time}Z","EventType":"UpdateSubscriptionEvent"}}"#
        )
    };
    let (entity, _, fields, extra) = shown(&event("01", "false"));
    assert_eq!(entity, "subscription#3");
    let expected = json!({"id": "3", "customer": "77", "name": "Gold", "expires_at": "2025-01-01T00:00:00Z"});
    assert_eq!((fields, extra), (expected, json!({"IsVoid": false})));
    assert!(together(&[&event("01", "false"), &event("02", "true")]).0.is_deleted());
    assert!(!together(&[&event("03", "false"), &event("02", "true")]).0.is_deleted());
}

#[test]
fn inventory_items_are_products() {
    let create = r#"{"ItemId":4,"Sku":"A-4","TrackStock":true,"HasOptions":false,
        "EventDateUtc":"2024-03-01T10:00:00Z","EventType":"CreateInventoryItemEvent"}"#;
    let (entity, _, fields, extra) = shown(create);
    assert_eq!((entity.as_str(), fields), ("product#4", json!({"id": "4", "sku": "A-4"})));
    assert_eq!(extra, json!({"TrackStock": true, "HasOptions": false}));
    let delete = create.replace("Create", "Delete").replace("10:00:00Z", "10:00:01Z");
    let source = Some(Timestamp::from_millis(1_709_287_201_000));
    assert_eq!(deliver(&delete).2, Change::Delete(Delete { source, received: RECEIVED }));
}

#[test]
fn what_is_absent_stays_and_what_is_null_goes() {
    let without = |body: &str, name: &str| {
        let mut value: Value = serde_json::from_str(body).unwrap();
        value.as_object_mut().unwrap().remove(name);
        value["EventDateUtc"] = json!("2024-03-01T11:00:00Z");
        value
    };
    let newer = without(CREATE, "OrderStatus").to_string();
    let (_, facets, _, _) = shown(&newer);
    assert_eq!(facets, ["core.CustomerId", "core.OrderDateUtc", "core.OrderType"]);
    assert_eq!(together(&[&newer, FINALIZE]).1["status"], "Paid");

    let mut nulled = without(CREATE, "OrderType");
    nulled["OrderStatus"] = Value::Null;
    assert_eq!(together(&[&nulled.to_string(), FINALIZE]).1.get("status"), None);

    // The id alone says that the order exists; it is no full payload that would clear the rest.
    let bare = r#"{"OrderNumber":1042,"EventDateUtc":"2030-03-01T11:00:00Z","EventType":"FinalizeOrderEvent"}"#;
    assert_eq!(shown(bare).1, ["id"]);
    assert_eq!(together(&[bare, FINALIZE]).1["status"], "Paid");
}

#[test]
fn an_amount_never_takes_another_s_currency() {
    let newer = |members: &str| {
        format!(
            r#"{{"OrderNumber":1042,"OrderPaymentId":9,{members},"EventDateUtc":"2024-03-02T00:00:00Z","EventType":"CreateOrderPaymentEvent"}}"#
        )
    };
    let payment = |members: &str| together(&[PAYMENT, &newer(members)]).1["payments"]["9"].clone();
    let amount = payment(r#""Amount":5"#);
    assert_eq!((&amount["amount"], amount.get("currency")), (&json!("5"), None));
    let both = payment(r#""Amount":5,"CurrencyCode":"EUR""#);
    assert_eq!((&both["amount"], &both["currency"], &both["status"]), (&json!("5"), &json!("EUR"), &json!("Paid")));
    let currency = payment(r#""CurrencyCode":"EUR""#);
    assert_eq!((&currency["amount"], &currency["currency"]), (&json!("20.10"), &json!("USD")));
}

#[test]
fn what_is_not_documented_is_kept_by_itself() {
    let more = FINALIZE.replace("\"OrderStatus\"", "\"Foo\":{\"a\":1},\"OrderStatus\"");
    let (_, facets, _, extra) = shown(&more);
    assert_eq!((facets.join(" ").as_str(), &extra["Foo"]), ("core more.Foo", &json!({"a": 1})));
    let later = FINALIZE.replace("10:00:02", "10:00:09");
    let state = together(&[&more, &later]).0;
    assert_eq!(state.content().unwrap().extra["Foo"], json!({"a": 1}));
}

#[test]
fn everything_else_is_a_record() {
    let (entity, facets, fields, extra) =
        shown(r#"{"EventType":"DailyEvent","EventDateUtc":"2024-03-01T00:00:00.0000001Z",}"#);
    assert_eq!((entity.as_str(), facets.len()), ("record#m-1", 0));
    assert_eq!(fields, json!({"id": "m-1", "event": "DailyEvent", "occurred_at": "2024-03-01T00:00:00.0000001Z"}));
    assert_eq!(extra["data"]["EventType"], "DailyEvent");
    for (body, data) in [("42", json!(42)), ("[1,2,]", json!([1, 2])), ("\"x\"", json!("x")), ("\u{feff}7", json!(7))] {
        assert_eq!(shown(body), ("record#m-1".into(), vec![], json!({"id": "m-1"}), json!({ "data": data })), "{body}");
    }
    let deep = format!(r#"{{"EventType":"Mine","a":{}1{}}}"#, "[".repeat(400), "]".repeat(400));
    assert_eq!(shown(&deep).3, json!({ "data": deep }));
    let many: Vec<_> = (0..1000).map(|n| format!("\"k{n}\":{n}")).collect();
    assert_eq!(shown(&format!(r#"{{"EventType":"Mine",{}}}"#, many.join(","))).3["data"]["k999"], 999);
    let unreadable = r#"{"EventType":"Mine","EventDateUtc":"soon"}"#;
    let Change::Upsert(upsert) = deliver(unreadable).2 else { unreachable!() };
    assert_eq!((upsert.source, upsert.content.unreadable.clone()), (None, vec!["EventDateUtc".to_owned()]));
}

#[test]
fn a_record_names_its_associate() {
    let key = crate::key::ConnectionKey { platform: "directscale".into(), connection: "acme".parse().unwrap() };
    let (kind, id, change) = deliver(r#"{"EventType":"DailyEvent","Data":{"AssociateId":77}}"#);
    let content = State::of(&change).content().unwrap().into_owned();
    let named = |ids| redaction::named(&key, kind, &id.parse().unwrap(), &content, ids);
    let associate = redaction::Pseudonym::of_customer(&key, "77");
    assert_eq!(kind, EntityKind::Record);
    assert!(named(DirectScale.customer_members()).contains(&associate));
    assert!(!named(&["customerid"]).contains(&associate));
}

#[test]
fn what_cannot_be_read_is_no_record() {
    for body in ["", "{", "{\"a", &CREATE[..200], "\u{1}garbage", r#""\u0001garbage""#, "{}x", "[1,,]", "nul"] {
        assert_eq!(malformed(body), "its beginning: no JSON object", "{body}");
    }
    for event in ["null", "\"\"", "{}", "[\"DailyEvent\"]", r#""a\nb""#, &format!("\"{}\"", "x".repeat(201))] {
        assert_eq!(malformed(&format!(r#"{{"OrderNumber":1,"EventType":{event}}}"#)), "EventType", "{event}");
    }
    assert_eq!(malformed(r#"{"OrderNumber":1}"#), "EventType");
    assert_eq!(malformed(r#"{"EventType":"A","eventType":"B"}"#), "eventType, which is there twice");
    assert_eq!(malformed(r#"{"EventType":"Mine","a":{"b":1,"b":2}}"#), "a member, which is there twice");
}

#[test]
fn a_member_that_is_there_twice_is_not_chosen_from() {
    assert_eq!(malformed(&CREATE.replace("1042,", "1042,\"OrderNumber\":1043,")), "OrderNumber, which is there twice");
    assert_eq!(malformed(&CREATE.replace("1042,", "1042,\"orderNumber\":1042,")), "orderNumber, which is there twice");
    assert_eq!(malformed(&CREATE.replace("1042,", "1042,\"more\":1,\"more\":1,")), "more, which is there twice");
    let within = CREATE.replace("1042,", "1042,\"more\":{\"a\":1,\"a\":2},");
    assert_eq!(malformed(&within), "a member that is not documented");
}

#[test]
fn more_members_than_any_event_has_are_refused() {
    let with = |count: usize| {
        let members: String = (0..count).map(|n| format!("\"k{n}\":1,")).collect();
        deliver_at(&CREATE.replace("1042,", &format!("1042,{members}")), RECEIVED)
    };
    let Ok((_, _, Change::Upsert(upsert))) = with(290) else { unreachable!() };
    assert_eq!(upsert.facets.len(), 291);
    for count in [300, 40_000] {
        assert_eq!(with(count).err(), Some(MapError::TooLarge("more than 300 members".into())), "{count}");
    }
}

#[test]
fn what_is_not_documented_is_in_the_end_what_was_sent_last_in_any_order() {
    let event = |time: u8, members: &str| {
        let members = format!(r#""OrderNumber":1,{members},"EventDateUtc":"2024-03-01T10:00:0{time}Z""#);
        format!(r#"{{{members},"EventType":"FinalizeOrderEvent"}}"#)
    };
    let [a, b, c] = [
        event(1, r#""Foo":{"a":1},"Bar":1"#),
        event(2, r#""Bar":2,"Baz":[1]"#),
        event(3, r#""Foo":{"b":2},"Qux":null"#),
    ];
    let expected = json!({"Foo": {"b": 2}, "Bar": 2, "Baz": [1]});
    for order in [[&a, &b, &c], [&a, &c, &b], [&b, &a, &c], [&b, &c, &a], [&c, &a, &b], [&c, &b, &a]] {
        let state = together(&order.map(String::as_str)).0;
        assert_eq!(Value::Object(state.content().unwrap().extra.clone()), expected);
    }
}

fn by(body: &str, user: &str) -> State {
    let scope = Head::of(body.as_bytes()).unwrap().event().unwrap();
    let (entity, id, change) = deliver(body);
    let connection = crate::key::ConnectionKey { platform: "directscale".into(), connection: "acme".parse().unwrap() };
    let incoming = Incoming {
        connection: &connection,
        scope: &scope,
        delivery_id: None,
        entity,
        action: Action::Updated,
        body: body.as_bytes(),
        received: RECEIVED,
    };
    let mapped = Mapped::Change(id.parse().unwrap(), change);
    let Mapped::Change(_, change) = DirectScale.by_user(&incoming, user, mapped) else { unreachable!() };
    State::of(&change)
}

#[test]
fn who_it_was_is_kept_and_makes_nothing_else_differ() {
    let state = by(FINALIZE, "ada");
    assert_eq!(state.facets.keys().collect::<Vec<_>>(), ["core", "user.FinalizeOrderEvent"]);
    assert_eq!(state.facets["core"], State::of(&deliver(FINALIZE).2).facets["core"]);
    let extra = |state: &State| Value::Object(state.content().unwrap().extra.clone());
    assert_eq!(extra(&state), json!({"OrderType": "Standard", "users": {"FinalizeOrderEvent": "ada"}}));
    let both = state.join(by(CREATE, "bob"));
    assert_eq!(extra(&both)["users"], json!({"FinalizeOrderEvent": "ada", "CreateOrderEvent": "bob"}));
    // The user of a payment is with the payment.
    let paid = by(PAYMENT, "ada");
    assert_eq!(extra(&paid), json!({"payments": {"9": {"users": {"CreateOrderPaymentEvent": "ada"}}}}));
    assert_eq!(by(PAYMENT, "ada").join(both.clone()), both.join(paid));
    // In an event that stands for itself, the user is a field.
    let record = by(r#"{"EventType":"DailyEvent"}"#, "ada").content().unwrap().into_owned();
    assert_eq!(Value::Object(record.fields), json!({"id": "m-1", "event": "DailyEvent", "user": "ada"}));
}

#[test]
fn a_time_that_is_none_is_nothing() {
    let pending = r#"{"EventType":"UpdateOrderPackageStatusEvent","EventDateUtc":"2026-10-12T18:07:26.557768Z",
        "OrderNumber":1,"PackageId":3,"PackageStatus":"Pending","WarehouseId":1,"ShipMethodId":4,"TrackingNumber":"",
        "Carrier":"","ShipByDateUtc":"0001-01-01T00:00:00","ShippedDateUtc":"0001-01-01T00:00:00"}"#;
    let (_, _, fields, extra) = shown(pending);
    assert_eq!(fields["packages"]["3"], json!({"status": "Pending", "method": "4"}));
    assert_eq!(extra["packages"]["3"], json!({"WarehouseId": 1}));
    let never = r#"{"EventType":"CreateSubscriptionEvent","EventDateUtc":"2026-11-21T01:48:40Z","SubscriptionId":9,
        "AssociateId":77,"ExpirationDateUtc":"9999-12-31T23:59:59.9999999"}"#;
    let (entity, _, fields, _) = shown(never);
    assert_eq!((entity.as_str(), &fields["customer"]), ("subscription#9", &json!("77")));
    assert!(fields["expires_at"].as_str().unwrap().starts_with("9999-12-3"), "{fields}");
    let undated = never.replace("2026-11-21T01:48:40Z", "0001-01-01T00:00:00");
    let Change::Upsert(upsert) = deliver(&undated).2 else { unreachable!() };
    assert_eq!(upsert.source, None);
}

#[test]
fn the_kind_of_an_order_is_one_whichever_event_tells_it() {
    let legacy = r#"{"EventType":"OrderEvent","EventDateUtc":"2026-10-12T18:07:26Z","OrderId":9,"DistributorId":5,
        "OrderDateUtc":"2026-10-12T18:07:26Z","OrderStatus":"Paid","OrderType":2,"OrderTotal":20.5,"OrderCurrency":"USD"}"#;
    assert_eq!(shown(legacy).3, json!({"OrderType": "AutoShip"}));
    for given in ["\"2\"", "\"AutoShip\""] {
        assert_eq!(shown(&legacy.replace("\"OrderType\":2", &format!("\"OrderType\":{given}"))), shown(legacy));
    }
}

#[test]
fn one_odd_member_does_not_lose_the_others() {
    let odd = CREATE.replace("\"2024-03-01T10:00:00.123456Z\"", "{}").replace("\"Pending processing\"", "[1]");
    let content = |bodies: &[&str]| together(bodies).0.content().unwrap().into_owned();
    let read = content(&[&odd]);
    assert_eq!(Value::Object(read.fields), json!({"id": "1042", "number": "1042", "customer": "77"}));
    assert_eq!(read.unreadable, ["OrderDateUtc", "OrderStatus"]);
    // Later events replace it, in any order.
    for bodies in [[odd.as_str(), FINALIZE], [FINALIZE, &odd]] {
        assert_eq!(content(&bodies), content(&[FINALIZE]));
    }
    let paid = content(&[&PAYMENT.replace("\"Charge\"", "{}"), CREATE]);
    assert_eq!(paid.unreadable, ["payments.9.PaymentType"]);
    assert_eq!(paid.fields["payments"]["9"], json!({"status": "Paid", "amount": "20.10", "currency": "USD"}));
}

#[test]
fn what_is_wrong_with_a_known_event_is_told_by_its_place() {
    assert_eq!(malformed(&CREATE.replace("1042", "-1")), "OrderNumber");
    assert_eq!(malformed(&CREATE.replace("\"2024-03-01T10:00:00.2345678Z\"", "\"s3cr3t\"")), "EventDateUtc");
    assert_eq!(malformed(&CREATE.replace("\"CustomerId\":77", "\"CustomerId\":7.5")), "CustomerId");
    assert_eq!(malformed(&PAYMENT.replace("\"USD\"", "[\"USD\"]")), "CurrencyCode");
    assert_eq!(malformed(&PAYMENT.replace("20.10", "\"s3cr3t\"")), "Amount");
    assert_eq!(malformed(&PAYMENT.replace("\"OrderPaymentId\":9,", "")), "OrderPaymentId");
}

fn pull(entity: EntityKind, settings: &Value, answer: Option<(u16, &str)>) -> Result<Next, Fault> {
    let access = Access {
        site: "https://acme.corpadmin.directscale.com",
        credentials: r#"{"api_key":"our%20key"}"#,
        settings: settings.as_object().unwrap(),
    };
    let wanted = Wanted { access, entity, id: &77.into(), at: RECEIVED };
    let answer = answer.map(|(status, body)| ApiResponse {
        status,
        headers: HeaderMap::new(),
        body: Bytes::copy_from_slice(body.as_bytes()),
    });
    DirectScale.pull(&wanted, answer.as_slice())
}

#[test]
fn a_customer_s_detail_is_pulled() {
    let none = json!({});
    let Next::Ask(request) = pull(EntityKind::Customer, &none, None).unwrap() else { unreachable!() };
    let site = "https://acme.corpadmin.directscale.com";
    assert_eq!(format!("{request:?}"), format!("POST {site}/api/extension/services/AssociateService/v1/GetAssociate"));
    assert_eq!(&request.body[..], br#"{"associateId":77}"#);
    assert_eq!(request.headers["authorization"], "Bearer our%20key");
    let body = r#"{"associateId":77,"firstName":"Ada","EmailAddress":"a@example.com","address":{"city":"London"}}"#;
    let Next::Done(Mapped::Change(id, change)) = pull(EntityKind::Customer, &none, Some((200, body))).unwrap() else {
        unreachable!()
    };
    let state = State::of(&change);
    let content = state.content().unwrap().into_owned();
    assert_eq!((id.as_str(), state.facets.keys().next().unwrap().as_str()), ("77", "detail"));
    assert_eq!(Value::Object(content.fields), json!({"id": "77", "first_name": "Ada", "email": "a@example.com"}));
    assert_eq!(Value::Object(content.extra), json!({"detail": {"address": {"city": "London"}}}));
    assert_eq!((state.marks.seen, state.facets["detail"].version.rank), (Some(RECEIVED), None));
    // An odd member is named, and stays as it is.
    let odd = Some((200, r#"{"associateId":77,"firstName":"Ada","emailAddress":{"a":1}}"#));
    let Next::Done(Mapped::Change(_, Change::Upsert(upsert))) = pull(EntityKind::Customer, &none, odd).unwrap() else {
        unreachable!()
    };
    assert_eq!((&upsert.content.fields["first_name"], upsert.content.fields.get("email")), (&json!("Ada"), None));
    assert_eq!(upsert.content.unreadable, ["emailAddress"]);
    assert_eq!(upsert.content.extra["detail"], json!({"emailAddress": {"a": 1}}));
}

#[test]
fn no_answer_is_taken_for_a_delete() {
    let fault = |status, body| pull(EntityKind::Customer, &json!({}), Some((status, body))).unwrap_err();
    for body in [
        "null",
        "",
        "[]",
        "<html>",
        r#"{"AssociateId":78}"#,
        "{}",
        r#"{"Status":1,"Message":"Associate not found"}"#,
        r#"{"AssociateId":0}"#,
        r#"{"AssociateId":null}"#,
        r#"{"AssociateId":[77]}"#,
        r#"{"AssociateId":77,"associateId":77}"#,
        r#"{"OrderNumber":77}"#,
    ] {
        assert!(matches!(fault(200, body), Fault::Unreadable(_)), "{body}");
    }
    assert!(matches!(fault(404, "{}"), Fault::Connection(_)));
    assert!(matches!(fault(429, ""), Fault::Throttled { .. }));
}

#[test]
fn orders_are_pulled_where_a_service_is_named() {
    let ignored = |next: Next| matches!(next, Next::Done(Mapped::Ignored(NO_SERVICE)));
    assert!(ignored(pull(EntityKind::Order, &json!({}), None).unwrap()));
    assert!(ignored(pull(EntityKind::Product, &json!({}), None).unwrap()));
    let settings = json!({"services": {"order": {"path": "OrderService/v1/Get", "argument": "orderNumber"}}});
    let Next::Ask(request) = pull(EntityKind::Order, &settings, None).unwrap() else { unreachable!() };
    assert!(request.url.path().ends_with("/OrderService/v1/Get") && &request.body[..] == br#"{"orderNumber":77}"#);
    let body = r#"{"OrderNumber":77,"OrderStatus":"Paid","LineItems":[{"Sku":"A"}]}"#;
    let Next::Done(Mapped::Change(_, Change::Upsert(upsert))) =
        pull(EntityKind::Order, &settings, Some((200, body))).unwrap()
    else {
        unreachable!()
    };
    assert_eq!(upsert.content.fields["status"], "Paid");
    assert_eq!(upsert.content.extra["detail"]["LineItems"][0]["Sku"], "A");
}
