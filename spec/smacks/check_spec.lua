local t = require "support";
local it = require "busted".it;
local lfs = require "lfs";

-- prosodyctl mod_smacks check, and what a server says of an installation that does not fit.

local well = "gc = { mode = 'generational' }\nsmacks_hibernation_time = 60";
local options = { config = well, users = { alice = "secret", bob = "secret" }, modules = { "csi_simple", "mam" } };

local function with(changes)
	return setmetatable(changes, { __index = options });
end

local function check(ctx)
	t.server.run("chmod o= "..ctx.srv.dir.."/data");
	local code, out = ctx.srv:prosodyctl("mod_smacks check");
	assert.is_nil(out:find("traceback", 1, true), out);
	return code, out;
end

local function says(out, text)
	assert.truthy(out:find(text, 1, true), ("%s\n-- is not in --\n%s"):format(text, out));
end

-- All that is in the journal.
local function journal_of(ctx)
	local directory, all = ctx.srv.dir.."/data/enjamb-journal", {};
	for name in lfs.dir(directory) do
		all[name] = t.server.read_file(directory.."/"..name);
	end
	return all;
end

-- The installed tree, as another, which may be spoilt.
local function copy_of_tree()
	local _, out = t.server.run("mktemp -d ${TMPDIR:-/tmp}/enjamb-test.XXXXXX");
	local copy = out:match("%S+");
	assert.equal(0, (t.server.run(("cp -r %s/. %s"):format(t.server.quote(t.server.tree), copy))));
	return copy;
end

local function in_tree(tree, f)
	local ok, err = xpcall(f, debug.traceback);
	t.server.run("rm -rf "..t.server.quote(tree));
	assert(ok, err);
end

