//! Two or three nodes and one row, with whatever may come in between: answers that are late or lost, statements that are done long
//! after the connection they came on was lost, processes that are stopped, killed and started again. Never may two serve at once.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, as it should")]

use enjamb_replica::lease::{Claim, Lease, Row, Standing, Step, Terms};
use proptest::prelude::*;
use std::time::Duration;

const NAMES: [&str; 3] = ["a", "b", "c"];

#[derive(Clone, Debug)]
enum Op {
    /// Time goes by, in milliseconds.
    Pass(u64),
    /// The node sends the next statement, if it is time.
    Send(usize),
    /// The database does what it was sent.
    Do(usize),
    /// The answer arrives.
    Answer(usize),
    /// All three.
    Go(usize),
    /// Its connection is lost; what was sent is done some time, or never.
    Cut(usize),
    /// A statement of a connection that is lost is done.
    Stray(usize),
    /// ... or is not.
    Forget(usize),
    Kill(usize),
    Retire(usize),
    Release(usize),
    /// The main thread has hung since so many milliseconds.
    Hang(usize, u64),
}

fn op() -> impl Strategy<Value = Op> {
    let node = 0..NAMES.len();
    prop_oneof![
        6 => prop_oneof![0..50u64, 200..1100u64, 2000..11_000u64].prop_map(Op::Pass),
        4 => node.clone().prop_map(Op::Send),
        4 => node.clone().prop_map(Op::Do),
        4 => node.clone().prop_map(Op::Answer),
        16 => node.clone().prop_map(Op::Go),
        2 => node.clone().prop_map(Op::Cut),
        2 => (0..4usize).prop_map(Op::Stray),
        1 => (0..4usize).prop_map(Op::Forget),
        1 => node.clone().prop_map(Op::Kill),
        1 => node.clone().prop_map(Op::Retire),
        1 => node.clone().prop_map(Op::Release),
        1 => (node, 0..40_000u64).prop_map(|(node, ms)| Op::Hang(node, ms)),
    ]
}

#[derive(Clone, Debug)]
enum Done {
    Row(Option<Row>),
    Changed(bool),
}

#[derive(Clone, Debug)]
struct Sent {
    step: Step,
    started: Duration,
    done: Option<Done>,
}

struct Node {
    lease: Lease,
    sent: Option<Sent>,
    turned: Option<Duration>,
}

struct World {
    now: Duration,
    row: Option<Row>,
    nodes: Vec<Node>,
    strays: Vec<(usize, Step)>,
    /// Who had which epoch.
    epochs: Vec<(u64, usize)>,
}

impl World {
    fn new(nodes: usize) -> World {
        let node = |name: &&str| Node {
            lease: Lease::new(*name, Terms::new(Duration::from_secs(10))),
            sent: None,
            turned: None,
        };
        let nodes = NAMES.iter().take(nodes).map(node).collect();
        World { now: Duration::from_secs(100), row: None, nodes, strays: Vec::new(), epochs: Vec::new() }
    }

    /// What the statements do: the test's own idea of them.
    fn perform(&mut self, node: usize, step: &Step) -> Done {
        let (me, row) = (NAMES[node], &mut self.row);
        match step {
            Step::Look => Done::Row(row.clone()),
            Step::Claim(Claim { from, epoch }) => {
                let may = match (&row, from.as_ref().filter(|from| from.epoch > 0)) {
                    (None, None) => true,
                    (Some(row), Some(from)) => {
                        row.epoch == from.epoch && (row.released || row.beat == from.beat || row.holder == me)
                    }
                    _ => false,
                };
                if may {
                    let beat = row.as_ref().map_or(1, |row| row.beat + 1);
                    *row = Some(Row {
                        holder: me.into(),
                        name: me.into(),
                        epoch: *epoch,
                        beat,
                        released: false,
                    });
                }
                Done::Changed(may)
            }
            Step::Renew(epoch) => {
                let mine = row.as_mut().filter(|r| r.holder == me && r.epoch == *epoch && !r.released);
                Done::Changed(mine.map(|row| row.beat += 1).is_some())
            }
            Step::Release(epoch) => {
                let mine = row.as_mut().filter(|r| r.holder == me && r.epoch == *epoch);
                Done::Changed(mine.map(|row| row.released = true).is_some())
            }
            Step::Wait(_) | Step::Done => unreachable!(),
        }
    }

