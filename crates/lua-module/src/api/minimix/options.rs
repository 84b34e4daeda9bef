//! What the admin set.

use super::state;
use enjamb_muc_fork::{Config, Limits, Offline};
use mlua::prelude::*;

fn when_offline(what: &str) -> LuaResult<Offline> {
    match what {
        "bookmarked" => Ok(Offline::Bookmarked),
        "stay" => Ok(Offline::Stay),
        "leave" => Ok(Offline::Leave),
        _ => Err(LuaError::runtime(format!("offline cannot be '{what}'"))),
    }
}

/// `configure(host, options)`: `offline` (`"bookmarked"`, `"stay"` or `"leave"`), `max_rooms`, and `join_timeout` and `silence` in seconds.
fn configure(_: &Lua, (host, options): (String, LuaTable)) -> LuaResult<()> {
    let config = Config {
        offline: when_offline(&options.raw_get::<String>("offline")?)?,
        max_rooms: options.raw_get("max_rooms")?,
        join_timeout: options.raw_get("join_timeout")?,
        silence: options.raw_get("silence")?,
    };
    state::ask(|engine, _| engine.configure(&host, config));
    Ok(())
}

/// `limit(bounds)`: how many bytes are kept at most of the occupants of a `room`, for an `account`, and by the `server`.
fn limit(_: &Lua, bounds: LuaTable) -> LuaResult<()> {
    let limits = Limits {
        room: bounds.raw_get("room")?,
        account: bounds.raw_get("account")?,
        server: bounds.raw_get("server")?,
    };
    state::ask(|engine, _| engine.limit(limits));
    Ok(())
}

pub fn add(lua: &Lua, table: &LuaTable) -> LuaResult<()> {
    table.set("configure", lua.create_function(configure)?)?;
    table.set("limit", lua.create_function(limit)?)
}
