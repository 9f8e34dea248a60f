//! Wires the registrar to AWS.

use std::sync::Arc;

use cloud::{
    aws::{Aws, Patience},
    connections::{DynamoConnections, Kms},
    coordination::DynamoCoordination,
    outbound::Guarded,
    proof_keys::DynamoProofKeys,
    secrets::{Keys, SecretsManager},
};
use commerce::platforms::PLATFORMS;
use lambda_http::{Error, run, service_fn};
use registrar::{Edges, Registrar, config::Config};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    cloud::telemetry::tame_panics();
    let config = Config::from_env()?;
    let aws = Aws::from_env(Patience::Sender)?;
    let edges = Edges {
        connections: DynamoConnections::new(aws.dynamodb(), config.connections),
        vault: Kms::new(aws.kms(), config.credentials_key),
        signing_keys: Keys::new(SecretsManager::new(aws.secretsmanager(), config.signing_keys)),
        admin_keys: Keys::new(SecretsManager::new(aws.secretsmanager(), config.admin_key)),
        outbound: Guarded::new(config.allow_loopback)?,
        notes: DynamoCoordination::new(aws.dynamodb(), config.coordination),
        proof_keys: DynamoProofKeys::new(aws.dynamodb(), config.proof_keys),
    };
    let registrar =
        Registrar::new(PLATFORMS, edges, &config.public_base_url, config.allow_loopback, Arc::new(cloud::now));
    run(service_fn(|request| async { Ok::<_, Error>(registrar.answer(request).await) })).await
}
