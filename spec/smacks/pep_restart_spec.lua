local t = require "support";
local it = require "busted".it;

-- What a client has subscribed to by the +notify of its capabilities (XEP-0163 §4.3) reaches it after a restart.

local ns_caps, ns_disco = "http://jabber.org/protocol/caps", "http://jabber.org/protocol/disco#info";
local ns_pubsub = "http://jabber.org/protocol/pubsub";
local node = "urn:example:node";

-- Sends presence with capabilities and answers what they are, to whoever asks.
local function notified(c, nodes)
	local features = {};
	for i, name in ipairs(nodes) do features[i] = ("<feature var='%s+notify'/>"):format(name); end
	c:presence(nil, ("<c xmlns='%s' hash='sha-1' node='urn:x' ver='%s'/>"):format(ns_caps, t.client.id()));
	for _ = 1, 20 do
		local asked = c:try({ name = "iq", type = "get", child = "query" }, 0.3);
		if not asked then return c; end
		c:send(("<iq type='result' id='%s' to='%s'><query xmlns='%s' node='%s'><identity category='client' type='pc'/>%s</query></iq>"):format(
			asked.attr.id, asked.attr.from or "", ns_disco, asked:child("query").attr.node, table.concat(features)));
	end
end

local function publish(c, id)
	local answer = c:iq("set", ("<pubsub xmlns='%s'><publish node='%s'><item id='%s'><x xmlns='%s'/></item></publish></pubsub>"):format(
		ns_pubsub, node, id, node));
	assert.equal("result", answer.attr.type);
end

local function items(list)
	local out = {};
	for _, m in ipairs(t.only(list, "message")) do
		local id = tostring(m):match("<item [^>]*id=['\"]([^'\"]+)");
		if id then out[#out+1] = id .. " " .. m.attr.from; end
	end
	return out;
end

t.versions("PEP notifications", function (start)
	for _, how in ipairs { "SIGTERM", "kill -9" } do
		it("reach a client that was there before (" .. how .. ")", function ()
			local ctx = start {
				config = "smacks_hibernation_time = 60"; modules = { "pep" };
				users = { alice = "secret", eve = "secret", nobody = "secret" }; extra = 'VirtualHost "other.localhost"';
			};
			ctx.srv:adduser("carol", "secret", "other.localhost");
			for _, contact in ipairs { "eve@localhost", "carol@other.localhost" } do ctx:befriend("alice", contact); end
			local function contacts(resource)
				local carol = ctx:connect(nil, { host = "other.localhost" });
				carol:login("carol", "secret", resource);
				carol:presence();
				return {
					ctx:login { user = "eve", resource = resource, available = true };
					carol;
					ctx:login { user = "alice", resource = resource, available = true };
				};
			end
			local wants = notified(ctx:resumable { user = "alice", resource = "wants" }, { node });
			local not_this = notified(ctx:resumable { user = "alice", resource = "not-this" }, { "urn:example:other" });
			for i, c in ipairs(contacts "before") do publish(c, "b" .. i); end
			wants:sync();
			assert.equal(3, #items(wants.seen));
			for _, c in ipairs { wants, not_this } do c:sync(); c:ack(); c:sync(); end
			for _ = 1, 2 do -- what was kept of it is kept again
				if how == "SIGTERM" then ctx.srv:terminate(); else ctx.srv:kill(); end
				ctx.srv:launch();
			end
			for _, c in ipairs { wants, not_this } do ctx.srv:wait_hibernating(c.jid); end
			-- also while it is not there, and after reloads
			ctx.srv:eval([[for _, name in ipairs { "smacks", "pep" } do
				assert(require "core.modulemanager".reload("localhost", name));
			end]]);
			for i, c in ipairs(contacts "after") do publish(c, "a" .. i); end
			local d, n = ctx:resume(wants), ctx:resume(not_this);
			d:sync();
			assert.same({ "a1 eve@localhost", "a2 carol@other.localhost", "a3 alice@localhost" }, items(d.seen));
			assert.same({}, t.only(d.seen, { name = "iq" }), "nobody asks for its capabilities");
			-- and no longer than it wants
			notified(d, { "urn:example:other" });
			for i, c in ipairs(contacts "later") do publish(c, "l" .. i); end
			for _, c in ipairs { d, n } do
				local seen = #c.seen;
				c:sync();
				c:drain(0.1);
				assert.same({}, items(table.move(c.seen, seen + 1, #c.seen, 1, {})));
			end
			assert.same({}, ctx:log_errors(0));
		end);
	end
end);
