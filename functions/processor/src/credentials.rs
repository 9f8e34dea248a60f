//! The credentials of connections, kept decrypted for a while.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use cloud::{EdgeError, connections::Vault};
use commerce::{
    connection::Connection,
    http_call::Fault,
    key::ConnectionKey,
    platform::{find, renewal::is_due},
    timestamp::Timestamp,
};
use zeroize::Zeroizing;

use crate::{Parts, Processor};

/// The number of connections whose credentials one environment keeps decrypted.
const MAX_OPENED: usize = 500;
/// The time for which one environment keeps credentials decrypted, in seconds.
const OPENED_SECONDS: i64 = 900;

/// Decrypted credentials, by connection.
#[derive(Default)]
pub(crate) struct OpenedCredentials(Mutex<HashMap<ConnectionKey, Opened>>);

/// Decrypted credentials, with their ciphertext.
struct Opened {
    cipher: String,
    plain: Zeroizing<String>,
    until: Timestamp,
}

impl<P: Parts> Processor<P> {
    /// Returns a connection's credentials in the clear.
    ///
    /// # Errors
    /// [`Fault::Connection`] when it has none, [`Fault::Unavailable`] when they cannot be decrypted.
    pub(crate) async fn credentials(
        &self,
        key: &ConnectionKey,
        connection: &Connection,
    ) -> Result<Zeroizing<String>, Fault> {
        let cipher = connection
            .credentials
            .as_deref()
            .ok_or_else(|| Fault::Connection("the connection has no credentials; connect it with some".into()))?;
        let opened = self.open(key, cipher).await;
        let opened =
            opened.map_err(|error| Fault::Unavailable(format!("the credentials cannot be decrypted: {error}")))?;
        self.are_good(key, &opened).await?;
        Ok(opened)
    }

    /// Has the registrar renew credentials that expire soon.
    ///
    /// # Errors
    /// [`Fault::Unavailable`] when they have expired.
    async fn are_good(&self, key: &ConnectionKey, credentials: &str) -> Result<(), Fault> {
        let Some(renewal) = find(self.platforms, &key.platform).and_then(|platform| platform.setup.renewal()) else {
            return Ok(());
        };
        let now = (self.clock)();
        if !is_due(renewal, credentials, now) {
            return Ok(());
        }
        self.tell_refused(key).await;
        match renewal.expires_at(credentials) {
            Some(at) if at <= now => {
                Err(Fault::Unavailable("the credentials have expired and are being renewed".into()))
            }
            _ => Ok(()),
        }
    }

    /// Decrypts credentials, unless the same were decrypted a short time ago.
    async fn open(&self, key: &ConnectionKey, cipher: &str) -> Result<Zeroizing<String>, EdgeError> {
        let now = (self.clock)();
        {
            let opened = self.opened.0.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(known) = opened.get(key).filter(|known| known.cipher == cipher && now < known.until) {
                return Ok(known.plain.clone());
            }
        }
        let plain = Zeroizing::new(self.edges.vault.decrypt(key, cipher).await?);
        let mut opened = self.opened.0.lock().unwrap_or_else(PoisonError::into_inner);
        if opened.len() >= MAX_OPENED {
            opened.clear();
        }
        let until = now.plus_seconds(OPENED_SECONDS);
        opened.insert(key.clone(), Opened { cipher: cipher.to_owned(), plain: plain.clone(), until });
        Ok(plain)
    }
}
