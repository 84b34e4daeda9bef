-- Outgoing streams between servers: this side asks for stream management. How far that has come is the library's to know
-- (crates/stream-management, initiator).

local st = require "util.stanza";
local timer = require "util.timer";

local own_of = module:require "session";
local sm = require "enjamb".smacks;

local ipairs, sub, type = ipairs, string.sub, type;

-- Given by mod_smacks.lua.
local filters, managed, options;

local function features(session, stanza)
	if not options.s2s or sub(session.type, 1, 6) ~= "s2sout" then return; end
	local own = own_of(session);
	own.initiator = own.initiator or sm.initiator();
	local offered = {};
	for _, feature in ipairs(stanza.tags) do
		if feature.name == "sm" then
			offered[#offered+1] = feature.attr.xmlns;
		end
	end
	own.initiator:features(offered);
end

local function enable(session)
	local own = own_of(session);
	if session.destroyed or own.stream or not own.initiator then return; end
	local xmlns = own.initiator:established();
	if not xmlns then return; end
	session.sends2s(st.stanza("enable", { xmlns = xmlns }));
	if session.destroyed then return; end -- sending can do that
	managed.manage(session, xmlns);
end

local function established(session)
	if not options.s2s then return; end
	local first = session.sendq and session.sendq[1];
	if type(first) == "table" and type(first[1]) == "string" then
		-- Prosody 0.12 keeps what waits for the connection as strings and sends it after this event. It would not
		-- be counted here, but by the peer.
		timer.add_task(0, function () enable(session); end);
	else
		enable(session);
	end
end

-- What only a server says. A client says it for no reason, and nothing follows.

local function handle_enabled(session)
	local own = own_of(session);
	if own.stream and own.initiator and own.initiator:enabled() then
		sm.count_from_here(own.stream);
		session.handled_stanza_count = 0;
	else
		session.log("debug", "Ignoring <enabled/>, which nothing asked for");
	end
	return true;
end

local function handle_failed(session)
	local own = own_of(session);
	if own.stream and own.initiator and own.initiator:failed() then
		session.log("info", "The other server does not enable stream management");
		filters.remove(session);
		managed.stop(session);
	else
		session.log("debug", "Ignoring <failed/>, which nothing asked for");
	end
	return true;
end

local function handle_resumed(session)
	session.log("debug", "Ignoring <resumed/>, which nothing asked for");
	return true;
end

return {
	take = function (parts) filters, managed, options = parts.filters, parts.managed, parts.options; end;
	established = established;
	features = features;
	handle_enabled = handle_enabled;
	handle_failed = handle_failed;
	handle_resumed = handle_resumed;
};
