local socket = require "socket";
local t = require "support";

-- Clients that send to each other while their connections are cut, torn in the middle of a stanza, taken over and
-- changed from TCP to WebSocket and back, at random. In the end each has every message of each other one, once and
-- in order. Then again, with a server that is killed now and then, also while it reads its journal, while that is being
-- compacted (for which messages are large), or while somebody resumes: a message may come twice then, if its sender had not
-- been told that it was handled, but none is lost, and every session is resumed.

local steps = tonumber(os.getenv("ENJAMB_STRESS")) or 1500;
local seed = tonumber(os.getenv("ENJAMB_SEED")) or os.time();

local function stress(ctx, it, runs)
	local function run(kills, padding)
		math.randomseed(seed);
		local people = {};

		local function look(p)
			while p.looked < #p.client.seen do
				p.looked = p.looked + 1;
				local el = p.client.seen[p.looked];
				local from, n = (el:is_stanza() and t.bodies { el }[1] or ""):match("^(%d+) (%d+) *$");
				if from then
					local got = p.got[tonumber(from)];
					n = tonumber(n);
					if not (p.may_repeat and n <= #got) then
						assert.equal(#got + 1, n, ("%d got message %d of %s after %d"):format(p.number, n, from, #got));
						got[n] = n;
					end
				end
			end
		end

		local function read(p, seconds)
			if not p.away then p.client:drain(seconds or 0.01); end
			look(p);
		end

		for number = 1, 5 do
			local user = ctx:user();
			people[number] = {
				number = number; user = user; client = ctx:resumable { user = user }; looked = 0;
				sent = {}; sent_to = { 0, 0, 0, 0, 0 }; got = { {}, {}, {}, {}, {} };
			};
		end

		local function send(p)
			local to = people[math.random(#people)];
			p.sent_to[to.number] = p.sent_to[to.number] + 1;
			local stanza = ("<message to='%s' type='chat'><body>%d %d%s</body></message>"):format(to.client.jid, p.number, p.sent_to[to.number],
				(" "):rep(math.random(padding or 1) - 1));
			p.sent[#p.sent + 1] = stanza;
			if not p.away then pcall(p.client.send, p.client, stanza); end
		end

		local function come_back(p)
			local how = ({ "connect", "connect", "websocket" })[math.random(3)];
			local old = p.client;
			local c = ctx:authenticated(p.user, how);
			if not p.away then
				-- What the old connection still brings counts, up to the moment of asking.
				old:drain(0.02);
				look(p);
			end
			p.looked = #c.seen;
			p.client = c:resume(old);
			p.away = false;
			for n = tonumber(c.resumed.attr.h) + 1, #p.sent do c:send(p.sent[n]); end
			if old.cut then old:cut(); end
			look(p);
		end

		local function leave(p)
			if math.random(3) == 1 and p.client.sock then
				pcall(function () p.client.sock:send("<message to='x@localhost' type='chat'><body>torn"); end);
			end
			if math.random(2) == 1 then read(p); end
			look(p);
			p.client:cut();
			p.away = true;
		end

		local function kill()
			for _, p in ipairs(people) do
				if not p.away then
					p.client:drain(0.01);
					look(p);
					p.client:cut();
					p.away = true;
				end
				p.may_repeat = true;
			end
			ctx.srv:kill();
			for _ = 1, math.random(3) - 1 do -- and while it comes back
				ctx.srv:spawn();
				socket.sleep(math.random() * 0.5);
				ctx.srv:kill();
			end
			ctx.srv:launch();
			if math.random(2) == 1 then -- and while somebody resumes
				local p = people[math.random(#people)];
				local c = ctx:authenticated(p.user);
				c:send(("<resume xmlns='%s' previd='%s' h='%d'/>"):format(t.sm3, p.client.token, p.client.h));
				socket.sleep(math.random() * 0.01);
				c:cut();
				ctx.srv:kill();
				ctx.srv:launch();
			end
		end

		for step = 1, steps do
			if kills and step % (steps // kills) == steps // kills // 2 then kill(); end
			local p = people[math.random(#people)];
			local dice = math.random(100);
			if dice <= 55 then
				for _ = 1, math.random(4) do send(p); end
			elseif dice <= 75 then
				read(p);
			elseif dice <= 83 then
				if not p.away then
					read(p, 0.02);
					pcall(p.client.ack, p.client);
				end
			elseif dice <= 88 then
				if not p.away then pcall(p.client.send, p.client, "<r xmlns='urn:xmpp:sm:3'/>"); end
			elseif dice <= 94 then
				if p.away then come_back(p); else leave(p); end
			elseif p.away or dice == 95 then
				come_back(p);
			end
		end

		for _, p in ipairs(people) do
			if p.away then come_back(p); end
		end
		for _, p in ipairs(people) do p.client:sync(30); end
		local function has_all(p)
			for _, from in ipairs(people) do
				if #p.got[from.number] < from.sent_to[p.number] then return false; end
			end
			return true;
		end
		for _, p in ipairs(people) do
			p.client:sync(30);
			-- What is sent again goes out as the connection takes it; an ack may come before the last of it.
			local deadline = socket.gettime() + 20;
			repeat read(p, 0.2); until has_all(p) or socket.gettime() > deadline;
		end
		for _, p in ipairs(people) do
			local h;
			local deadline = socket.gettime() + 20;
			repeat -- the disk may take its time
				h = p.client:ask_h();
			until h == tostring(#p.sent) or socket.gettime() > deadline;
			assert.equal(tostring(#p.sent), h);
			for _, to in ipairs(people) do
				assert.equal(p.sent_to[to.number], #to.got[p.number], ("from %d to %d"):format(p.number, to.number));
			end
		end
	end

	runs(it, run);
end

local name = "what is sent through broken connections (seed " .. seed .. ")";
local opts = { with_http = true, modules = { "websocket" }, config = "smacks_max_queue_size = 10000" };

t.each(name, opts, function (ctx, each)
	stress(ctx, each, function (it, run)
		it("arrives once and in order", function () run(); end);
		it("arrives in order though the server is killed", function () run(10); end);
		it("arrives in order though the server is killed, its journal compacted", function ()
			run(10, 60000);
			local written = ctx.srv:eval("local s = require 'enjamb'.journal.stats(); return { disk = s.disk_bytes, live = s.live_bytes }");
			assert.truthy(written.disk < 64 << 20, written.disk .. " bytes on disk for " .. written.live);
		end);
	end);
end);

t.each(name .. ", with the disk itself asked", {
	with_http = true, modules = { "websocket" }, config = opts.config .. "\nsmacks_durability = 'power'",
}, function (ctx, each)
	stress(ctx, each, function (it, run)
		it("arrives in order though the server is killed", function () run(10); end);
	end);
end);
