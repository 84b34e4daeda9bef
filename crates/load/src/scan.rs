//! Cuts what a server sends into top-level elements, and reads the little of them that is needed. Knows the
//! restricted XML of XMPP (RFC 6120 §11.1: no comments, no CDATA in practice, no entities beyond the five) and
//! nothing of streams, sessions or counters. It trusts the server to send well-formed XML: it is a stopwatch, not a
//! validator.

use memchr::{memchr, memchr3};

/// Finds the ends of top-level elements in a buffer that grows. Remembers how far it has looked, so that no byte is
/// looked at twice, however the elements are cut by reads.
#[derive(Debug, Default)]
pub struct Scanner {
    /// Where to look next, from the start of the element.
    position: usize,
    /// Where the tag that is being read began.
    tag: Option<usize>,
    /// The quote that ends the attribute value that is being read.
    quote: Option<u8>,
    depth: u32,
}

impl Scanner {
    /// `buffer` begins where the last element ended, or is the one of the last call with more at its end. Returns the
    /// length of the first element, once it is whole. The opening tag of a stream, its end and an XML declaration
    /// count as elements; white space between elements belongs to the one that follows.
    pub fn next(&mut self, buffer: &[u8]) -> Option<usize> {
        loop {
            let Some(tag) = self.tag else {
                let Some(at) = memchr(b'<', &buffer[self.position..]) else {
                    self.position = buffer.len();
                    return None;
                };
                self.tag = Some(self.position + at);
                self.position += at + 1;
                continue;
            };
            if let Some(quote) = self.quote {
                let Some(at) = memchr(quote, &buffer[self.position..]) else {
                    self.position = buffer.len();
                    return None;
                };
                self.position += at + 1;
                self.quote = None;
            }
            let Some(at) = memchr3(b'>', b'"', b'\'', &buffer[self.position..]) else {
                self.position = buffer.len();
                return None;
            };
            self.position += at + 1;
            let end = self.position - 1;
            if buffer[end] != b'>' {
                self.quote = Some(buffer[end]);
                continue;
            }
            self.tag = None;
            match buffer[tag + 1] {
                b'/' => self.depth = self.depth.saturating_sub(1),
                b'?' => {}
                _ if buffer[end - 1] == b'/' => {}
                _ if self.depth == 0 && buffer[tag + 1..].starts_with(b"stream:stream") => {}
                _ => self.depth += 1,
            }
            if self.depth == 0 {
                let length = self.position;
                *self = Scanner::default();
                return Some(length);
            }
        }
    }
}

/// One top-level element, as bytes.
#[derive(Clone, Copy)]
pub struct Element<'a> {
    bytes: &'a [u8],
}

impl<'a> Element<'a> {
    /// Of bytes that [`Scanner`] found to be one.
    pub fn new(bytes: &'a [u8]) -> Self {
        let start = memchr(b'<', bytes).unwrap_or(0);
        Element { bytes: &bytes[start..] }
    }

    /// With its prefix, if it has one: `message`, `stream:features`, `/stream:stream`, `?xml`.
    pub fn name(self) -> &'a [u8] {
        let rest = self.bytes.get(1..).unwrap_or_default();
        let end = rest.iter().skip(1).position(|b| matches!(b, b' ' | b'\n' | b'\t' | b'\r' | b'/' | b'>'));
        end.map_or(rest, |end| &rest[..end + 1])
    }

    /// The value of an attribute of the top tag, with its entities as they are.
    pub fn attribute(self, name: &[u8]) -> Option<&'a [u8]> {
        let mut at = 1 + self.name().len();
        loop {
            at += self.bytes[at..].iter().position(|b| !b.is_ascii_whitespace())?;
            if matches!(self.bytes[at], b'>' | b'/' | b'?') {
                return None;
            }
            let equals = at + memchr(b'=', &self.bytes[at..])?;
            let open =
                equals + 1 + self.bytes[equals + 1..].iter().position(|b| matches!(b, b'"' | b'\''))?;
            let close = open + 1 + memchr(self.bytes[open], self.bytes.get(open + 1..)?)?;
            if self.bytes[at..equals].trim_ascii_end() == name {
                return Some(&self.bytes[open + 1..close]);
            }
            at = close + 1;
        }
    }

    /// A number in an attribute, after `prefix`: 12 for `id='m12'` and the prefix `m`.
    pub fn number(self, name: &[u8], prefix: &[u8]) -> Option<u32> {
        let digits = self.attribute(name)?.strip_prefix(prefix)?;
        std::str::from_utf8(digits).ok()?.parse().ok()
    }

    /// Whether these bytes occur anywhere in it. For what is rare.
    pub fn contains(self, what: &[u8]) -> bool {
        memchr::memmem::find(self.bytes, what).is_some()
    }
}

