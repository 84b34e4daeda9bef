//! Writing: byte for byte what Prosody's `tostring(stanza)` gives.
//!
//! That means single quotes around attributes, all five predefined entities escaped everywhere, `/>` for an element
//! without children, and a prefix `ns1`, `ns2`, ... of its own for each attribute that has a namespace.

/// Opens a start tag: `<name`.
#[inline]
pub fn open(out: &mut Vec<u8>, name: &[u8]) {
    out.push(b'<');
    out.extend_from_slice(name);
}

/// Writes one attribute of the open start tag.
#[inline]
pub fn attribute(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    out.push(b' ');
    out.extend_from_slice(key);
    out.extend_from_slice(b"='");
    escape(out, value);
    out.push(b'\'');
}

/// Writes an attribute that is in a namespace, with the declaration of its prefix. `n` counts such attributes of
/// this element from 1.
pub fn attribute_in_namespace(out: &mut Vec<u8>, n: u32, namespace: &[u8], key: &[u8], value: &[u8]) {
    let prefix = format!("ns{n}");
    out.extend_from_slice(b" xmlns:");
    out.extend_from_slice(prefix.as_bytes());
    out.extend_from_slice(b"='");
    escape(out, namespace);
    out.extend_from_slice(b"' ");
    out.extend_from_slice(prefix.as_bytes());
    out.push(b':');
    out.extend_from_slice(key);
    out.extend_from_slice(b"='");
    escape(out, value);
    out.push(b'\'');
}

/// Ends the start tag of an element that has no children.
#[inline]
pub fn end_empty(out: &mut Vec<u8>) {
    out.extend_from_slice(b"/>");
}

/// Ends the start tag of an element whose children follow.
#[inline]
pub fn end_open(out: &mut Vec<u8>) {
    out.push(b'>');
}

/// Writes the end tag of the element whose name stands at `name` in `out`.
#[inline]
pub fn close(out: &mut Vec<u8>, name: std::ops::Range<usize>) {
    out.extend_from_slice(b"</");
    out.extend_from_within(name);
    out.push(b'>');
}

const CHUNK: usize = 32;

#[inline]
fn entity(byte: u8) -> Option<&'static [u8]> {
    match byte {
        b'\'' => Some(b"&apos;"),
        b'"' => Some(b"&quot;"),
        b'<' => Some(b"&lt;"),
        b'>' => Some(b"&gt;"),
        b'&' => Some(b"&amp;"),
        _ => None,
    }
}

/// Appends `text` with `' " < > &` replaced by their entities.
///
/// Nearly all text has none of them, so it is looked through a chunk at a time with a test that the compiler turns
/// into vector instructions, and copied in runs.
#[inline]
pub fn escape(out: &mut Vec<u8>, text: &[u8]) {
    let mut copied = 0;
    let mut at = 0;
    for chunk in text.chunks(CHUNK) {
        let special =
            chunk.iter().fold(false, |found, b| found | matches!(b, b'\'' | b'"' | b'<' | b'>' | b'&'));
        if special {
            for (i, &byte) in chunk.iter().enumerate() {
                if let Some(entity) = entity(byte) {
                    out.extend_from_slice(&text[copied..at + i]);
                    out.extend_from_slice(entity);
                    copied = at + i + 1;
                }
            }
        }
        at += chunk.len();
    }
    out.extend_from_slice(&text[copied..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn naive(text: &[u8]) -> Vec<u8> {
        text.iter().flat_map(|&b| entity(b).map_or_else(|| vec![b], |e| e.to_vec())).collect()
    }

    proptest! {
        #[test]
        fn escapes_like_the_naive_way(text in proptest::collection::vec(
            prop_oneof![4 => any::<u8>(), 1 => Just(b'<'), 1 => Just(b'&'), 1 => Just(b'\'')], 0..200)
        ) {
            let mut out = b"kept".to_vec();
            escape(&mut out, &text);
            let mut expected = b"kept".to_vec();
            expected.extend(naive(&text));
            prop_assert_eq!(out, expected);
        }
    }

    #[test]
    fn writes_an_element() {
        let mut out = Vec::new();
        open(&mut out, b"a");
        let name = 1..out.len();
        attribute(&mut out, b"b", b"it's");
        attribute_in_namespace(&mut out, 1, b"urn:x", b"lang", b"<");
        end_open(&mut out);
        escape(&mut out, b"x & y");
        close(&mut out, name);
        assert_eq!(out, b"<a b='it&apos;s' xmlns:ns1='urn:x' ns1:lang='&lt;'>x &amp; y</a>");
    }
}
