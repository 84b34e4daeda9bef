//! What a host's admin set.

/// Whether an account stays in a room when none of its devices is online.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Offline {
    /// In rooms that it has a bookmark with autojoin for (XEP-0402).
    #[default]
    Bookmarked,
    /// In all that it did not leave.
    Stay,
    /// In none.
    Leave,
}

/// What a host's admin set.
#[derive(Clone, Debug)]
pub struct Config {
    /// Whether accounts without a device online stay in their rooms.
    pub offline: Offline,
    /// Rooms that an account may be in.
    pub max_rooms: usize,
    /// Seconds that a room has for answering a join.
    pub join_timeout: u64,
    /// Seconds without anything from a room after which the account looks whether it is still in it.
    pub silence: u64,
}

impl Default for Config {
    fn default() -> Config {
        Config { offline: Offline::default(), max_rooms: 200, join_timeout: 60, silence: 900 }
    }
}

/// A ping has at most so many seconds for its answer.
const LONGEST_PATIENCE: u64 = 60;
/// A room that cannot be reached is tried again for so many times as it has for answering a join; until then clients that are
/// in it are not told.
const OUTAGE: u64 = 10;

impl Config {
    /// Seconds that a ping waits for its answer, and the next one for its turn.
    pub(crate) fn patience(&self) -> u64 {
        self.silence.clamp(5, LONGEST_PATIENCE)
    }

    /// Seconds after which a room that cannot be reached is given up.
    pub(crate) fn outage(&self) -> u64 {
        self.join_timeout.saturating_mul(OUTAGE)
    }
}
