//! The calls to WooCommerce's API.

use http::Method;
use serde::{Deserialize, Serialize};
use url::Url;
use zeroize::Zeroize;

use super::{
    answers::{KEY_IN_QUERY, REST_ROUTE, is_on},
    wire,
};
use crate::{
    entity::EntityKind,
    http_call::{ApiRequest, Fault, SECRET_PARAMETERS},
    platform::{
        lenient,
        pull::{Access, Budget},
    },
};

/// The rate of calls. The API has no limits of its own, but the store is somebody's server.
pub(super) const BUDGET: Budget = Budget { calls: 120, seconds: 60 };

pub(super) fn collection(entity: EntityKind) -> Result<&'static str, Fault> {
    match entity {
        EntityKind::Customer => Ok("customers"),
        EntityKind::Product => Ok("products"),
        EntityKind::Order => Ok("orders"),
        EntityKind::Coupon => Ok("coupons"),
        other => Err(Fault::Unreadable(format!("WooCommerce has no {other}"))),
    }
}

/// Builds the call of `wc/v3` for a path below it, in the way that the connection's settings choose.
pub(super) fn call(access: &Access<'_>, method: Method, path: &[&str]) -> Result<ApiRequest, Fault> {
    let broken = |what: &str| Fault::Connection(format!("the connection's {what} cannot be read; connect it again"));
    let credentials: super::api::Credentials =
        serde_json::from_str(access.credentials).map_err(|_| broken("credentials"))?;
    let mut url = Url::parse(access.site).map_err(|_| broken("site"))?;
    {
        let mut segments = url.path_segments_mut().map_err(|()| broken("site"))?;
        segments.pop_if_empty().extend(["wp-json", "wc", "v3"]).extend(path);
    }
    if is_on(access.settings, REST_ROUTE) {
        // The site's own path stays; the rest after `/wp-json` becomes a parameter.
        let route = url.path().rsplit_once("/wp-json").map(|(site, route)| (format!("{site}/"), route.to_owned()));
        let (site, route) = route.ok_or_else(|| broken("site"))?;
        url.set_path(&site);
        url.query_pairs_mut().append_pair("rest_route", &route);
    }
    // Over http, everybody could read the key.
    if is_on(access.settings, KEY_IN_QUERY) && url.scheme() == "https" {
        url.query_pairs_mut()
            .append_pair(SECRET_PARAMETERS[0], &credentials.consumer_key)
            .append_pair(SECRET_PARAMETERS[1], &credentials.consumer_secret);
        return Ok(ApiRequest::open(method, url));
    }
    Ok(ApiRequest::basic(method, url, &credentials.consumer_key, &credentials.consumer_secret))
}

/// Returns whether a 404 is about the requested resource. The CRUD controllers say `woocommerce_rest_{post
/// type}_invalid_id`, the customers' controller `woocommerce_rest_invalid_id`. A 404 of a firewall, of a theme, or of a
/// site without the plugin (`rest_no_route`) says something else.
pub(super) fn is_not_found(entity: EntityKind, body: &[u8]) -> bool {
    let codes: &[&str] = match entity {
        EntityKind::Customer => &["woocommerce_rest_invalid_id", "woocommerce_rest_customer_invalid_id"],
        EntityKind::Product => &["woocommerce_rest_product_invalid_id"],
        EntityKind::Order => &["woocommerce_rest_shop_order_invalid_id"],
        EntityKind::Coupon => &["woocommerce_rest_shop_coupon_invalid_id"],
        _ => &[],
    };
    lenient::entity::<wire::Head>(body)
        .is_ok_and(|(head, _)| head.code.is_some_and(|code| codes.contains(&code.as_str())))
}

/// A key of the store's REST API, with the permission `read_write`.
#[derive(Serialize, Deserialize, Zeroize)]
#[zeroize(drop)]
pub struct Credentials {
    /// The key's public part, `ck_…`.
    pub consumer_key: String,
    /// The key's secret part, `cs_…`.
    pub consumer_secret: String,
}
