//! Opening: how the state is made again from whatever a crash, a full disk or a bad one has left.
//!
//! Segments are read from the oldest to the newest, whole. Four things may be wrong with one:
//!
//! - The last one ends in the middle of a record: a write was cut. The tail is cut off and nothing of value is lost,
//!   since no commit has answered for it. (A bit that flips in the very last record looks the same, and is told the
//!   same: [`Recovery::torn`].)
//! - There are bytes elsewhere that are no record. They are stepped over, up to the next whole record, and reported.
//!   A stanza cannot be taken for a record: a record holds zero bytes, and XML does not.
//! - The machine has died, and something is missing behind the [mark](crate::mark), before which nothing is. There what survives and
//!   what does not is chance: a stanza may be gone, and a count that covers it be there. So from the first gap on nothing
//!   is believed. What is left is the journal as it was at some moment, as it is after the death of the process alone, and the rest is
//!   cut off, whole segments included. That the machine has died is known from the number of its life
//!   ([`Files::boot`]), and a gap between records from where each segment says that the one before it ends.
//! - A whole record or header has an unknown version. Then nothing is touched and opening fails, for the admin has gone
//!   back to an older release.
//!
//! Afterwards a queue's gaps are known by the stanzas' numbers. They are reported, and handed out as gaps.

#![warn(clippy::indexing_slicing, clippy::string_slice)]

use crate::background::{Background, Job};
use crate::collector::{Collector, Retired};
use crate::config::Config;
use crate::error::Error;
use crate::files::{Files, OsFiles};
use crate::index::Index;
use crate::journal::Journal;
use crate::mark::{Mark, Marks};
use crate::read::Reader;
use crate::record::{self, Header, Kind, Loc, Parsed, Record, parse, u64_at};
use crate::segment::{self, Begin, Due, Segment, Table, Tomb};
use crate::session::Session;
use crate::writer::{Head, Writer, create};
use rustc_hash::FxHashMap;
use std::collections::{BTreeSet, VecDeque};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// More stanzas than this missing in a row are no gap: some number is wrong.
const WIDEST_GAP: u64 = 1 << 20;

/// What [`Journal::open`] found.
#[derive(Default, Debug, Clone, PartialEq, Eq)]
pub struct Recovery {
    /// How many segments there were.
    pub segments: usize,
    /// How many whole records they held, dead ones included.
    pub records: u64,
    /// Bytes that were cut from the end: part of a record whose write was cut, in most cases. After the machine's death all
    /// that survived behind something that did not.
    pub torn: u64,
    /// How many whole records were among them.
    pub unbelieved: u64,
    /// What is damaged elsewhere. Which session it belonged to cannot be known unless it is among the incomplete: a
    /// damaged acknowledgement brings back stanzas, a damaged end brings back a session.
    pub damaged: Vec<Damage>,
    /// Sessions of which something is missing.
    pub incomplete: Vec<Incomplete>,
}

/// A stretch of a segment that holds no whole record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Damage {
    /// The segment's number: the name of its file, in hexadecimal.
    pub segment: u32,
    /// Where it begins, in bytes.
    pub offset: u64,
    /// Its length in bytes.
    pub len: u64,
}

/// A session of which something is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Incomplete {
    /// Which one.
    pub session: u64,
    /// How many stanzas are lost, at most: if the count of what was acknowledged is lost, too, they may have been.
    pub stanzas: u64,
    /// Whether what was kept about it is lost.
    pub meta: bool,
}

impl Recovery {
    /// Whether nothing was amiss but a write that was cut.
    pub fn is_whole(&self) -> bool {
        self.damaged.is_empty() && self.incomplete.is_empty()
    }
}

/// A session while segments are read.
#[derive(Default)]
struct Found {
    session: Session,
    /// The stanzas, by number, in the order in which they were found.
    stanzas: VecDeque<(u64, Loc)>,
}

