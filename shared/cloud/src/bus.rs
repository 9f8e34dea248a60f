//! The bus that change events go to.

use aws_sdk_eventbridge::{Client, types::PutEventsRequestEntry};
use commerce::change_event::{ChangeEvent, Detail, MAX_EVENT_BYTES};

use crate::{
    EdgeError,
    aws::{cause, variable},
    telemetry,
};

/// The source of the events on the bus, which rules match on.
pub const SOURCE: &str = "commerce-hooks";

/// Reads the name of the bus and the part of each change that travels, from `CHANGES_BUS` and `CHANGE_EVENTS`. Returns
/// `None` in a stack without a bus, where they are empty.
///
/// # Errors
/// [`EdgeError`] when `CHANGE_EVENTS` says something else than `ids` or `full`.
pub fn changes() -> Result<Option<(String, Detail)>, EdgeError> {
    let bus = std::env::var("CHANGES_BUS").unwrap_or_default();
    if bus.is_empty() {
        return Ok(None);
    }
    match variable("CHANGE_EVENTS")?.as_str() {
        "ids" => Ok(Some((bus, Detail::Ids))),
        "full" => Ok(Some((bus, Detail::Full))),
        other => Err(EdgeError::new("CHANGE_EVENTS", format!("must be ids or full, not {other:?}"))),
    }
}

/// The most entries that PutEvents takes.
const MAX_ENTRIES: usize = 10;

/// The writing of events to a bus.
pub trait Bus {
    /// Puts events, in their order. Returns how many of them are on the bus: those before the first that is not.
    ///
    /// # Errors
    /// The bus cannot be reached. Any of the events may be on it.
    fn put(&self, events: &[ChangeEvent]) -> impl Future<Output = Result<usize, EdgeError>> + Send;
}

/// A bus of EventBridge.
#[derive(Clone, Debug)]
pub struct EventBridge {
    client: Client,
    bus: String,
}

impl EventBridge {
    /// Makes the edge to a bus.
    pub fn new(client: Client, bus: String) -> Self {
        Self { client, bus }
    }

    fn entry(&self, event: &ChangeEvent) -> Result<PutEventsRequestEntry, EdgeError> {
        let detail = serde_json::to_string(event).map_err(|error| EdgeError::new("PutEvents", error.to_string()))?;
        let entry = PutEventsRequestEntry::builder().event_bus_name(&self.bus).source(SOURCE);
        Ok(entry.detail_type(&event.kind).detail(detail).build())
    }
}

impl Bus for EventBridge {
    async fn put(&self, events: &[ChangeEvent]) -> Result<usize, EdgeError> {
        let entries: Vec<_> = events.iter().map(|event| self.entry(event)).collect::<Result<_, _>>()?;
        let mut done = 0;
        while done < entries.len() {
            let count = fitting(&entries[done..]);
            let batch = entries[done..done + count].to_vec();
            let put = self.client.put_events().set_entries(Some(batch)).send().await;
            let put = match put.map_err(|error| EdgeError::new("PutEvents", cause(&error))) {
                Ok(put) => put,
                Err(error) if done == 0 => return Err(error),
                // What is on the bus need not go there again.
                Err(error) => {
                    telemetry::error("not-published", &error.to_string());
                    return Ok(done);
                }
            };
            let failed = put.entries().iter().position(|entry| entry.error_code().is_some());
            match failed {
                Some(failed) => return Ok(done + failed),
                None if put.entries().len() != count => {
                    return Err(EdgeError::new("PutEvents", "it does not tell what became of each entry"));
                }
                None => done += count,
            }
        }
        Ok(done)
    }
}

/// Returns how many entries fit one call: one at least.
fn fitting(entries: &[PutEventsRequestEntry]) -> usize {
    let mut bytes = 0;
    let sizes = entries.iter().map(|entry| entry.detail().unwrap_or_default().len() + 200);
    let fit = sizes.take(MAX_ENTRIES).take_while(|size| {
        bytes += size;
        bytes <= MAX_EVENT_BYTES + 5_000
    });
    fit.count().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(sizes: &[usize]) -> Vec<PutEventsRequestEntry> {
        sizes.iter().map(|size| PutEventsRequestEntry::builder().detail("x".repeat(*size)).build()).collect()
    }

    #[test]
    fn a_call_takes_ten_entries_or_256_kb_and_one_at_least() {
        assert_eq!(fitting(&entries(&[10; 12])), 10);
        assert_eq!(fitting(&entries(&[10; 4])), 4);
        assert_eq!(fitting(&entries(&[100_000, 100_000, 100_000])), 2);
        assert_eq!(fitting(&entries(&[MAX_EVENT_BYTES, 1])), 2);
        assert_eq!(fitting(&entries(&[MAX_EVENT_BYTES, 10_000])), 1);
        assert_eq!(fitting(&entries(&[300_000])), 1);
    }
}
