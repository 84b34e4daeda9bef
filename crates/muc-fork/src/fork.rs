//! The accounts of this server, the rooms that they are in, and what follows from whatever comes in.
//!
//! Each input returns `None` if the stanza is none of this engine's business, which then goes its way as if there were
//! no account-level MUC, and otherwise the decisions.

use crate::build;
use crate::decision::{Condition, Decision, Edit, Id, Outcome};
use crate::history::{self, Request, Said};
use crate::input::{FromClient, FromRoom, Iq, Join, Message, Presence, Said as RoomSaid, Talk};
use crate::membership::{Client, Membership, Phase, Rename, Stage};
use crate::view::{View, likeness};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
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
    /// Clients that were in the room and go on: resource, the nickname that each asked for, its presence there.
    pub clients: Vec<(String, String, Vec<u8>)>,
    /// Who was in the room, and the likeness of what was told of each ([`Change::Occupant`]).
    pub occupants: Vec<(String, u64)>,
    /// Keys of the last messages.
    pub said: Vec<u64>,
    /// It was asked for by iq (MUC2-PAM).
    pub pam: bool,
}

/// A room as far as it is the same for all accounts in it.
#[derive(Debug, Default)]
struct Room {
    view: View,
    /// The last messages, so that what came to several accounts is kept once.
    recent: VecDeque<Arc<Said>>,
    accounts: usize,
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
        likeness: u64,
    },
    /// An occupant is gone.
    Gone {
        /// The room's bare JID.
        room: Box<str>,
        /// The occupant's nickname.
        nick: Box<str>,
    },
    /// A message was said.
    Said {
        /// The room's bare JID.
        room: Box<str>,
        /// See [`history::key`].
        key: u64,
    },
    /// No account is in the room any more.
    Forgotten {
        /// The room's bare JID.
        room: Box<str>,
    },
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Bookmark {
    autojoin: bool,
    nick: Option<Box<str>>,
    password: Option<Box<str>>,
}

#[derive(Debug, Default)]
struct Account {
    rooms: HashMap<Box<str>, Membership>,
    bookmarks: HashMap<Box<str>, Bookmark>,
    online: bool,
}

/// A request that went out as the account's.
#[derive(Debug)]
struct Asked {
    account: Box<str>,
    room: Box<str>,
    /// Nobody: it is the account's own ping.
    resource: Option<Box<str>>,
    to: String,
    id: Box<str>,
    ping: bool,
    until: u64,
}

/// A request from a room that a client was given to answer.
#[derive(Debug)]
struct Given {
    account: Box<str>,
    resource: Box<str>,
    from: String,
    id: Box<str>,
    until: u64,
}

/// All accounts.
pub struct Fork {
    accounts: HashMap<Box<str>, Account>,
    rooms: HashMap<Box<str>, Room>,
    asked: HashMap<String, Asked>,
    given: Vec<Given>,
    due: BinaryHeap<Reverse<Due>>,
    configs: HashMap<Box<str>, Config>,
    default_config: Config,
    random: fn() -> u128,
    turn: u64,
    /// When requests without an answer were last forgotten.
    swept: u64,
    changes: Vec<Change>,
}

/// When, which account, which room.
type Due = (u64, Box<str>, Box<str>);

/// Answers to requests are waited for this long, in seconds.
const ANSWER_TIMEOUT: u64 = 1800;
/// A room has this long for confirming that the account left; then its client is told anyway.
const LEAVE_TIMEOUT: u64 = 10;
/// For this long what a room still says to an account that left is kept from its clients.
const LINGER: u64 = 60;
/// A join without subject is taken for complete after this long.
const SETTLE_TIMEOUT: u64 = 5;
/// A ping that is not answered is sent again, this often.
const PING_TRIES: u32 = 3;
const PING_TIMEOUT: u64 = 60;
/// How many messages a client that asks for no number gets at most; both Prosody's and ejabberd's default.
const DEFAULT_HISTORY: usize = 20;
/// How many a room is asked for if a client asks for something in particular.
const WIDE_HISTORY: usize = 100;
/// How many messages are kept, while a client is in and while none is.
const KEPT: usize = 100;
const KEPT_AWAY: usize = 500;
const KEPT_BYTES: usize = 2 << 20;
/// Messages of a room among which the same one is looked for.
const RECENT: usize = 64;
/// How long the account waits for its clients after a restart, in seconds.
pub const GRACE: u64 = 300;

/// Status codes that were for the client whose join created the room, or was given another nickname.
const PERSONAL: &[u16] = &[201, 210];
/// Status codes of a join that hold for later ones.
const ENTRY: &[u16] = &[100, 170];

const TOO_MANY: Condition = Condition {
    kind: "wait",
    name: "resource-constraint",
    text: "Your account is in as many rooms as it may be; leave one first",
};
const SILENT: Condition =
    Condition { kind: "wait", name: "remote-server-timeout", text: "The room did not answer" };
const NOT_IN: Condition = Condition {
    kind: "cancel",
    name: "item-not-found",
    text: "You are not currently connected to this chat",
};
const CLIENT_GONE: Condition =
    Condition { kind: "wait", name: "recipient-unavailable", text: "The client that was asked is gone" };

fn at(room: &str, nick: &str) -> String {
    format!("{room}/{nick}")
}

fn set_id(id: Option<&str>) -> Id {
    id.map_or(Id::Remove, |id| Id::Set(id.into()))
}

fn host(account: &str) -> &str {
    account.split_once('@').map_or(account, |(_, host)| host)
}

/// The account's affiliation, as its own presence says.
fn affiliation(own: Option<&Arc<[u8]>>) -> Option<&str> {
    let own = std::str::from_utf8(own?).ok()?;
    let (_, after) = own.split_once("muc#user")?;
    let (_, value) = after.split_once(" affiliation='")?;
    value.split('\'').next()
}

impl Membership {
    /// The account's own presence for one client.
    fn serve_own(&self, account: &str, client: &Client, id: Id, out: &mut Vec<Decision>) {
        let Some(own) = &self.own else { return };
        let mut with = vec![110];
        with.extend(&self.entry);
        if client.asked != self.nick {
            with.push(210);
        }
        out.push(Decision::Serve {
            account: account.into(),
            resource: client.resource.clone(),
            stanza: own.clone(),
            edit: Edit { id, without: PERSONAL, with, ..Edit::default() },
        });
    }

    fn serve_occupants(&self, account: &str, view: &View, client: &Client, out: &mut Vec<Decision>) {
        for (_, presence) in view.occupants(&self.seen) {
            out.push(Decision::Serve {
                account: account.into(),
                resource: client.resource.clone(),
                stanza: presence.clone(),
                edit: Edit::default(),
            });
        }
    }

    fn serve_history(
        &self,
        account: &str,
        room: &str,
        client: &Client,
        request: &Request,
        out: &mut Vec<Decision>,
    ) {
        let to = account.len() + 1 + client.resource.len();
        let default = if self.asked_default { self.given.max(DEFAULT_HISTORY) } else { DEFAULT_HISTORY };
        let begin = history::begin(&self.history, request, to, default.max(self.missed));
        for said in self.history.range(begin..) {
            self.serve_said(account, room, client, said, out);
        }
    }

    fn serve_said(
        &self,
        account: &str,
        room: &str,
        client: &Client,
        said: &Arc<Said>,
        out: &mut Vec<Decision>,
    ) {
        let delay = (!said.stamped).then(|| (room.to_owned(), said.at));
        out.push(Decision::Serve {
            account: account.into(),
            resource: client.resource.clone(),
            stanza: said.stanza.clone(),
            edit: Edit { delay, ..Edit::default() },
        });
    }

    fn serve_subject(&self, account: &str, room: &str, client: &Client, out: &mut Vec<Decision>) {
        match &self.subject {
            Some(subject) => self.serve_said(account, room, client, subject, out),
            None => out.push(Decision::Serve {
                account: account.into(),
                resource: client.resource.clone(),
                stanza: build::no_subject(room).into(),
                edit: Edit::default(),
            }),
        }
    }

