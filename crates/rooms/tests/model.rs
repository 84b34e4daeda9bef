//! What was noted of rooms and committed is there after the process has died, and what came later in part, in its order:
//! beside a naive account, on a disk that fills up.

#![allow(clippy::unwrap_used)]

use enjamb_journal::faults::MemoryFiles;
use enjamb_journal::{Config, Journal};
use enjamb_rooms::{Kept, Rooms};
use proptest::prelude::*;
use std::collections::{BTreeMap, VecDeque};
use std::path::Path;

#[derive(Clone, Debug)]
enum Op {
    Configure(usize, usize),
    Enter(usize, usize, usize),
    Leave(usize, usize),
    Said(usize, usize),
    Limit(usize, usize),
    End(usize),
    Commit,
    Full(usize),
    Heal,
    Die,
}

fn op() -> impl Strategy<Value = Op> {
    let (room, nick, len) = (0..3usize, 0..4usize, 0..120usize);
    prop_oneof![
        6 => (room.clone(), len.clone()).prop_map(|(r, l)| Op::Configure(r, l)),
        10 => (room.clone(), nick.clone(), len.clone()).prop_map(|(r, n, l)| Op::Enter(r, n, l)),
        6 => (room.clone(), nick).prop_map(|(r, n)| Op::Leave(r, n)),
        10 => (room.clone(), len).prop_map(|(r, l)| Op::Said(r, l)),
        5 => (room.clone(), 0..4usize).prop_map(|(r, n)| Op::Limit(r, n)),
        2 => room.prop_map(Op::End),
        5 => Just(Op::Commit),
        2 => (0..2000usize).prop_map(Op::Full),
        3 => Just(Op::Heal),
        3 => Just(Op::Die),
    ]
}

type Model = BTreeMap<String, Kept>;

fn copy(model: &Model) -> Model {
    let kept = |k: &Kept| Kept {
        configuration: k.configuration.clone(),
        occupants: k.occupants.clone(),
        history: k.history.clone(),
        lost: k.lost,
    };
    model.iter().map(|(jid, k)| (jid.clone(), kept(k))).collect()
}

struct World {
    files: MemoryFiles,
    journal: Option<Journal>,
    rooms: Rooms,
    model: Model,
    /// What may be there after a death now: as it was when it was committed last, and after each step since.
    possible: VecDeque<Model>,
    next: u64,
}

fn open(files: &MemoryFiles) -> Journal {
    let config = Config {
        segment_bytes: 1500,
        buffer_bytes: 300,
        waiting_bytes: 1500,
        garbage_floor: 1000,
        collect_step: 200,
        ..Config::default()
    };
    Journal::open_in(files.process(), Path::new("/j"), config).unwrap().0
}

impl World {
    fn new() -> World {
        let files = MemoryFiles::default();
        let mut journal = open(&files);
        // A session, which is nobody's room.
        journal.set_meta(7, b"\x01session").unwrap();
        journal.commit().unwrap();
        let rooms = Rooms::open(&mut journal);
        World {
            files,
            journal: Some(journal),
            rooms,
            model: Model::new(),
            possible: [Model::new()].into(),
            next: 100,
        }
    }

    fn all(&mut self) -> Model {
        let journal = self.journal.as_mut().unwrap();
        let jids: Vec<String> = self.rooms.of_service("c").map(str::to_owned).collect();
        jids.into_iter()
            .filter_map(|jid| Some((jid.clone(), self.rooms.read(journal, &jid).unwrap()?)))
            .collect()
    }

