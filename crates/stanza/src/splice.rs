//! A copy of a stanza for somebody else, or for another time: its address, its `id`, and the little that a room tells each
//! of its occupants in another way. One pass over bytes that [`crate::write`] wrote, into a buffer; nothing is parsed but
//! the start tag, and what is to be changed.

use crate::read::{self, Child};
use crate::resent::Delay;
use crate::write;
use memchr::memrchr;

const MUC_USER: &[u8] = b"http://jabber.org/protocol/muc#user";

/// What happens to an attribute of the stanza.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Attribute<'a> {
    /// It stays as it is, or absent.
    #[default]
    Keep,
    /// It goes.
    Remove,
    /// It gets this value, which is not escaped yet.
    Set(&'a str),
}

/// Gives the resource to complete a bare JID with, if it is to be completed.
pub type Complete<'a> = &'a dyn Fn(&str) -> Option<&'a str>;

/// How a copy differs from the stanza that it is made of. The namespace of clients, which is the stream's, is declared by none.
#[derive(Clone, Copy, Default)]
pub struct Splice<'a> {
    /// Its `to`.
    pub to: Attribute<'a>,
    /// Its `from`.
    pub from: Attribute<'a>,
    /// Its `id`.
    pub id: Attribute<'a>,
    /// Status codes (XEP-0045 §15.6) that it must not have. If any are to go or to come, none is there twice.
    pub without: &'a [u16],
    /// Status codes that it must have, if it has a `<x/>` of MUC to have them in.
    pub with: &'a [u16],
    /// Completes the bare JIDs in the items of that `<x/>`.
    pub complete: Option<Complete<'a>>,
    /// A delay to add as its last child (XEP-0203).
    pub delay: Option<Delay<'a>>,
}

impl Splice<'_> {
    /// Appends the copy of `stanza` to `out`. What [`crate::write`] has not written is copied somehow.
    pub fn write(&self, stanza: &[u8], out: &mut Vec<u8>) {
        let Some((_, start, rest)) = read::tag(stanza) else { return out.extend_from_slice(stanza) };
        out.reserve(stanza.len() + 128);
        let (start, is_empty) = match start.strip_suffix(b"/") {
            Some(start) => (start, true),
            None => (start, false),
        };
        let (name, attributes) = read::name(start);
        write::open(out, name);
        self.address(attributes, out);
        match (is_empty, self.delay) {
            (true, None) => {
                write::end_empty(out);
                out.extend_from_slice(rest);
            }
            (true, Some(delay)) => {
                write::end_open(out);
                delay.write(out);
                out.extend_from_slice(b"</");
                out.extend_from_slice(name);
                out.push(b'>');
            }
            (false, delay) => {
                write::end_open(out);
                // The last `<` of a written stanza opens its end tag: everywhere else in text it is an entity.
                let end = memrchr(b'<', rest).unwrap_or(rest.len());
                let (inside, end_tag) = rest.split_at(end);
                self.inside(inside, out);
                if let Some(delay) = delay {
                    delay.write(out);
                }
                out.extend_from_slice(end_tag);
            }
        }
    }

    fn address(&self, attributes: &[u8], out: &mut Vec<u8>) {
        let edits = [(&b"to"[..], self.to), (b"from", self.from), (b"id", self.id)];
        let edit_of = |key: &[u8]| edits.iter().find(|(name, _)| *name == key).map(|(_, edit)| *edit);
        let mut list = read::attributes(attributes);
        for (key, value) in &mut list {
            let declares = key == b"xmlns" && value == b"jabber:client";
            if !declares && matches!(edit_of(key), None | Some(Attribute::Keep)) {
                write::escaped_attribute(out, key, value);
            }
        }
        out.extend_from_slice(list.rest());
        for (key, edit) in edits {
            if let Attribute::Set(value) = edit {
                write::attribute(out, key, value.as_bytes());
            }
        }
    }

    fn changes_codes(&self) -> bool {
        !self.without.is_empty() || !self.with.is_empty()
    }

    /// Everything between the stanza's tags.
    fn inside(&self, inside: &[u8], out: &mut Vec<u8>) {
        let wanted = self.changes_codes() || self.complete.is_some();
        // There may be several: the first counts.
        let mut children = read::inside(inside);
        let x = children.find(|child| wanted && child.name == b"x" && child.xmlns() == MUC_USER);
        let Some(x) = x else { return out.extend_from_slice(inside) };
        let after = children.rest();
        out.extend_from_slice(before(inside, x.whole, after));
        self.x(&x, out);
        out.extend_from_slice(after);
    }

    fn x(&self, x: &Child, out: &mut Vec<u8>) {
        write::open(out, x.name);
        out.extend_from_slice(x.attributes);
        write::end_open(out);
        let begin = out.len();
        let mut present: Vec<&[u8]> = Vec::new();
        let mut children = read::inside(x.inside);
        let mut rest = x.inside;
        while let Some(child) = children.next() {
            out.extend_from_slice(before(rest, child.whole, children.rest()));
            rest = children.rest();
            if child.name == b"status" && self.changes_codes() {
                let code = child.attribute(b"code").unwrap_or(b"");
                if !code.is_empty() && (is_among(self.without, code) || present.contains(&code)) {
                    continue;
                }
                present.push(code);
            }
            match self.complete {
                Some(complete) if is_item(&child) => complete_jid(&child, complete, out),
                _ => out.extend_from_slice(child.whole),
            }
        }
        out.extend_from_slice(rest);
        for (n, code) in self.with.iter().enumerate() {
            let (again, code) = (self.with.iter().take(n).any(|before| before == code), code.to_string());
            if !again && !present.contains(&code.as_bytes()) {
                write::open(out, b"status");
                write::attribute(out, b"code", code.as_bytes());
                write::end_empty(out);
            }
        }
        if out.len() == begin {
            out.truncate(begin - 1);
            write::end_empty(out);
        } else {
            out.extend_from_slice(b"</x>");
        }
    }
}

/// What stands in `bytes` before `part` and what follows that.
fn before<'a>(bytes: &'a [u8], part: &[u8], after: &[u8]) -> &'a [u8] {
    bytes.get(..bytes.len().saturating_sub(part.len() + after.len())).unwrap_or(b"")
}

fn is_among(codes: &[u16], code: &[u8]) -> bool {
    std::str::from_utf8(code).is_ok_and(|code| codes.iter().any(|one| one.to_string() == code))
}

fn is_item(child: &Child) -> bool {
    child.name == b"item" && matches!(child.xmlns(), b"" | MUC_USER)
}

fn complete_jid(item: &Child, complete: Complete, out: &mut Vec<u8>) {
    // What may be completed is an account, and no account's JID has anything that is escaped.
    let bare = item.attribute(b"jid").and_then(|jid| std::str::from_utf8(jid).ok());
    let resource = bare.filter(|jid| !jid.contains(['/', '&'])).and_then(complete);
    let Some(resource) = resource else { return out.extend_from_slice(item.whole) };
    write::open(out, item.name);
    let mut list = read::attributes(item.attributes);
    for (key, value) in &mut list {
        if key == b"jid" {
            out.extend_from_slice(b" jid='");
            out.extend_from_slice(value);
            out.push(b'/');
            write::escape(out, resource.as_bytes());
            out.push(b'\'');
        } else {
            write::escaped_attribute(out, key, value);
        }
    }
    out.extend_from_slice(list.rest());
    // Its own tag ends as it did.
    let start = 1 + item.name.len() + item.attributes.len();
    out.extend_from_slice(item.whole.get(start..).unwrap_or(b""));
}
