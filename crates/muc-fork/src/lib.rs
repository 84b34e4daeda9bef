//! Account-level MUC (XEP-0045), as decisions.
//!
//! A room sees one occupant per account, its bare JID. The account's clients each believe that they joined by themselves.
//! This crate decides what makes both true: which client gets which copy, what the room is told, and when the account
//! joins, leaves, looks whether it is still there, or joins again.
//!
//! It holds no socket, no clock, no file, no thread and no Lua. Time comes in as the seconds of a clock that only
//! goes forward, stanzas as bytes, and what to do comes out as [`Decision`]s, in order. A caller that sends something to a room of its own server may be back with the room's answer
//! before the sending returns; everything is recorded before the decisions are handed out, so that is as good as an answer
//! that comes later.
//!
//! - [`accounts`]: the accounts, and what all that happens to them needs. `membership` is one account in one room, with what is so
//!   in one phase of it in the variants of its `Phase`; `room` is what is the same for all accounts in it, `stay` both, borrowed
//!   for a step.
//! - What it means stands in a file per kind of stanza: `sending` for that of clients, `receiving` for that of rooms; time is in
//!   `watching` and `pinging`.
//! - `from_clients`, `from_rooms`: where stanzas come in. They read what decisions hang on ([`input`]) with `presence`, `asks`
//!   (iqs), `mediated` (invitations and declines) and `private` (messages that nobody is in the room for).
//! - What follows stands in a file per transition: `joining` (let in, refused, whose wish is tried next), `settling`, `entering`, `nicknames`, `leaving` (put
//!   out); what is wished beside a client's presence in `bookmarks` and `pam`; across a restart in `restarting` and `comparing`, and in `adopting`
//!   if the room outlived it; `replacing` is a client that logs in anew, and `holds`
//!   what is held for it meanwhile.
//!   `serving` is what one client is told from what is known, `requests` are those without an answer yet, `queries` what others may ask.
//! - [`view`]: what rooms told about their occupants, kept once for all accounts.
//! - `real_jids`: what was told about occupants, when who may see their real JIDs changes.
//! - [`chat`]: what a groupchat message says.
//! - [`history`]: the discussion that a client gets when it joins.
//! - [`memory`]: how much is kept at most.
//! - [`build`]: the few stanzas that are made here.
//! - `copies`: the final bytes of what a client is served.

#![forbid(unsafe_code)]

pub mod accounts;
mod address;
mod adopting;
mod asks;
mod bookmarks;
pub mod build;
mod change;
pub mod chat;
mod comparing;
mod conditions;
mod config;
mod copies;
pub mod decision;
mod element;
mod entering;
mod from_clients;
mod from_rooms;
pub mod history;
mod holds;
pub mod input;
mod joining;
mod lasting;
mod leaving;
mod mediated;
mod membership;
pub mod memory;
mod nicknames;
mod order;
mod pam;
mod pinging;
mod presence;
mod private;
mod queries;
mod real_jids;
mod receiving;
mod replacing;
mod requests;
mod restarting;
mod restored;
mod room;
mod sending;
mod serving;
mod settling;
mod stay;
mod time;
pub mod view;
mod watching;

pub use accounts::Accounts;
pub use adopting::Remembered;
pub use change::Change;
pub use config::{Config, Offline};
pub use decision::{Condition, Decision, Edit, Id, Outcome};
pub use history::{Mark, Request};
pub use memory::{Full, Limits};
pub use replacing::HOLD;
pub use restarting::GRACE;
pub use restored::{Restored, RestoredClient, Waits};
