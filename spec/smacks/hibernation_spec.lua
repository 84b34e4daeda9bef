local t = require "support";

t.each("hibernation", { config = "smacks_hibernation_time = 60" }, function (ctx, it)
	it("keeps the session and its presence", function ()
		local a, b = ctx:contacts();
		local friend = ctx:login { user = b, available = true };
		local c = ctx:resumable { user = a, available = true };
		friend:expect({ name = "presence", from = c.jid });
		ctx:hibernate(c);
		friend:drain(0.5);
		assert.equal(0, #t.only(friend.seen, { name = "presence", type = "unavailable", from = c.jid }));
		local late = ctx:login { user = b, available = true };
		late:expect({ name = "presence", from = c.jid });
		assert.equal("c2s", ctx:field(c.jid, "s.type"));
		assert.equal("number", ctx:field(c.jid, "type(s.hibernating)"));
		assert.is_false(ctx:field(c.jid, "s.conn ~= nil"));
		assert.is_false(ctx:field(c.jid, "s.destroyed or false"));
	end);

	it("queues everything that's for the session", function ()
		local c, other = ctx:resumable { available = true }, ctx:login();
		c:ack();
		c:sync();
		ctx:hibernate(c);
		other:message(c.jid, "m1");
		other:message(c.bare, "m2");
		other:message(c.bare, "m3", { type = "normal" });
		other:message(c.jid, "m4", { type = "headline" });
		other:ping(c.jid);
		other:send("<presence to='" .. c.jid .. "'/>");
		other:sync();
		assert.equal(6, ctx:field(c.jid, "#s.outgoing_stanza_queue"));
		local d = ctx:resume(c);
		d:sync();
		assert.same({ "m1", "m2", "m3", "m4" }, t.bodies(d.seen));
		assert.equal(1, #t.only(d.seen, "iq"));
		assert.equal(1, #t.only(d.seen, "presence"));
	end);

	it("goes on sending to other sessions of the account", function ()
		local user = ctx:user();
		local c = ctx:resumable { user = user, available = true };
		local also = ctx:resumable { user = user, available = true };
		local other = ctx:login();
		ctx:hibernate(c);
		other:message(c.bare, "for both");
		also:expect({ body = "for both" });
		ctx:resume(c):expect({ body = "for both" });
	end);

	it("doesn't happen to a session that isn't resumable", function ()
		for _, enable in ipairs { {}, { resume = "false" } } do
			local c = ctx:login { enable = enable };
			c:cut();
			ctx.srv:wait_gone(c.jid);
		end
		local c = ctx:login();
		c:cut();
		ctx.srv:wait_gone(c.jid);
	end);

	it("of many sessions at once works", function ()
		local other = ctx:login();
		local all = {};
		for i = 1, 30 do all[i] = ctx:resumable { available = true }; end
		for i = 1, 30 do all[i]:cut(); end
		for i = 1, 30 do ctx.srv:wait_hibernating(all[i].jid); end
		for i = 1, 30 do other:message(all[i].jid, "for " .. i); end
		other:sync();
		for i = 30, 1, -1 do
			local d = ctx:resume(all[i]);
			d:expect({ body = "for " .. i });
			assert.same({ "for " .. i }, t.bodies(d.seen));
		end
	end);

	it("can be ended by the server's side", function ()
		local c, other = ctx:resumable { available = true }, ctx:login();
		ctx:hibernate(c);
		other:message(c.jid, "m1");
		other:sync();
		ctx.srv:eval(([[session(%q):close(); return true]]):format(c.jid));
		ctx.srv:wait_gone(c.jid);
		assert.equal("failed", ctx:authenticated(c.username):try_resume(c.token, c.h).name);
		local d = ctx:login { user = c.username };
		d:presence();
		local found = d:try({ body = "m1" }, 1) or other:try({ name = "message", type = "error" }, 1);
		assert.truthy(found, "m1 is lost");
	end);

	it("ends when the account is deleted, which is no error", function ()
		ctx:allow("Failed"); -- what other modules make of it isn't the point
		local c = ctx:resumable { available = true };
		ctx:hibernate(c);
		ctx.srv:eval(([[
			return require "core.usermanager".delete_user(%q, "localhost") and true;
		]]):format(c.username));
		ctx.srv:wait_gone(c.jid, 5);
	end);

	it("of a session whose user's password changed: it isn't resumed without authentication", function ()
		local c = ctx:resumable();
		ctx:hibernate(c);
		local d = ctx:connect():open_stream();
		assert.equal("failed", d:try_resume(c.token, c.h).name);
	end);
end);

t.each("expiry", { config = "smacks_hibernation_time = 1" }, function (ctx, it)
	it("makes no stanzas of what is discarded whatever is in it", function ()
		local c, other = ctx:resumable { available = true }, ctx:login();
		c:ack();
		c:sync();
		ctx.srv:eval(([[
			local queue = session(%q).outgoing_stanza_queue;
			local get = queue.get;
			kept.looked_at = {};
			function queue.get(self, number)
				local stanza = get(self, number);
				table.insert(kept.looked_at, stanza.name);
				return stanza;
			end
		]]):format(c.jid));
		ctx:hibernate(c);
		for _ = 1, 3 do other:send("<presence to='" .. c.jid .. "'/>"); end
		other:message(c.jid, "m1");
		other:message(c.jid, "news", { type = "headline" });
		other:send("<presence to='" .. c.jid .. "' type='unavailable'/>");
		other:sync();
		ctx.srv:wait_gone(c.jid, 6);
		assert.same({ "message" }, ctx.srv:eval("return kept.looked_at"));
		local d = ctx:login { user = c.username };
		d:presence();
		d:expect({ body = "m1" });
	end);

	local function expired(c)
		c:cut();
		ctx.srv:wait_gone(c.jid, 6);
	end

	it("happens after the time and not before", function ()
		local c = ctx:resumable();
		ctx:hibernate(c);
		local socket = require "socket";
		socket.sleep(0.5);
		local d = ctx:resume(c);
		d:drain(1.3); -- the old watchdog must not bite
		assert.falsy(d.closed);
		d:ask_h();
		expired(d);
	end);

	it("makes a resumption fail and tells what was handled", function ()
		local c = ctx:resumable();
		for _ = 1, 7 do c:ping(); end
		c:sync();
		expired(c);
		local d = ctx:authenticated(c.username);
		local failed = d:try_resume(c.token, c.h);
		assert.equal("failed", failed.name);
		assert.equal("item-not-found", (t.condition(failed)));
		assert.equal("7", failed.attr.h);
		d:bind("again");
		assert.equal("enabled", d:enable { resume = "true" }.name);
		assert.is_not.equal(c.token, d.token);
	end);

	it("tells others nothing about it", function ()
		local c = ctx:resumable();
		c:ping();
		c:sync();
		expired(c);
		local d = ctx:authenticated(ctx:user());
		local failed = d:try_resume(c.token, c.h);
		assert.equal("item-not-found", (t.condition(failed)));
		assert.is_nil(failed.attr.h);
	end);

	it("tells it after having been resumed as well", function ()
		local c = ctx:resumable();
		c:ping();
		c:sync();
		ctx:hibernate(c);
		local d = ctx:resume(c);
		d:ping();
		d:sync();
		expired(d);
		local failed = ctx:authenticated(c.username):try_resume(c.token, d.h);
		assert.equal("2", failed.attr.h);
	end);

	it("puts messages into offline storage, in order, with their time", function ()
		local c, other = ctx:resumable { available = true }, ctx:login();
		other:message(c.jid, "m1");
		c:expect({ body = "m1" });
		ctx:hibernate(c);
		other:message(c.jid, "m2");
		other:message(c.bare, "m3", { type = "normal" });
		other:message(c.bare, "m4");
		other:sync();
		ctx.srv:wait_gone(c.jid, 6);
		assert.equal(0, #t.only(other:sync(), "message"));
		local d = ctx:login { user = c.username };
		d:presence();
		d:expect({ body = "m4" });
		assert.same({ "m1", "m2", "m3", "m4" }, t.bodies(d.seen));
		for _, m in ipairs(t.only(d.seen, "message")) do
			assert.truthy(t.delay(m), tostring(m));
			assert.equal(other.jid, m.attr.from);
		end
		-- once
		d:close();
		local e = ctx:login { user = c.username, available = true };
		assert.same({}, t.bodies(e:sync()));
	end);

	it("keeps nothing that was acked", function ()
		local c, other = ctx:resumable { available = true }, ctx:login();
		other:message(c.jid, "m1");
		other:message(c.jid, "m2");
		c:expect({ body = "m2" });
		c:ack(c.h - 1);
		c:sync();
		expired(c);
		local d = ctx:login { user = c.username };
		d:presence();
		d:expect({ body = "m2" });
		assert.same({ "m2" }, t.bodies(d.seen));
	end);

	it("sends errors to the senders when the user is online elsewhere", function ()
		local user = ctx:user();
		local c = ctx:resumable { user = user, available = true };
		local also = ctx:login { user = user, available = true };
		local other = ctx:login();
		ctx:hibernate(c);
		other:message(c.jid, "m1", { id = "one" });
		ctx.srv:wait_gone(c.jid, 6);
		local err = other:expect({ name = "message", type = "error" });
		assert.equal("one", err.attr.id);
		local detail = err:child("error");
		assert.truthy(detail:child("recipient-unavailable", t.ns_errors), tostring(err));
		also:sync();
	end);

	it("answers iq requests with errors", function ()
		local c, other = ctx:resumable { available = true }, ctx:login();
		ctx:hibernate(c);
		local get = other:ping(c.jid);
		other:send("<iq type='set' id='set1' to='" .. c.jid .. "'><x xmlns='urn:example:x'/></iq>");
		other:sync();
		ctx.srv:wait_gone(c.jid, 6);
		local err = other:expect({ name = "iq", id = get });
		assert.equal("error", err.attr.type);
		assert.truthy(err:child("error"):children()[1], tostring(err));
		assert.equal("error", other:expect({ name = "iq", id = "set1" }).attr.type);
	end);

	it("answers no answers and no errors", function ()
		local c, other = ctx:resumable { available = true }, ctx:login();
		ctx:hibernate(c);
		other:send("<iq type='result' id='r1' to='" .. c.jid .. "'/>");
		other:send("<iq type='error' id='r2' to='" .. c.jid .. "'>"
			.. "<error type='cancel'><bad-request xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>");
		other:message(c.jid, "x", { type = "error" },
			"<error type='cancel'><bad-request xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>");
		other:sync();
		ctx.srv:wait_gone(c.jid, 6);
		local seen = other:drain(0.3);
		assert.equal(0, #seen);
		-- nor are they kept
		local d = ctx:login { user = c.username, available = true };
		assert.equal(0, #t.only(d:sync(), "message"));
	end);

	it("returns no presence: to a resource that is gone it is ignored (RFC 6121 8.5.3.2)", function ()
		local c, other = ctx:resumable { available = true }, ctx:login();
		ctx:hibernate(c);
		other:send("<presence to='" .. c.jid .. "'/>");
		other:send("<presence to='" .. c.bare .. "' type='subscribe'/>");
		other:send("<iq type='get' id='asks' to='" .. c.jid .. "'><ping xmlns='urn:xmpp:ping'/></iq>");
		other:sync();
		ctx.srv:wait_gone(c.jid, 6);
		-- what can be answered is
		other:expect({ name = "iq", type = "error", id = "asks" });
		other:sync();
		assert.equal(0, #t.only(other.seen, { name = "presence", type = "error" }));
	end);

	it("of a user with unacked messages from himself isn't a problem", function ()
		local c = ctx:resumable { available = true };
		c:message(c.jid, "to myself");
		c:expect({ body = "to myself" });
		expired(c);
		ctx:login { user = c.username, available = true }:sync();
	end);

	it("tells contacts, once", function ()
		local a, b = ctx:contacts();
		local friend = ctx:login { user = b, available = true };
		local c = ctx:resumable { user = a, available = true };
		friend:expect({ name = "presence", from = c.jid });
		expired(c);
		friend:expect({ name = "presence", from = c.jid, type = "unavailable" });
		friend:drain(0.5);
		assert.equal(1, #t.only(friend.seen, { name = "presence", type = "unavailable", from = c.jid }));
	end);

	it("with two hibernating sessions of a user gives each message to one place", function ()
		local user = ctx:user();
		local c1 = ctx:resumable { user = user, available = true };
		local c2 = ctx:resumable { user = user, available = true };
		local other = ctx:login();
		c1:cut();
		c2:cut();
		ctx.srv:wait_hibernating(c1.jid);
		ctx.srv:wait_hibernating(c2.jid);
		other:message(c1.jid, "one");
		other:message(c2.jid, "two");
		other:sync();
		ctx.srv:wait_gone(c1.jid, 6);
		ctx.srv:wait_gone(c2.jid, 6);
		other:drain(0.3);
		local d = ctx:login { user = user };
		d:presence();
		d:sync();
		local places = {};
		for _, body in ipairs(t.bodies(d.seen)) do places[#places + 1] = body; end
		for _, m in ipairs(t.only(other.seen, { name = "message", type = "error" })) do
			places[#places + 1] = "error";
			assert.truthy(m:child("error"):child("recipient-unavailable", t.ns_errors));
		end
		assert.equal(2, #places, table.concat(places, " "));
	end);

	it("doesn't stop timers of others: 20 sessions all expire", function ()
		local all = {};
		for i = 1, 20 do all[i] = ctx:resumable(); end
		for i = 1, 20 do all[i]:cut(); end
		for i = 1, 20 do ctx.srv:wait_gone(all[i].jid, 6); end
		assert.is_true(ctx.srv:eval("return next(prosody.full_sessions) == nil"));
	end);
end);

t.each("expiry without offline storage", { config = "smacks_hibernation_time = 1", disable = { "offline" } }, function (ctx, it)
	it("sends errors to the senders", function ()
		local c, other = ctx:resumable { available = true }, ctx:login();
		ctx:hibernate(c);
		for i = 1, 3 do other:message(c.jid, "m" .. i, { id = "m" .. i }); end
		other:message(c.bare, "m4", { id = "m4" });
		other:sync();
		ctx.srv:wait_gone(c.jid, 6);
		for i = 1, 4 do
			local err = other:expect({ name = "message", type = "error" });
			assert.equal("m" .. i, err.attr.id);
			assert.truthy(err:child("error"):child("recipient-unavailable", t.ns_errors), tostring(err));
			assert.equal("cancel", err:child("error").attr.type);
		end
	end);

	it("sends none for what was acked", function ()
		local c, other = ctx:resumable { available = true }, ctx:login();
		other:message(c.jid, "m1");
		c:expect({ body = "m1" });
		c:ack();
		c:sync();
		c:cut();
		ctx.srv:wait_gone(c.jid, 6);
		assert.equal(0, #other:drain(0.3));
	end);

	it("of two sessions with messages for each other ends", function ()
		local c1, c2 = ctx:resumable { available = true }, ctx:resumable { available = true };
		for i = 1, 5 do
			c1:message(c2.jid, "to two " .. i);
			c2:message(c1.jid, "to one " .. i);
		end
		c1:sync();
		c2:sync();
		c1:cut();
		c2:cut();
		ctx.srv:wait_gone(c1.jid, 6);
		ctx.srv:wait_gone(c2.jid, 6);
		ctx:login():sync();
	end);
end);
