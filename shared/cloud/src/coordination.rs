//! The `Coordination` table: small notes about a connection or the deployment, each of which expires. They are guards
//! against acting twice, budgets of calls, marks of changes made from here, and facts for the registrar.

use aws_sdk_dynamodb::{Client, types::AttributeValue};
use commerce::{key::ConnectionKey, timestamp::Timestamp};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    EdgeError,
    aws::{cause, told},
    connections::{Attributes, key, put_over},
};

/// A note as the table holds it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Note {
    /// The body: JSON, or a short text. Nothing secret.
    pub body: String,
    /// The number of writes. Each write is conditional on no other in between.
    pub revision: u64,
    /// The time from which the note no longer counts, in seconds since 1970. The table removes it some time later.
    pub expires: i64,
}

impl Note {
    /// Returns whether the note still counts.
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.expires > now.seconds()
    }
}

/// Returns the partition of notes about the whole deployment. No platform has this name.
pub fn deployment() -> ConnectionKey {
    let Ok(connection) = "all".parse() else { unreachable!("it fits the grammar") };
    ConnectionKey { platform: "deployment".to_owned(), connection }
}

/// Returns the partition of a note that strangers can make. A hash of its subject spreads such notes, so that a flood
/// of them slows nothing else.
pub fn strangers(hash: &[u8; 32]) -> ConnectionKey {
    let Ok(connection) = format!("nonce-{:x}", hash[0] >> 4).parse() else { unreachable!("it fits the grammar") };
    ConnectionKey { connection, ..deployment() }
}

/// The reading and writing of notes.
pub trait Coordination {
    /// Reads a note, consistently. An expired one is returned, too, because it will be overwritten.
    fn note(&self, key: &ConnectionKey, name: &str) -> impl Future<Output = Result<Option<Note>, EdgeError>> + Send;

    /// Reads all notes whose names begin with `prefix`, consistently.
    fn notes(
        &self,
        key: &ConnectionKey,
        prefix: &str,
    ) -> impl Future<Output = Result<Vec<(String, Note)>, EdgeError>> + Send;

    /// Writes a note over the revision before it, where 0 is none. Returns `false` when somebody else wrote it in
    /// between.
    fn keep(
        &self,
        key: &ConnectionKey,
        name: &str,
        note: &Note,
    ) -> impl Future<Output = Result<bool, EdgeError>> + Send;
}

/// The result of an [`update`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Update {
    /// The note was written.
    Written,
    /// The note was left as it was.
    Left,
    /// Others wrote the note each time.
    Contended,
}

/// The terms of an update.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// The present time.
    pub now: Timestamp,
    /// The time from which the note no longer counts, in seconds since 1970.
    pub expires: i64,
    /// The number of attempts, because others may write the note at the same time.
    pub tries: u32,
}

impl Terms {
    /// Makes terms for one attempt, with a note that counts for this many seconds.
    pub fn once(now: Timestamp, seconds: i64) -> Self {
        Self { now, expires: now.seconds().saturating_add(seconds), tries: 1 }
    }

    /// Sets the number of attempts.
    #[must_use]
    pub fn tries(self, tries: u32) -> Self {
        Self { tries, ..self }
    }
}

/// Reads a note, lets `change` make its next body, and writes that on the condition that nobody else wrote in between.
/// `change` is given the present body, or `None` when no note still counts. If it returns `None`, the note is left as
/// it is.
///
/// # Errors
/// [`EdgeError`] when the table cannot be reached.
pub async fn update<C: Coordination + Sync>(
    notes: &C,
    key: &ConnectionKey,
    name: &str,
    terms: Terms,
    mut change: impl FnMut(Option<String>) -> Option<String> + Send,
) -> Result<Update, EdgeError> {
    for _ in 0..terms.tries {
        let before = notes.note(key, name).await?;
        let revision = before.as_ref().map_or(0, |note| note.revision) + 1;
        let says = before.filter(|note| note.is_live(terms.now)).map(|note| note.body);
        let Some(body) = change(says) else { return Ok(Update::Left) };
        if notes.keep(key, name, &Note { body, revision, expires: terms.expires }).await? {
            return Ok(Update::Written);
        }
    }
    Ok(Update::Contended)
}

