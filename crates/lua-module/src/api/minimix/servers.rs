//! Time, and servers that are lost and back.

use super::{Text, decisions, state};
use crate::log;
use mlua::prelude::*;

/// `tick()`: a second has passed. Decisions, or `nil` for none.
fn tick(lua: &Lua, (): ()) -> LuaResult<Option<LuaTable>> {
    state::write_down();
    log::hand_over(lua);
    // How much of the discussion a client asks for may hang on the time of day. Once a second is often enough to look at it.
    let all = state::ask_by_the_clock(|engine, now| engine.tick(now));
    decisions::maybe(lua, (!all.is_empty()).then_some(all))
}

/// `server_lost(host)`: a connection with another server is gone.
fn server_lost(_: &Lua, host: Text) -> LuaResult<()> {
    state::ask(|engine, now| engine.server_lost(&host, now));
    Ok(())
}

/// `server_up(host, anew)`: a server, or a service of this one, is there; `anew`: it may know nothing of before.
fn server_up(_: &Lua, (host, anew): (Text, bool)) -> LuaResult<()> {
    state::ask(|engine, now| engine.server_up(&host, anew, now));
    Ok(())
}

pub fn add(lua: &Lua, table: &LuaTable) -> LuaResult<()> {
    table.set("tick", lua.create_function(tick)?)?;
    table.set("server_lost", lua.create_function(server_lost)?)?;
    table.set("server_up", lua.create_function(server_up)?)
}
