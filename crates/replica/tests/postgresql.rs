//! Two nodes and a real PostgreSQL: what was said to be copied is there for the other one, whatever is killed, stopped or cut.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, as it should")]

mod support;

use enjamb_journal::{Config, Counters, Journal};
use enjamb_replica::{Options, Replica, Role};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;
use support::{Postgres, Scratch, until};

const LEASE: Duration = Duration::from_secs(3);

fn config() -> Config {
    Config { segment_bytes: 20_000, garbage_floor: 20_000, collect_step: 2000, ..Config::default() }
}

/// A server: its node, and its journal once it serves.
struct Node {
    replica: Replica,
    dir: PathBuf,
    journal: Option<Journal>,
}

impl Node {
    fn start(name: &str, url: &str, scratch: &Path) -> Node {
        let dir = scratch.join(name).join("journal");
        std::fs::create_dir_all(scratch.join(name)).unwrap();
        let options = Options {
            url: url.to_owned(),
            cluster: "test".into(),
            node: Some(name.to_owned()),
            directory: dir.clone(),
            lease: LEASE,
        };
        Node { replica: Replica::start(&options, || {}).unwrap(), dir, journal: None }
    }

    fn until(&self, role: Role) {
        until(role.name(), || self.replica.role() == role);
    }

    /// Waits until it serves, and opens its journal.
    fn serve(&mut self) -> &mut Journal {
        self.until(Role::Holder);
        let (mut journal, recovery) = Journal::open(&self.dir, config()).unwrap();
        assert!(recovery.is_whole(), "{recovery:?}");
        self.replica.attach(&mut journal).unwrap();
        self.journal.insert(journal)
    }

    fn journal(&mut self) -> &mut Journal {
        self.journal.as_mut().unwrap()
    }

    fn until_copied(&mut self) {
        let position = self.journal().commit().unwrap();
        until("all is copied", || self.replica.durable().unwrap() >= position);
    }
}

fn work(journal: &mut Journal, from: u64, to: u64) {
    for number in from..=to {
        for session in 1..=3 {
            if number == 1 {
                journal.set_meta(session, format!("session {session}").as_bytes()).unwrap();
            }
            journal.push(session, number, format!("<message id='{session}-{number}'/>").as_bytes()).unwrap();
        }
        journal.ack(1, number).unwrap();
        journal.ack(2, number.saturating_sub(3)).unwrap();
        journal.set_inbound(2, number).unwrap();
        journal.commit().unwrap();
    }
}

type Found = BTreeMap<u64, (Counters, Vec<u8>, Vec<Option<Vec<u8>>>)>;

fn look(journal: &mut Journal) -> Found {
    let sessions: Vec<u64> = journal.sessions().collect();
    let look = |id: u64| {
        let mut queue = Vec::new();
        let replayed = journal.replay(id, 0, |_, stanza| {
            queue.push(stanza.map(<[u8]>::to_vec));
            true
        });
        replayed.unwrap();
        (id, (journal.counters(id).unwrap(), journal.meta(id).unwrap(), queue))
    };
    sessions.into_iter().map(look).collect()
}

#[test]
fn another_node_takes_over_what_was_copied() {
    let Some(postgres) = Postgres::start("takeover") else { return };
    let scratch = Scratch::new("takeover");
    let mut a = Node::start("a", &postgres.url(), &scratch.0);
    work(a.serve(), 1, 2000);
    assert!(a.replica.permitted());
    let mut b = Node::start("b", &postgres.url(), &scratch.0);
    b.until(Role::Waiting);
    assert!(!b.replica.permitted());
    assert_eq!(b.replica.state().holder.as_deref(), Some("a"));
    a.until_copied();
    let before = look(a.journal());
    // As if it were killed, and its machine gone.
    drop(a);
    b.serve();
    let after = look(b.journal());
    assert_eq!(after, before);
    assert!(b.replica.state().restored && b.replica.permitted());
    // And goes on there, back and forth.
    work(b.journal(), 2001, 2500);
    b.until_copied();
    let before = look(b.journal());
    let mut c = Node::start("c", &postgres.url(), &scratch.0);
    assert!(b.replica.release(Duration::from_secs(30)));
    assert!(!b.replica.permitted());
    c.serve();
    assert_eq!(look(c.journal()), before);
}
