-- Bookmarks (XEP-0402) in the account's PEP: what the library is told of them. It knows which rooms follow from them.

local jid_prep = require "util.jid".prep;
local jid_split = require "util.jid".split;
local resourceprep = require "util.encodings".stringprep.resourceprep;

local xmlns_bookmarks = "urn:xmpp:bookmarks:1";
local hosts = prosody.hosts;
local host = module.host;

-- Accounts whose bookmarks the library knows. Outlives a reload, as the library does.
local loaded = module:shared("bookmarks");
local mx, perform;

local function is_online(account)
	return prosody.bare_sessions[account] ~= nil;
end

local function published(account, id, item)
	local room = jid_prep(id);
	local node, _, resource = jid_split(room);
	if not node or resource then return; end
	local conference = item and item:get_child("conference", xmlns_bookmarks);
	local autojoin, nick, password;
	if conference then
		local value = conference.attr.autojoin;
		autojoin = value == "true" or value == "1";
		nick = conference:get_child_text("nick");
		nick = nick and resourceprep(nick);
		password = conference:get_child_text("password");
	end
	perform(mx.bookmark(account, room, autojoin, nick ~= "" and nick or nil, password, is_online(account)), account);
end

local function retract_all(account)
	for room in pairs(loaded[account] or {}) do
		published(account, room);
	end
end

local function watch_service(event)
	local service, account = event.item.service, event.item.jid;
	-- A service may be forgotten and made again; a handler of an old one is never called.
	service.events.add_handler("item-published", function (published_event)
		if published_event.node ~= xmlns_bookmarks then return; end
		loaded[account] = loaded[account] or {};
		loaded[account][published_event.id] = true;
		published(account, published_event.id, published_event.item);
	end);
	service.events.add_handler("item-retracted", function (retracted_event)
		if retracted_event.node ~= xmlns_bookmarks then return; end
		if loaded[account] then
			loaded[account][retracted_event.id] = nil;
		end
		published(account, retracted_event.id);
	end);
	local function emptied(node_event)
		if node_event.node == xmlns_bookmarks then
			retract_all(account);
		end
	end
	service.events.add_handler("node-purged", emptied);
	service.events.add_handler("node-deleted", emptied);
end

local function load(account)
	if loaded[account] then return; end
	local pep = hosts[host].modules.pep;
	if not pep or not pep.get_pep_service then return; end
	loaded[account] = {};
	local ok, items = pep.get_pep_service(jid_split(account)):get_items(xmlns_bookmarks, account);
	if not ok or type(items) ~= "table" then return; end
	for _, id in ipairs(items) do
		loaded[account][id] = true;
		published(account, id, items[id]);
	end
end

return {
	load = load;
	forget = function (account) loaded[account] = nil; end;
	watch = function (library, perform_decisions)
		mx, perform = library, perform_decisions;
		module:handle_items("pep-service", watch_service, function () end, true);
	end;
};
