//! Making Lua strings of bytes that are here, by whoever Lua calls without mlua in between.
//!
//! Making one can raise an error, if there is no memory, which leaves the function at once (`longjmp`): nothing is dropped,
//! nothing after it happens. So whatever is to be a string is made one ([`push_string`]) before anything changes, and at
//! that point nothing is borrowed and nothing is owned but by a thread-local. What comes after a change (numbers, booleans,
//! values that are on the stack already) needs no memory.

use mlua::ffi::{self, lua_State};
use std::cell::Cell;
use std::ffi::c_int;

/// A scratch buffer that grew beyond this for one stanza is given back after it.
const KEPT_SCRATCH: usize = 64 << 10;

thread_local! {
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// The scratch buffer, empty.
pub fn scratch() -> Vec<u8> {
    let mut buffer = SCRATCH.take();
    buffer.clear();
    buffer
}

pub fn keep_scratch(buffer: Vec<u8>) {
    if buffer.capacity() <= KEPT_SCRATCH {
        SCRATCH.set(buffer);
    }
}

/// Pushes the bytes as a Lua string. May collect garbage, and so run finalizers, and may raise an error: the thread-local
/// has the buffer then.
///
/// # Safety
/// A slot is free. The caller owns nothing that is to be dropped, and has borrowed nothing.
pub unsafe fn push_string(state: *mut lua_State, buffer: Vec<u8>) {
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
pub unsafe fn push_failure(state: *mut lua_State, message: String) -> c_int {
    // SAFETY: as the caller says.
    unsafe {
        ffi::lua_pushnil(state);
        push_string(state, message.into_bytes());
    }
    2
}

pub const PANICKED: &str = "internal error while serialising a stanza, please report it";

/// The integer at `index`; 0 if there is none.
pub unsafe fn integer(state: *mut lua_State, index: c_int) -> i64 {
    // SAFETY: the caller gives a valid state and index; a number is read, a string is not changed.
    unsafe { ffi::lua_tointegerx(state, index, std::ptr::null_mut()) }
}
