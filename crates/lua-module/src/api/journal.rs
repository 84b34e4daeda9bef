//! `enjamb.journal`: what is kept of the resumable streams, and what may therefore be acknowledged.
//!
//! Glue to [`Sessions`], which follows the streams of [`crate::api::smacks`] by itself.

use crate::ahead::{self, Ahead};
use crate::api::attributes;
use crate::api::smacks::LuaLimits;
use crate::log;
use crate::logs::{self, Logs};
use crate::state::{Handle, key, number, sessions, with};
use crate::wake::Wake;
use enjamb_journal::{Config, Error as JournalError, Journal, Recovery};
use enjamb_rooms::Rooms;
use enjamb_sessions::{
    Answer, Attribute, AttributeKind, Bytes, Facts, Found, Host, Key, Level, Restored, Safe, Scope, Sessions,
    Verdict,
};
use enjamb_stream_management::{Enabled, H, ResumptionId, StreamKey};
use mlua::prelude::*;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, UNIX_EPOCH};

/// How long the lock of a dying server is waited for, once: each host tries to open the journal, and all stands still meanwhile.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);
const LOCK_POLL: Duration = Duration::from_millis(20);

pub fn new_id() -> LuaResult<u64> {
    // Random, because an id must never be used twice, not even after a restart.
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(LuaError::external)?;
    Ok(u64::from_ne_bytes(random))
}

thread_local! {
    /// The directory whose lock was waited for in vain.
    static REFUSED: RefCell<Option<PathBuf>> = const { RefCell::new(None) };
}

fn failed(lua: &Lua, error: impl std::fmt::Display) -> LuaResult<LuaMultiValue> {
    (LuaNil, error.to_string()).into_lua_multi(lua)
}

/// Opens the journal. A server that was killed may still be in a system call of its journal's thread, and hold the
/// lock, when the next one starts: that is waited for.
fn open_patiently(directory: &Path) -> Result<(Journal, Recovery), JournalError> {
    let started = Instant::now();
    let patience = match REFUSED.with_borrow(|refused| refused.as_deref() == Some(directory)) {
        true => Duration::ZERO,
        false => LOCK_PATIENCE,
    };
    loop {
        match Journal::open(directory, Config::default()) {
            Err(JournalError::InUse { .. }) if started.elapsed() < patience => thread::sleep(LOCK_POLL),
            result => {
                let is_refused = matches!(result, Err(JournalError::InUse { .. }));
                REFUSED.set(is_refused.then(|| directory.to_owned()));
                return result;
            }
        }
    }
}

/// When anything was last written there, in seconds since 1970.
fn last_written(directory: &Path) -> Option<u64> {
    let files = std::fs::read_dir(directory).ok()?;
    let times =
        files.filter_map(|entry| entry.ok()?.metadata().ok().filter(|m| m.len() > 0)?.modified().ok());
    times.max()?.duration_since(UNIX_EPOCH).ok().map(|d| d.as_secs())
}

/// `open(directory)`: a table that says what was found, or `nil, message, in_use`: whether another server has it.
fn open(lua: &Lua, directory: String) -> LuaResult<LuaMultiValue> {
    let said = lua.create_table()?;
    if sessions(|s| s.journal().is_some()) {
        return said.into_lua_multi(lua);
    }
    let (directory, started) = (Path::new(&directory), Instant::now());
    let written = last_written(directory);
    let opened = open_patiently(directory);
    log::hand_over(lua);
    match opened {
        Err(error) => {
            (LuaNil, error.to_string(), matches!(error, JournalError::InUse { .. })).into_lua_multi(lua)
        }
        Ok((mut journal, recovery)) => {
            let (mut of_logs, mut ahead) = (Vec::new(), Ahead::default());
            let rooms = Rooms::open_beside(&mut journal, |id, record| match ahead::lines(record) {
                Some(lines) => ahead = Ahead::found(id, lines),
                None => of_logs.extend(logs::name(record).map(|name| (id, name))),
            });
            let logs = Logs::open(&mut journal, of_logs);
            let logs = if with(|state| state.is_copied()) {
                logs
            } else {
                logs.end(&mut journal).map_err(LuaError::external)?;
                Logs::default()
            };
            let not_sessions: Vec<u64> =
                rooms.ids().into_iter().chain(logs.ids()).chain(ahead.id()).collect();
            said.set("sessions", journal.sessions().count() - not_sessions.len())?;
            said.set("torn", recovery.torn)?;
            said.set("damaged", recovery.damaged.len())?;
            said.set("incomplete", recovery.incomplete.len())?;
            said.set("written", written)?;
            said.set("seconds", started.elapsed().as_secs_f64())?;
            with(|state| {
                state.opened_in(directory);
                state.sessions.open(journal);
                not_sessions.into_iter().for_each(|id| state.sessions.leave_alone(id));
                (state.rooms, state.logs, state.ahead) = (rooms, logs, ahead);
                state.opened = Some(Instant::now());
            });
            said.into_lua_multi(lua)
        }
    }
}

