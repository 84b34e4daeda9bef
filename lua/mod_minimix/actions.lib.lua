-- Doing what the library decided: what goes to a client, to a room, to storage.

local jid = require "util.jid";
local parse_xml = require "util.xml".parse;
local st = require "util.stanza";

local mx = require "enjamb".minimix;
local direct = module:require "direct";
local protect = require "enjamb.contain"(module).protect;

local error_reply, st_clone, st_reply = st.error_reply, st.clone, st.reply;
local next, pairs, select = next, pairs, select;

local xmlns_errors = "urn:ietf:params:xml:ns:xmpp-stanzas";
local xmlns_muc2 = "urn:xmpp:muc:0";
local xmlns_muc = "http://jabber.org/protocol/muc";

local bare_sessions = prosody.bare_sessions;

-- By host, what saves an account there: the library decides for all hosts at once.
local savers = module:shared("/*/minimix/savers");
-- Accounts whose memberships changed, until what is being done is done.
local unsaved = module:shared("/*/minimix/unsaved");
-- And those of which what a client shows did, which it tells all its rooms at once: until this turn of the main loop is over.
local soon = {};
local depth = 0;

local function save()
	local account = next(unsaved);
	while account do
		unsaved[account] = nil;
		local save_account = savers[jid.host(account)];
		if save_account then
			local ok, err = protect(save_account, account);
			if not ok then
				module:log("error", "The rooms of %s could not be saved: %s", account, err);
			end
		end
		account = next(unsaved);
	end
end

local function save_soon()
	local all = soon;
	soon = {};
	for account in pairs(all) do
		unsaved[account] = true;
	end
	save();
end

local function client(account, resource)
	local user = bare_sessions[account];
	return user and user.sessions[resource];
end

local function is_not_muc(tag)
	if tag.name == "x" and tag.attr.xmlns == xmlns_muc then return nil; end
	return tag;
end

local actions = {};

function actions.forward(d, account, stanza)
	local session = client(account, d.resource);
	if not session then return; end
	local copy = st_clone(stanza);
	local attr = copy.attr;
	attr.to, attr.from = session.full_jid, d.from or attr.from;
	if d.id ~= nil then
		attr.id = d.id or nil;
	end
	session.send(copy);
end

function actions.serve(d)
	local session = client(d.account, d.resource);
	if session then
		direct.serve(session, d.copies, d.n);
	end
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

function actions.store(_, account, stanza, origin)
	module:fire_event("message/offline/handle", { username = jid.node(account), origin = origin, stanza = stanza });
end

function actions.wake(_, account, stanza, origin)
	if bare_sessions[account] then return; end
	-- mod_cloud_notify listens to it.
	module:fire_event("message/bare/groupchat", { origin = origin, stanza = stanza });
end

function actions.persist(d)
	unsaved[d.account] = true;
end

function actions.persist_soon(d)
	if not next(soon) then
		module:add_timer(0, save_soon);
	end
	soon[d.account] = true;
end

function actions.joined(d, _, stanza)
	local session = client(d.account, d.resource);
	if not session then return; end
	local answer = st.iq({ type = d.nick and "result" or "error", id = d.id, from = d.account });
	if d.nick then
		answer:tag("join", { xmlns = xmlns_muc2, room = d.room }):text_tag("nickname", d.nick);
	elseif d.condition then
		answer:tag("error", { type = d.type }):tag(d.condition, { xmlns = xmlns_errors }):up()
			:text_tag("text", d.text, { xmlns = xmlns_errors });
	else
		answer:add_child(stanza:get_child("error"));
	end
	answer.attr.to = session.full_jid;
	session.send(answer);
end

-- What is done may bring the next thing in before it returns: rooms of this server answer at once.
local function act(decisions, account, stanza, origin)
	depth = depth + 1;
	for i = 1, #decisions do
		local d = decisions[i];
		-- What goes wrong with one must not keep the others from being done.
		local ok, err = protect(actions[d.what], d, account, stanza, origin);
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
	mx.write_down();
end

local function perform(decisions, account, stanza, origin)
	act(decisions, account, stanza, origin);
	done();
	return true;
end

-- A copy for each client.
local function send_copies(stanza, account, in_hand, ...)
	local user = bare_sessions[account];
	if not user then return; end
	local attr, sessions = stanza.attr, user.sessions;
	for i = 1, select("#", ...) do
		local session = sessions[(select(i, ...))];
		if session then
			attr.to = session.full_jid;
			direct.send_copy(session, in_hand, stanza);
		end
	end
	attr.to = account;
end

-- Of a groupchat message: whether there are decisions, its number, and the resources of the clients that get a copy.
local function deliver(event, account, pending, in_hand, ...)
	local stanza = event.stanza;
	stanza.attr.to = account;
	if pending == nil then
		return;
	elseif pending == true then
		act(mx.pending(), account, stanza, event.origin);
	elseif pending then
		module:log("error", "A message from %s cannot be handed on: %s", stanza.attr.from, pending);
		return true;
	end
	if select("#", ...) > 0 then
		send_copies(stanza, account, in_hand, ...);
	end
	done();
	return true;
end

return {
	savers = savers;
	save_soon = save_soon;
	perform = perform;
	deliver = deliver;
};
