//! What the journal tells, on its way to the thread that copies it.

use crate::unsent;
use enjamb_journal::files::OpenFile;
use enjamb_journal::sink::Sink;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// So many may wait before lengths are told in larger steps.
const MANY: usize = 1024;

/// Something that the journal has told.
pub(crate) enum Told {
    /// The file, if the segment could not be given a second name.
    Begun(u32, Option<Arc<dyn OpenFile>>),
    Written(u64, u64),
    /// All that there was has been told.
    Attached,
    Dead(u32),
}

/// The way from the owner's thread to the other one, and the answer.
pub(crate) struct Feed {
    told: Mutex<VecDeque<Told>>,
    /// That there is something new.
    more: Arc<Notify>,
    /// The position up to which the database has everything.
    pub durable: AtomicU64,
}

impl Feed {
    pub fn new(more: Arc<Notify>) -> Feed {
        Feed { told: Mutex::default(), more, durable: AtomicU64::new(0) }
    }

    fn queue(&self) -> MutexGuard<'_, VecDeque<Told>> {
        // Nobody panics while holding it.
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn tell(&self, what: Told) {
        let mut queue = self.queue();
        let crowded = queue.len() >= MANY;
        match (&what, queue.back_mut()) {
            (Told::Written(..), Some(last @ Told::Written(..))) if crowded => *last = what,
            _ => queue.push_back(what),
        }
        drop(queue);
        self.more.notify_one();
    }

    pub fn take(&self) -> VecDeque<Told> {
        std::mem::take(&mut *self.queue())
    }
}

/// The journal's end.
pub(crate) struct Copy {
    pub feed: Arc<Feed>,
    /// The journal's directory.
    pub dir: PathBuf,
}

impl Sink for Copy {
    fn begun(&mut self, segment: u32, file: &Arc<dyn OpenFile>) {
        let held = unsent::link(&self.dir, segment).err().map(|_| Arc::clone(file));
        self.feed.tell(Told::Begun(segment, held));
    }

    fn written(&mut self, end: u64, position: u64) {
        self.feed.tell(Told::Written(end, position));
    }

    fn sync(&self) {}

    fn dead(&mut self, segment: u32) {
        self.feed.tell(Told::Dead(segment));
    }

    fn durable(&self) -> u64 {
        self.feed.durable.load(Ordering::Acquire)
    }
}
