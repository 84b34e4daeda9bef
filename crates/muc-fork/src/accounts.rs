//! The accounts of this server, the rooms that they are in, and what follows from whatever comes in.
//!
//! Each input returns `None` if the stanza is none of this engine's business, which then goes its way as if there were
//! no account-level MUC, and otherwise the decisions.

use crate::address::host;
use crate::change::Change;
use crate::config::{Config, Offline};
use crate::decision::Decision;
use crate::holds::Holds;
use crate::membership::Membership;
use crate::memory::{Full, Limits, Meter};
use crate::requests::Requests;
use crate::room::Room;
use crate::stay::Stay;
use crate::view::View;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Bookmark {
    pub(crate) autojoin: bool,
    pub(crate) nick: Option<Box<str>>,
    pub(crate) password: Option<Box<str>>,
}

#[derive(Debug, Default)]
pub(crate) struct Account {
    pub(crate) rooms: HashMap<Box<str>, Membership>,
    pub(crate) bookmarks: HashMap<Box<str>, Bookmark>,
    /// They could not be read: there may be one for any room.
    pub(crate) bookmarks_unknown: bool,
    pub(crate) requests: Requests,
    /// What it was told.
    pub(crate) memory: Meter,
    /// It has been said that this is too much.
    pub(crate) full: bool,
    pub(crate) online: bool,
}

/// All accounts.
pub struct Accounts {
    pub(crate) accounts: HashMap<Box<str>, Account>,
    pub(crate) rooms: HashMap<Box<str>, Room>,
    pub(crate) due: BinaryHeap<Reverse<Due>>,
    pub(crate) configs: HashMap<Box<str>, Config>,
    pub(crate) default_config: Config,
    pub(crate) random: fn() -> u128,
    pub(crate) turn: u64,
    pub(crate) holds: Holds,
    /// When requests without an answer were last forgotten.
    pub(crate) swept: u64,
    pub(crate) changes: Vec<Change>,
    /// How much later it is than the clock of time-outs says, in seconds.
    pub(crate) wall_ahead: i64,
    pub(crate) limits: Limits,
    pub(crate) memory: Meter,
    pub(crate) full: bool,
    pub(crate) notices: Vec<Full>,
}

/// When, which account, which room.
pub(crate) type Due = (u64, Box<str>, Box<str>);

impl Account {
    /// Whether there is nothing to know about it.
    pub(crate) fn is_empty(&self) -> bool {
        self.rooms.is_empty()
            && self.bookmarks.is_empty()
            && !self.bookmarks_unknown
            && self.requests.is_empty()
    }

    /// In how many rooms it is or is about to be, which have a bound.
    pub(crate) fn rooms_in(&self) -> usize {
        self.rooms.values().filter(|m| !m.is_leaving()).count()
    }
}

impl Accounts {
    /// Without accounts. `random` gives 128 bits that nobody can guess, for ids.
    pub fn new(random: fn() -> u128) -> Accounts {
        Accounts {
            accounts: HashMap::new(),
            rooms: HashMap::new(),
            due: BinaryHeap::new(),
            configs: HashMap::new(),
            default_config: Config::default(),
            random,
            turn: 0,
            holds: Holds::default(),
            swept: 0,
            changes: Vec::new(),
            wall_ahead: 0,
            limits: Limits::default(),
            memory: Meter::default(),
            full: false,
            notices: Vec::new(),
        }
    }

    /// What time it is, in seconds since 1970, when `now` is the time of a clock that nobody sets. Messages are stamped with it.
    pub fn set_wall_clock(&mut self, wall: u64, now: u64) {
        self.wall_ahead = wall.cast_signed().saturating_sub(now.cast_signed());
    }

    /// Sets how much is kept at most.
    pub fn limit(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Bounds that were reached since the last call, each once for as long as it is.
    pub fn take_notices(&mut self) -> Vec<Full> {
        std::mem::take(&mut self.notices)
    }

    /// Sets what holds for the accounts of a host.
    pub fn configure(&mut self, host: &str, config: Config) {
        self.configs.insert(host.into(), config);
    }

    pub(crate) fn config(&self, account: &str) -> &Config {
        self.configs.get(host(account)).unwrap_or(&self.default_config)
    }

    pub(crate) fn new_id(&self) -> String {
        format!("{:032x}", (self.random)())
    }

    pub(crate) fn membership(&self, account: &str, room: &str) -> Option<&Membership> {
        self.accounts.get(account)?.rooms.get(room)
    }

    pub(crate) fn membership_mut(&mut self, account: &str, room: &str) -> Option<&mut Membership> {
        self.accounts.get_mut(account)?.rooms.get_mut(room)
    }

    /// What is known of a room's occupants.
    pub(crate) fn view(&self, room: &str) -> Option<&View> {
        Some(&self.rooms.get(room)?.view)
    }

    /// An account's stay in a room; what follows from it goes to `out`.
    pub(crate) fn stay<'a>(
        &'a mut self,
        account: &'a str,
        name: &'a str,
        out: &'a mut Vec<Decision>,
    ) -> Option<Stay<'a>> {
        let m = self.accounts.get_mut(account)?.rooms.get_mut(name)?;
        let room = self.rooms.get_mut(name)?;
        Some(Stay { account, name, m, room, memory: &self.memory, changes: &mut self.changes, out })
    }

    /// A membership is looked at again then ([`Accounts::tick`]).
    pub(crate) fn wake(&mut self, account: &str, room: &str, at: u64) {
        if let Some(m) = self.membership_mut(account, room) {
            m.due = at;
            self.due.push(Reverse((at, account.into(), room.into())));
        }
    }

    /// Whether an account would stay in a room without any client in it.
    pub(crate) fn stays(&self, account: &str, room: &str, left: bool, now: u64) -> bool {
        let Some(a) = self.accounts.get(account) else { return false };
        let bookmarked = a.bookmarks.get(room).is_some_and(|b| b.autojoin);
        let m = a.rooms.get(room);
        let waits = m.is_some_and(|m| m.grace > now) && !left;
        let bookmarked = bookmarked || ((a.bookmarks_unknown || m.is_some_and(|m| m.pam.asked)) && !left);
        match self.config(account).offline {
            Offline::Leave => bookmarked && a.online,
            Offline::Bookmarked => bookmarked || waits,
            Offline::Stay => bookmarked || !left || waits,
        }
    }
}
