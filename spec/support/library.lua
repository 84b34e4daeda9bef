-- What the specs of the library want: the util libraries of the Prosody in ENJAMB_PROSODY_LIB (default: the installed one), and the
-- library of the tree in ENJAMB_TREE, for the Lua that this runs in. Plain Lua from 5.1 on, without a server, so that it can run under valgrind.

local prosody = os.getenv("ENJAMB_PROSODY_LIB") or "/usr/lib/prosody";
local tree = os.getenv("ENJAMB_TREE") or "build/tree";
local version = _VERSION:match("[%d.]+");
package.path = tree.."/share/lua/"..version.."/?.lua;"..prosody.."/?.lua;"..package.path;
package.cpath = prosody.."/?.so;"..package.cpath;
if not pcall(require, "prosody.loader") then pcall(require, "loader"); end
-- The loader of Prosody 13, by which its modules find each other under "prosody.", is not for Lua 5.1.
if package.loaders then -- luacheck: ignore 143/package
	table.insert(package.loaders, function (name) -- luacheck: ignore 143/package
		local found = name:match("^prosody%.(.+)");
		return found and function () return require(found); end;
	end);
end

-- Debian's Prosody is for one Lua. All that its stanzas want of what is compiled is whether a name is UTF-8, which names here are.
if not pcall(require, "util.encodings") then
	local function yes() return true; end
	local function move(from, first, last, at, to)
		for i = 0, last - first do to[at + i] = from[first + i]; end
		return to;
	end
	for _, name in ipairs { "util.encodings", "prosody.util.encodings" } do
		package.preload[name] = function () return { utf8 = { valid = yes } }; end;
	end
	for _, name in ipairs { "util.table", "prosody.util.table" } do
		package.preload[name] = function () return { create = function () return {}; end; move = table.move or move; }; end;
	end
end

return {
	enjamb = require "enjamb";
	prosody = prosody;
	-- Where 64 bits can be had, any of them as a float.
	any_float = function ()
		if string.unpack then
			local function bits() return math.random(0, 0xffff); end
			return (string.unpack("d", string.pack("I2I2I2I2", bits(), bits(), bits(), bits())));
		end
		return (math.random() - 0.5) * 2 ^ math.random(-1060, 1023);
	end;
	parse = require "util.xml".parse;
	st = require "util.stanza";
	unpack = table.unpack or unpack; -- luacheck: ignore 143/unpack 113/unpack
};
