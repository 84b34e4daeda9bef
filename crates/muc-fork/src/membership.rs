//! One account in one room.

use crate::fork::{KEPT_AWAY, KEPT_BYTES, RestoredClient, Waits};
use crate::history::{History, Request, Said};
use crate::memory::Weight;
use crate::view::Seen;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

/// How far a client is.
#[derive(Debug, PartialEq)]
pub enum Stage {
    /// It waits for the account to be let in.
    /// `was_in`: it had been let in before, and joined again while the account did.
    Waiting { id: Option<Box<str>>, request: Request, was_in: bool },
    /// It has been told that it is in the room. `held` is what it asked of the history that is still coming in.
    In { held: Option<Request> },
    /// It was the last one and waits for the room to confirm that the account left.
    Leaving { id: Option<Box<str>> },
}

#[derive(Debug)]
pub struct Client {
    pub resource: Box<str>,
    /// The nickname that it asked for, which need not be the account's.
    pub asked: Box<str>,
    /// Its last presence in this room: children and language, no address.
    pub presence: Arc<[u8]>,
    /// When it sent that, as a count.
    pub turn: u64,
    pub stage: Stage,
    /// So many of its last stanzas to the room were errors.
    pub errors: u32,
}

impl Client {
    /// As it is kept across a restart.
    pub fn kept(&self) -> RestoredClient {
        let id = |id: &Option<Box<str>>| id.as_deref().map(Into::into);
        RestoredClient {
            resource: self.resource.to_string(),
            asked: self.asked.to_string(),
            presence: self.presence.to_vec(),
            waits: match &self.stage {
                Stage::In { .. } => None,
                Stage::Waiting { id: join, request, was_in } => {
                    Some(Waits::ToBeIn { id: id(join), request: *request, was_in: *was_in })
                }
                Stage::Leaving { id: leave } => Some(Waits::ToBeOut { id: id(leave) }),
            },
        }
    }

    /// As it was kept; its presence is the `turn`th.
    pub fn restored(kept: RestoredClient, turn: u64) -> Client {
        let stage = match kept.waits {
            None => Stage::In { held: None },
            Some(Waits::ToBeIn { id, request, was_in }) => {
                Stage::Waiting { id: id.map(Into::into), request, was_in }
            }
            Some(Waits::ToBeOut { id }) => Stage::Leaving { id: id.map(Into::into) },
        };
        Client {
            resource: kept.resource.into(),
            asked: kept.asked.into(),
            presence: kept.presence.into(),
            turn,
            stage,
            errors: 0,
        }
    }

    pub fn is_in(&self) -> bool {
        matches!(self.stage, Stage::In { .. })
    }

    /// Has been told of the room's occupants.
    pub fn was_told(&self) -> bool {
        matches!(self.stage, Stage::In { .. } | Stage::Waiting { was_in: true, .. })
    }

