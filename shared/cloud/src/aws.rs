//! The access to AWS: region, endpoint and credentials from the environment, as Lambda sets them, without the chain of
//! providers that a Lambda never uses; one HTTP client for all services; short timeouts, because a webhook sender is
//! waiting.

use std::{
    collections::hash_map::RandomState,
    env,
    fmt::Display,
    fs,
    hash::{BuildHasher, Hasher},
    path::Path,
    time::Duration,
};

use aws_credential_types::Credentials;
use aws_smithy_http_client::tls::{TlsContext, TrustStore};
use aws_smithy_runtime_api::client::{
    connector_metadata::ConnectorMetadata,
    http::{HttpClient, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector},
    runtime_components::RuntimeComponents,
};
use aws_smithy_types::{retry::RetryConfig, timeout::TimeoutConfig};
use base64::{Engine, engine::general_purpose::STANDARD};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};

use crate::EdgeError;

/// The variable that names a file of root certificates, as the AWS CLI and other SDKs read it.
const CA_BUNDLE: &str = "AWS_CA_BUNDLE";

/// The time that a call may take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Patience {
    /// A webhook sender is waiting: one second and one attempt. The caller tries again for as long as the sender waits
    /// ([`within`]). The SDK would retry from an allowance that all calls share, and that runs dry when faults last.
    Sender,
    /// Nobody is waiting: five seconds for each of three attempts, fifteen in all, because batches can be large.
    Worker,
}

/// The parts that all clients are made of.
#[derive(Clone, Debug)]
pub struct Aws {
    patience: Patience,
    region: String,
    endpoint: Option<String>,
    credentials: Credentials,
    http: SharedHttpClient,
}

/// Reads an environment variable that must be set.
///
/// # Errors
/// An error that names the variable.
pub fn variable(name: &'static str) -> Result<String, EdgeError> {
    env::var(name)
        .ok()
        .filter(|value| !value.is_empty())
        .ok_or_else(|| EdgeError::new(name, "is not set in the environment"))
}

/// Returns whether an environment variable says `true`.
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
                .retry_config(retries(self.patience))
                .timeout_config(timeouts(self.patience));
            config.set_endpoint_url(self.endpoint.clone());
            $sdk::Client::from_conf(config.build())
        }
    };
}

impl Aws {
    /// Reads `AWS_REGION`, `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN` and, for a local AWS,
    /// `AWS_ENDPOINT_URL` and `AWS_CA_BUNDLE`, a file of root certificates to trust in place of the public ones.
    ///
    /// # Errors
    /// An error that names the missing variable, the file that cannot be read, or that TLS cannot be set up.
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
            .tls_context(roots()?)
            .build_https();
        let http = SharedHttpClient::new(SetUpWhenNeeded(http));
        let endpoint = env::var("AWS_ENDPOINT_URL").ok().filter(|url| !url.is_empty());
        Ok(Self { patience, region: variable("AWS_REGION")?, endpoint, credentials, http })
    }

    client!(
        /// Makes a client of SQS.
        sqs,
        aws_sdk_sqs
    );
    client!(
        /// Makes a client of DynamoDB.
        dynamodb,
        aws_sdk_dynamodb
    );
    client!(
        /// Makes a client of EventBridge.
        eventbridge,
        aws_sdk_eventbridge
    );
    client!(
        /// Makes a client of KMS.
        kms,
        aws_sdk_kms
    );
    client!(
        /// Makes a client of Secrets Manager.
        secretsmanager,
        aws_sdk_secretsmanager
    );
}

/// An HTTP client that is set up for its first call. Each service's client would otherwise set up TLS at the start of a
/// function, with all root certificates, and throw it away.
#[derive(Debug)]
struct SetUpWhenNeeded(SharedHttpClient);

impl HttpClient for SetUpWhenNeeded {
    fn http_connector(&self, settings: &HttpConnectorSettings, components: &RuntimeComponents) -> SharedHttpConnector {
        self.0.http_connector(settings, components)
    }

    fn connector_metadata(&self) -> Option<ConnectorMetadata> {
        self.0.connector_metadata()
    }
}

/// Returns the root certificates to trust.
fn roots() -> Result<TlsContext, EdgeError> {
    let bundle = env::var_os(CA_BUNDLE).filter(|path| !path.is_empty());
    let pem = match &bundle {
        Some(path) => given_roots(Path::new(path))?,
        None => embedded_roots(),
    };
    TlsContext::builder()
        .with_trust_store(TrustStore::empty().with_pem_certificate(pem))
        .build()
        .map_err(|error| EdgeError::new("setting up TLS", error.to_string()))
}

/// Returns the root certificates of a file. The SDK would panic at one that it cannot read.
fn given_roots(path: &Path) -> Result<Vec<u8>, EdgeError> {
    let wrong = |error: &dyn Display| EdgeError::new(CA_BUNDLE, format!("{}: {error}", path.display()));
    let pem = fs::read(path).map_err(|error| wrong(&error))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| wrong(&error))?;
        roots.add(certificate).map_err(|error| wrong(&error))?;
    }
    if roots.is_empty() { Err(wrong(&"there is no certificate in it")) } else { Ok(pem) }
}

