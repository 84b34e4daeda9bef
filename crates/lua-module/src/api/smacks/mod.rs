//! `enjamb.smacks`: stream management for the shim.
//!
//! A stream is named by an integer key. Whoever starts one gets a handle beside the key; when Lua collects the
//! handle, the stream is gone. A key whose stream is gone is not an error: every function then answers as for a
//! stream that is not managed.
//!
//! Here is the table; what runs once per stanza is in `boundary/push.rs`. Beside it: how streams begin and are resumed (`negotiation`), what happens on one (`stream`), what is in its queue (`queue`), what becomes of that when it
//! ends (`leaving`), and where a session is (`rooms`).

mod leaving;
mod negotiation;
mod queue;
mod rooms;
mod stream;

use crate::boundary::push;
use enjamb_stream_management::element::{self, NAMESPACES};
use enjamb_stream_management::{HandledCountTooHigh, StreamError};
use mlua::prelude::*;

pub use negotiation::LuaLimits;

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
