//! `enjamb.contacts`: what an account's clients were last told of each contact, beyond what else outlives the process.
//!
//! By account and by who the presence was from, a short text. A change is one of the [`lines`] of a file
//! when [`write_down`] is called; a line that is not understood is passed over, and counted. What a crash of the machine takes costs a
//! client a presence that it knows already. An account has at most [`MOST_BYTES`], since other servers can make it grow.

use crate::state::with;
use enjamb_journal::lines::{self, Lines, Read};
use mlua::prelude::*;
use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::path::PathBuf;

/// What it is to who copies it.
const NAME: &str = "contacts";
/// Of an account, in bytes of text. More is not noted.
const MOST_BYTES: usize = 64 * 1024;
/// Changes wait for [`write_down`]; of so many bytes at most, if it never comes.
const MOST_WAITING: usize = 1 << 20;

#[derive(Default)]
struct Account {
    told: HashMap<Box<str>, Box<str>>,
    bytes: usize,
}

#[derive(Default)]
struct Contacts {
    accounts: HashMap<Box<str>, Account>,
    /// Lines that are not in the file yet.
    waiting: String,
    file: Option<Lines>,
}

impl Contacts {
    /// Notes `what`; returns whether there was room for it.
    fn set(&mut self, account: &str, from: &str, what: &str) -> bool {
        if !self.accounts.contains_key(account) {
            self.accounts.insert(account.into(), Account::default());
        }
        let Some(known) = self.accounts.get_mut(account) else { return false };
        match known.told.get_mut(from) {
            Some(old) if **old == *what => return true,
            Some(old) => {
                known.bytes = known.bytes - old.len() + what.len();
                *old = what.into();
            }
            None => {
                let bytes = from.len() + what.len();
                if known.bytes + bytes > MOST_BYTES {
                    return false;
                }
                known.bytes += bytes;
                known.told.insert(from.into(), what.into());
            }
        }
        self.line("+", account, from, what);
        true
    }

    fn unset(&mut self, account: &str, from: &str) {
        let Some(known) = self.accounts.get_mut(account) else { return };
        let Some(old) = known.told.remove(from) else { return };
        known.bytes -= from.len() + old.len();
        if known.told.is_empty() {
            self.accounts.remove(account);
        }
        self.line("-", account, from, "");
    }

    fn forget(&mut self, account: &str) {
        if self.accounts.remove(account).is_some() {
            self.line("f", account, "", "");
        }
    }

    fn line(&mut self, kind: &str, account: &str, from: &str, what: &str) {
        if self.file.is_some() && self.waiting.len() < MOST_WAITING {
            lines::write(&mut self.waiting, [kind, account, from, what]);
        }
    }

    /// Returns how many lines made no sense.
    fn read(&mut self, text: &str) -> usize {
        let mut senseless = 0;
        for fields in lines::fields(text) {
            let Some([kind, account, from, what]) = fields else {
                senseless += 1;
                continue;
            };
            match &*kind {
                "+" => {
                    self.set(&account, &from, &what);
                }
                "-" => self.unset(&account, &from),
                "f" => self.forget(&account),
                _ => senseless += 1,
            }
        }
        senseless
    }

    fn all(&self) -> String {
        let mut text = String::new();
        for (account, known) in &self.accounts {
            for (from, what) in &known.told {
                lines::write(&mut text, ["+", account, from, what]);
            }
        }
        text
    }

    fn open(&mut self, path: PathBuf) -> io::Result<()> {
        with(|state| state.bring_lines(NAME, &path))?;
        let lines = Lines::open(path, "What clients know of their contacts", |text| {
            let senseless = self.read(text);
            Read { needed: self.all(), senseless }
        })?;
        self.file = Some(lines);
        self.waiting.clear();
        self.copy("");
        Ok(())
    }

    /// These lines were written to the file.
    fn copy(&self, lines: &str) {
        with(|state| {
            if let Some((logs, journal, _)) = state.copied_logs() {
                logs.append(journal, NAME, lines, || self.all());
            }
        });
    }

    fn write_down(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let Some(mut file) = self.file.take() else { return };
        file.append(&self.waiting, || self.all());
        self.copy(&self.waiting);
        // If that failed all is written anew next time.
        if !file.has_failed() {
            self.waiting.clear();
        }
        self.file = Some(file);
    }
}

thread_local! {
    static CONTACTS: RefCell<Contacts> = RefCell::default();
}

/// `open(path)`: reads what was noted and goes on noting it there. `true`, or `nil` and why not.
fn open(_: &Lua, path: String) -> LuaResult<(Option<bool>, Option<String>)> {
    Ok(match CONTACTS.with_borrow_mut(|c| c.open(path.into())) {
        Ok(()) => (Some(true), None),
        Err(error) => (None, Some(error.to_string())),
    })
}

