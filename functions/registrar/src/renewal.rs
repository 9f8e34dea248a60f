//! The renewal of credentials that expire, before a job uses them.

use cloud::{
    connections::{Connections, Vault},
    coordination::{Terms, Update, update_json},
    telemetry,
};
use commerce::{
    connection::Connection,
    key::ConnectionKey,
    platform::{
        Platform,
        pull::Access,
        renewal::{Renewal, is_due},
    },
};
use serde_json::json;

use crate::{Parts, Registrar, problem::Problem, webhooks::At};

/// The name of the note that one renewal is under way.
const NAME: &str = "renewal";
/// The time after which a renewal that did not end is begun anew, in seconds.
const LOST_SECONDS: i64 = 60;
/// The number of attempts to save the connection.
const TRIES: u32 = 5;
/// The time for which that note is kept, in seconds.
const KEPT_SECONDS: i64 = 3600;

impl<P: Parts> Registrar<P> {
    /// Renews the credentials of a connection if they expire soon. Of several jobs that find that at the same time, one
    /// does it; the others come back.
    pub(crate) async fn renew_if_due(&self, platform: &Platform, key: &ConnectionKey) -> Result<(), Problem> {
        let Some(renewal) = platform.setup.renewal() else { return Ok(()) };
        let due = |credentials: &str| is_due(renewal, credentials, (self.clock)());
        let Some(connection) = self.edges.connections.load(key).await?.connection else { return Ok(()) };
        let opened = self.open(key, &connection).await?.filter(|_| connection.is_connected());
        let Some(credentials) = opened.filter(|credentials| due(credentials)) else { return Ok(()) };
        let now = (self.clock)();
        let mine = |begun: Option<i64>| {
            begun.is_none_or(|begun| begun + LOST_SECONDS <= now.seconds()).then_some(now.seconds())
        };
        let terms = Terms::once(now, KEPT_SECONDS);
        if update_json(&self.edges.notes, key, NAME, terms, mine).await? != Update::Written {
            return Err(Problem::Conflict(format!("{key}: the credentials are being renewed; try again")));
        }
        self.renew(platform, renewal, key, connection, &credentials).await
    }

    async fn renew(
        &self,
        platform: &Platform,
        renewal: &dyn Renewal,
        key: &ConnectionKey,
        mut connection: Connection,
        credentials: &str,
    ) -> Result<(), Problem> {
        let now = (self.clock)();
        let apps = self.edges.apps.current(now).await?;
        let Some(app) = apps.get(platform.name) else { return Ok(()) };
        let site = connection.site.clone();
        let settings = connection.settings.clone();
        let access = Access { site: &site, credentials, settings: &settings };
        let at = At { platform, key, access };
        let answer = self.call(at, renewal.ask(&access, app)?).await?;
        let renewed = renewal.renewed(&answer, now)?;
        // The former credentials may be invalid by now, so the new ones are kept whatever others changed meanwhile.
        let (former, cipher) = (connection.credentials.take(), self.edges.vault.encrypt(key, &renewed).await?);
        for _ in 0..TRIES {
            connection.credentials = Some(cipher.clone());
            match self.save(key, &mut connection).await {
                Err(Problem::Conflict(_)) => {}
                saved => {
                    saved?;
                    break;
                }
            }
            match self.edges.connections.load(key).await?.connection {
                Some(now) if now.credentials == former => connection = now,
                // It was connected with others, or disconnected.
                _ => return Ok(()),
            }
        }
        telemetry::emit(&json!({ "level": "INFO", "event": "credentials-renewed", "connection": key.to_string() }));
        Ok(())
    }
}
