//! Values whose type is other modules': plain data, as Lua has it. In the journal each says what it is.

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::cmp::Ordering;
use std::collections::BinaryHeap;
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
    pub fn table(entries: Vec<(Value, Value)>) -> Value {
        let sorted = entries.into_iter().map(ByKey).collect::<BinaryHeap<_>>().into_sorted_vec();
        Value::Table(sorted.into_iter().map(|ByKey(entry)| entry).collect())
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

/// An entry of a table, for its order.
struct ByKey((Value, Value));

impl Ord for ByKey {
    fn cmp(&self, other: &ByKey) -> Ordering {
        self.0.0.order().partial_cmp(&other.0.0.order()).unwrap_or(Ordering::Equal)
    }
}

impl PartialOrd for ByKey {
    fn partial_cmp(&self, other: &ByKey) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for ByKey {
    fn eq(&self, other: &ByKey) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for ByKey {}

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
