//! A copy of a stanza for another transport or another time.
//!
//! The bytes that are kept are as TCP carries them: the stanza's own namespace is the stream's and is not declared.
//! A WebSocket frame (RFC 7395 §3.3.3) must declare it, and a stanza that is sent late says since when it waited
//! (XEP-0203). Both are spliced in, nothing is parsed: the bytes come from [`crate::write`], whose shape is known.

use crate::write;
use memchr::memrchr;

/// When and by whom a stanza was held back.
#[derive(Clone, Copy, Debug)]
pub struct Delay<'a> {
    /// The bare JID, or the domain, that held it.
    pub from: &'a str,
    /// The time at which it was to be sent, as XEP-0082 writes it.
    pub stamp: &'a str,
}

/// What a copy has that the kept bytes have not.
#[derive(Clone, Copy, Debug, Default)]
pub struct Resent<'a> {
    /// The namespace to declare on the stanza itself.
    pub xmlns: Option<&'a str>,
    /// The delay to add as its last child.
    pub delay: Option<Delay<'a>>,
}

impl Resent<'_> {
    /// Appends the copy of `stanza`, which was written by [`crate::write`], to `out`.
    pub fn write(&self, stanza: &[u8], out: &mut Vec<u8>) {
        let name_end = stanza.iter().position(|b| matches!(b, b' ' | b'/' | b'>')).unwrap_or(stanza.len());
        let (open, rest) = stanza.split_at(name_end);
        out.extend_from_slice(open);
        if let Some(xmlns) = self.xmlns {
            write::attribute(out, b"xmlns", xmlns.as_bytes());
        }
        let Some(delay) = self.delay else {
            out.extend_from_slice(rest);
            return;
        };
        if let Some(start_tag) = rest.strip_suffix(b"/>") {
            out.extend_from_slice(start_tag);
            out.push(b'>');
            delay.write(out);
            out.extend_from_slice(b"</");
            out.extend_from_slice(open.strip_prefix(b"<").unwrap_or(open));
            out.push(b'>');
        } else {
            // The last `<` of a written stanza opens its end tag: everywhere else in text it is an entity.
            let (inside, end_tag) = rest.split_at(memrchr(b'<', rest).unwrap_or(rest.len()));
            out.extend_from_slice(inside);
            delay.write(out);
            out.extend_from_slice(end_tag);
        }
    }
}

impl Delay<'_> {
    /// Writes the element.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        write::open(out, b"delay");
        write::attribute(out, b"xmlns", b"urn:xmpp:delay");
        write::attribute(out, b"from", self.from.as_bytes());
        write::attribute(out, b"stamp", self.stamp.as_bytes());
        write::end_empty(out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copy(stanza: &str, copy: Resent) -> String {
        let mut out = Vec::new();
        copy.write(stanza.as_bytes(), &mut out);
        String::from_utf8(out).unwrap()
    }

    const DELAY: Delay = Delay { from: "a'b@c", stamp: "2026-01-02T03:04:05Z" };
    const STAMP: &str = "<delay xmlns='urn:xmpp:delay' from='a&apos;b@c' stamp='2026-01-02T03:04:05Z'/>";

    #[test]
    fn without_anything_it_is_the_same() {
        assert_eq!(copy("<presence/>", Resent::default()), "<presence/>");
    }

    #[test]
    fn declares_the_namespace() {
        let ws = Resent { xmlns: Some("jabber:client"), delay: None };
        assert_eq!(copy("<presence/>", ws), "<presence xmlns='jabber:client'/>");
        assert_eq!(copy("<iq id='1'><q/></iq>", ws), "<iq xmlns='jabber:client' id='1'><q/></iq>");
        assert_eq!(copy("<message><b/></message>", ws), "<message xmlns='jabber:client'><b/></message>");
    }

    #[test]
    fn stamps_a_delay() {
        let late = Resent { xmlns: None, delay: Some(DELAY) };
        assert_eq!(copy("<presence/>", late), format!("<presence>{STAMP}</presence>"));
        assert_eq!(copy("<presence from='x/y'/>", late), format!("<presence from='x/y'>{STAMP}</presence>"));
        assert_eq!(
            copy("<message><body>a &lt; b</body></message>", late),
            format!("<message><body>a &lt; b</body>{STAMP}</message>")
        );
        let both = Resent { xmlns: Some("jabber:client"), delay: Some(DELAY) };
        assert_eq!(copy("<presence/>", both), format!("<presence xmlns='jabber:client'>{STAMP}</presence>"));
    }
}
