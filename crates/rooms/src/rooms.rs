//! All that can be noted of a room, and read again.

use crate::record::{self, Read, Subject};
use enjamb_journal::{Error, Journal};
use std::collections::{BTreeMap, HashMap, HashSet};

/// What was kept of a room.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Its configuration.
    pub configuration: Vec<u8>,
    /// Its occupants, by nickname.
    pub occupants: BTreeMap<String, Vec<u8>>,
    /// Its last messages, the oldest first.
    pub history: Vec<Vec<u8>>,
    /// How many records of it could not be read.
    pub lost: usize,
}

#[derive(Debug)]
struct Room {
    /// Its number in the journal; none while only occupants of it are known.
    id: Option<u64>,
    /// By nickname, their numbers in the journal.
    occupants: HashMap<Box<str>, u64>,
}

/// The rooms that are kept. Every method that notes something appends to the journal and leaves the commit to the owner;
/// what failed was not noted, and is to be said again. New numbers in the journal come from the owner: each must never
/// have been used.
#[derive(Debug, Default)]
pub struct Rooms {
    rooms: HashMap<Box<str>, Room>,
    /// Records that another version wrote, or that are damaged: they stay.
    left: HashSet<u64>,
    newer: usize,
}

impl Rooms {
    /// Takes up what a journal holds of rooms.
    pub fn open(journal: &mut Journal) -> Rooms {
        Rooms::open_beside(journal, |_, _| {})
    }

    /// The same. What is none of rooms' is handed to `other`, number and record: all of them are read once.
    pub fn open_beside(journal: &mut Journal, mut other: impl FnMut(u64, &[u8])) -> Rooms {
        let mut rooms = Rooms::default();
        let mut doubles = Vec::new();
        let ids: Vec<u64> = journal.sessions().collect();
        for id in ids {
            let Ok(bytes) = journal.meta(id) else { continue }; // a session's trouble, for all that is known
            match record::read(&bytes) {
                Read::Other => other(id, &bytes),
                Read::Newer(_) => {
                    rooms.newer += 1;
                    rooms.left.insert(id);
                }
                Read::Damaged => {
                    rooms.left.insert(id);
                }
                Read::Of(Subject::Room(room), _) => {
                    let room = rooms.room(room);
                    if let Some(other) = room.id.replace(id) {
                        doubles.push(other);
                    }
                }
                Read::Of(Subject::Occupant(room, nick), _) => {
                    if let Some(other) = rooms.room(room).occupants.insert(nick.into(), id) {
                        doubles.push(other);
                    }
                }
            }
        }
        for id in doubles {
            // One was begun when the other's end had not reached the disk. If this does not either, so be it once more.
            if let Err(error) = journal.end(id) {
                rooms.left.insert(id);
                tracing::warn!("what is kept of a room twice cannot be put right now: {error}");
            }
        }
        rooms
    }

    fn room(&mut self, room: &str) -> &mut Room {
        if !self.rooms.contains_key(room) {
            self.rooms.insert(room.into(), Room { id: None, occupants: HashMap::new() });
        }
        self.rooms.entry(room.into()).or_insert_with(|| Room { id: None, occupants: HashMap::new() })
    }

    /// All numbers of the journal that are rooms'.
    pub fn ids(&self) -> HashSet<u64> {
        let known = self.rooms.values().flat_map(|room| room.id.iter().chain(room.occupants.values()));
        known.chain(&self.left).copied().collect()
    }

    /// How many records a newer version wrote, which are left as they are.
    pub fn newer(&self) -> usize {
        self.newer
    }

    /// The rooms of a service, by its domain.
    pub fn of_service<'a>(&'a self, service: &'a str) -> impl Iterator<Item = &'a str> {
        let is_its = move |jid: &&str| jid.rsplit_once('@').is_some_and(|(_, domain)| domain == service);
        self.rooms.keys().map(|jid| &**jid).filter(is_its)
    }

    /// Keeps a room, or another configuration of it.
    ///
    /// # Errors
    /// If the disk cannot take it now, or it is too long for a record.
    pub fn configure(
        &mut self,
        journal: &mut Journal,
        room: &str,
        configuration: &[u8],
        new_id: u64,
    ) -> Result<(), Error> {
        let known = self.rooms.get(room).and_then(|room| room.id);
        let id = known.unwrap_or(new_id);
        journal.set_meta(id, &record::write(Subject::Room(room), configuration))?;
        self.room(room).id = Some(id);
        Ok(())
    }

