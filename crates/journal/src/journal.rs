//! The journal as its owner sees it: what can be done to a session, committing, and what is told.
//!
//! Each operation is one record: it is appended ([`Writer`]), and then the index is told where it lies and what it made useless
//! ([`Index`]). Nothing here knows bytes or files.

use crate::background::Background;
use crate::collector::{Collector, Retired};
use crate::error::Error;
use crate::files::Lock;
use crate::index::Index;
use crate::read::Reader;
use crate::record::{Kind, Loc, Record, SLOTS};
use crate::segment::{Tomb, path};
use crate::session::Session;
use crate::sink::Sink;
use crate::writer::Writer;

/// An open journal. Dropping it writes what is buffered, syncs it and waits for that.
pub struct Journal {
    /// What is live, and where.
    pub(crate) index: Index,
    /// Appends records and hands them to the operating system.
    pub(crate) writer: Writer,
    /// Moves live records and gives up dead segments.
    pub(crate) collector: Collector,
    /// Reads records again.
    pub(crate) reader: Reader,
    /// The first thing that went wrong since the owner last asked.
    pub(crate) trouble: Option<Error>,
    /// The thread that makes the files outlast the machine: the sink that is always there.
    pub(crate) background: Background,
    /// Other sinks.
    pub(crate) copies: Vec<Box<dyn Sink>>,
    /// Fields are dropped in order: the lock goes when the background thread has ended.
    pub(crate) _lock: Lock,
}

impl Journal {
    /// Starts a session, or rewrites what is kept about it: at most [`MAX_PAYLOAD`](crate::MAX_PAYLOAD) bytes. A number must never be
    /// used again, not even after the session has ended.
    ///
    /// # Errors
    /// [`Error::TooLong`], [`Error::Full`]; nothing has changed then.
    pub fn set_meta(&mut self, session: u64, meta: &[u8]) -> Result<(), Error> {
        let loc = self.append(Record { kind: Kind::Meta, session, arg: 0, payload: meta })?;
        let s = self
            .index
            .sessions
            .entry(session)
            .or_insert_with(|| Session { oldest: loc.segment, ..Session::default() });
        let old = std::mem::replace(&mut s.meta, loc);
        self.index.segments.bury_texts([old])
    }

    /// Writes one of the session's slots, each of which holds what was written last: at most [`MAX_PAYLOAD`](crate::MAX_PAYLOAD) bytes.
    /// They are numbered from 0; use low numbers first, since memory is taken for all up to the highest.
    ///
    /// # Errors
    /// [`Error::NoSuchSession`], [`Error::OutOfOrder`] for a number that no slot has, [`Error::TooLong`], [`Error::Full`];
    /// nothing has changed then.
    pub fn set_slot(&mut self, session: u64, slot: u64, bytes: &[u8]) -> Result<(), Error> {
        self.index.session(session)?;
        if slot >= SLOTS {
            return Err(Error::OutOfOrder { session, number: slot, first: 0, last: SLOTS - 1 });
        }
        let loc = self.append(Record { kind: Kind::Slot, session, arg: slot, payload: bytes })?;
        let old = self.index.session_mut(session)?.put_slot(slot as usize, loc);
        self.index.segments.bury_texts([old])
    }