    /// The client is told that it is out.
    fn serve_left(
        &self,
        account: &str,
        room: &str,
        client: &Client,
        id: Id,
        codes: &[u16],
        out: &mut Vec<Decision>,
    ) {
        out.push(Decision::Serve {
            account: account.into(),
            resource: client.resource.clone(),
            stanza: build::unavailable(&at(room, &self.nick), affiliation(self.own.as_ref()), codes).into(),
            edit: Edit { id, ..Edit::default() },
        });
    }

    /// The history and subject of the account's join are complete: clients that asked for something in particular get it.
    fn settle(&mut self, account: &str, room: &str, subject: bool, out: &mut Vec<Decision>) {
        if self.settled {
            return;
        }
        self.settled = true;
        for i in 0..self.clients.len() {
            let Stage::In { held } = &mut self.clients[i].stage else { continue };
            let held = held.take();
            let client = &self.clients[i];
            if let Some(request) = held {
                self.serve_history(account, room, client, &request, out);
            }
            if subject {
                self.serve_subject(account, room, client, out);
            }
        }
        if self.clients.iter().any(Client::is_in) {
            self.missed = 0;
        }
    }
}

impl Fork {
    /// Without accounts. `random` gives 128 bits that nobody can guess, for ids.
    pub fn new(random: fn() -> u128) -> Fork {
        Fork {
            accounts: HashMap::new(),
            rooms: HashMap::new(),
            asked: HashMap::new(),
            given: Vec::new(),
            due: BinaryHeap::new(),
            configs: HashMap::new(),
            default_config: Config::default(),
            random,
            turn: 0,
            swept: 0,
            changes: Vec::new(),
        }
    }

    /// Sets what holds for the accounts of a host.
    pub fn configure(&mut self, host: &str, config: Config) {
        self.configs.insert(host.into(), config);
    }

    fn config(&self, account: &str) -> &Config {
        self.configs.get(host(account)).unwrap_or(&self.default_config)
    }

    fn new_id(&self) -> String {
        format!("{:032x}", (self.random)())
    }

    fn membership(&self, account: &str, room: &str) -> Option<&Membership> {
        self.accounts.get(account)?.rooms.get(room)
    }

    fn membership_mut(&mut self, account: &str, room: &str) -> Option<&mut Membership> {
        self.accounts.get_mut(account)?.rooms.get_mut(room)
    }

    fn wake(&mut self, account: &str, room: &str, at: u64) {
        if let Some(m) = self.membership_mut(account, room) {
            m.due = at;
            self.due.push(Reverse((at, account.into(), room.into())));
        }
    }

    /// Whether an account would stay in a room without any client in it.
    fn stays(&self, account: &str, room: &str, left: bool, now: u64) -> bool {
        let Some(a) = self.accounts.get(account) else { return false };
        let bookmarked = a.bookmarks.get(room).is_some_and(|b| b.autojoin);
        let m = a.rooms.get(room);
        let waits = m.is_some_and(|m| m.grace > now) && !left;
        let bookmarked = bookmarked || (m.is_some_and(|m| m.pam) && !left);
        match self.config(account).offline {
            Offline::Leave => bookmarked && a.online,
            Offline::Bookmarked => bookmarked || waits,
            Offline::Stay => bookmarked || !left || waits,
        }
    }

    // Joining -------------------------------------------------------------------------------------------------------

    /// A client's presence to a room, or to a nickname in it. `join` is there if it carries a MUC `<x/>`; `payload` is
    /// the presence without that, and without address, `id` and `type`.
    pub fn presence_from_client(
        &mut self,
        from: FromClient,
        kind: Presence,
        join: Option<Join>,
        payload: &[u8],
        now: u64,
    ) -> Option<Vec<Decision>> {
        let mut out = Vec::new();
        let phase = self.membership(from.account, from.room).map(|m| m.phase);
        let known =
            self.membership(from.account, from.room).is_some_and(|m| m.client(from.resource).is_some());
        match kind {
            Presence::Error => phase.map(|_| out),
            Presence::Unavailable => {
                phase?;
                if known {
                    self.leave(from, payload, now, &mut out);
                }
                Some(out)
            }
            Presence::Available => {
                let Some(nick) = from.nick else {
                    // Some clients send updates to the room itself.
                    let own = self.membership(from.account, from.room).filter(|_| known)?.nick.clone();
                    let from = FromClient { nick: Some(&own), ..from };
                    self.update(from, &own, payload, &mut out);
                    return Some(out);
                };
                match (phase, join) {
                    (None, None) => None,
                    (None | Some(Phase::Leaving | Phase::Away), Some(join)) => {
                        self.join(from, nick, join, payload, now, &mut out);
                        Some(out)
                    }
                    (Some(Phase::Leaving | Phase::Away), None) => {
                        out.push(Decision::Refuse { condition: NOT_IN });
                        Some(out)
                    }
                    (Some(_), join) => {
                        let m = self.membership(from.account, from.room)?;
                        let same =
                            m.client(from.resource).is_some_and(|c| *c.asked == *nick) || *m.nick == *nick;
                        let inside = m.is_in(from.resource);
                        match join {
                            None if !known => out.push(Decision::Refuse { condition: NOT_IN }),
                            None if !inside => self.update(from, nick, payload, &mut out),
                            Some(join) if !inside || same => self.enter(from, nick, join, payload, &mut out),
                            _ if same => self.update(from, nick, payload, &mut out),
                            _ => self.rename(from, nick, payload, &mut out),
                        }
                        Some(out)
                    }
                }
            }
        }
    }

    /// The account's first client.
    fn join(
        &mut self,
        from: FromClient,
        nick: &str,
        join: Join,
        payload: &[u8],
        now: u64,
        out: &mut Vec<Decision>,
    ) {
        let max = self.config(from.account).max_rooms;
        let account = self.accounts.entry(from.account.into()).or_default();
        account.online = true;
        let in_rooms = account.rooms.values().filter(|m| m.phase != Phase::Leaving).count();
        let before = account.rooms.get(from.room).map(|m| m.phase);
        if in_rooms >= max && before != Some(Phase::Away) {
            out.push(Decision::Refuse { condition: TOO_MANY });
            return;
        }
        self.turn += 1;
        let shown: Arc<[u8]> = payload.into();
        let mut m = Membership::new(nick, join.password, shown.clone(), now);
        if let Some(mut old) = account.rooms.remove(from.room) {
            if let Some(room) = self.rooms.get_mut(from.room) {
                room.view.forget(&mut old.seen);
                room.accounts -= 1;
            }
            if old.phase == Phase::Leaving {
                m.unconfirmed = old.unconfirmed + 1;
                if let Some(client) = old.client(from.resource)
                    && let Stage::Leaving { id } = &client.stage
                {
                    old.serve_left(from.account, from.room, client, set_id(id.as_deref()), &[110], out);
                }
                m.clients = std::mem::take(&mut old.clients);
                m.clients.retain(|c| &*c.resource != from.resource);
            }
        }
        m.clients.push(Client {
            resource: from.resource.into(),
            asked: nick.into(),
            presence: shown,
            turn: self.turn,
            stage: Stage::Waiting { id: from.id.map(Into::into), request: join.history, was_in: false },
        });
        self.begin(from.account, from.room, m, &join.history, now, out);
    }

    /// Puts a membership where it belongs and asks the room to let the account in.
    fn begin(
        &mut self,
        account: &str,
        room: &str,
        mut m: Membership,
        request: &Request,
        now: u64,
        out: &mut Vec<Decision>,
    ) {
        // A narrow request is answered from a wide answer, so that there is something for those who come later.
        m.asked_default = request.is_default() || request.wants_none();
        let max =
            if m.asked_default { None } else { Some(WIDE_HISTORY.max(request.maxstanzas.unwrap_or(0))) };
        m.phase = Phase::Joining;
        m.settled = false;
        m.heard = now;
        m.ping = None;
        let id = self.new_id();
        m.join_id = id.clone();
        let x = build::join_x(m.password.as_deref(), max);
        let to = at(room, &m.nick);
        let stanza = build::addressed(&m.shown, &[("from", account), ("to", &to), ("id", &id)], &x);
        self.rooms.entry(room.into()).or_default().accounts += 1;
        self.accounts.entry(account.into()).or_default().rooms.insert(room.into(), m);
        let timeout = self.config(account).join_timeout;
        self.wake(account, room, now + timeout);
        out.push(Decision::Persist { account: account.into() });
        out.push(Decision::Send { stanza });
    }

