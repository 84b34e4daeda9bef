//! What becomes of a stanza that was never acknowledged, when its recipient does not come back.
//!
//! XEP-0198 §4: it is treated like a stanza to a resource that is not there. That is RFC 6121 §8.5.3.2, within the
//! limits that RFC 6120 §8.2.3 and §8.3.1 set to errors. Each stanza is decided on once, by what is known of its session
//! and of itself; of most, name and type say enough, and nobody has to parse them ([`certain_fate`]).

use enjamb_stanza::{Kind, Name, Summary};

/// Whom the stanza was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recipient {
    /// A client.
    Client(Client),
    /// Another server.
    Server {
        /// `smacks_s2s_resend`: what it has not acknowledged is sent once more, on another stream.
        resends: bool,
    },
}

/// What is known of a client whose session ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Client {
    /// No other session of the account is there.
    pub last_session: bool,
    /// The account is no more: nobody will ever read what is stored for it.
    pub account_gone: bool,
    /// Its account cannot come back after a restart (it has no store of its own).
    pub in_memory_only: bool,
    /// It has asked the account's archive for messages: it will find there what is in it.
    pub uses_archive: bool,
    /// It has closed the stream, having read what it wanted to read: it is not lost.
    pub closed: bool,
}

/// What is in the stanza.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// It has an id of the account's archive: it is in it.
    pub archived: bool,
    /// It is itself a copy out of the archive.
    pub archive_result: bool,
    /// The recipient sent it to itself.
    pub own: bool,
    /// It comes from a room that the client is in, or through it: a room takes an error for a reason to throw its occupant
    /// out (XEP-0045, status 333).
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
    /// Send it on its way once more.
    SendAgain,
}

impl Fate {
    /// Whether it is offered to offline storage.
    pub fn is_stored(self) -> bool {
        matches!(self, Fate::Store | Fate::StoreOrDiscard)
    }

    /// Whether its sender is told, if nobody has taken it.
    pub fn is_returned(self) -> bool {
        matches!(self, Fate::Store | Fate::Return)
    }
}

/// Decides on one stanza.
pub fn fate(stanza: Summary, recipient: Recipient, content: Content) -> Fate {
    match recipient {
        Recipient::Client(client) => to_client(stanza, client, content),
        Recipient::Server { resends: true } => Fate::SendAgain,
        // Whatever it says of itself, it is not of a session of this server.
        Recipient::Server { resends: false } => to_client(stanza, Client::default(), Content::default()),
    }
}

fn to_client(stanza: Summary, client: Client, content: Content) -> Fate {
    let silently = client.closed && content.from_room;
    let is_stored = client.last_session && !client.account_gone && !client.in_memory_only;
    let is_archived = client.uses_archive && content.archived;
    match (stanza.name, stanza.kind) {
        // An error or a result must not be answered by an error.
        (_, Kind::Error) | (Name::Iq, Kind::Result) => Fate::Discard,
        // RFC 6121 §8.5.3.2 has a server ignore it; whoever sent it hears of the recipient's own.
        (Name::Presence, _) => Fate::Discard,
        (Name::Message, Kind::Headline) => Fate::Discard,
        (Name::Message, Kind::Groupchat) if content.own || client.closed => Fate::Discard,
        (Name::Message, Kind::Groupchat) => Fate::Return,
        (Name::Message, _) if is_archived || content.archive_result => Fate::Discard,
        (Name::Message, _) if silently => Fate::StoreOrDiscard,
        (Name::Message, _) if is_stored => Fate::Store,
        _ if content.own => Fate::Discard,
        _ => Fate::Return,
    }
}

