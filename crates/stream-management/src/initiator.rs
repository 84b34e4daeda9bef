//! The side that asks for stream management: an outgoing stream between servers (XEP-0198 §3).
//!
//! What goes out is counted from the moment at which `<enable/>` has been sent, what comes in from `<enabled/>` on: each side
//! begins with the first stanza behind its own element. A stream between servers is never resumed (§5 is for clients).

use crate::element::NAMESPACES;

/// How far it has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Initiator {
    /// The other server does not offer it, or has not said yet.
    #[default]
    NotOffered,
    /// It offers it, in that namespace.
    Offered(&'static str),
    /// `<enable/>` was sent, and is not answered yet: what goes out counts, what comes in does not.
    Asked,
    /// Both directions count.
    Enabled,
    /// The other server refused. It is not asked again on this stream.
    Refused,
}

impl Initiator {
    /// The other server's features have come: the namespaces in which it offers stream management. They come once more
    /// after each restart of the stream; the newest namespace that both understand is taken.
    pub fn features<'a>(&mut self, offered: impl IntoIterator<Item = &'a str>) {
        if !matches!(self, Initiator::NotOffered | Initiator::Offered(_)) {
            return;
        }
        let newest =
            offered.into_iter().filter_map(|xmlns| NAMESPACES.iter().position(|&known| known == xmlns));
        *self = match newest.max().and_then(|n| NAMESPACES.get(n)) {
            Some(xmlns) => Initiator::Offered(xmlns),
            None => Initiator::NotOffered,
        };
    }

    /// The stream is authenticated, and nothing else waits to be sent first. If `<enable/>` is to be sent: its namespace.
    #[must_use]
    pub fn established(&mut self) -> Option<&'static str> {
        let Initiator::Offered(xmlns) = *self else { return None };
        *self = Initiator::Asked;
        Some(xmlns)
    }

    /// `<enabled/>` came. True: what comes in counts from here, from zero. False: nobody has asked, nothing follows.
    #[must_use]
    pub fn enabled(&mut self) -> bool {
        let answers = *self == Initiator::Asked;
        if answers {
            *self = Initiator::Enabled;
        }
        answers
    }

    /// `<failed/>` came. True: the stream goes on without stream management. False: nobody has asked, nothing follows.
    #[must_use]
    pub fn failed(&mut self) -> bool {
        let answers = *self == Initiator::Asked;
        if answers {
            *self = Initiator::Refused;
        }
        answers
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::element::{XMLNS_SM2, XMLNS_SM3};

    #[test]
    fn the_newest_namespace_is_asked_for_once() {
        let mut initiator = Initiator::default();
        assert_eq!(initiator.established(), None);
        initiator.features([XMLNS_SM3, "urn:xmpp:sm:4", XMLNS_SM2]);
        assert_eq!(initiator.established(), Some(XMLNS_SM3));
        assert_eq!(initiator.established(), None);
        assert!(initiator.enabled());
        assert!(!initiator.enabled());
        assert!(!initiator.failed());
    }

    #[test]
    fn what_is_offered_last_counts() {
        let mut initiator = Initiator::default();
        initiator.features([XMLNS_SM2]);
        assert_eq!(initiator, Initiator::Offered(XMLNS_SM2));
        initiator.features([]);
        assert_eq!(initiator.established(), None);
    }

    #[test]
    fn answers_to_nothing_are_nothing() {
        for mut initiator in [Initiator::NotOffered, Initiator::Offered(XMLNS_SM3), Initiator::Refused] {
            let before = initiator;
            assert!(!initiator.enabled() && !initiator.failed());
            assert_eq!(initiator, before);
        }
        let mut asked = Initiator::Asked;
        assert!(asked.failed());
        asked.features([XMLNS_SM3]);
        assert_eq!(asked.established(), None, "it has refused");
    }
}
