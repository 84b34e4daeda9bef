//! The engine between clients and rooms, both simulated, with a wire that delivers late: after any interleaving, what each
//! client was told adds up to what the room has. One to three accounts, of one to three clients each, are in one to three
//! rooms, where they are occupants for each other.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, as it should")]

mod support;

use enjamb_muc_fork::decision::{Decision, Edit, Id};
use enjamb_muc_fork::input::{Asks, FromClient, FromRoom, Iq, Join, Message, MucUser, Presence};
use enjamb_muc_fork::view::Likeness;
use enjamb_muc_fork::{Accounts, Change, Config, Limits, Mark, Offline, Remembered, Request, Restored, chat};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::{Deref, DerefMut};
use std::time::{Duration, UNIX_EPOCH};
use support::random;

const ACCOUNTS: [&str; 3] = ["ada@a.example", "bob@a.example", "eve@a.example"];
const ROOMS: [&str; 3] = ["room@c.example", "hall@c.example", "yard@c.example"];
const MUC_USER: &str = "http://jabber.org/protocol/muc#user";

/// What the room says to the account.
#[derive(Clone, Debug)]
enum Down {
    Presence {
        nick: String,
        kind: Presence,
        codes: Vec<u16>,
        new: Option<String>,
        condition: Option<&'static str>,
        id: Option<String>,
        version: u32,
    },
    /// The room says that it is another from now on (XEP-0045 §10.2.1).
    Configured {
        code: u16,
    },
    Talk {
        nick: String,
        n: u32,
        /// What it says, which others may say, too.
        words: Words,
        stamp: Option<u64>,
        /// A moderator took it back; this is what is left.
        gone: bool,
    },
    /// A moderator takes a message back.
    TakenBack {
        n: u32,
    },
    Subject {
        stamped: bool,
    },
    Iq {
        nick: String,
        id: String,
        result: Result<(), &'static str>,
    },
}

/// What the account says to the room.
#[derive(Clone, Debug)]
enum Up {
    Presence { nick: String, id: Option<String>, join: bool, version: u32 },
    Leave,
    Talk { n: u32 },
    Ping { id: String, nick: String },
}

/// How a message can be known again.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Words {
    /// It has an `id`, and words of its own.
    Own,
    /// It has no `id`, and its words have been said before.
    Same,
}

