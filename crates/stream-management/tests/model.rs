//! The registry against a naive model: lists that are searched from the front, counters that never wrap, nothing
//! that is clever. Whatever is done to both in whatever order, they must say the same.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, as it should")]

use enjamb_stanza::{Kind, Name, Summary};
use enjamb_stream_management::{
    AckError, AfterTurn, Ask, Cause, Closer, Closing, EnableRequest, Enabled, Ending, Framing, H, Initiator,
    Lateness, Limits, Lost, Peer, Place, Queue, Refusal, Registry, ResumeRequest, Resumed, Resumption,
    ResumptionId, Silence, Step, Stream, StreamKey, Totals,
};
use proptest::prelude::*;
use std::sync::Arc;

const ACCOUNTS: [&str; 2] = ["juliet@capulet.example", "romeo@montague.example"];
/// After how many milliseconds an answer is late, as it is by default.
const PATIENCE: u64 = 30_000;
const SUMMARY: Summary = Summary { name: Name::Message, kind: Kind::Other, delayed: false };

/// What an `h` is chosen to be, relative to what is true.
#[derive(Clone, Copy, Debug)]
enum Said {
    /// The last `n` stanzas are missing, at most all that are unacknowledged.
    Missing(usize),
    /// `n` more than were sent.
    TooMany(u32),
    /// `n` fewer than were acknowledged before, if as many were.
    TooFew(u32),
}

#[derive(Clone, Debug)]
enum Op {
    Start {
        account: usize,
        resumable: bool,
        max: Option<u32>,
    },
    Push {
        session: usize,
        len: usize,
        stored: bool,
    },
    Receive {
        session: usize,
        /// None: one. Else so many at once, which had come in behind a `<resume/>`.
        behind: Option<usize>,
    },
    Ack {
        session: usize,
        said: Said,
    },
    Request {
        session: usize,
    },
    /// Time goes by: so many milliseconds, beyond what each step takes.
    Wait {
        ms: u64,
    },
    /// The time for an answer may be over.
    Look {
        session: usize,
    },
    /// Nothing has come in for long.
    Silence {
        session: usize,
    },
    /// An `<r/>` is answered, of which the count was noted when it came in, or not.
    Answer {
        session: usize,
        stamped: bool,
        waiting: usize,
    },
    /// The stream is closed on purpose; what is queued is not looked at yet.
    EndTag {
        session: usize,
        by_peer: bool,
        waiting: Option<usize>,
    },
    /// The session was found to have to end.
    MustEnd {
        session: usize,
        cause: Cause,
    },
    /// It is asked how.
    End {
        session: usize,
        cause: Cause,
    },
    /// A turn of what is to be sent again, in which the connection is lost after so many pieces.
    Turn {
        session: usize,
        framed: bool,
        lost_after: Option<usize>,
    },
    Lose {
        session: usize,
    },
    Resume {
        session: usize,
        account: usize,
        said: Said,
    },
    Expire {
        session: usize,
    },
    Close {
        session: usize,
    },
    /// What is queued is stored elsewhere, up to the last `n`.
    Release {
        session: usize,
        but: usize,
    },
    /// The connection takes the next `n` of what is to be sent again.
    Resend {
        session: usize,
        n: usize,
    },
    /// An id that nobody was given.
    Guess {
        account: usize,
    },
}

fn said() -> impl Strategy<Value = Said> {
    prop_oneof![
        6 => (0usize..6).prop_map(Said::Missing),
        1 => (1u32..5).prop_map(Said::TooMany),
        1 => (1u32..5).prop_map(Said::TooFew),
    ]
}

fn cause() -> impl Strategy<Value = Cause> {
    prop_oneof![Just(Cause::TooMuch), Just(Cause::Unkept)]
}

fn op() -> impl Strategy<Value = Op> {
    let session = 0usize..64;
    prop_oneof![
        2 => (0usize..2, prop::bool::weighted(0.9), prop::option::of(0u32..900))
            .prop_map(|(account, resumable, max)| Op::Start { account, resumable, max }),
        8 => (session.clone(), 0usize..30, any::<bool>())
            .prop_map(|(session, len, stored)| Op::Push { session, len, stored }),
        3 => (session.clone(), prop::option::of(0usize..5))
            .prop_map(|(session, behind)| Op::Receive { session, behind }),
        4 => (session.clone(), said()).prop_map(|(session, said)| Op::Ack { session, said }),
        2 => session.clone().prop_map(|session| Op::Request { session }),
        2 => (1u64..40_000).prop_map(|ms| Op::Wait { ms }),
        2 => session.clone().prop_map(|session| Op::Look { session }),
        2 => session.clone().prop_map(|session| Op::Silence { session }),
        1 => (session.clone(), any::<bool>(), 0usize..3)
            .prop_map(|(session, stamped, waiting)| Op::Answer { session, stamped, waiting }),
        1 => (session.clone(), any::<bool>(), prop::option::of(0usize..3))
            .prop_map(|(session, by_peer, waiting)| Op::EndTag { session, by_peer, waiting }),
        2 => (session.clone(), cause()).prop_map(|(session, cause)| Op::MustEnd { session, cause }),
        2 => (session.clone(), cause()).prop_map(|(session, cause)| Op::End { session, cause }),
        2 => (session.clone(), any::<bool>(), prop::option::of(0usize..3))
            .prop_map(|(session, framed, lost_after)| Op::Turn { session, framed, lost_after }),
        4 => session.clone().prop_map(|session| Op::Lose { session }),
        4 => (session.clone(), 0usize..2, said())
            .prop_map(|(session, account, said)| Op::Resume { session, account, said }),
        1 => session.clone().prop_map(|session| Op::Expire { session }),
        1 => session.clone().prop_map(|session| Op::Close { session }),
        3 => (session.clone(), 0usize..4).prop_map(|(session, but)| Op::Release { session, but }),
        3 => (session, 1usize..5).prop_map(|(session, n)| Op::Resend { session, n }),
        1 => (0usize..2).prop_map(|account| Op::Guess { account }),
    ]
}

/// A session as a child would keep it.
struct Naive {
    key: StreamKey,
    account: usize,
    id: Option<ResumptionId>,
    timeout: u32,
    sent: Vec<Vec<u8>>,
    acked: usize,
    received: u64,
    start_in: u32,
    start_out: u32,
    away_since: Option<u64>,
    /// How many have ever gone out.
    gone_out: usize,
    /// How many have gone out, or need not, on this connection.
    caught_up: usize,
    /// How many have ever been stored.
    stored: usize,
    awaiting: bool,
    /// When it was last asked, in milliseconds; whether somebody will look; when it was last found silent.
    asked_at: u64,
    watched: bool,
    silent_at: Option<u64>,
    too_much: bool,
    unkept: bool,
    closed: Option<Closer>,
    gone: bool,
}

impl Naive {
    fn h(&self, count: u64) -> H {
        H((u64::from(self.start_out) + count) as u32)
    }

