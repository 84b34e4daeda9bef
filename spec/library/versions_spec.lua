-- What stands in for what some version of Lua or Prosody has not got, in each Lua.

local library = require "support.library";
local st = library.st;

-- As much of a server as it wants.
_G.prosody = { hosts = {} }; -- luacheck: ignore 122
package.preload["core.statsmanager"] = package.preload["core.statsmanager"] or function () return {}; end;
package.preload["util.compat"] = package.preload["util.compat"] or function ()
	return { xpcall = function (f, handler, ...)
		local arguments, n = { ... }, select("#", ...);
		return xpcall(function () return f(library.unpack(arguments, 1, n)); end, handler);
	end };
end;
local versions = require "enjamb.prosody";
_G.prosody = nil; -- luacheck: ignore 122

describe("what differs between versions", function ()
	it("of Lua: moving in a list, whichever way it overlaps", function ()
		for _, case in ipairs {
			{ 1, 3, 1, { 1, 2, 3, 4, 5 } }, { 1, 4, 2, { 1, 1, 2, 3, 4 } }, { 2, 5, 1, { 2, 3, 4, 5, 5 } }, { 1, 2, 5, { 1, 2, 3, 4, 1, 2 } },
			{ 3, 2, 1, { 1, 2, 3, 4, 5 } },
		} do
			local list = { 1, 2, 3, 4, 5 };
			assert.equal(list, versions.move(list, case[1], case[2], case[3]));
			assert.same(case[4], list);
		end
		local list = { 1, 2, 3 };
		assert.same({ 0, 2, 3 }, versions.move(list, 2, 3, 2, { 0 }));
		assert.same({ 1, 2, 3 }, list);
	end);

	it("of Lua: unpacking, and calls that are protected and have arguments", function ()
		assert.equal(4, select("#", versions.unpack({ nil, 2 }, 1, 4)));
		assert.same({ true, "a", "b" }, { versions.xpcall(function (...) return ...; end, error, "a", "b") });
		assert.same({ false, "x!" }, { versions.xpcall(function (text) error(text, 0); end, function (err) return err.."!"; end, "x") });
	end);

	it("of Prosody: a child by an attribute, with and without its own function", function ()
		local message = st.message():tag("stanza-id", { xmlns = "urn:xmpp:sid:0", by = "a", id = "1" }):up()
			:tag("stanza-id", { xmlns = "urn:xmpp:sid:0", by = "b", id = "2" }):up();
		local older = setmetatable({}, { __index = function (_, name)
			return name ~= "get_child_with_attr" and message[name] or nil;
		end });
		for _, stanza in ipairs { message, older } do
			assert.equal("2", versions.child_with_attr(stanza, "stanza-id", "urn:xmpp:sid:0", "by", "b").attr.id);
			assert.is_nil(versions.child_with_attr(stanza, "stanza-id", "urn:xmpp:sid:0", "by", "c"));
			assert.is_nil(versions.child_with_attr(stanza, "stanza-id", "urn:other", "by", "b"));
		end
	end);

	it("of Prosody: errors have their fields, and metrics take what they are told", function ()
		local err = versions.new_error({ type = "cancel", condition = "item-not-found", text = "gone" }, { h = 3 });
		assert.same({ "cancel", "item-not-found", "gone", 3 }, { err.type, err.condition, err.text, err.context.h });
		local told = {};
		local module = { measure = function (_, name, kind)
			return function (value) told[#told+1] = { name, kind, value }; end;
		end };
		versions.metric(module, "gauge", "bytes", "", ""):set(5);
		versions.metric(module, "histogram", "age", "seconds", "", { buckets = { 1 } }):sample(7);
		assert.same({ { "bytes", "amount", 5 }, { "age", "distribution", 7 } }, told);
		assert.is_false(versions.has_metrics);
	end);

	it("of Prosody: a client's session gets what 0.11 has not given it", function ()
		-- As Prosody's own, by where it is from.
		local send = assert((loadstring or load)("return function () end", "@/usr/lib/prosody/core/sessionmanager.lua"))(); -- luacheck: ignore 113
		local written = {};
		local session = {
			type = "c2s"; send = send; filter = function (_, data) return data; end; log = function () end;
			conn = { write = function (_, data) written[#written+1] = data; return data ~= "full"; end };
		};
		versions.complete(session);
		assert.is_true((session.rawsend(st.message { id = "1" })));
		assert.same({ "<message id='1'/>" }, written);
		assert.is_false((session.rawsend("full")));
		session.conn = nil;
		assert.is_false((session.rawsend("x")));
		local bosh = { type = "c2s", send = function () end };
		versions.complete(bosh);
		assert.is_nil(bosh.rawsend);
	end);
end);
