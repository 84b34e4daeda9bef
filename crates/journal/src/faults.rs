//! Files in memory that fail on demand, for tests.
//!
//! A crash of the process keeps what was written. A crash of the machine keeps what was synced, and of the rest nothing
//! ([`MemoryFiles::lose_power`]) or anything: each page of a file, each name and each length is there or not, whatever became of the
//! others ([`MemoryFiles::lose_power_in_any_order`]). A sync that fails may lose what it should have synced for good, as
//! Linux does: the pages count as written, so the next sync succeeds and leaves a hole.

#![allow(missing_docs, clippy::unwrap_used, clippy::missing_panics_doc, clippy::must_use_candidate)]

use crate::files::{Files, Lock, OpenFile};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, ThreadId};

pub const EIO: i32 = 5;
pub const ENOSPC: i32 = 28;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Op {
    Create,
    Write,
    Read,
    Sync,
    Remove,
    Restrict,
}

#[derive(Clone, Default)]
struct Data {
    bytes: Vec<u8>,
    /// What a crash of the machine leaves for certain. What it lacks is zero.
    synced: Vec<u8>,
    /// Pages that the next sync writes.
    dirty: BTreeSet<usize>,
    /// Pages that a sync has failed to write, and that none will write any more. They may be on the disk or not.
    dropped: BTreeSet<usize>,
}

impl Data {
    /// Returns which pages that are.
    fn put(&mut self, bytes: &[u8], offset: usize, page: usize) -> Range<usize> {
        assert!(offset <= self.bytes.len(), "a hole");
        if bytes.is_empty() {
            return 0..0;
        }
        let end = offset + bytes.len();
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        self.bytes[offset..end].copy_from_slice(bytes);
        let pages = offset / page..(end - 1) / page + 1;
        for n in pages.clone() {
            self.dropped.remove(&n);
            self.dirty.insert(n);
        }
        pages
    }

    /// Page `n` reaches the disk.
    fn write_back(&mut self, n: usize, page: usize) {
        let end = ((n + 1) * page).min(self.bytes.len());
        let Some(now) = self.bytes.get(n * page..end) else { return };
        if self.synced.len() < end {
            self.synced.resize(end, 0);
        }
        self.synced[n * page..end].copy_from_slice(now);
    }

    fn sync(&mut self, page: usize) {
        for n in std::mem::take(&mut self.dirty) {
            self.write_back(n, page);
        }
        self.synced.resize(self.bytes.len(), 0);
    }

    fn fail_to_sync(&mut self, pages: &BTreeSet<usize>) {
        for n in pages.iter().filter(|n| self.dirty.remove(n)) {
            self.dropped.insert(*n);
        }
    }

    /// The machine has died.
    fn lose(&mut self, page: usize, survives: &mut dyn FnMut() -> bool) {
        let len = self.bytes.len();
        for n in std::mem::take(&mut self.dirty).into_iter().chain(std::mem::take(&mut self.dropped)) {
            if survives() {
                self.write_back(n, page);
            }
        }
        if len != self.synced.len() && survives() {
            self.synced.resize(len, 0);
        }
        self.bytes = self.synced.clone();
    }
}

#[derive(Clone, Copy)]
struct Fault {
    op: Op,
    /// How many calls go well before.
    after: u64,
    times: u64,
    errno: i32,
}

struct Disk {
    data: BTreeMap<u64, Data>,
    next: u64,
    names: BTreeMap<PathBuf, u64>,
    synced_names: BTreeMap<PathBuf, u64>,
    /// Beside the root, which is always there.
    dirs: BTreeSet<PathBuf>,
    synced_dirs: BTreeSet<PathBuf>,
    locked: BTreeSet<PathBuf>,
    faults: Vec<Fault>,
    /// Bytes that can be written before the process dies.
    left: Option<u64>,
    dead: bool,
    /// Bytes that fit.
    capacity: Option<usize>,
    /// How often the process has died; handles of earlier ones do nothing.
    life: u64,
    /// How often the machine has died.
    boot: u128,
    /// Bytes that are written together or not at all.
    page: usize,
    /// Whoever was told that a sync has failed and has done nothing since: which file's, and what it will have lost. See
    /// [`MemoryFiles::crash`].
    told: HashMap<ThreadId, (u64, BTreeSet<usize>)>,
}

