//! `enjamb.muc`: what is kept of rooms, in the journal of [`crate::api::journal`], whose `commit` and `claim` hand it to the
//! disk. What a room's configuration, an occupant or a message is made of is the shim's: strings.
//!
//! What notes something answers `true`, or `nil, message, is_too_long`: what is too long for a record can never be noted,
//! anything else is to be said again.

use crate::api::journal::new_id;
use crate::state::with;
use enjamb_journal::{Error, Journal};
use enjamb_rooms::{Kept, Rooms};
use mlua::prelude::*;

/// Longer than this, in bytes, nothing is kept of a room: writing it again and again would hold up everybody.
const LONGEST: usize = 8 << 20;

fn note(
    lua: &Lua,
    f: impl FnOnce(&mut Rooms, &mut Journal) -> Result<(), Error>,
) -> LuaResult<LuaMultiValue> {
    let noted = with(|state| state.sessions.journal().map(|journal| f(&mut state.rooms, journal)));
    match noted {
        Some(Ok(())) => true.into_lua_multi(lua),
        None => (LuaNil, "the journal is not open", false).into_lua_multi(lua),
        Some(Err(error)) => (LuaNil, error.to_string(), !error.is_of_the_disk()).into_lua_multi(lua),
    }
}

fn bounded(len: usize) -> Result<(), Error> {
    if len > LONGEST { Err(Error::TooLong { len }) } else { Ok(()) }
}

/// Strings as one, each with its length before it.
fn join(fields: &[LuaString]) -> Vec<u8> {
    let mut out = Vec::with_capacity(fields.iter().map(|field| 4 + field.as_bytes().len()).sum());
    for field in fields {
        let bytes = field.as_bytes();
        out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        out.extend_from_slice(&bytes);
    }
    out
}

/// What [`join`] made one of; of anything else as many as there are.
fn split(lua: &Lua, bytes: &[u8]) -> LuaResult<LuaTable> {
    let (fields, mut rest) = (lua.create_table()?, bytes);
    while let Some((len, more)) = rest.split_first_chunk() {
        let Some((field, more)) = more.split_at_checked(u32::from_le_bytes(*len) as usize) else { break };
        fields.raw_push(lua.create_string(field)?)?;
        rest = more;
    }
    Ok(fields)
}

/// `configure(room, configuration)`: a room is kept, or another configuration of it.
fn configure(lua: &Lua, (room, configuration): (String, LuaString)) -> LuaResult<LuaMultiValue> {
    let id = new_id()?;
    let bytes = configuration.as_bytes();
    note(lua, |rooms, journal| {
        bounded(bytes.len())?;
        rooms.configure(journal, &room, &bytes, id)
    })
}

/// `enter(room, nick, ...)`: what is known of an occupant now, as strings.
fn enter(
    lua: &Lua,
    (room, nick, fields): (String, String, LuaVariadic<LuaString>),
) -> LuaResult<LuaMultiValue> {
    let id = new_id()?;
    let bytes = join(&fields);
    note(lua, |rooms, journal| {
        bounded(bytes.len())?;
        rooms.enter(journal, &room, &nick, &bytes, id)
    })
}

/// `leave(room, nick)`.
fn leave(lua: &Lua, (room, nick): (String, String)) -> LuaResult<LuaMultiValue> {
    note(lua, |rooms, journal| rooms.leave(journal, &room, &nick))
}

/// `said(room, ...)`: a message is history from now on, as strings.
fn said(lua: &Lua, (room, fields): (String, LuaVariadic<LuaString>)) -> LuaResult<LuaMultiValue> {
    let bytes = join(&fields);
    note(lua, |rooms, journal| {
        bounded(bytes.len())?;
        rooms.said(journal, &room, &bytes)
    })
}

/// `limit_history(room, most)`: only so many of the last messages are.
fn limit_history(lua: &Lua, (room, most): (String, usize)) -> LuaResult<LuaMultiValue> {
    note(lua, |rooms, journal| rooms.limit_history(journal, &room, most))
}

/// `forget(room)`: it is gone, with all that was in it.
fn forget(lua: &Lua, room: String) -> LuaResult<LuaMultiValue> {
    note(lua, |rooms, journal| rooms.end(journal, &room))
}

/// `rooms(service)`: an array of the JIDs of the service's rooms that are kept.
fn rooms(_: &Lua, service: String) -> LuaResult<Vec<String>> {
    Ok(with(|state| state.rooms.of_service(&service).map(str::to_owned).collect()))
}

/// `occupants(room)`: an array of the nicknames of its occupants that are kept.
fn occupants(_: &Lua, room: String) -> LuaResult<Vec<String>> {
    Ok(with(|state| state.rooms.occupants(&room).map(str::to_owned).collect()))
}

/// `newer()`: how many records of rooms a newer version wrote.
fn newer(_: &Lua, (): ()) -> LuaResult<usize> {
    Ok(with(|state| state.rooms.newer()))
}

/// `read(room)`: a table of what is kept of a room: its `configuration`, its `occupants` by nickname and its `history`, each of
/// these an array of strings, and how many are `lost`. Nil if nothing is; `nil, message` if it cannot be read now.
fn read(lua: &Lua, room: String) -> LuaResult<LuaMultiValue> {
    let kept = with(|state| match state.sessions.journal() {
        Some(journal) => state.rooms.read(journal, &room),
        None => Ok(None),
    });
    let Kept { configuration, occupants, history, lost } = match kept {
        Ok(Some(kept)) => kept,
        Ok(None) => return LuaNil.into_lua_multi(lua),
        Err(error) => return (LuaNil, error.to_string()).into_lua_multi(lua),
    };
    let room = lua.create_table()?;
    room.raw_set("configuration", lua.create_string(configuration)?)?;
    let by_nick = lua.create_table()?;
    for (nick, bytes) in occupants {
        by_nick.raw_set(nick, split(lua, &bytes)?)?;
    }
    room.raw_set("occupants", by_nick)?;
    let messages = lua.create_table()?;
    for bytes in history {
        messages.raw_push(split(lua, &bytes)?)?;
    }
    room.raw_set("history", messages)?;
    room.raw_set("lost", lost)?;
    room.into_lua_multi(lua)
}

pub fn table(lua: &Lua) -> LuaResult<LuaTable> {
    let muc = lua.create_table()?;
    muc.set("configure", lua.create_function(configure)?)?;
    muc.set("enter", lua.create_function(enter)?)?;
    muc.set("leave", lua.create_function(leave)?)?;
    muc.set("said", lua.create_function(said)?)?;
    muc.set("limit_history", lua.create_function(limit_history)?)?;
    muc.set("forget", lua.create_function(forget)?)?;
    muc.set("rooms", lua.create_function(rooms)?)?;
    muc.set("occupants", lua.create_function(occupants)?)?;
    muc.set("newer", lua.create_function(newer)?)?;
    muc.set("read", lua.create_function(read)?)?;
    Ok(muc)
}
