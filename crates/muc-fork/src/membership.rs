//! One account in one room: what is so in every phase, and beside it, in the variants of [`Phase`], what is so in one.

pub mod client;
pub mod codes;
pub mod discussion;
pub mod joined;
pub mod joining;
pub mod leaving;
pub mod passwords;
pub mod repeats;

use crate::chat::Chat;
use crate::history::HistoryMessage;
use crate::view::{Likeness, Seen};
use client::{Client, Stage};
use codes::Codes;
use discussion::Discussion;
use joined::Joined;
use joining::{Joining, Maybe};
use leaving::Leaving;
use passwords::Passwords;
use repeats::Repeats;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// How many of the account's messages are remembered, for errors that come back.
const SENT: usize = 64;

#[derive(Debug)]
pub enum Phase {
    /// The room was asked to let the account in.
    Joining(Joining),
    /// It has.
    Joined(Joined),
    /// The room was told that the account leaves, and has not confirmed.
    Leaving(Leaving),
    /// It could not be joined; another try follows.
    Away,
}

#[derive(Debug)]
pub struct Membership {
    pub phase: Phase,
    /// The account's nickname; while joining, the one that was asked for.
    pub nick: Box<str>,
    pub passwords: Passwords,
    pub clients: Vec<Client>,
    /// What it was told of the others.
    pub seen: Seen,
    /// The last presence of the account itself, with 110, without `id`. None between two nicknames.
    pub own: Option<Arc<[u8]>>,
    pub codes: Codes,
    /// It is shown real JIDs, as far as the room has said.
    pub sees_jids: bool,
    /// It does so since it was told of the others.
    pub lacks_jids: bool,
    pub discussion: Discussion,
    pub repeats: Repeats,
    pub comparison: Comparison,
    pub shown: Shown,
    pub nicknames: Nicknames,
    /// The last messages' ids and who sent them, for errors that come back.
    pub sent: VecDeque<(Box<str>, Box<str>)>,
    /// Leaves that the room has not confirmed, after which the account joined again.
    pub unconfirmed: u32,
    /// The room answered a join under another `id`.
    pub other_ids: bool,
    /// Its first join is not answered yet.
    pub never_in: bool,
    /// It is from before a restart, and nobody has heard of it since.
    pub restored: bool,
    pub contact: Contact,
    pub pam: Pam,
    /// When to look at it next. In the heap as well.
    pub due: u64,
    /// Until when it is kept without a client, since clients come back after a restart.
    pub grace: u64,
}

/// What clients know while the account joins again without telling them.
#[derive(Debug, Default)]
pub struct Comparison {
    /// By nickname, the likeness of the presence.
    pub known: Option<HashMap<Box<str>, Likeness>>,
    /// Who is told who is gone when the account has joined again.
    pub clients: Vec<Box<str>>,
}

/// What the room was last told of the account.
#[derive(Debug)]
pub struct Shown {
    /// Without address.
    pub presence: Arc<[u8]>,
    /// The `id` of the stanza that changed it, and which client that is of.
    pub changed_by: Option<(Box<str>, Box<str>)>,
}

/// Nicknames that are wanted beside the account's.
#[derive(Debug, Default)]
pub struct Nicknames {
    /// By clients.
    pub renames: Vec<Rename>,
    /// By the bookmark, which came to have it while the account was joining.
    pub bookmarked: Option<Box<str>>,
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

/// Whether the room can be reached.
#[derive(Debug)]
pub struct Contact {
    /// When anything last came from it.
    pub heard: u64,
    /// When it last told whether the account is in.
    pub looked: u64,
    /// How often in a row it did not answer, or could not be joined.
    pub failures: u32,
    /// Since when it does not answer, or says that it cannot.
    pub trouble: Option<u64>,
}

/// Joins that clients asked for by iq (MUC2-PAM).
#[derive(Debug, Default)]
pub struct Pam {
    /// One did: the membership is the account's own.
    pub asked: bool,
    /// Resource and request id of those who wait for that.
    pub waiting: Vec<(Box<str>, Box<str>)>,
}

impl Membership {
    /// Of an account that has not asked the room yet.
    pub fn new(nick: &str, password: Option<&str>, shown: Arc<[u8]>, now: u64) -> Membership {
        let mut passwords = Passwords::default();
        passwords.prefer(password);
        Membership {
            phase: Phase::Joining(Joining::default()),
            nick: nick.into(),
            passwords,
            clients: Vec::new(),
            seen: Seen::default(),
            own: None,
            codes: Codes::default(),
            sees_jids: false,
            lacks_jids: false,
            discussion: Discussion::default(),
            repeats: Repeats::default(),
            comparison: Comparison::default(),
            shown: Shown { presence: shown, changed_by: None },
            nicknames: Nicknames::default(),
            sent: VecDeque::new(),
            unconfirmed: 0,
            other_ids: false,
            never_in: true,
            restored: false,
            contact: Contact { heard: now, looked: 0, failures: 0, trouble: None },
            pam: Pam::default(),
            due: now,
            grace: 0,
        }
    }