    fn say(&self, said: Said) -> H {
        match said {
            Said::Missing(n) => self.h((self.gone_out - n.min(self.gone_out - self.acked)) as u64),
            Said::TooMany(n) => self.h(self.gone_out as u64 + u64::from(n)),
            Said::TooFew(n) if n as usize <= self.acked => self.h(self.acked as u64 - u64::from(n)),
            Said::TooFew(_) => self.h(self.acked as u64),
        }
    }

    /// What an ack of `h` does: the number of stanzas, or nothing if it is not true.
    fn ack(&mut self, h: H) -> Option<usize> {
        let n = (self.acked..=self.gone_out).position(|count| self.h(count as u64) == h)?;
        self.acked += n;
        // What it has need not be sent again.
        self.caught_up = self.caught_up.max(self.acked);
        self.awaiting = false;
        Some(n)
    }
}

/// What is queued; what is stored, from the model.
fn read(stream: &Stream, naive: &Naive) -> Vec<Vec<u8>> {
    let queue = stream.queue();
    (queue.first()..queue.end())
        .map(|number| match queue.get(number).expect("in the queue") {
            Place::Here(queued) => queued.bytes.to_vec(),
            Place::Stored => naive.sent[number as usize].clone(),
        })
        .collect()
}

struct World {
    registry: Registry,
    limits: Arc<Limits>,
    sessions: Vec<Naive>,
    /// In seconds, as stanzas are stamped; each step is one. And in milliseconds, as answers are waited for.
    now: u64,
    ms: u64,
    ids: u128,
    /// Who was said to have to go for the sake of the memory.
    leaving: Option<StreamKey>,
}

impl World {
    /// One of the sessions, gone or not.
    fn pick(&self, session: usize) -> Option<usize> {
        (!self.sessions.is_empty()).then(|| session % self.sessions.len())
    }

    fn end(&mut self, index: usize) -> Vec<Vec<u8>> {
        let naive = &mut self.sessions[index];
        naive.gone = true;
        let stream = self.registry.remove(naive.key).expect("was there");
        read(&stream, naive)
    }

