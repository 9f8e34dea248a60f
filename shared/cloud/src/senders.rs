//! The `Senders` table: the declared senders, with the keys that their deliveries are proven with. The receiver reads it
//! for connections of declared senders alone.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use aws_sdk_dynamodb::{Client, types::AttributeValue};
use commerce::{
    declaration::{Sender, SenderRecord},
    key::ConnectionKey,
    timestamp::Timestamp,
};

use crate::{
    EdgeError,
    aws::{cause, fault},
    connections::key,
    proof_keys::{MAX_AGE_SECONDS, REFRESH_SECONDS},
};

/// The sort key of the one item of a connection.
const SENDER: &str = "sender";
/// The most senders that are remembered, so that names that nobody connected cannot fill the memory.
const MAX_REMEMBERED: usize = 1_000;

/// The reading of declared senders.
pub trait Senders {
    /// Reads the sender of a connection, if it has one.
    fn sender(&self, key: &ConnectionKey) -> impl Future<Output = Result<Option<SenderRecord>, EdgeError>> + Send;
}

/// The writing of declared senders.
pub trait KeepSenders {
    /// Writes the sender of a connection, or removes it.
    fn keep_sender(
        &self,
        key: &ConnectionKey,
        sender: Option<&SenderRecord>,
    ) -> impl Future<Output = Result<(), EdgeError>> + Send;
}

/// The `Senders` table at DynamoDB.
#[derive(Clone, Debug)]
pub struct DynamoSenders {
    client: Client,
    table: String,
}

impl DynamoSenders {
    /// Makes the edge to the table of this name.
    pub fn new(client: Client, table: String) -> Self {
        Self { client, table }
    }
}

impl Senders for DynamoSenders {
    async fn sender(&self, connection: &ConnectionKey) -> Result<Option<SenderRecord>, EdgeError> {
        let operation = "GetItem of a sender";
        let key = key(connection.to_string(), SENDER.to_owned());
        let request = self.client.get_item().table_name(&self.table).set_key(Some(key)).consistent_read(true);
        let answer = request.send().await.map_err(|error| fault(operation, &error))?;
        let Some(item) = answer.item else { return Ok(None) };
        let text = item.get("sender").and_then(|value| value.as_s().ok());
        let read = text.and_then(|text| serde_json::from_str(text).ok());
        read.map(Some).ok_or_else(|| EdgeError::new(operation, "the sender cannot be read; connect it again"))
    }
}

impl KeepSenders for DynamoSenders {
    async fn keep_sender(&self, connection: &ConnectionKey, sender: Option<&SenderRecord>) -> Result<(), EdgeError> {
        let mut item = key(connection.to_string(), SENDER.to_owned());
        let Some(sender) = sender else {
            let deleted = self.client.delete_item().table_name(&self.table).set_key(Some(item)).send().await;
            return deleted.map(|_| ()).map_err(|error| EdgeError::new("DeleteItem", cause(&error)));
        };
        let text =
            serde_json::to_string(sender).map_err(|_| EdgeError::new("PutItem", "the sender cannot be written"))?;
        item.insert("sender".to_owned(), AttributeValue::S(text));
        let put = self.client.put_item().table_name(&self.table).set_item(Some(item)).send().await;
        put.map(|_| ()).map_err(|error| EdgeError::new("PutItem", cause(&error)))
    }
}

/// A sender as it was read at a time, or the fact that there is none.
type Remembered = (Option<Arc<Sender>>, Timestamp);

/// The declared senders, remembered for a short time: a withdrawn key works as much longer.
pub struct CachedSenders<S> {
    source: S,
    remembered: Mutex<HashMap<ConnectionKey, Remembered>>,
}

impl<S: Senders + Sync> CachedSenders<S> {
    /// Makes a cache that remembers nothing yet.
    pub fn new(source: S) -> Self {
        Self { source, remembered: Mutex::default() }
    }

    /// Returns the sender of a connection, if it has one.
    ///
    /// # Errors
    /// [`EdgeError`] when the table cannot be read, or holds a declaration that this release does not know.
    pub async fn sender(&self, key: &ConnectionKey, now: Timestamp) -> Result<Option<Arc<Sender>>, EdgeError> {
        match self.read_since(key, now.plus_seconds(-MAX_AGE_SECONDS)) {
            Some(sender) => Ok(sender),
            None => self.read(key, now).await,
        }
    }

    /// Reads the sender of a connection anew, because the remembered one does not fit. Returns `None` when it was read a
    /// moment ago, or cannot be read, or is not there.
    pub async fn after_failed_proof(&self, key: &ConnectionKey, now: Timestamp) -> Option<Arc<Sender>> {
        if self.read_since(key, now.plus_seconds(-REFRESH_SECONDS)).is_some() {
            return None;
        }
        self.read(key, now).await.ok()?
    }

    fn read_since(&self, key: &ConnectionKey, moment: Timestamp) -> Option<Option<Arc<Sender>>> {
        let remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        remembered.get(key).filter(|(_, read)| *read > moment).map(|(sender, _)| sender.clone())
    }

    async fn read(&self, key: &ConnectionKey, now: Timestamp) -> Result<Option<Arc<Sender>>, EdgeError> {
        let record = self.source.sender(key).await?;
        let sender = record.map(Sender::read).transpose();
        let sender = sender.map_err(|error| EdgeError::new("reading a declaration", error.to_string()))?.map(Arc::new);
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if remembered.len() >= MAX_REMEMBERED {
            remembered.clear();
        }
        remembered.insert(key.clone(), (sender.clone(), now));
        Ok(sender)
    }
}
