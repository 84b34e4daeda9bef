-- Push notifications (XEP-0357) for an account in rooms, by the real mod_cloud_notify: with no device connected, its app server is
-- told of what is said in a room and to the account in private.

local it, lazy_teardown = require "busted".it, require "busted".lazy_teardown;
local t = require "support";
local muc = require "support.muc";
local server = t.server;

-- An account that stays in a room without a device, and the app server that is notified (an ordinary client, here).
local function asleep(ctx, room, options)
	local app = options.app;
	local ada = muc.client(ctx);
	ada:iq("set", ("<enable xmlns='urn:xmpp:push:0' jid='%s' node='%s'/>"):format(app.jid, ada.username));
	if options.bookmarked then
		muc.bookmark(ada, room, true, "ada");
	end
	muc.enter(ada, room, "ada", { seconds = 10 });
	ada:close();
	ctx.srv:wait_gone(ada.jid);
	return ada;
end

local function pushed(app, ada)
	local iq = app:expect(function (el)
		local pubsub = el.name == "iq" and el.attr.type == "set" and el:child("pubsub");
		return pubsub and pubsub:child("publish").attr.node == ada.username;
	end, 10, "no push");
	app:send(("<iq type='result' id='%s' to='%s'/>"):format(iq.attr.id, iq.attr.from));
end

local function pushes(app)
	return #muc.got(app, 1, function (el) return el.name == "iq" and el.attr.type == "set" and el:child("pubsub"); end);
end

-- Somebody says something in the room and something in private: the device is woken for each.
local function wake(app, ada, room, owner)
	muc.say(owner, room, "hello");
	pushed(app, ada);
	owner:message(room .. "/ada", "psst");
	pushed(app, ada);
end

local config = { stay = 'minimix_offline = "stay"', bookmarked = 'minimix_offline = "bookmarked"' };

for name, option in pairs(config) do
	muc.account("push for rooms of the same server, minimix_offline " .. name, {
		config = option, modules = { "cloud_notify" },
	}, function (ctx, case)
		case("is sent for groupchat and private messages, once each", function ()
			local room, owner = muc.open(ctx);
			local app = ctx:login { resource = "app" };
			local ada = asleep(ctx, room, { app = app, bookmarked = name == "bookmarked" });
			wake(app, ada, room, owner);
			muc.settle(owner, app);
			assert.equal(2, pushes(app));
			assert.same({}, muc.got(owner, 1, { type = "error" }));
		end);

		case("isn't sent for what nobody said", function ()
			local room, owner = muc.open(ctx);
			local app = ctx:login { resource = "app" };
			asleep(ctx, room, { app = app, bookmarked = name == "bookmarked" });
			muc.say(owner, room, nil, nil, "<composing xmlns='http://jabber.org/protocol/chatstates'/>");
			owner:message(room, nil, { type = "groupchat" }, "<subject>new</subject>");
			muc.settle(owner, app);
			assert.equal(0, pushes(app));
		end);
	end);
end

muc.versions("push for rooms on another server", function (start)
	lazy_teardown(server.forget_certificates);

	for name, option in pairs(config) do
		it("is sent for groupchat and private messages, minimix_offline " .. name, function ()
			local a, b = muc.two_servers(start, { config = option, modules = { "cloud_notify", "pep" } });
			local room, owner = muc.open(b, { service = "rooms.b.test" });
			local app = a:login { resource = "app" };
			local ada = asleep(a, room, { app = app, bookmarked = name == "bookmarked" });
			wake(app, ada, room, owner);
			muc.round_trip(room, owner, app);
			assert.equal(2, pushes(app));
		end);
	end
end);