    fn step(&mut self, op: &Op) {
        let jid = |room: usize| format!("room{room}@c");
        let bytes = |len: usize, n: u64| format!("{n:0>len$}").into_bytes();
        let journal = self.journal.as_mut().unwrap();
        self.next += 1;
        let id = self.next;
        match *op {
            Op::Configure(room, len) => {
                if self.rooms.configure(journal, &jid(room), &bytes(len, id), id).is_ok() {
                    self.model.entry(jid(room)).or_default().configuration = bytes(len, id);
                }
            }
            // The owner configures a room before anybody enters it.
            Op::Enter(room, nick, len) => {
                let Some(kept) = self.model.get_mut(&jid(room)) else { return };
                let nick = format!("nick{nick}");
                if self.rooms.enter(journal, &jid(room), &nick, &bytes(len, id), id).is_ok() {
                    kept.occupants.insert(nick, bytes(len, id));
                }
            }
            Op::Leave(room, nick) => {
                let nick = format!("nick{nick}");
                if self.rooms.leave(journal, &jid(room), &nick).is_ok()
                    && let Some(kept) = self.model.get_mut(&jid(room))
                {
                    kept.occupants.remove(&nick);
                }
            }
            Op::Said(room, len) => {
                if self.rooms.said(journal, &jid(room), &bytes(len, id)).is_ok()
                    && let Some(kept) = self.model.get_mut(&jid(room))
                {
                    kept.history.push(bytes(len, id));
                }
            }
            Op::Limit(room, most) => {
                if self.rooms.limit_history(journal, &jid(room), most).is_ok()
                    && let Some(kept) = self.model.get_mut(&jid(room))
                {
                    let over = kept.history.len().saturating_sub(most);
                    kept.history.drain(..over);
                }
            }
            Op::End(room) => {
                // Occupants go first: a part of it is possible, if the process dies or the disk is full on the way.
                let nicks: Vec<String> = self.rooms.occupants(&jid(room)).map(str::to_owned).collect();
                for nick in nicks {
                    if self.rooms.leave(journal, &jid(room), &nick).is_err() {
                        return;
                    }
                    self.model.get_mut(&jid(room)).unwrap().occupants.remove(&nick);
                    self.possible.push_back(copy(&self.model));
                }
                if self.rooms.end(journal, &jid(room)).is_ok() {
                    self.model.remove(&jid(room));
                }
            }
            Op::Commit => {
                if journal.commit().is_ok() {
                    self.possible.clear();
                }
            }
            Op::Full(bytes) => self.files.room(bytes),
            Op::Heal => self.files.heal(),
            Op::Die => {
                self.files.crash();
                self.journal = None;
                self.files.heal();
                let mut journal = open(&self.files);
                self.rooms = Rooms::open(&mut journal);
                assert!(!self.rooms.ids().contains(&7));
                self.journal = Some(journal);
                let found = self.all();
                assert!(self.possible.contains(&found), "{found:?} is none of {:?}", self.possible);
                self.model = found;
                self.possible.clear();
            }
        }
        self.possible.push_back(copy(&self.model));
        let model = copy(&self.model);
        assert_eq!(self.all(), model);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(300), ..ProptestConfig::default() })]
    #[test]
    fn rooms_are_as_they_were_noted(ops in proptest::collection::vec(op(), 1..60)) {
        let mut world = World::new();
        for op in &ops {
            world.step(op);
        }
    }
}

#[test]
fn what_another_version_wrote_and_what_is_damaged_stays_and_is_no_sessions() {
    let files = MemoryFiles::default();
    let mut journal = open(&files);
    journal.set_meta(1, b"\x01session").unwrap();
    journal.set_meta(2, b"\x82newer").unwrap();
    journal.set_meta(3, b"\x81damaged").unwrap();
    let mut rooms = Rooms::open(&mut journal);
    assert_eq!(rooms.newer(), 1);
    assert_eq!(rooms.ids(), [2, 3].into());
    rooms.configure(&mut journal, "r@c", b"config", 4).unwrap();
    rooms.end(&mut journal, "r@c").unwrap();
    assert_eq!(journal.sessions().count(), 3);
}

#[test]
fn an_occupant_without_its_room_can_be_got_rid_of() {
    let files = MemoryFiles::default();
    let mut journal = open(&files);
    let mut rooms = Rooms::open(&mut journal);
    rooms.enter(&mut journal, "r@c", "nick", b"occupant", 1).unwrap();
    assert_eq!(rooms.read(&mut journal, "r@c").unwrap(), None);
    assert_eq!(rooms.of_service("c").collect::<Vec<_>>(), ["r@c"]);
    rooms.end(&mut journal, "r@c").unwrap();
    assert_eq!(journal.sessions().count(), 0);
}