/// `close()`: commits what can be, and lets the directory go.
fn close(lua: &Lua, (): ()) -> LuaResult<()> {
    let closed = with(|state| {
        let closed = state.sessions.close();
        state.wake = None; // after the journal's thread, which may tell until then
        closed
    });
    log::hand_over(lua);
    closed.map_err(LuaError::external)
}

/// What became of something that is to be kept: `true`; or `nil, message` if the disk cannot take it now.
fn kept(lua: &Lua, result: Result<(), JournalError>) -> LuaResult<LuaMultiValue> {
    match result {
        Err(error) => failed(lua, error),
        Ok(()) => true.into_lua_multi(lua),
    }
}

/// `keep(key, state, whole)`: the stream is to survive, and its session is what `state` says: [`State`](enjamb_sessions::State)
/// by the names of its fields. Said again, what has changed is written, and what is not in it any more is gone; unless `whole`, presence, directed
/// presence and rooms are not looked at. `true`; or `nil, message` if the disk cannot take it now.
fn keep(lua: &Lua, (stream, state, whole): (i64, LuaTable, bool)) -> LuaResult<LuaMultiValue> {
    let (id, attributes) = (new_id()?, attributes::state(&state)?.attributes());
    let scope = if whole { Scope::Whole } else { Scope::Small };
    kept(lua, sessions(|s| s.keep(key(stream), id, &attributes, scope)))
}

/// `presence(key, bytes)`: the session's presence is this now, or none. Returns what [`keep`] does; so do the next two.
fn presence(lua: &Lua, (stream, bytes): (i64, Option<LuaString>)) -> LuaResult<LuaMultiValue> {
    let attribute = bytes.map(|b| Attribute::Presence(Bytes(b.as_bytes().to_vec())));
    kept(
        lua,
        sessions(|s| match &attribute {
            Some(attribute) => s.set(key(stream), attribute),
            None => s.unset(key(stream), Key::Only(AttributeKind::Presence)),
        }),
    )
}

/// `directed(key, jid, is)`: directed presence goes to that address now, or not.
fn directed(lua: &Lua, (stream, jid, is): (i64, String, bool)) -> LuaResult<LuaMultiValue> {
    kept(
        lua,
        sessions(|s| match is {
            true => s.set(key(stream), &Attribute::Directed(jid)),
            false => s.unset(key(stream), Key::Named(AttributeKind::Directed, &jid)),
        }),
    )
}

/// `room(key, room, nick)`: the session is in that room now, or not.
fn room(lua: &Lua, (stream, room, nick): (i64, String, Option<String>)) -> LuaResult<LuaMultiValue> {
    kept(
        lua,
        sessions(|s| match nick {
            Some(nick) => s.set(key(stream), &Attribute::Room { room, nick }),
            None => s.unset(key(stream), Key::Named(AttributeKind::Room, &room)),
        }),
    )
}

/// `processed(key, waiting)`: all but that many of the stanzas that came in have been processed.
fn processed(_: &Lua, (stream, waiting): (i64, usize)) -> LuaResult<()> {
    sessions(|s| s.processed(key(stream), waiting));
    Ok(())
}

