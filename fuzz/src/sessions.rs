//! Streams and what is kept of them, in any order of what may happen, on a disk that may be full, with a process that may
//! be killed: nothing is claimed that is not kept, and nothing is lost that somebody was told is handled.

use crate::disk::{DIR, Disk};
use crate::operations;
use arbitrary::Arbitrary;
use enjamb_journal::{Config, Journal};
use enjamb_sessions::{Level, Scope, Sessions, State};
use enjamb_stanza::{Kind, Name, Summary};
use enjamb_stream_management::{Enabled, H, Limits, Peer, ResumeRequest, ResumptionId, StreamKey};
use std::path::Path;
use std::sync::Arc;

#[derive(Arbitrary, Debug)]
enum Operation {
    Start,
    Keep(u8, u8),
    Push(u8, u8),
    Ack(u8, u8),
    Receive(u8, u8),
    Processed(u8),
    Claim(u8),
    Hibernate(u8),
    Resume(u8, u8),
    End(u8),
    Commit,
    Full(bool),
    Kill,
}

/// What must hold of one stream.
struct Stream {
    key: StreamKey,
    /// In the journal, and by which it is known after a restart.
    id: u64,
    resumption: ResumptionId,
    kept: bool,
    /// How many stanzas came in, how many of them the peer was told are handled, and how many since the stream is kept.
    received: u32,
    said: u32,
    claimed: u32,
    /// What was pushed, but for what the peer has and the journal never had; how many of it the peer may have been sent, has acknowledged, and are known to be on disk.
    pushed: Vec<Option<Vec<u8>>>,
    sent: usize,
    acked: usize,
    written: usize,
    /// That it was resumed is on disk, if it was. Else what it got since may be sent to it twice.
    exact: bool,
}

struct World {
    disk: Arc<Disk>,
    sessions: Sessions,
    limits: Arc<Limits>,
    streams: Vec<Stream>,
    made: u64,
}

const ACCOUNT: &str = "a@b";

fn journal(disk: &Arc<Disk>) -> Journal {
    let config = Config {
        segment_bytes: 2048,
        buffer_bytes: 256,
        waiting_bytes: 4096,
        garbage_floor: 0,
        collect_step: 128,
        ..Config::default()
    };
    match Journal::open_in(Arc::clone(disk) as _, Path::new(DIR), config) {
        Ok((journal, recovery)) => {
            assert!(recovery.is_whole(), "{recovery:?}");
            journal
        }
        Err(error) => panic!("{error}"),
    }
}

impl World {
    fn new() -> World {
        let disk = Arc::new(Disk::default());
        let mut sessions = Sessions::default();
        sessions.open(journal(&disk));
        World { disk, sessions, limits: Arc::default(), streams: Vec::new(), made: 0 }
    }

    fn stream(&mut self, n: u8) -> Option<&mut Stream> {
        let len = self.streams.len();
        self.streams.get_mut(usize::from(n).checked_rem(len)?)
    }

    /// Everything is handed to the operating system, if it could be.
    fn committed(&mut self, ok: bool) {
        if ok {
            for stream in self.streams.iter_mut().filter(|s| s.kept) {
                stream.written = stream.pushed.len();
            }
        }
        assert!(self.sessions.take_unkept().is_empty(), "nothing is too long");
    }

