-- Rooms that are not as XEP-0045 has them: gateways to other networks, old or small services. Such a room says what is
-- written for it, in that order; $room, $nick (the one that was asked for), $to and $id (of the join) stand for what they
-- are then.
--
--   muc.account("odd rooms", gateway.options, function (ctx, it) ... end)
--   local room = gateway.open(ctx, { join = { gateway.occupant("bob"), gateway.own(), gateway.subject() } })
--   gateway.says(ctx, room, gateway.message("bob", "<body>hi</body>"))
--   gateway.forget(ctx, room)      it does not know who is in it any more, as after a restart

local json = require "dkjson";
local t = require "support";
local muc = require "support.muc";

local M = {};
M.options = { extra = 'Component "gw.localhost" "test_gateway"\n' };

local function call(ctx, what, room, text)
	return ctx.srv:eval(("return require 'core.modulemanager'.get_module('gw.localhost', 'test_gateway').%s(a, b)"):format(what), room, text);
end

function M.script(ctx, room, script)
	call(ctx, "script", room, json.encode(script));
end

function M.open(ctx, script)
	local room = muc.new_room("gw.localhost");
	local defaults = { join = { M.own(), M.subject() }; leave = { M.gone("$nick", { 110 }) }; update = { M.own() } };
	M.script(ctx, room, setmetatable(defaults, nil));
	M.script(ctx, room, script or {});
	return room;
end

function M.says(ctx, room, text) call(ctx, "says", room, text); end
function M.forget(ctx, room) call(ctx, "forget", room); end
function M.facts(ctx, room) return call(ctx, "facts", room); end

local function x(item, codes)
	local out = { ("<x xmlns='%s'><item %s/>"):format(muc.ns_user, item) };
	for _, code in ipairs(codes or {}) do out[#out + 1] = ("<status code='%d'/>"):format(code); end
	return table.concat(out) .. "</x>";
end

-- opts: jid, affiliation, role, codes, extra, id, from (for a nickname that is not asked for)
local function presence(nick, opts, attributes)
	local item = ("affiliation='%s' role='%s'%s"):format(opts.affiliation or "none", opts.role or "participant",
		opts.jid and (" jid='%s'"):format(opts.jid) or "");
	return ("<presence from='$room/%s' to='$to'%s%s>%s%s</presence>"):format(nick, opts.id and (" id='%s'"):format(opts.id) or "",
		attributes or "", x(item, opts.codes), opts.extra or "");
end

function M.occupant(nick, opts) return presence(nick, opts or {}); end

function M.gone(nick, codes) return presence(nick, { role = "none", codes = codes }, " type='unavailable'"); end

-- One's own presence; opts.id: the join's unless it is false or another. opts.nick: the one that the room gives.
function M.own(opts)
	opts = opts or {};
	local id = opts.id;
	if id == nil then id = "$id"; end
	return presence(opts.nick or "$nick", { affiliation = "member", codes = opts.codes or { 110 }, id = id or nil, extra = opts.extra, jid = opts.jid });
end

-- The room's, so many seconds ago.
function M.delay(seconds)
	return ("<delay xmlns='%s' from='$room' stamp='%s'/>"):format(t.ns_delay, M.ago(seconds));
end

-- opts: id, stamp, sid
function M.message(nick, inside, opts)
	opts = opts or {};
	return ("<message from='$room%s' to='$to' type='groupchat'%s>%s%s%s</message>"):format(nick and "/" .. nick or "",
		opts.id and (" id='%s'"):format(opts.id) or "", inside,
		opts.sid and ("<stanza-id xmlns='urn:xmpp:sid:0' by='$room' id='%s'/>"):format(opts.sid) or "",
		opts.stamp and ("<delay xmlns='%s' from='$room' stamp='%s'/>"):format(t.ns_delay, opts.stamp) or "");
end

function M.words(nick, text, opts) return M.message(nick, "<body>" .. text .. "</body>", opts); end

function M.subject(text, opts)
	return M.message(opts and opts.nick, text and "<subject>" .. text .. "</subject>" or "<subject/>", opts);
end

-- Seconds ago, as rooms write it.
function M.ago(seconds) return os.date("!%Y-%m-%dT%H:%M:%SZ", os.time() - (seconds or 0)); end

-- What a client got of a room as words: "bob", "-bob" (gone), "self 110", "hello", "subject". From a mark on.
function M.story(c, room, from)
	local out = {};
	for _, el in ipairs(muc.got_from(c, from or 1, room)) do
		local nick, codes = muc.nick_of(el.attr.from) or "", muc.codes(el);
		if el.name == "presence" then
			out[#out + 1] = (el.attr.type == "unavailable" and "-" or el.attr.type == "error" and "!" or "") .. nick .. (codes ~= "" and " " .. codes or "");
		elseif el:body() then out[#out + 1] = "'" .. el:body();
		elseif el:child("subject") then out[#out + 1] = "subject " .. (el:child_text("subject") or "");
		else out[#out + 1] = "(" .. (el:children()[1] or el).name .. ")"; end
	end
	return out;
end

-- Gateways, by what is peculiar about the way they answer. nick: the one that the other network gives, if it is another.
M.shapes = {
	-- IRC: no ids on what others say, the service renames people, a topic that its setter said.
	biboumi = function ()
		return {
			join = {
				M.occupant("bob", { jid = "bob!~bob@host.test" }), M.own { codes = { 110 }, jid = "ada!~ada@host.test" },
				M.subject("topic", { nick = "bob" }),
			};
			said = function (text) return M.words("bob", text); end;
			renamed = function (from, to) return {
				("<presence from='$room/%s' to='$to' type='unavailable'>%s</presence>"):format(from,
					x(("affiliation='none' role='participant' nick='%s'"):format(to), { 303, 110 })),
				("<presence from='$room/%s' to='$to'>%s</presence>"):format(to, x("affiliation='none' role='participant'", { 110 })),
			}; end;
		};
	end;
	-- Others' legacy rooms: history with times, in the middle of it somebody comes; ids everywhere, a subject with a time.
	slidge = function ()
		return {
			join = {
				M.occupant("bob", { extra = "<occupant-id xmlns='urn:xmpp:occupant-id:0' id='b'/>" }), M.own { codes = { 100, 110, 210 }, id = "s1" },
				M.words("bob", "before", { id = "b1", sid = "sid1", stamp = M.ago(100) }),
				M.occupant("eve"),
				M.subject("topic", { nick = "bob", stamp = M.ago(1000) }),
			};
			said = function (text) return M.words("bob", text, { id = text, sid = "sid-" .. text }); end;
			before = { "before" };
		};
	end;
	-- Matrix: messages in the middle of many presences, another nickname than one asked for, nothing says that it is.
	bifrost = function ()
		return {
			join = {
				M.occupant("bob"), M.words("bob", "meanwhile", { id = "m1" }), M.occupant("eve"), M.own { nick = "ada-given", id = "b1" },
				M.subject(),
			};
			given = "ada-given";
			leave = { M.gone("ada-given", { 110 }) };
			update = { M.own { nick = "ada-given", id = false } };
			said = function (text) return M.words("bob", text, { id = text }); end;
			before = { "meanwhile" };
		};
	end;
	-- A bridge bot without ids or times, and an IRC-like service without status codes.
	bare = function ()
		return {
			join = { M.own { codes = {}, id = false }, M.occupant("bob") };
			leave = { M.gone("$nick", {}) };
			update = { M.own { codes = {}, id = false } };
			said = function (text) return M.words("bob", text); end;
		};
	end;
};

return M;
