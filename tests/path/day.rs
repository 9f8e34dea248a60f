//! A day at every platform. Shoppers and merchants change things, deliveries come late, shuffled and repeated, APIs are
//! busy, broken and slow, and queues refuse messages. In the end, the table agrees with the platforms' APIs on every
//! entity, and every accepted delivery has its outcome.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use aws_sdk_dynamodb::types::AttributeValue;
use cloud::telemetry::{self, kept};
use commerce::{
    change_event::{Detail, change_event},
    entity::EntityKind,
    http_call::Loopback,
    item::Item,
    key::ConnectionKey,
    origin::Origin,
    platform::{
        find,
        mapping::{imported, processor},
    },
    platforms::PLATFORMS,
    timestamp::Timestamp,
    verification::{Cause, Conclusion, Extent, Report, Verification},
};
use processor::{Disposition, Message};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::SliceRandom};
use serde_json::Value;
use tests::{
    platforms::{Delivery, Simulator, Trouble, Truth, simulators},
    reader::Replica,
    truth::{BETWEEN_QUESTIONS, Connected, connect},
    world::{BASE, Outside, World, coded, gateway_event, request},
};

/// A message on the queue, and the time from which it is visible.
struct Waiting {
    message: Message,
    visible: Timestamp,
}

struct Day {
    world: World,
    random: StdRng,
    connected: Vec<(ConnectionKey, String, Arc<dyn Simulator>)>,
    /// Deliveries between a platform and us, with the number of times that each was held back.
    wire: Vec<(usize, Delivery, u8)>,
    waiting: Vec<Waiting>,
    taken: usize,
    /// The ids of the messages of accepted deliveries.
    accepted: BTreeSet<String>,
    /// The trace ids that the senders were given, each with `true` if the delivery was accepted.
    given: BTreeMap<String, bool>,
    ends: BTreeMap<String, Disposition>,
    redriven: usize,
}

impl Day {
    async fn begin(seed: u64) -> Self {
        let mut world = World::new();
        world.loopback = Loopback::Allowed;
        let simulators = simulators(world.clock.function());
        let mut outside = Vec::new();
        for (place, simulator) in simulators.iter().enumerate() {
            outside.push((format!("http://127.0.0.1:{}", 20_000 + place), Arc::clone(simulator)));
        }
        world.outside = Outside::Simulated(outside.clone());
        let mut connected = Vec::new();
        for (site, simulator) in outside {
            let key = connect(&world, &*simulator, &site).await;
            connected.push((key, site, simulator));
        }
        Self {
            world,
            random: StdRng::seed_from_u64(seed),
            connected,
            wire: Vec::new(),
            waiting: Vec::new(),
            taken: 0,
            accepted: BTreeSet::new(),
            given: BTreeMap::new(),
            ends: BTreeMap::new(),
            redriven: 0,
        }
    }

    /// Makes some changes at one platform, sometimes lets its API fail, and runs a part of the network and of the
    /// queue.
    async fn step(&mut self) {
        let place = self.random.random_range(0..self.connected.len());
        let simulator = Arc::clone(&self.connected[place].2);
        for _ in 0..self.random.random_range(1..4) {
            simulator.change(&mut self.random);
        }
        if self.random.random_ratio(1, 8) {
            let troubles = [
                Trouble::TooMany(5),
                Trouble::Broken,
                Trouble::NotFoundPage,
                Trouble::AnswerLost,
                Trouble::Slow,
                Trouble::None,
            ];
            let some: Vec<_> = (0..3).map(|_| troubles[self.random.random_range(0..troubles.len())]).collect();
            simulator.trouble(&some);
        }
        let seconds = self.random.random_range(0..120);
        self.world.clock.pass_seconds(seconds);
        self.carry(3, 10).await;
        self.process(2).await;
    }

