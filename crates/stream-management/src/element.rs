//! Which elements of a stream are stanzas, and which are stream management's own (XEP-0198 §2, §4).
//!
//! Only stanzas are counted: `<message/>`, `<presence/>` and `<iq/>` in the namespace of the stream. Everything else that
//! comes at the top level (`<r/>`, XEP-0352's `<active/>`, a handshake) is not.

use enjamb_stanza::Name;

/// Stream management as XEP-0198 had it up to version 1.2, which old clients still ask for.
pub const XMLNS_SM2: &str = "urn:xmpp:sm:2";
/// Stream management.
pub const XMLNS_SM3: &str = "urn:xmpp:sm:3";
/// The namespaces that are understood, from the oldest on. They differ in nothing that is done here.
pub const NAMESPACES: [&str; 2] = [XMLNS_SM2, XMLNS_SM3];

/// The stanza that an element is, if it is one. `xmlns` is its namespace if that is not the stream's own.
pub fn stanza(name: &[u8], xmlns: Option<&[u8]>) -> Option<Name> {
    if xmlns.is_some() {
        return None;
    }
    Name::from_bytes(name)
}

/// Whether a stanza from a client may change what is known of its session (presence, subscriptions, what it enables by
/// an iq), so that what is kept of it has to be looked at again. A message does not.
pub fn may_change_session(name: Name) -> bool {
    name != Name::Message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_stanzas_in_the_streams_namespace_count() {
        assert_eq!(stanza(b"message", None), Some(Name::Message));
        assert_eq!(stanza(b"presence", None), Some(Name::Presence));
        assert_eq!(stanza(b"iq", None), Some(Name::Iq));
        for name in ["r", "a", "Message", "messages", "", "active"] {
            assert_eq!(stanza(name.as_bytes(), None), None, "{name}");
        }
        for xmlns in NAMESPACES.into_iter().chain(["", "jabber:component:accept"]) {
            assert_eq!(stanza(b"message", Some(xmlns.as_bytes())), None, "{xmlns}");
        }
    }

    #[test]
    fn a_message_changes_nothing_that_is_kept() {
        assert!(!may_change_session(Name::Message));
        assert!(may_change_session(Name::Presence) && may_change_session(Name::Iq));
    }
}
