//! Files of lines that a copy of the journal takes along: who is in which room, and what clients know of their contacts.
//!
//! On this machine they are files of their own (`enjamb_journal::lines`). Where the journal is copied elsewhere, what is written to
//! them is appended to the journal as well: a log is a session of it without a peer, whose queue is the text. Another server that
//! goes on with that journal finds it there, and makes the file of it.

#![warn(clippy::indexing_slicing, clippy::string_slice)]

use crate::api::journal::new_id;
use enjamb_journal::{Error, Journal, lines};
use std::collections::{BTreeMap, HashSet};
use std::path::Path;

/// The first byte of what the journal has of a log; its name comes after. A session's begins with its version, which counts from
/// 1, and a room's has the highest bit set.
const OF_A_LOG: u8 = 0x7f;
/// The text is in pieces of at most so many bytes.
const PIECE: usize = 1 << 20;

/// The logs in the journal, by their names.
#[derive(Default)]
pub struct Logs {
    known: BTreeMap<String, Log>,
}

struct Log {
    id: u64,
    /// Of the last piece.
    number: u64,
    bytes: u64,
    limit: u64,
}

/// The name of a log, if the record is of one.
pub fn name(record: &[u8]) -> Option<String> {
    match record.split_first() {
        Some((&OF_A_LOG, name)) => Some(String::from_utf8_lossy(name).into_owned()),
        _ => None,
    }
}

impl Logs {
    /// Takes up what a journal has of logs: their numbers and names.
    pub fn open(journal: &mut Journal, found: Vec<(u64, String)>) -> Logs {
        let mut logs = Logs::default();
        for (id, name) in found {
            let number = journal.counters(id).map_or(0, |c| c.acked + c.queued as u64);
            // It is written anew with the first change.
            let log = Log { id, number, bytes: 0, limit: 0 };
            if let Some(other) = logs.known.insert(name, log)
                && let Err(error) = journal.end(other.id)
            {
                tracing::warn!("a log that is in the journal twice cannot be put right now: {error}");
            }
        }
        logs
    }

    /// The journal is not copied any more: what it has of logs gets old beside the files.
    ///
    /// # Errors
    /// If the disk cannot take it now.
    pub fn end(self, journal: &mut Journal) -> Result<(), Error> {
        self.known.values().try_for_each(|log| journal.end(log.id))
    }

    /// All numbers of the journal that are logs'.
    pub fn ids(&self) -> HashSet<u64> {
        self.known.values().map(|log| log.id).collect()
    }

    /// Makes the file of a log of what the journal has of that, if it has it. What can be read is taken.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn put_into(&self, journal: &mut Journal, name: &str, path: &Path) -> std::io::Result<()> {
        let Some(log) = self.known.get(name) else { return Ok(()) };
        let mut text = Vec::new();
        let read = journal.replay(log.id, 0, |_, piece| {
            text.extend_from_slice(piece.unwrap_or_default());
            true
        });
        if let Err(error) = read {
            tracing::error!("not all that the journal has of {name} could be read: {error}");
        }
        lines::replace(path, &String::from_utf8_lossy(&text)).map(drop)
    }

    /// Appends lines to a log; `all` gives all that are needed, these included, when that is better written anew. What the disk
    /// cannot take now it is given with the next change.
    pub fn append(&mut self, journal: &mut Journal, name: &str, lines: &str, all: impl FnOnce() -> String) {
        if let Err(error) = self.try_append(journal, name, lines, all) {
            tracing::debug!("{name} is not copied before its next change: {error}");
        }
    }

    fn try_append(
        &mut self,
        journal: &mut Journal,
        name: &str,
        lines: &str,
        all: impl FnOnce() -> String,
    ) -> Result<(), Error> {
        if let Some(log) = self.known.get_mut(name)
            && log.bytes + lines.len() as u64 <= log.limit
        {
            let appended = log.push(journal, lines);
            if appended.is_err() {
                log.limit = 0;
            }
            return appended;
        }
        let Ok(id) = new_id() else { return Ok(()) };
        let all = all();
        journal.set_meta(id, &[&[OF_A_LOG], name.as_bytes()].concat())?;
        let mut log = Log { id, number: 0, bytes: 0, limit: lines::limit(all.len() as u64) };
        if let Err(error) = log.push(journal, &all) {
            journal.end(id)?;
            return Err(error);
        }
        match self.known.insert(name.to_owned(), log) {
            Some(old) => journal.end(old.id),
            None => Ok(()),
        }
    }
}

impl Log {
    fn push(&mut self, journal: &mut Journal, text: &str) -> Result<(), Error> {
        for piece in text.as_bytes().chunks(PIECE) {
            journal.push(self.id, self.number + 1, piece)?;
            self.number += 1;
            self.bytes += piece.len() as u64;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use enjamb_journal::Config;

    fn opened(journal: &mut Journal) -> Logs {
        let ids: Vec<u64> = journal.sessions().collect();
        let found = ids.into_iter().filter_map(|id| Some((id, name(&journal.meta(id).unwrap())?))).collect();
        Logs::open(journal, found)
    }

    #[test]
    fn a_log_is_there_again_and_does_not_grow_for_ever() {
        let dir = std::env::temp_dir().join(format!("enjamb-logs-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        let path = dir.join("file");
        let text = |journal: &mut Journal, logs: &Logs| {
            logs.put_into(journal, "contacts", &path).unwrap();
            std::fs::read_to_string(&path).unwrap()
        };
        let (mut journal, _) = Journal::open(&dir.join("journal"), Config::default()).unwrap();
        let mut logs = opened(&mut journal);
        logs.put_into(&mut journal, "contacts", &path).unwrap();
        assert!(!path.exists());
        let mut known = String::new();
        for n in 0..100 {
            let line = format!("{n}\n");
            known += &line;
            logs.append(&mut journal, "contacts", &line, || known.clone());
        }
        logs.append(&mut journal, "rooms", "r\n", || "r\n".into());
        assert_eq!(text(&mut journal, &logs), known);
        journal.commit().unwrap();
        drop(journal);

        let (mut journal, _) = Journal::open(&dir.join("journal"), Config::default()).unwrap();
        let mut logs = opened(&mut journal);
        assert_eq!(logs.ids().len(), 2);
        assert_eq!(text(&mut journal, &logs), known);
        let long = format!("{}\n", "x".repeat(100_000));
        for _ in 0..100 {
            logs.append(&mut journal, "contacts", &long, || "all\n".into());
        }
        let now = text(&mut journal, &logs);
        assert!(now.starts_with("all\n") && now.len() < 2 << 20, "{}", now.len());
        assert_eq!(opened(&mut journal).ids(), logs.ids());
        assert_eq!(journal.sessions().count(), 2);
        drop(journal);
        std::fs::remove_dir_all(dir).unwrap();
    }
}
