//! The mapping of deliveries about carts and checkouts to canonical carts. The Admin API shows neither, so a delivery is
//! all that is known.
//!
//! A cart's id is its token, and whoever has the token has the cart. So the id here is a hash of it. A checkout has a
//! number.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, json};

use super::{mapping::MAPPING, wire};
use crate::{
    change::{Change, Delete, Facets, Upsert},
    entity::{Cart, Content, CustomerId, ExternalId, Line, ProductId},
    install::sha256,
    platform::{
        lenient,
        mapping::{Incoming, MapError, Mapped},
    },
    timestamp::Timestamp,
    transfer::Action,
};

/// The beginning of the topics of checkouts.
const CHECKOUTS: &str = "checkouts/";

pub(super) fn map(incoming: &Incoming<'_>) -> Result<Mapped, MapError> {
    let no_id = || MapError::Malformed("id".into());
    let is_checkout = incoming.scope.starts_with(CHECKOUTS);
    let number = |id: &ExternalId| id.as_str().bytes().all(|byte| byte.is_ascii_digit());
    if incoming.action == Action::Deleted {
        let body: wire::Deleted = lenient::read(incoming.body)?;
        let id = Some(body.id).filter(number).ok_or_else(no_id)?;
        return Ok(Mapped::Change(id, Change::Delete(Delete { source: None, received: incoming.received })));
    }
    let (wire, unreadable): (wire::Cart, _) = lenient::entity(incoming.body)?;
    let id = match is_checkout {
        true => wire.id.filter(number),
        false => wire.token.as_deref().map(hashed),
    };
    let id = id.ok_or_else(|| if is_checkout { no_id() } else { MapError::Malformed("token".into()) })?;
    let mut extra = Map::new();
    extra.insert("kind".into(), if is_checkout { "checkout" } else { "cart" }.into());
    // By this, a checkout is recognised as a cart's.
    extra.insert("cart".into(), json!(wire.cart_token.as_deref().map(hashed)));
    extra.insert("completed_at".into(), json!(wire.completed_at));
    let entity = Cart {
        id: id.clone(),
        status: wire.completed_at.map(|_| "converted".to_owned()),
        order: None,
        customer: wire.customer.id.map(CustomerId),
        email: wire.email,
        currency: wire.currency,
        total: wire.total_price,
        lines: wire.line_items.into_iter().enumerate().map(|(place, wire)| line(place, wire)).collect(),
        coupons: wire.discount_codes.into_iter().filter_map(|code| code.code).collect(),
        created_at: wire.created_at,
        updated_at: wire.updated_at,
    };
    let content = Content::new(&entity, extra).map_err(|_| MapError::Malformed("the whole".into()))?;
    let upsert = Upsert {
        source: wire.updated_at.map(Timestamp::from),
        received: incoming.received,
        observed: false,
        mapping: MAPPING,
        content: content.with_unreadable(unreadable).into(),
        facets: Facets::new(),
    };
    Ok(Mapped::Change(id, Change::Upsert(upsert)))
}

/// Returns what stands for a cart's token.
fn hashed(token: &str) -> ExternalId {
    let text = format!("cart-{}", URL_SAFE_NO_PAD.encode(&sha256(token)[..12]));
    text.parse().unwrap_or_else(|_| 0.into())
}

fn line(place: usize, wire: wire::CartLine) -> Line {
    Line {
        // The lines of a checkout have keys.
        id: wire.id.or(wire.key).unwrap_or_else(|| (place as u64).into()),
        product: wire.product_id.map(ProductId),
        variation: wire.variant_id.map(ProductId),
        name: wire.title,
        sku: wire.sku,
        quantity: wire.quantity,
        price: wire.discounted_price.or(wire.price),
        subtotal: None,
        total: wire.line_price,
        tax: None,
    }
}
