//! What an iq asks for: whether it is the account's to answer, a client's, or is none of the account's business.

#![warn(clippy::indexing_slicing, clippy::string_slice)]

use crate::element::{Element, StanzaError};
use crate::input::{self, Iq};
use std::borrow::Cow;

const DISCO_INFO: &[u8] = b"http://jabber.org/protocol/disco#info";
const DISCO_ITEMS: &[u8] = b"http://jabber.org/protocol/disco#items";
/// Archives, of any version (XEP-0313).
const ARCHIVES: &[u8] = b"urn:xmpp:mam:";
const PING: &[u8] = b"urn:xmpp:ping";
/// What accounts answer, whoever asks through the room (XEP-0054, XEP-0163, XEP-0292).
const OF_ACCOUNT: [&[u8]; 3] =
    [b"vcard-temp", b"http://jabber.org/protocol/pubsub", b"urn:ietf:params:xml:ns:vcard-4.0"];

/// An iq, read.
#[derive(Debug)]
pub(crate) struct Query<'a> {
    pub(crate) kind: Iq,
    /// It asks for a ping (XEP-0199).
    pub(crate) ping: bool,
    /// Accounts answer it, not clients.
    pub(crate) for_account: bool,
    /// Who asks a room for these need not be in it, and its answer may be many messages: they go from the client itself.
    pub(crate) is_direct: bool,
    /// The condition of its error.
    pub(crate) error: Option<StanzaError<'a>>,
    set: bool,
    xmlns: Cow<'a, str>,
    sid: Option<Cow<'a, str>>,
}

impl<'a> Query<'a> {
    /// Reads an iq; `None` if it is of no type that there is (RFC 6120 §8.2.3).
    pub(crate) fn read(stanza: &Element<'a>) -> Option<Query<'a>> {
        let kind = stanza.attribute(b"type")?;
        let (kind, set) = match &*kind {
            "get" => (Iq::Request, false),
            "set" => (Iq::Request, true),
            "result" => (Iq::Result, false),
            "error" => (Iq::Error, false),
            _ => return None,
        };
        let payload = stanza.children().next();
        let xmlns = payload.map_or(&b""[..], |payload| payload.xmlns());
        // A request may be of an exchange of several, which is named by whatever it is an exchange of: bytestreams and
        // Jingle (XEP-0047, XEP-0065, XEP-0166), commands (XEP-0050).
        let request = payload.filter(|_| kind == Iq::Request);
        let sid = request.and_then(|p| p.attribute(b"sid").or_else(|| p.attribute(b"sessionid")));
        Some(Query {
            kind,
            ping: kind == Iq::Request && !set && stanza.child(b"ping", PING).is_some(),
            for_account: OF_ACCOUNT.contains(&xmlns),
            is_direct: xmlns == DISCO_INFO || xmlns == DISCO_ITEMS || xmlns.starts_with(ARCHIVES),
            error: if kind == Iq::Error { StanzaError::read(stanza) } else { None },
            set,
            xmlns: String::from_utf8_lossy(xmlns),
            sid,
        })
    }

    pub(crate) fn condition(&self) -> Option<&str> {
        self.error.as_ref().map(|error| &*error.condition)
    }

    /// Which requests it belongs with.
    pub(crate) fn exchange(&self) -> input::Asks<'_> {
        input::Asks { set: self.set, xmlns: &self.xmlns, sid: self.sid.as_deref() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T>(kind: &str, inside: &str, of: impl Fn(Query) -> T) -> T {
        let bytes = format!("<iq type='{kind}' id='1'>{inside}</iq>");
        of(Query::read(&Element::stanza(bytes.as_bytes()).unwrap()).unwrap())
    }

    #[test]
    fn knows_the_four_types() {
        for (kind, iq) in
            [("get", Iq::Request), ("set", Iq::Request), ("result", Iq::Result), ("error", Iq::Error)]
        {
            assert_eq!(read(kind, "", |q| q.kind), iq);
        }
        for odd in [&b"<iq/>"[..], b"<iq type='GET'/>", b"<iq type=''/>"] {
            assert!(Query::read(&Element::stanza(odd).unwrap()).is_none());
        }
    }

    #[test]
    fn knows_a_ping() {
        let ping = "<ping xmlns='urn:xmpp:ping'/>";
        assert!(read("get", ping, |q| q.ping));
        assert!(!read("set", ping, |q| q.ping));
        assert!(!read("result", ping, |q| q.ping));
        assert!(!read("get", "<ping/>", |q| q.ping));
    }

    #[test]
    fn tells_who_answers() {
        let of = |inside: &str| read("get", inside, |q| (q.for_account, q.is_direct));
        assert_eq!(of("<vCard xmlns='vcard-temp'/>"), (true, false));
        assert_eq!(of("<pubsub xmlns='http://jabber.org/protocol/pubsub'/>"), (true, false));
        assert_eq!(of("<vcard xmlns='urn:ietf:params:xml:ns:vcard-4.0'/>"), (true, false));
        assert_eq!(of("<query xmlns='http://jabber.org/protocol/disco#info'/>"), (false, true));
        assert_eq!(of("<query xmlns='http://jabber.org/protocol/disco#items'/>"), (false, true));
        assert_eq!(of("<query xmlns='urn:xmpp:mam:2'/>"), (false, true));
        assert_eq!(of("<query xmlns='jabber:iq:version'/>"), (false, false));
        assert_eq!(of(""), (false, false));
    }

    #[test]
    fn tells_which_exchange_it_is_of() {
        let of = |kind: &str, inside: &str| {
            read(kind, inside, |q| {
                let asks = q.exchange();
                (asks.set, asks.xmlns.to_owned(), asks.sid.map(str::to_owned))
            })
        };
        let jingle = "<jingle xmlns='urn:xmpp:jingle:1' sid='s&amp;1'/>";
        assert_eq!(of("set", jingle), (true, "urn:xmpp:jingle:1".into(), Some("s&1".into())));
        assert_eq!(of("result", jingle).2, None);
        let command = "<command xmlns='http://jabber.org/protocol/commands' sessionid='c'/>";
        assert_eq!(
            of("get", command),
            (false, "http://jabber.org/protocol/commands".into(), Some("c".into()))
        );
        assert_eq!(of("get", "<ping xmlns='urn:xmpp:ping'/>").2, None);
    }

    #[test]
    fn reads_the_condition_of_an_error_only() {
        let error = "<error type='cancel'><gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>";
        assert_eq!(read("error", error, |q| q.condition().map(str::to_owned)), Some("gone".into()));
        assert_eq!(read("result", error, |q| q.condition().map(str::to_owned)), None);
    }
}
