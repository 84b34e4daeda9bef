//! `enjamb.so`: what `require "enjamb"` finds.

use mlua::prelude::*;

#[mlua::lua_module]
fn enjamb(lua: &Lua) -> LuaResult<LuaTable> {
    ::enjamb::table(lua)
}
