//! Stanzas as bytes: what is written is read back, a copy has what was added and nothing else, and no bytes whatever
//! are too odd to be looked at.

use crate::read;
use arbitrary::Arbitrary;
use enjamb_stanza::read::children;
use enjamb_stanza::{Delay, Resent, write};

#[derive(Arbitrary, Debug)]
enum Input<'a> {
    Bytes(&'a [u8]),
    Written(Element<'a>),
}

#[derive(Arbitrary, Debug)]
struct Element<'a> {
    name: u8,
    attributes: Vec<(u8, &'a [u8])>,
    children: Vec<Child<'a>>,
}

#[derive(Arbitrary, Debug)]
enum Child<'a> {
    Text(&'a [u8]),
    Element(Element<'a>),
}

const NAMES: [&[u8]; 4] = [b"message", b"x", b"delay", b"a:b-c"];
const KEYS: [&[u8]; 4] = [b"xmlns", b"id", b"xml:lang", b"b"];

fn pick<T: std::marker::Copy>(all: &[T], n: u8) -> T {
    all[usize::from(n) % all.len()]
}

impl Element<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        write::open(out, pick(&NAMES, self.name));
        let name = out.len() - pick(&NAMES, self.name).len()..out.len();
        for (key, value) in &self.attributes {
            write::attribute(out, pick(&KEYS, *key), value);
        }
        if self.children.is_empty() {
            return write::end_empty(out);
        }
        write::end_open(out);
        for child in &self.children {
            match child {
                Child::Text(text) => write::escape(out, text),
                Child::Element(element) => element.write(out),
            }
        }
        write::close(out, name);
    }

    fn written(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut out);
        out
    }
}

fn escaped(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    write::escape(&mut out, text);
    out
}

/// Each child's name, attributes and content, as one.
fn found(stanza: &[u8]) -> Vec<Vec<u8>> {
    children(stanza).map(|c| [c.name, b"|", c.attributes, b"|", c.inside].concat()).collect()
}

fn check(element: &Element) {
    let bytes = element.written();
    let below: Vec<&Element> = element
        .children
        .iter()
        .filter_map(|child| match child {
            Child::Element(element) => Some(element),
            Child::Text(_) => None,
        })
        .collect();
    let read: Vec<_> = children(&bytes).collect();
    assert_eq!(read.len(), below.len());
    for (read, written) in read.iter().zip(&below) {
        assert_eq!(read.name, pick(&NAMES, written.name));
        for key in KEYS {
            let first = written.attributes.iter().find(|(k, _)| pick(&KEYS, *k) == key);
            assert_eq!(read.attribute(key), first.map(|(_, value)| escaped(value)).as_deref());
        }
        let whole = written.written();
        assert!(whole.windows(read.inside.len().max(1)).any(|w| w == read.inside) || read.inside.is_empty());
    }
    let delay = Delay { from: "it's@here", stamp: "2026-01-02T03:04:05Z" };
    for xmlns in [None, Some("urn:'x")] {
        for delay in [None, Some(delay)] {
            let mut copy = Vec::new();
            Resent { xmlns, delay }.write(&bytes, &mut copy);
            let mut expected = found(&bytes);
            if delay.is_some() {
                expected.push(
                    b"delay| xmlns='urn:xmpp:delay' from='it&apos;s@here' stamp='2026-01-02T03:04:05Z'|"
                        .to_vec(),
                );
            }
            assert_eq!(found(&copy), expected);
            let declared = [&b"<"[..], pick(&NAMES, element.name), b" xmlns='urn:&apos;x'"].concat();
            assert!(xmlns.is_none() || copy.starts_with(&declared));
            assert!(xmlns.is_some() || delay.is_some() || copy == bytes);
        }
    }
}

/// See the module.
pub fn run(data: &[u8]) {
    match read(data) {
        Some(Input::Bytes(bytes)) => {
            for child in children(bytes) {
                let _ = (child.xmlns(), child.attribute(b"id"), children(child.inside).count());
            }
            let delay = Some(Delay { from: "a", stamp: "b" });
            for copy in [Resent { xmlns: Some("x"), delay }, Resent { xmlns: None, delay }] {
                copy.write(bytes, &mut Vec::new());
            }
        }
        Some(Input::Written(element)) => check(&element),
        None => {}
    }
}
