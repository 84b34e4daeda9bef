//! All that is known of a session together, by the names that the shim and other modules know it by.

use super::attribute::{Attribute, Client, Contacts, Identity, Rights, Role, Terms};
use super::value::{Bytes, Value};
use std::collections::BTreeMap;

/// What is known of a session. Names and types are those of its `state` in the events `smacks-save-session` and
/// `smacks-restore-session`; what has another name is another module's.
#[derive(Clone, Debug, Default, PartialEq)]
#[allow(missing_docs)]
pub struct State {
    pub username: String,
    pub host: String,
    pub resource: String,
    pub id: String,
    pub timeout: u32,
    pub xmlns: String,
    pub client_id: Option<String>,
    pub ip: Option<String>,
    pub secure: Option<bool>,
    pub encrypted: Option<bool>,
    pub auth_scope: Option<Value>,
    pub credentials: Option<String>,
    /// A role's name, or false for none.
    pub role: Option<Value>,
    pub presence: Option<Bytes>,
    pub priority: Option<i64>,
    pub state: Option<String>,
    pub interested: Option<bool>,
    pub directed: Option<Vec<String>>,
    /// Nicknames, by room.
    pub rooms: Option<BTreeMap<String, String>>,
    pub sees: Option<String>,
    pub roster_version: Option<Value>,
    pub notify: Option<Vec<String>>,
    pub fields: Option<BTreeMap<String, Value>>,
    pub missing_since: Option<i64>,
    /// What other modules have had kept.
    pub others: BTreeMap<String, Value>,
}

/// What is of another type than it should be, and is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is of a type that it should not be")]
pub struct Misfit;

fn text(value: Value) -> Result<String, Misfit> {
    value.into_string().ok_or(Misfit)
}

fn boolean(value: Value) -> Result<bool, Misfit> {
    match value {
        Value::Boolean(b) => Ok(b),
        _ => Err(Misfit),
    }
}

fn whole(value: Value) -> Result<i64, Misfit> {
    match value {
        Value::Integer(n) => Ok(n),
        Value::Number(x) if x.fract() == 0.0 && x.abs() < 9e15 => Ok(x as i64),
        _ => Err(Misfit),
    }
}

fn entries(value: Value) -> Result<Vec<(Value, Value)>, Misfit> {
    match value {
        Value::Table(entries) => Ok(entries),
        _ => Err(Misfit),
    }
}

fn list(value: Value) -> Result<Vec<String>, Misfit> {
    entries(value)?.into_iter().map(|(_, v)| text(v)).collect()
}

fn by_name<T>(value: Value, f: impl Fn(Value) -> Result<T, Misfit>) -> Result<BTreeMap<String, T>, Misfit> {
    let mut map = BTreeMap::new();
    for (key, value) in entries(value)? {
        map.insert(text(key)?, f(value)?);
    }
    Ok(map)
}

fn word(text: String) -> Value {
    Value::Text(Bytes(text.into_bytes()))
}

fn words(list: Vec<String>) -> Value {
    Value::Table((1..).map(Value::Integer).zip(list.into_iter().map(word)).collect())
}

fn named<T>(map: BTreeMap<String, T>, f: impl Fn(T) -> Value) -> Value {
    Value::Table(map.into_iter().map(|(name, value)| (word(name), f(value))).collect())
}

impl State {
    /// Takes one of the entries of such a table.
    ///
    /// # Errors
    /// If it is one of ours and of another type. Nothing changes then.
    pub fn set(&mut self, name: &str, value: Value) -> Result<(), Misfit> {
        match name {
            "version" => {} // of the table: earlier releases'
            "username" => self.username = text(value)?,
            "host" => self.host = text(value)?,
            "resource" => self.resource = text(value)?,
            "id" => self.id = text(value)?,
            "timeout" => self.timeout = u32::try_from(whole(value)?).map_err(|_| Misfit)?,
            "xmlns" => self.xmlns = text(value)?,
            "client_id" => self.client_id = Some(text(value)?),
            "ip" => self.ip = Some(text(value)?),
            "secure" => self.secure = Some(boolean(value)?),
            "encrypted" => self.encrypted = Some(boolean(value)?),
            "auth_scope" => self.auth_scope = Some(value),
            "credentials" => self.credentials = Some(text(value)?),
            "role" => self.role = Some(value),
            "presence" => match value {
                Value::Text(bytes) => self.presence = Some(bytes),
                _ => return Err(Misfit),
            },
            "priority" => self.priority = Some(whole(value)?),
            "state" => self.state = Some(text(value)?),
            "interested" => self.interested = Some(boolean(value)?),
            "directed" => self.directed = Some(list(value)?),
            "rooms" => self.rooms = Some(by_name(value, text)?),
            "sees" => self.sees = Some(text(value)?),
            "roster_version" => self.roster_version = Some(value),
            "notify" => self.notify = Some(list(value)?),
            "fields" => self.fields = Some(by_name(value, Ok)?),
            "missing_since" => self.missing_since = Some(whole(value)?),
            _ => drop(self.others.insert(name.to_owned(), value)),
        }
        Ok(())
    }

