local t = require "support";
local muc = require "support.muc";
local st_x = "require 'util.stanza'.stanza('x', { xmlns = 'http://jabber.org/protocol/muc#user' })";

muc.ordinary("keeping order in a room", {}, function (ctx, it)
	local function three(opts)
		local room, owner = muc.open(ctx, opts);
		local ada = muc.guest(ctx, room, "ada", nil, owner);
		return room, owner, ada, muc.guest(ctx, room, "bob", nil, owner, ada);
	end

	local function refuses_messages(c, room)
		local id = muc.say(c, room, "still here?");
		local err = c:expect({ name = "message", type = "error", id = id });
		assert.equal("not-acceptable", (t.condition(err:child("error"))));
	end

	it("a kick: 307 for all, by whom and why", function ()
		local room, owner, ada, bob = three();
		muc.admin_ok(owner, room, { role = "none", nick = "ada", reason = "noise" });
		local own = ada:expect(muc.presence_of(room, "ada", "unavailable"));
		assert.equal("110 307", muc.codes(own));
		assert.equal(ada.jid, own.attr.to);
		assert.equal("none", muc.item(own).attr.role);
		assert.equal("noise", muc.item(own):child_text("reason"));
		assert.equal("owner", muc.item(own):child("actor").attr.nick);
		for _, c in ipairs { owner, bob } do
			assert.equal("307", muc.codes(muc.saw(c, muc.presence_of(room, "ada", "unavailable"))));
		end
		muc.in_step(ctx, room, owner, bob);
	end);

	it("whoever was kicked hears nothing more and may not speak", function ()
		local room, owner, ada = three();
		muc.admin_ok(owner, room, { role = "none", nick = "ada" });
		ada:expect(muc.presence_of(room, "ada", "unavailable"));
		local mark = muc.mark(ada);
		muc.say(owner, room, "peace");
		muc.settle(owner, ada);
		assert.same({}, muc.got_from(ada, mark, room));
		refuses_messages(ada, room);
	end);

	it("whoever was kicked may come back, and sees the room as it is", function ()
		local room, owner, ada, bob = three();
		muc.admin_ok(owner, room, { role = "none", nick = "ada" });
		ada:expect(muc.presence_of(room, "ada", "unavailable"));
		muc.left(bob, room, "bob");
		muc.guest(ctx, room, "eve", nil, owner);
		muc.say(owner, room, "meanwhile");
		muc.settle(owner);
		local entry = muc.enter(ada, room, "ada");
		assert.same({ "eve", "owner" }, entry.nicks);
		assert.same({ "meanwhile" }, t.bodies(entry.history));
		muc.in_step(ctx, room, owner, ada);
	end);

	it("a ban: 301 for all, and no way back", function ()
		local room, owner, ada, bob = three();
		muc.admin_ok(owner, room, { affiliation = "outcast", jid = ada.bare, reason = "treason" });
		local own = ada:expect(muc.presence_of(room, "ada", "unavailable"));
		assert.equal("110 301", muc.codes(own));
		assert.equal("outcast", muc.item(own).attr.affiliation);
		assert.equal("treason", muc.item(own):child_text("reason"));
		for _, c in ipairs { owner, bob } do
			assert.equal("301", muc.codes(muc.saw(c, muc.presence_of(room, "ada", "unavailable"))));
		end
		assert.equal("forbidden", (muc.refused(ada, room, "ada")));
		refuses_messages(ada, room);
		muc.in_step(ctx, room, owner, bob);
		muc.admin_ok(owner, room, { affiliation = "none", jid = ada.bare });
		muc.enter(ada, room, "ada");
		muc.in_step(ctx, room, owner, ada, bob);
	end);

	it("a ban is in the list of bans", function ()
		local room, owner, ada = three();
		muc.admin_ok(owner, room, { affiliation = "outcast", jid = ada.bare });
		local list = owner:iq("get", "<query xmlns='" .. muc.ns_admin .. "'><item affiliation='outcast'/></query>", room);
		assert.equal(ada.bare, list:child("query"):child("item").attr.jid);
	end);

	it("one may not kick who isn't a moderator", function ()
		local room, owner, ada, bob = three();
		local answer = muc.admin(ada, room, { role = "none", nick = "bob" });
		assert.equal("error", answer.attr.type);
		assert.equal("not-allowed", (t.condition(answer:child("error"))));
		assert.equal(room, answer.attr.from);
		muc.in_step(ctx, room, owner, ada, bob);
	end);

	it("a moderator who is no owner may kick", function ()
		local room, owner, ada, bob = three();
		muc.admin_ok(owner, room, { role = "moderator", nick = "ada" });
		ada:expect(function (el) return muc.presence_of(room, "ada")(el) and muc.item(el).attr.role == "moderator"; end);
		muc.admin_ok(ada, room, { role = "none", nick = "bob" });
		assert.equal("110 307", muc.codes(bob:expect(muc.presence_of(room, "bob", "unavailable"))));
		muc.in_step(ctx, room, owner, ada);
	end);

	it("affiliations are seen by all as they change", function ()
		local room, owner, ada, bob = three();
		for _, affiliation in ipairs { "member", "admin", "owner", "member", "none" } do
			muc.admin_ok(owner, room, { affiliation = affiliation, jid = ada.bare });
			local role = (affiliation == "admin" or affiliation == "owner") and "moderator" or "participant";
			for _, c in ipairs { ada, bob, owner } do
				local el = muc.saw(c, muc.presence_of(room, "ada"));
				assert.equal(affiliation, muc.item(el).attr.affiliation);
				assert.equal(role, muc.item(el).attr.role);
				assert.equal(c == ada, muc.has_code(el, "110"));
			end
		end
		muc.in_step(ctx, room, owner, ada, bob);
	end);

	it("who becomes a moderator sees who they are", function ()
		local room, owner, ada, bob = three();
		muc.admin_ok(owner, room, { affiliation = "admin", jid = ada.bare });
		local el = ada:expect(function (e) return muc.presence_of(room, "bob")(e) and muc.item(e).attr.jid; end);
		assert.equal(bob.bare, muc.bare(muc.item(el).attr.jid));
		muc.in_step(ctx, room, owner, ada, bob);
	end);

	it("voice is taken and given", function ()
		local room, owner, ada, bob = three({ config = { ["muc#roomconfig_moderatedroom"] = "1" } });
		local function role_is(c, role)
			assert.equal(role, muc.item(muc.saw(c, muc.presence_of(room, "ada"))).attr.role);
		end
		muc.admin_ok(owner, room, { role = "participant", nick = "ada" });
		for _, c in ipairs { ada, bob, owner } do role_is(c, "participant"); end
		muc.say(ada, room, "at last");
		bob:expect(muc.groupchat(room, "ada", "at last"));
		muc.admin_ok(owner, room, { role = "visitor", nick = "ada" });
		for _, c in ipairs { ada, bob, owner } do role_is(c, "visitor"); end
		local id = muc.say(ada, room, "alas");
		assert.equal("forbidden", (t.condition(ada:expect({ name = "message", id = id }):child("error"))));
	end);

	it("voice is asked for, and a moderator grants it", function ()
		local room, owner, ada, bob = three({ config = { ["muc#roomconfig_moderatedroom"] = "1" } });
		ada:send(("<message to='%s'><x xmlns='jabber:x:data' type='submit'>"
			.. "<field var='FORM_TYPE'><value>http://jabber.org/protocol/muc#request</value></field>"
			.. "<field var='muc#role'><value>participant</value></field></x></message>"):format(room));
		local form = owner:expect(function (e) return e.name == "message" and e:child("x", "jabber:x:data"); end);
		assert.equal(room, form.attr.from);
		assert.equal(owner.jid, form.attr.to);
		local fields, jid = { "<field var='muc#request_allow'><value>true</value></field>" }, nil;
		for _, f in ipairs(form:child("x", "jabber:x:data"):children()) do
			if f.name == "field" and f.attr.var ~= "muc#request_allow" then
				local value = f:child_text("value") or "";
				fields[#fields + 1] = ("<field var='%s'><value>%s</value></field>"):format(f.attr.var, t.escape(value));
				if f.attr.var == "muc#jid" then jid = value; end
			end
		end
		assert.equal(ada.bare, muc.bare(jid));
		owner:send(("<message to='%s'><x xmlns='jabber:x:data' type='submit'>%s</x></message>"):format(room, table.concat(fields)));
		ada:expect(function (e) return muc.presence_of(room, "ada")(e) and muc.item(e).attr.role == "participant"; end);
		muc.say(ada, room, "thank you");
		bob:expect(muc.groupchat(room, "ada", "thank you"));
		muc.settle(bob);
		assert.same({}, muc.got(bob, 1, function (e) return e.name == "message" and e:child("x", "jabber:x:data"); end));
	end);

	it("losing membership of a members-only room: 321", function ()
		local room, owner = muc.open(ctx, { config = { ["muc#roomconfig_membersonly"] = "1" } });
		local ada = muc.client(ctx);
		muc.admin_ok(owner, room, { affiliation = "member", jid = ada.bare });
		muc.enter(ada, room, "ada");
		muc.admin_ok(owner, room, { affiliation = "none", jid = ada.bare });
		assert.equal("110 321", muc.codes(ada:expect(muc.presence_of(room, "ada", "unavailable"))));
		assert.equal("321", muc.codes(muc.saw(owner, muc.presence_of(room, "ada", "unavailable"))));
		assert.equal("registration-required", (muc.refused(ada, room, "ada")));
		muc.in_step(ctx, room, owner);
	end);

	it("a room that becomes members-only: 322 for those who aren't", function ()
		local room, owner, ada, bob = three();
		muc.admin_ok(owner, room, { affiliation = "member", jid = bob.bare });
		muc.configure(owner, room, { ["muc#roomconfig_membersonly"] = "1" });
		assert.equal("110 322", muc.codes(ada:expect(muc.presence_of(room, "ada", "unavailable"))));
		assert.equal("registration-required", (muc.refused(ada, room, "ada")));
		-- (Prosody forgets to tell the others)
		muc.say(bob, room, "I may stay");
		owner:expect(muc.groupchat(room, "bob", "I may stay"));
	end);

	for code, what in pairs { ["332"] = "a service that shuts down"; ["333"] = "a technical problem" } do
		it(what .. ": " .. code .. ", and one may come back", function ()
			local room, owner, ada = three({ config = { ["muc#roomconfig_persistentroom"] = "1" } });
			ctx.srv:eval(([[
				local room = host_module("rooms.localhost", "muc").get_room_from_jid(a);
				room:clear(%s:tag("status", { code = b }):up());
			]]):format(st_x), room, code);
			assert.equal("110 " .. code, muc.codes(ada:expect(muc.presence_of(room, "ada", "unavailable"))));
			assert.equal("110 " .. code, muc.codes(owner:expect(muc.presence_of(room, "owner", "unavailable"))));
			refuses_messages(ada, room);
			assert.same({}, muc.enter(ada, room, "ada").nicks);
			assert.same({ "ada" }, muc.enter(owner, room, "owner").nicks);
			muc.in_step(ctx, room, owner, ada);
		end);
	end

	it("lists are for those who may see them", function ()
		local room, owner, ada = three();
		muc.admin_ok(owner, room, { affiliation = "member", jid = ada.bare });
		local function list(c, item)
			return c:iq("get", ("<query xmlns='%s'><item %s/></query>"):format(muc.ns_admin, item), room);
		end
		assert.equal(ada.bare, list(owner, "affiliation='member'"):child("query"):child("item").attr.jid);
		assert.equal(owner.bare, list(owner, "affiliation='owner'"):child("query"):child("item").attr.jid);
		local nicks = {};
		for _, item in ipairs(list(owner, "role='participant'"):child("query"):children()) do nicks[#nicks + 1] = item.attr.nick; end
		table.sort(nicks);
		assert.same({ "ada", "bob" }, nicks);
		local refused = list(ada, "affiliation='outcast'");
		assert.equal("forbidden", (t.condition(refused:child("error"))));
	end);

	it("affiliations of those who aren't there are told to moderators", function ()
		local room, owner = three();
		local eve = muc.client(ctx);
		muc.admin_ok(owner, room, { affiliation = "member", jid = eve.bare });
		muc.settle(owner);
		local told = muc.got(owner, 1, function (e) return e.name == "message" and e.attr.from == room and muc.item(e); end);
		assert.equal(1, #told);
		assert.equal(eve.bare, muc.item(told[1]).attr.jid);
		assert.same({}, muc.got_from(eve, 1, room));
	end);

	it("a reserved nick that somebody else uses costs him his place: 307", function ()
		local room, owner, ada, bob = three();
		muc.admin_ok(owner, room, { affiliation = "member", jid = bob.bare, nick = "ada" });
		assert.equal("110 307", muc.codes(ada:expect(muc.presence_of(room, "ada", "unavailable"))));
		assert.equal("conflict", (muc.refused(ada, room, "ada")));
		muc.enter(ada, room, "lovelace");
		muc.in_step(ctx, room, owner, ada, bob);
	end);

	it("the last owner can't resign", function ()
		local room, owner = three();
		local answer = muc.admin(owner, room, { affiliation = "member", jid = owner.bare });
		assert.equal("conflict", (t.condition(answer:child("error"))));
	end);
end);
