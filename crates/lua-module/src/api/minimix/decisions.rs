//! Decisions as Lua's tables: `what`, and what belongs to that.

use enjamb_muc_fork::{Decision, Edit, Id, Outcome};
use mlua::prelude::*;

fn codes(lua: &Lua, codes: &[u16]) -> LuaResult<LuaTable> {
    let set = lua.create_table_with_capacity(0, codes.len())?;
    for code in codes {
        set.raw_set(code.to_string(), true)?;
    }
    Ok(set)
}

fn set_edit(lua: &Lua, table: &LuaTable, edit: Edit) -> LuaResult<()> {
    if let Some(from) = edit.from {
        table.raw_set("from", from)?;
    }
    set_id(table, edit.id)?;
    if !edit.without.is_empty() {
        table.raw_set("without", codes(lua, edit.without)?)?;
    }
    if !edit.with.is_empty() {
        table.raw_set("with", codes(lua, &edit.with)?)?;
    }
    if let Some((from, at)) = edit.delay {
        table.raw_set("delay_from", from)?;
        table.raw_set("delay_at", at)?;
    }
    Ok(())
}

/// `nil`: as it is; `false`: none.
fn set_id(table: &LuaTable, id: Id) -> LuaResult<()> {
    match id {
        Id::Keep => Ok(()),
        Id::Remove => table.raw_set("id", false),
        Id::Set(id) => table.raw_set("id", id),
    }
}

fn decision(lua: &Lua, decision: Decision) -> LuaResult<LuaTable> {
    let table = lua.create_table()?;
    match decision {
        Decision::Forward { resource, edit } => {
            table.raw_set("what", "forward")?;
            table.raw_set("resource", &*resource)?;
            set_edit(lua, &table, edit)?;
        }
        Decision::Serve { account, resource, stanza, edit } => {
            table.raw_set("what", "serve")?;
            table.raw_set("account", &*account)?;
            table.raw_set("resource", &*resource)?;
            table.raw_set("stanza", lua.create_string(&*stanza)?)?;
            set_edit(lua, &table, edit)?;
        }
        Decision::ToRoom { to, id } => {
            table.raw_set("what", "room")?;
            table.raw_set("to", to)?;
            set_id(&table, id)?;
        }
        Decision::Send { stanza } => {
            table.raw_set("what", "send")?;
            table.raw_set("stanza", lua.create_string(&stanza)?)?;
        }
        Decision::Refuse { condition } => {
            table.raw_set("what", "refuse")?;
            table.raw_set("type", condition.kind)?;
            table.raw_set("condition", condition.name)?;
            table.raw_set("text", condition.text)?;
        }
        Decision::Store => table.raw_set("what", "store")?,
        Decision::WakeDevices => table.raw_set("what", "wake")?,
        Decision::Answer => table.raw_set("what", "answer")?,
        Decision::Joined { account, resource, id, room, outcome } => {
            table.raw_set("what", "joined")?;
            table.raw_set("account", &*account)?;
            table.raw_set("resource", &*resource)?;
            table.raw_set("id", &*id)?;
            table.raw_set("room", &*room)?;
            match outcome {
                Outcome::In(nick) => table.raw_set("nick", &*nick)?,
                Outcome::Refused => {}
                Outcome::Failed(condition) => {
                    table.raw_set("type", condition.kind)?;
                    table.raw_set("condition", condition.name)?;
                    table.raw_set("text", condition.text)?;
                }
            }
        }
        Decision::Persist { account } => {
            table.raw_set("what", "persist")?;
            table.raw_set("account", &*account)?;
        }
    }
    Ok(table)
}

/// An array of decisions.
pub fn table(lua: &Lua, all: Vec<Decision>) -> LuaResult<LuaTable> {
    let array = lua.create_table_with_capacity(all.len(), 0)?;
    for (i, one) in all.into_iter().enumerate() {
        array.raw_set(i + 1, decision(lua, one)?)?;
    }
    Ok(array)
}

/// The same, or `nil`.
pub fn maybe(lua: &Lua, all: Option<Vec<Decision>>) -> LuaResult<Option<LuaTable>> {
    all.map(|all| table(lua, all)).transpose()
}
