//! What clients send to rooms, and clients that are gone.

use super::{Text, decisions, state};
use mlua::prelude::*;

/// `client_sends(account, resource, stanza, to_account)`: a client's stanza to somebody, as bytes with their `to`. `to_account`: that is at a
/// host of this server that has accounts. Decisions, or `nil`.
fn client_sends(
    lua: &Lua,
    (account, resource, stanza, to_account): (Text, Text, LuaString, bool),
) -> LuaResult<Option<LuaTable>> {
    let stanza = stanza.as_bytes();
    let all = state::ask(|engine, now| engine.client_sends(&account, &resource, &stanza, to_account, now));
    decisions::maybe(lua, all)
}

/// `client_gone(account, resource, online, stanza)`: a client's session ended; or it sent unavailable presence to everybody, which is
/// `stanza`, as bytes. `online`: the account has another session. Decisions.
fn client_gone(
    lua: &Lua,
    (account, resource, online, stanza): (Text, Text, bool, Option<LuaString>),
) -> LuaResult<LuaTable> {
    let stanza = stanza.as_ref().map(LuaString::as_bytes);
    let all =
        state::ask(|engine, now| engine.session_gone(&account, &resource, stanza.as_deref(), online, now));
    decisions::table(lua, all)
}

/// `replaced(account, resource)`: a client's session ended since another one has its resource. Decisions.
fn replaced(lua: &Lua, (account, resource): (Text, Text)) -> LuaResult<LuaTable> {
    decisions::table(lua, state::ask(|engine, now| engine.replaced(&account, &resource, now)))
}

pub fn add(lua: &Lua, table: &LuaTable) -> LuaResult<()> {
    table.set("client_sends", lua.create_function(client_sends)?)?;
    table.set("client_gone", lua.create_function(client_gone)?)?;
    table.set("replaced", lua.create_function(replaced)?)
}
