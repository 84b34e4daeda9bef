//! The accounts of this server, the rooms that they are in, and what follows from whatever comes in.
//!
//! Each input returns `None` if the stanza is none of this engine's business, which then goes its way as if there were
//! no account-level MUC, and otherwise the decisions.

use crate::decision::{Condition, Id};
use crate::history::{HistoryMessage, Mark, Request};
use crate::membership::Membership;
use crate::memory::{Full, Limits, Meter};
use crate::requests::Requests;
use crate::view::{Likeness, View};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet, VecDeque};
use std::sync::Arc;

/// Whether an account stays in a room when none of its devices is online.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Offline {
    /// In rooms that it has a bookmark with autojoin for (XEP-0402).
    #[default]
    Bookmarked,
    /// In all that it did not leave.
    Stay,
    /// In none.
    Leave,
}

/// What a host's admin set.
#[derive(Clone, Debug)]
pub struct Config {
    /// Whether accounts without a device online stay in their rooms.
    pub offline: Offline,
    /// Rooms that an account may be in.
    pub max_rooms: usize,
    /// Seconds that a room has for answering a join.
    pub join_timeout: u64,
    /// Seconds without anything from a room after which the account looks whether it is still in it.
    pub silence: u64,
}

impl Default for Config {
    fn default() -> Config {
        Config { offline: Offline::default(), max_rooms: 200, join_timeout: 60, silence: 900 }
    }
}

/// A membership as it was kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// The room's bare JID.
    pub room: String,
    /// The account's nickname.
    pub nick: String,
    /// The room's password.
    pub password: Option<String>,
    /// Clients that go on where they were.
    pub clients: Vec<RestoredClient>,
    /// Who was in the room, and the likeness of what was told of each ([`Change::Occupant`]).
    pub occupants: Vec<(String, Likeness)>,
    /// The last messages ([`Change::Message`]).
    pub said: Vec<Mark>,
    /// It was asked for by iq (MUC2-PAM).
    pub pam: bool,
    /// Resource and request `id` of clients that wait for the answer to that.
    pub pam_waiting: Vec<(String, String)>,
    /// The account was leaving.
    pub leaving: bool,
    /// It was joining for the first time: nobody has been told that it is in.
    pub joining: bool,
    /// Status codes that say what the room is, and those that no client has been told.
    pub entry: Vec<u16>,
    /// See `entry`.
    pub untold: Vec<u16>,
    /// The room answers joins under other ids than theirs.
    pub other_ids: bool,
}

/// A client of a membership as it was kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RestoredClient {
    /// Its resource.
    pub resource: String,
    /// The nickname that it asked for.
    pub asked: String,
    /// Its presence in the room, without address.
    pub presence: Vec<u8>,
    /// What it has not been told yet. None: it is in the room.
    pub waits: Option<Waits>,
}

/// What a client waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Waits {
    /// The answer to its join.
    ToBeIn {
        /// The join's `id`.
        id: Option<String>,
        /// How much of the discussion it asked for.
        request: Request,
        /// It had been in the room before.
        was_in: bool,
    },
    /// The answer to its leave.
    ToBeOut {
        /// The leave's `id`.
        id: Option<String>,
    },
}

/// A room as far as it is the same for all accounts in it.
#[derive(Debug, Default)]
pub(crate) struct Room {
    pub(crate) view: View,
    /// It has been said that it is full.
    pub(crate) full: bool,
    /// The last messages, so that what came to several accounts is kept once.
    pub(crate) recent: VecDeque<Arc<HistoryMessage>>,
    pub(crate) accounts: usize,
    /// How many of them are joining again, and compare what the room tells with what their clients know.
    pub(crate) comparing: usize,
    /// Occupants that are kept across a restart though no account sees them: clients of those that compare may.
    pub(crate) doubtful: HashSet<Box<str>>,
}

impl Room {
    pub(crate) fn new(meter: &Meter) -> Room {
        Room { view: View::new(meter), ..Room::default() }
    }

