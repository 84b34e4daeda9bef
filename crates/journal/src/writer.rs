//! Appending: how a record gets into the buffer, and the buffer becomes bytes of a segment.
//!
//! A record goes into a buffer, which a commit passes to the operating system. A write that fails leaves the buffer as it is, and
//! is done over from the same offset next time; so a segment holds either a whole prefix of what was appended to it, or that
//! and a torn record at its end. What was written is told to every [sink](crate::sink).
//!
//! It knows neither how records are read again (`read`, `recovery`) nor what makes them garbage (`collector`).

use crate::config::Config;
use crate::error::Error;
use crate::files::{Files, OpenFile};
use crate::journal::Journal;
use crate::record::{self, Kind, Loc, MAX_PAYLOAD, Record};
use crate::segment::{self, Begin, Segment, Tomb};
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};

/// Where records go, and how far that has got.
pub(crate) struct Writer {
    pub files: Arc<dyn Files>,
    pub dir: PathBuf,
    pub config: Config,
    pub head: Head,
    /// Which life of the machine this is; 0 if that is not known.
    pub boot: u128,
    /// Bytes appended since the journal was opened: the measure of [`Journal::durable`].
    pub position: u64,
    /// Bytes of them that the operating system has, and in how many pieces it got them.
    pub written: u64,
    pub commits: u64,
    /// Where the background thread puts the next segment's empty file: creating one can wait for the disk.
    pub spare: Option<mpsc::Receiver<Arc<dyn OpenFile>>>,
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
    pub(crate) fn write_end(&mut self, tomb: Tomb) -> Result<(), Error> {
        // This append may begin a new segment; the session's last records then are in the one that it seals.
        let arg = u64::from(tomb.first) << 32 | u64::from(tomb.last);
        let loc = self.append(Record { kind: Kind::End, session: tomb.session, arg, payload: &[] })?;
        self.index.segments.bury(loc)?;
        self.index.segments.get_mut(loc.segment)?.tombs.push(tomb);
        Ok(())
    }

    /// Puts a record into the buffer. Fails before anything has changed, or not at all.
    pub(crate) fn append(&mut self, r: Record) -> Result<Loc, Error> {
        self.append_pieces(r.kind, r.session, r.arg, &[r.payload])
    }

    pub(crate) fn append_pieces(
        &mut self,
        kind: Kind,
        session: u64,
        arg: u64,
        payload: &[&[u8]],
    ) -> Result<Loc, Error> {
        let len = payload.iter().map(|piece| piece.len()).sum();
        if len > MAX_PAYLOAD {
            return Err(Error::TooLong { len });
        }
        let len = record::HEADER + len;
        let waiting = self.writer.head.buffer.len();
        if waiting >= self.writer.head.retry_at {
            let tried = if self.writer.head.end() + len as u64 > self.writer.config.segment_bytes
                && self.writer.head.end() > segment::PREAMBLE as u64
            {
                self.rotate()
            } else if waiting > 0 && waiting + len > self.writer.config.buffer_bytes {
                self.flush()
            } else {
                Ok(())
            };
            if let Err(e) = tried {
                // No reason to refuse the record: there is room for it in memory, or in this segment.
                self.writer.head.retry_at =
                    self.writer.head.buffer.len() + self.writer.config.buffer_bytes.max(1);
                self.note(e);
            }
        }
        let waiting = self.writer.head.buffer.len();
        if waiting > segment::PREAMBLE && waiting + len > self.writer.config.waiting_bytes
            || self.writer.head.end() + len as u64 > segment::LARGEST
        {
            return Err(Error::Full { path: self.writer.dir.clone(), waiting });
        }
        let loc =
            Loc { segment: self.writer.head.id, offset: self.writer.head.end() as u32, len: len as u32 };
        self.index.segments.enliven(loc, true)?;
        record::encode(&mut self.writer.head.buffer, self.writer.head.id, kind, session, arg, payload);
        self.writer.position += len as u64;
        Ok(loc)
    }

    /// Passes the buffer to the operating system.
    pub(crate) fn flush(&mut self) -> Result<(), Error> {
        if self.writer.flush()? {
            let (end, position) = (self.writer.head.flushed, self.writer.position());
            self.sinks().for_each(|sink| sink.written(end, position));
        }
        Ok(())
    }

    /// Seals the head and begins a new one. After an error the head goes on.
    pub(crate) fn rotate(&mut self) -> Result<(), Error> {
        self.flush()?;
        let sealed = self.writer.next_head()?;
        self.begin(sealed.0, sealed.1);
        let dead = std::mem::take(&mut self.collector.retired);
        self.give_up(dead);
        Ok(())
    }

    /// Writes how the head begins, behind that segment of that length, and has the next one's file created.
    pub(crate) fn begin(&mut self, before: u32, end: u64) {
        let (id, file) = (self.writer.head.id, Arc::clone(&self.writer.head.file));
        self.sinks().for_each(|sink| sink.begun(id, &file));
        if let Some(next) = id.checked_add(1) {
            self.writer.spare = Some(self.background.create(next));
        }
        let begin = Begin { before, end: end as u32, boot: self.writer.boot };
        begin.write(&mut self.writer.head.buffer, id);
        let len = segment::PREAMBLE as u64;
        self.index.segments.insert(id, Segment { len, own: len, ..Segment::default() });
        self.writer.position += len;
    }
}

impl Writer {
    /// Everything committed so far is before it.
    pub fn position(&self) -> u64 {
        self.position - self.head.buffer.len() as u64
    }

    /// Returns whether there was anything to write.
    fn flush(&mut self) -> Result<bool, Error> {
        let head = &mut self.head;
        if head.buffer.is_empty() {
            return Ok(false);
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
        Ok(true)
    }

    /// Puts an empty segment in the head's place, whose number and length it returns.
    fn next_head(&mut self) -> Result<(u32, u64), Error> {
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
        Ok((sealed.id, sealed.flushed))
    }
}

pub(crate) fn create(files: &dyn Files, dir: &Path, id: u32) -> Result<Arc<dyn OpenFile>, Error> {
    let path = segment::path(dir, id);
    files.create(&path, false).map_err(Error::io("create", &path))
}