/// Returns the root certificates that are compiled in, because reading the machine's own takes a cold start some
/// milliseconds.
fn embedded_roots() -> Vec<u8> {
    let mut pem = String::new();
    for root in webpki_root_certs::TLS_SERVER_ROOT_CERTS {
        pem.push_str("-----BEGIN CERTIFICATE-----\n");
        STANDARD.encode_string(root, &mut pem);
        pem.push_str("\n-----END CERTIFICATE-----\n");
    }
    pem.into_bytes()
}

/// Returns the SDK's retries: none while a sender waits; otherwise three attempts, with a back-off that starts at 25 ms
/// instead of the SDK's second.
fn retries(patience: Patience) -> RetryConfig {
    match patience {
        Patience::Sender => RetryConfig::disabled(),
        Patience::Worker => {
            RetryConfig::standard().with_max_attempts(3).with_initial_backoff(Duration::from_millis(25))
        }
    }
}

fn timeouts(patience: Patience) -> TimeoutConfig {
    let (attempt, operation) = match patience {
        Patience::Sender => (1, 1),
        Patience::Worker => (5, 15),
    };
    TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(1))
        .operation_attempt_timeout(Duration::from_secs(attempt))
        .operation_timeout(Duration::from_secs(operation))
        .build()
}

/// The first pause between two attempts, in milliseconds.
const FIRST_PAUSE: u64 = 10;
/// The longest pause between two attempts, in milliseconds.
const LONGEST_PAUSE: u64 = 320;

/// Tries a call again and again until it succeeds, fails for good, or `limit` has passed; at least once. A fault of one
/// call costs another none of its time.
///
/// # Errors
/// The error of the last attempt.
pub async fn within<T, F: Future<Output = Result<T, EdgeError>>>(
    limit: Duration,
    mut attempt: impl FnMut() -> F,
) -> Result<T, EdgeError> {
    let until = tokio::time::Instant::now() + limit;
    let mut pause = FIRST_PAUSE;
    let mut last = None;
    loop {
        match tokio::time::timeout_at(until, attempt()).await {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(error)) if error.lasting => return Err(error),
            Ok(Err(error)) => last = Some(error),
            Err(_) => return Err(last.unwrap_or_else(|| EdgeError::new("waiting for AWS", "timed out"))),
        }
        // Half of the pause is random, so that many callers do not come at once.
        let chance = RandomState::new().build_hasher().finish() % (pause / 2).max(1);
        let next = tokio::time::Instant::now() + Duration::from_millis(pause / 2 + chance);
        if next >= until {
            return Err(last.unwrap_or_else(|| EdgeError::new("waiting for AWS", "timed out")));
        }
        tokio::time::sleep_until(next).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Makes the error of a failed call to AWS. A request that AWS refuses as it stands is not tried again; one that it
/// refuses because there are too many is.
pub(crate) fn fault<E>(
    operation: &'static str,
    error: &aws_sdk_sqs::error::SdkError<E, aws_sdk_sqs::config::http::HttpResponse>,
) -> EdgeError
where
    E: aws_sdk_sqs::error::ProvideErrorMetadata,
{
    let busy = |code: &str| {
        code.contains("Throttl") || code.contains("TooMany") || code.contains("Exceeded") || code.contains("Timeout")
    };
    let refused = error.raw_response().is_some_and(|response| (400..500).contains(&response.status().as_u16()));
    let lasting = refused && !error.as_service_error().and_then(|service| service.code()).is_some_and(busy);
    EdgeError { lasting, ..EdgeError::new(operation, cause(error)) }
}

/// Returns a part that every answer has. AWS always sends it, even if it is empty. An answer without it is incomplete,
/// and what is not in it must not be taken for absent.
pub(crate) fn told<T>(operation: &'static str, what: Option<T>) -> Result<T, EdgeError> {
    what.ok_or_else(|| EdgeError::new(operation, "the answer is not whole"))
}

/// Returns what an SDK error is worth in a log: its code, or the failure of the transport, never the request.
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_roots_that_are_compiled_in_can_be_read() {
        let file = env::temp_dir().join(format!("commerce-hooks-roots-{}.pem", std::process::id()));
        let given = |text: &[u8]| {
            fs::write(&file, text).unwrap();
            given_roots(&file).map_err(|error| error.to_string())
        };
        assert_eq!(given(&embedded_roots()), Ok(embedded_roots()));
        let none = given(b"no certificate").unwrap_err();
        assert!(none.contains(CA_BUNDLE) && none.contains("there is no certificate in it"), "{none}");
        let wrong = given(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap_err();
        assert!(wrong.contains(&file.display().to_string()), "{wrong}");
        fs::remove_file(&file).unwrap();
        assert!(given_roots(&file).is_err(), "a file that is not there");
    }
}