    fn step(&mut self, op: Op) -> Result<(), TestCaseError> {
        self.now += 1;
        self.ms += 1;
        match op {
            Op::Start { account, resumable, max } => {
                self.ids += 1;
                let max = max.map(|m| m.to_string());
                let request = EnableRequest { resume: resumable.then_some("true"), max: max.as_deref() };
                let peer = Peer::Client { account: ACCOUNTS[account], bound: true };
                let enabled = Registry::enable(&self.limits, peer, false, request, self.ids).unwrap();
                prop_assert_eq!(enabled.resumption.is_some(), resumable);
                let timeout = enabled.resumption.map_or(0, |(_, t)| t);
                prop_assert!(timeout <= self.limits.hibernation_time);
                // Half of them begin just under 2^32.
                let start = if self.ids.is_multiple_of(2) { 0 } else { u32::MAX - 3 };
                let stream = Stream::new(Arc::clone(&self.limits), H(start), H(start));
                let key = self.registry.insert(stream, Some(ACCOUNTS[account]), enabled);
                self.sessions.push(Naive {
                    key,
                    account,
                    id: enabled.resumption.map(|(id, _)| id),
                    timeout,
                    sent: Vec::new(),
                    acked: 0,
                    received: 0,
                    start_in: start,
                    start_out: start,
                    away_since: None,
                    gone_out: 0,
                    caught_up: 0,
                    stored: 0,
                    awaiting: false,
                    asked_at: 0,
                    watched: false,
                    silent_at: None,
                    too_much: false,
                    unkept: false,
                    closed: None,
                    gone: false,
                });
            }
            Op::Push { session, len, stored } => {
                let Some(i) = self.pick(session) else { return Ok(()) };
                let naive = &mut self.sessions[i];
                let bytes: Vec<u8> = format!("{}-{}-{}", i, naive.sent.len(), "x".repeat(len)).into_bytes();
                let Some(pushed) = self.registry.push(naive.key, &bytes, SUMMARY, self.now, stored) else {
                    prop_assert!(naive.gone);
                    return Ok(());
                };
                let send = naive.away_since.is_none() && naive.caught_up == naive.sent.len();
                naive.sent.push(bytes);
                if stored {
                    naive.stored = naive.sent.len();
                }
                prop_assert_eq!(pushed.send, send);
                if send {
                    (naive.gone_out, naive.caught_up) = (naive.sent.len(), naive.sent.len());
                }
                let unacked = &naive.sent[naive.acked..];
                let too_long = unacked.iter().map(Vec::len).sum::<usize>() > self.limits.queue_bytes;
                let too_many = naive.away_since.is_some() && unacked.len() > self.limits.queue_stanzas;
                // Nobody here goes on after an unanswered request for as long as would cut a live stream off.
                let (key, account) = (naive.key, naive.account);
                if too_long || too_many {
                    prop_assert_eq!(pushed.over_limit, Some(key));
                } else {
                    self.check_crowd(pushed.over_limit, key, account, stored)?;
                }
            }
            Op::Release { session, but } => {
                let Some(i) = self.pick(session) else { return Ok(()) };
                let naive = &mut self.sessions[i];
                let end = naive.sent.len().saturating_sub(but) as u64;
                if self.registry.update(naive.key, |s| s.release(end)).is_some() {
                    naive.stored = naive.stored.max(end as usize);
                }
            }
            Op::Resend { session, n } => {
                let Some(i) = self.pick(session) else { return Ok(()) };
                let naive = &mut self.sessions[i];
                let Some(stream) = self.registry.get(naive.key) else { return Ok(()) };
                let next = stream.resend_from();
                if naive.away_since.is_some() || naive.caught_up == naive.sent.len() {
                    prop_assert_eq!(next, None);
                    return Ok(());
                }
                prop_assert_eq!(next, Some(naive.caught_up as u64));
                naive.caught_up = (naive.caught_up + n).min(naive.sent.len());
                naive.gone_out = naive.gone_out.max(naive.caught_up);
                let next = naive.caught_up as u64;
                self.registry.update(naive.key, |s| s.resent(next));
            }
            Op::Receive { session, behind } => {
                let Some(i) = self.pick(session) else { return Ok(()) };
                let naive = &mut self.sessions[i];
                let Some(h) = self.registry.update(naive.key, |s| match behind {
                    None => s.received(s.inbound()),
                    Some(n) => s.received_behind(s.inbound(), n),
                }) else {
                    return Ok(());
                };
                naive.received += behind.unwrap_or(1) as u64;
                prop_assert_eq!(h, H((u64::from(naive.start_in) + naive.received) as u32));
                let stream = self.registry.get(naive.key).expect("it was there");
                prop_assert_eq!(stream.handled(0), h);
                if naive.received > 0 {
                    prop_assert_eq!(stream.handled(1), H(h.0.wrapping_sub(1)));
                }
                prop_assert_eq!(stream.handled(usize::MAX), H(naive.start_in), "never below the start");
            }
            Op::Ack { session, said } => {
                let Some(i) = self.pick(session) else { return Ok(()) };
                let h = self.sessions[i].say(said);
                let naive = &mut self.sessions[i];
                let Some(stream) = self.registry.get(naive.key) else { return Ok(()) };
                let (before, acked) = (stream.queue().len(), naive.acked);
                let said_so = self.registry.update(naive.key, |s| s.ack(h)).expect("it was there");
                match (said_so, naive.ack(h)) {
                    (Ok(n), Some(expected)) => prop_assert_eq!(n, expected),
                    (Err(error), None) => {
                        let stream = self.registry.get(naive.key).expect("it was there");
                        prop_assert_eq!(stream.queue().len(), before, "a refused ack changes nothing");
                        match (said, error) {
                            (Said::TooMany(_), AckError::TooHigh { h: said, sent }) => {
                                prop_assert_eq!(said, h);
                                prop_assert_eq!(sent, naive.h(naive.gone_out as u64));
                            }
                            (Said::TooFew(_), AckError::TooLow { acked: before, .. }) => {
                                prop_assert_eq!(before, naive.h(acked as u64));
                            }
                            other => prop_assert!(false, "{other:?}"),
                        }
                    }
                    other => prop_assert!(false, "{h:?}: {other:?}"),
                }
            }
            Op::Request { session } => {
                let Some(i) = self.pick(session) else { return Ok(()) };
                let naive = &mut self.sessions[i];
                let (key, now) = (naive.key, self.ms);
                let mut ask = |inactive, force| {
                    self.registry.update(key, |stream| stream.wants_ack(inactive, force, now))
                };
                let Some(wants) = ask(false, true).map(|ask| ask == Ask::Now) else { return Ok(()) };
                prop_assert_eq!(
                    wants,
                    naive.away_since.is_none() && !naive.awaiting && naive.closed.is_none()
                );
                if naive.caught_up <= naive.acked {
                    prop_assert_eq!(ask(false, false), Some(Ask::No), "nothing to ask for");
                }
                if wants {
                    let look = self.registry.update(key, |s| s.requested(now)).expect("it was there");
                    prop_assert_eq!(look, (!naive.watched).then_some(PATIENCE), "one looks at a time");
                    (naive.awaiting, naive.watched, naive.asked_at) = (true, true, now);
                    let again = self.registry.update(key, |stream| stream.wants_ack(true, true, now));
                    prop_assert_eq!(again, Some(Ask::No));
                }
            }
            Op::Wait { ms } => self.ms += ms,
            Op::Look { session } => {
                let Some(i) = self.pick(session) else { return Ok(()) };
                let (naive, now) = (&mut self.sessions[i], self.ms);
                if !naive.watched {
                    return Ok(());
                }
                let Some(lateness) = self.registry.update(naive.key, |s| s.lateness(now)) else {
                    return Ok(());
                };
                let expected = match naive.asked_at + PATIENCE {
                    _ if !naive.awaiting => Lateness::Answered,
                    due if due <= now => Lateness::Late,
                    due => Lateness::Wait(due - now),
                };
                prop_assert_eq!(lateness, expected);
                naive.watched = matches!(expected, Lateness::Wait(_));
            }
            Op::Silence { session } => {
                let Some(i) = self.pick(session) else { return Ok(()) };
                let (naive, now) = (&mut self.sessions[i], self.ms);
                let Some(silence) = self.registry.update(naive.key, |s| s.silence(now)) else {
                    return Ok(());
                };
                let had_a_period = naive.silent_at.is_some_and(|last| naive.asked_at <= last);
                naive.silent_at = Some(now);
                prop_assert_eq!(
                    silence,
                    match (naive.awaiting, had_a_period) {
                        (false, _) => Silence::Ask,
                        (true, false) => Silence::Wait,
                        (true, true) => Silence::Dead,
                    }
                );
                if silence == Silence::Ask && naive.away_since.is_none() && naive.closed.is_none() {
                    // Who asks does so at once, which takes a moment.
                    self.ms += 1;
                    let now = self.ms;
                    prop_assert_eq!(
                        self.registry.update(naive.key, |s| s.wants_ack(false, true, now)),
                        Some(Ask::Now)
                    );
                    self.registry.update(naive.key, |s| s.requested(now));
                    (naive.awaiting, naive.watched, naive.asked_at) = (true, true, now);
                    naive.silent_at = Some(now);
                }
            }
            Op::Answer { session, stamped, waiting } => {
                let Some(i) = self.pick(session) else { return Ok(()) };
                let naive = &self.sessions[i];
                let Some(stream) = self.registry.get(naive.key) else { return Ok(()) };
                let said = stamped.then_some(H(naive.start_in));
                let handled = naive.received.saturating_sub(waiting as u64);
                let expected = match stamped {
                    true => H(naive.start_in),
                    false => H((u64::from(naive.start_in) + handled) as u32),
                };
                prop_assert_eq!(stream.answer(said, waiting), naive.closed.is_none().then_some(expected));
            }
            Op::EndTag { session, by_peer, waiting } => {
                let Some(i) = self.pick(session) else { return Ok(()) };
                let naive = &mut self.sessions[i];
                let by = if by_peer { Closer::Peer } else { Closer::Server };
                let Some(closing) = self.registry.update(naive.key, |s| s.close(by, waiting)) else {
                    return Ok(());
                };
                let last_ack = waiting.map(|waiting| {
                    H((u64::from(naive.start_in) + naive.received.saturating_sub(waiting as u64)) as u32)
                });
                prop_assert_eq!(closing, naive.closed.is_none().then_some(Closing { last_ack }));
                naive.closed.get_or_insert(by);
                let closed_by = self.registry.get(naive.key).and_then(Stream::closed_by);
                prop_assert_eq!(closed_by, naive.closed);
            }
            Op::MustEnd { session, cause } => {
                let Some(i) = self.pick(session) else { return Ok(()) };
                let naive = &mut self.sessions[i];
                let Some(news) = self.registry.update(naive.key, |s| s.must_end(cause)) else {
                    return Ok(());
                };
                let known = match cause {
                    Cause::TooMuch => &mut naive.too_much,
                    Cause::Unkept => &mut naive.unkept,
                };
                prop_assert_eq!(news, !*known);
                *known = true;
            }
            Op::End { session, cause } => {
                let Some(i) = self.pick(session) else { return Ok(()) };
                let naive = &mut self.sessions[i];
                let Some(ending) = self.registry.update(naive.key, |s| s.ending(cause)) else {
                    return Ok(());
                };
                let wanted = match cause {
                    Cause::TooMuch => std::mem::take(&mut naive.too_much),
                    Cause::Unkept => naive.unkept,
                };
                match ending {
                    None => prop_assert!(!wanted),
                    Some(Ending::Expire { .. }) => prop_assert!(wanted && naive.away_since.is_some()),
                    Some(Ending::Close(_)) => prop_assert!(wanted && naive.away_since.is_none()),
                }
            }
            Op::Turn { session, framed, lost_after } => return self.turn(session, framed, lost_after),
            Op::Lose { session } => {
                let Some(i) = self.pick(session) else { return Ok(()) };
                let (key, resumable) = (self.sessions[i].key, self.sessions[i].id.is_some());
                if self.registry.get(key).is_none() {
                    return Ok(());
                }
                let was_away = self.sessions[i].away_since.is_some();
                let answer = self.registry.hibernate(key, self.now);
                if was_away || !resumable {
                    prop_assert!(answer.is_none());
                    return Ok(());
                }
                let hibernation = answer.expect("it can wait");
                prop_assert_eq!(hibernation.timeout, self.sessions[i].timeout);
                let lost = Lost::of(key, Some(hibernation.clone()));
                prop_assert_eq!(
                    lost == Lost::Ends { is_remembered: true },
                    self.limits.hibernated == 0,
                    "the latest waits if any may"
                );
                self.sessions[i].away_since = Some(self.now);
                self.sessions[i].awaiting = false;
                self.sessions[i].caught_up = 0;
                let account = self.sessions[i].account;
                let mut away: Vec<(u64, usize)> = self
                    .sessions
                    .iter()
                    .enumerate()
                    .filter(|(_, s)| !s.gone && s.account == account && s.away_since.is_some())
                    .map(|(n, s)| (s.away_since.unwrap(), n))
                    .collect();
                away.sort();
                let excess = away.len().saturating_sub(self.limits.hibernated);
                let expected: Vec<StreamKey> =
                    away[..excess].iter().map(|&(_, n)| self.sessions[n].key).collect();
                prop_assert_eq!(&hibernation.evicted, &expected, "the oldest go");
                for &(_, n) in &away[..excess] {
                    self.end(n);
                }
            }
            Op::Resume { session, account, said } => {
                let Some(i) = self.pick(session) else { return Ok(()) };
                let Some(id) = self.sessions[i].id else { return Ok(()) };
                let h = self.sessions[i].say(said);
                let (previd, h_text) = (id.to_string(), h.0.to_string());
                let request = ResumeRequest { previd: Some(&previd), h: Some(&h_text) };
                let peer = Peer::Client { account: ACCOUNTS[account], bound: false };
                let promised = self.registry.resumable(peer, request);
                let answer = self.resume(peer, request)?;
                prop_assert_eq!(&promised, &answer, "a dry run says what will be");
                let naive = &mut self.sessions[i];
                if naive.gone || naive.account != account {
                    prop_assert_eq!(answer, Err(Refusal::NotFound));
                    return Ok(());
                }
                match (answer, naive.ack(h)) {
                    (Ok(resumed), Some(n)) => {
                        prop_assert_eq!(resumed.key, naive.key);
                        prop_assert_eq!(resumed.acked, n);
                        prop_assert_eq!(resumed.h, H((u64::from(naive.start_in) + naive.received) as u32));
                        prop_assert_eq!(resumed.hibernating_since, naive.away_since.take());
                        naive.caught_up = naive.acked;
                        naive.awaiting = false;
                        naive.too_much = false;
                        naive.silent_at = None;
                    }
                    (Err(Refusal::Untrue(_)), None) => {}
                    other => prop_assert!(false, "{other:?}"),
                }
            }
            Op::Expire { session } | Op::Close { session } => {
                let Some(i) = self.pick(session) else { return Ok(()) };
                if self.sessions[i].gone {
                    return Ok(());
                }
                let left = self.end(i);
                prop_assert_eq!(&left[..], &self.sessions[i].sent[self.sessions[i].acked..]);
            }
            Op::Guess { account } => {
                for previd in [ResumptionId(u128::MAX).to_string(), "x".into(), "0".repeat(32)] {
                    let request = ResumeRequest { previd: Some(&previd), h: Some("0") };
                    let peer = Peer::Client { account: ACCOUNTS[account], bound: false };
                    prop_assert_eq!(self.registry.resume(peer, request), Err(Refusal::NotFound));
                }
            }
        }
        self.check()
    }

