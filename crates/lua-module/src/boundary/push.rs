//! The functions that Lua calls directly, without mlua in between, because they run once per stanza or ack.
//!
//! Invariants of their `unsafe`: Lua calls them with a valid state; a panic is caught and becomes an error value.
//!
//! Making a Lua string can raise an error, if there is no memory, which leaves the function at once (`longjmp`): nothing
//! is dropped, nothing after it happens. So whatever is to be a string is made one ([`push_string`]) before anything
//! changes, and at that point nothing is borrowed and nothing is owned but by a thread-local. What comes after a change
//! (numbers, booleans, values that are on the stack already) needs no memory.

use crate::api::minimix::{self, Groupchat};
use crate::api::smacks;
use crate::boundary::walk::{self, Only};
use crate::state::number;
use enjamb_stanza::Summary;
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
    /// The groupchat message in hand, while strings are made.
    static BYTES: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    /// Resources of the clients that may get a copy, and which of them do. Their strings are on the stack, in this order.
    static CLIENTS: RefCell<Vec<Box<str>>> = const { RefCell::new(Vec::new()) };
    static COPIES: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// The scratch buffer, empty.
fn scratch() -> Vec<u8> {
    let mut buffer = SCRATCH.take();
    buffer.clear();
    buffer
}

fn keep_scratch(buffer: Vec<u8>) {
    if buffer.capacity() <= KEPT_SCRATCH {
        SCRATCH.set(buffer);
    }
}

/// Pushes the bytes as a Lua string. May collect garbage, and so run finalizers, and may raise an error: the thread-local
/// has the buffer then.
///
/// # Safety
/// A slot is free. The caller owns nothing that is to be dropped, and has borrowed nothing.
unsafe fn push_string(state: *mut lua_State, buffer: Vec<u8>) {
    let (data, len, kept) = (buffer.as_ptr(), buffer.len(), buffer.capacity() <= KEPT_SCRATCH);
    SCRATCH.set(buffer);
    // SAFETY: the bytes stay where they are until they are copied: collecting comes after that, or, if memory is
    // short, before it and without finalizers, which alone could take the buffer.
    unsafe { ffi::lua_pushlstring(state, data.cast(), len) };
    if !kept {
        drop(SCRATCH.take());
    }
}

/// Pushes `nil` and a message.
///
/// # Safety
/// As [`push_string`], with two slots.
unsafe fn push_failure(state: *mut lua_State, message: String) -> c_int {
    // SAFETY: as the caller says.
    unsafe {
        ffi::lua_pushnil(state);
        push_string(state, message.into_bytes());
    }
    2
}

const PANICKED: &str = "internal error while serialising a stanza, please report it";

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// The integer at `index`; 0 if there is none.
unsafe fn integer(state: *mut lua_State, index: c_int) -> i64 {
    // SAFETY: the caller gives a valid state and index; a number is read, a string is not changed.
    unsafe { ffi::lua_tointegerx(state, index, std::ptr::null_mut()) }
}

/// A stanza, written into the buffer.
struct Written {
    summary: Summary,
    /// Make a string of it: it is going to be sent as these bytes.
    to_send: bool,
}

/// Writes the stanza. `None`: it is none, or there is no such stream.
unsafe fn write_stanza(
    state: *mut lua_State,
    stream: i64,
    buffer: &mut Vec<u8>,
) -> Result<Option<Written>, String> {
    // SAFETY: `walk` wants a table at an absolute index; both are made sure of.
    unsafe {
        if ffi::lua_type(state, 2) != ffi::LUA_TTABLE {
            return Ok(None);
        }
        let walk::Walked { summary, declares_namespace } =
            walk::walk(state, 2, Only::Stanzas, buffer).map_err(|error| error.to_string())?;
        let Some(summary) = summary else { return Ok(None) };
        let Some(sends_now) = smacks::sends_now(stream) else { return Ok(None) };
        let to_send = sends_now && !declares_namespace && ffi::lua_toboolean(state, 3) != 0;
        Ok(Some(Written { summary, to_send }))
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
/// - an error (there is no memory for the bytes): it was not queued.
unsafe extern "C-unwind" fn push(state: *mut lua_State) -> c_int {
    let mut buffer = scratch();
    // SAFETY: `state` comes from Lua, and a C function has room for some values. What `push_string` wants: the buffer and
    // the message are given to it, the rest needs no dropping.
    unsafe {
        let stream = integer(state, 1);
        let written = catch_unwind(AssertUnwindSafe(|| write_stanza(state, stream, &mut buffer)))
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
            catch_unwind(|| smacks::push(stream, bytes, summary, now()))
        } else {
            let queueing = catch_unwind(|| smacks::push(stream, &buffer, summary, now()));
            keep_scratch(buffer);
            queueing
        };
        let Ok(queueing) = queueing else { return push_failure(state, PANICKED.into()) };
        let Some(queueing) = queueing else {
            ffi::lua_pushnil(state); // a finalizer has ended the stream
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
        // The count lives in a session field that anybody can set; modulo 2^32 every number is one.
        let before = integer(state, 2) as u32;
        smacks::received(integer(state, 1), before, walk::bytes(state, 3), xmlns)
    }));
    let Ok(Some((count, may_change))) = counted else { return 0 };
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
        let key = integer(state, 1);
        let stamped = (ffi::lua_type(state, 2) == ffi::LUA_TNUMBER).then(|| integer(state, 2) as u32);
        let waiting = usize::try_from(integer(state, 3)).unwrap_or_default();
        match catch_unwind(|| smacks::answer(key, stamped, waiting)).unwrap_or_default() {
            Some(h) => ffi::lua_pushinteger(state, i64::from(h)),
            None => ffi::lua_pushnil(state),
        }
    }
    1
}