/// What a commit has to tell: `error, { [key] = reason }`, each nil if there is none. `error`: nothing could be written;
/// the rest cannot be kept, and its sessions have to end.
struct Told(Result<(), JournalError>, Vec<(StreamKey, JournalError)>);

impl IntoLuaMulti for Told {
    fn into_lua_multi(self, lua: &Lua) -> LuaResult<LuaMultiValue> {
        let Told(committed, unkept) = self;
        let reasons = (!unkept.is_empty()).then(|| lua.create_table()).transpose()?;
        if let Some(reasons) = &reasons {
            for (key, error) in unkept {
                reasons.raw_set(number(key), error.to_string())?;
            }
        }
        (committed.err().map(|e| e.to_string()), reasons).into_lua_multi(lua)
    }
}

/// The sessions, with the journal's clock right: by it what was acknowledged leaves the disk.
fn now<T>(f: impl FnOnce(&mut Sessions) -> T) -> T {
    with(|state| {
        if let (Some(opened), Some(journal)) = (state.opened, state.sessions.journal()) {
            journal.tick(opened.elapsed());
        }
        f(&mut state.sessions)
    })
}

/// `commit()`: hands everything to the operating system, and tells as [`Told`] says.
fn commit(lua: &Lua, (): ()) -> LuaResult<Told> {
    let told = now(|s| {
        let committed = s.commit();
        Told(committed, s.take_unkept())
    });
    log::hand_over(lua);
    Ok(told)
}

/// `claim(key, h, level, durable)`: how much may be said to have been handled if `h` has been (nil if that cannot be told
/// yet), whether more may be as soon as the disk has it, and what [`Told`] says. `durable` is for tests: up to where the disk is taken to have everything.
fn claim(
    lua: &Lua,
    (stream, h, level, durable): (i64, u32, LuaString, Option<u64>),
) -> LuaResult<(Option<u32>, bool, Told)> {
    let level = match &*level.as_bytes() {
        b"none" => Level::None,
        b"power" => Level::Power,
        b"replicated" => Level::Replicated,
        _ => Level::Process,
    };
    let safe = safe(durable);
    let told = now(|s| {
        let durable = safe.at(level);
        let (claim, committed) = s.claim(key(stream), H(h), level, durable);
        (claim.h.map(|h| h.0), claim.pending, Told(committed, s.take_unkept()))
    });
    log::hand_over(lua);
    Ok(told)
}

/// Up to where the journal is safe. Without a replica nothing is copied.
fn safe(durable: Option<u64>) -> Safe {
    with(|state| {
        let disk = durable.unwrap_or_else(|| state.sessions.journal().map_or(0, |j| j.durable()));
        Safe { disk, copy: state.copied() }
    })
}

/// `settled(durable)`: `{ [key] = h }` of the streams of which more may be claimed now, since the disk has it, or the replica.
fn settled(lua: &Lua, durable: Option<u64>) -> LuaResult<LuaTable> {
    let safe = safe(durable);
    let settled = sessions(|s| s.settled(safe));
    lua.create_table_from(settled.into_iter().map(|(key, h)| (number(key), h.0)))
}

/// `durable()`: up to where everything survives a crash of the machine.
fn durable(_: &Lua, (): ()) -> LuaResult<u64> {
    Ok(sessions(|s| s.journal().map_or(0, |j| j.durable())))
}

/// `watch()`: a file descriptor that becomes readable when `durable()` has grown.
fn watch(_: &Lua, (): ()) -> LuaResult<Option<i32>> {
    with(|state| {
        let Some(journal) = state.sessions.journal() else { return Ok(None) };
        if state.wake.is_none() {
            let (wake, tell) = Wake::new().map_err(LuaError::external)?;
            journal.on_durable(tell);
            state.wake = Some(wake);
        }
        Ok(state.wake.as_ref().map(Wake::fd))
    })
}

/// `woken()`: that it is readable was noticed.
fn woken(_: &Lua, (): ()) -> LuaResult<()> {
    with(|state| state.wake.as_mut().map(Wake::take));
    Ok(())
}

