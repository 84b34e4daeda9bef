local t = require "support";
local socket = require "socket";

t.each("metrics", {
	config = "smacks_hibernation_time = 1; statistics = \"internal\"; openmetrics_allow_ips = { \"127.0.0.1\" }",
	modules = { "http_openmetrics" }, with_http = true,
}, function (ctx, it)
	local function values()
		local s = socket.tcp();
		s:settimeout(5);
		assert(s:connect("127.0.0.1", ctx.srv.http));
		s:send("GET /metrics HTTP/1.1\r\nHost: " .. ctx.srv.host .. "\r\nConnection: close\r\n\r\n");
		local text, _, partial = s:receive("*a");
		text = text or partial;
		s:close();
		assert.truthy(text:match("^HTTP/1.1 200"), text:sub(1, 300));
		local out = {};
		for name, v in text:gmatch("(prosody_mod_smacks__[%w_]+)%b{} ([%d.eE+-]+)") do
			if not name:match("_bucket$") and not name:match("_created$") then out[name] = (out[name] or 0) + tonumber(v); end
		end
		return out;
	end

	local function value(name)
		local v = values();
		for k, x in pairs(v) do
			if k == "prosody_mod_smacks__" .. name or k == "prosody_mod_smacks__" .. name .. "_total" then return x; end
		end
		return 0;
	end

	it("count what goes on", function ()
		local queued, started, expired = value("tx_queued_stanzas"), value("sessions_started"), value("sessions_expired");
		local acked_n, acked_sum = value("tx_acked_stanzas_count"), value("tx_acked_stanzas_sum");
		local resumed = value("resumption_age_seconds_count");

		local c, other = ctx:resumable { available = true }, ctx:login();
		for i = 1, 5 do other:message(c.jid, "m" .. i); end
		c:expect({ body = "m5" });
		assert.equal(6, c.h);
		c:ack(4);
		c:sync();
		assert.equal(started + 1, value("sessions_started"));
		assert.equal(queued + 6, value("tx_queued_stanzas"));
		assert.equal(acked_n + 1, value("tx_acked_stanzas_count"));
		assert.equal(acked_sum + 4, value("tx_acked_stanzas_sum"));

		ctx:hibernate(c);
		local d = ctx:resume(c);
		d:sync();
		assert.equal(resumed + 1, value("resumption_age_seconds_count"));

		other:message(c.jid, "m6");
		d:expect({ body = "m6" });
		local dropped = value("tx_dropped_stanzas_sum");
		d:cut();
		ctx.srv:wait_gone(c.jid, 6);
		assert.equal(expired + 1, value("sessions_expired"));
		assert.equal(dropped + 1, value("tx_dropped_stanzas_sum"));

		local late = value("session_resumption_expired");
		ctx:authenticated(c.username):try_resume(c.token, d.h);
		assert.equal(late + 1, value("session_resumption_expired"));
	end);

	it("tell how much is queued, in memory and in the journal", function ()
		local c, other = ctx:resumable { available = true, enable = { resume = "true" } }, ctx:login();
		c:ack();
		c:sync();
		local stanzas, bytes = value("queued_stanzas"), value("queued_bytes");
		for i = 1, 5 do other:message(c.jid, "m" .. i); end
		c:expect({ body = "m5" });
		assert.equal(stanzas + 5, value("queued_stanzas"));
		local more = value("queued_bytes") - bytes;
		assert.truthy(more > 5 * 50 and more < 5 * 500, more);
		assert.equal(0, value("queued_bytes_in_memory"));
		assert.truthy(value("journal_bytes") > 0 and value("journal_live_bytes") > more and value("journal_commits") > 0);
		assert.truthy(value("journal_recovery_seconds") >= 0);
		c:ack();
		c:sync();
		assert.equal(stanzas, value("queued_stanzas"));

		-- What nobody can resume is kept nowhere else.
		local d = ctx:login { available = true };
		d:enable {};
		other:message(d.jid, "only here");
		d:expect { body = "only here" };
		local here = value("queued_bytes_in_memory");
		assert.truthy(here > 50 and here < 500, here);
	end);
end);
