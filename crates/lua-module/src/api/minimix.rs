//! `enjamb.minimix`: account-level MUC for the shim.
//!
//! One engine for all hosts of the process, which outlives a reload of the shim. Each function takes what was read from
//! a stanza and answers with an array of decisions, or `nil` if the stanza is none of the engine's business. The engine
//! is never held while Lua runs, so a decision that leads to another call is fine.

use crate::api::journal;
use crate::boundary::push;
use crate::{log, rooms};
use enjamb_muc_fork::decision::{Decision, Edit, Id, Outcome};
use enjamb_muc_fork::input::{Asks, FromClient, FromRoom, Iq, Join, Message, MucUser, Presence};
use enjamb_muc_fork::{
    Accounts, Change, Config, Full, Limits, Offline, Remembered, Request, Restored, RestoredClient, Waits,
    chat,
};
use mlua::prelude::*;
use std::cell::RefCell;
use std::collections::HashMap;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

thread_local! {
    static FORK: RefCell<Accounts> = RefCell::new(Accounts::new(random));
    static START: (Instant, u64) = (Instant::now(), wall_clock());
    static PENDING: RefCell<Vec<Decision>> = const { RefCell::new(Vec::new()) };
    /// What has changed in rooms and is not in the file yet.
    static NEWS: RefCell<Vec<Change>> = const { RefCell::new(Vec::new()) };
    static LOG: RefCell<Option<rooms::Log>> = const { RefCell::new(None) };
    static RECORDED: RefCell<HashMap<String, rooms::RoomRecord>> = RefCell::default();
}

/// While the journal cannot be written so many changes wait for it. Then the file goes ahead: of what is lost with the
/// process, presences are the least.
const MUCH_NEWS: usize = 10_000;

fn random() -> u128 {
    let mut bytes = [0; 16];
    // Linux gives random bits without failing once it is up; an id that can be guessed would be worse than none.
    getrandom::fill(&mut bytes).expect("the system has no random bits");
    u128::from_ne_bytes(bytes)
}

fn with<T>(f: impl FnOnce(&mut Accounts) -> T) -> T {
    FORK.with_borrow_mut(|fork| {
        let answer = f(fork);
        let changes = fork.take_changes();
        if !changes.is_empty() {
            NEWS.with_borrow_mut(|news| news.extend(changes));
        }
        answer
    })
}

/// Writes down what has changed in rooms; for when all that it led to is queued.
///
/// What the file says that clients were told must be in their queues after a crash, so the journal goes first. Killed in
/// between, somebody is told twice.
fn write_down(fork: &Accounts) {
    NEWS.with_borrow_mut(|news| {
        if !news.is_empty() && (journal::commit_queues() || news.len() > MUCH_NEWS) {
            LOG.with_borrow_mut(|log| {
                if let Some(log) = log {
                    log.write(news, || RECORDED.with_borrow(|kept| rooms::all(fork, kept)));
                }
            });
            news.clear();
        }
    });
}

/// `write_down()`: everything that has changed in rooms is written to the file; for when all that it led to is queued.
fn write_all_down(_: &Lua, (): ()) -> LuaResult<()> {
    FORK.with_borrow(write_down);
    Ok(())
}

