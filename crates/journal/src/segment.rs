//! Segments: files of records, and how much in each is still needed.
//!
//! A journal's directory holds `lock` and segments `%08x.seg`, numbers rising. A segment is a header and then records
//! back to back:
//!
//! ```text
//! 8 magic "EnjJrnl\x01" (its last byte is the version) | 4 segment number | 4 checksum of those 12
//! ```
//!
//! The first record says where the segment before it ends, and in which life of the machine this one was begun, so that a part
//! of the journal that did not survive the machine's death is missed: see [`Begin`]. What the first releases wrote has none.
//!
//! It knows nothing of what records mean. A record is live or dead; the table here counts the bytes of the live ones.

#![warn(clippy::indexing_slicing, clippy::string_slice)]

use crate::error::Error;
use crate::record::{self, Kind, Loc, Parsed, Record, checksum, parse, u32_at, u128_at};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(crate) const HEADER: usize = 16;
/// What a segment begins with: its header and its first record.
pub(crate) const PREAMBLE: usize = HEADER + record::BEGIN;
const MAGIC: [u8; 8] = *b"EnjJrnl\x01";

/// No record ends beyond this: offsets have 32 bits.
pub(crate) const LARGEST: u64 = u32::MAX as u64;

/// Where the segment of that number is, in a journal's directory.
pub fn path(dir: &Path, id: u32) -> PathBuf {
    dir.join(name(id))
}

fn name(id: u32) -> String {
    format!("{id:08x}.seg")
}

/// The number of the segment that has this name; any other file is none of ours.
pub fn id(file_name: &str) -> Option<u32> {
    let id = u32::from_str_radix(file_name.strip_suffix(".seg")?, 16).ok()?;
    (name(id) == file_name).then_some(id)
}

pub(crate) fn header(id: u32) -> [u8; HEADER] {
    let mut h = [0; HEADER];
    h[..8].copy_from_slice(&MAGIC);
    h[8..12].copy_from_slice(&id.to_le_bytes());
    let sum = checksum(0, &h[..12]);
    h[12..].copy_from_slice(&sum.to_le_bytes());
    h
}

/// How a segment goes on where the one before it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Begin {
    /// The segment that was written before this one; 0 if there was none.
    pub before: u32,
    /// Its length.
    pub end: u32,
    /// In which life of the machine this one was begun ([`Files::boot`](crate::files::Files::boot)); 0 if that is not known.
    pub boot: u128,
}

impl Begin {
    /// What stands at the beginning of that segment.
    pub fn write(&self, out: &mut Vec<u8>, id: u32) {
        out.extend_from_slice(&header(id));
        let arg = u64::from(self.before) << 32 | u64::from(self.end);
        record::encode(out, id, Kind::Begin, 0, arg, &[&self.boot.to_le_bytes()]);
    }

    /// What the first bytes of that segment say, if all is well with them.
    pub fn read(id: u32, bytes: &[u8]) -> Option<Begin> {
        let (header, rest) = bytes.split_first_chunk()?;
        match (check_header(id, header), parse(id, rest)) {
            (Head::Whole, Parsed::Record(Record { kind: Kind::Begin, arg, payload, .. })) => {
                Some(Begin { before: (arg >> 32) as u32, end: arg as u32, boot: u128_at(payload, 0) })
            }
            _ => None,
        }
    }
}

/// What the first bytes of a segment say.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Head {
    Whole,
    Damaged,
    UnknownVersion(u8),
}

pub(crate) fn check_header(id: u32, h: &[u8; HEADER]) -> Head {
    if *h == header(id) {
        Head::Whole
    } else if h[..7] == MAGIC[..7] && h[7] != MAGIC[7] && checksum(0, &h[..12]) == u32_at(h, 12) {
        Head::UnknownVersion(h[7])
    } else {
        Head::Damaged
    }
}

/// Whether it begins with what neither a write that was cut leaves there nor a disk that did not get it, which has zeros in its place.
pub(crate) fn is_overwritten(id: u32, bytes: &[u8]) -> bool {
    let ours = header(id);
    bytes.len() >= HEADER && bytes.iter().zip(ours).any(|(byte, ours)| *byte != ours && *byte != 0)
}

/// The End of a session. Unlike other records it must outlive what it kills: everything of the session lies in the
/// segments `first..=last`, and while one of them is on disk the End must be, too.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tomb {
    pub session: u64,
    pub first: u32,
    pub last: u32,
}

/// A moment in the owner's time, see [`Journal::tick`](crate::Journal::tick).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Due(pub Duration);

impl Due {
    pub const NEVER: Due = Due(Duration::MAX);
    /// As soon as there is a time at all.
    pub const AT_ONCE: Due = Due(Duration::ZERO);
}

impl Default for Due {
    fn default() -> Due {
        Due::NEVER
    }
}

#[derive(Debug, Default)]
pub(crate) struct Segment {
    pub len: u64,
    pub live: u64,
    /// Bytes at its beginning that say what it is. They are not counted as live.
    pub own: u64,
    /// The Ends in it. They are not counted as live, either.
    pub tombs: Vec<Tomb>,
    /// When it has to be collected, whatever its size, since it holds text that is of no more use.
    pub due: Due,
    /// It could not be read while collecting garbage: leave it alone until the journal is opened again.
    pub unreadable: bool,
}

