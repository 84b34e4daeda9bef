//! The functions of stream management that Lua calls directly, without mlua in between, because they run once per stanza or ack.
//!
//! Invariants of their `unsafe`: Lua calls them with a valid state; a panic is caught and becomes an error value; strings
//! are made as [`super::strings`] wants it.

use crate::boundary::strings::{PANICKED, integer, keep_scratch, push_failure, push_string, scratch};
use crate::clock::wall_clock;
use crate::state::{key, number, quickly, sessions};
use enjamb_stanza::Summary;
use enjamb_stream_management::{Ask, H, element};
use enjamb_walk::{self as walk, Only};
use mlua::ffi::{self, lua_State};
use mlua::prelude::*;
use std::ffi::c_int;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A stanza, written into the buffer.
struct Written {
    summary: Summary,
    /// Make a string of it: it is going to be sent as these bytes.
    to_send: bool,
}

/// Writes the stanza. `None`: it is none.
unsafe fn write_stanza(state: *mut lua_State, buffer: &mut Vec<u8>) -> Result<Option<Written>, String> {
    // SAFETY: `walk` wants a table at an absolute index; both are made sure of.
    unsafe {
        if ffi::lua_type(state, 2) != ffi::LUA_TTABLE {
            return Ok(None);
        }
        let walk::Walked { summary, declares_namespace } =
            walk::walk(state, 2, Only::Stanzas, buffer).map_err(|error| error.to_string())?;
        let to_send = !declares_namespace && ffi::lua_toboolean(state, 3) != 0;
        Ok(summary.map(|summary| Written { summary, to_send }))
    }
}

/// `push(key, stanza, want_bytes)`: queues a stanza on the stream `key`. To want bytes of what then is not sent costs a string.
///
/// - `nil`: it is no stanza, or the stream is gone; nothing was done.
/// - `bytes, over`: queued; send these bytes in its place. `over`, if there is one, is the key of a stream that has to
///   end, since too much is queued.
/// - `true, over`: queued; send the stanza as it is (`want_bytes` was false, or it declares its namespace).
/// - `false, over`: queued; do not send it, the client is away or is still being sent what is older.
/// - `nil, message`: it cannot be serialised; it was not queued.
/// - an error (there is no memory for the bytes): it was not queued.
unsafe extern "C-unwind" fn push(state: *mut lua_State) -> c_int {
    let mut buffer = scratch();
    // SAFETY: `state` comes from Lua, and a C function has room for some values. What `push_string` wants: the buffer and
    // the message are given to it, the rest needs no dropping.
    unsafe {
        let stream = integer(state, 1);
        let written = catch_unwind(AssertUnwindSafe(|| write_stanza(state, &mut buffer)))
            .unwrap_or_else(|_| Err(PANICKED.into()));
        let Written { summary, to_send } = match written {
            Ok(Some(written)) => written,
            Ok(None) => {
                keep_scratch(buffer);
                ffi::lua_pushnil(state);
                return 1;
            }
            Err(message) => {
                keep_scratch(buffer);
                return push_failure(state, message);
            }
        };
        ffi::lua_settop(state, 3);
        let queueing = if to_send {
            push_string(state, buffer);
            let bytes = walk::bytes(state, 4);
            catch_unwind(|| sessions(|s| s.push(key(stream), bytes, summary, wall_clock())))
        } else {
            let queueing = catch_unwind(|| sessions(|s| s.push(key(stream), &buffer, summary, wall_clock())));
            keep_scratch(buffer);
            queueing
        };
        let Ok(queueing) = queueing else { return push_failure(state, PANICKED.into()) };
        let Some(queueing) = queueing else {
            ffi::lua_pushnil(state);
            return 1;
        };
        let over_limit = queueing.over_limit.map(number);
        if !queueing.send {
            ffi::lua_pushboolean(state, 0);
        } else if !to_send {
            ffi::lua_pushboolean(state, 1);
        }
        match over_limit {
            Some(key) => ffi::lua_pushinteger(state, key),
            None => ffi::lua_pushnil(state),
        }
    }
    2
}

/// `ack(key, h)`: takes an `<a/>` that can be true: how many stanzas it covers, and how many are left; nothing if it cannot.
unsafe extern "C-unwind" fn ack(state: *mut lua_State) -> c_int {
    // SAFETY: `state` comes from Lua; the string stays on the stack.
    let taken = catch_unwind(AssertUnwindSafe(|| unsafe {
        if ffi::lua_type(state, 2) != ffi::LUA_TSTRING {
            return None;
        }
        let h: H = std::str::from_utf8(walk::bytes(state, 2)).ok()?.parse().ok()?;
        let stream = key(integer(state, 1));
        sessions(|s| s.ack(stream, h))
    }));
    let Ok(Some((acked, left))) = taken else { return 0 };
    // SAFETY: a C function has room for some values; nothing is borrowed here.
    unsafe {
        ffi::lua_pushinteger(state, acked as i64);
        ffi::lua_pushinteger(state, left as i64);
    }
    2
}