/// `ended(key)`: nothing is owed to the stream's client any more; the stream is gone.
fn ended(_: &Lua, stream: i64) -> LuaResult<()> {
    sessions(|s| s.ended(key(stream)));
    Ok(())
}

/// A session that waits, as Lua has it: text, since not every Lua has whole numbers as large.
struct Token(u64);

impl FromLua for Token {
    fn from_lua(value: LuaValue, lua: &Lua) -> LuaResult<Token> {
        let text = String::from_lua(value, lua)?;
        u64::from_str_radix(&text, 16).map(Token).map_err(LuaError::external)
    }
}

impl IntoLua for Token {
    fn into_lua(self, lua: &Lua) -> LuaResult<LuaValue> {
        format!("{:016x}", self.0).into_lua(lua)
    }
}

/// `found()`: `{ [host] = { token, ... } }` of the sessions that wait to be brought back, and `{ [token] = reason }` of those
/// that cannot be.
fn found(lua: &Lua, (): ()) -> LuaResult<(LuaTable, LuaTable)> {
    let (hosts, reasons) = (lua.create_table()?, lua.create_table()?);
    let mut by_host: BTreeMap<Box<str>, Vec<u64>> = BTreeMap::new();
    for Found { token, host } in sessions(|s| s.found()) {
        match host {
            Ok(host) => by_host.entry(host).or_default().push(token),
            Err(error) => reasons.raw_set(Token(token), error.to_string())?,
        }
    }
    for (host, tokens) in by_host {
        hosts.raw_set(&*host, lua.create_sequence_from(tokens.into_iter().map(Token))?)?;
    }
    log::hand_over(lua);
    Ok((hosts, reasons))
}

/// `state(token)`: what is known of a session that waits, as [`keep`] was told; or `nil, message`.
fn state(lua: &Lua, Token(token): Token) -> LuaResult<LuaMultiValue> {
    match sessions(|s| s.state(token)) {
        Err(error) => failed(lua, error),
        Ok(state) => attributes::table(lua, state)?.into_lua_multi(lua),
    }
}

/// `host_is_missing(token, since)`: since then there is no such host as that session's. `true`, or `nil, message`.
fn host_is_missing(lua: &Lua, (Token(token), since): (Token, i64)) -> LuaResult<LuaMultiValue> {
    match sessions(|s| s.host_is_missing(token, since)) {
        Err(error) => failed(lua, error),
        Ok(()) => true.into_lua_multi(lua),
    }
}

fn of_table(facts: &LuaTable) -> LuaResult<Facts> {
    let host = match facts.raw_get::<Option<String>>("host")?.as_deref() {
        None | Some("here") => Host::Here,
        Some("without_us") => Host::WithoutUs,
        Some("missing") => Host::Missing,
        Some(other) => return Err(LuaError::runtime(format!("no host is '{other}'"))),
    };
    let answer = |name| -> LuaResult<_> {
        Ok(match facts.raw_get::<LuaValue>(name)? {
            LuaValue::Nil => None,
            LuaValue::Boolean(known) => Some(Answer::Known(known)),
            why => Some(Answer::Unknown(why.to_string()?)),
        })
    };
    Ok(Facts {
        host,
        missing_since: facts.raw_get("missing_since")?,
        now: facts.raw_get::<Option<i64>>("now")?.unwrap_or_default(),
        account_exists: answer("account_exists")?,
        account_is_enabled: answer("account_is_enabled")?,
        same_password: answer("same_password")?,
        role_refused: facts.raw_get("role_refused")?,
        role_unknown: facts.raw_get("role_unknown")?,
        resource_is_taken: facts.raw_get::<Option<bool>>("resource_is_taken")?.unwrap_or_default(),
    })
}

