-- Bookmarks (XEP-0402) in the account's PEP: what the library is told of them. It knows which rooms follow from them.

local jid_prep = require "util.jid".prep;
local jid_split = require "util.jid".split;
local resourceprep = require "util.encodings".stringprep.resourceprep;

local xmlns_bookmarks = "urn:xmpp:bookmarks:1";
local ask = require "enjamb.contain"(module).ask;
local is_at_accounts = require "enjamb.is_at_accounts";
local accounts = module:require "mod_smacks/accounts";
local hosts = prosody.hosts;
local host = module.host;

-- Accounts whose bookmarks the library knows. Outlives a reload, as the library does.
local loaded = module:shared("bookmarks");
-- And those whose bookmarks could not be read.
local unknown = module:shared("unknown_bookmarks");
-- By user, the nodes of mod_pep.
local pep_nodes = module:open_store("pep");
local mx, perform;

local function is_online(account)
	return prosody.bare_sessions[account] ~= nil;
end

local function published(account, id, item)
	local room = jid_prep(id);
	local node, _, resource = jid_split(room);
	if not node or resource or is_at_accounts(room) then return; end
	local conference = item and item:get_child("conference", xmlns_bookmarks);
	local bookmark;
	if conference then
		local value = conference.attr.autojoin;
		local nick = conference:get_child_text("nick");
		nick = nick and resourceprep(nick);
		bookmark = {
			autojoin = value == "true" or value == "1";
			nick = nick ~= "" and nick or nil;
			password = conference:get_child_text("password");
		};
	end
	perform(mx.bookmark(account, room, bookmark, is_online(account)), account);
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
		if loaded[account] then
			loaded[account][published_event.id] = true;
		end
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

-- An account's bookmarks. A storage that fails is no answer: mod_pep takes it for "there are none", or raises an error.
local function read(account)
	local username = jid_split(account);
	local ok, items = hosts[host].modules.pep.get_pep_service(username):get_items(xmlns_bookmarks, account);
	if ok and type(items) == "table" then return items; end
	if items ~= "item-not-found" then error(items, 0); end
	local nodes, err = pep_nodes:get(username);
	if not nodes and err or nodes and nodes[xmlns_bookmarks] then error(err or items, 0); end
	return {};
end

-- Whether that is mod_pep's answer for an account that is not there, and so it is. Asked only then: the provider may be slow.
local function is_no_account(account, reason)
	return reason == "forbidden" and not is_online(account) and accounts.exists((jid_split(account))) == false;
end

-- Says whether the account's bookmarks are known; if not, whether that is since there is no such account.
local function load(account)
	if loaded[account] then return true; end
	local pep = hosts[host].modules.pep;
	if not pep or not pep.get_pep_service then return true; end
	local ok, items = ask(read, account);
	if not ok then
		if is_no_account(account, items) then return false, true; end
		if not unknown[account] then
			unknown[account] = true;
			module:log("error", "It is not known which bookmarks %s has, so it stays in the rooms that it is in; which is tried again: %s", account, items);
			mx.bookmarks_known(account, false);
		end
		return false;
	end
	loaded[account] = {};
	for _, id in ipairs(items) do
		loaded[account][id] = true;
		-- What is wrong with one must not keep the others from being followed.
		local done, err = ask(published, account, id, items[id]);
		if not done then
			module:log("error", "The bookmark of %s for %s is not followed: %s", account, id, err);
		end
	end
	if unknown[account] then
		unknown[account] = nil;
		module:log("info", "The bookmarks of %s are known now", account);
		mx.bookmarks_known(account, true);
	end
	return true;
end

return {
	load = load;
	forget = function (account) loaded[account], unknown[account] = nil, nil; end;
	watch = function (library, perform_decisions)
		mx, perform = library, perform_decisions;
		module:handle_items("pep-service", watch_service, function () end, true);
	end;
};
