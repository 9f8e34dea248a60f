//! The judgement from outside. It knows what the shops have, what was answered, what the queue handed over, what the
//! table holds and what the bus got, and nothing of how the functions came to it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::{
    cloud::{Message, Write},
    store::{Order, Version},
};

/// What is known of a run when it is over.
#[derive(Clone, Default)]
pub struct Facts {
    /// The deliveries that were answered 2xx, each with the id of the message that the answer named.
    pub accepted: Vec<(String, String)>,
    /// The messages of the inbox, by id.
    pub messages: BTreeMap<String, Message>,
    /// The ids of messages that the queue itself put aside.
    pub moved: BTreeSet<String>,
    /// The ends of messages that the processor's log counted, by the message's id.
    pub ends: BTreeMap<String, Vec<String>>,
    /// The orders as the shops have them.
    pub source: BTreeMap<Order, Version>,
    /// The items of the table of entities.
    pub items: BTreeMap<Order, Value>,
    /// The writes into that table.
    pub stream: Vec<Write>,
    /// The number of those that the publisher got through.
    pub told: usize,
    /// The events on the bus.
    pub events: Vec<Value>,
    /// The dead letters that are left.
    pub letters: usize,
    /// What is wrong with answers of the receiver.
    pub answers: Vec<String>,
    /// Lines of the functions' output with a secret in them, without it.
    pub leaks: Vec<String>,
}

/// What is wrong with a run.
#[derive(Default, Debug)]
pub struct Verdict {
    /// Accepted deliveries without an outcome.
    pub lost: Vec<String>,
    /// Outcomes or effects that are there twice.
    pub doubled: Vec<String>,
    /// Differences between the state, or what was told of it, and the source.
    pub wrong: Vec<String>,
    /// What is still under way.
    pub stuck: Vec<String>,
    /// Secrets in the output.
    pub leaks: Vec<String>,
    /// The outcomes of the accepted deliveries, by name.
    pub outcomes: BTreeMap<String, usize>,
}

impl Verdict {
    /// Returns whether nothing is wrong.
    pub fn is_good(&self) -> bool {
        [&self.lost, &self.doubled, &self.wrong, &self.stuck, &self.leaks].iter().all(|list| list.is_empty())
    }

    /// Returns the first few things that are wrong.
    pub fn summary(&self) -> String {
        let lists = [
            ("lost", &self.lost),
            ("doubled", &self.doubled),
            ("wrong", &self.wrong),
            ("stuck", &self.stuck),
            ("leaked", &self.leaks),
        ];
        let shown = lists.iter().filter(|(_, list)| !list.is_empty()).map(|(name, list)| {
            format!("{} {name}: {}", list.len(), list.iter().take(5).cloned().collect::<Vec<_>>().join("; "))
        });
        shown.collect::<Vec<_>>().join("\n")
    }
}

/// Returns the order that an item is about: `woocommerce#shop3.example.com`, `order#17`.
pub fn order_of(pk: &str, sk: &str) -> Option<Order> {
    let shop = pk.strip_prefix("woocommerce#shop")?.strip_suffix(".example.com")?.parse().ok()?;
    Some((shop, sk.strip_prefix("order#")?.parse().ok()?))
}

/// What a reader sees of an order: whether it is deleted, its total and its status.
type Seen = (bool, String, String);

fn seen(item: &Value) -> Seen {
    let fields = &item["fields"]["M"];
    let text = |value: &Value| value["S"].as_str().unwrap_or_default().to_owned();
    (item["deleted"]["BOOL"] == true, text(&fields["totals"]["M"]["total"]), text(&fields["status"]))
}

/// A final end: neither a failure nor a cut-off, after which a message comes back.
fn is_final(end: &str) -> bool {
    !matches!(end, "failed" | "unfinished")
}

