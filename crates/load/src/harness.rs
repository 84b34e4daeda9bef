//! What every scenario needs: clients that log in side by side and run by themselves, and a meter for what the
//! server's work cost. Knows nothing of what is measured.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use crate::server;
use crate::session::{Error, Event, Out, Outbox, Session, Target, Traffic};

/// Log-ins that run side by side.
const LOGINS_AT_ONCE: usize = 16;

/// What all scenarios are told on the command line.
#[derive(Clone, Debug)]
pub struct Common {
    /// Where to log in.
    pub target: Target,
    /// The server's process, if it is on this machine.
    pub pid: Option<u32>,
    /// For everything that is random.
    pub seed: u64,
    /// Bytes of a message as the client sends it.
    pub bytes: usize,
    /// After which a scenario gives up waiting for what should have come.
    pub patience: Duration,
}

/// A client that is logged in and runs.
pub struct Client {
    /// Leads to what it sends.
    pub outbox: Rc<Outbox>,
    /// Gives the session back once its connection has ended.
    pub ended: JoinHandle<Session>,
}

/// Why connections have ended that should not have.
pub type Failures = Rc<RefCell<Vec<String>>>;

/// Logs accounts in: (user, resource) each. They are not running yet.
pub async fn log_in(
    common: &Common,
    accounts: &[(String, String)],
    traffic: &Rc<Traffic>,
) -> Result<Vec<Session>, Error> {
    let mut sessions: Vec<Option<Session>> = accounts.iter().map(|_| None).collect();
    let (mut running, mut next) = (JoinSet::new(), 0);
    loop {
        while running.len() < LOGINS_AT_ONCE && next < accounts.len() {
            let (target, (user, resource)) = (common.target.clone(), accounts[next].clone());
            let (traffic, at) = (Rc::clone(traffic), next);
            running
                .spawn_local(async move { (at, Session::login(&target, &user, &resource, &traffic).await) });
            next += 1;
        }
        let Some(joined) = running.join_next().await else { break };
        let (at, session) = joined.map_err(std::io::Error::other)?;
        sessions[at] = Some(session?);
    }
    Ok(sessions.into_iter().flatten().collect())
}

