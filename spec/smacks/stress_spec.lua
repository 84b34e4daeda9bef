local t = require "support";

-- Clients that send to each other while their connections are cut, torn in the middle of a stanza, taken over and
-- changed from TCP to WebSocket and back, at random. In the end each has every message of each other one, once and
-- in order.

local steps = tonumber(os.getenv("ENJAMB_STRESS")) or 1500;
local seed = tonumber(os.getenv("ENJAMB_SEED")) or os.time();

t.each("what is sent through broken connections (seed " .. seed .. ")", { with_http = true, modules = { "websocket" } }, function (ctx, it)
	it("arrives once and in order", function ()
		math.randomseed(seed);
		local people = {};

		local function look(p)
			while p.looked < #p.client.seen do
				p.looked = p.looked + 1;
				local el = p.client.seen[p.looked];
				local from, n = (el:is_stanza() and t.bodies { el }[1] or ""):match("^(%d+) (%d+)$");
				if from then
					local got = p.got[tonumber(from)];
					assert.equal(#got + 1, tonumber(n), ("%d got message %s of %s after %d"):format(p.number, n, from, #got));
					got[#got + 1] = n;
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
			local stanza = ("<message to='%s' type='chat'><body>%d %d</body></message>"):format(to.client.jid, p.number, p.sent_to[to.number]);
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

		for _ = 1, steps do
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
		for _, p in ipairs(people) do
			p.client:sync(30);
			read(p, 0.2);
		end
		for _, p in ipairs(people) do
			assert.equal(tostring(#p.sent), p.client:ask_h());
			for _, to in ipairs(people) do
				assert.equal(p.sent_to[to.number], #to.got[p.number], ("from %d to %d"):format(p.number, to.number));
			end
		end
	end);
end);
