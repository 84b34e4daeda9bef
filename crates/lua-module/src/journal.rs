//! `enjamb.journal`: the resumable streams, kept on disk.
//!
//! Follows what happens to the streams of [`crate::smacks`]: a stanza that is queued, a count that is acknowledged, a
//! session that ends. Records are handed to the operating system by [`commit`], which the shim calls before it
//! acknowledges anything. If a record cannot be written, the stream is marked and caught up with as soon as that works
//! again; until then `commit` fails and nothing more is acknowledged. What cannot be written whatever the disk does (it is
//! too long) is that stream's trouble alone: `commit` names the stream, and its session has to end.
//!
//! A queue may be on disk only: [`fetch`] reads it.

use crate::kept::{self, LIVE, LOST, Numbering, Stanza};
use crate::smacks;
use crate::wake::Wake;
use enjamb_journal::{Config, Error as JournalError, Journal, Recovery};
use enjamb_stream_management::{Enabled, H, Place, Queue, ResumptionId, Stream, StreamKey};
use mlua::prelude::*;
use slotmap::SecondaryMap;
use std::cell::RefCell;
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, UNIX_EPOCH};

/// How long the lock of a dying server is waited for.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);
const LOCK_POLL: Duration = Duration::from_millis(20);

struct Kept {
    /// By which the journal knows the session.
    id: u64,
    numbering: Numbering,
    /// What may be said to have been handled.
    handled: u32,
    state: Box<[u8]>,
}

struct Keeper {
    journal: Journal,
    streams: SecondaryMap<StreamKey, Kept>,
    /// Streams of which the journal misses something.
    behind: HashSet<StreamKey>,
    /// Streams of which something cannot be kept, and why, until the shim is told.
    unkept: Vec<(StreamKey, JournalError)>,
    /// Sessions that were found at the start and that nobody has taken yet.
    found: HashSet<u64>,
    wake: Option<Wake>,
}

thread_local! {
    static KEEPER: RefCell<Option<Keeper>> = const { RefCell::new(None) };
}

fn with<T>(f: impl FnOnce(&mut Keeper) -> T) -> Option<T> {
    KEEPER.with_borrow_mut(|keeper| keeper.as_mut().map(f))
}

fn new_id() -> LuaResult<u64> {
    // Random, because an id must never be used twice, not even after a restart.
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(LuaError::external)?;
    Ok(u64::from_ne_bytes(random))
}

impl Kept {
    fn describe(&self, journal: &mut Journal) -> Result<(), JournalError> {
        journal.set_meta(self.id, &kept::describe(&self.numbering, &self.state))
    }

    fn push(&self, journal: &mut Journal, number: u64, stanza: Stanza) -> Result<(), JournalError> {
        let (header, bytes) = stanza.encode();
        journal.push_in_pieces(self.id, self.numbering.in_journal(number + 1), &[&header, bytes])
    }
}

impl Keeper {
    /// Writes all that the journal misses of a stream.
    fn catch_up(&mut self, key: StreamKey) -> Result<(), JournalError> {
        let Keeper { journal, streams, .. } = self;
        let Some(kept) = streams.get_mut(key) else { return Ok(()) };
        smacks::with_stream(key, |stream| {
            let queue = stream.queue();
            kept.count(queue);
            kept.describe(journal)?;
            let last = journal.counters(kept.id).map_or(0, |c| c.acked + c.queued as u64);
            for number in kept.numbering.base + last..queue.end() {
                // What has left the queue meanwhile still has its number.
                let stanza = match queue.get(number) {
                    Some(Place::Here(q)) => Stanza { bytes: &q.bytes, at: q.at, summary: q.summary },
                    _ => LOST,
                };
                kept.push(journal, number, stanza)?;
            }
            journal.ack(kept.id, kept.numbering.in_journal(queue.first()))?;
            journal.set_inbound(kept.id, u64::from(kept.handled))
        })
        .unwrap_or(Ok(()))
    }

