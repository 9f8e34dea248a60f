//! The bus that change events go to.

use aws_sdk_eventbridge::{Client, types::PutEventsRequestEntry};
use commerce::change_event::{ChangeEvent, MAX_EVENT_BYTES};

use crate::{EdgeError, aws::cause, telemetry};

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
    source: String,
}

impl EventBridge {
    /// Makes the edge to a bus. `source` is the `source` of its entries, by which rules tell our events from others.
    pub fn new(client: Client, bus: String, source: String) -> Self {
        Self { client, bus, source }
    }

    fn entry(&self, event: &ChangeEvent) -> Result<PutEventsRequestEntry, EdgeError> {
        let detail = serde_json::to_string(event).map_err(|error| EdgeError::new("PutEvents", error.to_string()))?;
        let entry = PutEventsRequestEntry::builder().event_bus_name(&self.bus).source(&self.source);
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
