//! `hibernate`: clients lose their connections, messages queue for them, they resume and get them. Also `acks`, which
//! needs the same: messages that wait for an acknowledgement. And `route`, what both cost without their queues.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{
    Client, Common, Counter, Failures, Messages, Meter, accounts, is_answer, leave, log_in, message_number,
    ping, settle, spawn, wait_until,
};
use crate::session::{Error, Event, Resumption, Session, Traffic};
use crate::tally::{Faults, Tally};

/// What both are told.
#[derive(Clone, Debug)]
pub struct Options {
    /// Clients that messages wait for; as many others send.
    pub clients: usize,
    /// For each.
    pub messages: u32,
    /// `acks`: how many messages one `<a/>` covers.
    pub step: u32,
}

/// Messages that a sender hands over before it waits for the server to have processed them.
const BATCH: u32 = 20;
const QUIET: Duration = Duration::from_millis(200);

/// Sends `count` messages to each of the receivers, from as many senders, and waits until the server has them all. The
/// receivers' accounts are a letter and a number.
struct Senders {
    clients: Vec<Client>,
    left: Rc<RefCell<Vec<u32>>>,
    done: Counter,
}

impl Senders {
    async fn log_in(
        common: &Common,
        to: char,
        count: usize,
        traffic: &Rc<Traffic>,
        failures: &Failures,
    ) -> Result<Senders, Error> {
        let left = Rc::new(RefCell::new(vec![0u32; count]));
        let done = Counter::default();
        let mut clients: Vec<Client> = Vec::new();
        for (i, session) in log_in(common, &accounts("s", count), traffic).await?.into_iter().enumerate() {
            let host = common.target.host.clone();
            let mut messages = Messages::new(&format!("{to}{i}@{host}/r"), "chat", common.bytes);
            let (left, done, mut number) = (Rc::clone(&left), done.clone(), 0);
            clients.push(spawn(session, failures, move |event: Event<'_>, out| {
                if !is_answer(&event, "batch") {
                    return;
                }
                let now = left.borrow()[i].min(BATCH);
                if now == 0 {
                    done.add();
                    return;
                }
                left.borrow_mut()[i] -= now;
                for _ in 0..now {
                    out.stanza(0, messages.number(number));
                    number += 1;
                }
                out.stanza(0, &ping(&host, "batch"));
            }));
        }
        Ok(Senders { clients, left, done })
    }

    async fn send(&self, common: &Common, count: u32) -> bool {
        self.left.borrow_mut().fill(count);
        let goal = self.done.get() + self.clients.len() as u64;
        for client in &self.clients {
            client.outbox.send(|out| out.stanza(0, &ping(&common.target.host, "batch")));
        }
        wait_until(common.patience, || self.done.get() >= goal).await
    }
}

type Tallies = Rc<RefCell<Vec<Tally>>>;

/// Receivers, whose accounts are a letter and a number, and what came to them.
struct Receivers<'a> {
    common: &'a Common,
    letter: char,
    count: usize,
    traffic: Rc<Traffic>,
    failures: Failures,
    tallies: Tallies,
    arrived: Counter,
    pongs: Counter,
}

impl<'a> Receivers<'a> {
    fn new(common: &'a Common, letter: char, count: usize) -> Receivers<'a> {
        let tallies = Tallies::default();
        tallies.borrow_mut().resize_with(count, Tally::default);
        Receivers {
            common,
            letter,
            count,
            traffic: Rc::default(),
            failures: Failures::default(),
            tallies,
            arrived: Counter::default(),
            pongs: Counter::default(),
        }
    }

    fn accounts(&self) -> Vec<(String, String)> {
        accounts(&self.letter.to_string(), self.count)
    }

    fn receive(&self, session: Session, i: usize) -> Client {
        let (tallies, arrived, pongs) = (Rc::clone(&self.tallies), self.arrived.clone(), self.pongs.clone());
        spawn(session, &self.failures, move |event: Event<'_>, _| {
            if let Some(number) = message_number(&event) {
                if tallies.borrow_mut()[i].received(number) {
                    arrived.add();
                }
            } else if is_answer(&event, "pong") {
                pongs.add();
            }
        })
    }

    /// Logs in, with as many senders, and waits until all is quiet. `mute` ones send neither presence nor, by themselves,
    /// an ack.
    async fn log_in(&self, mute: bool) -> Result<(Vec<Client>, Senders), Error> {
        let mut clients = Vec::new();
        let sessions = log_in(self.common, &self.accounts(), &self.traffic).await?;
        for (i, mut session) in sessions.into_iter().enumerate() {
            session.mute = mute;
            let client = self.receive(session, i);
            if !mute {
                client.outbox.send(|out| out.stanza(0, b"<presence/>"));
            }
            clients.push(client);
        }
        let senders =
            Senders::log_in(self.common, self.letter, self.count, &self.traffic, &self.failures).await?;
        settle(&self.traffic, QUIET).await;
        Ok((clients, senders))
    }
}

