//! The few stanzas that are made here, and the splicing of kept ones.
//!
//! Kept bytes were written by [`enjamb_stanza::write`], whose shape is known; nothing is parsed.

#![warn(clippy::indexing_slicing, clippy::string_slice)]

use crate::decision::Condition;
use enjamb_stanza::write;

const MUC: &[u8] = b"http://jabber.org/protocol/muc";
const MUC_USER: &str = "http://jabber.org/protocol/muc#user";
const ERRORS: &[u8] = b"urn:ietf:params:xml:ns:xmpp-stanzas";

fn element(out: &mut Vec<u8>, name: &[u8], attributes: &[(&str, &str)], inside: impl FnOnce(&mut Vec<u8>)) {
    write::open(out, name);
    let open = out.len() - name.len()..out.len();
    for (key, value) in attributes {
        write::attribute(out, key.as_bytes(), value.as_bytes());
    }
    write::end_open(out);
    let before = out.len();
    inside(out);
    if out.len() == before {
        out.pop();
        write::end_empty(out);
    } else {
        write::close(out, open);
    }
}

fn text(out: &mut Vec<u8>, name: &[u8], xmlns: Option<&[u8]>, text: &str) {
    write::open(out, name);
    let open = out.len() - name.len()..out.len();
    if let Some(xmlns) = xmlns {
        write::attribute(out, b"xmlns", xmlns);
    }
    write::end_open(out);
    write::escape(out, text.as_bytes());
    write::close(out, open);
}

/// An occupant is gone: `<presence type='unavailable'/>` with the status codes.
pub fn unavailable(from: &str, affiliation: Option<&str>, codes: &[u16]) -> Vec<u8> {
    let mut out = Vec::new();
    element(&mut out, b"presence", &[("from", from), ("type", "unavailable")], |out| {
        element(out, b"x", &[("xmlns", MUC_USER)], |out| {
            element(
                out,
                b"item",
                &[("affiliation", affiliation.unwrap_or("none")), ("role", "none")],
                |_| {},
            );
            for code in codes {
                element(out, b"status", &[("code", &code.to_string())], |_| {});
            }
        });
    });
    out
}

/// The account got another nickname without having asked for it (XEP-0045 §7.6).
pub fn renamed(from: &str, nick: &str) -> Vec<u8> {
    let mut out = Vec::new();
    element(&mut out, b"presence", &[("from", from), ("type", "unavailable")], |out| {
        element(out, b"x", &[("xmlns", MUC_USER)], |out| {
            element(out, b"item", &[("affiliation", "none"), ("role", "none"), ("nick", nick)], |_| {});
            for code in ["303", "110"] {
                element(out, b"status", &[("code", code)], |_| {});
            }
        });
    });
    out
}

/// A room without a subject (XEP-0045 §7.2.16).
pub fn no_subject(room: &str) -> Vec<u8> {
    let mut out = Vec::new();
    element(&mut out, b"message", &[("from", room), ("type", "groupchat")], |out| {
        element(out, b"subject", &[], |_| {});
    });
    out
}

/// A presence error.
pub fn presence_error(from: &str, condition: Condition) -> Vec<u8> {
    let mut out = Vec::new();
    element(&mut out, b"presence", &[("from", from), ("type", "error")], |out| {
        error(out, condition);
    });
    out
}

/// An answer to a request that nobody will answer.
pub fn iq_error(from: &str, condition: Condition) -> Vec<u8> {
    let mut out = Vec::new();
    element(&mut out, b"iq", &[("from", from), ("type", "error")], |out| {
        error(out, condition);
    });
    out
}

fn error(out: &mut Vec<u8>, condition: Condition) {
    element(out, b"error", &[("type", condition.kind)], |out| {
        write::open(out, condition.name.as_bytes());
        write::attribute(out, b"xmlns", ERRORS);
        write::end_empty(out);
        text(out, b"text", Some(ERRORS), condition.text);
    });
}

/// The account looks whether it is still in the room (XEP-0410).
pub fn self_ping(from: &str, to: &str, id: &str) -> Vec<u8> {
    let mut out = Vec::new();
    element(&mut out, b"iq", &[("from", from), ("to", to), ("type", "get"), ("id", id)], |out| {
        element(out, b"ping", &[("xmlns", "urn:xmpp:ping")], |_| {});
    });
    out
}

