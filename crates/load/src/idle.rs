//! `idle`: sessions that are there and do nothing: what each takes of the server's memory, and what doing nothing
//! costs.

use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Common, Failures, Meter, accounts, leave, log_in, settle, spawn};
use crate::server;
use crate::session::{Error, Traffic};

/// Runs it with so many clients for so long.
pub async fn run(common: &Common, clients: usize, seconds: f64) -> Result<Value, Error> {
    let (traffic, failures) = (Rc::new(Traffic::default()), Failures::default());
    let resident = || common.pid.and_then(server::memory).map(|(now, _)| now);
    let before = resident();
    let meter = Meter::start(common.pid, &traffic);
    let mut running = Vec::new();
    for session in log_in(common, &accounts("i", clients), &traffic).await? {
        let client = spawn(session, &failures, |_, _| ());
        client.outbox.send(|out| out.stanza(0, b"<presence/>"));
        running.push(client);
    }
    settle(&traffic, Duration::from_millis(500)).await;
    let entering = meter.stop(&traffic, clients as u64);
    let after = resident();
    let meter = Meter::start(common.pid, &traffic);
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
    let (measured, failures) = (meter.stop(&traffic, clients as u64), failures.take());
    leave(running).await;
    Ok(json!({
        "scenario": "idle",
        "complete": failures.is_empty(),
        "entering": entering,
        "measured": measured,
        "bytes_each": after.zip(before).map(|(after, before)| after.saturating_sub(before) / clients as u64),
        "failures": failures,
    }))
}