    /// Carries deliveries as a network does: about one in `holds` waits, and one in `repeats` arrives twice.
    async fn carry(&mut self, holds: u32, repeats: u32) {
        for (place, (_, _, simulator)) in self.connected.iter().enumerate() {
            self.wire.extend(simulator.outbox().into_iter().map(|delivery| (place, delivery, 0)));
        }
        self.wire.shuffle(&mut self.random);
        for (place, delivery, held) in std::mem::take(&mut self.wire) {
            // A delivery waits once only, because a token is valid for ten minutes.
            if held < 1 && self.random.random_ratio(1, holds) {
                self.wire.push((place, delivery, held + 1));
                continue;
            }
            let twice = self.random.random_ratio(1, repeats);
            for _ in 0..=u32::from(twice) {
                self.world.clock.pass_seconds(1);
                // The queue refuses only if the platform sends again; otherwise a refusal would be a loss.
                let sends_again = self.connected[place].2.sends_again();
                self.world.queues.refuse(sends_again && self.random.random_ratio(1, 20));
                let event = gateway_event(&delivery, self.world.clock.now()).unwrap();
                let answer = self.world.receiver.receive(request(&event)).await;
                self.world.queues.refuse(false);
                let status = answer.status().as_u16();
                assert!(status == 200 || status == 503, "{status} for {delivery:?}");
                let trace = answer.headers()["x-trace-id"].to_str().unwrap().to_owned();
                assert_eq!(self.given.insert(trace, status == 200), None, "a trace id is given once");
                if let Some(id) = answer.headers().get("x-message-id") {
                    self.accepted.insert(id.to_str().unwrap().to_owned());
                }
                self.connected[place].2.answered(&delivery, status);
            }
        }
    }

    /// Processes some of the visible messages, in batches and in random order.
    async fn process(&mut self, batches: usize) {
        for _ in 0..batches {
            let now = self.world.clock.now();
            let sent = self.world.queues.sent();
            for (n, (sealed, delay)) in sent.iter().enumerate().skip(self.taken) {
                let id = format!("message-{}", n + 1);
                let message = Message { receipt_handle: id.clone(), id, body: sealed.text().to_owned(), attempts: 1 };
                self.waiting.push(Waiting { message, visible: now.plus_seconds(i64::from(*delay)) });
            }
            self.taken = sent.len();
            self.waiting.shuffle(&mut self.random);
            let size = self.random.random_range(1..11);
            let (mut batch, mut rest) = (Vec::new(), Vec::new());
            for waiting in std::mem::take(&mut self.waiting) {
                if batch.len() < size && waiting.visible <= now { batch.push(waiting) } else { rest.push(waiting) }
            }
            self.waiting = rest;
            let messages: Vec<_> = batch.into_iter().map(|waiting| waiting.message).collect();
            if messages.is_empty() {
                return;
            }
            let report = self.world.process(&messages).await;
            report.lines.iter().for_each(telemetry::emit);
            self.ends.extend(report.ends);
            for mut message in messages.into_iter().filter(|message| report.failures.contains(&message.id)) {
                message.attempts += 1;
                self.waiting.push(Waiting { message, visible: now.plus_seconds(20) });
            }
        }
    }

    /// Lets everything arrive, and redrives messages that were put aside because a platform was down for too long.
    async fn settle(&mut self) {
        let mut idle = 0;
        while idle < 300 {
            self.world.clock.pass_seconds(600);
            let sent = self.world.queues.sent().len();
            self.carry(1_000, 1_000).await;
            self.process(50).await;
            for letter in self.world.queues.dead().into_iter().skip(self.redriven) {
                self.redriven += 1;
                let envelope = commerce::envelope::Envelope::parse(&letter.body).unwrap();
                let lasting = ["platform-unavailable", "connection-fault", "deferred-too-often"];
                assert!(lasting.contains(&letter.reason.name()), "{} for {}", letter.reason.name(), letter.body);
                let sealed = commerce::envelope::Sealed::redriven(&envelope);
                cloud::queue::Inbox::send(&self.world.queues, &sealed, 0).await.unwrap();
            }
            let quiet = self.wire.is_empty() && self.waiting.is_empty() && sent == self.world.queues.sent().len();
            idle = if quiet { idle + 1 } else { 0 };
        }
    }

