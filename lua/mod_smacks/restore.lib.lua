-- Sessions that come back after a restart, and those that do not.
--
-- What is in a queue was acknowledged to whoever sent it. So a session that must not come back (its password was changed)
-- is still brought back for a moment, and ended in the ordinary way: what is queued is stored or returned.

local parse_xml = require "util.xml".parse;

local enjamb = require "enjamb";
local connection = module:require "connection";

local jn, sm = enjamb.journal, enjamb.smacks;
local math_min, pairs = math.min, pairs;

local host, hosts = module.host, prosody.hosts;

-- `smacks` has what the module does with sessions: attach, expire, hibernate; `journal`, `state` and `rooms` are the
-- libraries.
return function (smacks, journal, state, rooms, limits, hibernation_time)
	local function bring_back(token, kept, resumable)
		local timeout = math_min(kept.timeout, hibernation_time);
		local key, handle, h, lost = jn.restore(token, limits, kept.username.."@"..host, resumable and kept.id or "", timeout);
		if not key then
			return nil, handle;
		end
		local session, err = state.revive(kept, connection.new_thread);
		if not session then
			journal.ended(key);
			return nil, err;
		end
		smacks.attach(session, key, handle, kept.xmlns, kept.id, timeout, h);
		session.smacks_state = kept.text;
		journal.restored(session, h);
		if lost > 0 then
			session.log("error", "%d stanzas of %s's queue could not be read from the journal", lost, session.full_jid);
		end
		smacks.hibernate(session, key, timeout);
		rooms.say_that_it_is_out(session, kept);
		journal.keep(session);
		return session;
	end

	-- Sends what is queued for a session on its way once more, as if its recipient were not there (which is so).
	local function send_on(token, kept)
		local bare = kept.username.."@"..kept.host;
		local key, handle = jn.restore(token, limits, bare, "", 0);
		if not key then
			return nil, handle;
		end
		local n = 0;
		local _, _, number = sm.counts(key);
		while number do
			local bytes, following = sm.copies(key, number, number + 1, 0, nil, bare);
			local stanza = bytes and parse_xml(bytes);
			if stanza and stanza.attr.to then
				module:send(stanza);
				n = n + 1;
			end
			number = bytes and following;
		end
		journal.ended(key);
		return n, handle; -- while there is a handle the library has the stream
	end

	local function refuse(token, kept, objection)
		module:log("info", "A session of %s does not come back: %s", kept.username, objection);
		local session, err = bring_back(token, kept, false);
		if session then
			smacks.expire(session, objection);
		else
			module:log("error", "What was queued for it is lost: %s", err);
			jn.discard(token);
		end
	end

	-- A session of another host, where nobody looks after it.
	local function adopt(token, kept)
		local other = hosts[kept.host];
		if not other then
			module:log("warn", "A session of %s@%s is dropped with what is queued for it, there is no such host any more", kept.username, kept.host);
			jn.discard(token);
		elseif not (other.modules and other.modules.smacks) then
			local n, err = send_on(token, kept);
			module:log("info", "A session of %s@%s does not come back, stream management is not enabled there: %s", kept.username, kept.host,
				n and n.." stanzas that were queued for it go to the account" or err);
			jn.discard(token);
		end
	end

	-- Those that do not come back, when all who do are there to be told.
	local function dispose()
		for token, text in pairs((jn.found())) do
			local kept = state.read(text);
			-- What is of another version is left as it is.
			if kept and kept.host ~= host then
				adopt(token, kept);
			elseif kept then
				refuse(token, kept, state.objection(kept) or "it could not be brought back");
			end
		end
		journal.commit();
	end

	-- Brings back all sessions of this host.
	return function ()
		local n, stanzas, bytes = 0, 0, 0;
		local texts, unreadable = jn.found();
		local reasons = {};
		for _, reason in pairs(unreadable) do
			reasons[reason] = (reasons[reason] or 0) + 1;
		end
		for token, text in pairs(texts) do
			local kept, reason = state.read(text);
			if not kept then
				reasons[reason] = (reasons[reason] or 0) + 1;
			elseif kept.host == host and not state.objection(kept) then
				local session, err = bring_back(token, kept, true);
				if session then
					n = n + 1;
					stanzas = stanzas + session.outgoing_stanza_queue:count_unacked();
					bytes = bytes + session.outgoing_stanza_queue:count_bytes();
				else
					module:log("error", "A session of %s does not come back, with what was queued for it: %s", kept.username, err);
					jn.discard(token);
				end
			end
		end
		for reason, count in pairs(reasons) do
			module:log("error", "%d sessions of the journal cannot be brought back: %s", count, reason);
		end
		if n > 0 then
			module:log("info", "%d sessions are back from before the restart and wait for their clients, with %d stanzas (%d bytes) queued",
				n, stanzas, bytes);
		end
		module:add_timer(0, dispose);
	end
end;
