//! Which rooms a session is in, and out of.

use enjamb_stream_management::rooms::{OwnPresence, Room, own_presence, told_out};
use mlua::prelude::*;

/// `own_presence(unavailable, codes, own_nickname)`: true if the recipient has entered the room, false if it has left, else
/// nil. `codes`: those of the presence, with spaces between.
fn room_says(
    _: &Lua,
    (unavailable, codes, own_nickname): (bool, LuaString, bool),
) -> LuaResult<Option<bool>> {
    let codes = codes.to_string_lossy();
    Ok(match own_presence(unavailable, codes.split(' '), own_nickname) {
        OwnPresence::Entered => Some(true),
        OwnPresence::Left => Some(false),
        OwnPresence::Nothing => None,
    })
}

/// `told_out(has_account, has_session)`: the status codes with which a session is told that it is out of a room; nil if it
/// is in.
fn is_told_out(_: &Lua, (has_account, has_session): (bool, bool)) -> LuaResult<Option<[&'static str; 2]>> {
    Ok(told_out(Room { has_account, has_session }))
}

pub fn add(lua: &Lua, smacks: &LuaTable) -> LuaResult<()> {
    smacks.set("own_presence", lua.create_function(room_says)?)?;
    smacks.set("told_out", lua.create_function(is_told_out)?)
}
