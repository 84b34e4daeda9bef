//! `enjamb.minimix`: account-level MUC for the shim.
//!
//! One engine for all hosts of the process, which outlives a reload of the shim. Each function takes what was read from
//! a stanza and answers with an array of decisions, or `nil` if the stanza is none of the engine's business. The engine
//! is never held while Lua runs, so a decision that leads to another call is fine.

use crate::api::direct::{Copies, Served};
use crate::boundary::groupchat;
use crate::state::{accounts, with};
use crate::{log, rooms};
use enjamb_muc_fork::decision::{Decision, Id, Outcome};
use enjamb_muc_fork::input::{Asks, FromClient, FromRoom, Iq, Join, Message, MucUser, Presence};
use enjamb_muc_fork::{Config, Full, Limits, Offline, Request, Restored, RestoredClient, Waits, chat};
use mlua::prelude::*;
use std::sync::Arc;

/// `write_down()`: everything that has changed in rooms is written to the file; for when all that it led to is queued.
fn write_all_down(_: &Lua, (): ()) -> LuaResult<()> {
    write_down();
    Ok(())
}

fn write_down() {
    with(|state| {
        let sessions = &mut state.sessions;
        state.minimix.write_down(|| sessions.commit().is_ok());
    });
}

type Text = mlua::BorrowedStr;

fn str(text: &Option<Text>) -> Option<&str> {
    text.as_deref()
}

fn presence(kind: &Option<Text>) -> Option<Presence> {
    match str(kind) {
        None => Some(Presence::Available),
        Some("unavailable") => Some(Presence::Unavailable),
        Some("error") => Some(Presence::Error),
        Some(_) => None,
    }
}

fn message(kind: &Option<Text>) -> Message {
    match str(kind) {
        Some("groupchat") => Message::Groupchat,
        Some("error") => Message::Error,
        _ => Message::Other,
    }
}

fn iq(kind: &str) -> Iq {
    match kind {
        "result" => Iq::Result,
        "error" => Iq::Error,
        _ => Iq::Request,
    }
}

/// `nil`: as it is; `false`: none.
fn set_id(table: &LuaTable, id: Id) -> LuaResult<()> {
    match id {
        Id::Keep => Ok(()),
        Id::Remove => table.raw_set("id", false),
        Id::Set(id) => table.raw_set("id", id),
    }
}

fn decision(lua: &Lua, decision: Decision) -> LuaResult<LuaTable> {
    let table = lua.create_table()?;
    match decision {
        // Of a message or an iq: presences are served as bytes.
        Decision::Forward { resource, edit } => {
            table.raw_set("what", "forward")?;
            table.raw_set("resource", &*resource)?;
            table.raw_set("from", edit.from)?;
            set_id(&table, edit.id)?;
        }
        Decision::Serve { account, resource, stanza, edit } => {
            let mut copies = Copies::default();
            copies.add(stanza, edit);
            serve(&table, &account, &resource, copies)?;
        }
        Decision::ToRoom { to, id } => {
            table.raw_set("what", "room")?;
            table.raw_set("to", to)?;
            set_id(&table, id)?;
        }
        Decision::Send { stanza } => {
            table.raw_set("what", "send")?;
            table.raw_set("stanza", lua.create_string(&stanza)?)?;
        }
        Decision::Refuse { condition } => {
            table.raw_set("what", "refuse")?;
            table.raw_set("type", condition.kind)?;
            table.raw_set("condition", condition.name)?;
            table.raw_set("text", condition.text)?;
        }
        Decision::Answer => table.raw_set("what", "answer")?,
        Decision::Joined { account, resource, id, room, outcome } => {
            table.raw_set("what", "joined")?;
            table.raw_set("account", &*account)?;
            table.raw_set("resource", &*resource)?;
            table.raw_set("id", &*id)?;
            table.raw_set("room", &*room)?;
            match outcome {
                Outcome::In(nick) => table.raw_set("nick", &*nick)?,
                Outcome::Refused => {}
                Outcome::Failed(condition) => {
                    table.raw_set("type", condition.kind)?;
                    table.raw_set("condition", condition.name)?;
                    table.raw_set("text", condition.text)?;
                }
            }
        }
        Decision::Persist { account } => {
            table.raw_set("what", "persist")?;
            table.raw_set("account", &*account)?;
        }
    }
    Ok(table)
}

