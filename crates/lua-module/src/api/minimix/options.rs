//! What the admin set.

use super::state;
use enjamb_muc_fork::{Config, Limits, Offline};
use mlua::prelude::*;
use serde::Deserialize;

/// Of a host.
#[derive(Deserialize)]
struct Options {
    offline: WhenOffline,
    max_rooms: usize,
    join_timeout: u64,
    silence: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum WhenOffline {
    Bookmarked,
    Stay,
    Leave,
}

/// Of the server, in bytes.
#[derive(Deserialize)]
struct Bounds {
    room: usize,
    account: usize,
    server: usize,
}

/// `configure(host, options)`: `offline` (`"bookmarked"`, `"stay"` or `"leave"`), `max_rooms`, and `join_timeout` and `silence` in seconds.
fn configure(lua: &Lua, (host, options): (String, LuaValue)) -> LuaResult<()> {
    let Options { offline, max_rooms, join_timeout, silence } = lua.from_value(options)?;
    let offline = match offline {
        WhenOffline::Bookmarked => Offline::Bookmarked,
        WhenOffline::Stay => Offline::Stay,
        WhenOffline::Leave => Offline::Leave,
    };
    let config = Config { offline, max_rooms, join_timeout, silence };
    state::ask(|engine, _| engine.configure(&host, config));
    Ok(())
}

/// `limit(bounds)`: how many bytes are kept at most of the occupants of a `room`, for an `account`, and by the `server`.
fn limit(lua: &Lua, bounds: LuaValue) -> LuaResult<()> {
    let Bounds { room, account, server } = lua.from_value(bounds)?;
    state::ask(|engine, _| engine.limit(Limits { room, account, server }));
    Ok(())
}

pub fn add(lua: &Lua, table: &LuaTable) -> LuaResult<()> {
    table.set("configure", lua.create_function(configure)?)?;
    table.set("limit", lua.create_function(limit)?)
}
