//! Reaching the engine and what belongs to it ([`Minimix`]), and the file that keeps what changed in rooms.

use crate::accounts::Minimix;
use crate::api::journal::new_id;
use crate::rooms::Log;
use crate::state::{self, State};
use enjamb_muc_fork::Accounts;
use mlua::prelude::*;
use std::path::PathBuf;

/// What the file is to who copies it.
const NAME: &str = "rooms";

/// Does something with what there is of account-level MUC. `f` must not call Lua: that may come back here.
pub fn with<T>(f: impl FnOnce(&mut Minimix) -> T) -> T {
    state::with(|state| f(&mut state.minimix))
}

/// [`Minimix::engine`].
pub fn ask<T>(question: impl FnOnce(&mut Accounts, u64) -> T) -> T {
    state::accounts(question)
}

/// [`Minimix::engine_by_the_clock`].
pub fn ask_by_the_clock<T>(question: impl FnOnce(&mut Accounts, u64) -> T) -> T {
    with(|minimix| minimix.engine_by_the_clock(question))
}

/// These lines were written to the file.
fn copy(state: &mut State, lines: &str) {
    if let Some((logs, journal, minimix)) = state.copied_logs() {
        logs.append(journal, NAME, lines, || minimix.all_lines());
    }
}

/// [`Minimix::write_down`], with the sessions' queues.
pub fn write_down() {
    state::with(|state| {
        let (sessions, ahead) = (&mut state.sessions, &mut state.ahead);
        let commit = |lines: &str| {
            let noted =
                sessions.journal().map_or(Ok(()), |journal| ahead.note(journal, lines, || new_id().ok()));
            noted.is_ok() && sessions.commit().is_ok()
        };
        if let Some(lines) = state.minimix.write_down(commit) {
            copy(state, &lines);
        }
    });
}

/// `write_down()`: everything that has changed in rooms is written to the file; for when all that it led to is queued.
fn write_all_down(_: &Lua, (): ()) -> LuaResult<()> {
    write_down();
    Ok(())
}

/// `keep(path)`: reads what was kept of rooms and goes on keeping it there. `true`, or `nil` and why not.
fn keep(_: &Lua, path: String) -> LuaResult<(Option<bool>, Option<String>)> {
    let path = PathBuf::from(path);
    let brought = state::with(|state| state.bring_lines(NAME, &path));
    let ahead = state::with(|state| state.ahead.take_lines());
    Ok(match brought.and_then(|()| Log::open(path, &ahead)) {
        Ok((log, recorded)) => {
            state::with(|state| {
                state.minimix.keep(log, recorded);
                copy(state, "");
            });
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