    /// All steps of a resumption.
    fn resume(
        &mut self,
        peer: Peer,
        request: ResumeRequest,
    ) -> Result<Result<Resumed, Refusal>, TestCaseError> {
        let mut resumption = Resumption::default();
        for n in 0.. {
            let found = match resumption.is_for_good() {
                true => self.registry.resume(peer, request),
                false => self.registry.resumable(peer, request),
            };
            match (n, resumption.next(found)) {
                (0, Step::Settle(key)) => prop_assert_eq!(found.map(|f| f.key), Ok(key)),
                (1, Step::Prepare(promised)) => prop_assert_eq!(found, Ok(promised)),
                (2, Step::Resumed(resumed)) => return Ok(Ok(resumed)),
                (0, Step::Refuse(refusal)) => return Ok(Err(refusal)),
                other => prop_assert!(false, "{other:?}"),
            }
        }
        unreachable!("it ends")
    }

    /// Stanzas that are sent again, until the turn is over or the connection is lost.
    fn turn(&mut self, session: usize, framed: bool, lost_after: Option<usize>) -> Result<(), TestCaseError> {
        let Some(i) = self.pick(session) else { return Ok(()) };
        let key = self.sessions[i].key;
        let framing = if framed { Framing::Frames } else { Framing::Stream };
        let Some(begun) = self.registry.update(key, Stream::begin_turn) else { return Ok(()) };
        prop_assert!(begun);
        prop_assert_eq!(self.registry.update(key, Stream::begin_turn), Some(false), "one at a time");
        let mut pieces = 0;
        while Some(pieces) != lost_after {
            let piece = self.registry.get(key).and_then(|s| s.next_piece(framing));
            let naive = &mut self.sessions[i];
            if naive.away_since.is_some() || naive.caught_up == naive.sent.len() {
                prop_assert_eq!(piece, None);
                break;
            }
            let piece = piece.expect("there is more, and nothing here fills a turn");
            prop_assert_eq!(piece.first, naive.caught_up as u64);
            prop_assert_eq!(piece.end, naive.sent.len() as u64);
            // As much as fits, but one at least.
            let (mut next, mut bytes) = (piece.first as usize, 0);
            while next < naive.sent.len() && (bytes == 0 || bytes + naive.sent[next].len() <= piece.budget) {
                bytes += naive.sent[next].len().max(1);
                next += 1;
            }
            prop_assert!(next > piece.first as usize && (!framed || next == piece.first as usize + 1));
            naive.caught_up = next;
            naive.gone_out = naive.gone_out.max(next);
            self.registry.update(key, |s| s.handed_over(next as u64, bytes));
            pieces += 1;
        }
        let naive = &self.sessions[i];
        let is_more = naive.away_since.is_none() && naive.caught_up < naive.sent.len();
        let after = self.registry.update(key, Stream::end_turn).expect("it was there");
        prop_assert_eq!(matches!(after, AfterTurn::More(_)), is_more);
        self.check()
    }

