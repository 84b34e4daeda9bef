//! What the owner's thread and the other one have in common.

use crate::clock;
use crate::sink::Feed;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// What a node is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// The database has not been reached yet.
    #[default]
    Connecting,
    /// Another node has the lease.
    Waiting,
    /// This one has it; its directory is being made ready.
    Taking,
    /// It has the lease, and its directory is ready.
    Holder,
    /// It had the lease, and another has it now. For good.
    Lost,
    /// It cannot be either. For good.
    Failed,
    /// It has given the lease up. For good.
    Released,
}

impl Role {
    /// Whether it stays so.
    pub fn is_final(self) -> bool {
        matches!(self, Role::Lost | Role::Failed | Role::Released)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Role::Connecting => "connecting",
            Role::Waiting => "waiting",
            Role::Taking => "taking",
            Role::Holder => "holder",
            Role::Lost => "lost",
            Role::Failed => "failed",
            Role::Released => "released",
        }
    }
}

/// How all stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// What this node is.
    pub role: Role,
    /// Why it failed, or why the database cannot be reached.
    pub reason: Option<String>,
    /// Who has the lease, by the name that is for people.
    pub holder: Option<String>,
    /// The lease's epoch, as far as this node knows.
    pub epoch: u64,
    /// Whether there is a connection.
    pub connected: bool,
    /// How long the last batch took to be committed.
    pub latency: Option<Duration>,
    /// What has not been told yet.
    pub warnings: Vec<String>,
    /// Where a directory was set aside.
    pub set_aside: Option<PathBuf>,
    /// Whether the directory was made from what the database has.
    pub restored: bool,
}

/// What the owner wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Wish {
    #[default]
    Serve,
    Release,
}

pub(crate) struct Shared {
    /// Until when the owner may serve, in nanoseconds of [`clock::now`]; 0: not at all.
    deadline: AtomicU64,
    /// When the main loop turned last; 0: it has not.
    turned: AtomicU64,
    /// Bytes that are not copied yet, and since when there have been any (0: none).
    pub lag: AtomicU64,
    pub behind_since: AtomicU64,
    /// The owner is about to give up, or has: nothing is permitted whatever the lease says.
    retired: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
    /// The state has changed since the owner asked whether it has.
    news: AtomicBool,
    wish: Mutex<Wish>,
    /// Wakes the other thread.
    pub more: Arc<Notify>,
    /// Ends it.
    pub stop: Notify,
    /// What the journal tells, if it is attached.
    feed: Mutex<Option<Arc<Feed>>>,
    /// Wakes the owner's.
    tell: Box<dyn Fn() + Send + Sync>,
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Nobody panics while holding one; and if so, what is in it is still true.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub fn new(tell: Box<dyn Fn() + Send + Sync>) -> Shared {
        Shared {
            deadline: AtomicU64::new(0),
            turned: AtomicU64::new(0),
            lag: AtomicU64::new(0),
            behind_since: AtomicU64::new(0),
            retired: AtomicBool::new(false),
            state: Mutex::default(),
            changed: Condvar::new(),
            news: AtomicBool::new(false),
            wish: Mutex::default(),
            more: Arc::default(),
            stop: Notify::new(),
            feed: Mutex::default(),
            tell,
        }
    }

    // The owner's thread ------------------------------------------------------------------------------------------------

    pub fn permitted(&self) -> bool {
        let deadline = self.deadline.load(Ordering::Acquire);
        deadline > 0 && nanos(clock::now()) < deadline && !self.retired.load(Ordering::Acquire)
    }

    pub fn left(&self) -> Duration {
        let deadline = self.deadline.load(Ordering::Acquire);
        match self.permitted() {
            true => Duration::from_nanos(deadline).saturating_sub(clock::now()),
            false => Duration::ZERO,
        }
    }

    pub fn turn(&self) {
        self.turned.store(nanos(clock::now()), Ordering::Release);
    }

    pub fn retire(&self) {
        self.retired.store(true, Ordering::Release);
    }

    pub fn want(&self, wish: Wish) {
        *lock(&self.wish) = wish;
        self.more.notify_one();
    }

    pub fn attach(&self, feed: Arc<Feed>) {
        *lock(&self.feed) = Some(feed);
        self.more.notify_one();
    }

    pub fn durable(&self) -> Option<u64> {
        lock(&self.feed).as_ref().map(|feed| feed.durable.load(Ordering::Acquire))
    }

    /// The state; warnings are told once.
    pub fn state(&self) -> State {
        let mut state = lock(&self.state);
        let told = state.clone();
        state.warnings.clear();
        told
    }

    /// Whether it has changed since this was asked last.
    pub fn has_news(&self) -> bool {
        self.news.swap(false, Ordering::AcqRel)
    }

    pub fn role(&self) -> Role {
        lock(&self.state).role
    }

    /// Waits until the role is what is wanted, at most that long.
    pub fn wait(&self, most: Duration, until: impl Fn(Role) -> bool) {
        let state = lock(&self.state);
        let _ = self.changed.wait_timeout_while(state, most, |state| !until(state.role));
    }

    // The other thread --------------------------------------------------------------------------------------------------

    pub fn permit(&self, until: Option<Duration>) {
        self.deadline.store(until.map_or(0, nanos), Ordering::Release);
    }

    pub fn turned(&self) -> Option<Duration> {
        match self.turned.load(Ordering::Acquire) {
            0 => None,
            turned => Some(Duration::from_nanos(turned)),
        }
    }

    pub fn wish(&self) -> Wish {
        *lock(&self.wish)
    }

    pub fn feed(&self) -> Option<Arc<Feed>> {
        lock(&self.feed).clone()
    }

    /// Changes the state; the owner is woken if it is to know.
    pub fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = lock(&self.state);
        let before = state.clone();
        change(&mut state);
        // That a batch was committed is no news.
        let after = State { latency: before.latency, ..state.clone() };
        drop(state);
        if before.role != after.role {
            self.changed.notify_all();
        }
        if before != after {
            self.news.store(true, Ordering::Release);
            self.tell();
        }
    }

    pub fn warn(&self, text: String) {
        tracing::warn!("{text}");
        self.change(|state| {
            // Who never asks is not to be told everything.
            if state.warnings.len() < 16 {
                state.warnings.push(text);
            }
        });
    }

    pub fn tell(&self) {
        (self.tell)();
    }
}