fn serve(table: &LuaTable, account: &str, resource: &str, copies: Copies) -> LuaResult<()> {
    table.raw_set("what", "serve")?;
    table.raw_set("account", account)?;
    table.raw_set("resource", resource)?;
    table.raw_set("n", copies.len())?;
    table.raw_set("copies", copies)
}

/// As an array. What a client is served with nothing else to do in between is one decision: `copies` and how many.
fn decisions(lua: &Lua, all: Vec<Decision>) -> LuaResult<LuaTable> {
    let array = lua.create_table()?;
    let mut served = Served::default();
    let flush = |served: &mut Served| {
        served.take().into_iter().try_for_each(|(account, resource, copies)| {
            let table = lua.create_table()?;
            serve(&table, &account, &resource, copies)?;
            array.raw_push(table)
        })
    };
    for one in all {
        match one {
            Decision::Serve { account, resource, stanza, edit } => {
                served.add(account, resource, stanza, edit);
            }
            other => {
                flush(&mut served)?;
                array.raw_push(decision(lua, other)?)?;
            }
        }
    }
    flush(&mut served)?;
    Ok(array)
}

/// Copies of the presence in hand, as bytes. These are without its `id` if that is somebody else's request.
fn serve_in_hand(all: &mut [Decision], account: &str, bytes: &[u8], id: Option<&str>) {
    let mut stanza: Option<Arc<[u8]>> = None;
    for one in all {
        if let Decision::Forward { resource, edit } = one {
            let (resource, mut edit) = (std::mem::take(resource), std::mem::take(edit));
            if edit.id == Id::Keep
                && let Some(id) = id
            {
                edit.id = Id::Set(id.into());
            }
            let stanza = Arc::clone(stanza.get_or_insert_with(|| bytes.into()));
            *one = Decision::Serve { account: account.into(), resource, stanza, edit };
        }
    }
}

fn maybe(lua: &Lua, all: Option<Vec<Decision>>) -> LuaResult<Option<LuaTable>> {
    all.map(|all| decisions(lua, all)).transpose()
}

fn configure(_: &Lua, (host, options): (String, LuaTable)) -> LuaResult<()> {
    let offline = match options.get::<String>("offline")?.as_str() {
        "stay" => Offline::Stay,
        "leave" => Offline::Leave,
        _ => Offline::Bookmarked,
    };
    let config = Config {
        offline,
        max_rooms: options.get("max_rooms")?,
        join_timeout: options.get("join_timeout")?,
        silence: options.get("silence")?,
    };
    accounts(|fork, _| fork.configure(&host, config));
    Ok(())
}

/// `has(account, room)`: whether the account is in the room, or was just now; and whether a client of it is.
fn has(_: &Lua, (account, room): (Text, Text)) -> LuaResult<(bool, bool)> {
    let attended = accounts(|fork, _| fork.is_attended(&account, &room));
    Ok((attended.is_some(), attended.unwrap_or(false)))
}

/// `presence_out(account, resource, room, nick, type, id, payload, join)`; `join` is a table with `password`,
/// `maxstanzas`, `maxchars` and `since`, or `nil`.
#[allow(clippy::type_complexity)]
fn presence_out(
    lua: &Lua,
    (account, resource, room, nick, kind, id, payload, join): (
        Text,
        Text,
        Text,
        Option<Text>,
        Option<Text>,
        Option<Text>,
        LuaString,
        Option<LuaTable>,
    ),
) -> LuaResult<Option<LuaTable>> {
    let Some(kind) = presence(&kind) else { return Ok(None) };
    let from =
        FromClient { account: &account, resource: &resource, room: &room, nick: str(&nick), id: str(&id) };
    let password: Option<Text> = match &join {
        Some(join) => join.get("password")?,
        None => None,
    };
    let join = match &join {
        Some(join) => Some(Join {
            password: str(&password),
            history: Request {
                maxstanzas: join.get("maxstanzas")?,
                maxchars: join.get("maxchars")?,
                since: join.get("since")?,
            },
        }),
        None => None,
    };
    let all = accounts(|fork, now| fork.presence_from_client(from, kind, join, &payload.as_bytes(), now));
    maybe(lua, all)
}

