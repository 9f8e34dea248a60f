//! Owns the removal of values that let their holder act, from entities of every platform: passwords, tokens and keys,
//! by their usual names; links that contain one of them; and links whose purpose makes them personal.
//!
//! A name alone decides little: the `code` of a coupon, a country or a currency is no secret, but a link's parameter
//! `code` is one. A value that says only whether a secret exists (`true`, `false`, `null`) is kept.

use std::{borrow::Cow, cell::RefCell, collections::HashMap};

use serde_json::{Map, Value};
use url::form_urlencoded;

/// The endings of secrets' names. A word may be joined to the one before it: `accesstoken`.
const SECRETS: &[&str] =
    &["password", "passwd", "passphrase", "passcode", "pwd", "secret", "token", "nonce", "signature", "credential"];
/// The endings of secrets' names that count only as separate words.
const SECRET_WORDS: &[&str] =
    &["otp", "totp", "jwt", "cvv", "cvv2", "cvc", "bearer", "authorization", "cookie", "hmac"];
/// The whole names of secrets.
const SECRET_NAMES: &[&str] = &[
    "pin",
    "pass",
    "user_pass",
    "auth",
    "session",
    "session_id",
    "sessionid",
    "phpsessid",
    "jsessionid",
    "card_number",
    "cardnumber",
    "cc_number",
    "ccnumber",
    "credit_card_number",
];
/// The words before `key` or `code` that make it open something.
const OPENERS: &[&str] = &[
    "access",
    "account",
    "activation",
    "api",
    "app",
    "auth",
    "authentication",
    "authorization",
    "backup",
    "cart",
    "certificate",
    "client",
    "consumer",
    "download",
    "encryption",
    "gift",
    "giftcard",
    "hmac",
    "invitation",
    "invite",
    "licence",
    "license",
    "login",
    "master",
    "mfa",
    "order",
    "otp",
    "private",
    "recovery",
    "redeem",
    "redemption",
    "registration",
    "reset",
    "secret",
    "security",
    "service",
    "session",
    "shared",
    "signing",
    "ssh",
    "storage",
    "unlock",
    "verification",
    "webhook",
];
/// The words before `code` that make it a number printed on paper, while a key of them opens something.
const NUMBERED: &[&str] = &["account", "app", "cart", "client", "order", "service", "storage"];
/// The purposes of links that are made for one person.
const PERSONAL: &[&str] = &[
    "activate",
    "activation",
    "autologin",
    "checkout",
    "confirm",
    "confirmation",
    "form",
    "impersonation",
    "invitation",
    "invite",
    "login",
    "magic",
    "pay",
    "payment",
    "recover",
    "recovery",
    "redirect",
    "reset",
    "signin",
    "sso",
    "unsubscribe",
    "verification",
    "verify",
];
/// The endings of links' names.
const LINKS: &[&str] = &["url", "uri", "link", "href"];
/// The endings of the names of links' parameters that grant access, beyond [`SECRETS`].
const PARAMETERS: &[&str] =
    &["code", "key", "sig", "sign", "access", "auth", "oauth", "sid", "ticket", "invite", "assertion", "hash"];
/// The words before `code` and `key` in a link's parameter that only choose what is shown.
const CHOOSERS: &[&str] = &[
    "area",
    "cache",
    "campaign",
    "category",
    "color",
    "colour",
    "country",
    "coupon",
    "currency",
    "discount",
    "error",
    "item",
    "lang",
    "language",
    "locale",
    "model",
    "post",
    "postal",
    "product",
    "promo",
    "promotion",
    "public",
    "region",
    "search",
    "size",
    "sort",
    "state",
    "status",
    "store",
    "style",
    "tax",
    "tracking",
    "variant",
    "zip",
];
/// The words after a name that do not change its meaning: `password_hash` is a password's.
const TAILS: &[&str] = &["value", "text", "hash", "data", "string", "raw", "encrypted", "old", "new"];
/// The members that hold a name, and those that hold its value, where they are separate: `{"key": "_token", "value":
/// "…"}`.
const NAMED_BY: &[&str] = &["key", "name", "id", "display_key", "display_name", "label", "field"];
const VALUES: &[&str] =
    &["value", "display_value", "structured_value", "text", "default_value", "old_value", "new_value"];
