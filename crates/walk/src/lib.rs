//! The walk over a stanza table: Lua's `{ name, attr, tags, [1..n] = text or stanza }` to wire bytes.
//!
//! This is the one place where `unsafe` pays (measured: 0.6 us for a chat message, 5.8 us through mlua's safe
//! tables). It is a crate of its own because it is compiled for speed, and the rest of the glue for size. What it relies on:
//!
//! 1. Only raw accesses: `lua_rawget`, `lua_rawgeti`, `lua_rawlen`, `lua_next`. None of them runs Lua code, raises
//!    an error for a table argument with these keys, or allocates. So no Lua error unwinds through a Rust frame here,
//!    and no table changes while it is walked.
//! 2. `lua_tolstring` is called on strings only: converting a number would allocate, which may collect garbage and so run
//!    finalizers, which could change the tables; and a key that is converted in place breaks `lua_next`. What a number
//!    looks like is known here (`number`). So the walk allocates nothing in Lua.
//! 3. A byte slice borrowed from a Lua string is used only while the string is on the Lua stack, or in a table that
//!    is, directly or as the attributes of one.
//! 4. `lua_checkstack` comes before every push; it fails by returning 0. The walk keeps its own list of open elements,
//!    so the depth of a stanza costs Lua stack, never C stack. (In Lua 5.1 it raises an error instead where the system has no
//!    memory left: what is then open here is leaked, nothing worse.)
//! 5. The running function is a closure that [`function`] made: its upvalues are the strings "name" and "attr", which
//!    are so made once and not for each stanza.
//! 6. On return, with or without an error, the Lua stack is as it was found.

mod number;

use enjamb_stanza::{Kind, Name, Summary, write};
use mlua::ffi::{self, lua_State};
use mlua::prelude::*;
use number::{Decimal, HAS_INTEGERS};
use std::cell::Cell;
use std::ffi::c_int;
use std::fmt;
use std::ops::Range;

/// Slots that are pushed and popped; each level needs another one, for its table.
const SCRATCH_SLOTS: c_int = 8;
/// How long a list of open elements is kept for the next walk.
const KEPT_OPEN: usize = 64;
/// Room is made for so many levels at once.
const LEVELS: usize = 16;
const NAME: c_int = ffi::lua_upvalueindex(1);
const ATTR: c_int = ffi::lua_upvalueindex(2);
const DELAY: &[u8] = b"urn:xmpp:delay";
const CLIENT: &[u8] = b"jabber:client";

/// What cannot be serialised, and where.
#[derive(Debug)]
pub struct WalkError {
    /// The name of the innermost element that could be read.
    element: String,
    problem: Problem,
}