impl Journal {
    /// Opens the journal in `dir`, which is created if it is not there. Do so after daemonizing.
    ///
    /// # Errors
    /// [`Error::InUse`], [`Error::UnknownVersion`], [`Error::Io`], or [`Error::Corrupt`] for a file that is no journal
    /// of ours at all. Damage within segments is no error but reported.
    pub fn open(dir: &Path, config: Config) -> Result<(Journal, Recovery), Error> {
        Journal::open_in(Arc::new(OsFiles), dir, config)
    }

    /// [`Journal::open`], on other files than this machine's.
    ///
    /// # Errors
    /// As [`Journal::open`].
    pub fn open_in(files: Arc<dyn Files>, dir: &Path, config: Config) -> Result<(Journal, Recovery), Error> {
        let mut holders = make_dirs(&*files, dir).map_err(Error::io("create", dir))?;
        let lock_path = dir.join("lock");
        let lock = files.lock(&lock_path).map_err(Error::io("lock", &lock_path))?;
        let lock = lock.ok_or_else(|| Error::InUse { path: dir.to_owned() })?;
        let mut marks = Marks::open(&*files, dir)?;
        let (gone, ids): (Vec<u32>, Vec<u32>) = {
            let named = |id: &u32| marks.latest().is_some_and(|mark| mark.gone.contains(id));
            list(&*files, dir)?.into_iter().partition(named)
        };
        // An earlier release left it to the umask. What cannot be mended is told, and no reason to lose sessions.
        let mut exposed = None;
        let ours = ids.iter().map(|id| segment::path(dir, *id));
        for path in [dir.to_owned(), lock_path].into_iter().chain(marks.file()).chain(ours) {
            if let Err(e) = files.restrict(&path).map_err(Error::io("take away others' access to", &path)) {
                tracing::error!("{e}");
                exposed.get_or_insert(e);
            }
        }

        let boot = files.boot().unwrap_or(0);
        let trust = Trust::new(&*files, dir, &ids, marks.latest(), boot)?;
        let mut read = Read { trust, before: None, found: FxHashMap::default(), gap: None };
        let mut recovery = Recovery { segments: ids.len(), ..Recovery::default() };
        let mut segments = Table::new(dir);
        let mut torn = None;
        let mut bytes = Vec::new();
        for id in &ids {
            let path = segment::path(dir, *id);
            let file = files.open(&path).map_err(Error::io("open", &path))?;
            let size = file.size().map_err(Error::io("read", &path))?;
            if size > segment::LARGEST {
                return Err(Error::corrupt(&path, "it is too long for a segment, and must be moved away"));
            }
            bytes.resize(size as usize, 0);
            file.read_exact_at(&mut bytes, 0).map_err(Error::io("read", &path))?;
            let (mut segment, damage) = read.segment(*id, &path, &bytes, &mut recovery)?;
            let before = recovery.damaged.len();
            let mut cut = read.gap.is_some().then_some(segment.len);
            for (offset, len) in damage {
                let is_end = Some(id) == ids.last() && offset + len == size;
                if is_end && !(offset == 0 && segment::is_overwritten(*id, &bytes)) {
                    recovery.torn += len;
                    segment.len = offset;
                    cut = Some(offset);
                } else {
                    recovery.damaged.push(Damage { segment: *id, offset, len });
                }
            }
            if let Some(damaged @ [first, ..]) = recovery.damaged.get(before..) {
                let (n, lost): (_, u64) = (damaged.len(), damaged.iter().map(|d| d.len).sum());
                let at = first.offset;
                tracing::error!(
                    "{path:?} is damaged: {n} stretches, {lost} bytes, hold no record, the first at {at}"
                );
            }
            match cut {
                None => segments.insert(*id, segment),
                // Of one that has not even begun nothing can be told, so it is removed.
                Some(end) if end <= segment::HEADER as u64 => {}
                Some(end) => {
                    torn = Some((path, file, end));
                    segments.insert(*id, segment);
                }
            }
        }
        drop(bytes);
        // Nothing on disk has been changed up to here, so that a foreign version leaves it all as it is.
        if read.gap.is_some() {
            tracing::warn!(
                "the machine stopped before all was on its disk: {} bytes are cut off behind the first that are missing, \
                 {} whole records among them",
                recovery.torn,
                recovery.unbelieved
            );
        }
        // The newest first: until the last of them is gone, the next start comes to the same result.
        for id in ids.iter().rev().filter(|id| segments.get(**id).is_none()) {
            let path = segment::path(dir, *id);
            files.remove(&path).map_err(Error::io("remove", &path))?;
        }
        if let Some((path, file, size)) = torn {
            file.set_size(size).map_err(Error::io("cut", &path))?;
        }
        // If the machine dies again, what was cut off must not come back in part, where this one goes on. A process that was
        // killed here has left nothing to cut, so it is done whenever the machine has died. A disk that does not take it is
        // no reason to lose sessions: nothing is durable before it has.
        let mut trouble = exposed;
        let mut unsynced = None;
        if read.trust.from.is_some() {
            if let Some(id) = segments.iter().last().map(|(id, _)| id) {
                let path = segment::path(dir, id);
                if let Err(e) = files.open(&path).and_then(|file| file.sync()) {
                    let e = Error::io("sync", &path)(e);
                    let failed: Vec<u32> = marks.failed(boot).chain([id]).collect();
                    for e in [Some(e), marks.fail(&*files, boot, failed).err()].into_iter().flatten() {
                        tracing::error!("{e}");
                        trouble.get_or_insert(e);
                    }
                    unsynced = Some(id);
                }
            }
            if let Err(e) = files.sync_dir(dir) {
                let e = Error::io("sync", dir)(e);
                tracing::error!("{e}");
                trouble.get_or_insert(e);
            }
        }

        // A number that was used is not used again, lest something be taken for what had it before.
        let used = ids.iter().copied().chain(marks.latest().into_iter().flat_map(Mark::numbers)).max();
        let last = segments.iter().last().map(|(id, s)| (id, s.len));
        let found = read.found;
        let sessions = index(found, &mut segments, &mut recovery)?;
        let Some(head) = used.map_or(Some(1), |id| id.checked_add(1)) else {
            return Err(Error::corrupt(dir, "the numbers of segments are used up"));
        };
        let file = create(&*files, dir, head)?;
        // Always, since a process may have made ours and been killed before it got round to that.
        holders.extend(above(dir).map(Path::to_owned));
        holders.dedup();
        // Without a mark all is believed, as what an earlier release wrote has to be. From here on it is not.
        if marks.latest().is_none()
            && let Err(e) = marks.set(&*files, Mark { segment: head, ..Mark::default() })
        {
            tracing::error!("{e}");
            trouble.get_or_insert(e);
        }
        // What was read after another start of the machine came from the disk; else it may be in memory only.
        let failed: BTreeSet<u32> =
            marks.failed(boot).chain(unsynced).filter(|id| segments.get(*id).is_some()).collect();
        let background = Background::start(files.clone(), dir, head, marks, failed.clone(), gone)?;
        background.send(Job::Holders(holders));
        background.send(Job::Found(segments.iter().map(|(id, _)| id).collect()));
        let writer = Writer {
            files,
            dir: dir.to_owned(),
            config: config.bounded(),
            head: Head::new(head, file),
            boot,
            position: 0,
            written: 0,
            commits: 0,
            spare: None,
        };
        let mut journal = Journal {
            index: Index { sessions, segments },
            writer,
            collector: Collector { suspects: failed, ..Collector::default() },
            reader: Reader::default(),
            trouble,
            background,
            copies: Vec::new(),
            _lock: lock,
        };
        let (before, end) = last.unwrap_or_default();
        journal.begin(before, end);
        // Until the time is told, it is zero.
        journal.index.segments.due = Due(journal.writer.config.dead_age);
        for (id, s) in journal.index.segments.iter_mut() {
            let needed = s.live + s.own + (s.tombs.len() * record::HEADER) as u64;
            // Numbers may be all that is dead, but to know that they would have to be counted.
            if id != head && s.len > needed {
                s.due = Due::AT_ONCE;
            }
        }
        // What is of no use at all goes now: every start leaves a segment, mostly a small one.
        let useless =
            |(id, s): (u32, &Segment)| (s.live == 0 && s.tombs.is_empty() && id != head).then_some(id);
        for id in journal.index.segments.iter().filter_map(useless).collect::<Vec<_>>() {
            journal.index.segments.remove(id);
            let retired = Retired { id, position: journal.writer.position, due: Due::AT_ONCE };
            journal.collector.retired.push(retired);
        }
        journal.collector.paced = journal.writer.position;
        // If the disk is full this waits like anything else.
        if let Err(e) = journal.flush() {
            journal.note(e);
        }
        Ok((journal, recovery))
    }
}