    /// What an account was told holds no more; its clients may still go by it.
    pub(crate) fn forget_seen(&mut self, name: &str, m: &mut Membership, changes: &mut Vec<Change>) {
        let comparing = m.known.is_some();
        self.view.forget(&mut m.seen, |nick| {
            if comparing {
                self.doubtful.insert(nick);
            } else {
                changes.push(Change::Gone { room: name.into(), nick });
            }
        });
    }

    /// A nickname is the account's own, whoever it was taken for.
    pub(crate) fn not_another(
        &mut self,
        name: &str,
        m: &mut Membership,
        nick: &str,
        changes: &mut Vec<Change>,
    ) {
        if self.view.remove(&mut m.seen, nick) {
            changes.push(Change::Gone { room: name.into(), nick: nick.into() });
        }
        if let Some(known) = &mut m.known {
            known.remove(nick);
        }
    }

    /// From now on an account compares what the room tells with what its clients know.
    pub(crate) fn compare(&mut self, m: &mut Membership, known: HashMap<Box<str>, Likeness>) {
        self.doubtful.extend(known.keys().filter(|nick| !self.view.has(nick)).cloned());
        if m.known.replace(known).is_none() {
            self.comparing += 1;
        }
    }

    /// An account does not compare any more. Gives what its clients knew.
    pub(crate) fn compared(
        &mut self,
        name: &str,
        m: &mut Membership,
        changes: &mut Vec<Change>,
    ) -> Option<HashMap<Box<str>, Likeness>> {
        let known = m.known.take()?;
        self.comparing -= 1;
        self.doubt_no_more(name, changes);
        Some(known)
    }

    /// Whom nobody sees is gone, unless somebody still compares.
    pub(crate) fn doubt_no_more(&mut self, name: &str, changes: &mut Vec<Change>) {
        if self.comparing == 0 {
            let gone = self.doubtful.drain().filter(|nick| !self.view.has(nick));
            changes.extend(gone.map(|nick| Change::Gone { room: name.into(), nick }));
        }
    }
}

/// Something of a room that is worth keeping across a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// An occupant is there, or changed.
    Occupant {
        /// The room's bare JID.
        room: Box<str>,
        /// The occupant's nickname.
        nick: Box<str>,
        /// See [`crate::view::likeness`].
        likeness: Likeness,
    },
    /// An occupant is gone.
    Gone {
        /// The room's bare JID.
        room: Box<str>,
        /// The occupant's nickname.
        nick: Box<str>,
    },
    /// A message was said.
    Message {
        /// The room's bare JID.
        room: Box<str>,
        /// How it is known again.
        mark: Mark,
    },
    /// No account is in the room any more.
    Forgotten {
        /// The room's bare JID.
        room: Box<str>,
    },
}

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

/// Answers to requests are waited for this long, in seconds.
pub(crate) const ANSWER_TIMEOUT: u64 = 1800;
/// A room has this long for confirming that the account left; then its client is told anyway.
pub(crate) const LEAVE_TIMEOUT: u64 = 10;
/// For this long what a room still says to an account that left is kept from its clients.
pub(crate) const LINGER: u64 = 60;
/// A join without subject is taken for complete after this long.
pub(crate) const SETTLE_TIMEOUT: u64 = 5;
/// So long nothing comes after what may have been the end of it.
pub(crate) const SOON: u64 = 1;
/// A ping that is not answered is sent again, this often.
pub(crate) const PING_TRIES: u32 = 3;
pub(crate) const PING_TIMEOUT: u64 = 60;
/// A room that cannot be reached is tried again for so many times as it has for answering a join; until then clients that are in it
/// are not told.
pub(crate) const OUTAGE: u64 = 10;
/// A room that gives reasons to doubt is asked no sooner than this after the last time, in seconds.
pub(crate) const DOUBT_PAUSE: u64 = 5;
/// So many rooms are looked at in a second when a server is back.
pub(crate) const LOOKS: u64 = 500;
/// How many messages a client that asks for no number gets at most; both Prosody's and ejabberd's default.
pub(crate) const DEFAULT_HISTORY: usize = 20;
/// How many a room is asked for if a client asks for something in particular.
pub(crate) const WIDE_HISTORY: usize = 100;
/// How many messages are kept, while a client is in and while none is.
pub(crate) const HISTORY: usize = 100;
pub(crate) const HISTORY_AWAY: usize = 500;
pub(crate) const HISTORY_BYTES: usize = 2 << 20;
/// For so many seconds after it joined again, the account takes what the room repeats for what its clients may have.
pub(crate) const REPEATING: u64 = 60;
/// Messages of a room among which the same one is looked for.
pub(crate) const RECENT: usize = 64;
/// What several accounts are told within so many seconds is told of one message.
pub(crate) const SAME: u64 = 2;
pub(crate) const RECENT_BYTES: usize = 256 << 10;
/// How long the account waits for its clients after a restart, in seconds.
pub const GRACE: u64 = 300;

