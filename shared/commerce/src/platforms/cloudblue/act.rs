//! The answers to pending requests, by the connection's policy.

use http::Method;
use serde_json::{Map, Value, json};

use super::wire;
use crate::{
    change::Change,
    entity::EntityKind,
    http_call::{ApiRequest, ApiResponse, Fault},
    platform::{
        act::{Act, Acted, Decision},
        lenient::read,
        pull::Wanted,
    },
    platforms::cloudblue::{
        CloudBlue,
        api::{call, path, refusal, unreadable},
        mapping::shown_change,
        policy::{decide, params},
        pull::{ask, mapped},
    },
};

impl Act for CloudBlue {
    fn acts_on(&self, entity: EntityKind, settings: &Map<String, Value>) -> bool {
        let policies = settings.get("products").and_then(Value::as_object);
        let acts = policies.is_some_and(|policies| policies.values().any(|policy| policy.as_array().is_some()));
        entity == EntityKind::Request && acts
    }

    fn decide(&self, wanted: &Wanted<'_>, answers: &[ApiResponse]) -> Option<Decision> {
        let answer = answers.first().filter(|answer| answer.is_success() && wanted.entity == EntityKind::Request)?;
        let request: wire::Request = read(&answer.body).ok()?;
        decide(wanted.access.settings, &request).filter(|_| request.id == *wanted.id)
    }

    fn act(&self, wanted: &Wanted<'_>, decision: &Decision, answers: &[ApiResponse]) -> Result<Acted, Fault> {
        let Some((fresh, answers)) = answers.split_first() else { return ask(wanted).map(Acted::Ask) };
        let shown = mapped(wanted, fresh)?;
        let Change::Upsert(_) = shown_change(&shown)? else { return Ok(Acted::Void(shown)) };
        let request: wire::Request = read(&fresh.body).map_err(unreadable)?;
        // Somebody may have answered the request, or filled in the missing values.
        if decide(wanted.access.settings, &request).as_ref() != Some(decision) {
            return Ok(Acted::Void(shown));
        }
        let steps = match steps(wanted, decision, &request)? {
            Ok(steps) => steps,
            Err(refused) => return Ok(Acted::Refused(refused)),
        };
        for (place, step) in steps.iter().enumerate() {
            let Some(answer) = answers.get(place) else { return Ok(Acted::Ask(step.clone())) };
            if answer.is_success() {
                continue;
            }
            let Some(why) = refusal(answer) else { return Err(answer.fault(wanted.at)) };
            // It may be refused because somebody was faster.
            let Some(again) = answers.get(place + 1) else { return ask(wanted).map(Acted::Ask) };
            let now = mapped(wanted, again)?;
            let status = match shown_change(&now)? {
                Change::Upsert(now) => now.content.fields.get("status").and_then(Value::as_str),
                _ => None,
            };
            let pending = status == Some("pending");
            return Ok(if pending { Acted::Refused(why) } else { Acted::Void(now) });
        }
        // Actions on tier configuration requests do not answer with the request.
        let whole = |answer: &&ApiResponse| {
            let shown: Result<wire::Request, _> = read(&answer.body);
            shown.is_ok_and(|shown| shown.updated.is_some() && shown.asset.is_some() == request.asset.is_some())
        };
        if let Some(Ok(done)) = answers.get(steps.len() - 1).filter(whole).map(|answer| mapped(wanted, answer)) {
            return Ok(Acted::Done(done));
        }
        match answers.get(steps.len()) {
            None => ask(wanted).map(Acted::Ask),
            Some(again) => mapped(wanted, again).map(Acted::Done),
        }
    }
}

/// Builds the calls that carry out a decision, or returns the reason against it.
pub(super) fn steps(
    wanted: &Wanted<'_>,
    decision: &Decision,
    request: &wire::Request,
) -> Result<Result<Vec<ApiRequest>, String>, Fault> {
    let tiers = request.asset.is_none();
    let mut base = path(wanted)?;
    let with = |name: &str| decision.with.get(name).cloned().unwrap_or_default();
    let template = match (tiers, decision.action.as_str()) {
        (true, "approve") => json!({ "template": { "id": with("template") } }),
        _ => json!({ "template_id": with("template") }),
    };
    let mut steps = Vec::new();
    let body = match decision.action.as_str() {
        "approve" => template,
        "fail" => json!({ "reason": with("reason") }),
        "inquire" => {
            let params = &params(request).list;
            let mut marked = Vec::new();
            for (id, message) in with("errors").as_object().into_iter().flatten() {
                let Some(param) = params.iter().find(|param| param.id == *id) else {
                    return Ok(Err(format!("the request has no parameter {id}")));
                };
                marked.push(marked_param(param, message));
            }
            if !marked.is_empty() {
                let body = if tiers { json!({ "params": marked }) } else { json!({ "asset": { "params": marked } }) };
                steps.push(call(&wanted.access, Method::PUT, &base)?.json(&body));
            }
            template
        }
        other => return Err(Fault::Unreadable(format!("there is no action {other:?}"))),
    };
    base.push(&decision.action);
    steps.push(call(&wanted.access, Method::POST, &base)?.json(&body));
    Ok(Ok(steps))
}

/// Returns a parameter with its value and an error message. A password's real value is not shown, so it is not sent
/// back.
pub(super) fn marked_param(param: &wire::Param, message: &Value) -> Value {
    let mut marked = json!({ "id": param.id, "value_error": message });
    if param.is_open() {
        marked["value"] = if param.value.is_null() { json!("") } else { param.value.clone() };
        if !param.structured_value.is_null() {
            marked["structured_value"] = param.structured_value.clone();
        }
    }
    marked
}
