//! All that can be done to a stream, with the journal following.

use crate::attributes::{Attribute, Key, Scope};
use crate::claim::{Claim, Claims, Level, Safe};
use crate::keeping::{Journaled, Standing};
use crate::record::Stanza;
use enjamb_journal::{Error, Journal};
use enjamb_stanza::Summary;
use enjamb_stream_management::{
    Enabled, H, Hibernation, Limits, Peer, Place, Queueing, Refusal, ResumeRequest, Resumed, Stream,
    StreamKey, Streams, Totals,
};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// What is known of a session is at most this long, in bytes. What is larger cannot be kept: writing it again and again
/// would hold up everybody.
const LONGEST_STATE: usize = 8 << 20;

/// The streams of the process, and what is kept of them.
#[derive(Default)]
pub struct Sessions {
    /// Each with how it stands: one look finds both.
    pub(crate) streams: Streams<Standing>,
    /// Streams with claims that wait, and at which level.
    waiting: HashMap<StreamKey, Level>,
    /// Streams of which the journal misses something.
    pub(crate) behind: Vec<StreamKey>,
    /// Streams of which something cannot be kept: until the owner is told why.
    unkept: Vec<(StreamKey, Error)>,
    /// Sessions that were found at the start and that nobody has taken yet, with their host as soon as that is known.
    pub(crate) found: BTreeMap<u64, Option<Box<str>>>,
    pub(crate) journal: Option<Journal>,
}

impl Sessions {
    // The journal -------------------------------------------------------------------------------------------------------

