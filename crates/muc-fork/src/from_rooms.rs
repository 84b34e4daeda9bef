//! What rooms send, as bytes: what is read from it, and whose turn it is then.

#![warn(clippy::indexing_slicing, clippy::string_slice)]

use crate::accounts::Accounts;
use crate::asks::Query;
use crate::chat::Chat;
use crate::decision::{Decision, Id};
use crate::element::{Element, StanzaError, split, without_address};
use crate::from_clients::message_kind;
use crate::input::{FromRoom, Message, Presence};
use crate::mediated::Mediated;
use crate::presence::{self, FromOccupant};
use crate::private::Unattended;
use enjamb_stanza::Attribute;
use std::sync::Arc;

impl Accounts {
    /// Whether what comes from an address for an account, or goes there from it, may be of concern here: the account is in that room,
    /// or was just now, or waits for an answer from there.
    pub fn concerns(&self, account: &str, jid: &str) -> bool {
        let room = split(jid).0;
        self.accounts.get(account).is_some_and(|a| a.rooms.contains_key(room) || a.requests.waits_for(room))
    }

    /// A stanza to an account, other than a groupchat message ([`Accounts::groupchat_from_room`]). `available` says whether the account
    /// has clients that take messages to it.
    pub fn room_sends(&mut self, stanza: &[u8], available: bool, now: u64) -> Option<Vec<Decision>> {
        let read = Element::stanza(stanza)?;
        let (account, jid) = (read.attribute(b"to")?, read.attribute(b"from")?);
        let (room, nick) = split(&jid);
        let id = read.attribute(b"id");
        let from = FromRoom { account: &account, room, nick, id: id.as_deref() };
        match read.name() {
            b"presence" => self.room_shows(from, &read, stanza, now),
            b"message" => self.room_says(from, &read, available, now),
            b"iq" => {
                let query = Query::read(&read)?;
                self.iq_from_room(
                    from,
                    query.kind,
                    query.ping,
                    query.for_account,
                    query.condition(),
                    query.exchange(),
                    now,
                )
            }
            _ => None,
        }
    }

    fn room_shows(
        &mut self,
        from: FromRoom,
        read: &Element,
        stanza: &[u8],
        now: u64,
    ) -> Option<Vec<Decision>> {
        self.membership(from.account, from.room)?;
        let kind = presence::kind(read.attribute(b"type").as_deref())?;
        let said = FromOccupant::read(read, kind);
        // What is kept is for all clients: whose request a presence answered is of no use to who is told of it later.
        let is_kept = said.is_own() || kind == Presence::Available;
        let kept = without_address(stanza, if is_kept { Attribute::Remove } else { Attribute::Keep });
        let mut all = self.presence_from_room(from, kind, said.as_input(), &kept, now)?;
        serve_in_hand(&mut all, from, &kept);
        Some(all)
    }

    fn room_says(
        &mut self,
        from: FromRoom,
        read: &Element,
        available: bool,
        now: u64,
    ) -> Option<Vec<Decision>> {
        let attended = self.is_attended(from.account, from.room)?;
        let kind = message_kind(read.attribute(b"type").as_deref());
        if kind == Message::Error {
            let error = StanzaError::read(read);
            return self.message_from_room(from, kind, error.as_ref().map(|e| &*e.condition), now);
        }
        if Mediated::read(read, from.nick).is_some_and(|mediated| mediated.is_for_everybody(attended)) {
            return None;
        }
        if attended {
            return self.message_from_room(from, kind, None, now);
        }
        match Unattended::read(read, from.nick, available) {
            Unattended::Online => None,
            Unattended::Store => Some(vec![Decision::Store]),
            Unattended::Nowhere => Some(Vec::new()),
        }
    }

    /// A groupchat message for an account. Calls `to` for each client that gets a copy of the stanza in hand, after the decisions that
    /// are returned.
    pub fn groupchat_from_room(
        &mut self,
        from: FromRoom,
        chat: &Chat,
        now: u64,
        mut to: impl FnMut(&str),
    ) -> Option<Vec<Decision>> {
        let mut copies = 0_usize;
        let held = self.holds.of(from);
        let mut out = self.groupchat(from, chat, now, |resource| {
            copies += 1;
            if !held.iter().any(|one| **one == *resource) {
                to(resource);
            }
        })?;
        let online = self.accounts.get(from.account).is_some_and(|a| a.online);
        if copies == 0 && !online && chat.is_news() {
            out.push(Decision::WakeDevices);
        }
        Some(out)
    }
}

/// Has the stanza in hand served from its bytes, as what is kept is. These may be without its `id`.
pub(crate) fn serve_in_hand(all: &mut [Decision], from: FromRoom, kept: &[u8]) {
    let mut in_hand: Option<Arc<[u8]>> = None;
    for one in all {
        if let Decision::Forward { resource, edit } = one {
            let (resource, mut edit) = (std::mem::take(resource), std::mem::take(edit));
            if edit.id == Id::Keep
                && let Some(id) = from.id
            {
                edit.id = Id::Set(id.into());
            }
            let stanza = Arc::clone(in_hand.get_or_insert_with(|| kept.into()));
            *one = Decision::Serve { account: from.account.into(), resource, stanza, edit };
        }
    }
}

