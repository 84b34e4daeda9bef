//! Lua without memory: a call that fails has changed nothing.

#![allow(clippy::unwrap_used, missing_docs)]

use mlua::prelude::*;

/// Calls what `setup` returns first again and again, each time with a little more memory to be had, until it has succeeded
/// a few times. The second function that it returns is told how often that was, and looks for what is not so.
fn with_little_memory(setup: &str) {
    let lua = Lua::new();
    lua.globals().set("enjamb", enjamb::table(&lua).unwrap()).unwrap();
    let (act, check): (LuaFunction, LuaFunction) = lua.load(setup).eval().unwrap();
    let (mut succeeded, mut failed) = (0, 0);
    for more in (0..).step_by(16) {
        lua.gc_collect().unwrap();
        lua.gc_collect().unwrap();
        lua.set_memory_limit(lua.used_memory() + more).unwrap();
        let result = act.call::<bool>(());
        lua.set_memory_limit(0).unwrap();
        match result {
            Ok(true) => succeeded += 1,
            Ok(false) | Err(LuaError::MemoryError(_)) => failed += 1,
            Err(error) => panic!("{error}"),
        }
        check.call::<()>(succeeded).unwrap();
        if succeeded == 5 {
            break;
        }
    }
    assert!(failed > 20, "it has enough memory after {failed} times");
}

const STREAM: &str = r#"
    local sm = enjamb.smacks
    local limits = sm.limits {
        hibernation_time = 60, queue_stanzas = 100000, queue_bytes = 2^31, account_bytes = 2^40, server_bytes = 2^40, memory_bytes = 2^40,
        unacked = 0, inactive_unacked = 256, hibernated = 10,
    }
    local key, handle = sm.start(limits, "a@b", nil, nil, 0)
    local counts = sm.counts
"#;

#[test]
fn a_stanza_that_cannot_be_sent_is_not_queued() {
    with_little_memory(&format!(
        r#"{STREAM}
        local push = sm.push
        local stanza = {{ name = "message", attr = {{ id = 5 }}, tags = {{}}, ("x"):rep(3000) }}
        return function () return (pcall(push, key, stanza, true)) end, function (succeeded)
            assert(counts(key) == succeeded, counts(key) .. " are queued, " .. succeeded .. " were sent")
            assert(handle)
        end"#
    ));
}

#[test]
fn what_cannot_be_serialised_is_not_queued_either() {
    with_little_memory(&format!(
        r#"{STREAM}
        local push = sm.push
        local stanza = {{ name = "message", attr = {{ [("key"):rep(700)] = true }}, tags = {{}} }}
        return function () return (pcall(push, key, stanza, true)) end, function ()
            assert(counts(key) == 0)
            assert(handle)
        end"#
    ));
}

const ROOMS: &str = r#"
    local mx, direct = enjamb.minimix, enjamb.direct
    local account, room, muc = "a@b", "room@rooms", "http://jabber.org/protocol/muc"
    mx.configure("b", { offline = "stay", max_rooms = 10, join_timeout = 60, silence = 900 })
    local function join(resource, id)
        return mx.client_sends(account, resource, ("<presence to='%s/nick' id='%s'><x xmlns='%s'/></presence>"):format(room, id, muc), false)
    end
    -- A client joins, and the room lets the account in behind so many others.
    local function enter(resource, guests)
        local id
        for _, decision in ipairs(join(resource, "j")) do
            id = id or decision.stanza and decision.stanza:match(" id='(.-)'")
        end
        for n = 1, guests do
            mx.room_sends(("<presence from='%s/guest%d' to='%s'/>"):format(room, n, account), true)
        end
        local own = "<presence from='%s/nick' to='%s' id='%s'><x xmlns='%s#user'><status code='110'/></x></presence>"
        assert(mx.room_sends(own:format(room, account, id, muc), true))
    end
"#;

#[test]
fn a_groupchat_message_that_nobody_got_was_not_said() {
    with_little_memory(&format!(
        r#"{ROOMS}
        local resource = ("r"):rep(1000)
        enter(resource, 0)
        local function element(name, text) return {{ name = name, attr = {{}}, tags = {{}}, text }} end
        local stanza = {{ name = "message", attr = {{ type = "groupchat" }}, tags = {{}}, element("subject") }}
        assert(mx.groupchat_in(account, room, "s", stanza) ~= nil)
        mx.pending()
        local groupchat, attempts = mx.groupchat_in, 0
        local from = room .. "/nick"
        stanza[1] = element("body", "0")
        local got
        local function receive()
            local _, _, first, second = groupchat(account, from, nil, stanza)
            got = first == resource and second == nil
        end
        return function () got = nil return (pcall(receive)) and got end, function (succeeded)
            attempts = attempts + 1
            stanza[1][1] = tostring(attempts)
            if succeeded < 5 then return end
            local served = 0
            for _, decision in ipairs(join("other", "k")) do
                if decision.what == "serve" then
                    local bytes = enjamb.direct.write(decision.copies, 1, 2^30 | 0, "a@b/other")
                    served = served + select(2, bytes:gsub("<body>", ""))
                end
            end
            assert(served == succeeded, served .. " were said, " .. succeeded .. " came")
        end"#
    ));
}

#[test]
fn copies_that_cannot_be_sent_are_not_queued() {
    with_little_memory(&format!(
        r#"{STREAM}{ROOMS}
        enter("one", 20)
        local copies, n
        for _, decision in ipairs(join("two", "k")) do
            if decision.what == "serve" then copies, n = decision.copies, decision.n end
        end
        assert(n >= 21, n)
        local queue, to = direct.queue, "a@b/two"
        return function ()
            local ok, bytes, following = pcall(queue, copies, 1, 2^30 | 0, key, to, false)
            return ok and type(bytes) == "string" and following == n + 1
        end, function (succeeded)
            assert(counts(key) == succeeded * n, counts(key) .. " are queued, " .. succeeded * n .. " were sent")
            assert(handle)
        end"#
    ));
}

#[test]
fn a_copy_of_a_message_that_cannot_be_sent_is_not_queued() {
    with_little_memory(&format!(
        r#"{STREAM}{ROOMS}
        enter("one", 0)
        local stanza = {{ name = "message", attr = {{ type = "groupchat" }}, tags = {{}}, ("x"):rep(3000) }}
        local _, number = mx.groupchat_in(account, room .. "/other", nil, stanza)
        local push_copy, to = direct.push_copy, "a@b/one"
        return function ()
            local ok, bytes = pcall(push_copy, number, key, to)
            return ok and type(bytes) == "string"
        end, function (succeeded)
            assert(counts(key) == succeeded, counts(key) .. " are queued, " .. succeeded .. " were sent")
            assert(handle)
            assert(push_copy(number + 1, key, to) == nil and push_copy(number - 1, key, to) == nil)
            assert(#push_copy(number, nil, to) > 3000)
        end"#
    ));
}
