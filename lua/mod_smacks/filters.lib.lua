-- What passes a managed session: the filters of its stanzas, and our own elements.
--
-- Each stanza is one call into the library, which says what it is and what becomes of it. Nothing is made here for a stanza,
-- no table and no function.

local add_filter = require "util.filters".add_filter;
local parse_xml = require "util.xml".parse;
local remove_filter = require "util.filters".remove_filter;
local timer = require "util.timer";

local connection = module:require "connection";
local own_of = module:require "session";
local queue_of = module:require "queue";
local sending = module:require "sending";
local sm = require "enjamb".smacks;

local filters_out, filters_in = "stanzas/out", "stanzas/in";
local sm_push, sm_received = sm.push, sm.received;
local error, ipairs = error, ipairs;

local get_handlers = prosody.hosts[module.host].events.get_handlers;
local callbacks = module:shared("callbacks");
-- Sessions whose state is written before the next ack leaves.
local touched = module:shared("/*/smacks/touched");
-- What was queued is committed before anybody is told anything: journal.lib.lua.
local turn = module:shared("/*/smacks/turn");

-- Given by mod_smacks.lua: of metrics.lib.lua and journal.lib.lua.
local counts, queued_away;

-- What Prosody fires for an <a/> or <r/>, by namespace.
local event_of = {};
for _, xmlns in ipairs(sm.namespaces) do
	event_of[xmlns] = { a = "stanza/"..xmlns..":a", r = "stanza/"..xmlns..":r" };
end

-- What goes out -----------------------------------------------------------------------------------------------------------

local outgoing;
function outgoing(stanza, session)
	local own = session.enjamb;
	local key = own and own.stream;
	if not key then return stanza; end
	-- The bytes serve only if it is there, and no filter comes after this one: mod_websocket's wants a stanza.
	local list = session.filters[filters_out];
	local bytes, over_limit = sm_push(key, stanza, list[#list] == outgoing and not session.hibernating);
	if bytes then
		counts.queued = counts.queued + 1;
		turn.queued = true;
		if over_limit then
			callbacks.must_end(over_limit, "too much");
		end
		if bytes == true then return stanza; end
		return bytes;
	elseif bytes == nil then
		if over_limit then -- a message: it cannot be serialised, which is for the sender to know
			session.log("error", "%s", over_limit);
			error(over_limit, 0);
		end
		return stanza;
	end
	counts.queued = counts.queued + 1;
	turn.queued = true;
	if session.hibernating then -- else older ones go first
		queued_away(session);
		queue_of.fire_queued(session);
	end
	if over_limit then
		callbacks.must_end(over_limit, "too much");
	end
	return nil;
end

-- BOSH has no drain event: ask once per turn of the main loop.
local function ask_in_bosh(stanza, session)
	local own = own_of(session);
	if own.stream and not own.asking then
		own.asking = true;
		timer.add_task(0, function ()
			own.asking = nil;
			callbacks.ask(session);
		end);
	end
	return stanza;
end

-- Whether nothing but this module, and the transport, has a say in what the session sends. mod_csi_simple has while the
-- client is inactive: it has paused the connection, and lets go what has come through its filter.
local function sends_alone(session)
	local list = session.filters and session.filters[filters_out];
	if not list or list[1] ~= outgoing then return false; end
	if session.sends2s then return list[2] == nil; end
	-- mod_websocket's filter declares the namespace of stanzas, and ours declare their own.
	return list[session.websocket_request and 3 or 2] == nil and sending.is_ours(session);
end

-- Sends one of our own elements: as text, past filters that are not there, or as others expect it.
local function send_element(session, text)
	if not sends_alone(session) then
		return (session.sends2s or session.send)(parse_xml(text));
	end
	return (session.sends2s or session.rawsend)(text);
end

-- What comes in -----------------------------------------------------------------------------------------------------------

-- What to do with an <a/> or <r/> as soon as it is there, by name: f(session, stanza) returns true if it was done. Filled by
-- acks.lib.lua.
local at_once = {};

-- Whether nobody but this module looks at stanzas that come in on the session, or handles this element.
local function is_ours_alone(session, events, name)
	local list = session.filters[filters_in];
	return list[2] == nil and #get_handlers(events[name]) == 1;
end

local function incoming(stanza, session)
	local own, count = session.enjamb, session.handled_stanza_count;
	local key = own and own.stream;
	if not count or not key then return stanza; end
	local name, xmlns = stanza.name, stanza.attr.xmlns;
	local events = xmlns and event_of[xmlns];
	if not events then
		local now, may_change = sm_received(key, count, name, xmlns);
		if now then
			touched[session] = true;
			if may_change then
				own.state_changed = true;
			end
			session.handled_stanza_count = now;
		end
		return stanza;
	end
	if name == "r" then
		-- When this is answered, what came before it has been processed, what comes after it may not have been.
		stanza.enjamb_h = count;
	end
	-- Both are frequent, and their way through the router takes longer than what is done at its end.
	local handle = at_once[name];
	if handle and is_ours_alone(session, events, name) and handle(session, stanza) then
		sending.log_received(session, stanza);
		return nil;
	end
	return stanza;
end

-- On and off --------------------------------------------------------------------------------------------------------------

local function add(session)
	sending.replace(session);
	add_filter(session, filters_out, outgoing, -999);
	add_filter(session, filters_in, incoming, 999);
	if connection.is_bosh(session) then
		add_filter(session, filters_out, ask_in_bosh, -998);
	end
end

local function remove(session)
	sending.restore(session);
	remove_filter(session, filters_out, outgoing);
	remove_filter(session, filters_in, incoming);
	remove_filter(session, filters_out, ask_in_bosh);
end

return {
	take = function (parts) counts, queued_away = parts.metrics.counts, parts.journal.queued_away; end;
	add = add;
	at_once = at_once;
	remove = remove;
	send_element = send_element;
	sends_alone = sends_alone;
};
