//! Chains: a function's messages make it run again. Each chain ends by itself. After some 16 runs, Lambda takes a chain
//! for a loop and drops its next message, unless the function allows chains. Lambda counts the runs by the `Lineage` in
//! the tracing header, which the SDK passes on with everything that it sends.
//!
//! `RecursiveLoop: Allow` in the template switches that off. These tests show what would be cut without it, and where
//! each chain ends.

use std::collections::{BTreeSet, VecDeque};

use cloud::{connections::Connections, queue::Jobs, state::Entities};
use commerce::{
    connection::Connection,
    job::{Job, Trigger, shard},
    key::ConnectionKey,
    request::WebhookPath,
};
use serde_json::json;
use tests::{
    platforms::{Simulator, Trouble},
    world::{World, delivered, message, outcomes},
};

use crate::{controller::Place, poll::Shop};

/// The runs that Lambda lets a chain have; it drops the message that would begin the next one.
const RUNS: usize = 16;

/// A runner of the queues, which runs each job and each message in an invocation of its own, and counts the runs of the
/// chain before it.
struct Chains<'w> {
    world: &'w World,
    /// `true` when Lambda drops the messages of chains that are too long.
    cuts: bool,
    jobs: VecDeque<usize>,
    messages: Vec<usize>,
    taken: usize,
    /// Jobs that Lambda dropped.
    dropped: Vec<Job>,
    dropped_messages: usize,
    /// The connections that were checked.
    checked: BTreeSet<ConnectionKey>,
    longest: usize,
    ends: Vec<String>,
}

impl<'w> Chains<'w> {
    /// Makes a runner. One invocation, of the schedule or of a request, has sent everything that is on the queues now.
    fn new(world: &'w World, cuts: bool) -> Self {
        let mut chains = Self {
            world,
            cuts,
            jobs: VecDeque::new(),
            messages: Vec::new(),
            taken: 0,
            dropped: Vec::new(),
            dropped_messages: 0,
            checked: BTreeSet::new(),
            longest: 1,
            ends: Vec::new(),
        };
        chains.sent_by(1);
        chains
    }

    fn sent_by(&mut self, runs: usize) {
        self.longest = self.longest.max(runs);
        self.jobs.resize(self.world.queues.jobs().len(), runs);
        self.messages.resize(self.world.queues.sent().len(), runs);
    }

    async fn run(&mut self) {
        for round in 0.. {
            assert!(round < 50_000, "there is no end of it");
            if let Some((job, delay)) = self.world.queues.next_job() {
                let before = self.jobs.pop_front().unwrap();
                if self.cuts && before >= RUNS {
                    self.dropped.push(job);
                    continue;
                }
                if let Job::Check { key, .. } = &job {
                    self.checked.insert(key.clone());
                }
                self.world.clock.pass_seconds(i64::from(delay));
                self.world.registrar().run(&job.text()).await.unwrap();
                self.sent_by(before + 1);
                continue;
            }
            let sent = self.world.queues.sent();
            let Some((sealed, delay)) = sent.get(self.taken) else { return };
            let before = self.messages[self.taken];
            self.taken += 1;
            if self.cuts && before >= RUNS {
                self.dropped_messages += 1;
                continue;
            }
            self.world.clock.pass_seconds(i64::from(*delay));
            self.ends.extend(outcomes(&self.world.process(&[message(self.taken, sealed.text())]).await));
            self.sent_by(before + 1);
        }
    }
}

#[tokio::test]
async fn a_sweep_of_a_long_list_goes_on_to_its_end() {
    for cuts in [true, false] {
        let world = World::new();
        let mut keys = BTreeSet::new();
        for number in 0.. {
            let key = WebhookPath::parse("directscale", &format!("client{number}"), None).unwrap().key;
            // All connections are in one shard of the list, so that few are enough.
            if shard(&key) == 0 {
                let connection = Connection { revision: 1, ..Connection::new("https://api.example.com") };
                assert!(world.tables.save(&key, &connection).await.unwrap());
                keys.insert(key);
            }
            if keys.len() == 1_800 {
                break;
            }
        }
        world.registrar().sweep().await.unwrap();
        let mut chains = Chains::new(&world, cuts);
        chains.run().await;
        if cuts {
            // The schedule's run is the first. The last run queues the checks of a page too, but they are dropped.
            assert!(matches!(chains.dropped.last(), Some(Job::Sweep { shard: 0, after: Some(_), .. })));
            assert_eq!(chains.checked.len(), 100 * (RUNS - 2), "those behind are never looked after");
        } else {
            assert!(chains.checked == keys && chains.longest > RUNS, "{}", chains.longest);
        }
    }
}