t.versions("prosodyctl mod_smacks check", function (start)
	it("finds nothing amiss where nothing is, and leaves a server that runs alone", function ()
		local ctx = start(options);
		local alice, bob = ctx:resumable { user = "alice", available = true }, ctx:resumable { user = "bob" };
		ctx:hibernate(alice);
		bob:message(alice.jid, "kept");
		assert.equal("1", bob:ask_h());
		local before = journal_of(ctx);
		local code, out = check(ctx);
		assert.equal(0, code, out);
		says(out, "0 wrong, 0 to be advised of");
		says(out, "the journal is whole, with 2 sessions");
		says(out, "localhost: mod_smacks is enabled");
		assert.same(before, journal_of(ctx));
		ctx:resume(alice):expect({ body = "kept" });
		for name in lfs.dir(ctx.srv.dir.."/data") do
			assert.is_nil(name:match("^enjamb%-check"), name);
		end
	end);

	it("tells of damage to the journal, and does not mend it", function ()
		local ctx = start(options);
		local alice, bob = ctx:resumable { user = "alice", available = true }, ctx:resumable { user = "bob" };
		ctx:hibernate(alice);
		for i = 1, 20 do bob:message(alice.jid, "kept "..i); end
		assert.equal("20", bob:ask_h());
		ctx.srv:kill();
		local directory = ctx.srv.dir.."/data/enjamb-journal";
		local damaged;
		for name, bytes in pairs(journal_of(ctx)) do
			local at = bytes:find("kept 7", 1, true);
			if at then
				damaged = name;
				t.server.write_file(directory.."/"..name, bytes:sub(1, at - 1).."KEPT"..bytes:sub(at + 4));
			end
		end
		local before = journal_of(ctx);
		local code, out = check(ctx);
		assert.equal(1, code, out);
		says(out, "the journal is damaged in 1 places");
		assert.same(before, journal_of(ctx));
		os.execute("chmod go+r "..directory);
		code, out = check(ctx);
		assert.equal(1, code, out);
		says(out, "others may read what is queued for clients: chmod -R go= "..directory);
		-- the damage is told at one start, what it cost until the session ends
		os.execute("chmod go-r "..directory);
		ctx:allow "damaged";
		local expected = { "The journal is damaged in 1 places, 1 sessions miss something", "1 sessions still miss something that was lost earlier" };
		for i = 1, 2 do
			local mark = ctx.srv:log_size();
			ctx.srv:launch();
			ctx.srv:wait_hibernating(alice.jid);
			assert.truthy(ctx.srv:log(mark):find(expected[i], 1, true), ctx.srv:log(mark));
			-- what is whole of the damaged file is copied, and the file removed
			for _ = 1, 300 do
				if not lfs.attributes(directory.."/"..damaged) then break; end
				require "socket".sleep(0.1);
			end
			ctx.srv:kill();
		end
		code, out = check(ctx);
		assert.equal(0, code, out);
		says(out, "1 sessions still miss something that was lost earlier");
	end);

	it("tells of a journal that was overwritten, and so does the server", function ()
		local ctx = start(options);
		local alice = ctx:resumable { user = "alice", available = true };
		ctx:hibernate(alice);
		ctx.srv:kill();
		for name, bytes in pairs(journal_of(ctx)) do
			if #bytes > 0 then
				t.server.write_file(ctx.srv.dir.."/data/enjamb-journal/"..name, ("x"):rep(#bytes));
			end
		end
		local code, out = check(ctx);
		assert.equal(1, code, out);
		says(out, "the journal is damaged in 1 places");
		ctx:allow "damaged";
		local mark = ctx.srv:log_size();
		ctx.srv:launch();
		ctx.srv:wait_for("return prosody.start_time and true");
		assert.truthy(ctx.srv:log(mark):find("The journal is damaged in 1 places", 1, true), ctx.srv:log(mark));
	end);

	it("tells of options that are not understood, and what could be better", function ()
		local ctx = start(with {
			launch = false, modules = {}, gc = false;
			config = "smacks_hibernation_tim = 60\nsmacks_max_queue_size = 'many'\nsmacks_durability = 'disk'";
			host_config = "minimix_max_server_bytes = 1000\nmodules_disabled = { 'offline' }";
		});
		local code, out = check(ctx);
		assert.equal(1, code, out);
		says(out, "there is no option smacks_hibernation_tim");
		says(out, "the option smacks_max_queue_size must be a number from 1");
		says(out, "the option smacks_durability must be \"process\", \"power\", \"replicated\", \"none\"");
		says(out, "the option minimix_max_server_bytes (of localhost) holds for the whole server");
		says(out, "gc = { mode = \"generational\" }");
		says(out, "csi_simple");
		says(out, "\"mam\"");
		says(out, "mod_offline is disabled");
		says(out, "4 wrong, 4 to be advised of");
		ctx.srv:rewrite_config { smacks = false };
		code, out = check(ctx);
		assert.equal(1, code, out);
		says(out, "localhost: put \"smacks\" into modules_enabled");
	end);

	it("knows every option that there is", function ()
		local ctx = start(with { launch = false });
		local names = {};
		for name in t.server.read_file("README.md"):gmatch("`(smacks_[%w_]+)` |") do names[name] = true; end
		for name in t.server.read_file("docs/minimix.md"):gmatch("`(minimix_[%w_]+)` |") do names[name] = true; end
		assert.truthy(names.smacks_kept_fields and names.minimix_muc2_pam);
		local lines = {};
		for name in pairs(names) do lines[#lines+1] = name.." = {}"; end
		ctx.srv:rewrite_config { config = table.concat(lines, "\n") };
		local _, out = check(ctx);
		assert.is_nil(out:find("there is no option", 1, true), out);
	end);

	it("tells of a library that does not fit, and so does the server, in a sentence", function ()
		local tree = copy_of_tree();
		in_tree(tree, function ()
			local library = tree.."/lib/lua/5.4/enjamb.so";
			local bytes = t.server.read_file(library);
			os.remove(library);
			t.server.write_file(library, bytes:sub(1, 18).."\183"..bytes:sub(20)); -- of an ARM
			local ctx = start(with { config = well.."\ninstaller_plugin_path = '"..tree.."'" });
			local code, out = check(ctx);
			assert.equal(1, code, out);
			says(out, "WRONG   Enjamb's library could not be loaded: "..library);
			ctx.srv:terminate();
			says(ctx.srv:log(), "Enjamb's library could not be loaded: "..library);
			assert.is_nil(ctx.srv:log():find("stack traceback", 1, true));
		end);
	end);

	it("tells of modules and a library that are not of the same version, and so does the server", function ()
		local tree = copy_of_tree();
		in_tree(tree, function ()
			local shim = tree.."/share/lua/5.4/mod_smacks/mod_smacks.lua";
			local changed, n = t.server.read_file(shim):gsub("\nlocal version = \"[^\"]*\"", "\nlocal version = \"0.0.9\"");
			assert.equal(1, n);
			t.server.write_file(shim, changed);
			local ctx = start(with { config = well.."\ninstaller_plugin_path = '"..tree.."'" });
			local code, out = check(ctx);
			assert.equal(1, code, out);
			says(out, shim.." is of version 0.0.9, and the library of ");
			ctx.srv:terminate();
			says(ctx.srv:log(), "mod_smacks is of Enjamb 0.0.9, the library in memory of ");
			assert.is_nil(ctx.srv:log():find("stack traceback", 1, true));
		end);
	end);
end);
