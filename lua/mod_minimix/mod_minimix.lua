-- Account-level MUC, the Prosody side of Enjamb: the account is in the room, its clients are in the account.
--
-- Hooks Prosody's events. What comes in is handed to the library (crates/muc-fork) by from_clients, from_rooms, servers, bookmarks and
-- memberships; actions does what it decides. Nothing here decides about the protocol or keeps state but what is shared.

if not pcall(require, "enjamb.refusal") then -- Prosody 0.11 does not look beside its modules
	package.path = package.path..";"..module:get_directory():gsub("[^/]*$", "").."?.lua";
end

local version = "0.1.0";
local enjamb = require "enjamb.of_version"("mod_minimix", version);
require "enjamb.prosody".prepare(module);
local mx = enjamb.minimix;

local host = module.host;

local options = module:require "options";
local actions = module:require "actions";
local from_clients = module:require "from_clients";
local from_rooms = module:require "from_rooms";
local servers = module:require "servers";
local bookmarks = module:require "bookmarks";
local by_itself = module:require "by_itself";
local memberships = module:require "memberships";
local room_services = module:require "mod_muc_enjamb/loading";

local perform = actions.perform;

-- After the modules that note, copy, archive or block what clients send.
module:hook("pre-presence/full", from_clients.presence, -5);
module:hook("pre-presence/bare", from_clients.presence, -5);
module:hook("pre-message/full", from_clients.message, -5);
module:hook("pre-message/bare", from_clients.message, -5);
module:hook("pre-iq/full", from_clients.iq, -5);
module:hook("pre-iq/bare", from_clients.iq, -5);
module:hook("pre-session-close", from_clients.closes, 10);
module:hook("resource-unbind", from_clients.unbind, -1);

from_rooms.watch(perform, actions.deliver);
module:hook("presence/bare", from_rooms.presence, 10);
-- Before mod_mam (0).
module:hook("message/bare", from_rooms.message_before_archive(options.archive_groupchat), 10);
-- After mod_mam, which marks what it archived, before mod_carbons (-0.5) and mod_message (-1).
module:hook("message/bare", from_rooms.message, -0.3);
module:hook("iq/bare", from_rooms.iq, 10);
if options.archive_groupchat then
	module:hook("archive-should-store", from_rooms.archive_groupchat);
	module:require "archive".offer();
end

servers.watch(perform);
module:add_timer(1, servers.tick);
module:hook("s2sout-established", servers.up);
module:hook("s2sin-established", servers.up);
module:hook("s2sout-destroyed", servers.lost);
module:hook("s2sin-destroyed", servers.lost);
module:hook_global("host-activated", servers.host_activated);

by_itself.watch();
bookmarks.watch(mx, perform);

-- Of an account that is no more: it leaves everything, by these decisions, and nothing is kept.
local function forget_account(account)
	memberships.forget((account:match("^[^@]*")));
	bookmarks.forget(account);
	return mx.account_deleted(account);
end

memberships.watch(mx, perform, actions.savers, bookmarks.load, forget_account);
from_clients.watch(perform, forget_account, memberships.remembered);

module:hook("resource-bind", function (event)
	local account = from_clients.account_of(event.session);
	memberships.look(event.session.username);
	bookmarks.load(account);
	perform(mx.online(account), account);
end, -10);

module:hook_global("user-deleted", function (event)
	if event.host ~= host then return; end
	local account = event.username.."@"..host;
	perform(forget_account(account), account);
end);

-- It cannot log in any more (from Prosody 13 on): it is out of its rooms, but its records stay, for when it may again.
module:hook_global("user-disabled", function (event)
	if event.host ~= host then return; end
	local account = event.username.."@"..host;
	bookmarks.forget(account);
	perform(mx.account_deleted(account), account);
	memberships.save(account);
end);

function module.unload()
	actions.save_soon();
	if not module.reloading then
		room_services.unload();
	end
end

module:hook_global("server-stopping", from_clients.stopping, 1000);
module:hook_global("server-stopping", actions.save_soon, 1000);
module:hook_global("server-stopped", mx.write_down, -10);

module:require "measures".show(mx);
if options.muc2_pam then
	module:require "pam".offer(mx, perform);
end
