//! The ways in which a message ends.

use cloud::EdgeError;
use commerce::{
    http_call::Fault,
    outcome::{Outcome, Reason, Rule},
};

/// The end of one message, this time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Disposition {
    /// The message ended for good.
    Done(Outcome),
    /// A copy of the message comes back after this many seconds.
    Deferred(i64),
    /// The message comes back, because something failed that may work the next time; with the cause.
    Retry(Reason, String),
    /// The message comes back, because no time was left.
    Unfinished,
}

/// A [`Disposition`] with an explanation for the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Ended {
    pub disposition: Disposition,
    /// The explanation, or empty for none.
    pub why: String,
}

impl Ended {
    /// Ends a message with an explanation.
    pub fn new(disposition: Disposition, why: impl ToString) -> Self {
        Self { disposition, why: why.to_string() }
    }

    /// Quarantines a message.
    pub fn quarantined(reason: Reason, why: impl ToString) -> Self {
        Self::new(Disposition::Done(Outcome::Quarantined(reason)), why)
    }

    /// Makes a message come back, because something failed that may work the next time.
    pub fn retry(reason: Reason, cause: impl ToString) -> Self {
        Disposition::Retry(reason, cause.to_string()).into()
    }

    /// Makes a message come back, because the platform's answer meets what another environment dated ahead of it: nobody
    /// can tell which is later.
    pub fn clock_ahead() -> Self {
        Self::retry(Reason::Contention, "another environment's clock is ahead")
    }

    /// Quarantines a message that the platform has to be asked about, because the connection has no credentials.
    pub fn without_credentials() -> Self {
        let why = "it has to be asked for at the platform, which needs credentials; connect with them, then redrive";
        Self::quarantined(Reason::ConnectionFault, why)
    }

    /// Makes a message come back whose item, or whose connection's record, is there but cannot be read.
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

/// The end of a message that the platform could not be asked about.
impl From<&Fault> for Ended {
    fn from(fault: &Fault) -> Self {
        match fault {
            Fault::Throttled { seconds } => Disposition::Deferred(*seconds).into(),
            Fault::Unavailable(_) => Self::retry(Reason::PlatformUnavailable, fault),
            Fault::Connection(_) => Self::retry(Reason::ConnectionFault, fault),
            Fault::Unreadable(_) => Self::retry(Reason::Malformed, fault),
            // Another attempt would cost as much, and the others of the batch would wait for it.
            Fault::TooLarge(_) => Self::quarantined(Reason::TooLarge, fault),
        }
    }
}

impl From<Fault> for Ended {
    fn from(fault: Fault) -> Self {
        Self::from(&fault)
    }
}
