//! Drive tokio-xmpp's client through a connection that breaks; see ../README.md.

mod connector;

use std::collections::HashMap;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use tokio::io::AsyncReadExt;
use tokio_xmpp::jid::Jid;
use tokio_xmpp::parsers::message::{Id, Lang, Message, MessageType};
use tokio_xmpp::parsers::presence::{Presence, Type as PresenceType};
use tokio_xmpp::xmlstream::Timeouts;
use tokio_xmpp::{Client, Event, Stanza};

use connector::Connector;

pub fn say(word: &str, rest: impl std::fmt::Display) {
    let line = format!("{word} {rest}");
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", line.trim_end()).and_then(|()| out.flush()).expect("standard output");
}

struct Args(HashMap<String, String>);

impl Args {
    fn read() -> Self {
        let mut args = HashMap::new();
        let mut words = std::env::args().skip(1);
        while let Some(name) = words.next() {
            let name = name.strip_prefix("--").expect("an option").to_owned();
            args.insert(name, words.next().expect("the option's value"));
        }
        Self(args)
    }

    fn get<T: std::str::FromStr>(&self, name: &str) -> T {
        let value = self.0.get(name).unwrap_or_else(|| panic!("no --{name}"));
        value.parse().unwrap_or_else(|_| panic!("bad --{name}"))
    }
}

struct Count {
    receive: u64,
    received: u64,
    send: u64,
    sent: u64,
}

impl Count {
    fn check_done(&self) {
        if self.received == self.receive && self.sent == self.send {
            say("done", "");
        }
    }
}

// One thread and one task for the client, not Client::split(), and a message
// sent only once the one before is: in 6.0.0 ClientReceiver and StanzaReceiver
// answer Pending, with nothing to wake them, when the other half holds their
// common lock at that moment. The receiving then stops for good.
#[tokio::main(flavor = "current_thread")]
async fn main() {
    let args = Args::read();
    let jid: Jid = args.get("jid");
    let to: Jid = args.get("to");
    let prefix: String = args.get("prefix");
    let mut count = Count { receive: args.get("receive"), received: 0, send: args.get("send"), sent: 0 };
    let live = Arc::new(AtomicBool::new(false));
    let connector = Connector {
        address: format!("{}:{}", args.get::<String>("host"), args.get::<u16>("port"))
            .parse()
            .expect("an address"),
        live: live.clone(),
    };
    let password: String = args.get("password");
    let mut client = Client::new_with_connector(jid, password, connector, Timeouts::tight());

    let mut interval = tokio::time::interval(Duration::from_millis(args.get("interval")));
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut online = false;
    let mut stdin = tokio::io::stdin();
    let mut input = [0; 64];

    loop {
        tokio::select! {
            event = client.next() => match event {
                Some(Event::Online { bound_jid, resumed, .. }) => {
                    live.store(true, Ordering::Relaxed);
                    if resumed {
                        say("resumed", "");
                    } else {
                        // Told only when <enabled/> has come, or <failed/>.
                        say("ready", bound_jid);
                        let presence = Presence::new(PresenceType::None);
                        client.send_stanza(presence.into()).await.expect("sending");
                    }
                    online = true;
                }
                Some(Event::Stanza(Stanza::Message(message))) => {
                    let body = message.bodies.values().next().cloned().unwrap_or_default();
                    if message.type_ == MessageType::Error {
                        say("bounced", body);
                        continue;
                    }
                    say("message", body);
                    count.received += 1;
                    count.check_done();
                }
                Some(Event::Stanza(_)) => (),
                Some(Event::Disconnected(error)) => say("failed", error),
                None => panic!("the client ended"),
            },
            // Sent whether there is a connection or not: this waits until the
            // library has written the stanza to one.
            _ = interval.tick(), if online && count.sent < count.send => {
                let name = format!("{prefix}{}", count.sent + 1);
                let mut message =
                    Message::chat(to.clone()).with_body(Lang::default(), name.clone());
                message.id = Some(Id(name));
                client.send_stanza(message.into()).await.expect("sending");
                count.sent += 1;
                count.check_done();
            }
            // Until standard input is closed.
            length = stdin.read(&mut input) => {
                if length.unwrap_or(0) == 0 {
                    break;
                }
            }
        }
    }
    let _ = tokio::time::timeout(Duration::from_secs(1), client.send_end()).await;
    std::process::exit(0); // the thread that reads standard input may be left
}