    /// Wants to be in the room, whether it is told so already or not.
    pub fn stays(&self) -> bool {
        !matches!(self.stage, Stage::Leaving { .. })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The room was asked to let the account in.
    Joining,
    /// It has.
    Joined,
    /// The room was told that the account leaves, and has not confirmed.
    Leaving,
    /// It could not be joined; another try follows.
    Away,
}

/// A nickname that a client asked for.
#[derive(Debug)]
pub struct Rename {
    pub resource: Box<str>,
    pub id: Option<Box<str>>,
    pub nick: Box<str>,
    /// The room is asked for it when the account is in.
    pub waits: bool,
}

#[derive(Debug)]
pub struct Membership {
    pub phase: Phase,
    /// The account's nickname; while joining, the one that was asked for.
    pub nick: Box<str>,
    pub password: Option<Box<str>>,
    pub clients: Vec<Client>,
    pub seen: Seen,
    /// The last presence of the account itself, with 110, without `id`.
    pub own: Option<Arc<[u8]>>,
    /// Status codes that the room gave with the join and that hold for whoever joins later.
    pub entry: Vec<u16>,
    pub history: History,
    /// What the history takes, for the account.
    pub weight: Weight,
    pub subject: Option<Arc<Said>>,
    /// History and subject of the join have come.
    pub settled: bool,
    /// The account's join asked for no particular history.
    pub asked_default: bool,
    /// How many messages the room gave then.
    pub given: usize,
    /// How many messages came while no client was in.
    pub missed: usize,
    /// Its first join is not answered yet.
    pub never_in: bool,
    /// What the clients know, while the account joins again without telling them: by nickname, the likeness of the presence.
    pub known: Option<HashMap<Box<str>, u64>>,
    /// The account joined again without its clients' knowing: what the room repeats, they may have.
    pub rejoined: bool,
    /// What was said while the account joined again: it comes after what the room repeats from before.
    pub held: Vec<Arc<Said>>,
    /// Messages that came before a restart.
    pub said_before: HashSet<u64>,
    /// What the room was last told of the account.
    pub shown: Arc<[u8]>,
    /// Who last changed that, and the `id` of its stanza.
    pub changed_by: Option<(Box<str>, Box<str>)>,
    pub renames: Vec<Rename>,
    /// The nickname that the bookmark came to have while the account was joining.
    pub nick_wanted: Option<Box<str>>,
    /// The bookmark was published anew while the account was joining.
    pub bookmark_changed: bool,
    /// The last messages' ids and who sent them, for errors that come back.
    pub sent: VecDeque<(Box<str>, Box<str>)>,
    /// Leaves that the room has not confirmed, after which the account joined again.
    pub unconfirmed: u32,
    /// It has confirmed one while the account was joining again.
    pub started_over: bool,
    /// The `id` of the account's join, or leave.
    pub join_id: String,
    /// It left, and its clients have been told without the room's confirming it.
    pub lingering: bool,
    /// When anything last came from the room.
    pub heard: u64,
    /// The id of the account's own ping.
    pub ping: Option<String>,
    pub failures: u32,
    /// Since when the room does not answer, or says that it cannot.
    pub trouble: Option<u64>,
    /// No join is under way: the next one is sent when it is due.
    pub retry: bool,
    /// It is from before a restart, and nobody has heard of it since.
    pub restored: bool,
    /// There is a reason to look whether the account is still in.
    pub doubt: bool,
    /// When that was last answered.
    pub looked: u64,
    /// When to look at it next.
    pub due: u64,
    /// A client asked for it by iq: it is the account's own.
    pub pam: bool,
    /// Resource and request id of those who wait for that.
    pub pam_waiting: Vec<(Box<str>, Box<str>)>,
    /// Until when it is kept without a client, since clients come back after a restart.
    pub grace: u64,
}

impl Membership {
    pub fn new(nick: &str, password: Option<&str>, shown: Arc<[u8]>, now: u64) -> Membership {
        Membership {
            phase: Phase::Joining,
            nick: nick.into(),
            password: password.map(Into::into),
            clients: Vec::new(),
            seen: Seen::default(),
            own: None,
            entry: Vec::new(),
            history: History::new(),
            weight: Weight::default(),
            subject: None,
            settled: false,
            asked_default: true,
            given: 0,
            missed: 0,
            never_in: true,
            known: None,
            rejoined: false,
            held: Vec::new(),
            said_before: HashSet::new(),
            shown,
            changed_by: None,
            renames: Vec::new(),
            nick_wanted: None,
            bookmark_changed: false,
            sent: VecDeque::new(),
            unconfirmed: 0,
            started_over: false,
            join_id: String::new(),
            lingering: false,
            heard: now,
            ping: None,
            failures: 0,
            trouble: None,
            retry: false,
            restored: false,
            doubt: false,
            looked: 0,
            due: now,
            pam: false,
            pam_waiting: Vec::new(),
            grace: 0,
        }
    }

    pub fn client(&self, resource: &str) -> Option<&Client> {
        self.clients.iter().find(|c| &*c.resource == resource)
    }

    pub fn client_mut(&mut self, resource: &str) -> Option<&mut Client> {
        self.clients.iter_mut().find(|c| &*c.resource == resource)
    }

    pub fn is_in(&self, resource: &str) -> bool {
        self.client(resource).is_some_and(Client::is_in)
    }

    /// Whether a client is in the room or about to be.
    pub fn is_used(&self) -> bool {
        self.clients.iter().any(Client::stays)
    }

    /// Whether the account is on its way out, or not in for now.
    pub fn is_ending(&self) -> bool {
        matches!(self.phase, Phase::Leaving | Phase::Away)
    }

    /// The client whose presence the account shows: the one that spoke last.
    pub fn latest(&self) -> Option<&Client> {
        self.clients.iter().filter(|c| c.stays()).max_by_key(|c| c.turn)
    }

    /// Clients that wait are told of the occupants only when the account is in.
    pub fn is_quiet(&self) -> bool {
        self.known.is_some() || self.unconfirmed > 0 || self.started_over
    }

    /// Whether a client that waits for this join has been told of occupants already: it was in before, or the first join was
    /// cut short by a restart.
    pub fn knows_occupants(&self, client: &Client) -> bool {
        client.was_told() || (self.never_in && client.stays())
    }

    /// Keeps a message for those who join later, as far as there is room for it.
    pub fn keep(&mut self, said: Arc<Said>, most: usize, most_bytes: usize) {
        self.weight.add(said.stanza.len());
        self.history.push_back(said);
        while self.history.len() > most || self.weight.bytes() > most_bytes {
            self.forget_oldest();
        }
    }

    /// The oldest message is not kept any more. Says whether there was one.
    pub fn forget_oldest(&mut self) -> bool {
        let Some(old) = self.history.pop_front() else { return false };
        self.weight.take(old.stanza.len());
        true
    }

    /// Whether one more message of so many bytes can wait for the join to be complete.
    pub fn can_hold(&self, bytes: usize) -> bool {
        let held: usize = self.held.iter().map(|s| s.stanza.len()).sum();
        self.held.len() < KEPT_AWAY && held + bytes <= KEPT_BYTES
    }

    /// Whether a message came before.
    pub fn has_said(&self, key: u64) -> bool {
        self.said_before.contains(&key) || self.history.iter().chain(&self.held).any(|s| s.key == key)
    }

    pub fn note_sent(&mut self, id: &str, resource: &str) {
        const REMEMBERED: usize = 64;
        if self.sent.len() == REMEMBERED {
            self.sent.pop_front();
        }
        self.sent.push_back((id.into(), resource.into()));
    }
}
