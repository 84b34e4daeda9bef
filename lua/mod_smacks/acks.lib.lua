-- <r/> and <a/>.

local connection = module:require "connection";
local contain = require "enjamb.contain"(module);
local own_of = module:require "session";
local queue_of = module:require "queue";
local sm = require "enjamb".smacks;

local format = string.format;
local get_counts, sm_ack, sm_answer = sm.counts, sm.ack, sm.answer;
local ipairs = ipairs;
local is_hooked, waiting_stanzas = queue_of.is_hooked, connection.waiting_stanzas;

local session_of = module:shared("sessions");

-- Given by mod_smacks.lua.
local claim, metrics, negotiate, request_ack, send_element;

local function misplaced(session, stanza)
	session.log("debug", "Received <%s/>, but stream management is not enabled", stanza.name);
	negotiate.send_failed(session, stanza.attr.xmlns, negotiate.error(sm.refusal("not enabled")));
	return true;
end

-- Says that so many were handled, if that many may be said to have been.
local function acknowledge(session, xmlns, h)
	if h then
		send_element(session, format("<a xmlns='%s' h='%d'/>", xmlns, h));
	end
end

local function handle_r(session, stanza)
	local own = session.enjamb;
	local key = own and own.stream;
	if not key then return misplaced(session, stanza); end
	local stamped = stanza.enjamb_h;
	local h = sm_answer(key, stamped, stamped and 0 or waiting_stanzas(session));
	acknowledge(session, stanza.attr.xmlns, h and claim(session, h));
	request_ack(session);
	return true;
end

local function handle_r_at_once(session, stanza)
	local thread = session.thread;
	-- else something that came before it waits
	return thread and thread.state == "ready" and handle_r(session, stanza);
end

-- More is on the disk than could be said before.
local function tell(key, h)
	local session = session_of[key];
	if not session or session.destroyed or session.hibernating then return; end
	acknowledge(session, session.smacks, sm_answer(key, h, 0));
end

-- Tells who wants to know that the first n stanzas of the queue have arrived.
local function fire_success(session, key, n)
	local queue = session.outgoing_stanza_queue;
	local _, _, first = get_counts(key);
	local stanzas = {};
	for number = first, first + n - 1 do
		stanzas[#stanzas+1] = queue:get(number);
	end
	return function ()
		for _, stanza in ipairs(stanzas) do
			contain.fire("delivery/success", session, { session = session, stanza = stanza });
		end
	end;
end

local function acknowledged(session, acked, left, tell_of_them)
	session.awaiting_ack = nil;
	session.outgoing_stanza_queue:purge();
	metrics.acked(acked);
	if tell_of_them then tell_of_them(); end
	if left > 0 then
		request_ack(session);
	end
end

local function handle_a(session, stanza)
	local key = own_of(session).stream;
	if not key then return misplaced(session, stanza); end
	local h, tell_of_them = stanza.attr.h, nil;
	if is_hooked("delivery/success") then
		local n = sm.covered(key, h);
		tell_of_them = n and fire_success(session, key, n);
	end
	local acked, left = sm_ack(key, h);
	if acked then
		acknowledged(session, acked, left, tell_of_them);
		return true;
	end
	local wrong = sm.wrong_ack(key, h);
	if wrong then -- else the stream is gone
		session.log("warn", "Closing a stream for a wrong ack: %s", wrong.text);
		connection.close(session, wrong, negotiate.too_high(session.smacks, wrong));
	end
	return true;
end

-- Only what nobody has to be told of, and what is true: the rest goes the usual way.
local function handle_a_at_once(session, stanza)
	if is_hooked("delivery/success") then return false; end
	local acked, left = sm_ack(own_of(session).stream, stanza.attr.h);
	if not acked then return false; end
	acknowledged(session, acked, left);
	return true;
end

return {
	take = function (parts)
		claim, metrics, negotiate = parts.journal.claim, parts.metrics, parts.negotiate;
		request_ack, send_element = parts.asking.request, parts.filters.send_element;
		parts.filters.at_once.r, parts.filters.at_once.a = handle_r_at_once, handle_a_at_once;
		parts.journal.tell_by(tell);
	end;
	acknowledge = acknowledge;
	fire_success = fire_success;
	handle_a = handle_a;
	handle_r = handle_r;
};