/// `probe_out(account, resource, room, nick, id)`
fn probe_out(
    lua: &Lua,
    (account, resource, room, nick, id): (Text, Text, Text, Option<Text>, Option<Text>),
) -> LuaResult<Option<LuaTable>> {
    let from =
        FromClient { account: &account, resource: &resource, room: &room, nick: str(&nick), id: str(&id) };
    maybe(lua, accounts(|fork, now| fork.probe_from_client(from, now)))
}

/// `client_gone(account, resource, online, told, payload)`
fn client_gone(
    lua: &Lua,
    (account, resource, online, told, payload): (Text, Text, bool, bool, Option<LuaString>),
) -> LuaResult<LuaTable> {
    let payload = payload.as_ref().map(|p| p.as_bytes());
    let all =
        accounts(|fork, now| fork.client_gone(&account, &resource, online, told, payload.as_deref(), now));
    decisions(lua, all)
}

/// `message_out(account, resource, room, nick, type, id, condition)`
#[allow(clippy::type_complexity)]
fn message_out(
    lua: &Lua,
    (account, resource, room, nick, kind, id, condition): (
        Text,
        Text,
        Text,
        Option<Text>,
        Option<Text>,
        Option<Text>,
        Option<Text>,
    ),
) -> LuaResult<Option<LuaTable>> {
    let from =
        FromClient { account: &account, resource: &resource, room: &room, nick: str(&nick), id: str(&id) };
    let all = accounts(|fork, now| fork.message_from_client(from, message(&kind), str(&condition), now));
    maybe(lua, all)
}

/// `iq_out(account, resource, room, nick, type, id, ping, xmlns, sid)`; the last two as in [`iq_in`].
#[allow(clippy::type_complexity)]
fn iq_out(
    lua: &Lua,
    (account, resource, room, nick, kind, id, ping, xmlns, sid): (
        Text,
        Text,
        Text,
        Option<Text>,
        Text,
        Option<Text>,
        bool,
        Option<Text>,
        Option<Text>,
    ),
) -> LuaResult<Option<LuaTable>> {
    let asks = Asks { set: &*kind == "set", xmlns: str(&xmlns).unwrap_or(""), sid: str(&sid) };
    let from =
        FromClient { account: &account, resource: &resource, room: &room, nick: str(&nick), id: str(&id) };
    let all = accounts(|fork, now| fork.iq_from_client(from, iq(&kind), ping, asks, now));
    maybe(lua, all)
}

/// The status codes; what is no number of one is none.
fn status_codes(said: &LuaTable) -> LuaResult<Vec<u16>> {
    let Some(codes) = said.get::<Option<LuaTable>>("codes")? else { return Ok(Vec::new()) };
    let codes = codes.sequence_values::<LuaValue>().filter_map(|code| match code.ok()? {
        LuaValue::Integer(code) => u16::try_from(code).ok(),
        _ => None,
    });
    Ok(codes.collect())
}