    fn commit(&mut self) -> Result<(), JournalError> {
        let behind: Vec<StreamKey> = self.behind.iter().copied().collect();
        for key in behind {
            match self.catch_up(key) {
                Err(error) if error.is_of_the_disk() => return Err(error),
                Err(error) => self.unkept.push((key, error)),
                Ok(()) => {}
            }
            self.behind.remove(&key);
        }
        self.journal.commit()?;
        Ok(())
    }
}

impl Kept {
    /// Notes how the numbers stand now, if the peer's count is another one than follows from what is known. Returns
    /// whether that is so.
    fn count(&mut self, queue: &Queue) -> bool {
        let differs = self.numbering.h_at(queue.first()) != queue.acked();
        if differs {
            (self.numbering.counted, self.numbering.h) = (queue.first(), queue.acked());
        }
        differs
    }
}

/// The stream's peer is gone, or there again. Returns whether all that is queued is in the journal.
pub fn connected(key: StreamKey, stream: &Stream) -> bool {
    with(|keeper| {
        let Some(kept) = keeper.streams.get_mut(key) else { return false };
        let live = !stream.is_hibernating();
        kept.numbering.unsent_from = if live { LIVE } else { stream.unsent_from().unwrap_or(LIVE) };
        if kept.describe(&mut keeper.journal).is_err() {
            keeper.behind.insert(key);
        }
        !keeper.behind.contains(&key)
    })
    .unwrap_or(false)
}

/// A stanza is queued under that number. Returns whether it is in the journal, and all before it.
pub fn push(key: StreamKey, number: u64, stanza: Stanza) -> bool {
    with(|keeper| {
        let Keeper { journal, streams, behind, .. } = keeper;
        let Some(kept) = streams.get(key) else { return false };
        if !behind.is_empty() && behind.contains(&key) {
            return false; // in order
        }
        if kept.push(journal, number, stanza).is_err() {
            behind.insert(key);
            return false;
        }
        true
    })
    .unwrap_or(false)
}

/// The stream's peer acknowledged something.
pub fn acked(key: StreamKey, queue: &Queue) {
    with(|keeper| {
        let Some(kept) = keeper.streams.get_mut(key) else { return };
        // The peer may have had more than was kept. Should only half of this reach the disk, it is the first half.
        let described = !kept.count(queue) || kept.describe(&mut keeper.journal).is_ok();
        let acked = keeper.journal.ack(kept.id, kept.numbering.in_journal(queue.first()));
        if !described || acked.is_err() {
            keeper.behind.insert(key);
        }
    });
}

/// Hands out queued stanzas of a stream from the journal, from number `first` up to and without `last`, until `each`
/// says false. One that is damaged comes as `None`.
///
/// # Errors
/// If the disk fails: what was not handed out may be readable later.
pub fn fetch(
    key: StreamKey,
    first: u64,
    last: u64,
    mut each: impl FnMut(Option<Stanza>) -> bool,
) -> Result<(), JournalError> {
    with(|keeper| {
        let Some(kept) = keeper.streams.get(key) else { return Ok(()) };
        let (from, end) = (kept.numbering.in_journal(first) + 1, kept.numbering.in_journal(last));
        keeper.journal.replay(kept.id, from, |number, record| {
            number <= end && each(record.and_then(Stanza::decode)) && number < end
        })
    })
    .unwrap_or(Ok(()))
}

/// Hands the queues as they are to the operating system. False if that failed.
pub fn commit_queues() -> bool {
    with(|keeper| keeper.commit().is_ok()).unwrap_or(true)
}

fn failed(lua: &Lua, error: impl std::fmt::Display) -> LuaResult<LuaMultiValue> {
    (LuaNil, error.to_string()).into_lua_multi(lua)
}

