//! Remembers what each mapping makes of the golden samples, by hashes, beside its number.

use std::collections::BTreeMap;

use commerce::{change::Change, install::sha256, platform::mapping::Mapped};
use serde::{Deserialize, Serialize};

/// What a mapping makes of one sample.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Made {
    /// The mapping's number; 0 where it makes no upsert.
    pub number: u32,
    /// The hash of the sample.
    pub sample: String,
    /// The hash of what is made of it.
    pub output: String,
}

/// Returns what a platform's mapping makes, by the names of the samples.
pub fn made(platform: &str) -> BTreeMap<String, Made> {
    let golden = crate::hops::all_golden().into_iter().filter(|golden| golden.platform == platform);
    let hash = |text: &str| sha256(text)[..8].iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let made = golden.map(|golden| {
        let (sample, output) = (golden.sample.to_string(), crate::hops::shown(&golden.mapped).to_string());
        let made = Made { number: number(&golden.mapped), sample: hash(&sample), output: hash(&output) };
        (golden.name, made)
    });
    made.collect()
}

fn number(mapped: &Mapped) -> u32 {
    match mapped {
        Mapped::Change(_, Change::Upsert(upsert))
        | Mapped::PullWith(_, Change::Upsert(upsert))
        | Mapped::IfKnown(_, Change::Upsert(upsert), _) => upsert.mapping,
        _ => 0,
    }
}

/// Returns the samples of which something else is made by a mapping of the same number.
pub fn forgotten(before: &BTreeMap<String, Made>, now: &BTreeMap<String, Made>) -> Vec<String> {
    let differs = |(name, now): (&String, &Made)| {
        let before = before.get(name)?;
        let same = before.sample == now.sample && before.number == now.number && now.number > 0;
        (same && before.output != now.output).then(|| name.clone())
    };
    now.iter().filter_map(differs).collect()
}
