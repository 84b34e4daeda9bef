//! What a room told about its occupants.
//!
//! A room tells nearly the same to each of the accounts of this server that are in it; what it tells may differ (real
//! JIDs are for moderators only). So each distinct presence is kept once per room, and an account keeps, per occupant,
//! the number of the presence that it was told: four bytes in a vector that at most doubles as it grows.

use crate::memory::{Meter, Weight};
use enjamb_stanza::read;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

/// What counts of a presence when what a client knows is compared with what the room tells now: all but its `id`. Attributes
/// count in any order, since that of Lua's tables differs between processes. Stays the same across restarts of a build.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Likeness {
    /// Everything but real JIDs.
    pub rest: u64,
    /// The occupant's real JIDs, which depend on who is told.
    pub jid: Option<u64>,
}

impl Likeness {
    /// Whether it tells something to whoever knows `before`.
    pub fn is_news_after(self, before: Likeness) -> bool {
        self.rest != before.rest || (self.jid.is_some() && self.jid != before.jid)
    }
}

/// See [`Likeness`].
pub fn likeness(presence: &[u8]) -> Likeness {
    let mut hasher = DefaultHasher::new();
    let mut jid = None;
    let (mut bytes, mut is_root) = (presence, true);
    let mut sorted: Vec<(&[u8], &[u8])> = Vec::new();
    while let Some((text, tag, after)) = read::tag(bytes) {
        bytes = after;
        hasher.write(text);
        let (name, attributes) = read::name(tag);
        sorted.clear();
        sorted.extend(read::attributes(attributes));
        sorted.sort_unstable();
        hasher.write(b"<");
        hasher.write(name);
        for &(key, value) in &sorted {
            if name == b"item" && key == b"jid" {
                // One nickname may be of several sessions, in any order.
                let mut one = DefaultHasher::new();
                one.write(value);
                jid = Some(jid.unwrap_or(0u64).wrapping_add(one.finish()));
            } else if !(is_root && key == b"id") {
                (key, value).hash(&mut hasher);
            }
        }
        is_root = false;
    }
    Likeness { rest: hasher.finish(), jid }
}

/// The occupants of one room and what was told about them, for all accounts together.
#[derive(Debug, Default)]
pub struct View {
    slots: HashMap<Box<str>, u32>,
    occupants: Vec<Option<Occupant>>,
    free_slots: Vec<u32>,
    numbers: HashMap<Arc<[u8]>, u32>,
    told: Vec<Option<Told>>,
    free_numbers: Vec<u32>,
    weight: Weight,
}

/// What an occupant takes beside its nickname (twice), and a presence beside its bytes: measured, with the maps' and vectors'
/// room to grow.
const OCCUPANT: usize = 128;
const PRESENCE: usize = 112;

#[derive(Debug)]
struct Occupant {
    nick: Box<str>,
    /// By how many accounts it is seen.
    seen: u32,
    likeness: Likeness,
}

#[derive(Debug)]
struct Told {
    presence: Arc<[u8]>,
    /// To how many accounts.
    times: u32,
}

/// What one account was told. Belongs to one [`View`], and is empty when it is dropped ([`View::forget`]).
#[derive(Debug, Default)]
pub struct Seen {
    /// By slot: 0, or one more than the presence's number.
    told: Vec<u32>,
    /// Of the presences that it was told, for its account.
    weight: Weight,
    /// Of the vector, for the server.
    own: Weight,
}

/// What an account is told about an occupant: see [`View::find`]. Holds until the view changes.
#[derive(Clone, Copy, Debug)]
pub struct News<'a> {
    nick: &'a str,
    presence: &'a [u8],
    slot: Option<u32>,
    number: Option<u32>,
}

impl News<'_> {
    /// How many bytes more the view takes when it has been told.
    pub fn growth(&self) -> usize {
        let presence = if self.number.is_some() { 0 } else { PRESENCE + self.presence.len() };
        let occupant = if self.slot.is_some() { 0 } else { OCCUPANT + 2 * self.nick.len() };
        presence + occupant
    }
}

