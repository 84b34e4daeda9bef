//! What happens to accounts beside stanzas: devices, bookmarks, joins by iq, deletion.

use super::{Text, decisions, state};
use enjamb_muc_fork::input::FromClient;
use mlua::prelude::*;
use serde::Deserialize;

/// A bookmark (XEP-0402), as far as it tells which rooms the account joins.
#[derive(Deserialize)]
struct Bookmark {
    autojoin: bool,
    nick: Option<String>,
    password: Option<String>,
}

/// A request for the account to join (MUC2-PAM).
#[derive(Deserialize)]
struct PamJoin {
    resource: String,
    id: String,
    room: String,
    nick: String,
}

/// `online(account)`: a device of the account is there. Decisions.
fn online(lua: &Lua, account: Text) -> LuaResult<LuaTable> {
    decisions::table(lua, state::ask(|engine, now| engine.online(&account, now)))
}

/// `pam_join(account, request)`: `resource`, `id`, `room` and `nick`. Decisions.
fn pam_join(lua: &Lua, (account, request): (Text, LuaValue)) -> LuaResult<LuaTable> {
    let PamJoin { resource, id, room, nick } = lua.from_value(request)?;
    let from = FromClient { account: &account, resource: &resource, room: &room, nick: None, id: Some(&id) };
    decisions::table(lua, state::ask(|engine, now| engine.pam_join(from, &nick, now)))
}

/// `bookmark(account, room, bookmark, online)`: `autojoin`, `nick` and `password`; `nil` if there is none any more. Decisions.
fn bookmark(
    lua: &Lua,
    (account, room, bookmark, online): (Text, Text, LuaValue, bool),
) -> LuaResult<LuaTable> {
    let bookmark: Option<Bookmark> = lua.from_value(bookmark)?;
    let (autojoin, nick, password) = match &bookmark {
        Some(b) => (Some(b.autojoin), b.nick.as_deref(), b.password.as_deref()),
        None => (None, None, None),
    };
    let all =
        state::ask(|engine, now| engine.bookmark(&account, &room, autojoin, nick, password, online, now));
    decisions::table(lua, all)
}

/// `bookmarks_known(account, known)`: whether the account's bookmarks could be read.
fn bookmarks_known(_: &Lua, (account, known): (Text, bool)) -> LuaResult<()> {
    state::ask(|engine, now| engine.bookmarks_known(&account, known, now));
    Ok(())
}

/// `account_deleted(account)`. Decisions.
fn account_deleted(lua: &Lua, account: Text) -> LuaResult<LuaTable> {
    decisions::table(lua, state::ask(|engine, _| engine.account_deleted(&account)))
}

/// `clients(account, room)`: the account's nickname and an array of resources; `nil` if it is not in the room.
fn clients(_: &Lua, (account, room): (Text, Text)) -> LuaResult<(Option<String>, Option<Vec<String>>)> {
    Ok(state::with(|state| state.look().clients(&account, &room)).unzip())
}

pub fn add(lua: &Lua, table: &LuaTable) -> LuaResult<()> {
    table.set("online", lua.create_function(online)?)?;
    table.set("pam_join", lua.create_function(pam_join)?)?;
    table.set("bookmark", lua.create_function(bookmark)?)?;
    table.set("bookmarks_known", lua.create_function(bookmarks_known)?)?;
    table.set("account_deleted", lua.create_function(account_deleted)?)?;
    table.set("clients", lua.create_function(clients)?)
}
