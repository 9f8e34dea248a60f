//! The way by which a request came, by its route at API Gateway or by its path at a function URL. A custom domain may
//! put a path of its own before ours, which does not count.

use commerce::request::decoded;
use lambda_http::{Request, RequestExt, request::RequestContext};

/// The prefix of every path of the admin interface.
const ADMIN: &str = "/admin/";
/// The prefix of every path of an app's pages.
const APPS: &str = "/apps/";
/// The route key of requests without a route of their own.
const NO_ROUTE: &str = "$default";

/// The way by which a request came.
#[derive(Debug, PartialEq, Eq)]
pub enum Way {
    /// The admin interface, with the path without a custom domain's prefix, still encoded.
    Admin(String),
    /// An app's pages.
    App {
        /// The platform's name.
        platform: String,
        /// The last part of the path.
        action: String,
        /// The function's own address, if the request came to its function URL. The public base URL is then the
        /// receiver's.
        own_address: Option<String>,
    },
}

/// Returns the id that API Gateway or the function URL gave a request.
pub fn request_id(request: &Request) -> Option<String> {
    match request.request_context_ref() {
        Some(RequestContext::ApiGatewayV2(context)) => context.request_id.clone(),
        _ => None,
    }
}

/// Returns the way by which a request came, or `None` when it leads nowhere.
pub fn way(request: &Request) -> Option<Way> {
    let (route, domain) = match request.request_context_ref() {
        Some(RequestContext::ApiGatewayV2(context)) => (context.route_key.as_deref(), context.domain_name.as_deref()),
        _ => (None, None),
    };
    let (path, parameters) = (request.raw_http_path(), request.path_parameters());
    match route.filter(|route| *route != NO_ROUTE) {
        Some(route) if route.ends_with("/apps/{platform}/{action}") => {
            let part = |name: &str| parameters.first(name).unwrap_or_default().to_owned();
            Some(Way::App { platform: part("platform"), action: part("action"), own_address: None })
        }
        Some(_) => below_admin(path, parameters.first("proxy")?).map(Way::Admin),
        None if path.starts_with(ADMIN) => Some(Way::Admin(path.to_owned())),
        None => {
            let parts: Option<Vec<_>> = path.strip_prefix(APPS)?.split('/').map(decoded).collect();
            // A path that is no page of an app counts as a page that no app has.
            let (platform, action) = match &parts.unwrap_or_default()[..] {
                [platform, action] => (platform.clone(), action.clone()),
                _ => Default::default(),
            };
            let own_address = domain.filter(|domain| is_function_url(domain)).map(|domain| format!("https://{domain}"));
            Some(Way::App { platform, action, own_address })
        }
    }
}

/// Returns the admin interface's own path. `proxy` is the part that API Gateway found below it; whether that is decoded
/// is not documented.
fn below_admin(path: &str, proxy: &str) -> Option<String> {
    let plain = |text: &str| text.split('/').map(decoded).collect::<Option<Vec<_>>>().map(|parts| parts.join("/"));
    let fits =
        |rest: &str| rest == proxy || plain(rest).is_some_and(|rest| rest == proxy || Some(rest) == plain(proxy));
    path.match_indices('/').find_map(|(at, _)| {
        let own = path.get(at..)?;
        fits(own.strip_prefix(ADMIN)?).then(|| own.to_owned())
    })
}

fn is_function_url(domain: &str) -> bool {
    domain.ends_with(".on.aws") && domain.contains(".lambda-url.")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn event(route: &str, path: &str, parameters: &serde_json::Value, domain: &str) -> Request {
        let event = json!({
            "version": "2.0", "routeKey": route, "rawPath": path, "rawQueryString": "", "headers": {}, "isBase64Encoded": false,
            "pathParameters": parameters,
            "requestContext": {
                "routeKey": route, "domainName": domain, "stage": "$default",
                "http": { "method": "GET", "path": path, "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1", "userAgent": "x" },
            },
        });
        lambda_http::request::from_str(&event.to_string()).unwrap()
    }

    fn admin(path: &str) -> Option<Way> {
        Some(Way::Admin(path.to_owned()))
    }

    #[test]
    fn a_path_before_a_custom_domain_s_routes_is_nothing_of_ours() {
        let route = "ANY /admin/{proxy+}";
        let came = |path: &str, proxy: &str| way(&event(route, path, &json!({ "proxy": proxy }), "api.example.com"));
        assert_eq!(came("/admin/rotation", "rotation"), admin("/admin/rotation"));
        assert_eq!(came("/ch/admin/rotation", "rotation"), admin("/admin/rotation"));
        // A second `/admin` in the path is not taken for the beginning.
        let own = "/admin/connections/woocommerce/admin/pause";
        assert_eq!(came(&format!("/admin{own}"), "connections/woocommerce/admin/pause"), admin(own));
        // An encoded slash stays encoded, whether API Gateway has decoded it or not.
        for proxy in ["connections/p/a%2Fb", "connections/p/a/b"] {
            assert_eq!(came("/ch/admin/connections/p/a%2Fb", proxy), admin("/admin/connections/p/a%2Fb"), "{proxy}");
        }
        assert_eq!(came("/ch/admin/rotation", "connections"), None);

        let page = |platform: &str, action: &str, own_address: Option<&str>| {
            let (platform, action) = (platform.to_owned(), action.to_owned());
            Some(Way::App { platform, action, own_address: own_address.map(str::to_owned) })
        };
        let app = |own_address| page("woocommerce", "install", own_address);
        let parameters = json!({ "platform": "woocommerce", "action": "install" });
        for path in ["/apps/woocommerce/install", "/ch/apps/woocommerce/install"] {
            let came = event("GET /apps/{platform}/{action}", path, &parameters, "x.lambda-url.eu-west-1.on.aws");
            assert_eq!(way(&came), app(None), "{path}");
        }
        let direct = |path: &str, domain: &str| way(&event("$default", path, &json!({}), domain));
        let domain = "x.lambda-url.eu-west-1.on.aws";
        let own = Some("https://x.lambda-url.eu-west-1.on.aws");
        assert_eq!(direct("/apps/woocommerce/install", domain), app(own));
        assert_eq!(direct("/apps/woo%63ommerce/install", domain), app(own));
        assert_eq!(direct("/apps/woocommerce/install", "evil.example.com"), app(None));
        assert_eq!(direct("/admin/rotation", domain), admin("/admin/rotation"));
        for none in ["/apps/", "/apps/woocommerce", "/apps/a/b/c", "/apps/a/%zz"] {
            assert_eq!(direct(none, domain), page("", "", own), "{none}");
        }
        for nothing in ["/", "/apps", "/ch/admin/rotation", "/ch/apps/woocommerce/install"] {
            assert_eq!(direct(nothing, domain), None, "{nothing}");
        }
    }
}
