//! Garbage: how the dead records' space is given back, a bounded step at each commit.
//!
//! When the dead bytes of all segments outweigh the live ones (and a floor), the segment with the largest share of dead
//! bytes is read through, its live records are appended anew, and it is removed. This bounds the disk at about twice
//! what is live, for at most one byte copied per byte appended on average.
//!
//! Segments may go in any order, since a stanza's place in its queue is its number and not its place in the journal, an
//! acknowledgement holds whatever was appended after it, and of two copies the later one counts. Only an End is bound to
//! others: see [`Tomb`]. So a queue that waits for a client for days keeps no other segment from being removed, and is
//! copied rarely.
//!
//! Text that was acknowledged must not lie about until there is that much garbage. So a segment is also collected some
//! minutes after the first text in it died, and the head is sealed for that: see [`Config::dead_age`]. Copying is dear
//! where most of a segment is live, but a live byte is copied at most once in that time, and copies and removals are
//! made by the same rules as ever.
//!
//! [`Config::dead_age`]: crate::Config::dead_age
//!
//! A segment is removed only when the copies are synced, and after all that were found useless before it.

#![warn(clippy::indexing_slicing, clippy::string_slice)]

use crate::error::Error;
use crate::files::OpenFile;
use crate::journal::Journal;
use crate::record::{self, Header, Loc, Parsed, Record, parse};
use crate::segment::{self, Due, Segment, Tomb};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// What is being given back, and what is to be.
#[derive(Default)]
pub(crate) struct Collector {
    /// Bytes that were copied.
    pub moved: u64,
    /// Records that were found damaged on the way.
    pub lost: u64,
    /// Bytes that the owner had appended (not moved ones) at the last step.
    pub paced: u64,
    pub collecting: Option<Collecting>,
    pub pace: Pace,
    /// Segments to be removed.
    pub retired: Vec<Retired>,
    /// Segments whose sync failed and whose live records have not been copied yet.
    pub suspects: BTreeSet<u32>,
}

/// A segment that is of no more use.
pub(crate) struct Retired {
    pub id: u32,
    /// Where the journal stood when that was found.
    pub position: u64,
    /// When it goes, although the head goes on.
    pub due: Due,
}

/// The segment that is being emptied.
pub(crate) struct Collecting {
    segment: u32,
    file: Arc<dyn OpenFile>,
    offset: u64,
    len: u64,
}

/// How a step ended.
enum Step {
    More,
    End,
    /// What stands at the offset is no record.
    Damage,
}

/// How often the time is looked at.
const TICK: Duration = Duration::from_secs(1);
/// In what time all segments that are due are to be collected.
const PACE: Duration = Duration::from_secs(120);
/// What is of no more use goes after this time even if the head is not full: then that is synced for it.
const RELEASE: Duration = Duration::from_secs(30);
/// Bytes a second that are looked through if any segment is due, and bytes in one step at most.
const SLOWEST: u64 = 256 << 10;
const LONGEST: u64 = 2 << 20;
const MOST_OWED: u64 = 4 * LONGEST;

/// How fast segments that are due are collected.
///
/// A busy server commits so often that the small step of each commit is enough. One that does not takes longer steps, up
/// to some milliseconds once a second.
#[derive(Default)]
pub(crate) struct Pace {
    now: Option<Duration>,
    /// Bytes a second.
    rate: u64,
    /// How much was looked through since the last tick.
    looked: u64,
    /// How much should have been by now and was not: a step ends with its segment.
    owed: u64,
    /// How much the next step may look through.
    allowed: u64,
}

impl Pace {
    /// So many bytes are due. The rate stays until all is done, or the end of it would take for ever.
    fn backlog(&mut self, bytes: u64) {
        match bytes {
            0 => (self.rate, self.owed) = (0, 0),
            _ => self.rate = self.rate.max(bytes / PACE.as_secs()).max(SLOWEST),
        }
    }

    /// Time has passed.
    fn allow(&mut self, since: Duration) {
        let more = u64::try_from(u128::from(self.rate) * since.as_millis() / 1000).unwrap_or(u64::MAX);
        let looked = std::mem::take(&mut self.looked);
        self.owed = self.owed.saturating_add(more).saturating_sub(looked).min(MOST_OWED);
        self.allowed = self.owed.min(LONGEST);
    }
}