#[tokio::test]
async fn an_import_of_many_pages_goes_on_to_its_end() {
    for cuts in [true, false] {
        let mut shop = Shop::new(3, |world| crate::poll::store(world, 2));
        shop.changes(400);
        shop.connect(json!({})).await;
        shop.lose_hooks();
        // The chain of polling goes on while polling is wanted, and has at most one run in five minutes. This test is
        // not about it.
        let job = Job::check(&shop.key, Trigger::Schedule);
        shop.world.queues.send_jobs(&[(job, 0)]).await.unwrap();
        let mut chains = Chains::new(&shop.world, cuts);
        chains.run().await;
        let there = shop.there();
        let here = shop.here();
        if cuts {
            assert!(chains.dropped.iter().all(|job| matches!(job, Job::Poll { .. })));
            assert!(!chains.dropped.is_empty() && here.len() < there.len(), "{} of {}", here.len(), there.len());
        } else {
            assert!(chains.longest > RUNS, "{}", chains.longest);
            assert_eq!(here, there);
        }
    }
}

#[tokio::test]
async fn a_message_that_is_put_off_again_and_again_is_put_aside_in_the_end() {
    for cuts in [true, false] {
        let world = World::new();
        world.connect(Some("{\"consumer_key\":\"ck_1\",\"consumer_secret\":\"cs_1\"}"));
        world.store().trouble(&vec![Trouble::TooMany(1); 1_000]);
        let first = world.process(&[delivered("order.deleted", r#"{"id":13}"#, 1_795_225_700_000)]).await;
        assert_eq!(outcomes(&first), ["deferred by 1 s"]);
        let mut chains = Chains::new(&world, cuts);
        chains.run().await;
        let last = chains.ends.last().map(String::as_str);
        if cuts {
            assert_eq!((chains.dropped_messages, world.queues.dead().len()), (1, 0), "nobody says why: {last:?}");
        } else {
            assert_eq!(last, Some("quarantined: deferred-too-often"));
            assert_eq!((chains.longest, world.queues.dead().len()), (201, 1));
        }
    }
}

#[tokio::test]
async fn erasing_what_is_known_of_a_large_store_goes_on_to_its_end() {
    const ITEMS: usize = 2_000 * RUNS + 1_000;
    for cuts in [true, false] {
        let place = Place::connected_with("woocommerce", |settings| {
            settings["retention"] = json!({ "erase-after-days": 1 });
        })
        .await;
        let mut item = {
            let world = World::connected();
            let body = r#"{"id":13,"status":"processing","date_modified_gmt":"2026-11-21T01:48:40"}"#;
            world.process(&[delivered("order.updated", body, 1_795_225_700_000)]).await;
            world.tables.items().remove(0)
        };
        item.pk = place.key.to_string();
        for id in 0..ITEMS {
            item.sk = format!("order#{id}");
            place.world.tables.put(&item, None).await.unwrap();
        }
        assert_eq!(place.admin("DELETE", "").await.0, 200);
        place.run().await;
        place.world.clock.pass_seconds(24 * 3600);
        let job = Job::check(&place.key, Trigger::Schedule).text();
        place.world.registrar().run(&job).await.unwrap();
        let mut chains = Chains::new(&place.world, cuts);
        chains.run().await;
        let left = place.world.tables.items().len();
        if cuts {
            assert_eq!((chains.dropped_messages, left), (1, ITEMS - 2_000 * (RUNS - 1)), "personal data stays");
        } else {
            assert_eq!((chains.ends.last().map(String::as_str), left), (Some("ignored: erased"), 0));
        }
    }
}
