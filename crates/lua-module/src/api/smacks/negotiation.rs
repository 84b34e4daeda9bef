//! How streams begin, and are resumed: limits, `<enable/>`, the offer, the side that asks, `<resume/>`.

use super::{Values, error_table, string};
use crate::state::{Handle, checked_number, key, number, sessions};
use enjamb_stream_management::{
    EnableRequest, Enabled, H, Initiator, Limits, Origin, Peer, Refusal, Registry, ResumeRequest, Resumed,
    Resumption, ResumptionId, Step,
};
use mlua::prelude::*;
use std::sync::Arc;

pub struct LuaLimits(pub Arc<Limits>);

impl LuaUserData for LuaLimits {}

/// What the shim knows of the other end of a connection: `{ account, bound, bosh }` of a client, `{ is_server,
/// authenticated, allowed }` of a server.
struct LuaOrigin {
    account: Option<String>,
    bound: bool,
    bosh: bool,
    is_server: bool,
    authenticated: bool,
    allowed: bool,
}

impl FromLua for LuaOrigin {
    fn from_lua(value: LuaValue, lua: &Lua) -> LuaResult<Self> {
        let table = LuaTable::from_lua(value, lua)?;
        let is = |name| Ok::<_, LuaError>(table.raw_get::<Option<bool>>(name)?.unwrap_or(false));
        Ok(LuaOrigin {
            account: table.raw_get("account")?,
            bound: is("bound")?,
            bosh: is("bosh")?,
            is_server: is("is_server")?,
            authenticated: is("authenticated")?,
            allowed: is("allowed")?,
        })
    }
}

impl LuaOrigin {
    fn get(&self) -> Origin<'_> {
        match self.is_server {
            true => Origin::Server { authenticated: self.authenticated, allowed: self.allowed },
            false => {
                Origin::Client { account: self.account.as_deref(), bound: self.bound, over_bosh: self.bosh }
            }
        }
    }
}

/// What `<failed/>` is to say, as [`error_table`], and `remembered`: whether the count of a session that is gone belongs
/// into it.
fn refusal(lua: &Lua, refusal: Refusal) -> LuaResult<LuaTable> {
    let error = error_table(lua, refusal.condition(), refusal.to_string(), refusal.too_high())?;
    error.raw_set("remembered", refusal.tells_what_was_handled())?;
    Ok(error)
}

/// `refusal(why)`: "not enabled".
fn refusal_of(lua: &Lua, why: String) -> LuaResult<LuaTable> {
    refusal(lua, reason(&why)?)
}

/// What the shim has found out that the library cannot know.
fn reason(why: &str) -> LuaResult<Refusal> {
    match why {
        "not enabled" => Ok(Refusal::NotEnabled),
        "session lost" => Ok(Refusal::SessionLost),
        "connection lost" => Ok(Refusal::ConnectionLost),
        "disk silent" => Ok(Refusal::DiskSilent),
        _ => Err(LuaError::runtime(format!("there is no refusal '{why}'"))),
    }
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
        ack_delay: options.get::<Option<u32>>("ack_delay")?.unwrap_or(Limits::default().ack_delay),
        hibernated: options.get("hibernated")?,
    })))
}

/// `offer(origin, managed)`: the namespaces of the features that the other end is told.
fn offer(_: &Lua, (origin, managed): (LuaOrigin, bool)) -> LuaResult<Vec<&'static str>> {
    Ok(origin.get().offer(managed).to_vec())
}

/// `enable(limits, origin, already, resume, max)`: `true, id, timeout` or `nil, error`.
fn enable(
    lua: &Lua,
    (limits, origin, already, resume, max): (
        LuaUserDataRef<LuaLimits>,
        LuaOrigin,
        bool,
        Option<LuaString>,
        Option<LuaString>,
    ),
) -> Values {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(LuaError::external)?;
    let (resume, max) = (string(resume), string(max));
    let request = EnableRequest { resume: resume.as_deref(), max: max.as_deref() };
    let origin = origin.get();
    let decide = |peer| Registry::enable(&limits.0, peer, already, request, u128::from_ne_bytes(random));
    match origin.peer().and_then(decide) {
        Ok(Enabled { resumption }) => {
            let (id, timeout) = resumption.map(|(id, timeout)| (id.to_string(), timeout)).unzip();
            (true, id, timeout).into_lua_multi(lua)
        }
        Err(error) => (LuaNil, refusal(lua, error)?).into_lua_multi(lua),
    }
}

/// Limits, account, id, seconds to wait, and how many stanzas came in behind the `<enable/>`.
type Start = (LuaUserDataRef<LuaLimits>, Option<String>, Option<String>, Option<u32>, Option<usize>);

/// `start(limits, account, id, timeout, waiting)`: `key, handle`. `waiting` is nil if this side has sent the `<enable/>`:
/// what comes in counts only from `count_from_here` on.
fn start(_: &Lua, (limits, account, id, timeout, waiting): Start) -> LuaResult<(i64, Handle)> {
    let resumption = id.as_deref().and_then(ResumptionId::parse).zip(timeout);
    let (enabled, limits) = (Enabled { resumption }, Arc::clone(&limits.0));
    let key = sessions(|s| {
        let key = s.start(limits, account.as_deref(), enabled, waiting.unwrap_or(0));
        if waiting.is_none() {
            s.update(key, |s| s.count_later());
        }
        key
    });
    // Who is let go here ends there.
    let handle = Handle(key);
    let number = checked_number(key).ok_or_else(|| LuaError::runtime("there are too many streams"))?;
    Ok((number, handle))
}

