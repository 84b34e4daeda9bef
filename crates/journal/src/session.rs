//! What is kept in memory of one session: where its records lie.

use crate::record::{Kind, Loc};
use std::collections::VecDeque;

/// Most sessions have no more than these, and there may be many sessions: no memory is taken ahead.
const FEW_SLOTS: usize = 16;

/// A queue shorter than this keeps its memory when it is emptied.
const KEPT_CAPACITY: usize = 64;

#[derive(Default)]
pub(crate) struct Session {
    pub meta: Loc,
    pub state: Loc,
    pub acked: u64,
    pub inbound: u64,
    /// By number. One that was never written, or was lost, is a [`Loc`] that is none.
    pub slots: Vec<Loc>,
    /// The stanzas `acked + 1 ..`, without holes: one that was lost is a [`Loc`] that is none.
    pub queue: VecDeque<Loc>,
    /// No segment older than this holds a record of the session.
    pub oldest: u32,
}

impl Session {
    /// The number of the newest stanza.
    pub fn last(&self) -> u64 {
        self.acked.saturating_add(self.queue.len() as u64)
    }

    /// Notes where the record of that slot lies. Returns where the former one did.
    pub fn put_slot(&mut self, slot: usize, loc: Loc) -> Loc {
        if self.slots.len() <= slot {
            if slot < FEW_SLOTS {
                self.slots.reserve_exact(slot + 1 - self.slots.len());
            }
            self.slots.resize(slot + 1, Loc::default());
        }
        self.slots.get_mut(slot).map_or(loc, |place| std::mem::replace(place, loc))
    }

    /// The place that says where the live record of this kind and number lies.
    pub fn slot(&mut self, kind: Kind, arg: u64) -> Option<&mut Loc> {
        match kind {
            Kind::Meta => Some(&mut self.meta),
            Kind::State => Some(&mut self.state),
            Kind::Stanza => {
                let index = arg.checked_sub(self.acked)?.checked_sub(1)?;
                self.queue.get_mut(usize::try_from(index).ok()?)
            }
            Kind::Slot => self.slots.get_mut(usize::try_from(arg).ok()?),
            Kind::End | Kind::Begin => None,
        }
    }

    pub fn locs(&self) -> impl Iterator<Item = Loc> {
        self.queue
            .iter()
            .chain(&self.slots)
            .chain([&self.meta, &self.state])
            .copied()
            .filter(|l| !l.is_none())
    }

    pub fn locs_mut(&mut self) -> impl Iterator<Item = &mut Loc> {
        self.queue
            .iter_mut()
            .chain(&mut self.slots)
            .chain([&mut self.meta, &mut self.state])
            .filter(|l| !l.is_none())
    }

    /// Gives back what a burst needed.
    pub fn shrink(&mut self) {
        match self.queue.capacity() {
            ..=KEPT_CAPACITY => {}
            _ if self.queue.is_empty() => self.queue = VecDeque::new(), // nothing has to be moved
            room if self.queue.len() < room / 8 => self.queue.shrink_to(self.queue.len() * 2),
            _ => {}
        }
    }
}