/// `wants_ack(key, inactive, force, now)`: true, false, or in how many milliseconds to ask again.
unsafe extern "C-unwind" fn wants_ack(state: *mut lua_State) -> c_int {
    // SAFETY: `state` comes from Lua; a C function has room for some values.
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

unsafe fn write_groupchat(state: *mut lua_State, buffer: &mut Vec<u8>) -> Result<(), String> {
    // SAFETY: `walk` wants a table at an absolute index, which is made sure of; strings stay on the stack.
    unsafe {
        if ffi::lua_type(state, 4) != ffi::LUA_TTABLE
            || ffi::lua_type(state, 1) != ffi::LUA_TSTRING
            || ffi::lua_type(state, 2) != ffi::LUA_TSTRING
        {
            return Err("wants account, from, id and a stanza".to_owned());
        }
        walk::walk(state, 4, Only::Everything, buffer).map_err(|e| e.to_string())?;
        CLIENTS.with_borrow_mut(|clients| {
            clients.clear();
            minimix::resources(walk::bytes(state, 1), walk::bytes(state, 2), |c| clients.push(c.into()));
            match ffi::lua_checkstack(state, clients.len() as c_int * 2 + 4) {
                0 => Err("too many clients".to_owned()),
                _ => Ok(()),
            }
        })
    }
}

/// Pushes the resource of client number `n`; false if there is none.
unsafe fn push_client(state: *mut lua_State, n: usize) -> bool {
    let client = CLIENTS.with_borrow(|clients| clients.get(n).map(|c| (c.as_ptr(), c.len())));
    let Some((data, len)) = client else { return false };
    // SAFETY: the list, and so the text, stays what it is until the string is made of it; as in `push_string`.
    unsafe { ffi::lua_pushlstring(state, data.cast(), len) };
    true
}

/// `made`: for how many clients there is a string.
unsafe fn distribute(state: *mut lua_State, buffer: &[u8], made: usize) -> Groupchat {
    // SAFETY: `write_groupchat` has looked at the types; the strings stay on the stack.
    unsafe {
        let account = walk::bytes(state, 1);
        let from = walk::bytes(state, 2);
        let id = (ffi::lua_type(state, 3) == ffi::LUA_TSTRING).then(|| walk::bytes(state, 3));
        CLIENTS.with_borrow(|clients| {
            COPIES.with_borrow_mut(|copies| {
                copies.clear();
                let (clients, mut from_here) = (&clients[..made.min(clients.len())], 0);
                minimix::groupchat(account, from, id, buffer, |resource| {
                    if let Some(n) = clients[from_here..].iter().position(|c| **c == *resource) {
                        copies.push(from_here + n);
                        from_here += n + 1;
                    }
                })
            })
        })
    }
}

/// `groupchat(account, from, id, stanza)`: a groupchat message, without `to`, for an account.
///
/// - nothing: it is none of ours.
/// - `false, resources...`: these clients get a copy.
/// - `true, resources...`: the same, after the decisions that `pending` gives.
/// - `message`: it cannot be serialised.
/// - an error (there is no memory for the resources): nothing has happened.
unsafe extern "C-unwind" fn groupchat(state: *mut lua_State) -> c_int {
    let mut buffer = scratch();
    // SAFETY: `state` comes from Lua. Strings are made while the thread-locals own everything, as in `push`.
    unsafe {
        let written = catch_unwind(AssertUnwindSafe(|| write_groupchat(state, &mut buffer)))
            .unwrap_or_else(|_| Err(PANICKED.into()));
        ffi::lua_settop(state, 4);
        if let Err(message) = written {
            keep_scratch(buffer);
            push_string(state, message.into_bytes());
            return 1;
        }
        // Not as the scratch buffer: finalizers that run meanwhile may serialise something.
        BYTES.set(buffer);
        let mut n = 0;
        while push_client(state, n) {
            n += 1;
        }
        let buffer = BYTES.take();
        let result = catch_unwind(AssertUnwindSafe(|| distribute(state, &buffer, n)));
        keep_scratch(buffer);
        match result {
            Ok(Groupchat::NotOurs) => return 0,
            Ok(Groupchat::Copies(pending)) => ffi::lua_pushboolean(state, c_int::from(pending)),
            Err(_) => {
                push_string(state, PANICKED.as_bytes().to_vec());
                return 1;
            }
        }
        COPIES.with_borrow(|copies| {
            for &n in copies {
                ffi::lua_pushvalue(state, 5 + n as c_int);
            }
            1 + copies.len() as c_int
        })
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
