//! Two nodes and a real PostgreSQL: what was said to be copied is there for the other one, whatever is killed, stopped or cut.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, as it should")]

mod support;

use enjamb_journal::{Config, Counters, Journal};
use enjamb_replica::{Options, Replica, Role};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;
use support::proxy::Proxy;
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

#[test]
fn a_node_that_was_killed_goes_on_at_once_with_what_is_on_its_disk() {
    let Some(postgres) = Postgres::start("own") else { return };
    let (scratch, proxy) = (Scratch::new("own"), Proxy::start(postgres.port));
    let mut a = Node::start("a", &postgres.url_at(proxy.port), &scratch.0);
    work(a.serve(), 1, 100);
    a.until_copied();
    // What the database has not is on the disk.
    proxy.refuse(true);
    proxy.cut();
    work(a.journal(), 101, 200);
    let before = look(a.journal());
    drop(a);
    proxy.refuse(false);
    let mut a = Node::start("a", &postgres.url_at(proxy.port), &scratch.0);
    a.serve();
    let state = a.replica.state();
    assert_eq!((state.epoch, state.restored, state.set_aside), (2, false, None));
    assert_eq!(look(a.journal()), before);
    a.until_copied();
    // And that gets there: another node has it.
    drop(a);
    let mut b = Node::start("b", &postgres.url(), &scratch.0);
    b.serve();
    assert_eq!(look(b.journal()), before);
    // The first one returns: what it has is not believed.
    work(b.journal(), 201, 300);
    b.until_copied();
    let before = look(b.journal());
    drop(b);
    let mut a = Node::start("a", &postgres.url(), &scratch.0);
    a.serve();
    assert_eq!(look(a.journal()), before);
    let aside = a.replica.state().set_aside.unwrap();
    assert!(aside.join("replica").exists(), "{aside:?}");
}

#[test]
fn a_database_that_is_killed_or_lost_holds_up_what_is_durable_and_nothing_else() {
    let Some(mut postgres) = Postgres::start("killed") else { return };
    let (scratch, proxy) = (Scratch::new("killed"), Proxy::start(postgres.port));
    let mut a = Node::start("a", &postgres.url_at(proxy.port), &scratch.0);
    a.serve();
    let mut number = 0;
    for round in 0..6 {
        for _ in 0..20 {
            work(a.journal(), number + 1, number + 20);
            number += 20;
            if round % 3 == 1 {
                proxy.cut();
            }
        }
        match round {
            0 => {
                postgres.kill();
                let known = a.replica.durable().unwrap();
                let position = a.journal().commit().unwrap();
                assert!(known <= position);
                until("the connection is lost", || !a.replica.state().connected);
                work(a.journal(), number + 1, number + 20);
                number += 20;
                assert!(a.replica.durable().unwrap() < a.journal().position());
                postgres.up();
            }
            2 => {
                proxy.stall(true);
                std::thread::sleep(Duration::from_millis(300));
                proxy.cut();
                proxy.stall(false);
            }
            _ => {}
        }
        a.until_copied();
    }
    until("it may serve", || a.replica.permitted());
    let before = look(a.journal());
    drop(a);
    let mut b = Node::start("b", &postgres.url(), &scratch.0);
    b.serve();
    assert_eq!(look(b.journal()), before);
}

#[test]
fn without_a_database_it_may_not_serve_when_its_time_is_over_and_may_again() {
    let Some(postgres) = Postgres::start("away") else { return };
    let (scratch, proxy) = (Scratch::new("away"), Proxy::start(postgres.port));
    let mut a = Node::start("a", &postgres.url_at(proxy.port), &scratch.0);
    a.serve();
    assert!(a.replica.permitted());
    proxy.refuse(true);
    proxy.cut();
    until("its time is over", || !a.replica.permitted());
    assert_eq!(a.replica.role(), Role::Holder);
    proxy.refuse(false);
    until("it goes on", || a.replica.permitted());
    // Another one has taken it meanwhile: that is the end.
    proxy.refuse(true);
    proxy.cut();
    let mut b = Node::start("b", &postgres.url(), &scratch.0);
    b.serve();
    assert!(!a.replica.permitted());
    proxy.refuse(false);
    a.until(Role::Lost);
    assert_eq!(a.replica.state().holder.as_deref(), Some("b"));
    assert!(!a.replica.permitted());
}

