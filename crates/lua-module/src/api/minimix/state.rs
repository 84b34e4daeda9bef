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
    engine: Accounts,
    /// What came of the groupchat message in hand, beside copies.
    pending: Vec<Decision>,
    /// What has changed in rooms and is not in the file yet.
    news: Vec<Change>,
    log: Option<Log>,
    /// What the file said when the server started, until all accounts have taken up their rooms.
    pub recorded: HashMap<String, RoomRecord>,
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
    /// The engine as it is.
    pub fn look(&self) -> &Accounts {
        &self.engine
    }

    /// Asks the engine, which is told what time it is, and notes what that changed in rooms.
    pub fn engine<T>(&mut self, question: impl FnOnce(&mut Accounts, u64) -> T) -> T {
        let answer = question(&mut self.engine, self.clock.now());
        self.news.append(&mut self.engine.take_changes());
        answer
    }

    /// The same for what hangs on the time of day, too.
    pub fn engine_by_the_clock<T>(&mut self, question: impl FnOnce(&mut Accounts, u64) -> T) -> T {
        self.engine(|engine, now| {
            engine.set_wall_clock(wall_clock(), now);
            question(engine, now)
        })
    }

    /// The decisions of a groupchat message wait until they are asked for.
    pub fn put_off(&mut self, decisions: Vec<Decision>) {
        self.pending.extend(decisions);
    }

    /// The decisions of the last groupchat message.
    pub fn take_pending(&mut self) -> Vec<Decision> {
        std::mem::take(&mut self.pending)
    }

    /// Keeps rooms in that file from now on.
    pub fn keep(&mut self, log: Log, recorded: HashMap<String, RoomRecord>) {
        (self.log, self.recorded) = (Some(log), recorded);
    }

    /// Writes down what has changed in rooms; for when all that it led to is queued.
    ///
    /// What the file says that clients were told must be in their queues after a crash, so `commit` hands these to the operating system
    /// first, and says whether that went well. Killed in between, somebody is told twice.
    fn write_down(&mut self, commit: impl FnOnce() -> bool) {
        if !self.news.is_empty() && (commit() || self.news.len() > MUCH_NEWS) {
            if let Some(log) = &mut self.log {
                log.write(&self.news, || rooms::all(&self.engine, &self.recorded));
            }
            self.news.clear();
        }
    }
}

thread_local! {
    static STATE: RefCell<State> = RefCell::default();
}

/// Does something with the state. `f` must not call Lua: that may come back here.
pub fn with<T>(f: impl FnOnce(&mut State) -> T) -> T {
    STATE.with_borrow_mut(f)
}

/// [`State::engine`].
pub fn ask<T>(question: impl FnOnce(&mut Accounts, u64) -> T) -> T {
    with(|state| state.engine(question))
}

/// [`State::engine_by_the_clock`].
pub fn ask_by_the_clock<T>(question: impl FnOnce(&mut Accounts, u64) -> T) -> T {
    with(|state| state.engine_by_the_clock(question))
}

/// [`State::write_down`], with the sessions' queues.
pub fn write_down() {
    with(|state| state.write_down(journal::commit_queues));
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
            with(|state| state.keep(log, recorded));
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
