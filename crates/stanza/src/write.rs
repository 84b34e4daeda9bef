//! Writing: byte for byte what Prosody's `tostring(stanza)` gives.
//!
//! That means single quotes around attributes, all five predefined entities escaped everywhere, `/>` for an element
//! without children, and a prefix `ns1`, `ns2`, ... of its own for each attribute that has a namespace.

// Places in the text come from the loops over it.
#![allow(clippy::indexing_slicing)]

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

/// Writes one attribute of the open start tag, whose value is escaped already.
#[inline]
pub fn escaped_attribute(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    out.push(b' ');
    out.extend_from_slice(key);
    out.extend_from_slice(b"='");
    out.extend_from_slice(value);
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

const CHUNK: usize = 16;

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
    let (chunks, rest) = text.as_chunks::<CHUNK>();
    let mut copied = 0;
    for (n, chunk) in chunks.iter().enumerate() {
        if is_special(chunk) {
            escape_some(out, text, &mut copied, n * CHUNK..(n + 1) * CHUNK);
        }
    }
    // What is left is looked at as a whole chunk, too: the last one of the text, or one that is filled up.
    let special = match text.last_chunk::<CHUNK>() {
        _ if rest.is_empty() => false,
        Some(last) => is_special(last),
        None => {
            let mut filled = [0; CHUNK];
            filled[..rest.len()].copy_from_slice(rest);
            is_special(&filled)
        }
    };
    if special {
        escape_some(out, text, &mut copied, text.len() - rest.len()..text.len());
    }
    out.extend_from_slice(&text[copied..]);
}

/// Whether there is anything to escape. `'` and `&`, and `<` and `>`, differ by one bit each.
#[inline]
fn is_special(chunk: &[u8; CHUNK]) -> bool {
    chunk.iter().fold(0, |found, &b| found | u8::from((b | 1 == b'\'') | (b | 2 == b'>') | (b == b'"'))) != 0
}

/// Appends what has not been copied up to the end of the last special byte in `range`.
#[cold]
fn escape_some(out: &mut Vec<u8>, text: &[u8], copied: &mut usize, range: std::ops::Range<usize>) {
    for at in range {
        if let Some(entity) = entity(text[at]) {
            out.extend_from_slice(&text[*copied..at]);
            out.extend_from_slice(entity);
            *copied = at + 1;
        }
    }
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