/// The endings of links to pictures, where a hash identifies only the picture.
const PICTURES: &[&str] = &[".jpg", ".jpeg", ".png", ".gif", ".webp", ".svg", ".avif"];
/// The number of levels to which links within links are searched.
const MAX_WITHIN: u8 = 3;

/// The most names that are remembered, and the longest one, in bytes.
const MAX_NAMES: usize = 1_000;
const MAX_NAME_BYTES: usize = 100;
/// The longest text, in bytes, that holds no private key for sure: its first and last lines alone are longer.
const NO_PRIVATE_KEY: usize = "-----BEGIN PRIVATE KEY-----".len() - 1;

/// The meaning of a member's name for its value.
#[derive(Clone, Copy)]
struct Said {
    secret: bool,
    personal_link: bool,
    tracking: bool,
}

/// The names of members that were judged already. The same few names stand in every entity, so each is judged once.
#[derive(Default)]
struct Names(HashMap<String, Said>);

thread_local! {
    static NAMES: RefCell<Names> = RefCell::default();
}

impl Names {
    fn of(&mut self, name: &str) -> Said {
        if let Some(said) = self.0.get(name) {
            return *said;
        }
        let words = words(name);
        let said = Said {
            secret: is_secret(&words),
            personal_link: is_personal_link(&words),
            tracking: words.iter().any(|word| word.starts_with("track")),
        };
        if name.len() <= MAX_NAME_BYTES {
            // An entity of odd names makes the usual ones judged again, and no more.
            if self.0.len() == MAX_NAMES {
                self.0.clear();
            }
            self.0.insert(name.to_owned(), said);
        }
        said
    }
}

/// Removes values that let their holder act, at any depth. Removes whole elements of lists, but cuts only the link in a
/// longer text.
pub fn hide(members: &mut Map<String, Value>) {
    NAMES.with_borrow_mut(|names| hide_by(members, names));
}

fn hide_by(members: &mut Map<String, Value>, names: &mut Names) {
    // Only an object with a value beside can have a name in another member.
    if members.keys().any(|name| VALUES.contains(&name.as_str())) {
        let mut is_secret =
            |name: &str| members.get(name).and_then(Value::as_str).is_some_and(|name| names.of(name).secret);
        if is_secret("type") || NAMED_BY.iter().any(|name| is_secret(name)) {
            members.retain(|name, value| !VALUES.contains(&name.as_str()) || is_sign(value));
        }
    }
    members.retain(|name, value| {
        let said = names.of(name);
        if (said.secret || said.personal_link) && !is_sign(value) {
            return false;
        }
        // A parcel's tracking code is not secret, and its link is for everybody.
        stays(value, said.tracking, names)
    });
}

/// Returns whether a value says at most whether something exists.
fn is_sign(value: &Value) -> bool {
    matches!(value, Value::Null | Value::Bool(_))
}

