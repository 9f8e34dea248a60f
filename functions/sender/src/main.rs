//! The wiring of the sender to AWS. It has two queues: events of the bus, and deliveries.

use std::sync::Arc;

use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent, SqsMessage};
use cloud::{
    aws::{Aws, Patience},
    connections::{DynamoConnections, Kms},
    coordination::DynamoCoordination,
    endpoints::SqsDeliveries,
    outbound::Guarded,
    telemetry,
};
use commerce::timestamp::Timestamp;
use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use sender::{Edges, Message, Parts, Sender, config::Config};

/// The end of the name of a queue that keeps an order, as that of deliveries does.
const FIFO: &str = ".fifo";

/// The edges of AWS.
struct AtAws;

impl Parts for AtAws {
    type Endpoints = DynamoConnections;
    type Vault = Kms;
    type Notes = DynamoCoordination;
    type Outbound = Guarded;
    type Deliveries = SqsDeliveries;
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    telemetry::tame_panics();
    let config = Config::from_env()?;
    let aws = Aws::from_env(Patience::Worker)?;
    let edges = Edges::<AtAws> {
        endpoints: DynamoConnections::new(aws.dynamodb(), config.connections),
        vault: Kms::new(aws.kms(), config.credentials_key),
        notes: DynamoCoordination::new(aws.dynamodb(), config.coordination),
        outbound: Guarded::new(config.loopback)?,
        deliveries: SqsDeliveries::new(aws.sqs(), config.deliveries, config.undelivered),
    };
    let sender = &Sender::new(edges, Arc::new(cloud::now));
    run(service_fn(|event: LambdaEvent<SqsEvent>| async move {
        let records = event.payload.records;
        let is_delivery = records.first().and_then(|record| record.event_source_arn.as_deref());
        let is_delivery = is_delivery.is_some_and(|queue| queue.ends_with(FIFO));
        let messages: Vec<Message> = records.into_iter().map(message).collect();
        let failures = if is_delivery { sender.deliver(&messages).await } else { sender.fan_out(&messages).await };
        let mut response = SqsBatchResponse::default();
        failures.into_iter().for_each(|id| response.add_failure(id));
        Ok::<_, Error>(response)
    }))
    .await
}

fn message(record: SqsMessage) -> Message {
    let number = |name: &str| record.attributes.get(name).and_then(|value| value.parse::<i64>().ok());
    let attempts = number("ApproximateReceiveCount").and_then(|count| u32::try_from(count).ok());
    let sent = number("SentTimestamp").map_or_else(cloud::now, Timestamp::from_millis);
    Message {
        attempts: attempts.unwrap_or(1),
        sent,
        id: record.message_id.unwrap_or_default(),
        receipt_handle: record.receipt_handle.unwrap_or_default(),
        body: record.body.unwrap_or_default(),
    }
}