    /// Whether it is right that this stream has to go when a stanza was queued for `key`.
    fn check_crowd(
        &mut self,
        gone: Option<StreamKey>,
        key: StreamKey,
        account: usize,
        stored: bool,
    ) -> Result<(), TestCaseError> {
        let held = |s: &Naive| s.sent[s.acked..].iter().map(Vec::len).sum::<usize>();
        let held_here = |s: &Naive| s.sent[s.stored.max(s.acked)..].iter().map(Vec::len).sum::<usize>();
        let there = || self.sessions.iter().filter(|s| !s.gone);
        // Resumable or not.
        let total: usize = there().filter(|s| s.account == account).map(held).sum();
        let chosen = gone.and_then(|gone| there().find(|s| s.key == gone));
        if total > self.limits.account_bytes {
            let away = there().filter(|s| s.account == account && s.away_since.is_some());
            match away.map(held).max().filter(|most| *most > 0) {
                None => prop_assert_eq!(gone, Some(key)),
                Some(most) => {
                    let gone = chosen.expect("one has to go");
                    prop_assert!(gone.away_since.is_some() && gone.account == account && held(gone) == most);
                }
            }
            return Ok(());
        }
        let looked_after = there().any(|s| Some(s.key) == self.leaving);
        let in_memory: usize = there().map(held_here).sum();
        if stored || looked_after || in_memory <= self.limits.memory_bytes {
            prop_assert_eq!(gone, None);
            return Ok(());
        }
        prop_assert_eq!(chosen.map(held_here), there().map(held_here).max(), "who holds most in memory");
        self.leaving = gone;
        Ok(())
    }

    fn check(&self) -> Result<(), TestCaseError> {
        prop_assert_eq!(self.registry.len(), self.sessions.iter().filter(|s| !s.gone).count());
        let mut totals = Totals::default();
        for naive in &self.sessions {
            let Some(stream) = self.registry.get(naive.key) else {
                prop_assert!(naive.gone);
                continue;
            };
            prop_assert!(!naive.gone);
            let queue = stream.queue();
            let unacked = &naive.sent[naive.acked..];
            prop_assert_eq!(queue.len(), unacked.len());
            prop_assert_eq!(queue.first(), naive.acked as u64);
            prop_assert_eq!(queue.acked(), naive.h(naive.acked as u64));
            prop_assert_eq!(queue.sent(), naive.h(naive.sent.len() as u64));
            prop_assert_eq!(queue.bytes(), unacked.iter().map(Vec::len).sum::<usize>());
            prop_assert_eq!(&read(stream, naive)[..], unacked);
            prop_assert_eq!(queue.first_here(), naive.stored.max(naive.acked) as u64);
            let here = unacked.iter().skip((queue.first_here() - queue.first()) as usize);
            prop_assert_eq!(queue.bytes_here(), here.map(Vec::len).sum::<usize>());
            prop_assert!(queue.get(naive.sent.len() as u64).is_none());
            totals.stanzas += queue.len();
            totals.bytes += queue.bytes();
            totals.bytes_here += queue.bytes_here();
            prop_assert_eq!(stream.is_hibernating(), naive.away_since.is_some());
            prop_assert_eq!(stream.is_awaiting_ack(), naive.awaiting);
        }
        prop_assert_eq!(self.registry.totals(), totals);
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    #[test]
    fn registry_and_model_agree(
        hibernated in 0usize..4,
        queue_stanzas in 1usize..6,
        memory_bytes in 100usize..1000,
        ops in prop::collection::vec(op(), 1..120),
    ) {
        let limits = Limits {
            hibernated,
            queue_stanzas: 20 * queue_stanzas,
            queue_bytes: 400,
            account_bytes: 600,
            memory_bytes,
            ..Limits::default()
        };
        let mut world = World {
            registry: Registry::default(),
            limits: Arc::new(limits),
            sessions: Vec::new(),
            leaving: None,
            now: 1_000,
            ms: 1_000_000,
            ids: 0,
        };
        for op in ops {
            world.step(op)?;
        }
    }
}

/// What another server may do while this one asks it for stream management, in any order and as often as it likes.
#[derive(Clone, Copy, Debug)]
enum Answer {
    Features(bool),
    Established,
    Enabled,
    Failed,
    Stanza,
    Sent,
}

proptest! {
    #[test]
    fn an_initiator_counts_what_comes_behind_each_sides_own_element(answers in prop::collection::vec(
        prop_oneof![
            any::<bool>().prop_map(Answer::Features), Just(Answer::Established), Just(Answer::Enabled),
            Just(Answer::Failed), Just(Answer::Stanza), Just(Answer::Sent),
        ],
        0..40,
    )) {
        let mut initiator = Initiator::default();
        let mut stream: Option<Stream> = None;
        // Naive: whether it was offered last, what was said, and what came behind it.
        let (mut offered, mut asked, mut answered, mut counts) = (false, false, false, false);
        let (mut sent, mut received) = (0, 0);
        for answer in answers {
            match answer {
                Answer::Features(with) => {
                    initiator.features(with.then_some("urn:xmpp:sm:3"));
                    offered = with;
                }
                Answer::Established => {
                    let enables = initiator.established().is_some();
                    prop_assert_eq!(enables, offered && !asked, "once");
                    if enables {
                        asked = true;
                        let mut new = Stream::new(Arc::new(Limits::default()), H(0), H(0));
                        new.count_later();
                        stream = Some(new);
                    }
                }
                Answer::Enabled => {
                    let counts_now = initiator.enabled();
                    prop_assert_eq!(counts_now, asked && !answered);
                    if counts_now {
                        (answered, counts) = (true, true);
                        stream.as_mut().unwrap().count_from_here();
                    }
                }
                Answer::Failed => {
                    let refused = initiator.failed();
                    prop_assert_eq!(refused, asked && !answered);
                    if refused {
                        answered = true;
                        stream = None;
                    }
                }
                Answer::Stanza => if let Some(stream) = stream.as_mut().filter(|_| counts) {
                    stream.received(H(received));
                    received += 1;
                },
                Answer::Sent => if let Some(stream) = &mut stream {
                    stream.push(b"x", SUMMARY, 0, false);
                    sent += 1;
                },
            }
        }
        prop_assert_eq!(stream.is_some(), asked && (counts || !answered));
        if let Some(mut stream) = stream {
            prop_assert_eq!((stream.inbound(), stream.queue().sent()), (H(received), H(sent)));
            let last_ack = counts.then_some(H(received));
            prop_assert_eq!(stream.close(Closer::Server, Some(0)), Some(Closing { last_ack }));
        }
    }
}

fn client(account: &str, bound: bool) -> Peer<'_> {
    Peer::Client { account, bound }
}

