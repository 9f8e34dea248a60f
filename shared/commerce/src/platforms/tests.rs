//! Checks that every platform of the list keeps the contract.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::{
    http_call::Loopback,
    outcome::Rule,
    platform::{
        mapping::{Resolved, declared_scopes, resolve},
        notice::Notices,
        settings::settings,
    },
    request::WebhookPath,
    transfer::{Direction, Via},
};

#[test]
fn names_are_unique_and_fit_their_grammar() {
    let names: BTreeSet<_> = PLATFORMS.iter().map(|platform| platform.name).collect();
    assert_eq!(names.len(), PLATFORMS.len());
    for name in names {
        assert!(name.starts_with(|c: char| c.is_ascii_lowercase()), "{name}");
        assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'), "{name}");
        // With a connection id of 100 characters, it must fit a `MessageGroupId` of 128.
        assert!(name.len() <= 27, "{name}");
    }
}

#[test]
fn every_declared_scope_resolves_to_exactly_one_processor_and_action() {
    for platform in PLATFORMS {
        let mut claimed = BTreeMap::new();
        for processor in platform.mapping.processors() {
            for scope in processor.scopes {
                let before = claimed.insert(scope.name, processor.entity);
                assert_eq!(before, None, "{} declares {} twice", platform.name, scope.name);
                let resolved = resolve(platform, scope.name);
                assert_eq!(resolved, Resolved::Entity(processor.entity, scope.action), "{}", scope.name);
            }
        }
        let mut declared: BTreeSet<_> = claimed.into_keys().collect();
        for scope in platform.notices.map(Notices::scopes).unwrap_or_default() {
            assert!(declared.insert(scope), "{} declares {scope} twice", platform.name);
            assert_eq!(resolve(platform, scope), Resolved::Notice, "{scope}");
        }
        assert_eq!(declared_scopes(platform).collect::<BTreeSet<_>>(), declared);
        let unknown = match platform.mapping.fallback() {
            Some((entity, action)) => Resolved::Entity(entity, action),
            None => Resolved::Ignored(Rule::UNKNOWN_SCOPE),
        };
        assert_eq!(resolve(platform, "no.such.scope"), unknown);
    }
}

#[test]
fn processors_are_consistent() {
    for platform in PLATFORMS {
        let processors = platform.mapping.processors();
        let kinds: BTreeSet<_> = processors.iter().map(|processor| processor.entity).collect();
        assert_eq!(kinds.len(), processors.len(), "{}: an entity has two processors", platform.name);
        for processor in processors {
            let name = format!("{} {}", platform.name, processor.entity);
            if processor.direction == Direction::Export {
                assert!(processor.scopes.is_empty(), "{name} is exported and takes hooks");
            }
            let thin = processor.payload == crate::transfer::Payload::Thin;
            assert!(!thin || processor.pull, "{name} is thin and cannot be pulled");
            let children = processor.scopes.iter().any(|scope| scope.via != Via::Own);
            assert!(!children || processor.pull, "{name} stands for children and cannot be pulled");
            for other in processor.requires.iter().chain(processor.followed_by) {
                let known = processors.iter().find(|known| known.entity == *other);
                assert!(known.is_some_and(|known| known.pull), "{name} needs {other}, which cannot be pulled");
            }
        }
    }
}

fn taken_by(platform: &Platform, body: &str) -> Result<(), String> {
    let connection = match platform.name {
        "directscale" => "acme",
        "bigcommerce" => "abc123",
        "cloudblue" => "va-000-111",
        _ => "shop.example.com",
    };
    let key = WebhookPath::parse(platform.name, connection, None).unwrap().key;
    settings(platform, &key, body.as_bytes(), Loopback::Refused).map(|_| ()).map_err(|error| error.field)
}

