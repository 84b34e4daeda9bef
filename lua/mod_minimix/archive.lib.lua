-- The field `include-groupchat` of queries to the account's archive (XEP-0313, "Including groupchat results in a user
-- archive"): mod_mam, which answers them, does not know it. Results that are not wanted are left
-- out of its answer; the pages (XEP-0059) stay those of the whole archive.

local st = require "util.stanza";

local xmlns_mam, xmlns_forward, xmlns_data = "urn:xmpp:mam:2", "urn:xmpp:forward:0", "jabber:x:data";
local field_name = "include-groupchat";

-- The session as mod_mam sees it, but for how it is sent to.
local function answering(session, send)
	return setmetatable({ send = send }, { __index = session, __newindex = session });
end

local function is_our_form(form)
	for field in form:childtags("field") do
		if field.attr.var == "FORM_TYPE" then return field:get_child_text("value") == xmlns_mam; end
	end
	return false;
end

-- Takes the field out of a form that is submitted; its value.
local function take_field(form)
	local value;
	form:maptags(function (tag)
		if tag.name ~= "field" or tag.attr.var ~= field_name then return tag; end
		value = tag:get_child_text("value") or "";
		return nil;
	end);
	return value;
end

local function is_groupchat_result(stanza)
	local result = stanza.name == "message" and stanza:get_child("result", xmlns_mam);
	local forwarded = result and result:get_child("forwarded", xmlns_forward);
	local message = forwarded and forwarded:get_child("message", "jabber:client");
	return message and message.attr.type == "groupchat";
end

local function query(event)
	local origin, stanza = event.origin, event.stanza;
	local form = stanza.tags[1]:get_child("x", xmlns_data);
	if not form or not is_our_form(form) then return; end
	local value = take_field(form);
	if value == "false" or value == "0" then
		event.origin = answering(origin, function (answer)
			if is_groupchat_result(answer) then return true; end
			return origin.send(answer);
		end);
	elseif value and value ~= "true" and value ~= "1" then
		origin.send(st.error_reply(stanza, "modify", "bad-request", "The value of "..field_name.." must be true or false"));
		return true;
	end
end

local function query_form(event)
	local origin = event.origin;
	event.origin = answering(origin, function (answer)
		local tag = answer:get_child("query", xmlns_mam);
		local form = tag and tag:get_child("x", xmlns_data);
		if form then
			form:reset():tag("field", { var = field_name, type = "boolean" });
			answer:reset();
		end
		return origin.send(answer);
	end);
end

local function offer()
	-- Before mod_mam (0).
	module:hook("iq-set/self/"..xmlns_mam..":query", query, 10);
	module:hook("iq-get/self/"..xmlns_mam..":query", query_form, 10);
	module:hook("account-disco-info", function (event)
		if not prosody.hosts[module.host].modules.mam then return; end
		local info = event.reply or event.stanza;
		info:tag("feature", { var = xmlns_mam.."#groupchat-field" }):up();
		info:tag("feature", { var = xmlns_mam.."#groupchat-available" }):up();
	end);
end

return { offer = offer };
