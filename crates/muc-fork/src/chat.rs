//! What a groupchat message says, as far as decisions hang on it: read from its bytes.

#![warn(clippy::indexing_slicing, clippy::string_slice)]

use crate::element::{element, is_own};
use crate::history::Mark;
use crate::input::Talk;
use crate::time;
use enjamb_stanza::read::{self, Child};
use enjamb_stanza::write;
use std::hash::{DefaultHasher, Hash, Hasher};

const HINTS: &[u8] = b"urn:xmpp:hints";
const DELAY: &[u8] = b"urn:xmpp:delay";
const LEGACY_DELAY: &[u8] = b"jabber:x:delay";
const STANZA_ID: &[u8] = b"urn:xmpp:sid:0";
const OCCUPANT_ID: &[u8] = b"urn:xmpp:occupant-id:0";
const FASTEN: &[u8] = b"urn:xmpp:fasten:0";
const MODERATE: [&[u8]; 2] = [b"urn:xmpp:message-moderate:0", b"urn:xmpp:message-moderate:1"];
const RETRACT: [&[u8]; 2] = [b"urn:xmpp:message-retract:0", b"urn:xmpp:message-retract:1"];
pub(crate) const MUC_USER: &[u8] = b"http://jabber.org/protocol/muc#user";

/// A groupchat message of a room.
#[derive(Debug)]
pub struct Chat<'a> {
    pub(crate) talk: Talk,
    /// Its bytes, without `to`.
    pub(crate) stanza: &'a [u8],
    /// The time in the room's own `<delay/>`.
    pub(crate) stamp: Option<u64>,
    /// It has an `id` that tells it from others, not the room's.
    pub(crate) named: bool,
    /// It takes back an earlier one.
    pub(crate) takes_back: Option<TakesBack<'a>>,
    /// Status codes (XEP-0045 §10.2.1).
    pub(crate) codes: Vec<u16>,
    words: u64,
    archived: Option<u64>,
    names: Names<'a>,
}

/// What others call a message by, and who said it; all as it stands in its bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Names<'a> {
    from: &'a [u8],
    id: Option<&'a [u8]>,
    /// The room's (XEP-0359).
    stanza_id: Option<&'a [u8]>,
    origin_id: Option<&'a [u8]>,
    occupant_id: Option<&'a [u8]>,
}

/// A retraction by the author (XEP-0424) or by a moderator (XEP-0425), in the forms of before and after fastening.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TakesBack<'a> {
    target: &'a [u8],
    /// `:0` and `:1`.
    forms: [bool; 2],
    moderator: Option<Moderator<'a>>,
    reason: Option<&'a [u8]>,
}

/// Who took back what another said, as far as the room tells.
#[derive(Clone, Copy, Debug, Default)]
struct Moderator<'a> {
    by: Option<&'a [u8]>,
    occupant_id: Option<&'a [u8]>,
}

