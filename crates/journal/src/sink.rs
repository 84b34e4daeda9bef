//! What makes a journal's bytes outlast more than this process.
//!
//! Segments are files, and what is written to them survives the process. A sink makes it survive more. The one that is always there
//! is the background thread, which syncs the files; another may copy their bytes to another machine or a database.
//!
//! A sink is told, in the order in which it happens, what was written and what is of no more use, and does its work in its own
//! time on a thread of its own: the owner's thread must never wait for it. It is not given the bytes but the files that they are in, so
//! that a sink that cannot go on holds up no memory; a file can be read for as long as the sink holds it, also after the segment
//! was removed. What it has is a prefix of what it was told, in that order, whenever it says so: then a journal can be opened from
//! its copy, and has the same sessions.

use crate::files::OpenFile;
use std::sync::Arc;

/// Something that makes what is written outlast more than the process.
///
/// All calls come from the owner's thread, must not wait, and cannot fail: what goes wrong is tried again, and until then
/// [`Sink::durable`] stands still.
pub trait Sink: Send {
    /// A segment was begun, the one before has ended. Segments are named by rising numbers, with gaps.
    fn begun(&mut self, segment: u32, file: &Arc<dyn OpenFile>);

    /// The segment that was begun last has so many bytes in its file. They are never written again. The journal stands at
    /// `position` then; it is 0 for what was there when the journal was opened.
    fn written(&mut self, end: u64, position: u64);

    /// The owner waits for what was written so far.
    fn sync(&self);

    /// Nothing in this segment is needed once all that was written so far is had: then it may be removed, and those of
    /// which this was said before.
    fn dead(&mut self, segment: u32);

    /// The position up to which all is had that was written, or else copied.
    fn durable(&self) -> u64;
}
