//! Memberships as the account's storage keeps them. What is written here is read by later versions: fields come, none changes its
//! meaning.

use super::{Text, decisions, state};
use enjamb_muc_fork::{Request, Restored, RestoredClient, Waits};
use mlua::prelude::*;

/// How a client is shown of which it was not kept.
const NO_MORE_KNOWN: &str = "<presence/>";

/// A room that the account is in. What is false, empty or not there is left out.
#[derive(Default)]
struct Room {
    nick: String,
    password: Option<String>,
    /// Those that are tried if it is not right.
    other_passwords: Vec<String>,
    pam: bool,
    leaving: bool,
    joining: bool,
    other_ids: bool,
    entry: Vec<u16>,
    untold: Vec<u16>,
    clients: Vec<Client>,
    pam_waiting: Vec<PamWaiting>,
}

/// A client that asked by iq for the account to join, and waits for the answer.
struct PamWaiting {
    resource: String,
    id: String,
}

/// A client that is in the room, or waits to be in or out.
#[derive(Default)]
struct Client {
    resource: String,
    /// The nickname that it asked for.
    asked: String,
    presence: String,
    /// `in` or `out`; of any other it is in the room.
    waits: Option<String>,
    id: Option<String>,
    /// Of its own, with which it asks to be let in.
    password: Option<String>,
    maxstanzas: Option<usize>,
    maxchars: Option<usize>,
    since: Option<u64>,
    was_in: bool,
}

/// A field that was left out is false, empty or not there.
fn or_default<T: Default>(field: Option<T>) -> T {
    field.unwrap_or_default()
}

fn flag(table: &LuaTable, name: &str) -> LuaResult<bool> {
    match table.raw_get(name)? {
        LuaValue::Nil => Ok(false),
        LuaValue::Boolean(flag) => Ok(flag),
        other => Err(LuaError::runtime(format!("{name} must be true or false, not {}", other.type_name()))),
    }
}

fn set_flag(table: &LuaTable, name: &str, flag: bool) -> LuaResult<()> {
    if flag { table.raw_set(name, true) } else { Ok(()) }
}

fn set_list<T: IntoLua>(table: &LuaTable, name: &str, list: Vec<T>) -> LuaResult<()> {
    if list.is_empty() { Ok(()) } else { table.raw_set(name, list) }
}

impl FromLua for Room {
    fn from_lua(value: LuaValue, lua: &Lua) -> LuaResult<Room> {
        let table = LuaTable::from_lua(value, lua)?;
        Ok(Room {
            nick: or_default(table.raw_get("nick")?),
            password: table.raw_get("password")?,
            other_passwords: or_default(table.raw_get("other_passwords")?),
            pam: flag(&table, "pam")?,
            leaving: flag(&table, "leaving")?,
            joining: flag(&table, "joining")?,
            other_ids: flag(&table, "other_ids")?,
            entry: or_default(table.raw_get("entry")?),
            untold: or_default(table.raw_get("untold")?),
            clients: or_default(table.raw_get("clients")?),
            pam_waiting: or_default(table.raw_get("pam_waiting")?),
        })
    }
}

impl IntoLua for Room {
    fn into_lua(self, lua: &Lua) -> LuaResult<LuaValue> {
        let table = lua.create_table()?;
        table.raw_set("nick", self.nick)?;
        table.raw_set("password", self.password)?;
        set_list(&table, "other_passwords", self.other_passwords)?;
        set_flag(&table, "pam", self.pam)?;
        set_flag(&table, "leaving", self.leaving)?;
        set_flag(&table, "joining", self.joining)?;
        set_flag(&table, "other_ids", self.other_ids)?;
        set_list(&table, "entry", self.entry)?;
        set_list(&table, "untold", self.untold)?;
        table.raw_set("clients", self.clients)?;
        set_list(&table, "pam_waiting", self.pam_waiting)?;
        Ok(LuaValue::Table(table))
    }
}

impl FromLua for PamWaiting {
    fn from_lua(value: LuaValue, lua: &Lua) -> LuaResult<PamWaiting> {
        let table = LuaTable::from_lua(value, lua)?;
        Ok(PamWaiting { resource: table.raw_get("resource")?, id: table.raw_get("id")? })
    }
}

impl IntoLua for PamWaiting {
    fn into_lua(self, lua: &Lua) -> LuaResult<LuaValue> {
        let table = lua.create_table()?;
        table.raw_set("resource", self.resource)?;
        table.raw_set("id", self.id)?;
        Ok(LuaValue::Table(table))
    }
}

impl FromLua for Client {
    fn from_lua(value: LuaValue, lua: &Lua) -> LuaResult<Client> {
        let table = LuaTable::from_lua(value, lua)?;
        Ok(Client {
            resource: or_default(table.raw_get("resource")?),
            asked: or_default(table.raw_get("asked")?),
            presence: or_default(table.raw_get("presence")?),
            waits: table.raw_get("waits")?,
            id: table.raw_get("id")?,
            password: table.raw_get("password")?,
            maxstanzas: table.raw_get("maxstanzas")?,
            maxchars: table.raw_get("maxchars")?,
            since: table.raw_get("since")?,
            was_in: flag(&table, "was_in")?,
        })
    }
}

