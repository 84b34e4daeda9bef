-- Account-level MUC, the Prosody side of Enjamb: the account is in the room, its clients are in the account.
--
-- This file reads from a stanza what decisions hang on, asks the library (crates/muc-fork), and does what it says. It
-- decides nothing about the protocol and keeps no state but what is shared below.

local datetime = require "util.datetime";
local jid = require "util.jid";
local parse_xml = require "util.xml".parse;
local st = require "util.stanza";

local enjamb = require "enjamb";
local version = "0.1.0";
if enjamb.version ~= version then
	error("mod_minimix is of Enjamb "..version..", the library in memory of "..tostring(enjamb.version)
		..": restart Prosody after installing another version", 0);
end
local mx = enjamb.minimix;
local serialize = enjamb.serialize;

local has, groupchat_in, write_down = mx.has, mx.groupchat_in, mx.write_down;
local error_reply, st_clone, st_reply = st.error_reply, st.clone, st.reply;
local ipairs, next, pairs, select, tonumber = ipairs, next, pairs, select, tonumber;
local find, sub = string.find, string.sub;
local os_time = os.time;

local xmlns_errors = "urn:ietf:params:xml:ns:xmpp-stanzas";
local xmlns_muc2 = "urn:xmpp:muc:0";
local xmlns_delay = "urn:xmpp:delay";
local xmlns_muc = "http://jabber.org/protocol/muc";
local xmlns_muc_user = "http://jabber.org/protocol/muc#user";
local xmlns_ping = "urn:xmpp:ping";

local bare_sessions, hosts = prosody.bare_sessions, prosody.hosts;
local host = module.host;

-- Options -----------------------------------------------------------------------------------------------------------

local function get_number(name, default, min)
	local value = module:get_option_number(name, default);
	if value ~= value or value < min or value >= 2^31 then
		module:log("error", "Option '%s' must be a number from %d, using %d", name, min, default);
		return default;
	end
	return math.floor(value);
end

local function get_period(name, default)
	if module.get_option_period then -- Prosody 13
		local value = module:get_option_period(name, default);
		return value < 2^31 and math.max(1, math.floor(value)) or 2^31;
	end
	return get_number(name, default, 1);
end

local archive_groupchat = module:get_option_boolean("minimix_archive", false);
local offline = module:get_option_string("minimix_offline", "bookmarked");
if offline ~= "bookmarked" and offline ~= "stay" and offline ~= "leave" then
	module:log("error", "Option 'minimix_offline' must be \"bookmarked\", \"stay\" or \"leave\", not %q, using \"bookmarked\"", offline);
	offline = "bookmarked";
end
mx.configure(host, {
	offline = offline;
	max_rooms = get_number("minimix_max_rooms", 200, 1);
	join_timeout = get_period("minimix_join_timeout", 60);
	silence = get_period("minimix_ping_interval", 900);
});

-- Of the whole server: rooms are shared by the accounts of all hosts.
do
	local global = module:context("*");
	local function get_bytes(name, default)
		local value = global:get_option_number(name, default);
		if value ~= value or value < 2^16 or value >= 2^53 then
			module:log("error", "Option '%s' must be a number of bytes from %d, using %d", name, 2^16, default);
			return default;
		end
		return math.floor(value);
	end
	mx.limit(
		get_bytes("minimix_max_room_bytes", 32 << 20),
		get_bytes("minimix_max_account_bytes", 64 << 20),
		get_bytes("minimix_max_server_bytes", 1 << 30));
end

local function split(full)
	local slash = find(full, "/", 1, true);
	if slash then
		return sub(full, 1, slash - 1), sub(full, slash + 1);
	end
	return full;
end

-- Doing what was decided ----------------------------------------------------------------------------------------------

-- By host, what saves an account there: the library decides for all hosts at once.
local savers = module:shared("/*/minimix/savers");
-- Accounts whose memberships changed, until what is being done is done.
local unsaved = module:shared("/*/minimix/unsaved");
local depth = 0;
local stopping = false;

