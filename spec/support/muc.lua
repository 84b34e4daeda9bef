-- Chat rooms for the tests: what spec/minimix needs beyond support.lua.
--
--   local muc = require "support.muc";
--   muc.ordinary("joining", {}, function (ctx, it) ... end)   what a client sees of rooms, with minimix or without
--   muc.account("sharing", {}, function (ctx, it) ... end)    what there is only with minimix
--
-- Both start one server per version of Prosody with
--
--   localhost         accounts, with mod_minimix unless ENJAMB_MINIMIX=off
--   plain.localhost   accounts that are never with it
--   rooms.localhost, logged.localhost (keeps an archive), strict.localhost (makes people use their registered nick),
--   closed.localhost (only admins make rooms)
--
-- A client's picture of a room is what its presences add up to; the truth is what the room itself has.

local busted = require "busted";
local socket = require "socket";
local t = require "support";
local server = require "support.server";
local client = require "support.client";

local M = {};
M.ns, M.ns_user = "http://jabber.org/protocol/muc", "http://jabber.org/protocol/muc#user";
M.ns_owner, M.ns_admin = "http://jabber.org/protocol/muc#owner", "http://jabber.org/protocol/muc#admin";
M.ns_config = "http://jabber.org/protocol/muc#roomconfig";
M.ns_occupant_id = "urn:xmpp:occupant-id:0";
M.minimix = server.minimix;

local services = [[
VirtualHost "plain.localhost"
	modules_disabled = { "minimix"; "s2s"; "s2s_auth_certs" }
Component "rooms.localhost" "muc"
	restrict_room_creation = false
Component "logged.localhost" "muc"
	modules_enabled = { "muc_mam" }
	restrict_room_creation = false
Component "strict.localhost" "muc"
	enforce_registered_nickname = true
	restrict_room_creation = false
Component "closed.localhost" "muc"
	restrict_room_creation = true
]];

-- Options of a server for these tests.
function M.options(opts)
	local o = {};
	for k, v in pairs(opts or {}) do o[k] = v; end
	o.minimix = true;
	o.modules = { "carbons"; "pep"; "version"; "vcard_legacy"; "blocklist" };
	for _, name in ipairs(opts and opts.modules or {}) do table.insert(o.modules, name); end
	o.extra = services .. (opts and opts.extra or "");
	return o;
end

-- A server on which mod_minimix was to be loaded and isn't would pass for one that has it.
function M.check_loaded(srv, host)
	if not M.minimix then return; end
	if not srv:eval(("return prosody.hosts[%q].modules.minimix ~= nil"):format(host or srv.host)) then
		error("mod_minimix isn't loaded:\n" .. srv:log():match("[^\n]*minimix[^\n]*") or "", 0);
	end
end

function M.ordinary(name, opts, fn)
	t.each(name, M.options(opts), function (ctx, it)
		busted.lazy_setup(function () M.check_loaded(ctx.srv); end);
		fn(ctx, it);
	end);
end

local function without(name)
	busted.describe(name, function ()
		busted.pending("needs mod_minimix, which ENJAMB_MINIMIX=off leaves out");
	end);
end

function M.account(name, opts, fn)
	if not M.minimix then return without(name); end
	M.ordinary(name, opts, fn);
end

-- For tests that start their own servers: start(opts) as in support.lua's versions(), muc.start(start, opts) for one like those above.
function M.versions(name, fn)
	if not M.minimix then return without(name); end
	t.versions(name, fn);
end

function M.start(start, opts)
	local ctx = start(M.options(opts));
	M.check_loaded(ctx.srv);
	return ctx;
end

-- Two servers with a way to each other: a.test has accounts with mod_minimix, b.test accounts without it and rooms.b.test.
-- start is that of support.lua's versions(). opts: config, config_b, modules
function M.two_servers(start, opts)
	opts = opts or {};
	local function one(host, config, minimix, extra)
		return start {
			host = host, launch = false, with_s2s = true, config = config, modules = { "test_resolver"; "carbons"; table.unpack(opts.modules or {}) },
			certificates = true, minimix = minimix, extra = extra,
		};
	end
	local a = one("a.test", opts.config, true);
	local b = one("b.test", opts.config_b, false, 'Component "rooms.b.test" "muc"\nrestrict_room_creation = false');
	server.certificate(b.srv.dir .. "/certs", "rooms.b.test");
	local way = ([[test_resolver = { ["a.test"] = { "127.0.0.1", %d }, ["b.test"] = { "127.0.0.1", %d }, ["rooms.b.test"] = { "127.0.0.1", %d } }
]]):format(a.srv.s2s, b.srv.s2s, b.srv.s2s);
	a.srv:rewrite_config { config = way .. (opts.config or "") };
	b.srv:rewrite_config { config = way .. (opts.config_b or "") };
	a.srv:launch();
	b.srv:launch();
	M.check_loaded(a.srv);
	return a, b;
