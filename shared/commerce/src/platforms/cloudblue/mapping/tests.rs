//! Tests of [`super`].
#![allow(clippy::unwrap_used)]
use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use serde_json::json;

use super::*;
use crate::{
    change::{Delete, Upsert},
    http_call::ApiResponse,
    key::ConnectionKey,
    platform::{
        act::{Act, Acted, Decision},
        lists::Lists,
        pull::{Access, Next, Pull, Wanted},
    },
    platforms::cloudblue::lists::cursor,
};

const AT: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);
const SITE: &str = "https://api.connect.cloudblue.com/public/v1";
const PR: &str = "PR-1234-5678-9012-001";

fn settings(products: Value) -> Map<String, Value> {
    Map::from_iter([("webhooks".into(), json!(["WH-1"])), ("products".into(), products)])
}

fn access(settings: &Map<String, Value>) -> Access<'_> {
    Access { site: SITE, credentials: "ApiKey SU-1:x", settings }
}

fn answer(status: u16, body: &Value) -> ApiResponse {
    ApiResponse { status, headers: HeaderMap::new(), body: Bytes::from(body.to_string()) }
}

fn ranged(body: &Value, range: &str) -> ApiResponse {
    let mut answer = answer(200, body);
    answer.headers.insert("content-range", HeaderValue::from_str(range).unwrap());
    answer
}

fn asset() -> Value {
    json!({
        "id": "AS-1234-5678-9012", "status": "processing", "external_id": "ext-1",
        "product": {"id": "PRD-1", "name": "Prod", "icon": "/media/x"},
        "connection": {"id": "CT-1", "type": "production", "hub": {"id": "HB-1", "name": "None"}},
        "events": {"created": {"at": "2024-02-03T04:05:06+00:00"}, "updated": {"at": "2024-02-03T04:05:30+00:00"}},
        "items": [
            {"id": "I1", "global_id": "G1", "mpn": "SKU-A", "old_quantity": "0", "quantity": "3", "display_name": "Seat", "period": "Monthly"},
            {"id": "I2", "quantity": 1.5},
            {"id": "I3", "quantity": "unlimited"},
        ],
        "params": [
            {"id": "domain", "type": "text", "value": ""},
            {"id": "email", "type": "email", "value": "a@b.test"},
            {"id": "secret", "type": "password", "value": "s3cr3t"},
            {"id": "unknown", "value": "s3cr3t"},
            [{"id": "address", "type": "address", "value": "", "structured_value": {"city": "X"}}],
        ],
        "configuration": {"params": [{"id": "secret", "type": "password", "value": "s3cr3t"}]},
        "tiers": {
            "customer": {"id": "TA-1", "name": "Acme", "tax_id": "T", "contact_info": {"country": "DE", "city": "Bonn"}},
            "tier1": {"id": "TA-2", "name": "None"}, "tier2": {},
        },
    })
}

fn pr(status: &str) -> Value {
    json!({
        "id": PR, "type": "purchase", "status": status, "note": "", "reason": "", "assignee": "", "answered": false,
        "created": "2024-02-03T04:05:06+00:00", "updated": "2024-02-03T04:05:20+00:00", "effective_date": null,
        "activation_key": "your password is s3cr3t", "template": {"id": "TL-9", "representation": "s3cr3t"},
        "marketplace": {"id": "MP-1", "name": "EU", "icon": "x"}, "asset": asset(), "sli": {"days": 1},
    })
}

fn tcr(status: &str) -> Value {
    json!({
        "id": "TCR-1-2-3", "type": "setup", "status": status, "notes": "n", "environment": "production",
        "configuration": {
            "id": "TC-1", "product": {"id": "PRD-1"}, "account": {"id": "TA-2"}, "tier_level": 1,
            "params": [{"id": "secret", "type": "password", "value": "s3cr3t"}],
        },
        "params": [{"id": "key", "type": "text", "value": "v"}],
        "tiers": {"tier1": {"id": "TA-2", "contact_info": {"country": "FR"}}},
        "events": {"created": {"at": "2024-02-03T04:05:06+00:00"}, "updated": {"at": "2024-02-03T04:05:07+00:00"}, "pended": null},
    })
}

fn pulled(entity: EntityKind, id: &str, answer: ApiResponse) -> Result<Change, Fault> {
    let none = Map::new();
    let id = id.parse().unwrap();
    let wanted = Wanted { access: access(&none), entity, id: &id, at: AT };
    match CloudBlue.pull(&wanted, &[answer])? {
        Next::Done(Mapped::Change(_, change)) => Ok(change),
        other => unreachable!("{other:?}"),
    }
}

fn upsert(change: Change) -> Upsert {
    let Change::Upsert(upsert) = change else { unreachable!("{change:?}") };
    upsert
}

