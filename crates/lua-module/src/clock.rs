//! The time of day, and one that only goes forward.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Seconds since 1970.
pub fn wall_clock() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// The time of day when the process started, and from then on as time passes, whatever the clock is set to.
#[derive(Clone, Copy)]
pub struct Clock {
    started: Instant,
    wall: u64,
}

impl Default for Clock {
    fn default() -> Clock {
        Clock { started: Instant::now(), wall: wall_clock() }
    }
}

impl Clock {
    /// In seconds since 1970.
    pub fn now(self) -> u64 {
        self.wall + self.started.elapsed().as_secs()
    }
}
