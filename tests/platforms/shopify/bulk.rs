//! Bulk operations: a query that Shopify runs in the background over all pages of its lists, and a file of lines.
//!
//! It follows Shopify's documentation. The mutation and the questions about its state cost points as all calls do; what
//! the operation reads costs none. At most five run at once. A query has at most five lists, nested at most two deep
//! below the first. Each entry of a list is a line, and an entry of a nested list names its parent. The file is at a host
//! of its own, for seven days. The time that an operation takes is not documented: [`BEGINS_AFTER`] and
//! [`OBJECTS_A_SECOND`] are assumptions.

use bytes::Bytes;
use commerce::timestamp::Timestamp;
use serde_json::{Map, Value, json};

use super::graphql::Document;

/// The host of the files.
pub const HOST: &str = "storage.googleapis.com";

/// The most operations that run at once.
const AT_ONCE: usize = 5;
/// The most lists in a query.
const MOST_LISTS: usize = 5;
/// The deepest that a list may be nested below the first.
const DEEPEST: usize = 2;
/// The time for which a file can be fetched, in seconds.
const KEPT_SECONDS: i64 = 7 * 86_400;
/// The time until the first object is written, in seconds.
const BEGINS_AFTER: i64 = 10;
/// The objects that are written in a second from then on.
const OBJECTS_A_SECOND: usize = 1_000;

/// An operation.
pub(super) struct Operation {
    id: String,
    done: Timestamp,
    objects: usize,
    file: Bytes,
}

impl Operation {
    fn path(&self) -> String {
        format!("/bulk/{}.jsonl", self.id.rsplit('/').next().unwrap_or_default())
    }

    fn shown(&self, now: Timestamp) -> Value {
        let is_done = self.done <= now;
        let is_kept = is_done && now <= self.done.plus_seconds(KEPT_SECONDS);
        json!({
            "id": self.id, "status": if is_done { "COMPLETED" } else { "RUNNING" }, "errorCode": null,
            "objectCount": if is_done { self.objects.to_string() } else { "0".into() },
            "fileSize": is_done.then(|| self.file.len().to_string()),
            "url": is_kept.then(|| format!("https://{HOST}{}", self.path())),
        })
    }
}

/// All operations of a shop.
#[derive(Default)]
pub(super) struct Operations(Vec<Operation>);

impl Operations {
    /// Begins an operation, and returns it or the reason against it. `resolve` returns all entries of a list at the root.
    pub fn run(
        &mut self,
        id: String,
        query: &str,
        now: Timestamp,
        resolve: impl Fn(&str) -> Option<Vec<Value>>,
    ) -> Value {
        let begun = match self.0.iter().filter(|operation| operation.done > now).count() {
            AT_ONCE.. => Err("OPERATION_IN_PROGRESS"),
            _ => begin(id, query, now, resolve),
        };
        match begun {
            Ok(operation) => {
                let shown = operation.shown(now);
                self.0.push(operation);
                json!({ "bulkOperation": shown, "userErrors": [] })
            }
            Err(code) => json!({ "bulkOperation": null, "userErrors": [{ "field": ["query"], "code": code }] }),
        }
    }

    /// Returns an operation as it is now, or `null`.
    pub fn shown(&self, id: &str, now: Timestamp) -> Value {
        self.0.iter().find(|operation| operation.id == id).map(|operation| operation.shown(now)).unwrap_or_default()
    }

    /// Returns the file at a path.
    pub fn file(&self, path: &str, now: Timestamp) -> Option<Bytes> {
        let found = self.0.iter().find(|operation| operation.path() == path && !operation.shown(now)["url"].is_null());
        found.map(|operation| operation.file.clone())
    }
}

fn begin(
    id: String,
    query: &str,
    now: Timestamp,
    resolve: impl Fn(&str) -> Option<Vec<Value>>,
) -> Result<Operation, &'static str> {
    let document = Document::read(query, &Map::new()).ok_or("INVALID")?;
    let (lists, deepest) = document.lists();
    let roots = document.roots();
    let [root] = roots.as_slice() else { return Err("INVALID") };
    if !(1..=MOST_LISTS).contains(&lists) || deepest > DEEPEST {
        return Err("INVALID");
    }
    let (mut file, mut objects) = (String::new(), 0_usize);
    for entry in resolve(root.name).ok_or("INVALID")? {
        for line in document.lines(root, &entry).map_err(|_| "INVALID")? {
            file.push_str(&line.to_string());
            file.push('\n');
            objects += 1;
        }
    }
    let seconds = i64::try_from(objects.div_ceil(OBJECTS_A_SECOND)).map_err(|_| "INVALID")?;
    Ok(Operation { id, done: now.plus_seconds(BEGINS_AFTER + seconds), objects, file: file.into() })
}
