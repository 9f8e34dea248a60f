//! The release binaries in trouble: deliveries go through the receiver, the queue, the processor and the publisher, while AWS,
//! the shops and Lambda itself fail on a script. An oracle that shares no code with the functions judges each run.
//!
//!     make faults [SEED=7] [FAULT="stale reads"] [DELIVERIES=3000]
//!
//! The script throws its dice by the seed and the number of each call. Which call comes first is decided by the machine,
//! so a run that is replayed strikes as often and as hard, but not to the microsecond.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod cloud;
mod lambda;
mod net;
mod oracle;
mod run;
mod script;
mod store;

use std::{
    collections::BTreeMap,
    env,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    sync::Mutex,
    thread,
    time::Instant,
};

use run::{Binaries, Plan, Ran, run};
use script::{KINDS, Kind, LIES};

/// The runs that go on side by side. They wait more than they work.
const SIDE_BY_SIDE: usize = 3;
/// The share of the deliveries that the last kind, all at once, gets.
const MIXED_SHARE: u64 = 10;
/// The fewest deliveries that a failing run shrinks to.
const FEWEST: u64 = 20;
/// The deliveries of the long and of the short form.
const LONG: u64 = 100_000;
const SHORT: u64 = 3_000;

/// The extent of the runs.
#[derive(clap::Parser)]
struct Options {
    /// The short form, for `make test`.
    #[arg(long)]
    short: bool,
    /// The file to write the table to.
    #[arg(long)]
    output: Option<PathBuf>,
}

fn number(name: &str) -> Option<u64> {
    let value = env::var(name).ok().filter(|value| !value.is_empty())?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// Returns the binaries: where variables say, or in the folder of release builds.
fn binaries() -> Binaries {
    let target = env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| "target".to_owned());
    let path = |name: &'static str| {
        let given = env::var(name.to_uppercase()).ok().filter(|path| !path.is_empty());
        (name, given.map_or_else(|| Path::new(&target).join("release").join(name), PathBuf::from))
    };
    let folder = env::temp_dir().join(format!("commerce-hooks-faults-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let skew = folder.join("skew.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("faults/skew.c");
    let built = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&skew).arg(source).status();
    assert!(built.is_ok_and(|status| status.success()), "cc cannot build the library that moves clocks");
    Binaries { path: ["receiver", "processor", "publisher", "registrar"].map(path).into(), skew }
}

/// Makes runs side by side, and returns what came of each, in their order.
fn run_all(plans: &[Plan], binaries: &Binaries) -> Vec<Ran> {
    let (next, done) = (Mutex::new(0), Mutex::new(BTreeMap::new()));
    thread::scope(|scope| {
        for _ in 0..SIDE_BY_SIDE {
            scope.spawn(|| {
                loop {
                    let place = {
                        let mut next = next.lock().unwrap();
                        *next += 1;
                        *next - 1
                    };
                    let Some(plan) = plans.get(place) else { return };
                    let ran = run(plan, binaries);
                    eprintln!("{}", row(plan, &ran));
                    done.lock().unwrap().insert(place, ran);
                }
            });
        }
    });
    done.into_inner().unwrap().into_values().collect()
}

/// Returns a row of the table.
fn row(plan: &Plan, ran: &Ran) -> String {
    let verdict = &ran.verdict;
    format!(
        "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {:.1} |",
        plan.kind.name,
        ran.strikes,
        ran.starts,
        plan.deliveries,
        ran.unsent,
        ran.accepted,
        ran.retried,
        verdict.outcomes.values().sum::<usize>(),
        ran.redriven,
        verdict.lost.len(),
        verdict.doubled.len(),
        verdict.wrong.len() + verdict.stuck.len() + verdict.leaks.len(),
        ran.recovery.as_secs_f64(),
    )
}

const HEAD: &str = "\
| fault | strikes | starts | deliveries | never sent | accepted | retried | outcomes | brought back | lost | doubled | wrong | recovery, s |
|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|";

/// Returns the page with the table, and how to read it.
fn page(seed: u64, deliveries: u64, table: &str) -> String {
    format!(
        "\
# Faults

Written by `make faults`, with the seed {seed}: the release binaries of the receiver, the processor, the registrar and the
publisher, in {deliveries} deliveries of 60 WooCommerce shops, while everything around them fails on a script.

{table}
## How to read it

Each row is a run of its own: two receivers, two processors, a registrar and a publisher as Lambda runs them, a small AWS in memory
(SQS, DynamoDB, Secrets Manager, KMS, EventBridge) behind a proxy, and the shops' API. Deliveries are orders that are
made, changed and deleted. They are sent out of order, and each again until it is accepted. Their trouble goes on while
the processors work; then it ends, dead letters are brought back once, and all has to become quiet. Where deliveries are
never sent, the registrar lists all orders of every shop meanwhile, and what is missing has to come that way.

| column | is |
|---|---|
| strikes | the calls and messages that the script struck. Clocks that are off strike everything, and are not counted |
| starts | the starts of environments: five, six where lists are read, and one for each that was killed or ended |
| never sent | deliveries that the shops did not make although something changed |
| accepted | deliveries that were answered 2xx |
| retried | attempts after the first: of the shops, and of the queue |
| outcomes | accepted deliveries with an outcome that was counted, once for each message |
| brought back | dead letters that were brought back when the trouble was over, as `make redrive` does |
| lost | accepted deliveries without an outcome, and changes that no event told |
| doubled | outcomes that were counted twice, states that came twice, and changes that two events told |
| wrong | orders that differ from the shops', messages still under way, refused deliveries that were right, secrets printed |
| recovery | the time from the end of the trouble until all was quiet; the queue's own time goes 40 times faster |

An oracle judges from outside. It compares what the shops have with what the table holds, the answers with the queue and
with the processor's log, and the table's writes with the events on the bus. It shares no code with the merge. Each run
of `make faults` first makes two runs in which the small AWS does what AWS never does (it loses a message that it took,
and forgets a write), and fails if the oracle does not find that.

The dice fall by the seed and the number of each call. Which call comes first is decided by the machine, so a replay
strikes as often and as hard, but not at the same microsecond. A run that fails shrinks, and prints the command that
repeats it.

What it does not have: other platforms than WooCommerce, the registrar's webhooks, and the sender. Those are in `tests/path`
and `tests/e2e`. The small AWS is no proof of AWS; it promises what AWS documents.
"
    )
}

