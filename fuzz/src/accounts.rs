//! What clients, rooms and time may do to accounts in rooms, in any order and with any answers: each copy goes to a client
//! that is there, and what is kept can be taken up again.

use crate::operations;
use arbitrary::Arbitrary;
use enjamb_muc_fork::chat;
use enjamb_muc_fork::decision::{Decision, Id};
use enjamb_muc_fork::input::{Asks, FromClient, FromRoom, Iq, Join, Message, MucUser, Presence};
use enjamb_muc_fork::{Accounts, Config, Offline, Request};
use std::sync::atomic::{AtomicU64, Ordering};

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Three {
    First,
    Second,
    Third,
}

/// One of those that were given out last, or one that nobody knows.
type GivenId = Option<u8>;

#[derive(Arbitrary, Clone, Copy, Debug)]
struct Client {
    account: bool,
    resource: u8,
    room: bool,
    nick: Option<u8>,
    id: GivenId,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
struct Room {
    account: bool,
    room: bool,
    nick: Option<u8>,
    id: GivenId,
}

#[derive(Arbitrary, Debug)]
enum Operation {
    PresenceFromClient {
        from: Client,
        kind: Three,
        join: Option<(Option<u8>, bool)>,
        payload: u8,
    },
    MessageFromClient(Client, Three),
    ProbeFromClient(Client),
    IqFromClient(Client, Three, bool),
    ClientGone {
        account: bool,
        resource: u8,
        online: bool,
        told: bool,
    },
    PresenceFromRoom {
        from: Room,
        kind: Three,
        codes: Vec<u8>,
        new_nick: Option<u8>,
        condition: Option<u8>,
        destroyed: bool,
    },
    /// The room lets the account in, as it asked last.
    LetIn(bool, bool),
    Groupchat {
        from: Room,
        talk: Three,
        body: u8,
        stamp: Option<u8>,
    },
    MessageFromRoom(Room, Three, Option<u8>),
    IqFromRoom {
        from: Room,
        kind: Three,
        ping: bool,
        for_account: bool,
        condition: Option<u8>,
    },
    Online(bool),
    Bookmark {
        account: bool,
        room: bool,
        autojoin: Option<bool>,
        nick: Option<u8>,
        online: bool,
    },
    PamJoin(Client),
    ServerLost,
    Later(u8),
    MuchLater,
    AccountDeleted(bool),
    Restart,
}

const ACCOUNTS: [&str; 2] = ["a@one.example", "b@one.example"];
const ROOMS: [&str; 2] = ["r@rooms.example", "s@rooms.example"];
const RESOURCES: [&str; 3] = ["x", "y", "it's"];
const NICKS: [&str; 4] = ["me", "you", "a'b", "\u{fc}"];
const CODES: [u16; 8] = [110, 210, 303, 307, 301, 201, 332, 333];
const CONDITIONS: [&str; 5] =
    ["conflict", "not-acceptable", "item-not-found", "service-unavailable", "remote-server-timeout"];
const PAYLOADS: [&[u8]; 3] =
    [b"<presence/>", b"<presence><show>away</show></presence>", b"<presence>text</presence>"];

fn pick<T: Copy>(all: &[T], n: u8) -> T {
    all[usize::from(n) % all.len()]
}

fn random() -> u128 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    u128::from(NEXT.fetch_add(1, Ordering::Relaxed))
}

fn presence(kind: Three) -> Presence {
    match kind {
        Three::First => Presence::Available,
        Three::Second => Presence::Unavailable,
        Three::Third => Presence::Error,
    }
}

fn message(kind: Three) -> Message {
    match kind {
        Three::First => Message::Groupchat,
        Three::Second => Message::Other,
        Three::Third => Message::Error,
    }
}

fn iq(kind: Three) -> Iq {
    match kind {
        Three::First => Iq::Request,
        Three::Second => Iq::Result,
        Three::Third => Iq::Error,
    }
}

fn new_engine() -> Accounts {
    let mut engine = Accounts::new(random);
    let config = Config { offline: Offline::Bookmarked, max_rooms: 2, join_timeout: 60, silence: 900 };
    engine.configure("one.example", config);
    engine
}

struct World {
    engine: Accounts,
    now: u64,
    /// Ids that went out, the newest last.
    ids: Vec<String>,
}

impl World {
    fn id(&self, id: GivenId) -> Option<&str> {
        let back = usize::from(id?);
        Some(self.ids.iter().rev().nth(back).map_or("unknown", |id| id))
    }

