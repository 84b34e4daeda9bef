//! One attribute: what may be known of a session, and the bytes in which that is kept.
//!
//! A record is the format's number and then the attribute, as postcard writes it: its kind, what names it among those of
//! its kind if there may be several, and the rest. Kinds are appended to [`Attribute`], never moved; a change of what one
//! holds needs another [`FORMAT`]. A record of another format is never misread.

#![warn(clippy::indexing_slicing, clippy::string_slice)]

use super::value::{Bytes, Value};
use crate::record::Unreadable;
use serde::{Deserialize, Serialize};

/// Of the bytes of an attribute.
pub(super) const FORMAT: u8 = 1;

/// Whose session it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The localpart of the account's JID.
    pub username: String,
    /// Its domain.
    pub host: String,
    /// The resource of the session's full JID.
    pub resource: String,
}

/// By what the session can be resumed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// What `<enabled/>` said.
    pub id: String,
    /// For how many seconds it waits.
    pub timeout: u32,
    /// Of stream management, as the client speaks it.
    pub xmlns: String,
}

/// Of the client and its connection.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Client {
    /// Which client it is, among those of the account.
    pub client_id: Option<String>,
    /// Where it was last connected from.
    pub ip: Option<String>,
    /// Whether the connection was secure, and encrypted.
    pub secure: Option<bool>,
    /// The same, as other versions of Prosody say it.
    pub encrypted: Option<bool>,
    /// What its authentication was for.
    pub auth_scope: Option<Value>,
}

/// What the session may do, and what it was let in by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rights {
    /// Changes with the account's password.
    pub credentials: Option<String>,
    /// Its role.
    pub role: Role,
}

/// The role of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// The server knew no roles when it was kept.
    #[default]
    Unknown,
    /// It has none.
    None,
    /// That of this name.
    Named(String),
}

/// Whom of the contacts on this server a session can see.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Contacts {
    /// As text: hashes of their JIDs.
    pub sees: String,
    /// The version of the roster that they follow from.
    pub roster_version: Option<Value>,
}

/// One thing that is known of a session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Attribute {
    /// Whose session it is. Without this it has not begun.
    Identity(Identity),
    /// By what it can be resumed.
    Terms(Terms),
    /// Of the client and its connection.
    Client(Client),
    /// What it may do.
    Rights(Rights),
    /// Its presence, as a stanza.
    Presence(Bytes),
    /// The priority of that.
    Priority(i64),
    /// Whether the client is active (XEP-0352).
    Activity(String),
    /// Whether it has asked for its roster.
    Interested(bool),
    /// Directed presence was sent to this JID.
    Directed(String),
    /// It is in a room of this server.
    Room {
        /// The room's bare JID.
        room: String,
        /// The nickname there.
        nick: String,
    },
    /// Whom it can see.
    Contacts(Contacts),
    /// The nodes that it wants to be told of (XEP-0163 §4.3).
    Wants(Vec<String>),
    /// A field that an admin or a module has named to be kept.
    Field {
        /// Its name on the session.
        name: String,
        /// What it holds.
        value: Value,
    },
    /// What another module has had kept.
    Other {
        /// Its name, the module's choice.
        name: String,
        /// What it is.
        value: Value,
    },
    /// Since when, in seconds since 1970, there is no such host.
    MissingSince(i64),
}

/// Which attribute: of each there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key<'a> {
    /// Of a kind of which there is one.
    Only(Kind),
    /// One of several of a kind, by name.
    Named(Kind, &'a str),
}

/// The kind of an attribute: its place in [`Attribute`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum Kind {
    Identity,
    Terms,
    Client,
    Rights,
    Presence,
    Priority,
    Activity,
    Interested,
    Directed,
    Room,
    Contacts,
    Wants,
    Field,
    Other,
    MissingSince,
}

impl Kind {
    const ALL: [Kind; 15] = [
        Kind::Identity,
        Kind::Terms,
        Kind::Client,
        Kind::Rights,
        Kind::Presence,
        Kind::Priority,
        Kind::Activity,
        Kind::Interested,
        Kind::Directed,
        Kind::Room,
        Kind::Contacts,
        Kind::Wants,
        Kind::Field,
        Kind::Other,
        Kind::MissingSince,
    ];

    /// Whether there may be several, which their name tells apart.
    fn is_named(self) -> bool {
        matches!(self, Kind::Directed | Kind::Room | Kind::Field | Kind::Other)
    }

    /// Whether a client can have any number of it. Such are told one by one, as they change.
    pub fn is_many(self) -> bool {
        matches!(self, Kind::Directed | Kind::Room)
    }
}