/// The same, if what is in the stanza makes no difference.
pub fn certain_fate(stanza: Summary, recipient: Recipient) -> Option<Fate> {
    let first = fate(stanza, recipient, Content::default());
    let all = (0u8..16).map(|bits| Content {
        archived: bits & 1 != 0,
        archive_result: bits & 2 != 0,
        own: bits & 4 != 0,
        from_room: bits & 8 != 0,
    });
    all.into_iter().all(|content| fate(stanza, recipient, content) == first).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(name: Name, kind: Kind) -> Summary {
        Summary { name, kind, delayed: false }
    }

    fn of(name: Name, kind: Kind, client: Client, content: Content) -> Fate {
        fate(summary(name, kind), Recipient::Client(client), content)
    }

    const LOST: Client = Client {
        last_session: false,
        account_gone: false,
        in_memory_only: false,
        uses_archive: false,
        closed: false,
    };
    const LAST: Client = Client { last_session: true, ..LOST };
    const PLAIN: Content = Content { archived: false, archive_result: false, own: false, from_room: false };

    #[test]
    fn an_error_is_never_sent_for_an_error_or_a_result() {
        for client in [LOST, LAST] {
            for name in [Name::Message, Name::Presence, Name::Iq] {
                assert_eq!(of(name, Kind::Error, client, PLAIN), Fate::Discard);
            }
            assert_eq!(of(Name::Iq, Kind::Result, client, PLAIN), Fate::Discard);
            assert_eq!(of(Name::Iq, Kind::Other, client, PLAIN), Fate::Return);
        }
    }

    #[test]
    fn presence_is_never_returned() {
        for kind in [Kind::Other, Kind::Subscription, Kind::Error] {
            for closed in [false, true] {
                assert_eq!(of(Name::Presence, kind, Client { closed, ..LOST }, PLAIN), Fate::Discard);
            }
        }
    }

    #[test]
    fn a_room_hears_nothing_of_a_client_that_has_closed_its_stream() {
        let closed = Client { closed: true, ..LOST };
        let from_room = Content { from_room: true, ..PLAIN };
        assert_eq!(of(Name::Message, Kind::Groupchat, closed, from_room), Fate::Discard);
        assert_eq!(of(Name::Message, Kind::Other, closed, from_room), Fate::StoreOrDiscard);
        let last = Client { last_session: true, ..closed };
        assert_eq!(of(Name::Message, Kind::Other, last, from_room), Fate::StoreOrDiscard);
        // Whoever asked waits for an answer (RFC 6120 §8.2.3).
        assert_eq!(of(Name::Iq, Kind::Other, closed, from_room), Fate::Return);
        assert_eq!(of(Name::Message, Kind::Groupchat, LOST, from_room), Fate::Return);
    }

    #[test]
    fn messages_of_the_last_session_are_stored_others_returned() {
        assert_eq!(of(Name::Message, Kind::Other, LAST, PLAIN), Fate::Store);
        assert_eq!(of(Name::Message, Kind::Other, LOST, PLAIN), Fate::Return);
        assert_eq!(of(Name::Message, Kind::Groupchat, LAST, PLAIN), Fate::Return);
        assert_eq!(of(Name::Message, Kind::Headline, LAST, PLAIN), Fate::Discard);
    }

    #[test]
    fn nothing_is_stored_for_an_account_that_is_gone_or_that_nobody_can_come_back_to() {
        let gone = Client { account_gone: true, ..LAST };
        let in_memory = Client { in_memory_only: true, ..LAST };
        for client in [gone, in_memory] {
            assert_eq!(of(Name::Message, Kind::Other, client, PLAIN), Fate::Return);
        }
    }

    #[test]
    fn what_the_archive_has_is_left_to_it() {
        let reader = Client { uses_archive: true, ..LAST };
        let archived = Content { archived: true, ..PLAIN };
        assert_eq!(of(Name::Message, Kind::Other, reader, archived), Fate::Discard);
        assert_eq!(of(Name::Iq, Kind::Other, reader, archived), Fate::Return);
        assert_eq!(of(Name::Message, Kind::Other, LAST, archived), Fate::Store, "it does not look there");
        let result = Content { archive_result: true, ..PLAIN };
        assert_eq!(of(Name::Message, Kind::Other, LAST, result), Fate::Discard);
    }

    #[test]
    fn between_servers_it_is_sent_again_or_returned() {
        let message = summary(Name::Message, Kind::Other);
        let own = Content { own: true, archived: true, ..PLAIN };
        let to = |resends| fate(message, Recipient::Server { resends }, own);
        assert_eq!((to(true), to(false)), (Fate::SendAgain, Fate::Return));
        let presence = summary(Name::Presence, Kind::Other);
        assert_eq!(certain_fate(presence, Recipient::Server { resends: false }), Some(Fate::Discard));
        assert_eq!(certain_fate(presence, Recipient::Server { resends: true }), Some(Fate::SendAgain));
    }

    #[test]
    fn of_most_stanzas_name_and_type_say_enough() {
        let closed = Client { closed: true, ..LOST };
        let certain = |name, kind, client| certain_fate(summary(name, kind), Recipient::Client(client));
        for client in [LOST, LAST, closed] {
            for kind in [Kind::Other, Kind::Subscription, Kind::Error] {
                assert_eq!(certain(Name::Presence, kind, client), Some(Fate::Discard));
            }
            assert_eq!(certain(Name::Message, Kind::Headline, client), Some(Fate::Discard));
            assert_eq!(certain(Name::Message, Kind::Error, client), Some(Fate::Discard));
            assert_eq!(certain(Name::Iq, Kind::Result, client), Some(Fate::Discard));
            // It may be one that the recipient has sent to itself, or that is in the archive.
            assert_eq!(certain(Name::Message, Kind::Other, client), None);
            assert_eq!(certain(Name::Iq, Kind::Other, client), None);
        }
        assert_eq!(certain(Name::Message, Kind::Groupchat, closed), Some(Fate::Discard));
        assert_eq!(certain(Name::Message, Kind::Groupchat, LOST), None);
    }
}