#[test]
fn a_transaction_of_the_old_node_that_is_left_open_does_not_hold_up_the_other() {
    let Some(postgres) = Postgres::start("blocked") else { return };
    let (scratch, proxy) = (Scratch::new("blocked"), Proxy::start(postgres.port));
    let mut a = Node::start("a", &postgres.url_at(proxy.port), &scratch.0);
    a.serve();
    let holder = postgres.sql("SELECT split_part(holder, '#', 2) FROM enjamb_lease");
    proxy.refuse(true);
    proxy.cut();
    let statement = "BEGIN; SELECT 1 FROM enjamb_lease FOR SHARE; SELECT pg_sleep(600)";
    let mut blocking = postgres.psql(&format!("enjamb {holder}"), statement).spawn().unwrap();
    let mut b = Node::start("b", &postgres.url(), &scratch.0);
    b.serve();
    blocking.wait().unwrap();
}

#[test]
fn a_commit_that_may_not_have_been_replicated_does_not_count() {
    let Some(postgres) = Postgres::start("warned") else { return };
    let scratch = Scratch::new("warned");
    let mut a = Node::start("a", &postgres.url(), &scratch.0);
    work(a.serve(), 1, 10);
    a.until_copied();
    postgres.sql("ALTER SYSTEM SET synchronous_standby_names = 'nobody'");
    postgres.sql("SELECT pg_reload_conf()");
    until("it is in force", || postgres.sql("SHOW synchronous_standby_names") == "nobody");
    let known = a.replica.durable().unwrap();
    work(a.journal(), 11, 20);
    // They are there ...
    let rows =
        "SELECT count(*) > 1 FROM enjamb_batch WHERE segment = (SELECT max(segment) FROM enjamb_batch)";
    until("it is committed", || postgres.sql(rows) == "t");
    std::thread::sleep(Duration::from_secs(8));
    // ... and may yet be lost. The lease is kept all the while.
    assert_eq!(a.replica.durable(), Some(known));
    assert!(a.replica.permitted());
    postgres.sql("ALTER SYSTEM RESET synchronous_standby_names");
    postgres.sql("SELECT pg_reload_conf()");
    a.until_copied();
}

#[test]
fn what_the_admin_has_to_mend_is_said() {
    let Some(postgres) = Postgres::start("refused") else { return };
    let scratch = Scratch::new("refused");
    let reason = |name: &str, url: &str| {
        let node = Node::start(name, url, &scratch.0);
        node.until(Role::Failed);
        node.replica.state().reason.unwrap()
    };
    let url = postgres.url();
    assert!(reason("a", &url.replace("/postgres?", "/nothing?")).contains("Make the database"));
    postgres.sql("CREATE ROLE poor LOGIN; REVOKE CREATE ON SCHEMA public FROM public");
    let poor = url.replace("enjamb@", "poor@");
    assert!(reason("b", &poor).contains("docs/replica.sql"));
    // The tables are there, and it may only read them.
    let script = std::fs::read_to_string("../../docs/replica.sql").unwrap();
    let script: Vec<&str> = script.lines().filter_map(|line| line.split("--").next()).collect();
    let script = script.join("\n").replace(":\"role\"", "poor");
    let (tables, _) = script.split_once("GRANT").unwrap();
    postgres.sql(tables);
    postgres.sql("GRANT SELECT ON enjamb_lease, enjamb_batch TO poor");
    assert!(reason("b", &poor).contains("docs/replica.sql"));
    // With what is in that file it works.
    postgres.sql(&script);
    let mut c = Node::start("c", &poor, &scratch.0);
    work(c.serve(), 1, 300);
    c.until_copied();
    let before = look(c.journal());
    assert!(c.replica.release(support::LONG));
    drop(c);
    let mut d = Node::start("d", &poor, &scratch.0);
    d.serve();
    assert_eq!(look(d.journal()), before);
    drop(d);
    postgres.sql("COMMENT ON TABLE enjamb_lease IS 'enjamb 2'");
    assert!(reason("e", &url).contains("another version"));
    // A server that is not there may come: that is no failure.
    let f = Node::start("f", &postgres.url_at(support::free_port()), &scratch.0);
    until("it says why", || f.replica.state().reason.is_some());
    assert_eq!(f.replica.role(), Role::Connecting);
}