/// `count_from_here(key)`: what comes in counts from now on.
fn count_from_here(_: &Lua, stream: i64) -> LuaResult<()> {
    sessions(|s| s.update(key(stream), |s| s.count_from_here()));
    Ok(())
}

/// `initiator()`: how far this side has come that asks for stream management. Its methods: `features({ namespaces })`,
/// `established()` gives the namespace of the `<enable/>` to be sent, `enabled()` and `failed()` whether something follows.
struct LuaInitiator(Initiator);

impl LuaUserData for LuaInitiator {
    fn add_methods<M: LuaUserDataMethods<Self>>(methods: &mut M) {
        methods.add_method_mut("features", |_, this, offered: Vec<String>| {
            this.0.features(offered.iter().map(String::as_str));
            Ok(())
        });
        methods.add_method_mut("established", |_, this, ()| Ok(this.0.established()));
        methods.add_method_mut("enabled", |_, this, ()| Ok(this.0.enabled()));
        methods.add_method_mut("failed", |_, this, ()| Ok(this.0.failed()));
    }
}

/// `resumption(origin, previd, h)`: a `<resume/>`, step by step. `next()` gives what is to be done: `"settle", key`,
/// `"prepare", found`, `"resumed", found`, or `"refuse", error`; `found` is `{ key, acked, since }`. `refuse(why)` ends it:
/// "session lost", "connection lost", "disk silent".
struct LuaResumption {
    origin: LuaOrigin,
    previd: Option<String>,
    h: Option<String>,
    steps: Resumption,
}

impl LuaResumption {
    fn next(&mut self) -> Step {
        let request = ResumeRequest { previd: self.previd.as_deref(), h: self.h.as_deref() };
        let for_good = self.steps.is_for_good();
        let look = |peer: Peer| {
            sessions(|s| match for_good {
                true => s.resume(peer, request),
                false => s.resumable(peer, request),
            })
        };
        let found = self.origin.get().resuming().and_then(look);
        self.steps.next(found)
    }
}

fn step(lua: &Lua, step: Step) -> Values {
    let found = |resumed: Resumed| {
        let found = lua.create_table()?;
        found.raw_set("key", number(resumed.key))?;
        found.raw_set("acked", resumed.acked)?;
        found.raw_set("since", resumed.hibernating_since)?;
        Ok::<_, LuaError>(found)
    };
    match step {
        Step::Settle(key) => ("settle", number(key)).into_lua_multi(lua),
        Step::Prepare(resumed) => ("prepare", found(resumed)?).into_lua_multi(lua),
        Step::Resumed(resumed) => ("resumed", found(resumed)?).into_lua_multi(lua),
        Step::Refuse(error) => ("refuse", refusal(lua, error)?).into_lua_multi(lua),
    }
}

impl LuaUserData for LuaResumption {
    fn add_methods<M: LuaUserDataMethods<Self>>(methods: &mut M) {
        methods.add_method_mut("next", |lua, this, ()| step(lua, this.next()));
        methods.add_method_mut("refuse", |lua, this, why: String| {
            let refusal = reason(&why)?;
            step(lua, this.steps.refuse(refusal))
        });
    }
}

fn resumption(
    _: &Lua,
    (origin, previd, h): (LuaOrigin, Option<LuaString>, Option<LuaString>),
) -> LuaResult<LuaResumption> {
    Ok(LuaResumption { origin, previd: string(previd), h: string(h), steps: Resumption::default() })
}

/// `received_behind(key, before, n)`: n more stanzas had come in behind a `<resume/>`, on the connection that the session got. The
/// count that makes.
fn received_behind(_: &Lua, (stream, before, n): (i64, u32, usize)) -> LuaResult<u32> {
    let count = sessions(|s| s.update(key(stream), |s| s.received_behind(H(before), n)));
    Ok(count.unwrap_or(H(before).plus(n)).0)
}

/// `recount(key, h)`: the client was told that this many were handled, and sends the rest again.
fn recount(_: &Lua, (stream, h): (i64, u32)) -> LuaResult<()> {
    sessions(|s| s.recount(key(stream), H(h)));
    Ok(())
}

pub fn add(lua: &Lua, smacks: &LuaTable) -> LuaResult<()> {
    smacks.set("limits", lua.create_function(limits)?)?;
    smacks.set("refusal", lua.create_function(refusal_of)?)?;
    smacks.set("offer", lua.create_function(offer)?)?;
    smacks.set("enable", lua.create_function(enable)?)?;
    smacks.set("start", lua.create_function(start)?)?;
    smacks.set("count_from_here", lua.create_function(count_from_here)?)?;
    smacks.set("initiator", lua.create_function(|_, ()| Ok(LuaInitiator(Initiator::default())))?)?;
    smacks.set("resumption", lua.create_function(resumption)?)?;
    smacks.set("received_behind", lua.create_function(received_behind)?)?;
    smacks.set("recount", lua.create_function(recount)?)
}
