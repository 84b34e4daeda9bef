//! All managed streams, and which of them an account may resume.
//!
//! The owner may keep something of its own beside each stream ([`Streams`]), so that both are found in one look.

use crate::h::H;
use crate::limits::Limits;
use crate::negotiate::{EnableRequest, Enabled, Peer, Refusal, ResumeRequest, ResumptionId};
use crate::stream::{Owner, Pushed, State, Stream};
use enjamb_stanza::Summary;
use slotmap::SlotMap;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;

slotmap::new_key_type! {
    /// Names a stream. A key whose stream is gone finds nothing, never another stream.
    pub struct StreamKey;
    /// Names an account that has streams.
    struct AccountKey;
}

/// What is to be done with a stanza that was queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queueing {
    /// The peer is there: send it now. Otherwise it waits in the queue.
    pub send: bool,
    /// This stream holds more than it may, or is the one to go since its account or the server does. Nothing was
    /// dropped; the session must end, and what is queued be returned or stored, before more is let in.
    pub over_limit: Option<StreamKey>,
}

/// How much is queued.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Stanzas.
    pub stanzas: usize,
    /// The sum of their lengths.
    pub bytes: usize,
    /// The same of those that are in memory.
    pub bytes_here: usize,
}

/// What is kept of an account that has streams.
#[derive(Debug)]
struct Account {
    name: Box<str>,
    /// How many streams count for it.
    members: usize,
    /// Those that can be resumed, in the order in which they were enabled. Looked up per account, so that an id is worth nothing to anybody else.
    streams: Vec<(ResumptionId, StreamKey)>,
    bytes: usize,
}

/// A stream that went into hibernation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hibernation {
    /// For how many seconds it is kept.
    pub timeout: u32,
    /// The streams of the same account that were away for longest and must end now, since one more than allowed
    /// would wait. The stream itself is among them if the account is allowed none.
    pub evicted: Vec<StreamKey>,
}

/// A stream that was resumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resumed {
    /// Which one.
    pub key: StreamKey,
    /// How many stanzas have come in on it: the `h` of `<resumed/>`.
    pub h: H,
    /// How many stanzas the request's `h` acknowledged.
    pub acked: usize,
    /// Since when it had been hibernating, if its old connection was not still open.
    pub hibernating_since: Option<u64>,
}

/// A stream, and what its owner keeps beside it.
#[derive(Debug)]
struct Entry<T> {
    stream: Stream,
    /// The account for which it counts, if it does.
    account: Option<AccountKey>,
    beside: T,
}

/// The streams of all hosts, with nothing beside.
pub type Registry = Streams<()>;

/// The streams of all hosts, each with a `T` of the owner's beside it.
#[derive(Debug)]
pub struct Streams<T> {
    streams: SlotMap<StreamKey, Entry<T>>,
    accounts: SlotMap<AccountKey, Account>,
    by_name: HashMap<Box<str>, AccountKey>,
    totals: Totals,
    /// The stream that was said to have to go because the server holds too much, on disk or in memory. Until it has, no
    /// other is looked for.
    leaving: Option<StreamKey>,
}

impl<T> Default for Streams<T> {
    fn default() -> Streams<T> {
        Streams {
            streams: SlotMap::default(),
            accounts: SlotMap::default(),
            by_name: HashMap::default(),
            totals: Totals::default(),
            leaving: None,
        }
    }
}

impl Registry {
    /// Decides on an `<enable/>`. Nothing changes until [`Streams::start`]. `random` are 128 bits from the
    /// operating system, `enabled` says whether the stream is managed already.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn enable(
        limits: &Limits,
        peer: Peer,
        enabled: bool,
        request: EnableRequest,
        random: u128,
    ) -> Result<Enabled, Refusal> {
        let resumable = match peer {
            Peer::Unauthenticated => return Err(Refusal::NotAuthenticated),
            Peer::Client { bound: false, .. } => return Err(Refusal::NotBound),
            _ if enabled => return Err(Refusal::AlreadyEnabled),
            Peer::Client { .. } => request.wants_resumption(),
            // Nobody resumes a stream between servers: what was not acknowledged is sent anew or returned.
            Peer::Server => false,
        };
        let resumption = resumable.then(|| (ResumptionId(random), request.timeout(limits.hibernation_time)));
        Ok(Enabled { resumption })
    }
}

