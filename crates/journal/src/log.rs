//! Appending: how an operation becomes a record in the buffer, and the buffer becomes bytes of a segment.
//!
//! Every operation is one record. It goes into a buffer, [`Journal::commit`] passes the buffer to the operating system.
//! A write that fails leaves the buffer as it is, and is done over from the same offset next time; so a segment holds
//! either a whole prefix of what was appended to it, or that and a torn record at its end.
//!
//! It knows neither how records are read again (`read`, `recovery`) nor what makes them garbage (`collect`).

use crate::collect::{Collecting, Pace};
use crate::config::Config;
use crate::error::Error;
use crate::files::{Files, Lock, OpenFile};
use crate::record::{self, Kind, Loc, MAX_PAYLOAD, Record, SLOTS};
use crate::segment::{self, Due, Segment, Table, Tomb};
use crate::session::Session;
use crate::sync::{Background, Job};
use rustc_hash::FxHashMap;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};

/// An open journal. Dropping it writes what is buffered, syncs it and waits for that.
pub struct Journal {
    pub(crate) files: Arc<dyn Files>,
    pub(crate) dir: PathBuf,
    pub(crate) config: Config,
    /// Their numbers are the caller's own, so nobody chooses them to collide.
    pub(crate) sessions: FxHashMap<u64, Session>,
    pub(crate) segments: Table,
    pub(crate) head: Head,
    /// Bytes appended since the journal was opened: the measure of [`Journal::durable`].
    pub(crate) position: u64,
    pub(crate) written: u64,
    pub(crate) commits: u64,
    pub(crate) moved: u64,
    pub(crate) lost: u64,
    /// Bytes that the caller had appended (not moved ones) at the last step of garbage collection.
    pub(crate) paced: u64,
    pub(crate) collecting: Option<Collecting>,
    pub(crate) pace: Pace,
    /// Segments to be removed.
    pub(crate) retired: Vec<Retired>,
    /// Segments whose sync failed and whose live records have not been copied yet.
    pub(crate) suspects: BTreeSet<u32>,
    /// Where the background thread puts the next segment's empty file: creating one can wait for the disk.
    pub(crate) spare: Option<mpsc::Receiver<Arc<dyn OpenFile>>>,
    pub(crate) reader: Option<(u32, Arc<dyn OpenFile>)>,
    pub(crate) scratch: Vec<u8>,
    pub(crate) trouble: Option<Error>,
    pub(crate) background: Background,
    /// Fields are dropped in order: the lock goes when the background thread has ended.
    pub(crate) _lock: Lock,
}

/// A segment that is of no more use.
pub(crate) struct Retired {
    pub id: u32,
    /// Where the journal stood when that was found.
    pub position: u64,
    /// When it goes, although the head goes on.
    pub due: Due,
}

/// The segment that is written.
pub(crate) struct Head {
    pub id: u32,
    pub file: Arc<dyn OpenFile>,
    /// Bytes that the operating system has; `buffer` comes after them.
    pub flushed: u64,
    pub buffer: Vec<u8>,
    /// After a write that failed, appending does not try again before this many bytes wait.
    pub retry_at: usize,
}

impl Head {
    pub fn new(id: u32, file: Arc<dyn OpenFile>) -> Head {
        Head { id, file, flushed: 0, buffer: Vec::new(), retry_at: 0 }
    }

    /// Its length once the buffer is written.
    pub fn end(&self) -> u64 {
        self.flushed + self.buffer.len() as u64
    }
}

impl Journal {
    /// Starts a session, or rewrites what is kept about it: at most [`MAX_PAYLOAD`] bytes. A number must never be
    /// used again, not even after the session has ended.
    ///
    /// # Errors
    /// [`Error::TooLong`], [`Error::Full`]; nothing has changed then.
    pub fn set_meta(&mut self, session: u64, meta: &[u8]) -> Result<(), Error> {
        let loc = self.append(Record { kind: Kind::Meta, session, arg: 0, payload: meta })?;
        let s = self
            .sessions
            .entry(session)
            .or_insert_with(|| Session { oldest: loc.segment, ..Session::default() });
        let old = std::mem::replace(&mut s.meta, loc);
        self.segments.bury_texts([old])
    }

