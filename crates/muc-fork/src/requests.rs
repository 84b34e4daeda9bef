//! Requests without an answer yet, and which client goes on with what it began.

use crate::input::Asks;
use crate::order::in_order;
use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

/// Answers to requests are waited for this long, in seconds.
pub(crate) const ANSWER_TIMEOUT: u64 = 1800;

/// A request that went out as the account's.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) room: Box<str>,
    /// Nobody: it is the account's own ping.
    pub(crate) resource: Option<Box<str>>,
    pub(crate) to: String,
    pub(crate) id: Box<str>,
    pub(crate) ping: bool,
    pub(crate) until: u64,
}

/// A request from a room that a client was given to answer. Who asked and the `id` are its key.
#[derive(Debug)]
pub(crate) struct Given {
    pub(crate) resource: Box<str>,
    pub(crate) until: u64,
    /// It began an exchange.
    pub(crate) began: Option<Exchange>,
}

/// Several requests of one sender that one client answers. Hashes: nothing a sender makes up takes more room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exchange {
    room: u64,
    sender: u64,
    xmlns: u64,
    sid: Option<u64>,
}

fn exchange(sender: &str, asks: Asks) -> Exchange {
    let room = sender.split('/').next();
    Exchange { room: hash(room), sender: hash(sender), xmlns: hash(asks.xmlns), sid: asks.sid.map(hash) }
}

fn hash(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// What is under way for one account.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    asked: HashMap<Box<str>, Asked>,
    given: HashMap<(Box<str>, Box<str>), Given>,
    /// The most recent last, with the client that it stays with.
    exchanges: VecDeque<(Exchange, Box<str>, u64)>,
    bytes: usize,
}

/// What an account's requests without an answer may take, in bytes.
const MOST: usize = 1 << 20;
/// What one takes beside its text.
const OVERHEAD: usize = 200;
/// Exchanges of an account that are remembered.
const EXCHANGES: usize = 64;

fn weight_asked(id: &str, asked: &Asked) -> usize {
    OVERHEAD + id.len() + asked.to.len() + asked.id.len() + asked.room.len()
}

fn weight_given(from: &str, id: &str) -> usize {
    OVERHEAD + from.len() + id.len()
}