/// Up to which segment, and offset in it, all that is needed of a closed journal is known to be on the disk itself: what is missing
/// there was removed, what is missing behind that may have been lost when the machine died. `None` if nothing is known.
///
/// # Errors
/// [`Error::Io`], [`Error::UnknownVersion`].
pub fn certain(dir: &Path) -> Result<Option<(u32, u64)>, Error> {
    Ok(Marks::open(&OsFiles, dir)?.latest().map(|mark| (mark.segment, mark.offset)))
}

/// The directory in which that one is.
fn above(dir: &Path) -> Option<&Path> {
    dir.parent().map(|above| if above.as_os_str().is_empty() { Path::new(".") } else { above })
}

/// Creates the directory and those above it that are not there. Returns those in which one was made.
fn make_dirs(files: &dyn Files, dir: &Path) -> io::Result<Vec<PathBuf>> {
    let above = above(dir).filter(|above| *above != dir);
    let (made, mut holders) = match (files.make_dir(dir), above) {
        (Err(e), Some(above)) if e.kind() == ErrorKind::NotFound => {
            let holders = make_dirs(files, above)?;
            (files.make_dir(dir)?, holders)
        }
        (made, _) => (made?, Vec::new()),
    };
    holders.extend(above.filter(|_| made).map(Path::to_owned));
    Ok(holders)
}

