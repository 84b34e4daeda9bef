//! What happens to accounts beside stanzas: devices, bookmarks, joins by iq, deletion.

use super::{Text, decisions, state};
use enjamb_muc_fork::input::FromClient;
use mlua::prelude::*;

/// `online(account)`: a device of the account is there. Decisions.
fn online(lua: &Lua, account: Text) -> LuaResult<LuaTable> {
    decisions::table(lua, state::ask(|engine, now| engine.online(&account, now)))
}

/// `pam_join(account, request)`: `resource`, `id`, `room` and `nick`. Decisions.
fn pam_join(lua: &Lua, (account, request): (Text, LuaTable)) -> LuaResult<LuaTable> {
    let field = |name| request.raw_get::<Text>(name);
    let (resource, id, room, nick) = (field("resource")?, field("id")?, field("room")?, field("nick")?);
    let from = FromClient { account: &account, resource: &resource, room: &room, nick: None, id: Some(&id) };
    decisions::table(lua, state::ask(|engine, now| engine.pam_join(from, &nick, now)))
}

/// `bookmark(account, room, bookmark, online)`: of a bookmark (XEP-0402) what tells which rooms the account joins: `autojoin`, `nick`
/// and `password`; `nil` if there is none any more. Decisions.
fn bookmark(
    lua: &Lua,
    (account, room, bookmark, online): (Text, Text, Option<LuaTable>, bool),
) -> LuaResult<LuaTable> {
    let (mut autojoin, mut nick, mut password) = (None, None, None);
    if let Some(bookmark) = bookmark {
        autojoin = Some(bookmark.raw_get::<bool>("autojoin")?);
        nick = bookmark.raw_get::<Option<Text>>("nick")?;
        password = bookmark.raw_get::<Option<Text>>("password")?;
    }
    let (nick, password) = (nick.as_deref(), password.as_deref());
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