fn hash(of: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

/// Reads a groupchat message of `room`, without `to`. What rooms keep is taken to be what Prosody's keep, and what a room
/// says again with its own time.
pub fn read<'a>(stanza: &'a [u8], room: &str) -> Chat<'a> {
    let (mut body, mut subject, mut thread, mut kept, mut passing, mut stamp) =
        (None, false, false, false, false, None);
    let mut names = Names::default();
    let mut own = None;
    if let Some(root) = read::root(stanza) {
        names.from = root.attribute(b"from").unwrap_or(b"");
        names.id = root.attribute(b"id");
        own = root.attribute(b"xmlns");
    }
    let by_room = !names.from.contains(&b'/');
    let mut takes_back = TakesBack::default();
    let mut codes = Vec::new();
    let mut rest = DefaultHasher::new();
    for child in read::children(stanza) {
        let xmlns = child.xmlns();
        match child.name {
            b"body" if is_own(&child, own) => body = body.or(Some(child.inside)),
            b"subject" if is_own(&child, own) => {
                subject = true;
                child.inside.hash(&mut rest);
            }
            b"thread" if is_own(&child, own) => thread = true,
            b"no-store" | b"no-permanent-store" if xmlns == HINTS => passing = true,
            b"store" if xmlns == HINTS => kept = true,
            b"encryption" if xmlns == b"urn:xmpp:eme:0" => kept = true,
            b"delay" if xmlns == DELAY => stamp = stamp.or_else(|| own_stamp(&child, room, false)),
            b"x" if xmlns == LEGACY_DELAY => stamp = stamp.or_else(|| own_stamp(&child, room, true)),
            b"stanza-id" if xmlns == STANZA_ID && child.attribute(b"by") == Some(room.as_bytes()) => {
                names.stanza_id = child.attribute(b"id");
            }
            b"origin-id" if xmlns == STANZA_ID => names.origin_id = child.attribute(b"id"),
            b"occupant-id" if xmlns == OCCUPANT_ID => names.occupant_id = child.attribute(b"id"),
            b"apply-to" if xmlns == FASTEN => takes_back.read_fastened(&child),
            b"retract" if xmlns == RETRACT[1] => takes_back.read(&child),
            b"x" if xmlns == MUC_USER && by_room => codes.extend(child.children().filter_map(status)),
            _ if xmlns == b"urn:xmpp:chat-markers:0" => kept = true,
            _ => {}
        }
        if !matches!((child.name, xmlns), (b"delay", DELAY) | (b"x", LEGACY_DELAY) | (_, STANZA_ID)) {
            (child.name, xmlns, child.attribute(b"id")).hash(&mut rest);
        }
    }
    // Only the room itself tells what a moderator did.
    let takes_back = Some(takes_back).filter(|t| t.forms != [false; 2] && (by_room || t.moderator.is_none()));
    let talk = match body {
        None if subject && !thread => Talk::Subject,
        _ if stamp.is_some() || (by_room && takes_back.is_some()) => Talk::Stored,
        _ if passing => Talk::Passing,
        None if !kept && takes_back.is_none() => Talk::Passing,
        _ => Talk::Stored,
    };
    let name = names.origin_id.or(names.id);
    Chat {
        talk,
        stanza,
        stamp,
        named: name.is_some(),
        takes_back,
        codes,
        words: match body {
            Some(body) => hash((names.from, name, body)),
            None => hash((names.from, name, rest.finish())),
        },
        archived: names.stanza_id.map(hash),
        names,
    }
}

fn status(child: Child) -> Option<u16> {
    std::str::from_utf8(child.attribute(b"code")?).ok()?.parse().ok()
}

fn own_stamp(child: &Child, room: &str, legacy: bool) -> Option<u64> {
    let from = child.attribute(b"from");
    let host = room.split_once('@').map_or(room, |(_, host)| host);
    if from.is_some_and(|from| from != room.as_bytes() && from != host.as_bytes()) {
        return None;
    }
    let stamp = std::str::from_utf8(child.attribute(b"stamp")?).ok()?;
    if legacy { time::parse_legacy(stamp) } else { time::parse(stamp) }
}

impl<'a> TakesBack<'a> {
    fn read_fastened(&mut self, apply: &Child<'a>) {
        let Some(target) = apply.attribute(b"id") else { return };
        for child in apply.children() {
            let retracts = |child: Child| child.name == b"retract" && child.xmlns() == RETRACT[0];
            if child.name == b"moderated" && child.xmlns() == MODERATE[0] && child.children().any(retracts) {
                self.read_moderated(&child);
                self.reason = child.children().find(|c| c.name == b"reason").map(|c| c.inside);
            } else if !retracts(child) {
                continue;
            }
            self.target = target;
            self.forms[0] = true;
        }
    }

    fn read(&mut self, retract: &Child<'a>) {
        let Some(target) = retract.attribute(b"id") else { return };
        self.target = target;
        self.forms[1] = true;
        for child in retract.children() {
            if child.name == b"moderated" && child.xmlns() == MODERATE[1] {
                self.read_moderated(&child);
            } else if child.name == b"reason" {
                self.reason = Some(child.inside);
            }
        }
    }

