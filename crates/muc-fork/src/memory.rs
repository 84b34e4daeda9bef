//! How much memory is taken by what others say, and its bounds.
//!
//! A [`Meter`] is shared by all that counts towards one bound; a [`Weight`] is what one thing adds to it, as long as it lives.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// The most that may be kept, in bytes. Beyond that, what comes in reaches the clients that are there and is not kept for those who
/// come later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Of the occupants of one room, for all accounts together.
    pub room: usize,
    /// Of what one account was told: occupants and messages of all of its rooms.
    pub account: usize,
    /// Of everything, on the whole server.
    pub server: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { room: 32 << 20, account: 64 << 20, server: 1 << 30 }
    }
}

/// Bytes in use.
#[derive(Clone, Debug, Default)]
pub struct Meter(Arc<AtomicUsize>);

impl Meter {
    /// How many there are.
    pub fn used(&self) -> usize {
        self.0.load(Relaxed)
    }
}

/// A part of them.
#[derive(Debug, Default)]
pub struct Weight {
    meter: Meter,
    bytes: usize,
}

impl Weight {
    /// Counted by `meter`.
    pub fn new(meter: &Meter, bytes: usize) -> Weight {
        let mut weight = Weight { meter: meter.clone(), bytes: 0 };
        weight.set(bytes);
        weight
    }

    /// Another one, of so many bytes, that counts there too.
    #[must_use]
    pub fn with(&self, bytes: usize) -> Weight {
        Weight::new(&self.meter, bytes)
    }

    /// How many bytes it is.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// It is so many now.
    pub fn set(&mut self, bytes: usize) {
        self.meter.0.fetch_add(bytes, Relaxed);
        self.meter.0.fetch_sub(self.bytes, Relaxed);
        self.bytes = bytes;
    }

    /// It grew by so many, or shrank.
    pub fn add(&mut self, bytes: usize) {
        self.set(self.bytes + bytes);
    }

    /// See [`Weight::add`].
    pub fn take(&mut self, bytes: usize) {
        self.set(self.bytes.saturating_sub(bytes));
    }

    /// From now on it counts there.
    pub fn move_to(&mut self, meter: &Meter) {
        *self = Weight::new(meter, self.bytes);
    }
}

impl Drop for Weight {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// A bound that was reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Full {
    /// The occupants of this room.
    Room(Box<str>),
    /// What this account was told.
    Account(Box<str>),
    /// All of the server.
    Server,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_lives() {
        let (one, other) = (Meter::default(), Meter::default());
        let mut a = Weight::new(&one, 10);
        let b = Weight::new(&one, 5);
        a.add(7);
        assert_eq!(one.used(), 22);
        a.take(100);
        assert_eq!(one.used(), 5);
        a.set(3);
        a.move_to(&other);
        drop(b);
        assert_eq!((one.used(), other.used()), (0, 3));
        drop(a);
        assert_eq!(other.used(), 0);
    }
}