/// `verdict(facts)`: what becomes of a session that waits ([`Facts`] by the names of its fields): `"return"`; `"end", reason,
/// account_is_gone`; `"ask again", reason`; `"send on"`; `"await host", is_new`; `"drop"`.
fn verdict(lua: &Lua, facts: LuaTable) -> LuaResult<LuaMultiValue> {
    match enjamb_sessions::verdict(&of_table(&facts)?) {
        Verdict::Return => "return".into_lua_multi(lua),
        Verdict::End { reason, account_is_gone } => ("end", reason, account_is_gone).into_lua_multi(lua),
        Verdict::AskAgain { reason } => ("ask again", reason).into_lua_multi(lua),
        Verdict::SendOn => "send on".into_lua_multi(lua),
        Verdict::AwaitHost { is_new } => ("await host", is_new).into_lua_multi(lua),
        Verdict::Drop => "drop".into_lua_multi(lua),
    }
}

/// `retry_after(times)`: in how many seconds those are asked again that could not tell so many times before.
fn retry_after(_: &Lua, times: u32) -> LuaResult<u32> {
    Ok(enjamb_sessions::retry_after(times))
}

/// `discard(token)`: that session does not come back.
fn discard(_: &Lua, Token(token): Token) -> LuaResult<()> {
    sessions(|s| s.discard(token));
    Ok(())
}

/// `restore(token, limits, account, id, timeout)`: `key, handle, h, lost, had_waited`: the stream as it was, how many of its
/// stanzas could not be read, and whether its peer was away already when the server ended; or `nil, message`.
fn restore(
    lua: &Lua,
    (Token(token), limits, account, id, timeout): (Token, LuaUserDataRef<LuaLimits>, String, String, u32),
) -> LuaResult<LuaMultiValue> {
    let resumption = ResumptionId::parse(&id).map(|id| (id, timeout));
    let limits = Arc::clone(&limits.0);
    match sessions(|s| s.restore(token, limits, &account, Enabled { resumption })) {
        Ok(Restored { key, h, lost, had_waited }) => {
            (number(key), Handle(key), h.0, lost, had_waited).into_lua_multi(lua)
        }
        Err(error) => failed(lua, error),
    }
}

/// `stats()`: bytes and records, for metrics.
fn stats(lua: &Lua, (): ()) -> LuaResult<Option<LuaTable>> {
    let Some(stats) = sessions(|s| s.journal().map(|j| j.stats())) else { return Ok(None) };
    let table = lua.create_table()?;
    table.set("sessions", stats.sessions)?;
    table.set("queued", stats.queued)?;
    table.set("disk_bytes", stats.disk_bytes)?;
    table.set("live_bytes", stats.live_bytes)?;
    table.set("commits", stats.commits)?;
    Ok(Some(table))
}

pub fn table(lua: &Lua) -> LuaResult<LuaTable> {
    let journal = lua.create_table()?;
    journal.set("open", lua.create_function(open)?)?;
    journal.set("close", lua.create_function(close)?)?;
    journal.set("keep", lua.create_function(keep)?)?;
    journal.set("presence", lua.create_function(presence)?)?;
    journal.set("directed", lua.create_function(directed)?)?;
    journal.set("room", lua.create_function(room)?)?;
    journal.set("processed", lua.create_function(processed)?)?;
    journal.set("commit", lua.create_function(commit)?)?;
    journal.set("claim", lua.create_function(claim)?)?;
    journal.set("settled", lua.create_function(settled)?)?;
    journal.set("durable", lua.create_function(durable)?)?;
    journal.set("watch", lua.create_function(watch)?)?;
    journal.set("woken", lua.create_function(woken)?)?;
    journal.set("ended", lua.create_function(ended)?)?;
    journal.set("found", lua.create_function(found)?)?;
    journal.set("state", lua.create_function(state)?)?;
    journal.set("host_is_missing", lua.create_function(host_is_missing)?)?;
    journal.set("verdict", lua.create_function(verdict)?)?;
    journal.set("retry_after", lua.create_function(retry_after)?)?;
    journal.set("discard", lua.create_function(discard)?)?;
    journal.set("restore", lua.create_function(restore)?)?;
    journal.set("stats", lua.create_function(stats)?)?;
    Ok(journal)
}