    /// Keeps an occupant of a room, or what else is known of it now.
    ///
    /// # Errors
    /// If the disk cannot take it now, or it is too long for a record.
    pub fn enter(
        &mut self,
        journal: &mut Journal,
        room: &str,
        nick: &str,
        occupant: &[u8],
        new_id: u64,
    ) -> Result<(), Error> {
        let known = self.rooms.get(room).and_then(|room| room.occupants.get(nick)).copied();
        let id = known.unwrap_or(new_id);
        journal.set_meta(id, &record::write(Subject::Occupant(room, nick), occupant))?;
        if known.is_none() {
            self.room(room).occupants.insert(nick.into(), id);
        }
        Ok(())
    }

    /// An occupant has left.
    ///
    /// # Errors
    /// If the disk cannot take it now.
    pub fn leave(&mut self, journal: &mut Journal, room: &str, nick: &str) -> Result<(), Error> {
        let Some(known) = self.rooms.get_mut(room) else { return Ok(()) };
        let Some(&id) = known.occupants.get(nick) else { return Ok(()) };
        end(journal, id)?;
        known.occupants.remove(nick);
        Ok(())
    }

    /// The occupants that are kept of a room.
    pub fn occupants(&self, room: &str) -> impl Iterator<Item = &str> {
        self.rooms.get(room).into_iter().flat_map(|room| room.occupants.keys()).map(|nick| &**nick)
    }

    /// Something was said that is history from now on. Of a room that is not kept nothing is.
    ///
    /// # Errors
    /// If the disk cannot take it now, or it is too long for a record.
    pub fn said(&mut self, journal: &mut Journal, room: &str, message: &[u8]) -> Result<(), Error> {
        let Some(id) = self.rooms.get(room).and_then(|room| room.id) else { return Ok(()) };
        let Some(c) = journal.counters(id) else { return Ok(()) };
        journal.push(id, c.acked + c.queued as u64 + 1, message)
    }

    /// Only so many of the last messages are history.
    ///
    /// # Errors
    /// If the disk cannot take it now.
    pub fn limit_history(&mut self, journal: &mut Journal, room: &str, most: usize) -> Result<(), Error> {
        let Some(id) = self.rooms.get(room).and_then(|room| room.id) else { return Ok(()) };
        let Some(c) = journal.counters(id).filter(|c| c.queued > most) else { return Ok(()) };
        journal.ack(id, c.acked + (c.queued - most) as u64)
    }

    /// The room is gone, with all that was in it. Said again if that failed.
    ///
    /// # Errors
    /// If the disk cannot take it now.
    pub fn end(&mut self, journal: &mut Journal, room: &str) -> Result<(), Error> {
        let Some(known) = self.rooms.get_mut(room) else { return Ok(()) };
        let nicks: Vec<_> = known.occupants.keys().cloned().collect();
        for nick in nicks {
            if let Some(&id) = known.occupants.get(&nick) {
                end(journal, id)?;
                known.occupants.remove(&nick);
            }
        }
        if let Some(id) = known.id {
            end(journal, id)?;
        }
        self.rooms.remove(room);
        Ok(())
    }

    /// What is kept of a room; nothing if none of its configuration is.
    ///
    /// # Errors
    /// If the disk cannot be read.
    pub fn read(&self, journal: &mut Journal, room: &str) -> Result<Option<Kept>, Error> {
        let Some((known, id)) = self.rooms.get(room).and_then(|known| Some((known, known.id?))) else {
            return Ok(None);
        };
        let mut kept = Kept { configuration: payload(journal, id)?, ..Kept::default() };
        for (nick, &id) in &known.occupants {
            match payload(journal, id) {
                Ok(bytes) => drop(kept.occupants.insert(nick.to_string(), bytes)),
                Err(error) if error.is_of_the_disk() => return Err(error),
                Err(_) => kept.lost += 1,
            }
        }
        journal.replay(id, 0, |_, message| {
            match message {
                Some(bytes) => kept.history.push(bytes.to_vec()),
                None => kept.lost += 1,
            }
            true
        })?;
        Ok(Some(kept))
    }
}

fn payload(journal: &mut Journal, id: u64) -> Result<Vec<u8>, Error> {
    let bytes = journal.meta(id)?;
    match record::read(&bytes) {
        Read::Of(_, payload) => Ok(payload.to_vec()),
        _ => Ok(Vec::new()), // it was one when it was taken up
    }
}

/// Ends what may have ended already.
fn end(journal: &mut Journal, id: u64) -> Result<(), Error> {
    match journal.end(id) {
        Err(Error::NoSuchSession { .. }) => Ok(()),
        result => result,
    }
}
