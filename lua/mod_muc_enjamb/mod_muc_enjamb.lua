-- Rooms of this server outlive it: the part of Enjamb that is on the room service.
--
-- It is loaded by mod_smacks and mod_minimix wherever mod_muc is, and keeps what a room is, who is in it and what was said
-- last, in the library's journal, from which all of it is back before the first client is: nobody has left, nobody joins
-- again, and nobody is told anything but what changed. The room is its component's, whoever is in it.
--
-- Beside this file: keeping (what changed of a room, and is noted before an ack leaves), restore (rooms that are back),
-- absent (occupants that are not), standing (occupants that may not be there any more), returning (who comes back to where the room
-- has it already), telling (what a room would tell), rerouted (what a room sends goes another way).

local modulemanager = require "core.modulemanager";

local version = "0.1.0";
require "enjamb.of_version"("mod_muc_enjamb", version);

-- mod_muc's environment. If that is reloaded so is this.
local muc = module:depends "muc";

local journal = module:require "journal";
local keeping = module:require "keeping"(muc, journal);
local absent = module:require "absent"(muc);
local standing = module:require "standing"(muc);
local restore = module:require "restore"(muc, keeping, absent, standing);
local returning = module:require "returning"(muc, absent);

-- For mod_minimix.
as_told = module:require "telling"(muc);

-- Outlives a reload.
local state = module:shared("state");

local started = false;
local function start()
	if started then return; end
	started = true;
	if not journal.open() then
		keeping.unload(true);
		return;
	end
	if not state.restored then
		state.restored = true;
		restore();
	end
	keeping.start();
end

-- Before sessions are back (mod_smacks, -10), and accounts in their rooms (mod_minimix, -20).
module:hook_global("server-started", start, -5);
if state.restored then
	start(); -- a reload: nothing may be acknowledged unnoted
elseif prosody.start_time then
	module:add_timer(0, function ()
		start();
		standing.apply();
	end);
end

-- What clients that went with the server left behind. Before the journal is closed (mod_smacks, -20).
module:hook_global("server-stopped", function ()
	keeping.note();
	journal.commit();
end, 10);

function module.unload()
	-- What is not followed is not kept. A reload follows it again at once.
	local stays = module.reloading or not modulemanager.is_loaded(module.host, "muc");
	returning.unload(not stays);
	keeping.unload(stays);
end
