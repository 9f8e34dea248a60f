//! The policy of a connection, by which pending requests are answered.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::wire;
use crate::{
    platform::{
        act::Decision,
        settings::{SettingsError, read_own},
    },
    platforms::cloudblue::{
        mapping::product,
        webhooks::{CONNECTION_TYPES, TYPES, wrong},
    },
};

/// The longest label of a webhook [`specs.yml`], in characters.
pub(super) const MAX_LABEL: usize = 100;

/// A rule of a product's policy.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyRule {
    /// The conditions.
    #[serde(default)]
    pub when: When,
    /// An approval.
    #[serde(default)]
    pub approve: Option<Approve>,
    /// A final refusal.
    #[serde(default)]
    pub fail: Option<Fail>,
    /// A question to the customer.
    #[serde(default)]
    pub inquire: Option<Inquire>,
    /// `true` to leave the request to somebody else.
    #[serde(default)]
    pub observe: Option<bool>,
}

/// Conditions, all of which must hold; an absent one holds.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct When {
    /// The request has one of these types.
    #[serde(default, rename = "type")]
    pub kind: Option<Vec<String>>,
    /// The customer's country is one of these.
    #[serde(default)]
    pub country_in: Option<Vec<String>>,
    /// The customer's country is none of these.
    #[serde(default)]
    pub country_not_in: Option<Vec<String>>,
    /// Nobody has filled in this parameter. A parameter that a request of fulfilment lacks is not filled in, either;
    /// tier configurations have parameters of their own.
    #[serde(default)]
    pub empty_parameter: Option<String>,
    /// The connection has one of these types.
    #[serde(default)]
    pub connection_type: Option<Vec<String>>,
}

/// The arguments of an approval.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approve {
    /// The template of the text for the customer.
    pub template: String,
}

/// The arguments of a refusal.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fail {
    /// The reason.
    pub reason: String,
}

/// The arguments of a question.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inquire {
    /// The template of the text for the customer.
    pub template: String,
    /// The messages about wrong parameters, by the parameter's id.
    #[serde(default)]
    pub errors: BTreeMap<String, String>,
}

impl PolicyRule {
    /// Checks a rule completely.
    ///
    /// # Errors
    /// The fault of the rule, as text.
    pub(super) fn check(rule: &Value) -> Result<(), String> {
        let Value::Object(members) = rule else { return Err("a rule must be an object".into()) };
        let rule: Self = read_own(members.clone()).map_err(|error| error.why)?;
        let When { kind, country_in, country_not_in, empty_parameter, connection_type } = &rule.when;
        one_of("type", kind.as_ref(), |kind| TYPES.contains(&kind), "of the types of requests, such as purchase")?;
        let country = |text: &str| text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_uppercase());
        one_of("country_in", country_in.as_ref(), country, "countries in two capital letters, such as DE")?;
        one_of("country_not_in", country_not_in.as_ref(), country, "countries in two capital letters, such as DE")?;
        let known = |kind: &str| CONNECTION_TYPES.contains(&kind);
        one_of("connection_type", connection_type.as_ref(), known, "of production, test and preview")?;
        if empty_parameter.as_ref().is_some_and(|id| !is_short(id, 100)) {
            return Err("empty_parameter must be the id of a parameter".into());
        }
        let actions = [rule.approve.is_some(), rule.fail.is_some(), rule.inquire.is_some(), rule.observe.is_some()];
        if actions.iter().filter(|there| **there).count() != 1 {
            return Err("must have exactly one of approve, fail, inquire and observe".into());
        }
        if rule.observe == Some(false) {
            return Err("observe can only be true".into());
        }
        let template = rule.approve.as_ref().map(|approve| &approve.template);
        let template = template.or(rule.inquire.as_ref().map(|inquire| &inquire.template));
        if template.is_some_and(|template| !is_id(template, "TL-")) {
            return Err("template must be the id of a template, such as TL-123-456-789".into());
        }
        // This is the platform's own limit for tier configuration requests.
        if rule.fail.as_ref().is_some_and(|fail| !is_short(&fail.reason, 500)) {
            return Err("reason must be a text of 1 to 500 bytes".into());
        }
        let errors = rule.inquire.iter().flat_map(|inquire| &inquire.errors);
        if errors.into_iter().any(|(id, message)| !is_short(id, 100) || !is_short(message, 500)) {
            return Err("errors must map ids of parameters to texts of 1 to 500 bytes".into());
        }
        Ok(())
    }
}

pub(super) fn one_of(
    name: &str,
    list: Option<&Vec<String>>,
    fits: impl Fn(&str) -> bool,
    what: &str,
) -> Result<(), String> {
    let wrong = list.is_some_and(|list| list.is_empty() || !list.iter().all(|element| fits(element)));
    if wrong { Err(format!("{name} must be a list {what}")) } else { Ok(()) }
}

