//! WooCommerce's reports about a connection itself.

use super::{answers::is_word, wire};
use crate::{
    platform::{
        lenient,
        mapping::Incoming,
        notice::{Notice, Notices, WITHOUT_RIGHTS},
    },
    platforms::woocommerce::WooCommerce,
};

impl Notices for WooCommerce {
    /// Returns the notice that a webhook's owner has lost permissions. The store makes bodies as the user who owns the
    /// webhook; after such a loss, it delivers its own refusal for each change.
    fn complaint(&self, incoming: &Incoming<'_>) -> Option<Notice> {
        let (head, _) = lenient::entity::<wire::Head>(incoming.body).ok()?;
        let refused = head.id.is_none() && matches!(head.error_status(), Some(401 | 403));
        refused.then(|| Notice {
            kind: format!("{WITHOUT_RIGHTS}{}", incoming.scope),
            detail: head.code.filter(|code| is_word(code)).unwrap_or_default(),
            received: incoming.received,
        })
    }
}
