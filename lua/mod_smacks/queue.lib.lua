-- The queue of unacknowledged stanzas, as other modules see it: session.outgoing_stanza_queue and the `queue` of events.
--
-- The library has the stanzas as bytes. Here they become stanzas when somebody looks at them.

local timer = require "util.timer";
local parse_xml = require "util.xml".parse;

local contain = require "enjamb.contain"(module);
local own_of = module:require "session";
local sm = require "enjamb".smacks;

local format = string.format;
local get_counts = sm.counts;
local error, ipairs, next, pairs, setmetatable, type = error, ipairs, next, pairs, setmetatable, type;

local callbacks = module:shared("callbacks");
local host_events = prosody.hosts[module.host].events;

-- What a stanza has of itself. The rest was put there by a module, as mod_cloud_notify marks what it has notified of.
local own_fields = { name = true, attr = true, tags = true, last_add = true, namespaces = true };

-- For so many seconds modules that notify a client of what is queued wait for more (mod_cloud_notify).
local notified_after = 1;

-- Of each queue, this many of the stanzas that somebody looked at stay tables; others while somebody has them.
local recent = 20;
local weak = { __mode = "v" };

local methods = {};
local queue_mt = { __name = "smacks queue", __index = methods };

-- `key` and `handle` are the library's; `from` is who delayed the stanzas.
local function new(key, handle, from)
	return setmetatable({ key = key; handle = handle; from = from }, queue_mt);
end

function methods:count_unacked()
	return (get_counts(self.key)) or 0;
end

function methods:count_acked()
	local _, acked = get_counts(self.key);
	return acked or 0;
end

function methods:count_bytes()
	local _, _, _, bytes = get_counts(self.key);
	return bytes or 0;
end

-- Nothing is ever dropped from a queue that is kept.
function methods:resumable() -- luacheck: ignore 212/self
	return true;
end

-- What is remembered of stanzas that somebody has looked at: `stanzas` and `marks` by number, and `recent`. Of most queues that is nothing.
local nothing = setmetatable({}, { __newindex = error });
methods.stanzas, methods.recent, methods.marks = nothing, nothing, nothing;

local function remember(queue)
	if queue.stanzas ~= nothing then return; end
	queue.stanzas, queue.recent, queue.marks = setmetatable({}, weak), {}, {};
end

-- The stanza of that number as a table: the same one for as long as anybody has it, with the marks that were left on it.
-- Nil if it cannot be had; and an error if it may be had later.
function methods:get(number)
	local stanza = self.stanzas[number];
	if stanza then return stanza; end
	local bytes, following, lost = sm.copies(self.key, number, number + 1, 0, nil, self.from);
	if not bytes then return nil, following; end
	if lost > 0 then
		module:log("error", "A stanza that was queued for %s is damaged on disk and lost", self.from);
		return nil;
	end
	local err;
	stanza, err = parse_xml(bytes);
	if not stanza then
		module:log("error", "A queued stanza is not well-formed XML, whoever sent it must be repaired: %s: %s", err, bytes);
		return nil;
	end
	local marks = self.marks[number];
	if marks then
		for field, value in pairs(marks) do
			stanza[field] = value;
		end
	end
	remember(self);
	self.seen = true;
	self.stanzas[number] = stanza;
	self.recent[number % recent] = stanza;
	return stanza;
end

-- The stanza that was queued last, if there is one.
function methods:last()
	local unacked, _, first = get_counts(self.key);
	return unacked and unacked > 0 and self:get(first + unacked - 1) or nil;
end

-- To be called when somebody may have left marks on the stanza, before it can be forgotten.
function methods:save_marks(number)
	local stanza = self.stanzas[number];
	if not stanza then return; end
	local marks;
	for field, value in pairs(stanza) do
		if type(field) == "string" and not own_fields[field] then
			marks = marks or {};
			marks[field] = value;
		end
	end
	self.marks[number] = marks;
end

function methods:table()
	local unacked, _, first = get_counts(self.key);
	local stanzas = {};
	for number = first or 1, (first or 1) + (unacked or 0) - 1 do
		stanzas[#stanzas+1] = self:get(number);
	end
	return stanzas;
end

function methods:resume()
	return ipairs(self:table());
end

-- Forgets what is known of stanzas that have left the queue.
function methods:purge()
	if not self.seen then return; end
	local unacked, _, first = get_counts(self.key);
	if not unacked or unacked == 0 then
		self.recent = {};
	end
	for _, known in ipairs { self.stanzas, self.marks } do
		for number in pairs(known) do
			if not first or number < first then
				known[number] = nil;
			end
		end
	end
	self.seen = next(self.stanzas) ~= nil or next(self.marks) ~= nil;
end

queue_mt.__len = methods.count_unacked;

function queue_mt.__tostring(queue)
	return format("smacks queue: %d unacked", queue:count_unacked());
end

function queue_mt.__freeze(queue)
	return { unacked = queue:count_unacked(); acked = queue:count_acked(); bytes = queue:count_bytes() };
end

-- An event whose queue is made when somebody looks at it.
local event_mt = {
	__index = function (event, key)
		if key ~= "queue" then return nil; end
		local queue = event.managed.outgoing_stanza_queue;
		local stanzas = queue and queue:table() or {};
		event.queue = stanzas;
		return stanzas;
	end;
};

local function is_hooked(event_name)
	return host_events.get_handlers(event_name) ~= nil;
end

-- Fires an event about `session` that has `queue`.
local function fire(event_name, session, event)
	if not is_hooked(event_name) then return; end
	event.managed = session;
	local result = contain.fire(event_name, session, setmetatable(event, event_mt));
	local queue = session.outgoing_stanza_queue;
	if queue then
		for number in pairs(queue.stanzas) do
			queue:save_marks(number);
		end
	end
	return result;
end

-- Fires the event for a stanza that was queued for a client who is away: the one of that number, or that was queued last.
local function fire_queued(session, number)
	local event_name = "smacks-hibernation-stanza-queued";
	if not is_hooked(event_name) then return; end
	local queue = session.outgoing_stanza_queue;
	if not number then
		local unacked, _, first = get_counts(queue.key);
		number = first + unacked - 1;
	end
	local event = { origin = session; stanza = queue:get(number); managed = session };
	contain.fire(event_name, session, setmetatable(event, event_mt));
	queue:save_marks(number);
	local own = own_of(session);
	if not own.is_telling then -- after theirs, which began with the same stanza
		own.is_telling = true;
		timer.add_task(notified_after, function () callbacks.told(session); end);
	end
end

return {
	adopt = function (queue) return setmetatable(queue, queue_mt); end;
	fire = fire;
	fire_queued = fire_queued;
	is_hooked = is_hooked;
	new = new;
};
