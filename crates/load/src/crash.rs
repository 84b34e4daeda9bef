//! `crash`: many clients write to each other while the server is killed and started again by the driver, and while
//! they lose their connections on their own account. Each comes back by resuming. At the end every message is
//! accounted for.
//!
//! Says `online` when all are logged in; ends on `stop`, when all are back and nothing is under way any more.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::control::{Driver, tell};
use crate::harness::{Common, Messages, wait_until};
use crate::session::{Error, Event, Management, Outbox, Resumption, Session, Traffic};

/// What `crash` is told.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many clients.
    pub clients: usize,
    /// Messages per second, of all clients together.
    pub rate: f64,
    /// How often a client loses its connection by itself: once in so many seconds; 0: never.
    pub cut_every: f64,
}

/// Sent from one client to another.
struct Message {
    from: usize,
    to: usize,
    handled: bool,
    returned: bool,
    times: u32,
}

#[derive(Default)]
struct World {
    messages: RefCell<Vec<Message>>,
    /// The last message that came first from one client to another.
    last: RefCell<Vec<Option<u32>>>,
    clients: Cell<usize>,
    reordered: Cell<u64>,
    resumed: Cell<u64>,
    /// Sessions that could not be resumed.
    lost_sessions: Cell<u64>,
    online: Cell<usize>,
    stopping: Cell<bool>,
    last_arrival: Cell<Option<Instant>>,
    errors: RefCell<Vec<String>>,
}

fn bump(counter: &Cell<u64>) {
    counter.set(counter.get() + 1);
}

impl World {
    fn arrived(&self, to: usize, number: u32) {
        let mut messages = self.messages.borrow_mut();
        let Some(message) = messages.get_mut(number as usize) else { return };
        message.times += 1;
        self.last_arrival.set(Some(Instant::now()));
        if message.to != to {
            self.errors.borrow_mut().push(format!("message {number} came to client {to}"));
        }
        if message.times == 1 {
            let last = &mut self.last.borrow_mut()[message.from * self.clients.get() + to];
            if last.is_some_and(|last| last > number) {
                bump(&self.reordered);
            }
            *last = (*last).max(Some(number));
        }
    }

    fn handled(&self, tag: u32) {
        if let Some(message) = self.messages.borrow_mut().get_mut(tag as usize) {
            message.handled = true;
        }
    }

    fn returned(&self, number: u32) {
        if let Some(message) = self.messages.borrow_mut().get_mut(number as usize) {
            message.returned = true;
        }
    }
}

/// The tag of stanzas that are not messages.
const OTHER: u32 = u32::MAX;

