//! What is known of a session outlives whatever happens: any sequence of changes, written, killed anywhere, is read back as
//! it was after one of them, and not before the last that was promised.

#![allow(clippy::unwrap_used)]

use enjamb_journal::faults::MemoryFiles;
use enjamb_journal::{Config, Journal};
use enjamb_sessions::{
    Attribute, AttributeKind, Bytes, Key, Level, NotRestored, Scope, Sessions, State, Value,
};
use enjamb_stanza::{Kind, Name, Summary};
use enjamb_stream_management::{Enabled, H, Limits, ResumptionId, StreamKey};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

const TOKEN: u64 = 7;

fn tiny() -> Config {
    Config {
        segment_bytes: 1500,
        buffer_bytes: 200,
        waiting_bytes: 4000,
        garbage_floor: 1000,
        collect_step: 200,
        ..Config::default()
    }
}

fn open(files: &MemoryFiles) -> Journal {
    let (journal, recovery) = Journal::open_in(files.process(), Path::new("/j"), tiny()).unwrap();
    assert!(recovery.is_whole(), "{recovery:?}");
    journal
}

fn sessions(files: &MemoryFiles) -> Sessions {
    let mut sessions = Sessions::default();
    sessions.open(open(files));
    sessions
}

fn enabled() -> Enabled {
    Enabled { resumption: Some((ResumptionId(1), 600)) }
}

fn start(sessions: &mut Sessions) -> StreamKey {
    sessions.start(Arc::new(Limits::default()), Some("romeo@x"), enabled(), 0)
}

fn romeo() -> State {
    let [username, host, resource, xmlns] = ["romeo", "x", "orchard", "urn:xmpp:sm:3"].map(str::to_owned);
    State { username, host, resource, xmlns, id: "id".into(), timeout: 600, ..State::default() }
}

#[derive(Clone, Debug)]
enum Op {
    Presence(Option<usize>),
    Directed(u8, bool),
    Room(u8, Option<u8>),
    /// What is compared as a whole: a priority, whether carbons are wanted, a field, what another module has.
    Small(i64, bool, Option<u8>, Option<usize>),
    Push(usize),
    Commit,
    Full(usize),
    Heal,
    DieAfter(u64),
    Die,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => proptest::option::of(0..200usize).prop_map(Op::Presence),
        8 => (0..6u8, any::<bool>()).prop_map(|(n, on)| Op::Directed(n, on)),
        5 => (0..3u8, proptest::option::of(0..3u8)).prop_map(|(room, nick)| Op::Room(room, nick)),
        5 => (0..3i64, any::<bool>(), proptest::option::of(0..3u8), proptest::option::of(0..100usize))
            .prop_map(|(p, c, f, o)| Op::Small(p, c, f, o)),
        4 => (0..300usize).prop_map(Op::Push),
        5 => Just(Op::Commit),
        1 => (0..500usize).prop_map(Op::Full),
        3 => Just(Op::Heal),
        1 => (0..600u64).prop_map(Op::DieAfter),
        2 => Just(Op::Die),
    ]
}

fn by_name(state: &State) -> BTreeMap<String, Attribute> {
    state.attributes().into_iter().map(|a| (format!("{:?}", a.key()), a)).collect()
}

struct World {
    files: MemoryFiles,
    sessions: Sessions,
    key: StreamKey,
    /// What it was after each change, and which of these was promised last.
    history: Vec<State>,
    promised: usize,
    texts: u8,
    /// Several attributes have changed together since, or are written together.
    mixed: bool,
}

impl World {
    fn new() -> World {
        let files = MemoryFiles::default();
        let mut sessions = sessions(&files);
        let key = start(&mut sessions);
        sessions.keep(key, TOKEN, &romeo().attributes(), Scope::Whole).unwrap();
        sessions.commit().unwrap();
        World { files, sessions, key, history: vec![romeo()], promised: 0, texts: 0, mixed: false }
    }

    fn now(&self) -> State {
        self.history.last().unwrap().clone()
    }

