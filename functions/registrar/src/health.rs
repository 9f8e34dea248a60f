//! The verdict on a webhook, and the time at which one that was switched off may be switched on again. Pure.

use commerce::{
    activity::Activity,
    health::{Health, Verdict},
    platform::webhooks::{Webhook, WebhookStatus},
    timestamp::Timestamp,
};

/// The least number of remembered pauses for a verdict of silence.
const ENOUGH_GAPS: usize = 5;
/// The multiple of its longest pause after which a quiet topic (`scope`) counts as silent.
const TIMES_AS_LONG: i64 = 3;
/// The least time without a delivery that counts as silence, in seconds, because the nights of a small store are quiet,
/// too.
const LEAST_SILENCE: i64 = 6 * 3600;
/// The time that a webhook must stay on until its trips are forgotten, in seconds.
const STAYED_ON: i64 = 24 * 3600;
/// The time after a webhook was switched on again until it may be switched on once more, in seconds. Each further trip
/// doubles it.
const FIRST_COOL_DOWN: i64 = 15 * 60;
/// The longest time until a webhook may be switched on once more, in seconds.
const LONGEST_COOL_DOWN: i64 = 24 * 3600;

/// Returns the verdict on a webhook as it is now, with the reason if it is not healthy. `found` is the webhook that the
/// platform shows, or `None` when it is missing. A webhook that is not `managed` was entered by hand, the platform does
/// not report on it, and only its activity is known: that of the connection's present generation.
pub fn verdict(
    managed: bool,
    found: Option<&Webhook>,
    sighting: Option<&Activity>,
    now: Timestamp,
) -> (Verdict, String) {
    match (managed, found) {
        (false, _) if sighting.is_none() => (Verdict::Manual, "entered by hand; nothing has been delivered yet".into()),
        (true, None) => (Verdict::Missing, "it is not there at the platform".into()),
        (true, Some(webhook)) if webhook.status != WebhookStatus::Active => (Verdict::SwitchedOff, off(webhook)),
        _ => quiet(sighting, now).map_or((Verdict::Healthy, String::new()), |reason| (Verdict::Silent, reason)),
    }
}

/// Returns the reason for which a webhook is off, as far as the platform reports it.
pub(crate) fn off(webhook: &Webhook) -> String {
    let after = match webhook.failures {
        Some(1) => ", after 1 failure".to_owned(),
        Some(failures @ 2..) => format!(", after {failures} failures"),
        _ => String::new(),
    };
    format!("switched off by the platform ({}){after}", webhook.status.as_str())
}

/// Returns the reason for which a topic counts as silent, if it does. It is compared with its own past, because a pause
/// that is usual at one store is silence at another.
fn quiet(sighting: Option<&Activity>, now: Timestamp) -> Option<String> {
    let sighting = sighting?;
    let longest = sighting.gaps.iter().copied().max().filter(|_| sighting.gaps.len() >= ENOUGH_GAPS)?;
    let quiet = now.seconds() - sighting.last.seconds();
    (quiet > longest.saturating_mul(TIMES_AS_LONG) && quiet > LEAST_SILENCE)
        .then(|| format!("nothing for {}; the longest pause before was {}", in_words(quiet), in_words(longest)))
}