impl Default for Disk {
    fn default() -> Disk {
        Disk {
            data: BTreeMap::new(),
            next: 0,
            names: BTreeMap::new(),
            synced_names: BTreeMap::new(),
            dirs: BTreeSet::new(),
            synced_dirs: BTreeSet::new(),
            locked: BTreeSet::new(),
            faults: Vec::new(),
            left: None,
            dead: false,
            capacity: None,
            life: 0,
            boot: 1,
            page: 4096,
            told: HashMap::new(),
        }
    }
}

#[derive(Clone, Default)]
pub struct MemoryFiles(Arc<Mutex<Disk>>);

impl MemoryFiles {
    /// A disk with pages of so many bytes: small ones, for what is small.
    pub fn with_pages(page: usize) -> MemoryFiles {
        MemoryFiles(Arc::new(Mutex::new(Disk { page, ..Disk::default() })))
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap()
    }

    /// Calls of that kind fail: after the next `after` ones, `times` times.
    pub fn fail(&self, op: Op, after: u64, times: u64, errno: i32) {
        self.disk().faults.push(Fault { op, after, times, errno });
    }

    pub fn heal(&self) {
        let mut disk = self.disk();
        disk.faults.clear();
        disk.capacity = None;
    }

    /// The disk has room for so many bytes more than it holds.
    pub fn room(&self, bytes: usize) {
        let mut disk = self.disk();
        disk.capacity = Some(disk.used() + bytes);
    }

    /// The process dies when it has written so many bytes more, in the middle of a write if it must be.
    pub fn die_after(&self, bytes: u64) {
        self.disk().left = Some(bytes);
    }

    pub fn is_dead(&self) -> bool {
        self.disk().dead
    }

    /// The process has died, its locks are gone, what it has written is there.
    ///
    /// If it dies between a sync that fails and the write that says so, nothing is lost by that sync: that the next process knows
    /// nothing of it then, if the machine dies as well, is a limit of the journal (docs/journal.md), and here two threads would meet
    /// there often.
    pub fn crash(&self) {
        let mut disk = self.disk();
        disk.told.clear();
        disk.life += 1;
        disk.locked.clear();
        disk.faults.clear();
        (disk.left, disk.dead, disk.capacity) = (None, false, None);
    }

    /// The machine has died, what was synced is there, and nothing else.
    pub fn lose_power(&self) {
        self.lose_power_in_any_order(|| false);
    }

    /// The machine has died. What was synced is there; `survives` is asked of everything else by itself: each page, the
    /// length of each file, and each name that was made or taken away.
    pub fn lose_power_in_any_order(&self, mut survives: impl FnMut() -> bool) {
        self.crash();
        let mut disk = self.disk();
        disk.boot += 1;
        let Disk { names, synced_names, dirs, synced_dirs, data, page, .. } = &mut *disk;
        dirs.retain(|dir| synced_dirs.contains(dir) || survives());
        // What is in a directory whose own name is gone cannot be found.
        let all = dirs.clone();
        dirs.retain(|dir| is_below(dir, &all));
        let before = std::mem::take(names);
        for path in before.keys().chain(synced_names.keys()).collect::<BTreeSet<_>>() {
            let (now, then) = (before.get(path), synced_names.get(path));
            let left = if now == then || survives() { now } else { then };
            if let Some(id) = left.filter(|_| is_below(path, dirs)) {
                names.insert(path.clone(), *id);
            }
        }
        (*synced_names, *synced_dirs) = (names.clone(), dirs.clone());
        for data in data.values_mut() {
            data.lose(*page, &mut survives);
        }
    }

    pub fn read(&self, path: &Path) -> Vec<u8> {
        let disk = self.disk();
        disk.data[&disk.names[path]].bytes.clone()
    }

    pub fn write(&self, path: &Path, bytes: &[u8]) {
        let mut disk = self.disk();
        let id = match disk.names.get(path) {
            Some(id) => *id,
            None => disk.enter(path),
        };
        disk.data.entry(id).or_default().bytes.clear();
        disk.put(id, bytes, 0);
    }

    pub fn flip(&self, path: &Path, bit: usize) {
        let mut disk = self.disk();
        let id = disk.names[path];
        disk.data.entry(id).or_default().bytes[bit / 8] ^= 1 << (bit % 8);
    }

    /// The segments' paths, rising.
    pub fn segments(&self) -> Vec<PathBuf> {
        let disk = self.disk();
        disk.names.keys().filter(|p| p.extension().is_some_and(|e| e == "seg")).cloned().collect()
    }

