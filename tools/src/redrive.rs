//! The command that brings dead letters back: it receives them, sends them to their queue without the reason, and
//! deletes them. SQS's own move tasks do not know the queue of messages that were sent to a dead-letter queue by hand,
//! as the processor's are.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_sqs::{
    Client,
    types::{Message, MessageSystemAttributeName::SentTimestamp},
};
use cloud::aws::{Aws, Patience, variable};
use commerce::{
    endpoint::Outgoing,
    envelope::{Envelope, Sealed},
    job::Job,
};

/// The dead letters to bring back.
#[derive(clap::Args)]
pub struct Options {
    /// The queue that they belong on.
    #[arg(long, value_enum, default_value_t)]
    queue: Queue,
    /// The reason of those to bring back, for example malformed; all without. A failed job has its kind as its reason,
    /// for example check, and a delivery its endpoint.
    #[arg(long)]
    reason: Option<String>,
    /// Brings them back. Without it, they are only counted.
    #[arg(long)]
    run: bool,
}

/// A queue that dead letters belong on.
#[derive(Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Queue {
    /// The processor's queue.
    #[default]
    Inbox,
    /// The registrar's own queue.
    Jobs,
    /// The queue of changes that become deliveries to endpoints.
    Outgoing,
    /// The queue of deliveries to endpoints.
    Deliveries,
}

impl Queue {
    /// Returns the variables with the URLs of the queue and of its dead letters.
    const fn variables(self) -> (&'static str, &'static str) {
        match self {
            Self::Inbox => ("INBOX_URL", "DLQ_URL"),
            Self::Jobs => ("JOBS_URL", "FAILED_JOBS_URL"),
            Self::Outgoing => ("OUTGOING_URL", "UNSENT_URL"),
            Self::Deliveries => ("DELIVERIES_URL", "UNDELIVERED_URL"),
        }
    }
}

/// The reason of letters that SQS itself put aside after 20 receives, because the function crashed or timed out each
/// time.
const UNNAMED: &str = "received-too-often";
/// The time for which a letter is hidden from others while this runs, in seconds.
const VISIBILITY: i32 = 600;
/// The time for which one call waits for letters, in seconds, within the client's patience. Without waiting, SQS asks
/// only some of its servers.
const WAIT: i32 = 3;
/// The number of empty answers in a row after which the queue counts as empty.
const EMPTY_ANSWERS: u32 = 2;

type Failure = Box<dyn std::error::Error>;

/// Reads the dead-letter queue once.
pub async fn run(options: &Options) -> Result<(), Failure> {
    let client = Aws::from_env(Patience::Worker)?.sqs();
    let (queue, dead) = options.queue.variables();
    let (queue, dead) = (variable(queue)?, variable(dead)?);
    let started_ms = cloud::now().micros() / 1000;
    let mut counts: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    let (mut seen, mut kept, mut empty) = (BTreeSet::new(), Vec::new(), 0);
    while empty < EMPTY_ANSWERS {
        let batch = receive(&client, &dead).await?;
        let before = seen.len();
        for letter in batch {
            let handle = letter.receipt_handle.clone().unwrap_or_default();
            // A letter put aside after the start may be one that came back already, so it is left for the next time.
            let new = sent_ms(&letter).is_some_and(|sent| sent <= started_ms);
            if !new || !seen.insert(letter.message_id.clone().unwrap_or_default()) {
                kept.push(handle);
                continue;
            }
            let reason = reason(&letter, options.queue);
            let wanted = options.reason.as_ref().is_none_or(|only| *only == reason);
            let count = counts.entry(reason).or_default();
            count.0 += 1;
            if wanted && options.run {
                send_back(&client, &queue, &letter, options.queue).await?;
                client.delete_message().queue_url(&dead).receipt_handle(handle).send().await?;
                count.1 += 1;
            } else {
                kept.push(handle);
            }
        }
        empty = if seen.len() == before { empty + 1 } else { 0 };
    }
    // Letters that stay are shown to others at once; with an expired handle, they show by themselves.
    for handle in kept {
        let request = client.change_message_visibility().queue_url(&dead).receipt_handle(handle);
        let _ = request.visibility_timeout(0).send().await;
    }
    print(&counts, options);
    Ok(())
}

async fn receive(client: &Client, dead: &str) -> Result<Vec<Message>, Failure> {
    let request = client.receive_message().queue_url(dead).max_number_of_messages(10).wait_time_seconds(WAIT);
    let request = request.visibility_timeout(VISIBILITY).message_attribute_names("All");
    Ok(request.message_system_attribute_names(SentTimestamp).send().await?.messages.unwrap_or_default())
}

fn sent_ms(letter: &Message) -> Option<i64> {
    letter.attributes.as_ref()?.get(&SentTimestamp)?.parse().ok()
}

fn attribute<'a>(letter: &'a Message, name: &str) -> Option<&'a str> {
    letter.message_attributes.as_ref()?.get(name)?.string_value.as_deref()
}

/// Returns the reason why a letter was put aside, as far as it is known; for a job, its kind.
fn reason(letter: &Message, queue: Queue) -> String {
    let named = match queue {
        Queue::Inbox => attribute(letter, "reason").map(str::to_owned),
        Queue::Jobs => letter
            .body
            .as_deref()
            .and_then(Job::parse)
            .and_then(|job| Some(serde_json::to_value(job).ok()?.get("job")?.as_str()?.to_owned())),
        Queue::Outgoing => None,
        Queue::Deliveries => delivery(letter).map(|delivery| delivery.endpoint),
    };
    named.unwrap_or_else(|| UNNAMED.to_owned())
}

fn delivery(letter: &Message) -> Option<Outgoing> {
    serde_json::from_str(letter.body.as_deref()?).ok()
}

/// Sends a letter back to its queue. That comes before the delete: breaking off in between leaves two letters, which
/// merge into one. A letter that was deferred too often starts to count anew.
async fn send_back(client: &Client, url: &str, letter: &Message, queue: Queue) -> Result<(), Failure> {
    let body = letter.body.as_deref().unwrap_or_default();
    if matches!(queue, Queue::Jobs | Queue::Outgoing) {
        client.send_message().queue_url(url).message_body(body).send().await?;
        return Ok(());
    }
    if queue == Queue::Deliveries {
        let request = client.send_message().queue_url(url).message_body(body);
        let id = letter.message_id.clone().unwrap_or_default();
        let (group, id) = delivery(letter).map_or(("unknown".into(), id.clone()), |delivery| (delivery.group(), id));
        request.message_group_id(group).message_deduplication_id(id).send().await?;
        return Ok(());
    }
    let (body, group) = match Envelope::parse(body) {
        Ok(envelope) => {
            let sealed = Sealed::redriven(&envelope);
            (sealed.text().to_owned(), sealed.group().to_owned())
        }
        Err(_) => (body.to_owned(), "unknown".to_owned()),
    };
    client.send_message().queue_url(url).message_body(body).message_group_id(group).send().await?;
    Ok(())
}

fn print(counts: &BTreeMap<String, (u64, u64)>, options: &Options) {
    if counts.is_empty() {
        println!("The dead-letter queue is empty.");
        return;
    }
    println!("{:<24} {:>8} {:>14}", "reason", "letters", "brought back");
    for (reason, (seen, back)) in counts {
        println!("{reason:<24} {seen:>8} {back:>14}");
    }
    if !options.run {
        println!("\nNothing was moved. Add RUN=1 to bring them back, REASON=<reason> for some of them only.");
    }
}