    /// All entries of such a table: [`State::set`] takes each.
    pub fn entries(self) -> Vec<(String, Value)> {
        let ours = [
            ("username", Some(word(self.username))),
            ("host", Some(word(self.host))),
            ("resource", Some(word(self.resource))),
            ("id", Some(word(self.id))),
            ("timeout", Some(Value::Integer(self.timeout.into()))),
            ("xmlns", Some(word(self.xmlns))),
            ("client_id", self.client_id.map(word)),
            ("ip", self.ip.map(word)),
            ("secure", self.secure.map(Value::Boolean)),
            ("encrypted", self.encrypted.map(Value::Boolean)),
            ("auth_scope", self.auth_scope),
            ("credentials", self.credentials.map(word)),
            ("role", self.role),
            ("presence", self.presence.map(Value::Text)),
            ("priority", self.priority.map(Value::Integer)),
            ("state", self.state.map(word)),
            ("interested", self.interested.map(Value::Boolean)),
            ("directed", self.directed.map(words)),
            ("rooms", self.rooms.map(|rooms| named(rooms, word))),
            ("sees", self.sees.map(word)),
            ("roster_version", self.roster_version),
            ("notify", self.notify.map(words)),
            ("fields", self.fields.map(|fields| named(fields, |value| value))),
            ("missing_since", self.missing_since.map(Value::Integer)),
        ];
        let ours = ours.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        self.others.into_iter().chain(ours).collect()
    }

    /// Whether it says enough for a session to be made of it.
    pub fn is_complete(&self) -> bool {
        [&self.username, &self.host, &self.resource, &self.xmlns].iter().all(|s| !s.is_empty())
    }

    /// The attributes that say the same; whose session it is first, since without it there is none.
    pub fn attributes(&self) -> Vec<Attribute> {
        let own = |s: &String| s.clone();
        let mut all = vec![
            Attribute::Identity(Identity {
                username: own(&self.username),
                host: own(&self.host),
                resource: own(&self.resource),
            }),
            Attribute::Terms(Terms { id: own(&self.id), timeout: self.timeout, xmlns: own(&self.xmlns) }),
            Attribute::Client(Client {
                client_id: self.client_id.clone(),
                ip: self.ip.clone(),
                secure: self.secure,
                encrypted: self.encrypted,
                auth_scope: self.auth_scope.clone(),
            }),
            Attribute::Rights(Rights {
                credentials: self.credentials.clone(),
                role: role_of(self.role.as_ref()),
            }),
        ];
        all.extend(self.presence.clone().map(Attribute::Presence));
        all.extend(self.priority.map(Attribute::Priority));
        all.extend(self.state.clone().map(Attribute::Activity));
        all.extend(self.interested.map(Attribute::Interested));
        if self.sees.is_some() || self.roster_version.is_some() {
            let sees = self.sees.clone().unwrap_or_default();
            all.push(Attribute::Contacts(Contacts { sees, roster_version: self.roster_version.clone() }));
        }
        all.extend(self.notify.clone().map(Attribute::Wants));
        all.extend(self.missing_since.map(Attribute::MissingSince));
        let named = |(name, value): (&String, &Value)| (name.clone(), value.clone());
        let fields = self.fields.iter().flatten().map(named);
        all.extend(fields.map(|(name, value)| Attribute::Field { name, value }));
        let others = self.others.iter().map(named);
        all.extend(others.map(|(name, value)| Attribute::Other { name, value }));
        all.extend(self.directed.iter().flatten().cloned().map(Attribute::Directed));
        let rooms = self.rooms.iter().flatten();
        all.extend(rooms.map(|(room, nick)| Attribute::Room { room: own(room), nick: own(nick) }));
        all
    }
}

