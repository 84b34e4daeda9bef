//! `enjamb.smacks`: stream management for the shim.
//!
//! A stream is named by an integer key. Whoever starts one gets a handle beside the key; when Lua collects the
//! handle, the stream is gone. A key whose stream is gone is not an error: every function then answers as for a
//! stream that is not managed.

use crate::boundary::push;
use crate::state::{Handle, key, number, sessions};
use enjamb_sessions::{LOST, Stanza};
use enjamb_stanza::{Delay, Kind, Name, Resent, Summary};
use enjamb_stream_management::remembered::{Remembered, forgotten};
use enjamb_stream_management::undelivered::{Fate, Recipient, fate};
use enjamb_stream_management::{
    AckError, EnableRequest, Enabled, H, Limits, Peer, Refusal, Registry, ResumeRequest, ResumptionId,
};
use mlua::prelude::*;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

pub struct LuaLimits(pub Arc<Limits>);

impl LuaUserData for LuaLimits {}

/// What the shim knows of the other end of a stream.
struct LuaPeer {
    account: Option<String>,
    bound: bool,
    server: bool,
}

impl FromLua for LuaPeer {
    fn from_lua(value: LuaValue, lua: &Lua) -> LuaResult<Self> {
        let table = LuaTable::from_lua(value, lua)?;
        Ok(LuaPeer {
            account: table.raw_get("account")?,
            bound: table.raw_get::<Option<bool>>("bound")?.unwrap_or(false),
            server: table.raw_get::<Option<bool>>("server")?.unwrap_or(false),
        })
    }
}

impl LuaPeer {
    fn get(&self) -> Peer<'_> {
        match &self.account {
            Some(account) => Peer::Client { account, bound: self.bound },
            None if self.server => Peer::Server,
            None => Peer::Unauthenticated,
        }
    }
}

type Values = LuaResult<LuaMultiValue>;

/// `nil, { condition, text, h, send_count }`
fn refused(lua: &Lua, condition: &str, text: String, untrue: Option<AckError>) -> Values {
    let error = lua.create_table()?;
    error.raw_set("condition", condition)?;
    error.raw_set("text", text)?;
    if let Some(AckError::TooHigh { h, sent }) = untrue {
        error.raw_set("h", h.0)?;
        error.raw_set("send_count", sent.0)?;
    }
    (LuaNil, error).into_lua_multi(lua)
}

fn refusal(lua: &Lua, refusal: Refusal) -> Values {
    let untrue = match refusal {
        Refusal::Untrue(error) => Some(error),
        _ => None,
    };
    refused(lua, refusal.condition(), refusal.to_string(), untrue)
}

fn string(value: Option<LuaString>) -> Option<String> {
    // What is not UTF-8 is no number and no id of ours; the engine says so.
    value.map(|s| s.to_string_lossy())
}

fn limits(_: &Lua, options: LuaTable) -> LuaResult<LuaLimits> {
    Ok(LuaLimits(Arc::new(Limits {
        hibernation_time: options.get("hibernation_time")?,
        queue_stanzas: options.get("queue_stanzas")?,
        queue_bytes: options.get("queue_bytes")?,
        account_bytes: options.get("account_bytes")?,
        server_bytes: options.get("server_bytes")?,
        memory_bytes: options.get("memory_bytes")?,
        unacked: options.get("unacked")?,
        inactive_unacked: options.get("inactive_unacked")?,
        hibernated: options.get("hibernated")?,
    })))
}

/// `enable(limits, peer, already, resume, max)`: `true, id, timeout` or `nil, error`.
fn enable(
    lua: &Lua,
    (limits, peer, already, resume, max): (
        LuaUserDataRef<LuaLimits>,
        LuaPeer,
        bool,
        Option<LuaString>,
        Option<LuaString>,
    ),
) -> Values {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(LuaError::external)?;
    let (resume, max) = (string(resume), string(max));
    let request = EnableRequest { resume: resume.as_deref(), max: max.as_deref() };
    match Registry::enable(&limits.0, peer.get(), already, request, u128::from_ne_bytes(random)) {
        Ok(Enabled { resumption }) => {
            let (id, timeout) = resumption.map(|(id, timeout)| (id.to_string(), timeout)).unzip();
            (true, id, timeout).into_lua_multi(lua)
        }
        Err(error) => refusal(lua, error),
    }
}

