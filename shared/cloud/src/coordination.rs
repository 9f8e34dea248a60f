//! Owns the `Coordination` table: small notes about a connection, each of which expires. Guards against acting twice, budgets of
//! calls, marks of what was done from here, and what the registrar has to know.

use aws_sdk_dynamodb::{Client, types::AttributeValue};
use commerce::{key::ConnectionKey, timestamp::Timestamp};

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
