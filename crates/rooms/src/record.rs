//! What the journal holds of a room: whose record it is, and the owner's bytes.
//!
//! The first byte tells such a record from a session's description, whose versions count from 1, and gives its own
//! version. Integers are little-endian.

#![warn(clippy::indexing_slicing, clippy::string_slice)]

/// Set in the first byte of everything of a room; below it is the version.
const OF_A_ROOM: u8 = 0x80;
const VERSION: u8 = 1;

/// Of what a record tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject<'a> {
    /// A room, by its JID: the rest is its configuration.
    Room(&'a str),
    /// An occupant of that room, by nickname.
    Occupant(&'a str, &'a str),
}

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Read<'a> {
    /// Nothing of a room.
    Other,
    /// Of a room, but of a format that this release does not read.
    Newer(u8),
    /// Of a room, but damaged.
    Damaged,
    /// The owner's bytes, and of what they tell.
    Of(Subject<'a>, &'a [u8]),
}

pub(crate) fn write(subject: Subject, payload: &[u8]) -> Vec<u8> {
    let (kind, room, nick) = match subject {
        Subject::Room(room) => (0, room, ""),
        Subject::Occupant(room, nick) => (1, room, nick),
    };
    let mut out = Vec::with_capacity(10 + room.len() + nick.len() + payload.len());
    out.extend_from_slice(&[OF_A_ROOM | VERSION, kind]);
    for name in [room, nick] {
        // A JID or nickname has at most some thousand bytes; a longer one would only be cut off from its length.
        out.extend_from_slice(&(name.len() as u32).to_le_bytes());
        out.extend_from_slice(name.as_bytes());
    }
    out.extend_from_slice(payload);
    out
}

fn name(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (len, rest) = bytes.split_first_chunk()?;
    let (name, rest) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
    Some((std::str::from_utf8(name).ok()?, rest))
}

pub(crate) fn read(record: &[u8]) -> Read<'_> {
    let Some((&first, rest)) = record.split_first().filter(|(first, _)| **first & OF_A_ROOM != 0) else {
        return Read::Other;
    };
    if first != OF_A_ROOM | VERSION {
        return Read::Newer(first & !OF_A_ROOM);
    }
    let fields = || {
        let (&kind, rest) = rest.split_first()?;
        let (room, rest) = name(rest)?;
        let (nick, payload) = name(rest)?;
        match kind {
            0 => Some(Read::Of(Subject::Room(room), payload)),
            1 => Some(Read::Of(Subject::Occupant(room, nick), payload)),
            _ => None,
        }
    };
    fields().unwrap_or(Read::Damaged)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_back_as_it_was_written() {
        for subject in [Subject::Room("r@c"), Subject::Occupant("r@c", "n/\t"), Subject::Occupant("r@c", "")]
        {
            let bytes = write(subject, b"payload");
            assert_eq!(read(&bytes), Read::Of(subject, b"payload"));
            for len in 1..bytes.len() - b"payload".len() {
                assert_eq!(read(&bytes[..len]), Read::Damaged, "{len}");
            }
        }
    }

    #[test]
    fn what_is_a_sessions_or_of_another_version_is_never_taken_for_a_rooms() {
        let bytes = write(Subject::Room("r@c"), b"payload");
        for first in 0..=u8::MAX {
            let mut other = bytes.clone();
            other[0] = first;
            let expected = match first {
                0..=0x7f => Read::Other,
                0x81 => continue,
                _ => Read::Newer(first - 0x80),
            };
            assert_eq!(read(&other), expected);
        }
        assert_eq!(read(b""), Read::Other);
    }
}
