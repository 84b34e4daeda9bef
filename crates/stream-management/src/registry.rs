//! All managed streams, and which of them an account may resume.

use crate::h::H;
use crate::limits::Limits;
use crate::negotiate::{EnableRequest, Enabled, Peer, Refusal, ResumeRequest, ResumptionId};
use crate::stream::{Owner, State, Stream};
use slotmap::SlotMap;
use std::collections::HashMap;
use std::sync::Arc;

slotmap::new_key_type! {
    /// Names a stream. A key whose stream is gone finds nothing, never another stream.
    pub struct StreamKey;
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

/// The streams of all hosts.
#[derive(Debug, Default)]
pub struct Registry {
    streams: SlotMap<StreamKey, Stream>,
    /// By bare JID, the resumable streams in the order in which they were enabled. Looked up per account, so that an
    /// id is worth nothing to anybody else.
    accounts: HashMap<Box<str>, Vec<(ResumptionId, StreamKey)>>,
}

impl Registry {
    /// Decides on an `<enable/>`. Nothing changes until [`Registry::start`]. `random` are 128 bits from the
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

    /// Puts a stream with a history under management.
    pub fn insert(&mut self, mut stream: Stream, account: Option<&str>, enabled: Enabled) -> StreamKey {
        stream.owner = account.zip(enabled.resumption).map(|(account, (id, timeout))| Owner {
            account: account.into(),
            id,
            timeout,
        });
        let owner = stream.owner.as_ref().map(|o| (o.account.clone(), o.id));
        let key = self.streams.insert(stream);
        if let Some((account, id)) = owner {
            self.accounts.entry(account).or_default().push((id, key));
        }
        key
    }

    /// The stream of that key, if it is there.
    pub fn get(&self, key: StreamKey) -> Option<&Stream> {
        self.streams.get(key)
    }

    /// The stream of that key, if it is there.
    pub fn get_mut(&mut self, key: StreamKey) -> Option<&mut Stream> {
        self.streams.get_mut(key)
    }

    /// How many streams there are.
    pub fn len(&self) -> usize {
        self.streams.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    /// Takes back the promise that the stream can be resumed: it was closed, or its time is over.
    pub fn revoke(&mut self, key: StreamKey) {
        let Some(owner) = self.streams.get_mut(key).and_then(|s| s.owner.take()) else { return };
        if let Some(ids) = self.accounts.get_mut(&owner.account) {
            ids.retain(|&(_, k)| k != key);
            if ids.is_empty() {
                self.accounts.remove(&owner.account);
            }
        }
    }

    /// Forgets a stream and what is in its queue.
    pub fn remove(&mut self, key: StreamKey) -> Option<Stream> {
        self.revoke(key);
        self.streams.remove(key)
    }

    /// The stream's connection is lost. `None` if it cannot wait: it is not resumable, or was not live.
    pub fn hibernate(&mut self, key: StreamKey, now: u64) -> Option<Hibernation> {
        let stream = self.streams.get_mut(key)?;
        if stream.is_hibernating() {
            return None;
        }
        let owner = stream.owner.clone()?;
        let allowed = stream.limits().hibernated;
        stream.hibernate(now);
        let mut waiting: Vec<(u64, StreamKey)> = self
            .accounts
            .get(&owner.account)
            .into_iter()
            .flatten()
            .filter_map(|&(_, k)| match self.streams.get(k)?.state() {
                State::Hibernating(since) => Some((since, k)),
                State::Live => None,
            })
            .collect();
        // Within one second, and if the clock went backwards, this stream is still the latest.
        waiting.sort_by_key(|&(since, k)| (k == key, since));
        waiting.truncate(waiting.len().saturating_sub(allowed));
        Some(Hibernation { timeout: owner.timeout, evicted: waiting.into_iter().map(|(_, k)| k).collect() })
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
        let ids = self.accounts.get(account).ok_or(Refusal::NotFound)?;
        let &(_, key) = ids.iter().find(|(i, _)| *i == id).ok_or(Refusal::NotFound)?;
        let stream = self.streams.get(key).ok_or(Refusal::NotFound)?;
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
        if let Some(stream) = self.streams.get_mut(resumed.key) {
            stream.ack(h)?;
            stream.wake();
        }
        Ok(resumed)
    }
}
