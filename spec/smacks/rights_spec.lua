local t = require "support";
local it = require "busted".it;

-- A session that comes back may do what its account may today, and never more than it might before.

local config = "smacks_hibernation_time = 60";
local users = { alice = "secret", bob = "secret" };

local function role_of(ctx, jid)
	return ctx:field(jid, "s.role and s.role.name");
end

local function restart(ctx, changes)
	ctx.srv:kill();
	if changes then ctx.srv:rewrite_config(changes); end
	ctx.srv:launch();
end

t.versions("rights after a restart", function (start, version)
	it("an admin who is none any more comes back as none", function ()
		local ctx = start { config = config .. "\nadmins = { 'alice@localhost' }", users = users };
		local alice = ctx:resumable { user = "alice", available = true };
		alice:sync();
		local is_admin = "return require 'core.usermanager'.is_admin('alice@localhost', 'localhost')";
		assert.is_true(ctx.srv:eval(is_admin));
		restart(ctx, { config = config });
		ctx.srv:wait_hibernating(alice.jid);
		assert.falsy(ctx.srv:eval(is_admin));
		ctx:resume(alice):sync();
		if version ~= "0.12" then
			assert.equal("prosody:registered", role_of(ctx, alice.jid));
		end
	end);

	if version == "0.12" then return; end

	it("who has become an admin comes back with what the session had", function ()
		local ctx = start { config = config, users = users };
		local alice = ctx:resumable { user = "alice" };
		alice:sync();
		restart(ctx, { config = config .. "\nadmins = { 'alice@localhost' }" });
		ctx.srv:wait_hibernating(alice.jid);
		assert.equal("prosody:registered", role_of(ctx, alice.jid));
	end);

	it("without the role that it had, a session does not come back; what was queued is kept", function ()
		local custom = "\ncustom_roles = { { name = 'guide' } }";
		local ctx = start { config = config .. custom, users = users, modules = { "offline" } };
		local alice, bob = ctx:resumable { user = "alice", available = true }, ctx:resumable { user = "bob", available = true };
		alice:sync();
		ctx.srv:eval("session(a).role = prosody.hosts.localhost.authz.get_role_by_name('guide')", alice.jid);
		alice:presence(nil, "<status>guiding</status>"); -- it is noted with this
		alice:sync();
		ctx:hibernate(alice);
		bob:message(alice.jid, "kept");
		assert.equal("2", bob:ask_h());
		restart(ctx, { config = config });
		ctx.srv:wait_hibernating(bob.jid);
		ctx.srv:wait_gone(alice.jid);
		assert.equal("failed", ctx:authenticated("alice"):try_resume(alice.token, alice.h).name);
		local again = ctx:login { user = "alice" };
		again:presence();
		again:expect({ body = "kept" });
	end);

	it("a role that the account may not have any more is not given back", function ()
		local ctx = start { config = config .. "\ncustom_roles = { { name = 'guide' } }", users = users };
		local alice = ctx:resumable { user = "alice" };
		ctx.srv:eval("session(a).role = prosody.hosts.localhost.authz.get_role_by_name('guide')", alice.jid);
		alice:presence();
		alice:sync();
		restart(ctx);
		ctx.srv:wait_gone(alice.jid);
	end);

	it("a disabled account does not come back", function ()
		local ctx = start { config = config .. "\nauthentication = 'internal_hashed'", authentication = "internal_hashed", users = users };
		local alice, bob = ctx:resumable { user = "alice", available = true }, ctx:resumable { user = "bob", available = true };
		alice:sync();
		bob:sync();
		ctx:hibernate(alice);
		ctx.srv:kill();
		local name = ctx.srv.dir .. "/data/localhost/accounts/alice.dat";
		local text = t.server.read_file(name);
		t.server.write_file(name, (text:gsub("};%s*$", "[\"disabled\"] = true;\n};\n")));
		ctx.srv:launch();
		ctx.srv:wait_hibernating(bob.jid);
		ctx.srv:wait_gone(alice.jid);
	end);
end);

t.versions("rights after a resumption", function (start, version)
	if version == "0.12" then return; end

	-- The next connection of alice's authenticates with this role.
	local function resume_as(ctx, old, role)
		local d = ctx:authenticated("alice");
		ctx.srv:eval([[
			for _, s in pairs(module:shared("/*/c2s/sessions")) do
				if s.username == "alice" and s.type == "c2s_unbound" then
					s.role = prosody.hosts.localhost.authz.get_role_by_name(a);
				end
			end
		]], role);
		return d:resume(old);
	end

	it("are the lesser of both", function ()
		local ctx = start { config = config .. "\ncustom_roles = { { name = 'guide' } }", users = users };
		local alice = ctx:resumable { user = "alice" };
		assert.equal("prosody:registered", role_of(ctx, alice.jid));
		ctx:hibernate(alice);
		alice = resume_as(ctx, alice, "prosody:admin");
		assert.equal("prosody:registered", role_of(ctx, alice.jid), "not more than the session had");
		ctx:hibernate(alice);
		alice = resume_as(ctx, alice, "prosody:guest");
		assert.equal("prosody:guest", role_of(ctx, alice.jid), "not more than the connection has");
		ctx:hibernate(alice);
		alice = resume_as(ctx, alice, "guide");
		assert.equal("guide", role_of(ctx, alice.jid), "nor what is another thing altogether");
	end);
end);