async fn live(world: Rc<World>, common: Rc<Common>, me: usize, outbox: Rc<Outbox>, traffic: Rc<Traffic>) {
    let (user, resource) = (format!("c{me}"), "r");
    let mut previous: Option<Management> = None;
    loop {
        let entered = match &mut previous {
            None => Session::login(&common.target, &user, resource, &traffic).await.inspect(|_| {
                outbox.send_first([(OTHER, b"<presence/>".to_vec())]);
            }),
            Some(management) => {
                let handled = |tag| world.handled(tag);
                match Session::resume(&common.target, &user, resource, &traffic, management, handled).await {
                    Ok(Resumption::Resumed(session)) => {
                        bump(&world.resumed);
                        Ok(session)
                    }
                    Ok(Resumption::Fresh(session, unacked)) => {
                        bump(&world.lost_sessions);
                        outbox.send_first(unacked.into_iter().filter(|(tag, _)| *tag != OTHER));
                        outbox.send_first([(OTHER, b"<presence/>".to_vec())]);
                        Ok(session)
                    }
                    Err(error) => Err(error),
                }
            }
        };
        let mut session = match entered {
            Ok(session) => session,
            Err(error) => {
                note(&world, me, &error);
                sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        world.online.set(world.online.get() + 1);
        let ended = session
            .run(&outbox, |event, _| match event {
                Event::Handled(tag) => world.handled(tag),
                Event::Stanza(element) if element.name() == b"message" => {
                    let Some(number) = element.number(b"id", b"m") else { return };
                    if element.attribute(b"type") == Some(b"error") {
                        world.returned(number);
                    } else {
                        world.arrived(me, number);
                    }
                }
                _ => {}
            })
            .await;
        world.online.set(world.online.get() - 1);
        previous = session.management.take().filter(|management| management.id.is_some());
        match ended {
            Err(error) => note(&world, me, &error),
            // its own doing: it stays away for a while
            Ok(()) => sleep(Duration::from_millis(fastrand::u64(0..1500))).await,
        }
    }
}

/// What is not the network's fault is the server's.
fn note(world: &World, me: usize, error: &Error) {
    if !matches!(error, Error::Io(_) | Error::Closed | Error::Ended(_)) {
        world.errors.borrow_mut().push(format!("client {me}: {error}"));
    }
}

/// Runs it.
pub async fn run(common: &Common, options: &Options, driver: &mut Driver) -> Result<Value, Error> {
    fastrand::seed(common.seed);
    let n = options.clients;
    let world = Rc::new(World::default());
    world.clients.set(n);
    *world.last.borrow_mut() = vec![None; n * n];
    let (common, traffic) = (Rc::new(common.clone()), Rc::new(Traffic::default()));
    let outboxes: Vec<_> = (0..n).map(|_| Rc::new(Outbox::default())).collect();
    for (me, outbox) in outboxes.iter().enumerate() {
        let outbox = Rc::clone(outbox);
        tokio::task::spawn_local(live(
            Rc::clone(&world),
            Rc::clone(&common),
            me,
            outbox,
            Rc::clone(&traffic),
        ));
        sleep(Duration::from_millis(3)).await;
    }
    if !wait_until(common.patience, || world.online.get() == n).await {
        return Err(Error::Unexpected("let all clients log in", format!("{:?}", world.errors.borrow())));
    }
    tell("online", json!({}));

    // Not from the one generator: how many draws the network causes is not known beforehand.
    let mut random = fastrand::Rng::with_seed(common.seed);
    let (sending_world, sending) = (Rc::clone(&world), options.clone());
    let bytes = common.bytes;
    let host = common.target.host.clone();
    let sender = tokio::task::spawn_local(async move {
        let mut messages: Vec<_> =
            (0..n).map(|to| Messages::new(&format!("c{to}@{host}"), "chat", bytes)).collect();
        while !sending_world.stopping.get() {
            let from = random.usize(..n);
            outboxes[from].send(|out| {
                for _ in 0..random.u32(1..=5) {
                    let to = (from + random.usize(1..n)) % n;
                    let mut all = sending_world.messages.borrow_mut();
                    let number = all.len() as u32;
                    all.push(Message { from, to, handled: false, returned: false, times: 0 });
                    out.stanza(number, messages[to].number(number));
                }
            });
            let pause = 3.0 / sending.rate;
            if sending.cut_every > 0.0 && random.f64() < pause * n as f64 / sending.cut_every {
                outboxes[random.usize(..n)].cut();
            }
            sleep(Duration::from_secs_f64(pause)).await;
        }
        outboxes
    });
    driver.wait_for("stop").await;
    world.stopping.set(true);
    let outboxes = sender.await.map_err(std::io::Error::other)?;
    // Whoever is away comes back, and what was not acknowledged is asked for.
    let asking = Rc::clone(&world);
    let everything = |messages: &[Message]| messages.iter().all(|m| m.handled && (m.times > 0 || m.returned));
    let mut asked = Instant::now();
    let complete = wait_until(common.patience, || {
        if asked.elapsed() > Duration::from_millis(500) {
            asked = Instant::now();
            for outbox in &outboxes {
                outbox.send(|out| out.raw(b"<r xmlns='urn:xmpp:sm:3'/>"));
            }
        }
        asking.online.get() == n
            && (everything(&asking.messages.borrow())
                || asking.messages.borrow().iter().all(|m| m.handled)
                    && asking.last_arrival.get().is_none_or(|at| at.elapsed() > Duration::from_secs(3)))
    })
    .await;
    // duplicates may still be on their way
    sleep(Duration::from_millis(500)).await;

    let messages = world.messages.borrow();
    let count = |condition: &dyn Fn(&Message) -> bool| messages.iter().filter(|m| condition(m)).count();
    Ok(json!({
        "scenario": "crash",
        "complete": complete,
        "messages": messages.len(),
        "handled": count(&|m| m.handled),
        "handled_and_lost": count(&|m| m.handled && m.times == 0 && !m.returned),
        "handled_and_returned": count(&|m| m.handled && m.times == 0 && m.returned),
        "not_handled": count(&|m| !m.handled),
        "duplicated": messages.iter().map(|m| u64::from(m.times.saturating_sub(1))).sum::<u64>(),
        "reordered": world.reordered.get(),
        "resumed": world.resumed.get(),
        "lost_sessions": world.lost_sessions.get(),
        "errors": *world.errors.borrow(),
    }))
}