/// `presence_in(account, room, nick, type, id, bytes, said)`; `said` is a table with `codes` (an array), `nick`,
/// `condition`, `wait` (its type is that) and `destroyed`.
#[allow(clippy::type_complexity)]
fn presence_in(
    lua: &Lua,
    (account, room, nick, kind, id, bytes, said): (
        Text,
        Text,
        Option<Text>,
        Option<Text>,
        Option<Text>,
        LuaString,
        LuaTable,
    ),
) -> LuaResult<Option<LuaTable>> {
    let Some(kind) = presence(&kind) else { return Ok(None) };
    let codes = status_codes(&said)?;
    let new_nick: Option<Text> = said.get("nick")?;
    let condition: Option<Text> = said.get("condition")?;
    let said = MucUser {
        codes: &codes,
        new_nick: str(&new_nick),
        condition: str(&condition),
        wait: said.get::<Option<bool>>("wait")?.unwrap_or(false),
        destroyed: said.get::<Option<bool>>("destroyed")?.unwrap_or(false),
    };
    let from = FromRoom { account: &account, room: &room, nick: str(&nick), id: str(&id) };
    let bytes = bytes.as_bytes();
    let mut all = accounts(|fork, now| fork.presence_from_room(from, kind, said, &bytes, now));
    if let Some(all) = &mut all {
        serve_in_hand(all, &account, &bytes, str(&id));
    }
    maybe(lua, all)
}

/// `pending()`: the decisions of the last groupchat message.
fn pending(lua: &Lua, (): ()) -> LuaResult<LuaTable> {
    decisions(lua, with(|state| state.minimix.take_pending()))
}

/// `is_new(account, room, stanza)`: whether a groupchat message is to be archived for the account. `stanza` are its bytes
/// without `to`.
fn is_new(_: &Lua, (account, room, stanza): (Text, Text, LuaString)) -> LuaResult<bool> {
    let stanza = stanza.as_bytes();
    Ok(with(|state| {
        state
            .minimix
            .engine_by_the_clock(|fork, now| fork.is_new(&account, &room, &chat::read(&stanza, &room), now))
    }))
}

/// `message_in(account, room, nick, type, id, condition)`
#[allow(clippy::type_complexity)]
fn message_in(
    lua: &Lua,
    (account, room, nick, kind, id, condition): (
        Text,
        Text,
        Option<Text>,
        Option<Text>,
        Option<Text>,
        Option<Text>,
    ),
) -> LuaResult<Option<LuaTable>> {
    let from = FromRoom { account: &account, room: &room, nick: str(&nick), id: str(&id) };
    let all = accounts(|fork, now| fork.message_from_room(from, message(&kind), str(&condition), now));
    maybe(lua, all)
}

/// `iq_in(account, room, nick, type, id, ping, for_account, condition, xmlns, sid)`; the last two are the namespace of a request's
/// payload, and the name of the exchange that it belongs to.
#[allow(clippy::type_complexity)]
fn iq_in(
    lua: &Lua,
    (account, room, nick, kind, id, ping, for_account, condition, xmlns, sid): (
        Text,
        Text,
        Option<Text>,
        Text,
        Option<Text>,
        bool,
        bool,
        Option<Text>,
        Option<Text>,
        Option<Text>,
    ),
) -> LuaResult<Option<LuaTable>> {
    let asks = Asks { set: &*kind == "set", xmlns: str(&xmlns).unwrap_or(""), sid: str(&sid) };
    let from = FromRoom { account: &account, room: &room, nick: str(&nick), id: str(&id) };
    let all = accounts(|fork, now| {
        fork.iq_from_room(from, iq(&kind), ping, for_account, str(&condition), asks, now)
    });
    maybe(lua, all)
}

fn tick(lua: &Lua, (): ()) -> LuaResult<Option<LuaTable>> {
    write_down();
    log::hand_over(lua);
    let all = accounts(|fork, now| fork.tick(now));
    if all.is_empty() { Ok(None) } else { decisions(lua, all).map(Some) }
}

fn server_lost(_: &Lua, host: Text) -> LuaResult<()> {
    accounts(|fork, now| fork.server_lost(&host, now));
    Ok(())
}

/// `server_up(host, anew)`
fn server_up(_: &Lua, (host, anew): (Text, bool)) -> LuaResult<()> {
    accounts(|fork, now| fork.server_up(&host, anew, now));
    Ok(())
}

fn online(lua: &Lua, account: Text) -> LuaResult<LuaTable> {
    decisions(lua, accounts(|fork, now| fork.online(&account, now)))
}