/// The account leaves.
pub fn leave(from: &str, to: &str, id: &str, payload: Option<&[u8]>) -> Vec<u8> {
    addressed(
        payload.unwrap_or(b"<presence/>"),
        &[("from", from), ("to", to), ("type", "unavailable"), ("id", id)],
        &[],
    )
}

/// What the account shows while none of its clients is in the room.
pub fn unattended(online: bool) -> &'static [u8] {
    if online { b"<presence/>" } else { b"<presence><show>xa</show></presence>" }
}

/// The `<x/>` of a join (XEP-0045 §7.2.2). `history` is (maxstanzas, since as a timestamp).
pub fn join_x(password: Option<&str>, maxstanzas: Option<usize>) -> Vec<u8> {
    let mut out = Vec::new();
    write::open(&mut out, b"x");
    let open = out.len() - 1..out.len();
    write::attribute(&mut out, b"xmlns", MUC);
    write::end_open(&mut out);
    if let Some(password) = password {
        text(&mut out, b"password", None, password);
    }
    if let Some(max) = maxstanzas {
        element(&mut out, b"history", &[("maxstanzas", &max.to_string())], |_| {});
    }
    write::close(&mut out, open);
    out
}

/// A copy of a stanza with more attributes and one more child, if that is not empty. What is no stanza counts as an empty presence.
pub fn addressed(stanza: &[u8], attributes: &[(&str, &str)], child: &[u8]) -> Vec<u8> {
    let stanza = if stanza.len() > 1 { stanza } else { b"<presence/>" };
    let name = 1 + stanza.iter().skip(1).take_while(|b| !matches!(b, b' ' | b'/' | b'>')).count();
    let (open, rest) = stanza.split_at(name);
    let mut out = open.to_vec();
    for (key, value) in attributes {
        write::attribute(&mut out, key.as_bytes(), value.as_bytes());
    }
    if child.is_empty() {
        out.extend_from_slice(rest);
    } else if let Some(start) = rest.strip_suffix(b"/>") {
        out.extend_from_slice(start);
        out.push(b'>');
        out.extend_from_slice(child);
        out.extend_from_slice(b"</");
        out.extend(open.iter().skip(1));
        out.push(b'>');
    } else {
        // The last `<` opens the end tag.
        let (inside, end_tag) = rest.split_at(rest.iter().rposition(|&b| b == b'<').unwrap_or(rest.len()));
        out.extend_from_slice(inside);
        out.extend_from_slice(child);
        out.extend_from_slice(end_tag);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(bytes: &[u8]) -> &str {
        std::str::from_utf8(bytes).unwrap()
    }

    #[test]
    fn makes_what_rooms_and_clients_expect() {
        assert_eq!(
            s(&unavailable("r@c/o'n", None, &[110, 333])),
            "<presence from='r@c/o&apos;n' type='unavailable'><x xmlns='http://jabber.org/protocol/muc#user'>\
             <item affiliation='none' role='none'/><status code='110'/><status code='333'/></x></presence>"
        );
        assert_eq!(
            s(&addressed(b"<presence/>", &[("to", "r@c/n")], &join_x(Some("a<b"), Some(20)))),
            "<presence to='r@c/n'><x xmlns='http://jabber.org/protocol/muc'><password>a&lt;b</password>\
             <history maxstanzas='20'/></x></presence>"
        );
        assert_eq!(
            s(&addressed(b"<presence xml:lang='de'><show>away</show></presence>", &[("to", "x")], b"<a/>")),
            "<presence to='x' xml:lang='de'><show>away</show><a/></presence>"
        );
        for none in [&b""[..], b"<", b"x"] {
            assert_eq!(s(&addressed(none, &[("to", "x")], b"")), "<presence to='x'/>");
        }
        for odd in [&b"xx"[..], b"<>", b"<p", b"/>", b"<<<", b"<presence"] {
            addressed(odd, &[("to", "x")], b"<a/>");
        }
        assert_eq!(
            s(&leave("a@b", "r@c/n", "i", None)),
            "<presence from='a@b' to='r@c/n' type='unavailable' id='i'/>"
        );
        assert_eq!(
            s(&self_ping("a@b", "r@c/n", "i")),
            "<iq from='a@b' to='r@c/n' type='get' id='i'><ping xmlns='urn:xmpp:ping'/></iq>"
        );
    }
}
