//! Owns the redaction of a person: whom an entity names, what of an entity stays, and the order and the receipt of a
//! redaction.
//!
//! A person is known by pseudonyms, which are hashes of a customer's id and of an e-mail address. So no order, note or
//! receipt names anybody. The pseudonyms of a redaction stay noted, and an entity that names one of them and was made
//! before the redaction is redacted whenever it is written, whatever brings it back.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use aws_lc_rs::digest;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    entity::{Content, EntityKind, ExternalId},
    key::ConnectionKey,
    request::has_too_many_values,
    timestamp::{Timestamp, parse_utc},
};

/// The prefix of the names of notes about redacted persons; the pseudonym follows. The body is the time of the
/// redaction, in microseconds since 1970.
pub const REDACTED: &str = "redacted#";
/// The prefix of the names of notes with the receipts of redactions; the id of the redaction follows.
pub const RECEIPT: &str = "redaction#";
/// The time for which redacted persons stay noted, in seconds: a hundred years.
pub const NOTED_SECONDS: i64 = 100 * 365 * 24 * 60 * 60;
/// The most ids that a receipt lists.
pub const MAX_LISTED: usize = 2_000;
/// The longest e-mail address, in bytes (RFC 5321).
pub const MAX_EMAIL_BYTES: usize = 254;
/// The deepest nesting that is searched for a person.
const MAX_DEPTH: usize = 128;

/// A hash that stands for a customer's id or an e-mail address at one connection.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Pseudonym(String);

impl Pseudonym {
    fn new(key: &ConnectionKey, kind: &str, value: &str) -> Self {
        let text = [&key.to_string(), kind, value].map(|part| format!("{}:{part}", part.len())).concat();
        Self(URL_SAFE_NO_PAD.encode(&digest::digest(&digest::SHA256, text.as_bytes()).as_ref()[..16]))
    }

    /// Returns the pseudonym of a customer's id.
    pub fn of_customer(key: &ConnectionKey, id: &str) -> Self {
        Self::new(key, "customer", id.trim())
    }

    /// Returns the pseudonym of an e-mail address. Case and surrounding blanks do not matter.
    pub fn of_email(key: &ConnectionKey, email: &str) -> Self {
        Self::new(key, "email", &email.trim().to_lowercase())
    }

    /// Returns the name of the note about the person.
    pub fn note(&self) -> String {
        format!("{REDACTED}{}", self.0)
    }
}

impl fmt::Display for Pseudonym {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Returns the id of the redaction of these persons: the same for the same request.
pub fn redaction_id(given: &BTreeSet<Pseudonym>) -> String {
    let text: String = given.iter().map(|one| one.0.as_str()).collect();
    URL_SAFE_NO_PAD.encode(&digest::digest(&digest::SHA256, text.as_bytes()).as_ref()[..12])
}

/// The part of a member that a redaction keeps.
enum Keep {
    /// All of it.
    Whole,
    /// These members of an object.
    Members(&'static [(&'static str, Keep)]),
    /// A part of each element of a list, or of each member of an object with any names.
    Each(&'static Keep),
}

use Keep::{Each, Members, Whole};

/// The part of an address that accounting needs, for taxes.
const PLACE: Keep = Members(&[("region", Whole), ("country", Whole)]);
const EVENTS: Keep = Each(&Members(&[("at", Whole)]));

