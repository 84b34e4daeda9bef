//! What is known of a session beside its stream, as a set of small typed attributes, each a record of its own.
//!
//! Each attribute has a slot of the journal, which holds what was written there last. One that changes is written
//! anew, one that is gone is overwritten by nothing and its slot is the next one's; so what a session has in the journal does not grow with
//! how often it changes, and what was replaced leaves the disk as any text that is done with.
//!
//! - `attribute`: what there is, and its bytes.
//! - `value`: what other modules want to be kept.
//! - `state`: all of a session's attributes together, as the owner has them.
//! - `text`: the same as earlier releases wrote it.
//!
//! Knows neither the journal nor streams: only which slots have to be written.

mod attribute;
mod state;
pub(crate) mod text;
mod value;

pub use attribute::{Attribute, Client, Contacts, Identity, Key, Kind, Rights, Role, Terms};
pub use state::{Misfit, State};
pub use value::{Bytes, Value};

use crate::record::Unreadable;
use attribute::named_by;
use hashbrown::HashTable;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;

/// The most attributes that one session can have. A client that has as many has sent presence to as many addresses.
const MOST: usize = 1 << 16;
/// Up to so many are looked for one by one: a table would take as much memory as they do.
const FEW: usize = 16;

/// Which of a session's attributes are told together: what is not among them is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All.
    Whole,
    /// All of which there is a small number; not presence, directed presence and rooms.
    Small,
}

impl Scope {
    fn has(self, kind: Kind) -> bool {
        self == Scope::Whole || !kind.is_many() && kind != Kind::Presence
    }
}

/// What is remembered of an attribute that the journal has: enough to tell whether another is the same.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    /// The hash of what names it.
    name: u64,
    /// That of its record.
    record: u64,
    /// How long that is; 0: there is none.
    len: u32,
    /// It is of a kind of which there is a small number.
    is_small: bool,
}

/// The attributes of one session.
#[derive(Debug, Default)]
pub(crate) struct Attributes {
    slots: Vec<Slot>,
    bytes: usize,
    /// Most sessions have a few, that are all written.
    more: Option<Box<More>>,
}

#[derive(Debug, Default)]
struct More {
    /// Slots that the journal has not as they are.
    unwritten: BTreeSet<u16>,
    /// The records of these, and what was read until [`Attributes::settle`]: the journal has them, they need not be here.
    records: BTreeMap<u16, Box<[u8]>>,
    /// If there are more than a [`FEW`] slots: which is whose, those of which there is a small number, and those that are free.
    by_name: HashTable<u16>,
    small: Vec<u16>,
    free: Vec<u16>,
}

/// Of 64 bits, with keys that nobody knows: names are a client's choice, and two that were taken for one would be one.
fn hash(bytes: &[u8]) -> u64 {
    static KEYS: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    KEYS.hash_one(bytes)
}

/// The beginning of a record, which names its attribute.
fn name_of(record: &[u8]) -> &[u8] {
    named_by(record).and_then(|(_, len)| record.get(..len)).unwrap_or_default()
}

impl Attributes {
    /// What the slots of the journal hold.
    pub fn read(slots: impl IntoIterator<Item = Option<Box<[u8]>>>) -> Result<Attributes, Unreadable> {
        let mut attributes = Attributes::default();
        for record in slots.into_iter().take(MOST) {
            let Some(slot) = attributes.add_slot() else { break };
            if let Some(record) = record.filter(|record| !record.is_empty()) {
                Attribute::decode(&record)?;
                attributes.place(slot, record);
            } else if attributes.are_many() {
                attributes.more().free.push(slot);
            }
        }
        Ok(attributes)
    }

    /// All of them, as long as they are not [settled](Attributes::settle).
    pub fn iter(&self) -> impl Iterator<Item = Attribute> {
        let records = self.more.iter().flat_map(|more| more.records.values());
        records.filter_map(|r| Attribute::decode(r).ok())
    }

    /// Lets go of what the journal has, and of memory that is not used.
    pub fn settle(&mut self) {
        self.slots.shrink_to_fit();
        let are_many = self.are_many();
        let Some(more) = &mut self.more else { return };
        // An empty map that was not keeps its first node, which is larger than all the slots.
        match more.unwritten.is_empty() {
            true if !are_many => self.more = None,
            true => (more.unwritten, more.records) = Default::default(),
            false => more.records.retain(|slot, _| more.unwritten.contains(slot)),
        }
    }

    /// How long their records are together.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Sets one. False if there is no place for it.
    pub fn set(&mut self, attribute: &Attribute) -> bool {
        self.put(attribute).is_some()
    }

