//! XEP-0198 Stream Management, as decisions.
//!
//! This crate holds no socket, no clock, no file, no thread and no Lua. Time comes in as a number of seconds,
//! random bits come in as a number, stanzas come in as bytes; what to do comes out as a value. So everything that
//! the XEP says about counting, queueing, acknowledging and resuming can be tried by a model test that runs through
//! a thousand sessions in a blink.
//!
//! What comes in and goes out:
//! - [`h`]: the counter, modulo 2^32, and how it is read from an attribute.
//! - [`element`]: which elements are stanzas, and count.
//! - [`queue`]: the stanzas that the peer has not acknowledged.
//! - [`stream`]: one managed stream: both counters, its queue, and what follows here for one stream.
//! - [`asking`]: when an ack is asked for, when it is late, when silence means that nobody is there.
//! - [`stream_error`]: why a stream is closed, as one value.
//!
//! How it begins:
//! - [`offer`]: who is offered it.
//! - [`negotiate`]: what `<enable/>` and `<resume/>` ask for, and why they are refused.
//! - [`initiator`]: this server asks another one.
//! - [`registry`]: all streams, which of them an account may resume, and its limits.
//!
//! How it goes on, and ends:
//! - [`hibernation`]: the connection is lost.
//! - [`resumption`]: the steps of a `<resume/>`.
//! - [`pacing`]: how fast what is queued is sent again.
//! - [`ending`]: sessions that have to end, and streams that are closed.
//! - [`undelivered`]: what becomes of a stanza whose recipient did not come back.
//! - [`remembered`]: the counts of sessions that are gone.
//! - [`rooms`]: which rooms a session that outlived the server is out of.

#![forbid(unsafe_code)]

pub mod asking;
pub mod element;
pub mod ending;
pub mod h;
pub mod hibernation;
pub mod initiator;
pub mod limits;
pub mod negotiate;
pub mod offer;
pub mod pacing;
pub mod queue;
pub mod registry;
pub mod remembered;
pub mod resumption;
pub mod rooms;
pub mod stream;
pub mod stream_error;
pub mod undelivered;

pub use asking::{Ask, Lateness, Silence};
pub use ending::{Cause, Closer, Closing, Ending};
pub use h::H;
pub use hibernation::Lost;
pub use initiator::Initiator;
pub use limits::Limits;
pub use negotiate::{EnableRequest, Enabled, Peer, Refusal, ResumeRequest, ResumptionId};
pub use offer::Origin;
pub use pacing::{AfterTurn, Framing};
pub use queue::{AckError, Place, Queue, Queued};
pub use registry::{Hibernation, Queueing, Registry, Resumed, StreamKey, Streams, Totals};
pub use resumption::{Resumption, Step};
pub use stream::{Piece, Pushed, Stream};
pub use stream_error::{HandledCountTooHigh, StreamError, WrongAck};