/// The segments' numbers, rising. Empty files at the end were never begun, and are removed.
fn list(files: &dyn Files, dir: &Path) -> Result<Vec<u32>, Error> {
    let names = files.list(dir).map_err(Error::io("list", dir))?;
    let mut ids: Vec<u32> = names.iter().filter_map(|n| n.to_str()).filter_map(segment::id).collect();
    ids.sort_unstable();
    while let Some(id) = ids.last() {
        let path = segment::path(dir, *id);
        let size = files.open(&path).and_then(|f| f.size()).map_err(Error::io("open", &path))?;
        if size > 0 {
            break;
        }
        files.remove(&path).map_err(Error::io("remove", &path))?;
        ids.pop();
    }
    Ok(ids)
}

/// From where on a gap is what did not survive the machine's death, and not damage.
struct Trust {
    /// The segment, and the offset in it. `None`: nowhere, nothing can have been lost since it was handed to the operating system.
    from: Option<(u32, u64)>,
}

impl Trust {
    fn new(
        files: &dyn Files,
        dir: &Path,
        ids: &[u32],
        mark: Option<&Mark>,
        boot: u128,
    ) -> Result<Trust, Error> {
        let Some(mark) = mark else { return Ok(Trust { from: None }) };
        for id in ids.iter().rev() {
            let path = segment::path(dir, *id);
            let file = files.open(&path).map_err(Error::io("open", &path))?;
            let mut bytes = [0; segment::PREAMBLE];
            match file.read_exact_at(&mut bytes, 0) {
                Ok(()) => {}
                Err(e) if e.kind() == ErrorKind::UnexpectedEof => continue,
                Err(e) => return Err(Error::io("read", &path)(e)),
            }
            // Whoever began it had read all that came before.
            if boot != 0 && Begin::read(*id, &bytes).is_some_and(|begin| begin.boot == boot) {
                return Ok(Trust { from: None });
            }
        }
        Ok(Trust { from: Some((mark.segment, mark.offset)) })
    }