const CUSTOMER: &[(&str, Keep)] = &[("id", Whole), ("created_at", Whole), ("updated_at", Whole)];
const ORDER: &[(&str, Keep)] = &[
    ("id", Whole),
    ("number", Whole),
    ("parent", Whole),
    ("status", Whole),
    ("currency", Whole),
    ("customer", Whole),
    ("totals", Whole),
    ("lines", Whole),
    ("shipping_lines", Whole),
    ("fees", Whole),
    ("coupons", Whole),
    ("taxes", Whole),
    ("refunds", Each(&Members(&[("id", Whole), ("total", Whole)]))),
    ("billing", PLACE),
    ("shipping", PLACE),
    ("payment", Members(&[("method", Whole), ("transaction", Whole), ("paid_at", Whole)])),
    ("payments", Whole),
    ("packages", Each(&Members(&[("status", Whole), ("carrier", Whole), ("method", Whole), ("shipped_at", Whole)]))),
    ("created_at", Whole),
    ("updated_at", Whole),
    ("completed_at", Whole),
];
const CART: &[(&str, Keep)] = &[
    ("id", Whole),
    ("status", Whole),
    ("order", Whole),
    ("customer", Whole),
    ("currency", Whole),
    ("total", Whole),
    ("lines", Whole),
    ("coupons", Whole),
    ("created_at", Whole),
    ("updated_at", Whole),
];
const SUBSCRIPTION: &[(&str, Keep)] = &[
    ("id", Whole),
    ("external_id", Whole),
    ("status", Whole),
    ("product", Whole),
    ("customer", Whole),
    ("items", Whole),
    ("expires_at", Whole),
    ("billed_at", Whole),
    ("events", EVENTS),
    ("created_at", Whole),
    ("updated_at", Whole),
];
const REQUEST: &[(&str, Keep)] = &[
    ("id", Whole),
    ("kind", Whole),
    ("status", Whole),
    ("subscription", Whole),
    ("product", Whole),
    ("customer", Whole),
    ("items", Whole),
    ("events", EVENTS),
    ("created_at", Whole),
    ("updated_at", Whole),
];
const RECORD: &[(&str, Keep)] = &[("id", Whole), ("event", Whole), ("occurred_at", Whole)];

/// Returns the fields that a redaction keeps of an entity that is about a person; `None` for a kind that is about none.
fn kept(kind: EntityKind) -> Option<&'static [(&'static str, Keep)]> {
    match kind {
        EntityKind::Customer => Some(CUSTOMER),
        EntityKind::Order => Some(ORDER),
        EntityKind::Cart => Some(CART),
        EntityKind::Subscription => Some(SUBSCRIPTION),
        EntityKind::Request => Some(REQUEST),
        EntityKind::Record => Some(RECORD),
        EntityKind::Product | EntityKind::Coupon | EntityKind::Category | EntityKind::Price => None,
    }
}

/// Returns whether entities of a kind are about persons.
pub fn is_personal(kind: EntityKind) -> bool {
    kept(kind).is_some()
}

/// Returns the names of the fields that a redaction keeps, wholly or in part; `None` for a kind that is about no person.
pub fn kept_fields(kind: EntityKind) -> Option<Vec<&'static str>> {
    Some(kept(kind)?.iter().map(|(name, _)| *name).collect())
}

/// Redacts the content of an entity that names these persons. An entity that is about a person keeps what accounting
/// needs: ids, amounts, dates, and the region and country of an address. Any other loses the addresses alone.
pub fn redact(key: &ConnectionKey, kind: EntityKind, content: &Content, named: &BTreeSet<Pseudonym>) -> Content {
    let is_named = |text: &str| named.contains(&Pseudonym::of_email(key, text));
    match kept(kind) {
        Some(keep) => {
            let mut fields = members(&content.fields, keep);
            scrub(&mut fields, &is_named);
            Content { fields, ..Content::default() }
        }
        None => {
            let mut content = content.clone();
            scrub(&mut content.fields, &is_named);
            scrub(&mut content.extra, &is_named);
            content
        }
    }
}

fn members(from: &Map<String, Value>, keep: &[(&str, Keep)]) -> Map<String, Value> {
    let kept = keep.iter().filter_map(|(name, keep)| Some(((*name).to_owned(), part(from.get(*name)?, keep)?)));
    kept.collect()
}

/// Returns the kept part of a value. A `null` stays, because in a facet it says that a field is empty.
fn part(value: &Value, keep: &Keep) -> Option<Value> {
    match (keep, value) {
        (_, Value::Null) | (Whole, _) => Some(value.clone()),
        (Members(keep), Value::Object(from)) => Some(members(from, keep).into()),
        (Each(keep), Value::Array(from)) => Some(from.iter().filter_map(|one| part(one, keep)).collect()),
        (Each(keep), Value::Object(from)) => {
            let each = from.iter().filter_map(|(name, one)| Some((name.clone(), part(one, keep)?)));
            Some(Value::Object(each.collect()))
        }
        (Members(_) | Each(_), _) => None,
    }
}