    /// The account joins again without its clients' knowing: it was forgotten, or the server started anew.
    fn rejoin(&mut self, account: &str, room: &str, now: u64, out: &mut Vec<Decision>) {
        let Some(a) = self.accounts.get_mut(account) else { return };
        let Some(mut m) = a.rooms.remove(room) else { return };
        if let Some(r) = self.rooms.get_mut(room) {
            if m.known.is_none() {
                m.known = Some(r.view.occupants(&m.seen).map(|(n, p)| (n.into(), likeness(p))).collect());
            }
            r.view.forget(&mut m.seen);
            r.accounts -= 1;
        }
        m.rejoined = true;
        m.renames.clear();
        m.changed_by = None;
        let wide = Request { maxstanzas: Some(WIDE_HISTORY), ..Request::default() };
        self.begin(account, room, m, &wide, now, out);
    }

    /// Another client of an account that is in, or about to be; or the same one, which lost track.
    fn enter(&mut self, from: FromClient, nick: &str, join: Join, payload: &[u8], out: &mut Vec<Decision>) {
        self.turn += 1;
        let turn = self.turn;
        let Some(a) = self.accounts.get_mut(from.account) else { return };
        a.online = true;
        let (Some(m), Some(room)) = (a.rooms.get_mut(from.room), self.rooms.get(from.room)) else { return };
        let was_in = m.client(from.resource).is_some_and(Client::was_told);
        if let Some(client) = m.client(from.resource)
            && let Stage::Leaving { id } = &client.stage
        {
            m.serve_left(from.account, from.room, client, set_id(id.as_deref()), &[110], out);
        }
        m.clients.retain(|c| &*c.resource != from.resource);
        let presence: Arc<[u8]> = payload.into();
        let waits = m.phase == Phase::Joining;
        let id = from.id.map(Into::into);
        let stage = if waits {
            Stage::Waiting { id, request: join.history, was_in }
        } else {
            Stage::In { held: (!m.settled).then_some(join.history) }
        };
        let client = Client { resource: from.resource.into(), asked: nick.into(), presence, turn, stage };
        if waits {
            if !m.is_quiet() {
                m.serve_occupants(from.account, &room.view, &client, out);
            }
            m.clients.push(client);
            return;
        }
        m.serve_occupants(from.account, &room.view, &client, out);
        m.serve_own(from.account, &client, set_id(from.id), out);
        if m.settled {
            m.serve_history(from.account, from.room, &client, &join.history, out);
            m.serve_subject(from.account, from.room, &client, out);
            m.missed = 0;
        }
        m.clients.push(client);
        out.push(Decision::Persist { account: from.account.into() });
        self.show_latest(from.account, from.room, out);
    }

    /// Tells the room what the account shows now, if that changed.
    fn show_latest(&mut self, account: &str, room: &str, out: &mut Vec<Decision>) {
        let Some(a) = self.accounts.get_mut(account) else { return };
        let Some(m) = a.rooms.get_mut(room) else { return };
        if m.phase != Phase::Joined {
            return;
        }
        let latest = match m.latest() {
            Some(client) => client.presence.clone(),
            None => build::unattended(a.online).into(),
        };
        if latest != m.shown {
            m.shown = latest.clone();
            m.changed_by = None;
            let to = at(room, &m.nick);
            let id = self.new_id();
            let address = [("from", account), ("to", to.as_str()), ("id", id.as_str())];
            out.push(Decision::Send { stanza: build::addressed(&latest, &address, b"") });
        }
    }

    // In the room, from the client's side -----------------------------------------------------------------------------

    fn update(&mut self, from: FromClient, nick: &str, payload: &[u8], out: &mut Vec<Decision>) {
        self.turn += 1;
        let turn = self.turn;
        let Some(m) = self.membership_mut(from.account, from.room) else { return };
        let presence: Arc<[u8]> = payload.into();
        let phase = m.phase;
        let Some(client) = m.client_mut(from.resource) else { return };
        client.presence = presence.clone();
        client.turn = turn;
        if client.is_in() {
            client.asked = nick.into();
        }
        m.shown = presence;
        m.changed_by = from.id.map(|id| (id.into(), from.resource.into()));
        if phase == Phase::Joined {
            out.push(Decision::ToRoom { to: at(from.room, &m.nick), id: Id::Keep });
        }
    }

    fn rename(&mut self, from: FromClient, nick: &str, payload: &[u8], out: &mut Vec<Decision>) {
        self.turn += 1;
        let turn = self.turn;
        let Some(m) = self.membership_mut(from.account, from.room) else { return };
        let presence: Arc<[u8]> = payload.into();
        let Some(client) = m.client_mut(from.resource) else { return };
        client.presence = presence.clone();
        client.turn = turn;
        m.shown = presence;
        m.changed_by = from.id.map(|id| (id.into(), from.resource.into()));
        m.renames.retain(|r| &*r.resource != from.resource);
        m.renames.push(Rename {
            resource: from.resource.into(),
            id: from.id.map(Into::into),
            nick: nick.into(),
        });
        out.push(Decision::ToRoom { to: at(from.room, nick), id: Id::Keep });
    }

    fn leave(&mut self, from: FromClient, payload: &[u8], now: u64, out: &mut Vec<Decision>) {
        let stays = self.stays(from.account, from.room, true, now);
        let Some(m) = self.membership_mut(from.account, from.room) else { return };
        let Some(i) = m.clients.iter().position(|c| &*c.resource == from.resource && c.stays()) else {
            return;
        };
        let others = m.clients.iter().enumerate().any(|(j, c)| j != i && c.stays());
        if others || (stays && m.phase == Phase::Joined) {
            let client = m.clients.remove(i);
            m.serve_left(from.account, from.room, &client, set_id(from.id), &[110], out);
            out.push(Decision::Persist { account: from.account.into() });
            self.show_latest(from.account, from.room, out);
        } else {
            m.clients[i].stage = Stage::Leaving { id: from.id.map(Into::into) };
            self.depart(from.account, from.room, Some(payload), now, out);
        }
    }

    /// The account leaves. Clients that are still there wait for the room to confirm it.
    fn depart(
        &mut self,
        account: &str,
        room: &str,
        payload: Option<&[u8]>,
        now: u64,
        out: &mut Vec<Decision>,
    ) {
        let id = self.new_id();
        let Some(m) = self.membership_mut(account, room) else { return };
        let reached = m.phase != Phase::Away;
        m.phase = Phase::Leaving;
        let stanza = build::leave(account, &at(room, &m.nick), &id, payload);
        m.join_id = id;
        for client in &mut m.clients {
            if client.stays() {
                client.stage = Stage::Leaving { id: None };
            }
        }
        self.wake(account, room, now + LEAVE_TIMEOUT);
        out.push(Decision::Persist { account: account.into() });
        if reached {
            out.push(Decision::Send { stanza });
        }
    }

    /// A client's session ended, or it sent unavailable presence to everybody and wants to be told (`told`). `online`
    /// says whether the account has another session.
    pub fn client_gone(
        &mut self,
        account: &str,
        resource: &str,
        online: bool,
        told: bool,
        payload: Option<&[u8]>,
        now: u64,
    ) -> Vec<Decision> {
        let mut out = Vec::new();
        let Some(a) = self.accounts.get_mut(account) else { return out };
        a.online = online;
        let mut rooms: Vec<Box<str>> = a
            .rooms
            .iter()
            .filter(|(_, m)| m.client(resource).is_some() || (!online && !m.is_used()))
            .map(|(room, _)| room.clone())
            .collect();
        rooms.sort();
        for room in rooms {
            let stays = self.stays(account, &room, false, now);
            let Some(m) = self.membership_mut(account, &room) else { continue };
            let gone = m.clients.iter().position(|c| &*c.resource == resource).map(|i| m.clients.remove(i));
            m.renames.retain(|r| &*r.resource != resource);
            if let Some(client) = &gone
                && told
            {
                m.serve_left(account, &room, client, Id::Remove, &[110], &mut out);
            }
            if m.phase == Phase::Leaving {
                continue;
            }
            if m.is_used() || stays {
                if gone.is_some() {
                    out.push(Decision::Persist { account: account.into() });
                }
                self.show_latest(account, &room, &mut out);
            } else {
                self.depart(account, &room, payload, now, &mut out);
            }
        }
        self.asked.retain(|_, a| !(&*a.account == account && a.resource.as_deref() == Some(resource)));
        let mut i = 0;
        while i < self.given.len() {
            if &*self.given[i].account == account && &*self.given[i].resource == resource {
                let given = self.given.swap_remove(i);
                let error = build::iq_error(account, CLIENT_GONE);
                let stanza = build::addressed(&error, &[("to", &given.from), ("id", &given.id)], b"");
                out.push(Decision::Send { stanza });
            } else {
                i += 1;
            }
        }
        out
    }