/// A client is taken for gone when it answered so many stanzas of a room in a row with one of these conditions.
pub(crate) const BROKEN: u32 = 5;
pub(crate) const GONE: &[&str] = &[
    "gone",
    "internal-server-error",
    "item-not-found",
    "jid-malformed",
    "recipient-unavailable",
    "redirect",
    "remote-server-not-found",
    "remote-server-timeout",
    "service-unavailable",
];

/// Status codes that were for the client whose join created the room, or was given another nickname; and those of a room that may be
/// another by now: [`ENTRY`].
pub(crate) const PERSONAL: &[u16] = &[201, 210, 100, 170];
/// How many status codes are remembered.
pub(crate) const MOST_CODES: usize = 32;
/// Status codes of a join that hold for later ones.
pub(crate) const ENTRY: &[u16] = &[100, 170];

pub(crate) const TOO_MANY: Condition = Condition {
    kind: "wait",
    name: "resource-constraint",
    text: "Your account is in as many rooms as it may be; leave one first",
};
pub(crate) const SILENT: Condition =
    Condition { kind: "wait", name: "remote-server-timeout", text: "The room did not answer" };
pub(crate) const NOT_IN: Condition = Condition {
    kind: "cancel",
    name: "item-not-found",
    text: "You are not currently connected to this chat",
};
pub(crate) const CLIENT_GONE: Condition =
    Condition { kind: "wait", name: "recipient-unavailable", text: "The client that was asked is gone" };

pub(crate) fn at(room: &str, nick: &str) -> String {
    format!("{room}/{nick}")
}

pub(crate) fn set_id(id: Option<&str>) -> Id {
    id.map_or(Id::Remove, |id| Id::Set(id.into()))
}

pub(crate) fn host(account: &str) -> &str {
    account.split_once('@').map_or(account, |(_, host)| host)
}

/// The account's affiliation, as its own presence says.
pub(crate) fn affiliation(own: Option<&Arc<[u8]>>) -> Option<&str> {
    let own = std::str::from_utf8(own?).ok()?;
    let (_, after) = own.split_once("muc#user")?;
    let (_, value) = after.split_once(" affiliation='")?;
    value.split('\'').next()
}

impl Account {
    /// Whether there is nothing to know about it.
    pub(crate) fn is_empty(&self) -> bool {
        self.rooms.is_empty()
            && self.bookmarks.is_empty()
            && !self.bookmarks_unknown
            && self.requests.is_empty()
    }
}

impl Config {
    /// Seconds that a ping waits for its answer, and the next one for its turn.
    pub(crate) fn patience(&self) -> u64 {
        self.silence.clamp(5, PING_TIMEOUT)
    }

    /// Seconds after which a room that cannot be reached is given up.
    pub(crate) fn outage(&self) -> u64 {
        self.join_timeout.saturating_mul(OUTAGE)
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
        let bookmarked = bookmarked || ((a.bookmarks_unknown || m.is_some_and(|m| m.pam)) && !left);
        match self.config(account).offline {
            Offline::Leave => bookmarked && a.online,
            Offline::Bookmarked => bookmarked || waits,
            Offline::Stay => bookmarked || !left || waits,
        }
    }
}
