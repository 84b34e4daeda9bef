//! Reading what a session's records hold, while the journal is open.
//!
//! What waits in the buffer is read from there, so a queue can be replayed even if nothing can be written. Every record
//! is checked again each time it is read: memory vouches for where it lies, never for what the disk gives back.

#![warn(clippy::indexing_slicing, clippy::string_slice)]

use crate::error::Error;
use crate::files::OpenFile;
use crate::journal::Journal;
use crate::record::{self, Loc, Parsed, parse};
use crate::segment;
use std::sync::Arc;

/// Reads run ahead of a replay by at most this much at once, over holes of at most that much.
const READ_AHEAD: u64 = 128 << 10;
const READ_GAP: u64 = 4 << 10;
/// How many places of stanzas a replay looks up at once.
const BATCH: usize = 256;
/// What a read of one large record needed beyond this is given back.
const KEPT_SCRATCH: usize = 1 << 20;

/// Where a session stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// The number of the last stanza that was acknowledged; 0 for none.
    pub acked: u64,
    /// What [`Journal::set_inbound`] was told last; 0 at first.
    pub inbound: u64,
    /// How many stanzas are queued.
    pub queued: usize,
}

/// How large the journal is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Sessions that have not ended.
    pub sessions: usize,
    /// Stanzas in all their queues.
    pub queued: usize,
    /// Files in use or about to be removed.
    pub segments: usize,
    /// Bytes in segments that are in use.
    pub disk_bytes: u64,
    /// Bytes of records that are still needed.
    pub live_bytes: u64,
    /// Bytes that could not be written yet, or were not committed yet.
    pub waiting_bytes: usize,
    /// How often something was passed to the operating system since the journal was opened.
    pub commits: u64,
    /// Bytes written since then.
    pub written_bytes: u64,
    /// Bytes among them that garbage collection copied.
    pub moved_bytes: u64,
    /// Records that were damaged on disk since they were written, and are lost.
    pub lost: u64,
}

/// What reading keeps from one time to the next.
#[derive(Default)]
pub(crate) struct Reader {
    pub open: Option<(u32, Arc<dyn OpenFile>)>,
    pub scratch: Vec<u8>,
}

impl Journal {
    /// The sessions that have not ended, in no order.
    pub fn sessions(&self) -> impl Iterator<Item = u64> {
        self.index.sessions.keys().copied()
    }

    /// Where the session stands, if there is one.
    pub fn counters(&self, session: u64) -> Option<Counters> {
        let s = self.index.sessions.get(&session)?;
        Some(Counters { acked: s.acked, inbound: s.inbound, queued: s.queue.len() })
    }

    /// What was kept about the session by [`Journal::set_meta`].
    ///
    /// # Errors
    /// [`Error::NoSuchSession`], [`Error::Io`], or [`Error::Corrupt`] if it was lost to damage.
    pub fn meta(&mut self, session: u64) -> Result<Vec<u8>, Error> {
        let loc = self.index.session(session)?.meta;
        if loc.is_none() {
            return Err(Error::corrupt(
                &self.writer.dir,
                format!("what was kept about session {session} is lost"),
            ));
        }
        let mut bytes = vec![0; loc.len as usize];
        self.read_at(loc.segment, &mut bytes, u64::from(loc.offset))?;
        match parse(loc.segment, &bytes) {
            Parsed::Record(r) if r.session == session => Ok(r.payload.to_vec()),
            _ => Err(self.damaged_at(loc)),
        }
    }

    /// Hands out what the session's slots hold, in order; one that holds nothing, is lost or is damaged comes as `None`.
    ///
    /// # Errors
    /// [`Error::NoSuchSession`], or [`Error::Io`]; all that `each` was given is right.
    pub fn slots(&mut self, session: u64, mut each: impl FnMut(u64, Option<&[u8]>)) -> Result<(), Error> {
        let locs = self.index.session(session)?.slots.clone();
        let mut window = std::mem::take(&mut self.reader.scratch);
        let result = self.hand_out(session, 0, &locs, &mut window, |slot, bytes| {
            each(slot, bytes);
            true
        });
        self.give_back(window);
        result
    }

    /// Hands out the queued stanzas from number `from` on (or the first one), in order, until `each` says false. A
    /// stanza that is lost or damaged comes as `None`; its number is right.
    ///
    /// It reads synchronously, ahead of itself by at most 128 KiB: let `each` say false after a few to do other work
    /// in between, and go on from the next number.
    ///
    /// # Errors
    /// [`Error::NoSuchSession`], or [`Error::Io`]; all that `each` was given is right.
    pub fn replay(
        &mut self,
        session: u64,
        from: u64,
        mut each: impl FnMut(u64, Option<&[u8]>) -> bool,
    ) -> Result<(), Error> {
        let s = self.index.session(session)?;
        let mut first = from.max(s.acked.saturating_add(1));
        let mut window = std::mem::take(&mut self.reader.scratch);
        let mut locs = Vec::new();
        let mut go_on = true;
        let mut result = Ok(());
        while go_on && result.is_ok() {
            let Ok(s) = self.index.session(session) else { break };
            let skip = usize::try_from(first.saturating_sub(s.acked).saturating_sub(1)).unwrap_or(usize::MAX);
            let queue = &s.queue;
            locs.clear();
            locs.extend(queue.range(skip.min(queue.len())..skip.saturating_add(BATCH).min(queue.len())));
            if locs.is_empty() {
                break;
            }
            result = self.hand_out(session, first, &locs, &mut window, |number, stanza| {
                go_on = each(number, stanza);
                go_on
            });
            first = first.saturating_add(locs.len() as u64);
        }
        self.give_back(window);
        result
    }

