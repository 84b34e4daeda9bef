//! `enjamb-load`: a load client for XMPP servers, light enough that the server is the bottleneck, which counts every
//! message: none lost, none twice, none out of order. Raw XMPP over TCP without TLS, so for servers on loopback or in
//! a laboratory. Not part of what is installed.

mod chat;
mod control;
mod crash;
mod groupchat;
mod harness;
mod hibernate;
mod idle;
mod restart;
mod scan;
mod server;
mod session;
mod tally;

use std::net::ToSocketAddrs as _;
use std::process::ExitCode;
use std::time::Duration;

use lexopt::prelude::*;
use serde_json::Value;

use control::Driver;
use harness::Common;
use session::{Managed, Target};

const HELP: &str = "\
enjamb-load: a load client for XMPP servers that counts every message

    enjamb-load SCENARIO [OPTION...]

Prints one JSON object per line; the last is the result: what was measured, and messages lost, duplicated and
reordered. Accounts are expected to exist and to have one password; log-ins are SASL PLAIN without TLS. Exit status 0
if the scenario came to its end, 1 if not, 2 if it could not be begun.

Scenarios, with the accounts they use:
    chat        pairs: s0, s1, ... each send messages to r0, r1, ...
    groupchat   all sessions of g0, g1, ... are in one room, and g0 talks
    hibernate   h0, h1, ... lose their connections; s0, s1, ... write to them; they resume, then once more with nothing
                waiting. Wants --sm resume
    acks        h0, h1, ... acknowledge late what s0, s1, ... wrote. Wants --sm acks or resume
    route       s0, s1, ... write to n0, n1, ..., to whom the server must let nothing through
    idle        i0, i1, ... are there and do nothing
    crash       c0, c1, ... write to each other while connections and the server break. Prints {\"event\":\"online\"}
                when all are logged in; to be told `stop` on standard input when the server is up for good
    restart     c0, c1, ... with contacts and rooms come back after a restart. Prints {\"event\":\"online\"} when all is
                quiet; to be told `back PID` on standard input when the server is up again

Options of all:
    --address HOST:PORT   where the server listens for clients (127.0.0.1:5222)
    --host DOMAIN         the XMPP domain (localhost)
    --password TEXT       of all accounts (secret)
    --sm KIND             none, acks or resume: what to ask of stream management (none)
    --ask N               ask for an ack after N stanzas; 0: never (10)
    --server-pid PID      measure the CPU time and memory of this process (Linux)
    --bytes N             length of a message as the client sends it (380)
    --patience SECONDS    how long to wait for what should come (60)
    --seed N              for what is random (1)

Options of chat:
    --pairs N             (50)
    --messages N          in all (20000)
    --warm-up N           messages in all before those that are measured (2000)
    --window N            messages of a pair that may be under way; they are sent in batches of half of it (20)
    --rate N              messages per second in all, each sent alone; without it, as fast as the server goes

Options of groupchat:
    --accounts N          (100)
    --sessions N          of each account (3)
    --messages N          said in the room (200)
    --warm-up N           said before those that are measured (20)
    --window N            messages that may be under way (4)
    --muc DOMAIN          of the room (conference. and the host)

Options of hibernate, acks and route:
    --clients N           that lose their connections or acknowledge late (20)
    --messages N          for each (400)
    --step N              acks: how many messages an ack covers (1)

Options of idle:
    --clients N           (300)
    --seconds N           (10)

Options of crash:
    --clients N           (100)
    --rate N              messages per second in all (500)
    --cut-every SECONDS   how often a client loses its connection by itself; 0: never (20)

Options of restart:
    --clients N           (300)
                          (the contacts are those that the accounts' rosters hold already)
    --rooms N             that each joins (5)
    --occupants N         of each room (30)
    --muc DOMAIN          of the rooms (conference. and the host)
    --back HOW            resume or login (resume)
";

enum Scenario {
    Chat(chat::Options),
    Groupchat(groupchat::Options),
    Hibernate(hibernate::Options),
    Acks(hibernate::Options),
    Route(hibernate::Options),
    Idle(usize, f64),
    Crash(crash::Options),
    Restart(restart::Options),
}

/// All that can be said on the command line, with its defaults.
struct Arguments {
    common: Common,
    scenario: String,
    pairs: usize,
    messages: Option<u64>,
    warm_up: Option<u64>,
    window: Option<u32>,
    accounts: usize,
    sessions: usize,
    step: u32,
    seconds: f64,
    rate: Option<f64>,
    clients: Option<usize>,
    cut_every: f64,
    rooms: usize,
    occupants: usize,
    muc: Option<String>,
    resume: bool,
}

fn parse() -> Result<Option<(Common, Scenario)>, lexopt::Error> {
    let mut a = Arguments {
        common: Common {
            target: Target {
                address: ([127, 0, 0, 1], 5222).into(),
                host: "localhost".to_owned(),
                password: "secret".to_owned(),
                managed: Managed::No,
                ask_every: 10,
                patience: Duration::from_secs(60),
            },
            pid: None,
            seed: 1,
            bytes: 380,
            patience: Duration::from_secs(60),
        },
        scenario: String::new(),
        pairs: 50,
        messages: None,
        warm_up: None,
        window: None,
        accounts: 100,
        sessions: 3,
        step: 1,
        seconds: 10.0,
        rate: None,
        clients: None,
        cut_every: 20.0,
        rooms: 5,
        occupants: 30,
        muc: None,
        resume: true,
    };
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Short('h') | Long("help") => return Ok(None),
            Value(name) if a.scenario.is_empty() => a.scenario = name.string()?,
            Long("address") => {
                let text = parser.value()?.string()?;
                let mut found = text.to_socket_addrs().map_err(|e| format!("--address {text}: {e}"))?;
                a.common.target.address = found.next().ok_or("--address: no such host")?;
            }
            Long("host") => a.common.target.host = parser.value()?.string()?,
            Long("password") => a.common.target.password = parser.value()?.string()?,
            Long("sm") => {
                a.common.target.managed = match parser.value()?.string()?.as_str() {
                    "none" => Managed::No,
                    "acks" => Managed::Acks,
                    "resume" => Managed::Resumable,
                    _ => return Err("--sm: none, acks or resume".into()),
                }
            }
            Long("ask") => a.common.target.ask_every = parser.value()?.parse()?,
            Long("server-pid") => a.common.pid = Some(parser.value()?.parse()?),
            Long("bytes") => a.common.bytes = parser.value()?.parse()?,
            Long("patience") => {
                let seconds = parser.value()?.parse()?;
                a.common.patience =
                    Duration::try_from_secs_f64(seconds).map_err(|e| format!("--patience: {e}"))?;
            }
            Long("seed") => a.common.seed = parser.value()?.parse()?,
            Long("pairs") => a.pairs = parser.value()?.parse()?,
            Long("messages") => a.messages = Some(parser.value()?.parse()?),
            Long("warm-up") => a.warm_up = Some(parser.value()?.parse()?),
            Long("window") => a.window = Some(parser.value()?.parse()?),
            Long("accounts") => a.accounts = parser.value()?.parse()?,
            Long("sessions") => a.sessions = parser.value()?.parse()?,
            Long("step") => a.step = parser.value()?.parse()?,
            Long("seconds") => a.seconds = parser.value()?.parse()?,
            Long("rate") => a.rate = Some(parser.value()?.parse()?),
            Long("clients") => a.clients = Some(parser.value()?.parse()?),
            Long("cut-every") => a.cut_every = parser.value()?.parse()?,
            Long("rooms") => a.rooms = parser.value()?.parse()?,
            Long("occupants") => a.occupants = parser.value()?.parse()?,
            Long("muc") => a.muc = Some(parser.value()?.string()?),
            Long("back") => {
                a.resume = match parser.value()?.string()?.as_str() {
                    "resume" => true,
                    "login" => false,
                    _ => return Err("--back: resume or login".into()),
                }
            }
            other => return Err(other.unexpected()),
        }
    }
    if a.rate.is_some_and(|rate| !(rate > 0.0 && rate.is_finite())) {
        return Err("--rate: more than 0".into());
    }
    if !(0.0..1e6).contains(&a.seconds) {
        return Err("--seconds: from 0".into());
    }
    if a.window == Some(0) || a.clients.is_some_and(|n| n < 2) {
        return Err("--window: at least 1; --clients: at least 2".into());
    }
    if [a.pairs, a.occupants, a.accounts, a.sessions, a.step as usize].contains(&0) {
        return Err("--pairs, --occupants, --accounts, --sessions, --step: at least 1".into());
    }
    a.common.target.patience = a.common.patience;
    let muc = a.muc.unwrap_or_else(|| format!("conference.{}", a.common.target.host));
    let scenario = match a.scenario.as_str() {
        "chat" => Scenario::Chat(chat::Options {
            pairs: a.pairs,
            messages: a.messages.unwrap_or(20_000),
            warm_up: a.warm_up.unwrap_or(2000),
            rate: a.rate,
            window: a.window.unwrap_or(20),
        }),
        "groupchat" => Scenario::Groupchat(groupchat::Options {
            accounts: a.accounts,
            sessions: a.sessions,
            messages: a.messages.unwrap_or(200),
            warm_up: a.warm_up.unwrap_or(20),
            window: a.window.unwrap_or(4),
            muc,
        }),
        name @ ("hibernate" | "acks" | "route") => {
            let options = hibernate::Options {
                clients: a.clients.unwrap_or(20),
                messages: u32::try_from(a.messages.unwrap_or(400)).map_err(|e| format!("--messages: {e}"))?,
                step: a.step,
            };
            match (name, a.common.target.managed) {
                ("hibernate", Managed::Resumable) => Scenario::Hibernate(options),
                ("route", _) => Scenario::Route(options),
                ("acks", Managed::Resumable | Managed::Acks) => Scenario::Acks(options),
                _ => return Err(format!("{name} needs stream management, see --sm").into()),
            }
        }
        "idle" => Scenario::Idle(a.clients.unwrap_or(300), a.seconds),
        "crash" => Scenario::Crash(crash::Options {
            clients: a.clients.unwrap_or(100),
            rate: a.rate.unwrap_or(500.0),
            cut_every: a.cut_every,
        }),
        "restart" => Scenario::Restart(restart::Options {
            clients: a.clients.unwrap_or(300),
            rooms: a.rooms,
            occupants: a.occupants,
            muc,
            resume: a.resume,
        }),
        "" => return Ok(None),
        other => return Err(format!("there is no scenario {other}, see --help").into()),
    };
    Ok(Some((a.common, scenario)))
}

async fn run(common: &Common, scenario: Scenario) -> Result<Value, session::Error> {
    let mut driver = Driver::new();
    match scenario {
        Scenario::Chat(options) => chat::run(common, &options).await,
        Scenario::Groupchat(options) => groupchat::run(common, &options).await,
        Scenario::Hibernate(options) => hibernate::run(common, &options).await,
        Scenario::Acks(options) => hibernate::run_acks(common, &options).await,
        Scenario::Route(options) => hibernate::run_route(common, &options).await,
        Scenario::Idle(clients, seconds) => idle::run(common, clients, seconds).await,
        Scenario::Crash(options) => crash::run(common, &options, &mut driver).await,
        Scenario::Restart(options) => restart::run(common, &options, &mut driver).await,
    }
}

fn main() -> ExitCode {
    let (common, scenario) = match parse() {
        Ok(Some(parsed)) => parsed,
        Ok(None) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("enjamb-load: {error}");
            return ExitCode::from(2);
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("enjamb-load: the runtime does not start: {error}");
            return ExitCode::from(2);
        }
    };
    let result = tokio::task::LocalSet::new().block_on(&runtime, run(&common, scenario));
    let code = match result {
        Ok(result) => {
            let complete = result["complete"] == true;
            control::tell("result", result);
            u8::from(!complete)
        }
        Err(error) => {
            eprintln!("enjamb-load: {error}");
            2
        }
    };
    // Not by returning: a thread may wait for standard input for ever.
    std::process::exit(i32::from(code))
}
