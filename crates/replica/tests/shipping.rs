//! A journal and a database that fails, answers late or never, and forgets what it had committed. Nothing is called durable that is not
//! there, what is there is what the journal was at one moment, and in the end it is all there and nothing else.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, as it should")]

use enjamb_replica::shipping::{Batch, Extent, Shipping, Step};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::time::Duration;

#[derive(Clone, Copy, Debug)]
enum Outcome {
    Done,
    /// It is done, and the connection lost before that was said.
    Unsaid,
    /// It is not done, and the connection is lost.
    Lost,
    /// The connection is lost, and it is done a while later.
    Late,
}

#[derive(Clone, Debug)]
enum Op {
    Write(usize),
    Rotate,
    Die(usize),
    Step(Outcome),
    Steps(usize),
    Pass(u64),
    /// Another database takes its place, which misses the last so many commits.
    FailOver(usize),
    /// The process is killed and started again; so many bytes at the end are cut.
    Restart(usize),
    /// The same, and the last segment is gone: its number is used again.
    Reuse,
    /// A row of the database is gone.
    Damage(usize),
    Late,
}

fn op() -> impl Strategy<Value = Op> {
    let outcome = prop_oneof![
        6 => Just(Outcome::Done), 1 => Just(Outcome::Unsaid), 1 => Just(Outcome::Lost), 1 => Just(Outcome::Late)
    ];
    prop_oneof![
        10 => prop_oneof![30 => 1..200usize, 1 => (1 << 20) - 100..(2 << 20) + 100usize].prop_map(Op::Write),
        2 => Just(Op::Rotate),
        2 => (0..5usize).prop_map(Op::Die),
        10 => outcome.prop_map(Op::Step),
        6 => (1..8usize).prop_map(Op::Steps),
        4 => (0..5u64).prop_map(Op::Pass),
        1 => (1..20usize).prop_map(Op::FailOver),
        1 => prop_oneof![Just(0usize), 1..50usize].prop_map(Op::Restart),
        1 => Just(Op::Reuse),
        1 => (0..20usize).prop_map(Op::Damage),
        2 => Just(Op::Late),
    ]
}

type Rows = BTreeMap<(u32, u64), Vec<u8>>;

#[derive(Default)]
struct World {
    now: Duration,
    shipping: Shipping,
    /// The journal's segments, those that are dead, too, for what is still to be read.
    segments: BTreeMap<u32, Vec<u8>>,
    /// When the journal said so: where its head was.
    dead: BTreeMap<u32, (u32, usize)>,
    head: u32,
    position: u64,
    /// What the journal had at each position: the length of each segment that was not dead.
    marks: Vec<(u64, BTreeMap<u32, usize>)>,
    rows: Rows,
    /// The database before each commit.
    before: Vec<Rows>,
    late: Option<Step>,
    written: u8,
    /// Neither a restart nor a failover has come in between.
    steady: bool,
}

/// What the database has of a segment.
fn bytes_of(rows: &Rows, segment: u32) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    for ((_, offset), data) in rows.range((segment, 0)..=(segment, u64::MAX)) {
        assert_eq!(bytes.len() as u64, *offset, "segment {segment} has a hole or an overlap");
        bytes.extend(data);
    }
    (!bytes.is_empty()).then_some(bytes)
}

impl World {
    fn new() -> World {
        let mut world = World { now: Duration::from_secs(9), head: 1, steady: true, ..World::default() };
        world.segments.insert(1, Vec::new());
        world.shipping.begun(1);
        world.write(10);
        world.shipping.attached();
        world
    }

    fn write(&mut self, len: usize) {
        self.written = self.written.wrapping_add(1);
        let byte = self.written;
        let head = self.segments.get_mut(&self.head).unwrap();
        head.extend(std::iter::repeat_n(byte, len));
        self.position += len as u64;
        let end = head.len() as u64;
        self.shipping.written(end, self.position);
        let live = self.segments.iter().filter(|(segment, _)| !self.dead.contains_key(segment));
        self.marks.push((self.position, live.map(|(segment, bytes)| (*segment, bytes.len())).collect()));
    }

    fn rotate(&mut self) {
        self.head += 1;
        self.segments.insert(self.head, Vec::new());
        self.shipping.begun(self.head);
        self.write(5);
    }