local function save()
	local account = next(unsaved);
	while account do
		unsaved[account] = nil;
		local save_account = savers[jid.host(account)];
		if save_account then
			local ok, err = xpcall(save_account, debug.traceback, account);
			if not ok then
				module:log("error", "The rooms of %s could not be saved: %s", account, err);
			end
		end
		account = next(unsaved);
	end
end

-- Adds and takes away status codes in the MUC extension of a presence.
local function set_codes(stanza, without, with)
	local x = stanza:get_child("x", xmlns_muc_user);
	if not x then return; end
	local present = {};
	x:maptags(function (tag)
		if tag.name == "status" then
			local code = tag.attr.code;
			if code and (without and without[code] or present[code]) then return nil; end
			present[code or ""] = true;
		end
		return tag;
	end);
	for code in pairs(with or {}) do
		if not present[code] then
			x:tag("status", { code = code }):up();
		end
	end
end

-- The room knows an account of ours by its bare JID. Who may see real JIDs gets a full one (XEP-0045 7.2.3): that of the
-- client whose presence it is.
local function complete_jids(stanza)
	local x = stanza:get_child("x", xmlns_muc_user);
	if not x then return; end
	local room = split(stanza.attr.from);
	for item in x:childtags("item") do
		local real = item.attr.jid;
		local resource = real and not find(real, "/", 1, true) and mx.shown(real, room);
		if resource then
			item.attr.jid = real.."/"..resource;
		end
	end
end

local replacing = module:require "replacing";
local is_held = replacing.is_held;

local function send_to_client(account, resource, stanza, edit)
	local user = bare_sessions[account];
	local session = user and user.sessions[resource];
	if not session then return; end
	local attr = stanza.attr;
	if is_held(account, resource, edit.from or attr.from) then return; end
	attr.to = session.full_jid;
	if edit.from then
		attr.from = edit.from;
	end
	if edit.id ~= nil then
		attr.id = edit.id or nil;
	end
	if edit.without or edit.with then
		set_codes(stanza, edit.without, edit.with);
	end
	if stanza.name == "presence" and attr.from then
		complete_jids(stanza);
	end
	if edit.delay_from then
		stanza:reset():tag("delay", { xmlns = xmlns_delay, from = edit.delay_from, stamp = datetime.datetime(edit.delay_at) }):up();
	end
	session.send(stanza);
end

local function is_not_muc(tag)
	if tag.name == "x" and tag.attr.xmlns == xmlns_muc then return nil; end
	return tag;
end

local actions = {};

function actions.forward(d, account, stanza)
	send_to_client(account, d.resource, st_clone(stanza), d);
end

function actions.serve(d)
	send_to_client(d.account, d.resource, parse_xml(d.stanza), d);
end

function actions.room(d, account, stanza)
	local copy = st_clone(stanza);
	copy.attr.from, copy.attr.to = account, d.to;
	if d.id ~= nil then
		copy.attr.id = d.id or nil;
	end
	if copy.name == "presence" then
		copy:maptags(is_not_muc);
	end
	module:send(copy);
end

function actions.send(d)
	module:send(parse_xml(d.stanza));
end

function actions.refuse(d, _, stanza, origin)
	origin.send(error_reply(stanza, d.type, d.condition, d.text));
end

function actions.answer(_, _, stanza)
	module:send(st_reply(stanza));
end

function actions.persist(d)
	unsaved[d.account] = true;
end

function actions.joined(d, _, stanza)
	local answer = st.iq({ type = d.nick and "result" or "error", id = d.id, from = d.account });
	if d.nick then
		answer:tag("join", { xmlns = xmlns_muc2, room = d.room }):text_tag("nickname", d.nick);
	elseif d.condition then
		answer:tag("error", { type = d.type }):tag(d.condition, { xmlns = xmlns_errors }):up()
			:text_tag("text", d.text, { xmlns = xmlns_errors });
	else
		answer:add_child(stanza:get_child("error"));
	end
	send_to_client(d.account, d.resource, answer, {});
end

-- What is done may bring the next thing in before it returns: rooms of this server answer at once.
local function act(decisions, account, stanza, origin)
	depth = depth + 1;
	for i = 1, #decisions do
		local d = decisions[i];
		-- What goes wrong with one must not keep the others from being done.
		local ok, err = xpcall(actions[d.what], debug.traceback, d, account, stanza, origin);
		if not ok then
			module:log("error", "Could not %s: %s", d.what, err);
		end
	end
	depth = depth - 1;
