//! `restart`: clients with contacts and rooms log in, the server is restarted, and they come back: by resuming, or by
//! logging in fully. Counts the bytes; the driver, who knows when the server began, the CPU.
//!
//! Says `online` when all are in their rooms and it is quiet; waits for `back PID`, the server having been restarted;
//! ends when all are back and it is quiet again.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::control::{Driver, tell};
use crate::harness::{Common, Counter, Meter, settle, wait_until};
use crate::session::{Error, Event, Management, Out, Outbox, Resumption, Session, Traffic};

/// What `restart` is told.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many clients.
    pub clients: usize,
    /// Rooms of each.
    pub rooms: usize,
    /// Occupants of a room.
    pub occupants: usize,
    /// The domain of the rooms.
    pub muc: String,
    /// Come back by resuming; otherwise by logging in fully.
    pub resume: bool,
}

const QUIET: Duration = Duration::from_millis(500);

#[derive(Default)]
struct World {
    /// Log-ins that are through: roster, presence and rooms.
    ready: Counter,
    resumed: Counter,
    lost_sessions: Counter,
    /// Times that a room said to somebody that it is out of it.
    evicted: Counter,
    errors: RefCell<Vec<String>>,
}

/// What a client says after binding, as clients do.
fn introduce(out: &mut Out, host: &str, rooms: &[String]) {
    out.stanza(0, b"<iq type='get' id='roster'><query xmlns='jabber:iq:roster'/></iq>");
    out.stanza(0, b"<iq type='set' id='carbons'><enable xmlns='urn:xmpp:carbons:2'/></iq>");
    let info = format!(
        "<iq type='get' id='info' to='{host}'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>"
    );
    out.stanza(0, info.as_bytes());
    out.stanza(
        0,
        b"<presence><c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='https://example.org' \
          ver='q07IKJEyjvHSyhy//CH0CxmKi8w='/></presence>",
    );
    for room in rooms {
        join(out, room);
    }
}

fn join(out: &mut Out, occupant: &str) {
    let join = format!(
        "<presence to='{occupant}'><x xmlns='http://jabber.org/protocol/muc'><history maxstanzas='0'/></x></presence>"
    );
    out.stanza(0, join.as_bytes());
}

struct Person {
    user: String,
    /// Its full occupant JIDs.
    rooms: Vec<String>,
    outbox: Rc<Outbox>,
}

impl Person {
    /// Runs a session; `joining` rooms are to be joined until it counts as ready.
    async fn run(&self, world: &World, session: &mut Session, mut joining: usize) {
        let joined = |element: crate::scan::Element<'_>| element.contains(b"code='110'");
        let ended = session
            .run(&self.outbox, |event, out| {
                let Event::Stanza(element) = event else { return };
                if element.name() != b"presence" {
                    return;
                }
                match element.attribute(b"type") {
                    None if joining > 0 && joined(element) => {
                        joining -= 1;
                        if joining == 0 {
                            world.ready.add();
                        }
                    }
                    Some(b"unavailable") if joined(element) => {
                        world.evicted.add();
                        if let Some(from) = element.attribute(b"from") {
                            join(out, &String::from_utf8_lossy(from));
                        }
                    }
                    Some(b"error") => world.errors.borrow_mut().push(element.to_string()),
                    _ => {}
                }
            })
            .await;
        if let Err(error @ (Error::Unexpected(..) | Error::TooHigh { .. })) = ended {
            world.errors.borrow_mut().push(format!("{}: {error}", self.user));
        }
    }
}

