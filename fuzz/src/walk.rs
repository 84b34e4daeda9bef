//! Stanza tables as other modules may leave them: what comes out is what a walk through mlua's safe tables gives, and
//! what cannot be serialised is refused, with a message, and not queued.

use crate::read;
use arbitrary::Arbitrary;
use mlua::prelude::*;

#[derive(Arbitrary, Debug)]
enum Value<'a> {
    Known(u8),
    Text(&'a [u8]),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    Table(Vec<u8>),
    Nil,
}

#[derive(Arbitrary, Debug)]
enum Child<'a> {
    Text(&'a [u8]),
    Element(Element<'a>),
    Other(Value<'a>),
}

#[derive(Arbitrary, Debug)]
struct Element<'a> {
    name: Name<'a>,
    /// Those that are compared with the one of the element above.
    xmlns: Option<bool>,
    attributes: Vec<(Value<'a>, Value<'a>)>,
    /// Else something else is in the place of the attributes.
    other: Option<Value<'a>>,
    children: Vec<Child<'a>>,
}

#[derive(Arbitrary, Debug)]
enum Name<'a> {
    Known(u8),
    Other(Value<'a>),
}

const NAMES: [&[u8]; 4] = [b"message", b"presence", b"iq", b"delay"];
const KNOWN: [&[u8]; 11] = [
    b"xmlns",
    b"jabber:client",
    b"type",
    b"error",
    b"id",
    b"urn:x\x01a",
    b"\x01",
    b"<it's>&\"",
    b"",
    b"a text that is longer than a vector",
    b"12",
];

impl Value<'_> {
    fn to_lua(&self, lua: &Lua) -> LuaResult<LuaValue> {
        Ok(match self {
            Value::Known(n) => LuaValue::String(lua.create_string(KNOWN[usize::from(*n) % KNOWN.len()])?),
            Value::Text(text) => LuaValue::String(lua.create_string(text)?),
            Value::Integer(n) => LuaValue::Integer(*n),
            Value::Float(n) => LuaValue::Number(*n),
            Value::Boolean(b) => LuaValue::Boolean(*b),
            Value::Table(numbers) => LuaValue::Table(lua.create_sequence_from(numbers.iter().copied())?),
            Value::Nil => LuaNil,
        })
    }
}

impl Element<'_> {
    fn to_lua(&self, lua: &Lua) -> LuaResult<LuaTable> {
        let (table, attributes) = (lua.create_table()?, lua.create_table()?);
        for (key, value) in &self.attributes {
            let key = key.to_lua(lua)?;
            if !key.is_nil() && !matches!(key, LuaValue::Number(n) if n.is_nan()) {
                attributes.raw_set(key, value.to_lua(lua)?)?;
            }
        }
        if let Some(one) = self.xmlns {
            attributes.raw_set("xmlns", if one { "jabber:client" } else { "urn:xmpp:delay" })?;
        }
        match &self.name {
            Name::Known(n) => {
                table.raw_set("name", lua.create_string(NAMES[usize::from(*n) % NAMES.len()])?)?
            }
            Name::Other(other) => table.raw_set("name", other.to_lua(lua)?)?,
        }
        match &self.other {
            None => table.raw_set("attr", attributes)?,
            Some(other) => table.raw_set("attr", other.to_lua(lua)?)?,
        }
        for (n, child) in self.children.iter().enumerate() {
            let child = match child {
                Child::Text(text) => LuaValue::String(lua.create_string(text)?),
                Child::Element(element) => LuaValue::Table(element.to_lua(lua)?),
                Child::Other(other) => other.to_lua(lua)?,
            };
            table.raw_set(n + 1, child)?;
        }
        Ok(table)
    }
}

/// What Lua's string functions accept.
fn text(lua: &Lua, value: LuaValue) -> Option<Vec<u8>> {
    match value {
        LuaValue::String(_) | LuaValue::Integer(_) | LuaValue::Number(_) => {
            Some(lua.coerce_string(value).ok()??.as_bytes().to_vec())
        }
        _ => None,
    }
}

fn escape(out: &mut Vec<u8>, text: &[u8]) {
    for byte in text {
        match byte {
            b'\'' => out.extend(b"&apos;"),
            b'"' => out.extend(b"&quot;"),
            b'<' => out.extend(b"&lt;"),
            b'>' => out.extend(b"&gt;"),
            b'&' => out.extend(b"&amp;"),
            _ => out.push(*byte),
        }
    }
}

fn attribute(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    out.extend([b" ", key, b"='"].concat());
    escape(out, value);
    out.push(b'\'');
}

