//! How much there is, for metrics and for the admin.

use super::state;
use enjamb_muc_fork::Full;
use mlua::prelude::*;
use serde::Serialize;
use std::collections::HashMap;

/// A bound that was reached.
#[derive(Serialize)]
struct Notice {
    /// `room`, `account` or `server`.
    what: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    jid: Option<Box<str>>,
}

impl From<Full> for Notice {
    fn from(full: Full) -> Notice {
        match full {
            Full::Room(jid) => Notice { what: "room", jid: Some(jid) },
            Full::Account(jid) => Notice { what: "account", jid: Some(jid) },
            Full::Server => Notice { what: "server", jid: None },
        }
    }
}

/// `full()`: bounds that were reached since the last call: an array of tables with `what` and `jid`; or `nil`.
fn full(lua: &Lua, (): ()) -> LuaResult<Option<LuaValue>> {
    let notices = state::ask(|engine, _| engine.take_notices());
    if notices.is_empty() {
        return Ok(None);
    }
    let notices: Vec<Notice> = notices.into_iter().map(Notice::from).collect();
    lua.to_value(&notices).map(Some)
}

/// `rooms()`: by room, the bytes that are kept of its occupants.
fn rooms(lua: &Lua, (): ()) -> LuaResult<LuaValue> {
    let sizes: HashMap<String, usize> =
        state::with(|state| state.look().rooms().map(|(room, bytes)| (room.to_owned(), bytes)).collect());
    lua.to_value(&sizes)
}

/// `totals()`: accounts, memberships, bytes.
fn totals(_: &Lua, (): ()) -> LuaResult<(usize, usize, usize)> {
    Ok(state::with(|state| state.look().totals()))
}

pub fn add(lua: &Lua, table: &LuaTable) -> LuaResult<()> {
    table.set("full", lua.create_function(full)?)?;
    table.set("rooms", lua.create_function(rooms)?)?;
    table.set("totals", lua.create_function(totals)?)
}
