-- The walk over stanza tables, held against Prosody's own tostring() on generated stanzas. Runs in plain Lua, with the
-- util libraries of the Prosody in ENJAMB_PROSODY_LIB (default: the installed one), so that it can run under valgrind.

local library = require "support.library";
local enjamb, parse, st = library.enjamb, library.parse, library.st;
local sm = enjamb.smacks;
local serialize = enjamb.serialize;

-- valgrind takes thirty times as long
local rounds = tonumber(os.getenv("ENJAMB_ROUNDS")) or 20000;

local seed = tonumber(os.getenv("ENJAMB_SEED")) or os.time();
math.randomseed(seed);
local random = math.random;

local function pick(list)
	return list[random(#list)];
end

local names = { "message", "presence", "iq", "body", "x", "forwarded", "result", "stream:features", "a-b.c", "ünï", "delay" };
local namespaces = { "jabber:client", "urn:xmpp:delay", "urn:x", "http://e/'q'&<>\"", "" };
local keys = { "to", "from", "id", "type", "xml:lang", "xmlns:foo", "stamp", "foo:bar",
	"urn:y\1attr", "http://'&\1b", "\1empty", "urn:z\1two\1ones", "urn:y\1other" };
local texts = { "", "plain", "it's", "<tag>", "a & b", "&amp;", "\"q\"", ("long "):rep(50), "tab\tnewline\ncr\r",
	"ünïcödé 😀", ("'"):rep(40), ("x"):rep(31).."<", ("x"):rep(32)..">"..("y"):rep(70), "\0nul", "error", "chat", "5" };

local function element(depth, inherited)
	local attr = {};
	if random(3) == 1 then attr.xmlns = inherited and random(2) == 1 and inherited or pick(namespaces); end
	for _ = 1, random(0, 4) do attr[pick(keys)] = pick(texts); end
	local e = setmetatable({ name = pick(names), attr = attr, tags = {} }, st.stanza_mt);
	for _ = 1, depth > 0 and random(0, 4) or 0 do
		local child = random(2) == 1 and pick(texts) or element(depth - 1, attr.xmlns);
		e[#e+1] = child;
		if type(child) == "table" then e.tags[#e.tags+1] = child; end
	end
	return e;
end

local limits = sm.limits {
	hibernation_time = 60, queue_stanzas = 100000, queue_bytes = 2^31, account_bytes = 2^40, server_bytes = 2^40, memory_bytes = 2^40;
	unacked = 0, inactive_unacked = 256, hibernated = 10;
};

local function new_stream(options)
	local ok, id, timeout = sm.enable(limits, { account = "a@b", bound = true }, false, options and options.resume, nil);
	assert.truthy(ok);
	local key, handle = sm.start(limits, "a@b", id, timeout, 0);
	return key, handle, id;
end

describe("serialize("..library.prosody..", ".._VERSION..", seed "..seed..")", function ()
	it("gives the same bytes as tostring", function ()
		for _ = 1, rounds do
			local e = element(random(0, 4));
			assert.equal(tostring(e), (assert(serialize(e))));
		end
	end);

	it("gives the same start tag as top_tag", function ()
		for _ = 1, rounds do
			local e = element(random(0, 2));
			-- That is of a copy, whose attributes may have another order.
			local theirs, ours = e:top_tag(), assert(enjamb.start_tag(e));
			assert.equal(#theirs, #ours);
			assert.equal(theirs:match("^<[^ >]*"), ours:match("^<[^ >]*"));
			assert.equal(">", ours:sub(-1));
			for name, value in pairs(e.attr) do
				if type(name) == "string" and not name:find("\1", 1, true) then
					assert.truthy(ours:find(name.."='"..st.xml_escape(tostring(value)).."'", 1, true), ours);
				end
			end
		end
		local text, err = enjamb.start_tag({ name = "x", attr = { a = {} } });
		assert.is_nil(text);
		assert.equal("string", type(err));
	end);

	it("takes numbers where tostring does, and as it writes them", function ()
		local function check(n)
			local e = setmetatable({ name = "x", attr = { id = n, [n] = "v" }, tags = {} }, st.stanza_mt);
			assert.equal(tostring(e), (serialize(e)));
			assert.equal("number", type(e.attr.id));
			assert.equal("v", e.attr[n]);
			local child = setmetatable({ name = n, attr = { xmlns = n }, tags = {}, "text" }, st.stanza_mt);
			e = setmetatable({ name = "x", attr = { xmlns = "urn:x" }, tags = { child }, child }, st.stanza_mt);
			assert.equal(tostring(e), (serialize(e)));
		end
		for _, n in ipairs { 5, -7, 0, 0.0, -0.0, 1.5, 2^53, 1e100, 3.0, 1e13, 1e14, -1e14, 99999999999999.5, 1e-4, 1e-5, 0.1 + 0.2,
			math.maxinteger or 2^63, math.mininteger or -2^63, math.huge, -math.huge, 2^-1074, 2^-1022, 2^1023 * (2 - 2^-52) } do
			check(n);
		end
		for _ = 1, rounds do
			local n = random(5);
			if n == 1 then -- any float
				n = library.any_float();
				if n ~= n then n = 0.5; end
			elseif n == 2 then -- between two of 14 digits
				n = (math.floor((1 + 9 * random()) * 10^13) + random(0, 4) / 4) * (random(2) == 1 and 1 or -1);
			elseif n == 3 then
				n = (10^14 + random() * 10^17) * 10.0 ^ random(-30, 30);
			elseif n == 4 then
				n = random(10000) / 10 ^ random(0, 8);
			else -- an integer, where there are any
				n = math.floor((random() - 0.5) * 2.0 ^ random(0, 63));
			end
			check(n);
		end
		for _, n in ipairs { 0/0, -(0/0) } do
			local e = setmetatable({ name = "x", attr = { id = n }, tags = {} }, st.stanza_mt);
			assert.equal(tostring(e), (serialize(e)));
		end
	end);

	it("makes no strings of them", function ()
		local e = setmetatable({ name = "x", attr = { id = "", to = ("x"):rep(50) }, tags = {} }, st.stanza_mt);
		local numbers, strings = {}, {};
		for n = 1, 1000 do
			numbers[n] = 1000 + n + 0.25;
			strings[n] = tostring(numbers[n]);
		end
		local function made_for(values)
			collectgarbage();
			collectgarbage("stop");
			local before = collectgarbage("count");
			for n = 1, #values do
				e.attr.id = values[n];
				serialize(e);
			end
			local made = collectgarbage("count") - before;
			collectgarbage("restart");
			return made;
		end
		local jit = rawget(_G, "jit");
		if jit then jit.off(); end -- which makes things of its own
		made_for(strings);
		local made = made_for(strings);
		strings = nil; -- luacheck: ignore 311
		local made_of_numbers = made_for(numbers);
		if jit then jit.on(); end
		assert.equal(made, made_of_numbers);
	end);

	it("leaves the stanza as it was", function ()
		local e = st.message({ to = "x", type = "chat", ["urn:y\1a"] = "b" }):tag("body"):text("hi"):up():tag("x", { xmlns = "urn:x" });
		local copy = st.clone(e);
		serialize(e);
		assert.same(st.preserialize(copy), st.preserialize(e));
	end);

	it("refuses what is no stanza, with a message and without an error", function ()
		local function bad(e)
			local bytes, err = serialize(e);
			assert.is_nil(bytes);
			assert.equal("string", type(err));
			return err;
		end
		local mt = st.stanza_mt;
		local function of(e) return setmetatable(e, mt); end
		assert.matches("attribute 'id'", bad(of { name = "message", attr = { id = true }, tags = {} }));
		assert.matches("<message>", bad(of { name = "message", attr = { id = {} }, tags = {} }));
		assert.matches("name of an attribute", bad(of { name = "message", attr = { [true] = "x" }, tags = {} }));
		assert.matches("attributes must be a table", bad(of { name = "message", tags = {} }));
		assert.matches("attributes must be a table", bad(of { name = "message", attr = "x", tags = {} }));
		assert.matches("name must be a string", bad(of { attr = {}, tags = {} }));
		assert.matches("name must be a string", bad(of { name = {}, attr = {}, tags = {} }));
		assert.matches("child 1", bad(of { name = "message", attr = {}, tags = {}, 5 }));
		assert.matches("child 2", bad(of { name = "message", attr = {}, tags = {}, "a", true }));
		assert.matches("child 1", bad(of { name = "message", attr = {}, tags = {}, {} }));
		assert.matches("child 1", bad(of { name = "message", attr = {}, tags = {}, print }));
		assert.matches("<inner>", bad(of { name = "message", attr = {}, tags = {}, { name = "inner", attr = { x = print } } }));
		bad("message");
		bad(nil);
		bad(5);
		bad(print);
	end);

	it("walks very deep stanzas, and gives up on a circle with a message", function ()
		local top = st.stanza("message");
		local e = top;
		local levels = _VERSION == "Lua 5.1" and 7000 or 30000; -- which has room for 8000 values
		for _ = 1, levels do
			local child = setmetatable({ name = "a", attr = { xmlns = "urn:x" }, tags = {} }, st.stanza_mt);
			e[1], e.tags[1] = child, child;
			e = child;
		end
		assert.equal(("<a xmlns='urn:x'>"):len() + ("<a>"):rep(levels - 2):len(), serialize(top):find("<a/>", 1, true) - ("<message>"):len() - 1);
		local circle = st.stanza("message");
		circle[1] = circle;
		local bytes, err = serialize(circle);
		assert.is_nil(bytes);
		assert.matches("too deeply", err);
	end);
end);

describe("push", function ()
	it("queues the three stanzas and nothing else", function ()
		local key, handle = new_stream();
		for _, e in ipairs {
			st.stanza("r", { xmlns = "urn:xmpp:sm:3" }), st.stanza("stream:features"), st.stanza("body"),
			st.stanza("message", { xmlns = "urn:x" }), st.stanza("message", { xmlns = "" }), " ", 5, true,
		} do
			assert.is_nil((sm.push(key, e, true)));
		end
		assert.equal(0, (sm.counts(key)));
		for n, e in ipairs { st.message(), st.presence(), st.iq { id = "1", type = "get" }, st.message { xmlns = "jabber:client" } } do
			assert.truthy(sm.push(key, e, true));
			assert.equal(n, (sm.counts(key)));
		end
		assert.truthy(handle);
	end);

	it("returns the bytes, or true if they are not wanted or would not serve", function ()
		local key, handle = new_stream();
		local m = st.message({ to = "a&b" }, "it's");
		assert.same({ tostring(m) }, { sm.push(key, m, true) });
		assert.same({ true }, { sm.push(key, m, false) });
		local bosh = st.message({ xmlns = "jabber:client" }, "x"):tag("forwarded", { xmlns = "urn:f" })
			:tag("message", { xmlns = "jabber:client" }):up():up():tag("y", { xmlns = "jabber:client" });
		assert.same({ true }, { sm.push(key, bosh, true) });
		assert.equal("<message><body>x</body><forwarded xmlns='urn:f'><message xmlns='jabber:client'/></forwarded><y/></message>",
			(sm.copies(key, 2, 3, 0, nil, "b")):gsub("<delay.-/>", ""), nil);
		assert.truthy(handle);
	end);

	it("refuses a stanza that can't be serialised, without queueing it", function ()
		local key, handle = new_stream();
		local m = setmetatable({ name = "message", attr = {}, tags = {}, "text", 5 }, st.stanza_mt);
		local bytes, err = sm.push(key, m, true);
		assert.is_nil(bytes);
		assert.matches("child 2", err);
		assert.equal(0, (sm.counts(key)));
		assert.equal("<message/>", (sm.push(key, st.message(), true)));
		assert.truthy(handle);
	end);

	it("stamps copies with a delay, except iq and what brought one", function ()
		local key, handle = new_stream();
		local delayed = st.message({}, "x"):tag("delay", { xmlns = "urn:xmpp:delay", stamp = "2001-01-01T00:00:00Z" }):up();
		local other_delay = st.message({}, "x"):tag("delay", { xmlns = "urn:other" }):up():tag("y"):tag("delay", { xmlns = "urn:xmpp:delay" });
		for _, e in ipairs { st.message({}, "x"), st.presence(), st.iq { id = "1", type = "get" }, delayed, other_delay } do
			sm.push(key, e, false);
		end
		local function copy(n) return parse((sm.copies(key, n, n + 1, 0, nil, "juliet@capulet.lit"))); end
		for _, n in ipairs { 0, 1, 4 } do
			local found = {};
			for delay in copy(n):childtags("delay", "urn:xmpp:delay") do found[#found+1] = delay; end
			assert.equal(1, #found);
			assert.equal("juliet@capulet.lit", found[1].attr.from);
			local y, mo, d, h, mi, s = found[1].attr.stamp:match("^(%d+)-(%d+)-(%d+)T(%d+):(%d+):(%d+)Z$");
			local now = os.time(os.date("!*t"));
			assert.truthy(math.abs(os.time { year = y, month = mo, day = d, hour = h, min = mi, sec = s } - now) < 100);
		end
		assert.equal("<iq id='1' type='get'/>", (sm.copies(key, 2, 3, 0, nil, "x")):gsub("<iq .*", function (s)
			return s:find("id='1'", 1, true) and s:find("type='get'", 1, true) and not s:find("delay") and "<iq id='1' type='get'/>" or s;
		end), nil);
		assert.equal("2001-01-01T00:00:00Z", copy(3):get_child("delay", "urn:xmpp:delay").attr.stamp);
		assert.equal(1, select(2, tostring(copy(3)):gsub("<delay", "")));
		assert.truthy(handle);
	end);

	it("gives copies in order, in pieces of the size that is asked for", function ()
		local key, handle = new_stream();
		local all = {};
		for n = 1, 50 do
			local iq = st.iq { id = tostring(n), type = "result" };
			sm.push(key, iq, false);
			all[n] = tostring(iq);
		end
		for _, budget in ipairs { 0, 1, 100, 100000 } do
			local got, at, pieces = {}, 0, 0;
			while true do
				local bytes, following = sm.copies(key, at, 40, budget, nil, "x");
				if not bytes then break; end
				got[#got+1], at, pieces = bytes, following, pieces + 1;
			end
			assert.equal(40, at);
			assert.equal(table.concat(all, "", 1, 40), table.concat(got));
			assert.equal(({ [0] = 40, 40, [100000] = 1 })[budget] or pieces, pieces);
		end
		assert.matches("^<iq xmlns='jabber:client' ", (sm.copies(key, 0, 1, 0, "jabber:client", "x")));
		assert.truthy(handle);
	end);

	it("parses back to what was sent", function ()
		local key, handle = new_stream();
		for n = 0, math.max(50, rounds / 20) do
			local m = st.stanza("iq", { id = "x'&<>", type = "get" }):tag("query", { xmlns = "urn:x", ["a"] = pick(texts):gsub("[%c]", "") })
				:tag("item"):text((pick(texts):gsub("[%z\1-\8\13]", ""))):up():up();
			sm.push(key, m, false);
			local back = assert(parse((sm.copies(key, n, n + 1, 0, nil, "x"))));
			assert.equal(m.attr.id, back.attr.id);
			assert.equal(m.tags[1].attr.a, back.tags[1].attr.a);
			assert.equal(m.tags[1].tags[1]:get_text(), back.tags[1].tags[1]:get_text());
		end
		assert.truthy(handle);
	end);
end);

describe("streams", function ()
	it("go with their handle, and their keys then find nothing", function ()
		collectgarbage();
		local before = sm.streams();
		local key, handle = new_stream();
		assert.equal(before + 1, sm.streams());
		assert.truthy(handle);
		handle = nil; -- luacheck: ignore 311
		collectgarbage();
		collectgarbage();
		assert.equal(before, sm.streams());
		assert.is_nil((sm.push(key, st.message(), true)));
		assert.is_nil((sm.counts(key)));
		assert.is_nil(sm.answer(key, 7, 0));
		assert.same({ nil, false }, { sm.lost(key, 1) });
		assert.is_nil((sm.copies(key, 0, 1, 0, nil, "x")));
		assert.is_false(sm.wants_ack(key, false, true, 0));
		assert.is_nil(sm.requested(key, 0));
		assert.is_nil(sm.lateness(key, 0));
		assert.is_nil(sm.silence(key, 0));
		assert.is_nil(sm.wrong_ack(key, "x"));
		assert.is_false((sm.close(key, true, 0)));
		assert.is_false(sm.must_end(key, "too much"));
		assert.is_nil((sm.ending(key, "too much")));
		assert.is_false(sm.begin_turn(key));
		assert.is_nil((sm.next_piece(key, false, "x")));
		assert.is_nil(sm.end_turn(key));
		assert.is_nil((sm.next_undelivered(key, 0, {})));
		sm.revoke(key);
		assert.equal(8, (sm.received(key, 7, "iq")));
		-- its place is taken by another stream, which the old key must not name
		local _, second = new_stream();
		assert.is_nil((sm.push(key, st.message(), true)));
		assert.truthy(second);
	end);

	it("survive calls with wrong arguments", function ()
		for name, f in pairs(sm) do
			for _, arguments in ipairs { {}, { {} }, { "x" }, { -1 }, { 1, 2, 3 }, { 2^63 }, { nil, {}, {} }, { print, print, print, print, print } } do
				local ok, err = pcall(f, library.unpack(arguments, 1, 5));
				assert.truthy(ok or tostring(err) ~= "", name);
			end
		end
	end);

	it("count modulo 2^32, whatever the field was set to", function ()
		local key, handle = new_stream();
		assert.equal(0, (sm.received(key, 2^32 - 1, "iq")));
		assert.equal(1, (sm.received(key, 2^32, "iq")));
		assert.equal(2, sm.received_behind(key, 2^32 - 1, 3));
		assert.truthy(handle);
	end);

	it("count stanzas, and nothing else", function ()
		local key, handle = new_stream();
		assert.same({ 1 }, { sm.received(key, 0, "message") });
		assert.same({ 2, true }, { sm.received(key, 1, "presence") });
		assert.same({ 3, true }, { sm.received(key, 2, "iq") });
		for _, e in ipairs { { "active", "urn:xmpp:csi:0" }, { "message", "urn:xmpp:sm:3" }, { "foo" }, { 1 }, { "iq", {} }, {} } do
			assert.same({}, { sm.received(key, 3, e[1], e[2]) });
		end
		assert.is_true(sm.is_stanza("iq"));
		assert.is_false(sm.is_stanza("iq", "x"));
		assert.equal(3, sm.answer(key, nil, 0));
		assert.equal(2, sm.answer(key, nil, 1));
		assert.equal(1, sm.answer(key, 1, 1));
		assert.truthy(handle);
	end);

	it("are closed once, by whoever does so first, with a last ack if there is a connection", function ()
		for _, case in ipairs { { 0, 2 }, { 1, 1 }, {} } do
			local key, handle = new_stream();
			sm.received(key, 0, "iq");
			sm.received(key, 1, "iq");
			assert.same({ true, case[2] }, { sm.close(key, false, case[1]) });
			assert.same({ false }, { sm.close(key, true, 0) });
			assert.is_nil(sm.answer(key, 2, 0));
			assert.is_false(sm.wants_ack(key, false, true, 0));
			assert.truthy(handle);
		end
	end);

	it("that this side asks for count what comes in from <enabled/> on", function ()
		local initiator = sm.initiator();
		assert.is_nil(initiator:established());
		initiator:features { "urn:xmpp:sm:2", "urn:xmpp:sm:3", "urn:xmpp:sm:4" };
		assert.equal("urn:xmpp:sm:3", initiator:established());
		assert.is_nil(initiator:established());
		local key, handle = sm.start(limits, nil, nil, nil, nil);
		assert.is_true(initiator:enabled());
		assert.is_false(initiator:enabled());
		assert.is_false(initiator:failed());
		sm.count_from_here(key);
		sm.received(key, 0, "iq");
		assert.same({ true, 1 }, { sm.close(key, false, 0) });
		local early, early_handle = sm.start(limits, nil, nil, nil, nil);
		assert.same({ true }, { sm.close(early, false, 0) });
		assert.truthy(handle and early_handle);
	end);

	it("discard what nobody needs to see by name and type", function ()
		local key, handle = new_stream();
		sm.push(key, st.presence({ from = "x@y/z" }), false);
		sm.push(key, st.message({ type = "headline" }), false);
		sm.push(key, st.message({ type = "chat" }), false);
		sm.push(key, st.iq({ type = "result", id = "1" }), false);
		local _, _, first = sm.counts(key);
		assert.equal(first + 2, sm.next_undelivered(key, first, {}), "the message");
		assert.is_nil((sm.next_undelivered(key, first + 3, {})));
		assert.equal(first + 1, sm.next_undelivered(key, first + 1, { is_server = true, resends = true }));
		assert.same({ "store", true }, { sm.fate(key, { last_session = true }, "message", "chat", {}) });
		assert.same({ "return", true }, { sm.fate(nil, { last_session = true, account_gone = true }, "message", "chat", {}) });
		assert.same({ "send again", false }, { sm.fate(nil, { is_server = true, resends = true }, "message", nil, {}) });
		assert.truthy(handle);
	end);

	it("are resumed once by their id and account, with what was not acked", function ()
		local key, handle, id = new_stream { resume = "true" };
		assert.matches("^%x+$", id);
		assert.equal(32, #id);
		for _ = 1, 5 do sm.push(key, st.message(), false); end
		assert.same({ 60, {} }, { sm.lost(key, 100) });
		assert.is_false((sm.push(key, st.message(), true)));
		local function resume(account, h)
			local attempt = sm.resumption({ account = account, bound = false }, id, h);
			local step, found = attempt:next();
			if step == "settle" then
				assert.equal(key, found);
				step, found = attempt:next();
			end
			return attempt, step, found;
		end
		for _, h in ipairs { "7", "-1", "0x1", "", "4294967296" } do
			local _, step, err = resume("a@b", h);
			assert.equal("refuse", step);
			assert.equal("string", type(err.condition));
			assert.is_false(err.remembered);
		end
		local _, step, err = resume("x@b", "2");
		assert.same({ "refuse", "item-not-found", true }, { step, err.condition, err.remembered });
		local attempt, prepare, found = resume("a@b", "2");
		assert.equal("prepare", prepare);
		assert.same({ key = key, acked = 2, since = 100 }, found);
		assert.equal(6, (sm.counts(key)));
		assert.same({ "resumed", found }, { attempt:next() });
		assert.equal("refuse", (attempt:next()));
		assert.equal(4, (sm.counts(key)));
		local next_one, last = sm.resend(key);
		assert.equal(4, last - next_one);
		assert.is_false((sm.push(key, st.message(), true)), "older ones go first");
		assert.is_true(sm.begin_turn(key));
		assert.is_false(sm.begin_turn(key));
		local bytes, lost = sm.next_piece(key, false, "a@b");
		assert.equal(5, select(2, bytes:gsub("<message>", "")));
		assert.equal(0, lost);
		assert.is_nil((sm.next_piece(key, false, "a@b")));
		assert.is_nil(sm.end_turn(key));
		assert.is_nil((sm.resend(key)));
		assert.equal("<message/>", (sm.push(key, st.message(), true)));
		assert.truthy(handle);
	end);
end);

describe("versions", function ()
	it("are the same in the library, the module, the rockspec and Cargo.toml", function ()
		local function version_in(name, pattern)
			return assert(assert(io.open(name)):read("*a"):match(pattern), name);
		end
		assert.equal(enjamb.version, version_in("lua/mod_smacks/mod_smacks.lua", 'version = "([^"]+)"'));
		assert.equal(enjamb.version, version_in("Cargo.toml", '\nversion = "([^"]+)"'));
		local rockspec = assert(io.popen("ls *.rockspec")):read("*a"):match("enjamb%-(.*)%-%d+%.rockspec");
		assert.equal(enjamb.version, rockspec);
		assert.equal(enjamb.version, version_in("enjamb-"..rockspec.."-1.rockspec", 'version = "([^"]+)%-%d+"'));
	end);
end);
