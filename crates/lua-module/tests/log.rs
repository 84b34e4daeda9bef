//! What the library has to say reaches the function that Lua gave, whatever thread says it.

#![allow(clippy::unwrap_used, missing_docs)]

use mlua::prelude::*;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Lines are the process's: one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static LOCK: Mutex<()> = Mutex::new(());
    LOCK.lock().unwrap_or_else(PoisonError::into_inner)
}

const LISTEN: &str = r#"
    said = {}
    enjamb.log(function (level, crate, message) said[#said+1] = level .. " " .. crate .. " " .. message end)
"#;

fn lua() -> Lua {
    let lua = Lua::new();
    lua.globals().set("enjamb", enjamb::table(&lua).unwrap()).unwrap();
    lua.load(LISTEN).exec().unwrap();
    lua
}

#[test]
fn what_another_thread_says_is_handed_over_with_the_next_commit() {
    let _alone = alone();
    let lua = lua();
    std::thread::spawn(|| tracing::warn!(target: "enjamb_journal::x", answer = 42, "from {}", "afar"))
        .join()
        .unwrap();
    let none: usize = lua.load("return #said").eval().unwrap();
    assert_eq!(none, 0, "nobody calls Lua from there");
    let said: String = lua.load("enjamb.journal.commit() return table.concat(said, ';')").eval().unwrap();
    assert_eq!(said, "warn journal from afar answer=42");
}

#[test]
fn a_panic_is_said_and_a_log_that_fails_holds_up_nothing() {
    let _alone = alone();
    let lua = lua();
    lua.load("enjamb.log(function (_, _, message) said[1] = message error('full') end)").exec().unwrap();
    let _ = std::panic::catch_unwind(|| panic!("of its own"));
    let said: String = lua.load("assert(not enjamb.journal.commit()) return said[1]").eval().unwrap();
    assert!(said.contains("tests/log.rs") && said.contains("of its own"), "{said}");
}

#[test]
fn an_error_of_the_journals_thread_is_said() {
    let _alone = alone();
    let lua = lua();
    let dir = std::env::temp_dir().join(format!("enjamb-log-{}", std::process::id()));
    let away = dir.with_extension("away");
    lua.globals().set("directory", dir.to_str()).unwrap();
    lua.load(
        r#"
        local sm, jn = enjamb.smacks, enjamb.journal
        assert(jn.open(directory))
        local limits = sm.limits {
            hibernation_time = 60, queue_stanzas = 100, queue_bytes = 2^31, account_bytes = 2^40, server_bytes = 2^40,
            memory_bytes = 2^40, unacked = 0, inactive_unacked = 256, hibernated = 10,
        }
        local _, id, timeout = sm.enable(limits, { account = "a@b", bound = true }, false, "true")
        key, handle = sm.start(limits, "a@b", id, timeout, 0)
        jn.keep(key, { username = "a", host = "b", resource = "c", xmlns = "urn:xmpp:sm:3" }, true)
        "#,
    )
    .exec()
    .unwrap();
    std::fs::rename(&dir, &away).unwrap();
    lua.load("enjamb.journal.claim(key, sent or 1, 'power')").exec().unwrap();
    // Its time is its own; the test ends as soon as it has come round.
    let said = (0..1000).find_map(|_| {
        std::thread::sleep(std::time::Duration::from_millis(10));
        let said: String =
            lua.load("enjamb.journal.commit() return table.concat(said, '\\n')").eval().unwrap();
        said.contains("cannot sync").then_some(said)
    });
    let said = said.expect("the journal's thread failed, and nobody heard of it");
    assert!(said.starts_with("error journal cannot sync"), "{said}");
    lua.load("enjamb.journal.close()").exec().unwrap();
    std::fs::remove_dir_all(&away).unwrap();
    let _ = std::fs::remove_dir_all(&dir);
}
