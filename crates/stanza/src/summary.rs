//! What is remembered of a stanza beside its bytes, so that nobody has to parse them again to decide on it.

use crate::read;

const DELAY: &[u8] = b"urn:xmpp:delay";

/// The three elements that are stanzas (RFC 6120 §8). Everything else on a stream is not counted by XEP-0198.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    /// `<message/>`
    Message,
    /// `<presence/>`
    Presence,
    /// `<iq/>`
    Iq,
}

impl Name {
    /// The stanza that an element's local name stands for, if it is one.
    pub fn from_bytes(name: &[u8]) -> Option<Name> {
        match name {
            b"message" => Some(Name::Message),
            b"presence" => Some(Name::Presence),
            b"iq" => Some(Name::Iq),
            _ => None,
        }
    }
}

/// The `type` attribute, as far as it decides whether an error may be returned for a stanza.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Kind {
    /// No `type`, or one of those below none.
    #[default]
    Other,
    /// `type='error'`: never answered by another error (RFC 6120 §8.3.1).
    Error,
    /// `type='result'`: an iq that answers (RFC 6120 §8.2.3).
    Result,
    /// `type='headline'`: nobody waits for it (RFC 6121 §8.5.3.2.1).
    Headline,
    /// `type='groupchat'`: belongs to a room and is never stored for later.
    Groupchat,
    /// A presence that is about subscriptions or a probe: the rosters keep what it says.
    Subscription,
}

impl Kind {
    /// The kind that a `type` attribute stands for.
    pub fn from_type(value: &[u8]) -> Kind {
        match value {
            b"error" => Kind::Error,
            b"result" => Kind::Result,
            b"headline" => Kind::Headline,
            b"groupchat" => Kind::Groupchat,
            b"subscribe" | b"subscribed" | b"unsubscribe" | b"unsubscribed" | b"probe" => Kind::Subscription,
            _ => Kind::Other,
        }
    }
}

/// Name, kind, and whether the stanza already says when it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Which of the three stanzas it is.
    pub name: Name,
    /// What its `type` says.
    pub kind: Kind,
    /// It carries a `<delay/>` (XEP-0203) of its own, which a later stamp must not contradict.
    pub delayed: bool,
}

impl Summary {
    /// Of bytes that [`crate::write`] wrote; `None` if they are none of the three stanzas, or in another namespace.
    pub fn of(stanza: &[u8]) -> Option<Summary> {
        let (_, start, _) = read::tag(stanza)?;
        let (name, attributes) = read::name(start.strip_suffix(b"/").unwrap_or(start));
        let mut summary = Summary { name: Name::from_bytes(name)?, kind: Kind::Other, delayed: false };
        for (key, value) in read::attributes(attributes) {
            match key {
                b"type" => summary.kind = Kind::from_type(value),
                b"xmlns" if value != b"jabber:client" => return None,
                _ => {}
            }
        }
        // Few have one, and looking for the namespace is faster than looking at every child.
        if memchr::memmem::find(stanza, DELAY).is_some() {
            summary.delayed =
                read::children(stanza).any(|child| child.name == b"delay" && child.xmlns() == DELAY);
        }
        Some(summary)
    }

    /// Whether a copy that is sent late gets a `<delay/>`: an iq has no place for one, and a stanza that brought
    /// one keeps it.
    pub fn takes_delay(&self) -> bool {
        self.name != Name::Iq && !self.delayed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_read_from_bytes() {
        let of = |stanza: &str| Summary::of(stanza.as_bytes());
        let said = |name, kind, delayed| Some(Summary { name, kind, delayed });
        assert_eq!(of("<presence/>"), said(Name::Presence, Kind::Other, false));
        assert_eq!(of("<presence type='probe'/>"), said(Name::Presence, Kind::Subscription, false));
        assert_eq!(of("<iq id='1' type='result'><a/></iq>"), said(Name::Iq, Kind::Result, false));
        let delayed = "<message type='groupchat'><body/><delay xmlns='urn:xmpp:delay'/></message>";
        assert_eq!(of(delayed), said(Name::Message, Kind::Groupchat, true));
        for none in [
            "<message><x><delay xmlns='urn:xmpp:delay'/></x></message>",
            "<message><body>urn:xmpp:delay</body><delay xmlns='x'/></message>",
            "<message xmlns='jabber:client'/>",
        ] {
            assert_eq!(of(none), said(Name::Message, Kind::Other, false), "{none}");
        }
        for other in ["", "<", "<a/>", "<messages/>", "<message xmlns='jabber:server'/>", "message"] {
            assert_eq!(of(other), None, "{other}");
        }
    }
}
