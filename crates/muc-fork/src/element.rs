//! Elements of a written stanza, each with the namespace that it is in.
//!
//! Bytes declare a namespace only where it changes, so an element's own attributes do not tell which one it is in. What is
//! in the stanza's own, however that is called on the stream that brought it (RFC 6120 §4.8.3), is in [`CLIENT`] here.

#![warn(clippy::indexing_slicing, clippy::string_slice)]

use enjamb_stanza::read::{self, Child};
use enjamb_stanza::{Attribute, Splice, write};
use std::borrow::Cow;

/// The namespace of stanzas (RFC 6120 §4.8.3).
pub(crate) const CLIENT: &[u8] = b"jabber:client";
const ERRORS: &[u8] = b"urn:ietf:params:xml:ns:xmpp-stanzas";

/// An element, in its namespace.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Element<'a> {
    child: Child<'a>,
    xmlns: &'a [u8],
    /// What the stanza itself declares.
    own: Option<&'a [u8]>,
}

impl<'a> Element<'a> {
    /// The stanza itself.
    pub(crate) fn stanza(bytes: &'a [u8]) -> Option<Element<'a>> {
        let child = read::root(bytes)?;
        Some(Element { child, xmlns: CLIENT, own: child.attribute(b"xmlns") })
    }

    pub(crate) fn name(&self) -> &'a [u8] {
        self.child.name
    }

    pub(crate) fn xmlns(&self) -> &'a [u8] {
        self.xmlns
    }

    pub(crate) fn is(&self, name: &[u8], xmlns: &[u8]) -> bool {
        self.child.name == name && self.xmlns == xmlns
    }

    /// The value of an attribute. What is no text has none.
    pub(crate) fn attribute(&self, key: &[u8]) -> Option<Cow<'a, str>> {
        plain(self.child.attribute(key)?)
    }

    pub(crate) fn children(&self) -> impl Iterator<Item = Element<'a>> + use<'a> {
        let (parent, own) = (self.xmlns, self.own);
        self.child.children().map(move |child| Element { xmlns: namespace(&child, parent, own), child, own })
    }

    /// The first such child.
    pub(crate) fn child(&self, name: &[u8], xmlns: &[u8]) -> Option<Element<'a>> {
        self.children().find(|child| child.is(name, xmlns))
    }

    /// The text in it, if there is nothing but text.
    pub(crate) fn text(&self) -> Option<Cow<'a, str>> {
        let text = self.child.inside;
        if text.contains(&b'<') { None } else { plain(text) }
    }

    /// Appends it as it stands in the stanza.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        element(out, self.child.name, self.child.attributes, self.child.inside);
    }
}

fn namespace<'a>(child: &Child<'a>, parent: &'a [u8], own: Option<&[u8]>) -> &'a [u8] {
    match child.attribute(b"xmlns") {
        None => parent,
        declared if declared == own => CLIENT,
        Some(declared) => declared,
    }
}

/// Whether a child of a stanza that declares `own` is in the stanza's namespace; for who walks the children by itself.
pub(crate) fn is_own(child: &Child, own: Option<&[u8]>) -> bool {
    namespace(child, CLIENT, own) == CLIENT
}

/// Appends an element that is made of what stands in another.
pub(crate) fn element(out: &mut Vec<u8>, name: &[u8], attributes: &[u8], inside: &[u8]) {
    write::open(out, name);
    let open = out.len() - name.len()..out.len();
    out.extend_from_slice(attributes);
    if inside.is_empty() {
        write::end_empty(out);
    } else {
        write::end_open(out);
        out.extend_from_slice(inside);
        write::close(out, open);
    }
}

/// Text as it was before it was escaped.
fn plain(escaped: &[u8]) -> Option<Cow<'_, str>> {
    let mut rest = std::str::from_utf8(escaped).ok()?;
    if !rest.contains('&') {
        return Some(Cow::Borrowed(rest));
    }
    let mut text = String::with_capacity(rest.len());
    while let Some((before, after)) = rest.split_once('&') {
        let (entity, behind) = after.split_once(';')?;
        text.push_str(before);
        text.push(match entity {
            "lt" => '<',
            "gt" => '>',
            "amp" => '&',
            "quot" => '"',
            "apos" => '\'',
            _ => return None,
        });
        rest = behind;
    }
    text.push_str(rest);
    Some(Cow::Owned(text))
}

/// A written stanza, or another element, without its address; and with its `id` or not.
pub(crate) fn without_address(stanza: &[u8], id: Attribute) -> Vec<u8> {
    let mut out = Vec::new();
    Splice { to: Attribute::Remove, id, ..Splice::default() }.write(stanza, &mut out);
    out
}