/// `pam_join(account, resource, id, room, nick)`
fn pam_join(
    lua: &Lua,
    (account, resource, id, room, nick): (Text, Text, Text, Text, Text),
) -> LuaResult<LuaTable> {
    let from = FromClient { account: &account, resource: &resource, room: &room, nick: None, id: Some(&id) };
    decisions(lua, accounts(|fork, now| fork.pam_join(from, &nick, now)))
}

/// `bookmark(account, room, autojoin, nick, password, online)`; `autojoin` is `nil` if there is none any more.
#[allow(clippy::type_complexity)]
fn bookmark(
    lua: &Lua,
    (account, room, autojoin, nick, password, online): (
        Text,
        Text,
        Option<bool>,
        Option<Text>,
        Option<Text>,
        bool,
    ),
) -> LuaResult<LuaTable> {
    let all = accounts(|fork, now| {
        fork.bookmark(&account, &room, autojoin, str(&nick), str(&password), online, now)
    });
    decisions(lua, all)
}

/// `bookmarks_known(account, known)`
fn bookmarks_known(_: &Lua, (account, known): (Text, bool)) -> LuaResult<()> {
    accounts(|fork, now| fork.bookmarks_known(&account, known, now));
    Ok(())
}

fn account_deleted(lua: &Lua, account: Text) -> LuaResult<LuaTable> {
    decisions(lua, accounts(|fork, _| fork.account_deleted(&account)))
}

/// A client for [`memberships`]: `resource`, `asked`, `presence`; if it waits, `waits` is `"in"` or `"out"`, and there are
/// `id`, `maxstanzas`, `maxchars`, `since` and `was_in`.
fn kept_client(lua: &Lua, kept: RestoredClient) -> LuaResult<LuaTable> {
    let client = lua.create_table()?;
    client.raw_set("resource", kept.resource)?;
    client.raw_set("asked", kept.asked)?;
    client.raw_set("presence", lua.create_string(kept.presence)?)?;
    match kept.waits {
        None => {}
        Some(Waits::ToBeIn { id, request, was_in }) => {
            client.raw_set("waits", "in")?;
            client.raw_set("id", id)?;
            client.raw_set("maxstanzas", request.maxstanzas)?;
            client.raw_set("maxchars", request.maxchars)?;
            client.raw_set("since", request.since)?;
            client.raw_set("was_in", was_in.then_some(true))?;
        }
        Some(Waits::ToBeOut { id }) => {
            client.raw_set("waits", "out")?;
            client.raw_set("id", id)?;
        }
    }
    Ok(client)
}

fn restored_client(client: &LuaTable) -> LuaResult<RestoredClient> {
    let id: Option<String> = client.get("id")?;
    let waits = match client.get::<Option<String>>("waits")?.as_deref() {
        Some("in") => {
            let request = Request {
                maxstanzas: client.get("maxstanzas")?,
                maxchars: client.get("maxchars")?,
                since: client.get("since")?,
            };
            Some(Waits::ToBeIn { id, request, was_in: flag(client, "was_in")? })
        }
        Some("out") => Some(Waits::ToBeOut { id }),
        _ => None,
    };
    Ok(RestoredClient {
        resource: client.get("resource")?,
        asked: client.get("asked")?,
        presence: client.get::<LuaString>("presence")?.as_bytes().to_vec(),
        waits,
    })
}

fn flag(table: &LuaTable, key: &str) -> LuaResult<bool> {
    Ok(table.get::<Option<bool>>(key)?.unwrap_or(false))
}

