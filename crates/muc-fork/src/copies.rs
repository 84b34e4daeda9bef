//! The final bytes of what clients are served.
//!
//! Made when they go out, not when that is decided: what is kept is there once, for however many clients, and a client that
//! joins a large room takes no more memory than what is on its way to it.

#![warn(clippy::indexing_slicing, clippy::string_slice)]

use crate::accounts::Accounts;
use crate::decision::{Edit, Id};
use crate::element::split;
use enjamb_stanza::{Attribute, Delay, Splice, read};
use std::time::{Duration, UNIX_EPOCH};

/// The last second of the year 9999: a later one cannot be written (XEP-0082).
const LATEST: u64 = 253_402_300_799;

impl Accounts {
    /// Appends the copy of a stanza for a client, whose full JID is `to`, to `out`.
    ///
    /// A room knows an account by its bare JID. Who may see real JIDs gets a full one (XEP-0045 §7.2.3): that of the client whose
    /// presence it is.
    pub fn write_copy(&self, to: &str, stanza: &[u8], edit: &Edit, out: &mut Vec<u8>) {
        let stamp = edit.delay.as_ref().map(|(from, at)| {
            let at = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs((*at).min(LATEST)));
            (from, at.to_string())
        });
        let room = room_of(stanza, edit);
        let complete = |account: &str| self.shown(account, room?);
        Splice {
            to: Attribute::Set(to),
            from: edit.from.as_deref().map_or(Attribute::Keep, Attribute::Set),
            id: match &edit.id {
                Id::Keep => Attribute::Keep,
                Id::Remove => Attribute::Remove,
                Id::Set(id) => Attribute::Set(id),
            },
            without: edit.without,
            with: &edit.with,
            complete: if stanza.starts_with(b"<presence") { Some(&complete) } else { None },
            delay: stamp.as_ref().map(|(from, stamp)| Delay { from, stamp }),
        }
        .write(stanza, out);
    }
}

/// The room that a copy is from.
pub(crate) fn room_of<'a>(stanza: &'a [u8], edit: &'a Edit) -> Option<&'a str> {
    let from = edit.from.as_deref().or_else(|| sender(stanza))?;
    Some(split(from).0)
}

/// The `from` of a stanza, as it stands there: rooms have nothing in their JIDs that is escaped.
fn sender(stanza: &[u8]) -> Option<&str> {
    let (_, start, _) = read::tag(stanza)?;
    let (_, attributes) = read::name(start);
    let from = read::attributes(attributes).find(|(key, _)| *key == b"from").map(|(_, from)| from)?;
    std::str::from_utf8(from).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_has_what_was_decided() {
        let fork = Accounts::new(|| 1);
        let copy = |stanza: &str, edit: &Edit| {
            let mut out = Vec::new();
            fork.write_copy("a@b/c'd", stanza.as_bytes(), edit, &mut out);
            String::from_utf8(out).unwrap_or_default()
        };
        assert_eq!(
            copy("<presence from='r@c/n' id='x'/>", &Edit::default()),
            "<presence from='r@c/n' id='x' to='a@b/c&apos;d'/>"
        );
        let edit = Edit {
            from: Some("r@c/m".into()),
            id: Id::Set("y".into()),
            delay: Some(("r@c".into(), 1_031_699_305)),
            ..Edit::default()
        };
        assert_eq!(
            copy("<message from='r@c/n' id='x'><body>b</body></message>", &edit),
            "<message to='a@b/c&apos;d' from='r@c/m' id='y'><body>b</body>\
             <delay xmlns='urn:xmpp:delay' from='r@c' stamp='2002-09-10T23:08:25Z'/></message>"
        );
        let edit = Edit {
            id: Id::Remove,
            without: &[201],
            with: vec![110],
            delay: Some(("r@c".into(), u64::MAX)),
            ..Edit::default()
        };
        assert_eq!(
            copy(
                "<presence id='x'><x xmlns='http://jabber.org/protocol/muc#user'><item jid='a@b'/><status code='201'/></x></presence>",
                &edit
            ),
            "<presence to='a@b/c&apos;d'><x xmlns='http://jabber.org/protocol/muc#user'><item jid='a@b'/><status code='110'/></x>\
             <delay xmlns='urn:xmpp:delay' from='r@c' stamp='9999-12-31T23:59:59Z'/></presence>"
        );
    }
}
