-- Accounts that are gone at the next start, removed where accounts are kept: nobody fires user-deleted.

local it = require "busted".it;
local muc = require "support.muc";
local server = require "support.server";
local eventually = muc.eventually;

local function remove_account(srv, username, host)
	assert(os.remove(("%s/data/%s/accounts/%s.dat"):format(srv.dir, host or "localhost", username)));
end

local function has_record(srv, username)
	return srv:eval("return host_module('localhost', 'minimix').module:open_store('minimix'):get(a) ~= nil", username);
end

local function errors(srv)
	return srv:log(srv.log_mark):match("\terror\t[^\n]*minimix[^\n]*") or srv:log(srv.log_mark):match("[^\n]*minimix\terror[^\n]*")
		or srv:log(srv.log_mark):match("[^\n]*It is not known[^\n]*");
end

muc.versions("an account that is gone at the next start", function (start)
	for _, how in ipairs { "kill", "terminate" } do
		it("leaves the rooms that it was in, by " .. how, function ()
			local ctx = muc.start(start, { config = "smacks_hibernation_time = 60" });
			local srv = ctx.srv;
			local owner = ctx:resumable { available = true };
			local room = muc.open(ctx, { owner = owner });
			local offline = muc.client(ctx);
			muc.bookmark(offline, room, true, "offline");
			eventually("in", function () assert.truthy(muc.truth(srv, room).offline); end);
			offline:close();
			srv:wait_gone(offline.jid);
			local waiting = ctx:resumable { available = true };
			muc.bookmark(waiting, room, true, "waiting");
			muc.enter(waiting, room, "waiting");
			owner:ack();
			waiting:ack();
			muc.settle(owner, waiting);
			srv[how](srv, 60);
			owner:cut();
			waiting:cut();
			remove_account(srv, offline.username);
			remove_account(srv, waiting.username);
			srv:launch();
			owner = ctx:resume(owner);
			for _, nick in ipairs { "offline", "waiting" } do
				eventually(nick .. " is out", function () assert.is_nil(muc.truth(srv, room)[nick]); end);
				muc.saw(owner, muc.presence_of(room, nick, "unavailable"));
			end
			assert.truthy(muc.truth(srv, room).owner);
			assert.is_false(has_record(srv, offline.username));
			assert.is_false(has_record(srv, waiting.username));
			assert.is_nil(errors(srv));
		end);
	end

	it("leaves rooms of other servers", function ()
		local a, b = muc.two_servers(start, { config = 'minimix_offline = "stay"', modules = { "pep" } });
		local room, owner = muc.open(b, { service = "rooms.b.test" });
		local ada = muc.client(a);
		muc.enter(ada, room, "ada", { seconds = 10 });
		ada:close();
		a.srv:wait_gone(ada.jid);
		assert.is_true(a.srv:terminate(60));
		remove_account(a.srv, ada.username, "a%2etest");
		a.srv:launch();
		owner:expect(muc.presence_of(room, "ada", "unavailable"), 20);
	end);

	it("is not taken for one while nobody can tell", function ()
		local ctx = muc.start(start, { config = 'storage = { accounts = "test_faulty" }' });
		local srv = ctx.srv;
		local room = muc.open(ctx);
		local ada = muc.client(ctx);
		muc.bookmark(ada, room, true, "ada");
		eventually("in", function () assert.truthy(muc.truth(srv, room).ada); end);
		ada:close();
		srv:wait_gone(ada.jid);
		assert.is_true(srv:terminate(60));
		server.write_file(srv.dir .. "/data/faults", "get error");
		srv:launch();
		srv:wait_for("return prosody.test_faults and prosody.test_faults > 4");
		assert.truthy(muc.truth(srv, room).ada);
		os.remove(srv.dir .. "/data/faults");
		eventually("its bookmarks are known", function ()
			assert.truthy(srv:log(srv.log_mark):find("The bookmarks of " .. ada.bare .. " are known now", 1, true));
		end, 60);
		assert.truthy(muc.truth(srv, room).ada);
		assert.is_true(has_record(srv, ada.username));
	end);
end);