    /// A client's message to a room, or to an occupant. Errors never leave as the account's: rooms would throw it out.
    pub fn message_from_client(&mut self, from: FromClient, kind: Message) -> Option<Vec<Decision>> {
        let m = self.membership_mut(from.account, from.room)?;
        if kind == Message::Error {
            return Some(Vec::new());
        }
        if !m.is_in(from.resource) {
            return None;
        }
        if let Some(id) = from.id {
            m.note_sent(id, from.resource);
        }
        let to = m.address(from);
        Some(vec![Decision::ToRoom { to, id: Id::Keep }])
    }

    /// A client's iq to a room, or to an occupant. `ping` says whether it asks for a ping (XEP-0199).
    pub fn iq_from_client(
        &mut self,
        from: FromClient,
        kind: Iq,
        ping: bool,
        now: u64,
    ) -> Option<Vec<Decision>> {
        let m = self.membership(from.account, from.room)?;
        let id = from.id?;
        let to = m.address(from);
        match kind {
            Iq::Request => {
                if !m.is_in(from.resource) {
                    return None;
                }
                let ping = ping && from.nick.is_some() && to == at(from.room, &m.nick);
                let new = self.new_id();
                self.asked.insert(
                    new.clone(),
                    Asked {
                        account: from.account.into(),
                        room: from.room.into(),
                        resource: Some(from.resource.into()),
                        to: from.nick.map_or_else(|| from.room.to_owned(), |nick| at(from.room, nick)),
                        id: id.into(),
                        ping,
                        until: now + ANSWER_TIMEOUT,
                    },
                );
                Some(vec![Decision::ToRoom { to, id: Id::Set(new) }])
            }
            Iq::Result | Iq::Error => {
                let given = self.given.iter().position(|g| {
                    &*g.account == from.account
                        && &*g.resource == from.resource
                        && g.from == to
                        && &*g.id == id
                });
                match given {
                    Some(i) => {
                        self.given.swap_remove(i);
                        Some(vec![Decision::ToRoom { to, id: Id::Keep }])
                    }
                    None => m.is_in(from.resource).then(Vec::new),
                }
            }
        }
    }

    // In the room, from the room's side -------------------------------------------------------------------------------

    /// A room's presence. `presence` are its bytes without `to`, and without `id` if it is the account's own.
    pub fn presence_from_room(
        &mut self,
        from: FromRoom,
        kind: Presence,
        said: RoomSaid,
        presence: &[u8],
        now: u64,
    ) -> Option<Vec<Decision>> {
        let mut out = Vec::new();
        let m = self.membership_mut(from.account, from.room)?;
        m.heard = now;
        match kind {
            Presence::Error => self.refused(from, said, now, &mut out),
            Presence::Available => {
                let nick = from.nick?;
                let own = said.codes.contains(&110) || (m.phase == Phase::Joined && *m.nick == *nick);
                if own && m.phase == Phase::Joining && m.unconfirmed > 0 && from.id != Some(&m.join_id) {
                    return Some(out); // of the stay that is ending
                }
                match (m.phase, own) {
                    (Phase::Joining, true) => {
                        self.let_in(from, nick, said, presence, now + SETTLE_TIMEOUT, &mut out)
                    }
                    (Phase::Joining | Phase::Joined | Phase::Leaving, false) => {
                        self.occupant(from, nick, presence, &mut out);
                    }
                    (Phase::Joined, true) => {
                        if *m.nick != *nick {
                            m.nick = nick.into();
                            out.push(Decision::Persist { account: from.account.into() });
                        }
                        m.own = Some(presence.into());
                        for client in m.clients.iter().filter(|c| c.stays()) {
                            let id = match (&m.changed_by, from.id) {
                                (Some((id, by)), Some(this)) if **id == *this && *by == client.resource => {
                                    Id::Keep
                                }
                                _ => Id::Remove,
                            };
                            let edit = Edit { id, ..Edit::default() };
                            out.push(Decision::Forward { resource: client.resource.clone(), edit });
                        }
                    }
                    _ => {}
                }
            }
            Presence::Unavailable => {
                let own = said.codes.contains(&110) || from.nick == Some(&m.nick) || from.nick.is_none();
                if !own {
                    self.occupant_gone(from, from.nick?, &mut out);
                } else if said.codes.contains(&303) {
                    let old = m.nick.clone();
                    if let Some(new) = said.new_nick {
                        m.nick = new.into();
                        m.own = None; // the new one's presence follows
                        for client in &mut m.clients {
                            let asked =
                                m.renames.iter().any(|r| r.resource == client.resource && *r.nick == *new);
                            if client.asked == old || asked {
                                client.asked = new.into();
                            }
                        }
                        m.renames.retain(|r| *r.nick != *new);
                    }
                    for client in m.clients.iter().filter(|c| c.was_told() || !c.stays()) {
                        out.push(Decision::Forward {
                            resource: client.resource.clone(),
                            edit: Edit::default(),
                        });
                    }
                } else {
                    self.out_of_room(from, said, now, &mut out);
                }
            }
        }
        Some(out)
    }

    /// An occupant is there, or changed.
    fn occupant(&mut self, from: FromRoom, nick: &str, presence: &[u8], out: &mut Vec<Decision>) {
        let Some(a) = self.accounts.get_mut(from.account) else { return };
        let (Some(m), Some(room)) = (a.rooms.get_mut(from.room), self.rooms.get_mut(from.room)) else {
            return;
        };
        if let Some(likeness) = room.view.tell(&mut m.seen, nick, presence) {
            self.changes.push(Change::Occupant { room: from.room.into(), nick: nick.into(), likeness });
        }
        let known = m.known.as_ref().and_then(|known| known.get(nick));
        let news = known != Some(&likeness(presence));
        let silent = m.is_quiet();
        for client in &m.clients {
            let gets = match client.stage {
                Stage::In { .. } => news,
                // While the account joins again they wait for all of it.
                Stage::Waiting { .. } => !silent,
                Stage::Leaving { .. } => true,
            };
            if gets {
                out.push(Decision::Forward { resource: client.resource.clone(), edit: Edit::default() });
            }
        }
    }

    fn occupant_gone(&mut self, from: FromRoom, nick: &str, out: &mut Vec<Decision>) {
        let Some(a) = self.accounts.get_mut(from.account) else { return };
        let (Some(m), Some(room)) = (a.rooms.get_mut(from.room), self.rooms.get_mut(from.room)) else {
            return;
        };
        if room.view.remove(&mut m.seen, nick) {
            self.changes.push(Change::Gone { room: from.room.into(), nick: nick.into() });
        }
        if let Some(known) = &mut m.known {
            known.remove(nick);
        }
        let silent = m.is_quiet();
        for client in m.clients.iter().filter(|c| !(silent && matches!(c.stage, Stage::Waiting { .. }))) {
            out.push(Decision::Forward { resource: client.resource.clone(), edit: Edit::default() });
        }
    }

