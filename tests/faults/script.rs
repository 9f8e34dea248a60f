//! The faults, each kind with its script: which calls it strikes, how often, and how. The dice are thrown by the seed and
//! the number of the call, so the same seed strikes the same calls in their order.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Dice that fall the same way for the same seed.
#[derive(Clone)]
pub struct Dice(u64);

impl Dice {
    /// Takes dice for one use of a seed.
    pub fn new(seed: u64, of: &str) -> Self {
        Self(of.bytes().fold(seed, |sum, byte| mixed(sum ^ u64::from(byte))))
    }

    /// Throws.
    pub fn throw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed(self.0)
    }

    /// Returns a number below `most`.
    pub fn below(&mut self, most: u64) -> u64 {
        self.throw() % most.max(1)
    }

    /// Returns `true` so many times in a thousand.
    pub fn in_thousand(&mut self, times: u64) -> bool {
        self.below(1000) < times
    }
}

/// Mixes the bits of a number, as `SplitMix64` does.
fn mixed(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// What happens to one call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// 500 or 503, and nothing is done.
    Error,
    /// AWS or the platform says that there are too many calls.
    Throttle,
    /// Nobody answers, and nothing is done.
    Silence,
    /// Nobody answers in time, but the work is done.
    SilenceAfter,
    /// The connection is dropped, and nothing is done.
    DropBefore,
    /// The connection is dropped after the work was done.
    DropAfter,
    /// The answer breaks off in the middle, after the work was done.
    Cut,
    /// The answer comes so many milliseconds late.
    Slow(u64),
    /// A read that need not be consistent shows what was there before the last write.
    Stale,
    /// Some keys of a batch are left unprocessed.
    Unprocessed,
    /// A write meets another one in a transaction.
    Conflict,
    /// Some entries of a batch are not taken.
    Partial,
    /// The caller is killed, and nothing is done.
    KillBefore,
    /// The caller is killed after the work was done.
    KillAfter,
    /// The caller gets no more memory.
    OutOfMemory,
    /// AWS is away for so many milliseconds: connections break, and new ones are refused.
    Away(u64),
    /// AWS starts again: as [`Fault::Away`], and the queue forgets who holds which message.
    Restart(u64),
    /// A page of HTML in place of an answer, with this status.
    Page(u16),
    /// The platform answers about another entity than was asked for.
    Another,
    /// The platform's list has a wrong total or none, fewer entries than were asked for, and some twice.
    Lie,
    /// A message of the queue is taken for sent, and never comes. AWS does not do that: it shows that the oracle sees.
    Lose,
    /// A write is taken for done, and is not. AWS does not do that: it shows that the oracle sees.
    Forget,
}

/// A fault, the calls that it strikes, and how often.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// The names of the operations; none means all of AWS. `platform` is a call to the shop about one order, `list` one for
    /// a page of orders.
    pub of: &'static [&'static str],
    /// The fault.
    pub fault: Fault,
    /// How many calls of a thousand it strikes.
    pub per_thousand: u64,
    /// The most calls that it strikes.
    pub most: u64,
}

/// A kind of trouble.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// Its name.
    pub name: &'static str,
    /// What strikes calls.
    pub rules: &'static [Rule],
    /// How many messages of a thousand the queue hands over twice.
    pub doubles: u64,
    /// How many messages of a thousand the queue holds back for a while.
    pub delays: u64,
    /// How far the clocks of the environments are off, in seconds: each environment takes the next one.
    pub skews: &'static [i64],
    /// The seconds that Lambda gives the processor.
    pub seconds: f64,
    /// Environments end after so many invocations; 0 for never.
    pub lives: u64,
    /// How many deliveries of a thousand are sent by somebody else with a wrong proof first.
    pub forged: u64,
    /// The number of orders of a shop that change at once. Few are contended.
    pub orders: u64,
    /// How many deliveries of a thousand are never sent. If there are some, all shops are synced in the end, and the lists
    /// have to make up for them.
    pub unsent: u64,
    /// How many changes of a thousand are deletes, which are asked about. As many are changes within the second of the one
    /// before, which are asked about, too.
    pub asked: u64,
}