fn role_of(role: Option<&Value>) -> Role {
    match role {
        None => Role::Unknown,
        Some(Value::Text(Bytes(name))) => Role::Named(String::from_utf8_lossy(name).into_owned()),
        Some(_) => Role::None,
    }
}

impl FromIterator<Attribute> for State {
    fn from_iter<I: IntoIterator<Item = Attribute>>(attributes: I) -> State {
        let mut s = State::default();
        for attribute in attributes {
            match attribute {
                Attribute::Identity(i) => (s.username, s.host, s.resource) = (i.username, i.host, i.resource),
                Attribute::Terms(t) => (s.id, s.timeout, s.xmlns) = (t.id, t.timeout, t.xmlns),
                Attribute::Client(c) => {
                    (s.client_id, s.ip, s.auth_scope) = (c.client_id, c.ip, c.auth_scope);
                    (s.secure, s.encrypted) = (c.secure, c.encrypted);
                }
                Attribute::Rights(Rights { credentials, role }) => {
                    s.credentials = credentials;
                    s.role = match role {
                        Role::Unknown => None,
                        Role::None => Some(Value::Boolean(false)),
                        Role::Named(name) => Some(Value::Text(Bytes(name.into_bytes()))),
                    };
                }
                Attribute::Presence(presence) => s.presence = Some(presence),
                Attribute::Priority(priority) => s.priority = Some(priority),
                Attribute::Activity(state) => s.state = Some(state),
                Attribute::Interested(is) => s.interested = Some(is),
                Attribute::Directed(jid) => s.directed.get_or_insert_default().push(jid),
                Attribute::Room { room, nick } => drop(s.rooms.get_or_insert_default().insert(room, nick)),
                Attribute::Contacts(c) => (s.sees, s.roster_version) = (Some(c.sees), c.roster_version),
                Attribute::Wants(nodes) => s.notify = Some(nodes),
                Attribute::Field { name, value } => {
                    s.fields.get_or_insert_default().insert(name, value);
                }
                Attribute::Other { name, value } => drop(s.others.insert(name, value)),
                Attribute::MissingSince(when) => s.missing_since = Some(when),
            }
        }
        if let Some(directed) = &mut s.directed {
            directed.sort_unstable();
        }
        s
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_by_name_comes_back_from_attributes() {
        let word = |s: &str| Value::Text(Bytes(s.as_bytes().to_vec()));
        let table = |entries: &[(&str, Value)]| {
            Value::table(entries.iter().map(|(k, v)| (word(k), v.clone())).collect())
        };
        let list = Value::Table(vec![(Value::Integer(1), word("a@b/c")), (Value::Integer(2), word("d@e"))]);
        let mut state = State::default();
        for (name, value) in [
            ("version", Value::Integer(1)),
            ("username", word("romeo")),
            ("host", word("montague.example")),
            ("timeout", Value::Integer(600)),
            ("secure", Value::Boolean(true)),
            ("role", Value::Boolean(false)),
            ("priority", Value::Number(-3.0)),
            ("directed", list.clone()),
            ("rooms", table(&[("r@x", word("n"))])),
            ("sees", word("AAAA")),
            ("fields", table(&[("mine", Value::Number(0.25))])),
            ("want_carbons", Value::Boolean(true)),
            ("push_settings", table(&[("a", list)])),
        ] {
            assert_eq!(state.set(name, value), Ok(()), "{name}");
        }
        assert!(!state.is_complete());
        assert_eq!(state.set("resource", word("orchard")).and(state.set("xmlns", word("x"))), Ok(()));
        assert!(state.is_complete());
        assert_eq!(state.attributes().into_iter().collect::<State>(), state);
        let mut again = State::default();
        for (name, value) in state.clone().entries() {
            assert_eq!(again.set(&name, value), Ok(()), "{name}");
        }
        assert_eq!(again, state);
        assert_eq!(state.others.len(), 2);
        assert_eq!(state.set("interested", word("yes")), Err(Misfit));
        assert_eq!(state.set("timeout", Value::Integer(-1)), Err(Misfit));
        assert_eq!(state.set("ip", Value::Text(Bytes(vec![0xff]))), Err(Misfit));
        assert_eq!((state.interested, state.timeout, &state.ip), (None, 600, &None));
    }
}
