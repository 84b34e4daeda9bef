//! What the file of rooms is about to be given, in the journal.
//!
//! What clients were sent is in the journal, and that they were in a file beside it (`rooms`). A process may be killed when it has
//! written the one and not the other: a client would hear the last words of a room twice, from its queue and from the room's
//! history. So the lines for the file go into the journal first, in the same write as the queues, and each takes the place of the
//! one before. At the start the file is given those that it lacks.

#![warn(clippy::indexing_slicing, clippy::string_slice)]

use enjamb_journal::{Error, Journal};

/// What the record begins with. To a release that knows nothing of it, it is a log of an odd name (`logs`), which it ends.
const MARK: &[u8] = b"\x7fahead of rooms\n";

/// The one record of the journal, which is no session's.
#[derive(Default)]
pub struct Ahead {
    id: Option<u64>,
    lines: String,
}

/// The lines, if the record is of this kind.
pub fn lines(record: &[u8]) -> Option<String> {
    record.strip_prefix(MARK).map(|lines| String::from_utf8_lossy(lines).into_owned())
}

impl Ahead {
    /// What a journal was found to have, number and lines.
    pub fn found(id: u64, lines: String) -> Ahead {
        Ahead { id: Some(id), lines }
    }

    pub fn id(&self) -> Option<u64> {
        self.id
    }

    /// What the last process was about to write. It may have done so.
    pub fn take_lines(&mut self) -> String {
        std::mem::take(&mut self.lines)
    }

    /// To be committed with the queues, before the lines are written. What is too long for a record is left out: then the file
    /// may lack it, and somebody may be told of an occupant twice.
    ///
    /// # Errors
    /// If the disk cannot take it now, or there is no number for it.
    pub fn note(
        &mut self,
        journal: &mut Journal,
        lines: &str,
        new_id: impl FnOnce() -> Option<u64>,
    ) -> Result<(), Error> {
        let Some(id) = self.id.or_else(new_id) else { return Ok(()) };
        let noted = match journal.set_meta(id, &[MARK, lines.as_bytes()].concat()) {
            // What was noted before it must not take its place.
            Err(Error::TooLong { .. }) => journal.set_meta(id, MARK),
            result => result,
        };
        noted.map(|()| self.id = Some(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use enjamb_journal::{Config, MAX_PAYLOAD};

    #[test]
    fn the_journal_has_the_last_lines() {
        let dir = std::env::temp_dir().join(format!("enjamb-ahead-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        let found = |journal: &mut Journal| {
            let ids: Vec<u64> = journal.sessions().collect();
            let found: Vec<_> =
                ids.into_iter().filter_map(|id| Some((id, lines(&journal.meta(id).unwrap())?))).collect();
            assert!(found.len() < 2);
            found.into_iter().next().map(|(id, lines)| Ahead::found(id, lines)).unwrap_or_default()
        };
        let mut numbers = 1..;
        for (given, there) in
            [("", ""), ("a\n", "a\n"), ("b\nc\n", "b\nc\n"), (&"x".repeat(MAX_PAYLOAD) as &str, "")]
        {
            let (mut journal, _) = Journal::open(&dir, Config::default()).unwrap();
            let mut ahead = found(&mut journal);
            let id = ahead.id();
            ahead.note(&mut journal, given, || numbers.next()).unwrap();
            assert_eq!(ahead.id(), id.or(Some(1)));
            journal.commit().unwrap();
            drop(journal);
            let (mut journal, _) = Journal::open(&dir, Config::default()).unwrap();
            assert_eq!(found(&mut journal).take_lines(), there);
        }
        std::fs::remove_dir_all(dir).unwrap();
    }
}
