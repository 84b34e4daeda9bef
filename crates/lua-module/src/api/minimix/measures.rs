//! How much there is, for metrics and for the admin.

use super::state;
use enjamb_muc_fork::Full;
use mlua::prelude::*;

/// A bound that was reached: `what` (`room`, `account` or `server`), and whose.
fn notice(lua: &Lua, full: Full) -> LuaResult<LuaTable> {
    let (what, jid) = match full {
        Full::Room(jid) => ("room", Some(jid)),
        Full::Account(jid) => ("account", Some(jid)),
        Full::Server => ("server", None),
    };
    let table = lua.create_table()?;
    table.raw_set("what", what)?;
    table.raw_set("jid", jid.as_deref())?;
    Ok(table)
}

/// `full()`: bounds that were reached since the last call: an array of tables with `what` and `jid`; or `nil`.
fn full(lua: &Lua, (): ()) -> LuaResult<Option<Vec<LuaTable>>> {
    let notices = state::ask(|engine, _| engine.take_notices());
    if notices.is_empty() {
        return Ok(None);
    }
    notices.into_iter().map(|full| notice(lua, full)).collect::<LuaResult<_>>().map(Some)
}

/// `rooms()`: by room, the bytes that are kept of its occupants.
fn rooms(lua: &Lua, (): ()) -> LuaResult<LuaTable> {
    let sizes: Vec<_> =
        state::with(|state| state.look().rooms().map(|(room, bytes)| (room.to_owned(), bytes)).collect());
    lua.create_table_from(sizes)
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
