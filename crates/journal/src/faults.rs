//! Files in memory that fail on demand, for tests.
//!
//! A crash of the process keeps what was written, a crash of the machine only what was synced. A sync that fails loses
//! what it should have synced for good, as Linux may: the next one succeeds and leaves a hole.

#![allow(missing_docs, clippy::unwrap_used, clippy::missing_panics_doc, clippy::must_use_candidate)]

use crate::files::{Files, Lock, OpenFile};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

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
    /// What a crash of the machine leaves.
    synced: Vec<u8>,
    /// What a failed sync has lost.
    holes: Vec<Range<usize>>,
}

#[derive(Clone, Copy)]
struct Fault {
    op: Op,
    /// How many calls go well before.
    after: u64,
    times: u64,
    errno: i32,
}

#[derive(Default)]
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
}

#[derive(Clone, Default)]
pub struct MemoryFiles(Arc<Mutex<Disk>>);

impl MemoryFiles {
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
    pub fn crash(&self) {
        let mut disk = self.disk();
        disk.life += 1;
        disk.locked.clear();
        disk.faults.clear();
        (disk.left, disk.dead, disk.capacity) = (None, false, None);
    }

    /// The machine has died, what was synced is there.
    pub fn lose_power(&self) {
        self.crash();
        let mut disk = self.disk();
        let Disk { names, synced_names, dirs, synced_dirs, .. } = &mut *disk;
        // What is in a directory whose own name is gone cannot be found.
        dirs.clear();
        dirs.extend(synced_dirs.iter().filter(|d| is_below(d, synced_dirs)).cloned());
        names.clear();
        names.extend(synced_names.iter().filter(|(p, _)| is_below(p, dirs)).map(|(p, id)| (p.clone(), *id)));
        (*synced_names, *synced_dirs) = (names.clone(), dirs.clone());
        for data in disk.data.values_mut() {
            data.bytes = data.synced.clone();
        }
    }

    /// The machine has died. Of what was not synced a part is there all the same, in the order in which it was written:
    /// `survives(n)` says how many of the next n bytes, or of one name, are. Files are taken in the order of their names,
    /// in which segments are written.
    pub fn lose_power_in_order(&self, mut survives: impl FnMut(usize) -> usize) {
        self.crash();
        let mut disk = self.disk();
        let Disk { names, synced_names, dirs, synced_dirs, data, .. } = &mut *disk;
        dirs.retain(|dir| synced_dirs.contains(dir));
        let mut whole = true;
        let before = std::mem::take(names);
        for path in before.keys().chain(synced_names.keys()).collect::<BTreeSet<_>>() {
            let (now, then) = (before.get(path), synced_names.get(path));
            // A name that was taken away may be there again.
            let left = match now == then || now.is_some() && whole && survives(1) == 1 {
                true => now,
                false => then,
            };
            whole &= left.is_some() || now.is_none();
            if let Some(id) = left.filter(|_| is_below(path, dirs)) {
                names.insert(path.clone(), *id);
                if let Some(data) = data.get_mut(id) {
                    let more = data.bytes.len().saturating_sub(data.synced.len());
                    let more_survives = if whole && more > 0 { survives(more).min(more) } else { 0 };
                    whole &= more_survives == more;
                    let mut left = data.synced.clone();
                    left.extend_from_slice(&data.bytes[data.bytes.len() - more..][..more_survives]);
                    data.bytes = left.clone();
                    data.synced = left;
                }
            }
        }
        (*synced_names, *synced_dirs) = (names.clone(), dirs.clone());
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
        disk.data.entry(id).or_default().bytes = bytes.to_vec();
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
            ..Disk::default()
        })))
    }

    pub fn used(&self) -> usize {
        self.disk().used()
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
        if self.dead || self.life != life {
            return Err(io::Error::other("dead"));
        }
        for fault in self.faults.iter_mut().filter(|f| f.op == op) {
            if fault.after > 0 {
                fault.after -= 1;
            } else if fault.times > 0 {
                fault.times -= 1;
                return Err(io::Error::from_raw_os_error(fault.errno));
            }
        }
        Ok(())
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
        let mut result = disk.check(self.life, Op::Write);
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
        let data = disk.data.entry(self.id).or_default();
        assert!(offset <= data.bytes.len(), "a hole");
        if data.bytes.len() < offset + n {
            data.bytes.resize(offset + n, 0);
        }
        data.bytes[offset..offset + n].copy_from_slice(&bytes[..n]);
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
        let data = disk.data.entry(self.id).or_default();
        if result.is_err() {
            data.holes.push(data.synced.len()..data.bytes.len());
            return result;
        }
        data.synced = data.bytes.clone();
        for hole in &data.holes {
            let end = hole.end.min(data.synced.len());
            data.synced[hole.start.min(end)..end].fill(0);
        }
        Ok(())
    }
}