#[test]
fn a_request_becomes_canonical_and_no_password_stays() {
    let first = upsert(pulled(EntityKind::Request, PR, answer(200, &pr("pending"))).unwrap());
    assert_eq!(first.source.map(|at| at.to_string()).as_deref(), Some("2024-02-03T04:05:20Z"));
    assert!(first.observed && first.received == AT);
    assert_eq!(
        Value::Object(first.content.fields.clone()),
        json!({
            "id": PR, "kind": "purchase", "status": "pending", "subscription": "AS-1234-5678-9012", "product": "PRD-1",
            "customer": "TA-1",
            "items": [
                {"id": "I1", "sku": "SKU-A", "name": "Seat", "quantity": "3", "old_quantity": "0"},
                {"id": "I2", "quantity": "1.5"},
                {"id": "I3", "quantity": "unlimited"},
            ],
            "parameters": {"email": "a@b.test", "address": "{\"city\":\"X\"}"},
            "created_at": "2024-02-03T04:05:06Z", "updated_at": "2024-02-03T04:05:20Z",
        })
    );
    let extra = &first.content.extra;
    assert_eq!(extra["marketplace"], json!({"id": "MP-1", "name": "EU"}));
    assert_eq!(extra["asset"]["connection"]["hub"]["name"], "None");
    assert_eq!(extra["asset"]["items"]["I1"], json!({"global_id": "G1", "period": "Monthly"}));
    let tiers = json!({"customer": {"id": "TA-1", "name": "Acme"}, "tier1": {"id": "TA-2", "name": "None"}});
    assert_eq!(extra["asset"]["tiers"], tiers);
    assert!(!format!("{first:?}").contains("s3cr3t"), "{first:?}");
    // Time alone changes nothing.
    let mut later = pr("pending");
    later["sli"] = json!({"days": 2});
    let later = upsert(pulled(EntityKind::Request, PR, answer(200, &later)).unwrap());
    assert_eq!(later.content.hash(), first.content.hash());
}

#[test]
fn assets_and_tier_configuration_requests() {
    let asset = upsert(pulled(EntityKind::Subscription, "AS-1234-5678-9012", answer(200, &asset())).unwrap());
    assert_eq!(asset.content.fields["status"], "processing");
    assert_eq!(asset.content.fields["external_id"], "ext-1");
    assert_eq!(asset.source.map(|at| at.to_string()).as_deref(), Some("2024-02-03T04:05:30Z"));
    assert!(!format!("{asset:?}").contains("s3cr3t"), "{asset:?}");
    let tcr = upsert(pulled(EntityKind::Request, "TCR-1-2-3", answer(200, &tcr("pending"))).unwrap());
    let fields = &tcr.content.fields;
    assert_eq!(
        (&fields["product"], &fields["customer"], &fields["note"]),
        (&json!("PRD-1"), &json!("TA-2"), &json!("n"))
    );
    assert_eq!(fields["parameters"], json!({"key": "v"}));
    assert_eq!(tcr.source.map(|at| at.to_string()).as_deref(), Some("2024-02-03T04:05:07Z"));
    assert!(!format!("{tcr:?}").contains("s3cr3t"), "{tcr:?}");
}