/// Drops the texts that are the address of somebody, and what has one as its name, and cuts addresses out of other texts.
fn scrub(members: &mut Map<String, Value>, is_named: &dyn Fn(&str) -> bool) {
    fn stays(value: &mut Value, is_named: &dyn Fn(&str) -> bool) -> bool {
        match value {
            Value::String(text) if !text.contains('@') => {}
            Value::String(text) if is_named(text) => return false,
            Value::String(text) => {
                let named: BTreeSet<String> = emails_in(text).filter(|run| is_named(run)).map(str::to_owned).collect();
                // A longer one may contain a shorter one.
                named.iter().rev().for_each(|run| *text = text.replace(run.as_str(), ""));
            }
            Value::Array(elements) => elements.retain_mut(|element| stays(element, is_named)),
            Value::Object(members) => scrub(members, is_named),
            _ => {}
        }
        true
    }
    let mut dropped: Vec<String> = Vec::new();
    for (name, value) in members.iter_mut() {
        if name.contains('@') && emails_in(name).any(is_named) || !stays(value, is_named) {
            dropped.push(name.clone());
        }
    }
    dropped.iter().for_each(|name| _ = members.remove(name));
}

/// Returns the pseudonyms of all whom an entity names: its customer, and every e-mail address that is a value of it.
/// `ids` are the platform's names of a member that holds a customer's id (`Mapping::customer_members`).
pub fn named(
    key: &ConnectionKey,
    kind: EntityKind,
    id: &ExternalId,
    content: &Content,
    ids: &[&str],
) -> BTreeSet<Pseudonym> {
    let mut found = BTreeSet::new();
    if kind == EntityKind::Customer {
        found.insert(Pseudonym::of_customer(key, id.as_str()));
    }
    if let Some(customer) = content.fields.get("customer").and_then(Value::as_str) {
        found.insert(Pseudonym::of_customer(key, customer));
    }
    // A record is kept as it came, so its customer is where the platform put him.
    let ids = if kind == EntityKind::Record { ids } else { &[] };
    for (name, value) in content.fields.iter().chain(&content.extra) {
        search(key, name, value, ids, MAX_DEPTH, &mut found);
    }
    found
}

/// Returns the pseudonyms of all whom a text names: every e-mail address in it, and in JSON every id of a customer.
/// `ids` are as in [`named`].
pub fn named_in_text(key: &ConnectionKey, text: &str, ids: &[&str]) -> BTreeSet<Pseudonym> {
    let mut found = BTreeSet::new();
    // A body that nobody could map is not parsed here either.
    let value = if has_too_many_values(text.as_bytes()) { None } else { serde_json::from_str::<Value>(text).ok() };
    match value {
        Some(value) => search(key, "", &value, ids, MAX_DEPTH, &mut found),
        // A form writes `%40` for the `@`.
        None => {
            let text = text.replace("%40", "@");
            found.extend(emails_in(&text).map(|email| Pseudonym::of_email(key, email)));
        }
    }
    found
}

/// Returns the texts that look like e-mail addresses: the whole text, and the runs of characters that most addresses
/// have, with and without what may be punctuation around them.
fn emails_in(text: &str) -> impl Iterator<Item = &str> {
    let is_part = |c: char| c.is_alphanumeric() || "@.'+-_".contains(c);
    let runs = text.split(move |c| !is_part(c));
    let variants = runs.flat_map(|run| [run, run.trim_matches(['.', '\'']), run.trim_matches(['.', '\'', '-', '_'])]);
    let whole = text.trim();
    [whole].into_iter().chain(variants).filter(|run| run.contains('@') && run.len() <= MAX_EMAIL_BYTES)
}

/// Returns whether a member of this name holds the id of a customer: for `customerid`, these are `customer_id`,
/// `CustomerId` and `customerID`.
fn is_customer_id(name: &str, ids: &[&str]) -> bool {
    let plain: String = name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    ids.contains(&plain.as_str())
}

fn search(key: &ConnectionKey, name: &str, value: &Value, ids: &[&str], depth: usize, found: &mut BTreeSet<Pseudonym>) {
    let Some(depth) = depth.checked_sub(1) else { return };
    let id = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    if is_customer_id(name, ids)
        && let Some(id) = id(value)
    {
        found.insert(Pseudonym::of_customer(key, &id));
    }
    match value {
        Value::String(text) => found.extend(emails_in(text).map(|email| Pseudonym::of_email(key, email))),
        Value::Array(elements) => elements.iter().for_each(|element| search(key, name, element, ids, depth, found)),
        Value::Object(members) => {
            if !ids.is_empty()
                && name.eq_ignore_ascii_case("customer")
                && let Some(id) = members.get("id").and_then(id)
            {
                found.insert(Pseudonym::of_customer(key, &id));
            }
            for (name, member) in members {
                found.extend(emails_in(name).map(|email| Pseudonym::of_email(key, email)));
                search(key, name, member, ids, depth, found);
            }
        }
        _ => {}
    }
}

