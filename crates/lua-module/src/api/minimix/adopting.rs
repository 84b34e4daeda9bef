//! Accounts whose rooms outlived the restart, and have them still.

use super::memberships::{TakenUp, take_up};
use super::{Text, decisions, state};
use enjamb_muc_fork::Remembered;
use mlua::prelude::*;

/// What the room would tell the account now, as mod_muc_enjamb has it: stanzas are bytes without `to`.
struct Told {
    nick: Text,
    own: LuaString,
    shown: LuaString,
    /// Of the occupants, beside their presences.
    nicks: Vec<Text>,
    presences: Vec<LuaString>,
    history: Vec<LuaString>,
    subject: LuaString,
}

impl FromLua for Told {
    fn from_lua(value: LuaValue, lua: &Lua) -> LuaResult<Told> {
        let table = LuaTable::from_lua(value, lua)?;
        Ok(Told {
            nick: table.get("nick")?,
            own: table.get("own")?,
            shown: table.get("shown")?,
            nicks: table.get("nicks")?,
            presences: table.get("presences")?,
            history: table.get("history")?,
            subject: table.get("subject")?,
        })
    }
}

/// `adopt(account, room, kept, there, told)`: see [`take_up`] and [`Told`]. Decisions.
fn adopt(
    lua: &Lua,
    (account, room, kept, there, told): (Text, String, LuaValue, Vec<String>, Told),
) -> LuaResult<LuaTable> {
    let TakenUp { restored, online, all_back } = take_up(lua, room, kept, &there)?;
    let (own, shown, subject) = (told.own.as_bytes(), told.shown.as_bytes(), told.subject.as_bytes());
    let presences: Vec<_> = told.presences.iter().map(LuaString::as_bytes).collect();
    let history: Vec<_> = told.history.iter().map(LuaString::as_bytes).collect();
    let remembered = Remembered {
        nick: &told.nick,
        own: &own,
        shown: &shown,
        all_back,
        occupants: told
            .nicks
            .iter()
            .map(|nick| &**nick)
            .zip(presences.iter().map(|bytes| &**bytes))
            .collect(),
        history: history.iter().map(|bytes| &**bytes).collect(),
        subject: &subject,
    };
    let all =
        state::ask_by_the_clock(|engine, now| engine.adopt(&account, restored, &remembered, online, now));
    decisions::table(lua, all)
}

/// `lacks_jids(account, room)`: whether the room would show real JIDs now that it has not told the account.
fn lacks_jids(_: &Lua, (account, room): (Text, Text)) -> LuaResult<bool> {
    Ok(state::with(|state| state.look().lacks_jids(&account, &room)))
}

/// `show_jids(account, room, told)`: what the room would tell the account now, for clients that join later.
fn show_jids(_: &Lua, (account, room, told): (Text, Text, Told)) -> LuaResult<()> {
    let presences: Vec<_> = told.presences.iter().map(LuaString::as_bytes).collect();
    let occupants = told.nicks.iter().map(|nick| &**nick).zip(presences.iter().map(|bytes| &**bytes));
    state::ask(|engine, _| engine.show_jids(&account, &room, occupants));
    Ok(())
}

pub fn add(lua: &Lua, table: &LuaTable) -> LuaResult<()> {
    table.set("adopt", lua.create_function(adopt)?)?;
    table.set("lacks_jids", lua.create_function(lacks_jids)?)?;
    table.set("show_jids", lua.create_function(show_jids)?)
}