/// The same as the walk, by safe and slow means. `None` if it cannot be serialised.
fn naive(lua: &Lua, element: &LuaTable, parent: &LuaValue, out: &mut Vec<u8>) -> Option<()> {
    let name = text(lua, element.raw_get("name").ok()?)?;
    out.push(b'<');
    out.extend(&name);
    let LuaValue::Table(attributes) = element.raw_get("attr").ok()? else { return None };
    let (mut xmlns, mut in_namespace) = (LuaNil, 0);
    for pair in attributes.pairs::<LuaValue, LuaValue>() {
        let (key, value) = pair.ok()?;
        let (key, value_text) = (text(lua, key)?, text(lua, value.clone())?);
        if key == b"xmlns" {
            if value != *parent {
                attribute(out, &key, &value_text);
            }
            xmlns = value;
        } else if let Some(at) = key.iter().position(|b| *b == 1) {
            in_namespace += 1;
            attribute(out, format!("xmlns:ns{in_namespace}").as_bytes(), &key[..at]);
            attribute(out, &[format!("ns{in_namespace}:").as_bytes(), &key[at + 1..]].concat(), &value_text);
        } else {
            attribute(out, &key, &value_text);
        }
    }
    let len = element.raw_len();
    if len == 0 {
        out.extend(b"/>");
        return Some(());
    }
    out.push(b'>');
    for n in 1..=len {
        match element.raw_get(n).ok()? {
            LuaValue::String(text) => escape(out, &text.as_bytes()),
            LuaValue::Table(child) => naive(lua, &child, &xmlns, out)?,
            _ => return None,
        }
    }
    out.extend([b"</", &name[..], b">"].concat());
    Some(())
}

struct Library {
    lua: Lua,
    serialize: LuaFunction,
    start_tag: LuaFunction,
    /// Pushes on a new stream: what it returned, and how many are queued.
    push: LuaFunction,
}

const PUSH: &str = r#"
    local sm = ...
    local limits = sm.limits {
        hibernation_time = 60, queue_stanzas = 100, queue_bytes = 2^31, account_bytes = 2^40, server_bytes = 2^40,
        memory_bytes = 2^40, unacked = 0, inactive_unacked = 256, hibernated = 10,
    }
    return function (stanza)
        local key, handle = sm.start(limits, "a@b", nil, nil, 0)
        local bytes, message = sm.push(key, stanza, true)
        local queued = sm.counts(key)
        local copy = sm.copies(key, 0, queued, 2^20, nil, "b")
        sm.forget(key)
        return bytes, message, queued, copy, handle
    end
"#;

impl Library {
    fn load() -> LuaResult<Library> {
        let lua = Lua::new();
        let library = enjamb::table(&lua)?;
        let push = lua.load(PUSH).call(library.get::<LuaTable>("smacks")?)?;
        Ok(Library { serialize: library.get("serialize")?, start_tag: library.get("start_tag")?, push, lua })
    }

    fn check(&self, element: &Element) -> LuaResult<()> {
        let lua = &self.lua;
        let table = element.to_lua(lua)?;
        let mut expected = Vec::new();
        let expected = naive(lua, &table, &LuaNil, &mut expected).map(|()| expected);
        let (bytes, message): (Option<LuaString>, Option<String>) = self.serialize.call(&table)?;
        assert_eq!(bytes.map(|b| b.as_bytes().to_vec()), expected);
        assert_eq!(message.is_none(), expected.is_some());
        let (tag, _): (Option<LuaString>, Option<String>) = self.start_tag.call(&table)?;
        if let Some(expected) = &expected {
            let tag = tag.map(|t| t.as_bytes().to_vec()).unwrap_or_default();
            // The end of an element without children is the only difference.
            let Some((_, tag)) = tag.split_last() else { panic!("no start tag") };
            assert!(expected.starts_with(tag));
        }
        type Pushed = (LuaValue, Option<String>, usize, Option<LuaString>);
        let (pushed, message, queued, copy): Pushed = self.push.call(&table)?;
        assert_eq!(queued, usize::from(!pushed.is_nil()));
        assert_eq!(copy.is_some(), queued == 1);
        assert!(queued == 0 || (expected.is_some() && message.is_none()));
        Ok(())
    }
}

thread_local! {
    static LIBRARY: LuaResult<Library> = Library::load();
}

/// See the module.
pub fn run(data: &[u8]) {
    let Some(element) = read::<Element>(data) else { return };
    LIBRARY.with(|library| match library.as_ref().map(|library| library.check(&element)) {
        Ok(Ok(())) => {}
        Ok(Err(error)) => panic!("{error}"),
        Err(error) => panic!("{error}"),
    });
}
