//! The engines, as Prosody's Lua sees them: what is in `enjamb.so` (crates/library).
//!
//! This crate is glue and decides nothing. It turns Lua values into the engines' values and back, has Lua's stanza
//! tables walked (crates/walk), fetches random bits and the time, and keeps the one [`Sessions`] of the process, which outlives
//! a reload of the Lua modules.
//!
//! No panic leaves it: mlua turns those of safe functions into Lua errors, `boundary::push` does so for the functions that
//! Lua calls without mlua in between.
//!
//! [`Sessions`]: enjamb_sessions::Sessions

#![warn(clippy::indexing_slicing, clippy::string_slice)]

mod accounts;
mod ahead;
mod api;
mod boundary;
mod clock;
mod contacts;
mod log;
mod logs;
mod rooms;
mod state;
mod wake;

#[cfg(feature = "replica")]
use api::replica;
use api::{direct, journal, minimix, muc, smacks};
use boundary::push;
use mlua::prelude::*;

/// What `require "enjamb"` returns.
///
/// # Errors
/// If there is no memory for it.
pub fn table(lua: &Lua) -> LuaResult<LuaTable> {
    let exports = lua.create_table()?;
    exports.set("version", env!("CARGO_PKG_VERSION"))?;
    exports.set("serialize", push::serialize_function(lua)?)?;
    exports.set("start_tag", push::start_tag_function(lua)?)?;
    exports.set("contacts", contacts::table(lua)?)?;
    exports.set("direct", direct::table(lua)?)?;
    exports.set("log", log::function(lua)?)?;
    exports.set("journal", journal::table(lua)?)?;
    exports.set("minimix", minimix::table(lua)?)?;
    exports.set("muc", muc::table(lua)?)?;
    #[cfg(feature = "replica")]
    exports.set("replica", replica::table(lua)?)?;
    exports.set("smacks", smacks::table(lua)?)?;
    Ok(exports)
}