/// `start(limits, account, id, timeout, waiting)`: `key, handle`.
fn start(
    _: &Lua,
    (limits, account, id, timeout, waiting): (
        LuaUserDataRef<LuaLimits>,
        Option<String>,
        Option<String>,
        Option<u32>,
        usize,
    ),
) -> LuaResult<(i64, Handle)> {
    let resumption = id.as_deref().and_then(ResumptionId::parse).zip(timeout);
    let enabled = Enabled { resumption };
    let key = sessions(|s| s.start(Arc::clone(&limits.0), account.as_deref(), enabled, waiting));
    Ok((number(key), Handle(key)))
}

/// `resume(peer, previd, h, dry)`: `{ key, acked, since }` or `nil, error`; if `dry`, nothing changes.
fn resume(
    lua: &Lua,
    (peer, previd, h, dry): (LuaPeer, Option<LuaString>, Option<LuaString>, bool),
) -> Values {
    let (previd, h) = (string(previd), string(h));
    let request = ResumeRequest { previd: previd.as_deref(), h: h.as_deref() };
    let result = sessions(|s| match dry {
        true => s.resumable(peer.get(), request),
        false => s.resume(peer.get(), request),
    });
    match result {
        Ok(resumed) => {
            let answer = lua.create_table()?;
            answer.raw_set("key", number(resumed.key))?;
            answer.raw_set("acked", resumed.acked)?;
            answer.raw_set("since", resumed.hibernating_since)?;
            answer.into_lua_multi(lua)
        }
        Err(error) => refusal(lua, error),
    }
}

/// `recount(key, h)`: the client was told that this many were handled, and sends the rest again.
fn recount(_: &Lua, (stream, h): (i64, u32)) -> LuaResult<()> {
    sessions(|s| s.recount(key(stream), H(h)));
    Ok(())
}

/// `handled(key, waiting)`: what an `<a/>` may say, or nil.
fn handled(_: &Lua, (stream, waiting): (i64, usize)) -> LuaResult<Option<u32>> {
    Ok(sessions(|s| Some(s.get(key(stream))?.handled(waiting).0)))
}

/// `covered(key, h)`: how many stanzas an `<a/>` would cover, or `nil, error`.
fn covered(lua: &Lua, (stream, h): (i64, Option<LuaString>)) -> Values {
    let Some(h) = string(h) else {
        return refused(lua, "invalid-xml", Refusal::MissingH.to_string(), None);
    };
    let h: H = match h.parse() {
        Ok(h) => h,
        Err(error) => return refused(lua, "invalid-xml", error.to_string(), None),
    };
    match sessions(|s| s.get(key(stream)).map_or(Ok(0), |s| s.covered_by(h))) {
        Ok(n) => n.into_lua_multi(lua),
        Err(error) => refused(lua, "undefined-condition", error.to_string(), Some(error)),
    }
}

/// `requested(key, now)`: an `<r/>` goes out.
fn requested(_: &Lua, (stream, now): (i64, u64)) -> LuaResult<()> {
    sessions(|s| s.update(key(stream), |s| s.requested(now)));
    Ok(())
}

