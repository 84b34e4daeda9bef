//! What occupants ask and tell an account, whose clients come, go and speak in any order: the parts of one exchange stay with one
//! client, and a private message reaches all that are there.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, as it should")]

mod support;

use enjamb_muc_fork::Accounts;
use enjamb_muc_fork::decision::Decision;
use enjamb_muc_fork::input::{Asks, FromClient, FromRoom, Iq, Join, Message, MucUser, Presence};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use support::random;

const ACCOUNT: &str = "ada@a.example";
const ROOM: &str = "room@c.example";
/// After so many seconds without a part an exchange is over, and a request without its answer forgotten.
const FORGOTTEN: u64 = 1800;

#[derive(Clone, Copy, Debug)]
enum Step {
    Join(u8),
    Leave(u8),
    /// Its session ends.
    Gone(u8),
    /// It changes its presence, and so is the one that spoke last.
    Speak(u8),
    /// An occupant sends a part of an exchange: the first, or another.
    Part(Exchange),
    /// An occupant asks something that belongs to nothing.
    Get(u8),
    /// A client answers one of the requests that are waiting, well or not, though it may be another's.
    Answer {
        which: usize,
        client: u8,
        error: bool,
    },
    /// A client begins an exchange with an occupant.
    Begin(u8, Exchange),
    Private(u8),
    Pass(u64),
}

/// Whose, of what kind, and its `sid`.
type Exchange = (u8, bool, u8);

fn exchange() -> impl Strategy<Value = Exchange> {
    (0..2u8, any::<bool>(), 0..2u8)
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..3u8).prop_map(Step::Join),
        1 => (0..3u8).prop_map(Step::Leave),
        1 => (0..3u8).prop_map(Step::Gone),
        3 => (0..3u8).prop_map(Step::Speak),
        6 => exchange().prop_map(Step::Part),
        1 => (0..2u8).prop_map(Step::Get),
        4 => (any::<usize>(), 0..3u8, prop::bool::weighted(0.3))
            .prop_map(|(which, client, error)| Step::Answer { which, client, error }),
        1 => (0..3u8, exchange()).prop_map(|(client, e)| Step::Begin(client, e)),
        2 => (0..2u8).prop_map(Step::Private),
        1 => prop_oneof![0..100u64, 0..2 * FORGOTTEN].prop_map(Step::Pass),
    ]
}

struct World {
    fork: Accounts,
    now: u64,
    /// Clients that are in, that which spoke last last.
    inside: Vec<String>,
    /// Which client has an exchange, and until when.
    has: BTreeMap<Exchange, (String, u64)>,
    /// Requests without an answer: who asked, by which `id`, whom, of which exchange, whether it was its first part, until when.
    waiting: Vec<(u8, String, String, Option<Exchange>, bool, u64)>,
    n: u32,
}

fn kind(jingle: bool) -> &'static str {
    if jingle { "urn:xmpp:jingle:1" } else { "http://jabber.org/protocol/ibb" }
}

fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.split_once(&format!(" {key}='"))?.1.split('\'').next()
}

impl World {
    /// In a room that answers at once, by a bookmark or not.
    fn new(bookmarked: bool) -> World {
        let mut world = World {
            fork: Accounts::new(random),
            now: 1000,
            inside: Vec::new(),
            has: BTreeMap::new(),
            waiting: Vec::new(),
            n: 0,
        };
        if bookmarked {
            let all = world.fork.bookmark(ACCOUNT, ROOM, Some(true), Some("ada"), None, true, world.now);
            world.perform(all);
        }
        world
    }

    fn perform(&mut self, all: Vec<Decision>) {
        for decision in all {
            let Decision::Send { stanza } = decision else { continue };
            let text = String::from_utf8(stanza).unwrap();
            if !text.starts_with("<presence") {
                continue;
            }
            let from = FromRoom { account: ACCOUNT, room: ROOM, nick: Some("ada"), id: value(&text, "id") };
            let kind = match value(&text, "type") {
                Some("unavailable") => Presence::Unavailable,
                _ => Presence::Available,
            };
            let said = MucUser { codes: &[110], ..MucUser::default() };
            let answer = self.fork.presence_from_room(from, kind, said, b"<presence/>", self.now);
            self.perform(answer.unwrap_or_default());
        }
    }