    /// How much of a segment is on the disk for certain, in bytes.
    fn certain(&self, id: u32) -> u64 {
        match self.from {
            Some((segment, _)) if id > segment => 0,
            Some((segment, offset)) if id == segment => offset,
            _ => u64::MAX,
        }
    }
}

/// What was read so far.
struct Read {
    trust: Trust,
    /// The segment before, and where it ends.
    before: Option<(u32, u64)>,
    found: FxHashMap<u64, Found>,
    /// From where on nothing is believed: the segment and the offset.
    gap: Option<(u32, u64)>,
}

impl Read {
    /// Takes in a segment. Returns how much of it counts, and the stretches in that (offset, length) that held no record.
    fn segment(
        &mut self,
        id: u32,
        path: &Path,
        bytes: &[u8],
        recovery: &mut Recovery,
    ) -> Result<(Segment, Vec<(u64, u64)>), Error> {
        let size = bytes.len() as u64;
        let (begin, certain) = (Begin::read(id, bytes), self.trust.certain(id));
        let own = begin.map_or(segment::HEADER, |_| segment::PREAMBLE) as u64;
        let mut segment = Segment { len: size, own: own.min(size), ..Segment::default() };
        if self.gap.is_none() && certain < segment::PREAMBLE as u64 {
            // The first one behind the mark begins where that was made, all others where the one before ends.
            let follows = begin.is_some_and(|begin| {
                self.trust.from == Some((id, 0)) || self.before == Some((begin.before, u64::from(begin.end)))
            });
            if !follows {
                self.gap = Some((id, 0));
            }
        }
        let believed = self.gap.is_none();
        let certain = if believed { certain } else { 0 };
        let scanned = scan(path, id, bytes, certain, |r, loc, behind| match believed && !behind {
            _ if r.kind == Kind::Begin => {}
            true => {
                recovery.records += 1;
                absorb(&mut self.found, &mut segment, r, loc);
            }
            false => recovery.unbelieved += 1,
        })?;
        if !believed {
            recovery.torn += size;
            segment.len = 0;
            return Ok((segment, Vec::new()));
        }
        if let Some(gap) = scanned.gap {
            self.gap = Some((id, gap));
            recovery.torn += size - gap;
            segment.len = if gap < segment.own { 0 } else { gap };
        }
        // A mark that was made further on is right, whatever became of the file's end.
        let end = if certain == u64::MAX { segment.len } else { segment.len.max(certain) };
        self.before = Some((id, end));
        Ok((segment, scanned.damage))
    }
}

/// What a segment has beside whole records.
struct Scanned {
    /// Stretches (offset, length) that held none.
    damage: Vec<(u64, u64)>,
    /// Where the first is that is no damage, but did not get to the disk.
    gap: Option<u64>,
}

/// Hands over every whole record, and whether it stands behind a gap. Before that many bytes, which are `certain`, nothing can be
/// a gap.
fn scan(
    path: &Path,
    id: u32,
    bytes: &[u8],
    certain: u64,
    mut each: impl FnMut(Record, Loc, bool),
) -> Result<Scanned, Error> {
    let foreign = |version| Error::UnknownVersion { path: path.to_owned(), version };
    let (mut damage, mut gap): (Vec<(u64, u64)>, Option<u64>) = (Vec::new(), None);
    let mut at = 0;
    let mut lost = None; // where the damaged stretch that we are in began
    if let Some(header) = bytes.first_chunk() {
        at = segment::HEADER;
        match segment::check_header(id, header) {
            segment::Head::Whole => {}
            segment::Head::UnknownVersion(version) => return Err(foreign(version)),
            // The records have checksums of their own.
            segment::Head::Damaged => lost = Some(0),
        }
    }
    let mut note = |from: usize, to: usize, gap: Option<u64>| {
        let to = gap.map_or(to as u64, |gap| gap.min(to as u64));
        if from as u64 != to && gap.is_none_or(|gap| gap > from as u64) {
            damage.push((from as u64, to - from as u64));
        }
    };
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        let likely = lost.is_none() || Header::read(rest).is_some_and(|h| h.is_likely());
        match if likely { parse(id, rest) } else { Parsed::Damaged } {
            Parsed::Record(r) => {
                if let Some(from) = lost.take() {
                    note(from, at, gap);
                }
                let len = record::HEADER + r.payload.len();
                each(r, Loc { segment: id, offset: at as u32, len: len as u32 }, gap.is_some());
                at += len;
            }
            Parsed::Foreign(version) => return Err(foreign(version)),
            Parsed::Short | Parsed::Damaged => {
                lost.get_or_insert(at);
                if at as u64 >= certain {
                    gap.get_or_insert(at as u64);
                }
                at += 1;
            }
        }
    }
    if let Some(from) = lost {
        note(from, bytes.len(), gap);
    }
    Ok(Scanned { damage, gap })
}