/// All segments that are in use, the one that is written included.
pub(crate) struct Table {
    dir: PathBuf,
    by_id: BTreeMap<u32, Segment>,
    len: u64,
    live: u64,
    /// When a segment is due if the first text in it dies now.
    pub due: Due,
    /// No segment is due before.
    pub next_due: Due,
}

impl Table {
    pub fn new(dir: &Path) -> Table {
        let (due, next_due) = (Due::NEVER, Due::AT_ONCE);
        Table { dir: dir.to_owned(), by_id: BTreeMap::new(), len: 0, live: 0, due, next_due }
    }

    pub fn insert(&mut self, id: u32, segment: Segment) {
        self.len += segment.len;
        self.live += segment.live;
        self.by_id.insert(id, segment);
    }

    pub fn remove(&mut self, id: u32) -> Option<Segment> {
        let segment = self.by_id.remove(&id)?;
        self.len = self.len.saturating_sub(segment.len);
        self.live = self.live.saturating_sub(segment.live);
        Some(segment)
    }

    pub fn get(&self, id: u32) -> Option<&Segment> {
        self.by_id.get(&id)
    }

    pub fn get_mut(&mut self, id: u32) -> Result<&mut Segment, Error> {
        let dir = &self.dir;
        self.by_id
            .get_mut(&id)
            .ok_or_else(|| Error::corrupt(&path(dir, id), "the index names it, but it is gone"))
    }

    pub fn iter(&self) -> impl Iterator<Item = (u32, &Segment)> {
        self.by_id.iter().map(|(id, s)| (*id, s))
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut Segment)> {
        self.by_id.iter_mut().map(|(id, s)| (*id, s))
    }

    pub fn count(&self) -> usize {
        self.by_id.len()
    }

    pub fn len(&self) -> u64 {
        self.len
    }

    pub fn live(&self) -> u64 {
        self.live
    }

    pub fn dead(&self) -> u64 {
        self.len.saturating_sub(self.live)
    }

    /// Whether a segment of `first..=last` other than `but` is there.
    pub fn any_within(&self, first: u32, last: u32, but: u32) -> bool {
        first <= last && self.by_id.range(first..=last).any(|(id, _)| *id != but)
    }

    /// Counts a record that was appended, or found, as live. `grow`: it made the segment longer.
    pub fn enliven(&mut self, loc: Loc, grow: bool) -> Result<(), Error> {
        let len = u64::from(loc.len);
        let segment = self.get_mut(loc.segment)?;
        segment.live += len;
        if grow {
            segment.len += len;
            self.len += len;
        }
        self.live += len;
        Ok(())
    }

    /// Counts a record as dead that holds nothing but numbers, or has been copied.
    pub fn bury(&mut self, loc: Loc) -> Result<(), Error> {
        match loc.is_none() {
            true => Ok(()),
            false => self.settle(loc.segment, u64::from(loc.len), Due::NEVER),
        }
    }

    /// Counts records as dead, some of which hold text that is to leave the disk. Those of a queue mostly lie side by side, so their bytes are summed up before the
    /// table is touched.
    pub fn bury_texts(&mut self, locs: impl IntoIterator<Item = Loc>) -> Result<(), Error> {
        let (mut id, mut bytes) = (0, 0);
        let mut result = Ok(());
        // Not with `for`, which asks a VecDeque at every step which of its halves is meant.
        locs.into_iter().for_each(|loc| {
            if loc.segment != id {
                result = std::mem::replace(&mut result, Ok(())).and(self.settle(id, bytes, self.due));
                (id, bytes) = (loc.segment, 0);
            }
            bytes += u64::from(loc.len);
        });
        result.and(self.settle(id, bytes, self.due))
    }

    fn settle(&mut self, id: u32, bytes: u64, due: Due) -> Result<(), Error> {
        if bytes == 0 {
            return Ok(());
        }
        let segment = self.get_mut(id)?;
        segment.live = segment.live.saturating_sub(bytes);
        segment.due = segment.due.min(due);
        self.next_due = self.next_due.min(due);
        self.live = self.live.saturating_sub(bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_names_are_segments() {
        assert_eq!(id("0000001f.seg"), Some(31));
        for other in
            ["0000001F.seg", "+000001f.seg", "1f.seg", "0000001f", "0000001f.seg.bak", "lock", ".seg"]
        {
            assert_eq!(id(other), None, "{other}");
        }
    }

    #[test]
    fn a_header_is_of_one_segment_and_version() {
        assert_eq!(check_header(3, &header(3)), Head::Whole);
        assert_eq!(check_header(4, &header(3)), Head::Damaged);
        for bit in 0..HEADER * 8 {
            let mut h = header(3);
            h[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(check_header(3, &h), Head::Damaged, "{bit}");
        }
        let mut later = header(3);
        later[7] = 2;
        let sum = checksum(0, &later[..12]);
        later[12..].copy_from_slice(&sum.to_le_bytes());
        assert_eq!(check_header(3, &later), Head::UnknownVersion(2));
    }
}
