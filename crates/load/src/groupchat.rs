//! `groupchat`: every session of every account is in one room, and one of them talks.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{
    Common, Counter, Failures, Messages, Meter, leave, log_in, message_number, settle, spawn, wait_until,
};
use crate::session::{Error, Event, Traffic};
use crate::tally::{Faults, Tally};

/// What `groupchat` is told.
#[derive(Clone, Debug)]
pub struct Options {
    /// In the room.
    pub accounts: usize,
    /// Of each account.
    pub sessions: usize,
    /// Said in the room, after the warm-up.
    pub messages: u64,
    /// Said before what is measured.
    pub warm_up: u64,
    /// How many messages may be under way.
    pub window: u32,
    /// The domain of the room.
    pub muc: String,
}

/// Runs it.
pub async fn run(common: &Common, options: &Options) -> Result<Value, Error> {
    let traffic = Rc::new(Traffic::default());
    let failures = Failures::default();
    let accounts: Vec<_> = (0..options.accounts)
        .flat_map(|i| (0..options.sessions).map(move |k| (format!("g{i}"), format!("d{k}"))))
        .collect();
    let room = format!("bench@{}", options.muc);
    let (joined, copies) = (Counter::default(), Counter::default());
    let tallies: Rc<RefCell<Vec<Tally>>> = Rc::default();
    let mut clients = Vec::new();
    let meter = Meter::start(common.pid, &traffic);
    for (i, session) in log_in(common, &accounts, &traffic).await?.into_iter().enumerate() {
        tallies.borrow_mut().push(Tally::default());
        let (joined, copies, tallies) = (joined.clone(), copies.clone(), Rc::clone(&tallies));
        let mut is_in = false;
        let client = spawn(session, &failures, move |event: Event<'_>, _| {
            if let Some(number) = message_number(&event) {
                tallies.borrow_mut()[i].received(number);
                copies.add();
            } else if let Event::Stanza(element) = event
                && !is_in
                && element.name() == b"presence"
                && element.contains(b"code='110'")
            {
                is_in = true;
                joined.add();
            }
        });
        client.outbox.send(|out| {
            out.stanza(0, b"<presence/>");
            let join = format!(
                "<presence to='{room}/{}'><x xmlns='http://jabber.org/protocol/muc'><history maxstanzas='0'/></x></presence>",
                accounts[i].0
            );
            out.stanza(0, join.as_bytes());
        });
        clients.push(client);
    }
    let all = clients.len() as u64;
    if !wait_until(common.patience, || joined.get() == all).await {
        return Err(Error::Unexpected("let all sessions join", format!("{} of {all}", joined.get())));
    }
    settle(&traffic, Duration::from_millis(300)).await;
    let joining = meter.stop(&traffic, all);

    let mut messages = Messages::new(&room, "groupchat", common.bytes);
    let sent = Cell::new(0u32);
    let mut complete = true;
    let mut measured = Value::Null;
    for (count, measure) in [(options.warm_up, false), (options.messages, true)] {
        let goal = sent.get() + count as u32;
        let meter = Meter::start(common.pid, &traffic);
        while complete && sent.get() < goal {
            let under_way = sent.get() - (copies.get() / all) as u32;
            let room = options.window.saturating_sub(under_way).min(goal - sent.get());
            clients[0].outbox.send(|out| {
                for _ in 0..room {
                    out.stanza(0, messages.number(sent.get()));
                    sent.set(sent.get() + 1);
                }
            });
            let enough = u64::from(sent.get().saturating_sub(options.window / 2)) * all;
            complete &=
                wait_until(common.patience, || copies.get() >= enough || !failures.borrow().is_empty()).await;
            complete &= failures.borrow().is_empty();
        }
        complete &= wait_until(common.patience, || copies.get() >= u64::from(goal) * all).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        if measure {
            measured = meter.stop(&traffic, count * all);
        }
    }
    let failures = failures.take();
    leave(clients).await;
    let mut faults = Faults::default();
    for tally in tallies.borrow().iter() {
        faults += tally.faults(sent.get());
    }
    Ok(json!({
        "scenario": "groupchat",
        "complete": complete,
        "joining": joining,
        "measured": measured,
        "lost": faults.lost, "duplicated": faults.duplicated, "reordered": faults.reordered,
        "failures": failures,
    }))
}
