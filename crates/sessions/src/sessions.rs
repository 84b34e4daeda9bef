//! All that can be done to a stream, with the journal following.

use crate::claim::{Claim, Claims, Level};
use crate::keeping::Kept;
use crate::record::Stanza;
use enjamb_journal::{Error, Journal};
use enjamb_stanza::Summary;
use enjamb_stream_management::{
    Enabled, H, Hibernation, Limits, Peer, Place, Queueing, Refusal, Registry, ResumeRequest, Resumed,
    Stream, StreamKey, Totals,
};
use slotmap::SecondaryMap;
use std::collections::HashSet;
use std::sync::Arc;

/// What the owner needs to bring a session back is at most this long, in bytes. What is larger cannot be kept: writing it
/// again and again would hold up everybody.
const LONGEST_STATE: usize = 8 << 20;

/// The streams of the process, and what is kept of them.
#[derive(Default)]
pub struct Sessions {
    pub(crate) streams: Registry,
    pub(crate) claims: SecondaryMap<StreamKey, Claims>,
    /// Streams with claims that wait for the disk.
    waiting: HashSet<StreamKey>,
    pub(crate) kept: SecondaryMap<StreamKey, Kept>,
    /// Streams of which the journal misses something.
    pub(crate) behind: HashSet<StreamKey>,
    /// Streams of which something cannot be kept: until the owner is told why, and for as long as they are there.
    unkept: Vec<(StreamKey, Error)>,
    dismissed: HashSet<StreamKey>,
    /// Sessions that were found at the start and that nobody has taken yet.
    pub(crate) found: HashSet<u64>,
    pub(crate) journal: Option<Journal>,
}

impl Sessions {
    // The journal -------------------------------------------------------------------------------------------------------

    /// Keeps what is to be kept in that journal. What is in it waits to be brought back: [`Sessions::found`].
    pub fn open(&mut self, journal: Journal) {
        self.found = journal.sessions().collect();
        self.kept.clear();
        self.behind.clear();
        self.journal = Some(journal);
    }

    /// What the journal has under that number is no session.
    pub fn leave_alone(&mut self, id: u64) {
        self.found.remove(&id);
    }

    /// Commits what can be, and lets the journal go.
    ///
    /// # Errors
    /// Why not all could be written.
    pub fn close(&mut self) -> Result<(), Error> {
        let committed = self.commit();
        self.journal = None;
        committed
    }

    /// The journal, if there is one, for what concerns all of it: syncs, how large it is.
    pub fn journal(&mut self) -> Option<&mut Journal> {
        self.journal.as_mut()
    }

    /// Keeps a stream from now on, or another state of it. `id` names it in the journal, and must never have been used;
    /// `state` is what the owner needs to bring its session back, at most 8 MiB.
    ///
    /// # Errors
    /// If the disk cannot take it now. It is caught up with; and what can never be kept is told after the next commit, by
    /// [`Sessions::take_unkept`].
    pub fn keep(&mut self, key: StreamKey, id: u64, state: &[u8]) -> Result<(), Error> {
        let (Some(journal), Some(stream)) = (&mut self.journal, self.streams.get(key)) else { return Ok(()) };
        if state.len() > LONGEST_STATE {
            self.unkept.push((key, Error::TooLong { len: state.len() }));
            self.dismissed.insert(key);
            return Ok(());
        }
        let result = match self.kept.get_mut(key) {
            Some(kept) => {
                kept.state = state.into();
                kept.describe(journal)
            }
            None => {
                let mut kept = Kept::new(id, stream, state);
                let result = kept.catch_up(journal, stream);
                self.kept.insert(key, kept);
                result
            }
        };
        let Err(error) = result else { return Ok(()) };
        self.behind.insert(key);
        match error.is_of_the_disk() {
            true => Err(error),
            false => Ok(()),
        }
    }

    /// Hands everything to the operating system.
    ///
    /// # Errors
    /// If that failed. Nothing is lost, the next commit tries again; until one succeeds, claims stand still.
    pub fn commit(&mut self) -> Result<(), Error> {
        let Some(journal) = &mut self.journal else { return Ok(()) };
        if !self.behind.is_empty() {
            let behind: Vec<StreamKey> = self.behind.iter().copied().collect();
            for key in behind {
                let caught_up = match (self.kept.get_mut(key), self.streams.get(key)) {
                    (Some(kept), Some(stream)) => kept.catch_up(journal, stream).map(|()| true),
                    _ => Ok(false),
                };
                match caught_up {
                    Err(error) if error.is_of_the_disk() => return Err(error),
                    Err(error) => {
                        self.unkept.push((key, error));
                        self.dismissed.insert(key);
                    }
                    // All that is queued is in the journal: it need not be here.
                    Ok(true) => drop(self.streams.update(key, |stream| stream.release(stream.queue().end()))),
                    Ok(false) => {}
                }
                self.behind.remove(&key);
            }
        }
        journal.commit().map(drop)
    }