    /// Which slot it has now.
    fn put(&mut self, attribute: &Attribute) -> Option<u16> {
        let record = attribute.encode(Vec::new())?;
        if let Some(n) = self.find(hash(name_of(&record))) {
            let slot = self.slots.get_mut(usize::from(n))?;
            let (hash, len) = (hash(&record), record.len() as u32);
            if (slot.record, slot.len) != (hash, len) {
                self.bytes = self.bytes + record.len() - slot.len as usize;
                (slot.record, slot.len) = (hash, len);
                let more = self.more();
                more.records.insert(n, record.into());
                more.unwritten.insert(n);
            }
            return Some(n);
        }
        let slot = match self.free_slot() {
            Some(slot) => slot,
            None => self.add_slot()?,
        };
        self.place(slot, record.into());
        self.more().unwritten.insert(slot);
        Some(slot)
    }

    /// Takes one away, if it is there.
    pub fn unset(&mut self, key: Key) {
        if let Some(slot) = self.find(hash(&key.prefix())) {
            self.clear(slot);
        }
    }

    /// Sets these; what is in that scope and not among them is taken away. False if there is no place for all of them.
    pub fn replace(&mut self, attributes: &[Attribute], scope: Scope) -> bool {
        let mut stay = BTreeSet::new();
        let mut complete = true;
        for attribute in attributes.iter().filter(|a| scope.has(a.key().kind())) {
            match self.put(attribute) {
                Some(slot) => drop(stay.insert(slot)),
                None => complete = false,
            }
        }
        let there: Vec<u16> = match (scope, &self.more) {
            (Scope::Small, Some(more)) if self.are_many() => more.small.clone(),
            _ => self.taken().filter(|(_, s)| scope == Scope::Whole || s.is_small).map(|(n, _)| n).collect(),
        };
        for slot in there {
            if !stay.contains(&slot) {
                self.clear(slot);
            }
        }
        complete
    }

    /// Hands the slots that are to be written to `write`, the lowest first, until that fails.
    pub fn write<E>(&mut self, mut write: impl FnMut(u64, &[u8]) -> Result<(), E>) -> Result<(), E> {
        while let Some(more) = &mut self.more
            && let Some(&slot) = more.unwritten.first()
        {
            write(slot.into(), more.records.get(&slot).map_or(&[], |record| record))?;
            more.unwritten.pop_first();
            more.records.remove(&slot);
        }
        self.settle();
        Ok(())
    }

    fn are_many(&self) -> bool {
        self.slots.len() > FEW
    }

    fn more(&mut self) -> &mut More {
        self.more.get_or_insert_default()
    }

    /// The slots that have an attribute.
    fn taken(&self) -> impl Iterator<Item = (u16, &Slot)> {
        (0..).zip(&self.slots).filter(|(_, slot)| slot.len > 0)
    }

    fn find(&self, name: u64) -> Option<u16> {
        match &self.more {
            Some(more) if self.are_many() => {
                let is_it = |n: &u16| self.slots.get(usize::from(*n)).is_some_and(|slot| slot.name == name);
                more.by_name.find(name, is_it).copied()
            }
            _ => self.taken().find(|(_, slot)| slot.name == name).map(|(n, _)| n),
        }
    }

    fn free_slot(&mut self) -> Option<u16> {
        match &mut self.more {
            Some(more) if self.slots.len() > FEW => more.free.pop(),
            _ => (0..).zip(&self.slots).find(|(_, slot)| slot.len == 0).map(|(n, _)| n),
        }
    }

    /// One more, without an attribute.
    fn add_slot(&mut self) -> Option<u16> {
        let n = u16::try_from(self.slots.len()).ok()?;
        self.slots.push(Slot::default());
        if self.slots.len() == FEW + 1 {
            // There were few until now: what was looked for one by one is noted.
            let (mut by_name, mut small, mut free) = (HashTable::new(), Vec::new(), Vec::new());
            let hash_of = |n: &u16| self.slots.get(usize::from(*n)).map_or(0, |slot| slot.name);
            for (other, slot) in (0..n).zip(&self.slots) {
                match slot.len {
                    0 => free.push(other),
                    _ => drop(by_name.insert_unique(slot.name, other, hash_of)),
                }
                if slot.is_small {
                    small.push(other);
                }
            }
            let more = self.more();
            (more.by_name, more.small, more.free) = (by_name, small, free);
        }
        Some(n)
    }

    /// Puts a record into a slot that is free.
    fn place(&mut self, n: u16, record: Box<[u8]>) {
        let Some((kind, _)) = named_by(&record) else { return };
        let (name, is_small) = (hash(name_of(&record)), Scope::Small.has(kind));
        let Some(slot) = self.slots.get_mut(usize::from(n)) else { return };
        *slot = Slot { name, record: hash(&record), len: record.len() as u32, is_small };
        self.bytes += record.len();
        let more = self.more.get_or_insert_default();
        more.records.insert(n, record);
        if self.slots.len() > FEW {
            let slots = &self.slots;
            more.by_name.insert_unique(name, n, |n| slots.get(usize::from(*n)).map_or(0, |slot| slot.name));
            if is_small {
                more.small.push(n);
            }
        }
    }

