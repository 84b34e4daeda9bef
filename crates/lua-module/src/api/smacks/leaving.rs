//! Sessions that lose their connection, have to end, or end; and what becomes of what is queued for them.

use super::{Values, stream_error};
use crate::state::{key, number, sessions};
use enjamb_sessions::{LOST, Stanza};
use enjamb_stanza::{Kind, Name, Summary};
use enjamb_stream_management::remembered::{Remembered, forgotten};
use enjamb_stream_management::undelivered::{Client, Content, Fate, Recipient, certain_fate, fate};
use enjamb_stream_management::{Cause, Closer, Ending, Hibernation, Lost};
use mlua::prelude::*;

/// `lost(key, now)`: the connection is lost. `timeout, { evicted keys }` if the session waits, `nil, is_remembered` if it ends.
fn lost(lua: &Lua, (stream, now): (i64, u64)) -> Values {
    let stream = key(stream);
    let hibernation = sessions(|s| s.hibernate(stream, now));
    match Lost::of(stream, hibernation) {
        Lost::Waits(Hibernation { timeout, evicted }) => {
            let evicted: Vec<i64> = evicted.into_iter().map(number).collect();
            (timeout, evicted).into_lua_multi(lua)
        }
        Lost::Ends { is_remembered } => (LuaNil, is_remembered).into_lua_multi(lua),
    }
}

fn cause(why: &str) -> LuaResult<Cause> {
    match why {
        "too much" => Ok(Cause::TooMuch),
        "unkept" => Ok(Cause::Unkept),
        _ => Err(LuaError::runtime(format!("there is no cause '{why}'"))),
    }
}

/// `must_end(key, cause)`: "too much" is queued, or something is "unkept". True if that is news: `ending` is to be asked for
/// when whoever is sending has finished.
fn must_end(_: &Lua, (stream, why): (i64, String)) -> LuaResult<bool> {
    let cause = cause(&why)?;
    Ok(sessions(|s| s.update(key(stream), |s| s.must_end(cause))).unwrap_or(false))
}

/// `ending(key, cause)`: the reason, if the session expires; `nil, error` if its stream is closed; nil if it need not end.
fn ending(lua: &Lua, (stream, why): (i64, String)) -> Values {
    let cause = cause(&why)?;
    match sessions(|s| s.update(key(stream), |s| s.ending(cause))).flatten() {
        Some(Ending::Expire { reason }) => reason.into_lua_multi(lua),
        Some(Ending::Close(error)) => (LuaNil, stream_error(lua, error)?).into_lua_multi(lua),
        None => LuaNil.into_lua_multi(lua),
    }
}

/// `revoke(key)`: it cannot be resumed any more.
fn revoke(_: &Lua, stream: i64) -> LuaResult<()> {
    sessions(|s| s.revoke(key(stream)));
    Ok(())
}

/// `forget(key)`: the stream is gone, with what is in its queue. Without this, that happens when Lua collects the handle.
fn forget(_: &Lua, stream: i64) -> LuaResult<()> {
    sessions(|s| s.remove(key(stream)));
    Ok(())
}

fn is(table: &LuaTable, name: &str) -> LuaResult<bool> {
    Ok(table.raw_get::<Option<bool>>(name)?.unwrap_or(false))
}

/// `{ last_session, account_gone, in_memory_only, uses_archive }` of a client, `{ is_server, resends }` of a server.
fn recipient(facts: &LuaTable, stream: Option<i64>) -> LuaResult<Recipient> {
    if is(facts, "is_server")? {
        return Ok(Recipient::Server { resends: is(facts, "resends")? });
    }
    let closed_by = stream.and_then(|stream| sessions(|s| s.get(key(stream))?.closed_by()));
    Ok(Recipient::Client(Client {
        last_session: is(facts, "last_session")?,
        account_gone: is(facts, "account_gone")?,
        in_memory_only: is(facts, "in_memory_only")?,
        uses_archive: is(facts, "uses_archive")?,
        closed: closed_by == Some(Closer::Peer),
    }))
}

/// `fate(key, recipient, name, type, content)`: "store", "return", "discard" or "send again", and whether an error may be
/// returned for what nobody takes. `content` is `{ archived, archive_result, own, from_room }`; `key` is nil if the stream is
/// gone.
fn fate_of(
    _: &Lua,
    (stream, facts, name, kind, content): (Option<i64>, LuaTable, LuaString, Option<LuaString>, LuaTable),
) -> LuaResult<(&'static str, bool)> {
    let recipient = recipient(&facts, stream)?;
    let content = Content {
        archived: is(&content, "archived")?,
        archive_result: is(&content, "archive_result")?,
        own: is(&content, "own")?,
        from_room: is(&content, "from_room")?,
    };
    let Some(name) = Name::from_bytes(&name.as_bytes()) else { return Ok(("discard", false)) };
    let kind = kind.map(|k| Kind::from_type(&k.as_bytes())).unwrap_or_default();
    let fate = fate(Summary { name, kind, delayed: false }, recipient, content);
    let what = match fate {
        Fate::Store | Fate::StoreOrDiscard => "store",
        Fate::Return => "return",
        Fate::Discard => "discard",
        Fate::SendAgain => "send again",
    };
    Ok((what, fate.is_returned()))
}

/// `next_undelivered(key, number, recipient)`: the number of the first stanza from that one on of which somebody may have to
/// hear; nil if there is none. The others are discarded, whatever is in them. `nil, message` if the disk cannot be read.
fn next_undelivered(lua: &Lua, (stream, first, facts): (i64, u64, LuaTable)) -> Values {
    let recipient = recipient(&facts, Some(stream))?;
    let (mut number, mut found) = (first, false);
    let read = sessions(|s| {
        let Some(end) = s.get(key(stream)).map(|s| s.queue().end()) else { return Ok(()) };
        s.read(key(stream), first, end, |stanza| {
            let Stanza { summary, .. } = stanza.unwrap_or(LOST);
            found = certain_fate(summary, recipient) != Some(Fate::Discard);
            number += u64::from(!found);
            !found
        })
    });
    match read {
        _ if found => number.into_lua_multi(lua),
        Ok(()) => LuaNil.into_lua_multi(lua),
        Err(error) => (LuaNil, error.to_string()).into_lua_multi(lua),
    }
}

/// `forgotten({ [id] = time }, allowed)`: the ids to forget.
fn forget_ids(_: &Lua, (sessions, allowed): (LuaTable, usize)) -> LuaResult<Vec<String>> {
    let sessions = sessions
        .pairs::<String, u64>()
        .map(|pair| pair.map(|(id, at)| Remembered { id, at }))
        .collect::<LuaResult<Vec<_>>>()?;
    Ok(forgotten(sessions, allowed))
}

pub fn add(lua: &Lua, smacks: &LuaTable) -> LuaResult<()> {
    smacks.set("lost", lua.create_function(lost)?)?;
    smacks.set("must_end", lua.create_function(must_end)?)?;
    smacks.set("ending", lua.create_function(ending)?)?;
    smacks.set("revoke", lua.create_function(revoke)?)?;
    smacks.set("forget", lua.create_function(forget)?)?;
    smacks.set("fate", lua.create_function(fate_of)?)?;
    smacks.set("next_undelivered", lua.create_function(next_undelivered)?)?;
    smacks.set("forgotten", lua.create_function(forget_ids)?)
}
