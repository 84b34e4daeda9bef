//! Reading, as far as decisions need it: the children of a written stanza, without parsing what is in them.
//!
//! For bytes that come from [`crate::write`] only: `<` and `>` stand for tags, attributes are in single quotes.
//!
//! Our own, since each groupchat message and each new presence of a room is read here. quick-xml, a reader of any XML, takes 0.40
//! us for the children of a chat message with their attributes and this 0.23, 0.46 and 0.34 for an occupant's presence
//! (`benches/stanza`, "reading"). `tests/splice.rs` holds what is found here against what quick-xml finds.

use memchr::memchr;

/// A child of the stanza.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Child<'a> {
    /// Its local name.
    pub name: &'a [u8],
    /// The attributes of its start tag, as they stand there.
    pub attributes: &'a [u8],
    /// What is between its tags, escaped.
    pub inside: &'a [u8],
    /// All of it, from the first `<` to the last `>`.
    pub whole: &'a [u8],
}

impl<'a> Child<'a> {
    /// The value of an attribute, escaped.
    pub fn attribute(&self, key: &[u8]) -> Option<&'a [u8]> {
        attributes(self.attributes).find(|(name, _)| *name == key).map(|(_, value)| value)
    }

    /// Its own child elements.
    pub fn children(&self) -> Children<'a> {
        inside(self.inside)
    }

    /// Its namespace, if it declares one.
    pub fn xmlns(&self) -> &'a [u8] {
        self.attribute(b"xmlns").unwrap_or(b"")
    }
}

/// Names and values of the attributes that stand in a start tag, escaped.
pub fn attributes(attributes: &[u8]) -> Attributes<'_> {
    Attributes { rest: attributes }
}

/// See [`attributes`].
#[derive(Clone, Debug)]
pub struct Attributes<'a> {
    rest: &'a [u8],
}

impl<'a> Attributes<'a> {
    /// What has not been read: nothing at the end, unless it is no attribute.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (name, value) = split_once(self.rest.strip_prefix(b" ")?, b'=')?;
        let (value, behind) = split_once(value.strip_prefix(b"'")?, b'\'')?;
        self.rest = behind;
        Some((name, value))
    }
}

/// The next tag: the text before it, what is between its angle brackets, and what follows.
pub fn tag(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (before, rest) = split_once(bytes, b'<')?;
    let (tag, behind) = split_once(rest, b'>')?;
    Some((before, tag, behind))
}

/// A tag's name, with the `/` of an end tag, and its attributes.
pub fn name(tag: &[u8]) -> (&[u8], &[u8]) {
    tag.split_at(memchr(b' ', tag).unwrap_or(tag.len()))
}

/// The stanza as an element.
pub fn root(stanza: &[u8]) -> Option<Child<'_>> {
    Children { rest: stanza }.next()
}

/// The child elements of a stanza.
pub fn children(stanza: &[u8]) -> Children<'_> {
    Children { rest: split_once(stanza, b'>').map_or(b"", |(_, rest)| rest) }
}

/// The elements in what is between two tags.
pub fn inside(inside: &[u8]) -> Children<'_> {
    Children { rest: inside }
}

/// See [`children`].
#[derive(Clone, Debug)]
pub struct Children<'a> {
    rest: &'a [u8],
}

impl<'a> Children<'a> {
    /// What stands behind the last one.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

/// What is before the first such byte, and what is behind it.
fn split_once(bytes: &[u8], byte: u8) -> Option<(&[u8], &[u8])> {
    let (before, rest) = bytes.split_at(memchr(byte, bytes)?);
    Some((before, rest.strip_prefix(&[byte])?))
}

impl<'a> Iterator for Children<'a> {
    type Item = Child<'a>;

    fn next(&mut self) -> Option<Child<'a>> {
        let (text, start, mut rest) = tag(self.rest)?;
        if start.starts_with(b"/") {
            self.rest = b"";
            return None;
        }
        let begin = self.rest.get(text.len()..)?;
        let empty = start.ends_with(b"/");
        let start = start.strip_suffix(b"/").unwrap_or(start);
        let (name, attributes) = name(start);
        if empty {
            self.rest = rest;
            let whole = begin.get(..begin.len() - rest.len())?;
            return Some(Child { name, attributes, inside: b"", whole });
        }
        let inside = rest;
        let mut depth = 1;
        let mut end = 0;
        while depth > 0 {
            let (_, inner, after) = tag(rest)?;
            end = inside.len() - after.len() - inner.len() - 2;
            if inner.starts_with(b"/") {
                depth -= 1;
            } else if !inner.ends_with(b"/") {
                depth += 1;
            }
            rest = after;
        }
        self.rest = rest;
        let whole = begin.get(..begin.len() - rest.len())?;
        Some(Child { name, attributes, inside: inside.get(..end)?, whole })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_children() {
        let stanza = b"<message from='a&gt;b' id='1'><body>x &lt; <b>y</b></body><x xmlns='urn:x' a='it&apos;s/'/><y><y/><z>/</z></y></message>";
        let found: Vec<_> = children(stanza).collect();
        assert_eq!(found.len(), 3);
        assert_eq!((found[0].name, found[0].inside), (&b"body"[..], &b"x &lt; <b>y</b>"[..]));
        assert_eq!(found[1].xmlns(), b"urn:x");
        assert_eq!(found[1].attribute(b"a"), Some(&b"it&apos;s/"[..]));
        assert_eq!(found[1].attribute(b"b"), None);
        assert_eq!((found[2].name, found[2].inside), (&b"y"[..], &b"<y/><z>/</z>"[..]));
        assert_eq!(found[0].whole, b"<body>x &lt; <b>y</b></body>");
        assert_eq!(found[1].whole, b"<x xmlns='urn:x' a='it&apos;s/'/>");
        assert_eq!(found[2].children().map(|c| c.inside).collect::<Vec<_>>(), [&b""[..], b"/"]);
        let root = root(stanza).unwrap();
        assert_eq!((root.name, root.attribute(b"id")), (&b"message"[..], Some(&b"1"[..])));
        assert_eq!(root.children().count(), 3);
        assert_eq!(attributes(b" a='1' b='2' c=").count(), 2);
        assert_eq!(children(b"<message/>").count(), 0);
        assert_eq!(children(b"<message>text</message>").count(), 0);
        for cut in 0..stanza.len() {
            let _ = children(&stanza[..cut]).count();
        }
    }
}
