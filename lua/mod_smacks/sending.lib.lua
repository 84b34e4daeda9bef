-- session.send() without the text of a debug line that nobody reads.
--
-- Prosody's own builds the start tag of each stanza for its log, whether that is wanted or not; with the serialisation
-- taken away that is the larger part of what sending costs. Here the text is made when a log asks for it.

local debug_info = require "debug".getinfo;
local setmetatable, tostring, type = setmetatable, tostring, type;

-- Logs turn it into text at once, so one is enough.
local subject = setmetatable({}, {
	__tostring = function (self)
		local t = self.stanza;
		if type(t) == "string" then return t:match("^[^>]*>?"); end
		return t.top_tag and t:top_tag() or tostring(t);
	end;
});

-- Another module may have put something of its own in its place, that stays.
local function is_prosodys(send)
	return type(send) == "function" and debug_info(send, "S").source:find("sessionmanager.lua", 1, true) ~= nil;
end

local function replace(session)
	local original, filter = session.send, session.filter;
	if not is_prosodys(original) then return; end
	local function send(t)
		subject.stanza = t;
		session.log("debug", "Sending[%s]: %s", session.type, subject);
		subject.stanza = "";
		if t.name then
			t = filter("stanzas/out", t);
		end
		if t then
			return session.rawsend(t);
		end
		return true;
	end
	session.send = send;
	session.smacks_send = { original = original; ours = send };
end

local function restore(session)
	local sends = session.smacks_send;
	session.smacks_send = nil;
	if sends and session.send == sends.ours then
		session.send = sends.original;
	end
end

return {
	replace = replace;
	restore = restore;
};
