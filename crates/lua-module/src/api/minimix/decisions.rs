//! Decisions as Lua's tables: `what`, and what belongs to that.

use super::state;
use crate::api::direct::{Copies, Served};
use enjamb_muc_fork::{Decision, Id, Outcome};
use mlua::prelude::*;

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
        // Of a message or an iq: presences are served as bytes.
        Decision::Forward { resource, edit } => {
            table.raw_set("what", "forward")?;
            table.raw_set("resource", &*resource)?;
            table.raw_set("from", edit.from)?;
            set_id(&table, edit.id)?;
        }
        Decision::Serve { account, resource, stanza, edit } => {
            let mut copies = Copies::default();
            copies.add(stanza, edit);
            serve(&table, &account, &resource, copies)?;
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
        Decision::PersistSoon { account } => {
            table.raw_set("what", "persist_soon")?;
            table.raw_set("account", &*account)?;
        }
    }
    Ok(table)
}

fn serve(table: &LuaTable, account: &str, resource: &str, copies: Copies) -> LuaResult<()> {
    table.raw_set("what", "serve")?;
    table.raw_set("account", account)?;
    table.raw_set("resource", resource)?;
    table.raw_set("n", copies.len())?;
    table.raw_set("copies", copies)
}

/// An array of decisions. What a client is served with nothing else to do in between is one of them: `copies` and how many.
pub fn table(lua: &Lua, mut all: Vec<Decision>) -> LuaResult<LuaTable> {
    state::with(|minimix| minimix.withhold(&mut all));
    let array = lua.create_table()?;
    let mut served = Served::default();
    let flush = |served: &mut Served| {
        served.take().into_iter().try_for_each(|(account, resource, copies)| {
            let table = lua.create_table()?;
            serve(&table, &account, &resource, copies)?;
            array.raw_push(table)
        })
    };
    for one in all {
        match one {
            Decision::Serve { account, resource, stanza, edit } => {
                served.add(account, resource, stanza, edit);
            }
            other => {
                flush(&mut served)?;
                array.raw_push(decision(lua, other)?)?;
            }
        }
    }
    flush(&mut served)?;
    Ok(array)
}

/// The same, or `nil`.
pub fn maybe(lua: &Lua, all: Option<Vec<Decision>>) -> LuaResult<Option<LuaTable>> {
    all.map(|all| table(lua, all)).transpose()
}
