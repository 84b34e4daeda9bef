//! `enjamb.direct`: stanzas that are bytes already, on their way to a client without having been a table.
//!
//! Copies are made of what is kept as they go out, some at a time. How a session sends is for the shims to know: here they
//! are queued, if its stream is managed, and handed over as one string.

use crate::boundary::groupchat;
use crate::clock::wall_clock;
use crate::state::{key, number, sessions, with};
use enjamb_muc_fork::Edit;
use enjamb_stanza::{Resent, Summary};
use enjamb_stream_management::Stream;
use mlua::prelude::*;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

type Text = mlua::BorrowedStr;

/// A copy that is yet to be made.
struct Copy {
    of: Arc<[u8]>,
    /// How it differs: mostly not at all.
    edit: Option<Box<Edit>>,
}

/// What one client is served, in order.
#[derive(Default)]
pub struct Copies(Vec<Copy>);

impl Copies {
    pub fn add(&mut self, of: Arc<[u8]>, edit: Edit) {
        let edit = (edit != Edit::default()).then(|| Box::new(edit));
        self.0.push(Copy { of, edit });
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Writes the copies from number `first` on, counted from 1, until there are `budget` bytes or something comes that cannot
    /// be queued: if that is the first, it is written alone.
    fn write(&self, first: usize, budget: usize, to: &str) -> Written {
        let mut written = Written::default();
        let as_it_is = Edit::default();
        with(|state| {
            let engine = state.minimix.look();
            for Copy { of, edit } in self.0.iter().skip(first.saturating_sub(1)) {
                let begin = written.bytes.len();
                engine.write_copy(to, of, edit.as_deref().unwrap_or(&as_it_is), &mut written.bytes);
                let summary = written.bytes.get(begin..).and_then(Summary::of);
                if summary.is_none() && begin > 0 {
                    written.bytes.truncate(begin);
                    break;
                }
                written.copies.push((begin..written.bytes.len(), summary));
                if summary.is_none() || written.bytes.len() >= budget {
                    break;
                }
            }
        });
        written
    }
}

impl LuaUserData for Copies {}

/// Copies for clients, in the order in which each gets its own.
#[derive(Default)]
pub struct Served {
    clients: Vec<(Box<str>, Box<str>, Copies)>,
    /// Where each is, by full JID.
    places: HashMap<String, usize>,
}

impl Served {
    pub fn add(&mut self, account: Box<str>, resource: Box<str>, stanza: Arc<[u8]>, edit: Edit) {
        if let Some((a, r, copies)) = self.clients.last_mut()
            && *a == account
            && *r == resource
        {
            return copies.add(stanza, edit);
        }
        let clients = &mut self.clients;
        let place = *self.places.entry(format!("{account}/{resource}")).or_insert_with(|| {
            clients.push((account, resource, Copies::default()));
            clients.len() - 1
        });
        if let Some((_, _, copies)) = clients.get_mut(place) {
            copies.add(stanza, edit);
        }
    }

    /// Takes all that there is, by account and resource.
    pub fn take(&mut self) -> Vec<(Box<str>, Box<str>, Copies)> {
        self.places.clear();
        std::mem::take(&mut self.clients)
    }
}

#[derive(Default)]
struct Written {
    bytes: Vec<u8>,
    /// Where each is in these bytes, and what is to be remembered of it; only one alone may be none of the three stanzas.
    copies: Vec<(Range<usize>, Option<Summary>)>,
}

/// `queue(copies, first, budget, key, full_jid, frame)`: queues copies on the stream `key`, from number `first` on until there
/// are `budget` bytes, at least one. `bytes, next, over`: what is to be sent, or false if it waits its turn; the number of the
/// next copy; and, if there are such, an array of the keys of streams that have to end. `nil`: the stream is gone, or the copy is
/// nothing that it can count; nothing was done. `frame`: the bytes are for a WebSocket, where a stanza declares its namespace;
/// then `budget` must be 0.
fn queue(
    lua: &Lua,
    (copies, first, budget, stream, to, frame): (LuaUserDataRef<Copies>, usize, usize, i64, Text, bool),
) -> LuaResult<LuaMultiValue> {
    let stream = key(stream);
    let Some(sends_now) = sessions(|s| s.get(stream).map(Stream::sends_now)) else {
        return LuaNil.into_lua_multi(lua);
    };
    let written = copies.write(first, budget, &to);
    if written.copies.iter().any(|(_, summary)| summary.is_none()) || written.copies.is_empty() {
        return LuaNil.into_lua_multi(lua);
    }
    // The string first: if there is no memory for it, nothing has changed.
    let bytes = match (sends_now, frame) {
        (false, _) => LuaValue::Boolean(false),
        (true, false) => LuaValue::String(lua.create_string(&written.bytes)?),
        (true, true) => {
            let mut framed = Vec::with_capacity(written.bytes.len() + 32);
            Resent { xmlns: Some("jabber:client"), delay: None }.write(&written.bytes, &mut framed);
            LuaValue::String(lua.create_string(&framed)?)
        }
    };
    let (at, next) = (wall_clock(), first + written.copies.len());
    let (mut over, mut sent) = (Vec::new(), sends_now);
    let queued = sessions(|s| {
        for (range, summary) in &written.copies {
            let (Some(bytes), Some(summary)) = (written.bytes.get(range.clone()), *summary) else { continue };
            let queueing = s.push(stream, bytes, summary, at)?;
            sent &= queueing.send;
            if let Some(key) = queueing.over_limit.map(number)
                && !over.contains(&key)
            {
                over.push(key);
            }
        }
        Some(())
    });
    if queued.is_none() {
        return LuaNil.into_lua_multi(lua);
    }
    // Finalizers that ran while the string was made may have lost the connection.
    let bytes = if sent { bytes } else { LuaValue::Boolean(false) };
    (bytes, next, (!over.is_empty()).then_some(over)).into_lua_multi(lua)
}

/// `write(copies, first, budget, full_jid)`: `bytes, next`: the same without queueing them.
fn write(
    lua: &Lua,
    (copies, first, budget, to): (LuaUserDataRef<Copies>, usize, usize, Text),
) -> LuaResult<(LuaString, usize)> {
    let written = copies.write(first, budget, &to);
    Ok((lua.create_string(&written.bytes)?, first + written.copies.len()))
}

/// `start_tag(copies, n, full_jid)`: the start tag of a copy, for the log.
fn start_tag(lua: &Lua, (copies, n, to): (LuaUserDataRef<Copies>, usize, Text)) -> LuaResult<LuaString> {
    let mut written = copies.write(n, 0, &to);
    let end = written.bytes.iter().position(|&b| b == b'>').map_or(written.bytes.len(), |end| end + 1);
    written.bytes.truncate(end);
    lua.create_string(&written.bytes)
}

pub fn table(lua: &Lua) -> LuaResult<LuaTable> {
    let direct = lua.create_table()?;
    direct.set("queue", lua.create_function(queue)?)?;
    direct.set("write", lua.create_function(write)?)?;
    direct.set("start_tag", lua.create_function(start_tag)?)?;
    direct.set("push_copy", groupchat::push_copy_function(lua)?)?;
    Ok(direct)
}
