//! One node after the other, with a database that is killed, connections that are cut, held up and refused, and machines that are lost
//! with their disks, all by chance: what was durable is there, and each count is true.
//!
//! A few rounds by default; `ENJAMB_ROUNDS` and `ENJAMB_SEED` ask for more and for others.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, as it should")]

mod support;

use enjamb_journal::{Config, Journal};
use enjamb_replica::{Options, Replica, Role};
use std::collections::VecDeque;
use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};
use support::proxy::Proxy;
use support::{LONG, Postgres, Scratch, until};

/// Numbers that are the same each time.
struct Chance(u64);

impl Chance {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }

    fn ms(&mut self, most: u64) -> Duration {
        Duration::from_millis(self.below(most))
    }
}

fn asked(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(default)
}

/// Session 1 counts what session 2 was sent, of which 400 wait: each count that is there must be true.
fn look(journal: &mut Journal) -> (u64, u64) {
    let (counts, queue) = (journal.counters(1).unwrap(), journal.counters(2).unwrap());
    let mut last = queue.acked;
    let each = |number: u64, stanza: Option<&[u8]>| {
        last += 1;
        assert_eq!((number, stanza.unwrap()), (last, text(last).as_bytes()));
        true
    };
    journal.replay(2, 0, each).unwrap();
    assert!(last >= counts.inbound, "{} were counted, {last} are there", counts.inbound);
    (counts.inbound, last)
}

fn text(number: u64) -> String {
    format!("<message id='{number}'/>")
}

fn write(journal: &mut Journal, number: u64) -> u64 {
    journal.push(2, number, text(number).as_bytes()).unwrap();
    journal.set_inbound(1, number).unwrap();
    if number > 400 {
        journal.ack(2, number - 400).unwrap();
    }
    journal.commit().unwrap()
}

fn disturb(postgres: &mut Postgres, proxy: &Proxy, chance: &mut Chance) {
    match chance.below(8) {
        0..4 => proxy.cut(),
        4 => {
            proxy.stall(true);
            sleep(chance.ms(200));
            proxy.cut();
            proxy.stall(false);
        }
        5 => {
            postgres.kill();
            postgres.up();
        }
        6 => drop(postgres.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'enjamb%'",
        )),
        _ => {
            proxy.refuse(true);
            proxy.cut();
            sleep(chance.ms(1500));
            proxy.refuse(false);
        }
    }
}

#[test]
fn what_was_durable_is_there_whatever_happens() {
    let Some(mut postgres) = Postgres::start("soak") else { return };
    let (scratch, proxy) = (Scratch::new("soak"), Proxy::start(postgres.port));
    let mut chance = Chance(asked("ENJAMB_SEED", 198));
    let config =
        Config { segment_bytes: 30_000, garbage_floor: 30_000, collect_step: 3000, ..Config::default() };
    // What was durable; and what must be there, to the last, since the process alone was killed, or all was waited for.
    let (mut durable, mut exactly, mut node) = (0, None, 0);
    for round in 0..asked("ENJAMB_ROUNDS", 6) {
        let home = scratch.0.join(format!("node{node}"));
        fs::create_dir_all(&home).unwrap();
        let directory = home.join("journal");
        let (url, name, lease) =
            (postgres.url_at(proxy.port), Some(format!("node{node}")), Duration::from_secs(3));
        let options = Options { url, cluster: "soak".into(), node: name, directory, lease };
        let replica = Replica::start(&options, || {}).unwrap();
        until("it serves", || replica.role() == Role::Holder);
        let (mut journal, recovery) = Journal::open(&options.directory, config.clone()).unwrap();
        assert!(recovery.is_whole(), "{recovery:?}");
        replica.attach(&mut journal).unwrap();
        if round == 0 {
            (1..=2).for_each(|session| journal.set_meta(session, b"it").unwrap());
        }
        let (counted, mut last) = look(&mut journal);
        assert!(counted >= durable, "round {round}: {durable} were durable, {counted} are there");
        assert!(exactly.is_none_or(|exactly| exactly == counted), "round {round}: {counted} of {exactly:?}");
        let (mut waiting, end) =
            (VecDeque::new(), Instant::now() + Duration::from_millis(300) + chance.ms(2500));
        let mut next = Instant::now() + chance.ms(600);
        while Instant::now() < end {
            for _ in 0..=chance.below(30) {
                last += 1;
                waiting.push_back((write(&mut journal, last), last));
            }
            let copied = replica.durable().unwrap();
            while let Some((_, number)) = waiting.front().filter(|(position, _)| *position <= copied) {
                durable = *number;
                waiting.pop_front();
            }
            sleep(chance.ms(4));
            if Instant::now() > next {
                disturb(&mut postgres, &proxy, &mut chance);
                next = Instant::now() + chance.ms(1000);
            }
        }
        let how = chance.below(4);
        let stopped = how == 0 && replica.release(LONG);
        assert!(how != 0 || stopped, "it is not given up: {:?}", replica.state());
        drop((replica, journal));
        // A clean stop, or killed and there again; lost with its disk; or another takes over.
        exactly = (how <= 1).then_some(last);
        match how {
            1 => {}
            2 => fs::remove_dir_all(&home).unwrap(),
            _ => node = (node + 1) % 3,
        }
        println!("round {round}: {last} were written, {durable} durable; then {how}");
    }
}