#[test]
fn settings_that_would_do_nothing_are_refused_by_name() {
    let woo =
        |members: &str| taken_by(&woocommerce::PLATFORM, &format!(r#"{{"site":"https://a.example.com",{members}}}"#));
    let preset = |scope: &str, at: &str, prefix: &str| {
        format!(r#"{{"scope":"{scope}","at":"{at}","prefix":"{prefix}","entity":"order"}}"#)
    };
    for bad in [
        r#""ignores":["order.update"]"#,
        r#""ignores":[""]"#,
        r#""ignores":["*"]"#,
        r#""ignores":["orders.*"]"#,
        r#""ignores":["order.updated","store/order/updated"]"#,
        r#""ignores":["commerce_hooks_probe"]"#,
        r#""ignores":"order.updated""#,
    ] {
        assert_eq!(woo(bad), Err("ignores".into()), "{bad}");
    }
    for bad in
        [r#""deletes":{"subscription":"remove"}"#, r#""deletes":{"record":"mark"}"#, r#""deletes":{"order":"keep"}"#]
    {
        assert_eq!(woo(bad), Err("deletes".into()), "{bad}");
    }
    for bad in [
        preset("order.updated", "/id", ""),
        preset("", "/id", ""),
        preset("message", "/~9", ""),
        preset("message", "/a~", ""),
        preset("message", "id", ""),
        preset(&"x".repeat(300), "/id", ""),
        preset("commerce_hooks_probe", "/id", ""),
        format!("{},{}", preset("message", "/id", "Car:"), preset("message", "/id", "Car:")),
        format!("{},{}", preset("message", "/id", ""), preset("message", "/id", "Car:")),
        vec![preset("message", "/id", ""); 101].join(","),
    ] {
        assert_eq!(woo(&format!(r#""presets":[{bad}]"#)), Err("presets".into()), "{bad:.300}");
    }
    let many: Vec<_> = (0..40_000).map(|n| format!("\"s{n}\"")).collect();
    assert_eq!(woo(&format!(r#""ignores":[{}]"#, many.join(","))), Err("ignores".into()));
    let direct = |members: &str| taken_by(&directscale::PLATFORM, &format!("{{{members}}}"));
    assert_eq!(direct(&format!(r#""ignores":[{}]"#, many.join(","))), Err("ignores".into()));
    assert_eq!(direct(r#""ignores":["2"]"#), Err("ignores".into()), "which is told by its name");
    let good = [
        r#""ignores":["order.updated","order.updated"],"deletes":{"order":"remove"}"#.to_owned(),
        r#""ignores":["order.*","message"],"presets":[{"scope":"message","entity":"order"}]"#.to_owned(),
        format!(r#""presets":[{},{}]"#, preset("message", "/id", "Car:"), preset("message", "/id", "")),
        format!(r#""presets":[{}]"#, preset("message", "/a~0b~1c/0", "")),
        format!(r#""presets":[{}]"#, preset("action.x", "", "")),
    ];
    for good in good {
        assert_eq!(woo(&good), Ok(()), "{good}");
    }
    assert_eq!(direct(r#""ignores":["AcmeRewards","CreateOrderEvent"],"deletes":{"product":"remove"}"#), Ok(()));
    assert_eq!(taken_by(&bigcommerce::PLATFORM, r#"{"ignores":["store/cart/lineItem/*"]}"#), Ok(()));
}

#[test]
fn a_member_that_is_there_twice_is_not_chosen_from() {
    for body in [
        r#"{"site":"https://a.example.com","site":"https://b.example.com"}"#,
        r#"{"site":"https://a.example.com","deletes":{"order":"mark","order":"remove"}}"#,
        r#"{"site":"https://a.example.com","presets":[{"scope":"x","scope":"y","entity":"order"}]}"#,
        r#"{"site":"https://a.example.com","polls":{},"polls":{}}"#,
    ] {
        assert_eq!(taken_by(&woocommerce::PLATFORM, body), Err("body".into()), "{body}");
    }
    let own = r#"{"api_key":"ApiKey SU-1:2","products":{"PRD-1":"observe","PRD-1":"observe"}}"#;
    assert_eq!(taken_by(&cloudblue::PLATFORM, own), Err("body".into()));
}

#[test]
fn settings_that_no_item_can_hold_are_refused() {
    let policy = |text: &str| {
        format!(r#"{{"api_key":"ApiKey SU-1:2","products":{{"PRD-1":[{{"fail":{{"reason":"{text}"}}}}]}}}}"#)
    };
    assert_eq!(taken_by(&cloudblue::PLATFORM, &policy("no")), Ok(()));
    assert!(taken_by(&cloudblue::PLATFORM, &policy(&"x".repeat(300_000))).is_err());
    assert_eq!(
        taken_by(&directscale::PLATFORM, &format!(r#"{{"api_key":"{}"}}"#, "k".repeat(4_096))),
        Err("body".into())
    );
    let deep = format!(r#"{{"a":{}1{}}}"#, "[".repeat(500), "]".repeat(500));
    assert_eq!(taken_by(&woocommerce::PLATFORM, &deep), Err("body".into()));
    assert_eq!(taken_by(&woocommerce::PLATFORM, &format!("[{}1]", "1,".repeat(300_000))), Err("body".into()));
}