/// `memberships(account)`: by room, a table with `nick`, `password`, `pam`, `leaving`, `joining`, `pam_waiting` (an array of tables
/// with `resource` and `id`) and `clients`, an array as [`kept_client`] makes them.
fn memberships(lua: &Lua, account: Text) -> LuaResult<LuaTable> {
    let rooms = lua.create_table()?;
    for kept in accounts(|fork, _| fork.memberships(&account)) {
        let room = lua.create_table()?;
        room.raw_set("nick", kept.nick)?;
        room.raw_set("password", kept.password)?;
        room.raw_set("pam", kept.pam.then_some(true))?;
        room.raw_set("leaving", kept.leaving.then_some(true))?;
        room.raw_set("joining", kept.joining.then_some(true))?;
        room.raw_set("other_ids", kept.other_ids.then_some(true))?;
        room.raw_set("entry", (!kept.entry.is_empty()).then_some(kept.entry))?;
        room.raw_set("untold", (!kept.untold.is_empty()).then_some(kept.untold))?;
        let clients = lua.create_table()?;
        for client in kept.clients {
            clients.raw_push(kept_client(lua, client)?)?;
        }
        room.raw_set("clients", clients)?;
        if !kept.pam_waiting.is_empty() {
            let waiting = lua.create_table()?;
            for (resource, id) in kept.pam_waiting {
                let one = lua.create_table()?;
                one.raw_set("resource", resource)?;
                one.raw_set("id", id)?;
                waiting.raw_push(one)?;
            }
            room.raw_set("pam_waiting", waiting)?;
        }
        rooms.raw_set(kept.room, room)?;
    }
    Ok(rooms)
}

/// `restore(account, room, kept, online)`: `kept` as [`memberships`] gives it.
fn restore(lua: &Lua, (account, room, kept, online): (Text, String, LuaTable, bool)) -> LuaResult<LuaTable> {
    let known = with(|state| state.minimix.recorded.get(&room).cloned()).unwrap_or_default();
    let mut restored = Restored {
        room,
        nick: kept.get("nick")?,
        password: kept.get("password")?,
        pam: flag(&kept, "pam")?,
        leaving: flag(&kept, "leaving")?,
        joining: flag(&kept, "joining")?,
        other_ids: flag(&kept, "other_ids")?,
        entry: kept.get::<Option<Vec<u16>>>("entry")?.unwrap_or_default(),
        untold: kept.get::<Option<Vec<u16>>>("untold")?.unwrap_or_default(),
        occupants: known.occupants.into_iter().collect(),
        said: known.said.into(),
        ..Restored::default()
    };
    for client in kept.get::<LuaTable>("clients")?.sequence_values::<LuaTable>() {
        restored.clients.push(restored_client(&client?)?);
    }
    if let Some(waiting) = kept.get::<Option<LuaTable>>("pam_waiting")? {
        for one in waiting.sequence_values::<LuaTable>() {
            let one = one?;
            restored.pam_waiting.push((one.get("resource")?, one.get("id")?));
        }
    }
    decisions(lua, accounts(|fork, now| fork.restore(&account, restored, online, now)))
}

fn has_room(_: &Lua, room: Text) -> LuaResult<bool> {
    Ok(accounts(|fork, _| fork.has_room(&room)))
}

/// `keep(path)`: reads what was kept of rooms and goes on keeping it there. `true`, or `nil` and why not.
fn keep(_: &Lua, path: String) -> LuaResult<(Option<bool>, Option<String>)> {
    Ok(match rooms::Log::open(path.into()) {
        Ok((log, kept)) => {
            with(|state| state.minimix.keep(log, kept));
            (Some(true), None)
        }
        Err(error) => (None, Some(error.to_string())),
    })
}

/// `kept()`: what was read by [`keep`] is not needed any more.
fn kept(_: &Lua, (): ()) -> LuaResult<()> {
    with(|state| state.minimix.recorded.clear());
    Ok(())
}

/// `clients(account, room)`: the account's nickname and an array of resources; `nil` if it is not in the room.
fn clients(_: &Lua, (account, room): (Text, Text)) -> LuaResult<(Option<String>, Option<Vec<String>>)> {
    Ok(match accounts(|fork, _| fork.clients(&account, &room)) {
        Some((nick, clients)) => (Some(nick), Some(clients)),
        None => (None, None),
    })
}

/// `shown(account, room)`: the resource of the client whose presence the account shows in the room, or `nil`.
fn shown(_: &Lua, (account, room): (Text, Text)) -> LuaResult<Option<String>> {
    Ok(accounts(|fork, _| fork.shown(&account, &room).map(Into::into)))
}