    /// Appends a stanza of at most [`MAX_PAYLOAD`](crate::MAX_PAYLOAD) bytes to the session's queue. Its number must be the one after the
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
        let next = self.index.session(session)?.last().saturating_add(1);
        if number != next {
            return Err(Error::OutOfOrder { session, number, first: next, last: next });
        }
        let loc = self.append_pieces(Kind::Stanza, session, number, stanza)?;
        self.index.session_mut(session)?.queue.push_back(loc);
        Ok(())
    }

    /// Drops all stanzas up to and with the one of that number from the queue's front.
    ///
    /// # Errors
    /// [`Error::NoSuchSession`], [`Error::OutOfOrder`], [`Error::Full`]; nothing has changed then.
    pub fn ack(&mut self, session: u64, number: u64) -> Result<(), Error> {
        let s = self.index.session(session)?;
        let (first, last, inbound) = (s.acked, s.last(), s.inbound);
        if !(first..=last).contains(&number) {
            return Err(Error::OutOfOrder { session, number, first, last });
        }
        let loc = self.append_state(session, number, inbound)?;
        let Some(s) = self.index.sessions.get_mut(&session) else {
            return Err(Error::NoSuchSession { session });
        };
        let old = std::mem::replace(&mut s.state, loc);
        s.acked = number;
        let covered = usize::try_from(number - first).unwrap_or(usize::MAX).min(s.queue.len());
        let buried = self.index.segments.bury_texts(s.queue.range(..covered).copied());
        s.queue.drain(..covered);
        s.shrink();
        buried.and(self.index.segments.bury(old))
    }

    /// Keeps the count of stanzas that came in on the session.
    ///
    /// # Errors
    /// [`Error::NoSuchSession`], [`Error::Full`]; nothing has changed then.
    pub fn set_inbound(&mut self, session: u64, count: u64) -> Result<(), Error> {
        let acked = self.index.session(session)?.acked;
        let loc = self.append_state(session, acked, count)?;
        let s = self.index.session_mut(session)?;
        s.inbound = count;
        let old = std::mem::replace(&mut s.state, loc);
        self.index.segments.bury(old)
    }

    /// Ends a session and drops its whole queue.
    ///
    /// # Errors
    /// [`Error::NoSuchSession`], [`Error::Full`]; nothing has changed then.
    pub fn end(&mut self, session: u64) -> Result<(), Error> {
        let first = self.index.session(session)?.oldest;
        self.write_end(Tomb { session, first, last: self.writer.head.id })?;
        match self.index.sessions.remove(&session) {
            Some(s) => self.index.segments.bury_texts(s.locs()),
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
        let position = self.writer.position;
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
        self.background.sync();
        self.copies.iter().for_each(|sink| sink.sync());
    }

    /// Has everything told to another sink, too, from what there is now on.
    ///
    /// # Errors
    /// [`Error::Io`] if a segment cannot be opened: then the sink is told nothing any more.
    pub fn attach(&mut self, mut sink: Box<dyn Sink>) -> Result<(), Error> {
        let head = self.writer.head.id;
        for (id, segment) in self.index.segments.iter().filter(|(id, _)| *id != head) {
            let path = path(&self.writer.dir, id);
            sink.begun(id, &self.writer.files.open(&path).map_err(Error::io("open", &path))?);
            sink.written(segment.len, 0);
        }
        sink.begun(head, &self.writer.head.file);
        sink.written(self.writer.head.flushed, self.writer.position());
        self.copies.push(sink);
        Ok(())
    }

    /// The position up to which every sink that was attached has everything; [`Journal::position`] if there is none.
    pub fn copied(&self) -> u64 {
        self.copies.iter().map(|sink| sink.durable()).min().unwrap_or(self.position())
    }

    /// Everything committed so far is before it: the measure of [`Journal::durable`].
    pub fn position(&self) -> u64 {
        self.writer.position()
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

    pub(crate) fn sinks(&mut self) -> impl Iterator<Item = &mut dyn Sink> {
        let copies = self.copies.iter_mut().map(|sink| -> &mut dyn Sink { &mut **sink });
        std::iter::once(&mut self.background as &mut dyn Sink).chain(copies)
    }

    fn append_state(&mut self, session: u64, acked: u64, inbound: u64) -> Result<Loc, Error> {
        let payload = inbound.to_le_bytes();
        self.append(Record { kind: Kind::State, session, arg: acked, payload: &payload })
    }

    /// Has retired segments removed without waiting for the end of this one, if all that killed them is written.
    pub(crate) fn release(&mut self) {
        let flushed = self.position();
        let ready = self.collector.retired.iter().take_while(|r| r.position <= flushed).count();
        if ready > 0 {
            self.request_sync();
            let dead = self.collector.retired.drain(..ready).collect();
            self.give_up(dead);
        }
    }

    pub(crate) fn give_up(&mut self, dead: Vec<Retired>) {
        for old in dead {
            self.sinks().for_each(|sink| sink.dead(old.id));
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
            if self.index.segments.get(failed.segment).is_some() {
                self.collector.suspects.insert(failed.segment);
            }
            // A segment is copied when it is sealed. Do so now if it is the first: if syncs work again all is well
            // soon. If they do not, a new segment for every request would help nobody.
            let sealed =
                if failed.segment == self.writer.head.id && failed.first { self.rotate() } else { Ok(()) };
            if let Err(e) = sealed {
                self.note(e);
            }
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        // Nobody is left to be told of an error.
        if self.flush().is_ok() {
            self.release();
        }
    }
}
