//! The cost of a million deliveries, by platform. Each simulated platform plays, and in-memory edges count the
//! functions' requests to AWS as AWS bills them. Prices are those of us-east-1, November 2026, on demand, without the
//! free tier.
#![allow(clippy::expect_used, clippy::print_stdout, clippy::cast_precision_loss, reason = "a command")]

use std::{collections::BTreeMap, sync::Arc};

use commerce::{
    change_event::{Detail, change_event},
    http_call::Loopback,
};
use processor::Message;
use rand::{Rng as _, SeedableRng, rngs::StdRng};
use tests::{
    platforms::{Simulator, simulators},
    truth::connect,
    world::{Outside, Processes, World, coded, gateway_event, message, request},
};

/// The price of a request of up to 512 KB to an HTTP API: <https://aws.amazon.com/api-gateway/pricing/>.
const HTTP_API: f64 = 1.00e-6;
/// The prices of an invocation and of a GB-second of arm64: <https://aws.amazon.com/lambda/pricing/>.
const INVOCATION: f64 = 0.20e-6;
const GB_SECOND: f64 = 0.000_013_333_4;
/// The price of a request of up to 64 KB to a standard queue: <https://aws.amazon.com/sqs/pricing/>.
const SQS: f64 = 0.40e-6;
/// The prices of a write unit and of a read unit: <https://aws.amazon.com/dynamodb/pricing/on-demand/>.
const WRITE_UNIT: f64 = 0.625e-6;
const READ_UNIT: f64 = 0.125e-6;
/// The price of 64 KB of an event on a bus: <https://aws.amazon.com/eventbridge/pricing/>. Lambda reads a table's stream for free.
const EVENT: f64 = 1.00e-6;
/// The price of a byte of logs: <https://aws.amazon.com/cloudwatch/pricing/>.
const LOG_BYTE: f64 = 0.50e-9;

/// The default memory of a function, in GB.
const MEMORY: f64 = 0.25;
/// The assumed times of a call of an AWS service and of a platform, in seconds. One machine cannot measure them.
const AWS_CALL: f64 = 0.005;
const PLATFORM_CALL: f64 = 0.3;
/// The CPU time of a delivery in the receiver and of a message in the processor, in seconds (`docs/benchmarks.md`),
/// divided by the share of a CPU that comes with 256 MB.
const RECEIVER_CPU: f64 = 0.000_6 * 1769.0 / 256.0;
const PROCESSOR_CPU: f64 = 0.000_86 * 1769.0 / 256.0;
/// The length of a request's line in the access log, in bytes.
const ACCESS_LOG: f64 = 300.0;
/// The length of the receiver's log line for a delivery, in bytes.
const QUEUED_LOG: f64 = 190.0;

/// The price of a request of up to 64 KB to a queue that keeps an order: <https://aws.amazon.com/sqs/pricing/>.
const FIFO: f64 = 0.50e-6;
/// The assumed time of an endpoint's answer, in seconds.
const ENDPOINT: f64 = 0.3;

/// Returns the cost of sending an event on to one endpoint: the two queues, with full batches of 10 and of 5, the notes of
/// the circuit and of the last sequence, and the sender, which waits for each answer.
fn sending() -> f64 {
    let queues = SQS * (1.0 + 0.1 + 0.1) + FIFO * (1.0 + 0.2 + 0.2);
    let notes = READ_UNIT * 3.0 + WRITE_UNIT;
    let waiting = 0.1 * AWS_CALL + ENDPOINT + 4.0 * AWS_CALL;
    queues + notes + INVOCATION * (0.1 + 0.2) + GB_SECOND * MEMORY * waiting
}

/// The length of the publisher's log line for a batch, with the metric beside it, and of its part for each event, in bytes.
const PUBLISHER_LOG: f64 = 400.0;
const EVENT_LOG: f64 = 180.0;

/// The number of counted changes at each platform.
const CHANGES: usize = 60;
/// The most messages in a batch.
const BATCH: usize = 10;

/// The counts.
#[derive(Default)]
struct Counted {
    deliveries: f64,
    messages: f64,
    invocations: f64,
    seconds: f64,
    sqs: f64,
    reads: f64,
    writes: f64,
    calls: f64,
    log: f64,
}

struct Shop {
    world: World,
    processor: Processes,
    simulator: Arc<dyn Simulator>,
    waiting: Vec<Message>,
    taken: usize,
    counted: Counted,
    /// The number of writes before those that are counted.
    uncounted: usize,
}

fn chunks(bytes: usize) -> f64 {
    bytes.div_ceil(64 * 1024).max(1) as f64
}