/// Runs it.
pub async fn run(common: &Common, options: &Options, driver: &mut Driver) -> Result<Value, Error> {
    let traffic = Rc::new(Traffic::default());
    let world = Rc::new(World::default());
    let n = options.clients;
    let n_rooms = (n * options.rooms / options.occupants).max(options.rooms);
    let people: Vec<_> = (0..n)
        .map(|i| {
            // spread so that rooms are shared with others than the contacts alone
            let room = |k: usize| (i * 7 + k * (n_rooms / options.rooms) + i / n_rooms) % n_rooms;
            let rooms = (0..options.rooms).map(|k| format!("room{}@{}/c{i}", room(k), options.muc)).collect();
            Rc::new(Person { user: format!("c{i}"), rooms, outbox: Rc::default() })
        })
        .collect();
    let roomless = usize::from(options.rooms == 0);

    let meter = Meter::start(common.pid, &traffic);
    let mut sessions = enter(common, &world, &people, &traffic, None).await?;
    let all = |count: u64| count as usize >= n || roomless == 1;
    let complete = wait_until(common.patience, || all(world.ready.get())).await;
    settle(&traffic, QUIET).await;
    let first = meter.stop(&traffic, n as u64);
    if !complete || !world.errors.borrow().is_empty() {
        let wrong = format!("{} of {n}; {:?}", world.ready.get(), world.errors.borrow().first());
        return Err(Error::Unexpected("let all clients join", wrong));
    }
    tell("online", json!({}));
    let pid = driver.wait_for("back").await.and_then(|pid| pid.parse().ok());
    // Each has noticed by now that its connection is lost.
    let mut lost: Vec<Option<Management>> = (0..n).map(|_| None).collect();
    while let Some(ended) = sessions.join_next().await {
        let (i, session): (usize, Session) = ended.map_err(std::io::Error::other)?;
        lost[i] = session.management.filter(|m| options.resume && m.id.is_some());
    }
    let ready_before = world.ready.get();
    let meter = Meter::start(pid, &traffic);
    let mut sessions = enter(common, &world, &people, &traffic, Some(lost)).await?;
    let complete =
        wait_until(common.patience, || all(world.ready.get() - ready_before + world.resumed.get())).await;
    settle(&traffic, QUIET).await;
    let back = meter.stop(&traffic, n as u64);
    sessions.abort_all();
    Ok(json!({
        "scenario": "restart",
        "complete": complete,
        "first": first,
        "back": back,
        "resumed": world.resumed.get(),
        "lost_sessions": world.lost_sessions.get(),
        "evicted": world.evicted.get(),
        "errors": *world.errors.borrow(),
    }))
}

/// Brings all in, some at a time, and leaves them running.
async fn enter(
    common: &Common,
    world: &Rc<World>,
    people: &[Rc<Person>],
    traffic: &Rc<Traffic>,
    lost: Option<Vec<Option<Management>>>,
) -> Result<JoinSet<(usize, Session)>, Error> {
    let mut lost = lost.unwrap_or_default();
    lost.resize_with(people.len(), || None);
    let gate = Rc::new(tokio::sync::Semaphore::new(16));
    let mut running = JoinSet::new();
    for (i, (person, mut previous)) in people.iter().zip(lost).enumerate() {
        let (person, common, gate) = (Rc::clone(person), common.clone(), Rc::clone(&gate));
        let (world, traffic) = (Rc::clone(world), Rc::clone(traffic));
        running.spawn_local(async move {
            let ticket = gate.acquire().await;
            let target = &common.target;
            let (mut session, fresh) = loop {
                let entered = match &mut previous {
                    None => Session::login(target, &person.user, "r", &traffic).await.map(|s| (s, true)),
                    Some(m) => match Session::resume(target, &person.user, "r", &traffic, m, |_| ()).await {
                        Ok(Resumption::Resumed(session)) => {
                            world.resumed.add();
                            Ok((session, false))
                        }
                        Ok(Resumption::Fresh(session, _)) => {
                            world.lost_sessions.add();
                            Ok((session, true))
                        }
                        Err(error) => Err(error),
                    },
                };
                match entered {
                    Ok(entered) => break entered,
                    Err(error) => {
                        world.errors.borrow_mut().push(format!("{}: {error}", person.user));
                        tokio::time::sleep(Duration::from_millis(200)).await;
                    }
                }
            };
            drop(ticket);
            if fresh {
                person.outbox.send(|out| introduce(out, &target.host, &person.rooms));
            }
            let joining = if fresh { person.rooms.len() } else { 0 };
            person.run(&world, &mut session, joining).await;
            (i, session)
        });
    }
    Ok(running)
}
