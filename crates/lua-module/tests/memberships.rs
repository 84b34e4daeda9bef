//! Memberships as an account's storage keeps them.

#![allow(clippy::unwrap_used, missing_docs)]

use mlua::prelude::*;

/// Runs a text with `mx` in a process of its own, as far as the engine is concerned: each thread has one.
fn in_a_process_of_its_own(text: &'static str) {
    let run = move || {
        let lua = Lua::new();
        let library = enjamb::table(&lua).unwrap();
        lua.globals().set("mx", library.get::<LuaTable>("minimix").unwrap()).unwrap();
        lua.load(text).exec().unwrap();
    };
    std::thread::spawn(run).join().unwrap();
}

#[test]
fn are_plain_tables_without_what_is_not_so() {
    in_a_process_of_its_own(
        r#"
        local muc = "http://jabber.org/protocol/muc"
        mx.client_sends("a@b", "r", ("<presence to='room@c/n' id='j'><show>away</show><x xmlns='%s'><history seconds='0' maxstanzas='3'/></x></presence>"):format(muc), false)
        local room = mx.memberships("a@b")["room@c"]
        local expected = { nick = "n", joining = true, clients = room.clients }
        for key, value in pairs(room) do assert(expected[key] == value, key) end
        for key in pairs(expected) do assert(room[key] ~= nil, key) end
        local client = room.clients[1]
        assert(#room.clients == 1 and getmetatable(room.clients) == nil)
        assert(math.type(client.since) == "integer" and math.abs(client.since - os.time()) < 100)
        client.since = nil
        expected = { resource = "r", asked = "n", presence = "<presence><show>away</show></presence>", waits = "in", id = "j", maxstanzas = 3 }
        for key, value in pairs(client) do assert(expected[key] == value, key) end
        for key in pairs(expected) do assert(client[key] ~= nil, key) end
        "#,
    );
}

#[test]
fn come_back_as_they_were() {
    in_a_process_of_its_own(
        r#"
        local kept = {
            nick = "n", password = "p", other_passwords = { "q" }, pam = true, entry = { 100 }, untold = { 201 }, other_ids = true, of_a_later_version = { 1 },
            clients = {
                { resource = "in", asked = "n", presence = "<presence/>" },
                { resource = "waits", asked = "n", presence = "<presence/>", waits = "in", id = "j", password = "o", maxstanzas = 3, was_in = true },
                { resource = "leaves", asked = "n", waits = "out", id = "l" },
                { resource = "gone", asked = "n", presence = "<presence/>" },
            },
            pam_waiting = { { resource = "in", id = "q" } },
        }
        mx.restore("a@b", "room@c", kept, { "in", "waits", "leaves" })
        local room = mx.memberships("a@b")["room@c"]
        assert(room.nick == "n" and room.password == "p" and room.other_passwords[1] == "q" and room.pam and room.other_ids and not room.joining and not room.leaving)
        assert(room.entry[1] == 100 and room.untold[1] == 201)
        assert(room.pam_waiting[1].resource == "in" and room.pam_waiting[1].id == "q")
        local clients = {}
        for _, client in ipairs(room.clients) do clients[client.resource] = client end
        assert(clients["in"] and clients["in"].waits == nil)
        assert(clients.waits.waits == "in" and clients.waits.id == "j" and clients.waits.password == "o" and clients.waits.maxstanzas == 3 and clients.waits.was_in)
        assert(clients.leaves.waits == "out" and clients.leaves.id == "l" and clients.leaves.presence == "<presence/>")
        assert(clients.gone == nil)
        "#,
    );
}

#[test]
fn that_are_damaged_are_refused() {
    in_a_process_of_its_own(
        r#"
        for _, damage in ipairs { { clients = 5 }, { entry = { "x" } }, { other_passwords = "q" }, { pam_waiting = { { resource = "r" } } }, { pam = "yes" } } do
            damage.nick = "n"
            assert(not pcall(mx.restore, "a@b", "room@c", damage, {}))
        end
        assert(next(mx.memberships("a@b")) == nil)
        "#,
    );
}
