//! Pausing a connection, resuming it, and revoking its webhook secrets. What follows is done by the registrar's own queue.

use cloud::{connections::Connections, queue::Jobs};
use commerce::{
    connection::{Connection, ConnectionKey, ConnectionStatus},
    job::{Cause, Job},
    platforms::Platform,
    stamp::Stamp,
};
use serde_json::Value;

use crate::{Parts, Registrar, connect::not_connected, problem::Problem};

impl<P: Parts> Registrar<P> {
    /// Pauses a connection: its hooks go off, nothing is polled, and what comes all the same is ignored.
    pub(crate) async fn pause(&self, platform: &Platform, key: &ConnectionKey) -> Result<Value, Problem> {
        let pause = |connection: &mut Connection, now| {
            if connection.status != ConnectionStatus::Paused {
                (connection.status, connection.paused_at) = (ConnectionStatus::Paused, Some(now));
            }
        };
        self.switch(platform, key, pause).await
    }

    /// Resumes it.
    pub(crate) async fn resume(&self, platform: &Platform, key: &ConnectionKey) -> Result<Value, Problem> {
        let resume = |connection: &mut Connection, _| {
            (connection.status, connection.paused_at) = (ConnectionStatus::Active, None);
        };
        self.switch(platform, key, resume).await
    }

    /// Raises its generation: what the former secrets sign counts no more.
    pub(crate) async fn revoke(&self, platform: &Platform, key: &ConnectionKey) -> Result<Value, Problem> {
        self.switch(platform, key, |connection, _| connection.generation = connection.generation.next()).await
    }

    async fn switch(
        &self,
        platform: &Platform,
        key: &ConnectionKey,
        change: impl FnOnce(&mut Connection, Stamp),
    ) -> Result<Value, Problem> {
        let before = self.edges.connections.load(key).await?.connection.ok_or_else(|| not_connected(key))?;
        if !matches!(before.status, ConnectionStatus::Active | ConnectionStatus::Paused) {
            return Err(Problem::Conflict(format!("{key} is disconnected, or about to be; connect it with PUT")));
        }
        let mut connection = before.clone();
        change(&mut connection, (self.clock)());
        if connection != before {
            self.save(key, &mut connection).await?;
        }
        // Sent though nothing differs, for the one who asked for the same before may not have come this far.
        self.edges.jobs.send_jobs(&[(Job::Check { key: key.clone(), why: Cause::Asked }, 0)]).await?;
        self.show(platform, key).await
    }
}