pub(super) fn is_short(text: &str, most: usize) -> bool {
    !text.trim().is_empty() && text.len() <= most && !text.chars().any(char::is_control)
}

pub(super) fn is_id(text: &str, prefix: &str) -> bool {
    let rest = text.strip_prefix(prefix).unwrap_or_default();
    !rest.is_empty() && text.len() <= 100 && rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

pub(super) fn check_policy(product: &str, policy: &Value) -> Result<(), SettingsError> {
    match policy {
        Value::String(word) if word == "observe" => Ok(()),
        Value::Array(rules) => rules.iter().enumerate().try_for_each(|(place, rule)| {
            PolicyRule::check(rule).map_err(|why| wrong(&format!("products.{product}[{place}]"), why))
        }),
        _ => Err(wrong(&format!("products.{product}"), "must be \"observe\" or a list of rules")),
    }
}

/// Decides on a request by the policy of its product.
pub(super) fn decide(settings: &Map<String, Value>, request: &wire::Request) -> Option<Decision> {
    if request.status != "pending" {
        return None;
    }
    let rules = settings.get("products")?.get(product(request)?.as_str())?.as_array()?;
    for rule in rules {
        let rule = PolicyRule::deserialize(rule).ok()?;
        // A condition on the country of a customer without one is left to people.
        if !fits(&rule.when, request)? {
            continue;
        }
        let decision = |action: &str, with, last| Some(Decision { action: action.to_owned(), with, last });
        let asked = rule.when.empty_parameter.as_ref();
        let absent = asked.is_some_and(|id| !params(request).list.iter().any(|param| param.id == *id));
        return match rule {
            // An absent parameter may have another meaning, and these actions are final.
            PolicyRule { approve: Some(_), .. } | PolicyRule { fail: Some(_), .. } if absent => None,
            PolicyRule { approve: Some(approve), .. } => {
                decision("approve", json!({ "template": approve.template }), true)
            }
            PolicyRule { fail: Some(fail), .. } => decision("fail", json!({ "reason": fail.reason }), true),
            PolicyRule { inquire: Some(Inquire { template, errors }), .. } => {
                decision("inquire", json!({ "template": template, "errors": errors }), false)
            }
            _ => None,
        };
    }
    None
}

/// Returns the parameters of a request.
pub(super) fn params(request: &wire::Request) -> &wire::Params {
    request.asset.as_ref().map_or(&request.params, |asset| &asset.params)
}

/// Returns whether all conditions hold, or `None` when that is unknown. One condition that fails decides.
pub(super) fn fits(when: &When, request: &wire::Request) -> Option<bool> {
    let among = |list: &Option<Vec<String>>, value: Option<&str>| {
        let Some(list) = list else { return Some(true) };
        value.map(|value| list.iter().any(|element| element.eq_ignore_ascii_case(value)))
    };
    let configuration = request.configuration.as_ref();
    let of_asset = request.asset.as_ref().and_then(|asset| asset.connection.kind.as_deref());
    let of_configuration = configuration.and_then(|configuration| configuration.connection.kind.as_deref());
    let connection = of_asset.or(of_configuration).or(request.environment.as_deref());
    // A tier configuration belongs to an account between vendor and customer.
    let account = match (&request.asset, configuration.and_then(|configuration| configuration.tier_level.as_deref())) {
        (Some(asset), _) => &asset.tiers.customer,
        (None, Some("2")) => &request.tiers.tier2,
        (None, _) => &request.tiers.tier1,
    };
    let country = account.as_ref().and_then(wire::Account::country);
    let empty = when.empty_parameter.as_ref().map_or(Some(true), |id| {
        let params = params(request);
        let mut own = params.list.iter().filter(|param| param.id == *id).peekable();
        match own.peek() {
            // It may be one of the unreadable ones.
            None if !params.unreadable.is_empty() => None,
            // Nobody can have filled in an absent parameter. Tier configurations have parameters of their own, so this
            // is none of theirs.
            None => Some(request.asset.is_some()),
            Some(_) => own.try_fold(false, |any, param| Some(any || param.is_empty()?)),
        }
    });
    let conditions = [
        among(&when.kind, request.kind.as_deref()),
        among(&when.connection_type, connection),
        empty,
        among(&when.country_in, country),
        when.country_not_in.as_ref().map_or(Some(true), |_| among(&when.country_not_in, country).map(|among| !among)),
    ];
    if conditions.contains(&Some(false)) {
        return Some(false);
    }
    (!conditions.contains(&None)).then_some(true)
}