fn stays(value: &mut Value, tracking: bool, names: &mut Names) -> bool {
    match value {
        Value::Object(members) => hide_by(members, names),
        Value::Array(elements) => elements.retain_mut(|element| stays(element, tracking, names)),
        Value::String(text) => return text_stays(text, tracking, names),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
    true
}

/// Returns whether a text cannot hold a credential, a link with parameters or user information, or JSON. Nearly every text
/// is one of these.
fn is_plain(text: &str) -> bool {
    let begins =
        |sign: &str| text.as_bytes().get(..sign.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(sign.as_bytes()));
    text.len() <= NO_PRIVATE_KEY
        && !text.bytes().any(|byte| matches!(byte, b':' | b'?' | b'#' | b'{' | b'['))
        && !text.starts_with(char::is_whitespace)
        && !["eyj", "bearer", "basic", "apikey"].iter().any(|sign| begins(sign))
}

fn text_stays(text: &mut String, tracking: bool, names: &mut Names) -> bool {
    if is_plain(text) {
        return true;
    }
    if is_credential(text) {
        return false;
    }
    if text.starts_with(['{', '['])
        && let Ok(mut within) = serde_json::from_str::<Value>(text)
    {
        let before = within.clone();
        if stays(&mut within, tracking, names) && within != before {
            *text = within.to_string();
        }
        return true;
    }
    let ends = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '<' | '>' | '`');
    if !text.trim().contains(ends) {
        return !opens(text.trim(), tracking, 0);
    }
    // In a longer text, only the part of a link that opens something is cut.
    let link = |part: &str| part.contains("://") || part.starts_with(['/', '?']) || part.starts_with("www.");
    if text.split(ends).any(|part| link(part) && opens(part, tracking, 0)) {
        let mut cut = String::with_capacity(text.len());
        for part in text.split_inclusive(ends) {
            let end = part.chars().next_back().filter(|c| ends(*c)).map_or(0, char::len_utf8);
            let (part, end) = part.split_at(part.len() - end);
            let kept = if link(part) && opens(part, tracking, 0) { bare(part) } else { Cow::Borrowed(part) };
            cut.push_str(&kept);
            cut.push_str(end);
        }
        *text = cut;
    }
    true
}

/// Returns a link without its parameters and its user information.
fn bare(link: &str) -> Cow<'_, str> {
    let link = link.split(['?', '#']).next().unwrap_or_default();
    match link.split_once("://") {
        Some((scheme, rest)) if user_info(rest).is_some() => {
            let rest = user_info(rest).map_or("", |user| &rest[user.len() + 1..]);
            Cow::Owned(format!("{scheme}://{rest}"))
        }
        _ => Cow::Borrowed(link),
    }
}

/// Returns the user information of a link: the text before the host, without its at sign.
fn user_info(after_scheme: &str) -> Option<&str> {
    let host = after_scheme.split(['/', '?', '#', '\\']).next()?;
    host.rsplit_once('@').map(|(user, _)| user)
}

/// Returns whether a link contains something that grants access.
fn opens(link: &str, tracking: bool, within: u8) -> bool {
    let link = if link.contains("\\/") { Cow::Owned(link.replace("\\/", "/")) } else { Cow::Borrowed(link) };
    if link.split_once("://").is_some_and(|(_, rest)| user_info(rest).is_some_and(|user| !user.is_empty())) {
        return true;
    }
    let Some((path, parameters)) = link.split_once(['?', '#']) else { return false };
    let picture = {
        let path = path.to_ascii_lowercase();
        PICTURES.iter().any(|ending| path.ends_with(ending))
    };
    // Parameters may be separated by `&amp;`, and may follow a fragment's path.
    parameters.split(['&', ';', '?', '#']).any(|parameter| {
        form_urlencoded::parse(parameter.as_bytes()).any(|(name, value)| {
            let words = words(name.rsplit('/').next().unwrap_or_default());
            let last = words.last().map_or("", String::as_str);
            let harmless = picture && last == "hash" || tracking && last == "code";
            !value.is_empty()
                && (is_parameter(&words) && !harmless
                    || within < MAX_WITHIN && opens(&value, tracking, within.saturating_add(1)))
        })
    })
}

/// Returns whether a text is a credential whatever its name: a signed token, a private key, or a call's `Authorization`
/// header.
fn is_credential(text: &str) -> bool {
    let text = text.trim();
    let part =
        |part: &str| part.len() >= 8 && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if text.starts_with("eyJ") && text.split('.').count() == 3 && text.split('.').all(part) {
        return true;
    }
    if text.contains("-----BEGIN ") && text.contains("PRIVATE KEY-----") {
        return true;
    }
    let header =
        text.split_once(' ').filter(|(_, rest)| rest.len() >= 16 && rest.bytes().all(|b| b.is_ascii_graphic()));
    header.is_some_and(|(scheme, _)| ["bearer", "basic", "apikey"].contains(&scheme.to_ascii_lowercase().as_str()))
}