#[test]
fn a_lease_that_is_given_up_is_taken_at_once_and_with_all_there_is() {
    let Some(postgres) = Postgres::start("handover") else { return };
    let scratch = Scratch::new("handover");
    let mut a = Node::start("a", &postgres.url(), &scratch.0);
    a.serve();
    let mut b = Node::start("b", &postgres.url(), &scratch.0);
    b.until(Role::Waiting);
    work(a.journal(), 1, 3000);
    let before = look(a.journal());
    a.replica.hand_over();
    assert!(!a.replica.permitted());
    a.until(Role::Released);
    b.serve();
    assert_eq!(look(b.journal()), before);
}

#[test]
fn what_died_while_the_database_was_away_is_copied_nevertheless_after_a_restart_too() {
    let Some(postgres) = Postgres::start("unsent") else { return };
    let (scratch, proxy) = (Scratch::new("unsent"), Proxy::start(postgres.port));
    let mut a = Node::start("a", &postgres.url_at(proxy.port), &scratch.0);
    work(a.serve(), 1, 100);
    a.until_copied();
    let unsent = a.dir.join("unsent");
    let count = || std::fs::read_dir(&unsent).unwrap().count();
    until("only the last is held", || count() == 1);
    proxy.refuse(true);
    proxy.cut();
    work(a.journal(), 101, 3000);
    let here = |file: &std::fs::DirEntry| file.path().extension().is_some_and(|e| e == "seg");
    let here = || std::fs::read_dir(unsent.parent().unwrap()).unwrap().flatten().filter(here).count();
    until("some are held that the journal has removed", || count() > here());
    drop(a);
    proxy.refuse(false);
    let mut a = Node::start("a", &postgres.url_at(proxy.port), &scratch.0);
    work(a.serve(), 3001, 3100);
    a.until_copied();
    let before = look(a.journal());
    until("only the last is held", || count() == 1);
    drop(a);
    let mut b = Node::start("b", &postgres.url(), &scratch.0);
    b.serve();
    assert_eq!(look(b.journal()), before);
}