/// How a room differs from others, and from XEP-0045.
#[derive(Clone, Copy, Debug)]
struct Shape {
    /// It has a name of its own for each message (XEP-0359).
    archives: bool,
    /// It answers a join by this `id`.
    ids: Ids,
    /// It does not say which presence is one's own.
    unmarked: bool,
    /// In which order it answers a join.
    order: [Part; 4],
    subject: Subject,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Ids {
    #[default]
    Echo,
    Other,
    None,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Part {
    Others,
    Own,
    History,
    Subject,
}

const XEP_ORDER: [Part; 4] = [Part::Others, Part::Own, Part::History, Part::Subject];

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Subject {
    #[default]
    Plain,
    Stamped,
    Missing,
}

fn shape() -> impl Strategy<Value = Shape> {
    let ids = prop_oneof![2 => Just(Ids::Echo), 1 => Just(Ids::Other), 1 => Just(Ids::None)];
    let order = prop_oneof![Just(XEP_ORDER.to_vec()), Just(XEP_ORDER.to_vec()).prop_shuffle()];
    let subject =
        prop_oneof![2 => Just(Subject::Plain), 1 => Just(Subject::Stamped), 1 => Just(Subject::Missing)];
    (any::<bool>(), ids, proptest::bool::weighted(0.2), order, subject).prop_map(
        |(archives, ids, unmarked, order, subject)| {
            let order = [order[0], order[1], order[2], order[3]];
            Shape { archives, ids, unmarked, order, subject }
        },
    )
}

/// What a room keeps: which message, whose, when it was said.
#[derive(Clone, Debug)]
struct Kept {
    n: u32,
    nick: String,
    words: Words,
    at: u64,
    gone: bool,
}

/// A room as XEP-0045 has it, with one session of each account at most.
struct Room {
    occupants: BTreeMap<String, u32>,
    /// Our accounts, by number, and their nicknames.
    us: BTreeMap<usize, String>,
    history: Vec<Kept>,
    shape: Shape,
    /// What it is, as status codes: 100, 170.
    is: BTreeSet<u16>,
    /// When it last said something of each occupant.
    moved: BTreeMap<String, u32>,
    /// What outlives the engine: occupants and messages.
    kept: (BTreeMap<String, Likeness>, Vec<Mark>),
}

/// What a room says, and to which account.
type Said = (usize, Down);

impl Room {
    fn told(&self, nick: &str, codes: &[u16], id: Option<String>) -> Down {
        Down::Presence {
            nick: nick.into(),
            kind: Presence::Available,
            codes: codes.to_vec(),
            new: None,
            condition: None,
            id,
            version: self.occupants[nick],
        }
    }

    fn gone(nick: &str, codes: &[u16], new: Option<String>) -> Down {
        Down::Presence {
            nick: nick.into(),
            kind: Presence::Unavailable,
            codes: codes.to_vec(),
            new,
            condition: None,
            id: None,
            version: 0,
        }
    }

    fn refusal(nick: &str, condition: &'static str, id: Option<String>) -> Down {
        Down::Presence {
            nick: nick.into(),
            kind: Presence::Error,
            codes: Vec::new(),
            new: None,
            condition: Some(condition),
            id,
            version: 0,
        }
    }

    /// The same for all accounts that are in.
    fn to_all(&self, down: &Down) -> Vec<Said> {
        self.us.keys().map(|account| (*account, down.clone())).collect()
    }

    fn to_others(&self, account: usize, down: &Down) -> Vec<Said> {
        self.to_all(down).into_iter().filter(|(to, _)| *to != account).collect()
    }

    fn say(&mut self, n: u32, nick: &str, words: Words, now: u64) -> Vec<Said> {
        self.history.push(Kept { n, nick: nick.into(), words, at: now, gone: false });
        self.to_all(&Down::Talk { nick: nick.into(), n, words, stamp: None, gone: false })
    }

    /// An account is out of the room, and the others are told.
    fn lose(&mut self, account: usize) -> Vec<Said> {
        let Some(nick) = self.us.remove(&account) else { return Vec::new() };
        self.occupants.remove(&nick);
        self.to_all(&Room::gone(&nick, &[], None))
    }

    fn take(&mut self, account: usize, up: Up, now: u64, version: u32) -> Vec<Said> {
        let mut out = Vec::new();
        match up {
            Up::Presence { nick, id, join, version: shown } => {
                let was = self.us.get(&account).cloned();
                if was.is_none() && !join {
                    return vec![(account, Room::refusal(&nick, "item-not-found", id))];
                }
                let taken = self.occupants.contains_key(&nick) && was.as_deref() != Some(&nick);
                if taken {
                    return vec![(account, Room::refusal(&nick, "conflict", id))];
                }
                // Nobody keeps a room that nobody is in.
                let new = self.occupants.is_empty();
                self.us.insert(account, nick.clone());
                if let Some(old) = was.as_ref().filter(|old| **old != nick) {
                    self.occupants.remove(old);
                    self.moved.insert(old.clone(), version);
                    out.push((account, Room::gone(old, &[303, 110], Some(nick.clone()))));
                    out.extend(self.to_others(account, &Room::gone(old, &[303], Some(nick.clone()))));
                }
                self.occupants.insert(nick.clone(), shown);
                self.moved.insert(nick.clone(), version);
                out.extend(self.to_others(account, &self.told(&nick, &[], None)));
                let id = match self.shape.ids {
                    Ids::Echo => id,
                    Ids::Other => Some(format!("room{}", random())),
                    Ids::None => None,
                };
                let mut codes = if self.shape.unmarked { Vec::new() } else { vec![110] };
                if join {
                    codes.extend(&self.is);
                    codes.extend(new.then_some(201));
                }
                out.extend(self.answer(&nick, &codes, id, join).into_iter().map(|down| (account, down)));
            }
            Up::Leave => {
                if let Some(nick) = self.us.get(&account).cloned() {
                    self.moved.insert(nick.clone(), version);
                    out.push((account, Room::gone(&nick, &[110], None)));
                    out.extend(self.lose(account));
                }
            }
            Up::Talk { n } => {
                if let Some(nick) = self.us.get(&account).cloned() {
                    out.extend(self.say(n, &nick, Words::Own, now));
                }
            }
            Up::Ping { id, nick } => {
                let result = self.us.get(&account).map(|_| ()).ok_or("not-acceptable");
                out.push((account, Down::Iq { nick, id, result }));
            }
        }
        out
    }

    /// What an account is told that is in now, or has changed its presence.
    fn answer(&self, nick: &str, codes: &[u16], id: Option<String>, join: bool) -> Vec<Down> {
        let mut out = Vec::new();
        for part in self.shape.order {
            match part {
                Part::Own => out.push(self.told(nick, codes, id.clone())),
                Part::Others if join => {
                    let others = self.occupants.keys().filter(|o| **o != nick);
                    out.extend(others.map(|other| self.told(other, &[], None)));
                }
                Part::History if join => {
                    out.extend(self.history.iter().cloned().map(|kept| {
                        let Kept { n, nick, words, at, gone } = kept;
                        Down::Talk { nick, n, words, stamp: Some(at), gone }
                    }));
                }
                Part::Subject if join && self.shape.subject != Subject::Missing => {
                    out.push(Down::Subject { stamped: self.shape.subject == Subject::Stamped });
                }
                _ => {}
            }
        }
        out
    }
}

#[derive(Default, Debug)]
struct Client {
    picture: BTreeMap<String, u32>,
    inside: bool,
    waiting: bool,
    nick: String,
    heard: Vec<u32>,
    /// The last message before it joined.
    since: u32,
    /// The same of when it was told last that it is in.
    entered: u32,
    /// What it was told that the room is.
    is: BTreeSet<u16>,
}

/// What a client goes by when it is told this code.
fn learn(is: &mut BTreeSet<u16>, code: u16) {
    match code {
        172 => drop(is.insert(100)),
        173 => drop(is.remove(&100)),
        171 => drop(is.remove(&170)),
        code => drop(is.insert(code)),
    }
}

/// One account and one room, and what is between them.
#[derive(Default)]
struct Place {
    up: VecDeque<Up>,
    down: VecDeque<Down>,
    clients: BTreeMap<String, Client>,
    /// What was said while the room had not the account, or got lost on the way.
    said_away: BTreeSet<u32>,
    /// Something was under way for longer than clocks may differ, or when the server was killed: what is not sure to have come,
    /// comes again.
    slow: bool,
    /// The server was killed when others had been told what the account had not, which its clients are not told after that.
    behind: bool,
    /// Messages that the account was told were taken back.
    taken_back: BTreeSet<u32>,
    /// The bookmark's autojoin, and whether the room put the account out since, for good.
    autojoin: Option<bool>,
    put_out: bool,
    /// A message came back to the room, as to somebody who is not there.
    bounced: bool,
    /// The account was told that the room is new, and no client yet. It has been in since: some client must be told.
    new: bool,
    untold: bool,
    /// The room did not hear of a leave: the account is in, and does not know.
    leave_lost: bool,
}

struct World {
    fork: Accounts,
    rooms: Vec<Room>,
    /// Those of the first account first.
    places: Vec<Place>,
    /// Where something happens: at one of the places.
    at: usize,
    now: u64,
    version: u32,
    /// Answers come within the call that sends, as from a room of the same server.
    local: bool,
    offline: Offline,
    limits: Limits,
    /// The accounts' server was killed.
    killed: bool,
    /// It was killed, and this is what it kept of each account.
    dead: Option<Vec<Vec<Restored>>>,
    /// Rooms of the same server outlive it: they have after it who was in them before.
    outlives: bool,
    /// The rooms cannot be reached: what goes there comes back as an error.
    cut_off: bool,
}

impl Deref for World {
    type Target = Place;
    fn deref(&self) -> &Place {
        &self.places[self.at]
    }
}

impl DerefMut for World {
    fn deref_mut(&mut self) -> &mut Place {
        &mut self.places[self.at]
    }
}

fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let (_, after) = text.split_once(&format!(" {key}='"))?;
    after.split('\'').next()
}

fn payload(version: u32) -> Vec<u8> {
    format!("<presence><v n='{version}'/></presence>").into_bytes()
}

fn presence_bytes(room: &str, nick: &str, kind: Presence, codes: &[u16], version: u32) -> String {
    let kind_of = match kind {
        Presence::Available => "",
        Presence::Unavailable => " type='unavailable'",
        Presence::Error => " type='error'",
    };
    // Others differ in nothing but in who they are.
    let what = if nick.starts_with("other") {
        format!("<x xmlns='{MUC_USER}'><item role='participant' jid='{version}@x.example'/></x>")
    } else {
        // Moderators are shown who the others are, whatever the room is.
        format!("<v n='{version}'/><x xmlns='{MUC_USER}'><item role='moderator'/></x>")
    };
    let codes: String = codes.iter().map(|code| format!("<status code='{code}'/>")).collect();
    format!("<presence from='{room}/{nick}'{kind_of}>{what}{codes}</presence>")
}

fn talk_bytes(
    room: &str,
    nick: &str,
    n: u32,
    words: Words,
    stamp: Option<u64>,
    gone: bool,
    archives: bool,
) -> String {
    let (id, body) = match words {
        Words::Own => (format!(" id='{n}'"), n.to_string()),
        Words::Same => (String::new(), "alarm".to_owned()),
    };
    let left = if gone {
        "<retracted xmlns='urn:xmpp:message-retract:1'/>".to_owned()
    } else {
        format!("<body>{body}</body>")
    };
    let mut bytes = format!("<message from='{room}/{nick}' n='{n}'{id}>{left}");
    if archives {
        bytes += &format!("<stanza-id xmlns='urn:xmpp:sid:0' by='{room}' id='a{n}'/>");
    }
    if let Some(stamp) = stamp {
        let stamp = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(stamp));
        bytes += &format!("<delay xmlns='urn:xmpp:delay' from='{room}' stamp='{stamp}'/>");
    }
    bytes + "</message>"
}

fn subject_bytes(room: &str, stamped: bool) -> String {
    let stamp = if stamped { "<delay xmlns='urn:xmpp:delay' stamp='1970-01-01T00:00:01Z'/>" } else { "" };
    format!("<message from='{room}'><subject/>{stamp}</message>")
}

