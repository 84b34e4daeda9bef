//! One account in one room.

use crate::chat::Chat;
use crate::history::{History, HistoryMessage, Mark, Request};
use crate::memory::Weight;
use crate::restored::{RestoredClient, Waits};
use crate::view::{Likeness, Seen};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// How many messages are kept, while a client is in and while none is.
pub(crate) const HISTORY: usize = 100;
pub(crate) const HISTORY_AWAY: usize = 500;
pub(crate) const HISTORY_BYTES: usize = 2 << 20;
/// A join without subject is taken for complete after this long.
pub(crate) const SETTLE_TIMEOUT: u64 = 5;
/// So long nothing comes after what may have been the end of it.
pub(crate) const SOON: u64 = 1;
/// For so many seconds after it joined again, the account takes what the room repeats for what its clients may have.
pub(crate) const REPEATING: u64 = 60;
/// Status codes that were for the client whose join created the room, or was given another nickname; and those of a room that may be
/// another by now: [`ENTRY`].
pub(crate) const PERSONAL: &[u16] = &[201, 210, 100, 170];
/// Status codes of a join that hold for later ones.
pub(crate) const ENTRY: &[u16] = &[100, 170];
/// How many status codes are remembered.
pub(crate) const MOST_CODES: usize = 32;

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
    /// It has been told the subject since it joined.
    pub has_subject: bool,
    /// What it may get of a history that comes after its time, if it did not ask for all.
    pub late: Option<Request>,
    /// So many of its last stanzas to the room were errors.
    pub errors: u32,
}