fn absorb(found: &mut FxHashMap<u64, Found>, segment: &mut Segment, r: Record, loc: Loc) {
    if r.kind == Kind::End {
        found.remove(&r.session);
        segment.tombs.push(Tomb { session: r.session, first: (r.arg >> 32) as u32, last: r.arg as u32 });
        return;
    }
    let f = found.entry(r.session).or_insert_with(|| Found {
        session: Session { oldest: loc.segment, ..Session::default() },
        ..Found::default()
    });
    match r.kind {
        Kind::Meta => f.session.meta = loc,
        Kind::Slot => drop(f.session.put_slot(r.arg as usize, loc)), // the number was looked at when it was read
        Kind::Stanza if r.arg > f.session.acked => f.stanzas.push_back((r.arg, loc)),
        Kind::State => {
            f.session.state = loc;
            f.session.acked = f.session.acked.max(r.arg);
            f.session.inbound = u64_at(r.payload, 0);
            // Mostly they are in order; what is not is dropped by `index`.
            while f.stanzas.front().is_some_and(|(number, _)| *number <= f.session.acked) {
                f.stanzas.pop_front();
            }
        }
        Kind::Stanza | Kind::End | Kind::Begin => {}
    }
}

/// Makes queues of the stanzas that were found, and counts what is live in each segment.
fn index(
    found: FxHashMap<u64, Found>,
    segments: &mut Table,
    recovery: &mut Recovery,
) -> Result<FxHashMap<u64, Session>, Error> {
    let mut sessions = FxHashMap::with_capacity_and_hasher(found.len(), Default::default());
    for (id, Found { session: mut s, mut stanzas }) in found {
        stanzas.make_contiguous().sort_unstable(); // by number, and copies by age
        let mut lost: u64 = 0;
        s.queue.reserve_exact(stanzas.len());
        for (number, loc) in stanzas {
            if number <= s.acked {
                continue;
            }
            if number == s.last() && !s.queue.is_empty() {
                // A later copy.
                if let Some(last) = s.queue.back_mut() {
                    *last = loc;
                }
                continue;
            }
            if s.queue.is_empty() && s.state.is_none() {
                // Either what came before is lost, or that it was acknowledged.
                lost = lost.saturating_add(number - 1);
                s.acked = number - 1;
            }
            let gap = number - s.last() - 1;
            if gap > WIDEST_GAP {
                lost = lost.saturating_add(1);
                continue;
            }
            lost = lost.saturating_add(gap);
            s.queue.extend((0..gap).map(|_| Loc::default()));
            s.queue.push_back(loc);
        }
        if lost > 0 || s.meta.is_none() {
            recovery.incomplete.push(Incomplete { session: id, stanzas: lost, meta: s.meta.is_none() });
        }
        for loc in s.locs() {
            segments.enliven(loc, false)?;
        }
        sessions.insert(id, s);
    }
    recovery.incomplete.sort_unstable_by_key(|i| i.session);
    Ok(sessions)
}