impl View {
    /// Counted by `meter`.
    pub fn new(meter: &Meter) -> View {
        View { weight: Weight::new(meter, 0), ..View::default() }
    }

    /// Bytes that it takes.
    pub fn bytes(&self) -> usize {
        self.weight.bytes()
    }

    /// What an account is told about an occupant, as far as others were told it.
    pub fn find<'a>(&self, nick: &'a str, presence: &'a [u8]) -> News<'a> {
        let (slot, number) = (self.slots.get(nick).copied(), self.numbers.get(presence).copied());
        News { nick, presence, slot, number }
    }

    /// Notes what an account was told about an occupant, and was looked for just now. Gives its likeness, if nobody was told that
    /// before.
    pub fn tell(&mut self, seen: &mut Seen, news: News) -> Option<Likeness> {
        let News { nick, presence, slot, number } = news;
        let number = number.unwrap_or_else(|| self.intern(presence));
        let slot = slot.unwrap_or_else(|| self.slot(nick));
        let at = slot as usize;
        if seen.told.len() <= at {
            seen.told.resize(at + 1, 0);
            seen.own.set(seen.bytes());
        }
        let before = seen.told[at];
        if before == number + 1 {
            return None;
        }
        seen.told[at] = number + 1;
        seen.weight.add(PRESENCE + presence.len());
        if let Some(told) = &mut self.told[number as usize] {
            told.times += 1;
        }
        if before == 0 {
            if let Some(occupant) = &mut self.occupants[at] {
                occupant.seen += 1;
            }
        } else {
            seen.weight.take(self.weight_of(before - 1));
            self.untell(before - 1);
        }
        let occupant = self.occupants[at].as_mut()?;
        let mut likeness = likeness(presence);
        // Not all are shown it.
        likeness.jid = likeness.jid.or(occupant.likeness.jid);
        (std::mem::replace(&mut occupant.likeness, likeness) != likeness).then_some(likeness)
    }

    /// An occupant is gone, as far as an account was told. Says whether no account sees it any more.
    pub fn remove(&mut self, seen: &mut Seen, nick: &str) -> bool {
        let Some(&slot) = self.slots.get(nick) else { return false };
        self.clear(seen, slot).is_some()
    }

    fn clear(&mut self, seen: &mut Seen, slot: u32) -> Option<Occupant> {
        let before = std::mem::take(seen.told.get_mut(slot as usize)?);
        if before == 0 {
            return None;
        }
        seen.weight.take(self.weight_of(before - 1));
        self.untell(before - 1);
        let unseen = self.occupants[slot as usize].as_mut().is_some_and(|o| {
            o.seen -= 1;
            o.seen == 0
        });
        let occupant = self.occupants[slot as usize].take_if(|_| unseen)?;
        self.slots.remove(&occupant.nick);
        self.weight.take(OCCUPANT + 2 * occupant.nick.len());
        self.free_slots.push(slot);
        Some(occupant)
    }

    /// An account is out of the room. Calls `unseen` with each occupant that no account sees any more.
    pub fn forget(&mut self, seen: &mut Seen, mut unseen: impl FnMut(Box<str>)) {
        for slot in 0..seen.told.len() {
            if let Some(occupant) = self.clear(seen, slot as u32) {
                unseen(occupant.nick);
            }
        }
        seen.told = Vec::new();
        seen.own.set(0);
        seen.weight.set(0);
    }

    fn weight_of(&self, number: u32) -> usize {
        let told = self.told.get(number as usize).and_then(Option::as_ref);
        told.map_or(0, |told| PRESENCE + told.presence.len())
    }

    /// What an account was told about an occupant.
    pub fn get(&self, seen: &Seen, nick: &str) -> Option<&Arc<[u8]>> {
        let &slot = self.slots.get(nick)?;
        let &number = seen.told.get(slot as usize)?;
        Some(&self.told.get((number.checked_sub(1)?) as usize)?.as_ref()?.presence)
    }

