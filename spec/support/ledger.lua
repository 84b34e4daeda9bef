-- An exact account of messages: of each, whether its sender was told that it is handled, and who has got it how often.
--
--   local ledger = ledger.new()
--   local a = ledger:follow(client)         -- with stream management, nothing sent yet
--   a:send(b) a:ask() ledger:pump(0.1)
--   a:goes_on(other_client)                  -- which has resumed the session: what had not been handled is sent again
--   ledger:lost()                            -- of what was told handled, what its recipient has not got
--   ledger:missing()                         -- of all, what has not arrived
--
-- All numbers that a client is told count as told: in <a/> and in <resumed/>.

local socket = require "socket";

local M = {};
local Ledger, Entry = {}, {};
Ledger.__index, Entry.__index = Ledger, Entry;

function M.new()
	return setmetatable({ messages = {}, entries = {} }, Ledger);
end

-- The client's side of a session, whatever connection it has.
function Ledger:follow(client)
	local entry = setmetatable({ ledger = self, client = client, connections = { client }, sent = {}, told = 0, read = #client.seen, got = {} }, Entry);
	table.insert(self.entries, entry);
	return entry;
end

local function text_of(message)
	return message.text or ("<message type='chat' to='%s' id='%s'><body>%s</body><no-store xmlns='urn:xmpp:hints'/></message>"):format(
		message.to.client.jid, message.body, message.body);
end

function Entry:send(to)
	local message = { from = self, to = to, body = ("m%d"):format(#self.ledger.messages + 1) };
	table.insert(self.ledger.messages, message);
	table.insert(self.sent, message);
	return self.client:send(text_of(message));
end

-- Something else, of which it is known only whether it was handled.
function Entry:send_text(text)
	table.insert(self.sent, { from = self, text = text });
	return self.client:send(text);
end

function Entry:ask()
	return self.client:send("<r xmlns='urn:xmpp:sm:3'/>");
end

-- Looks at what has come in: messages, and numbers.
function Entry:look()
	local seen = self.client.seen;
	for i = self.read + 1, #seen do
		local el = seen[i];
		if el.name == "a" or el.name == "resumed" then
			local h = tonumber(el.attr.h);
			if h < self.told then error(("%s was told %d, and now %d"):format(self.client.jid, self.told, h), 0); end
			if h > #self.sent then error(("%s was told %d, and had sent %d"):format(self.client.jid, h, #self.sent), 0); end
			self.told = h;
		elseif el.name == "message" then
			local body = el:body();
			if el.attr.type == "error" then error("a message came back: " .. tostring(el), 0); end
			self.got[body] = (self.got[body] or 0) + 1;
		end
	end
	self.read = #seen;
end

-- Reads for so long, or shorter if done() says so.
function Ledger:pump(seconds, done)
	local deadline = socket.gettime() + seconds;
	repeat
		local socks, by_sock = {}, {};
		for _, entry in ipairs(self.entries) do
			if not entry.client.closed then
				table.insert(socks, entry.client.sock);
				by_sock[entry.client.sock] = entry;
			end
		end
		if #socks == 0 then break; end
		local ready = socket.select(socks, nil, math.max(0, math.min(0.1, deadline - socket.gettime())));
		for _, sock in ipairs(ready) do by_sock[sock].client:_pump(0); end
		for _, entry in ipairs(self.entries) do entry:look(); end
	until done and done() or socket.gettime() >= deadline;
end

-- The session has another connection. What was not handled is sent again, as clients do.
function Entry:goes_on(client)
	self:look();
	self.client = client;
	self.read = 0;
	table.insert(self.connections, client);
	self:look();
	for i = self.told + 1, #self.sent do
		self.sent[i].again = true;
		client:send(text_of(self.sent[i]));
	end
end

function Ledger:lost()
	local out = {};
	for _, entry in ipairs(self.entries) do
		for i = 1, entry.told do
			local message = entry.sent[i];
			if message.to and not message.to.got[message.body] then table.insert(out, message.body); end
		end
	end
	return out;
end

-- For those who are there.
function Ledger:missing()
	local out = {};
	for _, message in ipairs(self.messages) do
		if not message.to.client.closed and not message.to.got[message.body] then table.insert(out, message.body); end
	end
	return out;
end

-- What came more than once, though its sender did not send it again.
function Ledger:twice()
	local out = {};
	for _, message in ipairs(self.messages) do
		if (message.to.got[message.body] or 0) > 1 and not message.again then table.insert(out, message.body); end
	end
	return out;
end

function Ledger:count_told()
	local n = 0;
	for _, entry in ipairs(self.entries) do n = n + entry.told; end
	return n;
end

-- Reads until everybody was told that all is handled, and everything has arrived.
function Ledger:settle(seconds)
	local function is_settled()
		for _, entry in ipairs(self.entries) do
			if not entry.client.closed and entry.told < #entry.sent then return false; end
		end
		return #self:missing() == 0;
	end
	local deadline = socket.gettime() + (seconds or 30);
	repeat
		for _, entry in ipairs(self.entries) do
			if not entry.client.closed and entry.told < #entry.sent then entry:ask(); end
		end
		self:pump(0.5, is_settled);
	until is_settled() or socket.gettime() > deadline;
	return is_settled();
end

return M;
