-- What is read from a stanza: what it is, and whom it is for.

local t = require "support";
local gateway = require "support.gateway";
local muc = require "support.muc";

muc.account("what a room says", gateway.options, function (ctx, it)
	local function inside(nick)
		local room = gateway.open(ctx, { join = { gateway.own(), gateway.subject("topic") } });
		local ada = muc.client(ctx);
		muc.enter(ada, room, nick or "ada");
		return room, ada;
	end

	-- What another client of the account is told when it joins.
	local function told(room, ada)
		return muc.enter(muc.client(ctx, { user = ada.username }), room, "ada");
	end

	it("in an element of another namespace is nothing that was said", function ()
		local room, ada = inside();
		gateway.says(ctx, room, gateway.message("bob", "<body xmlns='urn:other'>not said</body><mark xmlns='urn:other'/>"));
		ada:expect({ child = "mark" });
		gateway.says(ctx, room, gateway.words("bob", "said"));
		ada:expect({ body = "said" });
		local entry = told(room, ada);
		assert.equal(1, #entry.history);
		assert.same({ "said" }, t.bodies(entry.history));
	end);

	it("in an element of another namespace is no subject", function ()
		local room, ada = inside();
		gateway.says(ctx, room, gateway.message("bob", "<subject xmlns='urn:other'>none</subject>"));
		gateway.says(ctx, room, gateway.words("bob", "said"));
		ada:expect({ body = "said" });
		local entry = told(room, ada);
		assert.equal("topic", entry.subject:child_text("subject"));
	end);

	it("was said when its time with an offset says", function ()
		local room, ada = inside();
		local at = os.time() - 600;
		local stamp = os.date("!%Y-%m-%dT%H:%M:%S+02:00", at + 7200);
		gateway.says(ctx, room, gateway.words("bob", "said", { id = "said", stamp = stamp }));
		ada:expect({ body = "said" });
		local also = muc.client(ctx, { user = ada.username });
		assert.same({}, muc.enter(also, room, "ada", { history = { seconds = 300 } }).history);
	end);
end);

muc.account("what is for one", gateway.options, function (ctx, it)
	it("the error of an invitation comes to the client that invited, with all that a room puts into it", function ()
		local room = gateway.open(ctx);
		local ada = muc.client(ctx);
		muc.enter(ada, room, "ada");
		local invite = ("<x xmlns='%s'><invite to='eve@x.test'/></x>"):format(muc.ns_user);
		ada:send(("<message to='%s' id='inv'>%s</message>"):format(room, invite));
		gateway.says(ctx, room, ("<message from='$room' to='$to' type='error' id='inv'>%s<error type='auth'><forbidden xmlns='%s'/></error></message>")
			:format(invite, "urn:ietf:params:xml:ns:xmpp-stanzas"));
		local err = ada:expect({ name = "message", type = "error", id = "inv" });
		assert.equal("forbidden", (t.condition(err:child("error"))));
	end);
end);

muc.account("what comes in private while nobody is there", { config = 'minimix_offline = "stay"'; extra = gateway.options.extra }, function (ctx, it)
	it("is kept, but for a headline (XEP-0160)", function ()
		local room = gateway.open(ctx);
		local ada = muc.client(ctx);
		muc.enter(ada, room, "ada");
		ada:close();
		ctx.srv:wait_gone(ada.jid);
		for _, kind in ipairs { "headline", "chat" } do
			gateway.says(ctx, room, ("<message from='$room/bob' to='$to' type='%s'><body>%s</body></message>"):format(kind, kind));
		end
		local back = muc.client(ctx, { user = ada.username });
		back:expect({ body = "chat" });
		muc.settle(back);
		assert.same({}, muc.got(back, 1, { body = "headline" }));
	end);
end);