#[cfg(test)]
#[allow(clippy::indexing_slicing)]
mod tests {
    use super::*;
    use crate::{Config, Offline, chat};

    const OWN: &str = "<x xmlns='http://jabber.org/protocol/muc#user'><status code='110'/></x>";

    /// An account that is in a room with one client.
    fn attended() -> Accounts {
        let mut accounts = Accounts::new(|| 1);
        accounts.configure("b", Config { offline: Offline::Stay, ..Config::default() });
        let join = "<presence to='r@c/n' id='j'><x xmlns='http://jabber.org/protocol/muc'/></presence>";
        accounts.client_sends("a@b", "r", join.as_bytes(), false, 10).unwrap();
        let own = format!("<presence from='r@c/n' to='a@b' id='{:032x}'>{OWN}</presence>", 1);
        accounts.room_sends(own.as_bytes(), true, 10).unwrap();
        accounts
    }

    /// The same, without it.
    fn unattended() -> Accounts {
        let mut accounts = attended();
        accounts.session_gone("a@b", "r", None, false, 20);
        accounts
    }

    fn comes(accounts: &mut Accounts, stanza: &str, available: bool) -> Option<Vec<Decision>> {
        accounts.room_sends(stanza.as_bytes(), available, 30)
    }

    fn forwarded(all: Option<Vec<Decision>>) -> bool {
        matches!(all.as_deref(), Some([Decision::Forward { .. }]))
    }

    #[test]
    fn is_concerned_with_rooms_it_is_in() {
        let accounts = attended();
        assert!(accounts.concerns("a@b", "r@c"));
        assert!(accounts.concerns("a@b", "r@c/m"));
        assert!(!accounts.concerns("a@b", "s@c/m"));
        assert!(!accounts.concerns("z@b", "r@c"));
    }

    #[test]
    fn waits_for_the_answer_of_a_room_that_it_left() {
        let mut accounts = attended();
        let ask = b"<iq to='r@c/m' type='get' id='q'><query xmlns='jabber:iq:version'/></iq>";
        accounts.client_sends("a@b", "r", ask, false, 20).unwrap();
        accounts.client_sends("a@b", "r", b"<presence to='r@c/n' type='unavailable'/>", false, 20).unwrap();
        let gone =
            format!("<presence from='r@c/n' to='a@b' type='unavailable' id='{:032x}'>{OWN}</presence>", 1);
        comes(&mut accounts, &gone, true).unwrap();
        assert!(accounts.is_attended("a@b", "r@c").is_none());
        assert!(accounts.concerns("a@b", "r@c/m"));
        let answer = format!("<iq from='r@c/m' to='a@b' type='result' id='{:032x}'/>", 1);
        assert!(forwarded(comes(&mut accounts, &answer, true)));
        assert!(!accounts.concerns("a@b", "r@c/m"));
    }

    #[test]
    fn keeps_presences_without_what_is_of_one_client() {
        let mut accounts = attended();
        let other = "<presence from='r@c/m' to='a@b' id='x'><show>away</show></presence>";
        let all = comes(&mut accounts, other, true);
        assert!(matches!(all.as_deref(), Some([Decision::Serve { .. }])), "as bytes: {all:?}");
        let join = b"<presence to='r@c/n' id='k'><x xmlns='http://jabber.org/protocol/muc'/></presence>";
        let served: Vec<String> = accounts
            .client_sends("a@b", "s", join, false, 30)
            .unwrap()
            .iter()
            .filter_map(|decision| match decision {
                Decision::Serve { stanza, .. } => Some(String::from_utf8_lossy(stanza).into_owned()),
                _ => None,
            })
            .collect();
        assert!(
            served.contains(&"<presence from='r@c/m'><show>away</show></presence>".to_owned()),
            "{served:?}"
        );
        assert!(served.contains(&format!("<presence from='r@c/n'>{OWN}</presence>")), "{served:?}");
    }

    fn mediated(kind: &str, what: &str, more: &str) -> String {
        format!(
            "<message from='r@c' to='a@b'{kind}><x xmlns='http://jabber.org/protocol/muc#user'><{what} from='x@y'/></x>{more}</message>"
        )
    }

    #[test]
    fn leaves_invitations_to_whoever_reads_messages() {
        for mut accounts in [attended(), unattended()] {
            assert_eq!(comes(&mut accounts, &mediated("", "invite", "<body>come</body>"), false), None);
        }
    }

    #[test]
    fn hands_declines_to_who_is_in_the_room() {
        assert!(forwarded(comes(&mut attended(), &mediated("", "decline", ""), true)));
        assert_eq!(comes(&mut unattended(), &mediated("", "decline", ""), true), None);
    }