fn version_in(text: &str) -> u32 {
    let jid = value(text, "jid").and_then(|jid| jid.split('@').next());
    value(text, "n").or(jid).map_or(0, |n| n.parse().unwrap())
}

fn nick_of(jid: &str) -> &str {
    jid.split_once('/').map_or("", |(_, nick)| nick)
}

impl World {
    fn new(local: bool, offline: Offline, shape: Shape) -> World {
        World::of(1, local, offline, &[shape])
    }

    /// So many accounts in rooms of these shapes.
    fn of(accounts: usize, local: bool, offline: Offline, shapes: &[Shape]) -> World {
        let mut fork = Accounts::new(random);
        fork.configure("a.example", Config { offline, ..Config::default() });
        let rooms = shapes.iter().map(|shape| Room {
            occupants: BTreeMap::new(),
            us: BTreeMap::new(),
            history: Vec::new(),
            shape: *shape,
            is: BTreeSet::new(),
            moved: BTreeMap::new(),
            kept: Default::default(),
        });
        World {
            fork,
            rooms: rooms.collect(),
            places: (0..accounts * shapes.len()).map(|_| Place::default()).collect(),
            at: 0,
            now: 1_000_000,
            version: 1,
            local,
            offline,
            limits: Limits::default(),
            killed: false,
            dead: None,
            outlives: false,
            cut_off: false,
        }
    }

    /// It has next to no memory.
    fn tiny(local: bool, offline: Offline, shape: Shape, limits: Limits) -> World {
        let mut world = World::new(local, offline, shape);
        world.limits = limits;
        world.fork.limit(limits);
        world
    }

    fn account(&self) -> usize {
        self.at / self.rooms.len()
    }

