//! Looking after a connection: its subscriptions and their health, what is due to be polled, what is left of a disconnection.

use cloud::connections::{Connections, Loaded};
use commerce::{
    connection::{Connection, ConnectionKey, ConnectionStatus},
    job::Cause,
    platforms::{Access, Platform, Subscription},
};

use crate::{
    Parts, Registrar,
    hooks::{At, manages},
    problem::Problem,
    reconcile::Plan,
};

impl<P: Parts> Registrar<P> {
    /// Looks after a connection, for whatever reason: what has to be done follows from what is there.
    pub(crate) async fn check(&self, platform: &Platform, key: &ConnectionKey, _why: Cause) -> Result<(), Problem> {
        let loaded = self.edges.connections.load(key).await?;
        let Some(connection) = &loaded.connection else { return Ok(()) };
        match connection.status {
            ConnectionStatus::Disconnecting => {
                self.disconnect(platform, key, false).await?;
            }
            ConnectionStatus::Disconnected => {}
            ConnectionStatus::Active | ConnectionStatus::Paused => {
                self.look_after_hooks(platform, key, connection, &loaded).await?;
                if connection.status == ConnectionStatus::Active {
                    self.begin_due_polls(platform, key, connection, &loaded).await?;
                }
            }
        }
        Ok(())
    }

    async fn look_after_hooks(
        &self,
        platform: &Platform,
        key: &ConnectionKey,
        connection: &Connection,
        loaded: &Loaded,
    ) -> Result<(), Problem> {
        let Some(hooks) = platform.subscriptions.hooks().filter(|hooks| manages(platform, *hooks, connection, loaded))
        else {
            return Ok(());
        };
        let Some(credentials) = self.open(key, connection).await? else { return Ok(()) };
        let access = Access { site: &connection.site, credentials: &credentials, settings: &connection.settings };
        let at = At { platform, key, access };
        let existing = self.list(at, hooks).await?;
        self.converge(at, hooks, connection, loaded, &existing).await?;
        Ok(())
    }

    /// Takes out of a plan what must not be done now, and keeps what is known of each subscription's health.
    pub(crate) async fn judge(
        &self,
        _at: At<'_>,
        _connection: &Connection,
        _loaded: &Loaded,
        _existing: &[Subscription],
        _plan: &mut Plan,
    ) -> Result<(), Problem> {
        Ok(())
    }
}
