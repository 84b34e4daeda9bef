//! The sessions of the process: the one thread-local that everything of XEP-0198 goes through.

use crate::wake::Wake;
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
    /// What is kept of rooms, in the same journal.
    pub rooms: Rooms,
    /// From when the journal's time is counted.
    pub opened: Option<Instant>,
    /// By which the journal's thread tells that the disk has more.
    pub wake: Option<Wake>,
}

thread_local! {
    static STATE: RefCell<State> = RefCell::default();
    /// Streams whose handle was collected while the state was in use.
    static UNREACHABLE: RefCell<Vec<StreamKey>> = const { RefCell::new(Vec::new()) };
}

/// Does something with the state. `f` must not call Lua: that may come back here.
pub fn with<T>(f: impl FnOnce(&mut State) -> T) -> T {
    STATE.with_borrow_mut(|state| {
        UNREACHABLE.with_borrow_mut(|keys| {
            for key in keys.drain(..) {
                state.sessions.remove(key);
            }
        });
        f(state)
    })
}

/// The same with the sessions.
pub fn sessions<T>(f: impl FnOnce(&mut Sessions) -> T) -> T {
    with(|state| f(&mut state.sessions))
}

/// A look at the sessions, once per stanza: it does not matter who is unreachable.
pub fn peek<T>(f: impl FnOnce(&Sessions) -> T) -> T {
    STATE.with_borrow(|state| f(&state.sessions))
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
        let _ = STATE.try_with(|state| match state.try_borrow_mut() {
            Ok(mut state) => state.sessions.remove(self.0),
            Err(_) => UNREACHABLE.with_borrow_mut(|keys| keys.push(self.0)),
        });
    }
}