    async fn compare(&self, seed: u64) -> BTreeMap<&'static str, usize> {
        let items: BTreeMap<(String, String), Item> =
            self.world.tables.items().into_iter().map(|item| ((item.pk.clone(), item.sk.clone()), item)).collect();
        let mut counts = BTreeMap::new();
        let clock = self.world.clock.function();
        for (_, site, simulator) in &self.connected {
            let connected = Connected::new(&**simulator, site);
            let mut alive = BTreeSet::new();
            for (kind, id, truth) in simulator.entities() {
                let key = connected.entity(kind, &id);
                *counts.entry(simulator.platform()).or_default() += 1;
                self.world.clock.pass_seconds(BETWEEN_QUESTIONS);
                let item = items.get(&(key.partition(), key.sort()));
                let same = connected.compare(&key, &truth, item, &*clock).await;
                assert_eq!(same, Ok(()), "seed {seed}");
                if !matches!(truth, Truth::Gone | Truth::GoneWith(_)) {
                    alive.insert(key.sort());
                }
            }
            let partition = connected.key.to_string();
            for item in items.values().filter(|item| item.pk == partition && !item.deleted) {
                assert!(alive.contains(&item.sk), "seed {seed}: {item} is known here alone");
            }
        }
        counts
    }
}

impl Day {
    /// Verifies everything at every platform, as `tools verify --full` does.
    async fn verify(&self, repair: bool) -> Vec<(ConnectionKey, Report)> {
        let mut reports = Vec::new();
        for (key, ..) in &self.connected {
            let connection = self.world.tables.connection(key).connection.unwrap();
            let platform = find(PLATFORMS, &key.platform).unwrap();
            let now = self.world.clock.now();
            let mut next = Some(Verification::new(now, Extent::Full, repair, imported(platform)));
            let mut report = Report::new(next.as_ref().unwrap());
            while let Some(verification) = next {
                let step = self.world.processor().verify(key, &connection, &verification).await.unwrap();
                self.world.clock.pass_seconds(step.wait_seconds);
                report.extend(step.found);
                next = step.next;
            }
            reports.push((key.clone(), report));
        }
        reports
    }

    async fn assert_equal(&self, seed: u64) {
        for (key, report) in self.verify(false).await {
            let (different, failures) = (&report.differences, &report.failures);
            assert_eq!(report.conclusion(), Conclusion::Equal, "seed {seed}: {key} {different:?} {failures:?}");
            assert!(report.checked.values().sum::<u64>() > 0, "{key}");
        }
    }

    /// Damages the table: at each platform and for each kind of entity that its API shows, the content of one item is
    /// altered, one is marked as deleted, one is removed, and one is made up. Returns what was done.
    fn damage(&self) -> BTreeMap<(String, String), &'static str> {
        let mut done = BTreeMap::new();
        for (key, site, simulator) in &self.connected {
            let connected = Connected::new(&**simulator, site);
            let mut left: BTreeMap<EntityKind, Vec<&'static str>> = BTreeMap::new();
            let mapping = find(PLATFORMS, &key.platform).unwrap().mapping;
            // DirectScale shows no orders here.
            let shows = |kind: EntityKind| key.platform != "directscale" || kind == EntityKind::Customer;
            let pulled =
                |kind: EntityKind| shows(kind) && processor(mapping, kind).is_some_and(|declared| declared.pull);
            let alive = |truth: &Truth| matches!(truth, Truth::Api | Truth::With(_) | Truth::Fields(_));
            let entities = simulator.entities().into_iter();
            for (kind, id, _) in entities.filter(|(kind, _, truth)| alive(truth) && pulled(*kind)) {
                let entity = connected.entity(kind, &id);
                let all = || vec!["made up", "removed", "marked", "altered"];
                let left = left.entry(kind).or_insert_with(all);
                // DirectScale's API has none of what deliveries told, and tells nothing of ids that it does not know.
                left.retain(|what| key.platform != "directscale" || ["removed", "marked"].contains(what));
                let Some(mut item) = self.world.tables.attributes(&entity) else { continue };
                let Some(what) = left.pop() else { continue };
                let mut at = entity.clone();
                match what {
                    "altered" => {
                        let Some(AttributeValue::M(fields)) = item.get_mut("fields") else { panic!("{item:?}") };
                        fields.insert("status".into(), AttributeValue::S("damaged".into()));
                    }
                    "marked" => _ = item.insert("deleted".into(), AttributeValue::Bool(true)),
                    "removed" => {
                        self.world.tables.unplant(&entity);
                        done.insert((key.to_string(), entity.sort()), what);
                        continue;
                    }
                    _ => {
                        at.id = "99999999".parse().unwrap();
                        item.insert("sk".into(), AttributeValue::S(at.sort()));
                    }
                }
                self.world.tables.plant(&at, item);
                done.insert((key.to_string(), at.sort()), what);
            }
        }
        done
    }
}

