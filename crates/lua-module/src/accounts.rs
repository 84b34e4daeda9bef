//! Accounts in rooms, for all hosts of the process: the engine, what it has decided and nobody has asked for yet, and the
//! file in which rooms outlive the server.

use crate::clock::{Clock, wall_clock};
use crate::rooms;
use enjamb_muc_fork::decision::Decision;
use enjamb_muc_fork::input::FromRoom;
use enjamb_muc_fork::{Accounts, Change, chat};
use std::collections::HashMap;

/// While the journal cannot be written so many changes wait for it. Then the file goes ahead: of what is lost with the
/// process, presences are the least.
const MUCH_NEWS: usize = 10_000;

pub struct Minimix {
    engine: Accounts,
    /// What a groupchat message led to beside its copies.
    pending: Vec<Decision>,
    /// What has changed in rooms and is not in the file yet.
    news: Vec<Change>,
    log: Option<rooms::Log>,
    /// What the file said of rooms at the start, until all who were in them have been restored.
    pub recorded: HashMap<String, rooms::RoomRecord>,
    clock: Clock,
}

/// What came of a groupchat message.
pub enum Groupchat {
    /// It is none of ours.
    NotOurs,
    /// Some clients get a copy; before that, [`Minimix::take_pending`] has decisions if this is true.
    Copies(bool),
}

impl Default for Minimix {
    fn default() -> Minimix {
        Minimix {
            engine: Accounts::new(random),
            pending: Vec::new(),
            news: Vec::new(),
            log: None,
            recorded: HashMap::new(),
            clock: Clock::default(),
        }
    }
}

fn random() -> u128 {
    let mut bytes = [0; 16];
    // Linux gives random bits without failing once it is up; an id that can be guessed would be worse than none.
    getrandom::fill(&mut bytes).expect("the system has no random bits");
    u128::from_ne_bytes(bytes)
}

impl Minimix {
    /// Asks the engine something, at the second argument's time.
    pub fn engine<T>(&mut self, f: impl FnOnce(&mut Accounts, u64) -> T) -> T {
        let answer = f(&mut self.engine, self.clock.now());
        let changes = self.engine.take_changes();
        if !changes.is_empty() {
            self.news.extend(changes);
        }
        answer
    }

    /// The engine as it is.
    pub fn look(&self) -> &Accounts {
        &self.engine
    }

    /// The same, told what time of day it is.
    pub fn engine_by_the_clock<T>(&mut self, f: impl FnOnce(&mut Accounts, u64) -> T) -> T {
        self.engine(|engine, now| {
            engine.set_wall_clock(wall_clock(), now);
            f(engine, now)
        })
    }

    /// Keeps rooms in that file from now on.
    pub fn keep(&mut self, log: rooms::Log, recorded: HashMap<String, rooms::RoomRecord>) {
        (self.log, self.recorded) = (Some(log), recorded);
    }

    /// Writes down what has changed in rooms; for when all that it led to is queued.
    ///
    /// What the file says that clients were told must be in their queues after a crash, so `commit` hands these to the
    /// operating system first, with the lines (see [`crate::ahead`]), and says whether that went well. Returns the lines that were
    /// written.
    pub fn write_down(&mut self, commit: impl FnOnce(&str) -> bool) -> Option<String> {
        if self.news.is_empty() {
            return None;
        }
        let lines = rooms::written(&self.news);
        if !(commit(&lines) || self.news.len() > MUCH_NEWS) {
            return None;
        }
        self.news.clear();
        self.log.as_mut()?.write(&lines, || rooms::all(&self.engine, &self.recorded));
        Some(lines)
    }

    /// All lines that are needed.
    pub fn all_lines(&self) -> String {
        rooms::all(&self.engine, &self.recorded)
    }

    /// Calls `each` for all clients that [`Minimix::groupchat`] may give a copy to, in its order.
    pub fn resources(&self, account: &[u8], from: &[u8], each: impl FnMut(&str)) {
        let (Ok(account), Ok(from)) = (std::str::from_utf8(account), std::str::from_utf8(from)) else {
            return;
        };
        let room = from.split_once('/').map_or(from, |(room, _)| room);
        self.engine.resources(account, room).for_each(each);
    }

    /// A groupchat message for an account. `stanza` are its bytes without `to`; `copy` is called for each client that gets
    /// a copy.
    pub fn groupchat(
        &mut self,
        account: &[u8],
        from: &[u8],
        id: Option<&[u8]>,
        stanza: &[u8],
        copy: impl FnMut(&str),
    ) -> Groupchat {
        let (Ok(account), Ok(from)) = (std::str::from_utf8(account), std::str::from_utf8(from)) else {
            return Groupchat::NotOurs;
        };
        let (room, nick) = from.split_once('/').map_or((from, None), |(room, nick)| (room, Some(nick)));
        if !self.engine.has_room(room) {
            return Groupchat::NotOurs;
        }
        let id = id.and_then(|id| std::str::from_utf8(id).ok());
        let from = FromRoom { account, room, nick, id };
        match self.engine_by_the_clock(|engine, now| {
            engine.groupchat_from_room(from, &chat::read(stanza, room), now, copy)
        }) {
            None => Groupchat::NotOurs,
            Some(all) => {
                let some = !all.is_empty();
                self.pending.extend(all);
                Groupchat::Copies(some)
            }
        }
    }

    /// [`Accounts::withhold`].
    pub fn withhold(&self, all: &mut Vec<Decision>) {
        self.engine.withhold(all);
    }

    /// The decisions of the last groupchat message.
    pub fn take_pending(&mut self) -> Vec<Decision> {
        std::mem::take(&mut self.pending)
    }
}