    /// All that is in files, or would be after a crash of the machine.
    pub fn each_content(&self, mut each: impl FnMut(&[u8])) {
        let disk = self.disk();
        let named: BTreeSet<u64> = disk.names.values().chain(disk.synced_names.values()).copied().collect();
        for data in named.iter().map(|id| &disk.data[id]) {
            each(&data.bytes);
            if !data.bytes.starts_with(&data.synced) {
                each(&data.synced);
            }
        }
    }

    /// Another disk with the same bytes on it.
    pub fn copy(&self) -> MemoryFiles {
        let disk = self.disk();
        MemoryFiles(Arc::new(Mutex::new(Disk {
            data: disk.data.clone(),
            next: disk.next,
            names: disk.names.clone(),
            synced_names: disk.synced_names.clone(),
            dirs: disk.dirs.clone(),
            synced_dirs: disk.synced_dirs.clone(),
            boot: disk.boot,
            page: disk.page,
            ..Disk::default()
        })))
    }

    pub fn used(&self) -> usize {
        self.disk().used()
    }
}

/// A coin that falls as the seed has it, mostly on one side for some seeds: what survives, in
/// [`MemoryFiles::lose_power_in_any_order`].
pub fn coin(seed: u64) -> impl FnMut() -> bool {
    let (mut random, of_eight) = (seed | 1, [1, 4, 7, 7][seed as usize >> 1 & 3]);
    move || {
        // xorshift
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random >> 33) % 8 < of_eight
    }
}

/// Whether all directories above that path are there.
fn is_below(path: &Path, dirs: &BTreeSet<PathBuf>) -> bool {
    path.ancestors().skip(1).all(|above| above.parent().is_none() || dirs.contains(above))
}

impl Disk {
    fn used(&self) -> usize {
        self.names.values().map(|id| self.data[id].bytes.len()).sum()
    }

    fn check(&mut self, life: u64, op: Op) -> io::Result<()> {
        self.check_unless(life, op, None)
    }

    fn check_unless(&mut self, life: u64, op: Op, never: Option<i32>) -> io::Result<()> {
        if self.dead || self.life != life {
            return Err(io::Error::other("dead"));
        }
        if op != Op::Write {
            self.go_on();
        }
        for fault in self.faults.iter_mut().filter(|f| f.op == op && Some(f.errno) != never) {
            if fault.after > 0 {
                fault.after -= 1;
            } else if fault.times > 0 {
                fault.times -= 1;
                return Err(io::Error::from_raw_os_error(fault.errno));
            }
        }
        Ok(())
    }

    /// This thread has had the time to note that a sync has failed.
    fn go_on(&mut self) {
        if let Some((id, pages)) = self.told.remove(&thread::current().id())
            && let Some(data) = self.data.get_mut(&id)
        {
            data.fail_to_sync(&pages);
        }
    }

    fn put(&mut self, id: u64, bytes: &[u8], offset: usize) {
        let page = self.page;
        let written = self.data.entry(id).or_default().put(bytes, offset, page);
        for (_, pages) in self.told.values_mut().filter(|(file, _)| *file == id) {
            pages.retain(|n| !written.contains(n));
        }
    }

    fn enter(&mut self, path: &Path) -> u64 {
        self.next += 1;
        let id = self.next;
        self.data.insert(id, Data::default());
        self.names.insert(path.to_owned(), id);
        id
    }
}

struct MemoryFile {
    files: MemoryFiles,
    id: u64,
    life: u64,
}

struct MemoryLock {
    files: MemoryFiles,
    path: PathBuf,
    life: u64,
}

impl Drop for MemoryLock {
    fn drop(&mut self) {
        let mut disk = self.files.disk();
        if disk.life == self.life {
            disk.locked.remove(&self.path);
        }
    }
}

/// One life of a process on that disk.
pub struct Process {
    files: MemoryFiles,
    life: u64,
}

impl MemoryFiles {
    pub fn process(&self) -> Arc<Process> {
        Arc::new(Process { files: self.clone(), life: self.disk().life })
    }
}

impl Files for Process {
    fn make_dir(&self, dir: &Path) -> io::Result<bool> {
        let mut disk = self.files.disk();
        match is_below(dir, &disk.dirs) {
            true => Ok(dir.parent().is_some() && disk.dirs.insert(dir.to_owned())),
            false => Err(ErrorKind::NotFound.into()),
        }
    }

