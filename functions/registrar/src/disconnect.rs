//! The disconnecting of a store.

use cloud::{
    connections::{Connections, Vault},
    proof_keys::KeepProofKeys,
    senders::KeepSenders,
};
use commerce::{
    connection::ConnectionStatus,
    http_call::Fault,
    key::ConnectionKey,
    platform::{Platform, pull::Access},
    scheme::Scheme,
};
use zeroize::Zeroizing;

use crate::{
    Parts, Registrar,
    problem::Problem,
    reconcile::{Ownership, reconcile},
    records::{changed, not_connected},
    webhooks::At,
};

/// The way in which the webhooks of a disconnected store go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Removal {
    /// They are removed at the store.
    Asked,
    /// The store is not asked, and its webhooks stay behind.
    Forced,
    /// The platform has reported the app's removal, and with it go the webhooks and the token. A list that is refused
    /// then counts as empty.
    Uninstalled,
}

impl<P: Parts> Registrar<P> {
    /// Removes the declared sender of a connection, where the platform has them.
    pub(crate) async fn remove_sender(&self, platform: &Platform, key: &ConnectionKey) -> Result<(), Problem> {
        if platform.delivery.scheme() == Scheme::Declared {
            self.edges.senders.keep_sender(key, None).await?;
        }
        Ok(())
    }

    /// Disconnects a store: removes its webhooks, then its credentials. Late deliveries are ignored.
    pub(crate) async fn disconnect(
        &self,
        platform: &Platform,
        key: &ConnectionKey,
        removal: Removal,
    ) -> Result<(), Problem> {
        let loaded = self.edges.connections.load(key).await?;
        let mut connection = loaded.connection.clone().ok_or_else(|| not_connected(key))?;
        if connection.status == ConnectionStatus::Disconnected {
            return Ok(());
        }
        // The status comes first: of two requests that connect and disconnect at the same time, one fails and is sent
        // again.
        if connection.status != ConnectionStatus::Disconnecting {
            connection.status = ConnectionStatus::Disconnecting;
            self.save(key, &mut connection).await?;
        }
        let managed = connection.credentials.clone().zip(platform.setup.webhooks());
        if let Some((cipher, webhooks)) = managed.filter(|_| removal != Removal::Forced) {
            let credentials = Zeroizing::new(self.edges.vault.decrypt(key, &cipher).await?);
            let access = Access { site: &connection.site, credentials: &credentials, settings: &connection.settings };
            let at = At { platform, key, access };
            let ring = self.edges.signing_keys.current((self.clock)()).await?;
            let existing = match self.list(at, webhooks).await {
                Err(Fault::Connection(_)) if removal == Removal::Uninstalled && webhooks.go_with_the_app() => {
                    Vec::new()
                }
                listed => listed?,
            };
            let base_urls = self.base_urls().await?;
            let ownership = Ownership { key, base_urls, records: &loaded.webhooks };
            let plan = reconcile(&[], &existing, &ownership);
            self.run_plan(at, webhooks, &ring, &loaded.webhooks, &plan).await?;
            // That took a while. The rest must not be done to a connection that was made again.
            let now = self.edges.connections.load(key).await?.connection;
            if now.is_none_or(|now| now.revision != connection.revision) {
                return Err(changed(key));
            }
        }
        self.edges.proof_keys.replace(key, &[]).await?;
        self.remove_sender(platform, key).await?;
        for scope in loaded.webhooks.keys() {
            self.edges.connections.remove_webhook(key, scope).await?;
        }
        for entity in loaded.cursors.keys() {
            self.edges.connections.remove_cursor(key, *entity).await?;
        }
        self.note_check(key, loaded.check.as_ref(), None).await?;
        connection.status = ConnectionStatus::Disconnected;
        connection.credentials = None;
        connection.disconnected_at = Some((self.clock)());
        self.save(key, &mut connection).await
    }
}