    /// The account is in: its own presence came (XEP-0045 §7.2.3, the last of all).
    fn let_in(
        &mut self,
        from: FromRoom,
        nick: &str,
        said: RoomSaid,
        presence: &[u8],
        due: u64,
        out: &mut Vec<Decision>,
    ) {
        let Some(a) = self.accounts.get_mut(from.account) else { return };
        let (Some(m), Some(room)) = (a.rooms.get_mut(from.room), self.rooms.get_mut(from.room)) else {
            return;
        };
        m.phase = Phase::Joined;
        m.failures = 0;
        // Clients are told of a leave that the room never confirmed before they are told that they are in.
        let old_nick = std::mem::replace(&mut m.nick, nick.into());
        let before = m.own.replace(presence.into());
        m.entry = said.codes.iter().copied().filter(|c| ENTRY.contains(c)).collect();
        let known = m.known.take();
        // Whoever waits has not been told of the others yet.
        let silent = known.is_some() || std::mem::take(&mut m.unconfirmed) > 0 || m.started_over;
        m.started_over = false;
        m.clients.retain(|client| match &client.stage {
            Stage::Leaving { id } => {
                let stanza = build::unavailable(&at(from.room, &old_nick), None, &[110]).into();
                let edit = Edit { id: set_id(id.as_deref()), ..Edit::default() };
                let (account, resource) = (from.account.into(), client.resource.clone());
                out.push(Decision::Serve { account, resource, stanza, edit });
                false
            }
            _ => true,
        });
        if let Some(known) = known {
            let mut gone: Vec<_> = known
                .keys()
                .filter(|nick| {
                    room.view.get(&m.seen, nick).is_none() && ***nick != *old_nick && ***nick != *m.nick
                })
                .collect();
            gone.sort();
            for nick in gone {
                let stanza: Arc<[u8]> = build::unavailable(&at(from.room, nick), None, &[]).into();
                for client in m.clients.iter().filter(|c| c.was_told()) {
                    out.push(Decision::Serve {
                        account: from.account.into(),
                        resource: client.resource.clone(),
                        stanza: stanza.clone(),
                        edit: Edit::default(),
                    });
                }
            }
            if old_nick != m.nick {
                let stanza: Arc<[u8]> = build::renamed(&at(from.room, &old_nick), &m.nick).into();
                for client in m.clients.iter_mut().filter(|c| c.was_told()) {
                    client.asked = m.nick.clone();
                    out.push(Decision::Serve {
                        account: from.account.into(),
                        resource: client.resource.clone(),
                        stanza: stanza.clone(),
                        edit: Edit::default(),
                    });
                }
            }
            if before.as_deref() != Some(presence) {
                for client in m.clients.iter().filter(|c| c.was_told()) {
                    m.serve_own(from.account, client, Id::Remove, out);
                }
            }
        }
        let mut created = said.codes.contains(&201);
        for i in 0..m.clients.len() {
            let Stage::Waiting { id, request, .. } = &mut m.clients[i].stage else { continue };
            let id = id.take();
            // What the room sends now is what was asked for, if nobody asked for anything in particular.
            let held = (silent || !m.asked_default || !request.is_default()).then_some(*request);
            if silent {
                m.serve_occupants(from.account, &room.view, &m.clients[i], out);
            }
            let client = &m.clients[i];
            let mut with = vec![110];
            with.extend(&m.entry);
            if client.asked != m.nick {
                with.push(210);
            }
            // The first one's join created it.
            let without: &'static [u16] = if std::mem::take(&mut created) { &[210] } else { PERSONAL };
            let edit = Edit { id: set_id(id.as_deref()), without, with, ..Edit::default() };
            out.push(Decision::Forward { resource: client.resource.clone(), edit });
            m.clients[i].stage = Stage::In { held };
        }
        m.answer_pam(from.account, from.room, Outcome::In(nick.into()), out);
        out.push(Decision::Persist { account: from.account.into() });
        self.wake(from.account, from.room, due);
        self.show_latest(from.account, from.room, out);
    }

    /// The room says no, to a join, a nickname, or a presence of somebody whom it forgot.
    fn refused(&mut self, from: FromRoom, said: RoomSaid, now: u64, out: &mut Vec<Decision>) {
        let Some(m) = self.membership_mut(from.account, from.room) else { return };
        match m.phase {
            // An answer to something from before.
            Phase::Joining | Phase::Leaving if from.id.is_some_and(|id| id != m.join_id) => {
                if let Some(i) = m.renames.iter().position(|r| r.id.as_deref() == from.id) {
                    let rename = m.renames.remove(i);
                    out.push(Decision::Forward { resource: rename.resource, edit: Edit::default() });
                }
            }
            Phase::Joining => {
                let unreachable = said.condition.is_some_and(|c| c.starts_with("remote-server"));
                for client in &m.clients {
                    match &client.stage {
                        Stage::Leaving { id } => {
                            m.serve_left(from.account, from.room, client, set_id(id.as_deref()), &[110], out);
                        }
                        Stage::Waiting { id, .. } => {
                            let edit = Edit {
                                from: Some(at(from.room, &client.asked)),
                                id: set_id(id.as_deref()),
                                ..Edit::default()
                            };
                            out.push(Decision::Forward { resource: client.resource.clone(), edit });
                        }
                        Stage::In { .. } => {}
                    }
                    if client.was_told() {
                        m.serve_left(from.account, from.room, client, Id::Remove, &[110, 333], out);
                    }
                }
                m.answer_pam(from.account, from.room, Outcome::Refused, out);
                self.give_up(from.account, from.room, unreachable, now, out);
            }
            Phase::Joined => {
                let rename = m.renames.iter().position(|r| match (&r.id, from.id) {
                    (Some(id), Some(this)) => **id == *this,
                    _ => from.nick == Some(&r.nick),
                });
                if let Some(i) = rename {
                    let rename = m.renames.remove(i);
                    out.push(Decision::Forward { resource: rename.resource, edit: Edit::default() });
                } else if matches!(said.condition, Some("item-not-found" | "not-acceptable")) {
                    self.rejoin(from.account, from.room, now, out);
                } else if said.condition.is_some_and(|c| c.starts_with("remote-server")) {
                    self.wake(from.account, from.room, now + SETTLE_TIMEOUT);
                } else if let Some((id, by)) = &m.changed_by
                    && from.id == Some(id)
                {
                    out.push(Decision::Forward { resource: by.clone(), edit: Edit::default() });
                }
            }
            Phase::Leaving => {
                // There is nobody to leave any more.
                for client in &m.clients {
                    if let Stage::Leaving { id } = &client.stage {
                        m.serve_left(from.account, from.room, client, set_id(id.as_deref()), &[110], out);
                    }
                }
                self.remove(from.account, from.room, out);
            }
            Phase::Away => {}
        }
    }

    /// The account is out: kicked, banned, the room is gone, or it left.
    fn out_of_room(&mut self, from: FromRoom, said: RoomSaid, now: u64, out: &mut Vec<Decision>) {
        let Some(a) = self.accounts.get_mut(from.account) else { return };
        let (Some(m), Some(room)) = (a.rooms.get_mut(from.room), self.rooms.get_mut(from.room)) else {
            return;
        };
        if m.unconfirmed > 0 && matches!(m.phase, Phase::Joining | Phase::Leaving) {
            // That was a leave before; what the room told until then holds no more.
            m.unconfirmed -= 1;
            room.view.forget(&mut m.seen);
            if m.phase == Phase::Leaving {
                return;
            }
            m.started_over = true;
            m.clients.retain(|client| match &client.stage {
                Stage::Leaving { id } => {
                    let edit = Edit { id: set_id(id.as_deref()), ..Edit::default() };
                    out.push(Decision::Forward { resource: client.resource.clone(), edit });
                    false
                }
                _ => true,
            });
            return;
        }
        let left = m.phase == Phase::Leaving;
        for client in &m.clients {
            let id = match &client.stage {
                Stage::Leaving { id } | Stage::Waiting { id, .. } => set_id(id.as_deref()),
                Stage::In { .. } => Id::Remove,
            };
            out.push(Decision::Forward {
                resource: client.resource.clone(),
                edit: Edit { id, ..Edit::default() },
            });
        }
        let technical = !left && !said.destroyed && said.codes.iter().any(|c| matches!(c, 332 | 333));
        self.give_up(from.account, from.room, technical, now, out);
    }

    /// The account is not in the room and its clients know. If it should be there and the room may come back, it will
    /// try again.
    fn give_up(&mut self, account: &str, room: &str, technical: bool, now: u64, out: &mut Vec<Decision>) {
        if !technical || !self.stays(account, room, false, now) {
            self.remove(account, room, out);
            return;
        }
        let Some(a) = self.accounts.get_mut(account) else { return };
        let Some(m) = a.rooms.get_mut(room) else { return };
        if let Some(r) = self.rooms.get_mut(room) {
            r.view.forget(&mut m.seen);
        }
        m.clients.clear();
        m.known = None;
        m.own = None;
        m.phase = Phase::Away;
        m.shown = build::unattended(a.online).into();
        m.failures += 1;
        let pause = 30u64 << m.failures.min(7);
        out.push(Decision::Persist { account: account.into() });
        self.wake(account, room, now + pause);
    }

