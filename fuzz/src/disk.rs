//! A disk in memory, which may be full, and of which a killed process leaves what it had written.

use enjamb_journal::files::{Files, Lock, OpenFile};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Where the journal is.
pub const DIR: &str = "/journal";

#[derive(Default)]
struct MemoryFile {
    bytes: Mutex<Vec<u8>>,
    full: Arc<AtomicBool>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One directory of files.
#[derive(Default)]
pub struct Disk {
    files: Mutex<BTreeMap<PathBuf, Arc<MemoryFile>>>,
    full: Arc<AtomicBool>,
}

impl Disk {
    /// Puts a file there.
    pub fn put(&self, name: &str, bytes: Vec<u8>) {
        let file = MemoryFile { bytes: Mutex::new(bytes), full: Arc::clone(&self.full) };
        locked(&self.files).insert(Path::new(DIR).join(name), Arc::new(file));
    }

    /// From now on nothing more, or something again, can be written.
    pub fn set_full(&self, full: bool) {
        self.full.store(full, Ordering::Relaxed);
    }

    /// What is there for the next process if this one is killed now.
    pub fn killed(&self) -> Arc<Disk> {
        let disk = Disk::default();
        for (path, file) in locked(&self.files).iter() {
            let copy =
                MemoryFile { bytes: Mutex::new(locked(&file.bytes).clone()), full: Arc::clone(&disk.full) };
            locked(&disk.files).insert(path.clone(), Arc::new(copy));
        }
        Arc::new(disk)
    }

    fn file(&self, path: &Path) -> io::Result<Arc<MemoryFile>> {
        locked(&self.files).get(path).cloned().ok_or_else(|| ErrorKind::NotFound.into())
    }
}

impl Files for Disk {
    fn make_dir(&self, _: &Path) -> io::Result<bool> {
        Ok(false)
    }

    fn restrict(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self, _: &Path) -> io::Result<Option<Lock>> {
        Ok(Some(Box::new(())))
    }

    fn list(&self, _: &Path) -> io::Result<Vec<OsString>> {
        Ok(locked(&self.files).keys().filter_map(|path| path.file_name().map(Into::into)).collect())
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn OpenFile>> {
        Ok(self.file(path)?)
    }

    fn create(&self, path: &Path, new: bool) -> io::Result<Arc<dyn OpenFile>> {
        let mut files = locked(&self.files);
        if new && files.contains_key(path) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let file = Arc::new(MemoryFile { full: Arc::clone(&self.full), ..MemoryFile::default() });
        files.insert(path.to_owned(), Arc::clone(&file));
        Ok(file)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        locked(&self.files).remove(path).map(drop).ok_or_else(|| ErrorKind::NotFound.into())
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
}

impl OpenFile for MemoryFile {
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut file = locked(&self.bytes);
        let (at, full) = (offset as usize, self.full.load(Ordering::Relaxed));
        // A full disk takes the first half.
        let bytes = if full { &bytes[..bytes.len() / 2] } else { bytes };
        if file.len() < at + bytes.len() {
            file.resize(at + bytes.len(), 0);
        }
        file[at..at + bytes.len()].copy_from_slice(bytes);
        if full { Err(ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let file = locked(&self.bytes);
        let bytes = file.get(offset as usize..).and_then(|b| b.get(..buffer.len()));
        buffer.copy_from_slice(bytes.ok_or(ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(locked(&self.bytes).len() as u64)
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        locked(&self.bytes).truncate(size as usize);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}
