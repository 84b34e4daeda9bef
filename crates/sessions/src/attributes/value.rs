//! Values whose type is other modules': plain data, as Lua has it. In the journal each says what it is.

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// Text that need not be UTF-8.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub Vec<u8>);

/// Plain data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Value {
    /// True or false.
    Boolean(bool),
    /// A whole number.
    Integer(i64),
    /// Any other number.
    Number(f64),
    /// Text.
    Text(Bytes),
    /// A table: keys and what they lead to, in the order of [`Value::table`].
    Table(Vec<(Value, Value)>),
}

impl Value {
    /// A table of these, in an order that follows from what they are: the same table reads the same.
    pub fn table(mut entries: Vec<(Value, Value)>) -> Value {
        entries
            .sort_by(|(a, _), (b, _)| a.order().partial_cmp(&b.order()).unwrap_or(std::cmp::Ordering::Equal));
        Value::Table(entries)
    }

    /// What it is sorted by as a key. Tables are no keys.
    fn order(&self) -> (u8, i64, f64, &[u8]) {
        match self {
            Value::Boolean(b) => (0, i64::from(*b), 0.0, &[]),
            Value::Integer(n) => (1, *n, 0.0, &[]),
            Value::Number(x) => (2, 0, *x, &[]),
            Value::Text(t) => (3, 0, 0.0, &t.0),
            Value::Table(_) => (4, 0, 0.0, &[]),
        }
    }

    /// The text, if it is that, and UTF-8.
    pub fn into_string(self) -> Option<String> {
        match self {
            Value::Text(Bytes(bytes)) => String::from_utf8(bytes).ok(),
            _ => None,
        }
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        struct Reader;
        impl Visitor<'_> for Reader {
            type Value = Bytes;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Bytes, E> {
                Ok(Bytes(bytes.to_vec()))
            }
        }
        deserializer.deserialize_bytes(Reader)
    }
}
