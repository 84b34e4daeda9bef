//! The mark: up to where the journal is known to be on the disk itself, in a file beside the segments.
//!
//! When the machine dies, of what was not synced any part may survive. Opening the journal then has to know from where on a
//! gap is such a part that did not, and must not believe what stands behind it; before the mark nothing is missing that
//! is needed. The mark also names the segments that are of no more use and may still be found: whether their removal has
//! reached the disk or not, and whatever a failed sync has made of them, they are not read.
//!
//! The file `synced` has two places of [`PLACE`] bytes, written in turn, so that one is whole whatever happens. It never
//! grows: it can be written when the disk is full, which is when segments have to go. All integers are little-endian.
//!
//! A third place names the segments of which a sync has failed, since the operating system tells that once: the next process would
//! hear that all is well. It has to outlive this process only, as another life of the machine reads what the disk has. So it is
//! written and not synced, at any time: also when the mark cannot be.
//!
//! ```text
//! 8 magic "EnjSync\x01" (its last byte is the version) | 16 boot | 8 sequence | 8 offset | 4 segment | 4 n | 4 m | 4 segment, n + m times | 4 checksum of all that
//! ```

#![warn(clippy::indexing_slicing, clippy::string_slice)]

use crate::error::Error;
use crate::files::{Files, OpenFile};
use crate::record::{checksum, u32_at, u64_at, u128_at};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const PLACE: usize = 16 << 10;
const SIZE: usize = 3 * PLACE;
const HEADER: usize = 52;
const MAGIC: [u8; 8] = *b"EnjSync\x01";
/// A mark names no more segments than this, of either kind.
pub(crate) const MOST_NAMED: usize = (PLACE - HEADER - 4) / 8;

/// What the file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    /// The file's; the later one counts.
    pub sequence: u64,
    /// All that was appended before this segment ...
    pub segment: u32,
    /// ... or in it before this offset is on the disk, as far as it is needed.
    pub offset: u64,
    /// Segments that are not needed, there or not.
    pub gone: Vec<u32>,
    /// Segments of which a sync has failed in the machine's life `boot` (0: not known): a later one has read what the disk has. In the
    /// third place; an earlier release had them in the others.
    pub failed: Vec<u32>,
    pub boot: u128,
}

impl Mark {
    fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend(self.boot.to_le_bytes());
        out.extend(self.sequence.to_le_bytes());
        out.extend(self.offset.to_le_bytes());
        out.extend(self.segment.to_le_bytes());
        out.extend((self.gone.len() as u32).to_le_bytes());
        out.extend((self.failed.len() as u32).to_le_bytes());
        out.extend(self.gone.iter().chain(&self.failed).flat_map(|id| id.to_le_bytes()));
        let sum = checksum(0, &out);
        out.extend(sum.to_le_bytes());
        out
    }

    /// All segments that it is about.
    pub fn numbers(&self) -> impl Iterator<Item = u32> {
        // The one that is to be written next may not have been begun.
        self.gone.iter().copied().chain(self.segment.checked_sub(u32::from(self.offset == 0)))
    }

    /// The mark, or else the version of one that this code does not know.
    fn decode(place: &[u8]) -> Option<Result<Mark, u8>> {
        let (magic, version) = (place.get(..8)?, *place.get(7)?);
        let (n, m) = (u32_at(place, 44) as usize, u32_at(place, 48) as usize);
        if magic.get(..7) != MAGIC.get(..7) || n.max(m) > MOST_NAMED {
            return None;
        }
        let end = HEADER + 4 * (n + m);
        if checksum(0, place.get(..end)?) != u32_at(place, end) {
            return None;
        }
        if magic != MAGIC {
            return Some(Err(version));
        }
        Some(Ok(Mark {
            boot: u128_at(place, 8),
            sequence: u64_at(place, 24),
            offset: u64_at(place, 32),
            segment: u32_at(place, 40),
            gone: (0..n).map(|i| u32_at(place, HEADER + 4 * i)).collect(),
            failed: (n..n + m).map(|i| u32_at(place, HEADER + 4 * i)).collect(),
        }))
    }
}

pub(crate) fn path(dir: &Path) -> PathBuf {
    dir.join("synced")
}

/// The file, and what it says.
pub(crate) struct Marks {
    path: PathBuf,
    file: Option<Arc<dyn OpenFile>>,
    latest: Option<Mark>,
    /// What the third place says.
    failed: Option<Mark>,
    /// Whether the latest is on the disk. What was read may be in the operating system's memory only, even if a sync goes well now.
    sure: bool,
}