/// Has a session run by itself until its connection ends. `on` is told what comes in.
pub fn spawn(
    mut session: Session,
    failures: &Failures,
    on: impl FnMut(Event<'_>, &mut Out) + 'static,
) -> Client {
    let outbox = Rc::new(Outbox::default());
    let (own, failures) = (Rc::clone(&outbox), Rc::clone(failures));
    let ended = tokio::task::spawn_local(async move {
        if let Err(error) = session.run(&own, on).await {
            failures.borrow_mut().push(error.to_string());
        }
        session
    });
    Client { outbox, ended }
}

/// Has clients end their sessions, so that nothing of them is left on the server.
pub async fn leave(clients: impl IntoIterator<Item = Client>) {
    let clients: Vec<_> = clients.into_iter().inspect(|client| client.outbox.close()).collect();
    for client in clients {
        // Whatever goes wrong with this has been measured already.
        let _ = timeout(Duration::from_secs(5), client.ended).await;
    }
}

/// Names accounts: `prefix` and a number.
pub fn accounts(prefix: &str, count: usize) -> Vec<(String, String)> {
    (0..count).map(|i| (format!("{prefix}{i}"), "r".to_owned())).collect()
}

/// Waits until a condition holds. Returns whether it came to that in time.
pub async fn wait_until(patience: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let began = Instant::now();
    while !condition() {
        if began.elapsed() > patience {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    true
}

/// Waits until nothing has come in or gone out for a while.
pub async fn settle(traffic: &Traffic, quiet: Duration) {
    loop {
        let before = traffic.total();
        tokio::time::sleep(quiet).await;
        if traffic.total() == before {
            return;
        }
    }
}

/// Measures what is between its making and [`Meter::stop`].
pub struct Meter {
    pid: Option<u32>,
    began: Instant,
    server: Option<f64>,
    own: Option<f64>,
    received: u64,
    sent: u64,
}

impl Meter {
    /// Begins.
    pub fn start(pid: Option<u32>, traffic: &Traffic) -> Meter {
        Meter {
            pid,
            began: Instant::now(),
            server: pid.and_then(server::cpu_seconds),
            own: server::cpu_seconds(std::process::id()),
            received: traffic.received.get(),
            sent: traffic.sent.get(),
        }
    }

    /// Ends. `count` is of what the server did, for the CPU per piece. Times are in seconds, `us_each` in
    /// microseconds; `bytes_out` are those of the server.
    pub fn stop(self, traffic: &Traffic, count: u64) -> Value {
        let seconds = self.began.elapsed().as_secs_f64();
        let difference =
            |before: Option<f64>, pid: Option<u32>| Some(pid.and_then(server::cpu_seconds)? - before?);
        let cpu = difference(self.server, self.pid);
        let (rss, peak) = self.pid.and_then(server::memory).unzip();
        json!({
            "seconds": seconds,
            "server_cpu": cpu,
            "client_cpu": difference(self.own, Some(std::process::id())),
            "count": count,
            "us_each": cpu.map(|cpu| cpu * 1e6 / count.max(1) as f64),
            "bytes_out": traffic.received.get() - self.received,
            "bytes_in": traffic.sent.get() - self.sent,
            "rss": rss,
            "rss_peak": peak,
        })
    }
}

/// Makes the messages of one sender to one address, all of the same length.
pub struct Messages {
    head: String,
    tail: String,
    bytes: usize,
    buffer: Vec<u8>,
}

const PROSE: &str =
    "But soft, what light through yonder window breaks? It is the east, and Juliet is the sun; arise fair ";

impl Messages {
    /// Of `bytes` bytes, or a few more if they are too few for an empty one.
    pub fn new(to: &str, kind: &str, bytes: usize) -> Messages {
        Messages {
            head: format!("<message to='{to}' type='{kind}' id='"),
            tail: match kind {
                "chat" => "</body><origin-id xmlns='urn:xmpp:sid:0' id='9e3779b1-6c1d-4b1f-9f6e-243f6a8885a3'/>\
                    <request xmlns='urn:xmpp:receipts'/><active xmlns='http://jabber.org/protocol/chatstates'/></message>",
                _ => "</body><origin-id xmlns='urn:xmpp:sid:0' id='9e3779b1-6c1d-4b1f-9f6e-243f6a8885a3'/></message>",
            }
            .to_owned(),
            bytes,
            buffer: Vec::new(),
        }
    }

    /// The message of that number: its id is `m` and the number.
    pub fn number(&mut self, number: u32) -> &[u8] {
        self.buffer.clear();
        let id = format!("m{number}'><body>");
        self.buffer.extend_from_slice(self.head.as_bytes());
        self.buffer.extend_from_slice(id.as_bytes());
        let room = self.bytes.saturating_sub(self.buffer.len() + self.tail.len());
        self.buffer.extend(PROSE.bytes().cycle().skip(number as usize % PROSE.len()).take(room));
        self.buffer.extend_from_slice(self.tail.as_bytes());
        &self.buffer
    }
}

/// The number of a message that [`Messages`] made, if it is one and not an error.
pub fn message_number(event: &Event<'_>) -> Option<u32> {
    let Event::Stanza(element) = event else { return None };
    if element.name() != b"message" || element.attribute(b"type") == Some(b"error") {
        return None;
    }
    element.number(b"id", b"m")
}

/// A ping to the server: what was sent before it has been processed when its answer comes.
pub fn ping(host: &str, id: &str) -> Vec<u8> {
    format!("<iq type='get' id='{id}' to='{host}'><ping xmlns='urn:xmpp:ping'/></iq>").into_bytes()
}

/// Whether an event is the answer to the iq of that id.
pub fn is_answer(event: &Event<'_>, id: &str) -> bool {
    matches!(event, Event::Stanza(e) if e.name() == b"iq" && e.attribute(b"id") == Some(id.as_bytes()))
}

/// Counts up, shared between tasks.
#[derive(Clone, Default)]
pub struct Counter(Rc<Cell<u64>>);

impl Counter {
    /// One more. Returns how many there are.
    pub fn add(&self) -> u64 {
        self.0.set(self.0.get() + 1);
        self.0.get()
    }

    /// How many there are.
    pub fn get(&self) -> u64 {
        self.0.get()
    }
}

#[cfg(test)]
mod tests {
    use super::Messages;

    #[test]
    fn messages_are_as_long_as_wanted() {
        let mut messages = Messages::new("romeo@b.local/r", "chat", 400);
        for number in [0, 7, 123_456] {
            let text = String::from_utf8(messages.number(number).to_vec()).unwrap();
            assert_eq!(text.len(), 400);
            assert!(
                text.starts_with(&format!("<message to='romeo@b.local/r' type='chat' id='m{number}'><body>"))
            );
            assert!(text.ends_with("</message>"));
        }
        let mut short = Messages::new("romeo@b.local/r", "groupchat", 0);
        assert!(short.number(1).len() > 100);
    }
}
