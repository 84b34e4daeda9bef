//! What a room passes on between those who are in it and those who are not: invitations and declines (XEP-0045 §7.8.2).

#![warn(clippy::indexing_slicing, clippy::string_slice)]

use crate::element::Element;

const MUC_USER: &[u8] = b"http://jabber.org/protocol/muc#user";

/// What a room passes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mediated {
    /// Somebody invites the account.
    Invitation,
    /// Somebody declines an invitation of the account.
    Decline,
}

impl Mediated {
    /// Reads a message that is no error: an error brings back what one sent oneself. `nick` is the resource that it came from:
    /// occupants pass nothing on.
    pub(crate) fn read(message: &Element, nick: Option<&str>) -> Option<Mediated> {
        if nick.is_some() {
            return None;
        }
        let x = message.child(b"x", MUC_USER)?;
        if x.child(b"invite", MUC_USER).is_some() {
            Some(Mediated::Invitation)
        } else {
            x.child(b"decline", MUC_USER).map(|_| Mediated::Decline)
        }
    }

    /// Whether it goes where any message to the account does, though the account is in the room. An invitation is for whoever
    /// reads messages; a decline for the clients that are in the room, from where the invitation was sent, if there are any.
    pub(crate) fn is_for_everybody(self, attended: bool) -> bool {
        self == Mediated::Invitation || !attended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(inside: &str, nick: Option<&str>) -> Option<Mediated> {
        let bytes = format!("<message from='r@c'>{inside}</message>");
        Mediated::read(&Element::stanza(bytes.as_bytes()).unwrap(), nick)
    }

    #[test]
    fn knows_what_only_the_room_passes_on() {
        let x = |inside: &str| format!("<x xmlns='http://jabber.org/protocol/muc#user'>{inside}</x>");
        assert_eq!(read(&x("<invite from='a@b'/>"), None), Some(Mediated::Invitation));
        assert_eq!(read(&x("<decline from='a@b'/>"), None), Some(Mediated::Decline));
        assert_eq!(read(&x("<invite/>"), Some("n")), None);
        assert_eq!(read(&x("<decline/>"), Some("n")), None);
        assert_eq!(read(&x("<item/>"), None), None);
        assert_eq!(read("<x><invite/></x>", None), None);
        assert_eq!(read(&x("<invite xmlns='urn:other'/>"), None), None);
        assert_eq!(read("<body>hi</body>", None), None);
    }

    #[test]
    fn goes_where_it_is_read() {
        assert!(Mediated::Invitation.is_for_everybody(true));
        assert!(Mediated::Invitation.is_for_everybody(false));
        assert!(Mediated::Decline.is_for_everybody(false));
        assert!(!Mediated::Decline.is_for_everybody(true));
    }
}
