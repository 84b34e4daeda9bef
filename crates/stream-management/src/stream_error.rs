//! Why a stream is closed with an error, as one value: the condition (RFC 6120 §4.9.3), what to say, and the element that
//! XEP-0198 adds.

use crate::h::{H, MalformedH};
use crate::queue::AckError;

/// `<handled-count-too-high/>` (XEP-0198 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandledCountTooHigh {
    /// What the peer said: `h`.
    pub h: H,
    /// How many stanzas were sent: `send-count`.
    pub send_count: H,
}

/// A stream error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamError {
    /// The defined condition.
    pub condition: &'static str,
    /// For whoever reads the peer's log.
    pub text: String,
    /// The element that goes with it, if one does.
    pub too_high: Option<HandledCountTooHigh>,
}

impl StreamError {
    fn new(condition: &'static str, text: impl ToString) -> StreamError {
        StreamError { condition, text: text.to_string(), too_high: None }
    }

    /// For the ends of streams that hold more than they may: `<policy-violation/>`.
    pub(crate) fn policy_violation(text: &str) -> StreamError {
        StreamError::new("policy-violation", text)
    }

    /// What is to be sent again cannot be read from the disk just now. The session stays, and is resumed later.
    pub fn unreadable() -> StreamError {
        StreamError::new("internal-server-error", "What is queued for you cannot be read now")
    }

    /// The session has got another connection (RFC 6120 §4.9.3.3).
    pub fn replaced() -> StreamError {
        StreamError::new("conflict", "This session was resumed on another connection")
    }
}

/// Why the `h` of an `<a/>` cannot be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WrongAck {
    /// It has none.
    #[error("'h' is missing")]
    Missing,
    /// It is no number.
    #[error(transparent)]
    Malformed(#[from] MalformedH),
    /// It cannot be true.
    #[error(transparent)]
    Untrue(#[from] AckError),
}

impl WrongAck {
    /// Reads the `h` of an `<a/>`.
    ///
    /// # Errors
    /// If it is missing or is no number.
    pub fn read(h: Option<&str>) -> Result<H, WrongAck> {
        Ok(h.ok_or(WrongAck::Missing)?.parse()?)
    }

    /// How the stream is closed for it: XEP-0198 §4 has `<undefined-condition/>` with `<handled-count-too-high/>` for more
    /// than was sent; the schema (§9) wants a number.
    pub fn stream_error(&self) -> StreamError {
        let condition = match self {
            WrongAck::Missing | WrongAck::Malformed(_) => "invalid-xml",
            WrongAck::Untrue(_) => "undefined-condition",
        };
        let too_high = match *self {
            WrongAck::Untrue(AckError::TooHigh { h, sent }) => {
                Some(HandledCountTooHigh { h, send_count: sent })
            }
            _ => None,
        };
        StreamError { too_high, ..StreamError::new(condition, self) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_more_than_was_sent_is_too_high() {
        let high = WrongAck::from(AckError::TooHigh { h: H(7), sent: H(3) }).stream_error();
        assert_eq!(high.condition, "undefined-condition");
        assert_eq!(high.too_high, Some(HandledCountTooHigh { h: H(7), send_count: H(3) }));
        let low = WrongAck::from(AckError::TooLow { h: H(1), acked: H(3) }).stream_error();
        assert_eq!((low.condition, low.too_high), ("undefined-condition", None));
    }

    #[test]
    fn what_is_no_number_is_invalid() {
        assert_eq!(WrongAck::read(Some("4294967295")), Ok(H(u32::MAX)));
        for h in [None, Some(""), Some("-1"), Some("4294967296"), Some("a")] {
            let error = WrongAck::read(h).unwrap_err().stream_error();
            assert_eq!((error.condition, error.too_high), ("invalid-xml", None), "{h:?}");
        }
    }
}