impl Attribute {
    /// Which one it is.
    pub fn key(&self) -> Key<'_> {
        match self {
            Attribute::Identity(_) => Key::Only(Kind::Identity),
            Attribute::Terms(_) => Key::Only(Kind::Terms),
            Attribute::Client(_) => Key::Only(Kind::Client),
            Attribute::Rights(_) => Key::Only(Kind::Rights),
            Attribute::Presence(_) => Key::Only(Kind::Presence),
            Attribute::Priority(_) => Key::Only(Kind::Priority),
            Attribute::Activity(_) => Key::Only(Kind::Activity),
            Attribute::Interested(_) => Key::Only(Kind::Interested),
            Attribute::Directed(jid) => Key::Named(Kind::Directed, jid),
            Attribute::Room { room, .. } => Key::Named(Kind::Room, room),
            Attribute::Contacts(_) => Key::Only(Kind::Contacts),
            Attribute::Wants(_) => Key::Only(Kind::Wants),
            Attribute::Field { name, .. } => Key::Named(Kind::Field, name),
            Attribute::Other { name, .. } => Key::Named(Kind::Other, name),
            Attribute::MissingSince(_) => Key::Only(Kind::MissingSince),
        }
    }

    /// Its record. `None` if there is no memory for it.
    pub(super) fn encode(&self, out: Vec<u8>) -> Option<Vec<u8>> {
        let mut out = out;
        out.push(FORMAT);
        postcard::to_extend(self, out).ok()
    }

    /// Reads what [`Attribute::encode`] gave.
    pub(super) fn decode(record: &[u8]) -> Result<Attribute, Unreadable> {
        let (&format, body) = record.split_first().ok_or(Unreadable::Damaged)?;
        if format != FORMAT {
            return Err(Unreadable::Version(format));
        }
        match postcard::take_from_bytes(body) {
            Ok((attribute, [])) => Ok(attribute),
            _ => Err(Unreadable::Damaged),
        }
    }
}

impl Key<'_> {
    /// Of which kind it is.
    pub fn kind(&self) -> Kind {
        match *self {
            Key::Only(kind) | Key::Named(kind, _) => kind,
        }
    }

    /// How the record of the attribute begins.
    pub(super) fn prefix(&self) -> Vec<u8> {
        let (kind, name) = match *self {
            Key::Only(kind) => (kind, None),
            Key::Named(kind, name) => (kind, Some(name)),
        };
        let mut out = vec![FORMAT, kind as u8];
        if let Some(name) = name {
            out = postcard::to_extend(name, out).unwrap_or_default();
        }
        out
    }
}

/// The kind of a record that [`Attribute::encode`] gave, and how long the part is that names the attribute.
pub(super) fn named_by(record: &[u8]) -> Option<(Kind, usize)> {
    let &[format, kind, ref rest @ ..] = record else { return None };
    let kind = *Kind::ALL.get(usize::from(kind)).filter(|_| format == FORMAT)?;
    if !kind.is_named() {
        return Some((kind, 2));
    }
    let (_, behind) = postcard::take_from_bytes::<&str>(rest).ok()?;
    Some((kind, record.len() - behind.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one_of_each() -> Vec<Attribute> {
        let value = || Value::Table(vec![(Value::Integer(1), Value::Text(Bytes(b"x\xff".to_vec())))]);
        vec![
            Attribute::Identity(Identity { username: "romeo".into(), ..Identity::default() }),
            Attribute::Terms(Terms { id: "x".into(), timeout: u32::MAX, xmlns: "urn:xmpp:sm:3".into() }),
            Attribute::Client(Client { secure: Some(true), ..Client::default() }),
            Attribute::Rights(Rights { credentials: None, role: Role::Named("prosody:user".into()) }),
            Attribute::Presence(Bytes(b"<presence/>".to_vec())),
            Attribute::Priority(-1),
            Attribute::Activity("active".into()),
            Attribute::Interested(true),
            Attribute::Directed("juliet@capulet.example/balcony".into()),
            Attribute::Room { room: "r@x".into(), nick: "n".into() },
            Attribute::Contacts(Contacts { sees: "AA".into(), roster_version: Some(Value::Number(0.5)) }),
            Attribute::Wants(vec!["a".into(), "b".into()]),
            Attribute::Field { name: "f".into(), value: value() },
            Attribute::Other { name: "o".into(), value: Value::Boolean(false) },
            Attribute::MissingSince(i64::MAX),
        ]
    }

    #[test]
    fn each_reads_back_and_is_named_by_the_beginning_of_its_record() {
        for (n, attribute) in one_of_each().into_iter().enumerate() {
            let record = attribute.encode(Vec::new()).expect("there is memory");
            assert_eq!(Attribute::decode(&record).as_ref(), Ok(&attribute));
            let (kind, len) = named_by(&record).expect("it is a record");
            assert_eq!((kind, Kind::ALL[n]), (Kind::ALL[n], kind), "kinds are in order");
            assert_eq!(&record[..len], attribute.key().prefix(), "{attribute:?}");
        }
    }

    #[test]
    fn what_was_written_stays_readable() {
        // What this release writes. If this fails, sessions that are on disk are lost: think of another format.
        let record = Attribute::Room { room: "r@x".into(), nick: "n".into() }.encode(Vec::new());
        assert_eq!(record.as_deref(), Some(&b"\x01\x09\x03r@x\x01n"[..]));
        let record =
            Attribute::Rights(Rights { credentials: Some("c".into()), role: Role::None }).encode(vec![]);
        assert_eq!(record.as_deref(), Some(&b"\x01\x03\x01\x01c\x01"[..]));
    }

    #[test]
    fn another_format_is_refused_and_what_is_cut_is_damaged() {
        for attribute in one_of_each() {
            let mut record = attribute.encode(Vec::new()).expect("there is memory");
            for len in 0..record.len() {
                assert_eq!(
                    Attribute::decode(&record[..len]),
                    Err(Unreadable::Damaged),
                    "{attribute:?} {len}"
                );
            }
            record.push(0);
            assert_eq!(Attribute::decode(&record), Err(Unreadable::Damaged));
            record[0] = 2;
            assert_eq!(Attribute::decode(&record), Err(Unreadable::Version(2)));
            assert_eq!(named_by(&record), None);
        }
        let later = [FORMAT, Kind::ALL.len() as u8, 0];
        assert_eq!(Attribute::decode(&later), Err(Unreadable::Damaged));
    }
}
