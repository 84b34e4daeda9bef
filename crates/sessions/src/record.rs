//! What the journal holds of a stream: the bytes of a stanza's record, and those of a stream's description.
//!
//! Formats only. Both begin with a version, or have one around them, so that what another release wrote is never taken
//! for something else. Integers are little-endian.

#![warn(clippy::indexing_slicing, clippy::string_slice)]

use enjamb_stanza::{Kind, Name, Summary};
use enjamb_stream_management::H;

/// What stands before the bytes of a stanza: when it was queued, name, kind, whether it has a delay.
pub const STANZA_HEADER: usize = 11;

/// The version of a description. What is known of the session has records of its own (`attributes`).
const VERSION: u8 = 2;
/// Of those that end with what is known of the session, as one text.
const VERSION_WITH_TEXT: u8 = 1;

/// A stanza as it was queued.
#[derive(Clone, Copy, Debug)]
pub struct Stanza<'a> {
    /// Its wire bytes, as TCP carries them.
    pub bytes: &'a [u8],
    /// When it was queued, in seconds since 1970.
    pub at: u64,
    /// What is known of it without parsing.
    pub summary: Summary,
}

/// Goes out in place of a stanza that cannot be read any more: the peer counts stanzas, and whatever is behind this one
/// keeps its number. It has nothing that would be shown.
pub const LOST: Stanza<'static> = Stanza {
    bytes: b"<message/>",
    at: 0,
    summary: Summary { name: Name::Message, kind: Kind::Other, delayed: true },
};

const NAMES: [Name; 3] = [Name::Message, Name::Presence, Name::Iq];
const KINDS: [Kind; 6] =
    [Kind::Other, Kind::Error, Kind::Result, Kind::Headline, Kind::Groupchat, Kind::Subscription];

fn place<T: PartialEq>(all: &[T], one: &T) -> u8 {
    // All are in the list; the tests see to it.
    all.iter().position(|t| t == one).map_or(u8::MAX, |n| n as u8)
}

impl Stanza<'_> {
    /// The record, in two pieces: what is known of the stanza, and its bytes.
    pub fn encode(&self) -> ([u8; STANZA_HEADER], &[u8]) {
        let mut header = [0; STANZA_HEADER];
        header[..8].copy_from_slice(&self.at.to_le_bytes());
        header[8] = place(&NAMES, &self.summary.name);
        header[9] = place(&KINDS, &self.summary.kind);
        header[10] = u8::from(self.summary.delayed);
        (header, self.bytes)
    }

    /// Reads what [`Stanza::encode`] gave; anything else is no stanza.
    pub fn decode(record: &[u8]) -> Option<Stanza<'_>> {
        let (header, bytes) = record.split_first_chunk::<STANZA_HEADER>()?;
        let (at, rest) = header.split_first_chunk()?;
        let &[name, kind, delayed] = rest.first_chunk()?;
        let name = *NAMES.get(usize::from(name))?;
        let kind = *KINDS.get(usize::from(kind))?;
        Some(Stanza {
            bytes,
            at: u64::from_le_bytes(*at),
            summary: Summary { name, kind, delayed: delayed != 0 },
        })
    }
}

/// How a queue's numbers go with the journal's and with the peer's counts. A stanza's number in the queue never
/// wraps and counts from the stream's start; in the journal the session's first stanza is number 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbering {
    /// The queue's number of the first stanza that the journal was given.
    pub base: u64,
    /// When all before this number were acknowledged ...
    pub counted: u64,
    /// ... the peer said this.
    pub h: H,
    /// The first stanza that cannot have gone to the peer, because it was queued while that was away; [`LIVE`] if it
    /// is there.
    pub unsent_from: u64,
}

/// The peer is there: everything may have been sent.
pub const LIVE: u64 = u64::MAX;

impl Numbering {
    /// The journal's number of a stanza, or that of the one before `end`.
    pub fn in_journal(&self, end: u64) -> u64 {
        end.saturating_sub(self.base)
    }