#[test]
fn enable_is_refused_out_of_order() {
    let limits = Limits::default();
    let request = EnableRequest { resume: Some("true"), max: None };
    let enable = |peer, already| Registry::enable(&limits, peer, already, request, 1);
    assert_eq!(enable(Peer::Unauthenticated, false), Err(Refusal::NotAuthenticated));
    assert_eq!(enable(client("a@b", false), false), Err(Refusal::NotBound));
    assert_eq!(enable(client("a@b", true), true), Err(Refusal::AlreadyEnabled));
    assert_eq!(enable(Peer::Server, false), Ok(Enabled { resumption: None }));
    assert_eq!(enable(client("a@b", true), false), Ok(Enabled { resumption: Some((ResumptionId(1), 600)) }));
    for refusal in
        [Refusal::NotAuthenticated, Refusal::NotBound, Refusal::AlreadyEnabled, Refusal::AlreadyBound]
    {
        assert_eq!(refusal.condition(), "unexpected-request");
    }
}

#[test]
fn a_refused_resume_costs_the_session_nothing() {
    let limits = Arc::new(Limits::default());
    let mut registry = Registry::default();
    let enabled = Enabled { resumption: Some((ResumptionId(7), 600)) };
    let key = registry.start(limits, Some("a@b"), enabled, 0);
    for _ in 0..3 {
        registry.push(key, b"<message/>", SUMMARY, 0, false).unwrap();
    }
    registry.update(key, |s| s.ack(H(1))).unwrap().unwrap();
    registry.hibernate(key, 5).unwrap();
    let id = ResumptionId(7).to_string();
    let mut resume = |peer, previd, h| registry.resume(peer, ResumeRequest { previd, h });
    let a = client("a@b", false);
    assert_eq!(resume(Peer::Unauthenticated, Some(&id), Some("1")), Err(Refusal::NotAuthenticated));
    assert_eq!(resume(Peer::Server, Some(&id), Some("1")), Err(Refusal::NotForServers));
    assert_eq!(resume(client("a@b", true), Some(&id), Some("1")), Err(Refusal::AlreadyBound));
    assert_eq!(resume(client("b@b", false), Some(&id), Some("1")), Err(Refusal::NotFound));
    assert_eq!(resume(a, None, Some("1")), Err(Refusal::MissingPrevid));
    assert_eq!(resume(a, Some(""), Some("1")), Err(Refusal::MissingPrevid));
    assert_eq!(resume(a, Some(&id), None), Err(Refusal::MissingH));
    assert!(matches!(resume(a, Some(&id), Some("0x1")), Err(Refusal::MalformedH(_))));
    assert!(matches!(resume(a, Some(&id), Some("4")), Err(Refusal::Untrue(AckError::TooHigh { .. }))));
    assert!(matches!(resume(a, Some(&id), Some("0")), Err(Refusal::Untrue(AckError::TooLow { .. }))));
    let resumed = resume(a, Some(&id), Some("2")).unwrap();
    assert_eq!((resumed.key, resumed.acked, resumed.hibernating_since), (key, 1, Some(5)));
}

#[test]
fn stanzas_behind_enable_are_counted_and_not_yet_handled() {
    let mut registry = Registry::default();
    let key = registry.start(Arc::new(Limits::default()), None, Enabled { resumption: None }, 2);
    let stream = registry.get(key).unwrap();
    assert_eq!((stream.inbound(), stream.handled(2)), (H(2), H(0)));
}

#[test]
fn a_live_stream_may_burst_but_not_ignore_requests_for_ever() {
    for (queue_stanzas, slack) in [(10, 5_000), (500, 5_000), (1_000, 10_000)] {
        let limits = Arc::new(Limits { queue_stanzas, ..Limits::default() });
        let mut stream = Stream::new(limits, H(0), H(0));
        for _ in 0..20_000 {
            assert!(!stream.push(b"x", SUMMARY, 0, false).over_limit, "nobody asked for an ack yet");
        }
        stream.requested(0);
        for _ in 0..slack {
            assert!(!stream.push(b"x", SUMMARY, 0, false).over_limit);
        }
        // A burst is larger than that, and the answer cannot be read while it is made.
        for _ in 0..20_000 {
            assert!(!stream.push(b"x", SUMMARY, 0, false).over_limit);
        }
        assert!(!stream.push(b"x", SUMMARY, 9, false).over_limit);
        assert!(stream.push(b"x", SUMMARY, 10, false).over_limit);
        stream.ack(H(20_000 + slack + 20_002)).unwrap();
        assert!(!stream.push(b"x", SUMMARY, 10, false).over_limit);
        // Time begins anew.
        stream.requested(0);
        for _ in 0..=slack {
            assert!(!stream.push(b"x", SUMMARY, 100, false).over_limit);
        }
        assert!(stream.push(b"x", SUMMARY, 110, false).over_limit);
    }
}

#[test]
fn an_ack_is_asked_for_when_more_than_allowed_is_outstanding() {
    let limits = Limits { unacked: 2, inactive_unacked: 4, ..Limits::default() };
    let mut stream = Stream::new(Arc::new(limits), H(0), H(0));
    let mut asked = Vec::new();
    for n in 1..=6 {
        stream.push(b"x", SUMMARY, 0, false);
        let mut asks = |inactive| stream.wants_ack(inactive, false, 0) == Ask::Now;
        asked.push((n, asks(false), asks(true)));
    }
    let expected =
        [false, false, true, true, true, true].into_iter().zip([false, false, false, false, true, true]);
    assert!(asked.iter().map(|&(_, active, inactive)| (active, inactive)).eq(expected), "{asked:?}");
    stream.requested(0);
    stream.ack(H(0)).unwrap();
    assert_eq!(
        stream.wants_ack(false, false, 5_000),
        Ask::No,
        "a peer that counts wrongly is not asked for the same count again"
    );
    stream.push(b"x", SUMMARY, 0, false);
    assert_eq!(stream.wants_ack(false, false, 5_000), Ask::Now);
}

fn resumable(registry: &mut Registry, limits: Limits) -> StreamKey {
    let resumption = Some((ResumptionId(7), 600));
    registry.start(Arc::new(limits), Some("a@b"), Enabled { resumption }, 0)
}

/// How many stanzas, sent one every so many milliseconds to a peer that answers at once, make how many requests; and how
/// long after the last stanza the last request comes.
fn asked_at_a_pace(every: u64, stanzas: u64) -> (usize, u64) {
    let mut registry = Registry::default();
    let key = resumable(&mut registry, Limits::default());
    let (mut asked, mut last) = (0, 0);
    let end = every * (stanzas - 1);
    for now in 0..=end + 2_000 {
        registry.update(key, |stream| {
            if now % every == 0 && now <= end {
                stream.push(b"x", SUMMARY, 0, false);
            }
            if stream.wants_ack(false, false, now) == Ask::Now {
                stream.requested(now);
                (asked, last) = (asked + 1, now);
                stream.ack(stream.queue().sent()).expect("it was sent");
            }
        });
    }
    (asked, last - end)
}

