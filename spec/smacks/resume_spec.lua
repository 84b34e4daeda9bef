local t = require "support";

t.each("resuming", { config = "smacks_hibernation_time = 60", modules = { "websocket", "bosh" }, with_http = true }, function (ctx, it)
	it("works, with nothing missed", function ()
		local c = ctx:resumable { available = true };
		c:ping();
		c:expect("iq");
		c:ack();
		ctx:hibernate(c);
		local d = ctx:authenticated(c.username);
		local resumed = d:try_resume(c.token, c.h);
		assert.equal("resumed", resumed.name);
		assert.equal(t.sm3, resumed.ns);
		assert.equal(c.token, resumed.attr.previd);
		assert.equal("2", resumed.attr.h); -- presence and the ping
		assert.equal(0, #resumed);
		d.h = c.h;
		d:message(c.jid, "to myself");
		assert.is_nil(t.delay(d:expect({ body = "to myself" })));
		assert.equal("3", d:ask_h());
	end);

	it("asks the client for an ack", function ()
		local c = ctx:resumable();
		ctx:hibernate(c);
		local d = ctx:resume(c);
		assert.equal(t.sm3, d:expect("r").ns);
	end);

	it("brings what came meanwhile, to the full and the bare address, in order", function ()
		local c, other = ctx:resumable { available = true }, ctx:login();
		ctx:hibernate(c);
		for i = 1, 20 do other:message(i % 2 == 0 and c.jid or c.bare, "m" .. i); end
		other:sync();
		local d = ctx:resume(c);
		d:expect({ body = "m20" });
		assert.same(t.numbered("m", 20), t.bodies(d.seen));
		d:ack();
		d:sync();
		assert.equal(0, ctx:field(c.jid, "#s.outgoing_stanza_queue"));
		-- and nothing of it again
		assert.same(t.numbered("m", 20), t.bodies(d.seen));
		assert.equal(0, #t.only(other:sync(), "message"));
	end);

	it("brings again what was sent but not acked", function ()
		local c, other = ctx:resumable { available = true }, ctx:login();
		for i = 1, 5 do other:message(c.jid, "m" .. i); end
		c:expect({ body = "m5" });
		c:ack(c.h - 3); -- presence, m1, m2
		c:sync();
		ctx:hibernate(c);
		other:message(c.jid, "m6");
		other:sync();
		local d = ctx:resume(c, c.h - 3);
		d:expect({ body = "m6" });
		assert.same(t.numbered("m", 6, 3), t.bodies(d.seen));
	end);

	it("takes the client's h as an ack", function ()
		local c, other = ctx:resumable(), ctx:login();
		for i = 1, 5 do other:message(c.jid, "m" .. i); end
		c:expect({ body = "m5" });
		ctx:hibernate(c);
		assert.equal(5, ctx:field(c.jid, "#s.outgoing_stanza_queue"));
		local d = ctx:resume(c, 4);
		d:expect({ body = "m5" });
		assert.same({ "m5" }, t.bodies(d.seen));
		assert.equal(1, ctx:field(c.jid, "#s.outgoing_stanza_queue"));
		assert.equal(4, ctx:field(c.jid, "s.outgoing_stanza_queue:count_acked()"));
	end);

	it("marks messages that come again as delayed, and iq not", function ()
		local c, other = ctx:resumable { available = true }, ctx:login();
		other:message(c.jid, "live");
		assert.is_nil(t.delay(c:expect({ body = "live" })));
		ctx:hibernate(c);
		other:message(c.jid, "late");
		local ping = other:ping(c.jid);
		other:send("<presence to='" .. c.jid .. "'/>");
		other:sync();
		local d = ctx:resume(c, c.h - 1);
		for _, body in ipairs { "live", "late" } do
			local delay = t.delay(d:expect({ body = body }));
			assert.truthy(delay, "no <delay/> in " .. body);
			assert.truthy(delay.attr.stamp:match("^%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%d%.?%d*Z$"), tostring(delay));
		end
		local iq = d:expect({ name = "iq", id = ping });
		assert.is_nil(t.delay(iq));
		assert.equal(1, #iq:children());
		d:expect({ name = "presence", from = other.jid });
		other:message(c.jid, "live again");
		assert.is_nil(t.delay(d:expect({ body = "live again" })));
	end);

	it("keeps a delay that was there already", function ()
		local c, other = ctx:resumable(), ctx:login();
		ctx:hibernate(c);
		other:message(c.jid, "old", nil, "<delay xmlns='urn:xmpp:delay' stamp='2001-02-03T04:05:06Z'/>");
		other:sync();
		local d = ctx:resume(c);
		local m = d:expect({ body = "old" });
		assert.equal("2001-02-03T04:05:06Z", t.delay(m).attr.stamp);
		assert.equal(1, #t.only(m:children(), "delay"));
	end);

	it("brings stanzas again as they were", function ()
		local c, other = ctx:resumable(), ctx:login();
		ctx:hibernate(c);
		other:send(("<message to='%s' type='normal' id='weird &lt;id&gt;' xml:lang='ar'><body>a &lt;&amp;&gt; 'b' \"c\" \u{1F600} \u{0661}</body>"
			.. "<x xmlns='urn:example:x' y='&quot;1&apos;'><z/>text<z2 xmlns='urn:example:z'>  spaces  </z2></x></message>"):format(c.jid));
		other:sync();
		local d = ctx:resume(c);
		local m = d:expect("message");
		assert.equal("weird <id>", m.attr.id);
		assert.equal("ar", m.attr["xml:lang"]);
		assert.equal("normal", m.attr.type);
		assert.equal(other.jid, m.attr.from);
		assert.equal("jabber:client", m.ns);
		assert.equal("a <&> 'b' \"c\" \u{1F600} \u{0661}", m:body());
		local x = m:child("x", "urn:example:x");
		assert.equal("\"1'", x.attr.y);
		assert.equal("  spaces  ", x:child_text("z2", "urn:example:z"));
		assert.equal("text", x:text());
	end);

	local payloads = {
		["prefixes"] = "<p:x xmlns:p='urn:example:p' p:a='1' b='2'><p:y/><z xmlns='urn:example:z' p:c='3'/></p:x>",
		["nested namespaces"] = "<x xmlns='urn:example:x'><y xmlns=''><z xmlns='urn:example:z'><y xmlns='urn:example:x'/></z></y></x>",
		["other languages"] = "<body xml:lang='de'>\u{E4}\u{F6}</body><body xml:lang='ja'>\u{65E5}\u{672C}</body>",
		["CDATA"] = "<body><![CDATA[<not> & 'markup' ]]>]]&gt;<![CDATA[]]></body>",
		["character references"] = "<body>&#60;&#x26;&#x1F600;&#233;</body><x xmlns='urn:example:x' a='&#60;&#x26;&#34;&#39;&gt;'/>",
		["whitespace"] = "<body>  a\n\tb\n\n  </body>",
		["many children"] = ("<x xmlns='urn:example:x'/>"):rep(500),
		["deep children"] = ("<x xmlns='urn:example:x'>"):rep(60) .. ("</x>"):rep(60),
		["many attributes"] = "<x xmlns='urn:example:x' " .. (function ()
			local out = {};
			for i = 1, 100 do out[i] = ("a%d='%d'"):format(i, i); end
			return table.concat(out, " ");
		end)() .. "/>",
		["a stanza inside"] = "<forwarded xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client' from='a@b' to='c@d'>"
			.. "<body>x</body></message></forwarded>",
		["long text"] = "<body>" .. ("0123456789"):rep(10000) .. "</body>",
	};
	for name, payload in pairs(payloads) do
		it("brings again the same as was sent live: " .. name, function ()
			local c, other = ctx:resumable(), ctx:login();
			local plain = ctx:login(); -- without stream management, for comparison
			for _, to in ipairs { plain.jid, c.jid } do
				other:send(("<message to='%s' type='chat' id='%s'>%s</message>"):format(to, name:gsub(" ", ""), payload));
			end
			local function normal(m)
				local parts = {};
				for _, x in ipairs(m) do
					if type(x) == "string" or not (x.name == "delay" and x.ns == t.ns_delay) then parts[#parts + 1] = tostring(x); end
				end
				return table.concat(parts);
			end
			local want = normal(plain:expect("message"));
			assert.truthy(#want > 20);
			assert.equal(want, normal(c:expect("message")));
			ctx:hibernate(c);
			other:send(("<message to='%s' type='chat'>%s</message>"):format(c.jid, payload));
			other:sync();
			local d = ctx:resume(c, 0);
			for _ = 1, 2 do
				local m = d:expect("message");
				assert.equal(want, normal(m));
				assert.truthy(t.delay(m));
			end
			-- the same to modules that look into the queue
			assert.equal(2, ctx:field(c.jid, "#s.outgoing_stanza_queue:table()"));
			assert.falsy(d.closed);
			d:ack(2);
			d:sync();
		end);
	end

	it("carries the counters over", function ()
		local c, other = ctx:resumable(), ctx:login();
		for i = 1, 3 do c:ping(); other:message(c.jid, "a" .. i); end
		other:sync();
		c:sync();
		local h = c.h;
		assert.equal(6, h);
		ctx:hibernate(c);
		local d = ctx:resume(c);
		assert.equal("3", d.resumed.attr.h);
		d:ping();
		d:expect("iq");
		assert.equal(7, d.h);
		d:ack();
		assert.equal("4", d:ask_h());
		assert.equal(7, ctx:field(c.jid, "s.outgoing_stanza_queue:count_acked()"));
		ctx:hibernate(d);
		local e = ctx:resume(d);
		assert.equal("4", e.resumed.attr.h);
	end);

	it("many times in a row loses and repeats nothing", function ()
		local other = ctx:login();
		local c = ctx:resumable { available = true };
		local got = {};
		for round = 1, 10 do
			other:message(c.jid, "live" .. round);
			c:expect({ body = "live" .. round });
			ctx:hibernate(c);
			other:message(c.bare, "late" .. round);
			other:sync();
			for _, body in ipairs(t.bodies(c.seen)) do got[#got + 1] = body; end
			c = ctx:resume(c);
			c:expect({ body = "late" .. round });
		end
		for _, body in ipairs(t.bodies(c.seen)) do got[#got + 1] = body; end
		local want = {};
		for round = 1, 10 do want[#want + 1] = "live" .. round; want[#want + 1] = "late" .. round; end
		assert.same(want, got);
		assert.equal(10, ctx:field(c.jid, "s.resumption_counter"));
	end);

	it("many times without acking brings everything again each time", function ()
		local c, other = ctx:resumable { available = true }, ctx:login();
		local h = c.h;
		ctx:hibernate(c);
		for i = 1, 5 do other:message(c.bare, "m" .. i); end
		other:sync();
		for _ = 1, 4 do
			local d = ctx:resume(c, h);
			d:expect({ body = "m5" });
			assert.same(t.numbered("m", 5), t.bodies(d.seen));
			local first = d.seen[1];
			for _, el in ipairs(d.seen) do if el:body() == "m1" then first = el; end end
			assert.equal(1, #t.only(first:children(), "delay"));
			d.token, d.h = c.token, h;
			ctx:hibernate(d);
		end
	end);

	it("keeps presence; contacts notice nothing", function ()
		local a, b = ctx:contacts();
		local friend = ctx:login { user = b, available = true };
		local c = ctx:resumable { user = a, available = true };
		friend:expect({ name = "presence", from = c.jid });
		c:presence(nil, "<show>away</show><priority>5</priority>");
		friend:expect(function (e) return e.name == "presence" and e:child_text("show") == "away"; end);
		c:sync();
		friend:sync();
		ctx:hibernate(c);
		local d = ctx:resume(c);
		d:sync();
		local seen = friend:drain(0.5);
		assert.equal(0, #t.only(seen, "presence"));
		assert.equal(5, ctx:field(c.jid, "s.priority"));
		assert.equal("away", ctx:field(c.jid, "s.presence:get_child_text('show')"));
		-- who asks is told
		local late = ctx:login { user = b, available = true };
		late:expect(function (e) return e.name == "presence" and e.attr.from == c.jid and e:child_text("show") == "away"; end);
	end);

	it("brings presence changes and roster pushes that came meanwhile", function ()
		local a, b = ctx:contacts();
		local c = ctx:resumable { user = a, available = true };
		c:iq("get", "<query xmlns='jabber:iq:roster'/>");
		ctx:hibernate(c);
		local friend = ctx:login { user = b, available = true };
		friend:presence(nil, "<status>hello</status>");
		friend:sync();
		local second = ctx:login { user = a };
		second:iq("set", "<query xmlns='jabber:iq:roster'><item jid='new@example.org' name='New'/></query>");
		local d = ctx:resume(c);
		local p = d:expect(function (e) return e.name == "presence" and e:child_text("status") == "hello"; end);
		assert.equal(friend.jid, p.attr.from);
		local push = d:expect(function (e) return e.name == "iq" and e.attr.type == "set" and e:child("query", "jabber:iq:roster"); end);
		assert.equal("new@example.org", push:child("query"):child("item").attr.jid);
	end);

	it("lets a client answer what it was asked before", function ()
		local c, other = ctx:resumable { available = true }, ctx:login();
		ctx:hibernate(c);
		local id = other:ping(c.jid);
		other:sync();
		local d = ctx:resume(c);
		local iq = d:expect({ name = "iq", id = id });
		d:send(("<iq type='result' id='%s' to='%s'/>"):format(id, iq.attr.from));
		local answer = other:expect({ name = "iq", id = id });
		assert.equal("result", answer.attr.type);
		assert.equal(c.jid, answer.attr.from);
	end);

	it("goes on with a new XML stream when the old one was cut in the middle of a stanza", function ()
		for _, tail in ipairs {
			"<message to='x@localhost'><body>unfin", "<mess", "<message to='", "<message><![CDATA[ abc", "<a xmlns='urn:xmpp:sm:3' h='",
		} do
			local c = ctx:resumable();
			c:ping();
			c:expect("iq");
			c:send(tail);
			ctx:hibernate(c);
			local d = ctx:resume(c);
			assert.equal("1", d.resumed.attr.h);
			d:message(c.jid, "fine");
			d:expect({ body = "fine" });
			assert.equal("2", d:ask_h());
		end
	end);

	it("while the old connection is still open ends that with a conflict", function ()
		local c, other = ctx:resumable { available = true }, ctx:login();
		c:sync();
		local d = ctx:authenticated(c.username);
		local resumed = d:try_resume(c.token, c.h);
		assert.equal("resumed", resumed.name);
		d.h = c.h;
		c:expect_stream_error("conflict");
		c:expect_closed();
		other:message(c.jid, "who gets it?");
		local m = d:expect({ body = "who gets it?" });
		assert.is_nil(t.delay(m));
		d:ack();
		assert.equal("1", d:ask_h());
		assert.falsy(ctx:field(c.jid, "s.hibernating"));
		-- the old connection's end doesn't touch the session
		d:drain(0.3);
		assert.falsy(d.closed);
		assert.falsy(ctx:field(c.jid, "s.hibernating"));
		assert.falsy(ctx:field(c.jid, "s.destroyed"));
	end);

	it("while the old connection is open brings what that didn't ack", function ()
		local c, other = ctx:resumable(), ctx:login();
		for i = 1, 3 do other:message(c.jid, "m" .. i); end
		other:sync();
		local d = ctx:authenticated(c.username);
		d:try_resume(c.token, 0);
		d:expect({ body = "m3" });
		assert.same({ "m1", "m2", "m3" }, t.bodies(d.seen));
	end);

	it("what the old connection sends after that goes nowhere", function ()
		local c, other = ctx:resumable(), ctx:login { available = true };
		local d = ctx:authenticated(c.username);
		assert.equal("resumed", d:try_resume(c.token, 0).name);
		for i = 1, 5 do c:send(("<message to='%s'><body>ghost%d</body></message>"):format(other.jid, i)); end
		d:message(other.jid, "real");
		other:expect({ body = "real" });
		other:drain(0.2);
		assert.same({ "real" }, t.bodies(other.seen));
		assert.equal("1", d:ask_h());
	end);

	it("by two connections at once: the last one has it", function ()
		local c, other = ctx:resumable { available = true }, ctx:login();
		ctx:hibernate(c);
		local d, e = ctx:authenticated(c.username), ctx:authenticated(c.username);
		local resume = ("<resume xmlns='urn:xmpp:sm:3' h='%d' previd='%s'/>"):format(c.h, c.token);
		d:send(resume);
		e:send(resume);
		local rd, re = d:expect({ ns = t.sm3 }), e:expect({ ns = t.sm3 });
		assert.equal("resumed", rd.name);
		assert.equal("resumed", re.name);
		other:message(c.jid, "hello");
		-- one of the two was told to go, the other has the session
		local function got(x) return x:try({ body = "hello" }, 1); end
		local in_d, in_e = got(d), got(e);
		assert.truthy(in_d or in_e);
		assert.falsy(in_d and in_e and not d.closed and not e.closed);
		local loser = d.closed and d or e;
		loser:expect_closed();
		assert.equal(1, #t.only(loser.seen, { name = "error" }));
	end);

	it("in a chain of connections that are all still open works", function ()
		local c, other = ctx:resumable { available = true }, ctx:login();
		local all = { c };
		local h, token = c.h, c.token;
		for i = 1, 5 do
			local d = ctx:authenticated(c.username);
			assert.equal("resumed", d:try_resume(token, h).name);
			all[i]:expect_stream_error("conflict");
			all[i]:expect_closed();
			all[#all + 1] = d;
		end
		other:message(c.jid, "hello");
		all[#all]:expect({ body = "hello" });
	end);

	it("leaves one session, not two", function ()
		local c = ctx:resumable { available = true };
		ctx:hibernate(c);
		local d = ctx:resume(c);
		d:sync();
		local n = ctx.srv:eval(([[
			local n = 0;
			for _ in pairs(prosody.hosts[module.host ~= "*" and module.host or "localhost"].sessions[%q].sessions) do n = n + 1; end
			return n;
		]]):format(c.username));
		assert.equal(1, n);
		assert.equal(c.jid, ctx:field(c.jid, "s.full_jid"));
		-- and a connection that's the session's
		assert.is_true(ctx.srv:eval(([[
			local s = session(%q);
			local c2s = module:shared("/*/c2s/sessions");
			return c2s[s.conn] == s;
		]]):format(c.jid)));
	end);

	it("works with another session of the same account being there", function ()
		local user = ctx:user();
		local first = ctx:resumable { user = user, resource = "first", available = true };
		local second = ctx:resumable { user = user, resource = "second", available = true };
		ctx:hibernate(first);
		ctx:hibernate(second);
		assert.is_not.equal(first.token, second.token);
		local d2 = ctx:resume(second);
		local d1 = ctx:resume(first);
		d1:message(second.jid, "from first");
		assert.equal(first.jid, d2:expect({ body = "from first" }).attr.from);
	end);

	it("works with the session's own resource being asked for meanwhile by another", function ()
		-- the new one replaces the hibernating one, whose messages aren't lost
		local user = ctx:user();
		local c, other = ctx:resumable { user = user, resource = "phone", available = true }, ctx:login();
		ctx:hibernate(c);
		other:message(c.jid, "m1");
		other:sync();
		local d = ctx:resumable { user = user, resource = "phone", available = true };
		assert.equal(c.jid, d.jid);
		local e = ctx:authenticated(user);
		assert.equal("failed", e:try_resume(c.token, c.h).name);
		-- delivered here, kept offline and delivered now, or bounced
		local found = d:try({ body = "m1" }, 0.5) or other:try({ name = "message", type = "error" }, 0.5);
		assert.truthy(found, "m1 is lost");
	end);

	it("of a session that isn't available works", function ()
		local c, other = ctx:resumable(), ctx:login();
		ctx:hibernate(c);
		other:message(c.jid, "m1");
		other:sync();
		ctx:resume(c):expect({ body = "m1" });
	end);

	it("right after a clean close of the connection, when the server was told nothing", function ()
		-- no waiting for the server to notice
		for _ = 1, 5 do
			local c = ctx:resumable();
			c:ping();
			c:expect("iq");
			c:cut();
			local d = ctx:resume(c);
			assert.equal("1", d.resumed.attr.h);
			d:ping();
			d:expect("iq");
			assert.equal("2", d:ask_h());
			d:drain(0.1);
			assert.falsy(d.closed);
		end
	end);

	it("stanzas sent right along with <resume/> are handled", function ()
		local c, other = ctx:resumable(), ctx:login();
		ctx:hibernate(c);
		local d = ctx:authenticated(c.username);
		d:send(("<resume xmlns='urn:xmpp:sm:3' h='0' previd='%s'/>"
			.. "<message to='%s' type='chat'><body>quick</body></message><r xmlns='urn:xmpp:sm:3'/>"):format(
			c.token, other.jid));
		assert.equal("0", d:expect("resumed").attr.h);
		assert.equal(c.jid, other:expect({ body = "quick" }).attr.from);
		assert.equal("1", d:expect("a").attr.h);
	end);

	it("restores nothing that the session shouldn't have", function ()
		local c = ctx:resumable { available = true };
		ctx:hibernate(c);
		local d = ctx:resume(c);
		d:send("<enable xmlns='urn:xmpp:sm:3' resume='true'/>");
		assert.equal("unexpected-request", (t.condition(d:expect("failed"))));
		d:send(("<resume xmlns='urn:xmpp:sm:3' h='0' previd='%s'/>"):format(c.token));
		assert.equal("unexpected-request", (t.condition(d:expect("failed"))));
		d:sync();
		assert.falsy(d.closed);
	end);

	it("can be ended cleanly afterwards", function ()
		local a, b = ctx:contacts();
		local friend = ctx:login { user = b, available = true };
		local c = ctx:resumable { user = a, available = true };
		friend:expect({ name = "presence", from = c.jid });
		ctx:hibernate(c);
		local d = ctx:resume(c);
		d:sync();
		local last = d:close();
		assert.equal("1", last[#last].attr.h);
		assert.equal("a", last[#last].name);
		friend:expect({ name = "presence", from = c.jid, type = "unavailable" });
		assert.equal("failed", ctx:authenticated(a):try_resume(c.token, c.h).name);
	end);

	it("gives the session the new connection's address and counters", function ()
		local c = ctx:resumable();
		ctx:hibernate(c);
		assert.falsy(ctx:field(c.jid, "s.conn and true"));
		assert.equal("number", ctx:field(c.jid, "type(s.hibernating)"));
		ctx:resume(c);
		assert.equal("127.0.0.1", ctx:field(c.jid, "s.ip"));
		assert.truthy(ctx:field(c.jid, "s.conn and true"));
		assert.is_nil(ctx:field(c.jid, "s.hibernating"));
		assert.is_nil(ctx:field(c.jid, "s.hibernating_watchdog and true"));
		assert.equal("c2s", ctx:field(c.jid, "s.type"));
	end);

	it("lets a replaced watchdog be (mod_cloud_notify does that)", function ()
		local c = ctx:resumable();
		ctx:hibernate(c);
		ctx.srv:eval(([[
			local s = session(%q);
			local callback = s.hibernating_watchdog.callback;
			s.hibernating_watchdog:cancel();
			s.hibernating_watchdog = require "util.watchdog".new(1, function () return callback(); end);
		]]):format(c.jid));
		local d = ctx:resume(c);
		d:drain(1.5);
		assert.falsy(d.closed);
		assert.equal("0", d:ask_h());
	end);
end);

t.each("a clean end", { config = "smacks_hibernation_time = 60" }, function (ctx, it)
	it("sends a last ack and then closes", function ()
		local c = ctx:resumable();
		c:ping();
		c:ping();
		c:sync();
		local last = c:close();
		local a = last[#last];
		assert.equal("a", a.name);
		assert.equal(t.sm3, a.ns);
		assert.equal("2", a.attr.h);
		assert.truthy(c.stream_ended);
	end);

	it("ends the session: nothing to resume, contacts know", function ()
		local x, y = ctx:contacts();
		local friend = ctx:login { user = y, available = true };
		local c = ctx:resumable { user = x, available = true };
		friend:expect({ name = "presence", from = c.jid });
		c:close();
		friend:expect({ name = "presence", from = c.jid, type = "unavailable" });
		ctx.srv:wait_gone(c.jid);
		local d = ctx:authenticated(x);
		local failed = d:try_resume(c.token, c.h);
		assert.equal("failed", failed.name);
		assert.equal("item-not-found", (t.condition(failed)));
	end);

	it("with unacked messages keeps them for the next login", function ()
		local c, other = ctx:resumable { available = true }, ctx:login();
		other:message(c.jid, "m1");
		other:message(c.jid, "m2");
		c:expect({ body = "m2" });
		c:close();
		ctx.srv:wait_gone(c.jid);
		local d = ctx:login { user = c.username };
		d:presence();
		d:expect({ body = "m2" });
		assert.same({ "m1", "m2" }, t.bodies(d.seen));
		assert.truthy(t.delay(t.only(d.seen, "message")[1]));
		assert.equal(0, #t.only(other:sync(), "message"));
	end);

	it("with everything acked just before keeps nothing", function ()
		local c, other = ctx:resumable { available = true }, ctx:login();
		other:message(c.jid, "m1");
		c:expect({ body = "m1" });
		c:ack();
		c:close();
		ctx.srv:wait_gone(c.jid);
		local d = ctx:login { user = c.username, available = true };
		assert.same({}, t.bodies(d:sync()));
		assert.equal(0, #t.only(other:sync(), "message"));
	end);

	it("of a session that can't be resumed does the same", function ()
		local c, other = ctx:login { enable = {}, available = true }, ctx:login();
		other:message(c.jid, "m1");
		c:expect({ body = "m1" });
		local last = c:close();
		assert.equal("a", last[#last].name);
		ctx.srv:wait_gone(c.jid);
		local d = ctx:login { user = c.username };
		d:presence();
		d:expect({ body = "m1" });
	end);

	it("isn't what a broken connection of a session without resumption is", function ()
		local x, y = ctx:contacts();
		local friend = ctx:login { user = y, available = true };
		local c, other = ctx:login { user = x, enable = {}, available = true }, ctx:login();
		friend:expect({ name = "presence", from = c.jid });
		other:message(c.jid, "m1");
		c:expect({ body = "m1" });
		c:cut();
		ctx.srv:wait_gone(c.jid);
		friend:expect({ name = "presence", from = c.jid, type = "unavailable" });
		local d = ctx:login { user = x };
		d:presence();
		d:expect({ body = "m1" });
	end);

	it("forced by an error of the client's XML doesn't leave a half session", function ()
		local c = ctx:resumable();
		c:send("<message></presence>");
		c:expect_stream_error();
		c:expect_closed();
		-- whether it can be resumed is the server's choice; it must be one of the two
		local d = ctx:authenticated(c.username);
		local el = d:try_resume(c.token, c.h);
		if el.name == "resumed" then
			d:message(c.jid, "fine");
			d:expect({ body = "fine" });
		else
			assert.equal("item-not-found", (t.condition(el)));
			d:bind("new");
		end
	end);
end);
