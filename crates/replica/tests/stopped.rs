//! A process that serves is stopped, another node takes over, and the first goes on: from then on it says nothing is durable, and it
//! serves nobody. Then one is killed while it writes: all that it had called durable is there.
//!
//! The process is this test binary, started once more with `ENJAMB_REPLICA_NODE` set.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, as it should")]

mod support;

use enjamb_journal::{Config, Journal};
use enjamb_replica::{Options, Replica, Role};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;
use support::{Postgres, Scratch, until};

const VARIABLE: &str = "ENJAMB_REPLICA_NODE";

fn options(name: &str, url: &str, directory: PathBuf) -> Options {
    let (url, cluster, node) = (url.to_owned(), "test".to_owned(), Some(name.to_owned()));
    Options { url, cluster, node, directory, lease: Duration::from_secs(3) }
}

/// What the other process does, if this is it: writes, and says what is durable as long as it may.
#[test]
fn node() {
    let Ok(url) = std::env::var(VARIABLE) else { return };
    let dir = PathBuf::from(std::env::var("ENJAMB_REPLICA_DIRECTORY").unwrap());
    let replica = Replica::start(&options("child", &url, dir.clone()), || {}).unwrap();
    let say = |what: String| {
        let mut out = std::io::stdout();
        writeln!(out, "\n{what}").unwrap();
        out.flush().unwrap();
    };
    until("it serves", || replica.role() == Role::Holder);
    let config = Config { segment_bytes: 100_000, garbage_floor: 100_000, ..Config::default() };
    let (mut journal, _) = Journal::open(&dir, config).unwrap();
    replica.attach(&mut journal).unwrap();
    journal.set_meta(1, b"it").unwrap();
    let (mut waiting, mut told) = (Vec::new(), 0);
    for number in 1.. {
        replica.turned();
        if replica.role() == Role::Lost {
            say("lost".into());
            return;
        }
        // As the owner would: before anything is taken in.
        if !replica.permitted() {
            thread::sleep(Duration::from_millis(5));
            continue;
        }
        let next = journal.counters(1).unwrap().acked + 1;
        journal.push(1, next, b"<message/>").unwrap();
        journal.ack(1, next).unwrap();
        journal.set_inbound(1, next).unwrap();
        waiting.push((journal.commit().unwrap(), next));
        let durable = replica.durable().unwrap();
        let reached = waiting.iter().take_while(|(position, _)| *position <= durable).count();
        if let Some((_, n)) = waiting.drain(..reached).next_back()
            && replica.permitted()
        {
            told = n;
            say(format!("durable {told}"));
        }
        if number % 20 == 0 {
            thread::sleep(Duration::from_millis(1));
        }
    }
    unreachable!("{told}");
}

struct Other {
    child: Child,
    said: Arc<Mutex<Vec<String>>>,
}

impl Other {
    fn start(url: &str, dir: &Path) -> Other {
        std::fs::create_dir_all(dir.parent().unwrap()).unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "node", "--nocapture"])
            .env(VARIABLE, url)
            .env("ENJAMB_REPLICA_DIRECTORY", dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let said = Arc::new(Mutex::new(Vec::new()));
        let (out, lines) = (BufReader::new(child.stdout.take().unwrap()), Arc::clone(&said));
        thread::spawn(move || {
            out.lines().map_while(Result::ok).for_each(|line| lines.lock().unwrap().push(line))
        });
        Other { child, said }
    }

    /// The last that it called durable.
    fn durable(&self) -> u64 {
        let said = self.said.lock().unwrap();
        said.iter().rev().find_map(|line| line.strip_prefix("durable ")?.parse().ok()).unwrap_or(0)
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn take_over(url: &str, dir: &Path) -> (Replica, Journal) {
    std::fs::create_dir_all(dir.parent().unwrap()).unwrap();
    let replica = Replica::start(&options("other", url, dir.to_owned()), || {}).unwrap();
    until("it serves", || replica.role() == Role::Holder);
    let (mut journal, recovery) = Journal::open(dir, Config::default()).unwrap();
    assert!(recovery.is_whole(), "{recovery:?}");
    replica.attach(&mut journal).unwrap();
    (replica, journal)
}

#[test]
fn one_that_was_stopped_says_nothing_any_more() {
    let Some(postgres) = Postgres::start("stopped") else { return };
    let scratch = Scratch::new("stopped");
    let mut other = Other::start(&postgres.url(), &scratch.0.join("child").join("journal"));
    until("it serves", || other.durable() > 500);
    other.signal(Signal::SIGSTOP);
    let (replica, journal) = take_over(&postgres.url(), &scratch.0.join("other").join("journal"));
    let told = other.durable();
    let there = journal.counters(1).unwrap().inbound;
    assert!(there >= told, "{told} were durable, {there} are there");
    other.signal(Signal::SIGCONT);
    until("it knows", || other.said.lock().unwrap().iter().any(|line| line == "lost"));
    assert_eq!(other.durable(), told, "it went on");
    assert!(other.child.wait().unwrap().success());
    assert!(replica.permitted());
}

#[test]
fn what_one_that_is_killed_had_called_durable_is_there() {
    let Some(postgres) = Postgres::start("kill-node") else { return };
    let scratch = Scratch::new("kill-node");
    for round in 0..3 {
        let dir = scratch.0.join(format!("child{round}")).join("journal");
        let mut other = Other::start(&postgres.url(), &dir);
        until("it serves", || other.said.lock().unwrap().len() > 300);
        other.signal(Signal::SIGKILL);
        other.child.wait().unwrap();
        std::fs::remove_dir_all(dir.parent().unwrap()).unwrap();
        let dir = scratch.0.join(format!("other{round}")).join("journal");
        let (replica, journal) = take_over(&postgres.url(), &dir);
        let (told, there) = (other.durable(), journal.counters(1).unwrap().inbound);
        assert!(there >= told, "{told} were durable, {there} are there");
        assert!(replica.release(support::LONG));
    }
}
