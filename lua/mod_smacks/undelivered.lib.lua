-- What becomes of stanzas that a session's client has not acknowledged when it ends. The library decides on each, by what is
-- known of the session and of the stanza (crates/stream-management, undelivered).

local jid = require "util.jid";
local st = require "util.stanza";

local child_with_attr = require "enjamb.prosody".child_with_attr;
local connection = module:require "connection";
local contain = require "enjamb.contain"(module);
local own_of = module:require "session";
local sm = require "enjamb".smacks;

local next = next;

local xmlns_mam = "urn:xmpp:mam:2";
local xmlns_sid = "urn:xmpp:sid:0";

local host = module.host;
local get_handlers = prosody.hosts[host].events.get_handlers;

-- The server stops: soon nothing goes to other servers any more.
local is_stopping = false;

-- Given by mod_smacks.lua.
local contacts, journal, managed, metrics, options, rooms;

module:hook_global("server-stopping", function () is_stopping = true; end, 1000);

local function is_last_session(session)
	local user = prosody.hosts[host].sessions;
	user = user and user[session.username];
	if not user then return false; end
	local resource, other = next(user.sessions);
	return other == session and next(user.sessions, resource) == nil;
end

local function recipient_of(session)
	if not session.username then
		return { is_server = true; resends = options.s2s_resend and not is_stopping };
	end
	local own = own_of(session);
	return {
		last_session = is_last_session(session);
		account_gone = own.account_gone;
		in_memory_only = own.in_memory_only;
		uses_archive = session.mam_requested and true;
	};
end

local function content_of(session, stanza)
	return {
		own = stanza.attr.from == session.full_jid;
		archived = child_with_attr(stanza, "stanza-id", xmlns_sid, "by", connection.bare_jid(session)) ~= nil;
		archive_result = stanza:get_child("result", xmlns_mam) ~= nil;
		from_room = rooms.is_from_room(session, stanza);
	};
end

-- What to do with a stanza, and whether an error may be returned for it.
local function fate(session, stanza, key, recipient)
	return sm.fate(key, recipient or recipient_of(session), stanza.name, stanza.attr.type, content_of(session, stanza));
end

module:hook("delivery/failure", function (event)
	local session, stanza = event.session, event.stanza;
	if not session.username then return; end
	local what = event.enjamb_fate or fate(session, stanza, own_of(session).stream);
	if what == "discard" then
		return true;
	elseif what == "store" then
		return module:fire_event("message/offline/handle", { origin = session, username = session.username, stanza = stanza });
	end
end);

local function dispose(session, stanza, key, recipient)
	local what, is_returned = fate(session, stanza, key, recipient);
	if what == "send again" then
		return module:send(stanza);
	end
	local event = { session = session, stanza = stanza, enjamb_fate = what };
	if contain.fire("delivery/failure", session, event) or not is_returned then return; end
	local kind, condition = "cancel", "recipient-unavailable";
	if recipient.is_server and is_stopping then -- nothing is known of the recipient, and it may work if it is sent again
		kind, condition = "wait", "remote-server-timeout";
	end
	module:send(st.error_reply(stanza, kind, condition, nil, jid.join(session.username, session.host or host)));
end

-- Disposes of so many stanzas of the queue. Returns an error if one cannot be read now.
local function dispose_of_all(session, queue, first, unacked)
	local key, recipient = queue.key, recipient_of(session);
	-- What is discarded whatever is in it nobody needs to see, if nobody else wants to.
	local skips = #get_handlers("delivery/failure") == 1;
	local number, last = first, first + unacked - 1;
	while number <= last do
		if skips then
			local err;
			number, err = sm.next_undelivered(key, number, recipient);
			if not number then return err; end
		end
		local stanza, err = queue:get(number);
		if err then return err; end
		if stanza then
			contain.attempt(session, "storing or returning a stanza", dispose, session, stanza, key, recipient);
		end
		number = number + 1;
	end
end

-- The session ends: what its client has not acknowledged is stored or returned.
local function give_up(session)
	local queue = session.outgoing_stanza_queue;
	local unacked, _, first = sm.counts(queue.key);
	managed.stop(session);
	if unacked and unacked > 0 then
		session.log("debug", "Ending with %d unacknowledged stanzas", unacked);
		metrics.dropped(unacked);
		if session.hibernating then
			-- Nothing may be said to have been sent from here on.
			function session.send() return false; end
		end
		local err = dispose_of_all(session, queue, first, unacked);
		if err then
			-- It comes back, with what is left, when the server is started again.
			module:log("error", "What is queued for %s cannot be read and stays in the journal: %s", session.full_jid, err);
			return;
		end
	end
	-- Killed before contacts are told, which Prosody does now, the server would tell them at the next start.
	if session.username then
		contacts.note_ending(session);
	end
	-- Only now: until here the stanzas were nowhere else. From here on they are, and the session must not come back.
	journal.ended(queue.key);
	journal.commit();
end

return {
	take = function (parts)
		contacts, journal, managed, metrics = parts.contacts, parts.journal, parts.managed, parts.metrics;
		options, rooms = parts.options, parts.rooms;
	end;
	give_up = give_up;
};
