//! Owns the `ProofKeys` table: keys that a client brought, of which only hashes are kept. The only table that the receiver reads,
//! and only for platforms whose clients bring keys.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use aws_sdk_dynamodb::{Client, types::AttributeValue};
use commerce::{connection::ConnectionKey, keys::BroughtKey, stamp::Stamp};

use crate::{
    EdgeError,
    aws::{cause, fault},
    connections::key,
};

/// The sort key of a connection's keys: one item holds them all.
const BROUGHT: &str = "brought";
/// How long the receiver believes what it has read, in seconds: a key that was withdrawn works this much longer.
pub const MAX_AGE_SECONDS: i64 = 60;
/// How long it believes that a connection has no key, in seconds. Short, for somebody may just be connecting.
pub const MAX_ABSENCE_SECONDS: i64 = 5;
/// How many connections are remembered.
const MAX_REMEMBERED: usize = 2_000;

/// Reading the keys that a client brought.
pub trait ProofKeys {
    /// Those of a connection; none when it has none.
    fn brought(&self, key: &ConnectionKey) -> impl Future<Output = Result<Vec<BroughtKey>, EdgeError>> + Send;
}

/// Writing them.
pub trait KeepProofKeys {
    /// Replaces those of a connection; with none, removes the item.
    fn replace(&self, key: &ConnectionKey, keys: &[BroughtKey]) -> impl Future<Output = Result<(), EdgeError>> + Send;
}

/// The table at DynamoDB.
#[derive(Clone, Debug)]
pub struct DynamoProofKeys {
    client: Client,
    table: String,
}

impl DynamoProofKeys {
    /// With the table's name.
    pub fn new(client: Client, table: String) -> Self {
        Self { client, table }
    }
}

impl ProofKeys for DynamoProofKeys {
    async fn brought(&self, connection: &ConnectionKey) -> Result<Vec<BroughtKey>, EdgeError> {
        let operation = "GetItem of keys that were brought";
        let answer = self
            .client
            .get_item()
            .table_name(&self.table)
            .set_key(Some(key(connection.to_string(), BROUGHT.to_owned())))
            .send()
            .await
            .map_err(|error| fault(operation, &error))?;
        let Some(item) = answer.item else { return Ok(Vec::new()) };
        let text = item.get("keys").and_then(|keys| keys.as_s().ok()).map_or("", String::as_str);
        serde_json::from_str(text).map_err(|_| EdgeError::new(operation, "the record cannot be read"))
    }
}

impl KeepProofKeys for DynamoProofKeys {
    async fn replace(&self, connection: &ConnectionKey, keys: &[BroughtKey]) -> Result<(), EdgeError> {
        let mut item = key(connection.to_string(), BROUGHT.to_owned());
        if keys.is_empty() {
            let deleted = self.client.delete_item().table_name(&self.table).set_key(Some(item)).send().await;
            return deleted.map(|_| ()).map_err(|error| EdgeError::new("DeleteItem", cause(&error)));
        }
        let text = serde_json::to_string(keys).map_err(|_| EdgeError::new("PutItem", "the keys cannot be written"))?;
        item.insert("keys".to_owned(), AttributeValue::S(text));
        let put = self.client.put_item().table_name(&self.table).set_item(Some(item)).send().await;
        put.map(|_| ()).map_err(|error| EdgeError::new("PutItem", cause(&error)))
    }
}

/// What was read of one connection.
struct Remembered {
    keys: Arc<[BroughtKey]>,
    read: Stamp,
    until: Stamp,
}

/// Keys that were brought, remembered for a short time.
pub struct CachedProofKeys<P> {
    source: P,
    remembered: Mutex<HashMap<ConnectionKey, Remembered>>,
}

impl<P: ProofKeys + Sync> CachedProofKeys<P> {
    /// Nothing is remembered yet.
    pub fn new(source: P) -> Self {
        Self { source, remembered: Mutex::default() }
    }

    /// The keys of a connection.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub async fn brought(&self, key: &ConnectionKey, now: Stamp) -> Result<Arc<[BroughtKey]>, EdgeError> {
        {
            let remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(known) = remembered.get(key).filter(|known| now < known.until) {
                return Ok(Arc::clone(&known.keys));
            }
        }
        self.read(key, now).await
    }

    /// The keys of a connection read anew because none of those that are remembered fits; `None` when that was done a moment ago,
    /// or does not work.
    pub async fn after_failed_proof(&self, key: &ConnectionKey, now: Stamp) -> Option<Arc<[BroughtKey]>> {
        {
            let remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
            if remembered.get(key).is_some_and(|known| now < known.read.plus_seconds(MAX_ABSENCE_SECONDS)) {
                return None;
            }
        }
        self.read(key, now).await.ok()
    }

    async fn read(&self, key: &ConnectionKey, now: Stamp) -> Result<Arc<[BroughtKey]>, EdgeError> {
        let keys: Arc<[BroughtKey]> = self.source.brought(key).await?.into();
        let age = if keys.is_empty() { MAX_ABSENCE_SECONDS } else { MAX_AGE_SECONDS };
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        // Paths can be made up, so that this must not grow with them; those that have keys cannot.
        if remembered.len() >= MAX_REMEMBERED {
            remembered.retain(|_, known| now < known.until && !known.keys.is_empty());
        }
        remembered.insert(key.clone(), Remembered { keys: Arc::clone(&keys), read: now, until: now.plus_seconds(age) });
        Ok(keys)
    }
}
