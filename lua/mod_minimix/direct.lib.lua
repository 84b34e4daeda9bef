-- How copies, which are bytes, get to a client: as bytes, if nobody has a say in what its session sends; else as the stanzas that
-- session.send() takes.
--
-- A session with stream management is mod_smacks's affair, which may not be there.

local debug_info, traceback = require "debug".getinfo, require "debug".traceback;
local parse_xml = require "util.xml".parse;

local direct = require "enjamb".direct;
local start_tag = require "enjamb".start_tag;

local copy_in_hand, write_copies = direct.push_copy, direct.write;
local setmetatable, xpcall = setmetatable, xpcall;
local find = string.find;

-- As many bytes are handed to the connection at a time, or one stanza more.
local piece = 16384;

-- By host.
local smacks = module:shared("/*/smacks/direct");

-- Whether a function is Prosody's own session.send(), which logs, runs filters and writes.
local is_prosodys = setmetatable({}, {
	__mode = "k";
	__index = function (known, send)
		local is = find(debug_info(send, "S").source, "sessionmanager.lua", 1, true) ~= nil;
		known[send] = is;
		return is;
	end;
});

-- Whether mod_smacks has it.
local function is_managed(session)
	local own = session.enjamb;
	return own and own.stream;
end

local function sends_plainly(session)
	local list = session.filters and session.filters["stanzas/out"];
	return session.conn and not is_managed(session) and (not list or list[1] == nil) and is_prosodys[session.send];
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

-- What goes wrong with one must not keep the others from being sent.
local function attempt(f, session, ...)
	local ok, err = xpcall(f, traceback, ...);
	if not ok then
		module:log("error", "Could not send to %s: %s", session.full_jid, err);
	end
end

-- Each of these returns what mod_smacks's do.

local function serve_plainly(session, copies, n, log)
	local first = 1;
	while first <= n and sends_plainly(session) do
		local bytes, following = write_copies(copies, first, piece, session.full_jid);
		log(session, copies, first, following);
		attempt(session.rawsend, session, bytes);
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
		attempt(send_as_stanza, session, session, copies, i);
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