    /// Writes one of the session's slots, each of which holds what was written last: at most [`MAX_PAYLOAD`] bytes. They are
    /// numbered from 0; use low numbers first, since memory is taken for all up to the highest.
    ///
    /// # Errors
    /// [`Error::NoSuchSession`], [`Error::OutOfOrder`] for a number that no slot has, [`Error::TooLong`], [`Error::Full`];
    /// nothing has changed then.
    pub fn set_slot(&mut self, session: u64, slot: u64, bytes: &[u8]) -> Result<(), Error> {
        self.session(session)?;
        if slot >= SLOTS {
            return Err(Error::OutOfOrder { session, number: slot, first: 0, last: SLOTS - 1 });
        }
        let loc = self.append(Record { kind: Kind::Slot, session, arg: slot, payload: bytes })?;
        let old = self.session_mut(session)?.put_slot(slot as usize, loc);
        self.segments.bury_texts([old])
    }

    /// Appends a stanza of at most [`MAX_PAYLOAD`] bytes to the session's queue. Its number must be the one after the
    /// last queued, or else acknowledged, one; a session's first is 1.
    ///
    /// # Errors
    /// [`Error::NoSuchSession`], [`Error::OutOfOrder`], [`Error::TooLong`], [`Error::Full`]; nothing has changed then.
    pub fn push(&mut self, session: u64, number: u64, stanza: &[u8]) -> Result<(), Error> {
        self.push_in_pieces(session, number, &[stanza])
    }

    /// The same for a stanza that is the concatenation of these.
    ///
    /// # Errors
    /// As [`Journal::push`].
    pub fn push_in_pieces(&mut self, session: u64, number: u64, stanza: &[&[u8]]) -> Result<(), Error> {
        let next = self.session(session)?.last().saturating_add(1);
        if number != next {
            return Err(Error::OutOfOrder { session, number, first: next, last: next });
        }
        let loc = self.append_pieces(Kind::Stanza, session, number, stanza)?;
        self.session_mut(session)?.queue.push_back(loc);
        Ok(())
    }

    /// Drops all stanzas up to and with the one of that number from the queue's front.
    ///
    /// # Errors
    /// [`Error::NoSuchSession`], [`Error::OutOfOrder`], [`Error::Full`]; nothing has changed then.
    pub fn ack(&mut self, session: u64, number: u64) -> Result<(), Error> {
        let s = self.session(session)?;
        let (first, last, inbound) = (s.acked, s.last(), s.inbound);
        if !(first..=last).contains(&number) {
            return Err(Error::OutOfOrder { session, number, first, last });
        }
        let loc = self.append_state(session, number, inbound)?;
        let Some(s) = self.sessions.get_mut(&session) else { return Err(Error::NoSuchSession { session }) };
        let old = std::mem::replace(&mut s.state, loc);
        s.acked = number;
        let covered = usize::try_from(number - first).unwrap_or(usize::MAX).min(s.queue.len());
        let buried = self.segments.bury_texts(s.queue.range(..covered).copied());
        s.queue.drain(..covered);
        s.shrink();
        buried.and(self.segments.bury(old))
    }

    /// Keeps the count of stanzas that came in on the session.
    ///
    /// # Errors
    /// [`Error::NoSuchSession`], [`Error::Full`]; nothing has changed then.
    pub fn set_inbound(&mut self, session: u64, count: u64) -> Result<(), Error> {
        let acked = self.session(session)?.acked;
        let loc = self.append_state(session, acked, count)?;
        let s = self.session_mut(session)?;
        s.inbound = count;
        let old = std::mem::replace(&mut s.state, loc);
        self.segments.bury(old)
    }

    /// Ends a session and drops its whole queue.
    ///
    /// # Errors
    /// [`Error::NoSuchSession`], [`Error::Full`]; nothing has changed then.
    pub fn end(&mut self, session: u64) -> Result<(), Error> {
        let first = self.session(session)?.oldest;
        self.write_end(Tomb { session, first, last: self.head.id })?;
        match self.sessions.remove(&session) {
            Some(s) => self.segments.bury_texts(s.locs()),
            None => Err(Error::NoSuchSession { session }),
        }
    }

