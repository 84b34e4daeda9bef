//! One record: its bytes, and how they are read again.
//!
//! It knows neither files nor sessions. All integers are little-endian:
//!
//! ```text
//! 4 checksum | 4 payload length | 1 version | 1 kind | 2 zero | 8 session | 8 arg | payload
//! ```
//!
//! The checksum is CRC-32/IEEE over the rest of the record, seeded with the segment's number: what an earlier segment
//! left in a block that the file system handed out again is no record.
//!
//! | kind     | arg                  | payload           | lives until                               |
//! |----------|----------------------|-------------------|-------------------------------------------|
//! | 1 Meta   | 0                    | the caller's      | the session's next Meta, or its End       |
//! | 2 Stanza | its number           | the caller's      | a State with `arg` >= it, or End          |
//! | 3 State  | last one acked       | u64 inbound count | the session's next State, or End          |
//! | 4 End    | `first << 32 | last` | none              | no segment `first..=last` is left         |
//! | 5 Begin  | `before << 32 | end` | 16 boot           | its segment                               |
//! | 6 Slot   | which one            | the caller's      | the session's next Slot with `arg`, or End |
//!
//! A Slot has version 2: a release that does not know it leaves the journal as it is.

#![warn(clippy::indexing_slicing, clippy::string_slice)]

/// The longest payload, in bytes. A length field that says more is damage.
pub const MAX_PAYLOAD: usize = 16 << 20;

pub(crate) const HEADER: usize = 28;
/// How long a [`Kind::Begin`] is.
pub(crate) const BEGIN: usize = HEADER + 16;
/// No stanza gets a number as large as this. One that says so is damage, and reckoning with it would go wrong.
const NUMBERS: u64 = 1 << 62;
/// Slots are numbered below this. There is a place in memory for each up to the highest.
pub(crate) const SLOTS: u64 = 1 << 16;
const VERSION: u8 = 1;
/// Of a record of the kind that came later.
const SLOT_VERSION: u8 = 2;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Meta = 1,
    Stanza = 2,
    State = 3,
    End = 4,
    /// The first record of a segment: see [`Begin`](crate::segment::Begin).
    Begin = 5,
    Slot = 6,
}

impl Kind {
    fn version(self) -> u8 {
        if self == Kind::Slot { SLOT_VERSION } else { VERSION }
    }
}

/// Where a record lies. These 12 bytes are all that a queued stanza costs in memory.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(crate) struct Loc {
    pub segment: u32,
    pub offset: u32,
    /// Of the whole record. 0: there is none (a lost stanza, a session without Meta).
    pub len: u32,
}

impl Loc {
    pub fn is_none(&self) -> bool {
        self.len == 0
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Record<'a> {
    pub kind: Kind,
    pub session: u64,
    pub arg: u64,
    pub payload: &'a [u8],
}

pub(crate) enum Parsed<'a> {
    Record(Record<'a>),
    /// Good so far, but the bytes end too early.
    Short,
    Damaged,
    /// A whole record of a version that this code does not know.
    Foreign(u8),
}

/// Zero if the bytes end before; callers have looked at the length.
pub(crate) fn u32_at(b: &[u8], at: usize) -> u32 {
    b.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |b| u32::from_le_bytes(*b))
}

/// Zero if the bytes end before; callers have looked at the length.
pub(crate) fn u128_at(b: &[u8], at: usize) -> u128 {
    b.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |b| u128::from_le_bytes(*b))
}

/// Zero if the bytes end before; callers have looked at the length.
pub(crate) fn u64_at(b: &[u8], at: usize) -> u64 {
    b.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |b| u64::from_le_bytes(*b))
}

pub(crate) fn checksum(seed: u32, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(seed);
    hasher.update(bytes);
    hasher.finalize()
}

