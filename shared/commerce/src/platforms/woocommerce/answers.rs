//! The first reading of a site's answer: the API's, one with something around it, or none of the API's. Sites are
//! somebody's WordPress, so pages of plugins, hosts and firewalls come in place of answers, and PHP's warnings before
//! them. Each gets one sentence that says what to do.

use serde::de::IgnoredAny;
use serde_json::{Map, Value, value::RawValue};

use super::wire;
use crate::{
    http_call::{ApiResponse, Fault},
    platform::{
        lenient::{entity, without_mark},
        webhooks::Occasion,
    },
    timestamp::Timestamp,
};

/// The setting for a site with plain permalinks: its API is at `?rest_route=` [`rest_get_url_prefix` and `get_rest_url`
/// in `wp-includes/rest-api.php`].
pub const REST_ROUTE: &str = "rest_route";
/// The setting that sends the key in the query, as WooCommerce documents for hosts that strip `Authorization`.
pub const KEY_IN_QUERY: &str = "key_in_query";

/// Returns whether one of these settings is on.
pub fn is_on(settings: &Map<String, Value>, name: &str) -> bool {
    settings.get(name).and_then(Value::as_bool).unwrap_or(false)
}

/// The longest wait during maintenance, in seconds. WordPress sends `Retry-After: 600` while it updates a plugin, which
/// takes seconds [`wp_maintenance` in `wp-includes/load.php`].
const MAINTENANCE_SECONDS: i64 = 60;
/// The limits of the search for JSON behind other text: this many bytes, and this many places.
const MAX_BEFORE: usize = 64 * 1024;
const MAX_PLACES: usize = 64;

/// The answer of a store's API.
pub struct Heard<'a> {
    /// The status that it means.
    pub status: u16,
    /// The JSON.
    pub body: &'a [u8],
}

/// Finds the API's part of an answer.
///
/// # Errors
/// The [`Fault`] of an answer that is not the API's, or that asks to wait.
pub fn heard(answer: &ApiResponse, at: Timestamp) -> Result<Heard<'_>, Fault> {
    match answer.status {
        503 => Err(match answer.fault(at) {
            Fault::Throttled { seconds } => Fault::Throttled { seconds: seconds.min(MAINTENANCE_SECONDS) },
            other => other,
        }),
        300..=399 | 408 | 429 | 500.. => Err(answer.fault(at)),
        status => {
            let Some((body, alone)) = json_in(&answer.body) else { return Err(no_api(status, &answer.body)) };
            // Any output of PHP before the answer makes the status 200; the error object has the real one.
            let error = || wire_error(body).filter(|_| !alone && answer.is_success());
            Ok(Heard { status: error().unwrap_or(status), body })
        }
    }
}

impl Heard<'_> {
    /// Returns whether the call succeeded.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Returns the code of an error, if it is a word of WordPress or a plugin. No other part of the error is repeated.
    pub fn code(&self) -> Option<String> {
        head(self.body)?.code.filter(|code| is_word(code))
    }

    /// Maps an unsuccessful answer to a fault.
    pub fn fault(&self, needs: Needs) -> Fault {
        let code = self.code().unwrap_or_default();
        let why = match (self.status, code.as_str()) {
            // The texts are translated, the codes are not. The same key has just been used for reading.
            (401, AUTHENTICATION) if needs == Needs::Write => {
                "the key may only read: give it the permission Read/Write at WooCommerce → Settings → Advanced → REST API".into()
            }
            (401, AUTHENTICATION) => "the store does not know the key (401): check site, consumer_key and consumer_secret, and \
                                      whether the key may read"
                .into(),
            (401, _) => format!(
                "the store takes the call for nobody's (401 {code}): check the key; if it is right, the host takes the header \
                 Authorization away, or a plugin refuses the API to whoever is not logged in"
            ),
            (403, _) => format!(
                "the store refuses the user that the key belongs to (403 {code}): make a key for an administrator or a shop \
                 manager, or let /wp-json/wc/v3 through the plugin that refuses it"
            ),
            (404, "rest_no_route") => {
                "the site has no API of WooCommerce (404): check whether the plugin is active there, and the site's address".into()
            }
            (status, _) => format!("the store answered {status} {code}").trim_end().to_owned(),
        };
        Fault::Connection(why)
    }
}

/// The permission that a call needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Needs {
    /// *Read*.
    Read,
    /// *Write*, with a key that has just been used for reading.
    Write,
}

/// The code for an invalid key, or one without the permission [`class-wc-rest-authentication.php`].
const AUTHENTICATION: &str = "woocommerce_rest_authentication_error";

