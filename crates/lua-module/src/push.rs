//! The functions that Lua calls directly, without mlua in between, because they run once per stanza or ack.
//!
//! Invariants of their `unsafe`: Lua calls them with a valid state; everything they borrow (the scratch buffer, the
//! registry) is given back before a Lua function that can raise an error is called; a panic is caught and becomes an
//! error value.

use crate::minimix::{self, Groupchat};
use crate::smacks;
use crate::walk::{self, Only};
use enjamb_stream_management::Ask;
use mlua::ffi::{self, lua_State};
use mlua::prelude::*;
use std::cell::{Cell, RefCell};
use std::ffi::c_int;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{SystemTime, UNIX_EPOCH};

/// A scratch buffer that grew beyond this for one stanza is given back after it.
const KEPT_SCRATCH: usize = 64 << 10;

thread_local! {
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    /// Resources of the clients that get a copy.
    static COPIES: RefCell<Vec<Box<str>>> = const { RefCell::new(Vec::new()) };
}

fn keep_scratch(mut buffer: Vec<u8>) {
    if buffer.capacity() <= KEPT_SCRATCH {
        buffer.clear();
        SCRATCH.set(buffer);
    }
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// The integer at `index`; 0 if there is none.
unsafe fn integer(state: *mut lua_State, index: c_int) -> i64 {
    // SAFETY: the caller gives a valid state and index; a number is read, a string is not changed.
    unsafe { ffi::lua_tointegerx(state, index, std::ptr::null_mut()) }
}

enum Answer {
    /// Not a stanza, or no such stream: nothing was done.
    Untouched,
    /// Queued, to be sent.
    Send { over_limit: Option<i64>, bytes_serve: bool },
    /// Queued, not to be sent.
    Hold { over_limit: Option<i64> },
    /// Neither queued nor to be sent.
    Failed(String),
}

unsafe fn queue(state: *mut lua_State, buffer: &mut Vec<u8>) -> Answer {
    // SAFETY: `walk` wants a table at an absolute index; both are made sure of.
    unsafe {
        if ffi::lua_type(state, 2) != ffi::LUA_TTABLE {
            return Answer::Untouched;
        }
        let key = integer(state, 1);
        match walk::walk(state, 2, Only::Stanzas, buffer) {
            Err(error) => Answer::Failed(error.to_string()),
            Ok(walk::Walked { summary: None, .. }) => Answer::Untouched,
            Ok(walk::Walked { summary: Some(summary), declares_namespace }) => {
                match smacks::push(key, buffer, summary, now()) {
                    None => Answer::Untouched,
                    Some(queueing) => {
                        let over_limit = queueing.over_limit.map(smacks::number);
                        match queueing.send {
                            true => Answer::Send { over_limit, bytes_serve: !declares_namespace },
                            false => Answer::Hold { over_limit },
                        }
                    }
                }
            }
        }
    }
}

/// `push(key, stanza, want_bytes)`: queues a stanza on the stream `key`.
///
/// - `nil`: it is no stanza, or the stream is gone; nothing was done.
/// - `bytes, over`: queued; send these bytes in its place. `over`, if there is one, is the key of a stream that has to
///   end, since too much is queued.
/// - `true, over`: queued; send the stanza as it is (`want_bytes` was false, or it declares its namespace).
/// - `false, over`: queued; do not send it, the client is away or is still being sent what is older.
/// - `nil, message`: it cannot be serialised; it was not queued.
unsafe extern "C-unwind" fn push(state: *mut lua_State) -> c_int {
    let mut buffer = SCRATCH.take();
    // SAFETY: `state` comes from Lua.
    let answer =
        catch_unwind(AssertUnwindSafe(|| unsafe { queue(state, &mut buffer) })).unwrap_or_else(|_| {
            Answer::Failed("internal error while serialising a stanza, please report it".into())
        });
    // SAFETY: nothing is borrowed here. Should Lua raise an out-of-memory error in a push, the buffer leaks.
    unsafe {
        ffi::lua_settop(state, 3);
        let results = match answer {
            Answer::Untouched => {
                ffi::lua_pushnil(state);
                1
            }
            Answer::Send { over_limit, bytes_serve } => {
                if bytes_serve && ffi::lua_toboolean(state, 3) != 0 {
                    ffi::lua_pushlstring(state, buffer.as_ptr().cast(), buffer.len());
                } else {
                    ffi::lua_pushboolean(state, 1);
                }
                if let Some(key) = over_limit {
                    ffi::lua_pushinteger(state, key);
                }
                1 + c_int::from(over_limit.is_some())
            }
            Answer::Hold { over_limit } => {
                ffi::lua_pushboolean(state, 0);
                match over_limit {
                    Some(key) => ffi::lua_pushinteger(state, key),
                    None => ffi::lua_pushnil(state),
                }
                2
            }
            Answer::Failed(message) => {
                ffi::lua_pushnil(state);
                ffi::lua_pushlstring(state, message.as_ptr().cast(), message.len());
                2
            }
        };
        keep_scratch(buffer);
        results
    }
}

/// `ack(key, h)`: takes an `<a/>` that can be true: how many stanzas it covers, and how many are left; nothing if it cannot.
unsafe extern "C-unwind" fn ack(state: *mut lua_State) -> c_int {
    // SAFETY: `state` comes from Lua; the string stays on the stack.
    let taken = catch_unwind(AssertUnwindSafe(|| unsafe {
        if ffi::lua_type(state, 2) != ffi::LUA_TSTRING {
            return None;
        }
        let key = integer(state, 1);
        smacks::ack(key, walk::bytes(state, 2))
    }));
    let Ok(Some((acked, left))) = taken else { return 0 };
    // SAFETY: a C function has room for some values; nothing is borrowed here.
    unsafe {
        ffi::lua_pushinteger(state, acked as i64);
        ffi::lua_pushinteger(state, left as i64);
    }
    2
}

/// `received(key, before)`: the count after one more stanza.
unsafe extern "C-unwind" fn received(state: *mut lua_State) -> c_int {
    // SAFETY: `state` comes from Lua; a C function has room for some values.
    unsafe {
        let key = integer(state, 1);
        // The count lives in a session field that anybody can set; modulo 2^32 every number is one.
        let before = integer(state, 2) as u32;
        let count = catch_unwind(|| smacks::received(key, before)).unwrap_or(before);
        ffi::lua_pushinteger(state, i64::from(count));
    }
    1
}

/// `wants_ack(key, inactive, force, now)`: true, false, or in how many milliseconds to ask again.
unsafe extern "C-unwind" fn wants_ack(state: *mut lua_State) -> c_int {
    // SAFETY: as in `received`.
    unsafe {
        let key = integer(state, 1);
        let (inactive, force) = (ffi::lua_toboolean(state, 2) != 0, ffi::lua_toboolean(state, 3) != 0);
        let now = integer(state, 4);
        let now = u64::try_from(now).unwrap_or_default();
        match catch_unwind(|| smacks::wants_ack(key, inactive, force, now)).unwrap_or(Ask::No) {
            Ask::No => ffi::lua_pushboolean(state, 0),
            Ask::Now => ffi::lua_pushboolean(state, 1),
            Ask::In(ms) => ffi::lua_pushinteger(state, ms as i64),
        }
    }
    1
}

unsafe fn write(state: *mut lua_State, only: Only) -> c_int {
    let mut buffer = SCRATCH.take();
    // SAFETY: `state` comes from Lua; a table is made sure of.
    let result = catch_unwind(AssertUnwindSafe(|| unsafe {
        if ffi::lua_type(state, 1) != ffi::LUA_TTABLE {
            return Err("a stanza must be a table".to_owned());
        }
        walk::walk(state, 1, only, &mut buffer).map_err(|e| e.to_string())
    }))
    .unwrap_or_else(|_| Err("internal error while serialising a stanza, please report it".into()));
    // SAFETY: as in `push`.
    unsafe {
        ffi::lua_settop(state, 1);
        let results = match result {
            Ok(_) => {
                ffi::lua_pushlstring(state, buffer.as_ptr().cast(), buffer.len());
                1
            }
            Err(message) => {
                ffi::lua_pushnil(state);
                ffi::lua_pushlstring(state, message.as_ptr().cast(), message.len());
                2
            }
        };
        keep_scratch(buffer);
        results
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

unsafe fn distribute(state: *mut lua_State, buffer: &mut Vec<u8>) -> Result<Groupchat, String> {
    // SAFETY: `walk` wants a table at an absolute index, which is made sure of; strings stay on the stack.
    unsafe {
        if ffi::lua_type(state, 4) != ffi::LUA_TTABLE
            || ffi::lua_type(state, 1) != ffi::LUA_TSTRING
            || ffi::lua_type(state, 2) != ffi::LUA_TSTRING
        {
            return Err("wants account, from, id and a stanza".to_owned());
        }
        walk::walk(state, 4, Only::Everything, buffer).map_err(|e| e.to_string())?;
        let account = walk::bytes(state, 1);
        let from = walk::bytes(state, 2);
        let id = (ffi::lua_type(state, 3) == ffi::LUA_TSTRING).then(|| walk::bytes(state, 3));
        COPIES.with_borrow_mut(|copies| {
            copies.clear();
            Ok(minimix::groupchat(account, from, id, buffer, |resource| copies.push(resource.into())))
        })
    }
}

/// `groupchat(account, from, id, stanza)`: a groupchat message, without `to`, for an account.
///
/// - nothing: it is none of ours.
/// - `false, resources...`: these clients get a copy.
/// - `true, resources...`: the same, after the decisions that `pending` gives.
/// - `message`: it cannot be serialised.
unsafe extern "C-unwind" fn groupchat(state: *mut lua_State) -> c_int {
    let mut buffer = SCRATCH.take();
    // SAFETY: `state` comes from Lua.
    let result = catch_unwind(AssertUnwindSafe(|| unsafe { distribute(state, &mut buffer) }))
        .unwrap_or_else(|_| Err("internal error while distributing a message, please report it".into()));
    let copies = COPIES.take();
    // SAFETY: nothing is borrowed here. Should Lua raise an out-of-memory error in a push, the vectors leak.
    unsafe {
        ffi::lua_settop(state, 4);
        let mut results = 0;
        match result {
            Ok(Groupchat::NotOurs) => {}
            Ok(Groupchat::Copies(pending)) if ffi::lua_checkstack(state, copies.len() as c_int + 2) != 0 => {
                ffi::lua_pushboolean(state, c_int::from(pending));
                for resource in &copies {
                    ffi::lua_pushlstring(state, resource.as_ptr().cast(), resource.len());
                }
                results = 1 + copies.len() as c_int;
            }
            Ok(Groupchat::Copies(_)) => {
                ffi::lua_pushboolean(state, 0);
                results = 1;
            }
            Err(message) => {
                ffi::lua_pushlstring(state, message.as_ptr().cast(), message.len());
                results = 1;
            }
        }
        COPIES.set(copies);
        keep_scratch(buffer);
        results
    }
}

pub fn groupchat_function(lua: &Lua) -> LuaResult<LuaFunction> {
    // SAFETY: the functions keep to Lua's protocol, see above.
    unsafe { walk::function(lua, groupchat) }
}

pub fn push_function(lua: &Lua) -> LuaResult<LuaFunction> {
    // SAFETY: the functions keep to Lua's protocol, see above.
    unsafe { walk::function(lua, push) }
}

pub fn ack_function(lua: &Lua) -> LuaResult<LuaFunction> {
    // SAFETY: as above.
    unsafe { lua.create_c_function(ack) }
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
