//! The wiring of the receiver to AWS.

use std::{sync::Arc, time::Duration};

use cloud::{
    aws::{Aws, Patience},
    key_sets::{KeySets, LazyGuarded},
    proof_keys::{CachedProofKeys, DynamoProofKeys},
    queue::Sqs,
    secrets::{AppCredentials, Keys, SecretsManager},
    senders::{CachedSenders, DynamoSenders},
};
use commerce::platforms::INBOUND;
use lambda_http::{Error, run, service_fn};
use receiver::{Edges, Receiver, config::Config};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    cloud::telemetry::tame_panics();
    let config = Config::from_env()?;
    let aws = Aws::from_env(Patience::Sender)?;
    let queue = Sqs::new(aws.sqs(), config.inbox, String::new());
    let edges = Edges {
        queue: queue.clone(),
        signing_keys: Keys::new(SecretsManager::new(aws.secretsmanager(), config.signing_keys)),
        apps: AppCredentials::new(SecretsManager::new(aws.secretsmanager(), config.app_credentials)),
        proof_keys: CachedProofKeys::new(DynamoProofKeys::new(aws.dynamodb(), config.proof_keys)),
        senders: CachedSenders::new(DynamoSenders::new(aws.dynamodb(), config.senders)),
        key_sets: KeySets::new(LazyGuarded::new(config.loopback)),
    };
    let receiver = Receiver::new(INBOUND, edges, Arc::new(cloud::now));
    // Lambda does not throttle initialisation, so what the first delivery needs is made ready here, within two seconds.
    let _ = tokio::time::timeout(Duration::from_secs(2), async { tokio::join!(queue.warm(), receiver.warm()) }).await;
    run(service_fn(|request| async { Ok::<_, Error>(receiver.receive(request).await) })).await
}
