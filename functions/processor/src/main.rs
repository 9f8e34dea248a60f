//! The wiring of the processor to AWS.

use std::time::Duration;

use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent, SqsMessage};
use cloud::{
    aws::{Aws, Patience},
    telemetry,
};
use commerce::timestamp::Timestamp;
use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use processor::{Message, config::Config};

/// The part of the function's time, in seconds, that is kept for quarantines, the report and the log.
const RESERVE_SECONDS: i64 = 6;
/// The time for a batch, in seconds, when the runtime states no deadline ahead.
const UNTOLD_SECONDS: i64 = 30;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    telemetry::tame_panics();
    let config = Config::from_env()?;
    let aws = Aws::from_env(Patience::Worker)?;
    let processor = processor::aws::processor(&aws, config)?;
    // Within two seconds; a failure shows with the first batch.
    let _ = tokio::time::timeout(Duration::from_secs(2), processor.warm()).await;
    let processor = &processor;
    run(service_fn(|event: LambdaEvent<SqsEvent>| async move {
        let deadline = deadline(event.context.deadline);
        let messages: Vec<Message> = event.payload.records.into_iter().map(message).collect();
        let report = processor.process(&messages, deadline).await;
        report.lines.iter().for_each(telemetry::emit);
        let mut response = SqsBatchResponse::default();
        for id in report.failures {
            response.add_failure(id);
        }
        Ok::<_, Error>(response)
    }))
    .await
}

/// Returns the time to stop, from the runtime's deadline in milliseconds since 1970. `cargo lambda` sends a constant
/// that is long past; the batch then gets [`UNTOLD_SECONDS`].
fn deadline(said_ms: u64) -> Timestamp {
    let (now, said) = (cloud::now(), Timestamp::from_millis(i64::try_from(said_ms).unwrap_or(i64::MAX)));
    if said < now { now.plus_seconds(UNTOLD_SECONDS) } else { said.plus_seconds(-RESERVE_SECONDS) }
}

fn message(record: SqsMessage) -> Message {
    let attempts = record.attributes.get("ApproximateReceiveCount").and_then(|count| count.parse().ok());
    Message {
        id: record.message_id.unwrap_or_default(),
        receipt_handle: record.receipt_handle.unwrap_or_default(),
        body: record.body.unwrap_or_default(),
        attempts: attempts.unwrap_or(1),
    }
}