/// `received(key, before, name, xmlns)`: the count after one more element of that name, and whether it may have changed what is
/// kept of its session (true or nothing); nothing at all if it is no stanza.
unsafe extern "C-unwind" fn received(state: *mut lua_State) -> c_int {
    // SAFETY: `state` comes from Lua; the strings stay on the stack.
    let counted = catch_unwind(AssertUnwindSafe(|| unsafe {
        if ffi::lua_type(state, 3) != ffi::LUA_TSTRING {
            return None;
        }
        let xmlns = match ffi::lua_type(state, 4) {
            ffi::LUA_TNIL | ffi::LUA_TNONE => None,
            ffi::LUA_TSTRING => Some(walk::bytes(state, 4)),
            _ => return None,
        };
        let name = element::stanza(walk::bytes(state, 3), xmlns)?;
        // The count lives in a session field that anybody can set; modulo 2^32 every number is one.
        let (stream, before) = (key(integer(state, 1)), H(integer(state, 2) as u32));
        let received = quickly(|s| s.received(stream, before));
        Some((received.unwrap_or(before.plus(1)), element::may_change_session(name)))
    }));
    let Ok(Some((H(count), may_change))) = counted else { return 0 };
    // SAFETY: a C function has room for some values; nothing is borrowed here.
    unsafe {
        ffi::lua_pushinteger(state, i64::from(count));
        if !may_change {
            return 1;
        }
        ffi::lua_pushboolean(state, 1);
    }
    2
}

/// `answer(key, stamped, waiting)`: what an `<a/>` may say that answers an `<r/>`, or nil. `stamped` is the count as it was when the
/// `<r/>` came in; without it, all but `waiting` of what came in has been processed.
unsafe extern "C-unwind" fn answer(state: *mut lua_State) -> c_int {
    // SAFETY: `state` comes from Lua; a C function has room for some values.
    unsafe {
        let stream = key(integer(state, 1));
        let stamped = (ffi::lua_type(state, 2) == ffi::LUA_TNUMBER).then(|| H(integer(state, 2) as u32));
        let waiting = usize::try_from(integer(state, 3)).unwrap_or_default();
        match catch_unwind(|| quickly(|s| s.get(stream)?.answer(stamped, waiting))).unwrap_or_default() {
            Some(H(h)) => ffi::lua_pushinteger(state, i64::from(h)),
            None => ffi::lua_pushnil(state),
        }
    }
    1
}

/// `wants_ack(key, inactive, force, now)`: true, false, or in how many milliseconds to ask again.
unsafe extern "C-unwind" fn wants_ack(state: *mut lua_State) -> c_int {
    // SAFETY: `state` comes from Lua; a C function has room for some values.
    unsafe {
        let stream = key(integer(state, 1));
        let (inactive, force) = (ffi::lua_toboolean(state, 2) != 0, ffi::lua_toboolean(state, 3) != 0);
        let now = integer(state, 4);
        let now = u64::try_from(now).unwrap_or_default();
        let ask = || sessions(|s| s.update(stream, |s| s.wants_ack(inactive, force, now)));
        match catch_unwind(ask).ok().flatten().unwrap_or(Ask::No) {
            Ask::No => ffi::lua_pushboolean(state, 0),
            Ask::Now => ffi::lua_pushboolean(state, 1),
            Ask::In(ms) => ffi::lua_pushinteger(state, ms as i64),
        }
    }
    1
}

unsafe fn write(state: *mut lua_State, only: Only) -> c_int {
    let mut buffer = scratch();
    // SAFETY: `state` comes from Lua; a table is made sure of. As in `push`.
    unsafe {
        let result = catch_unwind(AssertUnwindSafe(|| {
            if ffi::lua_type(state, 1) != ffi::LUA_TTABLE {
                return Err("a stanza must be a table".to_owned());
            }
            walk::walk(state, 1, only, &mut buffer).map(drop).map_err(|e| e.to_string())
        }))
        .unwrap_or_else(|_| Err(PANICKED.into()));
        ffi::lua_settop(state, 1);
        match result {
            Ok(()) => {
                push_string(state, buffer);
                1
            }
            Err(message) => {
                keep_scratch(buffer);
                push_failure(state, message)
            }
        }
    }
}

/// `serialize(stanza)`: the bytes of any element, as `tostring` gives them; or `nil, message`.
unsafe extern "C-unwind" fn serialize(state: *mut lua_State) -> c_int {
    // SAFETY: `state` comes from Lua.
    unsafe { write(state, Only::Everything) }
}

/// `start_tag(stanza)`: the start tag of any element, as `top_tag` gives it; or `nil, message`.
unsafe extern "C-unwind" fn start_tag(state: *mut lua_State) -> c_int {
    // SAFETY: `state` comes from Lua.
    unsafe { write(state, Only::StartTag) }
}

pub fn push_function(lua: &Lua) -> LuaResult<LuaFunction> {
    // SAFETY: the functions keep to Lua's protocol, see above.
    unsafe { walk::function(lua, push) }
}

pub fn ack_function(lua: &Lua) -> LuaResult<LuaFunction> {
    // SAFETY: as above.
    unsafe { lua.create_c_function(ack) }
}

pub fn answer_function(lua: &Lua) -> LuaResult<LuaFunction> {
    // SAFETY: as above.
    unsafe { lua.create_c_function(answer) }
}

pub fn received_function(lua: &Lua) -> LuaResult<LuaFunction> {
    // SAFETY: as above.
    unsafe { lua.create_c_function(received) }
}

pub fn wants_ack_function(lua: &Lua) -> LuaResult<LuaFunction> {
    // SAFETY: as above.
    unsafe { lua.create_c_function(wants_ack) }
}

pub fn serialize_function(lua: &Lua) -> LuaResult<LuaFunction> {
    // SAFETY: as above.
    unsafe { walk::function(lua, serialize) }
}

pub fn start_tag_function(lua: &Lua) -> LuaResult<LuaFunction> {
    // SAFETY: as above.
    unsafe { walk::function(lua, start_tag) }
}
