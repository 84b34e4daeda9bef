//! What rooms send to accounts.

use super::{Text, decisions, state};
use enjamb_muc_fork::chat;
use mlua::prelude::*;

/// `has(account, room)`: whether the account is in the room, or was just now.
fn has(_: &Lua, (account, room): (Text, Text)) -> LuaResult<bool> {
    Ok(state::with(|state| state.look().is_attended(&account, &room).is_some()))
}

/// `concerns(account, jid)`: whether what comes from there for the account, or goes there from it, may be of concern.
fn concerns(_: &Lua, (account, jid): (Text, Text)) -> LuaResult<bool> {
    Ok(state::with(|state| state.look().concerns(&account, &jid)))
}

/// `room_sends(stanza, available)`: a stanza to an account that is no groupchat message, as bytes. `available`: the account has clients that
/// take messages to it. Decisions, or `nil`.
fn room_sends(lua: &Lua, (stanza, available): (LuaString, bool)) -> LuaResult<Option<LuaTable>> {
    let stanza = stanza.as_bytes();
    let all = state::ask(|engine, now| engine.room_sends(&stanza, available, now));
    decisions::maybe(lua, all)
}

/// `pending()`: the decisions of the last groupchat message.
fn pending(lua: &Lua, (): ()) -> LuaResult<LuaTable> {
    decisions::table(lua, state::with(|state| state.take_pending()))
}

/// `is_new(account, from, stanza)`: whether a groupchat message, as bytes, is to be archived for the account.
fn is_new(_: &Lua, (account, from, stanza): (Text, Text, LuaString)) -> LuaResult<bool> {
    let stanza = stanza.as_bytes();
    let room = from.split_once('/').map_or(&*from, |(room, _)| room);
    Ok(state::ask_by_the_clock(|engine, now| engine.is_new(&account, room, &chat::read(&stanza, room), now)))
}

pub fn add(lua: &Lua, table: &LuaTable) -> LuaResult<()> {
    table.set("has", lua.create_function(has)?)?;
    table.set("concerns", lua.create_function(concerns)?)?;
    table.set("room_sends", lua.create_function(room_sends)?)?;
    table.set("pending", lua.create_function(pending)?)?;
    table.set("is_new", lua.create_function(is_new)?)
}
