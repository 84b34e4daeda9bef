//! The one engine of the process and what belongs to it, and the file that keeps what changed in rooms.

use crate::api::journal;
use crate::rooms::{self, Log, RoomRecord};
use enjamb_muc_fork::{Accounts, Change, Decision};
use mlua::prelude::*;
use std::cell::RefCell;
use std::collections::HashMap;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// While the journal cannot be written so many changes wait for it. Then the file goes ahead: of what is lost with the
/// process, presences are the least.
const MUCH_NEWS: usize = 10_000;

/// All that account-level MUC knows.
pub struct State {
    pub engine: Accounts,
    /// What came of the groupchat message in hand, beside copies.
    pub pending: Vec<Decision>,
    /// What has changed in rooms and is not in the file yet.
    news: Vec<Change>,
    log: Option<Log>,
    /// What the file said when the server started, until all accounts have taken up their rooms.
    recorded: HashMap<String, RoomRecord>,
    clock: Clock,
}

impl Default for State {
    fn default() -> State {
        State {
            engine: Accounts::new(random),
            pending: Vec::new(),
            news: Vec::new(),
            log: None,
            recorded: HashMap::new(),
            clock: Clock::default(),
        }
    }
}

impl State {
    /// What was kept of a room.
    pub fn recorded(&self, room: &str) -> RoomRecord {
        self.recorded.get(room).cloned().unwrap_or_default()
    }

    fn write_news(&mut self) {
        let State { engine, news, log, recorded, .. } = self;
        if let Some(log) = log {
            log.write(news, || rooms::all(engine, recorded));
        }
        news.clear();
    }
}

thread_local! {
    static STATE: RefCell<State> = RefCell::default();
}

/// Does something with the state. `f` must not call Lua: that may come back here.
pub fn with<T>(f: impl FnOnce(&mut State) -> T) -> T {
    STATE.with_borrow_mut(f)
}

/// Asks the engine, which is told what time it is, and notes what that changed in rooms.
pub fn ask<T>(question: impl FnOnce(&mut Accounts, u64) -> T) -> T {
    with(|state| {
        let answer = question(&mut state.engine, state.clock.now());
        state.news.append(&mut state.engine.take_changes());
        answer
    })
}

/// The same for what hangs on the time of day, too.
pub fn ask_today<T>(question: impl FnOnce(&mut Accounts, u64) -> T) -> T {
    ask(|engine, now| {
        engine.set_wall_clock(wall_clock(), now);
        question(engine, now)
    })
}

/// Writes down what has changed in rooms; for when all that it led to is queued.
///
/// What the file says that clients were told must be in their queues after a crash, so the journal goes first. Killed in
/// between, somebody is told twice.
pub fn write_down() {
    let waiting = with(|state| state.news.len());
    if waiting > 0 && (journal::commit_queues() || waiting > MUCH_NEWS) {
        with(State::write_news);
    }
}

fn random() -> u128 {
    let mut bytes = [0; 16];
    // Linux gives random bits without failing once it is up; an id that can be guessed would be worse than none.
    getrandom::fill(&mut bytes).expect("the system has no random bits");
    u128::from_ne_bytes(bytes)
}

/// Seconds since 1970.
fn wall_clock() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// Seconds since 1970 when it was made, and from then on as time passes, whatever the system's clock is set to.
struct Clock {
    made: Instant,
    wall: u64,
}

impl Default for Clock {
    fn default() -> Clock {
        Clock { made: Instant::now(), wall: wall_clock() }
    }
}

impl Clock {
    fn now(&self) -> u64 {
        self.wall + self.made.elapsed().as_secs()
    }
}

/// `write_down()`: everything that has changed in rooms is written to the file; for when all that it led to is queued.
fn write_all_down(_: &Lua, (): ()) -> LuaResult<()> {
    write_down();
    Ok(())
}

/// `keep(path)`: reads what was kept of rooms and goes on keeping it there. `true`, or `nil` and why not.
fn keep(_: &Lua, path: String) -> LuaResult<(Option<bool>, Option<String>)> {
    Ok(match Log::open(path.into()) {
        Ok((log, recorded)) => {
            with(|state| (state.log, state.recorded) = (Some(log), recorded));
            (Some(true), None)
        }
        Err(error) => (None, Some(error.to_string())),
    })
}

/// `kept()`: what was read by [`keep`] is not needed any more.
fn kept(_: &Lua, (): ()) -> LuaResult<()> {
    drop(with(|state| std::mem::take(&mut state.recorded)));
    Ok(())
}

pub fn add(lua: &Lua, table: &LuaTable) -> LuaResult<()> {
    table.set("write_down", lua.create_function(write_all_down)?)?;
    table.set("keep", lua.create_function(keep)?)?;
    table.set("kept", lua.create_function(kept)?)
}
