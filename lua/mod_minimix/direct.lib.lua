-- How copies, which are bytes, get to a client: as bytes, if nobody has a say in what its session sends; else as the stanzas that
-- session.send() takes.
--
-- A session with stream management is mod_smacks's affair, which may not be there.

local parse_xml = require "util.xml".parse;

local attempt = require "enjamb.contain"(module).attempt;
local direct = require "enjamb".direct;
local is_prosodys = require "enjamb.is_prosodys";
local start_tag = require "enjamb".start_tag;

local copy_in_hand, write_copies = direct.push_copy, direct.write;
local setmetatable = setmetatable;

-- As many bytes are handed to the connection at a time, or one stanza more.
local piece = 16384;

-- By host.
local smacks = module:shared("/*/smacks/direct");

-- Whether mod_smacks has it.
local function is_managed(session)
	local own = session.enjamb;
	return own and own.stream;
end

local function sends_plainly(session)
	local list = session.filters and session.filters["stanzas/out"];
	return session.conn and not is_managed(session) and (not list or list[1] == nil) and is_prosodys(session.send);
end

-- What the line in the log shows, made if a log asks for it.
local said = {};
local subject = setmetatable({}, {
	__tostring = function ()
		said.asked = true;
		if said.stanza then return start_tag(said.stanza); end
		return direct.start_tag(said.copies, said.n, said.to);
	end;
});

-- Of the copies from number `first` up to and without `following`.
local function log_copies(session, copies, first, following)
	said.copies, said.to, said.asked = copies, session.full_jid, false;
	for n = first, following - 1 do
		said.n = n;
		session.log("debug", "Sending[%s]: %s", session.type, subject);
		if not said.asked then break; end -- nor would it for the others
	end
	said.copies = nil;
end

local function log_stanza(session, stanza)
	said.stanza = stanza;
	session.log("debug", "Sending[%s]: %s", session.type, subject);
	said.stanza = nil;
end

-- Each of these returns what mod_smacks's do.

local function serve_plainly(session, copies, n, log)
	local first = 1;
	while first <= n and sends_plainly(session) do
		local bytes, following = write_copies(copies, first, piece, session.full_jid);
		log(session, copies, first, following);
		attempt(session, "sending", session.rawsend, bytes);
		first = following;
	end
	return first;
end

local function send_copy_plainly(session, number, log, stanza)
	local bytes = sends_plainly(session) and copy_in_hand(number, nil, session.full_jid);
	if not bytes then return false; end
	log(session, stanza);
	session.rawsend(bytes);
	return true;
end

local plainly = { serve = serve_plainly; send_copy = send_copy_plainly };

local function way_of(session)
	return is_managed(session) and smacks[session.host] or plainly;
end

local function send_as_stanza(session, copies, n)
	session.send(assert(parse_xml((write_copies(copies, n, 0, session.full_jid)))));
end

-- Sends a client `copies`, of which there are n.
local function serve(session, copies, n)
	local first = way_of(session).serve(session, copies, n, log_copies);
	for i = first, n do
		if session.destroyed then return; end
		-- What goes wrong with one must not keep the others from being sent.
		attempt(session, "sending", send_as_stanza, session, copies, i);
	end
end

-- Sends a client a copy of the groupchat message that the library has in hand under that number. `stanza` is the same as a table,
-- with the right `to`.
local function send_copy(session, number, stanza)
	if not way_of(session).send_copy(session, number, log_stanza, stanza) then
		session.send(stanza);
	end
end

return {
	send_copy = send_copy;
	serve = serve;
};