    fn boot(&self) -> Option<u128> {
        Some(self.files.disk().boot)
    }

    fn restrict(&self, _: &Path) -> io::Result<()> {
        self.files.disk().check(self.life, Op::Restrict)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Lock>> {
        let free = self.files.disk().locked.insert(path.to_owned());
        Ok(free.then(|| -> Lock {
            Box::new(MemoryLock { files: self.files.clone(), path: path.to_owned(), life: self.life })
        }))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        let disk = self.files.disk();
        let here = disk.names.keys().filter(|p| p.parent() == Some(dir));
        Ok(here.filter_map(|p| p.file_name()).map(Into::into).collect())
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn OpenFile>> {
        let id = *self.files.disk().names.get(path).ok_or(ErrorKind::NotFound)?;
        Ok(Arc::new(MemoryFile { files: self.files.clone(), id, life: self.life }))
    }

    fn create(&self, path: &Path, new: bool) -> io::Result<Arc<dyn OpenFile>> {
        let mut disk = self.files.disk();
        disk.check(self.life, Op::Create)?;
        if !is_below(path, &disk.dirs) {
            return Err(ErrorKind::NotFound.into());
        }
        let id = match disk.names.get(path).copied() {
            Some(_) if new => return Err(ErrorKind::AlreadyExists.into()),
            Some(id) => {
                disk.data.entry(id).or_default().bytes.clear();
                id
            }
            None => disk.enter(path),
        };
        Ok(Arc::new(MemoryFile { files: self.files.clone(), id, life: self.life }))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.files.disk();
        disk.check(self.life, Op::Remove)?;
        disk.names.remove(path).map(drop).ok_or(ErrorKind::NotFound.into())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut disk = self.files.disk();
        disk.check(self.life, Op::Sync)?;
        let Disk { names, synced_names, dirs, synced_dirs, .. } = &mut *disk;
        let here = |path: &Path| path.parent() == Some(dir);
        synced_names.retain(|path, _| !here(path));
        synced_names
            .extend(names.iter().filter(|(path, _)| here(path)).map(|(path, id)| (path.clone(), *id)));
        synced_dirs.retain(|path| !here(path));
        synced_dirs.extend(dirs.iter().filter(|path| here(path)).cloned());
        Ok(())
    }
}

impl OpenFile for MemoryFile {
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut disk = self.files.disk();
        // A disk that is full takes what is written over something else.
        let grows = offset as usize + bytes.len() > disk.data[&self.id].bytes.len();
        let mut result = disk.check_unless(self.life, Op::Write, (!grows).then_some(ENOSPC));
        if disk.dead || disk.life != self.life {
            return result;
        }
        let offset = offset as usize;
        let mut n = bytes.len();
        if result.is_err() {
            n = n.min(13); // a part gets through
        }
        if let Some(capacity) = disk.capacity {
            let grow = (offset + n).saturating_sub(disk.data[&self.id].bytes.len());
            let room = capacity.saturating_sub(disk.used());
            if grow > room {
                n -= grow - room;
                result = Err(io::Error::from_raw_os_error(ENOSPC));
            }
        }
        if let Some(left) = &mut disk.left {
            if (n as u64) > *left {
                n = *left as usize;
                result = Err(io::Error::other("dead"));
            }
            *left -= n as u64;
            disk.dead |= result.as_ref().is_err_and(|e| e.raw_os_error().is_none());
        }
        disk.put(self.id, &bytes[..n], offset);
        if result.is_ok() {
            disk.go_on();
        }
        result
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let mut disk = self.files.disk();
        disk.check(self.life, Op::Read)?;
        let bytes = disk.data[&self.id].bytes.get(offset as usize..).and_then(|b| b.get(..buffer.len()));
        buffer.copy_from_slice(bytes.ok_or(ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.files.disk().data[&self.id].bytes.len() as u64)
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        let mut disk = self.files.disk();
        disk.check(self.life, Op::Write)?;
        disk.data.entry(self.id).or_default().bytes.truncate(size as usize);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut disk = self.files.disk();
        let result = disk.check(self.life, Op::Sync);
        if disk.dead || disk.life != self.life {
            return result;
        }
        let page = disk.page;
        let data = disk.data.entry(self.id).or_default();
        match result {
            Ok(()) => data.sync(page),
            Err(_) => {
                let lost = data.dirty.clone();
                disk.told.insert(thread::current().id(), (self.id, lost));
            }
        }
        result
    }
}