/// As after the machine's death: another life of it, and what was not synced may be gone.
fn machine_dies(dir: &Path, keeps: bool) {
    let note = std::fs::read_to_string(dir.join("replica")).unwrap();
    let lines = note.lines().map(|line| if line.starts_with("boot ") { "boot another" } else { line });
    std::fs::write(dir.join("replica"), lines.map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    if !keeps {
        let segments = std::fs::read_dir(dir).unwrap().flatten().map(|entry| entry.path());
        let written = segments.filter(|path| path.extension().is_some_and(|e| e == "seg"));
        // One is made ahead.
        let last = written.filter(|path| path.metadata().unwrap().len() > 0).max().unwrap();
        let file = std::fs::File::options().write(true).open(last).unwrap();
        file.set_len(file.metadata().unwrap().len() / 2).unwrap();
    }
}

#[test]
fn after_the_machines_death_whoever_has_more_is_believed() {
    let Some(postgres) = Postgres::start("died") else { return };
    let scratch = Scratch::new("died");
    for (round, keeps) in [true, false].into_iter().enumerate() {
        let name = format!("node{round}");
        let mut a = Node::start(&name, &postgres.url(), &scratch.0);
        let from = a.serve().counters(1).map_or(0, |counters| counters.acked);
        work(a.journal(), from + 1, from + 500);
        a.until_copied();
        let (before, dir) = (look(a.journal()), a.dir.clone());
        drop(a);
        machine_dies(&dir, keeps);
        let mut a = Node::start(&name, &postgres.url(), &scratch.0);
        a.serve();
        let state = a.replica.state();
        assert_eq!((state.restored, state.set_aside.is_none()), (!keeps, keeps));
        assert_eq!(look(a.journal()), before);
        a.until_copied();
        assert!(a.replica.release(support::LONG));
    }
}

fn openssl(dir: &Path, arguments: &str) {
    let done =
        std::process::Command::new("openssl").current_dir(dir).args(arguments.split(' ')).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

#[test]
fn tls_and_passwords_are_as_the_url_says() {
    let Some(mut postgres) = Postgres::start("tls") else { return };
    let scratch = Scratch::new("tls");
    // An authority, and a server by the name of localhost.
    openssl(
        &scratch.0,
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=authority -keyout ca.key -out ca.pem",
    );
    openssl(
        &scratch.0,
        "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost -keyout server.key -out server.csr",
    );
    std::fs::write(scratch.0.join("names"), "subjectAltName = DNS:localhost\nbasicConstraints = CA:FALSE\n")
        .unwrap();
    openssl(
        &scratch.0,
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out server.pem",
    );
    openssl(
        &scratch.0,
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=other -keyout o.key -out other.pem",
    );
    postgres.sql("CREATE ROLE prosody LOGIN PASSWORD 'right'; GRANT ALL ON SCHEMA public TO prosody");
    postgres.put("server.pem", &std::fs::read(scratch.0.join("server.pem")).unwrap());
    postgres.put("server.key", &std::fs::read(scratch.0.join("server.key")).unwrap());
    postgres.put(
        "pg_hba.conf",
        b"hostssl all prosody 127.0.0.1/32 scram-sha-256\nhost all enjamb 127.0.0.1/32 trust\n",
    );
    for setting in ["ssl=on", "ssl_cert_file=server.pem", "ssl_key_file=server.key"] {
        postgres.set(setting);
    }
    postgres.kill();
    postgres.up();
    let url = |password: &str, host: &str, mode: &str, root: &str| {
        let (port, root) = (postgres.port, scratch.0.join(root));
        format!(
            "postgresql://prosody:{password}@{host}:{port}/postgres?sslmode={mode}&sslrootcert={}",
            root.display()
        )
    };
    let mut count = 0;
    let mut outcome = |url: String| {
        count += 1;
        let node = Node::start(&format!("n{count}"), &url, &scratch.0);
        until("it is decided", || {
            node.replica.state().reason.is_some() || node.replica.role() == Role::Holder
        });
        let (role, reason) = (node.replica.role(), node.replica.state().reason.unwrap_or_default());
        assert!(role != Role::Holder || node.replica.release(support::LONG));
        (role, reason)
    };
    // Encrypted, since the server asks for that.
    assert_eq!(outcome(url("right", "127.0.0.1", "require", "ca.pem")).0, Role::Holder);
    assert_eq!(outcome(url("right", "localhost", "verify-full", "ca.pem")).0, Role::Holder);
    assert_eq!(outcome(url("right", "127.0.0.1", "verify-ca", "ca.pem")).0, Role::Holder);
    assert_eq!(outcome(url("right", "127.0.0.1", "prefer", "ca.pem")).0, Role::Holder);
    // A name that is not in the certificate, another authority, no encryption, another password.
    let (role, reason) = outcome(url("right", "127.0.0.1", "verify-full", "ca.pem"));
    assert!(role == Role::Connecting && reason.contains("not valid for name"), "{reason}");
    let (role, reason) = outcome(url("right", "localhost", "verify-full", "other.pem"));
    assert!(role == Role::Connecting && reason.contains("certificate"), "{reason}");
    let (role, reason) = outcome(url("right", "127.0.0.1", "disable", "ca.pem"));
    assert!(role == Role::Failed && reason.contains("pg_hba.conf"), "{reason}");
    let (role, reason) = outcome(url("wrong", "localhost", "verify-full", "ca.pem"));
    assert!(role == Role::Failed && reason.contains("password"), "{reason}");
}

#[test]
fn a_host_that_takes_connections_and_says_nothing_is_passed_over() {
    let Some(postgres) = Postgres::start("hosts") else { return };
    let (scratch, first, second) =
        (Scratch::new("hosts"), Proxy::start(postgres.port), Proxy::start(postgres.port));
    let (one, two) = (first.port, second.port);
    let url = format!("postgresql://enjamb@127.0.0.1:{one},127.0.0.1:{two}/postgres?connect_timeout=1");
    first.stall(true);
    let mut a = Node::start("a", &url, &scratch.0);
    work(a.serve(), 1, 100);
    a.until_copied();
    // The one that it has a connection to freezes.
    second.stall(true);
    first.cut();
    first.stall(false);
    work(a.journal(), 101, 200);
    a.until_copied();
    until("it may serve", || a.replica.permitted());
}

#[test]
fn a_database_that_does_not_sync_is_told_of() {
    let Some(mut postgres) = Postgres::start("fsync") else { return };
    let scratch = Scratch::new("fsync");
    postgres.set("fsync=off");
    postgres.kill();
    postgres.up();
    let mut a = Node::start("a", &postgres.url(), &scratch.0);
    a.serve();
    let warnings = a.replica.state().warnings;
    assert!(warnings.iter().any(|warning| warning.contains("fsync = on")), "{warnings:?}");
    assert!(a.replica.state().warnings.is_empty(), "it is told once");
}
