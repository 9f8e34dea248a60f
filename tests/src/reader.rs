//! A reader that keeps a copy of the table from change events alone.

use std::collections::BTreeMap;

use commerce::{change_event::ChangeEvent, item::Item};

/// A reader's copy: the last event of each subject.
#[derive(Default)]
pub struct Replica(BTreeMap<(String, String), ChangeEvent>);

impl Replica {
    /// Takes an event, by the one rule for readers: it counts if its `sequence` is greater than the one that is kept.
    pub fn take(&mut self, event: ChangeEvent) {
        let subject = (event.source.clone(), event.subject.clone());
        if self.0.get(&subject).is_none_or(|kept| kept.sequence < event.sequence) {
            self.0.insert(subject, event);
        }
    }

    /// Returns the first difference from these items, and `None` if the copy equals them.
    #[must_use]
    pub fn difference(&self, items: &[Item]) -> Option<String> {
        let differs = items.iter().find_map(|item| {
            let subject = (format!("/{}", item.pk.replacen('#', "/", 1)), item.sk.replacen('#', "/", 1));
            let Some(kept) = self.0.get(&subject) else { return Some(format!("{subject:?} was not told")) };
            let fields = Some(&item.fields).filter(|fields| !fields.is_empty());
            let same = (kept.data.deleted, kept.data.entity.as_ref()) == (item.deleted, fields);
            (!same).then(|| format!("{kept:?} is not {item:?}"))
        });
        differs.or_else(|| (self.0.len() != items.len()).then(|| format!("{} of {}", self.0.len(), items.len())))
    }
}
