-- Turns received XML into tables: { name =, ns =, attr = { .. }, <children and strings> }.

local lxp = require "lxp";

local M = {};
local Element = {};
Element.__index = Element;
M.Element = Element;

function Element:child(name, ns)
	for _, c in ipairs(self) do
		if type(c) == "table" and (not name or c.name == name) and (not ns or c.ns == ns) then return c; end
	end
	return nil;
end

function Element:children()
	local out = {};
	for _, c in ipairs(self) do
		if type(c) == "table" then out[#out + 1] = c; end
	end
	return out;
end

function Element:text()
	local out = {};
	for _, c in ipairs(self) do
		if type(c) == "string" then out[#out + 1] = c; end
	end
	return table.concat(out);
end

function Element:child_text(name, ns)
	local c = self:child(name, ns);
	return c and c:text();
end

-- The text of <body/>, which most tests tell messages apart by.
function Element:body()
	return self:child_text("body");
end

function Element:is_stanza()
	return self.name == "message" or self.name == "presence" or self.name == "iq";
end

local escapes = { ["<"] = "&lt;", [">"] = "&gt;", ["&"] = "&amp;", ["'"] = "&apos;", ["\""] = "&quot;" };
function M.escape(s)
	return (tostring(s):gsub("[<>&'\"]", escapes));
end

function Element:__tostring()
	local out = { "<", self.name };
	if self.ns then out[#out + 1] = " xmlns='" .. self.ns .. "'"; end
	local names = {};
	for k in pairs(self.attr) do names[#names + 1] = k; end
	table.sort(names);
	for _, k in ipairs(names) do out[#out + 1] = (" %s='%s'"):format(k, M.escape(self.attr[k])); end
	if #self == 0 then
		out[#out + 1] = "/>";
	else
		out[#out + 1] = ">";
		for _, c in ipairs(self) do out[#out + 1] = type(c) == "table" and tostring(c) or M.escape(c); end
		out[#out + 1] = "</" .. self.name .. ">";
	end
	return table.concat(out);
end

local function split(name)
	local ns, local_name = name:match("^(.*)\1([^\1]*)$");
	if not ns then return nil, name; end
	return ns, local_name;
end

local function attributes(raw)
	local out = {};
	for k, v in pairs(raw) do
		if type(k) == "string" then
			local ns, name = split(k);
			if ns == "http://www.w3.org/XML/1998/namespace" then name = "xml:" .. name;
			elseif ns then name = ns .. "#" .. name; end
			out[name] = v;
		end
	end
	return out;
end

-- depth: how many enclosing elements there are around what is to be returned
-- (1 for a stream, 0 for a document).  on_element(el) for each complete one,
-- on_open(el) for the enclosing one's start, on_close() for its end.
function M.parser(depth, on_element, on_open, on_close)
	local stack = {};
	local level = 0;
	local p = lxp.new({
		StartElement = function (_, name, attr)
			local ns, local_name = split(name);
			local el = setmetatable({ name = local_name, ns = ns, attr = attributes(attr) }, Element);
			level = level + 1;
			if level <= depth then
				if on_open then on_open(el); end
			else
				stack[#stack + 1] = el;
			end
		end;
		CharacterData = function (_, text)
			local top = stack[#stack];
			if top then
				if type(top[#top]) == "string" then top[#top] = top[#top] .. text;
				else top[#top + 1] = text; end
			end
		end;
		EndElement = function ()
			level = level - 1;
			if #stack == 0 then
				if on_close then on_close(); end
				return;
			end
			local el = table.remove(stack);
			if #stack == 0 then on_element(el); else
				local top = stack[#stack];
				top[#top + 1] = el;
			end
		end;
	}, "\1");
	return {
		feed = function (_, data)
			local ok, err, line, col = p:parse(data);
			if not ok then error(("the server sent bad XML: %s at %s:%s in %q"):format(err, line, col, data:sub(1, 500))); end
		end;
	};
end

-- The elements of a complete document.
function M.parse(text)
	local result;
	local p = M.parser(0, function (el) result = el; end);
	p:feed(text);
	return result;
end

return M;