fn in_words(seconds: i64) -> String {
    match seconds {
        ..=5_400 => format!("{} minutes", seconds / 60),
        5_401..=172_800 => format!("{} hours", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// Returns the health of a webhook that turns out not to deliver, or `None` when that is recorded already, so that it
/// is reported once. `good_at` is the last time at which it was known to deliver.
pub(crate) fn turned_bad(
    before: &Health,
    verdict: Verdict,
    reason: &str,
    good_at: Option<Timestamp>,
    now: Timestamp,
) -> Option<Health> {
    let known = is_bad(before.verdict);
    if known && before.verdict == verdict {
        return None;
    }
    let good_at = if known { before.good_at } else { good_at.or(before.good_at) };
    Some(Health { verdict, since: Some(now), reason: reason.to_owned(), good_at, ..before.clone() })
}

/// Returns whether deliveries may have been missed while a webhook had this verdict.
pub(crate) fn is_bad(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::SwitchedOff | Verdict::Missing)
}

/// Returns the time since which deliveries of a webhook may have been lost, or `None` when nothing is known. A webhook
/// that the platform switched off had failed for a while before, so its last delivery counts, too.
pub(crate) fn lost_since(health: &Health, seen: Option<Timestamp>) -> Option<Timestamp> {
    match (health.verdict, health.good_at, seen) {
        (Verdict::SwitchedOff, Some(good), Some(seen)) => Some(good.min(seen)),
        (_, good, seen) => good.or(seen),
    }
}

/// Returns whether a webhook that is off has to wait before it is switched on again.
pub(crate) fn cools_down(health: &Health, now: Timestamp) -> bool {
    health.not_before.is_some_and(|not_before| now < not_before)
}

/// Returns the health of a webhook that is switched on again. Its verdict stays until it is seen to be on.
pub(crate) fn switched_on(before: &Health, now: Timestamp) -> Health {
    let tripped_at = before.since.unwrap_or(now);
    let again = before.reactivated_at.is_some_and(|at| tripped_at < at.plus_seconds(STAYED_ON));
    let trips = if again { before.trips.saturating_add(1) } else { 1 };
    let wait = (FIRST_COOL_DOWN << (trips - 1).min(10)).min(LONGEST_COOL_DOWN);
    let not_before = now.plus_seconds(wait);
    Health { trips, reactivated_at: Some(now), not_before: Some(not_before), ..before.clone() }
}

/// Returns the health of a webhook that is on and as it should be. If it is healthy now, the reason of an earlier
/// verdict stays.
pub(crate) fn seen_on(before: &Health, verdict: Verdict, reason: String, now: Timestamp) -> Health {
    let mut health = before.clone();
    if health.verdict != verdict || health.since.is_none() {
        (health.verdict, health.since) = (verdict, Some(now));
        health.good_at = Some(now);
        if verdict != Verdict::Healthy {
            health.reason = reason;
        }
    }
    let stayed_on = health.reactivated_at.is_none_or(|at| at.plus_seconds(STAYED_ON) <= now);
    if stayed_on && health.trips > 0 {
        (health.trips, health.not_before) = (0, None);
    }
    health
}

#[cfg(test)]
mod tests {
    use commerce::key::Generation;

    use super::*;

    const HOUR: i64 = 3600;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(1_800_000_000_000).plus_seconds(seconds)
    }

    fn webhook(status: WebhookStatus, failures: Option<u64>) -> Webhook {
        Webhook { id: 1.into(), scope: "a".into(), url: "https://x".into(), status, failures }
    }

    fn sighting(gaps: &[i64]) -> Activity {
        Activity { last: at(0), generation: Generation::FIRST, key_id: "k".into(), gaps: gaps.to_vec() }
    }

    #[test]
    fn silence_is_measured_by_the_scope_s_own_past() {
        let on = webhook(WebhookStatus::Active, None);
        let after = |gaps: &[i64], seconds| verdict(true, Some(&on), Some(&sighting(gaps)), at(seconds)).0;
        let busy = [300, 600, 300, 900, 300];
        assert_eq!(after(&busy, LEAST_SILENCE), Verdict::Healthy, "an evening");
        assert_eq!(after(&busy, LEAST_SILENCE + 1), Verdict::Silent);
        let daily = [86_400; 5];
        assert_eq!(after(&daily, 3 * 86_400), Verdict::Healthy);
        assert_eq!(after(&daily, 3 * 86_400 + 1), Verdict::Silent);
        assert_eq!(after(&busy[1..], 1_000_000), Verdict::Healthy, "four pauses are no past");
        assert_eq!(verdict(true, Some(&on), None, at(0)).0, Verdict::Healthy, "what was never seen is not silent");
        let (_, reason) = verdict(true, Some(&on), Some(&sighting(&busy)), at(7 * HOUR));
        assert_eq!(reason, "nothing for 7 hours; the longest pause before was 15 minutes");
    }

    /// A shop that sells every few minutes from eight to eight.
    #[test]
    fn busy_by_day_and_quiet_by_night_is_not_silent() {
        let on = webhook(WebhookStatus::Active, None);
        let mut seen = None;
        for (day, minutes) in (0..5).flat_map(|day| (0..144).map(move |five| (day, five * 5))) {
            let delivered = at(day * 24 * HOUR + minutes * 60);
            seen = Some(Activity::next(seen, delivered, Generation::FIRST, "k"));
        }
        let last = seen.as_ref().map_or(0, |seen| seen.last.seconds());
        let after = |hours: i64| {
            verdict(true, Some(&on), seen.as_ref(), Timestamp::from_millis((last + hours * HOUR) * 1000)).0
        };
        assert_eq!([12, 24, 48].map(after), [Verdict::Healthy, Verdict::Healthy, Verdict::Silent]);
    }

    #[test]
    fn what_the_platform_shows_comes_first() {
        let off = webhook(WebhookStatus::Inactive("disabled".into()), Some(6));
        let (shown, reason) = verdict(true, Some(&off), Some(&sighting(&[300; 5])), at(1));
        assert_eq!(shown, Verdict::SwitchedOff);
        assert_eq!(reason, "switched off by the platform (disabled), after 6 failures");
        assert_eq!(verdict(true, None, Some(&sighting(&[])), at(1)).0, Verdict::Missing);
        assert_eq!(verdict(false, None, None, at(1)).0, Verdict::Manual);
        assert_eq!(verdict(false, None, Some(&sighting(&[])), at(1)).0, Verdict::Healthy, "it was seen");
        assert_eq!(verdict(false, None, Some(&sighting(&[300; 5])), at(7 * HOUR)).0, Verdict::Silent);
    }

    #[test]
    fn each_trip_waits_twice_as_long_until_it_has_stayed_on_for_a_day() {
        let mut health = Health::default();
        let mut now = at(0);
        for (trip, minutes) in (1..).zip([15, 30, 60, 120, 240, 480, 960, 1440, 1440, 1440]) {
            let bad = turned_bad(&health, Verdict::SwitchedOff, "off", Some(now), now);
            assert!(bad.is_some(), "trip {trip} is told");
            health = bad.unwrap_or_default();
            assert_eq!(turned_bad(&health, Verdict::SwitchedOff, "off", None, now.plus_seconds(1)), None, "and once");
            health = switched_on(&health, now);
            assert_eq!((health.trips, health.not_before), (trip, Some(now.plus_seconds(minutes * 60))));
            assert!(cools_down(&health, now.plus_seconds(minutes * 60 - 1)));
            assert!(!cools_down(&health, now.plus_seconds(minutes * 60)));
            assert_eq!(health.verdict, Verdict::SwitchedOff, "until it is seen to be on");
            health = seen_on(&health, Verdict::Healthy, String::new(), now);
            assert_eq!((health.verdict, health.good_at, health.reason.as_str()), (Verdict::Healthy, Some(now), "off"));
            now = now.plus_seconds(600);
        }
        let day = health.reactivated_at.map(|at| at.plus_seconds(STAYED_ON)).unwrap_or(now);
        assert_eq!(seen_on(&health, Verdict::Healthy, String::new(), day.plus_seconds(-1)), health);
        let stayed = seen_on(&health, Verdict::Healthy, String::new(), day);
        assert_eq!((stayed.trips, stayed.not_before), (0, None));
        let later = turned_bad(&stayed, Verdict::SwitchedOff, "off", None, day.plus_seconds(1)).unwrap_or_default();
        assert_eq!(switched_on(&later, day.plus_seconds(2)).trips, 1);
    }

    #[test]
    fn what_was_lost_begins_before_it_was_noticed() {
        let health = |verdict, good_at| Health { verdict, good_at, ..Health::default() };
        let (early, late) = (Some(at(0)), Some(at(60)));
        assert_eq!(
            lost_since(&health(Verdict::SwitchedOff, late), early),
            early,
            "it failed before it was given up on"
        );
        assert_eq!(lost_since(&health(Verdict::SwitchedOff, early), late), early);
        assert_eq!(lost_since(&health(Verdict::Missing, late), early), late, "it was there until then");
        assert_eq!(lost_since(&health(Verdict::Missing, None), early), early);
        assert_eq!(lost_since(&health(Verdict::SwitchedOff, None), None), None);
    }

    #[test]
    fn when_it_was_good_last_stays_from_one_evil_to_the_next() {
        let good = Health { since: Some(at(0)), good_at: Some(at(0)), ..Health::default() };
        let off = turned_bad(&good, Verdict::SwitchedOff, "off", Some(at(50)), at(60)).unwrap_or_default();
        assert_eq!(off.good_at, Some(at(50)));
        let missing = turned_bad(&off, Verdict::Missing, "gone", Some(at(90)), at(90)).unwrap_or_default();
        assert_eq!((missing.verdict, missing.good_at), (Verdict::Missing, Some(at(50))));
    }
}
