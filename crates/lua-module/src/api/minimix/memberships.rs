//! Memberships as the account's storage keeps them. What is written here is read by later versions: fields come, none changes its
//! meaning.

use super::{Text, decisions, state};
use enjamb_muc_fork::{Request, Restored, RestoredClient, Waits};
use mlua::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How a client is shown of which it was not kept.
const NO_MORE_KNOWN: &str = "<presence/>";

/// A room that the account is in. What is false, empty or not there is left out.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Room {
    nick: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    password: Option<String>,
    #[serde(skip_serializing_if = "is_false")]
    pam: bool,
    #[serde(skip_serializing_if = "is_false")]
    leaving: bool,
    #[serde(skip_serializing_if = "is_false")]
    joining: bool,
    #[serde(skip_serializing_if = "is_false")]
    other_ids: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    entry: Vec<u16>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    untold: Vec<u16>,
    clients: Vec<Client>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pam_waiting: Vec<PamWaiting>,
}

/// A client that asked by iq for the account to join, and waits for the answer.
#[derive(Serialize, Deserialize)]
struct PamWaiting {
    resource: String,
    id: String,
}

/// A client that is in the room, or waits to be in or out.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Client {
    resource: String,
    /// The nickname that it asked for.
    asked: String,
    presence: String,
    /// `in` or `out`; of any other it is in the room.
    #[serde(skip_serializing_if = "Option::is_none")]
    waits: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    maxstanzas: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    maxchars: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<u64>,
    #[serde(skip_serializing_if = "is_false")]
    was_in: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde wants it so
fn is_false(flag: &bool) -> bool {
    !flag
}

impl From<RestoredClient> for Client {
    fn from(kept: RestoredClient) -> Client {
        let presence = String::from_utf8_lossy(&kept.presence).into_owned();
        let client = Client { resource: kept.resource, asked: kept.asked, presence, ..Client::default() };
        match kept.waits {
            None => client,
            Some(Waits::ToBeIn { id, request: Request { maxstanzas, maxchars, since }, was_in }) => {
                Client { waits: Some("in".into()), id, maxstanzas, maxchars, since, was_in, ..client }
            }
            Some(Waits::ToBeOut { id }) => Client { waits: Some("out".into()), id, ..client },
        }
    }
}

impl From<Client> for RestoredClient {
    fn from(client: Client) -> RestoredClient {
        let Client { id, maxstanzas, maxchars, since, was_in, .. } = client;
        let waits = match client.waits.as_deref() {
            Some("in") => {
                Some(Waits::ToBeIn { id, request: Request { maxstanzas, maxchars, since }, was_in })
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
fn memberships(lua: &Lua, account: Text) -> LuaResult<LuaValue> {
    let kept = state::with(|state| state.look().memberships(&account));
    let rooms: BTreeMap<String, Room> = kept.into_iter().map(Room::kept).collect();
    // A storage takes tables as they are.
    lua.to_value_with(&rooms, LuaSerializeOptions::new().set_array_metatable(false))
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
    let mut kept: Room = lua.from_value(kept)?;
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
