-- Copies as bytes: what a client gets is what Prosody's tostring() gives of the stanza with the other address. Runs in plain Lua, as
-- serialize_spec does, so that it can run under valgrind.

local library = require "support.library";
local enjamb, parse, st = library.enjamb, library.parse, library.st;
local direct, mx, sm = enjamb.direct, enjamb.minimix, enjamb.smacks;

local rounds = math.min(tonumber(os.getenv("ENJAMB_ROUNDS")) or 2000, 2000);
math.randomseed(tonumber(os.getenv("ENJAMB_SEED")) or os.time());
local random = math.random;

local texts = { "", "plain", "it's", "<tag>", "a & b", "\"q\"", ("long "):rep(50), "ünïcödé 😀", ("x"):rep(20000) };

local limits = sm.limits {
	hibernation_time = 60, queue_stanzas = 100000, queue_bytes = 2^31, account_bytes = 2^40, server_bytes = 2^40, memory_bytes = 2^40,
	unacked = 0, inactive_unacked = 256, hibernated = 10,
};

local function new_stream(account)
	local _, id, timeout = sm.enable(limits, { account = account, bound = true }, false, "true", nil);
	return sm.start(limits, account, id, timeout, 0);
end

local function join(account, resource, room)
	local id;
	local presence = "<presence to='"..room.."/nick' id='j-"..resource.."'><x xmlns='http://jabber.org/protocol/muc'/></presence>";
	local decisions = mx.client_sends(account, resource, presence, false);
	for _, d in ipairs(decisions) do id = id or d.id or d.stanza and d.stanza:match(" id='(.-)'"); end
	return id, decisions;
end

-- A stanza without what differs from process to process: the order of attributes.
local function plain(stanza)
	local list = { name = stanza.name, attr = stanza.attr };
	for i, child in ipairs(stanza) do list[i] = type(child) == "table" and plain(child) or child; end
	return list;
end

local function same(expected, bytes)
	assert.same(plain(expected), plain(parse(bytes)));
end

local function served(decisions)
	local found;
	for _, d in ipairs(decisions) do
		if d.what == "serve" then
			assert.is_nil(found);
			found = d;
		end
	end
	return found.copies, found.n;
end

-- An account in a room with so many others; its client "one" is in.
local n = 0;
local function inside(others)
	n = n + 1;
	local account, room = "ada"..n.."@localhost", "room"..n.."@rooms";
	mx.configure("localhost", { offline = "stay", max_rooms = 10, join_timeout = 60, silence = 900 });
	local id = join(account, "one", room);
	for i = 1, others do
		local presence = st.presence({ from = room.."/guest"..i, to = account }):text_tag("status", texts[i % 8 + 1]);
		mx.room_sends(enjamb.serialize(presence), true);
	end
	local own = st.presence({ from = room.."/nick", to = account, id = id }):tag("x", { xmlns = "http://jabber.org/protocol/muc#user" })
		:tag("status", { code = "110" }):reset();
	mx.room_sends(enjamb.serialize(own), true);
	mx.groupchat_in(account, room, nil, st.message({ from = room, type = "groupchat" }):tag("subject"):up());
	return account, room;
end

describe("a groupchat message", function ()
	it("is walked once, and its copies are what they would have been", function ()
		local account, room = inside(1);
		local to = account.."/it's <one>";
		local key, handle = new_stream(account);
		for i = 1, rounds do
			local stanza = st.message({ from = room.."/guest1", type = "groupchat", id = "m"..i }):text_tag("body", texts[random(#texts)]..i);
			if random(3) == 1 then stanza:text_tag("x", texts[random(#texts)], { xmlns = "urn:x", a = texts[random(8)] }); end
			local pending, number, resource, none = mx.groupchat_in(account, room.."/guest1", "m"..i, stanza);
			assert.same({ false, "one" }, { pending, resource });
			assert.is_nil(none);
			local bytes = direct.push_copy(number, key, to);
			local alone = direct.push_copy(number, nil, to);
			assert.equal(bytes, alone);
			stanza.attr.to = to;
			same(parse(tostring(stanza)), bytes);
			assert.is_nil((direct.push_copy(number - 1, key, to)));
		end
		assert.equal(rounds, (sm.counts(key)));
		sm.lost(key, 100);
		local _, number = mx.groupchat_in(account, room.."/guest1", nil, st.message({ type = "groupchat" }):text_tag("body", "x"));
		assert.is_false((direct.push_copy(number, key, to)));
		assert.equal(rounds + 1, (sm.counts(key)));
		sm.forget(key);
		assert.is_nil((direct.push_copy(number, key, to)));
		assert.truthy(handle);
	end);
end);

describe("copies for a client", function ()
	it("come in pieces, in order, and are queued", function ()
		local account, room = inside(300);
		local _, decisions = join(account, "two", room);
		local copies, count = served(decisions);
		assert.equal(302, count); -- oneself and the subject
		local to = account.."/two";
		for _, budget in ipairs { 0, 1000, 16384, 2^30 } do
			local key, handle = new_stream(account);
			local first, all, pieces = 1, {}, 0;
			while first <= count do
				local bytes, following = direct.queue(copies, first, budget, key, to, false);
				assert.truthy(following > first);
				assert.equal(bytes, (direct.write(copies, first, budget, to)));
				all[#all+1], first, pieces = bytes, following, pieces + 1;
			end
			assert.equal(count, (sm.counts(key)));
			local seen = parse("<all>"..table.concat(all).."</all>");
			assert.equal(count, #seen.tags);
			assert.truthy(budget > 0 or pieces == count);
			for i, tag in ipairs(seen.tags) do
				assert.equal(to, tag.attr.to);
				assert.truthy(direct.start_tag(copies, i, to):match("^<%a+ .*>$"));
			end
			sm.forget(key);
			assert.is_nil((direct.queue(copies, 1, 0, key, to, false)));
			assert.truthy(handle);
		end
		local key, handle = new_stream(account);
		assert.matches("^<presence xmlns='jabber:client' ", (direct.queue(copies, 1, 0, key, to, true)));
		sm.lost(key, 100);
		assert.same({ false, count + 1 }, { direct.queue(copies, 1, 2^30, key, to, false) });
		assert.is_nil((direct.queue(copies, count + 1, 0, key, to, false)));
		assert.truthy(handle);
	end);

	it("tell which streams have to end", function ()
		local account, room = inside(20);
		local _, decisions = join(account, "two", room);
		local copies, count = served(decisions);
		local tight = sm.limits {
			hibernation_time = 60, queue_stanzas = 10, queue_bytes = 2^31, account_bytes = 2^40, server_bytes = 2^40, memory_bytes = 2^40,
			unacked = 0, inactive_unacked = 256, hibernated = 10,
		};
		local _, id, timeout = sm.enable(tight, { account = account, bound = true }, false, "true", nil);
		local key, handle = sm.start(tight, account, id, timeout, 0);
		sm.lost(key, 100);
		assert.same({ false, count + 1, { key } }, { direct.queue(copies, 1, 2^30, key, account.."/two", false) });
		assert.equal(count, (sm.counts(key)));
		assert.truthy(handle);
	end);

	it("are given to nobody who asks oddly", function ()
		for name, f in pairs(direct) do
			for _, arguments in ipairs { {}, { {} }, { "x" }, { -1 }, { 1, 2, 3 }, { 2^63 }, { nil, {}, {} }, { print, print, print, print } } do
				local ok, err = pcall(f, library.unpack(arguments, 1, 6));
				assert.truthy(ok or tostring(err) ~= "", name);
			end
		end
	end);
end);
