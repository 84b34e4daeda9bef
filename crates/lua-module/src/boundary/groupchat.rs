//! A groupchat message for an account: walked once, however many clients get a copy.
//!
//! What was walked stays in hand, under a number, until the next message. Each copy is spliced out of it. Invariants as in
//! [`super::push`].

use crate::accounts::Groupchat;
use crate::boundary::strings::{PANICKED, integer, keep_scratch, push_string, scratch};
use crate::clock::wall_clock;
use crate::state::{key, number, sessions, with};
use enjamb_stanza::{Attribute, Splice, Summary};
use enjamb_stream_management::Stream;
use enjamb_walk::{self as walk, Only};
use mlua::ffi::{self, lua_State};
use mlua::prelude::*;
use std::cell::RefCell;
use std::ffi::c_int;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What the room sent last, without `to`.
#[derive(Default)]
struct InHand {
    bytes: Vec<u8>,
    /// `None`: it is no stanza.
    summary: Option<Summary>,
    number: i64,
}

/// It is given back if it was longer than this, in bytes.
const KEPT: usize = 64 << 10;

thread_local! {
    static IN_HAND: RefCell<InHand> = RefCell::default();
    /// Resources of the clients that may get a copy, and which of them do. Their strings are on the stack, in this order.
    static CLIENTS: RefCell<Vec<Box<str>>> = const { RefCell::new(Vec::new()) };
    static COPIES: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// Takes the message in hand, and says under which number.
unsafe fn take_in_hand(state: *mut lua_State) -> Result<i64, String> {
    // SAFETY: `walk` wants a table at an absolute index, which is made sure of; strings stay on the stack.
    unsafe {
        if ffi::lua_type(state, 4) != ffi::LUA_TTABLE
            || ffi::lua_type(state, 1) != ffi::LUA_TSTRING
            || ffi::lua_type(state, 2) != ffi::LUA_TSTRING
        {
            return Err("wants account, from, id and a stanza".to_owned());
        }
        let number = IN_HAND.with_borrow_mut(|in_hand| {
            let InHand { bytes, summary, number } = in_hand;
            bytes.clear();
            bytes.shrink_to(KEPT);
            *number += 1;
            *summary = walk::walk(state, 4, Only::Stanzas, bytes).map_err(|e| e.to_string())?.summary;
            if summary.is_none() {
                bytes.clear();
                walk::walk(state, 4, Only::Everything, bytes).map_err(|e| e.to_string())?;
            }
            Ok::<_, String>(*number)
        })?;
        CLIENTS.with_borrow_mut(|clients| {
            clients.clear();
            let (account, from) = (walk::bytes(state, 1), walk::bytes(state, 2));
            with(|state| state.minimix.resources(account, from, |c| clients.push(c.into())));
            match ffi::lua_checkstack(state, clients.len() as c_int * 2 + 5) {
                0 => Err("too many clients".to_owned()),
                _ => Ok(number),
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
unsafe fn distribute(state: *mut lua_State, made: usize) -> Groupchat {
    // SAFETY: `take_in_hand` has looked at the types; the strings stay on the stack.
    unsafe {
        let account = walk::bytes(state, 1);
        let from = walk::bytes(state, 2);
        let id = (ffi::lua_type(state, 3) == ffi::LUA_TSTRING).then(|| walk::bytes(state, 3));
        CLIENTS.with_borrow(|clients| {
            COPIES.with_borrow_mut(|copies| {
                copies.clear();
                let mut clients = clients.iter().take(made).enumerate();
                let copy = |resource: &str| {
                    copies.extend(clients.find(|(_, c)| ***c == *resource).map(|(n, _)| n));
                };
                IN_HAND.with_borrow(|in_hand| {
                    with(|state| state.minimix.groupchat(account, from, id, &in_hand.bytes, copy))
                })
            })
        })
    }
}

/// `groupchat(account, from, id, stanza)`: a groupchat message, without `to`, for an account.
///
/// - nothing: it is none of ours.
/// - `false, number, resources...`: these clients get a copy; [`push_copy`] knows the message by the number.
/// - `true, number, resources...`: the same, after the decisions that `pending` gives.
/// - `message`: it cannot be serialised.
/// - an error (there is no memory for the resources): nothing has happened.
unsafe extern "C-unwind" fn groupchat(state: *mut lua_State) -> c_int {
    // SAFETY: `state` comes from Lua. Strings are made while the thread-locals own everything.
    unsafe {
        let (in_hand, made) = loop {
            ffi::lua_settop(state, 4);
            let taken = catch_unwind(AssertUnwindSafe(|| take_in_hand(state)))
                .unwrap_or_else(|_| Err(PANICKED.into()));
            let in_hand = match taken {
                Ok(number) => number,
                Err(message) => {
                    push_string(state, message.into_bytes());
                    return 1;
                }
            };
            let mut made = 0;
            while push_client(state, made) {
                made += 1;
            }
            // Else finalizers that ran meanwhile have taken another one.
            if IN_HAND.with_borrow(|now| now.number) == in_hand {
                break (in_hand, made);
            }
        };
        match catch_unwind(AssertUnwindSafe(|| distribute(state, made))) {
            Ok(Groupchat::NotOurs) => return 0,
            Ok(Groupchat::Copies(pending)) => ffi::lua_pushboolean(state, c_int::from(pending)),
            Err(_) => {
                push_string(state, PANICKED.as_bytes().to_vec());
                return 1;
            }
        }
        ffi::lua_pushinteger(state, in_hand);
        COPIES.with_borrow(|copies| {
            for &n in copies {
                ffi::lua_pushvalue(state, 5 + n as c_int);
            }
            2 + copies.len() as c_int
        })
    }
}

/// Writes the copy for the full JID at index 3 of the message at index 1, if that is still in hand.
unsafe fn write_copy(state: *mut lua_State, buffer: &mut Vec<u8>) -> Option<Summary> {
    // SAFETY: a string is made sure of, and stays on the stack.
    unsafe {
        if ffi::lua_type(state, 3) != ffi::LUA_TSTRING {
            return None;
        }
        let to = std::str::from_utf8(walk::bytes(state, 3)).ok()?;
        IN_HAND.with_borrow(|in_hand| {
            let summary = in_hand.summary.filter(|_| in_hand.number == integer(state, 1))?;
            Splice { to: Attribute::Set(to), ..Splice::default() }.write(&in_hand.bytes, buffer);
            Some(summary)
        })
    }
}

/// `push_copy(number, key, full_jid)`: a copy of the message in hand, for a client.
///
/// - `bytes, over`: queued on the stream `key`, send these; or, without a key, only the bytes. `over`, if there is one, is the
///   key of a stream that has to end.
/// - `false, over`: queued, and not to be sent now.
/// - `nil`: that message is in hand no longer, or the stream is gone; nothing was done.
/// - an error (there is no memory for the bytes): nothing was done.
unsafe extern "C-unwind" fn push_copy(state: *mut lua_State) -> c_int {
    let mut buffer = scratch();
    // SAFETY: `state` comes from Lua. As in `push`: the buffer is given away where a string is made of it.
    unsafe {
        ffi::lua_settop(state, 3);
        let managed = ffi::lua_type(state, 2) == ffi::LUA_TNUMBER;
        let stream = key(integer(state, 2));
        let written = catch_unwind(AssertUnwindSafe(|| {
            let summary = write_copy(state, &mut buffer)?;
            let sends_now = if managed { sessions(|s| s.get(stream).map(Stream::sends_now))? } else { true };
            Some((summary, sends_now))
        }));
        let Ok(Some((summary, sends_now))) = written else {
            keep_scratch(buffer);
            ffi::lua_pushnil(state);
            return 1;
        };
        if !managed {
            push_string(state, buffer);
            return 1;
        }
        let queueing = if sends_now {
            push_string(state, buffer);
            let bytes = walk::bytes(state, 4);
            catch_unwind(|| sessions(|s| s.push(stream, bytes, summary, wall_clock())))
        } else {
            let queueing = catch_unwind(|| sessions(|s| s.push(stream, &buffer, summary, wall_clock())));
            keep_scratch(buffer);
            queueing
        };
        let Ok(Some(queueing)) = queueing else {
            ffi::lua_pushnil(state);
            return 1;
        };
        let over_limit = queueing.over_limit.map(number);
        // Finalizers that ran while the string was made may have lost the connection.
        if !queueing.send || !sends_now {
            ffi::lua_pushboolean(state, 0);
        }
        match over_limit {
            Some(key) => ffi::lua_pushinteger(state, key),
            None => ffi::lua_pushnil(state),
        }
    }
    2
}

pub fn function(lua: &Lua) -> LuaResult<LuaFunction> {
    // SAFETY: the functions keep to Lua's protocol, see above.
    unsafe { walk::function(lua, groupchat) }
}

pub fn push_copy_function(lua: &Lua) -> LuaResult<LuaFunction> {
    // SAFETY: as above.
    unsafe { lua.create_c_function(push_copy) }
}