impl Marks {
    /// Reads the file, if there is one. One that holds no mark is as good as none.
    pub fn open(files: &dyn Files, dir: &Path) -> Result<Marks, Error> {
        let path = path(dir);
        let file = match files.open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::NotFound => {
                return Ok(Marks { path, file: None, latest: None, failed: None, sure: true });
            }
            Err(e) => return Err(Error::io("open", &path)(e)),
        };
        let size = file.size().map_err(Error::io("read", &path))?.min(SIZE as u64) as usize;
        // An earlier release made it of two places.
        if size < 2 * PLACE {
            return Ok(Marks { path, file: None, latest: None, failed: None, sure: true });
        }
        let mut bytes = vec![0; SIZE];
        let (there, _) = bytes.split_at_mut(size);
        file.read_exact_at(there, 0).map_err(Error::io("read", &path))?;
        let mut latest: Option<Mark> = None;
        let mut failed = None;
        for (n, place) in bytes.chunks(PLACE).enumerate() {
            let Some(found) = Mark::decode(place) else { continue };
            let mark = found.map_err(|version| Error::UnknownVersion { path: path.clone(), version })?;
            if n == 2 {
                failed = Some(mark);
            } else {
                latest = latest.filter(|other| other.sequence > mark.sequence).or(Some(mark));
            }
        }
        if latest.is_none() {
            tracing::error!(
                "{path:?} is damaged: if the machine stopped before all was on its disk, that cannot be told"
            );
        }
        Ok(Marks { path, file: Some(file), sure: latest.is_none(), latest, failed })
    }

    /// Where it is, if it is there.
    pub fn file(&self) -> Option<PathBuf> {
        self.file.as_ref().map(|_| self.path.clone())
    }

    pub fn latest(&self) -> Option<&Mark> {
        self.latest.as_ref()
    }

    /// The segments of which a sync has failed in this life of the machine.
    pub fn failed(&self, boot: u128) -> impl Iterator<Item = u32> {
        let ours = self.latest.iter().chain(&self.failed).filter(move |mark| mark.boot == boot);
        ours.flat_map(|mark| &mark.failed).copied()
    }

    /// Notes for the next process, in this life of the machine, of which segments a sync has failed. After an error it knows
    /// what was noted before, or nothing.
    pub fn fail(
        &mut self,
        files: &dyn Files,
        boot: u128,
        failed: impl IntoIterator<Item = u32>,
    ) -> Result<(), Error> {
        let mark = Mark { boot, failed: failed.into_iter().take(MOST_NAMED).collect(), ..Mark::default() };
        let file = self.file_or_new(files)?;
        file.write_all_at(&mark.encode(), 2 * PLACE as u64).map_err(Error::io("write", &self.path))?;
        self.failed = Some(mark);
        Ok(())
    }

    fn file_or_new(&mut self, files: &dyn Files) -> Result<Arc<dyn OpenFile>, Error> {
        if let Some(file) = &self.file {
            return Ok(file.clone());
        }
        let file = files.create(&self.path, false).map_err(Error::io("create", &self.path))?;
        file.write_all_at(&[0; SIZE], 0).map_err(Error::io("write", &self.path))?;
        self.file = Some(file.clone());
        Ok(file)
    }

    /// Writes the mark that was read once more, where it is: the other place may have the only one that is on the disk.
    pub fn confirm(&mut self) -> Result<(), Error> {
        if let (false, Some(file), Some(mark)) = (self.sure, &self.file, &self.latest) {
            let place = mark.sequence % 2 * PLACE as u64;
            file.write_all_at(&mark.encode(), place).map_err(Error::io("write", &self.path))?;
            file.sync().map_err(Error::io("sync", &self.path))?;
            self.sure = true;
        }
        Ok(())
    }

    /// Writes another mark, and waits until it is on the disk. After an error the one before may hold.
    pub fn set(&mut self, files: &dyn Files, mut mark: Mark) -> Result<(), Error> {
        self.confirm()?;
        mark.sequence = self.latest.as_ref().map_or(0, |mark| mark.sequence) + 1;
        let file = self.file_or_new(files)?;
        // After a sync that failed the same place is written again: the other one has what holds.
        let place = mark.sequence % 2 * PLACE as u64;
        file.write_all_at(&mark.encode(), place).map_err(Error::io("write", &self.path))?;
        file.sync().map_err(Error::io("sync", &self.path))?;
        if self.latest.is_none() {
            let dir = self.path.parent().unwrap_or(Path::new("."));
            files.sync_dir(dir).map_err(Error::io("sync", dir))?;
        }
        self.latest = Some(mark);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::{EIO, MemoryFiles, Op, coin};

    fn dir() -> &'static Path {
        Path::new("/")
    }

    #[test]
    fn one_mark_is_whole_whatever_happens_to_the_other() {
        for seed in 0..2000 {
            let files = MemoryFiles::with_pages(64);
            let process = files.process();
            let mut marks = Marks::open(&*process, dir()).unwrap();
            assert_eq!(marks.latest(), None);
            let mut known = None;
            for n in 1..=seed % 7 + 1 {
                if n == seed % 5 + 1 {
                    files.fail(Op::Sync, 0, seed % 3, EIO);
                }
                let gone = (0..seed as u32 % 50).collect();
                let mark = Mark { segment: n as u32, offset: n, gone, ..Mark::default() };
                if marks.set(&*process, mark).is_ok() {
                    known = Some(n);
                }
            }
            files.lose_power_in_any_order(coin(seed));
            let marks = Marks::open(&*files.process(), dir()).unwrap();
            let found = marks.latest().map(|mark| mark.offset);
            assert!(found >= known, "{seed}: {found:?}, not {known:?}");
        }
    }

    /// What the operating system has of a mark whose sync failed is not on the disk, and the next process cannot tell.
    #[test]
    fn a_mark_that_was_read_may_not_be_on_the_disk() {
        for seed in 0..60 {
            let files = MemoryFiles::with_pages(64);
            let mark = |n| Mark { segment: n, gone: (0..50).collect(), ..Mark::default() };
            let process = files.process();
            let mut marks = Marks::open(&*process, dir()).unwrap();
            marks.set(&*process, mark(1)).unwrap();
            files.fail(Op::Sync, 0, 1, EIO);
            marks.set(&*process, mark(2)).unwrap_err();
            files.crash();
            let process = files.process();
            let mut marks = Marks::open(&*process, dir()).unwrap();
            assert_eq!(marks.latest().map(|mark| mark.segment), Some(2));
            files.fail(Op::Sync, seed % 3, u64::MAX, EIO);
            let set = marks.set(&*process, mark(3));
            files.lose_power_in_any_order(coin(seed));
            let marks = Marks::open(&*files.process(), dir()).unwrap();
            let found = marks.latest().map_or(0, |mark| mark.segment);
            assert!(found >= if set.is_ok() { 3 } else { 1 }, "{seed}: {found}");
        }
    }

    /// The disk may be full, and take no sync at all.
    #[test]
    fn which_syncs_have_failed_is_known_until_the_machine_dies() {
        let files = MemoryFiles::with_pages(64);
        let process = files.process();
        let mut marks = Marks::open(&*process, dir()).unwrap();
        marks.set(&*process, Mark { segment: 7, ..Mark::default() }).unwrap();
        files.room(0);
        files.fail(Op::Sync, 0, u64::MAX, EIO);
        marks.set(&*process, Mark { segment: 8, ..Mark::default() }).unwrap_err();
        marks.fail(&*process, 1, [3]).unwrap();
        marks.fail(&*process, 1, [3, 5]).unwrap();
        files.crash();
        let marks = Marks::open(&*files.process(), dir()).unwrap();
        assert_eq!(marks.latest().map(|mark| mark.segment), Some(8));
        assert_eq!(marks.failed(1).collect::<Vec<_>>(), [3, 5]);
        assert_eq!(marks.failed(2).count(), 0);
        files.lose_power();
        let marks = Marks::open(&*files.process(), dir()).unwrap();
        assert_eq!(marks.latest().map(|mark| mark.segment), Some(7));
    }

    #[test]
    fn a_file_of_two_places_is_taken_over() {
        let files = MemoryFiles::default();
        let mark = Mark { sequence: 1, segment: 4, failed: vec![2], boot: 1, ..Mark::default() };
        let mut bytes = vec![0; 2 * PLACE];
        bytes[PLACE..][..mark.encode().len()].copy_from_slice(&mark.encode());
        files.write(&path(dir()), &bytes);
        let process = files.process();
        let mut marks = Marks::open(&*process, dir()).unwrap();
        assert_eq!((marks.latest(), marks.failed(1).collect::<Vec<_>>()), (Some(&mark), vec![2]));
        marks.set(&*process, Mark { segment: 5, ..Mark::default() }).unwrap();
        marks.fail(&*process, 1, [4]).unwrap();
        let marks = Marks::open(&*files.process(), dir()).unwrap();
        let segment = marks.latest().map(|mark| mark.segment);
        assert_eq!((segment, marks.failed(1).collect::<Vec<_>>()), (Some(5), vec![4]));
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let mark = Mark { sequence: 7, segment: 3, offset: 99, gone: vec![1, 2], failed: vec![3], boot: 5 };
        let bytes = mark.encode();
        assert_eq!(Mark::decode(&bytes), Some(Ok(mark)));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Mark::decode(&flipped), None, "{bit}");
        }
        for cut in 0..bytes.len() {
            assert_eq!(Mark::decode(&bytes[..cut]), None, "{cut}");
        }
        let mut later = bytes[..bytes.len() - 4].to_vec();
        later[7] = 2;
        let sum = checksum(0, &later);
        later.extend(sum.to_le_bytes());
        assert_eq!(Mark::decode(&later), Some(Err(2)));
    }
}
