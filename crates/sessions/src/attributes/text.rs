//! What releases before attributes wrote of a session: a table, as Lua writes it in its source.
//!
//! Only data: tables, text, numbers, booleans. Nothing of it is ever run.

#![warn(clippy::indexing_slicing, clippy::string_slice)]

use super::state::State;
use super::value::{Bytes, Value};
use crate::record::Unreadable;

/// The version of that table.
const VERSION: i64 = 1;
/// Tables within tables. What was written has fewer.
const DEEPEST: usize = 128;

/// Reads such a text.
pub(crate) fn read(text: &[u8]) -> Result<State, Unreadable> {
    let mut reader = Reader { rest: text };
    let Some(Value::Table(entries)) = reader.value(0).filter(|_| reader.rest.is_empty()) else {
        return Err(Unreadable::Damaged);
    };
    let entries: Vec<(String, Value)> =
        entries.into_iter().filter_map(|(k, v)| Some((k.into_string()?, v))).collect();
    match entries.iter().find(|(name, _)| name == "version") {
        Some((_, Value::Integer(VERSION))) => {}
        Some((_, Value::Integer(other))) => {
            return Err(Unreadable::Version(u8::try_from(*other).unwrap_or(u8::MAX)));
        }
        _ => return Err(Unreadable::Damaged),
    }
    let mut state = State::default();
    for (name, value) in entries {
        // What is of another type than it should be is left out, as a session would have been made without it.
        let _ = state.set(&name, value);
    }
    Ok(state)
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn eat(&mut self, wanted: &[u8]) -> Option<()> {
        self.rest = self.rest.strip_prefix(wanted)?;
        Some(())
    }

    fn take_while(&mut self, is_in: impl Fn(u8) -> bool) -> &'a [u8] {
        let len = self.rest.iter().position(|b| !is_in(*b)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at_checked(len).unwrap_or((self.rest, &[]));
        self.rest = rest;
        taken
    }

    fn value(&mut self, depth: usize) -> Option<Value> {
        match *self.rest.first()? {
            b'{' if depth < DEEPEST => self.table(depth),
            b'"' => Some(Value::Text(Bytes(self.text()?))),
            b'(' => self.endless(),
            b't' => self.eat(b"true").map(|()| Value::Boolean(true)),
            b'f' => self.eat(b"false").map(|()| Value::Boolean(false)),
            _ => self.number(),
        }
    }

    fn table(&mut self, depth: usize) -> Option<Value> {
        self.eat(b"{")?;
        let (mut entries, mut next) = (Vec::new(), 1);
        while self.eat(b"}").is_none() {
            let key = self.key(depth)?;
            let key = key.unwrap_or_else(|| {
                next += 1;
                Value::Integer(next - 1)
            });
            entries.push((key, self.value(depth + 1)?));
            if self.eat(b";").is_none() {
                self.eat(b"}")?;
                break;
            }
        }
        Some(Value::table(entries))
    }

    /// The key before a value; none before the next one of a list.
    fn key(&mut self, depth: usize) -> Option<Option<Value>> {
        if self.eat(b"[").is_some() {
            let key = self.value(depth + 1)?;
            self.eat(b"]=")?;
            return Some(Some(key));
        }
        let before = self.rest;
        let name = self.take_while(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !name.is_empty() && self.eat(b"=").is_some() {
            return Some(Some(Value::Text(Bytes(name.to_vec()))));
        }
        self.rest = before;
        Some(None)
    }

    fn text(&mut self) -> Option<Vec<u8>> {
        self.eat(b"\"")?;
        let mut out = Vec::new();
        loop {
            out.extend_from_slice(self.take_while(|b| b != b'"' && b != b'\\'));
            if self.eat(b"\"").is_some() {
                return Some(out);
            }
            self.eat(b"\\")?;
            let (&first, rest) = self.rest.split_first()?;
            if first.is_ascii_digit() {
                let (digits, rest) = self.rest.split_at_checked(3)?;
                out.push(std::str::from_utf8(digits).ok()?.parse().ok()?);
                self.rest = rest;
                continue;
            }
            out.push(match first {
                b'a' => 7,
                b'b' => 8,
                b'f' => 12,
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'v' => 11,
                other => other,
            });
            self.rest = rest;
        }
    }

    fn endless(&mut self) -> Option<Value> {
        let all: [(&[u8], f64); 3] =
            [(b"(1/0)", f64::INFINITY), (b"(-1/0)", f64::NEG_INFINITY), (b"(0/0)", f64::NAN)];
        all.into_iter().find_map(|(text, x)| self.eat(text).map(|()| Value::Number(x)))
    }

    fn number(&mut self) -> Option<Value> {
        let digits = self.take_while(|b| b.is_ascii_digit() || b"+-.e".contains(&b));
        let digits = std::str::from_utf8(digits).ok()?;
        digits.parse().map(Value::Integer).or_else(|_| digits.parse().map(Value::Number)).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_text_of_the_release_before_reads() {
        let text = br#"{want_carbons=true;role=false;version=1;timeout=600;username="alice";host="localhost";resource="a \"b\"\\\195\164";id="x";xmlns="urn:xmpp:sm:3";priority=-1;directed={"a@b/c";"d@e"};push_settings={[3]=0.5;["end"]="\n\000";deep={{}}};empty={};rooms={["r@x"]="n"}}"#;
        let state = read(text).expect("it reads");
        assert!(state.is_complete());
        assert_eq!((&*state.username, &*state.resource, state.timeout), ("alice", "a \"b\"\\\u{e4}", 600));
        assert_eq!(state.directed, Some(vec!["a@b/c".into(), "d@e".into()]));
        assert_eq!(state.rooms.and_then(|r| r.get("r@x").cloned()).as_deref(), Some("n"));
        let word = |s: &str| Value::Text(Bytes(s.as_bytes().to_vec()));
        let deep = Value::Table(vec![(Value::Integer(1), Value::Table(vec![]))]);
        let settings =
            vec![(Value::Integer(3), Value::Number(0.5)), (word("deep"), deep), (word("end"), word("\n\0"))];
        assert_eq!(state.others.get("push_settings"), Some(&Value::Table(settings)));
        for len in 0..text.len() {
            assert_eq!(read(&text[..len]), Err(Unreadable::Damaged), "{len}");
        }
    }

    #[test]
    fn another_version_is_left() {
        assert_eq!(read(b"{version=7}"), Err(Unreadable::Version(7)));
        assert_eq!(read(b"{version=700}"), Err(Unreadable::Version(255)));
        assert_eq!(read(b"{username=\"x\"}"), Err(Unreadable::Damaged));
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(text in proptest::collection::vec(prop_oneof![
            Just(b'{'), Just(b'}'), Just(b'"'), Just(b'\\'), Just(b';'), Just(b'='), Just(b'['), Just(b']'),
            Just(b'1'), Just(b'a'), Just(b'-'), any::<u8>()
        ], 0..60)) {
            let _ = read(&text);
            let _ = read(&[b"{version=1;x=", &text[..], b"}"].concat());
        }
    }

    #[test]
    fn tables_end_somewhere() {
        assert_eq!(read(&vec![b'{'; 1 << 20]), Err(Unreadable::Damaged));
    }
}
