-- Two clients of one account, by other people's libraries, in a room with 200 others who come, go, talk, change their nicks
-- and are thrown out: both must have the room's occupants, and the same messages in the same order. See README.md.

local t = require "support";
local muc = require "support.muc";
local process = require "support.process";
local socket = require "socket";

local server = t.server;
local here = server.top .. "/spec/clients";
local build = os.getenv("ENJAMB_CLIENTS") or "build/clients";
if build:sub(1, 1) ~= "/" then build = server.top .. "/" .. build; end

local installed = server.run("test -x " .. server.quote(build .. "/venv/bin/python3")
	.. " -a -e " .. server.quote(build .. "/node/installed")) == 0;

local programs = {
	slixmpp = server.quote(build .. "/venv/bin/python3") .. " " .. server.quote(here .. "/slixmpp_room.py");
	["@xmpp/client"] = "env ENJAMB_CLIENT_MODULES=" .. server.quote(build .. "/node") .. " node " .. server.quote(here .. "/xmpp-js/room.mjs");
};

local function with_tls(srv)
	local key, certificate = srv.dir .. "/certs/test.key", srv.dir .. "/certs/test.crt";
	local code, out = server.run(("openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=%s "
		.. "-addext subjectAltName=DNS:%s -keyout %s -out %s"):format(srv.host, srv.host, server.quote(key), server.quote(certificate)));
	assert(code == 0, out);
	return ("ssl = { key = %q; certificate = %q }"):format(key, certificate);
end

if not installed then
	describe("two libraries in one room", function ()
		it("work", function ()
			local message = "not installed in " .. build .. ": run spec/clients/install.sh " .. build;
			if os.getenv("ENJAMB_CLIENTS") then error(message, 0); end
			pending(message);
		end);
	end);
	return;
end