    fn client(&self, c: Client) -> FromClient<'_> {
        FromClient {
            account: ACCOUNTS[usize::from(c.account)],
            resource: pick(&RESOURCES, c.resource),
            room: ROOMS[usize::from(c.room)],
            nick: c.nick.map(|n| pick(&NICKS, n)),
            id: self.id(c.id),
        }
    }

    fn room(&self, r: Room) -> FromRoom<'_> {
        FromRoom {
            account: ACCOUNTS[usize::from(r.account)],
            room: ROOMS[usize::from(r.room)],
            nick: r.nick.map(|n| pick(&NICKS, n)),
            id: self.id(r.id),
        }
    }

    fn check(&mut self, decisions: Vec<Decision>) {
        for decision in decisions {
            match decision {
                Decision::Forward { resource, edit } => {
                    assert!(RESOURCES.contains(&&*resource));
                    if let Id::Set(id) = edit.id {
                        self.ids.push(id);
                    }
                }
                Decision::Serve { account, resource, stanza, .. } => {
                    assert!(ACCOUNTS.contains(&&*account) && RESOURCES.contains(&&*resource));
                    assert!(stanza.starts_with(b"<"));
                }
                Decision::ToRoom { to, id } => {
                    assert!(ROOMS.iter().any(|room| to.starts_with(room)), "{to}");
                    if let Id::Set(id) = id {
                        self.ids.push(id);
                    }
                }
                Decision::Send { stanza } => {
                    let text = String::from_utf8_lossy(&stanza);
                    let id = text.split_once(" id='").and_then(|(_, rest)| rest.split_once('\''));
                    self.ids.extend(id.map(|(id, _)| id.to_owned()));
                }
                Decision::Joined { resource, room, .. } => {
                    assert!(RESOURCES.contains(&&*resource) && ROOMS.contains(&&*room));
                }
                Decision::Persist { account } | Decision::PersistSoon { account } => {
                    assert!(ACCOUNTS.contains(&&*account));
                }
                Decision::Refuse { .. } | Decision::Answer | Decision::Store | Decision::WakeDevices => {}
            }
        }
    }

    fn act(&mut self, operation: &Operation) {
        let now = self.now;
        // What the engine borrows from here it does not keep.
        let mut engine = std::mem::replace(&mut self.engine, Accounts::new(random));
        let decisions = match operation {
            Operation::PresenceFromClient { from, kind, join, payload } => {
                let join = join.map(|(maxstanzas, password)| Join {
                    password: password.then_some("it's"),
                    history: Request { maxstanzas: maxstanzas.map(usize::from), ..Request::default() },
                });
                let payload = pick(&PAYLOADS, *payload);
                engine.presence_from_client(self.client(*from), presence(*kind), join, payload, now)
            }
            Operation::MessageFromClient(from, kind) => {
                engine.message_from_client(self.client(*from), message(*kind), None, now)
            }
            Operation::ProbeFromClient(from) => engine.probe_from_client(self.client(*from), now),
            Operation::IqFromClient(from, kind, ping) => {
                engine.iq_from_client(self.client(*from), iq(*kind), *ping, Asks::default(), now)
            }
            Operation::ClientGone { account, resource, online, told } => Some(engine.client_gone(
                ACCOUNTS[usize::from(*account)],
                pick(&RESOURCES, *resource),
                *online,
                *told,
                None,
                now,
            )),
            Operation::PresenceFromRoom { from, kind, codes, new_nick, condition, destroyed } => {
                let codes: Vec<u16> = codes.iter().map(|n| pick(&CODES, *n)).collect();
                let said = MucUser {
                    codes: &codes,
                    new_nick: new_nick.map(|n| pick(&NICKS, n)),
                    condition: condition.map(|n| pick(&CONDITIONS, n)),
                    destroyed: *destroyed,
                    wait: codes.len() % 2 == 1,
                };
                let from = self.room(*from);
                let nick = from.nick.unwrap_or_default().replace('\'', "&apos;");
                let bytes = format!("<presence from='{}/{nick}'/>", from.room);
                engine.presence_from_room(from, presence(*kind), said, bytes.as_bytes(), now)
            }
            Operation::LetIn(account, room) => {
                let (account, room) = (ACCOUNTS[usize::from(*account)], ROOMS[usize::from(*room)]);
                let nick = engine.clients(account, room).map(|(nick, _)| nick).unwrap_or_default();
                let from = FromRoom { account, room, nick: Some(&nick), id: self.ids.last().map(|id| &**id) };
                let said = MucUser { codes: &[110], ..MucUser::default() };
                let bytes = format!("<presence from='{room}/{}'/>", nick.replace('\'', "&apos;"));
                let mut decisions =
                    engine.presence_from_room(from, Presence::Available, said, bytes.as_bytes(), now);
                let from = FromRoom { nick: None, id: None, ..from };
                let subject =
                    engine.groupchat(from, &chat::read(b"<message><subject/></message>", room), now, |_| {});
                if let Some(decisions) = &mut decisions {
                    decisions.extend(subject.unwrap_or_default());
                }
                decisions
            }
            Operation::Groupchat { from, talk, body, stamp } => {
                let from = self.room(*from);
                let inside = match talk {
                    Three::First => format!("<body>{body}</body>"),
                    Three::Second => format!("<subject>{body}</subject>"),
                    Three::Third => String::new(),
                };
                let delay = stamp.map(|ago| {
                    let (room, second) = (from.room, ago % 60);
                    format!(
                        "<delay xmlns='urn:xmpp:delay' from='{room}' stamp='2026-01-02T03:04:{second:02}Z'/>"
                    )
                });
                let delay = delay.unwrap_or_default();
                let bytes =
                    format!("<message from='{}' type='groupchat'>{inside}{delay}</message>", from.room);
                let there: Vec<String> =
                    engine.resources(from.account, from.room).map(str::to_owned).collect();
                let mut copies = Vec::new();
                let to = |resource: &str| copies.push(resource.to_owned());
                let decisions = engine.groupchat(from, &chat::read(bytes.as_bytes(), from.room), now, to);
                let mut rest = there.iter();
                assert!(
                    copies.iter().all(|copy| rest.any(|resource| resource == copy)),
                    "{copies:?} of {there:?}"
                );
                decisions
            }
            Operation::MessageFromRoom(from, kind, condition) => {
                let condition = condition.map(|n| pick(&CONDITIONS, n));
                engine.message_from_room(self.room(*from), message(*kind), condition, now)
            }
            Operation::IqFromRoom { from, kind, ping, for_account, condition } => {
                let condition = condition.map(|n| pick(&CONDITIONS, n));
                engine.iq_from_room(
                    self.room(*from),
                    iq(*kind),
                    *ping,
                    *for_account,
                    condition,
                    Asks::default(),
                    now,
                )
            }
            Operation::Online(account) => Some(engine.online(ACCOUNTS[usize::from(*account)], now)),
            Operation::Bookmark { account, room, autojoin, nick, online } => {
                let nick = nick.map(|n| pick(&NICKS, n));
                let (account, room) = (ACCOUNTS[usize::from(*account)], ROOMS[usize::from(*room)]);
                Some(engine.bookmark(account, room, *autojoin, nick, None, *online, now))
            }
            Operation::PamJoin(from) => Some(engine.pam_join(self.client(*from), "me", now)),
            Operation::ServerLost => {
                engine.server_lost("rooms.example", now);
                None
            }
            Operation::Later(seconds) => {
                self.now += u64::from(*seconds);
                Some(engine.tick(self.now))
            }
            Operation::MuchLater => {
                self.now = engine.next_due().unwrap_or(now).max(now);
                Some(engine.tick(self.now))
            }
            Operation::AccountDeleted(account) => {
                Some(engine.account_deleted(ACCOUNTS[usize::from(*account)]))
            }
            Operation::Restart => {
                let mut next = new_engine();
                let mut decisions = Vec::new();
                for account in ACCOUNTS {
                    for kept in engine.memberships(account) {
                        decisions.extend(next.restore(account, kept, true, now));
                    }
                }
                engine = next;
                Some(decisions)
            }
        };
        engine.take_changes();
        self.engine = engine;
        self.check(decisions.unwrap_or_default());
    }
}

/// See the module.
pub fn run(data: &[u8]) {
    let mut world = World { engine: new_engine(), now: 1_800_000_000, ids: Vec::new() };
    for operation in operations::<Operation>(data) {
        world.act(&operation);
    }
    world.act(&Operation::Restart);
    for account in ACCOUNTS {
        world.engine.account_deleted(account);
    }
    let (_, memberships, _) = world.engine.totals();
    assert_eq!(memberships, 0);
}