    fn die(&mut self, n: usize) {
        let live: Vec<u32> =
            self.segments.keys().copied().filter(|s| *s != self.head && !self.dead.contains_key(s)).collect();
        if let Some(segment) = live.get(n) {
            self.dead.insert(*segment, (self.head, self.segments[&self.head].len()));
            self.shipping.dead(*segment);
        }
    }

    /// What the database does.
    fn perform(&mut self, step: &Step) -> Vec<Extent> {
        if !matches!(step, Step::Ask) {
            self.before.push(self.rows.clone());
            if self.before.len() > 30 {
                self.before.remove(0);
            }
        }
        match step {
            Step::Ask => {
                let mut extents: BTreeMap<u32, Extent> = BTreeMap::new();
                for ((segment, offset), data) in &self.rows {
                    let len = data.len() as u64;
                    let e = extents.entry(*segment).or_insert(Extent { segment: *segment, end: 0, bytes: 0 });
                    e.end = e.end.max(offset + len);
                    e.bytes += len;
                }
                return extents.into_values().collect();
            }
            Step::Send(Batch { segment, offset, len }) => {
                assert!(*len > 0 && *len <= 1 << 20);
                let bytes = &self.segments[segment][*offset as usize..(*offset + *len) as usize];
                self.rows.entry((*segment, *offset)).or_insert(bytes.to_vec());
            }
            Step::Cut { segment, end } => {
                self.rows.retain(|(s, offset), _| s != segment || offset < end);
                for ((_, offset), data) in self.rows.range_mut((*segment, 0)..=(*segment, u64::MAX)) {
                    data.truncate((end - offset) as usize);
                }
            }
            Step::Remove(segments) => self.rows.retain(|(s, _), _| !segments.contains(s)),
            Step::Wait(_) | Step::Rest => unreachable!(),
        }
        Vec::new()
    }

    /// Returns whether there was anything to do.
    fn step(&mut self, outcome: Outcome) -> bool {
        let step = self.shipping.next(self.now);
        match &step {
            Step::Rest => return false,
            Step::Wait(until) => {
                assert!(*until > self.now);
                self.now = *until;
                return true;
            }
            Step::Send(batch) => self.shipping.sending(*batch, self.now),
            _ => {}
        }
        if matches!(step, Step::Ask) {
            // Earlier connections are ended before.
            self.late = None;
        }
        match outcome {
            Outcome::Done => {
                let extents = self.perform(&step);
                match step {
                    Step::Ask => self.shipping.has(&extents),
                    Step::Send(batch) => self.shipping.sent(batch),
                    Step::Cut { segment, .. } => self.shipping.cut(segment),
                    Step::Remove(segments) => self.shipping.removed(&segments),
                    Step::Wait(_) | Step::Rest => unreachable!(),
                }
                return true;
            }
            Outcome::Unsaid => drop(self.perform(&step)),
            Outcome::Lost => {}
            Outcome::Late => self.late = Some(step),
        }
        self.shipping.disconnected();
        true
    }

    fn apply(&mut self, op: &Op) {
        match op {
            Op::Write(len) => self.write(*len),
            Op::Rotate => self.rotate(),
            Op::Die(n) => self.die(*n),
            Op::Step(outcome) => {
                self.step(*outcome);
            }
            Op::Steps(n) => {
                for _ in 0..*n {
                    self.step(Outcome::Done);
                }
            }
            Op::Pass(ms) => self.now += Duration::from_millis(*ms),
            Op::FailOver(n) => {
                for _ in 0..*n {
                    self.rows = self.before.pop().unwrap_or(std::mem::take(&mut self.rows));
                }
                self.late = None;
                self.shipping.disconnected();
                self.steady = false;
            }
            Op::Restart(torn) => self.restart(*torn),
            Op::Reuse => {
                if self.segments.len() > self.dead.len() + 1 {
                    // The machine has died: what was not copied is not believed.
                    self.segments.retain(|segment, _| !self.dead.contains_key(segment));
                    self.dead.clear();
                    self.steady = false;
                    self.segments.remove(&self.head);
                    self.head = self.segments.last_key_value().map_or(0, |(segment, _)| *segment);
                    self.restart(0);
                    // Not before the database was reached: the lease comes from there. And it does not fail over to before.
                    while self.step(Outcome::Done) {}
                    self.before.clear();
                }
            }
            Op::Damage(n) => {
                if let Some(key) = self.rows.keys().nth(*n).copied() {
                    self.rows.remove(&key);
                    self.shipping.disconnected();
                    self.steady = false;
                }
            }
            Op::Late => {
                if let Some(step) = self.late.take().filter(|step| !matches!(step, Step::Ask)) {
                    self.perform(&step);
                }
            }
        }
        self.check();
    }

