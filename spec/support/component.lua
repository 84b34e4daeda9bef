-- A chat service that is an external component (XEP-0114), as gateways are: rooms as XEP-0045 has them and nothing more, which can
-- forget who is in them. It answers while it is pumped:
--
--   local gw = component.connect(srv, port, "gw.localhost");
--   gw:wait("in", function () assert.truthy(gw.occupants[ada.bare]); end);

local socket = require "socket";
local client = require "support.client";

local M = {};
local ns_user = "http://jabber.org/protocol/muc#user";
local ns_errors = "urn:ietf:params:xml:ns:xmpp-stanzas";
local escape = client.escape;

local Gateway = {};
Gateway.__index = Gateway;

-- opts: quiet (does not answer presence until it is told to by gw.quiet = false)
function M.connect(srv, port, host, opts)
	local c = client.connect(srv, { port = port, host = host });
	local gw = setmetatable({ c = c, host = host, occupants = {}, joins = {}, held = {}, quiet = opts and opts.quiet }, Gateway);
	c:send(("<stream:stream to='%s' xmlns='jabber:component:accept' xmlns:stream='http://etherx.jabber.org/streams'>"):format(host));
	local deadline = socket.gettime() + 20;
	while not c.stream and socket.gettime() < deadline do c:_pump(0.1); end
	c:send("<handshake>" .. srv:eval("return require 'util.hashes'.sha1(a, true)", c.stream.attr.id .. "secret") .. "</handshake>");
	c:expect("handshake");
	c._element = function (_, el) gw:take(el); end;
	return gw;
end

function Gateway:send(format, ...)
	local args = { ... };
	for i, arg in ipairs(args) do args[i] = escape(arg); end
	self.c:send(format:format(table.unpack(args)));
end

function Gateway:cut() self.c:cut(); end

function Gateway:pump(seconds) self.c:_pump(seconds or 0.02); end

-- Forgets everybody, without a word.
function Gateway:forget() self.occupants = {}; end

function Gateway:error(el, kind, condition)
	self:send("<" .. el.name .. " from='%s' to='%s' type='error' id='%s'><error type='%s'><" .. condition .. " xmlns='" .. ns_errors .. "'/></error></"
		.. el.name .. ">", el.attr.to, el.attr.from, el.attr.id or "", kind);
end

function Gateway:take(el)
	local from, to, kind, id = el.attr.from, el.attr.to, el.attr.type, el.attr.id or "";
	if el.name == "presence" and self.quiet then
		table.insert(self.held, el);
	elseif el.name == "presence" and kind == nil then
		local room, nick = to:match("^([^/]+)/(.*)$");
		local old = self.occupants[from];
		if el:child("x", "http://jabber.org/protocol/muc") then
			table.insert(self.joins, nick);
		elseif not old then
			return self:error(el, "cancel", "item-not-found");
		end
		if old and old.nick ~= nick then
			self:send("<presence from='%s' to='%s' type='unavailable'><x xmlns='" .. ns_user .. "'><item affiliation='member' role='none' nick='%s'/>"
				.. "<status code='303'/><status code='110'/></x></presence>", room .. "/" .. old.nick, from, nick);
		end
		self.occupants[from] = { room = room, nick = nick };
		self:send("<presence from='%s' to='%s' id='%s'><x xmlns='" .. ns_user .. "'><item affiliation='member' role='participant'/>"
			.. "<status code='110'/></x></presence>", to, from, id);
		if el:child("x", "http://jabber.org/protocol/muc") then
			self:send("<message from='%s' to='%s' type='groupchat'><subject>topic</subject></message>", room, from);
		end
	elseif el.name == "presence" and kind == "unavailable" then
		local who = self.occupants[from];
		if who then
			self.occupants[from] = nil;
			self:send("<presence from='%s' to='%s' type='unavailable' id='%s'><x xmlns='" .. ns_user .. "'><item affiliation='member' role='none'/>"
				.. "<status code='110'/></x></presence>", who.room .. "/" .. who.nick, from, id);
		end
	elseif not self.occupants[from] then
		if kind ~= "error" and kind ~= "result" then self:error(el, "cancel", "not-acceptable"); end
	elseif el.name == "iq" and (kind == "get" or kind == "set") then
		self:send("<iq from='%s' to='%s' type='result' id='%s'/>", to, from, id);
	end
end

-- Answers presence that was held back, in its order.
function Gateway:answer()
	self.quiet = false;
	local held = self.held;
	self.held = {};
	for _, el in ipairs(held) do self:take(el); end
end

function Gateway:say(room, text)
	for jid, who in pairs(self.occupants) do
		if who.room == room then
			self:send("<message from='%s' to='%s' type='groupchat'><body>%s</body></message>", room .. "/bot", jid, text);
		end
	end
end

-- Pumps until `check` raises no error. Clients given are pumped, too.
function Gateway:wait(what, check, ...)
	local deadline = socket.gettime() + 30;
	while true do
		self:pump();
		for _, c in ipairs { ... } do c:_pump(0); end
		local ok, err = pcall(check);
		if ok then return; end
		if socket.gettime() > deadline then error(what .. ": " .. tostring(err), 2); end
	end
end

return M;