/// `set(account, from, what)`: notes a short text, or that there is nothing to be noted any more (`nil`). Returns false if
/// there is no room for it.
fn set(_: &Lua, (account, from, what): (String, String, Option<String>)) -> LuaResult<bool> {
    Ok(CONTACTS.with_borrow_mut(|c| match what {
        Some(_) if c.file.is_none() => false,
        Some(what) => c.set(&account, &from, &what),
        None => {
            c.unset(&account, &from);
            true
        }
    }))
}

/// `get(account)`: a table of what is noted, by who it was from.
fn get(lua: &Lua, account: String) -> LuaResult<LuaTable> {
    CONTACTS.with_borrow(|c| {
        let table = lua.create_table()?;
        for (from, what) in c.accounts.get(account.as_str()).iter().flat_map(|known| &known.told) {
            table.raw_set(&**from, &**what)?;
        }
        Ok(table)
    })
}

/// `accounts()`: an array of the accounts of which something is noted.
fn accounts(_: &Lua, (): ()) -> LuaResult<Vec<String>> {
    Ok(CONTACTS.with_borrow(|c| c.accounts.keys().map(|account| account.to_string()).collect()))
}

/// `noted_as(what)`: an array of those of whom just that is noted.
fn noted_as(_: &Lua, what: String) -> LuaResult<Vec<String>> {
    Ok(CONTACTS.with_borrow(|c| {
        let told = c.accounts.values().flat_map(|known| &known.told);
        told.filter(|(_, noted)| ***noted == *what).map(|(from, _)| from.to_string()).collect()
    }))
}

/// `forget(account)`: nothing is to be noted of it any more.
fn forget(_: &Lua, account: String) -> LuaResult<()> {
    CONTACTS.with_borrow_mut(|c| c.forget(&account));
    Ok(())
}

/// `write_down()`: hands to the operating system what was noted. If that fails, the log says so.
fn write_down(_: &Lua, (): ()) -> LuaResult<()> {
    CONTACTS.with_borrow_mut(Contacts::write_down);
    Ok(())
}

pub fn table(lua: &Lua) -> LuaResult<LuaTable> {
    let table = lua.create_table()?;
    table.set("open", lua.create_function(open)?)?;
    table.set("set", lua.create_function(set)?)?;
    table.set("get", lua.create_function(get)?)?;
    table.set("accounts", lua.create_function(accounts)?)?;
    table.set("noted_as", lua.create_function(noted_as)?)?;
    table.set("forget", lua.create_function(forget)?)?;
    table.set("write_down", lua.create_function(write_down)?)?;
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Write;

    fn folder(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("enjamb-contacts-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir(&dir).unwrap();
        dir
    }

    fn opened(path: &std::path::Path) -> Contacts {
        let mut contacts = Contacts::default();
        contacts.open(path.into()).unwrap();
        contacts
    }

    #[test]
    fn what_was_noted_is_there_again_and_no_torn_line() {
        let dir = folder("again");
        let path = dir.join("contacts");
        let mut contacts = opened(&path);
        assert!(contacts.set("a@h", "b@x/\t%\n", "1"));
        assert!(contacts.set("a@h", "c@x/r", "2"));
        assert!(contacts.set("a@h", "c@x/r", "3"));
        assert!(contacts.set("e@h", "f@x/r", "4"));
        contacts.unset("e@h", "f@x/r");
        contacts.unset("e@h", "never");
        contacts.set("g@h", "f@x/r", "4");
        contacts.forget("g@h");
        contacts.write_down();
        contacts.set("a@h", "not written", "5");
        fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"+\ta@h\ttorn\t6").unwrap();
        let again = opened(&path);
        assert_eq!(again.accounts.len(), 1);
        let told = &again.accounts["a@h"].told;
        assert_eq!(told.len(), 2);
        assert_eq!((&*told["b@x/\t%\n"], &*told["c@x/r"]), ("1", "3"));
        assert_eq!(again.accounts["a@h"].bytes, "b@x/\t%\n1c@x/r3".len());
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn lines_that_make_no_sense_are_counted_and_cost_no_others() {
        let mut contacts = Contacts::default();
        assert_eq!(contacts.read("+\ta@h\tb@x/r\t1\n+a@h\tc@x/r\t2\n?\ta@h\tb@x/r\t\nf\tnobody\t\t\n"), 2);
        assert_eq!(contacts.accounts["a@h"].told.len(), 1);
    }

    #[test]
    fn an_account_has_a_bound_and_the_file_does_not_grow_for_ever() {
        let dir = folder("bound");
        let path = dir.join("contacts");
        let mut contacts = opened(&path);
        let noted =
            (0..10_000).filter(|n| contacts.set("a@h", &format!("b@x/{n:05}"), "0123456789abcdef")).count();
        assert!((2000..3000).contains(&noted), "{noted}");
        for n in 0..100_000 {
            contacts.set("a@h", "b@x/00000", &format!("{n:x}"));
            if n % 10 == 0 {
                contacts.write_down();
            }
        }
        contacts.write_down();
        assert!(fs::metadata(&path).unwrap().len() < 2 << 20);
        assert_eq!(&*opened(&path).accounts["a@h"].told["b@x/00000"], "1869f");
        fs::remove_dir_all(dir).unwrap();
    }
}