    fn remove(&mut self, account: &str, room: &str, out: &mut Vec<Decision>) {
        let Some(a) = self.accounts.get_mut(account) else { return };
        let Some(mut m) = a.rooms.remove(room) else { return };
        if a.rooms.is_empty() && a.bookmarks.is_empty() {
            self.accounts.remove(account);
        }
        if let Some(r) = self.rooms.get_mut(room) {
            r.view.forget(&mut m.seen);
            r.accounts -= 1;
            if r.accounts == 0 {
                self.changes.push(Change::Forgotten { room: room.into() });
                self.rooms.remove(room);
            }
        }
        self.asked.retain(|_, a| !(&*a.account == account && &*a.room == room && a.resource.is_none()));
        out.push(Decision::Persist { account: account.into() });
    }

    /// A groupchat message. `stanza` are its bytes without `to`, `body` its text, `stamp` the time in the room's own
    /// `<delay/>`. Calls `to` for each client that gets a copy of the stanza in hand, after the decisions that are
    /// returned.
    #[allow(clippy::too_many_arguments)]
    pub fn groupchat(
        &mut self,
        from: FromRoom,
        talk: Talk,
        stanza: &[u8],
        body: &[u8],
        stamp: Option<u64>,
        now: u64,
        mut to: impl FnMut(&str),
    ) -> Option<Vec<Decision>> {
        let mut out = Vec::new();
        let m = self.accounts.get_mut(from.account)?.rooms.get_mut(from.room)?;
        let room = self.rooms.get_mut(from.room)?;
        m.heard = now;
        if m.phase == Phase::Away {
            return Some(out);
        }
        if m.phase == Phase::Joining && m.known.is_none() {
            // Of the stay that is ending; the join will bring it again.
            for client in m.clients.iter().filter(|c| !c.stays()) {
                to(&client.resource);
            }
            return Some(out);
        }
        let before = stamp.is_some() && talk != Talk::Subject;
        let joining = !m.settled && m.phase == Phase::Joined;
        let repeated = joining && before;
        let who = from.nick.unwrap_or("");
        if talk == Talk::Passing {
            for client in m.clients.iter().filter(|c| c.is_in()) {
                to(&client.resource);
            }
            return Some(out);
        }
        let key = history::key(who, from.id, body);
        if before && (m.settled || m.rejoined) && m.has_said(key) {
            return Some(out);
        }
        let same = room.recent.iter().rev().find(|s| *s.stanza == *stanza);
        let said = match same {
            Some(said) => said.clone(),
            None => {
                let said = Arc::new(Said {
                    stanza: stanza.into(),
                    at: stamp.unwrap_or(now),
                    stamped: stamp.is_some(),
                    key,
                });
                if room.recent.len() == RECENT {
                    room.recent.pop_front();
                }
                room.recent.push_back(said.clone());
                self.changes.push(Change::Said { room: from.room.into(), key });
                said
            }
        };
        if talk == Talk::Subject {
            m.subject = Some(said);
            if m.phase == Phase::Joined {
                m.settle(from.account, from.room, false, &mut out);
            }
        } else if repeated {
            m.given += 1;
            let used = m.clients.iter().any(Client::is_in);
            m.keep(said, if used { KEPT } else { KEPT_AWAY }, KEPT_BYTES);
            for client in &m.clients {
                if client.stage == (Stage::In { held: None }) {
                    to(&client.resource);
                }
            }
            return Some(out);
        } else {
            // Something that was said just now: what was said before is complete.
            if m.phase == Phase::Joined {
                m.settle(from.account, from.room, true, &mut out);
            }
            let used = m.clients.iter().any(Client::is_in);
            m.keep(said, if used { KEPT } else { KEPT_AWAY }, KEPT_BYTES);
            m.missed = if used { 0 } else { m.missed + 1 };
        }
        for client in m.clients.iter().filter(|c| c.is_in() || !c.stays()) {
            to(&client.resource);
        }
        Some(out)
    }

    /// Whether a groupchat message from a room is for this account, and was not there before: `key` as
    /// [`history::key`], `stamp` as in [`Fork::groupchat`].
    pub fn is_new(&self, account: &str, room: &str, key: u64, stamped: bool) -> bool {
        self.membership(account, room)
            .is_some_and(|m| m.phase != Phase::Away && !(stamped && (!m.rejoined || m.has_said(key))))
    }

    /// A message that is no groupchat: a private one, a voice request, or an error. Nobody gets it if no client is in
    /// the room; [`Fork::is_attended`] says so before.
    pub fn message_from_room(
        &mut self,
        from: FromRoom,
        kind: Message,
        condition: Option<&str>,
        now: u64,
    ) -> Option<Vec<Decision>> {
        let mut out = Vec::new();
        let m = self.membership_mut(from.account, from.room)?;
        m.heard = now;
        let everybody = m.clients.iter().filter(|c| c.is_in());
        if kind != Message::Error {
            for client in everybody {
                out.push(Decision::Forward { resource: client.resource.clone(), edit: Edit::default() });
            }
            return Some(out);
        }
        let sender = m.sent.iter().rev().find(|(id, _)| from.id == Some(id)).map(|(_, by)| by.clone());
        let sender = sender.filter(|by| m.is_in(by)).or_else(|| {
            let mut everybody = everybody;
            let first = everybody.next().map(|c| c.resource.clone());
            first.filter(|_| everybody.next().is_none())
        });
        if let Some(resource) = sender {
            out.push(Decision::Forward { resource, edit: Edit::default() });
        }
        if condition == Some("not-acceptable") && m.phase == Phase::Joined {
            // Look first: it may have been about the one whom it was for.
            self.ping(from.account, from.room, now, &mut out);
        }
        Some(out)
    }

    /// Whether the account is in the room, and whether a client of it is.
    pub fn is_attended(&self, account: &str, room: &str) -> Option<bool> {
        self.membership(account, room).map(|m| m.clients.iter().any(Client::is_in))
    }

    /// An iq from a room or an occupant. `ping` says whether it asks for a ping, `for_account` whether it asks for
    /// something that accounts answer, not clients.
    pub fn iq_from_room(
        &mut self,
        from: FromRoom,
        kind: Iq,
        ping: bool,
        for_account: bool,
        condition: Option<&str>,
        now: u64,
    ) -> Option<Vec<Decision>> {
        let mut out = Vec::new();
        let id = from.id?;
        if kind != Iq::Request {
            let asked = self.asked.get(id)?;
            if &*asked.account != from.account || &*asked.room != from.room {
                return None;
            }
            let asked = self.asked.remove(id)?;
            let m = self.membership_mut(from.account, from.room);
            if let Some(m) = m {
                m.heard = now;
            }
            if let Some(resource) = asked.resource {
                let came_from = from.nick.map_or_else(|| from.room.to_owned(), |nick| at(from.room, nick));
                let from = (came_from != asked.to).then_some(asked.to);
                out.push(Decision::Forward {
                    resource,
                    edit: Edit { from, id: Id::Set(asked.id.into()), ..Edit::default() },
                });
            }
            if asked.ping {
                self.pinged(from, kind, condition, now, &mut out);
            }
            return Some(out);
        }
        let m = self.membership_mut(from.account, from.room)?;
        m.heard = now;
        // What the room itself asks is the account's to answer, like some of what occupants ask.
        if for_account || from.nick.is_none() {
            return None;
        }
        // The room looks whether the account is still there.
        if ping && from.nick == Some(&m.nick) {
            return Some(vec![Decision::Answer]);
        }
        let client = m.clients.iter().filter(|c| c.is_in()).max_by_key(|c| c.turn)?;
        let resource = client.resource.clone();
        let sender = from.nick.map_or_else(|| from.room.to_owned(), |nick| at(from.room, nick));
        self.given.retain(|g| g.until > now);
        self.given.push(Given {
            account: from.account.into(),
            resource: resource.clone(),
            from: sender,
            id: id.into(),
            until: now + ANSWER_TIMEOUT,
        });
        out.push(Decision::Forward { resource, edit: Edit::default() });
        Some(out)
    }

