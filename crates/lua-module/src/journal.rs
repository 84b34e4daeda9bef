//! `enjamb.journal`: the resumable streams, kept on disk.
//!
//! Follows what happens to the streams of [`crate::smacks`]: a stanza that is queued, a count that is acknowledged, a
//! session that ends. Records are handed to the operating system by [`commit`], which the shim calls before it
//! acknowledges anything. If a record cannot be written, its session is written anew, whole, as soon as that works
//! again; until then `commit` fails and nothing more is acknowledged.

use crate::smacks;
use enjamb_journal::{Config, Error as JournalError, Journal, Recovery};
use enjamb_stanza::{Kind, Name, Summary};
use enjamb_stream_management::{Enabled, H, Queue, Queued, ResumptionId, Stream, StreamKey};
use mlua::prelude::*;
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// What stands before the bytes of a stanza in its record: when it was queued, name, kind, whether it has a delay.
const STANZA_HEADER: usize = 11;

/// How long the lock of a dying server is waited for.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);
const LOCK_POLL: Duration = Duration::from_millis(20);

struct Kept {
    id: u64,
    /// The number of the queue's stanza from which the journal counts, so that a session can be written anew in the
    /// middle of its life.
    base: u64,
    /// What the peer had acknowledged there.
    base_h: u32,
    /// The number of the first stanza that cannot have gone to the peer, because it was queued while that was away;
    /// [`LIVE`] if it is there.
    sent_up_to: u64,
    meta: Box<[u8]>,
}

const LIVE: u64 = u64::MAX;

struct Keeper {
    journal: Journal,
    streams: HashMap<StreamKey, Kept>,
    /// Streams of which the journal misses something.
    broken: HashSet<StreamKey>,
    /// Sessions that were found at the start and that nobody has taken yet.
    found: HashSet<u64>,
    /// The record that is being made.
    record: Vec<u8>,
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

fn encode(queued: &Queued, out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(&queued.at.to_le_bytes());
    out.push(match queued.summary.name {
        Name::Message => 0,
        Name::Presence => 1,
        Name::Iq => 2,
    });
    out.push(match queued.summary.kind {
        Kind::Other => 0,
        Kind::Error => 1,
        Kind::Result => 2,
        Kind::Headline => 3,
        Kind::Groupchat => 4,
        Kind::Subscription => 5,
    });
    out.push(u8::from(queued.summary.delayed));
    out.extend_from_slice(&queued.bytes);
}

fn decode(record: &[u8]) -> Option<Queued> {
    let (header, bytes) = record.split_at_checked(STANZA_HEADER)?;
    let name = match header[8] {
        0 => Name::Message,
        1 => Name::Presence,
        2 => Name::Iq,
        _ => return None,
    };
    let kind = match header[9] {
        0 => Kind::Other,
        1 => Kind::Error,
        2 => Kind::Result,
        3 => Kind::Headline,
        4 => Kind::Groupchat,
        5 => Kind::Subscription,
        _ => return None,
    };
    let at = u64::from_le_bytes(header[..8].try_into().ok()?);
    Some(Queued { bytes: bytes.into(), at, summary: Summary { name, kind, delayed: header[10] != 0 } })
}

impl Keeper {
    /// Writes all that is known of a stream under a new id.
    fn write_whole(&mut self, key: StreamKey) -> LuaResult<()> {
        let id = new_id()?;
        let Some(kept) = self.streams.get_mut(&key) else { return Ok(()) };
        let journal = &mut self.journal;
        let written = smacks::with_stream(key, |stream| {
            let queue = stream.queue();
            (kept.base, kept.base_h) = (queue.first(), queue.acked().0);
            journal.set_meta(id, &with_base(kept))?;
            journal.set_inbound(id, u64::from(stream.inbound().0))?;
            let mut record = Vec::new();
            for (n, queued) in queue.iter().enumerate() {
                encode(queued, &mut record);
                journal.push(id, n as u64 + 1, &record)?;
            }
            Ok::<_, JournalError>(())
        });
        match written {
            None => Ok(()),
            Some(Ok(())) => {
                // Only now: until here the old one was better than nothing.
                let _ = journal.end(std::mem::replace(&mut kept.id, id));
                Ok(())
            }
            Some(Err(error)) => {
                let _ = journal.end(id);
                Err(LuaError::external(error))
            }
        }
    }