impl<T: Default> Streams<T> {
    /// Starts managing a stream. `waiting` stanzas came in behind the `<enable/>` before it was processed.
    pub fn start(
        &mut self,
        limits: Arc<Limits>,
        account: Option<&str>,
        enabled: Enabled,
        waiting: usize,
    ) -> StreamKey {
        let mut stream = Stream::new(limits, H(0), H(0));
        for n in 0..waiting {
            stream.received(H(0).plus(n));
        }
        self.insert(stream, account, enabled)
    }

    /// Puts a stream with a history under management. Whether it can be resumed or not, what it holds counts for its
    /// account, if it has one.
    pub fn insert(&mut self, mut stream: Stream, account: Option<&str>, enabled: Enabled) -> StreamKey {
        let account = account.map(|name| self.account(name));
        stream.owner = account.and(enabled.resumption).map(|(id, timeout)| Owner { id, timeout });
        let (id, queued) = (stream.owner.as_ref().map(|o| o.id), totals(&stream));
        let key = self.streams.insert(Entry { stream, account, beside: T::default() });
        if let Some(account) = account.and_then(|a| self.accounts.get_mut(a)) {
            account.members += 1;
            account.streams.extend(id.map(|id| (id, key)));
        }
        self.count(account, Totals::default(), queued);
        key
    }
}

impl<T> Streams<T> {
    fn account(&mut self, name: &str) -> AccountKey {
        if let Some(&key) = self.by_name.get(name) {
            return key;
        }
        let key =
            self.accounts.insert(Account { name: name.into(), members: 0, streams: Vec::new(), bytes: 0 });
        self.by_name.insert(name.into(), key);
        key
    }

    /// The stream of that key, if it is there.
    pub fn get(&self, key: StreamKey) -> Option<&Stream> {
        Some(&self.streams.get(key)?.stream)
    }

    /// The stream of that key with what is beside it, if it is there.
    pub fn both(&self, key: StreamKey) -> Option<(&Stream, &T)> {
        let Entry { stream, beside, .. } = self.streams.get(key)?;
        Some((stream, beside))
    }

    /// The same, to change what is beside it.
    pub fn both_mut(&mut self, key: StreamKey) -> Option<(&Stream, &mut T)> {
        let Entry { stream, beside, .. } = self.streams.get_mut(key)?;
        Some((stream, beside))
    }

    /// What is beside the streams, of all of them.
    pub fn all_beside(&mut self) -> impl Iterator<Item = &mut T> {
        self.streams.values_mut().map(|entry| &mut entry.beside)
    }

    /// Does something to the stream of that key, if it is there.
    pub fn update<U>(&mut self, key: StreamKey, f: impl FnOnce(&mut Stream) -> U) -> Option<U> {
        self.update_both(key, |stream, _| f(stream))
    }

    /// The same, with what is beside it.
    pub fn update_both<U>(&mut self, key: StreamKey, f: impl FnOnce(&mut Stream, &mut T) -> U) -> Option<U> {
        let Entry { stream, account, beside } = self.streams.get_mut(key)?;
        let before = totals(stream);
        let result = f(stream, beside);
        let (account, after) = (*account, totals(stream));
        self.count(account, before, after);
        Some(result)
    }

    /// Counts a stanza that came in: [`Stream::received`]. Once per stanza: nothing that [`Registry::update`] keeps up with changes.
    pub fn received(&mut self, key: StreamKey, before: H) -> Option<H> {
        Some(self.streams.get_mut(key)?.stream.received(before))
    }

    fn count(&mut self, account: Option<AccountKey>, before: Totals, after: Totals) {
        let new = |total: usize, before: usize, after: usize| (total + after).saturating_sub(before);
        let t = &mut self.totals;
        t.stanzas = new(t.stanzas, before.stanzas, after.stanzas);
        t.bytes = new(t.bytes, before.bytes, after.bytes);
        t.bytes_here = new(t.bytes_here, before.bytes_here, after.bytes_here);
        if let Some(account) = account.and_then(|a| self.accounts.get_mut(a)) {
            account.bytes = new(account.bytes, before.bytes, after.bytes);
        }
    }