impl Journal {
    /// One step, bounded by what was appended since the last one.
    pub(crate) fn collect(&mut self) -> Result<(), Error> {
        // Copies do not count, or each step would be longer than the one before.
        let appended = self.writer.position.saturating_sub(self.collector.moved);
        let fresh = appended.saturating_sub(self.collector.paced);
        let budget = (self.writer.config.collect_step as u64)
            .max(fresh.saturating_mul(4))
            .max(self.collector.pace.allowed);
        self.collector.pace.allowed = 0;
        self.collector.paced = appended;
        let mut c = match self.collector.collecting.take() {
            Some(c) => c,
            None => {
                let Some(victim) = self.pick() else { return Ok(()) };
                let len = match self.index.segments.get(victim) {
                    Some(s) if s.live > 0 => s.len,
                    _ => return self.retire(victim),
                };
                let path = segment::path(&self.writer.dir, victim);
                match self.writer.files.open(&path) {
                    Ok(file) => {
                        let offset = (segment::HEADER as u64).min(len);
                        Collecting { segment: victim, file, offset, len }
                    }
                    Err(e) => return self.unreadable(victim, Error::io("open", &path)(e)),
                }
            }
        };
        let before = c.offset;
        let stepped = self.step(&mut c, budget);
        self.collector.pace.looked += c.offset - before;
        match stepped {
            Ok(Step::More) => {
                self.collector.collecting = Some(c);
                Ok(())
            }
            Ok(Step::Damage) => self.evacuate(c.segment),
            // A length that was damaged may have led past live records.
            Ok(Step::End) if self.index.segments.get(c.segment).is_some_and(|s| s.live > 0) => {
                self.evacuate(c.segment)
            }
            Ok(Step::End) => self.retire(c.segment),
            Err(e @ Error::Io { what: "read", .. }) => self.unreadable(c.segment, e),
            Err(e) => {
                self.collector.collecting = Some(c);
                Err(e)
            }
        }
    }

    /// Tells the time: how long ago any one moment was, always the same one. To be called about once a second, also
    /// when nothing happens, with a [`Journal::commit`] after it; more often costs nothing. See [`Config::dead_age`]. A
    /// journal that is not told the time collects garbage only when there is much of it.
    ///
    /// [`Config::dead_age`]: crate::Config::dead_age
    pub fn tick(&mut self, now: Duration) {
        let since = match self.collector.pace.now {
            Some(before) if now < before + TICK => return,
            before => now.saturating_sub(before.unwrap_or(now)),
        };
        self.collector.pace.now = Some(now);
        self.index.segments.due = Due(now + self.writer.config.dead_age);
        if self.collector.retired.first().is_some_and(|r| r.due <= Due(now)) {
            self.release();
        }
        // As a rule a segment is sealed because it is full, and before that.
        if self.index.segments.get(self.writer.head.id).is_some_and(|s| s.due <= Due(now)) {
            match self.rotate() {
                Ok(()) => self.index.segments.next_due = Due::AT_ONCE,
                Err(e) => self.note(e),
            }
        }
        self.collector.pace.allow(since);
    }

    /// The segment to be emptied next, if it is time.
    fn pick(&mut self) -> Option<u32> {
        let (head, now) = (self.writer.head.id, self.collector.pace.now.map(Due));
        let usable = |id: &u32, s: &Segment| *id != head && !s.unreadable;
        let suspect = self
            .collector
            .suspects
            .iter()
            .find(|id| self.index.segments.get(**id).is_some_and(|s| usable(id, s)));
        if suspect.is_some() {
            return suspect.copied();
        }
        let sealed = || self.index.segments.iter().filter(|(id, s)| usable(id, s));
        if self.index.segments.dead()
            > self.writer.config.garbage_floor.saturating_add(self.index.segments.live())
        {
            let share = |s: &Segment| s.live as f64 / s.len.max(1) as f64;
            return sealed().min_by(|a, b| share(a.1).total_cmp(&share(b.1))).map(|(id, _)| id);
        }
        let now = now.filter(|now| self.index.segments.next_due <= *now)?;
        let due = || sealed().filter(|(_, s)| s.due <= now);
        let (first, backlog) = (due().min_by_key(|(_, s)| s.due), due().map(|(_, s)| s.len).sum());
        let first = first.map(|(id, _)| id);
        if first.is_none() {
            if self.collector.pace.rate > 0 {
                // That was the last: one sync for all of them.
                self.collector.retired.iter_mut().for_each(|r| r.due = Due::AT_ONCE);
            }
            // The head may be sealed before it is due.
            let others = self.index.segments.iter().filter(|(_, s)| !s.unreadable);
            self.index.segments.next_due = others.map(|(_, s)| s.due).min().unwrap_or(Due::NEVER);
        }
        self.collector.pace.backlog(backlog);
        first
    }

    /// A file that cannot be read now may be readable later: nothing in it is given up, and nothing is collected.
    fn unreadable(&mut self, segment: u32, e: Error) -> Result<(), Error> {
        self.index.segments.get_mut(segment)?.unreadable = true;
        Err(e)
    }

    /// Copies the live ones among the next few records.
    fn step(&mut self, c: &mut Collecting, budget: u64) -> Result<Step, Error> {
        let mut chunk = std::mem::take(&mut self.reader.scratch);
        let result = self.step_in(c, budget, &mut chunk);
        self.give_back(chunk);
        result
    }