    fn send(&mut self, node: usize) {
        let (now, n) = (self.now, &mut self.nodes[node]);
        if n.sent.is_some() {
            return;
        }
        let step = n.lease.next(now, n.turned);
        match &step {
            Step::Wait(until) => {
                assert!(*until > now, "waiting for what is over would be a busy loop");
                return;
            }
            Step::Done => return,
            Step::Claim(claim) => n.lease.claiming(claim.clone(), now),
            Step::Renew(_) => n.lease.renewing(now),
            Step::Look | Step::Release(_) => {}
        }
        n.sent = Some(Sent { step, started: now, done: None });
    }

    fn act(&mut self, node: usize) {
        let Some(mut sent) = self.nodes[node].sent.take() else { return };
        if sent.done.is_none() {
            sent.done = Some(self.perform(node, &sent.step));
        }
        self.nodes[node].sent = Some(sent);
    }

    fn answer(&mut self, node: usize) {
        let (now, n) = (self.now, &mut self.nodes[node]);
        let Some(Sent { step, started, done: Some(done) }) = n.sent.clone() else { return };
        n.sent = None;
        match (step, done) {
            (Step::Look, Done::Row(row)) => n.lease.looked(started, now, row),
            (Step::Claim(_), Done::Changed(taken)) => n.lease.claimed(taken),
            (Step::Renew(_), Done::Changed(still)) => n.lease.renewed(started, still),
            (Step::Release(_), Done::Changed(_)) => n.lease.gave_up(),
            other => panic!("{other:?}"),
        }
    }

    fn leave(&mut self, node: usize) {
        if let Some(Sent { step, done: None, .. }) = self.nodes[node].sent.take() {
            self.strays.push((node, step));
        }
    }

    fn apply(&mut self, op: &Op) {
        let there = |node: &usize| *node < self.nodes.len();
        match op {
            Op::Pass(ms) => self.now += Duration::from_millis(*ms),
            Op::Send(node) if there(node) => self.send(*node),
            Op::Do(node) if there(node) => self.act(*node),
            Op::Answer(node) if there(node) => self.answer(*node),
            Op::Go(node) if there(node) => {
                self.send(*node);
                self.act(*node);
                self.answer(*node);
            }
            Op::Cut(node) if there(node) => {
                self.leave(*node);
                self.nodes[*node].lease.disconnected();
            }
            Op::Stray(n) if *n < self.strays.len() => {
                let (node, step) = self.strays.remove(*n);
                self.perform(node, &step);
            }
            Op::Forget(n) if *n < self.strays.len() => drop(self.strays.remove(*n)),
            Op::Kill(node) if there(node) => {
                self.leave(*node);
                self.nodes[*node].lease = Lease::new(NAMES[*node], Terms::new(Duration::from_secs(10)));
            }
            Op::Retire(node) if there(node) => self.nodes[*node].lease.retire(),
            Op::Release(node) if there(node) => self.nodes[*node].lease.release(),
            Op::Hang(node, ms) if there(node) => {
                self.nodes[*node].turned = Some(self.now.saturating_sub(Duration::from_millis(*ms)));
            }
            _ => {}
        }
        self.check();
    }

    fn check(&mut self) {
        let serving: Vec<&str> = (0..self.nodes.len())
            .filter(|node| self.nodes[*node].lease.deadline().is_some_and(|deadline| self.now < deadline))
            .map(|node| NAMES[node])
            .collect();
        assert!(serving.len() <= 1, "{serving:?} serve at once");
        for (node, n) in self.nodes.iter().enumerate() {
            let Some(epoch) = n.lease.epoch() else { continue };
            let known = self.epochs.iter().find(|(known, _)| *known == epoch);
            assert!(known.is_none_or(|(_, who)| *who == node), "epoch {epoch} was taken twice");
            if known.is_none() {
                self.epochs.push((epoch, node));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn never_do_two_serve_at_once(nodes in 2..=3usize, ops in prop::collection::vec(op(), 1..300)) {
        let mut world = World::new(nodes);
        for op in &ops {
            world.apply(op);
        }
        // Whatever has happened: a node that is started anew and left alone serves in the end.
        world.apply(&Op::Kill(0));
        world.nodes[0].turned = None;
        for other in 1..nodes {
            world.leave(other);
        }
        for _ in 0..200 {
            world.apply(&Op::Go(0));
            world.apply(&Op::Pass(250));
        }
        let deadline = world.nodes[0].lease.deadline();
        prop_assert!(deadline.is_some_and(|deadline| world.now < deadline), "{:?}", world.nodes[0].lease);
        let holds = matches!(world.nodes[0].lease.standing(), Standing::Holding { .. });
        prop_assert!(holds);
    }
}