#[test]
fn only_the_platform_s_own_404_is_a_delete() {
    let get = |status, body: &str| {
        let body = Bytes::copy_from_slice(body.as_bytes());
        pulled(EntityKind::Request, PR, ApiResponse { status, headers: HeaderMap::new(), body })
    };
    let gone = get(404, r#"{"error_code":"NFND_000","errors":["not here"]}"#);
    assert_eq!(gone, Ok(Change::Delete(Delete { source: None, received: AT })));
    for body in ["", "<html>", "[]", r#"{"detail":"Not found."}"#] {
        assert!(matches!(get(404, body), Err(Fault::Connection(_))), "{body}");
    }
    assert!(matches!(get(401, "{}"), Err(Fault::Connection(_))));
    assert!(matches!(get(200, "[]"), Err(Fault::Unreadable(_))));
    let another = pulled(EntityKind::Request, "PR-2", answer(200, &pr("pending")));
    assert_eq!(another, Err(Fault::Unreadable("another id than was asked for".into())));
}

#[test]
fn each_entity_is_asked_for_where_it_is() {
    let none = Map::new();
    let shown = |entity, id: &str| {
        let id = id.parse().unwrap();
        match CloudBlue.pull(&Wanted { access: access(&none), entity, id: &id, at: AT }, &[]) {
            Ok(Next::Ask(request)) => format!("{request:?}"),
            other => unreachable!("{other:?}"),
        }
    };
    assert_eq!(shown(EntityKind::Request, PR), format!("GET {SITE}/requests/{PR}"));
    assert_eq!(shown(EntityKind::Request, "TCR-1"), format!("GET {SITE}/tier/config-requests/TCR-1"));
    assert_eq!(shown(EntityKind::Subscription, "AS-1/../x"), format!("GET {SITE}/assets/AS-1%2F..%2Fx"));
}

/// Returns the smallest request, with a parameter, after a change.
fn small(change: impl FnOnce(&mut Value)) -> Value {
    let mut shown = json!({
        "id": PR, "type": "purchase", "status": "pending", "created": "2024-02-03T04:05:06+00:00",
        "updated": "2024-02-03T04:05:20.123456+00:00", "reason": "", "note": "", "assignee": "", "activation_key": "",
        "asset": {
            "id": "AS-1", "status": "processing", "external_id": "e-1", "product": {"id": "PRD-1"},
            "connection": {"id": "CT-1", "type": "production"}, "items": [], "params": [],
            "tiers": {"customer": {"id": "TA-1", "contact_info": {"country": "de"}}, "tier1": {}, "tier2": {}},
        },
    });
    change(&mut shown);
    shown
}

fn kept(entity: EntityKind, shown: &Value) -> Content {
    std::sync::Arc::unwrap_or_clone(
        upsert(pulled(entity, shown["id"].as_str().unwrap(), answer(200, shown)).unwrap()).content,
    )
}

#[test]
fn what_was_filled_in_is_told_from_what_was_not() {
    let phone = |country: &str, number: &str| json!({"country_code": country, "area_code": "", "phone_number": number, "extension": ""});
    let address = |line: &str, country: &str| json!({"address_line1": line, "address_line2": "", "city": "", "state": "", "postal_code": "", "country": country});
    let empty = [
        json!({"type": "phone", "value": "", "structured_value": phone("", "")}),
        json!({"type": "phone", "value": null, "structured_value": phone("+49", "")}),
        json!({"type": "phone", "value": "+", "structured_value": {}}),
        json!({"type": "phone", "value": phone("", "").to_string()}),
        json!({"type": "address", "value": "", "structured_value": address("", "")}),
        json!({"type": "address", "value": ", ,", "structured_value": address(" ", "US")}),
        json!({"type": "object", "structured_value": {"a": {"b": "", "c": [{"d": null}]}}}),
        json!({"type": "checkbox", "value": "", "structured_value": {"a": false, "b": false}}),
        json!({"type": "checkbox", "structured_value": [{"label": "A", "value": "a", "checked": false}]}),
        json!({"type": "checkbox", "value": "false"}),
        json!({"type": "checkbox", "value": "{\"a\":false}"}),
        json!({"type": "choice", "value": "", "structured_value": []}),
        json!({"type": "dropdown", "value": null, "structured_value": ""}),
        json!({"type": "text", "value": "  "}),
        json!({"type": "text"}),
        json!({"value": [], "structured_value": [""]}),
    ];
    let filled = [
        json!({"type": "phone", "value": "", "structured_value": phone("", "1234")}),
        json!({"type": "phone", "value": "+49 1234", "structured_value": phone("", "")}),
        json!({"type": "address", "value": "", "structured_value": address("1 Main Street", "")}),
        json!({"type": "checkbox", "value": "", "structured_value": {"a": false, "b": true}}),
        json!({"type": "checkbox", "structured_value": [{"label": "A", "value": "a", "checked": true}]}),
        json!({"type": "choice", "value": "a", "structured_value": []}),
        json!({"type": "checkbox", "structured_value": ["a"]}),
        json!({"type": "object", "structured_value": {"a": {"b": "", "c": 0}}}),
        json!({"type": "text", "value": "false"}),
        json!({"type": "text", "value": "{}"}),
        json!({"type": "text", "value": 0}),
    ];
    let policy = inquires_about_p();
    let with = |param: Option<&Value>| {
        let mut param = param.cloned();
        let shown = small(|shown| {
            if let Some(param) = &mut param {
                param["id"] = json!("p");
                shown["asset"]["params"] = json!([[{"id": "q", "type": "text", "value": "x"}], param]);
            }
        });
        decided(policy.clone(), &shown).map(|(action, ..)| action)
    };
    for param in &empty {
        assert_eq!(with(Some(param)).as_deref(), Some("inquire"), "{param}");
    }
    for param in &filled {
        assert_eq!(with(Some(param)).as_deref(), Some("approve"), "{param}");
    }
    // An unclear value is left to people.
    let unclear = json!({"type": "choice", "value": "", "structured_value": [{"label": "A", "value": "a"}]});
    assert_eq!(with(Some(&unclear)), None);
    assert_eq!(with(None).as_deref(), Some("inquire"), "nobody can have filled in what is not there");
    for odd in [json!([{"type": "text", "value": "x"}]), json!("x"), json!([7]), json!([{"id": {}, "value": "x"}])] {
        let shown = small(|shown| shown["asset"]["params"] = odd.clone());
        assert_eq!(decided(policy.clone(), &shown), None, "it may be this one: {odd}");
    }
    let listed = small(|shown| shown["asset"]["params"] = json!({"0": {"id": "p", "type": "text", "value": "x"}}));
    assert_eq!(decided(policy.clone(), &listed).map(|(action, ..)| action).as_deref(), Some("approve"));
    let tiers = decided(policy.clone(), &tcr("pending")).map(|(action, ..)| action);
    assert_eq!(tiers.as_deref(), Some("approve"), "a tier configuration has parameters of its own");
}

/// Returns a policy that inquires about an empty parameter `p`, and approves what has it.
fn inquires_about_p() -> Value {
    json!([
        {"when": {"empty_parameter": "p"}, "inquire": {"template": "TL-1", "errors": {"p": "Please fill in."}}},
        {"approve": {"template": "TL-2"}},
    ])
}

#[test]
fn nothing_final_is_done_where_a_rule_cannot_be_judged() {
    let of = |shown: &Value, rule: Value| decided(json!([rule]), shown).map(|(action, ..)| action);
    for last in [json!({"approve": {"template": "TL-2"}}), json!({"fail": {"reason": "no"}})] {
        let mut rule = last.clone();
        rule["when"] = json!({"empty_parameter": "p"});
        assert_eq!(of(&small(|_| ()), rule.clone()), None, "not for good: {last}");
        let there = small(|shown| shown["asset"]["params"] = json!([{"id": "p", "type": "text", "value": ""}]));
        assert!(of(&there, rule).is_some(), "{last}");
    }
    // Nothing is approved after a rule that could not be judged, either.
    for (without, when) in [
        ("type", json!({"type": ["cancel"]})),
        ("asset", json!({"connection_type": ["test"]})),
        ("asset", json!({"country_in": ["FR"]})),
    ] {
        let rules = json!([{"when": when, "observe": true}, {"approve": {"template": "TL-2"}}]);
        let shown = small(|shown| match without {
            "type" => shown["type"] = json!(null),
            _ => {
                shown["asset"]["connection"] = json!("");
                shown["asset"]["tiers"]["customer"]["contact_info"] = json!("");
            }
        });
        assert_eq!(decided(rules, &shown), None, "{when}");
    }
}

#[test]
fn a_link_with_a_code_is_not_kept() {
    let link = "https://customer.example.com/?code=AbCdEfGhIjKlMnOp&request_id=PR-1";
    let shown = small(|shown| {
        shown["params_form_url"] = json!(link);
        shown["activation_key"] = json!("s3cr3t");
        shown["assignee"] = json!({"id": "UR-1", "password": "s3cr3t"});
        shown["asset"]["params"] = json!([
            {"id": "form", "type": "url", "value": link},
            {"id": "admin_password", "type": "text", "value": "s3cr3t"},
            {"id": "site", "type": "url", "value": "https://acme.example/?page=1"},
        ]);
    });
    let content = kept(EntityKind::Request, &shown);
    assert_eq!(content.fields["parameters"], json!({"site": "https://acme.example/?page=1"}));
    assert_eq!(content.extra["assignee"], json!({"id": "UR-1"}));
    assert!(!content.extra.contains_key("params_form_url"), "{:?}", content.extra);
    let text = format!("{content:?}");
    assert!(!text.contains("AbCdEf") && !text.contains("s3cr3t"), "{text}");
}

#[test]
fn old_assets_have_items_without_an_id() {
    let old = json!({
        "id": "AS-1-2-3", "status": "suspended", "external_id": null, "product": {"id": "PRD-1"}, "connection": {"id": "CT-1"},
        "events": {"created": {"at": "2024-02-03T04:05:06+00:00", "by": {"id": "UR-1", "name": "A"}}, "updated": {"at": "2024-02-03T04:05:07.5+00:00"}},
        "items": [
            {"display_name": "Made up", "name": "SKU_X", "period": "Monthly", "global_id": "PRD-100-200-300-0001", "limit": 9},
            {"id": "", "global_id": "G-2", "name": "SKU_Y", "quantity": 3},
            {"display_name": "Nobody"},
        ],
        "params": [[{"id": "a", "type": "text", "value": "v"}], [], {"id": "", "type": "text", "value": "x"}, [[{"type": "text"}]]],
        "tiers": {}, "renewal_expiration_date": "2025-02-03T00:00:00+00:00",
        "billing": {"period": {"delta": 1, "uom": "monthly"}, "next_date": "2024-03-03T04:05:06+00:00"},
        "template": {"id": "TL-1"}, "pending_request": {"id": "PR-1", "status": "pending"},
    });
    let content = kept(EntityKind::Subscription, &old);
    let expected = json!({
        "id": "AS-1-2-3", "status": "suspended", "product": "PRD-1", "parameters": {"a": "v"},
        "items": [{"id": "PRD-100-200-300-0001", "name": "Made up"}, {"id": "G-2", "name": "SKU_Y", "quantity": "3"}],
        "expires_at": "2025-02-03T00:00:00Z", "billed_at": "2024-03-03T04:05:06Z",
        "events": {"created": {"at": "2024-02-03T04:05:06Z", "by": {"id": "UR-1", "name": "A"}}, "updated": {"at": "2024-02-03T04:05:07.5Z"}},
        "created_at": "2024-02-03T04:05:06Z", "updated_at": "2024-02-03T04:05:07.5Z",
    });
    assert_eq!(Value::Object(content.fields), expected);
    assert_eq!(content.unreadable, ["items[2]", "params[2]", "params[3][0][0]"]);
    assert_eq!(content.extra["items"]["PRD-100-200-300-0001"]["limit"], 9);
}

#[test]
fn nothing_is_written_in_many_ways() {
    let places: [fn(&mut Value) -> &mut Value; 8] = [
        |shown| &mut shown["asset"]["tiers"]["customer"]["contact_info"],
        |shown| &mut shown["asset"]["tiers"]["tier1"],
        |shown| &mut shown["asset"]["connection"],
        |shown| &mut shown["asset"]["events"],
        |shown| &mut shown["asset"]["billing"],
        |shown| &mut shown["asset"]["params"],
        |shown| &mut shown["configuration"],
        |shown| &mut shown["events"],
    ];
    for place in places {
        for nothing in [json!(null), json!(""), json!([]), json!({})] {
            let shown = small(|shown| *place(shown) = nothing.clone());
            let content = kept(EntityKind::Request, &shown);
            assert_eq!(content.fields["customer"], "TA-1", "{nothing}: {shown}");
            assert!(content.unreadable.is_empty(), "{nothing}: {shown}");
        }
    }
    let quantities = small(|shown| {
        shown["asset"]["items"] = json!([
            {"id": "I1", "quantity": "unlimited"}, {"id": "I2", "quantity": "1.5"}, {"id": "I3", "quantity": 2.25}, {"id": "I5", "quantity": null},
        ]);
    });
    let expected = json!([
        {"id": "I1", "quantity": "unlimited"}, {"id": "I2", "quantity": "1.5"}, {"id": "I3", "quantity": "2.25"}, {"id": "I5"},
    ]);
    assert_eq!(kept(EntityKind::Request, &quantities).fields["items"], expected);
}

#[test]
fn one_odd_member_does_not_lose_the_entity() {
    let odd = |place: fn(&mut Value) -> &mut Value, value: Value| {
        let shown = small(|shown| *place(shown) = value);
        pulled(EntityKind::Request, PR, answer(200, &shown)).map(|change| upsert(change).content.unreadable.clone())
    };
    let named = |name: &str| Ok(vec![name.to_owned()]);
    assert_eq!(odd(|s| &mut s["reason"], json!({"a": 1})), named("reason"));
    assert_eq!(
        odd(|s| &mut s["asset"]["tiers"]["customer"]["contact_info"], json!("x")),
        named("asset.tiers.customer.contact_info")
    );
    assert_eq!(odd(|s| &mut s["asset"]["items"], json!([7])), named("asset.items[0]"));
    assert_eq!(
        odd(|s| &mut s["asset"]["items"], json!([{"id": {}}])),
        Ok(vec!["asset.items[0]".into(), "asset.items[0].id".into()])
    );
    assert_eq!(
        odd(|s| &mut s["asset"]["renewal_expiration_date"], json!("soon")),
        named("asset.renewal_expiration_date")
    );
    assert_eq!(odd(|s| &mut s["events"], json!({"inquired": {"at": "soon"}})), named("events.inquired.at"));
    assert!(
        matches!(odd(|s| &mut s["updated"], json!("soon")), Err(Fault::Unreadable(place)) if place.contains("updated"))
    );
    assert!(matches!(odd(|s| &mut s["asset"]["id"], json!(null)), Err(Fault::Unreadable(_))));
    let mut tiers = tcr("pending");
    tiers["events"]["updated"]["at"] = json!("soon");
    let undated = pulled(EntityKind::Request, "TCR-1-2-3", answer(200, &tiers));
    assert!(matches!(undated, Err(Fault::Unreadable(place)) if place.contains("events.updated.at")));
}

#[test]
fn who_did_what_when_is_kept() {
    let mut shown = tcr("pending");
    shown["type"] = json!("adjustment");
    shown["reason"] = json!("r");
    shown["template"] = json!({"id": "TL-1", "representation": "secret text"});
    shown["events"] = json!({
        "created": {"at": "2024-02-03T04:05:06+00:00"}, "updated": {"at": "2024-02-03T04:05:07+00:00", "by": {"id": "SU-1", "name": "key"}},
        "inquired": {"at": null, "by": null}, "pended": {"at": "2024-02-03T04:05:08+00:00", "by": {"id": "UR-1"}}, "validated": "", "uninquired": {"by": {"id": "UR-2"}},
        "": {"at": "2024-02-03T04:05:08+00:00"}, "a name": {"at": "2024-02-03T04:05:08+00:00"},
    });
    let content = kept(EntityKind::Request, &shown);
    let expected = json!({
        "created": {"at": "2024-02-03T04:05:06Z"}, "updated": {"at": "2024-02-03T04:05:07Z", "by": {"id": "SU-1", "name": "key"}},
        "pended": {"at": "2024-02-03T04:05:08Z", "by": {"id": "UR-1"}}, "uninquired": {"by": {"id": "UR-2"}},
    });
    assert_eq!(content.fields["events"], expected);
    assert_eq!((&content.fields["kind"], &content.fields["reason"]), (&json!("adjustment"), &json!("r")));
    assert!(!format!("{content:?}").contains("secret text"));
}

fn trigger(scope: &str, body: &str) -> Listing {
    let connection = ConnectionKey { platform: "cloudblue".into(), connection: "va-1".parse().unwrap() };
    let mapped = CloudBlue.map(&Incoming {
        connection: &connection,
        scope,
        delivery_id: None,
        entity: EntityKind::Request,
        action: Action::Updated,
        body: body.as_bytes(),
        received: AT,
    });
    let Ok(Mapped::List(listing)) = mapped else { unreachable!("{mapped:?}") };
    listing
}

#[test]
fn a_trigger_stands_for_lists_whatever_it_says() {
    let tiers = "tier-config-requests/pending+tier-config-requests/changed";
    for scope in [FULFILLMENT, TRIGGER] {
        assert_eq!(trigger(scope, "").what, format!("{tiers}+requests/pending+requests/changed"));
    }
    assert_eq!(trigger(TIER_CONFIG, "{}").what, tiers);
    let since = |body: &str| cursor(&trigger(FULFILLMENT, body)).unwrap().since.unwrap();
    let day = "2027-01-14T08:00:00Z";
    for body in ["", "no JSON", "[]", r#"{"last_success_at":null}"#, r#"{"last_success_at":"yesterday"}"#] {
        assert_eq!(since(body), day, "{body}");
    }
    // It only ever extends the search further back.
    assert_eq!(since(r#"{"last_success_at":"2027-01-15T07:00:00+00:00"}"#), day);
    assert_eq!(since(r#"{"last_success_at":"2027-01-10T07:00:00+00:00"}"#), "2027-01-10T06:00:00Z");
    assert_eq!(since(r#"{"last_success_at":"1999-01-10T07:00:00+00:00"}"#), "2026-12-16T08:00:00Z");
}

#[test]
fn lists_are_asked_for_in_rql() {
    let two = settings(json!({"PRD-1": "observe", "PRD-2": []}));
    let none = Map::new();
    let asked = |settings, what: &str, cursor: Option<&str>| {
        let listing = Listing::new(what, cursor.map(str::to_owned));
        CloudBlue.list(&access(settings), &listing).map(|request| format!("{request:?}"))
    };
    let since = Some(r#"{"since":"2027-01-14T08:00:00Z"}"#);
    assert_eq!(
        asked(&two, "requests/pending", since).unwrap(),
        format!(
            "GET {SITE}/requests?in(status,(pending))&in(asset.product.id,(PRD-1,PRD-2))&ordering(created)&limit=100&offset=0"
        )
    );
    assert_eq!(
        asked(&two, "tier-config-requests/changed", since).unwrap(),
        format!(
            "GET {SITE}/tier/config-requests?in(configuration.product.id,(PRD-1,PRD-2))\
             &ge(updated,2027-01-14T08%3A00%3A00Z)&ordering(updated)&limit=100&offset=0"
        )
    );
    let after = Some(r#"{"after":"2024-02-03T04:05:06+00:00","offset":100}"#);
    assert_eq!(
        asked(&none, "requests/pending+requests/changed", after).unwrap(),
        format!(
            "GET {SITE}/requests?in(status,(pending))&ge(created,2024-02-03T04%3A05%3A06%2B00%3A00)\
             &ordering(created)&limit=100&offset=100"
        )
    );
    // Assets do not support `ge`.
    let one = settings(json!({"PRD-100-200-300": "observe"}));
    let since = Some(r#"{"since":"2027-01-10T00:30:00Z","offset":0}"#);
    assert_eq!(
        asked(&one, "assets/changed", since).unwrap(),
        format!(
            "GET {SITE}/assets?in(product.id,(PRD-100-200-300))&gt(updated,2027-01-10T00%3A29%3A59.999999Z)\
             &ordering(updated)&limit=100&offset=0"
        )
    );
    let after = Some(r#"{"since":"2027-01-10T00:30:00Z","after":"2027-01-10T00:31:00.5+00:00","offset":90}"#);
    assert_eq!(
        asked(&none, "assets/changed", after).unwrap(),
        format!("GET {SITE}/assets?gt(updated,2027-01-10T00%3A31%3A00.499999Z)&ordering(updated)&limit=100&offset=90")
    );
    assert_eq!(
        asked(&none, "assets/changed", None).unwrap(),
        format!("GET {SITE}/assets?ordering(updated)&limit=100&offset=0")
    );
    assert!(asked(&none, "assets", None).is_err() && asked(&none, "requests/pending", Some("x")).is_err());
}

fn page(times: &[&str]) -> Value {
    let entry = |(place, at): (usize, &&str)| json!({"id": format!("PR-{place}"), "created": at, "updated": at});
    times.iter().enumerate().map(entry).collect()
}

#[test]
fn pages_go_on_by_time_and_end_where_the_platform_says() {
    const A: &str = "2024-02-03T04:05:06+00:00";
    const B: &str = "2024-02-03T04:05:07+00:00";
    let none = Map::new();
    let what = "requests/pending+requests/changed";
    let listed = |cursor: &str, answer: &ApiResponse| {
        let listing = Listing::new(what, Some(cursor.into()));
        CloudBlue.read_page(&access(&none), &listing, answer, AT)
    };
    let next = |cursor: &str, answer: &ApiResponse| {
        listed(cursor, answer).unwrap().next.map(|next| (next.what, next.cursor.unwrap()))
    };
    let start = r#"{"since":"s","offset":0}"#;
    let on = |after: &str, offset: usize| {
        Some((what.to_owned(), format!(r#"{{"since":"s","after":"{after}","offset":{offset}}}"#)))
    };
    let end = Some(("requests/changed".to_owned(), start.to_owned()));

    let two = ranged(&page(&[A, B]), "items 0-1/9");
    let at_a = on(A, 0).unwrap().1;
    assert_eq!(next(start, &two), on(B, 0));
    assert_eq!(next(&at_a, &two), on(B, 0));
    // One time fills the page.
    let same = ranged(&page(&[A, A]), "requests 0-1/9");
    assert_eq!(next(start, &same), on(A, 1));
    assert_eq!(next(&at_a, &same), on(A, 1));
    assert_eq!(next(&on(A, 2).unwrap().1, &same), on(A, 3));
    // Without times, entries are counted.
    let timeless = ranged(&json!([{"id": "PR-1"}, {"id": "PR-2", "created": "soon"}]), "items 0-1/9");
    assert_eq!(next(start, &timeless), Some((what.to_owned(), r#"{"since":"s","offset":1}"#.to_owned())));

    for (answer, why) in [
        (ranged(&page(&[A, B]), "items 7-8/9"), "the range's end"),
        (ranged(&json!([]), "items */0"), "nothing"),
        (ranged(&json!([]), "items 0-0/9"), "an empty page"),
        (answer(200, &page(&[A, B])), "a short page"),
        (ranged(&page(&[A, B]), "whatever"), "a short page with a header that is none"),
    ] {
        assert_eq!(next(start, &answer), end, "{why}");
    }
    let full: Vec<&str> = (0..100).map(|place| if place < 99 { A } else { B }).collect();
    assert_eq!(next(start, &answer(200, &page(&full))), on(B, 0), "a full page");

    let found = listed(start, &two).unwrap().found;
    assert_eq!(found.iter().map(|transfer| transfer.id.as_str()).collect::<Vec<_>>(), ["PR-0", "PR-1"]);
    let last = Listing::new("requests/changed", None);
    assert_eq!(CloudBlue.read_page(&access(&none), &last, &answer(200, &json!([])), AT).unwrap().next, None);
    let events = json!([{"id": "TCR-1", "events": {"created": {"at": A}, "updated": null}}]);
    let tiers = Listing::new("tier-config-requests/pending", None);
    let next = CloudBlue.read_page(&access(&none), &tiers, &ranged(&events, "items 0-0/2"), AT).unwrap().next.unwrap();
    assert_eq!(next.cursor.unwrap(), r#"{"after":"2024-02-03T04:05:06+00:00","offset":1}"#);
    assert!(matches!(listed(start, &answer(200, &json!({}))), Err(Fault::Unreadable(_))));
    let mut wait = answer(429, &json!({}));
    wait.headers.insert("retry-after", HeaderValue::from_static("7"));
    assert_eq!(listed(start, &wait), Err(Fault::Throttled { seconds: 7 }));
}

#[test]
fn only_the_connection_s_webhooks_are_admitted() {
    let connection = Connection { settings: settings(json!({})), ..Connection::new(SITE) };
    let claims = |id: &str| BTreeMap::from([("webhook_id".to_owned(), id.to_owned())]);
    assert_eq!(CloudBlue.admits(&connection, &claims("WH-1")), Ok(()));
    assert_eq!(CloudBlue.admits(&connection, &claims("WH-2")), Err(FOREIGN_WEBHOOK));
    assert_eq!(CloudBlue.admits(&connection, &BTreeMap::new()), Err(FOREIGN_WEBHOOK));
    let none = Connection { settings: Map::new(), ..connection };
    assert_eq!(CloudBlue.admits(&none, &claims("WH-1")), Err(FOREIGN_WEBHOOK));
    assert_eq!(CloudBlue.ignores("usage_file"), Some(OBJECT_CLASS));
    assert_eq!(CloudBlue.ignores("usage"), None);
}

fn decided(policy: Value, shown: &Value) -> Option<(String, Value, bool)> {
    let settings = settings(json!({ "PRD-1": policy }));
    let id = shown["id"].as_str().unwrap().parse().unwrap();
    let wanted = Wanted { access: access(&settings), entity: EntityKind::Request, id: &id, at: AT };
    CloudBlue.decide(&wanted, &[answer(200, shown)]).map(|Decision { action, with, last }| (action, with, last))
}

#[test]
fn the_first_rule_that_fits_decides() {
    let policy = json!([
        {"when": {"type": ["cancel"]}, "observe": true},
        {"when": {"country_not_in": ["DE", "AT"]}, "fail": {"reason": "no"}},
        {
            "when": {"empty_parameter": "domain", "type": ["purchase", "change"]},
            "inquire": {"template": "TL-2", "errors": {"domain": "Which?"}},
        },
        {"when": {"connection_type": ["production"], "country_in": ["DE"]}, "approve": {"template": "TL-1"}},
    ]);
    let with = |change: &dyn Fn(&mut Value)| {
        let mut shown = pr("pending");
        change(&mut shown);
        decided(policy.clone(), &shown)
    };
    let inquire = ("inquire".to_owned(), json!({"template": "TL-2", "errors": {"domain": "Which?"}}), false);
    assert_eq!(with(&|_| ()), Some(inquire));
    let approve = ("approve".to_owned(), json!({"template": "TL-1"}), true);
    assert_eq!(with(&|pr| pr["asset"]["params"][0]["value"] = json!("a.test")), Some(approve.clone()));
    assert_eq!(with(&|pr| pr["type"] = json!("resume")), Some(approve));
    assert_eq!(with(&|pr| pr["type"] = json!("cancel")), None);
    let country = |pr: &mut Value, country| pr["asset"]["tiers"]["customer"]["contact_info"]["country"] = country;
    assert_eq!(with(&|pr| country(pr, json!("FR"))), Some(("fail".to_owned(), json!({"reason": "no"}), true)));
    assert_eq!(with(&|pr| country(pr, json!(""))), None, "no country, no decision");
    assert_eq!(with(&|pr| pr["status"] = json!("inquiring")), None);
    assert_eq!(with(&|pr| pr["asset"]["product"]["id"] = json!("PRD-2")), None);
    let test = |pr: &mut Value| {
        pr["type"] = json!("resume");
        pr["asset"]["connection"]["type"] = json!("test");
    };
    assert_eq!(with(&test), None, "no rule fits");
    assert_eq!(decided(json!("observe"), &pr("pending")), None);
    let nowhere = json!([{"when": {"empty_parameter": "nowhere"}, "fail": {"reason": "x"}}]);
    assert_eq!(decided(nowhere, &pr("pending")), None);
    let when = json!({"type": ["setup"], "country_in": ["FR"], "connection_type": ["production"]});
    let tiers = json!([{"when": when, "approve": {"template": "TL-3"}}]);
    assert_eq!(decided(tiers, &tcr("pending")), Some(("approve".into(), json!({"template": "TL-3"}), true)));
}

/// Runs an action against answers that are given one by one. Returns the calls and the end.
fn act(policy: Value, first: &Value, answers: Vec<ApiResponse>) -> (Vec<String>, Result<Acted, Fault>) {
    let settings = settings(json!({ "PRD-1": policy }));
    let id = first["id"].as_str().unwrap().parse().unwrap();
    let wanted = Wanted { access: access(&settings), entity: EntityKind::Request, id: &id, at: AT };
    let decision = CloudBlue.decide(&wanted, &[answer(200, first)]).unwrap();
    let mut asked = Vec::new();
    for so_far in 0..=answers.len() {
        match CloudBlue.act(&wanted, &decision, &answers[..so_far]) {
            Ok(Acted::Ask(request)) => {
                let path = request.url.path().strip_prefix("/public/v1").unwrap();
                let call = format!("{} {path} {}", request.method, String::from_utf8_lossy(&request.body));
                asked.push(call.trim().to_owned());
            }
            end => {
                assert_eq!(so_far, answers.len(), "{end:?}");
                return (asked, end);
            }
        }
    }
    unreachable!("it asks for more: {asked:?}")
}

fn end_of(acted: Result<Acted, Fault>) -> String {
    match acted.unwrap() {
        Acted::Done(Mapped::Change(_, change)) => format!("done {}", upsert(change).content.fields["status"]),
        Acted::Void(Mapped::Change(_, Change::Delete(_))) => "void, gone".into(),
        Acted::Void(Mapped::Change(_, change)) => format!("void {}", upsert(change).content.fields["status"]),
        Acted::Refused(why) => why,
        other => unreachable!("{other:?}"),
    }
}

fn ok(shown: &Value) -> ApiResponse {
    answer(200, shown)
}

#[test]
fn a_request_is_answered_only_while_it_is_pending() {
    let approve = || json!([{"approve": {"template": "TL-1"}}]);
    let pending = pr("pending");
    let (asked, end) = act(approve(), &pending, vec![ok(&pending), ok(&pr("approved"))]);
    let post = format!(r#"POST /requests/{PR}/approve {{"template_id":"TL-1"}}"#);
    assert_eq!(asked, [format!("GET /requests/{PR}"), post]);
    assert_eq!(end_of(end), r#"done "approved""#);
    // An earlier attempt had succeeded and its answer was lost; or somebody was faster.
    let (asked, end) = act(approve(), &pending, vec![ok(&pr("approved"))]);
    assert_eq!((asked.len(), end_of(end)), (1, r#"void "approved""#.into()));
    let gone = answer(404, &json!({"error_code": "NFND"}));
    assert_eq!(end_of(act(approve(), &pending, vec![gone]).1), "void, gone");

    let refused = answer(400, &json!({"error_code": "REQ_003", "errors": ["a@b.test is wrong", "x"]}));
    let (asked, end) = act(approve(), &pending, vec![ok(&pending), refused.clone(), ok(&pr("failed"))]);
    assert_eq!((asked.len(), end_of(end)), (3, r#"void "failed""#.into()));
    let (_, end) = act(approve(), &pending, vec![ok(&pending), refused, ok(&pending)]);
    assert_eq!(end_of(end), "REQ_003, 2 errors");
    let page = ApiResponse { status: 400, headers: HeaderMap::new(), body: Bytes::from_static(b"<html>") };
    assert!(matches!(act(approve(), &pending, vec![ok(&pending), page]).1, Err(Fault::Connection(_))));
    let broken = answer(500, &json!({}));
    assert!(matches!(act(approve(), &pending, vec![ok(&pending), broken]).1, Err(Fault::Unavailable(_))));

    let (asked, _) = act(json!([{"fail": {"reason": "no"}}]), &pending, vec![ok(&pending), ok(&pr("failed"))]);
    assert_eq!(asked[1], format!(r#"POST /requests/{PR}/fail {{"reason":"no"}}"#));
}

#[test]
fn a_question_marks_parameters_and_keeps_what_is_in_them() {
    let pending = pr("pending");
    let answers = || vec![ok(&pending), ok(&pending), ok(&pr("inquiring"))];
    let policy = |id: &str| json!([{"inquire": {"template": "TL-2", "errors": {id: "Which?"}}}]);
    let (asked, end) = act(policy("email"), &pending, answers());
    let (method, body) = asked[1].split_at(format!("PUT /requests/{PR} ").len());
    assert_eq!(method, format!("PUT /requests/{PR} "));
    let param = json!({"id": "email", "value": "a@b.test", "value_error": "Which?"});
    assert_eq!(serde_json::from_str::<Value>(body).unwrap(), json!({"asset": {"params": [param]}}));
    assert_eq!(asked[2], format!(r#"POST /requests/{PR}/inquire {{"template_id":"TL-2"}}"#));
    assert_eq!(end_of(end), r#"done "inquiring""#);
    let (asked, _) = act(policy("secret"), &pending, answers());
    assert!(!asked.concat().contains("s3cr3t"), "{asked:?}");
    let (asked, end) = act(policy("nowhere"), &pending, vec![ok(&pending)]);
    assert_eq!((asked.len(), end_of(end)), (1, "the request has no parameter nowhere".into()));
    // The customer filled in the missing value while the decision was under way.
    let empty = json!([{"when": {"empty_parameter": "domain"}, "inquire": {"template": "TL-2"}}]);
    let mut filled = pending.clone();
    filled["asset"]["params"][0]["value"] = json!("a.test");
    assert_eq!(end_of(act(empty, &pending, vec![ok(&filled)]).1), r#"void "pending""#);
}

#[test]
fn actions_on_tier_configurations_are_read_again() {
    let pending = tcr("pending");
    let approved = vec![ok(&pending), ok(&json!({"template": {"id": "TL-1"}})), ok(&tcr("approved"))];
    let (asked, end) = act(json!([{"approve": {"template": "TL-1"}}]), &pending, approved);
    let base = "/tier/config-requests/TCR-1-2-3";
    let post = format!(r#"POST {base}/approve {{"template":{{"id":"TL-1"}}}}"#);
    assert_eq!(asked, [format!("GET {base}"), post, format!("GET {base}")]);
    assert_eq!(end_of(end), r#"done "approved""#);
    let nothing = ApiResponse { status: 204, headers: HeaderMap::new(), body: Bytes::new() };
    let (_, end) = act(json!([{"fail": {"reason": "no"}}]), &pending, vec![ok(&pending), nothing, ok(&tcr("failed"))]);
    assert_eq!(end_of(end), r#"done "failed""#);
}
