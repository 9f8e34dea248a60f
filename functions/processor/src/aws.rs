//! The edges of the processor at AWS: the function's, and those of the command that verifies connections.

use std::sync::Arc;

use cloud::{
    EdgeError, aws::Aws, bus::EventBridge, connections::Kms, coordination::DynamoCoordination, outbound::Guarded,
    queue::Sqs, queue::SqsJobs, state::DynamoEntities,
};
use commerce::platforms::PLATFORMS;

use crate::{Changes, Edges, Parts, Processor, config::Config};

/// The edges of AWS.
pub struct AtAws;

impl Parts for AtAws {
    type Entities = DynamoEntities;
    type Queues = Sqs;
    type Vault = Kms;
    type Outbound = Guarded;
    type Notes = DynamoCoordination;
    type Jobs = SqsJobs;
    type Bus = EventBridge;
}

/// Makes the processor on the edges of AWS.
///
/// # Errors
/// [`EdgeError`] when the client for calls to platforms cannot be made.
pub fn processor(aws: &Aws, config: Config) -> Result<Processor<AtAws>, EdgeError> {
    let edges = Edges::<AtAws> {
        entities: DynamoEntities::new(aws.dynamodb(), config.entities, config.connections),
        queues: Sqs::new(aws.sqs(), config.inbox, config.dead_letters),
        vault: Kms::new(aws.kms(), config.credentials_key),
        outbound: Guarded::new(config.loopback)?,
        notes: DynamoCoordination::new(aws.dynamodb(), config.coordination),
        jobs: SqsJobs::new(aws.sqs(), config.jobs),
        changes: config.changes.map(|(bus, detail)| Changes { bus: EventBridge::new(aws.eventbridge(), bus), detail }),
    };
    Ok(Processor::new(PLATFORMS, edges, config.loopback, Arc::new(cloud::now)))
}

impl Processor<AtAws> {
    /// Opens the connection to the table while Lambda initialises, which is not throttled.
    pub async fn warm(&self) {
        self.edges.entities.warm().await;
    }
}