/// Judges a run.
pub fn judge(facts: &Facts) -> Verdict {
    let mut verdict = Verdict { leaks: facts.leaks.clone(), wrong: facts.answers.clone(), ..Verdict::default() };
    outcomes(facts, &mut verdict);
    state(facts, &mut verdict);
    effects(facts, &mut verdict);
    let left = facts.messages.iter().filter(|(_, message)| !message.deleted || message.held > 0);
    verdict.stuck.extend(left.map(|(id, _)| format!("{id} is in flight")));
    if facts.letters > 0 {
        verdict.stuck.push(format!("{} dead letters came back", facts.letters));
    }
    if facts.told < facts.stream.len() {
        verdict.stuck.push(format!("{} writes are not told", facts.stream.len() - facts.told));
    }
    verdict
}

fn outcomes(facts: &Facts, verdict: &mut Verdict) {
    let mut by_delivery: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (id, message) in &facts.messages {
        let ends = facts.ends.get(id).into_iter().flatten().map(String::as_str);
        let ends: Vec<&str> = ends.filter(|end| is_final(end)).collect();
        let (counted, done, gone) = (ends.len(), message.done as usize, message.gone as usize);
        if facts.moved.contains(id) {
            by_delivery.entry(&message.delivery).or_default().push("put aside by the queue");
        } else if message.deleted && counted < done.max(1) {
            verdict.lost.push(format!("{id} is gone without an outcome"));
        } else if counted > done + gone {
            verdict.doubled.push(format!("{id} has {counted} outcomes: {}", ends.join(", ")));
        }
        by_delivery.entry(&message.delivery).or_default().extend(ends);
    }
    for (delivery, message) in &facts.accepted {
        if !facts.messages.contains_key(message) {
            verdict.lost.push(format!("{delivery} was answered with {message}, which the queue never had"));
            continue;
        }
        // A deferred message goes on as another one, and what was put aside was brought back.
        let ends = by_delivery.get(delivery.as_str()).map_or(&[][..], Vec::as_slice);
        let mut ended = ends.iter().rev().filter(|end| **end != "deferred" && !end.starts_with("quarantined"));
        let Some(end) = ended.next() else {
            verdict.lost.push(format!("{delivery} has no outcome but {ends:?}"));
            continue;
        };
        let name = end.split(':').next().unwrap_or_default();
        *verdict.outcomes.entry(name.to_owned()).or_default() += 1;
    }
}

fn state(facts: &Facts, verdict: &mut Verdict) {
    for (order, version) in &facts.source {
        let shown = facts.items.get(order).map(seen);
        let is_right = match &shown {
            None => version.deleted,
            Some((true, ..)) => version.deleted,
            Some((false, total, status)) => !version.deleted && *total == version.total() && status == version.status(),
        };
        if !is_right {
            verdict.wrong.push(format!("{order:?} is {shown:?} and should be {version:?}"));
        }
    }
    for order in facts.items.keys().filter(|order| !facts.source.contains_key(order)) {
        verdict.wrong.push(format!("{order:?} never was"));
    }
}

