//! `chat`: pairs of accounts, one of each sends to the other. As fast as the server goes, or at a given rate.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep, sleep_until};

use crate::harness::{
    Common, Counter, Failures, Messages, Meter, leave, log_in, message_number, settle, spawn, wait_until,
};
use crate::session::{Error, Event, Outbox, Traffic};
use crate::tally::{Faults, Tally};

/// What `chat` is told.
#[derive(Clone, Debug)]
pub struct Options {
    /// Of accounts.
    pub pairs: usize,
    /// In all, after the warm-up.
    pub messages: u64,
    /// In all, before what is measured.
    pub warm_up: u64,
    /// Per second in all; `None`: as fast as it goes.
    pub rate: Option<f64>,
    /// How many messages of a pair may be under way when it goes as fast as it can.
    pub window: u32,
}

struct Pair {
    sender: Option<Rc<Outbox>>,
    messages: Messages,
    tally: Tally,
    sent: u32,
    arrived: u32,
    limit: u32,
}

impl Pair {
    fn send(&mut self, count: u32) {
        let Some(sender) = &self.sender else { return };
        sender.send(|out| {
            for _ in 0..count {
                out.stanza(self.sent, self.messages.number(self.sent));
                self.sent += 1;
            }
        });
    }

    /// Fills the window when half of it is free, so that messages leave in batches.
    fn top_up(&mut self, window: u32) {
        let room = window.saturating_sub(self.sent - self.arrived).min(self.limit - self.sent);
        if room > 0 && (room >= window.div_ceil(2) || room == self.limit - self.sent) {
            self.send(room);
        }
    }
}

/// Runs it.
pub async fn run(common: &Common, options: &Options) -> Result<Value, Error> {
    let traffic = Rc::new(Traffic::default());
    let failures = Failures::default();
    let arrived = Counter::default();
    let accounts: Vec<_> = (0..options.pairs)
        .flat_map(|i| [(format!("s{i}"), "a".to_owned()), (format!("r{i}"), "b".to_owned())])
        .collect();
    let mut sessions = log_in(common, &accounts, &traffic).await?.into_iter();
    let (mut pairs, mut clients) = (Vec::new(), Vec::new());
    let burst = options.rate.is_none();
    let window = options.window;
    for i in 0..options.pairs {
        let (Some(sender), Some(receiver)) = (sessions.next(), sessions.next()) else { break };
        let to = format!("r{i}@{}/b", common.target.host);
        let pair = Rc::new(RefCell::new(Pair {
            sender: None,
            messages: Messages::new(&to, "chat", common.bytes),
            tally: Tally::default(),
            sent: 0,
            arrived: 0,
            limit: 0,
        }));
        let sender = spawn(sender, &failures, |_, _| ());
        let (own, counter) = (Rc::clone(&pair), arrived.clone());
        let receiver = spawn(receiver, &failures, move |event: Event<'_>, _| {
            let Some(number) = message_number(&event) else { return };
            let mut pair = own.borrow_mut();
            if pair.tally.received(number) {
                pair.arrived += 1;
                counter.add();
                if burst {
                    pair.top_up(window);
                }
            }
        });
        for client in [&sender, &receiver] {
            client.outbox.send(|out| out.stanza(0, b"<presence/>"));
        }
        pair.borrow_mut().sender = Some(Rc::clone(&sender.outbox));
        pairs.push(pair);
        clients.extend([sender, receiver]);
    }
    settle(&traffic, Duration::from_millis(200)).await;

    let mut complete = true;
    let mut measured = Value::Null;
    for (count, measure) in [(options.warm_up, false), (options.messages, true)] {
        let goal = arrived.get() + count;
        let meter = Meter::start(common.pid, &traffic);
        match options.rate {
            None => {
                for (i, pair) in pairs.iter().enumerate() {
                    let share = (count + i as u64) / options.pairs as u64;
                    let mut pair = pair.borrow_mut();
                    pair.limit += share as u32;
                    pair.top_up(window);
                }
            }
            Some(rate) => {
                let began = Instant::now();
                for n in 0..count {
                    let due = began + Duration::from_secs_f64(n as f64 / rate);
                    if due > Instant::now() {
                        sleep_until(due).await;
                    }
                    pairs[n as usize % pairs.len()].borrow_mut().send(1);
                }
            }
        }
        let failed = || !failures.borrow().is_empty();
        complete &= wait_until(common.patience, || arrived.get() >= goal || failed()).await && !failed();
        // What follows from the last messages, acks above all, is part of the cost.
        sleep(Duration::from_millis(100)).await;
        if measure {
            measured = meter.stop(&traffic, count);
        }
    }
    let failures = failures.take();
    leave(clients).await;
    let mut faults = Faults::default();
    for pair in &pairs {
        let pair = pair.borrow();
        faults += pair.tally.faults(pair.sent);
    }
    Ok(json!({
        "scenario": "chat",
        "complete": complete,
        "measured": measured,
        "lost": faults.lost, "duplicated": faults.duplicated, "reordered": faults.reordered,
        "failures": failures,
    }))
}
