local t = require "support";

-- session.send() with the text of its debug line made only when a log wants it.

t.each("session.send", {}, function (ctx, it)
	it("says in the debug log what it sends", function ()
		local c, other = ctx:resumable { available = true }, ctx:login();
		local mark = ctx.srv:log_size();
		other:message(c.jid, "hello", { id = "logged" });
		c:expect({ body = "hello" });
		local line = ctx.srv:log(mark):match("Sending%[c2s%]: (<message [^\n]*)");
		assert.truthy(line and line:find("id='logged'", 1, true), ctx.srv:log(mark));
		assert.is_nil(line:find("hello", 1, true), "the start tag only");
	end);

	it("goes on to take strings, elements and stanzas that a filter drops", function ()
		local c = ctx:resumable { available = true };
		ctx.srv:eval(([[
			local s = session(%q);
			local filters = require "util.filters";
			local function drop(stanza) if stanza.attr.id ~= "dropped" then return stanza; end end
			filters.add_filter(s, "stanzas/out", drop);
			s.send(" ");
			s.send("<presence from='string@localhost'/>");
			s.send(st.message({ id = "dropped" }, "dropped"));
			s.send(st.message({ id = "kept" }, "kept"));
			s.send(st.stanza("x", { xmlns = "urn:example:x" }));
			filters.remove_filter(s, "stanzas/out", drop);
		]]):format(c.jid));
		c:expect({ name = "x" });
		c:drain(0.1);
		assert.same({ "kept" }, t.bodies(c.seen));
	end);

	it("of another module stays in its place", function ()
		local c = ctx:login { available = true };
		ctx.srv:eval(([[
			local s = session(%q);
			local send = s.send;
			kept.sent = 0;
			function s.send(stanza) kept.sent = kept.sent + 1; return send(stanza); end
			kept.send = s.send;
		]]):format(c.jid));
		c:enable { resume = "true" };
		c:message(c.jid, "hello");
		c:expect({ body = "hello" });
		assert.is_true(ctx.srv:eval(("return session(%q).send == kept.send"):format(c.jid)));
		assert.truthy(ctx.srv:eval("return kept.sent") > 0);
	end);

	it("builds the same start tag as Prosody", function ()
		local same = ctx.srv:eval([[
			local top_tag = module:shared("/*/smacks/top_tag");
			local e = st.message({ to = "a'b", type = "chat", ["urn:x\1y"] = "z" }, "text");
			local empty = st.stanza("r", { xmlns = "urn:xmpp:sm:3" });
			-- Prosody's is of a copy, whose attributes may have another order
			local function sorted(text) local c = { text:byte(1, -1) }; table.sort(c); return string.char(table.unpack(c)); end
			return {
				sorted(e:top_tag()) == sorted(top_tag.original(e)), sorted(empty:top_tag()) == sorted(top_tag.original(empty)),
				st.stanza_mt.top_tag == top_tag.ours
			};
		]]);
		assert.same({ true, true, true }, same);
	end);

	it("is Prosody's again when the module is gone", function ()
		local c = ctx:resumable { available = true };
		assert.is_true(ctx:field(c.jid, "s.send == s.enjamb.send"));
		ctx.srv:eval("require 'core.modulemanager'.unload('localhost', 'smacks')");
		assert.is_true(ctx:field(c.jid, "debug.getinfo(s.send, 'S').source:find('sessionmanager', 1, true) ~= nil"));
		assert.is_true(ctx.srv:eval("return debug.getinfo(st.stanza_mt.top_tag, 'S').source:find('stanza.lua', 1, true) ~= nil"));
		c:message(c.jid, "hello");
		c:expect({ body = "hello" });
		ctx.srv:eval("require 'core.modulemanager'.load('localhost', 'smacks')");
	end);
end);
