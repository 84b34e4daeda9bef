//! `enjamb.minimix`: account-level MUC for the shim.
//!
//! One engine for all hosts of the process, which outlives a reload of the shim. A stanza comes in as its bytes; what comes out is
//! an array of decisions, or `nil` if it is none of the engine's business. Nothing is borrowed while Lua runs, so a decision that leads
//! to another call is fine.

mod accounts;
mod adopting;
mod decisions;
mod from_clients;
mod from_rooms;
mod measures;
mod memberships;
mod options;
mod servers;
mod state;

use crate::boundary::groupchat;
use mlua::prelude::*;

type Text = mlua::BorrowedStr;

pub fn table(lua: &Lua) -> LuaResult<LuaTable> {
    let table = lua.create_table()?;
    table.set("groupchat_in", groupchat::function(lua)?)?;
    for add in [
        from_clients::add,
        from_rooms::add,
        accounts::add,
        memberships::add,
        adopting::add,
        servers::add,
        options::add,
        measures::add,
        state::add,
    ] {
        add(lua, &table)?;
    }
    Ok(table)
}
