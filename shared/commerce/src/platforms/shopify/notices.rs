//! Shopify's reports about a connection itself.

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{
    platform::{
        lenient,
        mapping::MapError,
        notice::{Notice, Notices, UNINSTALLED},
    },
    platforms::shopify::{
        Shopify,
        scopes::{APP_UNINSTALLED, CUSTOMERS_DATA_REQUEST, SCOPES_UPDATE, SHOP_REDACT},
    },
    timestamp::Timestamp,
};

/// The kind of the [`Notice`] that a customer wants to know what is kept of him.
pub(super) const DATA_REQUESTED: &str = "data-requested";

/// The permissions after a change.
#[derive(Deserialize)]
struct Permissions {
    #[serde(deserialize_with = "lenient::texts")]
    current: Vec<String>,
}

impl Notices for Shopify {
    fn scopes(&self) -> &'static [&'static str] {
        &[APP_UNINSTALLED, SCOPES_UPDATE, CUSTOMERS_DATA_REQUEST, SHOP_REDACT]
    }

    fn read(&self, scope: &str, body: &[u8], received: Timestamp) -> Result<Notice, MapError> {
        let (kind, detail) = match scope {
            SCOPES_UPDATE => {
                let permissions: Permissions = lenient::read(body)?;
                let is_name =
                    |name: &String| name.len() <= 60 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
                let mut names: Vec<_> = permissions.current.into_iter().filter(is_name).take(40).collect();
                names.sort();
                ("permissions", names.join(" "))
            }
            CUSTOMERS_DATA_REQUEST => (DATA_REQUESTED, super::compliance::request(body)?),
            // Two days after the uninstallation it says the same once more; by the app's own address it erases.
            APP_UNINSTALLED | SHOP_REDACT => {
                let _: Map<String, Value> = lenient::read(body)?;
                (UNINSTALLED, String::new())
            }
            _ => return Err(MapError::Malformed("the topic: it tells the registrar nothing".into())),
        };
        Ok(Notice { kind: kind.to_owned(), detail, received })
    }
}