end

-- All that an event leads to has been sent, and so is queued.
local function done()
	if depth > 0 then return; end
	if next(unsaved) then
		save();
	end
	write_down();
end

local function perform(decisions, account, stanza, origin)
	act(decisions, account, stanza, origin);
	done();
	return true;
end

-- Reading stanzas -------------------------------------------------------------------------------------------------------

-- The part of a presence that says how somebody is, as bytes.
local function payload_of(stanza)
	local copy = st_clone(stanza);
	local attr = copy.attr;
	attr.from, attr.to, attr.id, attr.type = nil, nil, nil, nil;
	copy:maptags(is_not_muc);
	return serialize(copy);
end

local function seconds_of(text)
	local value = tonumber(text);
	return value and value >= 0 and value < 2^31 and math.floor(value) or nil;
end

local function read_join(x)
	local join = { password = x:get_child_text("password") };
	local history = x:get_child("history");
	if history then
		join.maxstanzas = seconds_of(history.attr.maxstanzas);
		join.maxchars = seconds_of(history.attr.maxchars);
		local since = history.attr.since and datetime.parse(history.attr.since);
		local seconds = seconds_of(history.attr.seconds);
		if seconds then
			since = math.max(since or 0, os_time() - seconds);
		end
		join.since = since and math.max(0, math.floor(since)) or nil;
	end
	return join;
end

local function error_condition(stanza)
	if stanza.attr.type ~= "error" then return nil; end
	return (select(2, stanza:get_error()));
end