    fn act(&mut self, operation: &Operation) {
        match *operation {
            Operation::Start => {
                self.made += 1;
                let resumption = ResumptionId(u128::from(self.made));
                let enabled = Enabled { resumption: Some((resumption, 60)) };
                let key = self.sessions.start(Arc::clone(&self.limits), Some(ACCOUNT), enabled, 0);
                self.streams.push(Stream {
                    key,
                    id: self.made,
                    resumption,
                    kept: false,
                    received: 0,
                    said: 0,
                    claimed: 0,
                    pushed: Vec::new(),
                    sent: 0,
                    acked: 0,
                    written: 0,
                    exact: true,
                });
            }
            Operation::Keep(n, len) => {
                let Some(stream) = self.stream(n) else { return };
                stream.kept = true;
                let (key, id) = (stream.key, stream.id);
                // A disk that is full is caught up with.
                let client_id = Some("s".repeat(usize::from(len)));
                let [username, host, resource, xmlns] = ["a", "b", "c", "d"].map(str::to_owned);
                let state = State { username, host, resource, xmlns, client_id, ..State::default() };
                let _ = self.sessions.keep(key, id, &state.attributes(), Scope::Small);
            }
            Operation::Push(n, len) => {
                let Some(stream) = self.stream(n) else { return };
                let bytes = format!("<iq id='{}'>{}</iq>", stream.pushed.len(), "x".repeat(usize::from(len)));
                stream.pushed.push(Some(bytes.clone().into_bytes()));
                let key = stream.key;
                let summary = Summary { name: Name::Iq, kind: Kind::Other, delayed: false };
                let queueing = self.sessions.push(key, bytes.as_bytes(), summary, 1);
                let Some(queueing) = queueing else { panic!("the stream is gone") };
                if queueing.send
                    && let Some(stream) = self.stream(n)
                {
                    stream.sent = stream.pushed.len();
                }
            }
            Operation::Ack(n, more) => {
                let Some(stream) = self.stream(n) else { return };
                stream.acked = (stream.acked + usize::from(more)).min(stream.sent);
                let (key, exact) = (stream.key, stream.exact);
                let (h, left) = (stream.acked as u32, stream.pushed.len() - stream.acked);
                let Some((_, found)) = self.sessions.ack(key, H(h)) else { panic!("{h} cannot be true") };
                assert!(if exact { found == left } else { found >= left }, "{found} are left, not {left}");
            }
            Operation::Receive(n, times) => {
                let Some(stream) = self.stream(n) else { return };
                let (key, before) = (stream.key, stream.received);
                stream.received += u32::from(times);
                let received = stream.received;
                for n in before..received {
                    self.sessions.update(key, |s| s.received(H(n)));
                }
                assert_eq!(self.sessions.get(key).map(|s| s.inbound()), Some(H(received)));
            }
            Operation::Processed(n) => {
                let Some(stream) = self.stream(n) else { return };
                let key = stream.key;
                self.sessions.processed(key, 0);
            }
            Operation::Claim(n) => {
                self.claim(n);
            }
            Operation::Hibernate(n) => {
                let Some(stream) = self.stream(n) else { return };
                let key = stream.key;
                self.hibernate(key);
            }
            Operation::Resume(n, more) => {
                let Some(stream) = self.stream(n) else { return };
                // It has what was acknowledged, and perhaps some more.
                stream.acked = (stream.acked + usize::from(more)).min(stream.sent);
                let (previd, h) = (stream.resumption.to_string(), stream.acked.to_string());
                let peer = Peer::Client { account: ACCOUNT, bound: false };
                let request = ResumeRequest { previd: Some(&previd), h: Some(&h) };
                let resumed = self.sessions.resume(peer, request);
                assert!(resumed.is_ok(), "{resumed:?}");
                // Before <resumed/> goes out; behind it all else is sent again.
                let committed = self.claim(n);
                let Some(stream) = self.stream(n) else { return };
                stream.exact &= committed || !stream.kept;
                stream.sent = stream.pushed.len();
                let key = stream.key;
                self.sessions.update(key, |s| s.resent(u64::MAX));
            }
            Operation::End(n) => {
                let Some(stream) = self.stream(n) else { return };
                let key = stream.key;
                self.end(key);
            }
            Operation::Commit => {
                let committed = self.sessions.commit().is_ok();
                self.committed(committed);
            }
            Operation::Full(full) => self.disk.set_full(full),
            Operation::Kill => self.kill(),
        }
    }

