//! The pause of a connection, its resumption, and the revocation of its secrets.

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
    /// [`Problem`]; the next check does the rest.
    pub(crate) async fn set_paused(&self, platform: &Platform, key: &ConnectionKey) -> Result<(), Problem> {
        let (_, mut connection) = self.living(key).await?;
        if connection.status != ConnectionStatus::Paused {
            connection.status = ConnectionStatus::Paused;
            connection.paused_at = connection.paused_at.or(Some((self.clock)()));
            self.save(key, &mut connection).await?;
        }
        self.reconcile_asked(platform, key).await
    }

    /// Takes deliveries again: switches the webhooks on, and fetches the changes that were missed. The time of the
    /// pause stays recorded until that has begun.
    ///
    /// # Errors
    /// [`Problem`]; the next check does the rest.
    pub(crate) async fn set_active(&self, platform: &Platform, key: &ConnectionKey) -> Result<(), Problem> {
        let (_, mut connection) = self.living(key).await?;
        if connection.status == ConnectionStatus::Paused {
            connection.status = ConnectionStatus::Active;
            self.save(key, &mut connection).await?;
        }
        self.reconcile_asked(platform, key).await
    }

    /// Revokes all secrets of a connection: those of its next generation take their place. Deliveries over the old path
    /// are ignored from now on; when the webhooks have moved, the changes made meanwhile are fetched. If `named` is not
    /// the present generation, nothing is revoked, so that a repeated request has no further effect.
    ///
    /// # Errors
    /// [`Problem`]; the next check does the rest.
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
        // The keys of a declared sender are its own, and no derived one takes their place.
        self.remove_sender(platform, key).await?;
        self.reconcile_asked(platform, key).await
    }

    /// Brings the webhooks in line with the record just written: now, and by a job in case that fails.
    async fn reconcile_asked(&self, platform: &Platform, key: &ConnectionKey) -> Result<(), Problem> {
        self.edges.jobs.send_jobs(&[(Job::check(key, Trigger::Asked), LATER)]).await?;
        let loaded = self.edges.connections.load(key).await?;
        let connection = loaded.connection.as_ref().ok_or_else(|| not_connected(key))?;
        self.reconcile(platform, key, connection, &loaded, Trigger::Asked).await
    }
}
