//! The calls to a client's services.

use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use url::Url;
use zeroize::Zeroize;

use crate::{
    entity::{EntityKind, ExternalId},
    http_call::{ApiRequest, Fault},
    platform::pull::{Access, Budget},
    platforms::directscale::events::{ASSOCIATE, Group, ORDER_DETAIL},
};

/// The rate of calls. No limit is documented; this is polite.
pub(super) const BUDGET: Budget = Budget { calls: 60, seconds: 30 };

/// Returns the service that gives an entity, and the known groups of its answer, or `None` where no service is known.
pub(super) fn service(entity: EntityKind, settings: &Map<String, Value>) -> Option<(Service, &'static [Group])> {
    match entity {
        EntityKind::Customer => {
            let (path, argument) = ("AssociateService/v1/GetAssociate".to_owned(), "associateId".to_owned());
            Some((Service { path, argument }, ASSOCIATE))
        }
        EntityKind::Order => {
            let services: Services = serde_json::from_value(settings.get("services")?.clone()).ok()?;
            Some((services.order?, ORDER_DETAIL))
        }
        _ => None,
    }
}

/// Builds the call `POST {site}/api/extension/services/<Service>/v1/<Method>`, with the arguments as a JSON object.
pub(super) fn call(access: &Access<'_>, service: &Service, id: &ExternalId) -> Result<ApiRequest, Fault> {
    let broken = |what: &str| Fault::Connection(format!("the connection's {what} cannot be read; connect it again"));
    let credentials: Credentials = serde_json::from_str(access.credentials).map_err(|_| broken("credentials"))?;
    let mut url = Url::parse(access.site).map_err(|_| broken("site"))?;
    url.path_segments_mut()
        .map_err(|()| broken("site"))?
        .pop_if_empty()
        .extend(["api", "extension", "services"])
        .extend(service.path.split('/'));
    let key = zeroize::Zeroizing::new(format!("Bearer {}", credentials.api_key));
    let argument = id.as_str().parse::<u64>().map_or_else(|_| json!(id), |number| json!(number));
    Ok(ApiRequest::with_secret(Method::POST, url, "authorization", &key)?.json(&json!({ &service.argument: argument })))
}

/// The key for calls to the Extension API, which is not one of the keys that DirectScale sends.
#[derive(Serialize, Deserialize, Zeroize)]
#[zeroize(drop)]
pub struct Credentials {
    /// The key, as Extension Settings shows it.
    pub api_key: String,
}

/// The services of the Extension API without public documentation, whose methods a client has to name.
#[derive(Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct Services {
    /// The service that gives an order by its number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<Service>,
}

/// A service that a client names.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// The path below `/api/extension/services/`: `OrderService/v1/…`
    pub path: String,
    /// The name of the argument that is the id.
    pub argument: String,
}
