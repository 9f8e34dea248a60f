//! The pull of one entity from WooCommerce.

use http::Method;

use super::{
    answers::{Needs, heard},
    wire,
};
use crate::{
    change::{Change, Delete},
    http_call::{ApiResponse, Fault},
    outcome::Rule,
    platform::{
        lenient,
        mapping::Mapped,
        pull::{Next, Pull, Wanted},
    },
    platforms::woocommerce::{
        WooCommerce,
        api::{call, collection, is_not_found},
        mapping::entity,
    },
};

impl Pull for WooCommerce {
    fn pull(&self, wanted: &Wanted<'_>, answers: &[ApiResponse]) -> Result<Next, Fault> {
        let Wanted { access, entity, id, at } = *wanted;
        let Some(response) = answers.first() else {
            return call(&access, Method::GET, &[collection(entity)?, id.as_str()]).map(Next::Ask);
        };
        let heard = heard(response, at)?;
        if heard.status == 404 && is_not_found(entity, heard.body) {
            let gone = Change::Delete(Delete { source: None, received: at });
            // Trashing also delivers deletes of the same id of other kinds. An entity that neither side knows never
            // existed.
            return Ok(Next::Done(Mapped::IfKnown(id.clone(), gone, Rule::NEVER_HERE)));
        }
        if !heard.is_success() {
            return Err(heard.fault(Needs::Read));
        }
        let (head, _) = lenient::entity::<wire::Head>(heard.body)?;
        if head.id.as_ref() != Some(id) {
            return Err(Fault::Unreadable("another id than was asked for".into()));
        }
        self::entity(entity, heard.body, at, true).map(Next::Done).map_err(Fault::from)
    }
}