impl std::fmt::Display for Element<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&String::from_utf8_lossy(self.bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::{Element, Scanner};

    /// Feeds `text` in pieces of `step` bytes, as reads would.
    fn cut(text: &str, step: usize) -> Vec<String> {
        let (mut scanner, mut start, mut found) = (Scanner::default(), 0, Vec::new());
        for end in (0..text.len()).step_by(step).map(|at| (at + step).min(text.len())) {
            while let Some(length) = scanner.next(&text.as_bytes()[start..end]) {
                found.push(text[start..start + length].to_owned());
                start += length;
            }
        }
        found
    }

    const STREAM: &[&str] = &[
        "<?xml version='1.0'?>",
        "<stream:stream xmlns='jabber:client' id=\"a>b\" from='b.local'>",
        "<stream:features><mechanisms xmlns='x'><mechanism>PLAIN</mechanism></mechanisms></stream:features>",
        " \n<presence/>",
        "<message id='it/' to=\"o'neil@b.local\"><body>1 > 0 'quoted\" &lt;</body><x a='/'></x></message>",
        "<r xmlns='urn:xmpp:sm:3'/>",
        "<iq type='result'><query><item/><item jid='>'/></query></iq>",
        "</stream:stream>",
    ];

    #[test]
    fn elements_are_found_however_they_are_cut() {
        let text = STREAM.concat();
        for step in 1..=text.len() {
            assert_eq!(cut(&text, step), STREAM, "in pieces of {step}");
        }
    }

    #[test]
    fn what_is_not_whole_is_not_found() {
        for whole in &STREAM[1..] {
            for end in 0..whole.len() {
                assert_eq!(Scanner::default().next(&whole.as_bytes()[..end]), None, "{}", &whole[..end]);
            }
        }
    }

    #[test]
    fn names_and_attributes() {
        let element = Element::new(STREAM[4].as_bytes());
        assert_eq!(element.name(), b"message");
        assert_eq!(element.attribute(b"id"), Some(&b"it/"[..]));
        assert_eq!(element.attribute(b"to"), Some(&b"o'neil@b.local"[..]));
        assert_eq!(element.attribute(b"a"), None, "that of a child");
        let names = STREAM.map_names();
        assert_eq!(names[..3], ["?xml", "stream:stream", "stream:features"]);
        assert_eq!(names[5..], ["r", "iq", "/stream:stream"]);
    }

    #[test]
    fn numbers_follow_their_prefix() {
        let element = Element::new(b"<message id = 'm407' h='x'/>");
        assert_eq!(element.number(b"id", b"m"), Some(407));
        assert_eq!(element.number(b"id", b"n"), None);
        assert_eq!(element.number(b"h", b""), None);
        assert_eq!(element.number(b"to", b""), None);
    }

    trait Names {
        fn map_names(&self) -> Vec<String>;
    }
    impl Names for [&str] {
        fn map_names(&self) -> Vec<String> {
            self.iter()
                .map(|e| String::from_utf8_lossy(Element::new(e.as_bytes()).name()).into_owned())
                .collect()
        }
    }
}
