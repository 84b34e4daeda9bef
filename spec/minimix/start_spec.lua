local it = require "busted".it;
local muc = require "support.muc";
local server = require "support.server";
local eventually = muc.eventually;

local function record_path(srv, username)
	return ("%s/data/localhost/minimix/%s.dat"):format(srv.dir, username);
end

local function record(srv, username)
	local f = loadfile(record_path(srv, username), "t", {});
	return f and f() or nil;
end

local function rooms_of(srv, username)
	local kept = record(srv, username);
	local out = {};
	for room in pairs(kept and kept.rooms or {}) do out[#out + 1] = room; end
	table.sort(out);
	return out;
end

-- Two rooms that are not there, in the order in which rooms_of() has them.
local function two_rooms()
	local a, b = muc.new_room(), muc.new_room();
	if b < a then return b, a; end
	return a, b;
end

local function count(text, pattern)
	local _, n = text:gsub(pattern, "");
	return n;
end

local function lua_string(text)
	return ("%q"):format(text);
end

-- Records that nobody wrote, by what is wrong with them.
local function records(room)
	local function with(membership)
		return ("return { version = 1, rooms = { [%q] = %s } };"):format(room, membership);
	end
	local function client(fields)
		return with("{ nick = 'x', clients = { { " .. fields .. " } } }");
	end
	return {
		torn = "return { version = 1, rooms = {",
		throws = "error('no')",
		text = "return 'rooms'",
		number = "return 1",
		version = "return { version = 2, rooms = {} };",
		noversion = "return { rooms = {} };",
		roomstext = "return { version = 1, rooms = 'none' };",
		roomsnone = "return { version = 1 };",
		roomarray = "return { version = 1, rooms = { 'a@rooms.localhost', { nick = 'x' } } };",
		roomaddress = "return { version = 1, rooms = { ['@@'] = { nick = 'x' } } };",
		membershiptext = with("'x'"),
		nonick = with("{ clients = {} }"),
		nicknumber = with("{ nick = 5, clients = {} }"),
		nickempty = with("{ nick = '', clients = {} }"),
		nicklong = with("{ nick = ('n'):rep(5000000), clients = {} }"):gsub("%('n'%):rep%(5000000%)", lua_string(("n"):rep(5000000))),
		clientstext = with("{ nick = 'x', clients = 'phone' }"),
		clientsnumber = with("{ nick = 'x', clients = { 1, 2 } }"),
		noresource = client "asked = 'x', presence = '<presence/>'",
		resourcenumber = client "resource = 1, asked = 'x', presence = '<presence/>'",
		presencenumber = client "resource = 'phone', asked = 'x', presence = 5",
		presencetable = client "resource = 'phone', asked = 'x', presence = {}",
		presencetorn = client "resource = 'phone', asked = 'x', presence = '<presence>'",
		presencelong = client("resource = 'phone', asked = 'x', presence = " .. lua_string("<presence>" .. ("x"):rep(2000000) .. "</presence>")),
		waitsnumber = with "{ nick = 'x', pam = 'yes', clients = {}, pam_waiting = 7 }",
		waitinghuge = with "{ nick = 'x', clients = {}, pam_waiting = { { resource = {}, id = 1e300 } } }",
		passwordtable = with "{ nick = 'x', clients = {}, password = {} }",
	};
end

muc.versions("accounts at the start", function (start)
	it("a damaged record costs its account alone, and stays as it is", function ()
		local ctx = muc.start(start, { config = 'minimix_offline = "stay"' });
		local srv = ctx.srv;
		local room = muc.open(ctx);
		local ada = muc.client(ctx);
		muc.enter(ada, room, "ada");
		assert.is_true(srv:terminate(60));
		local texts = records(room);
		for name, text in pairs(texts) do
			srv:adduser(name, "secret");
			server.write_file(record_path(srv, name), text);
		end
		-- one good room, one that is not
		local other, damaged = two_rooms();
		srv:adduser("half", "secret");
		server.write_file(record_path(srv, "half"),
			("return { version = 1, rooms = { [%q] = { nick = 'half', clients = {} }, [%q] = { nick = 7 } } };"):format(other, damaged));
		for _ = 1, 2 do
			srv:launch();
			eventually("the others are in", function () assert.truthy(muc.truth(srv, room).ada); end);
			assert.truthy(muc.truth(srv, other).half);
			for name, text in pairs(texts) do
				assert.is_true(server.read_file(record_path(srv, name)) == text, name .. " was overwritten");
			end
			assert.same({ other, damaged }, rooms_of(srv, "half"));
			assert.same({ nick = 7 }, record(srv, "half").rooms[damaged]);
			assert.is_true(srv:terminate(60));
		end
		local log = srv:log();
		assert.truthy(log:find("half@localhost[^\n]*" .. damaged), "the log does not say what is wrong with a room");
		assert.truthy(log:find("error\tIt is not known which rooms %w+@localhost was in"), "the log does not say what is not known");
		assert.truthy(log:find("Traceback", 1, true) == nil, "something was not caught");
		-- who is not known can use its rooms all the same, and when its record is mended all is well
		srv:launch();
		local torn = muc.client(ctx, { user = "torn" });
		local third = muc.new_room();
		muc.enter(torn, third, "torn");
		assert.is_true(server.read_file(record_path(srv, "torn")) == texts.torn);
		server.write_file(record_path(srv, "torn"), ("return { version = 1, rooms = { [%q] = { nick = 'torn', clients = {} } } };"):format(room));
		muc.client(ctx, { user = "torn" });
		eventually("the mended record is taken up", function ()
			assert.truthy(muc.truth(srv, room).torn);
			assert.equal(2, #rooms_of(srv, "torn"));
		end, 60);
	end);

	it("an empty presence of a client that comes back is one without anything in it", function ()
		local ctx = muc.start(start, { config = "smacks_hibernation_time = 60" });
		local room = muc.new_room();
		local ada = ctx:resumable { available = true };
		muc.enter(ada, room, "ada");
		ada:ack();
		ada:sync();
		ctx.srv:kill();
		ada:cut();
		local path = record_path(ctx.srv, ada.username);
		local text, n = server.read_file(path):gsub('(%["presence"%] = )"[^\n]*";\n', '%1"";\n');
		assert.equal(1, n);
		server.write_file(path, text);
		ctx.srv:launch();
		local back = ctx:resume(ada);
		eventually("in", function () back:sync(); assert.truthy(muc.truth(ctx.srv, room).ada); end);
		muc.say(back, room, "hello");
		back:expect(muc.groupchat(room, "ada", "hello"));
	end);

	it("a kill in the middle of the start forgets no rooms", function ()
		local ctx = muc.start(start, { config = 'minimix_offline = "stay"', extra = [[
Component "deadly.localhost" "muc"
	modules_enabled = { "test_deadly" }
	muc_room_locking = false
	restrict_room_creation = false
]] });
		local srv = ctx.srv;
		local ada = muc.client(ctx);
		local rooms = {};
		for i = 1, 10 do
			rooms[i] = ("room%d@deadly.localhost"):format(i);
			muc.enter(ada, rooms[i], "ada");
		end
		table.sort(rooms);
		assert.is_true(srv:terminate(60));
		assert.same(rooms, rooms_of(srv, ada.username));
		for deadly = 1, 10, 3 do
			server.write_file(srv.dir .. "/data/deadly", tostring(deadly));
			srv:spawn();
			srv:wait_ended(60);
			assert.same(rooms, rooms_of(srv, ada.username), "killed at join " .. deadly);
		end
		os.remove(srv.dir .. "/data/deadly");
		srv:launch();
		for _, room in ipairs(rooms) do
			eventually("in again", function () assert.truthy(muc.truth(srv, room).ada); end);
		end
		assert.same(rooms, rooms_of(srv, ada.username));
	end);

	for _, fault in ipairs { "users error", "users throw", "get error", "get throw" } do
		it("a storage that fails is no answer: " .. fault, function ()
			local ctx = muc.start(start, { config = 'minimix_offline = "stay"; storage = { minimix = "test_faulty" }' });
			local srv = ctx.srv;
			local room, other = two_rooms();
			local ada = muc.client(ctx);
			muc.enter(ada, room, "ada");
			ada:close();
			srv:wait_gone(ada.jid);
			srv:kill();
			server.write_file(srv.dir .. "/data/faults", fault);
			srv:launch();
			local mark = srv.log_mark;
			local back = muc.client(ctx, { user = ada.username });
			muc.enter(back, other, "ada");
			if fault:match("get") then
				assert.same({ room }, rooms_of(srv, ada.username));
				assert.truthy(muc.truth(srv, room).ada); -- the room of this server has her, whatever is known of it here
			end
			-- it is told once, though it is tried again
			srv:wait_for("return prosody.test_faults and prosody.test_faults > 2");
			assert.equal(1, count(srv:log(mark), "\terror\t[^\n]*the disk"), srv:log(mark));
			os.remove(srv.dir .. "/data/faults");
			eventually("in all of its rooms", function ()
				assert.truthy(muc.truth(srv, room).ada);
				assert.truthy(muc.truth(srv, other).ada);
				assert.same({ room, other }, rooms_of(srv, ada.username));
			end, 60);
			back:close();
			assert.is_true(srv:terminate(60));
			srv:launch();
			eventually("in all of its rooms again", function ()
				assert.truthy(muc.truth(srv, room).ada);
				assert.truthy(muc.truth(srv, other).ada);
			end);
		end);
	end

	for _, fault in ipairs { "set error", "set throw" } do
		it("what could not be saved is saved later: " .. fault, function ()
			local ctx = muc.start(start, { config = 'minimix_offline = "stay"; storage = { minimix = "test_faulty" }' });
			local srv = ctx.srv;
			server.write_file(srv.dir .. "/data/faults", fault);
			local mark = srv:log_size();
			local room, other = two_rooms();
			local ada = muc.client(ctx);
			muc.enter(ada, room, "ada");
			muc.enter(ada, other, "ada");
			assert.same({}, rooms_of(srv, ada.username));
			assert.equal(1, count(srv:log(mark), "\terror\t"), srv:log(mark));
			os.remove(srv.dir .. "/data/faults");
			eventually("saved", function () assert.same({ room, other }, rooms_of(srv, ada.username)); end, 60);
		end);
	end

	for _, fault in ipairs { "get error", "get throw" } do
		it("bookmarks that cannot be read are no answer: " .. fault, function ()
			local ctx = muc.start(start, { config = 'storage = { pep = "test_faulty" }' });
			local srv = ctx.srv;
			local room = muc.new_room();
			local ada = muc.client(ctx);
			muc.bookmark(ada, room, true, "ada");
			eventually("in", function () assert.truthy(muc.truth(srv, room).ada); end);
			ada:close();
			assert.is_true(srv:terminate(60));
			server.write_file(srv.dir .. "/data/faults", fault);
			srv:launch();
			eventually("in", function () assert.truthy(muc.truth(srv, room).ada); end);
			assert.equal(1, count(srv:log(srv.log_mark), "\terror\tIt is not known which bookmarks"), srv:log(srv.log_mark));
			assert.same({ room }, rooms_of(srv, ada.username));
			assert.truthy(srv:alive());
		end);
	end
end);