/// What a stanza of type `error` says (RFC 6120 §8.3.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StanzaError<'a> {
    /// The defined condition; `undefined-condition` if it has none.
    pub(crate) condition: Cow<'a, str>,
    /// Its type is `wait`.
    pub(crate) wait: bool,
}

impl<'a> StanzaError<'a> {
    /// The error in a stanza of type `error`, if there is one in it.
    pub(crate) fn read(stanza: &Element<'a>) -> Option<StanzaError<'a>> {
        let error = stanza.child(b"error", CLIENT)?;
        let mut conditions = error.children().filter(|c| c.xmlns() == ERRORS && c.name() != b"text");
        let condition = conditions.next().map_or(&b"undefined-condition"[..], |c| c.name());
        Some(StanzaError {
            condition: String::from_utf8_lossy(condition),
            wait: error.attribute(b"type").as_deref() == Some("wait"),
        })
    }
}

/// The bare JID and the resource of a JID that is prepared.
pub(crate) fn split(jid: &str) -> (&str, Option<&str>) {
    jid.split_once('/').map_or((jid, None), |(bare, resource)| (bare, Some(resource)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_which_namespace_an_element_is_in() {
        let bytes = b"<message><body/><x xmlns='urn:x'><item/><body xmlns='jabber:client'/></x><body xmlns='urn:other'/></message>";
        let stanza = Element::stanza(bytes).unwrap();
        let names: Vec<_> = stanza.children().map(|c| (c.name(), c.xmlns())).collect();
        let own = (&b"body"[..], CLIENT);
        assert_eq!(names, [own, (b"x", b"urn:x"), (b"body", b"urn:other")]);
        let inner: Vec<_> = stanza.child(b"x", b"urn:x").unwrap().children().map(|c| c.xmlns()).collect();
        assert_eq!(inner, [&b"urn:x"[..], CLIENT]);
        // Whatever the stanza's namespace is called on its stream.
        for bytes in [
            &b"<message xmlns='jabber:server'><body xmlns='jabber:server'/></message>"[..],
            b"<message xmlns='jabber:server'><body/></message>",
            b"<message xmlns='jabber:server'><body xmlns='jabber:client'/></message>",
            b"<message><body xmlns='jabber:client'/></message>",
        ] {
            assert!(Element::stanza(bytes).unwrap().child(b"body", CLIENT).is_some());
        }
        let none = Element::stanza(b"<message><body xmlns=''/></message>").unwrap();
        assert!(none.child(b"body", CLIENT).is_none());
    }

    #[test]
    fn gives_text_as_it_was() {
        let stanza = Element::stanza(b"<a b='&lt;&apos;&amp;lt;'>x &gt; y</a>").unwrap();
        assert_eq!(stanza.attribute(b"b").as_deref(), Some("<'&lt;"));
        assert_eq!(stanza.text().as_deref(), Some("x > y"));
        for odd in [&b"&"[..], b"&lt", b"&nbsp;", b"\xff", b"&;"] {
            assert_eq!(plain(odd), None);
        }
        assert_eq!(Element::stanza(b"<a>x<b/></a>").unwrap().text(), None);
    }

    #[test]
    fn leaves_attributes_out() {
        let without_address = |bytes| String::from_utf8(without_address(bytes, Attribute::Remove)).unwrap();
        assert_eq!(
            without_address(b"<a to='x' from='it&apos;s' id='1'><b to='c'/></a>"),
            "<a from='it&apos;s'><b to='c'/></a>"
        );
        assert_eq!(without_address(b"<a to='x'/>"), "<a/>");
        assert_eq!(without_address(b"<a/>"), "<a/>");
        assert_eq!(without_address(b""), "");
        let whole = b"<a to='x' from='y'><b/>text</a>";
        for cut in 0..whole.len() {
            super::without_address(&whole[..cut], Attribute::Keep);
        }
    }

    #[test]
    fn reads_the_condition_of_an_error() {
        let read = |inside: &str| {
            let bytes = format!("<iq type='error'>{inside}</iq>");
            let error = StanzaError::read(&Element::stanza(bytes.as_bytes()).unwrap())?;
            Some((error.condition.into_owned(), error.wait))
        };
        let ns = "xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'";
        assert_eq!(
            read(&format!("<q/><error type='wait'><text {ns}>x</text><own xmlns='y'/><gone {ns}/></error>")),
            Some(("gone".into(), true))
        );
        assert_eq!(read("<error type='cancel'><gone/></error>"), Some(("undefined-condition".into(), false)));
        assert_eq!(read("<error xmlns='urn:other' type='cancel'/>"), None);
        assert_eq!(read(""), None);
    }
}