    /// Passes everything to the operating system, where it survives this process, and collects a little garbage.
    /// Returns the position to compare [`Journal::durable`] with.
    ///
    /// # Errors
    /// [`Error::Io`]: nothing is lost and the journal can be used on, but what was appended since the last commit that
    /// succeeded may not survive this process. The next commit tries again. Whatever goes wrong apart from the write
    /// itself is told by [`Journal::take_trouble`] instead.
    pub fn commit(&mut self) -> Result<u64, Error> {
        if let Err(e) = self.flush() {
            // The disk may be full of what is only waiting for the next segment to be removed.
            self.release();
            return Err(e);
        }
        let position = self.position;
        if let Err(e) = self.collect() {
            self.note(e);
        }
        self.hear();
        Ok(position)
    }

    /// The first thing that went wrong in the background since it was last asked: a sync, a removal, the collection of
    /// garbage, or a damaged record that was met on the way. None of it undoes what a commit has said.
    pub fn take_trouble(&mut self) -> Option<Error> {
        self.hear();
        self.trouble.take()
    }

    /// Has the background thread sync everything that was committed; [`Journal::durable`] tells when it has.
    pub fn request_sync(&self) {
        self.background.send(Job::Sync {
            segment: self.head.id,
            file: self.head.file.clone(),
            position: self.position(),
        });
    }

    /// Everything committed so far is before it: the measure of [`Journal::durable`].
    pub fn position(&self) -> u64 {
        self.position - self.head.buffer.len() as u64
    }

    /// Has `f` called, on the background thread, whenever [`Journal::durable`] has grown. Only the first one counts.
    pub fn on_durable(&self, f: impl Fn() + Send + Sync + 'static) {
        self.background.on_durable(Box::new(f));
    }

    /// The position up to which everything survives a crash of the machine. Starts at 0 when the journal is opened,
    /// and stands still while syncs fail.
    pub fn durable(&self) -> u64 {
        self.background.durable()
    }

    pub(crate) fn note(&mut self, e: Error) {
        tracing::error!("{e}");
        self.trouble.get_or_insert(e);
    }

    pub(crate) fn session(&self, session: u64) -> Result<&Session, Error> {
        self.sessions.get(&session).ok_or(Error::NoSuchSession { session })
    }

    pub(crate) fn session_mut(&mut self, session: u64) -> Result<&mut Session, Error> {
        self.sessions.get_mut(&session).ok_or(Error::NoSuchSession { session })
    }

    fn append_state(&mut self, session: u64, acked: u64, inbound: u64) -> Result<Loc, Error> {
        let payload = inbound.to_le_bytes();
        self.append(Record { kind: Kind::State, session, arg: acked, payload: &payload })
    }

    pub(crate) fn write_end(&mut self, tomb: Tomb) -> Result<(), Error> {
        // This append may begin a new segment; the session's last records then are in the one that it seals.
        let arg = u64::from(tomb.first) << 32 | u64::from(tomb.last);
        let loc = self.append(Record { kind: Kind::End, session: tomb.session, arg, payload: &[] })?;
        self.segments.bury(loc)?;
        self.segments.get_mut(loc.segment)?.tombs.push(tomb);
        Ok(())
    }

    /// Puts a record into the buffer. Fails before anything has changed, or not at all.
    pub(crate) fn append(&mut self, r: Record) -> Result<Loc, Error> {
        self.append_pieces(r.kind, r.session, r.arg, &[r.payload])
    }

    fn append_pieces(&mut self, kind: Kind, session: u64, arg: u64, payload: &[&[u8]]) -> Result<Loc, Error> {
        let len = payload.iter().map(|piece| piece.len()).sum();
        if len > MAX_PAYLOAD {
            return Err(Error::TooLong { len });
        }
        let len = record::HEADER + len;
        let waiting = self.head.buffer.len();
        if waiting >= self.head.retry_at {
            let tried = if self.head.end() + len as u64 > self.config.segment_bytes
                && self.head.end() > segment::HEADER as u64
            {
                self.rotate()
            } else if waiting > 0 && waiting + len > self.config.buffer_bytes {
                self.flush()
            } else {
                Ok(())
            };
            if let Err(e) = tried {
                // No reason to refuse the record: there is room for it in memory, or in this segment.
                self.head.retry_at = self.head.buffer.len() + self.config.buffer_bytes.max(1);
                self.note(e);
            }
        }
        let waiting = self.head.buffer.len();
        if waiting > segment::HEADER && waiting + len > self.config.waiting_bytes
            || self.head.end() + len as u64 > segment::LARGEST
        {
            return Err(Error::Full { path: self.dir.clone(), waiting });
        }
        let loc = Loc { segment: self.head.id, offset: self.head.end() as u32, len: len as u32 };
        self.segments.enliven(loc, true)?;
        record::encode(&mut self.head.buffer, self.head.id, kind, session, arg, payload);
        self.position += len as u64;
        Ok(loc)
    }