/// Returns the pseudonyms by which a customer's other entities may name him: his id, and his own e-mail address. Those
/// in his address book may be of others.
pub fn own(key: &ConnectionKey, id: &ExternalId, content: &Content) -> BTreeSet<Pseudonym> {
    let email = content.fields.get("email").and_then(Value::as_str);
    let email = email.map(|email| Pseudonym::of_email(key, email));
    [Pseudonym::of_customer(key, id.as_str())].into_iter().chain(email).collect()
}

/// Returns whether an entity was made after a redaction, and so belongs to what the person began anew. An entity that
/// does not say when it was made counts as made before.
pub fn is_later(content: &Content, redacted: Timestamp) -> bool {
    let made = ["created_at", "occurred_at"].iter().find_map(|name| content.fields.get(*name)?.as_str());
    made.and_then(parse_utc).is_some_and(|made| Timestamp::from(made) > redacted)
}

/// The stage of a redaction.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// The customers are read, to find the further pseudonyms of the given persons.
    Customers,
    /// All entities are read, and those that name the persons are redacted.
    Entities,
    /// The connection's dead letters that name the persons are removed.
    DeadLetters,
}

/// The order to redact persons, and its progress.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Redaction {
    /// The pseudonyms that the request gave.
    pub given: BTreeSet<Pseudonym>,
    /// Those, and the further ones of the same persons.
    pub pseudonyms: BTreeSet<Pseudonym>,
    /// The time of the redaction.
    pub at: Timestamp,
    /// The stage.
    pub stage: Stage,
    /// The position to continue at in the known entities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// The number of times that dead letters were received.
    #[serde(default, skip_serializing_if = "crate::json::is_default")]
    pub receives: u32,
    /// `true` for the second look, at what was being written while the first one went on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub again: bool,
}

impl Redaction {
    /// Makes the order to redact the persons with the given pseudonyms, who are known by further ones, too.
    pub fn new(given: BTreeSet<Pseudonym>, further: &BTreeSet<Pseudonym>, at: Timestamp) -> Self {
        let pseudonyms = &given | further;
        Self { given, pseudonyms, at, stage: Stage::Customers, after: None, receives: 0, again: false }
    }

    /// Returns the id.
    pub fn id(&self) -> String {
        redaction_id(&self.given)
    }

    /// Returns whether the order is about one of these persons.
    pub fn concerns(&self, named: &BTreeSet<Pseudonym>) -> bool {
        !self.pseudonyms.is_disjoint(named)
    }
}

/// The receipt of a redaction.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Receipt {
    /// The time of the redaction.
    pub at: Timestamp,
    /// The time of the last progress.
    pub moved: Timestamp,
    /// The time at which everything was done for the first time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub done: Option<Timestamp>,
    /// The time at which the second look was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub looked_again: Option<Timestamp>,
    /// The pseudonyms of the persons. A customer who was redacted no longer tells his address.
    #[serde(default)]
    pub pseudonyms: BTreeSet<Pseudonym>,
    /// `true` when there were too many dead letters to read them all.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub letters_left: bool,
    /// The entities that were redacted, [`MAX_LISTED`] at most.
    #[serde(default)]
    pub redacted: BTreeMap<EntityKind, BTreeSet<ExternalId>>,
    /// The number of redacted entities that are not listed.
    #[serde(default)]
    pub unlisted: u64,
    /// The number of dead letters that were removed.
    #[serde(default)]
    pub dead_letters: u64,
}

impl Receipt {
    /// Makes the receipt of a redaction that begins.
    pub fn new(at: Timestamp) -> Self {
        Self {
            at,
            moved: at,
            done: None,
            looked_again: None,
            pseudonyms: BTreeSet::new(),
            letters_left: false,
            redacted: BTreeMap::new(),
            unlisted: 0,
            dead_letters: 0,
        }
    }

