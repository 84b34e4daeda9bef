//! The operating system's files, behind a trait, so that a test can fill the disk, cut a write or flip a bit.
//!
//! It knows nothing of segments and records. Everything takes paths and returns what the operating system said. What it
//! makes is for the owner alone, whatever the process's umask: in it are other people's messages.

use std::any::Any;
use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

/// Locked until it is dropped.
pub type Lock = Box<dyn Any + Send + Sync>;

/// A directory tree.
pub trait Files: Send + Sync {
    /// Creates the directory; false if it is there.
    ///
    /// # Errors
    /// The operating system's; `NotFound` if the one above is not there.
    fn make_dir(&self, dir: &Path) -> io::Result<bool>;

    /// A number that the machine has had since it was started and never before; `None` if that cannot be known.
    ///
    /// While it is the same, all that was handed to the operating system is there.
    fn boot(&self) -> Option<u128> {
        None
    }

    /// Takes a directory or file from everybody but its owner, if anybody else has access to it.
    ///
    /// # Errors
    /// The operating system's.
    fn restrict(&self, path: &Path) -> io::Result<()>;

    /// Locks the file against other processes and other locks of this one; `None` if somebody has it.
    ///
    /// # Errors
    /// The operating system's.
    fn lock(&self, path: &Path) -> io::Result<Option<Lock>>;

    /// The names in a directory.
    ///
    /// # Errors
    /// The operating system's.
    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>>;

    /// Opens a file that is there, for reading and writing.
    ///
    /// # Errors
    /// The operating system's.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn OpenFile>>;

    /// Opens an empty file for reading and writing. One of that name is emptied, unless it must be `new`.
    ///
    /// # Errors
    /// The operating system's; `AlreadyExists` for one that must be `new` and is not.
    fn create(&self, path: &Path, new: bool) -> io::Result<Arc<dyn OpenFile>>;

    /// Removes a file.
    ///
    /// # Errors
    /// The operating system's.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a directory outlast a power failure.
    ///
    /// # Errors
    /// The operating system's.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
}

/// One file of such a tree.
pub trait OpenFile: Send + Sync {
    /// Writes all the bytes. After an error any part of them may have been written.
    ///
    /// # Errors
    /// The operating system's.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Fills the buffer.
    ///
    /// # Errors
    /// The operating system's; `UnexpectedEof` if the file ends before.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;

    /// The file's length in bytes.
    ///
    /// # Errors
    /// The operating system's.
    fn size(&self) -> io::Result<u64>;

    /// Cuts the file.
    ///
    /// # Errors
    /// The operating system's.
    fn set_size(&self, size: u64) -> io::Result<()>;

    /// Makes the file's bytes outlast a power failure.
    ///
    /// # Errors
    /// The operating system's. Whether the bytes of any earlier write will reach the disk is then unknown for good,
    /// even if a later sync succeeds.
    fn sync(&self) -> io::Result<()>;
}

const DIR_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// The files of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsFiles;

impl Files for OsFiles {
    fn make_dir(&self, dir: &Path) -> io::Result<bool> {
        match DirBuilder::new().mode(DIR_MODE).create(dir) {
            Ok(()) => Ok(true),
            Err(_) if dir.is_dir() => Ok(false),
            Err(e) => Err(e),
        }
    }

    fn boot(&self) -> Option<u128> {
        // Linux; elsewhere each start may be another one.
        let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        u128::from_str_radix(&id.trim().replace('-', ""), 16).ok().filter(|id| *id != 0)
    }

    fn restrict(&self, path: &Path) -> io::Result<()> {
        let there = fs::metadata(path)?;
        if there.permissions().mode() & 0o077 == 0 {
            return Ok(());
        }
        let mode = if there.is_dir() { DIR_MODE } else { FILE_MODE };
        fs::set_permissions(path, Permissions::from_mode(mode))
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Lock>> {
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(FILE_MODE).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Box::new(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(e)) => Err(e),
        }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        fs::read_dir(dir)?.map(|entry| entry.map(|e| e.file_name())).collect()
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn OpenFile>> {
        Ok(Arc::new(OpenOptions::new().read(true).write(true).open(path)?))
    }

    fn create(&self, path: &Path, new: bool) -> io::Result<Arc<dyn OpenFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).mode(FILE_MODE);
        match new {
            true => options.create_new(true),
            false => options.create(true).truncate(true),
        };
        Ok(Arc::new(options.open(path)?))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }
}

impl OpenFile for File {
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        FileExt::write_all_at(self, bytes, offset)
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, buffer, offset)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        self.set_len(size)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}
