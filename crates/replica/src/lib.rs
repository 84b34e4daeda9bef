//! A copy of the journal in PostgreSQL, and who of two servers has it.
//!
//! Nodes with the same database and the same cluster's name stand in for each other. One of them has the [lease] and serves; what its
//! journal writes is [copied](shipping) to the database, and another that takes the lease makes its own [directory] from
//! that, and opens the journal there as after a restart.
//!
//! # Who does what
//!
//! - [`lease`]: who serves, as a state machine: no socket, no clock.
//! - [`shipping`]: what is copied next, in the same way.
//! - [`statements`]: the SQL.
//! - [`url`], `tls`, `database`: a connection, and one statement at a time on it.
//! - [`directory`]: whose a journal's directory is, and how it is made from what the database has.
//! - `unsent`: segments that are still to be read, whatever the journal makes of them.
//! - `driver`: the thread that asks the first two what to do, and does it.
//! - `sink`, `shared`, `replica`: what the owner's thread sees of that. It never waits.

#![forbid(unsafe_code)]
#![warn(clippy::indexing_slicing, clippy::string_slice)]

pub mod clock;
mod database;
pub mod directory;
mod driver;
mod error;
pub mod lease;
mod replica;
mod shared;
pub mod shipping;
mod sink;
pub mod statements;
mod tls;
mod unsent;
pub mod url;

pub use error::Error;
pub use replica::{Options, Progress, Replica};
pub use shared::{Role, State};