    /// Keeps what is to be kept in that journal. What is in it waits to be brought back: [`Sessions::found`].
    pub fn open(&mut self, journal: Journal) {
        self.found = journal.sessions().map(|token| (token, None)).collect();
        for standing in self.streams.all_beside() {
            (standing.journaled, standing.is_behind) = (None, false);
        }
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

    /// Keeps a stream from now on, if it is not, and of its session these attributes: what is in that scope and not among
    /// them is gone. `id` names it in the journal, and must never have been used. What has not changed costs nothing there.
    ///
    /// # Errors
    /// If the disk cannot take it now. It is caught up with; and what can never be kept (more than 8 MiB of attributes) is told
    /// after the next commit, by [`Sessions::take_unkept`].
    pub fn keep(
        &mut self,
        key: StreamKey,
        id: u64,
        attributes: &[Attribute],
        scope: Scope,
    ) -> Result<(), Error> {
        let Some((stream, standing)) = self.streams.both_mut(key).filter(|_| self.journal.is_some()) else {
            return Ok(());
        };
        let is_new = standing.journaled.is_none();
        standing.is_behind |= is_new;
        let journaled = standing.journaled.get_or_insert_with(|| Box::new(Journaled::new(id, stream)));
        let fits = journaled.attributes.replace(attributes, if is_new { Scope::Whole } else { scope });
        let written = self.changed(key, fits);
        if is_new { self.caught_up(key) } else { written }
    }

    /// Keeps another value of one attribute, if the stream is kept.
    ///
    /// # Errors
    /// As [`Sessions::keep`].
    pub fn set(&mut self, key: StreamKey, attribute: &Attribute) -> Result<(), Error> {
        let Some(journaled) = self.journaled(key) else { return Ok(()) };
        let fits = journaled.attributes.set(attribute);
        self.changed(key, fits)
    }

    /// That attribute is gone.
    ///
    /// # Errors
    /// As [`Sessions::keep`].
    pub fn unset(&mut self, key: StreamKey, attribute: Key) -> Result<(), Error> {
        let Some(journaled) = self.journaled(key) else { return Ok(()) };
        journaled.attributes.unset(attribute);
        self.changed(key, true)
    }

    fn journaled(&mut self, key: StreamKey) -> Option<&mut Journaled> {
        self.streams.both_mut(key)?.1.journaled.as_deref_mut()
    }

    /// Attributes may have changed, if there was room for them. Writes them.
    fn changed(&mut self, key: StreamKey, fits: bool) -> Result<(), Error> {
        let (Some((_, standing)), Some(journal)) = (self.streams.both_mut(key), &mut self.journal) else {
            return Ok(());
        };
        let Some(journaled) = &mut standing.journaled else { return Ok(()) };
        let len = journaled.attributes.bytes();
        if !fits || len > LONGEST_STATE {
            if !standing.is_dismissed {
                self.unkept.push((key, Error::TooLong { len }));
                standing.is_dismissed = true;
            }
            return Ok(());
        }
        if standing.is_behind {
            return Ok(()); // with the rest
        }
        let Err(error) = journaled.write(journal) else { return Ok(()) };
        standing.is_behind = true;
        self.behind.push(key);
        match error.is_of_the_disk() {
            true => Err(error),
            false => Ok(()),
        }
    }

    /// Begins to keep a stream. The next commit goes on with what could not be written.
    fn caught_up(&mut self, key: StreamKey) -> Result<(), Error> {
        let (Some((stream, standing)), Some(journal)) = (self.streams.both_mut(key), &mut self.journal)
        else {
            return Ok(());
        };
        let Some(journaled) = standing.journaled.as_mut().filter(|_| !standing.is_dismissed) else {
            return Ok(());
        };
        match journaled.catch_up(journal, stream) {
            Ok(()) => {
                standing.is_behind = false;
                Ok(())
            }
            Err(error) => {
                self.behind.push(key);
                if error.is_of_the_disk() { Err(error) } else { Ok(()) }
            }
        }
    }

    /// Hands everything to the operating system.
    ///
    /// # Errors
    /// If that failed. Nothing is lost, the next commit tries again; until one succeeds, claims stand still.
    pub fn commit(&mut self) -> Result<(), Error> {
        let Some(journal) = &mut self.journal else { return Ok(()) };
        while let Some(&key) = self.behind.last() {
            if let Some((stream, standing)) = self.streams.both_mut(key) {
                match standing.journaled.as_mut().map(|j| j.catch_up(journal, stream)) {
                    Some(Err(error)) if error.is_of_the_disk() => return Err(error),
                    Some(Err(error)) => {
                        self.unkept.push((key, error));
                        standing.is_dismissed = true;
                    }
                    _ => {}
                }
                standing.is_behind = false;
                if standing.journaled.is_some() && !standing.is_dismissed {
                    // All that is queued is in the journal: it need not be here.
                    self.streams.update(key, |stream| stream.release(stream.queue().end()));
                }
            }
            self.behind.pop();
        }
        journal.commit().map(drop)
    }

    /// Streams of which something can never be kept, and why, each told once: their sessions have to end.
    pub fn take_unkept(&mut self) -> Vec<(StreamKey, Error)> {
        std::mem::take(&mut self.unkept)
    }

    /// Notes something of a stream that is kept.
    fn note(
        &mut self,
        key: StreamKey,
        f: impl FnOnce(&mut Journaled, &mut Journal, &Stream) -> Result<(), Error>,
    ) {
        let (Some((stream, standing)), Some(journal)) = (self.streams.both_mut(key), &mut self.journal)
        else {
            return;
        };
        let Some(journaled) = &mut standing.journaled else { return };
        if f(journaled, journal, stream).is_err() && !std::mem::replace(&mut standing.is_behind, true) {
            self.behind.push(key);
        }
    }

    // Claims ------------------------------------------------------------------------------------------------------------

    /// Notes that all but `waiting` of the stanzas that came in have been processed.
    pub fn processed(&mut self, key: StreamKey, waiting: usize) {
        self.note(key, |journaled, journal, stream| journaled.handled(journal, stream.handled(waiting).0));
    }

    /// How much of what came in on a stream may be said to have been handled, if `h` has been processed: before anything
    /// is acknowledged, all that was noted is committed. `durable` is up to where everything is that this level waits for
    /// ([`Safe::at`]).
    ///
    /// The second value is what became of the commit; an error means that claims stand still.
    pub fn claim(&mut self, key: StreamKey, h: H, level: Level, durable: u64) -> (Claim, Result<(), Error>) {
        if level == Level::None || self.journal.is_none() {
            return (Claim { h: Some(h), pending: false }, Ok(()));
        }
        self.note(key, |journaled, journal, _| journaled.handled(journal, h.0));
        let committed = self.commit();
        let (Some((_, standing)), Some(journal)) = (self.streams.both_mut(key), &self.journal) else {
            return (Claim { h: None, pending: false }, committed); // the stream is gone
        };
        let claims = &mut standing.claims;
        if committed.is_err() || standing.is_dismissed {
            return (claims.standing(level), committed);
        }
        let claim = claims.committed(h, level, durable, || {
            if level == Level::Power {
                journal.request_sync();
            }
            journal.position()
        });
        if claims.is_waiting() {
            self.waiting.insert(key, level);
        } else if !self.waiting.is_empty() {
            self.waiting.remove(&key);
        }
        (claim, committed)
    }

    /// The journal is safe that far: what may be claimed now that could not before, by stream. Each of these
    /// is owed an ack, or its `<resumed/>`. A stream whose peer is away is owed nothing: `<resumed/>` will tell it.
    pub fn settled(&mut self, safe: Safe) -> Vec<(StreamKey, H)> {
        let mut news = Vec::new();
        let streams = &mut self.streams;
        self.waiting.retain(|&key, level| {
            let Some((stream, Standing { claims, .. })) = streams.both_mut(key) else { return false };
            let settled = claims.settle(safe.at(*level)).filter(|_| !stream.is_hibernating());
            news.extend(settled.map(|h| (key, h)));
            claims.is_waiting()
        });
        news
    }

    /// The peer was told that this many were handled, less than were, and sends the rest again.
    pub fn recount(&mut self, key: StreamKey, h: H) {
        self.streams.update_both(key, |stream, standing| {
            stream.recount(h);
            standing.claims = Claims::told(h);
        });
        self.waiting.remove(&key);
        self.note(key, |journaled, journal, _| journaled.handled(journal, h.0));
    }

    // Streams -----------------------------------------------------------------------------------------------------------

    /// Starts managing a stream: [`Streams::start`].
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

    /// Counts a stanza that came in on a stream, if it is there: [`Streams::received`].
    pub fn received(&mut self, key: StreamKey, before: H) -> Option<H> {
        self.streams.received(key, before)
    }

    /// Queues a stanza on a stream, if it is there.
    pub fn push(&mut self, key: StreamKey, bytes: &[u8], summary: Summary, now: u64) -> Option<Queueing> {
        let (journal, behind) = (&mut self.journal, &mut self.behind);
        self.streams.push_and(key, bytes, summary, now, |stream, standing| {
            let (Some(journal), Some(journaled)) = (journal, &standing.journaled) else { return false };
            if standing.is_behind {
                return false; // in order: what is behind has to wait
            }
            let number = stream.queue().end();
            let stored = journaled.push(journal, number, Stanza { bytes, at: now, summary }).is_ok();
            if !stored {
                standing.is_behind = true;
                behind.push(key);
            }
            stored
        })
    }

    /// Takes the `h` of an `<a/>`, if it can be true: how many stanzas it covers, and how many are left.
    pub fn ack(&mut self, key: StreamKey, h: H) -> Option<(usize, usize)> {
        let (journal, behind) = (&mut self.journal, &mut self.behind);
        self.streams.update_both(key, |stream, standing| {
            let acked = stream.ack(h).ok()?;
            if let (Some(journal), Some(journaled)) = (journal, &mut standing.journaled)
                && journaled.acked(journal, stream.queue()).is_err()
                && !std::mem::replace(&mut standing.is_behind, true)
            {
                behind.push(key);
            }
            Some((acked, stream.queue().len()))
        })?
    }

    /// Whether a `<resume/>` can be granted, and with what: [`Streams::resumable`]. Nothing changes.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn resumable(&self, peer: Peer, request: ResumeRequest) -> Result<Resumed, Refusal> {
        self.streams.resumable(peer, request)
    }

