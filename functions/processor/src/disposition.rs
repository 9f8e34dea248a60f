//! How a message ends.

use cloud::EdgeError;
use commerce::{
    http_call::Fault,
    outcome::{Outcome, Reason, Rule},
};

/// How one message ended, this time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Disposition {
    /// It ended for good.
    Done(Outcome),
    /// A copy comes back after so many seconds.
    Deferred(i64),
    /// It comes back, for something failed that may work the next time; with the cause.
    Retry(Reason, String),
    /// It comes back, for there was no time left.
    Unfinished,
}

/// A [`Disposition`] with a word on why, for the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Ended {
    pub disposition: Disposition,
    /// Empty where there is nothing to say.
    pub why: String,
}

impl Ended {
    /// Ends a message with a word on why.
    pub fn new(disposition: Disposition, why: impl ToString) -> Self {
        Self { disposition, why: why.to_string() }
    }

    /// Puts a message aside.
    pub fn quarantined(reason: Reason, why: impl ToString) -> Self {
        Self::new(Disposition::Done(Outcome::Quarantined(reason)), why)
    }

    /// Has a message come back, because of something that may work the next time.
    pub fn retry(reason: Reason, cause: impl ToString) -> Self {
        Disposition::Retry(reason, cause.to_string()).into()
    }

    /// Puts a message aside for which the platform has to be asked, where it cannot be.
    pub fn without_credentials() -> Self {
        let why = "it has to be asked for at the platform, which needs credentials; connect with them, then redrive";
        Self::quarantined(Reason::ConnectionFault, why)
    }

    /// Has a message come back whose entity's item, or connection, is there and cannot be read.
    pub fn unreadable() -> Self {
        Self::retry(Reason::StateUnavailable, "its item, or its connection's, cannot be read")
    }
}

impl From<Disposition> for Ended {
    fn from(disposition: Disposition) -> Self {
        Self { disposition, why: String::new() }
    }
}

impl From<Outcome> for Ended {
    fn from(outcome: Outcome) -> Self {
        Disposition::Done(outcome).into()
    }
}

impl From<Rule> for Ended {
    fn from(rule: Rule) -> Self {
        Outcome::Ignored(rule).into()
    }
}

impl From<EdgeError> for Ended {
    fn from(error: EdgeError) -> Self {
        Self::retry(Reason::StateUnavailable, error)
    }
}

/// Ends a message for which the platform could not be asked.
impl From<&Fault> for Ended {
    fn from(fault: &Fault) -> Self {
        match fault {
            Fault::Throttled { seconds } => Disposition::Deferred(*seconds).into(),
            Fault::Unavailable(_) => Self::retry(Reason::PlatformUnavailable, fault),
            Fault::Connection(_) => Self::retry(Reason::ConnectionFault, fault),
            Fault::Unreadable(_) => Self::retry(Reason::Malformed, fault),
            // To try again would take the same again, and the others of a batch would wait for it.
            Fault::TooLarge(_) => Self::quarantined(Reason::TooLarge, fault),
        }
    }
}

impl From<Fault> for Ended {
    fn from(fault: Fault) -> Self {
        Self::from(&fault)
    }
}