/// `hibernate(key, now)`: `timeout, { evicted keys }`, or nil if it cannot.
fn hibernate(lua: &Lua, (stream, now): (i64, u64)) -> Values {
    let hibernation = sessions(|s| s.hibernate(key(stream), now));
    match hibernation {
        None => LuaNil.into_lua_multi(lua),
        Some(hibernation) => {
            let evicted: Vec<i64> = hibernation.evicted.into_iter().map(number).collect();
            (hibernation.timeout, evicted).into_lua_multi(lua)
        }
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

/// `copies(key, number, last, budget, xmlns, from)`: `bytes, next, lost`: the stanzas from that number up to and without
/// `last`, stamped with their delay, until `budget` bytes are full; at least one, or nil if there is none. `lost` of them
/// are damaged on disk; something without content stands in their place. `nil, message` if the disk cannot be read.
fn copies(
    lua: &Lua,
    (stream, first, last, budget, xmlns, from): (i64, u64, u64, usize, Option<String>, String),
) -> Values {
    let (mut out, mut next, mut lost) = (Vec::new(), first, 0);
    let mut write = |stanza: Option<Stanza>| {
        let Stanza { bytes, at, summary } = stanza.unwrap_or(LOST);
        if !out.is_empty() && out.len() + bytes.len() > budget {
            return false;
        }
        let stamp = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(at)).to_string();
        let delay = summary.takes_delay().then_some(Delay { from: &from, stamp: &stamp });
        Resent { xmlns: xmlns.as_deref(), delay }.write(bytes, &mut out);
        next += 1;
        lost += usize::from(stanza.is_none());
        out.len() < budget
    };
    let read = sessions(|s| s.read(key(stream), first, last, &mut write));
    match read {
        // What was read before is right.
        Err(error) if next == first => return (LuaNil, error.to_string()).into_lua_multi(lua),
        _ if next == first => return LuaNil.into_lua_multi(lua),
        _ => {}
    }
    (lua.create_string(&out)?, next, lost).into_lua_multi(lua)
}

/// `resend(key)`: the number of the stanza to send again next, and the one behind the last; nil if all have gone out.
fn resend(lua: &Lua, stream: i64) -> Values {
    match sessions(|s| s.get(key(stream)).and_then(|s| Some((s.resend_from()?, s.queue().end())))) {
        Some(range) => range.into_lua_multi(lua),
        None => LuaNil.into_lua_multi(lua),
    }
}

/// `resent(key, next)`: everything before that number has gone out on this connection.
fn resent(_: &Lua, (stream, next): (i64, u64)) -> LuaResult<()> {
    sessions(|s| s.update(key(stream), |s| s.resent(next)));
    Ok(())
}

/// `totals()`: stanzas, bytes, bytes in memory, of all queues together.
fn totals(_: &Lua, (): ()) -> LuaResult<(usize, usize, usize)> {
    let totals = sessions(|s| s.totals());
    Ok((totals.stanzas, totals.bytes, totals.bytes_here))
}

/// `fate(name, type, recipient)`: "store", "return" or "discard", and whether an error may be returned for what nobody stores.
fn undelivered(
    _: &Lua,
    (name, kind, recipient): (LuaString, Option<LuaString>, LuaTable),
) -> LuaResult<(&'static str, bool)> {
    let is = |name| Ok::<_, LuaError>(recipient.raw_get::<Option<bool>>(name)?.unwrap_or(false));
    let recipient = Recipient {
        last_session: is("last_session")?,
        archived: is("archived")?,
        archive_result: is("archive_result")?,
        own: is("own")?,
        closed: is("closed")?,
        from_room: is("from_room")?,
    };
    let Some(name) = Name::from_bytes(&name.as_bytes()) else { return Ok(("discard", false)) };
    let kind = kind.map(|k| Kind::from_type(&k.as_bytes())).unwrap_or_default();
    Ok(match fate(Summary { name, kind, delayed: false }, recipient) {
        Fate::Store => ("store", true),
        Fate::StoreOrDiscard => ("store", false),
        Fate::Return => ("return", true),
        Fate::Discard => ("discard", false),
    })
}

/// `forgotten({ [id] = time }, allowed)`: the ids to forget.
fn forget_ids(_: &Lua, (sessions, allowed): (LuaTable, usize)) -> LuaResult<Vec<String>> {
    let sessions = sessions
        .pairs::<String, u64>()
        .map(|pair| pair.map(|(id, at)| Remembered { id, at }))
        .collect::<LuaResult<Vec<_>>>()?;
    Ok(forgotten(sessions, allowed))
}

/// `streams()`: how many there are, for tests and metrics.
fn streams(_: &Lua, (): ()) -> LuaResult<usize> {
    Ok(sessions(|s| s.len()))
}

pub fn table(lua: &Lua) -> LuaResult<LuaTable> {
    let smacks = lua.create_table()?;
    smacks.set("push", push::push_function(lua)?)?;
    smacks.set("limits", lua.create_function(limits)?)?;
    smacks.set("enable", lua.create_function(enable)?)?;
    smacks.set("start", lua.create_function(start)?)?;
    smacks.set("resume", lua.create_function(resume)?)?;
    smacks.set("received", push::received_function(lua)?)?;
    smacks.set("recount", lua.create_function(recount)?)?;
    smacks.set("handled", lua.create_function(handled)?)?;
    smacks.set("ack", push::ack_function(lua)?)?;
    smacks.set("covered", lua.create_function(covered)?)?;
    smacks.set("wants_ack", push::wants_ack_function(lua)?)?;
    smacks.set("requested", lua.create_function(requested)?)?;
    smacks.set("hibernate", lua.create_function(hibernate)?)?;
    smacks.set("revoke", lua.create_function(revoke)?)?;
    smacks.set("counts", lua.create_function(counts)?)?;
    smacks.set("copies", lua.create_function(copies)?)?;
    smacks.set("resend", lua.create_function(resend)?)?;
    smacks.set("resent", lua.create_function(resent)?)?;
    smacks.set("totals", lua.create_function(totals)?)?;
    smacks.set("fate", lua.create_function(undelivered)?)?;
    smacks.set("forgotten", lua.create_function(forget_ids)?)?;
    smacks.set("forget", lua.create_function(forget)?)?;
    smacks.set("streams", lua.create_function(streams)?)?;
    Ok(smacks)
}
