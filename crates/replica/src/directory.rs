//! The journal's directory: whose it is, whether it may be believed, and how it is made from what the database has.
//!
//! A small file in it, `replica`, says which node this is, and under which epoch what lies there was written. It is part of the directory,
//! so it goes with it when that is set aside. Beside the directory is a lock, by which a node knows that no other process of
//! its own is alive.
//!
//! A note is of one place, which is the machine and the directory: one that was copied elsewhere is not this node's.

use crate::error::Error;
use crate::lease::Row;
use crate::unsent;
use enjamb_journal::segment_path;
use std::fs::{self, File, TryLockError};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

const NAME: &str = "replica";
/// How long the lock of a process that is dying is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
const MAGIC: &str = "enjamb-replica 1";

/// What a directory says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// This node: random, never the same twice.
    pub node: String,
    /// Which cluster it is of.
    pub cluster: String,
    /// The epoch under which it was written; 0: none.
    pub epoch: u64,
    /// The one that this node is about to take with this directory as it is.
    pub next: u64,
    /// In which life of the machine it was written; text that is never the same twice, or empty.
    pub boot: String,
}

/// What becomes of a directory when the lease was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It has all that the database has: the journal goes on with it.
    Keep,
    /// It has all that the database has, unless the machine's death took something of it.
    KeepIfWhole,
    /// It is set aside, and made again from what the database has.
    Replace,
}

/// The directory of a node.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    cluster: String,
    place: String,
    boot: String,
    node: String,
    found: Option<Note>,
    _lock: File,
}

/// What was written of the database's segments.
#[derive(Debug)]
pub struct Rebuilding {
    path: PathBuf,
    open: Option<(u32, File)>,
}

/// What the machine is called; empty if it cannot say.
pub fn host_name() -> String {
    nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn read_line(path: &str) -> String {
    fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default()
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn make_dir(path: &Path) -> Result<(), Error> {
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(e) if e.kind() != ErrorKind::AlreadyExists => Err(Error::io("create", path)(e)),
        _ => Ok(()),
    }
}

fn remove_dir(path: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(Error::io("remove", path)(e)),
        _ => Ok(()),
    }
}

fn sync_dir(path: &Path) -> Result<(), Error> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(Error::io("sync", path))
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The journal in that directory is used without a replica: what was held for one is let go of, since other people's messages are in it.
pub fn forget(path: &Path) {
    if let Err(e) = remove_dir(&path.join(unsent::NAME)) {
        tracing::warn!("what was not copied before stays: {e}");
    }
}

