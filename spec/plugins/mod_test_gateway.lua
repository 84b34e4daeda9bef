-- A service of rooms that say what a test wrote for them, in the order in which it did: see spec/support/gateway.lua.

local json = require "util.json";
local jid = require "util.jid";
local parse = require "util.xml".parse;
local st = require "util.stanza";

local rooms = {};

local function post(text, values)
	text = text:gsub("%$(%l+)", function (name) return values[name] and st.xml_escape(values[name]); end);
	local stanza = parse((text:gsub("^<(%a+)", "<%1 xmlns='jabber:client'")));
	stanza.attr.xmlns = nil;
	module:send(stanza);
end

local function say(room, lines, to, id)
	for _, text in ipairs(room[lines] or {}) do
		post(text, { room = room.jid, nick = room.inside[to] or room.nicks[to], to = to, id = id });
	end
end

local function handle(event)
	local stanza = event.stanza;
	local attr = stanza.attr;
	local room = rooms[jid.bare(attr.to)];
	if not room then return; end
	local nick = jid.resource(attr.to);
	local kind = attr.type;
	table.insert(room.got, tostring(stanza));
	if kind == "error" or stanza.name == "iq" and kind == "result" then return true; end
	if stanza.name == "presence" and kind == nil then
		if stanza:get_child("x", "http://jabber.org/protocol/muc") then
			room.joins = room.joins + 1;
			room.inside[attr.from], room.nicks[attr.from] = nick, nick;
			say(room, "join", attr.from, attr.id);
		elseif room.inside[attr.from] then
			room.inside[attr.from] = nick;
			say(room, "update", attr.from, attr.id);
		end
	elseif stanza.name == "presence" and kind == "unavailable" then
		if room.inside[attr.from] then
			say(room, "leave", attr.from, attr.id);
			room.inside[attr.from] = nil;
		end
	elseif not room.inside[attr.from] then
		module:send(st.error_reply(stanza, "cancel", "not-acceptable"));
	elseif stanza.name == "iq" then
		if not room.silent then module:send(st.reply(stanza)); end
	elseif stanza.name == "message" and kind == "groupchat" then
		local from = room.jid.."/"..(room.given or room.inside[attr.from]);
		for to in pairs(room.inside) do
			local copy = st.clone(stanza);
			copy.attr.from, copy.attr.to = from, to;
			module:send(copy);
		end
	end
	return true;
end
for _, name in ipairs { "presence", "message", "iq" } do
	module:hook(name.."/full", handle, 10);
	module:hook(name.."/bare", handle, 10);
end

-- For the tests, through mod_test_control.
function module.environment.script(room_jid, text)
	local room = rooms[room_jid] or { jid = room_jid, inside = {}, nicks = {}, joins = 0, got = {} };
	rooms[room_jid] = room;
	for key, value in pairs(json.decode(text)) do
		room[key] = value;
	end
end

function module.environment.says(room_jid, text)
	local room = rooms[room_jid];
	local inside = {};
	for to in pairs(room.inside) do inside[#inside+1] = to; end
	for _, to in ipairs(inside) do
		post(text, { room = room_jid, nick = room.inside[to], to = to });
	end
end

function module.environment.forget(room_jid)
	rooms[room_jid].inside = {};
end

function module.environment.facts(room_jid)
	local room = rooms[room_jid];
	local n = 0;
	for _ in pairs(room.inside) do n = n + 1; end
	return { joins = room.joins, inside = n, got = room.got };
end