#[test]
fn a_peer_is_asked_when_the_line_is_quiet_and_once_a_second_while_it_is_not() {
    assert_eq!(asked_at_a_pace(1, 1), (1, 0), "a single one at once");
    assert_eq!(asked_at_a_pace(2_000, 5), (5, 0), "so is each that comes alone");
    assert_eq!(asked_at_a_pace(1, 10), (2, 60), "the rest of a burst when it is over");
    assert_eq!(asked_at_a_pace(100, 10), (10, 60), "what is slow, when nothing has followed");
    // The first at once, then after each second, and after the last.
    assert_eq!(asked_at_a_pace(50, 100), (6, 60));
}

#[test]
fn nobody_is_asked_later_than_promised() {
    let mut registry = Registry::default();
    let key = resumable(&mut registry, Limits::default());
    registry.update(key, |stream| {
        let push = |stream: &mut Stream, n: u32| {
            for _ in 0..n {
                stream.push(b"x", SUMMARY, 0, false);
            }
        };
        push(stream, 1);
        stream.requested(10_000);
        stream.ack(H(1)).unwrap();
        push(stream, 1);
        assert_eq!(stream.wants_ack(false, false, 10_300), Ask::In(60));
        assert_eq!(stream.wants_ack(false, false, 10_340), Ask::In(20));
        assert_eq!(stream.wants_ack(false, true, 10_340), Ask::Now, "forced");
        push(stream, 1);
        assert_eq!(stream.wants_ack(false, false, 10_340), Ask::In(60), "it is not quiet");
        push(stream, 1);
        assert_eq!(stream.wants_ack(false, false, 11_280), Ask::In(20), "within a second");
        assert_eq!(stream.wants_ack(false, false, 9_000), Ask::Now, "the clock went back");
        push(stream, 62);
        assert_eq!(stream.wants_ack(false, false, 11_280), Ask::Now, "too many");
    });
    // Nobody resumes this one: what is not acknowledged when it is lost is returned.
    let mut single = Stream::new(Arc::new(Limits::default()), H(0), H(0));
    for n in 1..3 {
        single.push(b"x", SUMMARY, 0, false);
        assert_eq!(single.wants_ack(false, false, 10_000), Ask::Now);
        single.requested(10_000);
        single.ack(H(n)).unwrap();
    }
}

#[test]
fn when_the_server_holds_too_much_one_goes_at_a_time() {
    let limits = Arc::new(Limits { server_bytes: 20, ..Limits::default() });
    let mut registry = Registry::default();
    let mut start = |account: &str, id| {
        let enabled = Enabled { resumption: Some((ResumptionId(id), 600)) };
        registry.start(Arc::clone(&limits), Some(account), enabled, 0)
    };
    let (long, short, live) = (start("a@b", 1), start("b@b", 2), start("c@b", 3));
    let push = |registry: &mut Registry, key, bytes: &[u8]| {
        registry.push(key, bytes, SUMMARY, 0, false).unwrap().over_limit
    };
    assert_eq!(push(&mut registry, long, b"0123456789"), None);
    assert_eq!(push(&mut registry, short, b"01234"), None);
    registry.hibernate(long, 1).unwrap();
    registry.hibernate(short, 1).unwrap();
    assert_eq!(push(&mut registry, live, b"01234"), None);
    assert_eq!(push(&mut registry, live, b"5"), Some(long));
    assert_eq!(push(&mut registry, live, b"6"), None, "it is being looked after");
    registry.remove(long);
    assert_eq!(push(&mut registry, live, b"7890123456"), Some(short));
    registry.remove(short);
    assert_eq!(push(&mut registry, live, b"x"), None, "there is room again");
    assert_eq!(push(&mut registry, live, b"xxxx"), Some(live), "nobody is away");
}

#[test]
fn what_cannot_be_resumed_counts_for_its_account() {
    let limits = Arc::new(Limits { account_bytes: 20, ..Limits::default() });
    let mut registry = Registry::default();
    let start = |registry: &mut Registry, account: Option<&str>, id: Option<u128>| {
        let enabled = Enabled { resumption: id.map(|id| (ResumptionId(id), 600)) };
        registry.start(Arc::clone(&limits), account, enabled, 0)
    };
    let push = |registry: &mut Registry, key| {
        registry.push(key, b"0123456789", SUMMARY, 0, false).unwrap().over_limit
    };
    let (one, two) = (start(&mut registry, Some("a@b"), None), start(&mut registry, Some("a@b"), None));
    let (other, server) = (start(&mut registry, Some("c@b"), None), start(&mut registry, None, None));
    assert_eq!(push(&mut registry, one), None);
    assert_eq!(push(&mut registry, two), None);
    for _ in 0..2 {
        assert_eq!(push(&mut registry, other), None, "another account");
    }
    for _ in 0..9 {
        assert_eq!(push(&mut registry, server), None, "no account");
    }
    assert_eq!(push(&mut registry, two), Some(two));
    registry.remove(two);
    assert_eq!(push(&mut registry, one), None);
    // One that is away goes first, but not for nothing.
    let (empty, away) =
        (start(&mut registry, Some("a@b"), Some(1)), start(&mut registry, Some("a@b"), Some(2)));
    registry.hibernate(empty, 1).unwrap();
    assert_eq!(push(&mut registry, one), Some(one));
    registry.hibernate(away, 1).unwrap();
    assert_eq!(push(&mut registry, away), Some(away));
    registry.revoke(away);
    assert_eq!(push(&mut registry, one), Some(one));
    registry.revoke(one);
    registry.revoke(empty);
    let three = start(&mut registry, Some("a@b"), None);
    for _ in 0..2 {
        assert_eq!(push(&mut registry, three), None, "the account begins anew");
    }
}

#[test]
fn when_the_memory_holds_too_much_the_one_that_holds_most_of_it_goes() {
    let limits = Arc::new(Limits { memory_bytes: 25, ..Limits::default() });
    let mut registry = Registry::default();
    let mut start = |id| {
        let enabled = Enabled { resumption: Some((ResumptionId(id), 600)) };
        registry.start(Arc::clone(&limits), Some("a@b"), enabled, 0)
    };
    let (kept, live, away) = (start(1), start(2), start(3));
    let push = |registry: &mut Registry, key, stored| {
        registry.push(key, b"0123456789", SUMMARY, 0, stored).unwrap().over_limit
    };
    registry.hibernate(away, 1).unwrap();
    assert_eq!(push(&mut registry, away, false), None);
    assert_eq!(push(&mut registry, live, false), None);
    for _ in 0..9 {
        assert_eq!(push(&mut registry, kept, true), None, "that is on disk");
    }
    assert_eq!(push(&mut registry, live, false), Some(live), "although somebody is away");
    assert_eq!(push(&mut registry, away, false), None, "it is being looked after");
    registry.remove(live);
    assert_eq!(push(&mut registry, kept, true), None);
    assert_eq!(push(&mut registry, away, false), Some(away));
    registry.remove(away);
    assert_eq!(push(&mut registry, kept, false), None);
}

