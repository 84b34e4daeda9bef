//! How another thread gets the main one's attention: a byte in a pipe that Prosody's event loop watches.

use std::io::{PipeReader, Read, Result, Write, pipe};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The main thread's end.
pub struct Wake {
    reader: PipeReader,
    /// A byte is in the pipe: one is enough, and so it never fills.
    told: Arc<AtomicBool>,
}

impl Wake {
    /// The main thread's end, and what the other thread calls.
    pub fn new() -> Result<(Wake, impl Fn() + Send + Sync + 'static)> {
        let (reader, writer) = pipe()?;
        let told = Arc::new(AtomicBool::new(false));
        let wake = Wake { reader, told: Arc::clone(&told) };
        let tell = move || {
            if !told.swap(true, Ordering::AcqRel) {
                // Only a reader that is gone makes it fail, and then nobody waits.
                let _ = (&writer).write(&[0]);
            }
        };
        Ok((wake, tell))
    }

    /// What is to be watched for reading.
    pub fn fd(&self) -> RawFd {
        self.reader.as_raw_fd()
    }

    /// Takes the byte, if there is one; to be called when the pipe is readable. Whatever happened before it was written
    /// is visible now.
    pub fn take(&mut self) {
        // First: what happens from here on writes another byte, which stays in the pipe and wakes again. Without a byte
        // to come, reading would wait for ever.
        if self.told.swap(false, Ordering::AcqRel) {
            let _ = self.reader.read(&mut [0; 1]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_is_noticed_and_none_is_waited_for() {
        let (mut wake, tell) = Wake::new().expect("a pipe");
        wake.take();
        let (noticed, many) = (Arc::new(AtomicBool::new(false)), 10_000);
        let other = Arc::clone(&noticed);
        let thread = std::thread::spawn(move || {
            for _ in 0..many {
                tell();
            }
            other.store(true, Ordering::Release);
            tell();
        });
        // Each take that waits is answered by a call; after the last one the flag is there.
        while !noticed.load(Ordering::Acquire) {
            wake.take();
        }
        thread.join().expect("it ends");
        wake.take();
        wake.take();
    }
}