impl Shop {
    /// Delivers the platform's outbox.
    async fn deliver(&mut self) {
        for delivery in self.simulator.outbox() {
            let Some(event) = gateway_event(&delivery, self.world.clock.now()) else { continue };
            let status = self.world.receiver.receive(request(&event)).await.status().as_u16();
            self.simulator.answered(&delivery, status);
            self.counted.deliveries += 1.0;
            self.counted.seconds += RECEIVER_CPU + AWS_CALL;
            self.counted.log += ACCESS_LOG + QUEUED_LOG;
        }
        self.take(1);
    }

    /// Takes the new messages from the queue, with `at_once` messages in each counted request.
    fn take(&mut self, at_once: usize) {
        let sent = self.world.queues.sent();
        let new: Vec<_> = sent.iter().enumerate().skip(self.taken).collect();
        for part in new.chunks(at_once) {
            self.counted.sqs += chunks(part.iter().map(|(_, (sealed, _))| sealed.text().len()).sum());
        }
        // Deferred messages get their time, and later ones do not wait for them.
        let delay = new.iter().map(|(_, (_, delay))| *delay).max().unwrap_or(0);
        self.world.clock.pass_seconds(i64::from(delay));
        self.waiting.extend(new.iter().map(|(n, (sealed, _))| message(*n, sealed.text())));
        self.taken = sent.len();
    }

    /// Processes a batch of the waiting messages.
    async fn process(&mut self) {
        let rest = self.waiting.split_off(self.waiting.len().min(BATCH));
        let batch = std::mem::replace(&mut self.waiting, rest);
        self.world.tables.used();
        let report = self.processor.process(&batch, self.world.clock.now().plus_seconds(60)).await;
        let used = self.world.tables.used();
        let calls = self.simulator.calls().len() as f64;
        self.counted.messages += batch.len() as f64;
        self.counted.invocations += 1.0;
        // One request receives the batch, and one deletes it.
        self.counted.sqs += chunks(batch.iter().map(|message| message.body.len()).sum()) + 1.0;
        self.counted.reads += used.read_halves as f64 / 2.0;
        self.counted.writes += used.write_units as f64;
        self.counted.calls += calls;
        // Entities are brought up to date side by side. The batch takes as long as the slowest entity: one read, one
        // write, and its calls.
        let slowest = (calls / batch.len() as f64).ceil() * PLATFORM_CALL;
        self.counted.seconds += 3.0 * AWS_CALL + slowest + PROCESSOR_CPU * batch.len() as f64;
        self.counted.log += report.lines.iter().map(|line| line.to_string().len() as f64).sum::<f64>();
        let back: Vec<_> = batch.into_iter().filter(|message| report.failures.contains(&message.id)).collect();
        self.world.clock.pass_seconds(if back.is_empty() { 0 } else { 700 });
        self.waiting.extend(back);
        self.take(BATCH);
    }

    /// Returns the sizes of the change events in bytes.
    fn events(&self) -> Vec<usize> {
        let stream = self.world.tables.stream().into_iter().skip(self.uncounted);
        let events = stream.filter_map(|(before, after)| change_event(before.as_ref(), after.as_ref(), Detail::Full));
        events.map(|event| serde_json::to_string(&event).map_or(0, |text| text.len())).collect()
    }

    /// Returns the dollars of telling of the changes of a million deliveries. A batch of the processor makes one of the
    /// publisher.
    fn telling(&self) -> f64 {
        let events: f64 = self.events().into_iter().map(|bytes| EVENT * chunks(bytes) + EVENT_LOG * LOG_BYTE).sum();
        let invocation = INVOCATION + 2.0 * AWS_CALL * MEMORY * GB_SECOND + PUBLISHER_LOG * LOG_BYTE;
        (events + self.counted.invocations * invocation) / self.counted.deliveries * 1e6
    }

    /// Returns the counts as dollars for a million deliveries, by service.
    fn dollars(&self) -> BTreeMap<&'static str, f64> {
        let Counted { deliveries, invocations, seconds, sqs, reads, writes, log, .. } = self.counted;
        let million = |dollars: f64| dollars / deliveries * 1e6;
        BTreeMap::from([
            ("API Gateway", million(deliveries * HTTP_API)),
            ("Lambda", million((deliveries + invocations) * INVOCATION + seconds * MEMORY * GB_SECOND)),
            ("SQS", million(sqs * SQS)),
            ("DynamoDB", million(reads * READ_UNIT + writes * WRITE_UNIT)),
            ("logs", million(log * LOG_BYTE)),
        ])
    }
}