    /// The occupants that an account was told of, and what.
    pub fn occupants<'a>(&'a self, seen: &'a Seen) -> impl Iterator<Item = (&'a str, &'a Arc<[u8]>)> {
        seen.told.iter().enumerate().filter_map(|(slot, &number)| {
            let told = self.told.get(number.checked_sub(1)? as usize)?.as_ref()?;
            Some((&*self.occupants.get(slot)?.as_ref()?.nick, &told.presence))
        })
    }

    /// The occupants that any account sees, and their likeness.
    pub fn all(&self) -> impl Iterator<Item = (&str, Likeness)> {
        self.occupants.iter().flatten().map(|o| (&*o.nick, o.likeness))
    }

    /// Whether any account sees an occupant of this nickname.
    pub fn has(&self, nick: &str) -> bool {
        self.slots.contains_key(nick)
    }

    /// How many occupants any account sees.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether no account sees any.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// How many distinct presences are kept.
    pub fn presences(&self) -> usize {
        self.numbers.len()
    }

    fn intern(&mut self, presence: &[u8]) -> u32 {
        let presence: Arc<[u8]> = presence.into();
        self.weight.add(PRESENCE + presence.len());
        let told = Some(Told { presence: presence.clone(), times: 0 });
        let number = match self.free_numbers.pop() {
            Some(number) => {
                self.told[number as usize] = told;
                number
            }
            None => {
                self.told.push(told);
                self.told.len() as u32 - 1
            }
        };
        self.numbers.insert(presence, number);
        number
    }

    fn untell(&mut self, number: u32) {
        let entry = &mut self.told[number as usize];
        let unused = entry.as_mut().is_some_and(|told| {
            told.times -= 1;
            told.times == 0
        });
        if unused && let Some(told) = entry.take() {
            self.numbers.remove(&told.presence);
            self.weight.take(PRESENCE + told.presence.len());
            self.free_numbers.push(number);
        }
    }

    fn slot(&mut self, nick: &str) -> u32 {
        self.weight.add(OCCUPANT + 2 * nick.len());
        let occupant = Some(Occupant { nick: nick.into(), seen: 0, likeness: Likeness::default() });
        let slot = match self.free_slots.pop() {
            Some(slot) => {
                self.occupants[slot as usize] = occupant;
                slot
            }
            None => {
                self.occupants.push(occupant);
                self.occupants.len() as u32 - 1
            }
        };
        self.slots.insert(nick.into(), slot);
        slot
    }
}

impl Seen {
    /// Counted by the meters of its account and of the server.
    pub fn count(&mut self, account: &Meter, server: &Meter) {
        self.weight.move_to(account);
        self.own.move_to(server);
    }