/// Runs `hibernate`.
pub async fn run(common: &Common, options: &Options) -> Result<Value, Error> {
    let n = options.clients;
    let receivers = Receivers::new(common, 'h', n);
    let (mut clients, senders) = receivers.log_in(false).await?;
    let (traffic, accounts) = (&receivers.traffic, receivers.accounts());

    let total = n as u64 * u64::from(options.messages);
    let mut complete = true;
    let mut phases = Vec::new();
    // Once with messages, once without: the difference is what the messages cost.
    for messages in [options.messages, 0] {
        let mut lost = Vec::new();
        for client in clients.drain(..) {
            client.outbox.cut();
            let session = client.ended.await.map_err(std::io::Error::other)?;
            lost.push(session.management.unwrap_or_default());
        }
        tokio::time::sleep(QUIET).await;
        if messages > 0 {
            let meter = Meter::start(common.pid, traffic);
            complete &= senders.send(common, messages).await;
            phases.push(meter.stop(traffic, total));
        }
        let meter = Meter::start(common.pid, traffic);
        for (i, mut management) in lost.into_iter().enumerate() {
            let (user, resource) = &accounts[i];
            let resumed =
                Session::resume(&common.target, user, resource, traffic, &mut management, |_| ()).await?;
            let Resumption::Resumed(session) = resumed else {
                return Err(Error::Unexpected("resume the session", "that it is lost".to_owned()));
            };
            clients.push(receivers.receive(session, i));
        }
        complete &= wait_until(common.patience, || receivers.arrived.get() >= total).await;
        settle(traffic, QUIET).await;
        phases.push(meter.stop(traffic, if messages > 0 { total } else { n as u64 }));
    }
    let failures = receivers.failures.take();
    leave(clients.into_iter().chain(senders.clients)).await;
    let mut faults = Faults::default();
    for tally in receivers.tallies.borrow().iter() {
        faults += tally.faults(options.messages);
    }
    Ok(json!({
        "scenario": "hibernate",
        "complete": complete,
        "queueing": phases[0], "resuming": phases[1], "resuming_empty": phases[2],
        "lost": faults.lost, "duplicated": faults.duplicated, "reordered": faults.reordered,
        "failures": failures,
    }))
}

/// Runs `acks`: the receivers acknowledge what they got only when all have it, by one `<a/>` for each `step`.
pub async fn run_acks(common: &Common, options: &Options) -> Result<Value, Error> {
    let n = options.clients;
    let receivers = Receivers::new(common, 'h', n);
    let (clients, senders) = receivers.log_in(true).await?;
    let (traffic, arrived, pongs) = (&receivers.traffic, &receivers.arrived, &receivers.pongs);
    let total = n as u64 * u64::from(options.messages);
    let mut complete = senders.send(common, options.messages).await;
    complete &= wait_until(common.patience, || arrived.get() >= total).await;
    settle(traffic, QUIET).await;

    let acks: Vec<u8> = (options.step..=options.messages)
        .step_by(options.step as usize)
        .flat_map(|h| format!("<a xmlns='urn:xmpp:sm:3' h='{h}'/>").into_bytes())
        .collect();
    let mut phases = Vec::new();
    // Once with acks, once without: what it takes to know that they have been processed is not part of them.
    for (acks, count) in [(&acks[..], u64::from(options.messages / options.step)), (&[], 1)] {
        let goal = pongs.get() + n as u64;
        let meter = Meter::start(common.pid, traffic);
        for client in &clients {
            client.outbox.send(|out| {
                out.raw(acks);
                out.stanza(0, &ping(&common.target.host, "pong"));
            });
        }
        complete &= wait_until(common.patience, || pongs.get() >= goal).await;
        phases.push(meter.stop(traffic, n as u64 * count));
    }
    let failures = receivers.failures.take();
    leave(clients.into_iter().chain(senders.clients)).await;
    Ok(json!({
        "scenario": "acks", "complete": complete, "acknowledging": phases[0], "pinging": phases[1],
        "failures": failures,
    }))
}

/// Runs `route`: messages to receivers who are there, and of whom the server has been told to let nothing through.
pub async fn run_route(common: &Common, options: &Options) -> Result<Value, Error> {
    let n = options.clients;
    let receivers = Receivers::new(common, 'n', n);
    let (clients, senders) = receivers.log_in(false).await?;
    let meter = Meter::start(common.pid, &receivers.traffic);
    let complete = senders.send(common, options.messages).await;
    let routing = meter.stop(&receivers.traffic, n as u64 * u64::from(options.messages));
    settle(&receivers.traffic, QUIET).await;
    let failures = receivers.failures.take();
    leave(clients.into_iter().chain(senders.clients)).await;
    Ok(json!({
        "scenario": "route", "complete": complete && receivers.arrived.get() == 0, "routing": routing, "failures": failures,
    }))
}
