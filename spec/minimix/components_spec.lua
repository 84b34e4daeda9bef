local it = require "busted".it;
local muc = require "support.muc";
local server = require "support.server";
local component = require "support.component";

local host = "gw.localhost";
local chan = "#chan%irc@" .. host;

muc.versions("rooms of an external component", function (start)
	local function party(opts)
		opts = opts or {};
		local port = server.free_port();
		local ctx = muc.start(start, {
			modules = opts.modules;
			config = ("component_ports = { %d }; component_interfaces = { '127.0.0.1' }; smacks_hibernation_time = 60; "):format(port) .. (opts.config or "");
			extra = ("Component %q\n\tcomponent_secret = 'secret'\n"):format(host);
		});
		local function connect(o) return component.connect(ctx.srv, port, host, o); end
		return ctx, connect(opts), connect;
	end

	local function enter(gw, c, nick)
		muc.join(c, chan, nick);
		gw:wait("joined", function () assert.truthy(muc.picture(c, chan)[nick]); end, c);
	end

	local function out(c)
		return muc.got(c, 1, function (el) return el.name == "presence" and el.attr.type == "unavailable" and muc.bare(el.attr.from) == chan; end);
	end

	it("which connects after the restart: who resumes is in, not thrown out", function ()
		local ctx, gw, connect = party();
		local ada = ctx:resumable { available = true };
		enter(gw, ada, "ada");
		ada:ack();
		ada:sync();
		ctx.srv:kill();
		ada:cut();
		gw:cut();
		ctx.srv:launch();
		local back = ctx:resume(ada);
		muc.settle(back);
		local desk = muc.client(ctx, { user = ada.username });
		-- the room is not there: who joins now is told
		assert.equal("remote-server-timeout", (muc.refused(desk, chan, "ada")));
		gw = connect();
		gw:wait("in again", function () assert.truthy(gw.occupants[ada.bare]); end);
		gw:say(chan, "hello");
		gw:wait("heard", function () assert.truthy(muc.got(back, 1, { body = "hello" })[1]); end, back);
		assert.same({}, out(back));
	end);

	it("which connects anew and knows nothing of them: the account is in again, unnoticed", function ()
		local ctx, gw, connect = party();
		local ada = muc.client(ctx);
		enter(gw, ada, "ada");
		gw:cut();
		gw = connect();
		gw:wait("in again", function () assert.truthy(gw.occupants[ada.bare]); end);
		gw:say(chan, "hello");
		gw:wait("heard", function () assert.truthy(muc.got(ada, 1, { body = "hello" })[1]); end, ada);
		assert.same({}, out(ada));
	end);

	for _, from in ipairs { chan, chan .. "/ada" } do
		it("that send an error nobody asked for, from " .. from .. ": it is a reason to look", function ()
			local ctx, gw = party();
			local ada = muc.client(ctx);
			enter(gw, ada, "ada");
			gw:forget();
			gw:send("<presence from='%s' to='%s' type='error'><error type='wait'><internal-server-error xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>"
				.. "</error></presence>", from, ada.bare);
			gw:wait("in again", function () assert.truthy(gw.occupants[ada.bare]); end);
			ada:sync();
			assert.same({}, out(ada));
		end);
	end

	it("that throw out while they look are not joined again", function ()
		local ctx, gw = party();
		local ada = muc.client(ctx);
		enter(gw, ada, "ada");
		gw:forget();
		gw.take = function (self, el)
			if el.attr.type ~= "error" then self:error(el, "auth", el.name == "iq" and "not-acceptable" or "forbidden"); end
		end;
		gw:send("<presence from='%s' to='%s' type='error'><error type='cancel'><remote-server-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>"
			.. "</error></presence>", chan, ada.bare);
		gw:wait("told", function () assert.truthy(out(ada)[1]); end, ada);
		assert.truthy(muc.has_code(out(ada)[1], "333"));
	end);

	it("autojoin taken away and given back while the room has not answered: the account is in", function ()
		local ctx, gw = party();
		local ada = muc.client(ctx);
		muc.bookmark(ada, chan, true, "ada");
		gw:wait("in", function () assert.truthy(gw.occupants[ada.bare]); end);
		gw.quiet = true;
		muc.bookmark(ada, chan, false, "ada");
		muc.bookmark(ada, chan, true, "ada");
		gw:wait("both are there", function () assert.equal(2, #gw.held); end);
		gw:answer();
		assert.equal("ada", gw.occupants[ada.bare].nick);
		-- and once more, the other way round
		gw.quiet = true;
		muc.bookmark(ada, chan, false, "ada");
		muc.bookmark(ada, chan, true, "ada");
		muc.bookmark(ada, chan, false, "ada");
		gw:wait("all are there", function () assert.equal(3, #gw.held); end);
		gw:answer();
		assert.is_nil(gw.occupants[ada.bare]);
	end);

	it("another nickname in the bookmark while the room has not answered is asked for when it has", function ()
		local ctx, gw = party { quiet = true };
		local ada = muc.client(ctx);
		muc.bookmark(ada, chan, true, "ada");
		gw:wait("asked", function () assert.equal(1, #gw.held); end);
		muc.bookmark(ada, chan, true, "lovelace");
		gw:answer();
		gw:wait("renamed", function () assert.equal("lovelace", gw.occupants[ada.bare].nick); end);
	end);

	it("a client that changes its nickname before the room has answered its join has it afterwards", function ()
		local ctx, gw = party { quiet = true };
		local ada = muc.client(ctx);
		muc.join(ada, chan, "ada");
		ada:send(("<presence id='n' to='%s/lovelace'/>"):format(chan));
		gw:wait("asked", function () assert.truthy(gw.held[1]); end);
		gw:answer();
		gw:wait("renamed", function ()
			assert.equal("lovelace", gw.occupants[ada.bare].nick);
			local picture = muc.picture(ada, chan);
			assert.truthy(picture.lovelace);
			assert.is_nil(picture.ada);
		end, ada);
	end);

	it("a device that goes and comes while the account leaves: it is in by its bookmark", function ()
		local ctx, gw = party { config = "minimix_offline = 'leave'" };
		local ada = muc.client(ctx);
		muc.bookmark(ada, chan, true, "ada");
		gw:wait("in", function () assert.truthy(gw.occupants[ada.bare]); end);
		gw.quiet = true;
		ada:close();
		gw:wait("left", function () assert.equal(1, #gw.held); end);
		muc.client(ctx, { user = ada.username });
		gw:wait("joined", function () assert.equal(2, #gw.held); end);
		gw:answer();
		assert.truthy(gw.occupants[ada.bare]);
	end);
end);