    /// Streams of which something can never be kept, and why, each told once: their sessions have to end.
    pub fn take_unkept(&mut self) -> Vec<(StreamKey, Error)> {
        std::mem::take(&mut self.unkept)
    }

    fn note(
        &mut self,
        key: StreamKey,
        f: impl FnOnce(&mut Kept, &mut Journal, &Stream) -> Result<(), Error>,
    ) {
        let (Some(journal), Some(kept)) = (&mut self.journal, self.kept.get_mut(key)) else { return };
        let Some(stream) = self.streams.get(key) else { return };
        if f(kept, journal, stream).is_err() {
            self.behind.insert(key);
        }
    }

    // Claims ------------------------------------------------------------------------------------------------------------

    /// Notes that all but `waiting` of the stanzas that came in have been processed.
    pub fn processed(&mut self, key: StreamKey, waiting: usize) {
        let Some(h) = self.streams.get(key).map(|s| s.handled(waiting).0) else { return };
        self.note(key, |kept, journal, _| kept.handled(journal, h));
    }

    /// How much of what came in on a stream may be said to have been handled, if `h` has been processed: before anything
    /// is acknowledged, all that was noted is committed. `durable` is up to where the disk itself has everything
    /// ([`Journal::durable`]).
    ///
    /// The second value is what became of the commit; an error means that claims stand still.
    pub fn claim(&mut self, key: StreamKey, h: H, level: Level, durable: u64) -> (Claim, Result<(), Error>) {
        if level == Level::None || self.journal.is_none() {
            return (Claim { h: Some(h), pending: false }, Ok(()));
        }
        self.note(key, |kept, journal, _| kept.handled(journal, h.0));
        let committed = self.commit();
        let stands_still = committed.is_err() || self.dismissed.contains(&key);
        let (Some(claims), Some(journal)) = (self.claims.entry(key), &self.journal) else {
            return (Claim { h: None, pending: false }, committed); // the stream is gone
        };
        let claims = claims.or_default();
        if stands_still {
            return (claims.standing(level), committed);
        }
        let claim = claims.committed(h, level, durable, || {
            journal.request_sync();
            journal.position()
        });
        if claims.is_waiting() {
            self.waiting.insert(key);
        } else {
            self.waiting.remove(&key);
        }
        (claim, committed)
    }

    /// The disk has everything up to `durable`: what may be claimed now that could not before, by stream.
    pub fn settled(&mut self, durable: u64) -> Vec<(StreamKey, H)> {
        let mut news = Vec::new();
        let claims = &mut self.claims;
        self.waiting.retain(|&key| {
            let Some(claims) = claims.get_mut(key) else { return false };
            news.extend(claims.settle(durable).map(|h| (key, h)));
            claims.is_waiting()
        });
        news
    }

    /// The peer was told that this many were handled, less than were, and sends the rest again.
    pub fn recount(&mut self, key: StreamKey, h: H) {
        self.streams.update(key, |s| s.recount(h));
        if self.claims.contains_key(key) {
            self.claims.insert(key, Claims::told(h));
        }
        self.waiting.remove(&key);
        self.note(key, |kept, journal, _| kept.handled(journal, h.0));
    }

    // Streams -----------------------------------------------------------------------------------------------------------

    /// Starts managing a stream: [`Registry::start`].
    pub fn start(
        &mut self,
        limits: Arc<Limits>,
        account: Option<&str>,
        enabled: Enabled,
        waiting: usize,
    ) -> StreamKey {
        self.streams.start(limits, account, enabled, waiting)
    }

    /// The stream of that key, if it is there.
    pub fn get(&self, key: StreamKey) -> Option<&Stream> {
        self.streams.get(key)
    }

    /// Does something to the stream of that key that is not kept.
    pub fn update<T>(&mut self, key: StreamKey, f: impl FnOnce(&mut Stream) -> T) -> Option<T> {
        self.streams.update(key, f)
    }

    /// Queues a stanza on a stream, if it is there.
    pub fn push(&mut self, key: StreamKey, bytes: &[u8], summary: Summary, now: u64) -> Option<Queueing> {
        let number = self.streams.get(key)?.queue().end();
        let mut stored = false;
        if let (Some(journal), Some(kept)) = (&mut self.journal, self.kept.get(key))
            // In order: what is behind has to wait.
            && (self.behind.is_empty() || !self.behind.contains(&key))
        {
            stored = kept.push(journal, number, Stanza { bytes, at: now, summary }).is_ok();
            if !stored {
                self.behind.insert(key);
            }
        }
        self.streams.push(key, bytes, summary, now, stored)
    }

