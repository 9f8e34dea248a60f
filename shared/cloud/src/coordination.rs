//! Owns the `Coordination` table: small notes about a connection, each of which expires. Guards against acting twice, budgets of
//! calls, marks of what was done from here, and what the registrar has to know.

use aws_sdk_dynamodb::{Client, types::AttributeValue};
use commerce::{key::ConnectionKey, timestamp::Timestamp};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    EdgeError,
    aws::{cause, told},
    connections::{Attributes, key, put_over},
};

/// A note as it is kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Note {
    /// What it says, as JSON. Nothing secret.
    pub body: String,
    /// How often it was written; each write is on the condition that nobody else wrote in between.
    pub revision: u64,
    /// When it counts no more, seconds since 1970. The table removes it some time after that.
    pub expires: i64,
}

impl Note {
    /// Whether it still counts.
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.expires > now.seconds()
    }
}

/// The partition of notes about the whole deployment. No platform has this name.
pub fn deployment() -> ConnectionKey {
    let Ok(connection) = "all".parse() else { unreachable!("it fits the grammar") };
    ConnectionKey { platform: "deployment".to_owned(), connection }
}

/// The partitions of notes that strangers can make, spread by a hash of what they are about: a flood of them slows nothing else.
pub fn strangers(hash: &[u8; 32]) -> ConnectionKey {
    let Ok(connection) = format!("nonce-{:x}", hash[0] >> 4).parse() else { unreachable!("it fits the grammar") };
    ConnectionKey { connection, ..deployment() }
}

/// Keeping notes.
pub trait Coordination {
    /// Reads a note, consistently; expired ones, too, for they are written over.
    fn note(&self, key: &ConnectionKey, name: &str) -> impl Future<Output = Result<Option<Note>, EdgeError>> + Send;

    /// Reads all notes whose names begin so, consistently.
    fn notes(
        &self,
        key: &ConnectionKey,
        prefix: &str,
    ) -> impl Future<Output = Result<Vec<(String, Note)>, EdgeError>> + Send;

    /// Writes a note over the revision before it, 0 being none; `false` when somebody else did in between.
    fn keep(
        &self,
        key: &ConnectionKey,
        name: &str,
        note: &Note,
    ) -> impl Future<Output = Result<bool, EdgeError>> + Send;
}

/// What became of an [`update`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Update {
    /// The note says something else now.
    Written,
    /// It was left as it was.
    Left,
    /// Others wrote it each time.
    Contended,
}

/// How a note is updated.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// The time.
    pub now: Timestamp,
    /// When the note counts no more, seconds since 1970.
    pub expires: i64,
    /// How often it is tried, where others write it at the same time.
    pub tries: u32,
}

impl Terms {
    /// Tries once, and keeps the note for so many seconds.
    pub fn once(now: Timestamp, seconds: i64) -> Self {
        Self { now, expires: now.seconds().saturating_add(seconds), tries: 1 }
    }

    /// Tries so often.
    #[must_use]
    pub fn tries(self, tries: u32) -> Self {
        Self { tries, ..self }
    }
}

/// Reads a note, has `change` say what it is to say next, and writes that on the condition that nobody else wrote in between. `change` is
/// given what the note says, or nothing where there is none that still counts; where it answers with nothing, the note is left as it is.
///
/// # Errors
/// When the table cannot be reached.
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

/// As [`update`], for notes that hold JSON: one that cannot be read counts as none.
///
/// # Errors
/// When the table cannot be reached, or when the next note cannot be written as JSON.
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

/// The table at DynamoDB.
#[derive(Clone, Debug)]
pub struct DynamoCoordination {
    client: Client,
    table: String,
}

impl DynamoCoordination {
    /// With the table's name.
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