    fn presence(&mut self, resource: &str, kind: Presence, join: bool) {
        let from = FromClient { account: ACCOUNT, resource, room: ROOM, nick: Some("ada"), id: Some("p") };
        let join = join.then(Join::default);
        self.n += 1;
        let payload = format!("<presence><v n='{}'/></presence>", self.n);
        let all = self.fork.presence_from_client(from, kind, join, payload.as_bytes(), self.now);
        self.perform(all.unwrap_or_default());
    }

    fn out(&mut self, resource: &str) {
        self.inside.retain(|c| c != resource);
        if self.fork.is_attended(ACCOUNT, ROOM).is_none() {
            self.has.clear(); // nobody is in that was asked
        }
    }

    /// An occupant's request. Gives who was given it.
    fn request(&mut self, sender: u8, asks: Asks) -> Option<(String, String)> {
        self.n += 1;
        let (nick, id) = (format!("other{sender}"), format!("r{}", self.n));
        let from = FromRoom { account: ACCOUNT, room: ROOM, nick: Some(&nick), id: Some(&id) };
        let all = self.fork.iq_from_room(from, Iq::Request, false, false, None, asks, self.now);
        match all.as_deref() {
            Some([Decision::Forward { resource, .. }]) => Some((resource.to_string(), id)),
            None => None,
            other => panic!("{other:?}"),
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Join(c) | Step::Speak(c) => {
                let resource = format!("c{c}");
                let join = matches!(step, Step::Join(_));
                if join || self.inside.contains(&resource) {
                    self.presence(&resource, Presence::Available, join);
                    self.out(&resource);
                    self.inside.push(resource);
                }
            }
            Step::Leave(c) => {
                let resource = format!("c{c}");
                self.presence(&resource, Presence::Unavailable, false);
                self.out(&resource);
            }
            Step::Gone(c) => {
                let resource = format!("c{c}");
                let all = self.fork.client_gone(ACCOUNT, &resource, true, false, None, self.now);
                // Who waits for its answer is told.
                let errors: Vec<String> = all
                    .iter()
                    .filter_map(|d| match d {
                        Decision::Send { stanza } => Some(String::from_utf8_lossy(stanza).into_owned()),
                        _ => None,
                    })
                    .collect();
                for (sender, id, by, _, _, until) in self.waiting.extract_if(.., |w| w.2 == resource) {
                    let told = |e: &&String| {
                        value(e, "to") == Some(&format!("{ROOM}/other{sender}"))
                            && value(e, "id") == Some(&id)
                    };
                    let times = errors.iter().filter(told).count();
                    assert!(times == 1 || until <= self.now, "{by} does not answer {id}: {errors:?}");
                }
                self.has.retain(|_, (by, _)| *by != resource);
                self.perform(all);
                self.out(&resource);
            }
            Step::Part(exchange) => {
                let (sender, jingle, sid) = exchange;
                let asks = Asks { set: true, xmlns: kind(jingle), sid: Some(&sid.to_string()) };
                let Some((by, id)) = self.request(sender, asks) else {
                    assert!(self.inside.is_empty(), "nobody gets {exchange:?}");
                    return;
                };
                assert!(self.inside.contains(&by), "{by} is not in");
                let live = |(has, until): &&(String, u64)| *until > self.now && self.inside.contains(has);
                let had = self.has.get(&exchange).filter(live);
                if let Some((had, _)) = had {
                    assert_eq!(had, &by, "{exchange:?} changes clients");
                } else if !self.has.iter().any(|(e, has)| e.0 == sender && live(&has)) {
                    assert_eq!(self.inside.last(), Some(&by), "{exchange:?} begins");
                }
                let first =
                    self.has.get(&exchange).is_none_or(|(had, until)| *had != by || *until <= self.now);
                let until = self.now + FORGOTTEN;
                self.has.insert(exchange, (by.clone(), until));
                self.waiting.push((sender, id, by, Some(exchange), first, until));
            }
            Step::Get(sender) => {
                match self.request(sender, Asks { xmlns: "jabber:iq:last", ..Asks::default() }) {
                    None => assert!(self.inside.is_empty(), "nobody is asked"),
                    Some((by, id)) => {
                        assert_eq!(self.inside.last(), Some(&by));
                        self.waiting.push((sender, id, by, None, false, self.now + FORGOTTEN));
                    }
                }
            }
            Step::Answer { which, client, error } => {
                if self.waiting.is_empty() {
                    return;
                }
                let i = which % self.waiting.len();
                let (sender, id, by, exchange, first, until) = self.waiting[i].clone();
                let (nick, resource) = (format!("other{sender}"), format!("c{client}"));
                let from = FromClient {
                    account: ACCOUNT,
                    resource: &resource,
                    room: ROOM,
                    nick: Some(&nick),
                    id: Some(&id),
                };
                let kind = if error { Iq::Error } else { Iq::Result };
                let all = self.fork.iq_from_client(from, kind, false, Asks::default(), self.now);
                let sent = matches!(all.as_deref(), Some([Decision::ToRoom { .. }]));
                if by != resource {
                    assert!(!sent, "{resource} answers for {by}");
                    return;
                }
                self.waiting.remove(i);
                // A client that left has no say in the room any more.
                let there = self.fork.is_attended(ACCOUNT, ROOM).is_some();
                assert!(sent || until <= self.now || !there, "the answer of {by} is lost: {all:?}");
                // Who declines it, has it not.
                if let Some(exchange) = exchange.filter(|_| sent && error && first) {
                    self.has.retain(|e, (has, _)| *e != exchange || *has != by);
                }
            }
            Step::Begin(c, exchange) => {
                let (sender, jingle, sid) = exchange;
                let (nick, resource, sid) = (format!("other{sender}"), format!("c{c}"), sid.to_string());
                let from = FromClient {
                    account: ACCOUNT,
                    resource: &resource,
                    room: ROOM,
                    nick: Some(&nick),
                    id: Some("b"),
                };
                let asks = Asks { set: true, xmlns: kind(jingle), sid: Some(&sid) };
                let all = self.fork.iq_from_client(from, Iq::Request, false, asks, self.now);
                assert_eq!(all.is_some(), self.inside.contains(&resource));
                if all.is_some() {
                    self.has.insert(exchange, (resource, self.now + FORGOTTEN));
                }
            }
            Step::Private(sender) => {
                // If nobody is there, it goes to who is online (XEP-0160).
                let attended = self.fork.is_attended(ACCOUNT, ROOM).unwrap_or_default();
                assert_eq!(attended, !self.inside.is_empty());
                let nick = format!("other{sender}");
                let from = FromRoom { account: ACCOUNT, room: ROOM, nick: Some(&nick), id: Some("m") };
                let all = self.fork.message_from_room(from, Message::Other, None, self.now);
                let mut told: Vec<String> = Vec::new();
                for decision in all.unwrap_or_default() {
                    let Decision::Forward { resource, .. } = decision else { panic!("{decision:?}") };
                    told.push(resource.to_string());
                }
                assert_eq!(told.len(), self.inside.len());
                assert_eq!(told.iter().collect::<BTreeSet<_>>(), self.inside.iter().collect::<BTreeSet<_>>());
            }
            Step::Pass(seconds) => {
                self.now += seconds;
                // The room is there, and says so.
                let from = FromRoom { account: ACCOUNT, room: ROOM, nick: Some("other0"), id: None };
                self.fork.presence_from_room(
                    from,
                    Presence::Available,
                    MucUser::default(),
                    b"<presence/>",
                    self.now,
                );
                let all = self.fork.tick(self.now);
                self.perform(all);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn an_exchange_stays_with_one_client(
        bookmarked in any::<bool>(),
        steps in proptest::collection::vec(step(), 0..60),
    ) {
        let mut world = World::new(bookmarked);
        for step in steps {
            world.step(step);
        }
    }
}

#[test]
fn who_declined_takes_it_from_nobody() {
    let mut world = World::new(true);
    let part = Step::Part((0, false, 0));
    for c in [1, 2, 0] {
        world.step(Step::Join(c));
    }
    world.step(part);
    world.step(Step::Leave(0));
    world.step(part); // to the second
    world.step(Step::Speak(1));
    world.step(Step::Answer { which: 0, client: 0, error: true });
    world.step(part);
}