/// The field of a difference, and its cause.
type Row = (Option<String>, Cause);

/// A day after which everything agrees; then the table is damaged, which a verification shows row by row and repairs.
#[tokio::test]
async fn what_is_damaged_is_found_and_repaired() {
    let seed = 7;
    let mut day = Day::begin(seed).await;
    for _ in 0..120 {
        day.step().await;
    }
    day.connected.iter().for_each(|(_, _, simulator)| simulator.trouble(&[]));
    day.settle().await;
    day.assert_equal(seed).await;
    let done = day.damage();
    assert!(done.len() > 20, "{done:?}");
    let mut found: BTreeMap<(String, String), Vec<Row>> = BTreeMap::new();
    for (key, report) in day.verify(false).await {
        assert_eq!((report.conclusion(), &report.failures), (Conclusion::Drift, &Vec::new()), "{key}");
        for difference in report.differences {
            let sort = format!("{}#{}", difference.entity, difference.id);
            let row = (difference.field, difference.cause);
            found.entry((key.to_string(), sort)).or_default().push(row);
        }
    }
    let unlisted = |key: &str| key.starts_with("directscale");
    for (place, what) in &done {
        let rows = found.remove(place).unwrap_or_default();
        let field = match *what {
            "altered" => Some("status".to_owned()),
            "marked" | "made up" => Some("deleted".to_owned()),
            // Nobody can know of it where there is no list.
            _ if unlisted(&place.0) => {
                assert_eq!(rows, []);
                continue;
            }
            _ => None,
        };
        assert!(rows.iter().any(|(of, _)| *of == field), "{place:?} {what}: {rows:?}");
        let lost = rows.iter().all(|(_, cause)| *cause == Cause::ToldAndLost);
        assert!(lost || !matches!(*what, "altered" | "marked"), "{place:?} {what}: {rows:?}");
    }
    assert!(found.is_empty(), "nothing else differs: {found:?}");
    let queued: u64 = day.verify(true).await.iter().map(|(_, report)| report.queued).sum();
    assert!(queued > 20);
    day.settle().await;
    day.assert_equal(seed).await;
    let repaired = day.world.tables.items().into_iter().filter(|item| item.origin == Some(Origin::Repair)).count();
    assert!(repaired as u64 >= queued / 2, "{repaired} of {queued}");
}

/// Follows the table's stream as a reader does, who gets each event at least once and in any order, and keeps the greatest
/// sequence of each subject. He ends with what the table shows.
fn follow(day: &mut Day, seed: u64) {
    let (mut events, mut ids, mut skipped) = (Vec::new(), BTreeSet::new(), 0);
    for (before, after) in day.world.tables.stream() {
        let event = change_event(before.as_ref(), after.as_ref(), Detail::Full);
        // The stream's filter drops writes of bookkeeping before anybody is called.
        if after.as_ref().is_some_and(|after| after.unchanged) {
            assert_eq!(event, None, "seed {seed}: {after:?}");
            skipped += 1;
        }
        if let Some(event) = event {
            assert!(ids.insert(event.id.clone()), "seed {seed}: {} is told twice", event.subject);
            events.push(event);
        }
    }
    assert!(events.len() > 300 && skipped > 100, "seed {seed}: {} {skipped}", events.len());
    events.extend(events.clone());
    events.shuffle(&mut day.random);
    let mut copy = Replica::default();
    for event in events {
        copy.take(event);
    }
    assert_eq!(copy.difference(&day.world.tables.items()), None, "seed {seed}");
}

async fn day(seed: u64, steps: usize) {
    let mut day = Day::begin(seed).await;
    for _ in 0..steps {
        day.step().await;
    }
    for (_, _, simulator) in &day.connected {
        simulator.trouble(&[]);
    }
    day.settle().await;
    let counts = day.compare(seed).await;
    day.assert_equal(seed).await;
    follow(&mut day, seed);
    // Every platform has its share of the day.
    assert_eq!(counts.len(), coded().count(), "{counts:?}");
    assert!(counts.values().all(|entities| *entities > steps / 50), "{counts:?}");
    for id in &day.accepted {
        let end = day.ends.get(id);
        assert!(
            matches!(end, Some(Disposition::Done(_) | Disposition::Deferred(_))),
            "seed {seed}: {id} ended as {end:?}"
        );
    }
}

