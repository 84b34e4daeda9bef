-- All of it at once, at random: rooms made and destroyed, people thrown out, connections that break and come back, the module
-- reloaded. In the end each client's picture of each room is the room's.

local muc = require "support.muc";

local seeds = tonumber(os.getenv("ENJAMB_SEEDS")) or 4;

muc.account("rooms at random", { config = "smacks_hibernation_time = 60" }, function (ctx, it)
	for seed = 1, seeds do
		it("seed " .. seed, function ()
			math.randomseed(seed);
			local rooms, owner = {}, muc.client(ctx, { host = "plain.localhost" });
			for i = 1, 3 do
				rooms[i] = muc.new_room();
				muc.enter(owner, rooms[i], "owner");
				muc.configure(owner, rooms[i], { ["muc#roomconfig_persistentroom"] = i == 1 and "1" or "0" });
			end
			local all = {};
			for account = 1, 3 do
				local user = ctx:user();
				for _ = 1, 2 do
					all[#all + 1] = { c = ctx:resumable { user = user, available = true }, nick = "n" .. account, account = account };
				end
			end
			-- what a client was given over all its connections
			local function seen(who)
				local c = who.c;
				who.seen = who.seen or {};
				for i = who.from or 1, #c.seen do table.insert(who.seen, c.seen[i]); end
				who.from = #c.seen + 1;
				return { seen = who.seen };
			end
			local function back(who)
				if not who.away then return; end
				seen(who);
				who.c = ctx:resume(who.c);
				who.from, who.away = 1, false;
			end
			local trail = {};
			for step = 1, 150 do
				local who, room = all[math.random(#all)], rooms[math.random(#rooms)];
				local what = math.random(20);
				trail[#trail + 1] = ("%d: client %d, %s, %d"):format(step, who.account, room, what);
				local to = ("to='%s/%s'"):format(room, who.nick);
				if what == 1 and not who.away then
					who.c:ack();
					who.c:sync();
					ctx:hibernate(who.c);
					who.away = true;
				elseif what == 2 then back(who);
				elseif what == 3 then
					muc.admin(owner, room, { role = "none", nick = "n" .. math.random(3) });
				elseif what == 4 and step % 3 == 0 then
					-- in one breath, so that nobody else comes first and owns it
					owner:send(("<iq type='set' id='d' to='%s'><query xmlns='%s'><destroy/></query></iq>"):format(room, muc.ns_owner)
						.. ("<presence to='%s/owner'><x xmlns='%s'/></presence>"):format(room, muc.ns)
						.. ("<iq type='set' id='c' to='%s'><query xmlns='%s'><x xmlns='jabber:x:data' type='submit'/></query></iq>"):format(
							room, muc.ns_owner));
					owner:sync();
				elseif what == 5 and step % 4 == 0 then
					ctx.srv:eval([[return require "core.modulemanager".reload("localhost", "minimix") and true]]);
				elseif not who.away then
					if what <= 8 then who.c:send(("<presence type='unavailable' %s/>"):format(to));
					elseif what <= 10 then who.c:send(("<presence to='%s/%sx'/>"):format(room, who.nick));
					elseif what <= 12 then who.c:send(("<presence %s><status>%d</status></presence>"):format(to, step));
					elseif what == 13 then
						who.c:presence("unavailable");
						who.c:presence();
					elseif what <= 15 then muc.say(who.c, room, "m" .. step);
					else muc.join(who.c, room, who.nick); end
					if math.random(2) == 1 then who.c:sync(); end
				end
			end
			for _, who in ipairs(all) do back(who); end
			for _ = 1, 2 do
				owner:sync();
				for _, who in ipairs(all) do who.c:sync(); end
			end
			for _, room in ipairs(rooms) do
				local truth = muc.truth(ctx.srv, room);
				local inside = {};
				for _, real in ipairs(muc.sessions(ctx.srv, room)) do inside[muc.bare(real)] = true; end
				assert.same(truth, muc.picture(owner, room));
				local believed = {};
				for i, who in ipairs(all) do
					local picture = muc.picture(seen(who), room);
					if next(picture) then
						believed[who.c.bare] = true;
						assert.same(truth, picture, ("client %d (%s) of %s\n%s"):format(i, who.c.jid, room, table.concat(trail, "\n")));
					end
				end
				for _, who in ipairs(all) do
					assert.equal(inside[who.c.bare], believed[who.c.bare], who.c.bare .. " in " .. room .. "\n" .. table.concat(trail, "\n"));
				end
			end
		end);
	end
end);
