//! What clients send, as bytes: what is read from it, and whose turn it is then.

#![warn(clippy::indexing_slicing, clippy::string_slice)]

use crate::accounts::Accounts;
use crate::asks::Query;
use crate::decision::Decision;
use crate::element::{Element, StanzaError, split};
use crate::input::{FromClient, Message, Presence};
use crate::presence::{self, Wish, payload};

impl Accounts {
    /// A stanza of a client to somebody. `to_account` says whether the address is at a host of this server that has accounts: an
    /// account is no room.
    pub fn client_sends(
        &mut self,
        account: &str,
        resource: &str,
        stanza: &[u8],
        to_account: bool,
        now: u64,
    ) -> Option<Vec<Decision>> {
        let read = Element::stanza(stanza)?;
        let (to, id) = (read.attribute(b"to")?, read.attribute(b"id"));
        let (room, nick) = split(&to);
        let from = FromClient { account, resource, room, nick, id: id.as_deref() };
        match read.name() {
            b"presence" => self.client_shows(from, &read, stanza, to_account, now),
            b"message" => {
                let kind = read.attribute(b"type");
                let kind = message_kind(kind.as_deref());
                let error = if kind == Message::Error { StanzaError::read(&read) } else { None };
                self.message_from_client(from, kind, error.as_ref().map(|e| &*e.condition), now)
            }
            b"iq" => {
                let query = Query::read(&read)?;
                if nick.is_none() && query.is_direct {
                    return None;
                }
                self.iq_from_client(from, query.kind, query.ping, query.exchange(), now)
            }
            _ => None,
        }
    }

    fn client_shows(
        &mut self,
        from: FromClient,
        read: &Element,
        stanza: &[u8],
        to_account: bool,
        now: u64,
    ) -> Option<Vec<Decision>> {
        let kind = read.attribute(b"type");
        if kind.as_deref() == Some("probe") {
            return self.probe_from_client(from, now);
        }
        let kind = presence::kind(kind.as_deref())?;
        let wall = now.saturating_add_signed(self.wall_ahead);
        let wish = if kind == Presence::Available { Wish::read(read, wall) } else { None };
        if to_account || (wish.is_none() && self.membership(from.account, from.room).is_none()) {
            return None;
        }
        self.presence_from_client(from, kind, wish.as_ref().map(Wish::as_input), &payload(stanza), now)
    }

    /// A client's session ended; or it sent unavailable presence to everybody, which is `stanza`, and wants to be told. `online` says
    /// whether the account has another session.
    pub fn session_gone(
        &mut self,
        account: &str,
        resource: &str,
        stanza: Option<&[u8]>,
        online: bool,
        now: u64,
    ) -> Vec<Decision> {
        let payload = stanza.map(payload);
        self.client_gone(account, resource, online, stanza.is_some(), payload.as_deref(), now)
    }
}

pub(crate) fn message_kind(kind: Option<&str>) -> Message {
    match kind {
        Some("groupchat") => Message::Groupchat,
        Some("error") => Message::Error,
        _ => Message::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;

    fn accounts() -> Accounts {
        let mut accounts = Accounts::new(|| 1);
        accounts.configure("b", Config::default());
        accounts
    }

    fn sends(accounts: &mut Accounts, stanza: &str) -> Option<Vec<Decision>> {
        accounts.client_sends("a@b", "r", stanza.as_bytes(), false, 10)
    }

    const JOIN: &str =
        "<presence from='a@b/r' to='r@c/n' id='j'><x xmlns='http://jabber.org/protocol/muc'/></presence>";

    fn joined() -> Accounts {
        let mut accounts = accounts();
        let all = sends(&mut accounts, JOIN).unwrap();
        assert!(matches!(&*all, [Decision::Persist { .. }, Decision::Send { .. }]), "{all:?}");
        let own = format!(
            "<presence from='r@c/n' to='a@b' id='{:032x}'><x xmlns='http://jabber.org/protocol/muc#user'><status code='110'/></x></presence>",
            1
        );
        let all = accounts.room_sends(own.as_bytes(), true, 10).unwrap();
        assert!(all.iter().any(|d| matches!(d, Decision::Serve { .. })), "{all:?}");
        accounts
    }

    #[test]
    fn leaves_alone_what_goes_to_no_room() {
        let mut accounts = accounts();
        for stanza in [
            "<presence to='r@c/n'/>",
            "<presence to='r@c/n'><x xmlns='urn:other'/></presence>",
            "<presence to='r@c/n' type='unavailable'><x xmlns='http://jabber.org/protocol/muc'/></presence>",
            "<presence to='r@c' type='subscribe'/>",
            "<presence to='r@c' type='probe'/>",
            "<message to='r@c' type='groupchat'><body>hi</body></message>",
            "<iq to='r@c/n' type='get' id='1'><ping xmlns='urn:xmpp:ping'/></iq>",
            "<presence/>",
            "",
        ] {
            assert_eq!(sends(&mut accounts, stanza), None, "{stanza}");
        }
        assert_eq!(
            accounts.client_sends("a@b", "r", JOIN.as_bytes(), true, 10),
            None,
            "an account is no room"
        );
    }

    #[test]
    fn sends_as_the_account_once_it_is_in() {
        let mut accounts = joined();
        let to_room = |all: Option<Vec<Decision>>| match all.as_deref() {
            Some([Decision::ToRoom { to, .. }, ..]) => Some(to.clone()),
            _ => None,
        };
        let said =
            sends(&mut accounts, "<message to='r@c' type='groupchat' id='1'><body>hi</body></message>");
        assert_eq!(to_room(said).as_deref(), Some("r@c"));
        let asked =
            "<iq to='r@c/m' type='get' id='1'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>";
        assert_eq!(to_room(sends(&mut accounts, asked)).as_deref(), Some("r@c/m"));
        // Whoever asks the room itself about itself gets the answer itself.
        let asked =
            "<iq to='r@c' type='get' id='1'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>";
        assert_eq!(sends(&mut accounts, asked), None);
        let asked = "<iq to='r@c' type='set' id='1'><query xmlns='urn:xmpp:mam:2' queryid='q'/></iq>";
        assert_eq!(sends(&mut accounts, asked), None);
        let probed = sends(&mut accounts, "<presence to='r@c/m' type='probe' id='p'/>");
        assert_eq!(to_room(probed).as_deref(), Some("r@c/m"));
        let shown = sends(&mut accounts, "<presence to='r@c/n' id='2'><show>away</show></presence>");
        assert_eq!(to_room(shown).as_deref(), Some("r@c/n"));
        assert_eq!(accounts.client_sends("a@b", "r", b"<presence to='r@c/n'/>", true, 10), None);
    }

    #[test]
    fn tells_who_goes_by_itself_and_nobody_else() {
        let mut told = joined();
        let all =
            told.session_gone("a@b", "r", Some(b"<presence from='a@b/r' type='unavailable'/>"), false, 20);
        assert!(
            matches!(&*all, [Decision::Serve { .. }, Decision::Persist { .. }, Decision::Send { .. }]),
            "{all:?}"
        );
        let all = joined().session_gone("a@b", "r", None, false, 20);
        assert!(!all.iter().any(|d| matches!(d, Decision::Serve { .. })), "{all:?}");
    }
}