    fn step_in(&mut self, c: &mut Collecting, budget: u64, chunk: &mut Vec<u8>) -> Result<Step, Error> {
        let mut want = budget.max(record::HEADER as u64);
        loop {
            if c.offset >= c.len || self.index.segments.get(c.segment).is_none_or(|s| s.live == 0) {
                return Ok(Step::End);
            }
            chunk.resize(want.min(c.len - c.offset) as usize, 0);
            c.file
                .read_exact_at(chunk, c.offset)
                .map_err(Error::io("read", &segment::path(&self.writer.dir, c.segment)))?;
            let whole = chunk.len() as u64 == c.len - c.offset;
            let mut rest = &chunk[..];
            let cut = loop {
                let Some(header) = Header::read(rest) else {
                    break (rest.len() < record::HEADER).then_some(0);
                };
                let Some((bytes, behind)) = rest.split_at_checked(header.len) else { break Some(header.len) };
                let loc = Loc { segment: c.segment, offset: c.offset as u32, len: header.len as u32 };
                self.relocate(loc, &header, bytes)?;
                c.offset += header.len as u64;
                rest = behind;
            };
            match cut {
                None => return Ok(Step::Damage),
                Some(_) if rest.is_empty() && whole => return Ok(Step::End),
                Some(_) if whole => return Ok(Step::Damage),
                Some(_) if rest.len() < chunk.len() => return Ok(Step::More),
                // One record that is longer than a step.
                Some(len) => want = (len as u64).max(want + 1),
            }
        }
    }

    /// Appends a record anew if it is live.
    fn relocate(&mut self, loc: Loc, header: &Header, bytes: &[u8]) -> Result<(), Error> {
        let Some(kind) = header.kind() else { return Ok(()) };
        let Some(slot) = self.index.slot(header.session, kind, header.arg) else { return Ok(()) };
        if *slot != loc {
            return Ok(());
        }
        let r = match parse(loc.segment, bytes) {
            Parsed::Record(r) => r,
            // It must not get a good checksum.
            _ => {
                *slot = Loc::default();
                return self.lose(loc);
            }
        };
        let new = self.append(Record { ..r })?;
        self.collector.moved += u64::from(new.len);
        if let Some(slot) = self.index.slot(header.session, kind, header.arg) {
            *slot = new;
        }
        self.index.segments.bury(loc)
    }

    fn lose(&mut self, loc: Loc) -> Result<(), Error> {
        self.collector.lost += 1;
        let e = self.damaged_at(loc);
        self.note(e);
        self.index.segments.bury(loc)
    }

    /// Copies all live records of a segment, found by the index, and gives up those that are damaged. It is slow, and
    /// only for segments in which one record does not lead to the next.
    fn evacuate(&mut self, segment: u32) -> Result<(), Error> {
        let here = |l: &Loc| l.segment == segment;
        let mut locs: Vec<Loc> = self.index.sessions.values().flat_map(|s| s.locs().filter(here)).collect();
        locs.sort_unstable();
        let mut bytes = Vec::new();
        for loc in locs {
            bytes.resize(loc.len as usize, 0);
            match self.read_at(segment, &mut bytes, u64::from(loc.offset)) {
                Ok(()) => {}
                Err(e @ Error::Io { what: "read", .. }) => return self.unreadable(segment, e),
                Err(e) => return Err(e),
            }
            if let Some(header) = Header::read(&bytes) {
                self.relocate(loc, &header, &bytes)?;
            }
        }
        // Damage may have hit the very fields that say whose a record is: what is left is lost.
        let mut left = Vec::new();
        for s in self.index.sessions.values_mut() {
            left.extend(s.locs_mut().filter(|l| here(l)).map(std::mem::take));
        }
        for loc in left {
            self.lose(loc)?;
        }
        self.retire(segment)
    }

    /// Takes a segment without live records out of the table; it is removed when this one is sealed.
    fn retire(&mut self, id: u32) -> Result<(), Error> {
        // Ends that are still needed move first; a failure leaves the rest for the next try.
        while let Some(&Tomb { session, first, last }) =
            self.index.segments.get(id).and_then(|s| s.tombs.last())
        {
            if self.index.segments.any_within(first, last, id) {
                self.write_end(Tomb { session, first, last })?;
                self.collector.moved += record::HEADER as u64;
            }
            self.index.segments.get_mut(id)?.tombs.pop();
        }
        self.index.segments.remove(id);
        let due = Due(self.collector.pace.now.unwrap_or_default() + RELEASE);
        self.collector.retired.push(Retired { id, position: self.writer.position, due });
        self.reader.open.take_if(|(r, _)| *r == id);
        if self.collector.suspects.remove(&id) {
            // What the background thread has to say about durability waits for this one.
            self.rotate()?;
        }
        Ok(())
    }
}