/// Splits a name into its lower-case words, whatever the spelling: `api_key`, `api-key`, `apiKey`, `APIKey`.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let (mut before, mut characters) = (None::<char>, name.chars().peekable());
    while let Some(c) = characters.next() {
        let after = characters.peek();
        let begins = c.is_uppercase()
            && before.is_some_and(|before| {
                before.is_lowercase()
                    || before.is_numeric()
                    || before.is_uppercase() && after.is_some_and(|after| after.is_lowercase())
            });
        if begins || !c.is_alphanumeric() {
            words.push(String::new());
        }
        if c.is_alphanumeric()
            && let Some(word) = words.last_mut()
        {
            word.extend(c.to_lowercase());
        }
        before = Some(c);
    }
    words.retain(|word| !word.is_empty());
    words
}

/// Returns the last word with a meaning, and the one before it.
fn last(words: &[String]) -> Option<(&str, &str)> {
    let tail = |word: &&String| TAILS.contains(&word.as_str()) || word.bytes().all(|b| b.is_ascii_digit());
    let said = words.len() - words.iter().rev().take_while(tail).count();
    let last = said.checked_sub(1).and_then(|place| words.get(place))?;
    let before = said.checked_sub(2).and_then(|place| words.get(place)).map_or("", String::as_str);
    Some((last.as_str(), before))
}

fn singular(word: &str) -> &str {
    word.strip_suffix('s').filter(|word| word.len() > 2 && !word.ends_with('s')).unwrap_or(word)
}

/// Returns whether a name is a secret's.
fn is_secret(words: &[String]) -> bool {
    if SECRET_NAMES.contains(&words.join("_").as_str()) {
        return true;
    }
    let Some((word, before)) = last(words) else { return false };
    let word = singular(word);
    let joined = |kind: &str| word.strip_suffix(kind).filter(|opener| !opener.is_empty());
    SECRETS.iter().any(|secret| word.ends_with(secret))
        || SECRET_WORDS.contains(&word)
        || OPENERS.contains(&before) && word == "key"
        || OPENERS.contains(&before) && word == "code" && !NUMBERED.contains(&before)
        || before == "card" && (word == "pin" || word == "code" && words.iter().any(|word| word == "gift"))
        || joined("key").is_some_and(|opener| OPENERS.contains(&opener))
        || joined("code").is_some_and(|opener| OPENERS.contains(&opener) && !NUMBERED.contains(&opener))
}

/// Returns whether a name is that of a link made for one person.
fn is_personal_link(words: &[String]) -> bool {
    let Some((word, _)) = words.split_last() else { return false };
    LINKS.contains(&singular(word)) && words.iter().any(|word| PERSONAL.contains(&word.as_str()))
}

