//! The installation of the app over HTTP, as a merchant's browser does it.

use bytes::Bytes;
use cloud::outbound::{Guarded, Outbound};
use commerce::{
    http_call::{ApiRequest, ApiResponse, Loopback},
    platforms::woocommerce,
};
use http::{HeaderMap, Method};

use crate::{platforms::bigcommerce, world::INSTALL_KEY};

/// Opens an address, without following redirects.
pub async fn open(http: &Guarded, url: &str) -> ApiResponse {
    let request =
        ApiRequest { method: Method::GET, url: url.parse().unwrap(), headers: HeaderMap::new(), body: Bytes::new() };
    http.call(request).await.unwrap()
}

/// Installs the app at a BigCommerce store, where the control panel sends the browser to the app.
pub async fn install_bigcommerce(http: &Guarded, api_url: &str, store: &bigcommerce::Simulator) {
    let page = open(http, &store.authorize(&format!("{api_url}/apps/bigcommerce"))).await;
    assert_eq!(page.status, 200, "{}", String::from_utf8_lossy(&page.body));
}

/// Returns the id of the connection that installing the app at a WooCommerce site makes.
pub fn connection_id(site: &str) -> String {
    woocommerce::site_connection(site, Loopback::Allowed).unwrap().1.as_str().to_owned()
}

/// Installs the app at a WooCommerce site: the app sends the browser to the site, and the merchant approves there.
pub async fn install_woocommerce(http: &Guarded, api_url: &str, site: &str) {
    let site: String = url::form_urlencoded::byte_serialize(site.as_bytes()).collect();
    let mut next = format!("{api_url}/apps/woocommerce/install?site={site}&key={INSTALL_KEY}");
    // The browser goes to the site, which asks; to the address that approves; and back.
    for _ in 0..4 {
        let page = open(http, &next).await;
        let Some(location) = page.headers.get("location") else {
            assert_eq!(page.status, 200, "{next}: {}", String::from_utf8_lossy(&page.body));
            return;
        };
        // The site's page has a button with this address.
        next = location.to_str().unwrap().replace("/wc-auth/v1/authorize?", "/wc-auth/v1/access_granted?");
    }
    panic!("the browser is sent around in circles");
}