impl Directory {
    /// Locks the directory for this process, and reads what it says of itself. It need not be there.
    ///
    /// # Errors
    /// [`Error::InUse`], [`Error::Io`], [`Error::Note`], [`Error::System`].
    pub fn open(path: &Path, cluster: &str) -> Result<Directory, Error> {
        let lock_path = beside(path, ".lock");
        let lock = File::options().create(true).truncate(false).write(true).mode(0o600).open(&lock_path);
        let lock = lock.map_err(Error::io("open", &lock_path))?;
        let started = Instant::now();
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                // A process that was killed may still be in a system call.
                Err(TryLockError::WouldBlock) if started.elapsed() < PATIENCE => {
                    sleep(Duration::from_millis(20))
                }
                Err(TryLockError::WouldBlock) => return Err(Error::InUse { path: lock_path }),
                Err(TryLockError::Error(e)) => return Err(Error::io("lock", &lock_path)(e)),
            }
        }
        let host = host_name();
        let full = parent(path).canonicalize().map_err(Error::io("find", parent(path)))?;
        let name = path.file_name().unwrap_or_default();
        let place = format!("{} {host} {}", read_line("/etc/machine-id"), full.join(name).display());
        let boot = read_line("/proc/sys/kernel/random/boot_id");
        let found = Note::read(&path.join(NAME), &place)?;
        let (node, found) = match found {
            Some((node, note)) => (node, note.filter(|note| note.cluster == cluster)),
            None => (random()?, None),
        };
        let (path, cluster) = (path.to_owned(), cluster.to_owned());
        Ok(Directory { path, cluster, place, boot, node, found, _lock: lock })
    }

    /// This node: no other has the same.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it says of itself, if that is of this node and cluster.
    pub fn note(&self) -> Option<&Note> {
        self.found.as_ref()
    }

    /// Whether there is a journal.
    fn is_there(&self) -> bool {
        let Ok(files) = fs::read_dir(&self.path) else { return false };
        files.flatten().any(|file| file.path().extension().is_some_and(|e| e == "seg"))
    }

    /// Whether the directory is this node's under that row.
    fn is_of(&self, row: &Row) -> bool {
        let known = |note: &Note| note.epoch == row.epoch || note.next == row.epoch;
        row.holder == self.node && row.epoch > 0 && self.found.as_ref().is_some_and(known)
    }

    /// What becomes of it if the lease is taken from that row.
    pub fn verdict(&self, before: Option<&Row>) -> Verdict {
        match before {
            // The first of its cluster. A journal that has never been of one goes on in this.
            None if self.found.is_none() => Verdict::Keep,
            Some(row) if self.is_of(row) => {
                let same =
                    self.found.as_ref().is_some_and(|note| !note.boot.is_empty() && note.boot == self.boot);
                if same { Verdict::Keep } else { Verdict::KeepIfWhole }
            }
            _ => Verdict::Replace,
        }
    }

    /// Before the lease is taken from that row: if the directory is good for that, it says so. Otherwise it would not be known
    /// for the node's own if it were killed in between.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn intend(&mut self, before: Option<&Row>) -> Result<(), Error> {
        let Some(row) = before.filter(|row| self.is_of(row)) else { return Ok(()) };
        let Some(mut note) = self.found.clone() else { return Ok(()) };
        (note.epoch, note.next) = (row.epoch, row.epoch + 1);
        note.write(&self.path, &self.place)?;
        self.found = Some(note);
        Ok(())
    }

    /// The directory is that epoch's now.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn settle(&mut self, epoch: u64) -> Result<(), Error> {
        make_dir(&self.path)?;
        if self.found.as_ref().is_none_or(|note| note.boot != self.boot) {
            // What of it got to the disk before the machine died is not known.
            let _ = fs::remove_dir_all(self.path.join(unsent::NAME));
        }
        let note = self.fresh_note(epoch);
        note.write(&self.path, &self.place)?;
        self.found = Some(note);
        Ok(())
    }

    fn fresh_note(&self, epoch: u64) -> Note {
        let (node, cluster, boot) = (self.node.clone(), self.cluster.clone(), self.boot.clone());
        Note { node, cluster, epoch, next: epoch, boot }
    }

    /// Begins to make it anew, beside what is there.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn rebuild(&self) -> Result<Rebuilding, Error> {
        let path = beside(&self.path, ".taking");
        remove_dir(&path)?;
        make_dir(&path)?;
        Ok(Rebuilding { path, open: None })
    }

    /// Puts what was made in the place of what is there, which is set aside if it has a journal, in the place of what was before.
    /// Returns where to.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn replace(&mut self, made: Rebuilding, epoch: u64) -> Result<Option<PathBuf>, Error> {
        drop(made.open);
        let note = self.fresh_note(epoch);
        note.write(&made.path, &self.place)?;
        let aside = if self.is_there() {
            // One is kept: what is in it is other people's messages.
            let aside = beside(&self.path, ".set-aside");
            remove_dir(&aside)?;
            fs::rename(&self.path, &aside).map_err(Error::io("set aside", &self.path))?;
            Some(aside)
        } else {
            remove_dir(&self.path)?;
            None
        };
        fs::rename(&made.path, &self.path).map_err(Error::io("rename", &made.path))?;
        sync_dir(parent(&self.path))?;
        self.found = Some(note);
        Ok(aside)
    }

    /// Whether the directory has that segment.
    pub fn has_segment(&self, segment: u32) -> bool {
        segment_path(&self.path, segment).exists()
    }

    /// Whether the directory has these bytes of a segment.
    pub fn has(&self, segment: u32, offset: u64, bytes: &[u8]) -> bool {
        let mut here = vec![0; bytes.len()];
        let Ok(file) = File::open(segment_path(&self.path, segment)) else { return false };
        file.read_exact_at(&mut here, offset).is_ok() && here == bytes
    }
}

impl Rebuilding {
    /// Writes some of a segment.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write(&mut self, segment: u32, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        let path = segment_path(&self.path, segment);
        if self.open.as_ref().is_none_or(|(open, _)| *open != segment) {
            let file = File::options().create(true).truncate(false).write(true).mode(0o600).open(&path);
            self.open = Some((segment, file.map_err(Error::io("create", &path))?));
        }
        match &self.open {
            Some((_, file)) => file.write_all_at(bytes, offset).map_err(Error::io("write", &path)),
            None => Ok(()),
        }
    }
}

impl Note {
    /// The node that a note is of, and the note if it is of this place: a copy of a directory is another node.
    fn read(path: &Path, place: &str) -> Result<Option<(String, Option<Note>)>, Error> {
        let text = match fs::read_to_string(path) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            read => read.map_err(Error::io("read", path))?,
        };
        let wrong = |what: &str| Error::Note { path: path.to_owned(), what: what.to_owned() };
        let mut lines = text.lines();
        if lines.next() != Some(MAGIC) {
            return Err(wrong("it is of another version"));
        }
        let mut field = |name: &str| {
            let line = lines
                .next()
                .and_then(|line| line.strip_prefix(name))
                .map(|rest| rest.trim_start().to_owned());
            line.ok_or_else(|| wrong("it is damaged"))
        };
        let number = |text: String| text.parse().map_err(|_| wrong("it is damaged"));
        let (node, written_at, cluster) = (field("node")?, field("place")?, field("cluster")?);
        let (epoch, next, boot) = (number(field("epoch")?)?, number(field("next")?)?, field("boot")?);
        if written_at != place.trim_start() {
            return Ok(Some((random()?, None)));
        }
        Ok(Some((node.clone(), Some(Note { node, cluster, epoch, next, boot }))))
    }

    /// Writes it, so that there is always a whole one, also after the machine's death.
    fn write(&self, dir: &Path, place: &str) -> Result<(), Error> {
        let (path, new) = (dir.join(NAME), dir.join("replica.new"));
        let Note { node, cluster, epoch, next, boot } = self;
        let text = format!(
            "{MAGIC}\nnode {node}\nplace {place}\ncluster {cluster}\nepoch {epoch}\nnext {next}\nboot {boot}\n"
        );
        let file = File::options().create(true).truncate(true).write(true).mode(0o600).open(&new);
        let written =
            file.and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()));
        written.map_err(Error::io("write", &new))?;
        fs::rename(&new, &path).map_err(Error::io("rename", &new))?;
        sync_dir(dir)
    }
}