    /// How long each queued stanza is, in order; `None` for one that is lost.
    ///
    /// # Errors
    /// [`Error::NoSuchSession`].
    pub fn lengths(&self, session: u64) -> Result<impl Iterator<Item = Option<u32>>, Error> {
        let length = |loc: &Loc| (!loc.is_none()).then(|| loc.len.saturating_sub(record::HEADER as u32));
        Ok(self.index.session(session)?.queue.iter().map(length))
    }

    fn hand_out(
        &mut self,
        session: u64,
        first: u64,
        locs: &[Loc],
        window: &mut Vec<u8>,
        mut each: impl FnMut(u64, Option<&[u8]>) -> bool,
    ) -> Result<(), Error> {
        // What the window covers.
        let (mut segment, mut start, mut end) = (0, 0, 0);
        for (i, loc) in locs.iter().enumerate() {
            let number = first.saturating_add(i as u64);
            if loc.is_none() {
                if !each(number, None) {
                    return Ok(());
                }
                continue;
            }
            let (from, to) = span(loc);
            if loc.segment != segment || from < start || to > end {
                (segment, start, end) = (loc.segment, from, to);
                for (from, to) in locs.iter().skip(i + 1).take_while(|l| l.segment == segment).map(span) {
                    if from < end || from - end > READ_GAP || to - start > READ_AHEAD {
                        break;
                    }
                    end = to;
                }
                window.resize((end - start) as usize, 0);
                self.read_at(segment, window, start)?;
            }
            let bytes = window.get((from - start) as usize..(to - start) as usize).unwrap_or_default();
            let stanza = match parse(segment, bytes) {
                Parsed::Record(r) if r.session == session && r.arg == number => Some(r.payload),
                _ => None,
            };
            if stanza.is_none() {
                let e = self.damaged_at(*loc);
                self.note(e);
            }
            if !each(number, stanza) {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Fills the buffer from a segment's file and, for the head, from what waits to be written.
    pub(crate) fn read_at(&mut self, segment: u32, buffer: &mut [u8], offset: u64) -> Result<(), Error> {
        let failed = |e| Error::io("read", &segment::path(&self.writer.dir, segment))(e);
        if segment == self.writer.head.id {
            let on_disk = self.writer.head.flushed.saturating_sub(offset).min(buffer.len() as u64) as usize;
            let (on_disk, waiting) = buffer.split_at_mut(on_disk);
            let skip = offset.saturating_sub(self.writer.head.flushed) as usize;
            match self.writer.head.buffer.get(skip..).and_then(|b| b.get(..waiting.len())) {
                Some(bytes) => waiting.copy_from_slice(bytes),
                None => return Err(Error::corrupt(&self.writer.dir, "the index points behind the end")),
            }
            return match on_disk.is_empty() {
                true => Ok(()),
                false => self.writer.head.file.read_exact_at(on_disk, offset).map_err(failed),
            };
        }
        let file = match &self.reader.open {
            Some((id, file)) if *id == segment => file,
            _ => {
                let file =
                    self.writer.files.open(&segment::path(&self.writer.dir, segment)).map_err(failed)?;
                &self.reader.open.insert((segment, file)).1
            }
        };
        file.read_exact_at(buffer, offset).map_err(failed)
    }

    pub(crate) fn damaged_at(&self, loc: Loc) -> Error {
        let what =
            format!("the record of {} bytes at {} has changed since it was written", loc.len, loc.offset);
        Error::corrupt(&segment::path(&self.writer.dir, loc.segment), what)
    }

    /// Keeps a buffer for the next read.
    pub(crate) fn give_back(&mut self, mut scratch: Vec<u8>) {
        if scratch.capacity() > KEPT_SCRATCH {
            scratch = Vec::new();
        }
        self.reader.scratch = scratch;
    }

    /// How large the journal is. Counts queues one by one: not for every stanza.
    pub fn stats(&self) -> Stats {
        Stats {
            sessions: self.index.sessions.len(),
            queued: self.index.sessions.values().map(|s| s.queue.len()).sum(),
            segments: self.index.segments.count() + self.collector.retired.len(),
            disk_bytes: self.index.segments.len(),
            live_bytes: self.index.segments.live(),
            waiting_bytes: self.writer.head.buffer.len(),
            commits: self.writer.commits,
            written_bytes: self.writer.written,
            moved_bytes: self.collector.moved,
            lost: self.collector.lost,
        }
    }
}

fn span(loc: &Loc) -> (u64, u64) {
    (u64::from(loc.offset), u64::from(loc.offset) + u64::from(loc.len))
}