    /// Whether it could be committed.
    fn claim(&mut self, n: u8) -> bool {
        let Some(stream) = self.stream(n) else { return true };
        let (key, received, said) = (stream.key, stream.received, stream.said);
        let (claim, committed) = self.sessions.claim(key, H(received), Level::Process, 0);
        self.committed(committed.is_ok());
        let h = claim.h.map_or(said, |h| h.0);
        assert_eq!(h, if committed.is_ok() { received } else { said });
        if let Some(stream) = self.stream(n) {
            stream.said = h;
            if stream.kept && committed.is_ok() {
                stream.claimed = h;
            }
        }
        committed.is_ok()
    }

    fn hibernate(&mut self, key: StreamKey) {
        let evicted = self.sessions.hibernate(key, 1).map(|h| h.evicted).unwrap_or_default();
        for key in evicted {
            self.end(key);
        }
    }

    fn end(&mut self, key: StreamKey) {
        self.sessions.ended(key);
        self.streams.retain(|s| s.key != key);
    }

    /// The process dies; the next one brings back what is kept.
    fn kill(&mut self) {
        let disk = self.disk.killed();
        let mut sessions = Sessions::default();
        sessions.open(journal(&disk));
        let found: Vec<u64> = sessions.found().into_iter().map(|f| f.token).collect();
        let (limits, streams) = (Arc::clone(&self.limits), std::mem::take(&mut self.streams));
        (self.disk, self.sessions) = (disk, sessions);
        for mut stream in streams {
            if !found.contains(&stream.id) {
                assert!(stream.claimed == 0 && stream.written == 0, "a session is lost");
                continue;
            }
            let enabled = Enabled { resumption: Some((stream.resumption, 60)) };
            let restored = match self.sessions.restore(stream.id, Arc::clone(&limits), ACCOUNT, enabled) {
                Ok(restored) => restored,
                Err(error) => panic!("{error}"),
            };
            assert_eq!(restored.lost, 0);
            assert!(
                restored.h.0 >= stream.claimed,
                "{} were claimed, {} are kept",
                stream.claimed,
                restored.h.0
            );
            assert!(restored.h.0 <= stream.received);
            stream.key = restored.key;
            let mut back = Vec::new();
            let read = self.sessions.read(stream.key, 0, u64::MAX, |stanza| {
                back.extend(stanza.map(|s| s.bytes.to_vec()));
                true
            });
            assert!(read.is_ok());
            let pushed = &mut stream.pushed;
            let first = back.first().and_then(|b| pushed.iter().position(|p| p.as_ref() == Some(b)));
            assert!(first.is_some() || back.is_empty());
            let places = (first.unwrap_or(0)..pushed.len()).filter(|&n| pushed[n].is_some());
            let places: Vec<usize> = places.take(back.len()).collect();
            assert!(back.iter().map(Some).eq(places.iter().map(|&n| pushed[n].as_ref())), "others are back");
            let end = places.last().map_or(0, |last| last + 1);
            assert!(first.is_none_or(|first| first <= stream.acked), "the oldest are lost");
            assert!(end.max(stream.acked) >= stream.written, "the newest are lost");
            pushed.iter_mut().take(stream.acked).skip(end).for_each(|gone| *gone = None);
            pushed.truncate(end.max(stream.acked));
            // What is gone was in no ack: its senders send it again, which here is somebody else.
            (stream.received, stream.said) = (restored.h.0, restored.h.0);
            stream.sent = stream.sent.min(stream.pushed.len());
            stream.written = stream.pushed.len();
            stream.kept = true;
            let key = stream.key;
            self.streams.push(stream);
            self.hibernate(key);
        }
    }
}

/// See the module.
pub fn run(data: &[u8]) {
    let mut world = World::new();
    for operation in operations::<Operation>(data) {
        world.act(&operation);
    }
    world.disk.set_full(false);
    world.kill();
}
