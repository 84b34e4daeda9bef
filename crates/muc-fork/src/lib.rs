//! Account-level MUC (XEP-0045), as decisions.
//!
//! A room sees one occupant per account, its bare JID. The account's clients each believe that they joined by themselves.
//! This crate decides what makes both true: which client gets which copy, what the room is told, and when the account
//! joins, leaves, looks whether it is still there, or joins again.
//!
//! It holds no socket, no clock, no file, no thread and no Lua. Time comes in as the seconds of a clock that only
//! goes forward, stanzas as bytes
//! with the little that was read from them ([`input`]), and what to do comes out as [`Decision`]s, in order. A caller
//! that sends something to a room of its own server may be back with the room's answer before the sending returns;
//! everything is recorded before the decisions are handed out, so that is as good as an answer that comes later.
//!
//! - [`accounts`]: the accounts and their memberships. What happens to them stands in a file per side it comes from:
//!   `joining` (a client's presence), `sending` (what else clients send), `receiving` (what rooms send), `watching` (time),
//!   `account` (bookmarks, devices, restarts), `adopting` (rooms that outlived one),
//!   `replacing` (a client that logs in anew); `requests` are those without an answer yet; `serving` is what one client is told from what is known.
//! - [`view`]: what rooms told about their occupants, kept once for all accounts.
//! - [`chat`]: what a groupchat message says.
//! - [`history`]: the discussion that a client gets when it joins.
//! - [`memory`]: how much is kept at most.
//! - [`build`]: the few stanzas that are made here.

#![forbid(unsafe_code)]

mod account;
pub mod accounts;
mod adopting;
pub mod build;
pub mod chat;
pub mod decision;
pub mod history;
pub mod input;
mod joining;
mod membership;
pub mod memory;
mod receiving;
mod replacing;
mod requests;
mod sending;
mod serving;
pub mod view;
mod watching;

pub use accounts::{Accounts, Change, Config, Offline, Restored, RestoredClient, Waits};
pub use adopting::Remembered;
pub use decision::{Condition, Decision, Edit, Id, Outcome};
pub use history::{Mark, Request};
pub use memory::{Full, Limits};