    pub(crate) fn flush(&mut self) -> Result<(), Error> {
        let head = &mut self.head;
        if head.buffer.is_empty() {
            return Ok(());
        }
        if let Err(e) = head.file.write_all_at(&head.buffer, head.flushed) {
            head.retry_at = head.buffer.len() + self.config.buffer_bytes.max(1);
            return Err(Error::io("write", &segment::path(&self.dir, head.id))(e));
        }
        head.retry_at = 0;
        head.flushed += head.buffer.len() as u64;
        self.written += head.buffer.len() as u64;
        self.commits += 1;
        head.buffer.clear();
        if head.buffer.capacity() > self.config.buffer_bytes.saturating_mul(4) {
            head.buffer.shrink_to(self.config.buffer_bytes);
        }
        Ok(())
    }

    /// Seals the head and begins a new one. After an error the head goes on.
    pub(crate) fn rotate(&mut self) -> Result<(), Error> {
        self.flush()?;
        let Some(id) = self.head.id.checked_add(1) else {
            return Err(Error::corrupt(&self.dir, "the numbers of segments are used up"));
        };
        let file = match self.spare.take().and_then(|s| s.try_recv().ok()) {
            Some(file) => file,
            // The background thread is behind, or could not. The file may be there, then it is empty.
            None => create(&*self.files, &self.dir, id)?,
        };
        let sealed = std::mem::replace(&mut self.head, Head::new(id, file));
        // The buffer is the largest allocation there is; it moves on, empty.
        self.head.buffer = sealed.buffer;
        self.background.send(Job::Sync { segment: sealed.id, file: sealed.file, position: self.position });
        for old in self.retired.drain(..) {
            self.background.send(Job::Remove(old.id));
        }
        self.begin();
        Ok(())
    }

    /// Writes the head's header, and has the next segment's file created.
    pub(crate) fn begin(&mut self) {
        let id = self.head.id;
        if let Some(next) = id.checked_add(1) {
            let (send, spare) = mpsc::channel();
            self.background.send(Job::Create(next, send));
            self.spare = Some(spare);
        }
        self.head.buffer.extend_from_slice(&segment::header(id));
        let len = segment::HEADER as u64;
        self.segments.insert(id, Segment { len, ..Segment::default() });
        self.position += len;
    }

    /// Has retired segments removed without waiting for the end of this one, if all that killed them is written.
    pub(crate) fn release(&mut self) {
        let flushed = self.position();
        let ready = self.retired.iter().take_while(|r| r.position <= flushed).count();
        if ready > 0 {
            self.request_sync();
            for old in self.retired.drain(..ready) {
                self.background.send(Job::Remove(old.id));
            }
        }
    }

    fn hear(&mut self) {
        let news = self.background.news();
        if let Some(e) = news.error {
            // It has been logged when it happened.
            self.trouble.get_or_insert(e);
        }
        for failed in news.failed {
            // It may be gone meanwhile, then the background thread knows.
            if self.segments.get(failed.segment).is_some() {
                self.suspects.insert(failed.segment);
            }
            // A segment is copied when it is sealed. Do so now if it is the first: if syncs work again all is well
            // soon. If they do not, a new segment for every request would help nobody.
            let sealed = if failed.segment == self.head.id && failed.first { self.rotate() } else { Ok(()) };
            if let Err(e) = sealed {
                self.note(e);
            }
        }
    }
}

pub(crate) fn create(files: &dyn Files, dir: &Path, id: u32) -> Result<Arc<dyn OpenFile>, Error> {
    let path = segment::path(dir, id);
    files.create(&path, false).map_err(Error::io("create", &path))
}

impl Drop for Journal {
    fn drop(&mut self) {
        // Nobody is left to be told of an error.
        if self.flush().is_ok() {
            self.release();
        }
        self.request_sync();
    }
}
