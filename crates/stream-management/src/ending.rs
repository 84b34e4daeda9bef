//! How a session ends that nobody wants to end, and how a stream is closed on purpose.

use crate::h::H;
use crate::stream_error::StreamError;

/// Why a session has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It holds more than it, its account or the server may.
    TooMuch,
    /// What is to be kept of it cannot be.
    Unkept,
}

/// How it ends. In either case nothing was dropped before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Its client is away: it ends as if its time were over, and what is queued is stored or returned.
    Expire {
        /// For the log, and for whoever is told that the session is gone.
        reason: &'static str,
    },
    /// Its client is there, and is told (RFC 6120 §4.9.3.14).
    Close(StreamError),
}

/// Who ends a stream by its end tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closer {
    /// The peer, which has read what it wanted to read.
    Peer,
    /// This server.
    Server,
}

/// What of a stream's end is under way.
#[derive(Debug, Default)]
pub(crate) struct End {
    too_much: bool,
    unkept: bool,
    closed: Option<Closer>,
}

impl End {
    /// See [`crate::Stream::must_end`].
    pub fn must_come(&mut self, cause: Cause) -> bool {
        let known = match cause {
            Cause::TooMuch => &mut self.too_much,
            Cause::Unkept => &mut self.unkept,
        };
        !std::mem::replace(known, true)
    }

    /// See [`crate::Stream::ending`].
    pub fn comes(&mut self, cause: Cause, is_away: bool) -> Option<Ending> {
        let (wanted, reason, text) = match cause {
            Cause::TooMuch => {
                (std::mem::take(&mut self.too_much), "Too many stanzas queued", "Too much is unacknowledged")
            }
            Cause::Unkept => (
                self.unkept,
                "It cannot be kept in the journal",
                "What the server has to keep of this session is too large",
            ),
        };
        wanted.then(|| match is_away {
            true => Ending::Expire { reason },
            false => Ending::Close(StreamError::policy_violation(text)),
        })
    }

    /// The client is back and takes what is queued.
    pub fn is_back(&mut self) {
        self.too_much = false;
    }

    /// Notes that the stream is closed; false if it was already.
    pub fn close(&mut self, by: Closer) -> bool {
        let news = self.closed.is_none();
        self.closed.get_or_insert(by);
        news
    }

    /// Who has closed the stream, if somebody has.
    pub fn closed(&self) -> Option<Closer> {
        self.closed
    }
}

/// What follows when a stream is closed on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closing {
    /// The count that an `<a/>` before the end tag may give, if one is to be sent: XEP-0198 §4 asks for it, so that the
    /// peer does not take for lost what was handled.
    pub last_ack: Option<H>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_announced_once_and_not_held_against_a_client_that_is_back() {
        let mut end = End::default();
        assert!(end.must_come(Cause::TooMuch));
        assert!(!end.must_come(Cause::TooMuch), "it is known");
        end.is_back();
        assert_eq!(end.comes(Cause::TooMuch, false), None);
        assert!(end.must_come(Cause::TooMuch));
        assert_eq!(
            end.comes(Cause::TooMuch, true),
            Some(Ending::Expire { reason: "Too many stanzas queued" })
        );
        assert_eq!(end.comes(Cause::TooMuch, true), None, "once");
    }

    #[test]
    fn what_cannot_be_kept_ends_even_if_its_client_is_back() {
        let mut end = End::default();
        assert!(end.must_come(Cause::Unkept));
        end.is_back();
        let Some(Ending::Close(error)) = end.comes(Cause::Unkept, false) else { panic!("it ends") };
        assert_eq!(error.condition, "policy-violation");
        assert!(!end.must_come(Cause::Unkept));
    }

    #[test]
    fn the_first_who_closes_has_closed() {
        let mut end = End::default();
        assert!(end.close(Closer::Server));
        assert!(!end.close(Closer::Peer));
        assert_eq!(end.closed(), Some(Closer::Server));
    }
}
