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

    /// Takes the byte; to be called when the pipe is readable. Whatever happened before it was written is visible now.
    pub fn take(&mut self) {
        // First: what happens from here on writes another byte, which is read along with this one or wakes again.
        self.told.store(false, Ordering::Release);
        let _ = self.reader.read(&mut [0; 16]);
    }
}