fn random() -> Result<String, Error> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes)
        .map_err(|e| Error::System { what: "there are no random numbers", source: e.into() })?;
    Ok(format!("{:016x}", u64::from_ne_bytes(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Scratch {
            let path = std::env::temp_dir().join(format!("enjamb-replica-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            fs::create_dir(&path).unwrap();
            Scratch(path)
        }

        fn open(&self) -> Directory {
            Directory::open(&self.0.join("journal"), "c").unwrap()
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn row(holder: &str, epoch: u64) -> Row {
        Row { holder: holder.into(), name: "n".into(), epoch, beat: 1, released: true }
    }

    #[test]
    fn the_first_of_a_cluster_keeps_what_it_has_and_any_other_does_not() {
        let scratch = Scratch::new("first");
        let directory = scratch.open();
        assert_eq!(directory.verdict(None), Verdict::Keep);
        assert_eq!(directory.verdict(Some(&row("another", 3))), Verdict::Replace);
        assert_eq!(
            directory.verdict(Some(&row(directory.node(), 3))),
            Verdict::Replace,
            "it says nothing of 3"
        );
    }

    #[test]
    fn a_node_believes_what_it_wrote_under_the_epoch_that_is_there() {
        let scratch = Scratch::new("own");
        let mut directory = scratch.open();
        directory.settle(4).unwrap();
        let node = directory.node().to_owned();
        drop(directory);
        let mut directory = scratch.open();
        assert_eq!(directory.node(), node);
        let verdict = |d: &Directory, epoch| d.verdict(Some(&row(&node, epoch)));
        assert_eq!(verdict(&directory, 4), Verdict::Keep);
        assert_eq!(verdict(&directory, 5), Verdict::Replace);
        assert_eq!(directory.verdict(Some(&row("another", 4))), Verdict::Replace);
        // The database is another, or was emptied.
        assert_eq!(directory.verdict(None), Verdict::Replace);
        // Killed between taking 5 and saying so.
        directory.intend(Some(&row(&node, 4))).unwrap();
        drop(directory);
        let mut directory = scratch.open();
        assert_eq!(verdict(&directory, 5), Verdict::Keep);
        directory.intend(Some(&row(&node, 5))).unwrap();
        directory.settle(6).unwrap();
        assert_eq!((verdict(&directory, 5), verdict(&directory, 6)), (Verdict::Replace, Verdict::Keep));
    }

    #[test]
    fn a_copy_of_a_directory_is_another_node() {
        let (here, there) = (Scratch::new("here"), Scratch::new("there"));
        let mut directory = here.open();
        directory.settle(4).unwrap();
        fs::create_dir(there.0.join("journal")).unwrap();
        fs::copy(here.0.join("journal").join(NAME), there.0.join("journal").join(NAME)).unwrap();
        let copy = there.open();
        assert_ne!(copy.node(), directory.node());
        assert_eq!(copy.verdict(Some(&row(directory.node(), 4))), Verdict::Replace);
    }

    #[test]
    fn what_is_replaced_is_set_aside_if_there_was_anything() {
        let scratch = Scratch::new("aside");
        let mut directory = scratch.open();
        for (epoch, aside) in [(1, None), (2, Some("journal.set-aside")), (3, Some("journal.set-aside"))] {
            let mut made = directory.rebuild().unwrap();
            made.write(7, 0, b"ab").unwrap();
            made.write(7, 2, b"cd").unwrap();
            let set_aside = directory.replace(made, epoch).unwrap();
            assert_eq!(set_aside, aside.map(|name| scratch.0.join(name)));
            assert!(
                directory.has(7, 0, b"abcd") && !directory.has(7, 0, b"abcde") && !directory.has(8, 0, b"a")
            );
        }
    }

    #[test]
    fn only_one_process_has_a_directory() {
        let scratch = Scratch::new("lock");
        let directory = scratch.open();
        let other = Directory::open(&scratch.0.join("journal"), "c");
        assert!(matches!(other, Err(Error::InUse { .. })));
        drop(directory);
        scratch.open();
    }
}