fn effects(facts: &Facts, verdict: &mut Verdict) {
    let mut told: BTreeMap<Order, BTreeMap<&str, &Value>> = BTreeMap::new();
    for event in &facts.events {
        let text = |name: &str| event[name].as_str().unwrap_or_default();
        let pk = text("source").trim_start_matches('/').replacen('/', "#", 1);
        let sk = text("subject").replacen('/', "#", 1);
        let Some(order) = order_of(&pk, &sk) else {
            verdict.wrong.push(format!("an event about {pk} {sk}"));
            continue;
        };
        // The bus may get an event twice; its id shows that it is the same.
        if told
            .entry(order)
            .or_default()
            .insert(text("id"), event)
            .is_some_and(|before| before["data"] != event["data"])
        {
            verdict.wrong.push(format!("two events about {order:?} have one id"));
        }
    }
    let mut visible: BTreeMap<Order, Vec<Seen>> = BTreeMap::new();
    for write in &facts.stream {
        let Some(new) = &write.new else { continue };
        let text = |name: &str| new[name]["S"].as_str().unwrap_or_default();
        let Some(order) = order_of(text("pk"), text("sk")) else { continue };
        let (before, after) = (write.old.as_ref().map(seen), seen(new));
        let is_told = new["unchanged"]["BOOL"] != true;
        if !is_told && before.as_ref() != Some(&after) {
            verdict.wrong.push(format!("{order:?} became {after:?}, and no reader was told"));
        }
        if is_told {
            visible.entry(order).or_default().push(after);
        }
    }
    for (order, states) in &visible {
        let distinct: BTreeSet<&Seen> = states.iter().collect();
        if distinct.len() < states.len() {
            verdict.doubled.push(format!("{order:?} became the same twice: {states:?}"));
        }
        let events = told.get(order).map_or(0, BTreeMap::len);
        if events < states.len() {
            verdict.lost.push(format!("{order:?} changed {} times, and {events} events told of it", states.len()));
        }
        if events > states.len() {
            verdict.doubled.push(format!("{order:?} changed {} times, and {events} events told of it", states.len()));
        }
    }
    for order in told.keys().filter(|order| !visible.contains_key(order)) {
        verdict.wrong.push(format!("an event told of {order:?}, which did not change"));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn item(version: u64, status: &str) -> Value {
        json!({
            "pk": { "S": "woocommerce#shop0.example.com" }, "sk": { "S": "order#1" }, "deleted": { "BOOL": false },
            "fields": { "M": {
                "status": { "S": status }, "totals": { "M": { "total": { "S": format!("{version}.50") } } },
            } },
        })
    }

    /// A run of one delivery in which all is well.
    fn good() -> Facts {
        let message =
            Message { delivery: "delivery-1".into(), receives: 1, done: 1, deleted: true, ..Message::default() };
        let new = item(1, "processing");
        let event = json!({ "id": "e", "source": "/woocommerce/shop0.example.com", "subject": "order/1", "data": 1 });
        Facts {
            accepted: vec![("delivery-1".into(), "message-1".into())],
            messages: [("message-1".into(), message)].into(),
            ends: [("message-1".into(), vec!["applied".into()])].into(),
            source: [((0, 1), Version { number: 1, minute: 1, deleted: false })].into(),
            items: [((0, 1), new.clone())].into(),
            stream: vec![Write { old: None, new: Some(new) }],
            told: 1,
            events: vec![event],
            ..Facts::default()
        }
    }

    #[test]
    fn a_good_run_is_good() {
        let verdict = judge(&good());
        assert!(verdict.is_good(), "{}", verdict.summary());
        assert_eq!(verdict.outcomes, [("applied".to_owned(), 1)].into());
    }

    #[test]
    fn each_wrong_is_found() {
        type Damage = fn(&mut Facts);
        let cases: &[(&str, Damage)] = &[
            ("lost", |facts| facts.messages.clear()),
            ("lost", |facts| facts.ends.clear()),
            ("lost", |facts| facts.ends.values_mut().for_each(|ends| *ends = vec!["deferred".into()])),
            ("lost", |facts| facts.events.clear()),
            ("doubled", |facts| facts.ends.values_mut().for_each(|ends| ends.push("applied".into()))),
            ("doubled", |facts| {
                let write = facts.stream[0].clone();
                facts.stream.push(write);
                facts.told += 1;
            }),
            ("doubled", |facts| {
                let mut event = facts.events[0].clone();
                event["id"] = "another".into();
                facts.events.push(event);
            }),
            ("wrong", |facts| facts.items.clear()),
            ("wrong", |facts| facts.items.values_mut().for_each(|one| *one = item(2, "processing"))),
            ("wrong", |facts| facts.items.values_mut().for_each(|one| *one = item(1, "pending"))),
            ("wrong", |facts| facts.items.values_mut().for_each(|item| item["deleted"]["BOOL"] = true.into())),
            ("wrong", |facts| facts.source.clear()),
            ("wrong", |facts| facts.stream[0].new.as_mut().unwrap()["unchanged"] = json!({ "BOOL": true })),
            ("stuck", |facts| facts.messages.values_mut().for_each(|message| message.held = 1)),
            ("stuck", |facts| facts.letters = 1),
            ("stuck", |facts| facts.told = 0),
            ("leaked", |facts| facts.leaks.push("a line".into())),
        ];
        for (place, (name, damage)) in cases.iter().enumerate() {
            let mut facts = good();
            damage(&mut facts);
            let verdict = judge(&facts);
            assert!(verdict.summary().contains(name), "case {place} should be {name}: {}", verdict.summary());
        }
    }
}