    #[test]
    fn brings_back_the_error_of_an_invitation() {
        let error = "<error type='auth'><forbidden xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>";
        for what in ["invite", "decline"] {
            let mut accounts = attended();
            assert!(forwarded(comes(&mut accounts, &mediated(" type='error'", what, error), true)), "{what}");
        }
    }

    #[test]
    fn takes_private_messages_where_they_are_read() {
        let private = "<message from='r@c/m' to='a@b' type='chat'><body>psst</body></message>";
        let passing = "<message from='r@c/m' to='a@b' type='chat'><active xmlns='http://jabber.org/protocol/chatstates'/></message>";
        assert!(forwarded(comes(&mut attended(), private, true)));
        assert!(forwarded(comes(&mut attended(), passing, true)));
        assert_eq!(comes(&mut unattended(), private, true), None);
        assert_eq!(comes(&mut unattended(), private, false), Some(vec![Decision::Store]));
        assert_eq!(comes(&mut unattended(), passing, true), Some(vec![]));
        assert_eq!(comes(&mut unattended(), passing, false), Some(vec![]));
    }

    #[test]
    fn wakes_devices_if_nobody_is_there() {
        let says = |accounts: &mut Accounts, inside: &str| {
            let stanza = format!("<message from='r@c/m' type='groupchat'>{inside}</message>");
            let from = FromRoom { account: "a@b", room: "r@c", nick: Some("m"), id: None };
            let chat = chat::read(stanza.as_bytes(), "r@c");
            let all = accounts.groupchat_from_room(from, &chat, 40, |_| {}).unwrap();
            all.contains(&Decision::WakeDevices)
        };
        let mut accounts = unattended();
        assert!(says(&mut accounts, "<body>hi</body>"));
        assert!(!says(&mut accounts, "<body xmlns='urn:other'>hi</body>"));
        assert!(!says(&mut accounts, "<subject>s</subject>"));
        let old = "<body>hi</body><delay xmlns='urn:xmpp:delay' from='r@c' stamp='2002-09-10T23:08:25Z'/>";
        assert!(!says(&mut accounts, old));
        assert!(!says(&mut attended(), "<body>hi</body>"));
        accounts.online("a@b", 50);
        assert!(!says(&mut accounts, "<body>hi</body>"), "somebody is online, if not in the room");
    }

    #[test]
    fn leaves_alone_what_comes_from_elsewhere() {
        let mut accounts = attended();
        for stanza in [
            "<presence from='s@c/n' to='a@b'/>",
            "<presence from='r@c' to='a@b' type='subscribe'/>",
            "<message from='s@c/n' to='a@b'><body>hi</body></message>",
            "<iq from='r@c/m' to='a@b' type='get' id='1'><vCard xmlns='vcard-temp'/></iq>",
            "<iq from='r@c/m' to='a@b' type='result' id='unknown'/>",
            "<message to='a@b'/>",
            "<other/>",
            "",
        ] {
            assert_eq!(comes(&mut accounts, stanza, true), None, "{stanza}");
        }
        let ping = "<iq from='r@c/n' to='a@b' type='get' id='1'><ping xmlns='urn:xmpp:ping'/></iq>";
        assert_eq!(comes(&mut accounts, ping, true), Some(vec![Decision::Answer]));
    }

    #[test]
    fn reads_anything() {
        let muc = "xmlns='http://jabber.org/protocol/muc'";
        for stanza in [
            format!("<presence from='r@c/m' to='a@b' id='1' type='error'>{OWN}<error type='wait'><gone xmlns='y'/></error></presence>"),
            format!("<presence from='a@b/r' to='r@c/n' xml:lang='e&amp;n'><x {muc}><password>&lt;</password><history since='1970-01-01T00:00:00+01:00' seconds='9'/></x></presence>"),
            mediated("", "invite", "<body>b</body><delay xmlns='urn:xmpp:delay' stamp='x'/>"),
            "<iq from='r@c/m' to='a@b' type='set' id='1'><jingle xmlns='urn:xmpp:jingle:1' sid='s'><a/>text</jingle></iq>".to_owned(),
        ] {
            let bytes = stanza.as_bytes();
            for cut in 0..=bytes.len() {
                let mut accounts = attended();
                for bytes in [&bytes[..cut], &bytes[bytes.len() - cut..]] {
                    accounts.room_sends(bytes, true, 30);
                    accounts.client_sends("a@b", "r", bytes, false, 30);
                    accounts.session_gone("a@b", "s", Some(bytes), true, 30);
                }
            }
            for at in 0..bytes.len() {
                let mut bytes = bytes.to_vec();
                for odd in [b'<', b'>', b'/', b'\'', b' ', b'&', 0xff] {
                    bytes[at] = odd;
                    let mut accounts = attended();
                    accounts.room_sends(&bytes, false, 30);
                    accounts.client_sends("a@b", "r", &bytes, false, 30);
                }
            }
        }
    }
}
