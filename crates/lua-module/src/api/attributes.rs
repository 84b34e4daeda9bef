//! What is known of a session, as a Lua table and back.
//!
//! By hand: a Lua table may be a list and something else as well, and one entry that is no data must not take the others with it.

use enjamb_sessions::{Bytes, State, Value};
use mlua::prelude::*;
use std::ffi::c_void;

/// Tables within tables, and values in all of them, of one entry. What has more is left out.
const DEEPEST: usize = 64;
const MOST: usize = 1 << 20;

/// Reads a table of what is known. What is no data, or not of the type that it should be, is left out.
pub fn state(table: &LuaTable) -> LuaResult<State> {
    let mut state = State::default();
    table.for_each(|name: LuaValue, value: LuaValue| {
        let LuaValue::String(name) = name else { return Ok(()) };
        let name = name.to_str()?;
        let mut reader = Reader { within: Vec::new(), left: MOST };
        if let Some(value) = reader.read(value)?
            && let Err(error) = state.set(&name, value)
        {
            tracing::warn!("what is known of a session as '{}' is not kept: {error}", &*name);
        }
        Ok(())
    })?;
    Ok(state)
}

/// Reads one entry.
struct Reader {
    /// The tables that it is in the middle of: none is in itself.
    within: Vec<*const c_void>,
    left: usize,
}

impl Reader {
    fn read(&mut self, value: LuaValue) -> LuaResult<Option<Value>> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        self.left = left;
        Ok(match value {
            LuaValue::Boolean(b) => Some(Value::Boolean(b)),
            LuaValue::Integer(n) => Some(Value::Integer(n)),
            LuaValue::Number(x) => Some(Value::Number(x)),
            LuaValue::String(text) => Some(Value::Text(Bytes(text.as_bytes().to_vec()))),
            LuaValue::Table(table) => {
                let itself = table.to_pointer();
                if self.within.len() >= DEEPEST || self.within.contains(&itself) {
                    return Ok(None);
                }
                self.within.push(itself);
                let mut entries = Vec::new();
                table.for_each(|key: LuaValue, value: LuaValue| {
                    if !key.is_table()
                        && let Some(key) = self.read(key)?
                        && let Some(value) = self.read(value)?
                    {
                        entries.push((key, value));
                    }
                    Ok(())
                })?;
                self.within.pop();
                Some(Value::table(entries))
            }
            _ => None,
        })
    }
}

/// The table that [`state`] reads as that.
pub fn table(lua: &Lua, state: State) -> LuaResult<LuaTable> {
    let table = lua.create_table()?;
    state.entries().into_iter().try_for_each(|(name, value)| table.raw_set(name, plain(lua, value)?))?;
    Ok(table)
}

fn plain(lua: &Lua, value: Value) -> LuaResult<LuaValue> {
    Ok(match value {
        Value::Boolean(b) => LuaValue::Boolean(b),
        Value::Integer(n) => LuaValue::Integer(n),
        Value::Number(x) => LuaValue::Number(x),
        Value::Text(Bytes(text)) => LuaValue::String(lua.create_string(&text)?),
        Value::Table(entries) => {
            let table = lua.create_table()?;
            for (key, value) in entries {
                table.raw_set(plain(lua, key)?, plain(lua, value)?)?;
            }
            LuaValue::Table(table)
        }
    })
}
