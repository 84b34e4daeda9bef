//! Messages for an account that is in a room while none of its clients is: private ones (XEP-0045 §7.5), and what the room
//! itself has to say.

#![warn(clippy::indexing_slicing, clippy::string_slice)]

use crate::element::{CLIENT, Element};

/// Where such a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unattended {
    /// Where any message to the account does: to the clients that are online (RFC 6121 §8.5.2.1.1).
    Online,
    /// To offline storage (XEP-0160 §3).
    Store,
    /// Nowhere, and no error comes of it: the room would throw the account out.
    Nowhere,
}

impl Unattended {
    /// Reads a message that is no groupchat and no error. `nick` is the resource that it came from; `available` says whether the
    /// account has clients that take messages to it.
    pub(crate) fn read(message: &Element, nick: Option<&str>, available: bool) -> Unattended {
        let is_to_be_read = message
            .children()
            .any(|child| child.is(b"body", CLIENT) || child.is(b"encryption", b"urn:xmpp:eme:0"));
        // Nobody waits for a headline (XEP-0160 §3).
        let lasts = message.attribute(b"type").as_deref() != Some("headline");
        match nick {
            _ if !is_to_be_read => Unattended::Nowhere,
            _ if available => Unattended::Online,
            Some(_) if lasts => Unattended::Store,
            // What the room itself says is for who is there.
            _ => Unattended::Nowhere,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(kind: &str, inside: &str, nick: Option<&str>, available: bool) -> Unattended {
        let bytes = format!("<message{kind}>{inside}</message>");
        Unattended::read(&Element::stanza(bytes.as_bytes()).unwrap(), nick, available)
    }

    #[test]
    fn keeps_what_is_to_be_read() {
        let body = "<body>psst</body>";
        let encrypted = "<encryption xmlns='urn:xmpp:eme:0'/>";
        for kind in [" type='chat'", " type='normal'", ""] {
            for inside in [body, encrypted] {
                assert_eq!(read(kind, inside, Some("n"), true), Unattended::Online);
                assert_eq!(read(kind, inside, Some("n"), false), Unattended::Store);
            }
            for inside in [
                "<composing xmlns='http://jabber.org/protocol/chatstates'/>",
                "<body xmlns='urn:other'>no</body>",
                "",
            ] {
                assert_eq!(read(kind, inside, Some("n"), true), Unattended::Nowhere);
                assert_eq!(read(kind, inside, Some("n"), false), Unattended::Nowhere);
            }
        }
        assert_eq!(read(" type='headline'", body, Some("n"), true), Unattended::Online);
        assert_eq!(read(" type='headline'", body, Some("n"), false), Unattended::Nowhere);
    }

    #[test]
    fn keeps_nothing_of_the_room_itself() {
        assert_eq!(read("", "<body>welcome</body>", None, true), Unattended::Online);
        assert_eq!(read("", "<body>welcome</body>", None, false), Unattended::Nowhere);
    }
}