/// Returns settings for another way to call a site, if this answer shows that the present way does not reach its API.
/// The key goes into the query only while connecting, and only if the site did not see it: a refused key is not exposed
/// further.
pub fn another_way(
    settings: &Map<String, Value>,
    answer: &ApiResponse,
    occasion: Occasion,
) -> Option<Map<String, Value>> {
    let json = json_in(&answer.body);
    let setting = match answer.status {
        // The answer of the server, a theme, or the front page, which ignores paths.
        200..=399 | 404 if json.is_none() => REST_ROUTE,
        401 if occasion == Occasion::Connecting => {
            let code = json.and_then(|(body, _)| head(body)?.code)?;
            (code != AUTHENTICATION).then_some(KEY_IN_QUERY)?
        }
        _ => return None,
    };
    let mut other = settings.clone();
    (other.insert(setting.to_owned(), true.into()) != Some(true.into())).then_some(other)
}

/// Returns whether a text is a word, such as codes are.
pub fn is_word(code: &str) -> bool {
    code.len() <= 100 && code.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

/// Maps an answer that is not the API's to a fault.
fn no_api(status: u16, body: &[u8]) -> Fault {
    let through = "let /wp-json/wc/v3 through";
    Fault::Connection(match status {
        200..=299 if body.iter().all(u8::is_ascii_whitespace) => {
            return Fault::Unreadable("it is empty".to_owned());
        }
        200..=299 => format!(
            "the site answers with a page in place of its API ({status}): a plugin for maintenance, privacy or caching may show it; {through}"
        ),
        401 => format!("the site asks for a password of its own before WooCommerce is reached (401): {through}"),
        403 => format!("a firewall or a security plugin of the site refuses the call (403): {through}"),
        404 => "there is no API of WordPress at this address (404): check the site's address, without what follows it"
            .to_owned(),
        status => format!("the site answered {status} with a page: {through}"),
    })
}

/// Returns the status in an error object.
fn wire_error(body: &[u8]) -> Option<u16> {
    head(body).filter(|head| head.id.is_none() && head.code.is_some())?.error_status()
}

fn head(body: &[u8]) -> Option<wire::Head> {
    entity(body).ok().map(|(head, _)| head)
}

/// Returns the JSON in an answer, and whether it stands there alone. PHP writes its warnings before it, and caches
/// their remarks behind it.
///
/// JSON after a warning counts only if all from there to the end is one object or list. A text has at most one such
/// place, because from a place within it there would be a bracket too many.
fn json_in(body: &[u8]) -> Option<(&[u8], bool)> {
    let body = without_mark(body).trim_ascii();
    if matches!(body.first(), Some(b'{' | b'[')) {
        let mut values = serde_json::Deserializer::from_slice(body).into_iter::<IgnoredAny>();
        let whole = values.next().is_some_and(|value| value.is_ok());
        let (json, rest) = body.split_at(values.byte_offset().min(body.len()));
        // The reader reports JSON that breaks off.
        return Some(if whole && rest.trim_ascii_start().first() == Some(&b'<') {
            (json, false)
        } else {
            (body, true)
        });
    }
    let begins = |at: &usize| matches!(body.get(*at), Some(b'{' | b'['));
    let mut places = (0..body.len().min(MAX_BEFORE)).filter(begins).take(MAX_PLACES);
    let json = places.find_map(|at| body.get(at..).filter(|rest| serde_json::from_slice::<&RawValue>(rest).is_ok()))?;
    Some((json, false))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use bytes::Bytes;
    use http::{HeaderMap, HeaderName, HeaderValue};

    use super::*;
    use crate::platform::webhooks::Occasion;

    const NOW: Timestamp = Timestamp::from_micros(0);
    const PAGE: &str = "<!DOCTYPE html><html><script>var a = [1, {}];</script><body>Coming soon</body></html>";

    fn answer(status: u16, headers: &[(&'static str, &'static str)], body: &str) -> ApiResponse {
        let header = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        let headers = HeaderMap::from_iter(headers.iter().map(header));
        ApiResponse { status, headers, body: Bytes::copy_from_slice(body.as_bytes()) }
    }

    fn found(body: &str) -> Option<String> {
        json_in(body.as_bytes()).map(|(json, _)| String::from_utf8(json.to_vec()).unwrap())
    }

    #[test]
    fn json_is_found_behind_what_php_wrote_and_nothing_else_is() {
        let json = r#"{"id":7,"meta_data":[{"value":{}}]}"#;
        for before in [
            "",
            "\u{feff}",
            " \n",
            "\u{feff}\r\n",
            "<br />\n<b>Warning</b>:  Undefined array key \"x\" in <b>/var/www/a.php</b> on line <b>12</b><br />\n",
            "<br />\n<b>Notice</b>: key [0] of array{} in /a.php<br />\n",
            "\nDeprecated: Optional parameter $a {b} in /a.php on line 3\n",
            "<b>Warning</b>: {\"a\":1}, [ and { too<br />",
            PAGE,
        ] {
            assert_eq!(found(&format!("{before}{json}")).as_deref(), Some(json), "{before}");
            assert_eq!(found(&format!("{before}[{json}]\n")), Some(format!("[{json}]")), "{before}");
        }
        assert_eq!(found(&format!("{json}\n<!-- Performance optimized by a cache -->")).as_deref(), Some(json));
        for none in ["", " ", PAGE, "<b>Warning</b>: [0] in /a.php", "Warning: {\"id\":7", "null", "7", "\"{}\""] {
            assert_eq!(found(none), None, "{none}");
        }
        // The reader reports JSON that breaks off or continues.
        for odd in ["{\"id\":7", "{\"id\":7} {}", "{\"id\":7}x"] {
            assert_eq!(found(odd).as_deref(), Some(odd));
        }
        let hostile = "[".repeat(1_000_000);
        assert_eq!(found(&hostile), Some(hostile.clone()));
        assert_eq!(found(&format!("x{hostile}")), None);
    }

    #[test]
    fn each_answer_is_told_for_what_it_is() {
        let fault = |status, headers: &[(&'static str, &'static str)], body: &str, needs| {
            let answer = answer(status, headers, body);
            match heard(&answer, NOW).map(|heard| heard.fault(needs)) {
                Ok(fault) | Err(fault) => fault,
            }
        };
        let told = |status, headers: &[(&'static str, &'static str)], body: &str, needs| match fault(
            status, headers, body, needs,
        ) {
            Fault::Connection(why) => why,
            other => unreachable!("{other:?}"),
        };
        let error =
            |code: &str, status: u16| format!(r#"{{"code":"{code}","message":"s3cr3t","data":{{"status":{status}}}}}"#);
        for (status, body, needs, says) in [
            (401, error(AUTHENTICATION, 401), Needs::Write, "permission Read/Write"),
            (401, error(AUTHENTICATION, 401), Needs::Read, "does not know the key"),
            (401, error("woocommerce_rest_cannot_view", 401), Needs::Read, "Authorization"),
            (403, error("woocommerce_rest_cannot_view", 403), Needs::Read, "administrator or a shop manager"),
            (404, error("rest_no_route", 404), Needs::Read, "plugin is active"),
            (403, PAGE.to_owned(), Needs::Read, "firewall"),
            (401, PAGE.to_owned(), Needs::Read, "password of its own"),
            (404, PAGE.to_owned(), Needs::Read, "site's address"),
            (200, PAGE.to_owned(), Needs::Read, "maintenance"),
            (
                200,
                format!("<b>Warning</b>: x<br />{}", error(AUTHENTICATION, 401)),
                Needs::Write,
                "permission Read/Write",
            ),
        ] {
            let why = told(status, &[], &body, needs);
            assert!(why.contains(says) && !why.contains("s3cr3t"), "{status} {body}: {why}");
        }
        let location = [("location", "https://www.shop.example.com/wp-json/wc/v3/orders/7001?consumer_secret=cs_1")];
        let why = told(301, &location, "", Needs::Read);
        assert!(why.contains("https://www.shop.example.com ") && !why.contains("cs_1"), "{why}");
        // The maintenance takes seconds, not ten minutes; a limit on calls is trusted.
        let wait = [("retry-after", "600")];
        assert_eq!(fault(503, &wait, PAGE, Needs::Read), Fault::Throttled { seconds: 60 });
        assert_eq!(fault(503, &[("retry-after", "5")], PAGE, Needs::Read), Fault::Throttled { seconds: 5 });
        assert_eq!(fault(429, &wait, PAGE, Needs::Read), Fault::Throttled { seconds: 600 });
        assert!(matches!(fault(503, &[], PAGE, Needs::Read), Fault::Unavailable(_)));
        assert!(matches!(fault(200, &[], " ", Needs::Read), Fault::Unreadable(_)));
    }

    #[test]
    fn other_ways_are_tried_once_and_a_refused_key_is_not_shown_around() {
        let none = Map::new();
        let way = |settings: &Map<String, Value>, status, body: &str, occasion| {
            another_way(settings, &answer(status, &[], body), occasion)
        };
        let plain = way(&none, 404, PAGE, Occasion::Routine).unwrap();
        assert!(is_on(&plain, REST_ROUTE) && !is_on(&plain, KEY_IN_QUERY));
        assert_eq!(way(&plain, 404, PAGE, Occasion::Connecting), None, "it was tried");
        for (status, body) in [(200, PAGE), (301, "")] {
            assert!(way(&none, status, body, Occasion::Routine).is_some(), "{status}");
        }
        let nobody = r#"{"code":"woocommerce_rest_cannot_view","message":"","data":{"status":401}}"#;
        let queried = way(&plain, 401, nobody, Occasion::Connecting).unwrap();
        assert!(is_on(&queried, REST_ROUTE) && is_on(&queried, KEY_IN_QUERY));
        assert_eq!(way(&queried, 401, nobody, Occasion::Connecting), None, "it was tried");
        assert_eq!(way(&none, 401, nobody, Occasion::Routine), None);
        let refused = nobody.replace("woocommerce_rest_cannot_view", AUTHENTICATION);
        for (status, body) in [(401, &*refused), (401, PAGE), (403, nobody), (404, nobody), (500, PAGE), (200, "[]")] {
            assert_eq!(way(&none, status, body, Occasion::Connecting), None, "{status} {body}");
        }
    }
}