/// Seconds since 1970.
fn wall_clock() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// The same when the process started, and from then on as time passes, whatever the clock is set to.
fn now() -> u64 {
    START.with(|(started, wall)| wall + started.elapsed().as_secs())
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

fn codes(lua: &Lua, codes: &[u16]) -> LuaResult<LuaTable> {
    let set = lua.create_table_with_capacity(0, codes.len())?;
    for code in codes {
        set.raw_set(code.to_string(), true)?;
    }
    Ok(set)
}

fn set_edit(lua: &Lua, table: &LuaTable, edit: Edit) -> LuaResult<()> {
    if let Some(from) = edit.from {
        table.raw_set("from", from)?;
    }
    set_id(table, edit.id)?;
    if !edit.without.is_empty() {
        table.raw_set("without", codes(lua, edit.without)?)?;
    }
    if !edit.with.is_empty() {
        table.raw_set("with", codes(lua, &edit.with)?)?;
    }
    if let Some((from, at)) = edit.delay {
        table.raw_set("delay_from", from)?;
        table.raw_set("delay_at", at)?;
    }
    Ok(())
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
        Decision::Forward { resource, edit } => {
            table.raw_set("what", "forward")?;
            table.raw_set("resource", &*resource)?;
            set_edit(lua, &table, edit)?;
        }
        Decision::Serve { account, resource, stanza, edit } => {
            table.raw_set("what", "serve")?;
            table.raw_set("account", &*account)?;
            table.raw_set("resource", &*resource)?;
            table.raw_set("stanza", lua.create_string(&*stanza)?)?;
            set_edit(lua, &table, edit)?;
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

fn decisions(lua: &Lua, all: Vec<Decision>) -> LuaResult<LuaTable> {
    let array = lua.create_table_with_capacity(all.len(), 0)?;
    for (i, one) in all.into_iter().enumerate() {
        array.raw_set(i + 1, decision(lua, one)?)?;
    }
    Ok(array)
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
    with(|fork| fork.configure(&host, config));
    Ok(())
}

/// `has(account, room)`: whether the account is in the room, or was just now; and whether a client of it is.
fn has(_: &Lua, (account, room): (Text, Text)) -> LuaResult<(bool, bool)> {
    let attended = with(|fork| fork.is_attended(&account, &room));
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
    let all = with(|fork| fork.presence_from_client(from, kind, join, &payload.as_bytes(), now()));
    maybe(lua, all)
}

/// `probe_out(account, resource, room, nick, id)`
fn probe_out(
    lua: &Lua,
    (account, resource, room, nick, id): (Text, Text, Text, Option<Text>, Option<Text>),
) -> LuaResult<Option<LuaTable>> {
    let from =
        FromClient { account: &account, resource: &resource, room: &room, nick: str(&nick), id: str(&id) };
    maybe(lua, with(|fork| fork.probe_from_client(from, now())))
}

/// `client_gone(account, resource, online, told, payload)`
fn client_gone(
    lua: &Lua,
    (account, resource, online, told, payload): (Text, Text, bool, bool, Option<LuaString>),
) -> LuaResult<LuaTable> {
    let payload = payload.as_ref().map(|p| p.as_bytes());
    let all = with(|fork| fork.client_gone(&account, &resource, online, told, payload.as_deref(), now()));
    decisions(lua, all)
}

/// `replaced(account, resource)`: another session has the client's resource. Decisions, and the turn for [`not_back`].
fn replaced(lua: &Lua, (account, resource): (Text, Text)) -> LuaResult<(LuaTable, u64)> {
    let (turn, all) = with(|fork| fork.replaced(&account, &resource));
    Ok((decisions(lua, all)?, turn))
}

/// `not_back(account, resource, online, turn)`: it has not joined again those rooms that it has not joined since that turn.
fn not_back(lua: &Lua, (account, resource, online, turn): (Text, Text, bool, u64)) -> LuaResult<LuaTable> {
    decisions(lua, with(|fork| fork.not_back(&account, &resource, turn, online, now())))
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
    let all = with(|fork| fork.message_from_client(from, message(&kind), str(&condition), now()));
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
    let all = with(|fork| fork.iq_from_client(from, iq(&kind), ping, asks, now()));
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
    let all = with(|fork| fork.presence_from_room(from, kind, said, &bytes.as_bytes(), now()));
    maybe(lua, all)
}

/// What came of a groupchat message.
pub enum Groupchat {
    /// It is none of ours.
    NotOurs,
    /// These clients get a copy; before that, [`pending`] has decisions if this is true.
    Copies(bool),
}

/// Calls `each` for all clients that [`groupchat`] may give a copy to, in its order.
pub fn resources(account: &[u8], from: &[u8], each: impl FnMut(&str)) {
    let (Ok(account), Ok(from)) = (std::str::from_utf8(account), std::str::from_utf8(from)) else { return };
    let room = from.split_once('/').map_or(from, |(room, _)| room);
    with(|fork| fork.resources(account, room).for_each(each));
}

/// A groupchat message for an account. `stanza` are its bytes without `to`; `copy` is called for each client that gets
/// a copy.
pub fn groupchat(
    account: &[u8],
    from: &[u8],
    id: Option<&[u8]>,
    stanza: &[u8],
    copy: impl FnMut(&str),
) -> Groupchat {
    let (Ok(account), Ok(from)) = (std::str::from_utf8(account), std::str::from_utf8(from)) else {
        return Groupchat::NotOurs;
    };
    let (room, nick) = from.split_once('/').map_or((from, None), |(room, nick)| (room, Some(nick)));
    let id = id.and_then(|id| std::str::from_utf8(id).ok());
    let all = with(|fork| {
        if !fork.has_room(room) {
            return None;
        }
        fork.set_wall_clock(wall_clock(), now());
        fork.groupchat(FromRoom { account, room, nick, id }, &chat::read(stanza, room), now(), copy)
    });
    match all {
        None => Groupchat::NotOurs,
        Some(all) => {
            let some = !all.is_empty();
            PENDING.with_borrow_mut(|pending| pending.extend(all));
            Groupchat::Copies(some)
        }
    }
}

/// `pending()`: the decisions of the last groupchat message.
fn pending(lua: &Lua, (): ()) -> LuaResult<LuaTable> {
    decisions(lua, PENDING.take())
}

/// `is_new(account, room, stanza)`: whether a groupchat message is to be archived for the account. `stanza` are its bytes
/// without `to`.
fn is_new(_: &Lua, (account, room, stanza): (Text, Text, LuaString)) -> LuaResult<bool> {
    let stanza = stanza.as_bytes();
    Ok(with(|fork| {
        fork.set_wall_clock(wall_clock(), now());
        fork.is_new(&account, &room, &chat::read(&stanza, &room), now())
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
    let all = with(|fork| fork.message_from_room(from, message(&kind), str(&condition), now()));
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
    let all =
        with(|fork| fork.iq_from_room(from, iq(&kind), ping, for_account, str(&condition), asks, now()));
    maybe(lua, all)
}

fn tick(lua: &Lua, (): ()) -> LuaResult<Option<LuaTable>> {
    FORK.with_borrow(write_down);
    log::hand_over(lua);
    let all = with(|fork| fork.tick(now()));
    if all.is_empty() { Ok(None) } else { decisions(lua, all).map(Some) }
}

fn server_lost(_: &Lua, host: Text) -> LuaResult<()> {
    with(|fork| fork.server_lost(&host, now()));
    Ok(())
}

/// `server_up(host, anew)`
fn server_up(_: &Lua, (host, anew): (Text, bool)) -> LuaResult<()> {
    with(|fork| fork.server_up(&host, anew, now()));
    Ok(())
}

fn online(lua: &Lua, account: Text) -> LuaResult<LuaTable> {
    decisions(lua, with(|fork| fork.online(&account, now())))
}

/// `pam_join(account, resource, id, room, nick)`
fn pam_join(
    lua: &Lua,
    (account, resource, id, room, nick): (Text, Text, Text, Text, Text),
) -> LuaResult<LuaTable> {
    let from = FromClient { account: &account, resource: &resource, room: &room, nick: None, id: Some(&id) };
    decisions(lua, with(|fork| fork.pam_join(from, &nick, now())))
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
    let all =
        with(|fork| fork.bookmark(&account, &room, autojoin, str(&nick), str(&password), online, now()));
    decisions(lua, all)
}

/// `bookmarks_known(account, known)`
fn bookmarks_known(_: &Lua, (account, known): (Text, bool)) -> LuaResult<()> {
    with(|fork| fork.bookmarks_known(&account, known, now()));
    Ok(())
}

fn account_deleted(lua: &Lua, account: Text) -> LuaResult<LuaTable> {
    decisions(lua, with(|fork| fork.account_deleted(&account)))
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
    for kept in with(|fork| fork.memberships(&account)) {
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

/// `kept` as [`memberships`] gives it.
fn restored(room: String, kept: &LuaTable) -> LuaResult<Restored> {
    let known = RECORDED.with_borrow(|rooms| rooms.get(&room).cloned()).unwrap_or_default();
    let mut restored = Restored {
        room,
        nick: kept.get("nick")?,
        password: kept.get("password")?,
        pam: flag(kept, "pam")?,
        leaving: flag(kept, "leaving")?,
        joining: flag(kept, "joining")?,
        other_ids: flag(kept, "other_ids")?,
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
    Ok(restored)
}

/// `restore(account, room, kept, online)`: `kept` as [`memberships`] gives it.
fn restore(lua: &Lua, (account, room, kept, online): (Text, String, LuaTable, bool)) -> LuaResult<LuaTable> {
    let restored = restored(room, &kept)?;
    decisions(lua, with(|fork| fork.restore(&account, restored, online, now())))
}

fn strings(table: &LuaTable, key: &str) -> LuaResult<Vec<LuaString>> {
    table.get::<LuaTable>(key)?.sequence_values().collect()
}

/// `adopt(account, room, kept, online, remembered)`: the same of an account that the room has still. `remembered` is a table as
/// mod_muc_enjamb makes it, and `all_back`: `nick`, `own`, `shown`, `nicks`, `presences`, `history` (arrays) and `subject`; stanzas are bytes without `to`.
fn adopt(
    lua: &Lua,
    (account, room, kept, online, table): (Text, String, LuaTable, bool, LuaTable),
) -> LuaResult<LuaTable> {
    let restored = restored(room, &kept)?;
    let nick: Text = table.get("nick")?;
    let (own, shown): (LuaString, LuaString) = (table.get("own")?, table.get("shown")?);
    let subject: LuaString = table.get("subject")?;
    let (own, shown, subject) = (own.as_bytes(), shown.as_bytes(), subject.as_bytes());
    let nicks = table.get::<LuaTable>("nicks")?.sequence_values().collect::<LuaResult<Vec<Text>>>()?;
    let presences = strings(&table, "presences")?;
    let presences: Vec<_> = presences.iter().map(LuaString::as_bytes).collect();
    let history = strings(&table, "history")?;
    let history: Vec<_> = history.iter().map(LuaString::as_bytes).collect();
    let remembered = Remembered {
        nick: &nick,
        own: &own,
        shown: &shown,
        all_back: flag(&table, "all_back")?,
        occupants: nicks.iter().map(|nick| &**nick).zip(presences.iter().map(|bytes| &**bytes)).collect(),
        history: history.iter().map(|bytes| &**bytes).collect(),
        subject: &subject,
    };
    let all = with(|fork| {
        fork.set_wall_clock(wall_clock(), now());
        fork.adopt(&account, restored, &remembered, online, now())
    });
    decisions(lua, all)
}

fn has_room(_: &Lua, room: Text) -> LuaResult<bool> {
    Ok(with(|fork| fork.has_room(&room)))
}

/// `keep(path)`: reads what was kept of rooms and goes on keeping it there. `true`, or `nil` and why not.
fn keep(_: &Lua, path: String) -> LuaResult<(Option<bool>, Option<String>)> {
    Ok(match rooms::Log::open(path.into()) {
        Ok((log, kept)) => {
            LOG.set(Some(log));
            RECORDED.set(kept);
            (Some(true), None)
        }
        Err(error) => (None, Some(error.to_string())),
    })
}

/// `kept()`: what was read by [`keep`] is not needed any more.
fn kept(_: &Lua, (): ()) -> LuaResult<()> {
    RECORDED.take();
    Ok(())
}

/// `clients(account, room)`: the account's nickname and an array of resources; `nil` if it is not in the room.
fn clients(_: &Lua, (account, room): (Text, Text)) -> LuaResult<(Option<String>, Option<Vec<String>>)> {
    Ok(match with(|fork| fork.clients(&account, &room)) {
        Some((nick, clients)) => (Some(nick), Some(clients)),
        None => (None, None),
    })
}

/// `shown(account, room)`: the resource of the client whose presence the account shows in the room, or `nil`.
fn shown(_: &Lua, (account, room): (Text, Text)) -> LuaResult<Option<String>> {
    Ok(with(|fork| fork.shown(&account, &room).map(Into::into)))
}

/// `limit(room, account, server)`: how many bytes are kept at most of the occupants of a room, for an account, and in all.
fn limit(_: &Lua, (room, account, server): (usize, usize, usize)) -> LuaResult<()> {
    with(|fork| fork.limit(Limits { room, account, server }));
    Ok(())
}

/// `full()`: bounds that were reached since the last call: an array of tables with `what` (`"room"`, `"account"` or `"server"`) and
/// `jid`; or `nil`.
fn full(lua: &Lua, (): ()) -> LuaResult<Option<LuaTable>> {
    let notices = with(Accounts::take_notices);
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
    let sizes = lua.create_table()?;
    with(|fork| fork.rooms().try_for_each(|(room, bytes)| sizes.raw_set(room, bytes)))?;
    Ok(sizes)
}

/// `totals()`: accounts, memberships, bytes.
fn totals(_: &Lua, (): ()) -> LuaResult<(usize, usize, usize)> {
    Ok(with(|fork| fork.totals()))
}

pub fn table(lua: &Lua) -> LuaResult<LuaTable> {
    let table = lua.create_table()?;
    table.set("configure", lua.create_function(configure)?)?;
    table.set("has", lua.create_function(has)?)?;
    table.set("presence_out", lua.create_function(presence_out)?)?;
    table.set("probe_out", lua.create_function(probe_out)?)?;
    table.set("client_gone", lua.create_function(client_gone)?)?;
    table.set("replaced", lua.create_function(replaced)?)?;
    table.set("not_back", lua.create_function(not_back)?)?;
    table.set("message_out", lua.create_function(message_out)?)?;
    table.set("iq_out", lua.create_function(iq_out)?)?;
    table.set("presence_in", lua.create_function(presence_in)?)?;
    table.set("groupchat_in", push::groupchat_function(lua)?)?;
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
    table.set("adopt", lua.create_function(adopt)?)?;
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