/// No trouble, which the kinds differ from.
const CALM: Kind = Kind {
    name: "none",
    rules: &[],
    doubles: 0,
    delays: 0,
    skews: &[0],
    seconds: 20.0,
    lives: 0,
    forged: 0,
    orders: 30,
    unsent: 0,
    asked: 50,
};

const ALL: &[&str] = &[];
const READS: &[&str] = &["BatchGetItem", "GetItem", "Query"];
const WRITES: &[&str] = &["PutItem", "UpdateItem", "DeleteItem", "BatchWriteItem"];
const TABLES: &[&str] = &["BatchGetItem", "GetItem", "Query", "PutItem", "UpdateItem"];
const QUEUE: &[&str] = &["SendMessage", "SendMessageBatch", "ChangeMessageVisibility"];
const SECRETS: &[&str] = &["GetSecretValue"];
const VAULT: &[&str] = &["Decrypt"];
const BUS: &[&str] = &["PutEvents"];
const PLATFORM: &[&str] = &["platform"];
const LISTS: &[&str] = &["list"];
/// The calls of AWS that the registrar makes for each page of a list. The processor makes hardly any of them.
const PAGES: &[&str] = &["SendMessageBatch", "Query"];

const fn rule(of: &'static [&'static str], fault: Fault, per_thousand: u64) -> Rule {
    Rule { of, fault, per_thousand, most: u64::MAX }
}

/// A rule whose strikes take long, so that there are only some.
const fn some(of: &'static [&'static str], fault: Fault, per_thousand: u64, most: u64) -> Rule {
    Rule { of, fault, per_thousand, most }
}

