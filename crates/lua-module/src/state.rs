//! The state of the process: its streams, and its accounts in rooms. The one thread-local of the engines.

use crate::accounts::Minimix;
use crate::wake::Wake;
use enjamb_muc_fork::Accounts;
use enjamb_rooms::Rooms;
use enjamb_sessions::Sessions;
use enjamb_stream_management::StreamKey;
use mlua::prelude::*;
use slotmap::{Key, KeyData};
use std::cell::RefCell;
use std::time::Instant;

#[derive(Default)]
pub struct State {
    pub sessions: Sessions,
    pub minimix: Minimix,
    /// What is kept of rooms, in the same journal.
    pub rooms: Rooms,
    /// From when the journal's time is counted.
    pub opened: Option<Instant>,
    /// By which the journal's thread tells that the disk has more.
    pub wake: Option<Wake>,
    /// The copy of the journal elsewhere.
    #[cfg(feature = "replica")]
    pub replica: crate::api::replica::Copy,
}

impl State {
    /// The journal in that directory was opened, and is locked.
    pub fn opened_in(&self, directory: &std::path::Path) {
        #[cfg(feature = "replica")]
        if !self.replica.is_started() {
            enjamb_replica::directory::forget(directory);
        }
        #[cfg(not(feature = "replica"))]
        let _ = directory;
    }

    /// Up to where the copy of the journal has everything: without one nothing is copied.
    pub fn copied(&self) -> u64 {
        #[cfg(feature = "replica")]
        return self.replica.durable();
        #[cfg(not(feature = "replica"))]
        0
    }
}

#[derive(Default)]
struct Process {
    state: RefCell<State>,
    /// Streams whose handle was collected while the state was in use.
    unreachable: RefCell<Vec<StreamKey>>,
}

thread_local! {
    static PROCESS: Process = Process::default();
}

/// Does something with the state. `f` must not call Lua: that may come back here.
pub fn with<T>(f: impl FnOnce(&mut State) -> T) -> T {
    PROCESS.with(|process| {
        let mut state = process.state.borrow_mut();
        process.unreachable.borrow_mut().drain(..).for_each(|key| state.sessions.remove(key));
        f(&mut state)
    })
}

/// The same with the sessions.
pub fn sessions<T>(f: impl FnOnce(&mut Sessions) -> T) -> T {
    with(|state| f(&mut state.sessions))
}

/// The same with the accounts; the number is the time, in seconds of a clock that only goes forward.
pub fn accounts<T>(f: impl FnOnce(&mut Accounts, u64) -> T) -> T {
    with(|state| state.minimix.engine(f))
}

/// The sessions, for what runs once per element: streams that nobody can reach any more are left to a later call.
pub fn quickly<T>(f: impl FnOnce(&mut Sessions) -> T) -> T {
    PROCESS.with(|process| f(&mut process.state.borrow_mut().sessions))
}

pub fn key(key: i64) -> StreamKey {
    // Only the bits matter: a key is never calculated with.
    StreamKey::from(KeyData::from_ffi(key as u64))
}

pub fn number(key: StreamKey) -> i64 {
    key.data().as_ffi() as i64
}

/// While Lua has it, the stream is there.
pub struct Handle(pub StreamKey);

impl LuaUserData for Handle {}

impl Drop for Handle {
    fn drop(&mut self) {
        // At the end of the process the state may be gone already, and the stream with it.
        let _ = PROCESS.try_with(|process| match process.state.try_borrow_mut() {
            Ok(mut state) => state.sessions.remove(self.0),
            Err(_) => process.unreachable.borrow_mut().push(self.0),
        });
    }
}
