//! The compliance topics, with which Shopify passes on what the law demands. They come to one address of the app, for
//! all shops.

use std::collections::BTreeSet;

use http::Method;
use serde::Deserialize;
use serde_json::Value;

use super::{
    api::shop,
    delivery::{SIGNATURE, TOPIC},
    notices::DATA_REQUESTED,
    scopes::{CUSTOMERS_DATA_REQUEST, CUSTOMERS_REDACT, SHOP_REDACT},
    wire::id_of,
};
use crate::{
    install::{Rejection, Step, Vendor, Visit},
    key::{ConnectionId, ConnectionKey},
    platform::{lenient, mapping::MapError},
    platforms::shopify::PLATFORM,
    redaction::{MAX_EMAIL_BYTES, Pseudonym},
    request::RawRequest,
};

/// A demand about a customer. The members of each topic differ, so one topic's body is none of the other's.
#[derive(Deserialize)]
struct Demand {
    #[serde(default)]
    shop_domain: String,
    #[serde(default)]
    customer: Value,
    #[serde(default)]
    orders_to_redact: Option<Value>,
    #[serde(default)]
    data_request: Value,
}

/// Returns the persons whom a demand to redact names.
///
/// # Errors
/// [`MapError::Malformed`] where it names nobody, or is another demand.
pub(super) fn persons(connection: &ConnectionKey, body: &[u8]) -> Result<BTreeSet<Pseudonym>, MapError> {
    let demand: Demand = lenient::read(body)?;
    if demand.orders_to_redact.is_none() {
        return Err(MapError::Malformed("orders_to_redact".into()));
    }
    let id = id_of(&demand.customer["id"]).map(|id| Pseudonym::of_customer(connection, id.as_str()));
    let email = demand.customer["email"].as_str().filter(|email| email.contains('@') && email.len() <= MAX_EMAIL_BYTES);
    let persons: BTreeSet<_> =
        id.into_iter().chain(email.map(|email| Pseudonym::of_email(connection, email))).collect();
    if persons.is_empty() { Err(MapError::Malformed("customer".into())) } else { Ok(persons) }
}

/// Returns the number of a customer's request for what is kept of him, by which the shop's admin shows it. It names
/// nobody.
///
/// # Errors
/// [`MapError::Malformed`] for another demand.
pub(super) fn request(body: &[u8]) -> Result<String, MapError> {
    let demand: Demand = lenient::read(body)?;
    let id = id_of(&demand.data_request["id"]).filter(|id| id.as_str().bytes().all(|byte| byte.is_ascii_digit()));
    id.map(|id| id.to_string()).ok_or_else(|| MapError::Malformed("data_request: the id".into()))
}

/// Acts on a demand at the app's own address. Shopify wants 401 for one whose signature is wrong.
pub(super) fn visit(visit: &Visit, vendor: &Vendor<'_>) -> Result<Step, Rejection> {
    if visit.method != Method::POST {
        return Err(Rejection::Method);
    }
    let app = vendor.app.ok_or(Rejection::NoApp)?;
    let secrets: Vec<&str> = app.secrets().map(|(_, secret)| secret).collect();
    if secrets.is_empty() {
        return Err(Rejection::NoApp);
    }
    let request = RawRequest {
        target: String::new(),
        method: visit.method.clone(),
        headers: visit.headers.clone(),
        body: visit.body.clone(),
        received: visit.now,
    };
    SIGNATURE.verify(&request, &secrets).map_err(|refusal| Rejection::NotProven(refusal.to_string()))?;
    let unreadable = |_| Rejection::Malformed("the body must be as Shopify sends it".into());
    let demand: Demand = lenient::read(&visit.body).map_err(unreadable)?;
    // The body is signed, the header with the shop is not.
    let connection: ConnectionId = shop(&demand.shop_domain.to_ascii_lowercase())
        .ok_or_else(|| Rejection::Malformed("shop_domain must name a shop".into()))?;
    match request.single_header(TOPIC) {
        Some(CUSTOMERS_REDACT) => {
            let key = ConnectionKey { platform: PLATFORM.name.to_owned(), connection };
            let persons = persons(&key, &visit.body).map_err(unreadable)?;
            Ok(Step::Redact { connection: key.connection, persons })
        }
        Some(CUSTOMERS_DATA_REQUEST) => {
            let detail = request_id(&visit.body)?;
            Ok(Step::Note { connection, kind: DATA_REQUESTED.to_owned(), detail })
        }
        Some(SHOP_REDACT) if demand.customer.is_null() => Ok(Step::Erase(connection)),
        _ => Err(Rejection::Malformed("the topic is none of the compliance topics".into())),
    }
}

fn request_id(body: &[u8]) -> Result<String, Rejection> {
    request(body).map_err(|_| Rejection::Malformed("the body must be as Shopify sends it".into()))
}
