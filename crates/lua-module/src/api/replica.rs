//! `enjamb.replica`: the journal's copy in a database, and whether this server is the one that serves.
//!
//! Glue to [`Replica`]. Nothing here waits but `wait` and `release`.

use crate::log;
use crate::state::with;
use crate::wake::Wake;
use enjamb_replica::url::Url;
use enjamb_replica::{Options, Replica, Role};
use mlua::prelude::*;
use std::path::PathBuf;
use std::time::Duration;

/// The copy, if there is one.
#[derive(Default)]
pub struct Copy {
    replica: Option<Replica>,
    /// By what it tells that there is news.
    wake: Option<Wake>,
    /// What Lua was told that this server is.
    role: Role,
}

impl Copy {
    /// Whether there is one.
    pub fn is_started(&self) -> bool {
        self.replica.is_some()
    }

    /// Up to where it has everything of the open journal.
    pub fn durable(&self) -> u64 {
        self.replica.as_ref().and_then(Replica::durable).unwrap_or(0)
    }
}

/// What it is without one.
const STOPPED: &str = "stopped";

fn failed(lua: &Lua, error: impl std::fmt::Display) -> LuaResult<LuaMultiValue> {
    log::hand_over(lua);
    (LuaNil, error.to_string()).into_lua_multi(lua)
}

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

/// `start{ url=, cluster=, node=, directory=, lease=, version= }`: `true`; or `nil, message`.
fn start(lua: &Lua, options: LuaTable) -> LuaResult<LuaMultiValue> {
    if with(|state| state.replica.is_started()) {
        return true.into_lua_multi(lua);
    }
    let url: String = options.get("url")?;
    let cluster: Option<String> = options.get("cluster")?;
    let cluster = match cluster {
        Some(cluster) => cluster,
        None => return failed(lua, "the replica has no name: set smacks_replica_name"),
    };
    let lease: Option<f64> = options.get("lease")?;
    let options = Options {
        url,
        cluster,
        node: options.get("node")?,
        directory: PathBuf::from(options.get::<String>("directory")?),
        lease: seconds(lease.unwrap_or(10.0)),
    };
    let (wake, tell) = match Wake::new() {
        Ok(wake) => wake,
        Err(error) => return failed(lua, error),
    };
    match Replica::start(&options, tell) {
        Err(error) => failed(lua, error),
        Ok(replica) => {
            let role = replica.role();
            with(|state| state.replica = Copy { replica: Some(replica), wake: Some(wake), role });
            true.into_lua_multi(lua)
        }
    }
}

/// `host(url)`: the first host in it; or `nil, message`.
fn host(lua: &Lua, url: String) -> LuaResult<LuaMultiValue> {
    match Url::parse(&url) {
        Ok(url) => url.host().into_lua_multi(lua),
        Err(error) => failed(lua, error),
    }
}

/// `state()`: how all stands.
fn state(lua: &Lua, (): ()) -> LuaResult<LuaTable> {
    let table = lua.create_table()?;
    let asked = with(|state| {
        let replica = state.replica.replica.as_ref()?;
        let now = replica.state();
        state.replica.role = now.role;
        Some((now, replica.progress(), replica.left()))
    });
    log::hand_over(lua);
    let Some((state, progress, left)) = asked else {
        table.set("role", STOPPED)?;
        table.set("connected", false)?;
        table.set("warnings", lua.create_table()?)?;
        return Ok(table);
    };
    table.set("role", state.role.name())?;
    table.set("reason", state.reason)?;
    table.set("holder", state.holder)?;
    table.set("epoch", state.epoch)?;
    table.set("left", left.as_secs_f64())?;
    table.set("connected", state.connected)?;
    table.set("lag", progress.lag)?;
    table.set("latency", state.latency.map(|latency| latency.as_secs_f64()))?;
    table.set("behind_since", progress.behind.map(|behind| behind.as_secs_f64()))?;
    table.set("warnings", lua.create_sequence_from(state.warnings)?)?;
    table.set("set_aside", state.set_aside.map(|path| path.display().to_string()))?;
    table.set("restored", state.restored)?;
    Ok(table)
}