    fn clear(&mut self, n: u16) {
        let are_many = self.are_many();
        let Some(place) = self.slots.get_mut(usize::from(n)) else { return };
        let slot = std::mem::take(place);
        self.bytes -= slot.len as usize;
        let more = self.more.get_or_insert_default();
        more.records.remove(&n);
        more.unwritten.insert(n);
        if are_many {
            if let Ok(entry) = more.by_name.find_entry(slot.name, |other| *other == n) {
                entry.remove();
            }
            more.small.retain(|other| *other != n);
            more.free.push(n);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(attributes: &mut Attributes) -> Vec<u64> {
        let mut written = Vec::new();
        let all: Result<(), ()> = attributes.write(|slot, _| {
            written.push(slot);
            Ok(())
        });
        assert_eq!(all, Ok(()));
        written
    }

    #[test]
    fn what_changes_is_written_and_nothing_else() {
        let mut attributes = Attributes::default();
        let small = [Attribute::Priority(1), Attribute::Activity("active".into())];
        assert!(attributes.replace(&small, Scope::Small));
        for jid in ["a@b/c", "d@e/f"] {
            assert!(attributes.set(&Attribute::Directed(jid.into())));
        }
        assert_eq!(slots(&mut attributes), [0, 1, 2, 3]);
        assert!(attributes.replace(&small, Scope::Small));
        assert!(attributes.set(&Attribute::Directed("a@b/c".into())));
        assert_eq!(slots(&mut attributes), []);
        assert!(attributes.replace(&[Attribute::Priority(2)], Scope::Small));
        assert_eq!(slots(&mut attributes), [0, 1]);
    }

    #[test]
    fn what_was_written_is_what_is_read() {
        let mut journal: Vec<Option<Box<[u8]>>> = vec![None; 64];
        let mut attributes = Attributes::default();
        let directed = |n: usize| Attribute::Directed(format!("{n}@x"));
        // More than a few, some of them gone again before and after they are written.
        let mut save = |attributes: &mut Attributes| {
            let written: Result<(), ()> = attributes.write(|slot, record| {
                journal[slot as usize] = Some(record.into());
                Ok(())
            });
            assert_eq!(written, Ok(()));
            assert_eq!(attributes.iter().count(), 0, "the journal has them");
            let read = Attributes::read(journal.iter().cloned()).unwrap();
            read.iter().collect::<Vec<_>>()
        };
        for n in 0..30 {
            assert!(attributes.set(&directed(n)));
            if n % 3 == 0 {
                attributes.unset(directed(n / 2).key());
            }
            if n % 7 == 0 {
                save(&mut attributes);
            }
        }
        assert!(attributes.replace(&[Attribute::Priority(2)], Scope::Small));
        let mut found = save(&mut attributes);
        let is_there = |n: usize| (0..30).step_by(3).all(|m| m / 2 != n);
        let mut expected: Vec<_> = (0..30).filter(|n| is_there(*n)).map(directed).collect();
        expected.push(Attribute::Priority(2));
        let by_text = |a: &Attribute| format!("{a:?}");
        found.sort_by_key(by_text);
        expected.sort_by_key(by_text);
        assert_eq!(found, expected);
        assert!(attributes.replace(&found, Scope::Whole), "all are known still");
        assert_eq!(slots(&mut attributes), []);
    }

    #[test]
    fn a_slot_is_used_again() {
        let mut attributes = Attributes::default();
        for n in 0..1000 {
            assert!(attributes.set(&Attribute::Directed(format!("{n}@x"))));
            attributes.unset(Key::Named(Kind::Directed, &format!("{n}@x")));
        }
        assert_eq!((attributes.slots.len(), attributes.bytes()), (1, 0));
        attributes.unset(Key::Only(Kind::Presence)); // was never there
        assert_eq!(slots(&mut attributes), [0]);
    }

    #[test]
    fn a_write_that_fails_is_done_again() {
        let mut attributes = Attributes::default();
        for n in 0..5 {
            assert!(attributes.set(&Attribute::Directed(format!("{n}@x"))));
        }
        let mut left = 2;
        let full = attributes.write(|_, _| {
            left -= 1;
            if left < 0 { Err(()) } else { Ok(()) }
        });
        assert_eq!(full, Err(()));
        assert_eq!(slots(&mut attributes), [2, 3, 4]);
    }

    #[test]
    fn there_is_a_last_slot() {
        let mut attributes = Attributes::default();
        for n in 0..MOST {
            assert!(attributes.set(&Attribute::Directed(format!("{n}@x"))));
        }
        assert!(!attributes.set(&Attribute::Directed("x@x".into())));
        assert!(!attributes.replace(&[Attribute::Priority(0)], Scope::Small));
        attributes.unset(Key::Named(Kind::Directed, "7@x"));
        assert!(attributes.set(&Attribute::Directed("x@x".into())));
    }
}