end

-- Elements ------------------------------------------------------------------

local function bare(jid)
	return jid and jid:match("^[^/]+");
end
local function nick_of(jid)
	return jid and jid:match("^[^/]+/(.*)$");
end
M.bare, M.nick_of = bare, nick_of;

function M.item(el)
	local x = el:child("x", M.ns_user);
	return x and x:child("item");
end

-- The status codes of a stanza, sorted: "110 307".
function M.codes(el)
	local x = el:child("x", M.ns_user);
	local out = {};
	for _, c in ipairs(x and x:children() or {}) do
		if c.name == "status" then out[#out + 1] = c.attr.code; end
	end
	table.sort(out);
	return table.concat(out, " ");
end

function M.has_code(el, code)
	return (" " .. M.codes(el) .. " "):find(" " .. code .. " ", 1, true) ~= nil;
end

local function is_from(el, room)
	return el.attr.from and (el.attr.from == room or el.attr.from:sub(1, #room + 1) == room .. "/");
end

local function is_subject(el, room)
	return el.name == "message" and el.attr.type == "groupchat" and is_from(el, room) and el:child("subject") and not el:child("body");
end

-- A predicate for presence of a nick; kind is nil for available ones.
function M.presence_of(room, nick, kind, code)
	return function (el)
		return el.name == "presence" and el.attr.from == room .. "/" .. nick and el.attr.type == kind
			and (not code or M.has_code(el, code));
	end;
end

function M.groupchat(room, nick, body)
	return function (el)
		return el.name == "message" and el.attr.type == "groupchat" and el:body() == body
			and el.attr.from == (nick and room .. "/" .. nick or room);
	end;
end

-- All of the room's stanzas that a client has got since `from` (a mark).
function M.mark(c) return #c.seen + 1; end

function M.got(c, from, what)
	local slice = table.move(c.seen, from or 1, #c.seen, 1, {});
	return what and t.only(slice, what) or slice;
end

function M.got_from(c, from, room)
	return M.got(c, from, function (el) return is_from(el, room); end);
end

-- Lets everything that's on its way on this server arrive: what one client sent has been processed, and what came of it
-- has come to all of them.
function M.settle(...)
	local clients = { ... };
	for _ = 1, 2 do
		for _, c in ipairs(clients) do
			if not c.closed then c:sync(); end
		end
	end
end

-- The last element of that kind that a client has got by now, and how many there were. (expect() skips what came before an
-- answer; this doesn't.)
function M.saw(c, what)
	M.settle(c);
	local list = M.got(c, 1, what);
	if #list == 0 then error(c.jid .. " never saw it:\n" .. c:history(), 2); end
	return list[#list], #list;
end

-- Rooms ---------------------------------------------------------------------

local rooms = 0;
function M.new_room(service)
	rooms = rooms + 1;
	return ("room%d@%s"):format(rooms, service or "rooms.localhost");
end

local function attributes(list)
	local out = {};
	for k, v in pairs(list or {}) do out[#out + 1] = (" %s='%s'"):format(k, t.escape(v)); end
	return table.concat(out);
end

-- Sends the presence that joins; its id. opts: password, history = attributes, extra = XML in the presence, x = false for
-- none of XEP-0045's.
function M.join(c, room, nick, opts)
	opts = opts or {};
	local id = opts.id or client.id();
	local x = "";
	if opts.x ~= false then
		x = ("<x xmlns='%s'>%s%s</x>"):format(M.ns,
			opts.password and "<password>" .. t.escape(opts.password) .. "</password>" or "",
			opts.history and "<history" .. attributes(opts.history) .. "/>" or "");
	end
	c:send(("<presence id='%s' to='%s/%s'>%s%s</presence>"):format(id, room, t.escape(nick), x, opts.extra or ""));
	return id;
end

-- Waits for the end of joining and takes it apart: { all = stanzas in order, others = presences, self = presence, history =
-- messages, subject = message, nicks = { "a", "b" } sorted }
function M.entered(c, room, seconds)
	local all = t.only(c:read_until(function (el)
		return is_subject(el, room) or el.name == "presence" and el.attr.type == "error" and is_from(el, room);
	end, seconds), function (el) return is_from(el, room); end);
	local out = { all = all, others = {}, history = {}, nicks = {} };
	for _, el in ipairs(all) do
		if el.attr.type == "error" then error("the room refused: " .. tostring(el), 2); end
		if el.name == "presence" and M.has_code(el, "110") then
			out.self = el;
			out.nick = nick_of(el.attr.from);
		elseif el.name == "presence" and nick_of(el.attr.from) then
			table.insert(out.others, el);
			table.insert(out.nicks, nick_of(el.attr.from));
		elseif is_subject(el, room) then out.subject = el;
		elseif el.name == "message" then table.insert(out.history, el); end
	end
	table.sort(out.nicks);
	return out;
end

function M.enter(c, room, nick, opts)
	local id = M.join(c, room, nick, opts);
	local entry = M.entered(c, room, opts and opts.seconds);
	entry.id = id;
	return entry;
end

-- Joins and expects to be refused; the condition, the type, the stanza.
function M.refused(c, room, nick, opts)
	local id = M.join(c, room, nick, opts);
	local el = c:expect(function (e)
		return e.name == "presence" and is_from(e, room) and (e.attr.type == "error" or M.has_code(e, "110"));
	end, opts and opts.seconds, "expected to be refused");
	busted.assert.equal("error", el.attr.type, tostring(el));
	busted.assert.equal(id, el.attr.id);
	busted.assert.equal(c.jid, el.attr.to);
	local err = el:child("error");
	return t.condition(err), err.attr.type, el;
end

function M.say(c, room, body, attrs, extra)
	local a = { type = "groupchat" };
	for k, v in pairs(attrs or {}) do a[k] = v; end
	a.id = a.id or client.id();
	c:message(room, body, a, extra);
	return a.id;
end

-- Waits for a groupchat message on each of the clients.
function M.all_hear(clients, room, nick, body)
	for _, c in ipairs(clients) do c:expect(M.groupchat(room, nick, body)); end
end

function M.leave(c, room, nick, extra)
	c:send(("<presence type='unavailable' to='%s/%s'>%s</presence>"):format(room, t.escape(nick), extra or ""));
end

-- Leaves and waits for one's own unavailable presence.
function M.left(c, room, nick, extra)
	M.leave(c, room, nick, extra);
	return c:expect(M.presence_of(room, nick, "unavailable", "110"));
end

-- Submits the owner's form; fields: name = value.
function M.configure(owner, room, fields)
	local form = {};
	for k, v in pairs(fields or {}) do
		form[#form + 1] = ("<field var='%s'><value>%s</value></field>"):format(k, t.escape(v));
	end
	if #form > 0 then
		table.insert(form, 1, ("<field var='FORM_TYPE'><value>%s</value></field>"):format(M.ns_config));
	end
	local answer = owner:iq("set", ("<query xmlns='%s'><x xmlns='jabber:x:data' type='submit'>%s</x></query>"):format(
		M.ns_owner, table.concat(form)), room);
	busted.assert.equal("result", answer.attr.type, tostring(answer));
	return answer;
end

-- Sets affiliation or role by an <item/>; the answer.
function M.admin(c, room, item)
	local reason = item.reason;
	item.reason = nil;
	return c:iq("set", ("<query xmlns='%s'><item%s>%s</item></query>"):format(M.ns_admin, attributes(item),
		reason and "<reason>" .. t.escape(reason) .. "</reason>" or ""), room);
end

function M.admin_ok(...)
	local answer = M.admin(...);
	busted.assert.equal("result", answer.attr.type, tostring(answer));
end

-- A client that's available, of a new account unless opts.user says which. opts.host: another than the server's first.
function M.client(ctx, opts)
	opts = opts or {};
	if not opts.host then
		opts.available = opts.available ~= false;
		return ctx:login(opts);
	end
	local name = "guest" .. client.id();
	ctx.srv:adduser(name, "secret", opts.host);
	local c = client.connect(ctx.srv, { host = opts.host });
	c:login(name, "secret", opts.resource);
	c:presence();
	c:expect({ name = "presence", from = c.jid });
	return c;
end

-- A new room with its owner in it, unlocked: room, owner. opts: nick, service, config = fields of the form.
function M.open(ctx, opts)
	opts = opts or {};
	local room = opts.room or M.new_room(opts.service);
	local owner = opts.owner or M.client(ctx, opts.client);
	M.enter(owner, room, opts.nick or "owner");
	M.configure(owner, room, opts.config);
	M.settle(owner);
	return room, owner;
end

-- A client in a room, and those that were there have seen it come.
function M.guest(ctx, room, nick, opts, ...)
	local c = M.client(ctx, opts and opts.client or nil);
	c.entry = M.enter(c, room, nick, opts);
	for _, other in ipairs { ... } do other:expect(M.presence_of(room, nick)); end
	return c;
end

-- What a room is to itself, and to a client by the presences that it got: nick -> { role, affiliation, show, status }.
function M.truth(srv, room)
	return srv:eval([[
		local room = host_module(a:match("@(.*)$"), "muc").get_room_from_jid(a);
		local out = {};
		for jid, o in pairs(room and room._occupants or {}) do
			local p = o:get_presence();
			out[jid:match("/(.*)$")] = { role = o.role, affiliation = room:get_affiliation(o.bare_jid) or "none",
				show = p:get_child_text("show"), status = p:get_child_text("status") };
		end
		return out;
	]], room);
end

function M.picture(c, room)
	local out = {};
	for _, el in ipairs(c.seen) do
		if el.name == "presence" and is_from(el, room) and nick_of(el.attr.from) then
			local nick, item = nick_of(el.attr.from), M.item(el);
			if not el.attr.type then
				out[nick] = { role = item.attr.role, affiliation = item.attr.affiliation,
					show = el:child_text("show"), status = el:child_text("status") };
			elseif el.attr.type == "unavailable" then
				out[nick] = nil;
				if M.has_code(el, "110") and not M.has_code(el, "303") then out = {}; end
			end
		end
	end
	return out;
end

-- The clients' pictures are the truth.
function M.in_step(ctx, room, ...)
	M.settle(...);
	local truth = M.truth(ctx.srv, room);
	for i, c in ipairs { ... } do
		busted.assert.same(truth, M.picture(c, room), ("client %d (%s)"):format(i, c.jid));
	end
	return truth;
end

-- Real addresses of the sessions that a room has: sorted.
function M.sessions(srv, room)
	return srv:eval([[
		local room = host_module(a:match("@(.*)$"), "muc").get_room_from_jid(a);
		local out = {};
		for jid, o in pairs(room and room._occupants or {}) do
			for real in o:each_session() do out[#out + 1] = real; end
		end
		table.sort(out);
		return out;
	]], room);
end

-- Bookmarks (XEP-0402) ---------------------------------------------------------

function M.bookmark(c, room, autojoin, nick, password)
	local answer = c:iq("set", ("<pubsub xmlns='http://jabber.org/protocol/pubsub'><publish node='urn:xmpp:bookmarks:1'><item id='%s'>"
		.. "<conference xmlns='urn:xmpp:bookmarks:1' autojoin='%s'>%s%s</conference></item></publish>"
		.. "<publish-options><x xmlns='jabber:x:data' type='submit'>"
		.. "<field var='FORM_TYPE' type='hidden'><value>http://jabber.org/protocol/pubsub#publish-options</value></field>"
		.. "<field var='pubsub#persist_items'><value>true</value></field><field var='pubsub#max_items'><value>max</value></field>"
		.. "<field var='pubsub#send_last_published_item'><value>never</value></field>"
		.. "<field var='pubsub#access_model'><value>whitelist</value></field></x></publish-options></pubsub>"):format(
		room, autojoin and "true" or "false", nick and "<nick>" .. nick .. "</nick>" or "",
		password and "<password>" .. password .. "</password>" or ""));
	busted.assert.equal("result", answer.attr.type, tostring(answer));
end

function M.retract(c, room)
	local answer = c:iq("set", ("<pubsub xmlns='http://jabber.org/protocol/pubsub'><retract node='urn:xmpp:bookmarks:1' notify='true'>"
		.. "<item id='%s'/></retract></pubsub>"):format(room));
	busted.assert.equal("result", answer.attr.type, tostring(answer));
end

-- Across servers there is no telling when everything has arrived but by asking for something that comes last.
function M.round_trip(room, ...)
	for _, c in ipairs { ... } do
		c:iq("get", "<query xmlns='http://jabber.org/protocol/disco#info'/>", room);
	end
	M.settle(...);
end

-- What is true in the end is true at some time; `seconds` to wait for it, 20 if it is not said.
function M.eventually(what, check, seconds)
	local deadline = socket.gettime() + (seconds or 20);
	local ok, err;
	repeat
		ok, err = pcall(check);
		if ok then return; end
		socket.sleep(0.05);
	until socket.gettime() > deadline;
	error(what .. ": " .. tostring(err), 2);
end

return M;