/// All kinds: one trouble each, and at last all at once.
pub const KINDS: &[Kind] = &[
    CALM,
    Kind { name: "AWS is away", rules: &[some(ALL, Fault::Away(250), 4, 10)], ..CALM },
    Kind { name: "AWS answers 500", rules: &[rule(ALL, Fault::Error, 150)], ..CALM },
    Kind { name: "AWS throttles", rules: &[rule(ALL, Fault::Throttle, 150)], ..CALM },
    Kind {
        name: "AWS does not answer",
        rules: &[some(ALL, Fault::Silence, 6, 8), some(ALL, Fault::SilenceAfter, 6, 8)],
        ..CALM
    },
    Kind { name: "dropped before the work", rules: &[rule(ALL, Fault::DropBefore, 120)], ..CALM },
    Kind { name: "dropped after the work", rules: &[rule(ALL, Fault::DropAfter, 120)], ..CALM },
    Kind { name: "answers break off", rules: &[rule(ALL, Fault::Cut, 120)], ..CALM },
    Kind { name: "AWS is slow", rules: &[rule(ALL, Fault::Slow(120), 60)], ..CALM },
    Kind { name: "stale reads", rules: &[rule(READS, Fault::Stale, 500)], orders: 6, ..CALM },
    Kind { name: "unprocessed keys", rules: &[rule(READS, Fault::Unprocessed, 600)], ..CALM },
    Kind {
        name: "conflicting writes",
        rules: &[rule(WRITES, Fault::Conflict, 200), rule(WRITES, Fault::Slow(10), 300)],
        doubles: 200,
        orders: 3,
        ..CALM
    },
    Kind { name: "batches taken in part", rules: &[rule(BUS, Fault::Partial, 500)], ..CALM },
    Kind { name: "messages doubled", doubles: 400, ..CALM },
    Kind { name: "messages late and out of order", delays: 400, orders: 8, ..CALM },
    Kind { name: "no queue for a while", rules: &[rule(QUEUE, Fault::Error, 500)], ..CALM },
    Kind {
        name: "no secrets at the start",
        rules: &[rule(SECRETS, Fault::Error, 700), some(SECRETS, Fault::Silence, 100, 6)],
        lives: 40,
        ..CALM
    },
    Kind {
        name: "no secrets later",
        rules: &[rule(SECRETS, Fault::Throttle, 500), rule(SECRETS, Fault::Cut, 300)],
        forged: 100,
        lives: 150,
        ..CALM
    },
    Kind {
        name: "no KMS",
        rules: &[rule(VAULT, Fault::Error, 500), some(VAULT, Fault::Silence, 100, 4)],
        lives: 60,
        asked: 300,
        ..CALM
    },
    Kind {
        name: "killed in mid-batch",
        rules: &[rule(ALL, Fault::KillBefore, 12), rule(ALL, Fault::KillAfter, 12)],
        ..CALM
    },
    Kind { name: "out of memory", rules: &[rule(READS, Fault::OutOfMemory, 100)], ..CALM },
    Kind {
        name: "cut off by the deadline",
        rules: &[some(TABLES, Fault::Slow(1_500), 300, 40), some(WRITES, Fault::SilenceAfter, 20, 4)],
        seconds: 6.6,
        ..CALM
    },
    Kind { name: "clocks off by minutes", skews: &[240, -240, 0, 90, -90], orders: 6, asked: 200, ..CALM },
    Kind {
        name: "the platform fails",
        rules: &[
            rule(PLATFORM, Fault::Error, 300),
            rule(PLATFORM, Fault::DropAfter, 100),
            rule(PLATFORM, Fault::Cut, 100),
        ],
        asked: 300,
        ..CALM
    },
    Kind { name: "the platform throttles", rules: &[some(PLATFORM, Fault::Throttle, 300, 60)], asked: 300, ..CALM },
    Kind { name: "the platform does not answer", rules: &[some(PLATFORM, Fault::Silence, 200, 5)], asked: 300, ..CALM },
    Kind {
        name: "the platform answers with pages",
        rules: &[rule(PLATFORM, Fault::Page(404), 250), rule(PLATFORM, Fault::Page(200), 250)],
        asked: 300,
        ..CALM
    },
    Kind {
        name: "the platform tells of another order",
        rules: &[rule(PLATFORM, Fault::Another, 300)],
        asked: 300,
        ..CALM
    },
    Kind { name: "deliveries are never sent", unsent: 300, ..CALM },
    Kind {
        name: "lists fail",
        rules: &[
            rule(LISTS, Fault::Error, 150),
            rule(LISTS, Fault::Cut, 100),
            rule(LISTS, Fault::DropAfter, 100),
            rule(LISTS, Fault::Page(200), 100),
            some(LISTS, Fault::Throttle, 100, 20),
            some(LISTS, Fault::Silence, 50, 3),
        ],
        unsent: 300,
        ..CALM
    },
    Kind { name: "lists lie about their pages", rules: &[rule(LISTS, Fault::Lie, 700)], unsent: 300, ..CALM },
    Kind {
        name: "the registrar is killed in mid-list",
        rules: &[rule(PAGES, Fault::KillBefore, 40), rule(PAGES, Fault::KillAfter, 40)],
        unsent: 300,
        ..CALM
    },
    // No clock is off, because a pause that another clock has dated lasts until then, in real time.
    Kind {
        name: "lists in all of this",
        rules: &[
            rule(PAGES, Fault::KillBefore, 10),
            rule(PAGES, Fault::KillAfter, 10),
            rule(ALL, Fault::Error, 20),
            rule(ALL, Fault::Throttle, 20),
            rule(ALL, Fault::DropAfter, 15),
            rule(ALL, Fault::Cut, 15),
            rule(READS, Fault::Stale, 200),
            rule(READS, Fault::Unprocessed, 100),
            rule(WRITES, Fault::Conflict, 50),
            rule(VAULT, Fault::Error, 100),
            rule(PLATFORM, Fault::Error, 50),
            rule(PLATFORM, Fault::Page(404), 30),
            rule(LISTS, Fault::Error, 50),
            rule(LISTS, Fault::Cut, 30),
            rule(LISTS, Fault::Lie, 300),
        ],
        doubles: 50,
        delays: 50,
        unsent: 200,
        ..CALM
    },
    Kind { name: "the bus fails", rules: &[rule(BUS, Fault::Error, 300), rule(BUS, Fault::DropAfter, 300)], ..CALM },
    Kind { name: "AWS starts again", rules: &[some(ALL, Fault::Restart(1_500), 2, 3)], ..CALM },
    Kind {
        name: "all at once",
        rules: &[
            some(ALL, Fault::Away(200), 1, 12),
            some(ALL, Fault::Restart(800), 1, 2),
            rule(ALL, Fault::Error, 20),
            rule(ALL, Fault::Throttle, 20),
            some(ALL, Fault::SilenceAfter, 1, 6),
            rule(ALL, Fault::DropBefore, 15),
            rule(ALL, Fault::DropAfter, 15),
            rule(ALL, Fault::Cut, 15),
            rule(READS, Fault::Stale, 200),
            rule(READS, Fault::Unprocessed, 100),
            rule(WRITES, Fault::Conflict, 50),
            rule(BUS, Fault::Partial, 100),
            rule(VAULT, Fault::Error, 100),
            rule(ALL, Fault::KillBefore, 2),
            rule(ALL, Fault::KillAfter, 2),
            rule(READS, Fault::OutOfMemory, 5),
            rule(PLATFORM, Fault::Error, 50),
            some(PLATFORM, Fault::Throttle, 30, 40),
            rule(PLATFORM, Fault::Page(404), 30),
            rule(PLATFORM, Fault::Another, 30),
        ],
        doubles: 50,
        delays: 50,
        skews: &[120, 0, -120],
        lives: 400,
        forged: 10,
        orders: 12,
        asked: 100,
        ..CALM
    },
];