#[derive(Debug)]
enum Problem {
    NotATable(&'static str),
    Name(&'static str),
    AttributeKey(&'static str),
    AttributeValue(String, &'static str),
    Child(i64, &'static str),
    TooDeep,
}

impl fmt::Display for WalkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot serialise stanza: in <{}>: ", self.element)?;
        match &self.problem {
            Problem::NotATable(found) => write!(f, "attributes must be a table, not {found}"),
            Problem::Name(found) => write!(f, "a name must be a string, not {found}"),
            Problem::AttributeKey(found) => {
                write!(f, "the name of an attribute must be a string, not {found}")
            }
            Problem::AttributeValue(key, found) => {
                write!(f, "the value of attribute '{key}' must be a string, not {found}")
            }
            Problem::Child(n, found) => write!(f, "child {n} must be a string or an element, not {found}"),
            Problem::TooDeep => write!(f, "nested too deeply"),
        }
    }
}

/// What was found at the top of a stanza that was written.
#[derive(Clone, Copy, Debug)]
pub struct Walked {
    /// `None` if the element is none of the three stanzas, or in a namespace other than `jabber:client`.
    pub summary: Option<Summary>,
    /// The stanza itself declares `jabber:client`, as BOSH's do. It was left out of the bytes.
    pub declares_namespace: bool,
}

thread_local! {
    /// The list of open elements of the last walk, empty: that the next one need not allocate it.
    static OPEN: Cell<Vec<Open>> = const { Cell::new(Vec::new()) };
}

/// The value of an element's `xmlns`, to compare with its children's: what is equal is not written again.
#[derive(Clone, Copy)]
enum Namespace {
    None,
    /// A string of an attribute table whose element is on the Lua stack.
    Text(*const [u8]),
    /// Which is a mistake of whoever made it, and not ours to correct.
    Number(f64),
}

impl Namespace {
    /// # Safety
    /// The element that it was found in is still on the stack.
    unsafe fn is(self, text: &[u8]) -> bool {
        match self {
            // SAFETY: the caller says that the string is still there.
            Namespace::Text(own) => unsafe { &*own == text },
            _ => false,
        }
    }

    /// # Safety
    /// As [`Namespace::is`], of both.
    unsafe fn equals(self, other: Namespace) -> bool {
        match (self, other) {
            // SAFETY: as above.
            (own, Namespace::Text(text)) => unsafe { own.is(&*text) },
            (Namespace::Number(own), Namespace::Number(other)) => own == other,
            _ => false,
        }
    }
}

/// An element whose end tag has not been written. Its table is on the Lua stack.
struct Open {
    /// Where its name stands in the output.
    name: Range<usize>,
    namespace: Namespace,
    next: i64,
    len: i64,
}

/// Whether to leave a stanza alone that would not be counted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Only {
    /// Write whatever it is, with every attribute.
    Everything,
    /// Write nothing unless it is a stanza, and leave out its own `xmlns='jabber:client'`.
    Stanzas,
    /// Write the start tag of whatever it is, and nothing of what is in it.
    StartTag,
}

unsafe fn type_name(state: *mut lua_State, index: c_int) -> &'static str {
    // SAFETY: the caller gives a valid state and index; the types' names are not freed.
    match unsafe { ffi::lua_type(state, index) } {
        ffi::LUA_TNIL => "nil",
        ffi::LUA_TBOOLEAN => "boolean",
        ffi::LUA_TNUMBER => "number",
        ffi::LUA_TSTRING => "string",
        ffi::LUA_TTABLE => "table",
        ffi::LUA_TFUNCTION => "function",
        _ => "userdata",
    }
}

/// The bytes of the string at `index`.
///
/// # Safety
/// The value at `index` must be a string that stays on the stack (or in a table that does) while the slice is used.
pub unsafe fn bytes<'a>(state: *mut lua_State, index: c_int) -> &'a [u8] {
    let mut len = 0;
    // SAFETY: for a string this neither converts nor allocates, and gives its own bytes.
    unsafe {
        let data = ffi::lua_tolstring(state, index, &mut len);
        if data.is_null() { &[] } else { std::slice::from_raw_parts(data.cast(), len) }
    }
}

/// A string, or a number as Lua writes it into `number`: what Lua's string functions, and so Prosody's `tostring`, accept.
///
/// # Safety
/// As [`bytes`], if it is a string.
#[inline(always)]
unsafe fn text(
    state: *mut lua_State,
    index: c_int,
    number: &mut Option<Decimal>,
) -> Result<&[u8], &'static str> {
    // SAFETY: as the caller says.
    unsafe {
        match ffi::lua_type(state, index) {
            ffi::LUA_TSTRING => Ok(bytes(state, index)),
            _ => decimal(state, index, number),
        }
    }
}

/// # Safety
/// The state and the index are valid.
#[cold]
#[inline(never)]
unsafe fn decimal(
    state: *mut lua_State,
    index: c_int,
    number: &mut Option<Decimal>,
) -> Result<&[u8], &'static str> {
    // SAFETY: numbers are read as what they are, so that nothing is converted.
    unsafe {
        if ffi::lua_type(state, index) != ffi::LUA_TNUMBER {
            return Err(type_name(state, index));
        }
        let decimal = match HAS_INTEGERS && ffi::lua_isinteger(state, index) != 0 {
            false => Decimal::float(ffi::lua_tonumberx(state, index, std::ptr::null_mut())),
            true => Decimal::integer(ffi::lua_tointegerx(state, index, std::ptr::null_mut())),
        };
        Ok(number.insert(decimal).as_bytes())
    }
}

/// A function that may call [`walk`].
///
/// # Safety
/// `f` keeps to Lua's protocol for C functions.
pub unsafe fn function(lua: &Lua, f: ffi::lua_CFunction) -> LuaResult<LuaFunction> {
    let keys = ("name", "attr");
    // SAFETY: both strings are on the stack and become the upvalues of what is left there.
    unsafe { lua.exec_raw(keys, |state| ffi::lua_pushcclosure(state, f, 2)) }
}