    /// Queues a stanza on a stream, if it is there: [`Stream::push`], and the limits of account and server.
    pub fn push(
        &mut self,
        key: StreamKey,
        bytes: &[u8],
        summary: Summary,
        now: u64,
        stored: bool,
    ) -> Option<Queueing> {
        self.push_and(key, bytes, summary, now, |_, _| stored)
    }

    /// The same; `store` has what is beside the stream, and says whether the stanza is where streams are kept, so that its
    /// bytes need not be here.
    pub fn push_and(
        &mut self,
        key: StreamKey,
        bytes: &[u8],
        summary: Summary,
        now: u64,
        store: impl FnOnce(&Stream, &mut T) -> bool,
    ) -> Option<Queueing> {
        // Once per stanza: what `update` and `crowded` would look up again is looked up once.
        let Entry { stream, account, beside } = self.streams.get_mut(key)?;
        let stored = store(stream, beside);
        let here = stream.queue().bytes_here();
        let Pushed { send, over_limit } = stream.push(bytes, summary, now, stored);
        let t = &mut self.totals;
        t.stanzas += 1;
        t.bytes += bytes.len();
        t.bytes_here = (t.bytes_here + stream.queue().bytes_here()).saturating_sub(here);
        let limits = stream.limits();
        let mut crowded = t.bytes > limits.server_bytes || !stored && t.bytes_here > limits.memory_bytes;
        if let Some(account) = account.and_then(|a| self.accounts.get_mut(a)) {
            account.bytes += bytes.len();
            crowded |= account.bytes > limits.account_bytes;
        }
        let over_limit = match over_limit {
            true => Some(key),
            false if crowded => self.crowded(key, stored),
            false => None,
        };
        Some(Queueing { send, over_limit })
    }

    /// Who must go if the account of that stream, or the server, holds too much: of those who are away the one that
    /// holds most, else the stream itself. If it is only the memory that holds too much, and the last stanza is in it:
    /// the one that holds most there, away or not.
    fn crowded(&mut self, key: StreamKey, stored: bool) -> Option<StreamKey> {
        let Entry { stream, account, .. } = self.streams.get(key)?;
        let limits = stream.limits();
        let bytes = |s: &Stream| s.queue().bytes();
        // Whoever holds nothing would go for nothing.
        let away = |(_, s): &(StreamKey, &Stream)| s.is_hibernating() && bytes(s) > 0;
        if let Some(account) = account.and_then(|a| self.accounts.get(a))
            && account.bytes > limits.account_bytes
        {
            let streams = account.streams.iter().filter_map(|&(_, k)| Some((k, self.get(k)?)));
            return longest(streams.filter(away), bytes).or(Some(key));
        }
        if self.leaving.is_some_and(|k| self.streams.contains_key(k)) {
            return None;
        }
        if self.totals.bytes > limits.server_bytes {
            self.leaving = longest(self.iter().filter(away), bytes).or(Some(key));
            return self.leaving;
        }
        if !stored && self.totals.bytes_here > limits.memory_bytes {
            self.leaving = longest(self.iter(), |s| s.queue().bytes_here());
            return self.leaving;
        }
        None
    }

