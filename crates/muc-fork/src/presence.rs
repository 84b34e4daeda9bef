//! What presences say: a room's (XEP-0045 §7.2, §15.6), and a client's that wants to be in one (§7.2.2, §7.2.14).

#![warn(clippy::indexing_slicing, clippy::string_slice)]

use crate::element::{Element, StanzaError, element};
use crate::history::Request;
use crate::input::{Join, MucUser, Presence};
use crate::time;
use enjamb_stanza::{read, write};
use std::borrow::Cow;

const MUC: &[u8] = b"http://jabber.org/protocol/muc";
const MUC_USER: &[u8] = b"http://jabber.org/protocol/muc#user";

/// The kind of presence that a `type` stands for, if rooms have to do with it.
pub(crate) fn kind(kind: Option<&str>) -> Option<Presence> {
    match kind {
        None => Some(Presence::Available),
        Some("unavailable") => Some(Presence::Unavailable),
        Some("error") => Some(Presence::Error),
        Some(_) => None,
    }
}

/// What a room's presence says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct FromOccupant<'a> {
    codes: Vec<u16>,
    nick: Option<Cow<'a, str>>,
    destroyed: bool,
    error: Option<StanzaError<'a>>,
}

impl<'a> FromOccupant<'a> {
    /// Reads a presence. Some rooms put several MUC extensions into one: all of them count, and the first nickname.
    pub(crate) fn read(stanza: &Element<'a>, kind: Presence) -> FromOccupant<'a> {
        let mut said = FromOccupant::default();
        if kind == Presence::Error {
            said.error = StanzaError::read(stanza);
        }
        for x in stanza.children().filter(|x| x.is(b"x", MUC_USER)) {
            let mut item = None;
            for child in x.children().filter(|child| child.xmlns() == MUC_USER) {
                match child.name() {
                    b"status" => {
                        said.codes.extend(child.attribute(b"code").and_then(|c| c.parse::<u16>().ok()))
                    }
                    b"item" => item = item.or(Some(child)),
                    b"destroy" => said.destroyed = true,
                    _ => {}
                }
            }
            said.nick = said.nick.or_else(|| item.and_then(|item| item.attribute(b"nick")));
        }
        said
    }

    /// Whether it says that it is the account's own (status 110).
    pub(crate) fn is_own(&self) -> bool {
        self.codes.contains(&110)
    }

    pub(crate) fn as_input(&self) -> MucUser<'_> {
        MucUser {
            codes: &self.codes,
            new_nick: self.nick.as_deref(),
            condition: self.error.as_ref().map(|error| &*error.condition),
            wait: self.error.as_ref().is_some_and(|error| error.wait),
            destroyed: self.destroyed,
        }
    }
}

/// What a client's presence to a room asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Wish<'a> {
    password: Option<Cow<'a, str>>,
    history: Request,
}

impl<'a> Wish<'a> {
    /// Reads a presence; `None` if it does not ask to be let in. `wall` is the time of day, in seconds since 1970.
    pub(crate) fn read(stanza: &Element<'a>, wall: u64) -> Option<Wish<'a>> {
        let x = stanza.child(b"x", MUC)?;
        let password = x.child(b"password", MUC).and_then(|password| password.text());
        let Some(history) = x.child(b"history", MUC) else {
            return Some(Wish { password, history: Request::default() });
        };
        let number = |key: &[u8]| number(&history.attribute(key)?);
        let since = history.attribute(b"since").and_then(|since| time::parse(&since));
        let seconds = number(b"seconds").map(|seconds| wall.saturating_sub(u64::from(seconds)));
        let history = Request {
            maxstanzas: number(b"maxstanzas").and_then(|most| usize::try_from(most).ok()),
            maxchars: number(b"maxchars").and_then(|most| usize::try_from(most).ok()),
            // Both hold, so the later one does.
            since: since.max(seconds),
        };
        Some(Wish { password, history })
    }

    pub(crate) fn as_input(&self) -> Join<'_> {
        Join { password: self.password.as_deref(), history: self.history }
    }
}

/// A limit of a history request. What is no number sets none.
fn number(text: &str) -> Option<u32> {
    text.trim().parse().ok().filter(|&n| n <= i32::MAX.unsigned_abs())
}

