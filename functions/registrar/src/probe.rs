//! The probe, which shows whether deliveries reach us: a request like the platform's own, over the real address, proven
//! by the real secret, that touches no entity.

use cloud::outbound::Outbound;
use commerce::{
    http_call::ApiRequest,
    keys::KeyRing,
    platform::{Platform, delivery::PROBE},
    request::{RawRequest, WebhookPath},
    verify::sign,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};

use crate::{Parts, Registrar};

impl<P: Parts> Registrar<P> {
    /// Sends a delivery that is about nothing. It has arrived when it was queued, which a message id shows. Where only
    /// the platform can sign, nothing is sent, and the probe succeeds.
    ///
    /// # Errors
    /// The reason for which the probe did not arrive, for people.
    pub(crate) async fn probe(&self, platform: &Platform, path: &WebhookPath, ring: &KeyRing) -> Result<(), String> {
        let (now, delivery) = ((self.clock)(), platform.delivery);
        let probe = delivery.probe(path, now);
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        for (name, value) in probe.headers {
            let value = HeaderValue::from_str(&value).map_err(|_| "the probe's headers cannot be sent")?;
            headers.insert(HeaderName::from_static(name), value);
        }
        let scheme = delivery.scheme();
        if !scheme.can_sign() {
            return Ok(());
        }
        if let Some(standard) = scheme.standard_webhooks() {
            headers.insert(HeaderName::from_static(standard.id), HeaderValue::from_static(PROBE));
            headers.insert(HeaderName::from_static(standard.timestamp), HeaderValue::from(now.seconds()));
        }
        let mut request =
            RawRequest { target: String::new(), method: Method::POST, headers, body: probe.body.into(), received: now };
        let bound = delivery.secret_per_scope().then_some(PROBE);
        let secret = ring.signing().webhook_secret(path, bound);
        let apps = match scheme.wants_app() {
            true => Some(self.edges.apps.current(now).await.map_err(|_| "the app's credentials cannot be read here")?),
            false => None,
        };
        let app = apps.as_ref().and_then(|apps| apps.get(platform.name));
        sign(scheme, &mut request, &secret, &probe.claims, app).map_err(|why| format!("it cannot be signed: {why}"))?;
        let url = format!("{}{path}", self.public_base_url).parse().map_err(|_| "our own address is none")?;
        let RawRequest { method, headers, body, .. } = request;
        let answer = self.edges.outbound.call(ApiRequest { method, url, headers, body }).await;
        let answer = answer.map_err(|fault| format!("our own endpoint did not answer: {fault}"))?;
        if answer.status != delivery.accepted().as_u16() {
            return Err(format!("our own endpoint answered {}", answer.status));
        }
        if !answer.headers.contains_key("x-message-id") {
            return Err("our own endpoint took it but did not queue it".into());
        }
        Ok(())
    }
}
