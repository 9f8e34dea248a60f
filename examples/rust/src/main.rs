//! Keeps a copy of the state in SQLite, from the change events on a queue (see ../changes-to-a-queue.yaml).
//!
//! ```text
//! cargo run -p consumer -- QUEUE_URL ENTITIES_TABLE copy.db            # runs until it is stopped
//! cargo run -p consumer -- QUEUE_URL ENTITIES_TABLE copy.db --once     # ends when the queue is empty
//! ```

use std::{collections::HashMap, env::var, error::Error};

use aws_credential_types::Credentials;
use aws_sdk_dynamodb::types::AttributeValue::S;
use rusqlite::{Connection, params};
use serde_json::Value;

const TABLE: &str = "CREATE TABLE IF NOT EXISTS entities (
    source TEXT, subject TEXT, sequence TEXT NOT NULL, deleted INTEGER NOT NULL, entity TEXT, PRIMARY KEY (source, subject))";
/// The rule for readers: what is not later than what is here changes nothing.
const UPSERT: &str = "INSERT INTO entities VALUES (?, ?, ?, ?, ?)
    ON CONFLICT DO UPDATE SET sequence = excluded.sequence, deleted = excluded.deleted, entity = excluded.entity
    WHERE excluded.sequence > entities.sequence";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [queue, table, path, options @ ..] = &arguments[..] else { return Err("QUEUE_URL ENTITIES_TABLE FILE".into()) };
    let once = options.iter().any(|option| option == "--once");
    let (sqs, state) = clients()?;
    let mut copy = Connection::open(path)?;
    copy.execute(TABLE, [])?;
    loop {
        let receive = sqs.receive_message().queue_url(queue).max_number_of_messages(10);
        let messages = receive.wait_time_seconds(if once { 1 } else { 20 }).send().await?.messages.unwrap_or_default();
        if once && messages.is_empty() {
            return Ok(());
        }
        let write = copy.transaction()?;
        for message in &messages {
            let envelope: Value = serde_json::from_str(message.body().unwrap_or_default())?;
            let event = &envelope["detail"];
            let mut row = [&event["sequence"], &event["data"]["deleted"], &event["data"]["entity"]].map(Value::clone);
            if event["data"]["detail"] == "ids" {
                // The stack sends ids only, or the entity was too large for an event: the table has it.
                row = stored(&state, table, event).await?.unwrap_or(row);
            }
            let [sequence, deleted, entity] = row;
            let entity = Some(entity).filter(|entity| !entity.is_null()).map(|entity| entity.to_string());
            let key = [&event["source"], &event["subject"]].map(Value::as_str);
            write.execute(UPSERT, params![key[0], key[1], sequence.as_str(), deleted.as_bool(), entity])?;
        }
        write.commit()?;
        // Only what is committed is taken off the queue.
        for message in messages {
            sqs.delete_message().queue_url(queue).set_receipt_handle(message.receipt_handle).send().await?;
        }
    }
}

/// Reads an entity's clock, whether it is deleted, and its fields.
async fn stored(
    state: &aws_sdk_dynamodb::Client,
    table: &str,
    event: &Value,
) -> Result<Option<[Value; 3]>, Box<dyn Error>> {
    let text = |name: &str| event[name].as_str().unwrap_or_default().trim_start_matches('/').replacen('/', "#", 1);
    let key = [("pk", S(text("source"))), ("sk", S(text("subject")))];
    let key: HashMap<_, _> = key.map(|(name, value)| (name.to_owned(), value)).into();
    let read = state.get_item().table_name(table).set_key(Some(key)).consistent_read(true).send().await?;
    let item: Option<Value> = read.item.map(serde_dynamo::aws_sdk_dynamodb_1::from_item).transpose()?;
    Ok(item.map(|item| ["changed_at", "deleted", "fields"].map(|name| item[name].clone())))
}

/// Makes the clients from the environment, as Lambda and `make env` have it. Elsewhere, use the crate `aws-config`.
fn clients() -> Result<(aws_sdk_sqs::Client, aws_sdk_dynamodb::Client), Box<dyn Error>> {
    let keys = Credentials::new(
        var("AWS_ACCESS_KEY_ID")?,
        var("AWS_SECRET_ACCESS_KEY")?,
        var("AWS_SESSION_TOKEN").ok(),
        None,
        "environment",
    );
    let (region, endpoint) = (var("AWS_REGION")?, var("AWS_ENDPOINT_URL").ok());
    let mut sqs = aws_sdk_sqs::Config::builder()
        .behavior_version(aws_sdk_sqs::config::BehaviorVersion::latest())
        .region(aws_sdk_sqs::config::Region::new(region.clone()))
        .credentials_provider(keys.clone());
    sqs.set_endpoint_url(endpoint.clone());
    let mut state = aws_sdk_dynamodb::Config::builder()
        .behavior_version(aws_sdk_dynamodb::config::BehaviorVersion::latest())
        .region(aws_sdk_dynamodb::config::Region::new(region))
        .credentials_provider(keys);
    state.set_endpoint_url(endpoint);
    Ok((aws_sdk_sqs::Client::from_conf(sqs.build()), aws_sdk_dynamodb::Client::from_conf(state.build())))
}