/// Appends the bytes of the stanza at `index` to `out`.
///
/// # Errors
/// If the table is not what a stanza must be. `out` may then hold a part of it.
///
/// # Safety
/// `state` is the running Lua state of a function that [`function`] made, `index` an absolute index of a table.
pub unsafe fn walk(
    state: *mut lua_State,
    index: c_int,
    only: Only,
    out: &mut Vec<u8>,
) -> Result<Walked, WalkError> {
    // SAFETY: the module's first lines say what is relied on.
    unsafe {
        let top = ffi::lua_gettop(state);
        let mut walk = Walk {
            state,
            first: top + 1,
            out,
            open: OPEN.take(),
            room: 0,
            only,
            at: String::new(),
            walked: Walked { summary: None, declares_namespace: false },
        };
        let result = walk.run(index);
        let (at, walked) = (std::mem::take(&mut walk.at), walk.walked);
        if walk.open.capacity() <= KEPT_OPEN {
            walk.open.clear();
            OPEN.set(walk.open);
        }
        ffi::lua_settop(state, top);
        result.map(|()| walked).map_err(|problem| WalkError { element: at, problem })
    }
}

struct Walk<'a> {
    state: *mut lua_State,
    /// Where the stanza's table is on the stack; those of the open elements in it come after it.
    first: c_int,
    out: &'a mut Vec<u8>,
    open: Vec<Open>,
    /// How many levels there is room for on the stack.
    room: usize,
    only: Only,
    at: String,
    walked: Walked,
}