/// Kinds that AWS does not have. The oracle must find what they do.
pub const LIES: &[Kind] = &[
    Kind { name: "a message is lost", rules: &[some(&["SendMessage"], Fault::Lose, 100, 3)], ..CALM },
    Kind { name: "a write is forgotten", rules: &[some(&["PutItem"], Fault::Forget, 100, 3)], ..CALM },
];

/// The script of one run.
pub struct Script {
    kind: Kind,
    seed: u64,
    limit: u64,
    calls: Vec<AtomicU64>,
    strikes: Vec<AtomicU64>,
    total: AtomicU64,
    healed: AtomicBool,
}

impl Script {
    /// Makes the script of a kind for a seed, with so many strikes at most.
    pub fn new(kind: Kind, seed: u64, limit: u64) -> Self {
        let counters = || kind.rules.iter().map(|_| AtomicU64::new(0)).collect();
        Self {
            kind,
            seed,
            limit,
            calls: counters(),
            strikes: counters(),
            total: AtomicU64::new(0),
            healed: AtomicBool::new(false),
        }
    }

    /// Returns what happens to the next call of an operation.
    pub fn next(&self, operation: &str) -> Option<Fault> {
        for (place, rule) in self.kind.rules.iter().enumerate() {
            // The start of a run has to be possible, and a call of the platform is none of AWS.
            let fits = match rule.of {
                [] => !["platform", "list"].contains(&operation),
                names => names.contains(&operation),
            };
            if !fits || self.is_healed() {
                continue;
            }
            let number = self.calls[place].fetch_add(1, Ordering::SeqCst);
            let mut dice = Dice::new(self.seed ^ mixed(number), &format!("{}/{place}", self.kind.name));
            if !dice.in_thousand(rule.per_thousand)
                || self.strikes[place].load(Ordering::SeqCst) >= rule.most
                || self.total.load(Ordering::SeqCst) >= self.limit
            {
                continue;
            }
            self.strikes[place].fetch_add(1, Ordering::SeqCst);
            self.total.fetch_add(1, Ordering::SeqCst);
            return Some(rule.fault);
        }
        None
    }

    /// Counts a strike that no rule made, and returns whether it may be.
    pub fn strike(&self, dice: &mut Dice, per_thousand: u64) -> bool {
        let strikes =
            !self.is_healed() && dice.in_thousand(per_thousand) && self.total.load(Ordering::SeqCst) < self.limit;
        self.total.fetch_add(u64::from(strikes), Ordering::SeqCst);
        strikes
    }

    /// Ends all trouble.
    pub fn heal(&self) {
        self.healed.store(true, Ordering::SeqCst);
    }

    /// Returns whether the trouble is over.
    pub fn is_healed(&self) -> bool {
        self.healed.load(Ordering::SeqCst)
    }

    /// Returns the number of strikes so far.
    pub fn strikes(&self) -> u64 {
        self.total.load(Ordering::SeqCst)
    }
}