/// Updates a note that holds JSON, as [`update`] does. A note that cannot be read counts as none.
///
/// # Errors
/// [`EdgeError`] when the table cannot be reached, or when the next note cannot be written as JSON.
pub async fn update_json<C: Coordination + Sync, T: Serialize + DeserializeOwned>(
    notes: &C,
    key: &ConnectionKey,
    name: &str,
    terms: Terms,
    mut change: impl FnMut(Option<T>) -> Option<T> + Send,
) -> Result<Update, EdgeError> {
    let mut unwritable = None;
    let updated = update(notes, key, name, terms, |says| {
        let next = change(says.and_then(|says| serde_json::from_str(&says).ok()))?;
        serde_json::to_string(&next).map_err(|error| unwritable = Some(error.to_string())).ok()
    });
    let updated = updated.await?;
    unwritable.map_or(Ok(updated), |cause| Err(EdgeError::new("writing a note", cause)))
}

/// The `Coordination` table at DynamoDB.
#[derive(Clone, Debug)]
pub struct DynamoCoordination {
    client: Client,
    table: String,
}

impl DynamoCoordination {
    /// Makes the edge to the table of this name.
    pub fn new(client: Client, table: String) -> Self {
        Self { client, table }
    }
}

fn read(item: &Attributes) -> Option<Note> {
    let number = |name: &str| item.get(name)?.as_n().ok();
    Some(Note {
        body: item.get("body")?.as_s().ok()?.clone(),
        revision: number("revision")?.parse().ok()?,
        expires: number("expires")?.parse().ok()?,
    })
}

impl Coordination for DynamoCoordination {
    async fn note(&self, connection: &ConnectionKey, name: &str) -> Result<Option<Note>, EdgeError> {
        let operation = "GetItem of a note";
        let answer = self
            .client
            .get_item()
            .table_name(&self.table)
            .set_key(Some(key(connection.to_string(), name.to_owned())))
            .consistent_read(true)
            .send()
            .await
            .map_err(|error| EdgeError::new(operation, cause(&error)))?;
        let Some(item) = answer.item else { return Ok(None) };
        read(&item).map(Some).ok_or_else(|| EdgeError::new(operation, "it cannot be read"))
    }

    async fn notes(&self, connection: &ConnectionKey, prefix: &str) -> Result<Vec<(String, Note)>, EdgeError> {
        let (mut found, mut start) = (Vec::new(), None);
        loop {
            let page = self
                .client
                .query()
                .table_name(&self.table)
                .consistent_read(true)
                .key_condition_expression("pk = :pk AND begins_with(sk, :prefix)")
                .expression_attribute_values(":pk", AttributeValue::S(connection.to_string()))
                .expression_attribute_values(":prefix", AttributeValue::S(prefix.to_owned()))
                .set_exclusive_start_key(start)
                .send()
                .await
                .map_err(|error| EdgeError::new("Query of notes", cause(&error)))?;
            let items = told("Query of notes", page.items)?;
            found.extend(items.iter().filter_map(|item| Some((item.get("sk")?.as_s().ok()?.clone(), read(item)?))));
            start = page.last_evaluated_key;
            if start.is_none() {
                return Ok(found);
            }
        }
    }

    async fn keep(&self, connection: &ConnectionKey, name: &str, note: &Note) -> Result<bool, EdgeError> {
        let mut item = key(connection.to_string(), name.to_owned());
        item.insert("body".into(), AttributeValue::S(note.body.clone()));
        item.insert("revision".into(), AttributeValue::N(note.revision.to_string()));
        item.insert("expires".into(), AttributeValue::N(note.expires.to_string()));
        put_over(&self.client, &self.table, item, note.revision, "PutItem of a note").await
    }
}