impl Requests {
    pub(crate) fn is_empty(&self) -> bool {
        self.asked.is_empty() && self.given.is_empty()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether an answer from a room, or from somebody in it, is waited for.
    pub(crate) fn waits_for(&self, room: &str) -> bool {
        self.asked.values().any(|asked| *asked.room == *room)
    }

    fn fits(&mut self, more: usize, now: u64) -> bool {
        if self.bytes + more > MOST {
            self.sweep(now);
        }
        self.bytes + more <= MOST
    }

    /// Notes a request that goes out under a new `id`; false if there are too many. The account's own pings always fit.
    pub(crate) fn ask(&mut self, id: &str, asked: Asked, now: u64) -> bool {
        let weight = weight_asked(id, &asked);
        if asked.resource.is_some() && !self.fits(weight, now) {
            return false;
        }
        self.bytes += weight;
        self.asked.insert(id.into(), asked);
        true
    }

    pub(crate) fn asked_mut(&mut self, id: &str) -> Option<&mut Asked> {
        self.asked.get_mut(id)
    }

    pub(crate) fn answered(&mut self, id: &str) -> Option<Asked> {
        let asked = self.asked.remove(id)?;
        self.bytes -= weight_asked(id, &asked);
        Some(asked)
    }

    fn drop_asked(&mut self, drop: impl Fn(&Asked) -> bool) {
        let bytes = &mut self.bytes;
        self.asked.retain(|id, asked| {
            let drop = drop(asked);
            if drop {
                *bytes -= weight_asked(id, asked);
            }
            !drop
        });
    }

    /// The account is out of a room: nobody waits for its own pings there, and exchanges with those who are in are over.
    pub(crate) fn out_of(&mut self, room: &str) {
        let of = hash(Some(room));
        self.exchanges.retain(|(e, ..)| e.room != of);
        self.drop_asked(|a| &*a.room == room && a.resource.is_none());
    }

    /// The client that a request is for: that which has the exchange it belongs to, else `latest`. Only those that `is_in` says of.
    pub(crate) fn client_for(
        &self,
        sender: &str,
        asks: Asks,
        now: u64,
        is_in: impl Fn(&str) -> bool,
    ) -> Option<Box<str>> {
        let Exchange { sender, xmlns, sid, .. } = exchange(sender, asks);
        if sid.is_none() && !asks.set {
            return None;
        }
        let of_sender = || {
            let all = self.exchanges.iter().rev();
            all.filter(|(e, by, until)| e.sender == sender && *until > now && is_in(by))
        };
        let same = of_sender().find(|(e, ..)| e.xmlns == xmlns && e.sid == sid);
        // The first request of a part: a bytestream of a Jingle session, the second stage of a command.
        let part = || of_sender().find(|(e, ..)| sid.is_some() && (e.xmlns != xmlns || e.sid.is_none()));
        same.or_else(part).map(|(_, by, _)| by.clone())
    }

    /// A client begins an exchange with somebody: what comes of it is for that client.
    pub(crate) fn begin(&mut self, with: &str, resource: &str, asks: Asks, now: u64) {
        if asks.set && asks.sid.is_some() {
            self.note(exchange(with, asks), resource, now);
        }
    }

    /// An exchange is a client's from now on. Says whether it was before.
    fn note(&mut self, exchange: Exchange, resource: &str, now: u64) -> bool {
        let before = self.exchanges.iter().position(|(e, ..)| *e == exchange);
        let before = before.and_then(|i| self.exchanges.remove(i));
        if self.exchanges.len() == EXCHANGES {
            self.exchanges.pop_front();
        }
        self.exchanges.push_back((exchange, resource.into(), now + ANSWER_TIMEOUT));
        before.is_some_and(|(_, by, until)| *by == *resource && until > now)
    }

    /// Notes a request that a client is given; false if there are too many.
    pub(crate) fn give(&mut self, sender: &str, id: &str, resource: &str, asks: Asks, now: u64) -> bool {
        let weight = weight_given(sender, id);
        if !self.fits(weight, now) {
            return false;
        }
        let exchange = exchange(sender, asks);
        let mut began = None;
        if asks.set || asks.sid.is_some() {
            let known = self.note(exchange, resource, now);
            began = (!known).then_some(exchange);
        }
        let given = Given { resource: resource.into(), until: now + ANSWER_TIMEOUT, began };
        if self.given.insert((sender.into(), id.into()), given).is_none() {
            self.bytes += weight;
        }
        true
    }

    /// A client answers what it was given. Says whether it was.
    pub(crate) fn answer(&mut self, sender: &str, id: &str, resource: &str, error: bool) -> bool {
        let key = (sender.into(), id.into());
        if self.given.get(&key).is_none_or(|g| *g.resource != *resource) {
            return false;
        }
        self.bytes -= weight_given(sender, id);
        if let Some(Given { began: Some(exchange), .. }) = self.given.remove(&key)
            && error
        {
            // Another client may have it by now.
            self.exchanges.retain(|(e, by, _)| *e != exchange || **by != *resource);
        }
        true
    }

    /// A client is gone. Who waits for an answer of it, and the `id`s.
    pub(crate) fn client_gone(&mut self, resource: &str) -> Vec<(Box<str>, Box<str>)> {
        self.drop_asked(|a| a.resource.as_deref() == Some(resource));
        self.exchanges.retain(|(_, by, _)| **by != *resource);
        let bytes = &mut self.bytes;
        let given = self.given.extract_if(|_, g| *g.resource == *resource);
        let waiting = in_order(given.map(|(key, _)| key));
        for (from, id) in &waiting {
            *bytes -= weight_given(from, id);
        }
        waiting
    }

    /// Requests whose answer is not waited for any more are forgotten.
    pub(crate) fn sweep(&mut self, now: u64) {
        self.drop_asked(|a| a.until <= now);
        let bytes = &mut self.bytes;
        for ((from, id), _) in self.given.extract_if(|_, g| g.until <= now) {
            *bytes -= weight_given(&from, &id);
        }
        self.exchanges.retain(|(.., until)| *until > now);
    }
}
