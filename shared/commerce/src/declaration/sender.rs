//! Owns the record of a sender: what the receiver needs to prove its deliveries.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use zeroize::Zeroizing;

use super::{Declaration, DeclarationError, Key};

/// The record of a sender, as the registrar writes it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SenderRecord {
    /// The declaration, as far as the receiver needs it.
    pub declaration: Value,
    /// The URL that is registered at the sender.
    pub url: String,
    /// The constants of the connection.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub constants: BTreeMap<String, String>,
    /// The account, shop or site that deliveries have to be of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// The keys, by their ids.
    pub keys: Vec<KeyRecord>,
}

/// A key of a sender.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyRecord {
    /// The id.
    pub id: String,
    /// The key as the sender shows it.
    pub key: Zeroizing<String>,
}

/// A key as a request gives it: with an id, or as a text alone.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum KeyInput {
    /// A key with an id.
    Named(KeyRecord),
    /// A key alone. Its id is `key-` and its place in the list.
    Text(Zeroizing<String>),
}

impl KeyInput {
    /// Returns the records of keys, without the white space around them.
    pub fn records(input: Vec<Self>) -> Vec<KeyRecord> {
        let record = |(place, input)| {
            let KeyRecord { id, key } = match input {
                Self::Named(record) => record,
                Self::Text(key) => KeyRecord { id: format!("key-{}", place + 1), key },
            };
            KeyRecord { id, key: Zeroizing::new(key.trim().to_owned()) }
        };
        input.into_iter().enumerate().map(record).collect()
    }
}

impl From<KeyRecord> for Key {
    fn from(KeyRecord { id, key }: KeyRecord) -> Self {
        Self { id, text: key }
    }
}

/// The place of the record alone, because it holds keys.
impl fmt::Debug for SenderRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SenderRecord").field("url", &self.url).field("keys", &self.keys.len()).finish_non_exhaustive()
    }
}

/// A sender whose declaration is read.
#[derive(Clone, Debug)]
pub struct Sender {
    /// The declaration.
    pub declaration: Declaration,
    /// The URL that is registered at the sender.
    pub url: String,
    /// The constants of the connection.
    pub constants: BTreeMap<String, String>,
    /// The account, shop or site that deliveries have to be of.
    pub account: Option<String>,
    /// The keys.
    pub keys: Vec<Key>,
}

impl Sender {
    /// Reads a record.
    ///
    /// # Errors
    /// [`DeclarationError`] where another release wrote a declaration that this one does not know.
    pub fn read(record: SenderRecord) -> Result<Self, DeclarationError> {
        let SenderRecord { declaration, url, constants, account, keys } = record;
        let keys = keys.into_iter().map(Key::from).collect();
        Ok(Self { declaration: Declaration::read(declaration)?, url, constants, account, keys })
    }
}
