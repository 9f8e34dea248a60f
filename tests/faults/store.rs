//! The source of truth: shops with orders that change, the deliveries that tell of it, signed as the shops sign them, and
//! the shops' API.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use commerce::request::WebhookPath;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use tools::events::sample_ring;

use crate::{
    net::{Answer, Request},
    script::{Dice, Fault},
};

/// The key of every shop's API.
pub const KEY: (&str, &str) = ("ck_faults_public_part", "cs_faults_secret_part");
/// What a person who orders is called, which is in no log.
pub const PERSON: &str = "Perpetua-Marker";
/// The most entries of a page, whatever was asked for, as some hosts have it.
const PAGE: usize = 7;
const STATUSES: [&str; 4] = ["pending", "processing", "on-hold", "completed"];
const TOPICS: [&str; 3] = ["order.created", "order.updated", "order.deleted"];

/// An order, by the number of its shop and its own.
pub type Order = (usize, u64);

/// An order as its shop has it now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Version {
    /// The number of the version, from 1.
    pub number: u64,
    /// Its minute of change.
    pub minute: u64,
    /// `true` when the shop no longer has it.
    pub deleted: bool,
}

impl Version {
    /// The order's total, which no other version of it has.
    pub fn total(&self) -> String {
        format!("{}.50", self.number)
    }

    /// The order's status.
    pub fn status(&self) -> &'static str {
        STATUSES[usize::try_from(self.number).unwrap() % STATUSES.len()]
    }
}

/// A delivery that a shop has to make.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Its id.
    pub id: String,
    /// The number of the shop.
    pub shop: usize,
    /// The topic.
    pub topic: &'static str,
    /// The body.
    pub body: String,
    /// The number of attempts so far.
    pub attempts: u32,
}

/// All shops.
pub struct Shops {
    /// The orders of all shops.
    pub orders: BTreeMap<Order, Version>,
    secrets: Vec<[String; 3]>,
    made: u64,
    begin: i64,
}

/// Returns the id of a shop's connection.
pub fn connection(shop: usize) -> String {
    format!("shop{shop}.example.com")
}

impl Shops {
    /// Opens so many shops.
    pub fn new(shops: usize, now: i64) -> Self {
        let secret = |shop: usize, topic: &str| {
            let path = WebhookPath::parse("woocommerce", &connection(shop), None).unwrap();
            sample_ring().signing().webhook_secret(&path, Some(topic)).reveal().to_owned()
        };
        let secrets = (0..shops).map(|shop| TOPICS.map(|topic| secret(shop, topic))).collect();
        Self { orders: BTreeMap::new(), secrets, made: 0, begin: now - 86_400 }
    }

    /// Returns every secret that proves deliveries.
    pub fn secrets(&self) -> impl Iterator<Item = &String> {
        self.secrets.iter().flatten()
    }

    /// Lets an order be made, changed or deleted, and returns the delivery that tells of it.
    pub fn change(&mut self, dice: &mut Dice, orders: u64, asked: u64) -> Delivery {
        let shops = u64::try_from(self.secrets.len()).unwrap();
        let (shop, mut id) = (usize::try_from(dice.below(shops)).unwrap(), 1 + dice.below(orders));
        // What was deleted does not come back; another order takes its place.
        while self.orders.get(&(shop, id)).is_some_and(|order| order.deleted) {
            id += orders;
        }
        let topic = match self.orders.get_mut(&(shop, id)) {
            None => {
                self.orders.insert((shop, id), Version { number: 1, minute: 1, deleted: false });
                TOPICS[0]
            }
            Some(order) if dice.in_thousand(asked) => {
                order.deleted = true;
                TOPICS[2]
            }
            Some(order) => {
                order.number += 1;
                // Some shops change an order twice within the second that they tell.
                order.minute += u64::from(!dice.in_thousand(asked));
                TOPICS[1]
            }
        };
        let body = match topic {
            "order.deleted" => json!({ "id": id }).to_string(),
            _ => self.shown(&(shop, id)).unwrap_or_default().to_string(),
        };
        self.made += 1;
        Delivery { id: format!("delivery-{}", self.made), shop, topic, body, attempts: 0 }
    }

