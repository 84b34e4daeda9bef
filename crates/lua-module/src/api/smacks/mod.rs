//! `enjamb.smacks`: stream management for the shim.
//!
//! A stream is named by an integer key. Whoever starts one gets a handle beside the key; when Lua collects the
//! handle, the stream is gone. A key whose stream is gone is not an error: every function then answers as for a
//! stream that is not managed.
//!
//! Here is what runs once per stanza, called from `boundary/push.rs`, and the table. Beside it: how streams begin and are
//! resumed (`negotiation`), what happens on one (`stream`), what is in its queue (`queue`), what becomes of that when it
//! ends (`leaving`), and where a session is (`rooms`).

mod leaving;
mod negotiation;
mod queue;
mod rooms;
mod stream;

use crate::boundary::push;
use crate::state::{key, peek, sessions, touch};
use enjamb_stanza::Summary;
use enjamb_stream_management::element::{self, NAMESPACES};
use enjamb_stream_management::{Ask, H, HandledCountTooHigh, Queueing, StreamError};
use mlua::prelude::*;

pub use negotiation::LuaLimits;

/// Whether what is pushed on a stream now is to be sent now; `None` if there is no such stream.
pub fn sends_now(stream: i64) -> Option<bool> {
    peek(|s| s.get(key(stream)).map(|s| !s.is_hibernating() && s.resend_from().is_none()))
}

/// Queues a stanza on a stream, if the stream is there.
pub fn push(stream: i64, bytes: &[u8], summary: Summary, now: u64) -> Option<Queueing> {
    sessions(|s| s.push(key(stream), bytes, summary, now))
}

/// Takes the `h` of an `<a/>`, if it can be true: how many stanzas it covers, and how many are left.
pub fn ack(stream: i64, h: &[u8]) -> Option<(usize, usize)> {
    let h: H = std::str::from_utf8(h).ok()?.parse().ok()?;
    sessions(|s| s.ack(key(stream), h))
}

/// An element came in on a stream, which had counted `before` stanzas: how many there are now, and whether this one may have
/// changed what is kept of its session; nothing if it is no stanza.
pub fn received(stream: i64, before: u32, name: &[u8], xmlns: Option<&[u8]>) -> Option<(u32, bool)> {
    let name = element::stanza(name, xmlns)?;
    let received = touch(|s| s.received(key(stream), H(before)));
    let count = received.unwrap_or(H(before).plus(1));
    Some((count.0, element::may_change_session(name)))
}

/// What an `<a/>` may say that answers an `<r/>`, if one may be sent.
pub fn answer(stream: i64, stamped: Option<u32>, waiting: usize) -> Option<u32> {
    peek(|s| Some(s.get(key(stream))?.answer(stamped.map(H), waiting)?.0))
}

/// Whether to ask for an ack at `now`, in milliseconds.
pub fn wants_ack(stream: i64, inactive: bool, force: bool, now: u64) -> Ask {
    touch(|s| s.update(key(stream), |s| s.wants_ack(inactive, force, now))).unwrap_or(Ask::No)
}

type Values = LuaResult<LuaMultiValue>;

fn string(value: Option<LuaString>) -> Option<String> {
    // What is not UTF-8 is no number and no id of ours; the engine says so.
    value.map(|s| s.to_string_lossy())
}

/// `{ condition, text, h, send_count }`
fn error_table(
    lua: &Lua,
    condition: &str,
    text: String,
    too_high: Option<HandledCountTooHigh>,
) -> LuaResult<LuaTable> {
    let error = lua.create_table()?;
    error.raw_set("condition", condition)?;
    error.raw_set("text", text)?;
    if let Some(HandledCountTooHigh { h, send_count }) = too_high {
        error.raw_set("h", h.0)?;
        error.raw_set("send_count", send_count.0)?;
    }
    Ok(error)
}

fn stream_error(lua: &Lua, error: StreamError) -> LuaResult<LuaTable> {
    error_table(lua, error.condition, error.text, error.too_high)
}

/// `is_stanza(name, xmlns)`: whether such an element counts.
fn is_stanza(_: &Lua, (name, xmlns): (LuaString, Option<LuaString>)) -> LuaResult<bool> {
    let xmlns = xmlns.as_ref().map(|x| x.as_bytes());
    Ok(element::stanza(&name.as_bytes(), xmlns.as_deref()).is_some())
}

pub fn table(lua: &Lua) -> LuaResult<LuaTable> {
    let smacks = lua.create_table()?;
    smacks.set("namespaces", NAMESPACES)?;
    smacks.set("push", push::push_function(lua)?)?;
    smacks.set("received", push::received_function(lua)?)?;
    smacks.set("ack", push::ack_function(lua)?)?;
    smacks.set("answer", push::answer_function(lua)?)?;
    smacks.set("wants_ack", push::wants_ack_function(lua)?)?;
    smacks.set("is_stanza", lua.create_function(is_stanza)?)?;
    negotiation::add(lua, &smacks)?;
    stream::add(lua, &smacks)?;
    queue::add(lua, &smacks)?;
    leaving::add(lua, &smacks)?;
    rooms::add(lua, &smacks)?;
    Ok(smacks)
}
