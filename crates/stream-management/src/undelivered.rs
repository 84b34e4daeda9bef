//! What becomes of a stanza that was never acknowledged, when its recipient does not come back.
//!
//! XEP-0198 §4: it is treated like a stanza to a resource that is not there. That is RFC 6121 §8.5.3.2, within the
//! limits that RFC 6120 §8.2.3 and §8.3.1 set to errors.

use enjamb_stanza::{Kind, Name, Summary};

/// What is known of the recipient.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recipient {
    /// No other session of the account is there.
    pub last_session: bool,
    /// The stanza is in the account's archive, and the session has used the archive: its client will find it there.
    pub archived: bool,
    /// The stanza is itself a copy out of the archive.
    pub archive_result: bool,
    /// The recipient sent it to itself.
    pub own: bool,
    /// Its client has closed the stream, having read what it wanted to read: it is not lost.
    pub closed: bool,
    /// The stanza comes from a room that the client is in, or through it: a room takes an error for a reason to throw its
    /// occupant out (XEP-0045, status 333).
    pub from_room: bool,
}

/// What to do with the stanza.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Offer it to offline storage; if nobody stores it, return it.
    Store,
    /// Offer it to offline storage; if nobody stores it, nobody needs to hear of it.
    StoreOrDiscard,
    /// Tell the sender `recipient-unavailable`.
    Return,
    /// Nobody needs to hear of it.
    Discard,
}

/// Decides on one stanza to a client.
pub fn fate(stanza: Summary, recipient: Recipient) -> Fate {
    let last = recipient.last_session;
    let silently = recipient.closed && recipient.from_room;
    match (stanza.name, stanza.kind) {
        // An error or a result must not be answered by an error.
        (_, Kind::Error) | (Name::Iq, Kind::Result) => Fate::Discard,
        // RFC 6121 §8.5.3.2 has a server ignore it; whoever sent it hears of the recipient's own.
        (Name::Presence, _) => Fate::Discard,
        (Name::Message, Kind::Headline) => Fate::Discard,
        (Name::Message, Kind::Groupchat) if recipient.own || recipient.closed => Fate::Discard,
        (Name::Message, Kind::Groupchat) => Fate::Return,
        (Name::Message, _) if recipient.archived || recipient.archive_result => Fate::Discard,
        (Name::Message, _) if silently => Fate::StoreOrDiscard,
        (Name::Message, _) if last => Fate::Store,
        _ if recipient.own => Fate::Discard,
        _ => Fate::Return,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: Name, kind: Kind, recipient: Recipient) -> Fate {
        fate(Summary { name, kind, delayed: false }, recipient)
    }

    #[test]
    fn an_error_is_never_sent_for_an_error_or_a_result() {
        for recipient in [Recipient::default(), Recipient { last_session: true, ..Recipient::default() }] {
            for name in [Name::Message, Name::Presence, Name::Iq] {
                assert_eq!(of(name, Kind::Error, recipient), Fate::Discard);
            }
            assert_eq!(of(Name::Iq, Kind::Result, recipient), Fate::Discard);
            assert_eq!(of(Name::Iq, Kind::Other, recipient), Fate::Return);
        }
    }

    #[test]
    fn presence_is_never_returned() {
        for kind in [Kind::Other, Kind::Subscription, Kind::Error] {
            for closed in [false, true] {
                assert_eq!(
                    of(Name::Presence, kind, Recipient { closed, ..Recipient::default() }),
                    Fate::Discard
                );
            }
        }
    }

    #[test]
    fn a_room_hears_nothing_of_a_client_that_has_closed_its_stream() {
        let closed = Recipient { closed: true, from_room: true, ..Recipient::default() };
        assert_eq!(of(Name::Message, Kind::Groupchat, closed), Fate::Discard);
        assert_eq!(of(Name::Message, Kind::Other, closed), Fate::StoreOrDiscard);
        let last = Recipient { last_session: true, ..closed };
        assert_eq!(of(Name::Message, Kind::Other, last), Fate::StoreOrDiscard);
        // Whoever asked waits for an answer (RFC 6120 §8.2.3).
        assert_eq!(of(Name::Iq, Kind::Other, closed), Fate::Return);
        let lost = Recipient { from_room: true, ..Recipient::default() };
        assert_eq!(of(Name::Message, Kind::Groupchat, lost), Fate::Return);
    }

    #[test]
    fn messages_of_the_last_session_are_stored_others_returned() {
        let last = Recipient { last_session: true, ..Recipient::default() };
        assert_eq!(of(Name::Message, Kind::Other, last), Fate::Store);
        assert_eq!(of(Name::Message, Kind::Other, Recipient::default()), Fate::Return);
        assert_eq!(of(Name::Message, Kind::Groupchat, last), Fate::Return);
        assert_eq!(of(Name::Message, Kind::Headline, last), Fate::Discard);
    }

    #[test]
    fn what_the_archive_has_is_left_to_it() {
        let archived = Recipient { archived: true, last_session: true, ..Recipient::default() };
        assert_eq!(of(Name::Message, Kind::Other, archived), Fate::Discard);
        assert_eq!(of(Name::Iq, Kind::Other, archived), Fate::Return);
    }
}