async fn played(place: usize) -> Shop {
    let mut world = World::new();
    world.loopback = Loopback::Allowed;
    let simulator = simulators(world.clock.function()).swap_remove(place);
    let site = "http://127.0.0.1:20000";
    world.outside = Outside::Simulated(vec![(site.to_owned(), Arc::clone(&simulator))]);
    connect(&world, &*simulator, site).await;
    let processor = world.processor();
    let mut shop =
        Shop { world, processor, simulator, waiting: Vec::new(), taken: 0, counted: Counted::default(), uncounted: 0 };
    let mut random = StdRng::seed_from_u64(1);
    // The first half of the changes is not counted, and neither is the cost of connecting.
    for change in 0..2 * CHANGES {
        if change == CHANGES {
            shop.simulator.calls();
            shop.counted = Counted::default();
            shop.uncounted = shop.world.tables.stream().len();
        }
        shop.simulator.change(&mut random);
        shop.world.clock.pass_seconds(random.random_range(0..10));
        shop.deliver().await;
        while shop.waiting.len() >= BATCH || (change % 20 == 0 && !shop.waiting.is_empty()) {
            shop.process().await;
        }
    }
    while !shop.waiting.is_empty() {
        shop.process().await;
    }
    shop
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut shops = Vec::new();
    for place in 0..coded().count() {
        shops.push(played(place).await);
    }
    println!("# Costs\n");
    println!(
        "What a million deliveries cost, in dollars, by platform. `make cost` measures it again: each simulated platform plays, and"
    );
    println!(
        "what the functions ask of AWS is counted on in-memory edges, in the units that AWS bills: requests of 64 KB, read units of"
    );
    println!(
        "4 KB, write units of 1 KB. Prices are those of us-east-1 on demand, November 2026, without the free tier.\n"
    );
    let names: Vec<_> = shops.iter().map(|shop| shop.simulator.platform()).collect();
    println!("| | {} |\n|---|{}", names.join(" | "), "---:|".repeat(names.len()));
    let row = |what: &str, cell: &dyn Fn(&Shop) -> f64| {
        let cells: Vec<_> = shops.iter().map(|shop| format!("{:.2}", cell(shop))).collect();
        println!("| {what} | {} |", cells.join(" | "));
    };
    for what in ["API Gateway", "Lambda", "SQS", "DynamoDB", "logs"] {
        row(what, &|shop| shop.dollars().get(what).copied().unwrap_or_default());
    }
    let total = |shop: &Shop| shop.dollars().values().sum::<f64>();
    row("**together**", &total);
    row("with `FrontDoor=FunctionUrls`", &|shop| total(shop) - HTTP_API * 1e6);
    row("more with `ChangeEvents=full`", &Shop::telling);
    println!(
        "\nWith `WebhooksOut`, a million change events to one endpoint that answers within {} ms cost ${:.2} more.",
        ENDPOINT * 1000.0,
        sending() * 1e6
    );
    println!("\nWhat was counted, for each delivery:\n");
    println!("| | {} |\n|---|{}", names.join(" | "), "---:|".repeat(names.len()));
    let each = |shop: &Shop, count: f64| count / shop.counted.deliveries;
    row("messages", &|shop| each(shop, shop.counted.messages));
    row("requests to SQS", &|shop| each(shop, shop.counted.sqs));
    row("read units", &|shop| each(shop, shop.counted.reads));
    row("write units", &|shop| each(shop, shop.counted.writes));
    row("calls of the platform", &|shop| each(shop, shop.counted.calls));
    row("change events", &|shop| each(shop, shop.events().len() as f64));
    println!(
        "\nTimes cannot be measured here. Taken are {:.0} ms for a call of AWS and {:.0} ms for one of a platform, which the processor",
        AWS_CALL * 1e3,
        PLATFORM_CALL * 1e3
    );
    println!(
        "waits for, and the CPU time of `docs/benchmarks.md` at 256 MB. Batches are full ({BATCH} messages) or what a simulated two minutes bring;"
    );
    println!(
        "a quiet store has smaller ones, and costs more for each delivery, though little in all. A delivery of CloudBlue's can stand for"
    );
    println!("many requests, which are listed and asked for one by one.\n");
    println!(
        "What is not in it: the registrar's checks of each connection (five jobs an hour, some $0.01 a month for each), the tables' storage"
    );
    println!(
        "($0.25 a GB and month), point-in-time recovery ($0.20 a GB and month), secrets ($0.40 a month each), the key ($1.00 a month), metrics"
    );
    println!("($0.30 a month for each that there is) and alarms ($0.10 a month each).\n");
    println!(
        "What lowers it: `FrontDoor=FunctionUrls` (see [deploy](deploy.md#function-urls-as-front-door)), `ignores` for topics that nobody reads, and a longer"
    );
    println!("`BatchingWindow`, which fills batches.\n");
    println!(
        "What others ask for a million events, by their published prices of 2026, beside a monthly fee where there is one:\n"
    );
    println!("| | a million events | first paid plan, a month |\n|---|---:|---:|");
    println!("| Hookdeck Event Gateway: receives, filters, delivers | 3.30 to 10.00 | 39 |");
    println!("| Svix: sends | 100.00 | 490 |");
    println!("| Convoy Cloud: receives and sends | in the plan | 99 |");
    println!(
        "\nNone of them keeps the state of a store: what becomes of a delivery is up to its receiver, and comes on top."
    );
}