    /// Bytes that it takes.
    pub fn bytes(&self) -> usize {
        self.told.capacity() * size_of::<u32>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn likeness_is_of_what_a_client_would_go_by() {
        let presence = |attributes: &str, item: &str, more: &str| {
            format!(
                "<presence {attributes}><x xmlns='http://jabber.org/protocol/muc#user'>{item}</x>{more}</presence>"
            )
        };
        let of =
            |attributes: &str, item: &str, more: &str| likeness(presence(attributes, item, more).as_bytes());
        let before = of("from='r@c/n' id='1'", "<item affiliation='none' role='visitor' jid='a@b/c'/>", "");
        for same in [
            of("id='2' from='r@c/n'", "<item jid='a@b/c' role='visitor' affiliation='none'/>", ""),
            of("from='r@c/n'", "<item affiliation='none' role='visitor'/>", ""),
        ] {
            assert!(!same.is_news_after(before), "{same:?}, {before:?}");
        }
        for (attributes, item, more) in [
            ("from='r@c/n'", "<item affiliation='none' role='visitor' jid='x@y/z'/>", ""),
            ("from='r@c/n'", "<item affiliation='member' role='visitor' jid='a@b/c'/>", ""),
            ("from='r@c/n'", "<item affiliation='none' role='participant' jid='a@b/c'/>", ""),
            ("from='r@c/n'", "<item affiliation='none' role='visitor'/>", "<show>away</show>"),
            (
                "from='r@c/n'",
                "<item affiliation='none' role='visitor' jid='a@b/c'/>",
                "<occupant-id xmlns='urn:xmpp:occupant-id:0' id='o2'/>",
            ),
        ] {
            assert!(of(attributes, item, more).is_news_after(before), "{item} {more}");
        }
        // It is shown now.
        assert!(before.is_news_after(of("from='r@c/n'", "<item affiliation='none' role='visitor'/>", "")));
        let two = of("", "<item jid='a@b/1'/><item jid='a@b/2'/>", "");
        assert_eq!(two, of("", "<item jid='a@b/2'/><item jid='a@b/1'/>", ""));
        assert_ne!(two.jid, of("", "<item jid='a@b/2'/><item jid='a@b/3'/>", "").jid);
        let whole = presence("from='r@c/n' id='1'", "<item jid='a@b'/>", "text");
        for cut in 0..whole.len() {
            likeness(&whole.as_bytes()[..cut]);
        }
    }

    #[test]
    fn keeps_one_copy_for_all() {
        let mut view = View::default();
        let mut accounts: Vec<Seen> = (0..1000).map(|_| Seen::default()).collect();
        for seen in &mut accounts {
            for n in 0..1000 {
                let (nick, presence) = (format!("nick{n}"), format!("<presence from='r@c/nick{n}'/>"));
                let news = view.find(&nick, presence.as_bytes());
                view.tell(seen, news);
            }
        }
        assert_eq!((view.len(), view.presences()), (1000, 1000));
        let bytes: usize = accounts.iter().map(Seen::bytes).sum();
        assert!(bytes <= 1000 * 1000 * 8, "{bytes} bytes for a million pairs");
        for seen in &mut accounts {
            view.forget(seen, |_| ());
        }
        assert!(view.is_empty());
        assert_eq!(view.presences(), 0);
    }

    proptest! {
        #[test]
        fn is_as_many_maps(steps in proptest::collection::vec((0..3usize, 0..6u8, 0..5u8), 0..200)) {
            let mut view = View::default();
            let mut seen: [Seen; 3] = Default::default();
            let mut naive: [BTreeMap<String, Vec<u8>>; 3] = Default::default();
            for (account, nick, what) in steps {
                let nick = format!("n{nick}");
                match what {
                    0 => {
                        let had = naive[account].remove(&nick).is_some();
                        let last = had && !naive.iter().any(|n| n.contains_key(&nick));
                        prop_assert_eq!(view.remove(&mut seen[account], &nick), last);
                    }
                    4 if nick == "n0" => {
                        naive[account].clear();
                        view.forget(&mut seen[account], |_| ());
                    }
                    _ => {
                        let first = !naive.iter().any(|n| n.contains_key(&nick));
                        let presence = [what];
                        let news = view.find(&nick, &presence);
                        let (before, growth) = (view.bytes(), news.growth());
                        let told = view.tell(&mut seen[account], news);
                        // What it was told before may be let go of.
                        prop_assert!(view.bytes() <= before + growth);
                        prop_assert!(!first || told == Some(likeness(&[what])));
                        prop_assert!(told.is_none() || naive[account].get(&nick) != Some(&vec![what]));
                        naive[account].insert(nick, vec![what]);
                    }
                }
                for (seen, naive) in seen.iter().zip(&naive) {
                    let got: BTreeMap<String, Vec<u8>> =
                        view.occupants(seen).map(|(n, p)| (n.into(), p.to_vec())).collect();
                    prop_assert_eq!(&got, naive);
                }
                let distinct: std::collections::BTreeSet<_> = naive.iter().flat_map(|m| m.values()).collect();
                prop_assert_eq!(view.presences(), distinct.len());
            }
        }
    }
}