#[test]
fn what_is_stored_is_not_in_memory_and_neither_is_what_was_queued_before_it() {
    let mut stream = Stream::new(Arc::new(Limits::default()), H(0), H(0));
    for stored in [true, false, false] {
        stream.push(&[b'x'; 1_000], SUMMARY, 0, stored);
    }
    assert_eq!((stream.queue().bytes(), stream.queue().bytes_here()), (3_000, 2_000));
    stream.push(&[b'x'; 1_000], SUMMARY, 0, true);
    assert_eq!((stream.queue().bytes(), stream.queue().bytes_here()), (4_000, 0));
    assert_eq!(stream.ack(H(4)), Ok(4));
    assert_eq!(stream.queue().bytes(), 0);
}

fn restored(kept: usize, unsent_from: u64) -> Stream {
    let queue = Queue::restored(7, H(u32::MAX - 1), (0..kept as u32).map(|n| 100 + n));
    Stream::restored(Arc::new(Limits::default()), H(5), queue, unsent_from)
}

/// The numbers of what is queued.
fn left(stream: &Stream) -> std::ops::Range<u64> {
    stream.queue().first()..stream.queue().end()
}

#[test]
fn after_a_crash_the_peer_may_have_more_than_was_kept() {
    // Three were kept, the peer has had five: the last two were sent, and their senders told nothing.
    let h = H(u32::MAX - 1).plus(5);
    // Of the four that are queued now, the new one has not gone anywhere.
    let mut known = restored(3, 10);
    known.push(b"new", SUMMARY, 0, false);
    assert_eq!(known.covered_by(h), Ok(3));
    assert_eq!(known.ack(h), Ok(3));
    assert_eq!(left(&known), 10..11);
    assert_eq!((known.queue().acked(), known.queue().sent()), (h, h.plus(1)));
    // From here on it counts as always.
    assert!(matches!(known.ack(h.plus(1)), Err(AckError::TooHigh { .. })), "it was not sent");
    known.resent(11);
    assert!(matches!(known.ack(h.plus(2)), Err(AckError::TooHigh { .. })));
    assert_eq!(known.ack(h.plus(1)), Ok(1));
}

#[test]
fn after_a_crash_an_ack_below_what_was_kept_is_exact() {
    let mut stream = restored(3, 10);
    stream.push(b"new", SUMMARY, 0, false);
    assert_eq!(stream.ack(H(u32::MAX - 1).plus(2)), Ok(2));
    assert_eq!(left(&stream), 9..11);
    let mut stream = restored(3, 10);
    assert!(matches!(stream.ack(H(u32::MAX - 2)), Err(AckError::TooLow { .. })));
    assert_eq!(left(&stream), 7..10);
}

#[test]
fn what_was_queued_while_the_peer_was_away_is_never_taken_for_sent() {
    // Two of four had gone out before the peer went away; two were queued since, and then the server crashed.
    let mut stream = restored(4, 9);
    assert_eq!(stream.ack(H(u32::MAX - 1).plus(4)), Ok(2));
    assert_eq!(left(&stream), 9..11);
}

#[test]
fn what_is_pushed_while_a_long_queue_is_sent_again_waits_for_its_turn() {
    let mut registry = Registry::default();
    let enabled = Enabled { resumption: Some((ResumptionId(7), 600)) };
    let key = registry.start(Arc::new(Limits::default()), Some("a@b"), enabled, 0);
    let push = |registry: &mut Registry| registry.push(key, b"x", SUMMARY, 0, false).unwrap().send;
    assert!(push(&mut registry));
    registry.hibernate(key, 5).unwrap();
    for _ in 0..3 {
        assert!(!push(&mut registry));
    }
    let id = ResumptionId(7).to_string();
    let resume = |registry: &mut Registry, h| {
        registry.resume(client("a@b", false), ResumeRequest { previd: Some(&id), h: Some(h) })
    };
    assert!(resume(&mut registry, "2").is_err(), "only one was ever sent");
    resume(&mut registry, "1").unwrap();
    let resend_from = |registry: &Registry| registry.get(key).unwrap().resend_from();
    assert_eq!(resend_from(&registry), Some(1));
    registry.update(key, |s| s.resent(2));
    assert!(!push(&mut registry));
    assert!(registry.update(key, |s| s.ack(H(3))).unwrap().is_err(), "it has not gone out");
    assert_eq!(registry.update(key, |s| s.ack(H(2))).unwrap(), Ok(1));
    // Lost again, resumed again.
    registry.hibernate(key, 6).unwrap();
    assert!(resume(&mut registry, "3").is_err());
    resume(&mut registry, "2").unwrap();
    assert_eq!(resend_from(&registry), Some(2));
    registry.update(key, |s| s.resent(5));
    assert_eq!(resend_from(&registry), None);
    assert!(push(&mut registry));
    assert_eq!(registry.update(key, |s| s.ack(H(6))).unwrap(), Ok(4));
}

#[test]
fn a_peer_that_had_more_than_it_said_is_not_waited_for() {
    // It had both on its old connection, and says so only after it has resumed.
    let mut registry = Registry::default();
    let key = resumable(&mut registry, Limits::default());
    let push = |registry: &mut Registry| registry.push(key, b"x", SUMMARY, 0, false).unwrap().send;
    assert!(push(&mut registry) && push(&mut registry));
    registry.hibernate(key, 5).unwrap();
    let id = ResumptionId(7).to_string();
    let request = ResumeRequest { previd: Some(&id), h: Some("0") };
    registry.resume(client("a@b", false), request).unwrap();
    assert!(!push(&mut registry), "older ones go first");
    assert_eq!(registry.update(key, |s| s.ack(H(2))).unwrap(), Ok(2));
    let framing = Framing::Stream;
    registry.update(key, |s| {
        assert!(s.begin_turn());
        assert_eq!(s.next_piece(framing).map(|p| (p.first, p.end)), Some((2, 3)));
        s.handed_over(3, 1);
        assert_eq!(s.end_turn(), AfterTurn::Done);
    });
    registry.hibernate(key, 6).unwrap();
    registry.resume(client("a@b", false), ResumeRequest { h: Some("2"), ..request }).unwrap();
    assert_eq!(registry.update(key, |s| s.ack(H(3))).unwrap(), Ok(1));
    registry.update(key, |s| {
        assert_eq!(s.resend_from(), None, "nothing is left to be sent again");
        assert!(s.begin_turn());
        assert_eq!(s.next_piece(framing), None);
        assert_eq!(s.end_turn(), AfterTurn::Done);
    });
    assert!(push(&mut registry), "what is new goes out at once");
}