/// Returns whether a name is that of a link's parameter that grants access.
fn is_parameter(words: &[String]) -> bool {
    if is_secret(words) {
        return true;
    }
    let accessory = |word: &str| word.starts_with("accessor") || word.starts_with("accessib");
    if words.iter().any(|word| word.starts_with("access") && !accessory(word)) {
        return true;
    }
    let Some((word, rest)) = words.split_last() else { return false };
    let chooses = rest.last().is_some_and(|before| CHOOSERS.contains(&before.as_str()));
    PARAMETERS.contains(&word.as_str()) && !chooses
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample};
    use serde_json::json;

    use super::*;

    fn hidden(value: Value) -> Value {
        let Value::Object(mut members) = value else { unreachable!() };
        hide(&mut members);
        Value::Object(members)
    }

    #[test]
    fn what_secrets_are_called() {
        for name in [
            "password",
            "Password",
            "user_password",
            "newPassword",
            "password_hash",
            "post_password",
            "PASSWD",
            "pwd",
            "secret",
            "client_secret",
            "jwt_secret",
            "clientSecret",
            "token",
            "access_token",
            "accessToken",
            "accesstoken",
            "APIToken",
            "_stripe_token",
            "refresh-token",
            "tokens",
            "api_key",
            "apiKey",
            "APIKey",
            "apikey",
            "x-api-key",
            "activation_key",
            "order_key",
            "license_key",
            "licenseKey",
            "consumer_key",
            "private_key",
            "authorization",
            "Authorization",
            "cookie",
            "Set-Cookie",
            "_wpnonce",
            "nonce",
            "signature",
            "X-Amz-Signature",
            "otp",
            "pin",
            "cvv",
            "session_id",
            "sessionId",
            "gift_card_code",
            "recovery_codes",
            "security_code",
            "authcode",
            "card_number",
            "payment_url",
            "paymentUrl",
            "checkout_url",
            "redirect_urls",
            "params_form_url",
            "login_link",
            "reset_url",
            "magic_link",
            "credentials",
        ] {
            for value in [json!("x"), json!(5), json!({"a": 1}), json!(["x"])] {
                assert_eq!(hidden(json!({name: value, "id": 1})), json!({"id": 1}), "{name}");
                assert_eq!(hidden(json!({"a": [{"b": {name: value}}]})), json!({"a": [{"b": {}}]}), "{name}, deep");
            }
            for sign in [json!(true), json!(false), json!(null)] {
                assert_eq!(hidden(json!({name: sign})), json!({name: sign}), "{name} only says whether there is one");
            }
        }
    }

    #[test]
    fn what_is_needed_stays() {
        for (name, value) in [
            ("code", json!("save10")),
            ("coupon_code", json!("save10")),
            ("rate_code", json!("DE-MWST-1")),
            ("country_code", json!("+49")),
            ("currency_code", json!("EUR")),
            ("postal_code", json!("10115")),
            ("error_code", json!("VAL_001")),
            ("key", json!("loyalty_tier")),
            ("display_key", json!("Size")),
            ("gtin", json!("04012345678901")),
            ("sku", json!("TOKEN-KEY-1")),
            ("keywords", json!("secret garden, password book")),
            ("name", json!("A token of love")),
            ("barcode", json!("4012345678901")),
            ("tracking_number", json!("00340434161094042557")),
            ("tracking_url", json!("https://track.example.com/?code=00340434161094042557")),
            ("transaction", json!("ch_3Nx")),
            ("cart_hash", json!("9af3")),
            ("session_count", json!("3")),
            ("token_type", json!("x")),
            ("passenger", json!("A. B.")),
            ("order_number", json!("1042")),
            ("order_code", json!("1042")),
            ("signature_required", json!("yes")),
            ("url", json!("https://shop.example.com/product/tin/")),
            ("external_url", json!("https://shop.example.com/?p=12&variant=5&lang=de")),
            ("avatar_url", json!("https://secure.gravatar.com/avatar/0123?s=96&d=mm&r=g")),
            (
                "images",
                json!(["https://cdn.example.com/a.jpg?v=123", "https://cdn.example.com/b.png?hash=1f&width=300"]),
            ),
            (
                "permalink",
                json!("https://shop.example.com/?country_code=DE&sort_key=price&keyword=access&accessories=1"),
            ),
            ("permalink", json!("https://shop.example.com/@maker/item?code=")),
            ("email", json!("a@b.example")),
            ("note", json!("Which code? Ask a@b.example, or see https://b.example/a?v=1 (or /faq?page=2).")),
            ("note", json!("Basic plan, with Bearer bonds")),
            ("version", json!("eyJ.1.2")),
        ] {
            assert_eq!(hidden(json!({name: value})), json!({name: value}));
        }
        let attribute = json!({"name": "Secret", "option": "Gold", "values": ["a"]});
        assert_eq!(hidden(attribute.clone()), attribute, "a choice of shoppers");
    }

    #[test]
    fn links_that_open_something_are_hidden_whole() {
        for link in [
            "https://customer.example.com/?code=AbCdEf&request_id=PR-1",
            "https://x.example/a?b=1&amp;key=wc_order_1",
            "https://x.example/#access_token=a&x=1",
            "https://x.example/#/reset?token=a",
            "HTTPS://x.example/?Signature=a",
            "https://x.example/?X-Amz-Credential=a",
            "https://x.example/?AWSAccessKeyId=a",
            "https://x.example/p.jpg?token=a",
            "https://x.example/?sig=a",
            "https://x.example/?oobCode=a",
            "https://x.example/?reset_password_token=a",
            "https://x.example/?_wpnonce=a",
            "https://x.example/?user=a&otp=123456",
            "https://x.example/?pwd=a",
            "https://x.example/?secret%5Fkey=a",
            "https://x.example/?next=https%3A%2F%2Fy.example%2F%3Fcode%3Da",
            "https://user:pass@x.example/",
            "https://token@x.example/",
            "ftp://u:p@x.example/a",
            "https:\\/\\/x.example\\/?code=a",
            "/cart.php?action=load&token=a",
            " https://x.example/?code=a ",
            "Bearer 0123456789abcdef",
            "ApiKey SU-000-000-000:0123456789",
            "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
            "-----BEGIN RSA PRIVATE KEY-----\nMII\n-----END RSA PRIVATE KEY-----",
        ] {
            assert_eq!(hidden(json!({"a": link, "b": [link, "x"]})), json!({"b": ["x"]}), "{link}");
        }
    }

    proptest! {
        /// A shortcut hides no less than the long way.
        #[test]
        fn a_plain_text_would_stay_anyway(
            parts in vec(
                sample::select(vec![
                    "eyJ", "eyj", "aaaaaaaa", ".", "Bearer ", "basic ", "0123456789abcdef", " ", "\t", "://", ":", "?",
                    "#", "key", "token", "=", "&", "\\/", "@", "[", "{", "-----BEGIN ", "PRIVATE KEY-----", "x", "é",
                ]),
                0..8,
            ),
        ) {
            let text = parts.concat();
            prop_assume!(is_plain(&text));
            let mut names = Names::default();
            prop_assert!(!is_credential(&text) && !opens(text.trim(), false, 0), "{text}");
            let mut kept = text.clone();
            prop_assert!(text_stays(&mut kept, false, &mut names) && kept == text);
        }
    }

    #[test]
    fn a_longer_text_loses_the_part_that_opens_something() {
        let shown = hidden(json!({
            "note": "Pay at https://u:p@x.example/pay?key=a&b=1, now.\n<a href=\"/in?token=a\">In</a>",
            "raw": "{\"url\":\"https://x.example/?code=a\",\"access_token\":\"a\",\"n\":1}",
            "list": "[1, 2]",
        }));
        let expected = json!({
            "note": "Pay at https://x.example/pay now.\n<a href=\"/in\">In</a>", "raw": "{\"n\":1}", "list": "[1, 2]",
        });
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_name_and_its_value_may_be_two_members() {
        let shown = hidden(json!({
            "meta": [
                {"id": 1, "key": "_api_token", "value": "a", "display_key": "x", "display_value": "a"},
                {"id": 2, "key": "color", "value": "red"},
                {"id": "admin", "type": "password", "value": "a", "structured_value": {"a": "a"}},
                {"name": "Password", "value": "a"},
            ],
        }));
        let expected = json!({
            "meta": [
                {"id": 1, "key": "_api_token", "display_key": "x"},
                {"id": 2, "key": "color", "value": "red"},
                {"id": "admin", "type": "password"},
                {"name": "Password"},
            ],
        });
        assert_eq!(shown, expected);
    }
}