/// Makes a failing run smaller, as long as it still fails: fewer deliveries, then fewer strikes.
fn shrink(mut plan: Plan, mut ran: Ran, binaries: &Binaries) -> (Plan, Ran) {
    let mut halve = |of: fn(&mut Plan) -> &mut u64, from: u64, least: u64| {
        *of(&mut plan) = from.min(*of(&mut plan));
        while *of(&mut plan) / 2 >= least {
            let mut smaller = plan.clone();
            *of(&mut smaller) /= 2;
            let again = run(&smaller, binaries);
            eprintln!("shrinking: {}", row(&smaller, &again));
            if again.verdict.is_good() {
                return;
            }
            (plan, ran) = (smaller, again);
        }
    };
    halve(|plan| &mut plan.deliveries, u64::MAX, FEWEST);
    halve(|plan| &mut plan.limit, 1 << 16, 1);
    (plan, ran)
}

/// Shows that the oracle finds what AWS never does: a message that is lost, and a write that is forgotten.
fn prove(seed: u64, binaries: &Binaries) -> Result<(), String> {
    for lie in LIES {
        let plan = Plan { kind: *lie, seed, deliveries: 200, limit: u64::MAX };
        let ran = run(&plan, binaries);
        eprintln!("{}", row(&plan, &ran));
        if ran.verdict.lost.is_empty() && ran.verdict.wrong.is_empty() {
            return Err(format!("{}: the oracle did not see it", lie.name));
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    let options = <Options as clap::Parser>::parse();
    let seed = number("SEED").unwrap_or_else(|| u64::from(std::process::id()));
    let fault = env::var("FAULT").ok().filter(|name| !name.is_empty());
    let kinds: Vec<&Kind> = KINDS.iter().filter(|kind| fault.as_ref().is_none_or(|name| kind.name == *name)).collect();
    if kinds.is_empty() {
        let names: Vec<_> = KINDS.iter().map(|kind| kind.name).collect();
        eprintln!("there is no such fault; there are: {}", names.join(", "));
        return ExitCode::FAILURE;
    }
    let binaries = binaries();
    let began = Instant::now();
    eprintln!("seed {seed}");
    let total = if options.short { SHORT } else { LONG };
    let mixed = total / MIXED_SHARE;
    let others = (total - mixed).div_ceil(u64::try_from(KINDS.len()).unwrap() - 1);
    let last = KINDS.last().map(|kind| kind.name);
    let plans: Vec<_> = kinds
        .into_iter()
        .map(|kind| {
            let share = if Some(kind.name) == last { mixed } else { others };
            let deliveries = number("DELIVERIES").unwrap_or(share);
            Plan { kind: *kind, seed, deliveries, limit: number("STRIKES").unwrap_or(u64::MAX) }
        })
        .collect();
    if fault.is_none()
        && let Err(error) = prove(seed, &binaries)
    {
        eprintln!("{error}");
        return ExitCode::FAILURE;
    }
    let deliveries: u64 = plans.iter().map(|plan| plan.deliveries).sum();
    let results = run_all(&plans, &binaries);
    let mut table = format!("{HEAD}\n");
    for (plan, ran) in plans.iter().zip(&results) {
        let _ = writeln!(table, "{}", row(plan, ran));
    }
    println!("{table}");
    let mut failed = false;
    for (plan, ran) in plans.into_iter().zip(results) {
        if ran.verdict.is_good() {
            continue;
        }
        failed = true;
        eprintln!("\n{}:\n{}", plan.kind.name, ran.verdict.summary());
        let (plan, ran) = shrink(plan, ran, &binaries);
        eprintln!("{}", ran.verdict.summary());
        eprintln!(
            "again: make faults SEED={seed} FAULT=\"{}\" DELIVERIES={} STRIKES={}",
            plan.kind.name, plan.deliveries, plan.limit
        );
    }
    eprintln!("seed {seed}, {} s", began.elapsed().as_secs());
    if let (Some(file), false) = (&options.output, failed) {
        fs::write(file, page(seed, deliveries, &table)).unwrap();
    }
    let _ = fs::remove_dir_all(binaries.skew.parent().unwrap());
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
