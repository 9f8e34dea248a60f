//! Owns keys at run time: fetched from Secrets Manager, cached, refreshed by age and after a failed proof.

use std::{
    collections::hash_map::RandomState,
    hash::{BuildHasher, Hasher},
    sync::{Arc, Mutex, PoisonError},
};

use aws_sdk_secretsmanager::Client;
use commerce::{keys::KeyRing, stamp::Stamp};

use crate::{EdgeError, aws::cause};

/// A cached ring is fetched again when it is older than this, in seconds, plus up to [`JITTER_SECONDS`].
pub const MAX_AGE_SECONDS: i64 = 300;
/// Spreads the fetches of many environments.
pub const JITTER_SECONDS: i64 = 60;
/// After a failed proof, the ring is fetched again at most this often, in seconds: forgers must not run up the bill.
pub const REFRESH_SECONDS: i64 = 30;

/// Where a secret's value comes from.
pub trait SecretSource {
    /// The value now.
    fn fetch(&self) -> impl Future<Output = Result<String, EdgeError>> + Send;
}

/// A secret of Secrets Manager.
#[derive(Clone, Debug)]
pub struct SecretsManager {
    client: Client,
    id: String,
}

impl SecretsManager {
    /// With the secret's ARN or name.
    pub fn new(client: Client, id: String) -> Self {
        Self { client, id }
    }
}

impl SecretSource for SecretsManager {
    async fn fetch(&self) -> Result<String, EdgeError> {
        let operation = "GetSecretValue";
        let value = self
            .client
            .get_secret_value()
            .secret_id(&self.id)
            .send()
            .await
            .map_err(|error| EdgeError::new(operation, cause(&error)))?;
        value.secret_string.ok_or_else(|| EdgeError::new(operation, "the secret has no text"))
    }
}

struct Cached {
    ring: Arc<KeyRing>,
    /// When it is to be fetched again.
    due: Stamp,
}

/// A key ring, cached.
pub struct Keys<S> {
    source: S,
    cached: Mutex<Option<Cached>>,
    /// When a failed proof last had the ring fetched.
    refreshed: Mutex<Option<Stamp>>,
}

impl<S: SecretSource + Sync> Keys<S> {
    /// Nothing is fetched yet.
    pub fn new(source: S) -> Self {
        Self { source, cached: Mutex::new(None), refreshed: Mutex::new(None) }
    }

    /// The ring, fetched if there is none or it is old. When that fails, the last good one stays for another while.
    ///
    /// # Errors
    /// When there never was a good one.
    pub async fn current(&self, now: Stamp) -> Result<Arc<KeyRing>, EdgeError> {
        let cached = {
            let cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
            cached.as_ref().map(|cached| (Arc::clone(&cached.ring), cached.due))
        };
        match cached {
            Some((ring, due)) if now < due => Ok(ring),
            Some((ring, _)) => match self.fetch(now).await {
                Ok(fresh) => Ok(fresh),
                Err(error) => {
                    crate::telemetry::warn("keys-kept", &error.to_string());
                    self.keep(Arc::clone(&ring), now.plus_seconds(REFRESH_SECONDS));
                    Ok(ring)
                }
            },
            None => self.fetch(now).await,
        }
    }

    /// The ring as it is now, whatever is cached: for what must not miss a rotation.
    ///
    /// # Errors
    /// When it cannot be fetched or read.
    pub async fn fresh(&self, now: Stamp) -> Result<Arc<KeyRing>, EdgeError> {
        self.fetch(now).await
    }

    /// The ring fetched anew because a proof failed; `None` when that was done a moment ago, or does not work.
    pub async fn after_failed_proof(&self, now: Stamp) -> Option<Arc<KeyRing>> {
        {
            let mut refreshed = self.refreshed.lock().unwrap_or_else(PoisonError::into_inner);
            if refreshed.is_some_and(|at| now < at.plus_seconds(REFRESH_SECONDS)) {
                return None;
            }
            *refreshed = Some(now);
        }
        self.fetch(now).await.ok()
    }

    async fn fetch(&self, now: Stamp) -> Result<Arc<KeyRing>, EdgeError> {
        let text = self.source.fetch().await?;
        let ring = KeyRing::parse(&text).map_err(|error| EdgeError::new("reading the key ring", error.to_string()))?;
        let ring = Arc::new(ring);
        let jitter = i64::try_from(RandomState::new().build_hasher().finish() % JITTER_SECONDS.unsigned_abs());
        self.keep(Arc::clone(&ring), now.plus_seconds(MAX_AGE_SECONDS + jitter.unwrap_or(0)));
        Ok(ring)
    }

    fn keep(&self, ring: Arc<KeyRing>, due: Stamp) {
        *self.cached.lock().unwrap_or_else(PoisonError::into_inner) = Some(Cached { ring, due });
    }
}