/// Appends the bytes of a record whose payload is the concatenation of these, together at most [`MAX_PAYLOAD`] long.
pub(crate) fn encode(out: &mut Vec<u8>, segment: u32, kind: Kind, session: u64, arg: u64, payload: &[&[u8]]) {
    let len: usize = payload.iter().map(|piece| piece.len()).sum();
    let mut header = [0; HEADER];
    header[4..8].copy_from_slice(&(len as u32).to_le_bytes());
    header[8] = kind.version();
    header[9] = kind as u8;
    header[12..20].copy_from_slice(&session.to_le_bytes());
    header[20..28].copy_from_slice(&arg.to_le_bytes());
    let start = out.len();
    out.reserve(HEADER + len);
    out.extend_from_slice(&header);
    for piece in payload {
        out.extend_from_slice(piece);
    }
    // Over all of it at once: short pieces take the checksum's slow path.
    let (_, record) = out.split_at_mut(start);
    if let Some((sum, rest)) = record.split_first_chunk_mut() {
        *sum = checksum(segment, rest).to_le_bytes();
    }
}

/// The header's fields as they stand there, whatever the checksum says.
#[derive(Clone, Copy)]
pub(crate) struct Header {
    /// Of the whole record.
    pub len: usize,
    version: u8,
    kind: u8,
    pub session: u64,
    pub arg: u64,
}

impl Header {
    /// `None` if the header is cut, or cannot be one.
    pub fn read(b: &[u8]) -> Option<Header> {
        let h: &[u8; HEADER] = b.first_chunk()?;
        let payload = u32_at(h, 4) as usize;
        let plausible = payload <= MAX_PAYLOAD && h[10] == 0 && h[11] == 0;
        plausible.then(|| Header {
            len: HEADER + payload,
            version: h[8],
            kind: h[9],
            session: u64_at(h, 12),
            arg: u64_at(h, 20),
        })
    }

    /// The kind, if it is one and fits the length and the number.
    pub fn kind(&self) -> Option<Kind> {
        match self.kind {
            1 => Some(Kind::Meta),
            2 if self.arg < NUMBERS => Some(Kind::Stanza),
            3 if self.arg < NUMBERS && self.len == HEADER + 8 => Some(Kind::State),
            4 => Some(Kind::End),
            5 if self.len == BEGIN => Some(Kind::Begin),
            6 if self.arg < SLOTS => Some(Kind::Slot),
            _ => None,
        }
    }

    /// Whether it is worth a checksum to look for a record at a place where none need begin.
    pub fn is_likely(&self) -> bool {
        self.kind().is_some_and(|kind| kind.version() == self.version)
    }
}

/// Reads the record at the start of `b`, which lies in that segment.
pub(crate) fn parse(segment: u32, b: &[u8]) -> Parsed<'_> {
    if b.len() < HEADER {
        return Parsed::Short;
    }
    let Some(header) = Header::read(b) else { return Parsed::Damaged };
    let Some(b) = b.get(..header.len) else { return Parsed::Short };
    match b.split_first_chunk() {
        Some((sum, rest)) if checksum(segment, rest).to_le_bytes() == *sum => {}
        _ => return Parsed::Damaged,
    }
    if header.version != VERSION && header.version != SLOT_VERSION {
        return Parsed::Foreign(header.version);
    }
    match (header.kind(), b.get(HEADER..)) {
        (Some(kind), Some(payload)) if kind.version() == header.version => {
            Parsed::Record(Record { kind, session: header.session, arg: header.arg, payload })
        }
        _ => Parsed::Damaged,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_no_stanza_gets_to_is_damage() {
        for kind in [Kind::Stanza, Kind::State] {
            for (number, whole) in [(NUMBERS - 1, true), (NUMBERS, false), (u64::MAX, false)] {
                let mut bytes = Vec::new();
                encode(&mut bytes, 7, kind, 1, number, &[&[0; 8]]);
                assert_eq!(matches!(parse(7, &bytes), Parsed::Record(_)), whole, "{kind:?} {number}");
            }
        }
    }

    #[test]
    fn a_record_reads_back_in_its_segment_only() {
        let mut bytes = Vec::new();
        encode(&mut bytes, 7, Kind::Stanza, 1, 2, &[b"a", b"bc"]);
        let Parsed::Record(r) = parse(7, &bytes) else { panic!("not whole") };
        assert_eq!((r.kind, r.session, r.arg, r.payload), (Kind::Stanza, 1, 2, &b"abc"[..]));
        assert!(matches!(parse(8, &bytes), Parsed::Damaged));
        for cut in 0..bytes.len() {
            assert!(matches!(parse(7, &bytes[..cut]), Parsed::Short), "{cut}");
        }
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(parse(7, &flipped), Parsed::Damaged | Parsed::Short), "{bit}");
        }
    }
}
