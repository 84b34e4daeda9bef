//! A clock that only goes forward, and goes on while the machine sleeps.

use nix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// Since the machine was started, sleep included.
///
/// Where the system has no such clock, or refuses it, time stands at the end: nobody is permitted anything then.
pub fn now() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::MAX, Duration::from)
}