/// Opens the journal. A server that was killed may still be in a system call of its journal's thread, and hold the
/// lock, when the next one starts: that is waited for.
fn open_patiently(directory: &Path) -> Result<(Journal, Recovery), JournalError> {
    let started = Instant::now();
    loop {
        match Journal::open(directory, Config::default()) {
            Err(JournalError::InUse { .. }) if started.elapsed() < LOCK_PATIENCE => thread::sleep(LOCK_POLL),
            result => return result,
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

/// `open(directory)`: a table that says what was found, or `nil, message`.
fn open(lua: &Lua, directory: String) -> LuaResult<LuaMultiValue> {
    if KEEPER.with_borrow(Option::is_some) {
        return lua.create_table()?.into_lua_multi(lua);
    }
    let (directory, started) = (Path::new(&directory), Instant::now());
    let written = last_written(directory);
    match open_patiently(directory) {
        Err(error) => failed(lua, error),
        Ok((journal, recovery)) => {
            let found: HashSet<u64> = journal.sessions().collect();
            let said = lua.create_table()?;
            said.set("sessions", found.len())?;
            said.set("torn", recovery.torn)?;
            said.set("damaged", recovery.damaged.len())?;
            said.set("incomplete", recovery.incomplete.len())?;
            said.set("written", written)?;
            said.set("seconds", started.elapsed().as_secs_f64())?;
            KEEPER.set(Some(Keeper {
                journal,
                streams: SecondaryMap::new(),
                behind: HashSet::new(),
                unkept: Vec::new(),
                found,
                wake: None,
            }));
            said.into_lua_multi(lua)
        }
    }
}

/// `close()`: commits what can be, and lets the directory go.
fn close(_: &Lua, (): ()) -> LuaResult<()> {
    if let Some(mut keeper) = KEEPER.take() {
        keeper.commit().map_err(LuaError::external)?;
    }
    Ok(())
}

/// `keep(key, state)`: the stream is to survive; `state` is what the shim needs to bring its session back. Said again, it
/// replaces the former one. `true`; or `nil, message` if the disk cannot take it now. What cannot be kept whatever the disk
/// does is told by the next `commit`.
fn keep(lua: &Lua, (stream, state): (i64, LuaString)) -> LuaResult<LuaMultiValue> {
    let key = smacks::key(stream);
    let id = new_id()?;
    let result = with(|keeper| {
        let state: Box<[u8]> = (*state.as_bytes()).into();
        if let Some(kept) = keeper.streams.get_mut(key) {
            kept.state = state;
            return kept.describe(&mut keeper.journal);
        }
        let numbering = smacks::with_stream(key, |stream| {
            let queue = stream.queue();
            let unsent_from = stream.unsent_from().unwrap_or(LIVE);
            let handled = stream.inbound().0;
            (
                Numbering { base: queue.first(), counted: queue.first(), h: queue.acked(), unsent_from },
                handled,
            )
        });
        let Some((numbering, handled)) = numbering else { return Ok(()) };
        keeper.streams.insert(key, Kept { id, numbering, handled, state });
        keeper.catch_up(key)
    });
    let Some(Err(error)) = result else { return true.into_lua_multi(lua) };
    with(|keeper| keeper.behind.insert(key));
    match error.is_of_the_disk() {
        true => failed(lua, error),
        false => true.into_lua_multi(lua),
    }
}

/// `handled(key, h)`: how many stanzas of the session's client have been processed.
fn handled(_: &Lua, (stream, h): (i64, Option<u32>)) -> LuaResult<()> {
    let key = smacks::key(stream);
    with(|keeper| {
        let (Some(kept), Some(h)) = (keeper.streams.get_mut(key), h) else { return };
        if kept.handled == h {
            return; // it is there, or else the stream is behind
        }
        kept.handled = h;
        if keeper.journal.set_inbound(kept.id, u64::from(h)).is_err() {
            keeper.behind.insert(key);
        }
    });
    Ok(())
}

/// `commit()`: hands everything to the operating system. `true`, and what is wrong beside that; or `nil, message`. In either
/// case then `{ [key] = reason }`, if there are streams that cannot be kept: their sessions have to end.
fn commit(lua: &Lua, (): ()) -> LuaResult<LuaMultiValue> {
    let result = with(|keeper| {
        let committed = keeper.commit().map(|()| keeper.journal.take_trouble());
        (committed, std::mem::take(&mut keeper.unkept))
    });
    let Some((committed, unkept)) = result else { return true.into_lua_multi(lua) };
    let reasons = (!unkept.is_empty()).then(|| lua.create_table()).transpose()?;
    if let Some(reasons) = &reasons {
        for (key, error) in unkept {
            reasons.raw_set(smacks::number(key), error.to_string())?;
        }
    }
    match committed {
        Err(error) => (LuaNil, error.to_string(), reasons).into_lua_multi(lua),
        Ok(trouble) => (true, trouble.map(|t| t.to_string()), reasons).into_lua_multi(lua),
    }
}

/// `sync()`: has the disk itself take all that was committed, in the background: the position to compare
/// `durable()` with.
fn sync(_: &Lua, (): ()) -> LuaResult<Option<u64>> {
    Ok(with(|keeper| {
        keeper.journal.request_sync();
        keeper.journal.position()
    }))
}

/// `durable()`: up to where everything survives a crash of the machine.
fn durable(_: &Lua, (): ()) -> LuaResult<u64> {
    Ok(with(|keeper| keeper.journal.durable()).unwrap_or(0))
}

/// `watch()`: a file descriptor that becomes readable when `durable()` has grown.
fn watch(_: &Lua, (): ()) -> LuaResult<Option<i32>> {
    with(|keeper| {
        if keeper.wake.is_none() {
            let (wake, tell) = Wake::new().map_err(LuaError::external)?;
            keeper.journal.on_durable(tell);
            keeper.wake = Some(wake);
        }
        Ok(keeper.wake.as_ref().map(Wake::fd))
    })
    .unwrap_or(Ok(None))
}

/// `woken()`: that it is readable was noticed.
fn woken(_: &Lua, (): ()) -> LuaResult<()> {
    with(|keeper| keeper.wake.as_mut().map(Wake::take));
    Ok(())
}

/// `ended(key)`: nothing is owed to the stream's client any more.
fn ended(_: &Lua, stream: i64) -> LuaResult<()> {
    with(|keeper| {
        let key = smacks::key(stream);
        keeper.behind.remove(&key);
        if let Some(kept) = keeper.streams.remove(key) {
            // If even this cannot be written, the session comes back once more after a restart, and expires.
            let _ = keeper.journal.end(kept.id);
        }
    });
    Ok(())
}

/// `found()`: `{ [token] = state }` of the sessions that wait to be brought back, and `{ [token] = reason }` of those that
/// cannot be.
fn found(lua: &Lua, (): ()) -> LuaResult<(LuaTable, LuaTable)> {
    let (states, reasons) = (lua.create_table()?, lua.create_table()?);
    let descriptions = with(|keeper| {
        let ids: Vec<u64> = keeper.found.iter().copied().collect();
        ids.into_iter().map(|id| (id, keeper.journal.meta(id))).collect::<Vec<_>>()
    });
    for (id, description) in descriptions.into_iter().flatten() {
        match description.as_deref().map(kept::read) {
            Ok(Ok((_, state))) => states.raw_set(id as i64, lua.create_string(state)?)?,
            Ok(Err(reason)) => reasons.raw_set(id as i64, reason.to_string())?,
            Err(error) => reasons.raw_set(id as i64, error.to_string())?,
        }
    }
    Ok((states, reasons))
}

/// `rewrite(token, state)`: another state for a session that was found and waits. `true`, or `nil, message`.
fn rewrite(lua: &Lua, (token, state): (i64, LuaString)) -> LuaResult<LuaMultiValue> {
    let session = token as u64;
    let result = with(|keeper| {
        let description = keeper.journal.meta(session).map_err(LuaError::external)?;
        let (numbering, _) = kept::read(&description).map_err(LuaError::external)?;
        let description = kept::describe(&numbering, &state.as_bytes());
        keeper.journal.set_meta(session, &description).map_err(LuaError::external)
    });
    match result {
        Some(Err(error)) => failed(lua, error),
        _ => true.into_lua_multi(lua),
    }
}

/// `discard(token)`: that session does not come back.
fn discard(_: &Lua, token: i64) -> LuaResult<()> {
    with(|keeper| {
        if keeper.found.remove(&(token as u64)) {
            let _ = keeper.journal.end(token as u64);
        }
    });
    Ok(())
}

/// `restore(token, limits, account, id, timeout)`: `key, handle, h, lost, had_waited`: the stream as it was, how many of its
/// stanzas could not be read, and whether its peer was away already when the server ended; or `nil, message`.
fn restore(
    lua: &Lua,
    (token, limits, account, id, timeout): (i64, LuaUserDataRef<smacks::LuaLimits>, String, String, u32),
) -> LuaResult<LuaMultiValue> {
    let session = token as u64;
    let result = with(|keeper| {
        let journal = &mut keeper.journal;
        let description = journal.meta(session).map_err(LuaError::external)?;
        let (mut numbering, state) = kept::read(&description).map_err(LuaError::external)?;
        if numbering.in_journal(numbering.counted) > journal.counters(session).map_or(0, |c| c.acked) {
            // The other half of an ack did not reach the disk.
            let last = journal.counters(session).map_or(0, |c| c.acked + c.queued as u64);
            let acked = numbering.in_journal(numbering.counted).min(last);
            journal.ack(session, acked).map_err(LuaError::external)?;
        }
        let missing = || LuaError::external("there is no such session in the journal");
        let counters = journal.counters(session).ok_or_else(missing)?;
        let first = numbering.base + counters.acked;
        let lengths: Vec<_> = journal.lengths(session).map_err(LuaError::external)?.collect();
        let lost = lengths.iter().filter(|len| len.is_none()).count();
        let length = |len: Option<u32>| len.unwrap_or(0).saturating_sub(kept::STANZA_HEADER as u32);
        let queue = Queue::restored(first, numbering.h_at(first), lengths.into_iter().map(length));
        keeper.found.remove(&session);
        let had_waited = numbering.unsent_from != LIVE;
        numbering.unsent_from = numbering.unsent_from.min(queue.end());
        let handled = counters.inbound as u32;
        let stream = Stream::restored(Arc::clone(&limits.0), H(handled), queue, numbering.unsent_from);
        let resumption = ResumptionId::parse(&id).map(|id| (id, timeout));
        let key = smacks::insert(stream, &account, Enabled { resumption });
        let kept = Kept { id: session, numbering, handled, state: state.into() };
        // It is away from here on, and has been sent nothing since.
        if kept.describe(&mut keeper.journal).is_err() {
            keeper.behind.insert(key);
        }
        keeper.streams.insert(key, kept);
        Ok::<_, LuaError>((key, handled, lost, had_waited))
    });
    match result {
        Some(Ok((key, handled, lost, had_waited))) => {
            (smacks::number(key), smacks::Handle(key), handled, lost, had_waited).into_lua_multi(lua)
        }
        Some(Err(error)) => failed(lua, error),
        None => failed(lua, "the journal is not open"),
    }
}

/// `stats()`: bytes and records, for metrics.
fn stats(lua: &Lua, (): ()) -> LuaResult<Option<LuaTable>> {
    let Some(stats) = with(|keeper| keeper.journal.stats()) else { return Ok(None) };
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
    journal.set("handled", lua.create_function(handled)?)?;
    journal.set("commit", lua.create_function(commit)?)?;
    journal.set("sync", lua.create_function(sync)?)?;
    journal.set("durable", lua.create_function(durable)?)?;
    journal.set("watch", lua.create_function(watch)?)?;
    journal.set("woken", lua.create_function(woken)?)?;
    journal.set("ended", lua.create_function(ended)?)?;
    journal.set("found", lua.create_function(found)?)?;
    journal.set("rewrite", lua.create_function(rewrite)?)?;
    journal.set("discard", lua.create_function(discard)?)?;
    journal.set("restore", lua.create_function(restore)?)?;
    journal.set("stats", lua.create_function(stats)?)?;
    Ok(journal)
}