    /// One attribute after the other: each may be the last that is written.
    fn change(&mut self, f: impl FnOnce(&mut State)) {
        let mut state = self.now();
        f(&mut state);
        self.history.push(state);
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Presence(Some(len)) => {
                self.texts = self.texts.wrapping_add(1);
                let presence = Bytes(vec![self.texts; len]);
                let _ = self.sessions.set(self.key, &Attribute::Presence(presence.clone()));
                self.change(|s| s.presence = Some(presence));
            }
            Op::Presence(None) => {
                let _ = self.sessions.unset(self.key, Key::Only(AttributeKind::Presence));
                self.change(|s| s.presence = None);
            }
            Op::Directed(n, on) => {
                let jid = format!("friend-{n}@far.example/away");
                let _ = match on {
                    true => self.sessions.set(self.key, &Attribute::Directed(jid.clone())),
                    false => self.sessions.unset(self.key, Key::Named(AttributeKind::Directed, &jid)),
                };
                self.change(|s| {
                    let mut directed = s.directed.take().unwrap_or_default();
                    directed.retain(|j| *j != jid);
                    directed.extend(on.then_some(jid));
                    directed.sort();
                    s.directed = Some(directed).filter(|d| !d.is_empty());
                });
            }
            Op::Room(n, nick) => {
                let room = format!("room-{n}@rooms.example");
                let nick = nick.map(|n| n.to_string());
                let _ = match nick.clone() {
                    Some(nick) => self.sessions.set(self.key, &Attribute::Room { room: room.clone(), nick }),
                    None => self.sessions.unset(self.key, Key::Named(AttributeKind::Room, &room)),
                };
                self.change(|s| {
                    let mut rooms = s.rooms.take().unwrap_or_default();
                    rooms.remove(&room);
                    rooms.extend(nick.map(|nick| (room, nick)));
                    s.rooms = Some(rooms).filter(|r| !r.is_empty());
                });
            }
            Op::Small(priority, carbons, field, other) => {
                self.change(|s| s.priority = Some(priority));
                self.change(|s| {
                    s.fields = field.map(|n| [("mine".to_owned(), Value::Integer(n.into()))].into());
                });
                self.change(|s| {
                    let text = other.map(|len| Value::Text(Bytes(vec![0xff; len])));
                    s.others = text.map(|text| ("theirs".to_owned(), text)).into_iter().collect();
                });
                self.change(|s| {
                    drop(carbons.then(|| s.others.insert("want_carbons".into(), Value::Boolean(true))))
                });
                let to = self.now();
                self.mixed = true; // what is gone is taken away after what is new was written
                let _ = self.sessions.keep(self.key, 0, &to.attributes(), Scope::Small);
            }
            Op::Push(len) => {
                let summary = Summary { name: Name::Message, kind: Kind::Other, delayed: false };
                self.sessions.push(self.key, &vec![b'x'; len], summary, 1).unwrap();
                let h = self.sessions.get(self.key).unwrap().queue().acked().plus(1);
                self.sessions.ack(self.key, h);
            }
            Op::Commit => {
                if self.sessions.commit().is_ok() {
                    self.promised = self.history.len() - 1;
                    self.mixed = false;
                }
            }
            Op::Full(bytes) => {
                self.files.room(bytes);
                self.mixed = true;
            }
            Op::Heal => self.files.heal(),
            Op::DieAfter(bytes) => self.files.die_after(bytes),
            Op::Die => self.die(),
        }
    }

    fn die(&mut self) {
        self.sessions = Sessions::default();
        self.files.crash();
        self.files.heal();
        self.sessions = sessions(&self.files);
        let found = self.sessions.found();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].host.as_deref().unwrap(), "x");
        let state = self.sessions.state(found[0].token).unwrap();
        let possible = &self.history[self.promised..];
        if self.mixed {
            for (name, attribute) in by_name(&state) {
                let was = possible.iter().any(|s| by_name(s).get(&name) == Some(&attribute));
                assert!(was, "{attribute:?} was not known since");
            }
            for name in possible.iter().flat_map(|s| by_name(s).into_keys()) {
                let is = by_name(&state).contains_key(&name);
                assert!(is || possible.iter().any(|s| !by_name(s).contains_key(&name)), "{name} is lost");
            }
        } else {
            assert!(possible.contains(&state), "found {state:?}, possible are {possible:?}");
        }
        let limits = Arc::new(Limits::default());
        self.key = self.sessions.restore(TOKEN, limits, "romeo@x", enabled()).unwrap().key;
        self.history = vec![state];
        (self.promised, self.mixed) = (0, false);
    }
}

fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(150)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_read_back_is_what_was_known(ops in proptest::collection::vec(op(), 1..100)) {
        let mut world = World::new();
        for op in ops {
            world.apply(op);
        }
        world.files.heal();
        if world.sessions.commit().is_ok() {
            world.promised = world.history.len() - 1;
        }
        world.die();
    }
}

/// A session as the release before wrote it: a description that ends with a text.
fn written_before(journal: &mut Journal, text: &[u8]) {
    let mut description = vec![1];
    for number in [0u64, 0] {
        description.extend(number.to_le_bytes());
    }
    description.extend(0u32.to_le_bytes());
    description.extend(u64::MAX.to_le_bytes());
    description.extend(text);
    journal.set_meta(TOKEN, &description).unwrap();
    let mut stanza = vec![0; 11];
    stanza.extend(b"<message/>");
    journal.push(TOKEN, 1, &stanza).unwrap();
    journal.set_inbound(TOKEN, 3).unwrap();
}

const BEFORE: &[u8] = br#"{version=1;host="x";username="romeo";id="id";timeout=600;xmlns="urn:xmpp:sm:3";resource="orchard";priority=5;presence="<presence/>";directed={"a@b";"c@d/e"};want_carbons="urn:xmpp:carbons:2"}"#;

