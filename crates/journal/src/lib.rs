//! Sessions and their queues of unacknowledged stanzas, in files, so that they survive a crash.
//!
//! An append-only journal in segments. It knows nothing of XML, Lua or XEP-0198's counting modulo 2^32: a session is a
//! number, its description and its stanzas are bytes, and stanzas are numbered from 1 without ever wrapping. It has no
//! clock: [`Journal::tick`] tells it the time, and what has been of no more use for some minutes leaves the disk.
//!
//! # What survives what
//!
//! - **A crash or kill of this process**: everything before the last [`Journal::commit`] that succeeded. Of what came
//!   after it a prefix, in the order in which it was appended.
//! - **A crash of the machine**: everything up to the position [`Journal::durable`]. A background thread syncs files;
//!   [`Journal::request_sync`] has it do so now. Of what came after it a prefix, whatever part of it the disk has.
//! - **A full or failing disk**: the journal stays usable. What could not be written waits in memory, up to
//!   [`Config::waiting_bytes`], and the next commit tries again.
//! - **A bit that flips**: every byte is under a checksum. [`Journal::open`] tells what it found damaged in
//!   [`Recovery`], [`Journal::replay`] hands out `None` for a stanza that it cannot vouch for.
//!
//! # Who does what
//!
//! The owner's thread (Prosody has one) appends, writes and collects garbage, all in small bounded steps. The one background
//! thread does what may wait for the disk: `fdatasync`, `unlink`, and creating the next segment. Threads do not survive
//! a fork, nor do two processes share a lock: open the journal after daemonizing.
//!
//! # Where to read on
//!
//! [`Journal`] is an index, a writer, a collector and a background thread, each in a file of its own:
//!
//! - `journal`: what can be done to a session; committing.
//! - `index`: what is live, and where (`session`: of one session; `segment`: how much of each file).
//! - `writer`: appending records, and handing them to the operating system, segment after segment.
//! - `collector`: moving what is live and giving up what is dead.
//! - `background`: the thread that syncs files and removes them; `mark` is what it knows, for after the machine's death.
//! - [`sink`]: what that thread is to the others, and what a copy elsewhere would be.
//! - `record`: the format of a record, and what its checksum covers.
//! - `read`: a session's description, and its queue in order.
//! - `recovery`: opening, after whatever has happened.
//! - [`files`]: the operating system, or a test's idea of it.
//! - [`lines`]: what is kept beside the journal, in files of lines.
//!
//! # Example
//!
//! ```
//! # let dir = std::env::temp_dir().join(format!("enjamb-journal-doc-{}", std::process::id()));
//! use enjamb_journal::{Config, Journal};
//!
//! let (mut journal, _) = Journal::open(&dir, Config::default())?;
//! journal.set_meta(1, b"romeo@montague.example")?;
//! journal.push(1, 1, b"<message/>")?;
//! journal.push(1, 2, b"<presence/>")?;
//! journal.ack(1, 1)?;
//! journal.commit()?;
//! drop(journal);
//!
//! let (mut journal, recovery) = Journal::open(&dir, Config::default())?;
//! assert!(recovery.is_whole());
//! journal.replay(1, 0, |number, stanza| {
//!     assert_eq!((number, stanza), (2, Some(&b"<presence/>"[..])));
//!     true
//! })?;
//! # drop(journal);
//! # let _ = std::fs::remove_dir_all(dir);
//! # Ok::<(), enjamb_journal::Error>(())
//! ```

#![forbid(unsafe_code)]

mod background;
mod collector;
mod config;
mod error;
#[cfg(any(test, feature = "faults"))]
pub mod faults;
pub mod files;
mod index;
mod journal;
pub mod lines;
mod mark;
mod read;
mod record;
mod recovery;
mod segment;
mod session;
pub mod sink;
#[cfg(test)]
mod tests;
pub mod thread;
mod writer;

pub use config::Config;
pub use error::Error;
pub use journal::Journal;
pub use read::{Counters, Stats};
pub use record::MAX_PAYLOAD;
pub use recovery::{Damage, Incomplete, Recovery, certain};
pub use segment::{id as segment_id, path as segment_path};
