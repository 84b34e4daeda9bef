//! `enjamb-replica.so`: what `require "enjamb"` finds where there is to be a replica.

use mlua::prelude::*;

#[mlua::lua_module]
fn enjamb(lua: &Lua) -> LuaResult<LuaTable> {
    ::enjamb::table(lua)
}