    /// Adds an entity.
    pub fn add(&mut self, kind: EntityKind, id: ExternalId) {
        let listed: usize = self.redacted.values().map(BTreeSet::len).sum();
        let of_kind = self.redacted.entry(kind).or_default();
        if of_kind.contains(&id) {
            return;
        }
        if listed < MAX_LISTED { _ = of_kind.insert(id) } else { self.unlisted += 1 }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn key() -> ConnectionKey {
        ConnectionKey { platform: "woocommerce".into(), connection: "shop.example.com".parse().unwrap() }
    }

    fn content(fields: Value, extra: Value) -> Content {
        let object = |value: Value| value.as_object().unwrap().clone();
        Content { fields: object(fields), extra: object(extra), unreadable: vec!["billing.phone".into()] }
    }

    #[test]
    fn an_order_keeps_what_accounting_needs() {
        let order = content(
            json!({
                "id": "13", "number": "13", "status": "paid", "customer": "7", "currency": "EUR", "note": "ring at Ada's",
                "totals": { "total": "12.00" }, "lines": [{ "id": "1", "name": "Mug", "total": "12.00" }],
                "billing": { "first_name": "Ada", "email": "ada@example.com", "city": "Wien", "country": "AT" },
                "shipping": null, "refunds": [{ "id": "4", "reason": "Ada moved", "total": "-1.00" }],
                "packages": { "p1": { "carrier": "Post", "tracking_number": "RR1" } },
                "payment": { "method": "card", "title": "Ada's card" }, "created_at": "2026-11-01T00:00:00Z",
                "some_new_field": "Ada",
            }),
            json!({ "customer_ip_address": "192.0.2.7" }),
        );
        let redacted = redact(&key(), EntityKind::Order, &order, &BTreeSet::new());
        let fields = json!({
            "id": "13", "number": "13", "status": "paid", "customer": "7", "currency": "EUR",
            "totals": { "total": "12.00" }, "lines": [{ "id": "1", "name": "Mug", "total": "12.00" }],
            "billing": { "country": "AT" }, "shipping": null, "refunds": [{ "id": "4", "total": "-1.00" }],
            "packages": { "p1": { "carrier": "Post" } }, "payment": { "method": "card" },
            "created_at": "2026-11-01T00:00:00Z",
        });
        assert_eq!(Value::Object(redacted.fields.clone()), fields);
        assert!(redacted.extra.is_empty() && redacted.unreadable.is_empty());
        assert_eq!(redact(&key(), EntityKind::Order, &redacted, &BTreeSet::new()), redacted, "twice is once");
    }

    #[test]
    fn what_is_about_no_person_loses_the_address_alone() {
        let coupon = content(
            json!({ "id": "5", "code": "SPRING" }),
            json!({ "email_restrictions": ["Ada@example.com", "bob@example.com"], "used_by": { "ada@example.com": 1 } }),
        );
        let ada = BTreeSet::from([Pseudonym::of_email(&key(), " ada@EXAMPLE.com")]);
        let redacted = redact(&key(), EntityKind::Coupon, &coupon, &ada);
        let told = content(
            json!({ "name": "10% for <Ada@example.com>, ask bob@example.com" }),
            json!({ "ada@example.com": 1 }),
        );
        let told = redact(&key(), EntityKind::Product, &told, &ada);
        assert_eq!(told.fields["name"], "10% for <>, ask bob@example.com");
        assert!(told.extra.is_empty());
        let line = content(json!({ "lines": [{ "id": "1", "name": "Gift for ada@example.com" }] }), json!({}));
        assert_eq!(redact(&key(), EntityKind::Order, &line, &ada).fields["lines"][0]["name"], "Gift for ");
        assert_eq!(redacted.fields, coupon.fields);
        assert_eq!(Value::Object(redacted.extra), json!({ "email_restrictions": ["bob@example.com"], "used_by": {} }));
    }

    #[test]
    fn everybody_whom_an_entity_names_is_found() {
        let (id, email) = (|id| Pseudonym::of_customer(&key(), id), |email| Pseudonym::of_email(&key(), email));
        let of = |kind, value: &Content| named(&key(), kind, &"7".parse().unwrap(), value, &["customerid"]);
        let order = content(
            json!({ "customer": "7", "billing": { "email": "a@x.example" } }),
            json!({ "meta": [{ "value": "send to B@x.example, please" }], "customer_id": 9 }),
        );
        let found = of(EntityKind::Order, &order);
        assert!(BTreeSet::from([id("7"), email("a@x.example"), email("b@x.example")]).is_subset(&found));
        assert!(!found.contains(&id("9")), "of an order, only its customer counts");
        let customer =
            content(json!({ "id": "7", "email": "a@x.example", "shipping": { "email": "c@x.example" } }), json!({}));
        assert_eq!(
            of(EntityKind::Customer, &customer),
            BTreeSet::from([id("7"), email("a@x.example"), email("c@x.example")])
        );
        assert_eq!(own(&key(), &"7".parse().unwrap(), &customer), BTreeSet::from([id("7"), email("a@x.example")]));
        for unusual in ["_ada@x.example", "a&b@x.example", "-a-@x.example", "a/b=c@x.example"] {
            let order = content(json!({ "billing": { "email": unusual } }), json!({}));
            assert!(of(EntityKind::Order, &order).contains(&email(unusual)), "{unusual}");
        }
        let record = content(json!({}), json!({ "Data": { "CustomerId": 5 }, "customer": { "id": "6" } }));
        assert_eq!(of(EntityKind::Record, &record), BTreeSet::from([id("5"), id("6")]));
        for (text, found) in [
            (r#"{"order":{"customer_id":7,"to":"\u0061@x.example"}}"#, vec![id("7"), email("a@x.example")]),
            ("id=1&email=a%40x.example&x", vec![email("a@x.example")]),
            ("to <o'hara+x@x.example>.", vec![email("o'hara+x@x.example")]),
            ("{\"email\": \"a@x.example\"", vec![email("a@x.example")]),
        ] {
            assert!(
                found.into_iter().collect::<BTreeSet<_>>().is_subset(&named_in_text(&key(), text, &["customerid"])),
                "{text}"
            );
        }
        assert_ne!(id("7"), Pseudonym::of_email(&key(), "7"));
        let other = ConnectionKey { platform: "bigcommerce".into(), ..key() };
        assert_ne!(id("7"), Pseudonym::of_customer(&other, "7"), "a store says nothing about another");
    }

    #[test]
    fn what_was_made_later_is_not_meant() {
        let at = Timestamp::from(parse_utc("2026-11-21T00:00:00Z").unwrap());
        let made = |name: &str, value: &str| content(json!({ name: value }), json!({}));
        assert!(is_later(&made("created_at", "2026-11-22T00:00:00Z"), at));
        assert!(is_later(&made("occurred_at", "2026-11-22T00:00:00Z"), at));
        assert!(!is_later(&made("created_at", "2026-11-20T00:00:00Z"), at));
        assert!(!is_later(&made("updated_at", "2026-11-22T00:00:00Z"), at), "it does not say when it was made");
    }

    #[test]
    fn a_receipt_is_bounded() {
        let mut receipt = Receipt::new(Timestamp::from_millis(1));
        for n in 0..MAX_LISTED as u64 + 5 {
            receipt.add(EntityKind::Order, n.into());
            receipt.add(EntityKind::Order, 0.into());
        }
        assert_eq!((receipt.redacted[&EntityKind::Order].len(), receipt.unlisted), (MAX_LISTED, 5));
    }

    proptest! {
        /// Whatever an entity holds: nothing that is not named as kept stays, and twice is once.
        #[test]
        fn only_what_is_kept_stays(names in proptest::collection::vec("[a-z_]{1,12}", 0..6), text in "\\PC{1,20}") {
            let fields: Map<String, Value> = names.iter().map(|name| (name.clone(), json!({ "x": text }))).collect();
            for kind in [EntityKind::Customer, EntityKind::Order, EntityKind::Cart, EntityKind::Record] {
                let whole = Content { extra: fields.clone(), fields: fields.clone(), ..Content::default() };
                let redacted = redact(&key(), kind, &whole, &BTreeSet::new());
                let keeps = kept_fields(kind).unwrap();
                prop_assert!(redacted.extra.is_empty() && redacted.fields.keys().all(|name| keeps.contains(&name.as_str())));
                prop_assert_eq!(redact(&key(), kind, &redacted, &BTreeSet::new()), redacted);
            }
        }
    }
}