muc.account("two libraries in one room", { modules = { "tls" }, config = with_tls }, function (ctx, it)
	after_each(process.stop_all);

	local function fields(line)
		local out = {};
		for field in (line .. "\t"):gmatch("([^\t]*)\t") do out[#out + 1] = field; end
		return out;
	end

	-- Waits until a program has printed such a line (the n-th) and returns its fields.
	local function wait(program, word, n)
		local deadline = socket.gettime() + 60;
		while true do
			local found = {};
			program:poll();
			for _, line in ipairs(program.lines) do
				local f = fields(line);
				if f[1] == word then table.insert(found, f); end
				if f[1] == "failed" then error("failed: " .. program:describe(), 2); end
			end
			if #found >= (n or 1) then return found[n or 1]; end
			if socket.gettime() > deadline then error("never said " .. word .. ": " .. program:describe(), 2); end
			socket.sleep(0.02);
		end
	end

	local function lines_of(program, word)
		local out = {};
		program:poll();
		for _, line in ipairs(program.lines) do
			local f = fields(line);
			if f[1] == word then out[#out + 1] = table.concat(f, " ", 2); end
		end
		return out;
	end

	local function order(program, ...)
		program.input:write(table.concat({ ... }, "\t") .. "\n");
	end

	for others, names in pairs { [200] = { "slixmpp", "@xmpp/client" }; [40] = { "@xmpp/client", "slixmpp" } } do
		it(("have the same occupants and messages: %s, then %s, with %d others"):format(names[1], names[2], others), function ()
			local room, owner = muc.open(ctx);
			muc.say(owner, room, nil, nil, "<subject>Two clients</subject>");
			local crowd = {};
			local function come(i)
				local c = muc.client(ctx, i % 2 == 0 and { host = "plain.localhost" } or nil);
				muc.enter(c, room, "n" .. i, { history = { maxstanzas = 0 } });
				table.insert(crowd, { c = c, nick = "n" .. i });
			end
			for i = 1, others do come(i); end

			local user = ctx:user("two");
			local clients = {};
			local dir = ctx.srv.dir .. "/rooms" .. math.random(1000000);
			assert(server.run("mkdir " .. server.quote(dir)) == 0);
			for i, name in ipairs(names) do
				clients[i] = process.start(dir, "client" .. i, ("%s --jid %s@%s/c%d --password secret --host %s --port %d%s"):format(
					programs[name], user, ctx.srv.host, i, ctx.srv.address, ctx.srv.c2s,
					os.getenv("ENJAMB_CLIENTS_VERBOSE") and " --verbose" or ""));
				wait(clients[i], "ready");
				order(clients[i], "join", room, i == 1 and "ada" or "lovelace");
				local joined = wait(clients[i], "joined");
				assert.equal("ada", joined[2]);
				assert.equal("Two clients", joined[4]);
			end
			local sessions = 0;
			for _, real in ipairs(muc.sessions(ctx.srv, room)) do
				if muc.bare(real) == user .. "@" .. ctx.srv.host then sessions = sessions + 1; end
			end
			assert.equal(1, sessions);

			-- a day in the room
			math.randomseed(7);
			local said = 0;
			for i = 1, 150 do
				local n = math.random(#crowd);
				local who = crowd[n];
				local what = math.random(10);
				if what <= 5 then
					said = said + 1;
					muc.say(who.c, room, "m" .. said);
				elseif what == 6 then
					muc.left(who.c, room, who.nick);
					who.c:cut();
					table.remove(crowd, n);
				elseif what == 7 then
					come(others + i);
				elseif what == 8 then
					who.nick = who.nick .. "x";
					who.c:send(("<presence to='%s/%s'/>"):format(room, who.nick));
				elseif what == 9 then
					who.c:send(("<presence to='%s/%s'><show>away</show></presence>"):format(room, who.nick));
				else
					muc.admin_ok(owner, room, { role = "none", nick = who.nick });
					table.remove(crowd, n);
				end
				if not who.c.closed then who.c:sync(); end
				if i % 25 == 0 then
					order(clients[i % 2 + 1], "say", "from client " .. i % 2 + 1 .. " at " .. i);
				end
			end
			order(clients[1], "nick", "countess");
			wait(clients[2], names[2] == "slixmpp" and "ready" or "renamed");
			owner:expect(muc.presence_of(room, "countess"), 10);
			muc.say(owner, room, "the end");
			owner:expect(muc.groupchat(room, "owner", "the end"));
			local expected = {};
			for _, el in ipairs(owner.seen) do
				if el.name == "message" and el.attr.type == "groupchat" and el:body() and not t.delay(el) then
					expected[#expected + 1] = ("%s %s %s"):format(muc.nick_of(el.attr.from), el.attr.id, el:body());
				end
			end
			local truth = {};
			for nick in pairs(muc.truth(ctx.srv, room)) do truth[#truth + 1] = nick; end
			table.sort(truth);
			assert.truthy(#truth > others / 2 and #expected > 40);
			for i, client in ipairs(clients) do
				local deadline = socket.gettime() + 60;
				repeat
					local heard = lines_of(client, "heard");
					socket.sleep(0.02);
				until heard[#heard] and heard[#heard]:match("the end$") or socket.gettime() > deadline;
				assert.same(expected, lines_of(client, "heard"), names[i]);
				order(client, "roster");
				local roster = table.move(wait(client, "roster"), 2, #truth + 10, 1, {});
				assert.same(truth, roster, names[i]);
				order(client, "ping");
				assert.equal("yes", wait(client, "pinged")[2]);
			end

			-- one of them goes and comes back
			order(clients[1], "leave");
			wait(clients[1], "left");
			muc.say(owner, room, "only one");
			owner:expect(muc.groupchat(room, "owner", "only one"));
			order(clients[1], "join", room, "countess");
			local again = wait(clients[1], "joined", 2);
			assert.equal("countess", again[2]);
			assert.equal("5", again[3]);
			order(clients[1], "roster");
			assert.same(truth, table.move(wait(clients[1], "roster", 2), 2, #truth + 10, 1, {}));
			for i = #clients, 1, -1 do -- the second has a copy of the first one's input
				local client = clients[i];
				local everything = client:describe();
				assert(client:stop(), "the client didn't end\n" .. everything);
			end
			owner:expect(muc.presence_of(room, "countess", "unavailable"), 10);
			muc.in_step(ctx, room, owner);
			-- all out at once: cheaper than 200 who leave one by one
			owner:iq("set", ("<query xmlns='%s'><destroy/></query>"):format(muc.ns_owner), room);
		end);
	end
end);
