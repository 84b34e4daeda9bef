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
use rustc_hash::FxHasher;
use std::collections::BTreeSet;
use std::hash::Hasher;

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

/// The attributes of one session.
#[derive(Debug, Default)]
pub(crate) struct Attributes {
    /// Their records, by slot. A slot without an attribute is empty.
    records: Vec<Box<[u8]>>,
    /// Which slot is whose, if there are more than a [`FEW`] slots.
    by_name: HashTable<u16>,
    /// Those of which there is a small number.
    small: Vec<u16>,
    free: Vec<u16>,
    /// Slots that the journal has not as they are.
    unwritten: BTreeSet<u16>,
    bytes: usize,
}

fn hash(name: &[u8]) -> u64 {
    let mut hasher = FxHasher::default();
    hasher.write(name);
    hasher.finish()
}

/// The beginning of a record, which names its attribute.
fn name_of(record: &[u8]) -> &[u8] {
    named_by(record).and_then(|(_, len)| record.get(..len)).unwrap_or_default()
}

impl Attributes {
    /// What the slots of the journal hold.
    pub fn read(slots: impl IntoIterator<Item = Option<Box<[u8]>>>) -> Result<Attributes, Unreadable> {
        let mut attributes = Attributes::default();
        for (slot, record) in slots.into_iter().enumerate().take(MOST) {
            attributes.records.push(Box::default());
            match record.filter(|record| !record.is_empty()) {
                Some(record) => {
                    Attribute::decode(&record)?;
                    attributes.place(slot as u16, record);
                }
                None => attributes.free.push(slot as u16),
            }
        }
        Ok(attributes)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = Attribute> {
        self.records.iter().filter(|r| !r.is_empty()).filter_map(|r| Attribute::decode(r).ok())
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
        if let Some(slot) = self.find(name_of(&record)) {
            let old = self.records.get_mut(usize::from(slot))?;
            if **old != record[..] {
                self.bytes = self.bytes + record.len() - old.len();
                *old = record.into();
                self.unwritten.insert(slot);
            }
            return Some(slot);
        }
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None if self.records.len() < MOST => {
                self.records.push(Box::default());
                (self.records.len() - 1) as u16
            }
            None => return None,
        };
        self.place(slot, record.into());
        self.unwritten.insert(slot);
        Some(slot)
    }

    /// Takes one away, if it is there.
    pub fn unset(&mut self, key: Key) {
        if let Some(slot) = self.find(&key.prefix()) {
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
        let there: Vec<u16> = match scope {
            Scope::Whole => self.taken().collect(),
            Scope::Small => self.small.clone(),
        };
        for slot in there {
            if !stay.contains(&slot) {
                self.clear(slot);
            }
        }
        self.records.shrink_to_fit();
        self.small.shrink_to_fit();
        complete
    }

    /// The slots that have an attribute.
    fn taken(&self) -> impl Iterator<Item = u16> {
        (0..).zip(&self.records).filter(|(_, record)| !record.is_empty()).map(|(slot, _)| slot)
    }

    /// Hands the slots that are to be written to `write`, the lowest first, until that fails.
    pub fn write<E>(&mut self, mut write: impl FnMut(u64, &[u8]) -> Result<(), E>) -> Result<(), E> {
        while let Some(&slot) = self.unwritten.first() {
            if let Some(record) = self.records.get(usize::from(slot)) {
                write(slot.into(), record)?;
            }
            self.unwritten.pop_first();
        }
        Ok(())
    }

    fn find(&self, name: &[u8]) -> Option<u16> {
        let is_it = |slot: &u16| self.records.get(usize::from(*slot)).is_some_and(|r| name_of(r) == name);
        match self.records.len() > FEW {
            true => self.by_name.find(hash(name), is_it).copied(),
            false => self.taken().find(is_it),
        }
    }

    /// Puts a record into a slot that is free.
    fn place(&mut self, slot: u16, record: Box<[u8]>) {
        let Some((kind, _)) = named_by(&record) else { return };
        let Some(place) = self.records.get_mut(usize::from(slot)) else { return };
        self.bytes += record.len();
        *place = record;
        if Scope::Small.has(kind) {
            self.small.push(slot);
        }
        if self.records.len() <= FEW {
            return;
        }
        let records = &self.records;
        let hash_of = |slot: &u16| records.get(usize::from(*slot)).map_or(0, |r| hash(name_of(r)));
        match self.by_name.is_empty() {
            // There were few until now. (If all were taken away meanwhile, this is the first.)
            true => {
                for slot in self.taken().collect::<Vec<_>>() {
                    self.by_name.insert_unique(hash_of(&slot), slot, hash_of);
                }
            }
            false => drop(self.by_name.insert_unique(hash_of(&slot), slot, hash_of)),
        }
    }

    fn clear(&mut self, slot: u16) {
        let Some(place) = self.records.get_mut(usize::from(slot)) else { return };
        let record = std::mem::take(place);
        if let Ok(entry) = self.by_name.find_entry(hash(name_of(&record)), |s| *s == slot) {
            entry.remove();
        }
        self.small.retain(|s| *s != slot);
        self.bytes -= record.len();
        self.free.push(slot);
        self.unwritten.insert(slot);
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
        let left: Vec<Attribute> = attributes.iter().collect();
        let directed = |jid: &str| Attribute::Directed(jid.into());
        assert_eq!(left, [Attribute::Priority(2), directed("a@b/c"), directed("d@e/f")]);
    }

    #[test]
    fn a_slot_is_used_again() {
        let mut attributes = Attributes::default();
        for n in 0..1000 {
            assert!(attributes.set(&Attribute::Directed(format!("{n}@x"))));
            attributes.unset(Key::Named(Kind::Directed, &format!("{n}@x")));
        }
        assert_eq!((attributes.records.len(), attributes.bytes()), (1, 0));
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
