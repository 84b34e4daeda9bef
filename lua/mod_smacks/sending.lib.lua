-- Sending and receiving without the text of debug lines that nobody reads.
--
-- Prosody builds the start tag of each stanza for its log, whether that is wanted or not, from a copy of the stanza; with
-- the serialisation taken away that is the larger part of what a stanza costs. For what is sent the text is made when a log
-- asks for it; for what is received, and for everybody else, the library makes the same text without the copy.

local st = require "util.stanza";

local connection = module:require "connection";
local own_of = module:require "session";
local enjamb = require "enjamb";
local complete = require "enjamb.prosody".complete;
local is_prosodys = require "enjamb.is_prosodys";

local is_stanza, start_tag = enjamb.smacks.is_stanza, enjamb.start_tag;
local next, setmetatable, tostring, type = next, setmetatable, tostring, type;

-- Logs turn it into text at once, so one is enough.
local subject = setmetatable({}, {
	__tostring = function (self)
		local t = self.stanza;
		if type(t) == "string" then return t:match("^[^>]*>?"); end
		return t.top_tag and t:top_tag() or tostring(t);
	end;
});

-- The line of the router, for what does not get there.
local function log_received(session, stanza)
	subject.stanza = stanza;
	session.log("debug", "Received[%s]: %s", session.type, subject);
	subject.stanza = "";
end

local function rawsend()
	return false, "disconnected";
end

-- What session.send() is of a session without a connection, which is nobody else's.
local function wait(session)
	local filter = session.filter;
	local function send(t)
		subject.stanza = t;
		session.log("debug", "Sending[%s]: %s", session.type, subject);
		subject.stanza = "";
		if t.name then
			t = filter("stanzas/out", t);
		end
		if t then return rawsend(); end
		return true;
	end
	session.send, session.rawsend = send, rawsend;
	local own = own_of(session);
	own.send, own.send_before = send, nil;
end

-- Another module may have put something of its own in its place, that stays.
local function replace(session)
	complete(session);
	local original, filter, own = session.send, session.filter, own_of(session);
	if own.send and own.send == original or not is_prosodys(original) then return; end -- it waits, or another module's
	local function send(t)
		subject.stanza = t;
		session.log("debug", "Sending[%s]: %s", session.type, subject);
		subject.stanza = "";
		local name, attr = t.name, t.attr;
		if name then
			t = filter("stanzas/out", t);
		end
		if t then
			local ok, err = session.rawsend(t);
			if ok == false and name and is_stanza(name, attr.xmlns) then
				connection.refused(session, err);
			end
			return ok, err;
		end
		return true;
	end
	session.send = send;
	own.send, own.send_before = send, original;
end

local function restore(session)
	local own = own_of(session);
	if own.send and not own.send_before then return; end -- it waits: nothing is below
	if own.send and session.send == own.send then
		session.send = own.send_before;
	end
	own.send, own.send_before = nil, nil;
end

-- Whether send() is ours, and nobody has put one around it.
local function is_ours(session)
	local ours = own_of(session).send;
	return ours ~= nil and session.send == ours;
end

-- Of the whole process: the first host puts it there, the last one takes it away.
local top_tag = module:shared("/*/smacks/top_tag");
top_tag.hosts = top_tag.hosts or {};

local function load()
	top_tag.hosts[module.host] = true;
	if top_tag.ours then return; end
	local original = st.stanza_mt.top_tag;
	local function ours(stanza)
		return start_tag(stanza) or original(stanza);
	end
	top_tag.original, top_tag.ours = original, ours;
	st.stanza_mt.top_tag = ours;
end

local function unload()
	top_tag.hosts[module.host] = nil;
	if next(top_tag.hosts) ~= nil or not top_tag.ours then return; end
	if st.stanza_mt.top_tag == top_tag.ours then
		st.stanza_mt.top_tag = top_tag.original;
	end
	top_tag.original, top_tag.ours = nil, nil;
end

return {
	is_ours = is_ours;
	load = load;
	log_received = log_received;
	replace = replace;
	restore = restore;
	unload = unload;
	wait = wait;
};