#[test]
fn what_the_release_before_wrote_is_read_and_written_anew() {
    let files = MemoryFiles::default();
    let mut journal = open(&files);
    written_before(&mut journal, BEFORE);
    drop(journal);
    let expected = State {
        priority: Some(5),
        presence: Some(Bytes(b"<presence/>".to_vec())),
        directed: Some(vec!["a@b".into(), "c@d/e".into()]),
        others: [("want_carbons".to_owned(), Value::Text(Bytes(b"urn:xmpp:carbons:2".to_vec())))].into(),
        ..romeo()
    };
    for since in [None, Some(9)] {
        let mut sessions = sessions(&files);
        assert_eq!(sessions.found().len(), 1);
        let state = sessions.state(TOKEN).unwrap();
        assert_eq!(state, State { missing_since: since, ..expected.clone() });
        sessions.host_is_missing(TOKEN, 9).unwrap();
        sessions.commit().unwrap();
    }
    let mut old = sessions(&files);
    let restored = old.restore(TOKEN, Arc::default(), "romeo@x", enabled()).unwrap();
    assert_eq!((restored.h, restored.lost), (H(3), 0));
    let claim = old.claim(restored.key, H(3), Level::Process, 0);
    assert!(claim.1.is_ok());
    drop(old);
    let mut text = 0;
    files.each_content(|bytes| text = bytes.windows(9).filter(|w| w == b"version=1").count().max(text));
    assert!(text <= 1, "it is written once more");
    let mut back = sessions(&files);
    assert_eq!(back.found().len(), 1);
    assert_eq!(back.state(TOKEN).unwrap(), expected, "and there is such a host again");
}

#[test]
fn what_a_later_release_wrote_is_left_and_told() {
    let files = MemoryFiles::default();
    let mut journal = open(&files);
    // A text of another version, a description of another, an attribute of another.
    written_before(&mut journal, b"{version=2}");
    journal.set_meta(8, &[3; 40]).unwrap();
    let mut description = vec![2];
    description.extend([0; 28]);
    journal.set_meta(9, &description).unwrap();
    journal.set_slot(9, 0, &[2, 0, 0]).unwrap();
    drop(journal);
    let mut sessions = sessions(&files);
    let found = sessions.found();
    assert_eq!(found.len(), 3);
    for found in found {
        let error = found.host.unwrap_err();
        assert!(matches!(error, NotRestored::Unreadable(_)), "{error}");
        assert!(error.to_string().contains("another version"), "{error}");
        assert!(sessions.restore(found.token, Arc::default(), "romeo@x", enabled()).is_err());
    }
    sessions.commit().unwrap();
    drop(sessions);
    let mut journal = open(&files);
    assert_eq!(journal.sessions().count(), 3);
    assert_eq!(journal.meta(8).unwrap(), [3; 40]);
    let mut slots = Vec::new();
    journal.slots(9, |_, record| slots.push(record.map(<[u8]>::to_vec))).unwrap();
    assert_eq!(slots, [Some(vec![2, 0, 0])]);
}

#[test]
fn a_session_that_had_hardly_begun_is_given_up_and_one_that_is_damaged_is_told() {
    let files = MemoryFiles::default();
    let mut journal = open(&files);
    let mut description = vec![2];
    description.extend([0; 28]);
    journal.set_meta(8, &description).unwrap();
    journal.set_meta(9, &description).unwrap();
    journal.set_slot(9, 3, &[1, 5, 2]).unwrap(); // a priority, and nothing else
    drop(journal);
    let mut sessions = sessions(&files);
    let found = sessions.found();
    assert_eq!(found.iter().map(|f| f.token).collect::<Vec<_>>(), [9]);
    assert!(found[0].host.is_err());
    sessions.commit().unwrap();
    assert_eq!(sessions.journal().unwrap().sessions().collect::<Vec<_>>(), [9]);
}

#[test]
fn a_presence_of_a_session_with_thousands_of_addresses_is_one_small_record() {
    let mut sessions = Sessions::default();
    let files = MemoryFiles::default();
    let (journal, _) = Journal::open_in(files.process(), Path::new("/j"), Config::default()).unwrap();
    sessions.open(journal);
    let key = start(&mut sessions);
    let directed = (0..4000).map(|n| format!("somebody-{n}@elsewhere.example/resource")).collect();
    let state = State { directed: Some(directed), priority: Some(1), ..romeo() };
    sessions.keep(key, TOKEN, &state.attributes(), Scope::Whole).unwrap();
    sessions.commit().unwrap();
    let written = |sessions: &mut Sessions| sessions.journal().unwrap().stats().written_bytes;
    let before = written(&mut sessions);
    sessions.set(key, &Attribute::Presence(Bytes(vec![b'x'; 300]))).unwrap();
    sessions.keep(key, 0, &State { priority: Some(2), ..romeo() }.attributes(), Scope::Small).unwrap();
    sessions.commit().unwrap();
    assert!(written(&mut sessions) - before < 300 + 100);
    let before = written(&mut sessions);
    sessions
        .unset(key, Key::Named(AttributeKind::Directed, "somebody-7@elsewhere.example/resource"))
        .unwrap();
    sessions.commit().unwrap();
    assert!(written(&mut sessions) - before < 100);
}
