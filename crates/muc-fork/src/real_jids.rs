//! Who may see the occupants' real JIDs (XEP-0045 §4.2, §10.2.1) changes while the account is in: a room tells that by a status
//! code, or gives the account another role, and tells of no occupant anew. What is kept for clients that join later follows: JIDs
//! that are hidden are taken out; those that are shown now are known when somebody has looked, which a room of this server allows.

use crate::accounts::Accounts;
use crate::input::FromRoom;
use crate::membership::Membership;
use crate::serving::role;
use enjamb_stanza::read;

impl Membership {
    /// Whether the room shows the account real JIDs now: to everybody (status 100), or since it is a moderator.
    pub(crate) fn may_see_jids(&self) -> bool {
        self.codes.entry.contains(&100) || role(self.own.as_ref()) == Some("moderator")
    }
}

impl Accounts {
    /// The room, or the account's role, is another. Real JIDs that the room would not show any more are not kept.
    pub(crate) fn follow_jids(&mut self, from: FromRoom) {
        let Some(m) = self.membership_mut(from.account, from.room) else { return };
        // Between two nicknames its role is not known.
        if m.own.is_none() {
            return;
        }
        let sees = m.may_see_jids();
        let saw = std::mem::replace(&mut m.sees_jids, sees);
        if sees != saw {
            m.lacks_jids = sees;
        }
        if saw && !sees {
            self.hide_jids(from);
        }
    }

    /// Whether the room would show real JIDs to who joins it now, which it has not told the account: see [`Accounts::show_jids`].
    pub fn lacks_jids(&self, account: &str, room: &str) -> bool {
        self.membership(account, room).is_some_and(|m| m.is_joined() && m.lacks_jids)
    }

    /// What the room would tell of the others now, from somebody who can look: nicknames, and presences as bytes without `to` and `id`. It is
    /// for clients that join later; those that are in know of these occupants.
    pub fn show_jids<'a>(
        &mut self,
        account: &str,
        room: &str,
        occupants: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    ) {
        let Some(m) = self.membership_mut(account, room) else { return };
        if !std::mem::take(&mut m.lacks_jids) {
            return;
        }
        let nick = m.nick.clone();
        let from = FromRoom { account, room, nick: None, id: None };
        for (other, presence) in occupants.into_iter().filter(|(other, _)| **other != *nick) {
            let is_known = |m: &Membership| self.view(room)?.get(&m.seen, other).map(drop);
            if self.membership(account, room).and_then(is_known).is_some() {
                self.note_occupant(from, other, presence);
            }
        }
    }

    fn hide_jids(&mut self, from: FromRoom) {
        let (Some(m), Some(view)) = (self.membership(from.account, from.room), self.view(from.room)) else {
            return;
        };
        let hidden: Vec<(Box<str>, Vec<u8>)> = view
            .occupants(&m.seen)
            .filter_map(|(nick, presence)| Some((nick.into(), without_jids(presence)?)))
            .collect();
        for (nick, presence) in hidden {
            self.note_occupant(from, &nick, &presence);
        }
    }
}

/// An occupant's presence without real JIDs; none if there are none in it.
fn without_jids(presence: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(presence.len());
    let (mut rest, mut found) = (presence, false);
    while let Some((text, tag, after)) = read::tag(rest) {
        rest = after;
        out.extend_from_slice(text);
        out.push(b'<');
        let (name, attributes) = read::name(tag);
        let mut all = read::attributes(attributes);
        if name == b"item" && all.any(|(key, _)| key == b"jid") {
            found = true;
            out.extend_from_slice(name);
            let mut all = read::attributes(attributes);
            for (key, value) in all.by_ref().filter(|(key, _)| *key != b"jid") {
                for part in [b" ", key, b"='", value, b"'"] {
                    out.extend_from_slice(part);
                }
            }
            out.extend_from_slice(all.rest());
        } else {
            out.extend_from_slice(tag);
        }
        out.push(b'>');
    }
    out.extend_from_slice(rest);
    found.then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_out_real_jids_and_nothing_else() {
        let presence = |item: &str| {
            format!(
                "<presence from='r@c/n' xml:lang='en'><show>away</show><x xmlns='muc#user'>{item}</x></presence>"
            )
        };
        let of =
            |item: &str| without_jids(presence(item).as_bytes()).map(|all| String::from_utf8(all).unwrap());
        assert_eq!(of("<item role='visitor'/>"), None);
        assert_eq!(
            of("<item affiliation='none' jid='a@b/&lt;' role='visitor'/>"),
            Some(presence("<item affiliation='none' role='visitor'/>"))
        );
        assert_eq!(
            of("<item jid='a@b/1'><actor nick='x'/></item><item jid='a@b/2'/><status code='1'/>"),
            Some(presence("<item><actor nick='x'/></item><item/><status code='1'/>"))
        );
        let whole = presence("<item jid='a@b'/>");
        for cut in 0..whole.len() {
            without_jids(&whole.as_bytes()[..cut]);
        }
    }
}