/// What may be the answer to the account's join, though it has not the join's `id` (which XEP-0045 does not ask for).
#[derive(Debug)]
pub enum Maybe {
    /// The account is in.
    In { nick: Box<str>, codes: Vec<u16>, marked: bool, presence: Arc<[u8]> },
    /// The room says no.
    Refused { transient: bool, presence: Arc<[u8]> },
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
            has_subject: stage == Stage::In { held: None },
            stage,
            late: None,
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
    /// Status codes that say what the room is: they hold for whoever joins later.
    pub entry: Vec<u16>,
    /// Others that the room gave with the join, until a client has been told.
    pub untold: Vec<u16>,
    pub history: History,
    /// What the history takes, for the account.
    pub weight: Weight,
    pub subject: Option<Arc<HistoryMessage>>,
    /// History and subject of the join have come.
    pub settled: bool,
    /// A subject came where it need not be the end of the history: that is over when nothing more comes.
    pub ending: bool,
    /// What came before the account was in, and is not known to have been told.
    pub early: Vec<Mark>,
    /// Until when there may be more of the history, in rooms that send it in another order.
    pub late_until: u64,
    /// Who is told who is gone when the account has joined again.
    pub comparing: Vec<Box<str>>,
    /// The room answered a join under another `id`.
    pub other_ids: bool,
    /// What may be the answer to the join.
    pub maybe: Option<Maybe>,
    /// Until when the account waits for the answer to its join.
    pub until: u64,
    /// Until when that may still come, though something else was taken for it.
    pub guessed: u64,
    /// The account's join asked for no particular history.
    pub asked_default: bool,
    /// How many messages the room gave then.
    pub given: usize,
    /// How many messages came while no client was in.
    pub missed: usize,
    /// Its first join is not answered yet.
    pub never_in: bool,
    /// What the clients know, while the account joins again without telling them: by nickname, the likeness of the presence.
    pub known: Option<HashMap<Box<str>, Likeness>>,
    /// The account joined again without its clients' knowing: what the room repeats, they may have.
    pub rejoined: bool,
    /// What was said while the account joined again: it comes after what the room repeats from before.
    pub held: Vec<Arc<HistoryMessage>>,
    /// Messages that came before a restart, or before the account joined again: each may be repeated once, until then.
    pub repeats: Vec<Mark>,
    /// Those that were, before the account was known to be in: another join's history may bring them again.
    pub repeated: Vec<Mark>,
    /// The same of what is `held`, and was.
    pub held_marks: Vec<Mark>,
    pub repeats_until: u64,
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
            untold: Vec::new(),
            history: History::new(),
            weight: Weight::default(),
            subject: None,
            settled: false,
            ending: false,
            early: Vec::new(),
            late_until: 0,
            comparing: Vec::new(),
            other_ids: false,
            maybe: None,
            until: 0,
            guessed: 0,
            asked_default: true,
            given: 0,
            missed: 0,
            never_in: true,
            known: None,
            rejoined: false,
            held: Vec::new(),
            repeats: Vec::new(),
            repeated: Vec::new(),
            held_marks: Vec::new(),
            repeats_until: u64::MAX,
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
        self.phase == Phase::Joining && (self.known.is_some() || self.unconfirmed > 0 || self.started_over)
    }

    /// Whether a client that waits for this join has been told of occupants already: it was in before, or the first join was
    /// cut short by a restart.
    pub fn knows_occupants(&self, client: &Client) -> bool {
        client.was_told() || (self.never_in && client.stays())
    }

    /// What an own presence of the account's tells beside the presence.
    pub fn note_codes(&mut self, codes: &[u16]) {
        self.note_news(codes);
        for code in codes.iter().filter(|code| ENTRY.contains(code)) {
            if !self.entry.contains(code) {
                self.entry.push(*code);
            }
        }
        self.entry.sort_unstable();
    }

    /// What of it is not about what the room is. Whether there is any that was not told before.
    pub fn note_news(&mut self, codes: &[u16]) -> bool {
        let before = self.untold.len();
        for code in codes {
            let passing = matches!(code, 110 | 210 | 303) || ENTRY.contains(code); // 110...: of that presence alone
            if !passing && !self.untold.contains(code) && self.untold.len() < MOST_CODES {
                self.untold.push(*code);
            }
        }
        self.untold.len() > before
    }

    /// The room tells of a change of what it is (XEP-0045 §10.2.1). Whether that was another before.
    pub fn note_change(&mut self, codes: &[u16]) -> bool {
        let before = self.entry.clone();
        let change = |entry: &mut Vec<u16>| {
            for code in codes {
                match code {
                    170 if !entry.contains(&170) => entry.push(170),
                    172 if !entry.contains(&100) => entry.push(100),
                    171 => entry.retain(|code| *code != 170),
                    173 | 174 => entry.retain(|code| *code != 100),
                    _ => {}
                }
            }
            entry.sort_unstable();
        };
        change(&mut self.entry);
        if let Some(Maybe::In { codes, .. }) = &mut self.maybe {
            change(codes);
        }
        before != self.entry
    }

    /// Status codes for a client that is told of the account's own presence.
    pub fn codes_for(&self, client: &Client, news: &[u16]) -> Vec<u16> {
        let mut codes = vec![110];
        codes.extend(self.entry.iter().chain(news));
        if client.asked != self.nick {
            codes.push(210);
        }
        codes
    }

    /// Whether the subject that came need not be the last of what the room sends to who joins: no history has come, and
    /// some client asked for a part of it.
    pub fn expects_history(&self) -> bool {
        let partial = |c: &Client| matches!(c.stage, Stage::In { held: Some(request) } if !request.is_default() && !request.wants_none());
        self.history.is_empty() && self.clients.iter().any(partial)
    }

    /// What the room said before a join holds no more.
    pub fn forget_history(&mut self) {
        self.history.clear();
        self.weight.set(0);
        self.held.clear();
        self.repeats.clear();
        self.repeated.clear();
        self.held_marks.clear();
        self.early.clear();
        self.subject = None;
        self.ending = false;
        self.given = 0;
    }

    /// Keeps a message for those who join later, as far as there is room for it. What the room repeats goes where it belongs.
    pub fn keep(&mut self, said: Arc<HistoryMessage>, most: usize, most_bytes: usize) {
        self.weight.add(said.stanza.len());
        let later = |had: &&Arc<HistoryMessage>| said.stamped && had.mark.at > said.mark.at;
        let at = self.history.len() - self.history.iter().rev().take_while(later).count();
        self.history.insert(at, said);
        while (self.history.len() > most || self.weight.bytes() > most_bytes) && self.forget_oldest() {}
    }

    /// The oldest message is not kept any more. Says whether there was one.
    pub fn forget_oldest(&mut self) -> bool {
        let Some(old) = self.history.pop_front() else { return false };
        self.weight.take(old.stanza.len());
        true
    }

    /// The account will join again: what the room repeats then was there before.
    pub fn expect_repeats(&mut self) {
        self.repeat_again();
        self.held_marks.retain(|mark| self.held.iter().any(|said| said.mark == *mark));
        self.repeats.retain(|mark| !self.history.iter().any(|said| said.mark == *mark));
        let before = std::mem::take(&mut self.repeats);
        self.repeats = self.history.iter().map(|said| said.mark).chain(before).collect();
        self.repeats.truncate(2 * HISTORY_AWAY);
        self.repeats_until = u64::MAX;
        self.rejoined = true;
    }

    /// What was before is repeated now, once.
    pub fn is_repeated(&mut self, before: Mark, mark: Mark) {
        let list = if self.repeats.contains(&before) { &mut self.repeats } else { &mut self.held_marks };
        if let Some(i) = list.iter().position(|mark| *mark == before) {
            list.remove(i);
        }
        if self.phase == Phase::Joining {
            self.repeated.push(mark);
        }
    }

    /// A message came that nobody has been told yet.
    pub fn note_early(&mut self, mark: Mark) {
        if self.early.len() < HISTORY_AWAY {
            self.early.push(mark);
        }
    }

    /// The history of a join begins.
    pub fn repeat_again(&mut self) {
        self.repeats.append(&mut self.repeated);
    }

    /// Whether one more message of so many bytes can wait for the join to be complete.
    pub fn can_hold(&self, bytes: usize) -> bool {
        let held: usize = self.held.iter().map(|s| s.stanza.len()).sum();
        self.held.len() < HISTORY_AWAY && held + bytes <= HISTORY_BYTES
    }

    /// Keeps a message until what was said before it has come. Not if there are too many.
    pub fn hold(&mut self, said: &Arc<HistoryMessage>) -> bool {
        let fits = self.can_hold(said.stanza.len());
        if fits {
            // The history that this is of has it once; another join's, or one that follows what was said just now, may repeat it.
            let marks = if said.stamped { &mut self.repeated } else { &mut self.held_marks };
            marks.push(said.mark);
            self.held.push(said.clone());
        }
        fits
    }

    /// The message from before that the room repeats by this one, if it does.
    pub fn repeats(&self, chat: &Chat, now: u64, wall: u64) -> Option<Mark> {
        if chat.stamp.is_none() || now > self.repeats_until {
            return None;
        }
        let mark = chat.mark(wall);
        let repeats = |before: &Mark| mark.repeats(before, chat.named);
        // Where the room has a name for one of them only, that may be another one's.
        let all = || self.repeats.iter().chain(&self.held_marks);
        let sure = all().find(|b| b.archived == mark.archived && repeats(b));
        sure.or_else(|| all().find(|b| repeats(b))).copied()
    }

    /// Whether the room says a second time what it has a name for (XEP-0359).
    pub fn is_known(&self, mark: Mark) -> bool {
        mark.archived.is_some() && self.history.iter().any(|said| said.mark.archived == mark.archived)
    }

    /// A kept message makes way for what the room says of it now.
    pub fn forget(&mut self, mark: Mark) {
        if let Some(i) = self.history.iter().position(|said| said.mark == mark)
            && let Some(old) = self.history.remove(i)
        {
            self.weight.take(old.stanza.len());
        }
    }

    /// What a message takes back is gone from what is kept for those who join later.
    pub fn take_back(&mut self, room: &str, chat: &Chat, now: u64) {
        if chat.takes_back.is_none() {
            return;
        }
        let tombstone = |old: &HistoryMessage, stanza: Vec<u8>| {
            let weight = old.weight.with(old.weight.bytes() + stanza.len() - old.stanza.len());
            Arc::new(HistoryMessage { stanza: stanza.into(), stamped: old.stamped, mark: old.mark, weight })
        };
        if let Some((i, stanza)) = chat.take_back(self.history.iter().map(|s| &*s.stanza), room, now) {
            let said = tombstone(&self.history[i], stanza);
            self.weight.add(said.stanza.len());
            self.weight.take(self.history[i].stanza.len());
            self.history[i] = said;
        } else if let Some((i, stanza)) = chat.take_back(self.held.iter().map(|s| &*s.stanza), room, now) {
            self.held[i] = tombstone(&self.held[i], stanza);
        }
    }

    pub fn note_sent(&mut self, id: &str, resource: &str) {
        const REMEMBERED: usize = 64;
        if self.sent.len() == REMEMBERED {
            self.sent.pop_front();
        }
        self.sent.push_back((id.into(), resource.into()));
    }
}
