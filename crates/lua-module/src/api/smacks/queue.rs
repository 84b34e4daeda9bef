//! What is in a stream's queue, and how it is sent again.

use super::Values;
use crate::state::{key, sessions};
use enjamb_sessions::{LOST, Stanza};
use enjamb_stanza::{Delay, Resent};
use enjamb_stream_management::{AfterTurn, Framing, StreamKey};
use mlua::prelude::*;
use std::time::{Duration, UNIX_EPOCH};

/// What a stanza in a frame of its own declares (RFC 7395 §3.3.3); on other streams it is the stream's.
const XMLNS_CLIENT: &str = "jabber:client";

/// `counts(key)`: `unacked, acked, first, bytes`; nothing if the stream is gone.
fn counts(lua: &Lua, stream: i64) -> Values {
    let counts = sessions(|s| {
        let queue = s.get(key(stream))?.queue();
        Some((queue.len(), queue.acked().0, queue.first(), queue.bytes()))
    });
    match counts {
        Some(counts) => counts.into_lua_multi(lua),
        None => ().into_lua_multi(lua),
    }
}

/// Stanzas as they are sent again, one behind the other.
struct Copies {
    bytes: Vec<u8>,
    /// The number behind the last one.
    next: u64,
    /// How many are damaged on disk; something without content stands in their place.
    lost: usize,
}

/// The stanzas from number `first` up to and without `end`, stamped with their delay, until `budget` bytes are full; at least
/// one, if there is one.
fn read(
    stream: StreamKey,
    (first, end, budget): (u64, u64, usize),
    xmlns: Option<&str>,
    from: &str,
) -> Result<Option<Copies>, enjamb_journal::Error> {
    let mut copies = Copies { bytes: Vec::new(), next: first, lost: 0 };
    let result = sessions(|s| {
        s.read(stream, first, end, |stanza: Option<Stanza>| {
            let Copies { bytes: out, next, lost } = &mut copies;
            let Stanza { bytes, at, summary } = stanza.unwrap_or(LOST);
            if !out.is_empty() && out.len() + bytes.len() > budget {
                return false;
            }
            let stamp = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(at)).to_string();
            let delay = summary.takes_delay().then_some(Delay { from, stamp: &stamp });
            Resent { xmlns, delay }.write(bytes, out);
            *next += 1;
            *lost += usize::from(stanza.is_none());
            out.len() < budget
        })
    });
    match result {
        // What was read before is right.
        Err(error) if copies.next == first => Err(error),
        _ => Ok((copies.next > first).then_some(copies)),
    }
}

/// `copies(key, number, last, budget, xmlns, from)`: `bytes, next, lost`: the stanzas from that number up to and without
/// `last`, until `budget` bytes are full; nil if there is none. `nil, message` if the disk cannot be read.
fn copies(
    lua: &Lua,
    (stream, first, last, budget, xmlns, from): (i64, u64, u64, usize, Option<String>, String),
) -> Values {
    match read(key(stream), (first, last, budget), xmlns.as_deref(), &from) {
        Ok(Some(Copies { bytes, next, lost })) => {
            (lua.create_string(&bytes)?, next, lost).into_lua_multi(lua)
        }
        Ok(None) => LuaNil.into_lua_multi(lua),
        Err(error) => (LuaNil, error.to_string()).into_lua_multi(lua),
    }
}

/// `resend(key)`: the number of the stanza to send again next, and the one behind the last; nil if all have gone out.
fn resend(lua: &Lua, stream: i64) -> Values {
    match sessions(|s| s.get(key(stream)).and_then(|s| Some((s.resend_from()?, s.queue().end())))) {
        Some(range) => range.into_lua_multi(lua),
        None => LuaNil.into_lua_multi(lua),
    }
}

/// `begin_turn(key)`: whether to hand over what is to be sent again now.
fn begin_turn(_: &Lua, stream: i64) -> LuaResult<bool> {
    Ok(sessions(|s| s.update(key(stream), |s| s.begin_turn())).unwrap_or(false))
}

/// `next_piece(key, framed, from)`: `bytes, lost`: what the connection gets next, and how many stanzas of it are lost; nil if
/// it has enough for this turn. `nil, message` if the disk cannot be read.
fn next_piece(lua: &Lua, (stream, framed, from): (i64, bool, String)) -> Values {
    let stream = key(stream);
    let (framing, xmlns) = match framed {
        true => (Framing::Frames, Some(XMLNS_CLIENT)),
        false => (Framing::Stream, None),
    };
    let Some(piece) = sessions(|s| s.get(stream).and_then(|s| s.next_piece(framing))) else {
        return LuaNil.into_lua_multi(lua);
    };
    match read(stream, (piece.first, piece.end, piece.budget), xmlns, &from) {
        Ok(Some(Copies { bytes, next, lost })) => {
            let text = lua.create_string(&bytes)?;
            sessions(|s| s.update(stream, |s| s.handed_over(next, bytes.len())));
            (text, lost).into_lua_multi(lua)
        }
        Ok(None) => LuaNil.into_lua_multi(lua),
        Err(error) => (LuaNil, error.to_string()).into_lua_multi(lua),
    }
}

/// `end_turn(key)`: after how many seconds to begin the next, if the connection does not say before that it has taken this
/// one; nil if all is sent.
fn end_turn(_: &Lua, stream: i64) -> LuaResult<Option<u64>> {
    Ok(match sessions(|s| s.update(key(stream), |s| s.end_turn())) {
        Some(AfterTurn::More(patience)) => Some(patience),
        Some(AfterTurn::Done) | None => None,
    })
}

/// `totals()`: stanzas, bytes, bytes in memory, of all queues together.
fn totals(_: &Lua, (): ()) -> LuaResult<(usize, usize, usize)> {
    let totals = sessions(|s| s.totals());
    Ok((totals.stanzas, totals.bytes, totals.bytes_here))
}

/// `streams()`: how many there are, for tests and metrics.
fn streams(_: &Lua, (): ()) -> LuaResult<usize> {
    Ok(sessions(|s| s.len()))
}

pub fn add(lua: &Lua, smacks: &LuaTable) -> LuaResult<()> {
    smacks.set("counts", lua.create_function(counts)?)?;
    smacks.set("copies", lua.create_function(copies)?)?;
    smacks.set("resend", lua.create_function(resend)?)?;
    smacks.set("begin_turn", lua.create_function(begin_turn)?)?;
    smacks.set("next_piece", lua.create_function(next_piece)?)?;
    smacks.set("end_turn", lua.create_function(end_turn)?)?;
    smacks.set("totals", lua.create_function(totals)?)?;
    smacks.set("streams", lua.create_function(streams)?)
}
