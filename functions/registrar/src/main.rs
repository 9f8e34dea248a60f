//! The wiring of the registrar to AWS, and the distinction between its callers: API Gateway, the schedule and its own
//! queue.

use std::{collections::HashMap, sync::Arc};

use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent};
use cloud::{
    aws::{Aws, Patience},
    connections::{DynamoConnections, Kms},
    coordination::DynamoCoordination,
    outbound::Guarded,
    proof_keys::DynamoProofKeys,
    queue::{Sqs, SqsJobs},
    secrets::{AppCredentials, Keys, SecretsManager},
    senders::DynamoSenders,
    telemetry::traced,
};
use commerce::platforms::PLATFORMS;
use lambda_http::{Body, Response};
use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use registrar::{Edges, Parts, Registrar, config::Config, jobs::failed_lines};
use serde_json::{Value, json};

/// The edges at AWS.
struct AtAws;

impl Parts for AtAws {
    type Connections = DynamoConnections;
    type Vault = Kms;
    type Secret = SecretsManager;
    type Outbound = Guarded;
    type Notes = DynamoCoordination;
    type ProofKeys = DynamoProofKeys;
    type Senders = DynamoSenders;
    type Jobs = SqsJobs;
    type Inbox = Sqs;
    type Endpoints = DynamoConnections;
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    cloud::telemetry::tame_panics();
    let config = Config::from_env()?;
    let aws = Aws::from_env(Patience::Worker)?;
    let secret = |id: &str| SecretsManager::new(aws.secretsmanager(), id.to_owned());
    let edges = Edges::<AtAws> {
        endpoints: DynamoConnections::new(aws.dynamodb(), config.connections.clone()),
        connections: DynamoConnections::new(aws.dynamodb(), config.connections),
        vault: Kms::new(aws.kms(), config.credentials_key),
        signing_keys: Keys::new(secret(&config.signing_keys)),
        admin_keys: Keys::new(secret(&config.admin_key)),
        apps: AppCredentials::new(secret(&config.app_credentials)),
        outbound: Guarded::new(config.loopback)?,
        notes: DynamoCoordination::new(aws.dynamodb(), config.coordination),
        proof_keys: DynamoProofKeys::new(aws.dynamodb(), config.proof_keys),
        senders: DynamoSenders::new(aws.dynamodb(), config.senders),
        jobs: SqsJobs::new(aws.sqs(), config.jobs),
        inbox: Sqs::new(aws.sqs(), config.inbox, String::new()),
    };
    let registrar = Registrar::new(PLATFORMS, edges, &config.public_base_url, config.loopback, Arc::new(cloud::now));
    let registrar = registrar.telling_of_changes(config.tells_of_changes);
    let registrar = &registrar.sending_webhooks(config.sends_webhooks);
    run(service_fn(|event: LambdaEvent<Value>| async move {
        traced([event.context.request_id], called(registrar, event.payload)).await
    }))
    .await
}

/// Handles an event, by its form.
async fn called(registrar: &Registrar<AtAws>, event: Value) -> Result<Value, Error> {
    if event.get("Records").is_some() {
        let event: SqsEvent = serde_json::from_value(event)?;
        let mut response = SqsBatchResponse::default();
        for record in event.records {
            let (text, id) = (record.body.unwrap_or_default(), record.message_id.unwrap_or_default());
            let attempts = record.attributes.get("ApproximateReceiveCount").and_then(|count| count.parse().ok());
            let run = async {
                let ran = registrar.run(&text).await;
                ran.inspect_err(|problem| {
                    let lines = failed_lines(&text, problem, attempts.unwrap_or(1), cloud::now());
                    lines.iter().for_each(cloud::telemetry::emit);
                })
            };
            if traced([id.clone()], run).await.is_err() {
                response.add_failure(id);
            }
        }
        return Ok(serde_json::to_value(response)?);
    }
    if event.get("schedule").is_some_and(|schedule| schedule == "verify") {
        let sample = event.get("sample").and_then(Value::as_u64).and_then(|sample| u32::try_from(sample).ok());
        registrar.verify_all(sample.ok_or("the schedule's input has no sample")?).await?;
        return Ok(Value::Null);
    }
    if event.get("schedule").is_some() {
        registrar.sweep().await?;
        return Ok(Value::Null);
    }
    let request = lambda_http::request::from_str(&event.to_string())?;
    Ok(answered(registrar.answer(request).await))
}

/// Returns a response in the form that API Gateway takes. All our bodies are text.
fn answered(response: Response<Body>) -> Value {
    let (parts, body) = response.into_parts();
    let headers: HashMap<&str, &str> =
        parts.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap_or_default())).collect();
    let body = String::from_utf8_lossy(body.as_ref());
    json!({ "statusCode": parts.status.as_u16(), "headers": headers, "body": body, "isBase64Encoded": false })
}