    /// How much is queued on all streams together.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// All streams, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (StreamKey, &Stream)> {
        self.streams.iter().map(|(key, entry)| (key, &entry.stream))
    }

    /// How many streams there are.
    pub fn len(&self) -> usize {
        self.streams.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    /// Takes back the promise that the stream can be resumed, if it was given: it was closed, or its time is over. It
    /// counts for its account no longer.
    pub fn revoke(&mut self, key: StreamKey) {
        let Some(Entry { stream, account, .. }) = self.streams.get_mut(key) else { return };
        let bytes = stream.queue().bytes();
        stream.owner = None;
        let Some(account_key) = account.take() else { return };
        let Some(account) = self.accounts.get_mut(account_key) else { return };
        account.streams.retain(|&(_, k)| k != key);
        account.bytes = account.bytes.saturating_sub(bytes);
        account.members = account.members.saturating_sub(1);
        if account.members == 0 {
            self.by_name.remove(&account.name);
            self.accounts.remove(account_key);
        }
    }

    /// Forgets a stream and what is in its queue.
    pub fn remove(&mut self, key: StreamKey) -> Option<Stream> {
        Some(self.remove_both(key)?.0)
    }

    /// The same. What was beside it is the caller's.
    pub fn remove_both(&mut self, key: StreamKey) -> Option<(Stream, T)> {
        self.revoke(key);
        let Entry { stream, beside, .. } = self.streams.remove(key)?;
        self.count(None, totals(&stream), Totals::default());
        Some((stream, beside))
    }

    /// The stream's connection is lost. `None` if it cannot wait: it is not resumable, or was not live.
    pub fn hibernate(&mut self, key: StreamKey, now: u64) -> Option<Hibernation> {
        let Entry { stream, account, .. } = self.streams.get_mut(key)?;
        if stream.is_hibernating() {
            return None;
        }
        let (timeout, account) = (stream.owner.as_ref()?.timeout, (*account)?);
        let allowed = stream.limits().hibernated;
        stream.hibernate(now);
        // Within one second, and if the clock went backwards, this stream is still the latest.
        let waiting: BinaryHeap<(bool, u64, usize, StreamKey)> = self
            .accounts
            .get(account)
            .into_iter()
            .flat_map(|account| &account.streams)
            .enumerate()
            .filter_map(|(n, &(_, k))| match self.get(k)?.state() {
                State::Hibernating(since) => Some((k == key, since, n, k)),
                State::Live => None,
            })
            .collect();
        let too_many = waiting.len().saturating_sub(allowed);
        let evicted = waiting.into_sorted_vec().into_iter().take(too_many).map(|(.., k)| k).collect();
        Some(Hibernation { timeout, evicted })
    }

    /// What a `<resume/>` would give, if it were granted now. Nothing changes.
    ///
    /// # Errors
    /// Why it would be refused.
    pub fn resumable(&self, peer: Peer, request: ResumeRequest) -> Result<Resumed, Refusal> {
        let account = match peer {
            Peer::Unauthenticated => return Err(Refusal::NotAuthenticated),
            Peer::Server => return Err(Refusal::NotForServers),
            Peer::Client { bound: true, .. } => return Err(Refusal::AlreadyBound),
            Peer::Client { account, .. } => account,
        };
        let (id, h) = request.read()?;
        let account =
            self.by_name.get(account).and_then(|&a| self.accounts.get(a)).ok_or(Refusal::NotFound)?;
        let &(_, key) = account.streams.iter().find(|(i, _)| *i == id).ok_or(Refusal::NotFound)?;
        let stream = self.get(key).ok_or(Refusal::NotFound)?;
        let acked = stream.covered_by(h)?;
        let hibernating_since = match stream.state() {
            State::Live => None,
            State::Hibernating(since) => Some(since),
        };
        Ok(Resumed { key, h: stream.inbound(), acked, hibernating_since })
    }

    /// Grants a `<resume/>`: its `h` is taken as an ack (XEP-0198 §5), and the stream is live from here on.
    ///
    /// # Errors
    /// Why it is refused; the stream that it meant, if any, is then as it was and can still be resumed.
    pub fn resume(&mut self, peer: Peer, request: ResumeRequest) -> Result<Resumed, Refusal> {
        let resumed = self.resumable(peer, request)?;
        let (_, h) = request.read()?;
        self.update(resumed.key, |stream| {
            stream.ack(h)?;
            stream.wake();
            Ok(resumed)
        })
        .ok_or(Refusal::NotFound)?
    }
}

fn totals(stream: &Stream) -> Totals {
    let queue = stream.queue();
    Totals { stanzas: queue.len(), bytes: queue.bytes(), bytes_here: queue.bytes_here() }
}

fn longest<'a>(
    streams: impl Iterator<Item = (StreamKey, &'a Stream)>,
    bytes: impl Fn(&Stream) -> usize,
) -> Option<StreamKey> {
    streams.max_by_key(|(_, stream)| bytes(stream)).map(|(key, _)| key)
}