impl IntoLua for Client {
    fn into_lua(self, lua: &Lua) -> LuaResult<LuaValue> {
        let table = lua.create_table()?;
        table.raw_set("resource", self.resource)?;
        table.raw_set("asked", self.asked)?;
        table.raw_set("presence", self.presence)?;
        table.raw_set("waits", self.waits)?;
        table.raw_set("id", self.id)?;
        table.raw_set("password", self.password)?;
        table.raw_set("maxstanzas", self.maxstanzas)?;
        table.raw_set("maxchars", self.maxchars)?;
        table.raw_set("since", self.since)?;
        set_flag(&table, "was_in", self.was_in)?;
        Ok(LuaValue::Table(table))
    }
}

impl From<RestoredClient> for Client {
    fn from(kept: RestoredClient) -> Client {
        let presence = String::from_utf8_lossy(&kept.presence).into_owned();
        let client = Client { resource: kept.resource, asked: kept.asked, presence, ..Client::default() };
        match kept.waits {
            None => client,
            Some(Waits::ToBeIn {
                id,
                request: Request { maxstanzas, maxchars, since },
                password,
                was_in,
            }) => {
                let waits = Some("in".into());
                Client { waits, id, password, maxstanzas, maxchars, since, was_in, ..client }
            }
            Some(Waits::ToBeOut { id }) => Client { waits: Some("out".into()), id, ..client },
        }
    }
}

impl From<Client> for RestoredClient {
    fn from(client: Client) -> RestoredClient {
        let Client { id, password, maxstanzas, maxchars, since, was_in, .. } = client;
        let waits = match client.waits.as_deref() {
            Some("in") => {
                Some(Waits::ToBeIn { id, request: Request { maxstanzas, maxchars, since }, password, was_in })
            }
            Some("out") => Some(Waits::ToBeOut { id }),
            _ => None,
        };
        let presence = if client.presence.is_empty() { NO_MORE_KNOWN.into() } else { client.presence };
        let presence = presence.into_bytes();
        RestoredClient { resource: client.resource, asked: client.asked, presence, waits }
    }
}

impl Room {
    fn kept(kept: Restored) -> (String, Room) {
        let room = Room {
            nick: kept.nick,
            password: kept.password,
            other_passwords: kept.other_passwords,
            pam: kept.pam,
            leaving: kept.leaving,
            joining: kept.joining,
            other_ids: kept.other_ids,
            entry: kept.entry,
            untold: kept.untold,
            clients: kept.clients.into_iter().map(Client::from).collect(),
            pam_waiting: kept
                .pam_waiting
                .into_iter()
                .map(|(resource, id)| PamWaiting { resource, id })
                .collect(),
        };
        (kept.room, room)
    }

    fn restored(self, room: String) -> Restored {
        let known = state::with(|state| state.recorded.get(&room).cloned()).unwrap_or_default();
        Restored {
            room,
            nick: self.nick,
            password: self.password,
            other_passwords: self.other_passwords,
            clients: self.clients.into_iter().map(RestoredClient::from).collect(),
            occupants: known.occupants.into_iter().collect(),
            said: known.said.into(),
            pam: self.pam,
            pam_waiting: self.pam_waiting.into_iter().map(|w| (w.resource, w.id)).collect(),
            leaving: self.leaving,
            joining: self.joining,
            entry: self.entry,
            untold: self.untold,
            other_ids: self.other_ids,
        }
    }
}

/// `memberships(account)`: by room, what is to be kept of it; see [`Room`].
fn memberships(lua: &Lua, account: Text) -> LuaResult<LuaTable> {
    let kept = state::with(|state| state.look().memberships(&account));
    lua.create_table_from(kept.into_iter().map(Room::kept))
}

/// A membership that is taken up.
pub struct TakenUp {
    pub restored: Restored,
    /// The account has a session.
    pub online: bool,
    /// No client is missing.
    pub all_back: bool,
}

/// `kept` as [`memberships`] gives it; of its clients those go on whose resource is `there`, among the account's sessions.
pub fn take_up(lua: &Lua, room: String, kept: LuaValue, there: &[String]) -> LuaResult<TakenUp> {
    let mut kept = Room::from_lua(kept, lua)?;
    let before = kept.clients.len();
    kept.clients.retain(|client| there.contains(&client.resource));
    let all_back = kept.clients.len() == before;
    Ok(TakenUp { restored: kept.restored(room), online: !there.is_empty(), all_back })
}

/// `restore(account, room, kept, there)`: see [`take_up`]. Decisions.
fn restore(
    lua: &Lua,
    (account, room, kept, there): (Text, String, LuaValue, Vec<String>),
) -> LuaResult<LuaTable> {
    let TakenUp { restored, online, .. } = take_up(lua, room, kept, &there)?;
    decisions::table(lua, state::ask(|engine, now| engine.restore(&account, restored, online, now)))
}

pub fn add(lua: &Lua, table: &LuaTable) -> LuaResult<()> {
    table.set("memberships", lua.create_function(memberships)?)?;
    table.set("restore", lua.create_function(restore)?)
}
