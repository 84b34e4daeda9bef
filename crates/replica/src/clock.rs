//! A clock that only goes forward, and goes on while the machine sleeps.

use nix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// Since the machine was started, sleep included.
///
/// Where the system has no such clock, or refuses it, time stands at the end: nobody is permitted anything then.
pub fn now() -> Duration {
    clock_gettime(CLOCK).map_or(Duration::MAX, Duration::from)
}

#[cfg(any(target_os = "linux", target_os = "android"))]
const CLOCK: ClockId = ClockId::CLOCK_BOOTTIME;
// What others have that comes nearest: on some it stands still while the machine sleeps, so that a lease may be over unnoticed then.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const CLOCK: ClockId = ClockId::CLOCK_MONOTONIC;