    // Whether it is still there ---------------------------------------------------------------------------------------

    fn ping(&mut self, account: &str, room: &str, now: u64, out: &mut Vec<Decision>) {
        let id = self.new_id();
        let Some(m) = self.membership_mut(account, room) else { return };
        if m.ping.is_some() {
            return;
        }
        let to = at(room, &m.nick);
        m.ping = Some(id.clone());
        out.push(Decision::Send { stanza: build::self_ping(account, &to, &id) });
        self.asked.insert(
            id,
            Asked {
                account: account.into(),
                room: room.into(),
                resource: None,
                to,
                id: "".into(),
                ping: true,
                until: now + ANSWER_TIMEOUT,
            },
        );
        self.wake(account, room, now + PING_TIMEOUT);
    }

    /// What a ping to one's own nickname told (XEP-0410 §3.3).
    fn pinged(
        &mut self,
        from: FromRoom,
        kind: Iq,
        condition: Option<&str>,
        now: u64,
        out: &mut Vec<Decision>,
    ) {
        let silence = self.config(from.account).silence;
        let Some(m) = self.membership_mut(from.account, from.room) else { return };
        if m.phase != Phase::Joined {
            return;
        }
        m.ping = None;
        let there = kind == Iq::Result
            || matches!(
                condition,
                Some("service-unavailable" | "feature-not-implemented" | "item-not-found")
            );
        let unknown = matches!(condition, Some("remote-server-not-found" | "remote-server-timeout"));
        if there {
            m.failures = 0;
            self.wake(from.account, from.room, now + silence);
        } else if unknown {
            self.unanswered(from.account, from.room, now, out);
        } else {
            self.rejoin(from.account, from.room, now, out);
        }
    }

    fn unanswered(&mut self, account: &str, room: &str, now: u64, out: &mut Vec<Decision>) {
        let Some(m) = self.membership_mut(account, room) else { return };
        m.failures += 1;
        if m.failures < PING_TRIES {
            self.wake(account, room, now + PING_TIMEOUT);
            return;
        }
        for client in &m.clients {
            m.serve_left(account, room, client, Id::Remove, &[110, 333], out);
        }
        self.give_up(account, room, true, now, out);
    }

    /// The connection to a server was lost: look, soon, whether its rooms still have us.
    pub fn server_lost(&mut self, host: &str, now: u64) {
        let rooms: Vec<(Box<str>, Box<str>)> = self
            .accounts
            .iter()
            .flat_map(|(account, a)| a.rooms.iter().map(move |(room, m)| (account, room, m)))
            .filter(|(_, room, m)| m.phase == Phase::Joined && self::host(room) == host)
            .map(|(account, room, _)| (account.clone(), room.clone()))
            .collect();
        for (account, room) in rooms {
            if let Some(m) = self.membership_mut(&account, &room) {
                m.heard = 0;
            }
            self.wake(&account, &room, now + SETTLE_TIMEOUT);
        }
    }

    /// Time passed.
    pub fn tick(&mut self, now: u64) -> Vec<Decision> {
        let mut out = Vec::new();
        if now >= self.swept + ANSWER_TIMEOUT {
            self.swept = now;
            self.asked.retain(|_, a| a.until > now);
            self.given.retain(|g| g.until > now);
        }
        while self.due.peek().is_some_and(|Reverse((at, _, _))| *at <= now) {
            let Some(Reverse((_, account, room))) = self.due.pop() else { break };
            self.look(&account, &room, now, &mut out);
        }
        out
    }

    /// When to call [`Fork::tick`] next.
    pub fn next_due(&self) -> Option<u64> {
        self.due.peek().map(|Reverse((at, _, _))| *at)
    }

    fn look(&mut self, account: &str, room: &str, now: u64, out: &mut Vec<Decision>) {
        let silence = self.config(account).silence;
        let stays = self.stays(account, room, false, now);
        let Some(m) = self.membership_mut(account, room) else { return };
        if m.due > now {
            return; // it was put off, and is in the heap again
        }
        m.due = u64::MAX;
        match m.phase {
            Phase::Joining => {
                for client in &m.clients {
                    match &client.stage {
                        Stage::Waiting { id, .. } => out.push(Decision::Serve {
                            account: account.into(),
                            resource: client.resource.clone(),
                            stanza: build::presence_error(&at(room, &client.asked), SILENT).into(),
                            edit: Edit { id: set_id(id.as_deref()), ..Edit::default() },
                        }),
                        Stage::In { .. } => {}
                        Stage::Leaving { id } => {
                            m.serve_left(account, room, client, set_id(id.as_deref()), &[110], out)
                        }
                    }
                    if client.was_told() {
                        m.serve_left(account, room, client, Id::Remove, &[110, 333], out);
                    }
                }
                m.answer_pam(account, room, Outcome::Failed(SILENT), out);
                m.clients.clear();
                m.known = None;
                if stays {
                    self.give_up(account, room, true, now, out);
                } else {
                    // Should it answer after all, it is told at once that nobody is there.
                    self.depart(account, room, None, now, out);
                }
            }
            Phase::Leaving => {
                if m.lingering {
                    self.remove(account, room, out);
                    return;
                }
                for client in &m.clients {
                    if let Stage::Leaving { id } = &client.stage {
                        m.serve_left(account, room, client, set_id(id.as_deref()), &[110], out);
                    }
                }
                m.clients.clear();
                m.lingering = true;
                self.wake(account, room, now + LINGER);
            }
            Phase::Joined => {
                m.settle(account, room, true, out);
                if !m.is_used() && !stays {
                    self.depart(account, room, None, now, out);
                    return;
                }
                if m.ping.take().is_some() {
                    self.unanswered(account, room, now, out);
                    return;
                }
                let grace = m.grace;
                let next = m.heard + silence;
                if next <= now {
                    self.ping(account, room, now, out);
                } else {
                    let next = if grace > now { next.min(grace) } else { next };
                    self.wake(account, room, next);
                }
            }
            Phase::Away => {
                if !stays {
                    self.remove(account, room, out);
                    return;
                }
                let Some(m) = self.accounts.get_mut(account).and_then(|a| a.rooms.remove(room)) else {
                    return;
                };
                if let Some(r) = self.rooms.get_mut(room) {
                    r.accounts -= 1;
                }
                self.begin(account, room, m, &Request::default(), now, out);
            }
        }
    }

    // The account -----------------------------------------------------------------------------------------------------

    /// A device of the account is online.
    pub fn online(&mut self, account: &str, now: u64) -> Vec<Decision> {
        let mut out = Vec::new();
        let Some(a) = self.accounts.get_mut(account) else { return out };
        if std::mem::replace(&mut a.online, true) {
            return out;
        }
        let mut wanted: Vec<_> =
            a.bookmarks.iter().filter(|(room, b)| b.autojoin && !a.rooms.contains_key(*room)).collect();
        wanted.sort_by_key(|(room, _)| *room);
        let wanted: Vec<_> = wanted.into_iter().map(|(room, b)| (room.clone(), b.clone())).collect();
        for (room, b) in wanted {
            let (nick, password) = (b.nick.as_deref(), b.password.as_deref());
            out.extend(self.bookmark(account, &room, Some(true), nick, password, true, now));
        }
        out
    }