    fn commit(&mut self) -> LuaResult<()> {
        let broken: Vec<StreamKey> = self.broken.iter().copied().collect();
        for key in broken {
            self.write_whole(key)?;
            self.broken.remove(&key);
        }
        self.journal.commit().map_err(LuaError::external)?;
        Ok(())
    }
}

fn with_base(kept: &Kept) -> Vec<u8> {
    let base = kept.base.to_le_bytes();
    [&base[..], &kept.base_h.to_le_bytes(), &kept.sent_up_to.to_le_bytes(), &kept.meta].concat()
}

fn split_base(id: u64, record: &[u8]) -> Option<Kept> {
    let (base, record) = record.split_first_chunk()?;
    let (base_h, record) = record.split_first_chunk()?;
    let (sent_up_to, meta) = record.split_first_chunk()?;
    Some(Kept {
        id,
        base: u64::from_le_bytes(*base),
        base_h: u32::from_le_bytes(*base_h),
        sent_up_to: u64::from_le_bytes(*sent_up_to),
        meta: meta.into(),
    })
}

/// The stream's peer is gone, or there again.
pub fn connected(key: StreamKey, queue: &Queue, live: bool) {
    with(|keeper| {
        let Some(kept) = keeper.streams.get_mut(&key) else { return };
        kept.sent_up_to = if live { LIVE } else { queue.first() + queue.len() as u64 };
        if keeper.journal.set_meta(kept.id, &with_base(kept)).is_err() {
            keeper.broken.insert(key);
        }
    });
}

/// The stream's newest stanza was queued.
pub fn pushed(key: StreamKey, queue: &Queue) {
    with(|keeper| {
        let Some(kept) = keeper.streams.get(&key) else { return };
        let number = queue.first() + queue.len() as u64;
        let Some(queued) = number.checked_sub(1).and_then(|n| queue.get(n)) else { return };
        encode(queued, &mut keeper.record);
        if keeper.journal.push(kept.id, number - kept.base, &keeper.record).is_err() {
            keeper.broken.insert(key);
        }
    });
}

/// The stream's peer acknowledged something.
pub fn acked(key: StreamKey, queue: &Queue) {
    with(|keeper| {
        let Some(kept) = keeper.streams.get(&key) else { return };
        let n = queue.first() - kept.base;
        // They differ if the peer had more than was kept: the count begins anew.
        let in_step = H(kept.base_h).plus(n as usize) == queue.acked();
        if keeper.journal.ack(kept.id, n).is_err() || !in_step {
            keeper.broken.insert(key);
        }
    });
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

/// `open(directory)`: a table that says what was found, or `nil, message`.
fn open(lua: &Lua, directory: String) -> LuaResult<LuaMultiValue> {
    if KEEPER.with_borrow(Option::is_some) {
        return lua.create_table()?.into_lua_multi(lua);
    }
    match open_patiently(Path::new(&directory)) {
        Err(error) => failed(lua, error),
        Ok((journal, recovery)) => {
            let found: HashSet<u64> = journal.sessions().collect();
            let said = lua.create_table()?;
            said.set("sessions", found.len())?;
            said.set("torn", recovery.torn)?;
            said.set("damaged", recovery.damaged.len())?;
            said.set("incomplete", recovery.incomplete.len())?;
            KEEPER.set(Some(Keeper {
                journal,
                streams: HashMap::new(),
                broken: HashSet::new(),
                found,
                record: Vec::new(),
            }));
            said.into_lua_multi(lua)
        }
    }
}

/// `close()`: commits what can be, and lets the directory go.
fn close(_: &Lua, (): ()) -> LuaResult<()> {
    if let Some(mut keeper) = KEEPER.take() {
        keeper.commit()?;
    }
    Ok(())
}

/// `keep(key, meta)`: the stream is to survive; `meta` is what the shim needs to bring its session back. Said again, it
/// replaces the former one. `true`, or `nil, message`.
fn keep(lua: &Lua, (stream, meta): (i64, LuaString)) -> LuaResult<LuaMultiValue> {
    let key = smacks::key(stream);
    let result = with(|keeper| {
        let meta: Box<[u8]> = (*meta.as_bytes()).into();
        if let Some(kept) = keeper.streams.get_mut(&key) {
            kept.meta = meta;
            return keeper.journal.set_meta(kept.id, &with_base(kept)).map_err(LuaError::external);
        }
        keeper.streams.insert(key, Kept { id: new_id()?, base: 0, base_h: 0, sent_up_to: LIVE, meta });
        keeper.write_whole(key)
    });
    match result {
        Some(Err(error)) => {
            with(|keeper| keeper.broken.insert(key));
            failed(lua, error)
        }
        _ => true.into_lua_multi(lua),
    }
}

/// `handled({ [key] = h })`: how many stanzas of each session's client have been processed.
fn handled(_: &Lua, counts: LuaTable) -> LuaResult<()> {
    counts.for_each(|stream: i64, h: u32| {
        let key = smacks::key(stream);
        with(|keeper| {
            let Some(kept) = keeper.streams.get(&key) else { return };
            if keeper.journal.set_inbound(kept.id, u64::from(h)).is_err() {
                keeper.broken.insert(key);
            }
        });
        Ok(())
    })
}

/// `commit()`: hands everything to the operating system. `true`, and what is wrong beside that; or `nil, message`.
fn commit(lua: &Lua, (): ()) -> LuaResult<LuaMultiValue> {
    match with(|keeper| keeper.commit().map(|()| keeper.journal.take_trouble())) {
        Some(Err(error)) => failed(lua, error),
        Some(Ok(trouble)) => (true, trouble.map(|t| t.to_string())).into_lua_multi(lua),
        None => true.into_lua_multi(lua),
    }
}

/// `ended(key)`: nothing is owed to the stream's client any more.
fn ended(_: &Lua, stream: i64) -> LuaResult<()> {
    with(|keeper| {
        let key = smacks::key(stream);
        keeper.broken.remove(&key);
        if let Some(kept) = keeper.streams.remove(&key) {
            // If even this cannot be written, the session comes back once more after a restart, and expires.
            let _ = keeper.journal.end(kept.id);
        }
    });
    Ok(())
}

/// `found()`: `{ [token] = meta }` of the sessions that wait to be brought back.
fn found(lua: &Lua, (): ()) -> LuaResult<LuaTable> {
    let table = lua.create_table()?;
    let metas = with(|keeper| {
        let ids: Vec<u64> = keeper.found.iter().copied().collect();
        ids.into_iter().map(|id| (id, keeper.journal.meta(id))).collect::<Vec<_>>()
    });
    for (id, meta) in metas.into_iter().flatten() {
        let meta =
            meta.ok().and_then(|record| split_base(id, &record)).map(|kept| kept.meta).unwrap_or_default();
        table.raw_set(id as i64, lua.create_string(&meta)?)?;
    }
    Ok(table)
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

/// `restore(token, limits, account, id, timeout)`: `key, handle, h, lost`: the stream as it was, and how many of its
/// stanzas could not be read; or `nil, message`.
fn restore(
    lua: &Lua,
    (token, limits, account, id, timeout): (i64, LuaUserDataRef<smacks::LuaLimits>, String, String, u32),
) -> LuaResult<LuaMultiValue> {
    let journal_id = token as u64;
    let result = with(|keeper| {
        let missing = || LuaError::external("there is no such session in the journal");
        let counters = keeper.journal.counters(journal_id).ok_or_else(missing)?;
        let (acked, inbound) = (counters.acked, counters.inbound);
        let raw = keeper.journal.meta(journal_id).map_err(LuaError::external)?;
        let mut kept = split_base(journal_id, &raw).ok_or_else(missing)?;
        let mut queue = Queue::restored(kept.base + acked, H(kept.base_h).plus(acked as usize));
        let mut lost = 0_u32;
        keeper
            .journal
            .replay(journal_id, 0, |_, record| {
                match record.and_then(decode) {
                    Some(queued) => queue.push(queued),
                    None => lost += 1,
                }
                true
            })
            .map_err(LuaError::external)?;
        keeper.found.remove(&journal_id);
        kept.sent_up_to = kept.sent_up_to.min(queue.first() + queue.len() as u64);
        let stream = Stream::restored(Arc::clone(&limits.0), H(inbound as u32), queue, kept.sent_up_to);
        let resumption = ResumptionId::parse(&id).map(|id| (id, timeout));
        let key = smacks::insert(stream, &account, Enabled { resumption });
        // It is away from here on, and has been sent nothing since.
        let written = keeper.journal.set_meta(journal_id, &with_base(&kept));
        keeper.streams.insert(key, kept);
        if lost > 0 || written.is_err() {
            // The numbers behind a hole are wrong: it is written anew.
            keeper.broken.insert(key);
        }
        Ok::<_, LuaError>((key, inbound as u32, lost))
    });
    match result {
        Some(Ok((key, inbound, lost))) => {
            (smacks::number(key), smacks::Handle(key), inbound, lost).into_lua_multi(lua)
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
    Ok(Some(table))
}

pub fn table(lua: &Lua) -> LuaResult<LuaTable> {
    let journal = lua.create_table()?;
    journal.set("open", lua.create_function(open)?)?;
    journal.set("close", lua.create_function(close)?)?;
    journal.set("keep", lua.create_function(keep)?)?;
    journal.set("handled", lua.create_function(handled)?)?;
    journal.set("commit", lua.create_function(commit)?)?;
    journal.set("ended", lua.create_function(ended)?)?;
    journal.set("found", lua.create_function(found)?)?;
    journal.set("discard", lua.create_function(discard)?)?;
    journal.set("restore", lua.create_function(restore)?)?;
    journal.set("stats", lua.create_function(stats)?)?;
    Ok(journal)
}