    fn shown(&self, order: &Order) -> Option<Value> {
        let version = self.orders.get(order).filter(|version| !version.deleted)?;
        let minute = self.begin + i64::try_from(version.minute).unwrap() * 60;
        let changed = commerce::timestamp::Timestamp::from_millis(minute * 1000).to_string();
        let changed = &changed[..19];
        Some(json!({
            "id": order.1, "parent_id": 0, "number": order.1.to_string(), "status": version.status(), "currency": "SEK",
            "version": "8.2.2", "prices_include_tax": false, "date_created_gmt": changed, "date_modified_gmt": changed,
            "total": version.total(), "total_tax": "0.00", "discount_total": "0.00", "discount_tax": "0.00",
            "shipping_total": "0.00", "shipping_tax": "0.00", "cart_tax": "0.00", "customer_id": 0,
            "billing": { "first_name": PERSON, "last_name": "", "email": "person@example.com" },
            "line_items": [], "tax_lines": [], "shipping_lines": [], "fee_lines": [], "coupon_lines": [], "meta_data": [],
        }))
    }

    /// Returns a delivery as API Gateway hands it to the receiver.
    pub fn gateway(&self, delivery: &Delivery, now_ms: u64, proven: bool) -> Value {
        let place = TOPICS.iter().position(|topic| *topic == delivery.topic).unwrap();
        let mut mac = Hmac::<Sha256>::new_from_slice(self.secrets[delivery.shop][place].as_bytes()).unwrap();
        mac.update(delivery.body.as_bytes());
        let mut signature = mac.finalize().into_bytes().to_vec();
        signature[0] ^= u8::from(!proven);
        let connection = connection(delivery.shop);
        let path = format!("/hooks/woocommerce/{connection}");
        json!({
            "version": "2.0", "routeKey": "POST /hooks/{platform}/{connection}", "rawPath": path, "rawQueryString": "",
            "headers": {
                "content-type": "application/json", "x-wc-webhook-topic": delivery.topic,
                "x-wc-webhook-delivery-id": delivery.id, "x-wc-webhook-signature": STANDARD.encode(signature),
                "x-wc-webhook-source": format!("https://{connection}/"),
            },
            "pathParameters": { "platform": "woocommerce", "connection": connection },
            "requestContext": {
                "http": { "method": "POST", "path": path, "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1", "userAgent": "x" },
                "stage": "$default", "timeEpoch": now_ms,
            },
            "body": delivery.body, "isBase64Encoded": false,
        })
    }

    /// Answers a call of a shop's API, `/{shop}/wp-json/wc/v3/orders/{id}` or `/{shop}/wp-json/wc/v3/orders`.
    pub fn answer(&self, request: &Request, fault: Option<Fault>) -> Answer {
        let error = |status: u16, code: &str| {
            Answer::json(status, json!({ "code": code, "message": "No.", "data": { "status": status } }).to_string())
        };
        let key = format!("Basic {}", STANDARD.encode(format!("{}:{}", KEY.0, KEY.1)));
        if request.headers.get("authorization") != Some(&key) {
            return error(401, "woocommerce_rest_authentication_error");
        }
        if request.method != "GET" {
            return error(405, "woocommerce_rest_read_only");
        }
        let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
        let mut parts = path.split('/').skip(1);
        let shop = parts.next().and_then(|shop| shop.parse().ok());
        if let Some(shop) = shop.filter(|_| path.ends_with("/orders")) {
            return self.list(shop, query, fault);
        }
        let id = parts.last().and_then(|id| id.parse().ok());
        let shown = match (shop.zip(id), fault == Some(Fault::Another)) {
            (Some((shop, id)), true) => {
                let mut others = self.orders.keys().filter(|order| order.0 == shop && order.1 != id);
                others.find_map(|order| self.shown(order))
            }
            (asked, _) => asked.and_then(|order| self.shown(&order)),
        };
        match shown {
            Some(order) => Answer::json(200, order.to_string()),
            None => error(404, "woocommerce_rest_shop_order_invalid_id"),
        }
    }

    /// Answers with a page of all orders, by id. A list that lies has a total that is too large or none, fewer entries than
    /// were asked for, and its first one twice.
    fn list(&self, shop: usize, query: &str, fault: Option<Fault>) -> Answer {
        let number = |name: &str| {
            let value = query.split('&').find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
            value.and_then(|value| value.parse::<usize>().ok())
        };
        let (offset, most) = (number("offset").unwrap_or(0), number("per_page").unwrap_or(10).min(PAGE));
        let all: Vec<Value> =
            self.orders.keys().filter(|order| order.0 == shop).filter_map(|order| self.shown(order)).collect();
        let lies = fault == Some(Fault::Lie);
        let mut page: Vec<&Value> = all.iter().skip(offset).take(if lies { most.div_ceil(2) } else { most }).collect();
        let first = page.first().copied().filter(|_| lies);
        page.extend(first);
        let mut answer = Answer::json(200, json!(page).to_string());
        match lies {
            true if offset % 2 == 0 => answer.headers.push(("x-wp-total", (all.len() + 1000).to_string())),
            true => {}
            false => answer.headers.push(("x-wp-total", all.len().to_string())),
        }
        answer
    }
}
