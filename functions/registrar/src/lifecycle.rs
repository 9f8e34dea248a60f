//! Pauses a connection, resumes it, and makes what leaked of it worth nothing.

use cloud::{connections::Connections, queue::Jobs};
use commerce::{
    connection::ConnectionStatus,
    job::{Job, Trigger},
    key::{ConnectionKey, Generation},
    platform::Platform,
};

use crate::{Parts, Registrar, jobs::LATER, problem::Problem, records::not_connected};

impl<P: Parts> Registrar<P> {
    /// Stops taking deliveries of a connection for a while, and switches its webhooks off.
    ///
    /// # Errors
    /// [`Problem`]; what is left to do is done by the next check.
    pub(crate) async fn set_paused(&self, platform: &Platform, key: &ConnectionKey) -> Result<(), Problem> {
        let (_, mut connection) = self.living(key).await?;
        if connection.status != ConnectionStatus::Paused {
            connection.status = ConnectionStatus::Paused;
            connection.paused_at = connection.paused_at.or(Some((self.clock)()));
            self.save(key, &mut connection).await?;
        }
        self.reconcile_asked(platform, key).await
    }

    /// Takes deliveries again: webhooks on, and what was missed is fetched. It is remembered since when until that has begun.
    ///
    /// # Errors
    /// [`Problem`]; what is left to do is done by the next check.
    pub(crate) async fn set_active(&self, platform: &Platform, key: &ConnectionKey) -> Result<(), Problem> {
        let (_, mut connection) = self.living(key).await?;
        if connection.status == ConnectionStatus::Paused {
            connection.status = ConnectionStatus::Active;
            self.save(key, &mut connection).await?;
        }
        self.reconcile_asked(platform, key).await
    }

    /// Makes all secrets of a connection worth nothing: those of its next generation take their place. What comes over the old path
    /// from now on is ignored; when the webhooks have moved, what changed meanwhile is fetched. Where the generation to revoke is `named`,
    /// another one is not, so that to ask twice is to ask once.
    ///
    /// # Errors
    /// [`Problem`]; what is left to do is done by the next check.
    pub(crate) async fn raise_generation(
        &self,
        platform: &Platform,
        key: &ConnectionKey,
        named: Option<Generation>,
    ) -> Result<(), Problem> {
        let (_, mut connection) = self.living(key).await?;
        if named.is_some_and(|named| named != connection.generation) {
            return Ok(());
        }
        connection.generation = connection.generation.next();
        self.save(key, &mut connection).await?;
        self.reconcile_asked(platform, key).await
    }

    /// Brings the webhooks in line with what was just written, now, and if that fails, by a job.
    async fn reconcile_asked(&self, platform: &Platform, key: &ConnectionKey) -> Result<(), Problem> {
        self.edges.jobs.send_jobs(&[(Job::check(key, Trigger::Asked), LATER)]).await?;
        let loaded = self.edges.connections.load(key).await?;
        let connection = loaded.connection.as_ref().ok_or_else(|| not_connected(key))?;
        self.reconcile(platform, key, connection, &loaded, Trigger::Asked).await
    }
}