impl Walk<'_> {
    unsafe fn run(&mut self, index: c_int) -> Result<(), Problem> {
        let state = self.state;
        // SAFETY: as the module says; each level leaves its table on the stack until it is closed.
        unsafe {
            self.make_room()?;
            ffi::lua_pushvalue(state, index);
            if !self.start(0)? {
                return Ok(());
            }
            if self.only == Only::StartTag {
                if self.open.is_empty() {
                    // as if there were something in it
                    self.out.truncate(self.out.len() - 2);
                    write::end_open(self.out);
                }
                return Ok(());
            }
            while let Some(open) = self.open.last_mut() {
                if open.next > open.len {
                    let name = open.name.clone();
                    self.open.pop();
                    write::close(self.out, name);
                    ffi::lua_pop(state, 1);
                    continue;
                }
                let n = open.next;
                open.next += 1;
                match ffi::lua_rawgeti(state, -1, n) {
                    ffi::LUA_TSTRING => {
                        write::escape(self.out, bytes(state, -1));
                        ffi::lua_pop(state, 1);
                    }
                    ffi::LUA_TTABLE => {
                        if self.open.len() >= self.room {
                            self.make_room()?;
                        }
                        self.start(n)?;
                    }
                    _ => {
                        let name = open.name.clone();
                        self.note(&name);
                        return Err(Problem::Child(n, type_name(state, -1)));
                    }
                }
            }
        }
        Ok(())
    }

    unsafe fn make_room(&mut self) -> Result<(), Problem> {
        let slots = LEVELS as c_int + SCRATCH_SLOTS;
        // SAFETY: as the module says.
        if unsafe { ffi::lua_checkstack(self.state, slots) } == 0 {
            return Err(Problem::TooDeep);
        }
        self.room = self.open.len() + LEVELS;
        Ok(())
    }

    /// Writes the start tag of the table on top of the stack, which is number `n` of the element that is open. Leaves
    /// the table on the stack, and among the open elements, if it has children that are to be written yet. False if it
    /// is to be left alone.
    unsafe fn start(&mut self, n: i64) -> Result<bool, Problem> {
        let state = self.state;
        let depth = self.open.len();
        // SAFETY: as `run`; indices are absolute, the slots were checked before.
        unsafe {
            let table = self.first + depth as c_int;
            ffi::lua_pushvalue(state, NAME);
            match ffi::lua_rawget(state, table) {
                ffi::LUA_TSTRING => {}
                _ if depth == 0 && self.only == Only::Stanzas => return Ok(false),
                ffi::LUA_TNIL if depth > 0 => return Err(Problem::Child(n, "a table without a name")),
                _ => {}
            }
            let starts = self.out.len() + 1;
            let mut number = None;
            write::open(self.out, text(state, -1, &mut number).map_err(Problem::Name)?);
            let name = starts..self.out.len();
            if depth == 0 && self.only == Only::Stanzas {
                let Some(name) = Name::from_bytes(self.written(&name)) else { return Ok(false) };
                self.walked.summary = Some(Summary { name, kind: Kind::Other, delayed: false });
            }
            ffi::lua_pushvalue(state, ATTR);
            if ffi::lua_rawget(state, table) != ffi::LUA_TTABLE {
                self.note(&name);
                return Err(Problem::NotATable(type_name(state, -1)));
            }
            let Some(namespace) = self.attributes(table + 2, &name)? else {
                self.walked.summary = None;
                return Ok(false);
            };
            let is_delay = depth == 1 && self.written(&name) == b"delay" && namespace.is(DELAY);
            if is_delay && let Some(summary) = &mut self.walked.summary {
                summary.delayed = true;
            }
            let len = ffi::lua_rawlen(state, table) as i64;
            if len == 0 {
                write::end_empty(self.out);
                ffi::lua_settop(state, table - 1);
                return Ok(true);
            }
            write::end_open(self.out);
            if len == 1
                && self.only != Only::StartTag
                && ffi::lua_rawgeti(state, table, 1) == ffi::LUA_TSTRING
            {
                write::escape(self.out, bytes(state, -1));
                write::close(self.out, name);
                ffi::lua_settop(state, table - 1);
            } else {
                ffi::lua_settop(state, table);
                self.open.push(Open { name, namespace, next: 1, len });
            }
        }
        Ok(true)
    }

    /// Writes the attributes in the table at `attr`, which is the top of the stack. None if they put the stanza into a
    /// namespace of its own, and it is to be left alone.
    unsafe fn attributes(&mut self, attr: c_int, name: &Range<usize>) -> Result<Option<Namespace>, Problem> {
        let state = self.state;
        let parent = self.open.last().map(|open| open.namespace);
        let stanza = parent.is_none() && self.only == Only::Stanzas;
        let mut namespace = Namespace::None;
        let mut in_namespace = 0;
        let (key, value) = (attr + 1, attr + 2);
        // SAFETY: as `run`. The key stays on the stack, unconverted, for lua_next.
        unsafe {
            ffi::lua_pushnil(state);
            while ffi::lua_next(state, attr) != 0 {
                let (mut key_number, mut value_number) = (None, None);
                let k = match text(state, key, &mut key_number) {
                    Ok(k) => k,
                    Err(found) => {
                        self.note(name);
                        return Err(Problem::AttributeKey(found));
                    }
                };
                let v = match text(state, value, &mut value_number) {
                    Ok(v) => v,
                    Err(found) => {
                        self.note(name);
                        let key = String::from_utf8_lossy(k).replace('\u{1}', "|");
                        return Err(Problem::AttributeValue(key, found));
                    }
                };
                if k == b"xmlns" {
                    namespace = match ffi::lua_type(state, value) {
                        ffi::LUA_TSTRING => Namespace::Text(v),
                        _ => Namespace::Number(ffi::lua_tonumberx(state, value, std::ptr::null_mut())),
                    };
                    if stanza {
                        if !namespace.is(CLIENT) {
                            return Ok(None);
                        }
                        self.walked.declares_namespace = true;
                    } else if !parent.is_some_and(|p| p.equals(namespace)) {
                        write::attribute(self.out, k, v);
                    }
                } else if let Some(split) = k.iter().position(|&b| b == 1) {
                    in_namespace += 1;
                    let (namespace, rest) = k.split_at(split);
                    let name = rest.strip_prefix(b"\x01").unwrap_or(rest);
                    write::attribute_in_namespace(self.out, in_namespace, namespace, name, v);
                } else {
                    if stanza
                        && k == b"type"
                        && let Some(summary) = &mut self.walked.summary
                    {
                        summary.kind = Kind::from_type(v);
                    }
                    write::attribute(self.out, k, v);
                }
                ffi::lua_settop(state, key);
            }
        }
        Ok(Some(namespace))
    }

    /// What was written there.
    fn written(&self, range: &Range<usize>) -> &[u8] {
        self.out.get(range.clone()).unwrap_or(b"")
    }

    /// Remembers the element for an error message.
    fn note(&mut self, name: &Range<usize>) {
        self.at = String::from_utf8_lossy(self.written(name)).into_owned();
    }
}