#[tokio::test]
async fn the_table_says_what_the_platforms_say() {
    for seed in 0..3 {
        day(seed, 300).await;
    }
}

/// Returns the traces that a line names.
fn named(line: &Value) -> Vec<&str> {
    let one = line["trace"].as_str().into_iter();
    let several = line["traces"].as_array().into_iter().flatten();
    one.chain(several.map(|trace| trace.as_str().unwrap())).collect()
}

/// A day in whose log every line names what it is about, and in which each accepted delivery is found at each step by the
/// id that its sender was given.
#[tokio::test]
async fn every_line_of_the_log_names_its_traces() {
    let (day, lines) = kept(async {
        let mut day = Day::begin(11).await;
        for _ in 0..120 {
            day.step().await;
        }
        // A forged delivery, and one to nowhere.
        let (place, mut forged) = loop {
            day.step().await;
            let told = day.wire.iter().find(|(_, delivery, _)| delivery.url.starts_with(BASE));
            if let Some((place, delivery, _)) = told {
                break (*place, delivery.clone());
            }
        };
        forged.headers.clear();
        let event = gateway_event(&forged, day.world.clock.now()).unwrap();
        let answer = day.world.receiver.receive(request(&event)).await;
        assert_eq!(answer.status(), 401, "{}", day.connected[place].0);
        day.given.insert(answer.headers()["x-trace-id"].to_str().unwrap().to_owned(), false);
        for (_, _, simulator) in &day.connected {
            simulator.trouble(&[]);
        }
        day.settle().await;
        assert!(day.world.run_jobs().await > 0);
        let events = crate::publisher::told(&day.world, 0, Detail::Ids).await;
        crate::sender::sent_on(&day.world, &events).await;
        day
    })
    .await;
    let mut found: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for line in &lines {
        let traces = named(line);
        assert!(!traces.is_empty(), "a line without a trace: {line}");
        for trace in traces {
            // What no delivery brought is named after the message, the job, the request or the write that did.
            let begun = ["request-", "message-", "job-", "0000000"];
            assert!(begun.iter().any(|begin| trace.starts_with(begin)), "{line}");
            found.entry(trace).or_default().insert(line["event"].as_str().unwrap_or("metric"));
        }
    }
    let ends = |trace: &str| {
        let batches = lines.iter().filter(|line| line["event"] == "batch");
        let all = batches.flat_map(|line| line["ends"].as_array().unwrap());
        all.filter(|end| end["trace"] == trace).map(|end| end["end"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let (mut sent, mut accepted) = (0, 0);
    for (trace, is_accepted) in &day.given {
        let events = found.get(trace.as_str()).cloned().unwrap_or_default();
        if !is_accepted {
            assert!(events.contains("refused") || events.contains("not-queued"), "{trace}: {events:?}");
            continue;
        }
        accepted += 1;
        assert!(events.is_superset(&BTreeSet::from(["queued", "batch"])), "{trace}: {events:?}");
        let ended = ends(trace);
        assert!(ended.iter().any(|end| end != "unfinished"), "{trace}: {ended:?}");
        sent += usize::from(events.is_superset(&BTreeSet::from(["published", "deliveries"])));
    }
    assert!(accepted > 300 && sent > 100, "{accepted} {sent}");
    for metric in ["ReceiptToState", "ReceiptToEvent"] {
        let times = lines.iter().filter_map(|line| line[metric].as_array()).flatten();
        assert!(times.filter(|time| time.as_i64() > Some(0)).count() > 100, "{metric}");
    }
    // What a reader is told by webhook names the delivery that it came of.
    for item in day.world.tables.items().iter().filter(|item| item.origin == Some(Origin::Webhook)) {
        let trace = item.trace.as_deref().unwrap();
        assert!(day.given.contains_key(trace), "{item} was brought by {trace}");
    }
}
