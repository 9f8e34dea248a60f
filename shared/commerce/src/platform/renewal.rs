//! The renewal of credentials that expire, at platforms that grant tokens for a while.

use zeroize::Zeroizing;

use crate::{
    apps::App,
    http_call::{ApiRequest, ApiResponse, Fault},
    platform::pull::Access,
    timestamp::Timestamp,
};

/// The time before the end of a token at which it is renewed, in seconds.
pub const EARLY_SECONDS: i64 = 15 * 60;

/// A platform whose credentials expire. The registrar renews them, one renewal of a connection at a time, because each
/// ends the credentials before it.
pub trait Renewal: Sync {
    /// Returns the time at which credentials expire, or `None` for those that do not, or that nothing can renew.
    fn expires_at(&self, credentials: &str) -> Option<Timestamp>;

    /// Builds the call that renews credentials.
    ///
    /// # Errors
    /// [`Fault::Connection`] when nothing can renew them.
    fn ask(&self, access: &Access<'_>, app: &App) -> Result<ApiRequest, Fault>;

    /// Reads the answer to [`Renewal::ask`], and returns the new credentials, packed as
    /// [`Setup::settings`](super::webhooks::Setup::settings) packs them.
    ///
    /// # Errors
    /// The [`Fault`] that the answer means.
    fn renewed(&self, response: &ApiResponse, now: Timestamp) -> Result<Zeroizing<String>, Fault>;
}

/// Returns whether credentials have to be renewed.
pub fn is_due(renewal: &dyn Renewal, credentials: &str, now: Timestamp) -> bool {
    renewal.expires_at(credentials).is_some_and(|at| at <= now.plus_seconds(EARLY_SECONDS))
}
