//! Places in rooms that are held for clients whose sessions were replaced: see `replacing`.

use crate::input::FromRoom;
use crate::order::in_order;
use std::collections::{HashMap, HashSet};

/// Those of one client.
#[derive(Debug)]
pub(crate) struct Hold {
    /// Presences that clients sent until then, as a count.
    pub(crate) turn: u64,
    /// Until when it has the time to join again.
    pub(crate) until: u64,
    /// Rooms that it has not joined again.
    pub(crate) rooms: HashSet<Box<str>>,
}

/// By account and resource.
#[derive(Debug, Default)]
pub(crate) struct Holds(HashMap<Box<str>, HashMap<Box<str>, Hold>>);

impl Holds {
    pub(crate) fn begin(&mut self, account: &str, resource: &str, hold: Hold) {
        self.0.entry(account.into()).or_default().insert(resource.into(), hold);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The client is gone, or has to do with its rooms as any other. The rooms that it has not joined again.
    pub(crate) fn end(&mut self, account: &str, resource: &str) -> HashSet<Box<str>> {
        let Some(of_account) = self.0.get_mut(account) else { return HashSet::new() };
        let hold = of_account.remove(resource);
        if of_account.is_empty() {
            self.0.remove(account);
        }
        hold.map(|hold| hold.rooms).unwrap_or_default()
    }

    /// The client joins that room again, or leaves it.
    pub(crate) fn came(&mut self, account: &str, resource: &str, room: &str) {
        if let Some(hold) = self.0.get_mut(account).and_then(|of_account| of_account.get_mut(resource)) {
            hold.rooms.remove(room);
        }
    }

    pub(crate) fn forget(&mut self, account: &str) {
        self.0.remove(account);
    }

    pub(crate) fn has(&self, account: &str, resource: &str, room: &str) -> bool {
        let hold = self.0.get(account).and_then(|of_account| of_account.get(resource));
        hold.is_some_and(|hold| hold.rooms.contains(room))
    }

    /// Clients whose place in that room is held.
    pub(crate) fn of(&self, from: FromRoom) -> Vec<Box<str>> {
        let of_account = self.0.get(from.account).into_iter().flatten();
        of_account.filter(|(_, hold)| hold.rooms.contains(from.room)).map(|(r, _)| r.clone()).collect()
    }

    pub(crate) fn next_due(&self) -> Option<u64> {
        self.0.values().flat_map(HashMap::values).map(|hold| hold.until).min()
    }

    /// Account, resource and turn of those that have had the time, in order.
    pub(crate) fn due(&self, now: u64) -> Vec<(Box<str>, Box<str>, u64)> {
        let all = self.0.iter().flat_map(|(account, of_account)| {
            of_account.iter().map(move |(resource, hold)| (account, resource, hold))
        });
        let due = all.filter(|(_, _, hold)| hold.until <= now);
        in_order(due.map(|(a, r, hold)| (a.clone(), r.clone(), hold.turn)))
    }
}
