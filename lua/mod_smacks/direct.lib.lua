-- Stanzas that are bytes already: queued in the library and written in one go, if nobody else has a say in what the session
-- sends. They are no tables then, so filters and whatever stands in for session.send would not see them.
--
-- Who has such stanzas finds this by host in a shared table, and need not know whether stream management is loaded.

local connection = module:require "connection";
local contain = require "enjamb.contain"(module);
local own_of = module:require "session";
local queue_of = module:require "queue";

local direct = require "enjamb".direct;

local ipairs = ipairs;
local push_copy, queue_copies = direct.push_copy, direct.queue;

-- As many bytes are handed to the connection at a time, or one stanza more.
local piece = 16384;

local hosts = module:shared("/*/smacks/direct");
local callbacks = module:shared("callbacks");
local turn = module:shared("/*/smacks/turn");

local function write(session, bytes)
	local ok, err = session.rawsend(bytes);
	if ok == false then
		connection.refused(session, err);
	end
end

-- So many were queued, and the streams with the keys in `over` have to end.
local function queued(counts, n, over)
	counts.queued = counts.queued + n;
	turn.queued = true;
	for _, key in ipairs(over or {}) do
		callbacks.must_end(key, "too much");
	end
end

-- `sends_alone(session)`: nobody else has a say; `counts`: those of metrics.lib.lua; `queued_away`: journal.lib.lua's.
local function offer(sends_alone, counts, queued_away)
	local ways = {};

	-- Sends `copies`, of which there are n. Returns the number of the first that was not sent. log(session, copies, first, following)
	-- writes what session.send() does into the log.
	function ways.serve(session, copies, n, log)
		local first = 1;
		while first <= n and own_of(session).stream and not session.destroyed and sends_alone(session) do
			local is_frame = session.websocket_request ~= nil;
			-- Whoever wants to know of each finds it at the end of the queue.
			local singly = is_frame or session.hibernating and queue_of.is_hooked("smacks-hibernation-stanza-queued");
			local bytes, following, over = queue_copies(copies, first, singly and 0 or piece, own_of(session).stream, session.full_jid, is_frame);
			if bytes == nil then break; end
			log(session, copies, first, following);
			queued(counts, following - first, over);
			if bytes then
				contain.attempt(session, "sending", write, session, bytes);
			elseif session.hibernating then -- else older ones go first
				queued_away(session);
				queue_of.fire_queued(session);
			end
			first = following;
		end
		return first;
	end

	-- Sends a copy of the groupchat message that the library has in hand under that number; log(session, stanza) as above, with the same
	-- as a table. False: it has to go another way.
	function ways.send_copy(session, number, log, stanza)
		local key = own_of(session).stream;
		if not key or session.websocket_request or not sends_alone(session) then return false; end
		local bytes, over = push_copy(number, key, session.full_jid);
		if bytes == nil then return false; end
		log(session, stanza);
		queued(counts, 1, over and { over });
		if bytes then
			write(session, bytes);
		elseif session.hibernating then
			queued_away(session);
			queue_of.fire_queued(session);
		end
		return true;
	end

	hosts[module.host] = ways;
end

return {
	take = function (parts) offer(parts.filters.sends_alone, parts.metrics.counts, parts.journal.queued_away); end;
	withdraw = function () hosts[module.host] = nil; end;
};
