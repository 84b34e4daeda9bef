//! XEP-0198 Stream Management, as decisions.
//!
//! This crate holds no socket, no clock, no file, no thread and no Lua. Time comes in as a number of seconds,
//! random bits come in as a number, stanzas come in as bytes; what to do comes out as a value. So everything that
//! the XEP says about counting, queueing, acknowledging and resuming can be tried by a model test that runs through
//! a thousand sessions in a blink.
//!
//! - [`h`]: the counter, modulo 2^32, and how it is read from an attribute.
//! - [`queue`]: the stanzas that the peer has not acknowledged.
//! - [`stream`]: one managed stream: both counters, its queue, when to ask for an ack.
//! - [`registry`]: all streams, which of them an account may resume, and its limits.
//! - [`negotiate`]: what `<enable/>` and `<resume/>` ask for, and why they are refused.
//! - [`undelivered`]: what becomes of a stanza whose recipient did not come back.
//! - [`remembered`]: the counts of sessions that are gone.

#![forbid(unsafe_code)]

pub mod h;
pub mod limits;
pub mod negotiate;
pub mod queue;
pub mod registry;
pub mod remembered;
pub mod stream;
pub mod undelivered;

pub use h::H;
pub use limits::Limits;
pub use negotiate::{EnableRequest, Enabled, Peer, Refusal, ResumeRequest, ResumptionId};
pub use queue::{AckError, Place, Queue, Queued};
pub use registry::{Hibernation, Queueing, Registry, Resumed, StreamKey, Streams, Totals};
pub use stream::{Ask, Pushed, Stream};