    /// The account's bookmark for a room was published (XEP-0402), with this nickname and password; or retracted
    /// (`autojoin` is `None`).
    #[allow(clippy::too_many_arguments)]
    pub fn bookmark(
        &mut self,
        account: &str,
        room: &str,
        autojoin: Option<bool>,
        nick: Option<&str>,
        password: Option<&str>,
        online: bool,
        now: u64,
    ) -> Vec<Decision> {
        let mut out = Vec::new();
        let a = self.accounts.entry(account.into()).or_default();
        a.online |= online;
        let before = match autojoin {
            Some(autojoin) => {
                let bookmark =
                    Bookmark { autojoin, nick: nick.map(Into::into), password: password.map(Into::into) };
                a.bookmarks.insert(room.into(), bookmark)
            }
            None => a.bookmarks.remove(room),
        };
        let phase = a.rooms.get(room).map(|m| m.phase);
        let was = before.as_ref().is_some_and(|b| b.autojoin);
        if autojoin != Some(true) {
            if was && matches!(phase, Some(Phase::Joining | Phase::Joined | Phase::Away)) {
                self.depart(account, room, None, now, &mut out);
            }
            return out;
        }
        let default = account.split('@').next().unwrap_or(account);
        let wanted = nick.filter(|n| !n.is_empty()).unwrap_or(default);
        match phase {
            None | Some(Phase::Leaving) => {
                if phase.is_some() || !self.stays(account, room, false, now) {
                    return out;
                }
                let a = self.accounts.entry(account.into()).or_default();
                let in_rooms = a.rooms.len();
                if in_rooms >= self.config(account).max_rooms {
                    return out;
                }
                let shown = build::unattended(self.accounts.get(account).is_some_and(|a| a.online));
                let m = Membership::new(wanted, password, shown.into(), now);
                self.begin(account, room, m, &Request::default(), now, &mut out);
            }
            Some(Phase::Joined) => {
                let renamed = nick.is_some() && before.is_some_and(|b| b.nick.as_deref() != nick);
                let id = self.new_id();
                let Some(m) = self.membership_mut(account, room) else { return out };
                if renamed && *m.nick != *wanted {
                    let to = at(room, wanted);
                    let address = [("from", account), ("to", to.as_str()), ("id", id.as_str())];
                    out.push(Decision::Send { stanza: build::addressed(&m.shown, &address, b"") });
                }
            }
            _ => {}
        }
        out
    }

    /// A client asks by iq for the account to join (MUC2-PAM), under a prepared nickname.
    pub fn pam_join(&mut self, from: FromClient, nick: &str, now: u64) -> Vec<Decision> {
        let mut out = Vec::new();
        let max = self.config(from.account).max_rooms;
        let a = self.accounts.entry(from.account.into()).or_default();
        a.online = true;
        let waiting = (from.resource.into(), from.id.unwrap_or("").into());
        let in_rooms = a.rooms.len();
        let phase = a.rooms.get(from.room).map(|m| m.phase);
        match phase {
            Some(Phase::Joining | Phase::Joined) => {
                let Some(m) = a.rooms.get_mut(from.room) else { return out };
                m.pam = true;
                m.pam_waiting.push(waiting);
                if m.phase == Phase::Joined {
                    let nick = m.nick.clone();
                    m.answer_pam(from.account, from.room, Outcome::In(nick), &mut out);
                }
                out.push(Decision::Persist { account: from.account.into() });
            }
            _ if in_rooms >= max => out.push(Decision::Refuse { condition: TOO_MANY }),
            _ => {
                let old = a.rooms.get(from.room).map_or(0, |m| m.unconfirmed);
                let unconfirmed = if phase == Some(Phase::Leaving) { old + 1 } else { 0 };
                let mut nothing = Vec::new();
                self.remove(from.account, from.room, &mut nothing);
                let mut m = Membership::new(nick, None, build::unattended(true).into(), now);
                m.unconfirmed = unconfirmed;
                m.pam = true;
                m.pam_waiting.push(waiting);
                self.begin(from.account, from.room, m, &Request::default(), now, &mut out);
            }
        }
        out
    }

    /// What is to be kept of an account, so that [`Fork::restore`] can bring it back.
    pub fn memberships(&self, account: &str) -> Vec<Restored> {
        let rooms = self.accounts.get(account).into_iter().flat_map(|a| &a.rooms);
        let mut kept: Vec<Restored> = rooms
            .filter(|(_, m)| m.phase != Phase::Leaving)
            .map(|(room, m)| Restored {
                room: room.to_string(),
                nick: m.nick.to_string(),
                password: m.password.as_deref().map(Into::into),
                pam: m.pam,
                clients: m
                    .clients
                    .iter()
                    .filter(|c| c.is_in())
                    .map(|c| (c.resource.to_string(), c.asked.to_string(), c.presence.to_vec()))
                    .collect(),
                ..Restored::default()
            })
            .collect();
        kept.sort_by(|a, b| a.room.cmp(&b.room));
        kept
    }

    /// What changed in rooms since the last call, for whoever keeps that across a restart.
    pub fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// Everything that [`Fork::take_changes`] would have told of the rooms as they are.
    pub fn snapshot(&self) -> Vec<Change> {
        let mut all = Vec::new();
        for (name, room) in &self.rooms {
            for (nick, likeness) in room.view.all() {
                all.push(Change::Occupant { room: name.clone(), nick: nick.into(), likeness });
            }
            for said in &room.recent {
                all.push(Change::Said { room: name.clone(), key: said.key });
            }
        }
        all
    }

    /// Rooms that any account is in.
    pub fn has_room(&self, room: &str) -> bool {
        self.rooms.contains_key(room)
    }

    /// A membership from before the server's start is taken up again: the account joins, and its clients are told only
    /// what changed.
    pub fn restore(&mut self, account: &str, kept: Restored, online: bool, now: u64) -> Vec<Decision> {
        let mut out = Vec::new();
        if self.membership(account, &kept.room).is_some() {
            return out;
        }
        self.accounts.entry(account.into()).or_default().online |= online;
        let latest = kept.clients.last().map_or(build::unattended(online), |(_, _, presence)| presence);
        let mut m = Membership::new(&kept.nick, kept.password.as_deref(), latest.into(), now);
        m.known = Some(kept.occupants.into_iter().map(|(n, likeness)| (n.into(), likeness)).collect());
        m.said_before = kept.said.into_iter().collect();
        m.rejoined = true;
        m.pam = kept.pam;
        for (resource, asked, presence) in kept.clients {
            self.turn += 1;
            m.clients.push(Client {
                resource: resource.into(),
                asked: asked.into(),
                presence: presence.into(),
                turn: self.turn,
                stage: Stage::In { held: None },
            });
        }
        m.grace = if self.config(account).offline == Offline::Leave { 0 } else { now + GRACE };
        if m.clients.is_empty() && m.grace == 0 {
            return out;
        }
        let wide = Request { maxstanzas: Some(WIDE_HISTORY), ..Request::default() };
        self.begin(account, &kept.room, m, &wide, now, &mut out);
        out
    }

    /// The account was deleted: it leaves everything and nothing is kept.
    pub fn account_deleted(&mut self, account: &str) -> Vec<Decision> {
        let mut out = Vec::new();
        let Some(a) = self.accounts.get(account) else { return out };
        let rooms: Vec<(Box<str>, Box<str>)> =
            a.rooms.iter().map(|(r, m)| (r.clone(), m.nick.clone())).collect();
        for (room, nick) in rooms {
            self.remove(account, &room, &mut out);
            out.push(Decision::Send {
                stanza: build::leave(account, &at(&room, &nick), &self.new_id(), None),
            });
        }
        self.accounts.remove(account);
        out
    }

    /// The clients of an account that are in a room, and the account's nickname there.
    pub fn clients(&self, account: &str, room: &str) -> Option<(String, Vec<String>)> {
        let m = self.membership(account, room)?;
        let clients = m.clients.iter().filter(|c| c.is_in()).map(|c| c.resource.to_string()).collect();
        Some((m.nick.to_string(), clients))
    }

    /// Accounts, memberships and bytes of the shared views, for metrics.
    pub fn totals(&self) -> (usize, usize, usize) {
        let memberships = self.accounts.values().map(|a| a.rooms.len()).sum();
        let bytes = self.accounts.values().flat_map(|a| a.rooms.values()).map(|m| m.seen.bytes()).sum();
        (self.accounts.len(), memberships, bytes)
    }
}

impl Membership {
    fn answer_pam(&mut self, account: &str, room: &str, outcome: Outcome, out: &mut Vec<Decision>) {
        for (resource, id) in self.pam_waiting.drain(..) {
            let outcome = outcome.clone();
            out.push(Decision::Joined { account: account.into(), resource, id, room: room.into(), outcome });
        }
    }

    /// Where a client's stanza goes: who was given another nickname than it asked for may still use that for itself.
    fn address(&self, from: FromClient) -> String {
        match from.nick {
            None => from.room.to_owned(),
            Some(nick) => {
                let own =
                    self.client(from.resource).is_some_and(|c| *c.asked == *nick) && *self.nick != *nick;
                at(from.room, if own { &self.nick } else { nick })
            }
        }
    }
}
