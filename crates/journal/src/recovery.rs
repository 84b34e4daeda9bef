//! Opening: how the state is made again from whatever a crash, a full disk or a bad one has left.
//!
//! Segments are read from the oldest to the newest, whole. Three things may be wrong with one:
//!
//! - The last one ends in the middle of a record: a write was cut. The tail is cut off and nothing of value is lost,
//!   since no commit has answered for it. (A bit that flips in the very last record looks the same, and is told the
//!   same: [`Recovery::torn`].)
//! - There are bytes elsewhere that are no record. They are stepped over, up to the next whole record, and reported.
//!   A stanza cannot be taken for a record: a record holds zero bytes, and XML does not.
//! - A whole record or header has an unknown version. Then nothing is touched and opening fails, for the admin has gone
//!   back to an older release.
//!
//! Afterwards a queue's gaps are known by the stanzas' numbers. They are reported, and handed out as gaps.

#![warn(clippy::indexing_slicing, clippy::string_slice)]

use crate::collect::Pace;
use crate::config::Config;
use crate::error::Error;
use crate::files::{Files, OsFiles};
use crate::log::{Head, Journal, Retired, create};
use crate::record::{self, Header, Kind, Loc, Parsed, Record, parse, u64_at};
use crate::segment::{self, Due, Segment, Table, Tomb};
use crate::session::Session;
use crate::sync::{Background, Job};
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
    /// Bytes that were cut from the end of the last segment: part of a record whose write was cut, in most cases.
    pub torn: u64,
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
        let ids = list(&*files, dir)?;
        // An earlier release left it to the umask. What cannot be mended is told, and no reason to lose sessions.
        let mut exposed = None;
        let ours = ids.iter().map(|id| segment::path(dir, *id));
        for path in [dir.to_owned(), lock_path].into_iter().chain(ours) {
            if let Err(e) = files.restrict(&path).map_err(Error::io("take away others' access to", &path)) {
                tracing::error!("{e}");
                exposed.get_or_insert(e);
            }
        }

        let mut recovery = Recovery { segments: ids.len(), ..Recovery::default() };
        let mut found = FxHashMap::default();
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
            let mut segment = Segment { len: size, ..Segment::default() };
            let damage = scan(&path, *id, &bytes, |r, loc| {
                recovery.records += 1;
                absorb(&mut found, &mut segment, r, loc);
            })?;
            let before = recovery.damaged.len();
            for (offset, len) in damage {
                if Some(id) == ids.last() && offset + len == size {
                    recovery.torn = len;
                    segment.len = offset;
                    torn = Some((path.clone(), file.clone(), offset));
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
            segments.insert(*id, segment);
        }
        drop(bytes);
        // Nothing on disk has been changed up to here, so that a foreign version leaves it all as it is.
        if let Some((path, file, size)) = torn {
            file.set_size(size).map_err(Error::io("cut", &path))?;
        }

        let sessions = index(found, &mut segments, &mut recovery)?;
        let Some(head) = ids.last().map_or(Some(1), |id| id.checked_add(1)) else {
            return Err(Error::corrupt(dir, "the numbers of segments are used up"));
        };
        let file = create(&*files, dir, head)?;
        // Always, since a process may have made ours and been killed before it got round to that.
        holders.extend(above(dir).map(Path::to_owned));
        holders.dedup();
        let background = Background::start(files.clone(), dir)?;
        background.send(Job::Holders(holders));
        background.send(Job::Found(ids));
        let mut journal = Journal {
            files,
            dir: dir.to_owned(),
            config: config.bounded(),
            sessions,
            segments,
            head: Head::new(head, file),
            position: 0,
            written: 0,
            commits: 0,
            moved: 0,
            lost: 0,
            paced: 0,
            collecting: None,
            pace: Pace::default(),
            retired: Vec::new(),
            suspects: BTreeSet::new(),
            spare: None,
            reader: None,
            scratch: Vec::new(),
            trouble: exposed,
            background,
            _lock: lock,
        };
        journal.begin();
        // Until the time is told, it is zero.
        journal.segments.due = Due(journal.config.dead_age);
        for (id, s) in journal.segments.iter_mut() {
            let needed = s.live + (segment::HEADER + s.tombs.len() * record::HEADER) as u64;
            // Numbers may be all that is dead, but to know that they would have to be counted.
            if id != head && s.len > needed {
                s.due = Due::AT_ONCE;
            }
        }
        // What is of no use at all goes now: every start leaves a segment, mostly a small one.
        let useless =
            |(id, s): (u32, &Segment)| (s.live == 0 && s.tombs.is_empty() && id != head).then_some(id);
        for id in journal.segments.iter().filter_map(useless).collect::<Vec<_>>() {
            journal.segments.remove(id);
            let retired = Retired { id, position: journal.position, due: Due::AT_ONCE };
            journal.retired.push(retired);
        }
        journal.paced = journal.position;
        // If the disk is full this waits like anything else.
        if let Err(e) = journal.flush() {
            journal.note(e);
        }
        Ok((journal, recovery))
    }
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

/// Hands over every whole record; returns the stretches (offset, length) that held none.
fn scan(
    path: &Path,
    id: u32,
    bytes: &[u8],
    mut each: impl FnMut(Record, Loc),
) -> Result<Vec<(u64, u64)>, Error> {
    let foreign = |version| Error::UnknownVersion { path: path.to_owned(), version };
    let mut damage: Vec<(u64, u64)> = Vec::new();
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
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        let likely = lost.is_none() || Header::read(rest).is_some_and(|h| h.is_likely());
        match if likely { parse(id, rest) } else { Parsed::Damaged } {
            Parsed::Record(r) => {
                if let Some(from) = lost.take() {
                    damage.push((from as u64, (at - from) as u64));
                }
                let len = record::HEADER + r.payload.len();
                each(r, Loc { segment: id, offset: at as u32, len: len as u32 });
                at += len;
            }
            Parsed::Foreign(version) => return Err(foreign(version)),
            Parsed::Short | Parsed::Damaged => {
                lost.get_or_insert(at);
                at += 1;
            }
        }
    }
    if let Some(from) = lost {
        damage.push((from as u64, (bytes.len() - from) as u64));
    }
    Ok(damage)
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
        Kind::Stanza | Kind::End => {}
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
