//! Brings dead letters back: receive, send to the inbox without the reason, delete. SQS's own move tasks do not know where
//! messages belong that were sent to a dead-letter queue by hand, as ours are.

use std::collections::BTreeMap;

use aws_sdk_sqs::{Client, types::Message};
use cloud::aws::{Aws, variable};
use commerce::envelope::Envelope;

/// What to bring back.
#[derive(clap::Args)]
pub struct Options {
    /// Only those with this reason, for example malformed; all without.
    #[arg(long)]
    reason: Option<String>,
    /// Really bring them back. Without it, they are only counted.
    #[arg(long)]
    run: bool,
}

/// Reason of what SQS itself put aside after 20 receives: the function crashed or timed out each time.
const UNNAMED: &str = "received-too-often";
/// How long a letter is kept from others while it is moved, in seconds.
const VISIBILITY: i32 = 120;

/// Goes through the dead-letter queue once.
pub async fn run(options: &Options) -> Result<(), Box<dyn std::error::Error>> {
    let client = Aws::from_env()?.sqs();
    let (inbox, dead) = (variable("INBOX_URL")?, variable("DLQ_URL")?);
    let mut counts: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    let mut kept = Vec::new();
    // Every letter that was seen stays invisible until the end, so that none is seen twice.
    loop {
        let batch = receive(&client, &dead).await?;
        if batch.is_empty() {
            break;
        }
        for letter in batch {
            let reason = attribute(&letter, "reason").unwrap_or(UNNAMED).to_owned();
            let wanted = options.reason.as_ref().is_none_or(|only| *only == reason);
            let count = counts.entry(reason).or_default();
            count.0 += 1;
            if wanted && options.run {
                send_back(&client, &inbox, &dead, &letter).await?;
                count.1 += 1;
            } else {
                kept.extend(letter.receipt_handle);
            }
        }
    }
    for handle in kept {
        let request = client.change_message_visibility().queue_url(&dead).receipt_handle(handle);
        request.visibility_timeout(0).send().await?;
    }
    print(&counts, options);
    Ok(())
}

async fn receive(client: &Client, dead: &str) -> Result<Vec<Message>, Box<dyn std::error::Error>> {
    let request = client.receive_message().queue_url(dead).max_number_of_messages(10);
    let answer = request.visibility_timeout(VISIBILITY).message_attribute_names("All").send().await?;
    Ok(answer.messages.unwrap_or_default())
}

fn attribute<'a>(letter: &'a Message, name: &str) -> Option<&'a str> {
    letter.message_attributes.as_ref()?.get(name)?.string_value.as_deref()
}

/// Sent before it is deleted: what breaks off in between leaves two, which merge into one.
async fn send_back(
    client: &Client,
    inbox: &str,
    dead: &str,
    letter: &Message,
) -> Result<(), Box<dyn std::error::Error>> {
    let body = letter.body.as_deref().unwrap_or_default();
    let group = Envelope::parse(body).map_or_else(|_| "unknown".to_owned(), |envelope| envelope.key.to_string());
    client.send_message().queue_url(inbox).message_body(body).message_group_id(group).send().await?;
    let handle = letter.receipt_handle.as_deref().unwrap_or_default();
    client.delete_message().queue_url(dead).receipt_handle(handle).send().await?;
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
