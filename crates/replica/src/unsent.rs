//! Segments of which something is still to be copied, whatever the journal makes of them meanwhile.
//!
//! The journal removes a segment when it is of no more use to it; the database still needs it, if it is behind, for what it has to be
//! the journal as it was at some moment. So each segment has a second name, in the directory `unsent`, until all of it is
//! copied: that takes no open file for each while the database is away, and is there after the process was killed.

use enjamb_journal::files::OpenFile;
use enjamb_journal::{segment_id, segment_path};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The directory of the second names, in the journal's.
pub(crate) const NAME: &str = "unsent";

pub(crate) struct Unsent {
    dir: PathBuf,
    /// Those that have a second name.
    named: BTreeSet<u32>,
    /// Those that could not be given one.
    open: BTreeMap<u32, Arc<dyn OpenFile>>,
    /// What was read last.
    last: Option<(u32, File)>,
}

/// Gives a segment of the journal in that directory a second name. On the owner's thread, before the journal can remove it.
///
/// # Errors
/// The operating system's.
pub(crate) fn link(dir: &Path, segment: u32) -> io::Result<()> {
    let (path, second) = (segment_path(dir, segment), segment_path(&dir.join(NAME), segment));
    match fs::hard_link(&path, &second) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            DirBuilder::new().mode(0o700).create(dir.join(NAME))?
        }
        // It has one from before.
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => fs::remove_file(&second)?,
        linked => return linked,
    }
    fs::hard_link(path, second)
}

impl Unsent {
    /// Of the journal in that directory.
    pub fn new(dir: &Path) -> Unsent {
        Unsent { dir: dir.to_owned(), named: BTreeSet::new(), open: BTreeMap::new(), last: None }
    }

    /// The journal's directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn path(&self, segment: u32) -> PathBuf {
        segment_path(&self.dir.join(NAME), segment)
    }

    /// A segment that the journal has begun is kept. The file is of one that could not be given a second name.
    pub fn hold(&mut self, segment: u32, file: Option<Arc<dyn OpenFile>>) {
        match file {
            None => drop(self.named.insert(segment)),
            Some(file) => drop(self.open.insert(segment, file)),
        }
    }

    /// All of it is copied.
    pub fn release(&mut self, segment: u32) {
        self.open.remove(&segment);
        if self.last.as_ref().is_some_and(|(last, _)| *last == segment) {
            self.last = None;
        }
        if self.named.remove(&segment) {
            // If it stays, it is met at the next start, and is copied already.
            let _ = fs::remove_file(self.path(segment));
        }
    }

    /// What an earlier process has left, beside what is held now: the segments, and how long they are.
    pub fn left(&mut self) -> Vec<(u32, u64)> {
        let names = fs::read_dir(self.dir.join(NAME)).into_iter().flatten().flatten();
        let found = names.filter_map(|entry| {
            let segment = segment_id(entry.file_name().to_str()?)?;
            Some((segment, entry.metadata().ok()?.len()))
        });
        let left: Vec<(u32, u64)> = found.filter(|(segment, _)| !self.named.contains(segment)).collect();
        self.named.extend(left.iter().map(|(segment, _)| *segment));
        left
    }

    /// Reads some of a segment.
    ///
    /// # Errors
    /// The operating system's; `NotFound` for one that was released, and that the journal has removed.
    pub fn read(&mut self, segment: u32, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        if let Some(file) = self.open.get(&segment) {
            return file.read_exact_at(buffer, offset);
        }
        if self.last.as_ref().is_none_or(|(last, _)| *last != segment) {
            let held = File::open(self.path(segment));
            self.last = Some((segment, held.or_else(|_| File::open(segment_path(&self.dir, segment)))?));
        }
        match &self.last {
            Some((_, file)) => FileExt::read_exact_at(file, buffer, offset),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }
}