/// The part of a client's presence that says how somebody is, as bytes: without address, `id` and `type`, and without the
/// element that asks to be let in.
pub(crate) fn payload(stanza: &[u8]) -> Vec<u8> {
    let mut attributes = Vec::new();
    let mut inside = Vec::new();
    if let Some(root) = read::root(stanza) {
        for (key, value) in read::attributes(root.attributes) {
            if !matches!(key, b"from" | b"to" | b"id" | b"type") {
                write::escaped_attribute(&mut attributes, key, value);
            }
        }
    }
    for child in Element::stanza(stanza).iter().flat_map(Element::children) {
        if !child.is(b"x", MUC) {
            child.write(&mut inside);
        }
    }
    let mut out = Vec::with_capacity(stanza.len());
    element(&mut out, b"presence", &attributes, &inside);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const USER: &str = "xmlns='http://jabber.org/protocol/muc#user'";

    fn said(inside: &str, kind: Presence) -> (Vec<u16>, Option<String>, bool) {
        let bytes = format!("<presence from='r@c/n'>{inside}</presence>");
        let said = FromOccupant::read(&Element::stanza(bytes.as_bytes()).unwrap(), kind);
        (said.codes, said.nick.map(Cow::into_owned), said.destroyed)
    }

    #[test]
    fn counts_all_extensions_of_a_room() {
        assert_eq!(said("", Presence::Available), (vec![], None, false));
        let two = format!(
            "<x {USER}><item affiliation='none'/><status code='110'/></x><x xmlns='vcard-temp:x:update'/>\
             <x {USER}><item nick='it&apos;s'/><status code='303'/><status code='x'/><status/><status code='99999999'/></x>"
        );
        assert_eq!(said(&two, Presence::Unavailable), (vec![110, 303], Some("it's".into()), false));
        assert!(said(&format!("<x {USER}><item/><destroy/></x>"), Presence::Unavailable).2);
    }

    #[test]
    fn takes_nothing_of_another_namespace_for_a_code() {
        let other = format!(
            "<x {USER}><status xmlns='urn:other' code='110'/><y xmlns='urn:y'><status code='110'/></y></x>"
        );
        assert_eq!(said(&other, Presence::Available).0, [0u16; 0]);
        assert_eq!(said("<x><status code='110'/></x>", Presence::Available).0, [0u16; 0]);
    }

    #[test]
    fn reads_an_error_only_where_there_is_one() {
        let bytes = b"<presence type='error'><error type='wait'><conflict xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></presence>";
        let stanza = Element::stanza(bytes).unwrap();
        let said = FromOccupant::read(&stanza, Presence::Error);
        assert_eq!((said.as_input().condition, said.as_input().wait), (Some("conflict"), true));
        let said = FromOccupant::read(&stanza, Presence::Available);
        assert_eq!((said.as_input().condition, said.as_input().wait), (None, false));
    }

    fn wish(x: &str) -> Option<(Option<String>, Request)> {
        let bytes = format!("<presence to='r@c/n'>{x}</presence>");
        let wish = Wish::read(&Element::stanza(bytes.as_bytes()).unwrap(), 1000)?;
        Some((wish.password.map(Cow::into_owned), wish.history))
    }

    #[test]
    fn reads_what_a_client_asks_for() {
        assert_eq!(wish(""), None);
        assert_eq!(wish("<x/>"), None);
        assert_eq!(wish(&format!("<x {USER}/>")), None);
        let muc = "xmlns='http://jabber.org/protocol/muc'";
        assert_eq!(wish(&format!("<x {muc}/>")), Some((None, Request::default())));
        assert_eq!(
            wish(&format!("<x {muc}><password>a&amp;b</password><history maxstanzas='5' maxchars='0'/></x>")),
            Some((Some("a&b".into()), Request { maxstanzas: Some(5), maxchars: Some(0), since: None }))
        );
        let since = |history: &str| wish(&format!("<x {muc}><history {history}/></x>")).unwrap().1.since;
        assert_eq!(since("seconds='100'"), Some(900));
        assert_eq!(since("seconds='5000'"), Some(0));
        assert_eq!(since("since='1970-01-01T00:10:00Z'"), Some(600));
        assert_eq!(since("since='1970-01-01T02:10:00+02:00'"), Some(600));
        assert_eq!(since("since='1970-01-01T00:10:00Z' seconds='100'"), Some(900));
        assert_eq!(since("since='1970-01-01T00:16:00Z' seconds='100'"), Some(960));
        for none in ["seconds='-1'", "seconds='x'", "seconds='2147483648'", "seconds=''", "since='then'"] {
            assert_eq!(since(none), None, "{none}");
        }
    }

    #[test]
    fn keeps_how_somebody_is() {
        let payload = |bytes: &str| String::from_utf8(payload(bytes.as_bytes())).unwrap();
        assert_eq!(
            payload(
                "<presence from='a@b/c' to='r@c/n' id='1' xml:lang='en'><show>away</show>\
                 <x xmlns='http://jabber.org/protocol/muc'><history/></x><c xmlns='urn:caps' node='&lt;'/><status>x &amp; y</status></presence>"
            ),
            "<presence xml:lang='en'><show>away</show><c xmlns='urn:caps' node='&lt;'/><status>x &amp; y</status></presence>"
        );
        assert_eq!(payload("<presence type='unavailable' to='r@c'/>"), "<presence/>");
    }

    #[test]
    fn knows_the_kinds_that_rooms_have_to_do_with() {
        assert_eq!(kind(None), Some(Presence::Available));
        assert_eq!(kind(Some("unavailable")), Some(Presence::Unavailable));
        assert_eq!(kind(Some("error")), Some(Presence::Error));
        assert_eq!(kind(Some("subscribe")), None);
    }
}
