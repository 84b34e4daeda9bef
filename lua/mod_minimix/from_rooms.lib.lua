-- What rooms send to accounts: handed to the library, which decides what comes of it.

local enjamb = require "enjamb";
local mx, serialize = enjamb.minimix, enjamb.serialize;

local concerns, groupchat_in, is_new, room_sends = mx.concerns, mx.groupchat_in, mx.is_new, mx.room_sends;
local next = next;

local bare_sessions = prosody.bare_sessions;
local perform, deliver;

local function takes_messages(account)
	local user = bare_sessions[account];
	return user ~= nil and user.top_resources ~= nil and next(user.top_resources) ~= nil;
end

local function groupchat(event)
	local stanza = event.stanza;
	local attr = stanza.attr;
	local account = attr.to;
	if not account or not attr.from then return; end
	attr.to = nil; -- what is kept is for all clients
	return deliver(event, account, groupchat_in(account, attr.from, attr.id, stanza));
end

-- Any other stanza.
local function other(event)
	local stanza = event.stanza;
	local attr = stanza.attr;
	local account = attr.to;
	if not account or not attr.from or not concerns(account, attr.from) then return; end
	local bytes, err = serialize(stanza);
	if not bytes then
		module:log("error", "A stanza from %s cannot be handed on: %s", attr.from, err);
		return true;
	end
	local decisions = room_sends(bytes, takes_messages(account));
	return decisions and perform(decisions, account, stanza, event.origin);
end

local function message(event)
	if event.stanza.attr.type == "groupchat" then
		return groupchat(event);
	end
	return other(event);
end

-- What is not seen by mod_mam: groupchat messages if they are not to be archived, and errors, which concern one client.
local function message_before_archive(archive_groupchat)
	return function (event)
		local kind = event.stanza.attr.type;
		if kind == "groupchat" and not archive_groupchat or kind == "error" then
			return message(event);
		end
	end
end

local function archive_groupchat(event)
	local stanza = event.stanza;
	local attr = stanza.attr;
	if attr.type ~= "groupchat" or not attr.to or not attr.from or not concerns(attr.to, attr.from) then return; end
	local bytes = serialize(stanza);
	if bytes and is_new(attr.to, attr.from, bytes) then
		event.reason = "minimix";
		return true;
	end
end

return {
	presence = other;
	message = message;
	message_before_archive = message_before_archive;
	archive_groupchat = archive_groupchat;
	iq = other;
	watch = function (perform_decisions, deliver_copies) perform, deliver = perform_decisions, deliver_copies; end;
};
