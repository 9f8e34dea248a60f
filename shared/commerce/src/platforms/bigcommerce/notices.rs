//! BigCommerce's reports about a connection itself.

use super::wire;
use crate::{
    platform::{
        mapping::MapError,
        notice::{Notice, Notices, UNINSTALLED},
    },
    platforms::bigcommerce::{
        BigCommerce,
        scopes::{APP_UNINSTALLED, DELIVERY_EXCEPTION},
    },
    timestamp::Timestamp,
};

impl Notices for BigCommerce {
    fn scopes(&self) -> &'static [&'static str] {
        &[APP_UNINSTALLED, DELIVERY_EXCEPTION]
    }

    fn read(&self, scope: &str, body: &[u8], received: Timestamp) -> Result<Notice, MapError> {
        let callback = wire::callback(body)?;
        let digits = |name: &str| {
            let id = wire::id_of(&callback.data[name])?;
            id.as_str().bytes().all(|byte| byte.is_ascii_digit()).then(|| id.to_string())
        };
        let (kind, detail) = match scope {
            APP_UNINSTALLED => (UNINSTALLED, String::new()),
            _ => (
                "delivery-exception",
                [digits("error_code"), digits("id")].into_iter().flatten().collect::<Vec<_>>().join(" "),
            ),
        };
        Ok(Notice { kind: kind.to_owned(), detail, received })
    }
}
