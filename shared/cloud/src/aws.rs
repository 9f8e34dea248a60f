//! Owns how AWS is reached: region, endpoint and credentials from the environment, as Lambda sets them, without the chain of
//! providers that a Lambda never uses; one HTTP client for all services; short timeouts, for a webhook sender is waiting.

use std::{env, time::Duration};

use aws_credential_types::Credentials;
use aws_sdk_sqs::config::SharedHttpClient;
use aws_smithy_http_client::tls::{TlsContext, TrustStore};
use aws_smithy_types::{retry::RetryConfig, timeout::TimeoutConfig};
use base64::{Engine, engine::general_purpose::STANDARD};

use crate::EdgeError;

/// How long a call may take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Patience {
    /// A webhook sender is waiting: a second an attempt, three in all.
    Sender,
    /// Nobody is: five seconds an attempt, fifteen in all, for batches can be large.
    Worker,
}

/// What every client is made of.
#[derive(Clone, Debug)]
pub struct Aws {
    patience: Patience,
    region: String,
    endpoint: Option<String>,
    credentials: Credentials,
    http: SharedHttpClient,
}

/// Reads an environment variable that must be there.
///
/// # Errors
/// Names the variable.
pub fn variable(name: &'static str) -> Result<String, EdgeError> {
    env::var(name)
        .ok()
        .filter(|value| !value.is_empty())
        .ok_or_else(|| EdgeError::new(name, "is not set in the environment"))
}

/// Reads an environment variable that is on only when it says `true`.
pub fn flag(name: &str) -> bool {
    env::var(name).is_ok_and(|value| value == "true")
}

macro_rules! client {
    ($(#[$doc:meta])* $name:ident, $sdk:ident) => {
        $(#[$doc])*
        pub fn $name(&self) -> $sdk::Client {
            let mut config = $sdk::Config::builder()
                .behavior_version($sdk::config::BehaviorVersion::v2026_01_12())
                .region($sdk::config::Region::new(self.region.clone()))
                .credentials_provider(self.credentials.clone())
                .http_client(self.http.clone())
                .retry_config(retries())
                .timeout_config(timeouts(self.patience));
            config.set_endpoint_url(self.endpoint.clone());
            $sdk::Client::from_conf(config.build())
        }
    };
}

impl Aws {
    /// Reads `AWS_REGION`, `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN` and, for a local AWS,
    /// `AWS_ENDPOINT_URL`.
    ///
    /// # Errors
    /// Names the variable that is missing.
    pub fn from_env(patience: Patience) -> Result<Self, EdgeError> {
        let credentials = Credentials::new(
            variable("AWS_ACCESS_KEY_ID")?,
            variable("AWS_SECRET_ACCESS_KEY")?,
            env::var("AWS_SESSION_TOKEN").ok().filter(|token| !token.is_empty()),
            None,
            "environment",
        );
        let http = aws_smithy_http_client::Builder::new()
            .tls_provider(aws_smithy_http_client::tls::Provider::Rustls(
                aws_smithy_http_client::tls::rustls_provider::CryptoMode::AwsLc,
            ))
            .tls_context(embedded_roots()?)
            .build_https();
        let endpoint = env::var("AWS_ENDPOINT_URL").ok().filter(|url| !url.is_empty());
        Ok(Self { patience, region: variable("AWS_REGION")?, endpoint, credentials, http })
    }

    client!(
        /// A client of SQS.
        sqs,
        aws_sdk_sqs
    );
    client!(
        /// A client of DynamoDB.
        dynamodb,
        aws_sdk_dynamodb
    );
    client!(
        /// A client of KMS.
        kms,
        aws_sdk_kms
    );
    client!(
        /// A client of Secrets Manager.
        secretsmanager,
        aws_sdk_secretsmanager
    );
}

/// The roots that are compiled in: reading the machine's own takes a cold start some milliseconds.
fn embedded_roots() -> Result<TlsContext, EdgeError> {
    let mut pem = String::new();
    for root in webpki_root_certs::TLS_SERVER_ROOT_CERTS {
        pem.push_str("-----BEGIN CERTIFICATE-----\n");
        STANDARD.encode_string(root, &mut pem);
        pem.push_str("\n-----END CERTIFICATE-----\n");
    }
    let roots = TrustStore::empty().with_pem_certificate(pem);
    TlsContext::builder()
        .with_trust_store(roots)
        .build()
        .map_err(|error| EdgeError::new("setting up TLS", error.to_string()))
}

/// Three attempts with a back-off that starts at 25 ms. The SDK's own second would be the sender's time-out.
fn retries() -> RetryConfig {
    RetryConfig::standard().with_max_attempts(3).with_initial_backoff(Duration::from_millis(25))
}

fn timeouts(patience: Patience) -> TimeoutConfig {
    let (attempt, operation) = match patience {
        Patience::Sender => (1, 3),
        Patience::Worker => (5, 15),
    };
    TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(1))
        .operation_attempt_timeout(Duration::from_secs(attempt))
        .operation_timeout(Duration::from_secs(operation))
        .build()
}

/// What an SDK error is worth in a log: its code, or what the transport said. Never the request.
pub(crate) fn cause<E, R>(error: &aws_sdk_sqs::error::SdkError<E, R>) -> String
where
    E: aws_sdk_sqs::error::ProvideErrorMetadata,
{
    match error.as_service_error() {
        Some(service) => service.code().unwrap_or("unknown service error").to_owned(),
        None => match error {
            aws_sdk_sqs::error::SdkError::TimeoutError(_) => "timed out".to_owned(),
            aws_sdk_sqs::error::SdkError::DispatchFailure(_) => "could not be reached".to_owned(),
            _ => "the answer could not be read".to_owned(),
        },
    }
}