/// `limit(room, account, server)`: how many bytes are kept at most of the occupants of a room, for an account, and in all.
fn limit(_: &Lua, (room, account, server): (usize, usize, usize)) -> LuaResult<()> {
    accounts(|fork, _| fork.limit(Limits { room, account, server }));
    Ok(())
}

/// `full()`: bounds that were reached since the last call: an array of tables with `what` (`"room"`, `"account"` or `"server"`) and
/// `jid`; or `nil`.
fn full(lua: &Lua, (): ()) -> LuaResult<Option<LuaTable>> {
    let notices = accounts(|fork, _| fork.take_notices());
    if notices.is_empty() {
        return Ok(None);
    }
    let array = lua.create_table()?;
    for notice in notices {
        let (what, jid) = match notice {
            Full::Room(jid) => ("room", Some(jid)),
            Full::Account(jid) => ("account", Some(jid)),
            Full::Server => ("server", None),
        };
        let one = lua.create_table()?;
        one.raw_set("what", what)?;
        one.raw_set("jid", jid.as_deref())?;
        array.raw_push(one)?;
    }
    Ok(Some(array))
}

/// `rooms()`: by room, the bytes that are kept of its occupants.
fn room_sizes(lua: &Lua, (): ()) -> LuaResult<LuaTable> {
    let sizes: Vec<(String, usize)> =
        accounts(|fork, _| fork.rooms().map(|(room, bytes)| (room.into(), bytes)).collect());
    lua.create_table_from(sizes)
}

/// `totals()`: accounts, memberships, bytes.
fn totals(_: &Lua, (): ()) -> LuaResult<(usize, usize, usize)> {
    Ok(accounts(|fork, _| fork.totals()))
}

pub fn table(lua: &Lua) -> LuaResult<LuaTable> {
    let table = lua.create_table()?;
    table.set("configure", lua.create_function(configure)?)?;
    table.set("has", lua.create_function(has)?)?;
    table.set("presence_out", lua.create_function(presence_out)?)?;
    table.set("probe_out", lua.create_function(probe_out)?)?;
    table.set("client_gone", lua.create_function(client_gone)?)?;
    table.set("message_out", lua.create_function(message_out)?)?;
    table.set("iq_out", lua.create_function(iq_out)?)?;
    table.set("presence_in", lua.create_function(presence_in)?)?;
    table.set("groupchat_in", groupchat::function(lua)?)?;
    table.set("pending", lua.create_function(pending)?)?;
    table.set("is_new", lua.create_function(is_new)?)?;
    table.set("message_in", lua.create_function(message_in)?)?;
    table.set("iq_in", lua.create_function(iq_in)?)?;
    table.set("tick", lua.create_function(tick)?)?;
    table.set("write_down", lua.create_function(write_all_down)?)?;
    table.set("server_lost", lua.create_function(server_lost)?)?;
    table.set("server_up", lua.create_function(server_up)?)?;
    table.set("online", lua.create_function(online)?)?;
    table.set("pam_join", lua.create_function(pam_join)?)?;
    table.set("bookmark", lua.create_function(bookmark)?)?;
    table.set("bookmarks_known", lua.create_function(bookmarks_known)?)?;
    table.set("account_deleted", lua.create_function(account_deleted)?)?;
    table.set("memberships", lua.create_function(memberships)?)?;
    table.set("restore", lua.create_function(restore)?)?;
    table.set("has_room", lua.create_function(has_room)?)?;
    table.set("keep", lua.create_function(keep)?)?;
    table.set("kept", lua.create_function(kept)?)?;
    table.set("clients", lua.create_function(clients)?)?;
    table.set("shown", lua.create_function(shown)?)?;
    table.set("limit", lua.create_function(limit)?)?;
    table.set("full", lua.create_function(full)?)?;
    table.set("rooms", lua.create_function(room_sizes)?)?;
    table.set("totals", lua.create_function(totals)?)?;
    Ok(table)
}