    /// In either form; what one does not tell the other may.
    fn read_moderated(&mut self, moderated: &Child<'a>) {
        let moderator = self.moderator.get_or_insert_default();
        let occupant_id = |c: &Child| c.name == b"occupant-id" && c.xmlns() == OCCUPANT_ID;
        moderator.by = moderator.by.or(moderated.attribute(b"by"));
        moderator.occupant_id =
            moderator.occupant_id.or(moderated.children().find(occupant_id).and_then(|c| c.attribute(b"id")));
    }
}

impl Moderator<'_> {
    fn write(&self, out: &mut Vec<u8>, xmlns: &[u8], before: &[u8]) {
        let mut inside = before.to_vec();
        if self.occupant_id.is_some() {
            let of = attributes([("xmlns", Some(OCCUPANT_ID)), ("id", self.occupant_id)]);
            element(&mut inside, b"occupant-id", &of, b"");
        }
        element(out, b"moderated", &attributes([("xmlns", Some(xmlns)), ("by", self.by)]), &inside);
    }
}

fn attributes<'a>(list: impl IntoIterator<Item = (&'a str, Option<&'a [u8]>)>) -> Vec<u8> {
    let mut out = Vec::new();
    for (key, value) in list {
        if let Some(value) = value {
            write::escaped_attribute(&mut out, key.as_bytes(), value);
        }
    }
    out
}

impl Chat<'_> {
    /// Whether it was said just now, and is to be read: who has no device there may be woken for it.
    pub fn is_news(&self) -> bool {
        self.talk == Talk::Stored && self.stamp.is_none()
    }

    /// How it is known again when the room repeats it.
    pub fn mark(&self, now: u64) -> Mark {
        Mark { words: self.words, archived: self.archived, at: self.stamp.unwrap_or(now) }
    }

    /// Whether a kept message is the one that this takes back: by the room's id for it, or by one that its author gave it. An
    /// author takes back only what is its own.
    fn means(&self, kept: &Names, by_room_id: bool) -> bool {
        let Some(back) = &self.takes_back else { return false };
        let named = if by_room_id {
            kept.stanza_id == Some(back.target)
        } else {
            kept.origin_id == Some(back.target) || kept.id == Some(back.target)
        };
        let by_room = !self.names.from.contains(&b'/');
        let same_author = match (self.names.occupant_id, kept.occupant_id) {
            (None, None) => self.names.from == kept.from,
            (this, that) => this == that,
        };
        named && (by_room || same_author)
    }

    /// Which of the kept messages this takes back, and what stays of it (XEP-0424 §5, XEP-0425 §5).
    pub(crate) fn take_back<'k>(
        &self,
        kept: impl DoubleEndedIterator<Item = &'k [u8]> + Clone,
        room: &str,
        now: u64,
    ) -> Option<(usize, Vec<u8>)> {
        let back = self.takes_back.as_ref()?;
        let mut found = None;
        for by_room_id in [true, false] {
            for (i, stanza) in kept.clone().enumerate() {
                if found.is_none() && self.means(&read(stanza, room).names, by_room_id) {
                    found = Some((i, stanza));
                }
            }
        }
        let (i, stanza) = found?;
        let stamp = time::write(self.stamp.unwrap_or(now));
        Some((i, back.tombstone(stanza, room, self.names.id, &stamp)))
    }
}

