//! Threads beside the owner's.

use nix::sys::signal::{SigSet, SigmaskHow};
use std::io;
use std::thread::{Builder, JoinHandle};

/// Starts a thread of that name that takes no signals: it inherits which are blocked from the one that starts it, and handlers, like
/// those of Prosody, are made for the main thread.
///
/// # Errors
/// The operating system's.
pub fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
    let thread = Builder::new().name(name.into()).spawn(work);
    before.thread_set_mask()?;
    thread
}
