//! The state of the process: its streams, and its accounts in rooms. The one thread-local of the engines.

use crate::accounts::Minimix;
use crate::ahead::Ahead;
use crate::logs::Logs;
use crate::wake::Wake;
use enjamb_journal::Journal;
use enjamb_muc_fork::Accounts;
use enjamb_rooms::Rooms;
use enjamb_sessions::Sessions;
use enjamb_stream_management::StreamKey;
use mlua::prelude::*;
use slotmap::{Key, KeyData};
use std::cell::RefCell;
use std::path::Path;
use std::time::Instant;

#[derive(Default)]
pub struct State {
    pub sessions: Sessions,
    pub minimix: Minimix,
    /// What is kept of rooms, in the same journal.
    pub rooms: Rooms,
    /// And of files of lines, where the journal is copied.
    pub logs: Logs,
    /// And of the file of rooms.
    pub ahead: Ahead,
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
    pub fn opened_in(&self, directory: &Path) {
        #[cfg(feature = "replica")]
        if !self.replica.is_started() {
            enjamb_replica::directory::forget(directory);
        }
        #[cfg(not(feature = "replica"))]
        let _ = directory;
    }

    /// Whether the journal is copied elsewhere.
    pub fn is_copied(&self) -> bool {
        #[cfg(feature = "replica")]
        return self.replica.is_started();
        #[cfg(not(feature = "replica"))]
        false
    }

    /// Where the journal is copied, so are lines that are written to files beside it: the logs of these, the journal, and what the
    /// lines of rooms are made from.
    pub fn copied_logs(&mut self) -> Option<(&mut Logs, &mut Journal, &Minimix)> {
        let is_copied = self.is_copied();
        let journal = self.sessions.journal().filter(|_| is_copied)?;
        Some((&mut self.logs, journal, &self.minimix))
    }

    /// A file of that name is about to be read. Where it is not, on another machine than the one that wrote it, and the journal is
    /// copied, that has what is to be in it.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn bring_lines(&mut self, name: &str, path: &Path) -> std::io::Result<()> {
        match self.sessions.journal() {
            Some(journal) if !path.exists() => self.logs.put_into(journal, name, path),
            _ => Ok(()),
        }
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

/// A key's place among the streams, in its number: so many of these bits, and the rest is for how often that place was taken.
/// Lua below 5.3 has only floats, which are exact up to 53 bits. There are 31 of the latter, so these are left.
const PLACE: u32 = 53 - 31;

/// The stream of that number; if it is none, a key that finds nothing.
pub fn key(number: i64) -> StreamKey {
    let bits = number as u64;
    let (place, version) = (bits & ((1 << PLACE) - 1), bits >> PLACE);
    // A key's version is odd while its stream is there.
    let version = u32::try_from(version << 1 | 1).unwrap_or(1);
    let place = if bits >> 53 == 0 { place } else { u64::from(u32::MAX) };
    StreamKey::from(KeyData::from_ffi(u64::from(version) << 32 | place))
}

/// The number of a stream: below 2^53, whatever the Lua. `None`: there are more streams (4,194,304) than that has room for.
pub fn checked_number(key: StreamKey) -> Option<i64> {
    let (place, version) = (key.data().as_ffi() & u64::from(u32::MAX), key.data().as_ffi() >> 33);
    (place >> PLACE == 0).then_some((version << PLACE | place) as i64)
}

/// The same of a stream that was let in, since it has one.
pub fn number(key: StreamKey) -> i64 {
    checked_number(key).unwrap_or(-1)
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

#[cfg(test)]
mod tests {
    use super::{checked_number, key};
    use enjamb_stream_management::StreamKey;
    use slotmap::{Key, KeyData};

    fn stream(place: u32, version: u32) -> StreamKey {
        StreamKey::from(KeyData::from_ffi(u64::from(version) << 32 | u64::from(place)))
    }

    #[test]
    fn a_number_is_exact_as_a_float_and_names_that_stream() {
        for place in [0, 1, 77, (1 << 22) - 1] {
            for version in [1, 3, 12345, u32::MAX] {
                let number = checked_number(stream(place, version)).unwrap_or_default();
                assert_eq!((number as f64) as i64, number);
                assert_eq!(key((number as f64) as i64), stream(place, version));
            }
        }
        assert_eq!(checked_number(stream(1 << 22, 1)), None);
        assert_eq!(checked_number(stream(u32::MAX, 5)), None);
    }

    #[test]
    fn what_is_no_number_of_a_stream_names_none() {
        for number in [-1, i64::MIN, i64::MAX, 1 << 53, 1 << 60] {
            assert_eq!(key(number).data().as_ffi() & u64::from(u32::MAX), u64::from(u32::MAX));
        }
    }
}
