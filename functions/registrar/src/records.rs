//! The reading and writing of a connection's records.

use std::collections::BTreeMap;

use cloud::{
    connections::{Check, Connections, Loaded},
    coordination::Coordination,
    telemetry,
};
use commerce::{
    activity::{Activity, SEEN},
    connection::{Connection, ConnectionStatus},
    key::{ConnectionKey, Generation},
    platform::delivery::PROBE,
};
use serde_json::json;

use crate::{Parts, Registrar, problem::Problem};

/// The time after a check within which another one without news is not recorded, in seconds.
const NOTED_EVERY: i64 = 600;

impl<P: Parts> Registrar<P> {
    /// Returns the records of a connection, which must exist.
    pub(crate) async fn known(&self, key: &ConnectionKey) -> Result<(Loaded, Connection), Problem> {
        let loaded = self.edges.connections.load(key).await?;
        let connection = loaded.connection.clone().ok_or_else(|| not_connected(key))?;
        Ok((loaded, connection))
    }

    /// Returns the records of a connection that is neither disconnected nor being disconnected.
    pub(crate) async fn living(&self, key: &ConnectionKey) -> Result<(Loaded, Connection), Problem> {
        let (loaded, connection) = self.known(key).await?;
        match connection.status {
            ConnectionStatus::Active | ConnectionStatus::Paused => Ok((loaded, connection)),
            ConnectionStatus::Disconnecting => {
                Err(Problem::Conflict(format!("{key} is being disconnected; DELETE goes on with it")))
            }
            ConnectionStatus::Disconnected => {
                Err(Problem::Conflict(format!("{key} is disconnected; connect it with PUT")))
            }
        }
    }

    /// Writes the connection's record as its next revision.
    pub(crate) async fn save(&self, key: &ConnectionKey, connection: &mut Connection) -> Result<(), Problem> {
        connection.revision += 1;
        if self.edges.connections.save(key, connection).await? {
            return Ok(());
        }
        Err(changed(key))
    }

    /// Records the result of a check, if it is news.
    pub(crate) async fn note_check(
        &self,
        key: &ConnectionKey,
        before: Option<&Check>,
        trouble: Option<String>,
    ) -> Result<(), Problem> {
        let now = (self.clock)();
        let same = before.filter(|before| before.trouble == trouble);
        if same.is_some_and(|before| trouble.is_some() || now < before.at.plus_seconds(NOTED_EVERY)) {
            return Ok(());
        }
        if let Some(why) = &trouble {
            let line = json!({ "level": "WARN", "event": "trouble", "connection": key.to_string(), "why": why });
            telemetry::emit(&line);
        }
        let since = trouble.is_some().then(|| before.and_then(|before| before.since).unwrap_or(now));
        let at = before.filter(|_| trouble.is_some()).map_or(now, |before| before.at);
        Ok(self.edges.connections.save_check(key, &Check { at, trouble, since }).await?)
    }

    /// Returns the activity of each topic of a connection in its present generation, by the topics that deliveries
    /// carry.
    pub(crate) async fn activity(
        &self,
        key: &ConnectionKey,
        generation: Generation,
    ) -> Result<BTreeMap<String, Activity>, Problem> {
        let notes = self.edges.notes.notes(key, SEEN).await?;
        let read = notes.into_iter().filter_map(|(name, note)| {
            let sighting: Activity = serde_json::from_str(&note.body).ok()?;
            Some((name.strip_prefix(SEEN)?.to_owned(), sighting))
        });
        // Our own probe says nothing about the platform.
        Ok(read.filter(|(scope, sighting)| scope != PROBE && sighting.generation == generation).collect())
    }
}

pub(crate) fn changed(key: &ConnectionKey) -> Problem {
    Problem::Conflict(format!("{key} was changed by another request meanwhile; send this one again"))
}

pub(crate) fn not_connected(key: &ConnectionKey) -> Problem {
    Problem::NotFound(format!("{key} is not connected; connect it with PUT"))
}