    fn restart(&mut self, torn: usize) {
        self.late = None; // its epoch is over
        // What was not copied has another name.
        let unsent = |segment: &u32| self.shipping.wants(*segment);
        self.segments.retain(|segment, _| !self.dead.contains_key(segment) || unsent(segment));
        self.dead.retain(|segment, _| self.segments.contains_key(segment));
        self.shipping = Shipping::default();
        let head = self.segments.get_mut(&self.head).unwrap();
        // What is cut was never told, so the database may have it only if it was told to another node.
        let len = head.len().saturating_sub(torn).max(1);
        head.truncate(len);
        for (segment, bytes) in self.segments.iter().filter(|(segment, _)| !self.dead.contains_key(segment)) {
            self.shipping.begun(*segment);
            self.shipping.written(bytes.len() as u64, 0);
        }
        self.position = 0;
        self.steady &= torn == 0;
        self.marks.clear();
        self.head += 1;
        self.segments.insert(self.head, Vec::new());
        self.shipping.begun(self.head);
        self.write(7);
        self.shipping.attached();
        for (segment, place) in &mut self.dead {
            self.shipping.left(*segment, self.segments[segment].len() as u64);
            *place = (self.head, 7);
        }
    }

    /// Whether all is there that is not dead, up to that place.
    fn has(&self, (last, end): (u32, usize)) -> bool {
        let live = self.segments.range(..=last).filter(|(segment, _)| !self.dead.contains_key(segment));
        let mut wanted =
            live.map(|(segment, bytes)| (*segment, if *segment == last { end } else { bytes.len() }));
        wanted.all(|(segment, len)| bytes_of(&self.rows, segment).unwrap_or_default().len() >= len)
    }

    fn check(&self) {
        if !self.steady {
            return;
        }
        // What is there is a prefix: behind something that is missing, and is not dead and replaced, there is nothing.
        let mut missing = None;
        for (segment, bytes) in &self.segments {
            let there = bytes_of(&self.rows, *segment).unwrap_or_default();
            assert!(bytes.starts_with(&there), "segment {segment} is another");
            if !there.is_empty() {
                assert_eq!(missing, None, "segment {segment} is there before");
            }
            let replaced = self.dead.get(segment).is_some_and(|place| there.is_empty() && self.has(*place));
            if there.len() < bytes.len() && !replaced {
                missing.get_or_insert(*segment);
            }
        }
        let durable = self.shipping.durable();
        let Some((_, mark)) = self.marks.iter().rev().find(|(position, _)| *position <= durable) else {
            return;
        };
        for (segment, len) in mark {
            let there = bytes_of(&self.rows, *segment).unwrap_or_default();
            assert!(
                there.len() >= *len || self.dead.contains_key(segment),
                "segment {segment} is not durable"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_durable_is_there_and_in_the_end_all_is(ops in prop::collection::vec(op(), 1..150)) {
        let mut world = World::new();
        for op in &ops {
            world.apply(op);
        }
        for _ in 0..10_000 {
            if !world.step(Outcome::Done) {
                break;
            }
        }
        prop_assert_eq!(world.shipping.durable(), world.position);
        for (segment, bytes) in &world.segments {
            let there = bytes_of(&world.rows, *segment);
            let expected = (!world.dead.contains_key(segment)).then_some(bytes);
            prop_assert_eq!(there.as_ref().map(Vec::len), expected.map(Vec::len), "segment {}", segment);
            prop_assert!(there.as_ref() == expected);
        }
        let known = world.rows.keys().all(|(segment, _)| world.segments.contains_key(segment));
        prop_assert!(known);
    }
}