/// `wait(seconds)`: waits until the role is another than was told last, at most so long; what [`state`] says.
fn wait(lua: &Lua, most: f64) -> LuaResult<LuaTable> {
    with(|state| {
        if let Copy { replica: Some(replica), role, .. } = &state.replica {
            replica.wait(*role, seconds(most));
        }
    });
    state(lua, ())
}

/// `watch()`: a file descriptor that becomes readable when there is news.
fn watch(_: &Lua, (): ()) -> LuaResult<Option<i32>> {
    Ok(with(|state| state.replica.wake.as_ref().map(Wake::fd)))
}

/// `woken()`: that it is readable was noticed. Whether [`state`] says anything new; if not, more is copied.
fn woken(_: &Lua, (): ()) -> LuaResult<bool> {
    Ok(with(|state| {
        state.replica.wake.as_mut().map(Wake::take);
        state.replica.replica.as_ref().is_some_and(Replica::has_news)
    }))
}

/// `permitted()`: whether this server may serve now.
fn permitted(_: &Lua, (): ()) -> LuaResult<bool> {
    Ok(with(|state| state.replica.replica.as_ref().is_some_and(Replica::permitted)))
}

/// `turned()`: the main loop turned.
fn turned(_: &Lua, (): ()) -> LuaResult<()> {
    with(|state| state.replica.replica.as_ref().map(Replica::turned));
    Ok(())
}

/// `attach()`: the open journal is copied from now on. `true`; or `nil, message`.
fn attach(lua: &Lua, (): ()) -> LuaResult<LuaMultiValue> {
    let attached = with(|state| {
        let (Some(replica), Some(journal)) = (&state.replica.replica, state.sessions.journal()) else {
            return Err("no replica was started, or no journal is open".to_owned());
        };
        replica.attach(journal).map_err(|error| error.to_string())
    });
    match attached {
        Ok(()) => true.into_lua_multi(lua),
        Err(message) => failed(lua, message),
    }
}

/// `release(seconds)`: gives the lease up when all is copied; whether that was done in so many seconds.
fn release(lua: &Lua, most: f64) -> LuaResult<bool> {
    let released =
        with(|state| state.replica.replica.as_ref().is_some_and(|replica| replica.release(seconds(most))));
    log::hand_over(lua);
    Ok(released)
}

/// `handover()`: the same, without waiting.
fn handover(_: &Lua, (): ()) -> LuaResult<()> {
    with(|state| state.replica.replica.as_ref().map(Replica::hand_over));
    Ok(())
}

/// `stop()`: ends it. The lease stays as it is.
fn stop(lua: &Lua, (): ()) -> LuaResult<()> {
    with(|state| {
        state.replica.replica = None; // its thread may tell until then
        state.replica.wake = None;
    });
    log::hand_over(lua);
    Ok(())
}

pub fn table(lua: &Lua) -> LuaResult<LuaTable> {
    let replica = lua.create_table()?;
    replica.set("start", lua.create_function(start)?)?;
    replica.set("host", lua.create_function(host)?)?;
    replica.set("state", lua.create_function(state)?)?;
    replica.set("wait", lua.create_function(wait)?)?;
    replica.set("watch", lua.create_function(watch)?)?;
    replica.set("woken", lua.create_function(woken)?)?;
    replica.set("permitted", lua.create_function(permitted)?)?;
    replica.set("turned", lua.create_function(turned)?)?;
    replica.set("attach", lua.create_function(attach)?)?;
    replica.set("release", lua.create_function(release)?)?;
    replica.set("handover", lua.create_function(handover)?)?;
    replica.set("stop", lua.create_function(stop)?)?;
    Ok(replica)
}