    pub fn is_joining(&self) -> bool {
        matches!(self.phase, Phase::Joining(_))
    }

    pub fn is_joined(&self) -> bool {
        matches!(self.phase, Phase::Joined(_))
    }

    pub fn is_leaving(&self) -> bool {
        matches!(self.phase, Phase::Leaving(_))
    }

    pub fn is_away(&self) -> bool {
        matches!(self.phase, Phase::Away)
    }

    pub fn joining_mut(&mut self) -> Option<&mut Joining> {
        match &mut self.phase {
            Phase::Joining(joining) => Some(joining),
            _ => None,
        }
    }

    pub fn joined_mut(&mut self) -> Option<&mut Joined> {
        match &mut self.phase {
            Phase::Joined(joined) => Some(joined),
            _ => None,
        }
    }

    pub fn client(&self, resource: &str) -> Option<&Client> {
        self.clients.iter().find(|c| &*c.resource == resource)
    }

    pub fn client_mut(&mut self, resource: &str) -> Option<&mut Client> {
        self.clients.iter_mut().find(|c| &*c.resource == resource)
    }

    /// Whether a client is in the room or about to be.
    pub fn is_used(&self) -> bool {
        self.clients.iter().any(Client::stays)
    }

    /// Whether the account is on its way out, or not in for now.
    pub fn is_ending(&self) -> bool {
        matches!(self.phase, Phase::Leaving(_) | Phase::Away)
    }

    /// The client whose presence the account shows: the one that spoke last.
    pub fn latest(&self) -> Option<&Client> {
        self.clients.iter().filter(|c| c.stays()).max_by_key(|c| c.turn)
    }

    /// Clients that wait are told of the occupants only when the account is in.
    pub fn is_quiet(&self) -> bool {
        let Phase::Joining(joining) = &self.phase else { return false };
        self.comparison.known.is_some() || self.unconfirmed > 0 || joining.started_over
    }

    /// Whether a client that waits for this join has been told of occupants already: it was in before, or the first join was
    /// cut short by a restart.
    pub fn knows_occupants(&self, client: &Client) -> bool {
        client.was_told() || (self.never_in && client.stays())
    }

    /// Status codes for a client that is told of the account's own presence.
    pub fn codes_for(&self, client: &Client, news: &[u16]) -> Vec<u16> {
        let mut codes = vec![110];
        codes.extend(self.codes.entry.iter().chain(news));
        if client.asked != self.nick {
            codes.push(210);
        }
        codes
    }

    /// Whether the subject that came need not be the last of what the room sends to who joins: no history has come, and
    /// some client asked for a part of it.
    pub fn expects_history(&self) -> bool {
        let partial = |c: &Client| matches!(c.stage, Stage::In { held: Some(request) } if !request.is_default() && !request.wants_none());
        self.discussion.history.is_empty() && self.clients.iter().any(partial)
    }

    pub fn note_sent(&mut self, id: &str, resource: &str) {
        if self.sent.len() == SENT {
            self.sent.pop_front();
        }
        self.sent.push_back((id.into(), resource.into()));
    }

    /// Whether the room has said, to the join that is under way, which presence is the account's own (status 110, which XEP-0045
    /// §7.2.2 asks for and some rooms do not give): then one without it is of somebody who has the nickname that the account
    /// asks for.
    pub fn room_marks_own(&self) -> bool {
        let Phase::Joining(joining) = &self.phase else { return false };
        matches!(joining.maybe, Some(Maybe::In { marked: true, .. }))
    }

    /// Whether a client has been told that it is in.
    pub fn is_in(&self, resource: &str) -> bool {
        self.client(resource).is_some_and(Client::is_in)
    }

    /// Whether any has.
    pub fn is_attended(&self) -> bool {
        self.clients.iter().any(Client::is_in)
    }

    /// The room tells of a change of what it is (XEP-0045 §10.2.1). Whether that was another before.
    pub fn note_change(&mut self, chat: &Chat) -> bool {
        if chat.codes.is_empty() {
            return false;
        }
        let before = self.codes.entry.clone();
        codes::change(&mut self.codes.entry, &chat.codes);
        if let Phase::Joining(Joining { maybe: Some(Maybe::In { codes, .. }), .. }) = &mut self.phase {
            codes::change(codes, &chat.codes);
        }
        before != self.codes.entry
    }

    /// What the room said before a join holds no more.
    pub fn forget_discussion(&mut self) {
        self.discussion.clear();
        self.repeats.clear();
    }

    /// The account will join again: what the room repeats then was there before.
    pub fn expect_repeats(&mut self) {
        self.repeats.expect(&self.discussion);
    }

    /// Keeps a message until what was said before it has come. Not if there are too many.
    pub fn hold(&mut self, said: &Arc<HistoryMessage>) -> bool {
        let fits = self.discussion.can_hold(said.stanza.len());
        if fits {
            self.repeats.note_held(said.mark, said.stamped);
            self.discussion.held.push(said.clone());
        }
        fits
    }
}