local function read_room_presence(stanza)
	local said = {};
	if stanza.attr.type == "error" then
		local kind, condition = stanza:get_error();
		said.condition, said.wait = condition, kind == "wait";
	end
	-- Some rooms have several of them.
	for x in stanza:childtags("x", xmlns_muc_user) do
		said.codes = said.codes or {};
		for status in x:childtags("status") do
			said.codes[#said.codes+1] = tonumber(status.attr.code);
		end
		local item = x:get_child("item");
		said.nick = said.nick or item and item.attr.nick;
		said.destroyed = said.destroyed or x:get_child("destroy") ~= nil;
	end
	return said;
end

-- The time in the room's own delay.
local function room_stamp(stanza, room)
	for delay in stanza:childtags("delay", xmlns_delay) do
		local from = delay.attr.from;
		if not from or from == room or from == jid.host(room) then
			return datetime.parse(delay.attr.stamp or "");
		end
	end
end

-- What rooms keep: as Prosody's do.
local function kind_of_talk(stanza)
	local body = stanza:get_child("body");
	if not body and stanza:get_child("subject") and not stanza:get_child("thread") then
		return "subject";
	elseif stanza:get_child("no-store", "urn:xmpp:hints") or stanza:get_child("no-permanent-store", "urn:xmpp:hints") then
		return "passing";
	elseif body or stanza:get_child("store", "urn:xmpp:hints") or stanza:get_child("encryption", "urn:xmpp:eme:0")
	or stanza:get_child(nil, "urn:xmpp:chat-markers:0") then
		return "said";
	end
	return "passing";
end

local function bytes_of(stanza, without_id)
	local attr = stanza.attr;
	local to, id = attr.to, attr.id;
	attr.to = nil;
	if without_id then
		attr.id = nil;
	end
	local bytes = serialize(stanza);
	attr.to, attr.id = to, id;
	return bytes;
end

local function account_of(session)
	return session.username.."@"..session.host;
end

-- From clients --------------------------------------------------------------------------------------------------------

local function is_ours(origin)
	return origin.type == "c2s" and origin.username and origin.resource;
end

local function has_other_session(account, session)
	local user = bare_sessions[account];
	for _, other in pairs(user and user.sessions or {}) do
		if other ~= session then return true; end
	end
	return false;
end

local function client_gone(session, told, payload)
	if stopping then return; end
	local account = account_of(session);
	local decisions = mx.client_gone(account, session.resource, has_other_session(account, session), told, payload);
	if decisions[1] then
		perform(decisions, account);
	end
end

local function presence_from_client(event)
	local origin, stanza = event.origin, event.stanza;
	if not is_ours(origin) then return; end
	local to, kind = stanza.attr.to, stanza.attr.type;
	if kind == "probe" then
		if not to then return; end
		local room, nick = split(to);
		local account = account_of(origin);
		local decisions = mx.probe_out(account, origin.resource, room, nick, stanza.attr.id);
		return decisions and perform(decisions, account, stanza, origin);
	end
	if kind ~= nil and kind ~= "unavailable" and kind ~= "error" then return; end
	if not to then
		if kind == "unavailable" and not replacing.is_replaced(origin) then
			client_gone(origin, true, payload_of(stanza));
		end
		return;
	end
	local room, nick = split(to);
	local x = kind == nil and stanza:get_child("x", xmlns_muc);
	local account = account_of(origin);
	if not x and not has(account, room) then return; end
	local room_host = hosts[jid.host(room)];
	if room_host and room_host.type == "local" then return; end -- an account is no room
	replacing.joined(account, origin.resource, room);
	local decisions = mx.presence_out(account, origin.resource, room, nick, kind, stanza.attr.id, payload_of(stanza), x and read_join(x) or nil);
	if not decisions then return; end
	if origin.directed then
		-- mod_presence would tell the room that the client is gone, and from the client itself.
		origin.directed[to] = nil;
	end
	if origin.smacks_rooms then
		-- mod_smacks would tell the client after a restart that it is out of it.
		origin.smacks_rooms[room] = nil;
	end
	return perform(decisions, account, stanza, origin);
end

local function message_from_client(event)
	local origin, stanza = event.origin, event.stanza;
	local to = stanza.attr.to;
	if not to or not is_ours(origin) then return; end
	local room, nick = split(to);
	local account = account_of(origin);
	local decisions = mx.message_out(account, origin.resource, room, nick, stanza.attr.type, stanza.attr.id, error_condition(stanza));
	return decisions and perform(decisions, account, stanza, origin);
end

-- Who asks a room for these need not be in it, and its answer may be many messages: they go from the client itself.
local function is_asked_directly(payload)
	local xmlns = payload and payload.attr.xmlns or "";
	return xmlns == "http://jabber.org/protocol/disco#info" or xmlns == "http://jabber.org/protocol/disco#items"
		or sub(xmlns, 1, 13) == "urn:xmpp:mam:";
end

local function is_ping(stanza)
	return stanza.attr.type == "get" and stanza:get_child("ping", xmlns_ping) ~= nil;
end

-- The namespace of a request's payload, and what names the exchange that it belongs to: bytestreams and Jingle (XEP-0047, 0065, 0166),
-- commands (XEP-0050).
local function exchange_of(stanza)
	local kind, payload = stanza.attr.type, stanza.tags[1];
	if not payload or kind ~= "set" and kind ~= "get" then return; end
	return payload.attr.xmlns, payload.attr.sid or payload.attr.sessionid;
end

local function iq_from_client(event)
	local origin, stanza = event.origin, event.stanza;
	local to = stanza.attr.to;
	if not to or not is_ours(origin) then return; end
	local room, nick = split(to);
	if not nick and is_asked_directly(stanza.tags[1]) then return; end
	local account = account_of(origin);
	local decisions = mx.iq_out(account, origin.resource, room, nick, stanza.attr.type, stanza.attr.id, is_ping(stanza), exchange_of(stanza));
	return decisions and perform(decisions, account, stanza, origin);
end

-- After the modules that note, copy, archive or block what clients send.
module:hook("pre-presence/full", presence_from_client, -5);
module:hook("pre-presence/bare", presence_from_client, -5);
module:hook("pre-message/full", message_from_client, -5);
module:hook("pre-message/bare", message_from_client, -5);
module:hook("pre-iq/full", iq_from_client, -5);
module:hook("pre-iq/bare", iq_from_client, -5);

replacing.watch(mx, perform);
module:hook("resource-unbind", function (event)
	if not replacing.hold(event.session) then
		client_gone(event.session, false);
	end
end, -1);

-- From rooms ------------------------------------------------------------------------------------------------------------

local function presence_from_room(event)
	local stanza = event.stanza;
	local attr = stanza.attr;
	local account, kind = attr.to, attr.type;
	if not account or not attr.from or kind ~= nil and kind ~= "unavailable" and kind ~= "error" then return; end
	local room, nick = split(attr.from);
	if not has(account, room) then return; end
	local said = read_room_presence(stanza);
	local own = false;
	for _, code in ipairs(said.codes or {}) do
		own = own or code == 110;
	end
	-- Whose join it answered is of no use to those who are told later.
	local decisions = mx.presence_in(account, room, nick, kind, attr.id, bytes_of(stanza, own or kind == nil), said);
	return decisions and perform(decisions, account, stanza, event.origin);
end

-- A copy for each client: serialised before the next, so one table serves all.
local function send_copies(stanza, account, ...)
	local user = bare_sessions[account];
	if not user then return; end
	local attr, sessions = stanza.attr, user.sessions;
	for i = 1, select("#", ...) do
		local resource = select(i, ...);
		local session = sessions[resource];
		if session and not is_held(account, resource, attr.from) then
			attr.to = session.full_jid;
			session.send(stanza);
		end
	end
	attr.to = account;
end

local function deliver(event, account, pending, ...)
	local stanza = event.stanza;
	stanza.attr.to = account;
	if pending == nil then
		return;
	elseif pending == true then
		act(mx.pending(), account, stanza);
	elseif pending then
		module:log("error", "A message from %s cannot be handed on: %s", stanza.attr.from, pending);
		return true;
	end
	if select("#", ...) > 0 then
		send_copies(stanza, account, ...);
	elseif not bare_sessions[account] and kind_of_talk(stanza) == "said" and not room_stamp(stanza, split(stanza.attr.from)) then
		-- Nobody is there: whoever wakes devices may want to know (mod_cloud_notify does).
		module:fire_event("message/bare/groupchat", { origin = event.origin, stanza = stanza });
	end
	done();
	return true;
end

local function groupchat_from_room(event)
	local stanza = event.stanza;
	local attr = stanza.attr;
	local account = attr.to;
	attr.to = nil; -- what is kept is for all clients
	return deliver(event, account, groupchat_in(account, attr.from, attr.id, stanza));
end

local function message_from_room(event)
	local origin, stanza = event.origin, event.stanza;
	local attr = stanza.attr;
	local account, kind = attr.to, attr.type;
	local room, nick = split(attr.from);
	local is_in, attended = has(account, room);
	if not is_in then return; end
	local x = not nick and stanza:get_child("x", xmlns_muc_user);
	if x and (x:get_child("invite") or not attended and x:get_child("decline")) then return; end
	if not attended and kind ~= "error" then
		-- What is to be read goes where any message to the account does: to who is online, else to offline storage (XEP-0160 §3).
		if stanza:get_child("body") or stanza:get_child("encryption", "urn:xmpp:eme:0") then
			local user = bare_sessions[account];
			if user and user.top_resources and next(user.top_resources) then return; end
			-- An error must not come of it: the room would throw the account out.
			if nick then
				module:fire_event("message/offline/handle", { username = jid.node(account), origin = origin, stanza = stanza });
			end
		end
		return true;
	end
	local decisions = mx.message_in(account, room, nick, kind, attr.id, error_condition(stanza));
	return decisions and perform(decisions, account, stanza, origin);
end

-- Before mod_mam: what is not to be archived, and errors, which concern one client.
module:hook("message/bare", function (event)
	local attr = event.stanza.attr;
	if not attr.to or not attr.from then return; end
	if attr.type == "groupchat" then
		if not archive_groupchat then
			return groupchat_from_room(event);
		end
	elseif attr.type == "error" then
		return message_from_room(event);
	end
end, 10);

-- After mod_mam (0), which marks what it archived, before mod_carbons (-0.5) and mod_message (-1).
module:hook("message/bare", function (event)
	local attr = event.stanza.attr;
	if not attr.to or not attr.from then return; end
	if attr.type == "groupchat" then
		return groupchat_from_room(event);
	end
	return message_from_room(event);
end, -0.3);

module:hook("archive-should-store", function (event)
	local stanza = event.stanza;
	local attr = stanza.attr;
	if attr.type ~= "groupchat" or not archive_groupchat or not attr.to or not attr.from then return; end
	local room = split(attr.from);
	if has(attr.to, room) and mx.is_new(attr.to, room, bytes_of(stanza)) then
		event.reason = "minimix";
		return true;
	end
end);

-- What accounts answer, whoever asks through the room.
local of_account = {
	["vcard-temp"] = true;
	["http://jabber.org/protocol/pubsub"] = true;
	["urn:ietf:params:xml:ns:vcard-4.0"] = true;
};

local function iq_from_room(event)
	local stanza = event.stanza;
	local attr = stanza.attr;
	if not attr.to or not attr.from then return; end
	local room, nick = split(attr.from);
	local payload = stanza.tags[1];
	local decisions = mx.iq_in(attr.to, room, nick, attr.type, attr.id, is_ping(stanza),
		payload ~= nil and of_account[payload.attr.xmlns] or false, error_condition(stanza), exchange_of(stanza));
	return decisions and perform(decisions, attr.to, stanza, event.origin);
end

module:hook("presence/bare", presence_from_room, 10);
module:hook("iq/bare", iq_from_room, 10);

-- Time and the rest -------------------------------------------------------------------------------------------------------

local bounds = {
	room = "The occupants of room %s take more memory than minimix_max_room_bytes: not all are kept for clients that join later";
	account = "What rooms told %s takes more memory than minimix_max_account_bytes: not all is kept for its clients that join later";
	server = "What rooms told takes more memory than minimix_max_server_bytes: not all is kept for clients that join later";
};

local function tell_full(full)
	for _, notice in ipairs(full) do
		module:log("warn", "%s", bounds[notice.what]:format(notice.jid));
	end
end

local function tick()
	local decisions = mx.tick();
	if decisions then
		perform(decisions);
	end
	local full = mx.full();
	if full then
		tell_full(full);
	end
	return 1;
end
module:add_timer(1, tick);

local function server_lost(event)
	local session = event.session;
	local lost = session.type == "s2sout" and session.to_host or session.from_host;
	if lost then
		mx.server_lost(lost);
	end
end
module:hook("s2sout-destroyed", server_lost);
module:hook("s2sin-destroyed", server_lost);

local function server_up(event)
	local session = event.session;
	local other = session.type == "s2sout" and session.to_host or session.from_host;
	if other then
		mx.server_up(other, false);
	end
end
module:hook("s2sout-established", server_up);
module:hook("s2sin-established", server_up);

-- Services of this server: a component that connects, or is loaded, may know nothing of who was in its rooms.
local function watch_component(name)
	local component = hosts[name];
	if not component or component.type ~= "component" then return; end
	module:hook_object_event(component.events, "component-authenticated", function ()
		mx.server_up(name, true);
	end);
end
for name in pairs(hosts) do
	watch_component(name);
end
module:hook_global("host-activated", function (name)
	watch_component(name);
	mx.server_up(name, true);
end);

local bookmarks = module:require "bookmarks";
local memberships = module:require "memberships";

bookmarks.watch(mx, perform);
memberships.watch(mx, perform, savers, bookmarks.load);

module:hook("resource-bind", function (event)
	local account = account_of(event.session);
	memberships.look(event.session.username);
	bookmarks.load(account);
	perform(mx.online(account), account);
end, -10);

module:hook_global("user-deleted", function (event)
	if event.host ~= host then return; end
	local account = event.username.."@"..host;
	memberships.forget(event.username);
	perform(mx.account_deleted(account), account);
	bookmarks.forget(account);
end);

local room_services = module:require "mod_muc_enjamb/loading";
function module.unload()
	if not module.reloading then
		room_services.unload();
	end
end

-- Connections are closed on the way down; the accounts are in their rooms when the server is up again.
module:hook_global("server-stopping", function ()
	stopping = true;
end, 1000);
module:hook_global("server-stopped", write_down, -10);

if archive_groupchat then
	module:require "archive".offer();
end
module:require "measures".show(mx);
if module:get_option_boolean("minimix_muc2_pam", false) then
	module:require "pam".offer(mx, perform);
end