    /// Grants a `<resume/>`: [`Streams::resume`]. Before anything is sent again, claim what `<resumed/>` is to say, and
    /// wait until that is not pending: then the journal knows, at the host's level, that the peer was there.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn resume(&mut self, peer: Peer, request: ResumeRequest) -> Result<Resumed, Refusal> {
        let resumed = self.streams.resume(peer, request)?;
        self.note(resumed.key, |journaled, journal, stream| {
            journaled.acked(journal, stream.queue()).and(journaled.connected(journal, stream))
        });
        if let Some((_, standing)) = self.streams.both_mut(resumed.key) {
            standing.claims.resumed();
        }
        Ok(resumed)
    }

    /// The stream's connection is lost: [`Streams::hibernate`].
    pub fn hibernate(&mut self, key: StreamKey, now: u64) -> Option<Hibernation> {
        let hibernation = self.streams.hibernate(key, now)?;
        self.note(key, |journaled, journal, stream| journaled.connected(journal, stream));
        self.streams.update_both(key, |stream, standing| {
            if standing.journaled.is_some() && !standing.is_behind {
                // All that is queued is in the journal: it need not be here.
                stream.release(stream.queue().end());
            }
        });
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
        let Some((stream, standing)) = self.streams.both(key) else { return Ok(()) };
        let queue = stream.queue();
        let (first, last) = (first.max(queue.first()), last.min(queue.end()));
        let (stored, here) = (first..last.min(queue.first_here()), first.max(queue.first_here())..last);
        let mut go_on = true;
        if !stored.is_empty()
            && let (Some(journal), Some(journaled)) = (&mut self.journal, &standing.journaled)
        {
            let numbering = &journaled.numbering;
            let (from, end) = (numbering.in_journal(stored.start) + 1, numbering.in_journal(stored.end));
            journal.replay(journaled.id, from, |number, record| {
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
        if let (Some(journaled), Some(journal)) = (self.forget(key), &mut self.journal)
            && let Err(error) = journal.end(journaled.id)
            && error.is_of_the_disk()
        // else it has never got there
        {
            tracing::warn!("a session that has ended comes back once more after a restart: {error}");
        }
    }

    /// Forgets a stream and what is in its queue. What is kept of it stays, and is found at the next start.
    pub fn remove(&mut self, key: StreamKey) {
        self.forget(key);
    }

    /// What the journal has of it, if it has.
    fn forget(&mut self, key: StreamKey) -> Option<Box<Journaled>> {
        let (_, standing) = self.streams.remove_both(key)?;
        if standing.is_behind {
            self.behind.retain(|k| *k != key);
        }
        self.waiting.remove(&key);
        standing.journaled
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
