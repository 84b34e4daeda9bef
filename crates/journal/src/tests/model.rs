//! The journal against a naive model: a map that is cloned after each operation. Whatever happens to the journal, what
//! is found afterwards must be one of those clones, and none older than was promised.

use super::*;
use crate::Error;
use crate::faults::{EIO, ENOSPC, Op as Call, coin};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Op {
    Start,
    Meta(usize, usize),
    Push(usize, usize),
    /// All but that many.
    Ack(usize, usize),
    Inbound(usize),
    End(usize),
    Commit,
    /// So many seconds go by.
    Pass(u64),
    /// Commit, and wait until it is durable.
    Sync,
    Reopen,
    /// The process dies after so many more bytes.
    Die(u64),
    Kill,
    /// Nothing is there but what was synced; or of the rest anything, as the seed has it.
    LosePower(Option<u64>),
    /// So many writes fail.
    Full(u64),
    CannotCreate(u64),
    /// After so many that go well, so many syncs fail, and lose what they should have written.
    CannotSync(u64, u64),
    CannotRemove(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let s = 0..5usize;
    prop_oneof![
        4 => Just(Op::Start),
        4 => (s.clone(), 0..60usize).prop_map(|(s, len)| Op::Meta(s, len)),
        60 => (s.clone(), 0..120usize).prop_map(|(s, len)| Op::Push(s, len)),
        25 => (s.clone(), 0..6usize).prop_map(|(s, n)| Op::Ack(s, n)),
        8 => s.clone().prop_map(Op::Inbound),
        4 => s.prop_map(Op::End),
        25 => Just(Op::Commit),
        6 => (1..400u64).prop_map(Op::Pass),
        3 => Just(Op::Sync),
        2 => Just(Op::Reopen),
        2 => (0..1500u64).prop_map(Op::Die),
        2 => Just(Op::Kill),
        3 => any::<Option<u64>>().prop_map(Op::LosePower),
        2 => (1..20u64).prop_map(Op::Full),
        1 => (1..4u64).prop_map(Op::CannotCreate),
        2 => (0..6u64, 1..4u64).prop_map(|(after, times)| Op::CannotSync(after, times)),
        1 => (1..4u64).prop_map(Op::CannotRemove),
    ]
}

struct World {
    files: MemoryFiles,
    journal: Option<Journal>,
    model: State,
    /// What the model was, from the last durable state on.
    history: Vec<State>,
    /// Since when a crash of the process may go back.
    committed: usize,
    next: u64,
    moved: u64,
    now: Duration,
}

impl World {
    fn journal(&mut self) -> &mut Journal {
        self.journal.as_mut().unwrap()
    }

    fn pick(&self, n: usize) -> Option<u64> {
        self.model.keys().copied().nth(n % self.model.len().max(1))
    }

    /// Does it to both, unless the journal has no room.
    fn change(
        &mut self,
        journal: impl FnOnce(&mut Journal) -> Result<(), Error>,
        model: impl FnOnce(&mut State),
    ) {
        match journal(self.journal()) {
            Ok(()) => {
                model(&mut self.model);
                self.history.push(self.model.clone());
            }
            Err(Error::Full { .. }) => {}
            Err(e) => panic!("{e}"),
        }
    }

    fn reopen(&mut self, oldest: usize) {
        let mut journal = self.journal.take();
        self.moved += journal.as_mut().map_or(0, |j| j.stats().moved_bytes);
        drop(journal);
        let (mut journal, r) = open(&self.files, tiny());
        assert!(r.is_whole(), "{r:?}");
        let found = state(&mut journal);
        let which = self.history.iter().rposition(|h| *h == found);
        let Some(which) = which.filter(|w| *w >= oldest) else {
            panic!(
                "found {which:?}, promised {oldest} of {}: {found:?} but {:?}, {r:?}",
                self.history.len(),
                self.model
            )
        };
        self.history.truncate(which + 1);
        self.committed = which;
        self.model = found;
        self.journal = Some(journal);
    }

    fn die(&mut self) {
        self.files.crash();
        self.reopen(self.committed);
    }

    fn commit(&mut self) -> Option<u64> {
        match self.journal().commit() {
            Ok(position) => {
                self.committed = self.history.len() - 1;
                return Some(position);
            }
            Err(_) if self.files.is_dead() => self.die(),
            Err(e) => assert!(matches!(e, Error::Io { .. }), "{e}"),
        }
        None
    }

    fn act(&mut self, op: Op) {
        match op {
            Op::Start if self.model.len() < 5 => {
                self.next += 1;
                let id = self.next;
                self.change(
                    |j| j.set_meta(id, b"new"),
                    |m| drop(m.insert(id, Saved { meta: b"new".to_vec(), ..Saved::default() })),
                );
            }
            Op::Start => {}
            Op::Meta(n, len) => {
                let Some(id) = self.pick(n) else { return };
                let meta = vec![id as u8; len];
                self.change(|j| j.set_meta(id, &meta), |m| m.get_mut(&id).unwrap().meta = meta.clone());
            }
            Op::Push(n, len) => {
                let Some(id) = self.pick(n) else { return };
                let number = self.model[&id].acked + self.model[&id].queue.len() as u64 + 1;
                let stanza = vec![(number + id) as u8; len];
                self.change(
                    |j| j.push(id, number, &stanza),
                    |m| m.get_mut(&id).unwrap().queue.push(Some(stanza.clone())),
                );
            }
            Op::Ack(n, left) => {
                let Some(id) = self.pick(n) else { return };
                let covered = self.model[&id].queue.len().saturating_sub(left);
                let number = self.model[&id].acked + covered as u64;
                self.change(
                    |j| j.ack(id, number),
                    |m| {
                        let s = m.get_mut(&id).unwrap();
                        s.queue.drain(..covered);
                        s.acked = number;
                    },
                );
            }
            Op::Inbound(n) => {
                let Some(id) = self.pick(n) else { return };
                let count = self.model[&id].inbound + 1;
                self.change(|j| j.set_inbound(id, count), |m| m.get_mut(&id).unwrap().inbound = count);
            }
            Op::End(n) => {
                let Some(id) = self.pick(n) else { return };
                self.change(|j| j.end(id), |m| drop(m.remove(&id)));
            }
            Op::Commit => drop(self.commit()),
            Op::Pass(seconds) => {
                self.now += Duration::from_secs(seconds);
                let now = self.now;
                self.journal().tick(now);
            }
            Op::Sync => {
                // A sync that fails is made good by some commits.
                for _ in 0..100 {
                    let Some(position) = self.commit() else { return };
                    self.journal().request_sync();
                    let start = Instant::now();
                    while self.journal().durable() < position && start.elapsed() < Duration::from_millis(2) {
                        std::thread::yield_now();
                    }
                    if self.journal().durable() >= position {
                        self.history.drain(..self.committed);
                        self.committed = 0;
                        return;
                    }
                }
            }
            Op::Reopen => {
                // A clean stop commits, if it can.
                self.files.heal();
                self.journal = None;
                let oldest = if self.files.is_dead() { self.committed } else { self.history.len() - 1 };
                self.files.crash();
                self.reopen(oldest);
            }
            Op::Die(bytes) => self.files.die_after(bytes),
            Op::Kill => self.die(),
            Op::LosePower(None) => {
                self.files.lose_power();
                self.reopen(0);
            }
            Op::LosePower(Some(seed)) => {
                self.files.lose_power_in_any_order(coin(seed));
                self.reopen(0);
            }
            Op::Full(times) => self.files.fail(Call::Write, 0, times, ENOSPC),
            Op::CannotCreate(times) => self.files.fail(Call::Create, 0, times, EIO),
            Op::CannotSync(after, times) => self.files.fail(Call::Sync, after, times, EIO),
            Op::CannotRemove(times) => self.files.fail(Call::Remove, 0, times, EIO),
        }
    }
}

/// Fewer than usual, since each is long; `PROPTEST_CASES` asks for more.
fn config() -> ProptestConfig {
    let config = ProptestConfig { max_shrink_iters: 2000, ..ProptestConfig::default() };
    match std::env::var_os("PROPTEST_CASES") {
        Some(_) => config,
        None => ProptestConfig { cases: 150, ..config },
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn whatever_happens_what_was_promised_is_there(
        page in prop_oneof![Just(32usize), Just(200), Just(4096)],
        ops in prop::collection::vec(op(), 1..700),
    ) {
        let files = MemoryFiles::with_pages(page);
        let journal = Some(open(&files, tiny()).0);
        let history = vec![State::new()];
        let mut world =
            World { files, journal, model: State::new(), history, committed: 0, next: 0, moved: 0, now: Duration::ZERO };
        for op in ops {
            world.act(op);
        }
        world.files.heal();
        world.act(Op::Reopen);
    }
}