impl TakesBack<'_> {
    fn tombstone(&self, stanza: &[u8], room: &str, id: Option<&[u8]>, stamp: &str) -> Vec<u8> {
        let stamp = Some(stamp.as_bytes());
        let mut reason = Vec::new();
        if let Some(text) = self.reason {
            element(&mut reason, b"reason", b"", text);
        }
        let mut inside = Vec::new();
        if self.forms[0] {
            let mut retracted = Vec::new();
            let of = attributes([("xmlns", Some(RETRACT[0])), ("stamp", stamp)]);
            element(&mut retracted, b"retracted", &of, b"");
            match self.moderator {
                Some(moderator) => {
                    retracted.extend_from_slice(&reason);
                    moderator.write(&mut inside, MODERATE[0], &retracted);
                }
                None => inside.extend_from_slice(&retracted),
            }
        }
        if self.forms[1] {
            let mut by = Vec::new();
            if let Some(moderator) = self.moderator {
                moderator.write(&mut by, MODERATE[1], b"");
                by.extend_from_slice(&reason);
            }
            let id = id.filter(|_| self.moderator.is_none());
            let of = attributes([("xmlns", Some(RETRACT[1])), ("id", id), ("stamp", stamp)]);
            element(&mut inside, b"retracted", &of, &by);
        }
        for child in read::children(stanza) {
            let own = match (child.name, child.xmlns()) {
                (b"stanza-id", STANZA_ID) => child.attribute(b"by") == Some(room.as_bytes()),
                (b"occupant-id", OCCUPANT_ID) | (b"delay", DELAY) | (b"x", LEGACY_DELAY) => true,
                _ => false,
            };
            if own {
                element(&mut inside, child.name, child.attributes, child.inside);
            }
        }
        let root = read::root(stanza);
        let root = root.as_ref().map_or(&b""[..], |root| root.attributes);
        let mut out = Vec::new();
        element(&mut out, b"message", root, &inside);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    const ROOM: &str = "r@c";

    fn message(attributes: &str, inside: &str) -> Vec<u8> {
        format!("<message type='groupchat' {attributes}>{inside}</message>").replace("' >", "'>").into_bytes()
    }

    fn sid(id: &str) -> String {
        format!("<stanza-id xmlns='urn:xmpp:sid:0' by='r@c' id='{id}'/>")
    }

    fn talk(inside: &str) -> Talk {
        read(&message("from='r@c/n'", inside), ROOM).talk
    }

    #[test]
    fn tells_what_rooms_keep() {
        assert_eq!(talk("<body>hi</body>"), Talk::Stored);
        assert_eq!(talk("<subject>s</subject>"), Talk::Subject);
        assert_eq!(talk("<subject>s</subject><body>hi</body>"), Talk::Stored);
        assert_eq!(talk("<composing xmlns='http://jabber.org/protocol/chatstates'/>"), Talk::Passing);
        assert_eq!(talk("<body>hi</body><no-store xmlns='urn:xmpp:hints'/>"), Talk::Passing);
        assert_eq!(talk("<retract xmlns='urn:xmpp:message-retract:1' id='1'/>"), Talk::Stored);
        // Whatever a room repeats, it keeps.
        assert_eq!(
            talk("<y xmlns='z'/><delay xmlns='urn:xmpp:delay' from='r@c' stamp='2024-01-01T00:00:00Z'/>"),
            Talk::Stored
        );
        assert_eq!(
            talk("<y xmlns='z'/><delay xmlns='urn:xmpp:delay' from='r@x' stamp='2024-01-01T00:00:00Z'/>"),
            Talk::Passing
        );
    }

    #[test]
    fn reads_the_time_as_it_is_and_was_written() {
        let stamp = |delay: &str| read(&message("from='r@c/n'", &format!("<body/>{delay}")), ROOM).stamp;
        assert_eq!(
            stamp("<delay xmlns='urn:xmpp:delay' stamp='2002-09-10T23:08:25Z'/>"),
            Some(1_031_699_305)
        );
        assert_eq!(
            stamp("<delay xmlns='urn:xmpp:delay' from='c' stamp='2002-09-10T23:08:25.7Z'/>"),
            Some(1_031_699_305)
        );
        assert_eq!(stamp("<x xmlns='jabber:x:delay' stamp='20020910T23:08:25'/>"), Some(1_031_699_305));
        // Somebody else held it back, or nobody: it was said just now.
        assert_eq!(stamp("<delay xmlns='urn:xmpp:delay' from='r@c/n' stamp='2002-09-10T23:08:25Z'/>"), None);
        assert_eq!(stamp("<delay xmlns='urn:other' stamp='2002-09-10T23:08:25Z'/>"), None);
        assert_eq!(stamp("<delay xmlns='urn:xmpp:delay'/>"), None);
    }

    #[test]
    fn takes_nothing_of_another_namespace_for_words() {
        assert_eq!(talk("<body xmlns='urn:other'>no</body>"), Talk::Passing);
        assert_eq!(talk("<subject xmlns='urn:other'>no</subject>"), Talk::Passing);
        assert_eq!(talk("<subject>s</subject><body xmlns='urn:other'>no</body>"), Talk::Subject);
        assert_eq!(talk("<subject>s</subject><thread xmlns='urn:other'/>"), Talk::Subject);
        assert_eq!(talk("<subject>s</subject><thread>t</thread>"), Talk::Passing);
        let of_a_server = "from='r@c/n' xmlns='jabber:server'";
        let read_there = |inside: &str| read(&message(of_a_server, inside), ROOM).talk;
        assert_eq!(read_there("<body>hi</body>"), Talk::Stored);
        assert_eq!(read_there("<body xmlns='jabber:server'>hi</body>"), Talk::Stored);
        // The words are those that are read, wherever others stand.
        let words = |inside: &str| read(&message("from='r@c/n'", inside), ROOM).words;
        assert_eq!(words("<body xmlns='urn:other'>x</body><body>hi</body>"), words("<body>hi</body>"));
    }

    #[test]
    fn tells_what_devices_are_woken_for() {
        let is_news = |inside: &str| read(&message("from='r@c/n'", inside), ROOM).is_news();
        assert!(is_news("<body>hi</body>"));
        assert!(is_news(
            "<body>hi</body><delay xmlns='urn:xmpp:delay' from='x@y/z' stamp='2002-09-10T23:08:25Z'/>"
        ));
        assert!(!is_news(
            "<body>hi</body><delay xmlns='urn:xmpp:delay' from='r@c' stamp='2002-09-10T23:08:25Z'/>"
        ));
        assert!(!is_news("<body xmlns='urn:other'>hi</body>"));
        assert!(!is_news("<subject>s</subject>"));
        assert!(!is_news("<composing xmlns='http://jabber.org/protocol/chatstates'/>"));
    }

    #[test]
    fn knows_a_message_again() {
        let of = |attributes: &str, inside: &str| {
            let stanza = message(attributes, inside);
            let chat = read(&stanza, ROOM);
            (chat.mark(1_000), chat.named)
        };
        let repeats = |new: (Mark, bool), old: (Mark, bool)| new.0.repeats(&old.0, new.1);
        let at = |seconds: u64| {
            let stamp = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(seconds));
            format!("<delay xmlns='urn:xmpp:delay' from='r@c' stamp='{stamp}'/>")
        };
        let live = of("from='r@c/n'", "<body>alarm</body>");
        assert!(repeats(of("from='r@c/n'", &format!("<body>alarm</body>{}", at(999))), live));
        assert!(!repeats(of("from='r@c/n'", &format!("<body>alarm</body>{}", at(1_010))), live));
        assert!(!repeats(of("from='r@c/m'", &format!("<body>alarm</body>{}", at(1_000))), live));
        // The room's own name for it decides.
        let live = of("from='r@c/n' id='1'", &format!("<body>alarm</body>{}", sid("a")));
        assert!(repeats(
            of("from='r@c/n' id='1'", &format!("<body>alarm</body>{}{}", sid("a"), at(5))),
            live
        ));
        assert!(repeats(
            of("from='r@c/n' id='1'", &format!("<y xmlns='tombstone'/>{}{}", sid("a"), at(5))),
            live
        ));
        assert!(!repeats(
            of("from='r@c/n' id='1'", &format!("<body>alarm</body>{}{}", sid("b"), at(1_000))),
            live
        ));
        // Only one of the two has it.
        assert!(repeats(of("from='r@c/n' id='1'", &format!("<body>alarm</body>{}", at(970))), live));
        assert!(!repeats(of("from='r@c/n' id='1'", &format!("<body>alarm</body>{}", at(2_000))), live));
        // Somebody else's name for it does not count.
        let forged =
            of("from='r@c/n' id='1'", "<body>x</body><stanza-id xmlns='urn:xmpp:sid:0' by='x@y' id='a'/>");
        assert_eq!(forged.0.archived, None);
    }

    fn after(kept: &[Vec<u8>], announcement: &[u8]) -> Option<(usize, String)> {
        let chat = read(announcement, ROOM);
        assert_eq!(chat.talk, Talk::Stored);
        let (i, stanza) = chat.take_back(kept.iter().map(Vec::as_slice), ROOM, 86_400)?;
        Some((i, String::from_utf8(stanza).unwrap()))
    }

    #[test]
    fn leaves_a_tombstone_of_what_was_taken_back() {
        let kept = [
            message("from='r@c/n' id='1'", &format!("<body>vile</body>{}", sid("a"))),
            message("from='r@c/n' id='a'", &format!("<body>fine</body>{}", sid("b"))),
        ];
        let (i, stanza) = after(
            &kept,
            &message(
                "from='r@c' id='x'",
                "<apply-to xmlns='urn:xmpp:fasten:0' id='a'><moderated xmlns='urn:xmpp:message-moderate:0' by='r@c/m'>\
                 <retract xmlns='urn:xmpp:message-retract:0'/><reason>r</reason></moderated></apply-to>",
            ),
        )
        .unwrap();
        assert_eq!(i, 0);
        assert_eq!(
            stanza,
            format!(
                "<message type='groupchat' from='r@c/n' id='1'><moderated xmlns='urn:xmpp:message-moderate:0' by='r@c/m'>\
                 <retracted xmlns='urn:xmpp:message-retract:0' stamp='1970-01-02T00:00:00Z'/><reason>r</reason></moderated>{}</message>",
                sid("a")
            )
        );
        let (i, stanza) = after(
            &kept,
            &message(
                "from='r@c' id='x'",
                "<retract id='b' xmlns='urn:xmpp:message-retract:1'><moderated by='r@c/m' xmlns='urn:xmpp:message-moderate:1'>\
                 <occupant-id xmlns='urn:xmpp:occupant-id:0' id='o'/></moderated><reason>r</reason></retract>",
            ),
        )
        .unwrap();
        assert_eq!(i, 1);
        assert_eq!(
            stanza,
            format!(
                "<message type='groupchat' from='r@c/n' id='a'><retracted xmlns='urn:xmpp:message-retract:1' \
                 stamp='1970-01-02T00:00:00Z'><moderated xmlns='urn:xmpp:message-moderate:1' by='r@c/m'>\
                 <occupant-id xmlns='urn:xmpp:occupant-id:0' id='o'/></moderated><reason>r</reason></retracted>{}</message>",
                sid("b")
            )
        );
    }

    #[test]
    fn says_who_took_back_and_whose_it_was() {
        let occupant = |id: &str| format!("<occupant-id xmlns='urn:xmpp:occupant-id:0' id='{id}'/>");
        let kept =
            [message("from='r@c/n' id='1'", &format!("<body>vile</body>{}{}", occupant("author"), sid("a")))];
        // As rooms tell it that speak both forms: only one says by whom.
        let told = message(
            "from='r@c' id='x'",
            &format!(
                "<apply-to xmlns='urn:xmpp:fasten:0' id='a'><moderated xmlns='urn:xmpp:message-moderate:0' by='r@c/m'>{moderator}\
                 <retract xmlns='urn:xmpp:message-retract:0'/><reason>r</reason></moderated></apply-to>{}\
                 <retract xmlns='urn:xmpp:message-retract:1' id='a'><moderated xmlns='urn:xmpp:message-moderate:1'>{moderator}</moderated>\
                 <reason>r</reason></retract>",
                occupant("author"),
                moderator = occupant("moderator"),
            ),
        );
        let (_, stanza) = after(&kept, &told).unwrap();
        assert_eq!(
            stanza,
            format!(
                "<message type='groupchat' from='r@c/n' id='1'><moderated xmlns='urn:xmpp:message-moderate:0' by='r@c/m'>\
                 <retracted xmlns='urn:xmpp:message-retract:0' stamp='1970-01-02T00:00:00Z'/><reason>r</reason>{moderator}</moderated>\
                 <retracted xmlns='urn:xmpp:message-retract:1' stamp='1970-01-02T00:00:00Z'>\
                 <moderated xmlns='urn:xmpp:message-moderate:1' by='r@c/m'>{moderator}</moderated><reason>r</reason></retracted>{}{}</message>",
                occupant("author"),
                sid("a"),
                moderator = occupant("moderator"),
            )
        );
    }

    #[test]
    fn lets_authors_take_back_only_what_is_their_own() {
        let occupant = |id: &str| format!("<occupant-id xmlns='urn:xmpp:occupant-id:0' id='{id}'/>");
        let kept = [
            message("from='r@c/n' id='1'", &format!("<body>vile</body>{}", sid("a"))),
            message("from='r@c/n' id='2'", &format!("<body>vile</body>{}", occupant("o"))),
            message(
                "from='r@c/n' id='3'",
                "<body>vile</body><origin-id xmlns='urn:xmpp:sid:0' id='origin'/>",
            ),
        ];
        let new = |from: &str, id: &str, more: &str| {
            message(
                &format!("from='r@c/{from}' id='x'"),
                &format!(
                    "<retract id='{id}' xmlns='urn:xmpp:message-retract:1'/><body>taken back</body>{more}"
                ),
            )
        };
        let old = |from: &str, id: &str| {
            let inside = format!(
                "<apply-to id='{id}' xmlns='urn:xmpp:fasten:0'><retract xmlns='urn:xmpp:message-retract:0'/></apply-to>"
            );
            message(&format!("from='r@c/{from}'"), &inside)
        };
        let which = |stanza: &[u8]| after(&kept, stanza).map(|(i, _)| i);
        assert_eq!(which(&new("n", "a", "")), Some(0));
        assert_eq!(which(&new("eve", "a", "")), None);
        assert_eq!(which(&new("n", "2", "")), None, "somebody else under the same nickname");
        assert_eq!(which(&new("renamed", "2", &occupant("o"))), Some(1));
        assert_eq!(which(&old("n", "origin")), Some(2));
        assert_eq!(which(&old("eve", "origin")), None);
        let (_, stanza) = after(&kept, &new("n", "a", "")).unwrap();
        assert!(stanza.contains("<retracted xmlns='urn:xmpp:message-retract:1' id='x' stamp='"), "{stanza}");
        assert!(!stanza.contains("vile"));
        // An occupant is no moderator by saying so.
        let forged = message(
            "from='r@c/eve'",
            "<retract id='a' xmlns='urn:xmpp:message-retract:1'><moderated by='r@c/m' xmlns='urn:xmpp:message-moderate:1'/></retract>",
        );
        let chat = read(&forged, ROOM);
        assert!(chat.takes_back.is_none());
        assert_eq!(chat.talk, Talk::Passing);
    }

    #[test]
    fn reads_anything() {
        let whole = message(
            "from='r@c' id='x'",
            "<apply-to xmlns='urn:xmpp:fasten:0' id='a'><moderated xmlns='urn:xmpp:message-moderate:0'>\
             <retract xmlns='urn:xmpp:message-retract:0'/></moderated></apply-to>\
             <x xmlns='http://jabber.org/protocol/muc#user'><status code='99999999'/><status/><status code='172'/></x>",
        );
        for cut in 0..whole.len() {
            let chat = read(&whole[..cut], ROOM);
            let _ = chat.take_back([&whole[..]].into_iter(), ROOM, 0);
        }
        assert_eq!(read(&whole, ROOM).codes, [172]);
    }
}
