//! What happens on a stream between its beginning and its end: acks, requests, silence; and its end tag.

use super::{Values, stream_error, string};
use crate::state::{key, sessions};
use enjamb_stream_management::{Closer, Lateness, Silence, StreamError, WrongAck};
use mlua::prelude::*;

/// `covered(key, h)`: how many stanzas an `<a/>` would cover; nil if it cannot be true.
fn covered(_: &Lua, (stream, h): (i64, Option<LuaString>)) -> LuaResult<Option<usize>> {
    let Ok(h) = WrongAck::read(string(h).as_deref()) else { return Ok(None) };
    Ok(sessions(|s| s.get(key(stream))?.covered_by(h).ok()))
}

/// `wrong_ack(key, h)`: the stream error for an `<a/>` that cannot be true; nil if it can, or the stream is gone.
fn wrong_ack(lua: &Lua, (stream, h): (i64, Option<LuaString>)) -> LuaResult<Option<LuaTable>> {
    let h = string(h);
    let error = sessions(|s| {
        let stream = s.get(key(stream))?;
        let covered = WrongAck::read(h.as_deref()).and_then(|h| Ok(stream.covered_by(h)?));
        covered.err()
    });
    error.map(|error| stream_error(lua, error.stream_error())).transpose()
}

/// `requested(key, now)`: an `<r/>` goes out at that time, in milliseconds. In how many milliseconds somebody has to look for
/// its answer, if nobody does yet.
fn requested(_: &Lua, (stream, now): (i64, u64)) -> LuaResult<Option<u64>> {
    Ok(sessions(|s| s.update(key(stream), |s| s.requested(now))).flatten())
}

/// `lateness(key, now)`: true if the answer is late; in how many milliseconds to look again; nil if there is no need to.
fn lateness(lua: &Lua, (stream, now): (i64, u64)) -> LuaResult<LuaValue> {
    match sessions(|s| s.update(key(stream), |s| s.lateness(now))) {
        Some(Lateness::Late) => true.into_lua(lua),
        Some(Lateness::Wait(ms)) => ms.into_lua(lua),
        Some(Lateness::Answered) | None => Ok(LuaNil),
    }
}

/// `silence(key, now)`: what follows when nothing has come in for long: "ask", "wait", "dead"; nil if there is no such stream.
fn silence(_: &Lua, (stream, now): (i64, u64)) -> LuaResult<Option<&'static str>> {
    let silence = sessions(|s| s.update(key(stream), |s| s.silence(now)));
    Ok(silence.map(|silence| match silence {
        Silence::Ask => "ask",
        Silence::Wait => "wait",
        Silence::Dead => "dead",
    }))
}

/// `close(key, by_peer, waiting)`: the end tag goes out next. True, and what an `<a/>` before it may say, if one is to be
/// sent; false if that was done before, or there is no such stream. `waiting` is nil if there is no connection.
fn close(lua: &Lua, (stream, by_peer, waiting): (i64, bool, Option<usize>)) -> Values {
    let by = if by_peer { Closer::Peer } else { Closer::Server };
    let closing = sessions(|s| {
        let closing = s.update(key(stream), |s| s.close(by, waiting)).flatten();
        if closing.is_some() {
            s.revoke(key(stream));
        }
        closing
    });
    match closing {
        Some(closing) => (true, closing.last_ack.map(|h| h.0)).into_lua_multi(lua),
        None => false.into_lua_multi(lua),
    }
}

/// `stream_error(why)`: "unreadable", "replaced".
fn stream_error_of(lua: &Lua, why: String) -> LuaResult<LuaTable> {
    let error = match why.as_str() {
        "unreadable" => StreamError::unreadable(),
        "replaced" => StreamError::replaced(),
        _ => return Err(LuaError::runtime(format!("there is no stream error '{why}'"))),
    };
    stream_error(lua, error)
}

pub fn add(lua: &Lua, smacks: &LuaTable) -> LuaResult<()> {
    smacks.set("covered", lua.create_function(covered)?)?;
    smacks.set("wrong_ack", lua.create_function(wrong_ack)?)?;
    smacks.set("requested", lua.create_function(requested)?)?;
    smacks.set("lateness", lua.create_function(lateness)?)?;
    smacks.set("silence", lua.create_function(silence)?)?;
    smacks.set("close", lua.create_function(close)?)?;
    smacks.set("stream_error", lua.create_function(stream_error_of)?)
}