    /// What the peer said when all before `first` were acknowledged.
    pub fn h_at(&self, first: u64) -> H {
        // Truncation is counting modulo 2^32.
        H(self.h.0.wrapping_add(first.wrapping_sub(self.counted) as u32))
    }
}

/// Why a description cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// The format of another release.
    #[error(
        "it was written by another version of Enjamb (format {0}, this one knows up to {VERSION}) and is left as it is"
    )]
    Version(u8),
    /// Nothing that any release wrote.
    #[error("it is damaged")]
    Damaged,
}

/// A stream's description: how its numbers go.
pub fn describe(numbering: &Numbering) -> Vec<u8> {
    let mut out = Vec::with_capacity(29);
    out.push(VERSION);
    out.extend_from_slice(&numbering.base.to_le_bytes());
    out.extend_from_slice(&numbering.counted.to_le_bytes());
    out.extend_from_slice(&numbering.h.0.to_le_bytes());
    out.extend_from_slice(&numbering.unsent_from.to_le_bytes());
    out
}

/// Reads what [`describe`] wrote, or did in an earlier release: then there is a text.
pub fn read(description: &[u8]) -> Result<(Numbering, Option<&[u8]>), Unreadable> {
    let (&version, rest) = description.split_first().ok_or(Unreadable::Damaged)?;
    if version != VERSION && version != VERSION_WITH_TEXT {
        return Err(Unreadable::Version(version));
    }
    let fields = || {
        let (base, rest) = rest.split_first_chunk()?;
        let (counted, rest) = rest.split_first_chunk()?;
        let (h, rest) = rest.split_first_chunk()?;
        let (unsent_from, text) = rest.split_first_chunk()?;
        let numbering = Numbering {
            base: u64::from_le_bytes(*base),
            counted: u64::from_le_bytes(*counted),
            h: H(u32::from_le_bytes(*h)),
            unsent_from: u64::from_le_bytes(*unsent_from),
        };
        Some((numbering, text))
    };
    match fields() {
        Some((numbering, text)) if version == VERSION_WITH_TEXT => Ok((numbering, Some(text))),
        Some((numbering, [])) => Ok((numbering, None)),
        _ => Err(Unreadable::Damaged),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stanza_reads_back_as_it_was_written() {
        for name in NAMES {
            for kind in KINDS {
                for delayed in [false, true] {
                    let summary = Summary { name, kind, delayed };
                    let stanza = Stanza { bytes: b"<iq/>", at: 1 << 40, summary };
                    let (header, bytes) = stanza.encode();
                    let record = [&header, bytes].concat();
                    let read = Stanza::decode(&record).expect("it was just written");
                    assert_eq!((read.bytes, read.at, read.summary), (&b"<iq/>"[..], 1 << 40, summary));
                }
            }
        }
    }

    #[test]
    fn what_is_no_stanza_is_none() {
        let (header, bytes) = LOST.encode();
        let record = [&header, bytes].concat();
        for len in 0..STANZA_HEADER {
            assert!(Stanza::decode(&record[..len]).is_none(), "{len}");
        }
        for at in [8, 9] {
            let mut other = record.clone();
            other[at] = 200;
            assert!(Stanza::decode(&other).is_none());
        }
    }

    #[test]
    fn a_description_of_another_version_is_refused_and_never_misread() {
        let numbering = Numbering { base: 3, counted: 5, h: H(u32::MAX), unsent_from: LIVE };
        let whole = describe(&numbering);
        assert_eq!(read(&whole), Ok((numbering, None)));
        let mut earlier = [&whole[..], b"text"].concat();
        assert_eq!(read(&earlier), Err(Unreadable::Damaged));
        earlier[0] = 1;
        assert_eq!(read(&earlier), Ok((numbering, Some(&b"text"[..]))));
        assert_eq!(numbering.h_at(7), H(1));
        assert_eq!(numbering.h_at(4), H(u32::MAX - 1));
        for len in 0..29 {
            assert_eq!(read(&whole[..len]), Err(Unreadable::Damaged), "{len}");
        }
        for version in [0, 3, 255] {
            let mut other = whole.clone();
            other[0] = version;
            assert_eq!(read(&other), Err(Unreadable::Version(version)));
        }
    }
}
