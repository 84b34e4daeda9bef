-- What clients send: handed to the library, which decides what comes of it.

local jid = require "util.jid";

local enjamb = require "enjamb";
local by_itself = module:require "by_itself";
local mx, serialize = enjamb.minimix, enjamb.serialize;

local concerns, client_sends, lacks_jids = mx.concerns, mx.client_sends, mx.lacks_jids;
local is_at_accounts = require "enjamb.is_at_accounts";
local replaced = require "enjamb.replaced";
local pairs = pairs;

local bare_sessions = prosody.bare_sessions;
local perform, forget_account, told_by_room;
-- Connections are closed on the way down; the accounts are in their rooms when the server is up again.
local stopping = false;

local function is_client(origin)
	return origin.type == "c2s" and origin.username and origin.resource;
end

local function account_of(session)
	return session.username.."@"..session.host;
end

local function has_other_session(account, session)
	local user = bare_sessions[account];
	for _, other in pairs(user and user.sessions or {}) do
		if other ~= session then return true; end
	end
	return false;
end

-- `stanza`: the presence by which it goes, if it does so by itself.
local function gone(session, stanza)
	if stopping then return; end
	local account = account_of(session);
	local decisions = mx.client_gone(account, session.resource, has_other_session(account, session), stanza and serialize(stanza) or nil);
	if decisions[1] then
		perform(decisions, account);
	end
end

-- Decisions, or nil if the stanza goes its way.
local function ask(account, origin, stanza, to_account)
	local bytes, err = serialize(stanza);
	if not bytes then
		module:log("error", "A stanza from %s cannot be handed on: %s", origin.full_jid, err);
		return {};
	end
	return client_sends(account, origin.resource, bytes, to_account);
end

-- Of a client that is in the room by itself: once its account is in it too, the client gives up its own place.
local function perform_beside(origin, room, nick, decisions, account, stanza)
	by_itself.silently(origin, room, function ()
		perform(decisions, account, stanza, origin);
		if mx.has(account, room) then
			by_itself.send_leave(origin, room, nick);
		end
	end);
	return true;
end

local function presence(event)
	local origin, stanza = event.origin, event.stanza;
	if not is_client(origin) then return; end
	local to = stanza.attr.to;
	if not to then
		if stanza.attr.type == "unavailable" and not replaced.is(origin) then
			gone(origin, stanza);
		end
		return;
	end
	local account, room = account_of(origin), jid.bare(to);
	if lacks_jids(account, room) then
		-- The room tells nobody who is in it already whose they are, now that everybody may know; one that is here can be looked at.
		local told = told_by_room(account, room);
		if told then
			mx.show_jids(account, room, told);
		end
	end
	local decisions = ask(account, origin, stanza, is_at_accounts(to));
	if not decisions then return; end
	if origin.directed then
		-- mod_presence would tell the room that the client is gone, and from the client itself.
		origin.directed[to] = nil;
	end
	local nick = by_itself.nick_of(origin, room);
	if nick then
		return perform_beside(origin, room, nick, decisions, account, stanza);
	end
	return perform(decisions, account, stanza, origin);
end

local function message_or_iq(event)
	local origin, stanza = event.origin, event.stanza;
	local to = stanza.attr.to;
	if not to or not is_client(origin) then return; end
	local account = account_of(origin);
	if not concerns(account, to) then return; end
	local decisions = ask(account, origin, stanza, false);
	return decisions and perform(decisions, account, stanza, origin);
end

local function unbind(event)
	local session = event.session;
	if session.enjamb and session.enjamb.account_gone then -- mod_smacks has found that out after a restart
		local account = account_of(session);
		perform(forget_account(account), account);
		return;
	end
	if not replaced.is(session) then return gone(session); end -- else the library holds its places in rooms
	if stopping then return; end
	local account = account_of(session);
	local decisions = mx.replaced(account, session.resource);
	if decisions[1] then
		perform(decisions, account);
	end
end

return {
	account_of = account_of;
	presence = presence;
	message = message_or_iq;
	iq = message_or_iq;
	closes = replaced.note;
	unbind = unbind;
	stopping = function () stopping = true; end;
	watch = function (perform_decisions, account_forgetter, looker)
		perform, forget_account, told_by_room = perform_decisions, account_forgetter, looker;
	end;
};