    fn account_name(&self) -> &'static str {
        ACCOUNTS[self.account()]
    }

    fn room_name(&self) -> &'static str {
        ROOMS[self.at % self.rooms.len()]
    }

    fn room(&mut self) -> &mut Room {
        let n = self.at % self.rooms.len();
        &mut self.rooms[n]
    }

    fn room_here(&self) -> &Room {
        &self.rooms[self.at % self.rooms.len()]
    }

    /// The account's nickname, as the room has it.
    fn us(&self) -> Option<&String> {
        self.room_here().us.get(&self.account())
    }

    /// The places of the account.
    fn of_account(&self, account: usize) -> std::ops::Range<usize> {
        account * self.rooms.len()..(account + 1) * self.rooms.len()
    }

    fn place_of(&self, account: &str, room: &str) -> usize {
        let account = ACCOUNTS.iter().position(|name| *name == account).unwrap();
        let room = ROOMS.iter().position(|name| *name == room).unwrap();
        assert!(room < self.rooms.len());
        account * self.rooms.len() + room
    }

    /// Something happens at a place.
    fn there<T>(&mut self, at: usize, f: impl FnOnce(&mut World) -> T) -> T {
        let before = std::mem::replace(&mut self.at, at);
        let result = f(self);
        self.at = before;
        result
    }

    /// Whether the account has a client.
    fn online(&self) -> bool {
        self.of_account(self.account()).any(|at| !self.places[at].clients.is_empty())
    }

    /// What becomes of something that cannot reach the room.
    fn bounce(up: Up) -> Vec<Down> {
        match up {
            Up::Presence { nick, id, .. } => vec![Room::refusal(&nick, "remote-server-timeout", id)],
            Up::Ping { id, nick } => vec![Down::Iq { nick, id, result: Err("remote-server-timeout") }],
            Up::Leave | Up::Talk { .. } => Vec::new(),
        }
    }

    fn deliver(&mut self, up: Up) -> Vec<Said> {
        let account = self.account();
        if self.cut_off {
            self.leave_lost |= matches!(up, Up::Leave);
            return World::bounce(up).into_iter().map(|down| (account, down)).collect();
        }
        let now = self.now;
        self.version += 1;
        let version = self.version;
        self.room().take(account, up, now, version)
    }

    fn bookmark(&mut self, autojoin: bool) {
        let (account, room, online) = (self.account_name(), self.room_name(), self.online());
        let nick = format!("nick{}", self.account());
        let now = self.now;
        let decisions = self.fork.bookmark(account, room, Some(autojoin), Some(&nick), None, online, now);
        self.perform(decisions, None, None);
    }

    fn send(&mut self, up: Up) {
        if std::env::var_os("TRACE").is_some() {
            eprintln!("{} {} to {} up {up:?}", self.now, self.account_name(), self.room_name());
        }
        self.untold &= !matches!(up, Up::Leave);
        if self.local {
            let said = self.deliver(up);
            self.tell(said);
        } else {
            self.up.push_back(up);
        }
    }

    /// A presence arrives at a client.
    fn show(
        &mut self,
        resource: &str,
        from: &str,
        kind: Presence,
        version: u32,
        mut codes: BTreeSet<u16>,
        edit: &Edit,
    ) {
        // Such a one says all that the room is; those that the room sends to who is in need not.
        let entry = !edit.without.is_empty();
        let version_now = self.version;
        let place = &mut self.places[self.at];
        let Some(client) = place.clients.get_mut(resource) else { return };
        for code in edit.without {
            codes.remove(code);
        }
        codes.extend(&edit.with);
        let nick = nick_of(edit.from.as_deref().unwrap_or(from)).to_owned();
        match kind {
            Presence::Available => {
                client.picture.insert(nick.clone(), version);
                if codes.contains(&110) {
                    let is: BTreeSet<u16> =
                        codes.intersection(&BTreeSet::from([100, 170])).copied().collect();
                    if entry {
                        client.is = is;
                    } else {
                        client.is.extend(is);
                    }
                    // Whoever is told first makes the room.
                    assert!(
                        codes.contains(&201) || !place.untold,
                        "{resource} is not told that the room is new"
                    );
                    assert!(
                        !codes.contains(&201) || place.new,
                        "{resource} is told that the room is new again"
                    );
                    (place.new, place.untold) = (place.new && !codes.contains(&201), false);
                    if entry || client.waiting || !client.inside {
                        client.entered = version_now;
                    }
                    client.inside = true;
                    client.waiting = false;
                    client.nick = nick;
                }
            }
            Presence::Unavailable => {
                client.picture.remove(&nick);
                if codes.contains(&110) && !codes.contains(&303) {
                    client.inside = false;
                    client.picture.clear();
                    client.waiting = false;
                }
            }
            Presence::Error => {
                client.waiting = false;
            }
        }
    }

    fn perform(&mut self, decisions: Vec<Decision>, hand: Option<&Down>, sent: Option<Up>) {
        for decision in decisions {
            match decision {
                Decision::Forward { resource, edit } => match hand {
                    Some(Down::Presence { nick, kind, codes, version, .. }) => {
                        let from = format!("{}/{nick}", self.room_name());
                        self.show(&resource, &from, *kind, *version, codes.iter().copied().collect(), &edit);
                    }
                    Some(Down::Iq { .. }) => {}
                    other => panic!("forwarded {other:?}"),
                },
                Decision::Serve { account, resource, stanza, edit } => {
                    let text = String::from_utf8(stanza.to_vec()).unwrap();
                    let from = edit.from.clone().unwrap_or_else(|| value(&text, "from").unwrap().to_owned());
                    let at = self.place_of(&account, from.split('/').next().unwrap());
                    if text.starts_with("<message") {
                        let place = &mut self.places[at];
                        if let Some(client) = place.clients.get_mut(&*resource)
                            && let Some(n) = value(&text, "n")
                        {
                            let n = n.parse().unwrap();
                            client.heard.push(n);
                            assert!(
                                !place.taken_back.contains(&n) || !text.contains("<body>"),
                                "{resource} is told what was taken back: {text}"
                            );
                        }
                        continue;
                    }
                    let kind = match value(&text, "type") {
                        Some("unavailable") => Presence::Unavailable,
                        Some("error") => Presence::Error,
                        _ => Presence::Available,
                    };
                    let codes = text
                        .split("code='")
                        .skip(1)
                        .map(|rest| rest.split('\'').next().unwrap().parse().unwrap())
                        .collect();
                    self.there(at, |world| {
                        world.show(&resource, &from, kind, version_in(&text), codes, &edit);
                    });
                }
                Decision::ToRoom { to, id } => {
                    let mut up = sent.clone().unwrap();
                    if let Up::Presence { nick, id: old, .. } = &mut up {
                        *nick = nick_of(&to).into();
                        if let Id::Set(id) = id {
                            *old = Some(id);
                        }
                    }
                    self.send(up);
                }
                Decision::Send { stanza } => {
                    let text = String::from_utf8(stanza).unwrap();
                    let to = value(&text, "to").unwrap();
                    let at = self.place_of(value(&text, "from").unwrap(), to.split('/').next().unwrap());
                    let nick = nick_of(to).to_owned();
                    let id = value(&text, "id").map(str::to_owned);
                    let up = if text.starts_with("<iq") {
                        Up::Ping { id: id.unwrap(), nick }
                    } else if value(&text, "type") == Some("unavailable") {
                        Up::Leave
                    } else {
                        let join = text.contains("<x xmlns='http://jabber.org/protocol/muc'");
                        Up::Presence { nick, id, join, version: version_in(&text) }
                    };
                    self.there(at, |world| world.send(up));
                }
                Decision::Refuse { .. }
                | Decision::Persist { .. }
                | Decision::PersistSoon { .. }
                | Decision::Answer
                | Decision::Joined { .. }
                | Decision::Store
                | Decision::WakeDevices => {}
            }
        }
    }

    fn receive(&mut self, down: Down) {
        if std::env::var_os("TRACE").is_some() {
            eprintln!("{} {} in {} down {down:?}", self.now, self.account_name(), self.room_name());
        }
        let (room, now) = (self.room_name(), self.now);
        let account = self.account_name();
        let from = |nick, id| FromRoom { account, room, nick, id };
        match &down {
            Down::Presence { nick, kind, codes, new, condition, id, version } => {
                if codes.contains(&201) {
                    // Nobody need be told of a stay that is over.
                    let leave = self.leave_lost || self.up.iter().any(|up| matches!(up, Up::Leave));
                    let out = |down: &Down| matches!(down, Down::Presence { kind: Presence::Unavailable, codes, .. } if codes.contains(&110) && !codes.contains(&303));
                    (self.new, self.untold) = (true, !leave && !self.down.iter().any(out));
                }
                self.untold &=
                    *kind != Presence::Unavailable || !codes.contains(&110) || codes.contains(&303);
                let bytes = presence_bytes(room, nick, *kind, codes, *version);
                let refused = matches!(condition, Some("conflict" | "item-not-found"));
                let kicked = codes.iter().any(|code| matches!(code, 301..=333 if *code != 303));
                self.put_out |= refused || kicked;
                let said =
                    MucUser { codes, new_nick: new.as_deref(), condition: *condition, ..MucUser::default() };
                let decisions = self.fork.presence_from_room(
                    from(Some(nick), id.as_deref()),
                    *kind,
                    said,
                    bytes.as_bytes(),
                    now,
                );
                // What the account does not know of must not reach its clients.
                if let Some(decisions) = decisions {
                    self.perform(decisions, Some(&down), None);
                }
            }
            Down::Configured { code } => {
                let bytes = format!(
                    "<message from='{room}' type='groupchat'><x xmlns='{MUC_USER}'><status code='{code}'/></x></message>"
                );
                let chat = chat::read(bytes.as_bytes(), room);
                let mut to = Vec::new();
                let decisions = self
                    .fork
                    .groupchat(from(None, None), &chat, now, |resource| to.push(resource.to_owned()));
                self.perform(decisions.unwrap_or_default(), None, None);
                for resource in to {
                    if let Some(client) = self.clients.get_mut(&resource) {
                        learn(&mut client.is, *code);
                    }
                }
            }
            Down::TakenBack { n } => {
                let bytes = format!(
                    "<message from='{room}'><retract id='a{n}' xmlns='urn:xmpp:message-retract:1'>\
                     <moderated xmlns='urn:xmpp:message-moderate:1'/></retract></message>"
                );
                let chat = chat::read(bytes.as_bytes(), room);
                let decisions = self.fork.groupchat(from(None, None), &chat, now, |_| {});
                self.taken_back.insert(*n);
                self.perform(decisions.unwrap_or_default(), None, None);
            }
            Down::Talk { nick, n, words, stamp, gone } => {
                let archives = self.room_here().shape.archives;
                let bytes = talk_bytes(room, nick, *n, *words, *stamp, *gone, archives);
                let mut to = Vec::new();
                let decisions = self.fork.groupchat(
                    from(Some(nick), None),
                    &chat::read(bytes.as_bytes(), room),
                    now,
                    |resource| to.push(resource.to_owned()),
                );
                if decisions.is_none() && stamp.is_none() {
                    // It comes back to the room, as an error.
                    self.bounced = true;
                }
                self.perform(decisions.unwrap_or_default(), None, None);
                for resource in to {
                    if let Some(client) = self.clients.get_mut(&resource) {
                        client.heard.push(*n);
                    }
                }
            }
            Down::Subject { stamped } => {
                let bytes = subject_bytes(room, *stamped);
                let chat = chat::read(bytes.as_bytes(), room);
                let decisions = self.fork.groupchat(from(None, None), &chat, now, |_| {});
                self.perform(decisions.unwrap_or_default(), None, None);
            }
            Down::Iq { nick, id, result } => {
                let kind = if result.is_ok() { Iq::Result } else { Iq::Error };
                let condition = result.err();
                let decisions = self.fork.iq_from_room(
                    from(Some(nick), Some(id)),
                    kind,
                    false,
                    false,
                    condition,
                    Asks::default(),
                    now,
                );
                self.perform(decisions.unwrap_or_default(), Some(&down), None);
            }
        }
    }

    fn presence(&mut self, resource: &str, nick: &str, kind: Presence, join: bool) {
        self.version += 1;
        let id = format!("c{}", self.version);
        let payload = payload(self.version);
        let (account, room, now) = (self.account_name(), self.room_name(), self.now);
        let from = FromClient { account, resource, room, nick: Some(nick), id: Some(&id) };
        let join_request = join.then(|| Join { password: None, history: Request::default() });
        let decisions = self.fork.presence_from_client(from, kind, join_request, &payload, now);
        if let Some(decisions) = decisions {
            if let Some(client) = self.clients.get_mut(resource)
                && kind == Presence::Available
                && join
            {
                client.waiting = !decisions.is_empty();
            }
            let up = Up::Presence { nick: nick.into(), id: Some(id), join: false, version: self.version };
            self.perform(decisions, None, Some(up));
        }
    }

    fn step(&mut self, step: &Step) {
        let of_room = matches!(
            step,
            Step::Other(..)
                | Step::Steal(_)
                | Step::OtherSays(_)
                | Step::TakeBack(_)
                | Step::Configure(_)
                | Step::Kick(_)
                | Step::Start { .. }
        );
        let is_start = matches!(step, Step::Start { .. });
        if self.dead.is_some() && (!of_room || self.outlives && !is_start) {
            return;
        }
        match step {
            Step::Join(c, nick) => {
                let resource = format!("c{c}");
                if !self.online() {
                    let (account, now) = (self.account_name(), self.now);
                    let decisions = self.fork.online(account, now);
                    self.perform(decisions, None, None);
                }
                let version = self.version;
                let client = self.clients.entry(resource.clone()).or_default();
                // Who joins again is told everything again.
                client.heard.clear();
                client.since = version;
                client.entered = version;
                if !client.inside {
                    client.picture.clear();
                    client.waiting = true;
                }
                let nick = self.nick(*nick);
                self.presence(&resource, &nick, Presence::Available, true);
            }
            Step::Leave(c) => {
                let resource = format!("c{c}");
                let nick = self.clients.get(&resource).map_or(String::new(), |c| c.nick.clone());
                self.presence(&resource, &nick, Presence::Unavailable, false);
            }
            Step::Rename(c, nick) => {
                let resource = format!("c{c}");
                if self.clients.get(&resource).is_some_and(|c| c.inside || c.waiting) {
                    let nick = self.nick(*nick);
                    self.presence(&resource, &nick, Presence::Available, false);
                }
            }
            Step::Gone(c) => {
                let resource = format!("c{c}");
                for at in self.of_account(self.account()) {
                    self.places[at].clients.remove(&resource);
                }
                let (account, online, now) = (self.account_name(), self.online(), self.now);
                let decisions = self.fork.client_gone(account, &resource, online, false, None, now);
                self.perform(decisions, None, None);
            }
            Step::Say(c) => {
                self.version += 1;
                let n = self.version;
                let resource = format!("c{c}");
                let id = n.to_string();
                let from = FromClient {
                    account: self.account_name(),
                    resource: &resource,
                    room: self.room_name(),
                    nick: None,
                    id: Some(&id),
                };
                if let Some(decisions) =
                    self.fork.message_from_client(from, Message::Groupchat, None, self.now)
                {
                    self.perform(decisions, None, Some(Up::Talk { n }));
                }
            }
            Step::Up => {
                if let Some(up) = self.up.pop_front() {
                    let said = self.deliver(up);
                    self.tell(said);
                }
            }
            Step::Down => {
                if let Some(down) = self.down.pop_front() {
                    self.receive(down);
                }
            }
            Step::Other(nick, version) => {
                let nick = format!("other{nick}");
                self.version += 1;
                let now = self.version;
                let room = self.room();
                room.moved.insert(nick.clone(), now);
                if *version == 0 {
                    if room.occupants.remove(&nick).is_some() {
                        let said = room.to_all(&Room::gone(&nick, &[], None));
                        self.tell(said);
                    }
                } else {
                    // Few of them, so that somebody comes back as it was.
                    room.occupants.insert(nick.clone(), u32::from(*version));
                    let said = room.to_all(&room.told(&nick, &[], None));
                    self.tell(said);
                }
            }
            Step::Steal(nick) => {
                let (nick, version) = (self.nick(*nick), self.version);
                let room = self.room();
                if !room.occupants.contains_key(&nick) {
                    room.occupants.insert(nick.clone(), version);
                    let said = room.to_all(&room.told(&nick, &[], None));
                    self.tell(said);
                }
            }
            Step::OtherSays(words) => {
                self.version += 1;
                let (n, now) = (self.version, self.now);
                let said = self.room().say(n, "other0", *words, now);
                self.tell(said);
                self.note_away(n);
            }
            Step::TakeBack(which) => {
                let room = self.room();
                let said = room.history.iter_mut().rev().nth(usize::from(*which));
                if let Some(kept) = said.filter(|kept| !kept.gone && room.shape.archives) {
                    kept.gone = true;
                    let n = kept.n;
                    let said = room.to_all(&Down::TakenBack { n });
                    self.tell(said);
                }
            }
            Step::Configure(code) => {
                let room = self.room();
                learn(&mut room.is, *code);
                let said = room.to_all(&Down::Configured { code: *code });
                self.tell(said);
            }
            Step::Kick(code) => {
                if let Some(nick) = self.us().cloned() {
                    self.untold = false;
                    self.version += 1;
                    let (account, now) = (self.account(), self.version);
                    let room = self.room();
                    room.moved.insert(nick.clone(), now);
                    let mut said = vec![(account, Room::gone(&nick, &[*code, 110], None))];
                    said.extend(room.lose(account));
                    self.tell(said);
                }
            }
            Step::Forget => {
                if self.us().is_some() {
                    self.untold = false;
                    self.up.clear();
                    let lost = self.down.len();
                    self.lose(lost);
                    self.drop_us();
                }
            }
            Step::Delete => {
                for at in self.of_account(self.account()) {
                    let place = &mut self.places[at];
                    place.clients.clear();
                    place.autojoin = None;
                }
                let account = self.account_name();
                let decisions = self.fork.account_deleted(account);
                self.perform(decisions, None, None);
                assert!(ROOMS.iter().all(|room| self.fork.clients(account, room).is_none()));
                // Nobody is given its name before the rooms have heard of it.
                for at in self.of_account(self.account()) {
                    self.there(at, World::flush_place);
                }
            }
            Step::CutOff(cut_off) => {
                self.cut_off = *cut_off;
                // A leave may be lost, and then two joins are answered by what is the same stay.
                self.places.iter_mut().for_each(|place| place.slow |= *cut_off);
                if !cut_off {
                    self.fork.server_up("c.example", false, self.now);
                }
            }
            Step::Hiccup => {
                if self.us().is_some() {
                    let account = self.account();
                    self.tell(vec![(account, Room::refusal("", "internal-server-error", None))]);
                }
            }
            Step::Bookmark(autojoin) => {
                self.autojoin = Some(*autojoin);
                self.put_out = false;
                self.bookmark(*autojoin);
            }
            Step::Pass(seconds) => self.pass(*seconds),
            Step::Kill { reached } => self.kill(usize::from(*reached)),
            Step::Start { lost, back } => self.start(usize::from(*lost), *back),
        }
    }

    /// The accounts' server is killed. Of what it sent, the first few stanzas reach each room still. What the rooms send
    /// it meanwhile is waiting for it.
    fn kill(&mut self, reached: usize) {
        self.killed = true;
        for at in 0..self.places.len() {
            self.there(at, |world| {
                // Of what was under way some clients may have been told, and others not.
                let Shape { order, subject, .. } = world.room_here().shape;
                let prompt = order == XEP_ORDER && subject == Subject::Plain;
                world.slow |= !world.up.is_empty() || !world.down.is_empty() || !prompt;
                // What is kept is the room's: another account may have been told what this one has not.
                let (account, room) = (world.account_name(), world.room_name());
                let forgotten = world.us().is_none() && world.fork.clients(account, room).is_some();
                let shared = world.places.len() > world.rooms.len();
                world.behind |= shared && (forgotten || !world.down.is_empty());
            });
        }
        self.keep();
        let accounts = self.places.len() / self.rooms.len();
        let kept = ACCOUNTS[..accounts].iter().map(|account| self.fork.memberships(account)).collect();
        self.dead = Some(kept);
        for at in 0..self.places.len() {
            self.there(at, |world| {
                for up in std::mem::take(&mut world.up).into_iter().take(reached) {
                    let said = world.deliver(up);
                    world.tell(said);
                }
            });
        }
        self.fork = World::of(1, self.local, self.offline, &[]).fork;
        self.fork.limit(self.limits);
        if self.local && !self.outlives {
            // A room of the same server is killed with it, and remembers no occupants.
            for room in &mut self.rooms {
                room.occupants.clear();
                room.us.clear();
            }
            self.places.iter_mut().for_each(|place| place.untold = false);
        }
    }

    /// What changed is written down.
    fn keep(&mut self) {
        for change in self.fork.take_changes() {
            let (Change::Occupant { room, .. }
            | Change::Gone { room, .. }
            | Change::Message { room, .. }
            | Change::Forgotten { room }) = &change;
            let n = ROOMS.iter().position(|name| *name == &**room).unwrap();
            let (occupants, said) = &mut self.rooms[n].kept;
            match change {
                Change::Occupant { nick, likeness, .. } => drop(occupants.insert(nick.into(), likeness)),
                Change::Gone { nick, .. } => drop(occupants.remove(&*nick)),
                Change::Message { mark, .. } => said.push(mark),
                Change::Forgotten { .. } => self.rooms[n].kept = Default::default(),
            }
        }
    }

    /// It starts again. Of what the rooms sent meanwhile, or shortly before, the first few stanzas are lost. Clients come
    /// back as `back` has a bit for each.
    fn start(&mut self, lost: usize, back: u8) {
        let Some(accounts) = self.dead.take() else { return };
        for at in 0..self.places.len() {
            self.there(at, |world| {
                let lost = lost.min(world.down.len());
                world.lose(lost);
                for n in (0..3).filter(|n| back & (1 << n) == 0) {
                    world.clients.remove(&format!("c{n}"));
                }
            });
        }
        for (account, memberships) in accounts.into_iter().enumerate() {
            for mut membership in memberships {
                let at = self.place_of(ACCOUNTS[account], &membership.room);
                self.there(at, |world| {
                    let before = membership.clients.len();
                    membership.clients.retain(|client| world.clients.contains_key(&client.resource));
                    let all_back = before == membership.clients.len();
                    let (occupants, said) = world.room_here().kept.clone();
                    membership.occupants = occupants.into_iter().collect();
                    membership.said = said;
                    let (online, now) = (world.online(), world.now);
                    let decisions = match world.us().filter(|_| world.outlives).cloned() {
                        Some(nick) => world.adopt(membership, &nick, all_back),
                        None => world.fork.restore(ACCOUNTS[account], membership, online, now),
                    };
                    world.perform(decisions, None, None);
                });
            }
        }
        // Who has not come back leaves.
        for at in 0..self.places.len() {
            let (account, room) = self.there(at, |world| (world.account_name(), world.room_name()));
            if self.outlives && self.fork.is_attended(account, room).is_none() {
                self.there(at, World::drop_us);
            }
        }
        for at in 0..self.places.len() {
            self.there(at, |world| {
                if let Some(autojoin) = world.autojoin {
                    world.bookmark(autojoin);
                }
            });
        }
    }

    /// The room, which has the account still, is not asked for anything: what it would tell is handed in.
    fn adopt(&mut self, membership: Restored, nick: &str, all_back: bool) -> Vec<Decision> {
        let (account, name, online, now) = (self.account_name(), self.room_name(), self.online(), self.now);
        let room = self.room_here();
        let told = |nick: &str, codes: &[u16], version| {
            presence_bytes(name, nick, Presence::Available, codes, version)
        };
        let occupants: Vec<(String, String)> =
            room.occupants.iter().map(|(nick, version)| (nick.clone(), told(nick, &[], *version))).collect();
        let history: Vec<String> = room
            .history
            .iter()
            .map(|k| talk_bytes(name, &k.nick, k.n, k.words, Some(k.at), k.gone, room.shape.archives))
            .collect();
        let version = room.occupants.get(nick).copied().unwrap_or_default();
        let (own, subject) = (told(nick, &[110], version), subject_bytes(name, false));
        let remembered = Remembered {
            nick,
            own: own.as_bytes(),
            shown: &payload(version),
            all_back,
            occupants: occupants.iter().map(|(nick, bytes)| (&**nick, bytes.as_bytes())).collect(),
            history: history.iter().map(String::as_bytes).collect(),
            subject: subject.as_bytes(),
        };
        self.fork.adopt(account, membership, &remembered, online, now)
    }

    /// What the room sends the account gets lost.
    fn lose(&mut self, lost: usize) {
        let place = &mut self.places[self.at];
        let said = place.down.drain(..lost).filter_map(|down| match down {
            Down::Talk { n, .. } => Some(n),
            _ => None,
        });
        place.said_away.extend(said);
    }

    /// The room has not the account any more, and the others are told.
    fn drop_us(&mut self) {
        let (account, version) = (self.account(), self.version + 1);
        if let Some(nick) = self.us().cloned() {
            self.version = version;
            let room = self.room();
            room.moved.insert(nick, version);
            let said = room.lose(account);
            self.tell(said);
        }
    }

    fn tell(&mut self, said: Vec<Said>) {
        let room = self.at % self.rooms.len();
        for (account, down) in said {
            let at = account * self.rooms.len() + room;
            if self.local && self.dead.is_none() {
                self.there(at, |world| world.receive(down));
            } else if !self.local {
                self.places[at].down.push_back(down);
            }
        }
    }

    /// Accounts that were not in missed a message.
    fn note_away(&mut self, n: u32) {
        let rooms = self.rooms.len();
        for account in 0..self.places.len() / rooms {
            if !self.room_here().us.contains_key(&account) {
                let at = account * rooms + self.at % rooms;
                self.places[at].said_away.insert(n);
            }
        }
    }

    /// Accounts want partly the same ones.
    fn nick(&self, n: u8) -> String {
        format!("nick{}", usize::from(n) + self.account())
    }

    fn pass(&mut self, seconds: u64) {
        self.places.iter_mut().for_each(|place| place.slow |= !place.down.is_empty() && seconds > 0);
        self.now += seconds;
        let decisions = self.fork.tick(self.now);
        self.perform(decisions, None, None);
    }

    fn flush(&mut self) {
        while self.places.iter().any(|place| !place.up.is_empty() || !place.down.is_empty()) {
            for at in 0..self.places.len() {
                self.there(at, |world| {
                    world.step(&Step::Up);
                    world.step(&Step::Down);
                });
            }
        }
    }

    fn flush_place(&mut self) {
        while !self.up.is_empty() || !self.down.is_empty() {
            self.step(&Step::Up);
            self.step(&Step::Down);
        }
    }

    /// A client is told of all that happens while it is in, whether there is room to keep it or not.
    fn check_what_it_saw(&self, resource: &str, client: &Client) {
        for (nick, version) in &self.room_here().occupants {
            let told = self.room_here().moved.get(nick).is_some_and(|n| *n > client.entered);
            match client.picture.get(nick) {
                // Who joined anew while the account did, too, is told only of those who are kept.
                Some(_) if !told => {}
                Some(seen) => assert_eq!(seen, version, "{resource} sees {nick}"),
                None => assert!(!told && *nick != client.nick, "{resource} does not see {nick}: {client:?}"),
            }
        }
        let said = self.room_here().history.iter().filter(|kept| kept.n > client.entered);
        for kept in said.filter(|kept| !self.said_away.contains(&kept.n)) {
            assert!(client.heard.contains(&kept.n), "{resource} missed {kept:?}: {client:?}");
        }
        let most = self.limits.server + 600 * self.places.len();
        let bytes = self.fork.totals().2;
        assert!(bytes <= most, "{bytes} bytes are kept of {}", self.limits.server);
    }

    fn check(&mut self) {
        self.start(0, u8::MAX);
        self.flush();
        self.step(&Step::CutOff(false));
        // Long enough for every time-out, and for a forgotten account to notice.
        for _ in 0..60 {
            self.pass(60);
            self.flush();
        }
        for at in 0..self.places.len() {
            self.places[at].bounced = false;
        }
        // Who was cut off while it left is thrown out when it is spoken to.
        for at in 0..self.rooms.len() {
            self.there(at, |world| world.step(&Step::OtherSays(Words::Own)));
        }
        self.flush();
        for at in 0..self.places.len() {
            if self.places[at].bounced {
                self.there(at, World::drop_us);
            }
        }
        self.flush();
        for at in 0..self.places.len() {
            self.there(at, |world| world.check_place());
        }
        self.check_totals();
    }

    /// What is counted is what is there, and what nobody needs is not kept.
    fn check_totals(&mut self) {
        let rooms = self.rooms.len();
        let accounts = self.places.len() / rooms;
        let is_in = |world: &World, account: &str, room: &str| world.fork.clients(account, room).is_some();
        let pairs = ACCOUNTS[..accounts].iter().flat_map(|account| ROOMS.map(|room| (account, room)));
        let memberships = pairs.filter(|(account, room)| is_in(self, account, room)).count();
        assert_eq!(self.fork.totals().1, memberships);
        for (n, room) in ROOMS[..rooms].iter().enumerate() {
            let used = ACCOUNTS[..accounts].iter().any(|account| is_in(self, account, room));
            assert_eq!(self.fork.has_room(room), used, "{room}");
            self.check_kept(n, used);
        }
        for account in &ACCOUNTS[..accounts] {
            self.fork.account_deleted(account);
        }
        assert_eq!(self.fork.totals(), (0, 0, 0), "nothing is kept of accounts that are gone");
    }

    /// What outlives the engine is what it has.
    fn check_kept(&mut self, room: usize, used: bool) {
        self.keep();
        let snapshot = self.fork.snapshot();
        let of_room = snapshot.into_iter().filter_map(|change| match change {
            Change::Occupant { room: name, nick, likeness } if *name == *ROOMS[room] => {
                Some((String::from(nick), likeness))
            }
            _ => None,
        });
        let occupants: BTreeMap<String, Likeness> = of_room.collect();
        assert!(used || occupants.is_empty());
        // What is kept of a room that no account is in any more since the server was killed is of no use to anybody.
        if used || !self.killed {
            assert_eq!(self.rooms[room].kept.0, occupants, "what is kept of {}", ROOMS[room]);
        }
    }

    fn check_place(&mut self) {
        let (account, room) = (self.account_name(), self.room_name());
        let (nick, inside) = self.fork.clients(account, room).unwrap_or_default();
        for (resource, client) in &self.clients {
            assert!(!client.waiting, "{resource} waits for ever: {client:?}");
            assert_eq!(client.inside, inside.contains(resource), "{resource}: {client:?}, {inside:?}");
            if client.inside {
                assert_eq!(Some(&nick), self.us());
                assert_eq!(client.nick, nick);
                if self.limits != Limits::default() {
                    self.check_what_it_saw(resource, client);
                    continue;
                }
                if self.behind {
                    continue;
                }
                assert_eq!(client.picture, self.room_here().occupants, "the picture of {resource}");
                assert!(!self.untold, "nobody is told that the room is new");
                // A room that changed while the server was down may not say what it is not any more.
                let is = if self.killed { &client.is & &self.room_here().is } else { client.is.clone() };
                assert_eq!(is, self.room_here().is, "what the room is, as {resource} was told");
                let heard = &client.heard;
                let weak = |n: u32| {
                    self.room_here()
                        .history
                        .iter()
                        .any(|k| k.n == n && k.words == Words::Same && !self.room_here().shape.archives)
                };
                // What was said twice within seconds, in the same words and without any id, is not told apart after a restart.
                let apart = |k: &Kept| {
                    let close = |o: &&Kept| o.n != k.n && weak(o.n) && o.at.abs_diff(k.at) <= 3;
                    !self.killed || !self.room_here().history.iter().any(|o| close(&o))
                };
                let said = self
                    .room_here()
                    .history
                    .iter()
                    .filter(|k| k.n > client.since && weak(k.n) && apart(k))
                    .count();
                let came = heard.iter().filter(|n| weak(**n)).count();
                assert!(came >= said, "{resource} heard {came} of {said} alarms: {heard:?}");
                for kept in &self.room_here().history {
                    let times = heard.iter().filter(|n| **n == kept.n).count();
                    // One is as good as the other.
                    let unsure = weak(kept.n);
                    assert!(
                        times > 0 || kept.n <= client.since || unsure,
                        "{resource} missed {kept:?}: {heard:?}"
                    );
                    // What cannot be known again for sure comes twice rather than never.
                    let unsure = unsure || self.slow;
                    assert!(times < 2 || unsure, "{resource} heard {kept:?} {times} times: {heard:?}");
                }
            }
        }
        if self.autojoin == Some(true) && !self.put_out && self.online() {
            assert!(self.us().is_some(), "the bookmark says autojoin, and the account is not in");
        }
        match self.offline {
            Offline::Leave if self.autojoin == Some(true) => {
                let us = self.fork.clients(account, room).map(|(nick, _)| nick);
                assert_eq!(self.us(), us.as_ref(), "the room and the account differ on whether it is there");
            }
            Offline::Leave if inside.is_empty() => {
                assert_eq!(self.us(), None, "nobody is in, and the room has the account");
            }
            _ => {
                let us = self.fork.clients(account, room).map(|(nick, _)| nick);
                assert_eq!(self.us(), us.as_ref(), "the room and the account differ on whether it is there");
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Join(u8, u8),
    Leave(u8),
    Rename(u8, u8),
    Gone(u8),
    Say(u8),
    Up,
    Down,
    Other(u8, u8),
    Steal(u8),
    OtherSays(Words),
    TakeBack(u8),
    Configure(u16),
    Kick(u16),
    Forget,
    Delete,
    CutOff(bool),
    Hiccup,
    Bookmark(bool),
    Pass(u64),
    Kill { reached: u8 },
    Start { lost: u8, back: u8 },
}

/// What is under way from several stays under several nicknames cannot be told apart if nothing says which is which.
fn marked() -> impl Strategy<Value = Shape> {
    shape().prop_map(|shape| Shape { unmarked: false, ..shape })
}

fn echoing() -> impl Strategy<Value = Shape> {
    marked().prop_map(|shape| Shape { ids: Ids::Echo, ..shape })
}

fn words() -> impl Strategy<Value = Words> {
    prop_oneof![
        2 => Just(Words::Own),
        1 => Just(Words::Same),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..3u8, 0..3u8).prop_map(|(c, n)| Step::Join(c, n)),
        2 => (0..3u8).prop_map(Step::Leave),
        2 => (0..3u8, 0..3u8).prop_map(|(c, n)| Step::Rename(c, n)),
        1 => (0..3u8).prop_map(Step::Gone),
        2 => (0..3u8).prop_map(Step::Say),
        6 => Just(Step::Up),
        6 => Just(Step::Down),
        3 => (0..3u8, 0..3u8).prop_map(|(n, v)| Step::Other(n, v)),
        1 => (0..3u8).prop_map(Step::Steal),
        2 => words().prop_map(Step::OtherSays),
        1 => (0..3u8).prop_map(Step::TakeBack),
        1 => (170..=173u16).prop_map(Step::Configure),
        1 => prop_oneof![Just(307u16), Just(301), Just(321), Just(332), Just(333)].prop_map(Step::Kick),
        1 => Just(Step::Forget),
        1 => any::<bool>().prop_map(Step::CutOff),
        1 => Just(Step::Hiccup),
        1 => any::<bool>().prop_map(Step::Bookmark),
        1 => (0..20u64).prop_map(Step::Pass),
    ]
}

/// Where each step happens, as a number of which the rest counts. The account's own steps are at its places, what a room does is
/// for all.
fn several(restarts: bool) -> impl Strategy<Value = Vec<(usize, Step)>> {
    let step = prop_oneof![30 => step(), 1 => Just(Step::Delete)];
    let restart = (any::<proptest::sample::Index>(), 0..6usize, 0..6u8, 0..6u8, any::<u8>());
    let steps = proptest::collection::vec((0..9usize, step), 0..120);
    let restarts = proptest::collection::vec(restart, if restarts { 1..3 } else { 0..1 });
    (steps, restarts).prop_map(|(mut steps, restarts)| {
        for (at, length, reached, lost, back) in restarts {
            let at = at.index(steps.len() + 1);
            steps.insert((at + length).min(steps.len()), (0, Step::Start { lost, back }));
            steps.insert(at, (0, Step::Kill { reached }));
        }
        steps
    })
}

fn run_several(world: &mut World, steps: &[(usize, Step)]) {
    for (at, step) in steps {
        world.there(at % world.places.len(), |world| world.step(step));
    }
    world.check();
}

fn shapes(shape: impl Strategy<Value = Shape>) -> impl Strategy<Value = Vec<Shape>> {
    proptest::collection::vec(shape, 1..4)
}

fn tiny() -> impl Strategy<Value = Limits> {
    (0..4000usize, 0..4000usize, 0..4000usize).prop_map(|(room, account, server)| Limits {
        room,
        account,
        server,
    })
}

/// Steps with one to three restarts among them, each a few steps long.
fn with_restarts() -> impl Strategy<Value = Vec<Step>> {
    let restart = (any::<proptest::sample::Index>(), 0..6usize, 0..6u8, 0..6u8, any::<u8>());
    let steps = proptest::collection::vec(step(), 0..60);
    (any::<bool>(), steps, proptest::collection::vec(restart, 1..4)).prop_map(
        |(bookmarked, mut steps, restarts)| {
            if bookmarked {
                // The account is in before any client is.
                steps.splice(0..0, [Step::Bookmark(true), Step::Up, Step::Down]);
            }
            for (at, length, reached, lost, back) in restarts {
                let at = at.index(steps.len() + 1);
                steps.insert((at + length).min(steps.len()), Step::Start { lost, back });
                steps.insert(at, Step::Kill { reached });
            }
            steps
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn pictures_are_the_rooms(steps in proptest::collection::vec(step(), 0..60), shape in marked()) {
        let mut world = World::new(false, Offline::Leave, shape);
        for step in &steps {
            world.step(step);
        }
        world.check();
    }

    #[test]
    fn pictures_are_the_rooms_across_restarts(
        steps in with_restarts(),
        shape in echoing(),
        offline in prop_oneof![Just(Offline::Stay), Just(Offline::Leave)],
    ) {
        let mut world = World::new(false, offline, shape);
        for step in &steps {
            world.step(step);
        }
        world.check();
    }

    #[test]
    fn pictures_are_the_rooms_across_restarts_of_both(steps in with_restarts(), shape in echoing()) {
        let mut world = World::new(true, Offline::Leave, shape);
        for step in &steps {
            world.step(step);
        }
        world.check();
    }

    #[test]
    fn pictures_are_the_rooms_that_outlive_the_server(steps in with_restarts(), shape in echoing()) {
        let mut world = World::new(true, Offline::Leave, shape);
        world.outlives = true;
        for step in &steps {
            world.step(step);
        }
        world.check();
    }

    #[test]
    fn pictures_are_the_rooms_if_it_answers_within_the_call(steps in proptest::collection::vec(step(), 0..60), shape in shape()) {
        let mut world = World::new(true, Offline::Leave, shape);
        for step in &steps {
            world.step(step);
        }
        world.check();
    }

    #[test]
    fn clients_see_what_happens_while_nothing_can_be_kept(
        steps in with_restarts(),
        restarts in any::<bool>(),
        local in any::<bool>(),
        shape in echoing(),
        limits in tiny(),
    ) {
        let mut world = World::tiny(local, Offline::Leave, shape, limits);
        let restart = |step: &&Step| matches!(step, Step::Kill { .. } | Step::Start { .. });
        for step in steps.iter().filter(|step| restarts || !restart(step)) {
            world.step(step);
        }
        world.check();
    }

}

proptest! {
    // Each is a case for all of them.
    #![proptest_config(ProptestConfig { cases: 300, max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn pictures_are_the_rooms_of_several_accounts(
        accounts in 2..4usize,
        steps in several(false),
        shapes in shapes(marked()),
        offline in prop_oneof![Just(Offline::Stay), Just(Offline::Leave)],
    ) {
        run_several(&mut World::of(accounts, false, offline, &shapes), &steps);
    }

    #[test]
    fn pictures_are_the_rooms_of_several_accounts_if_they_answer_within_the_call(
        accounts in 2..4usize,
        steps in several(false),
        shapes in shapes(shape()),
    ) {
        run_several(&mut World::of(accounts, true, Offline::Leave, &shapes), &steps);
    }

    #[test]
    fn pictures_are_the_rooms_of_several_accounts_across_restarts(
        accounts in 2..4usize,
        steps in several(true),
        shapes in shapes(echoing()),
        offline in prop_oneof![Just(Offline::Stay), Just(Offline::Leave)],
        local in any::<bool>(),
        outlives in any::<bool>(),
    ) {
        let offline = if local { Offline::Leave } else { offline };
        let mut world = World::of(accounts, local, offline, &shapes);
        world.outlives = local && outlives;
        run_several(&mut world, &steps);
    }

    #[test]
    fn several_accounts_keep_to_their_bounds(
        accounts in 2..4usize,
        steps in several(false),
        shapes in shapes(echoing()),
        limits in tiny(),
        local in any::<bool>(),
    ) {
        let mut world = World::of(accounts, local, Offline::Leave, &shapes);
        world.limits = limits;
        world.fork.limit(limits);
        run_several(&mut world, &steps);
    }
}