    /// Takes the `h` of an `<a/>`, if it can be true: how many stanzas it covers, and how many are left.
    pub fn ack(&mut self, key: StreamKey, h: H) -> Option<(usize, usize)> {
        let acked = self.streams.update(key, |s| s.ack(h))?.ok()?;
        self.note(key, |kept, journal, stream| kept.acked(journal, stream.queue()));
        Some((acked, self.streams.get(key)?.queue().len()))
    }

    /// Whether a `<resume/>` can be granted, and with what: [`Registry::resumable`]. Nothing changes.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn resumable(&self, peer: Peer, request: ResumeRequest) -> Result<Resumed, Refusal> {
        self.streams.resumable(peer, request)
    }

    /// Grants a `<resume/>`: [`Registry::resume`]. Before anything is sent again, claim what `<resumed/>` is to say, and
    /// wait until that is not pending: then the journal knows, at the host's level, that the peer was there.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn resume(&mut self, peer: Peer, request: ResumeRequest) -> Result<Resumed, Refusal> {
        let resumed = self.streams.resume(peer, request)?;
        self.note(resumed.key, |kept, journal, stream| {
            kept.acked(journal, stream.queue()).and(kept.connected(journal, stream))
        });
        if let Some(claims) = self.claims.entry(resumed.key) {
            claims.or_default().resumed();
        }
        Ok(resumed)
    }

    /// The stream's connection is lost: [`Registry::hibernate`].
    pub fn hibernate(&mut self, key: StreamKey, now: u64) -> Option<Hibernation> {
        let hibernation = self.streams.hibernate(key, now)?;
        self.note(key, |kept, journal, stream| kept.connected(journal, stream));
        if self.kept.contains_key(key) && !self.behind.contains(&key) {
            // All that is queued is in the journal: it need not be here.
            self.streams.update(key, |stream| stream.release(stream.queue().end()));
        }
        Some(hibernation)
    }

    /// Hands out queued stanzas, from number `first` up to and without `last`, until `each` says false. One that is
    /// damaged on disk comes as `None`.
    ///
    /// # Errors
    /// If the disk cannot be read now: what was not handed out may be readable later.
    pub fn read(
        &mut self,
        key: StreamKey,
        first: u64,
        last: u64,
        mut each: impl FnMut(Option<Stanza>) -> bool,
    ) -> Result<(), Error> {
        let Some(stream) = self.streams.get(key) else { return Ok(()) };
        let queue = stream.queue();
        let (first, last) = (first.max(queue.first()), last.min(queue.end()));
        let (stored, here) = (first..last.min(queue.first_here()), first.max(queue.first_here())..last);
        let mut go_on = true;
        if !stored.is_empty()
            && let (Some(journal), Some(kept)) = (&mut self.journal, self.kept.get(key))
        {
            let (from, end) =
                (kept.numbering.in_journal(stored.start) + 1, kept.numbering.in_journal(stored.end));
            journal.replay(kept.id, from, |number, record| {
                go_on = number <= end && each(record.and_then(Stanza::decode));
                go_on && number < end
            })?;
        }
        for number in here {
            let Some(Place::Here(q)) = queue.get(number).filter(|_| go_on) else { break };
            go_on = each(Some(Stanza { bytes: &q.bytes, at: q.at, summary: q.summary }));
        }
        Ok(())
    }

    /// Takes back the promise that the stream can be resumed.
    pub fn revoke(&mut self, key: StreamKey) {
        self.streams.revoke(key);
    }

    /// Nothing is owed to the stream's peer any more, and what was queued is elsewhere: it is kept no longer.
    pub fn ended(&mut self, key: StreamKey) {
        if let (Some(kept), Some(journal)) = (self.kept.remove(key), &mut self.journal)
            && let Err(error) = journal.end(kept.id)
            && error.is_of_the_disk()
        // else it has never got there
        {
            tracing::warn!("a session that has ended comes back once more after a restart: {error}");
        }
        self.remove(key);
    }

    /// Forgets a stream and what is in its queue. What is kept of it stays, and is found at the next start.
    pub fn remove(&mut self, key: StreamKey) {
        self.behind.remove(&key);
        self.waiting.remove(&key);
        self.dismissed.remove(&key);
        self.claims.remove(key);
        self.streams.remove(key);
    }

    /// How many streams there are.
    pub fn len(&self) -> usize {
        self.streams.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    /// How much is queued on all streams together.
    pub fn totals(&self) -> Totals {
        self.streams.totals()
    }
}
