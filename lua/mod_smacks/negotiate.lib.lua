-- What stream management is offered and enabled with: features, <enable/>, <enabled/> and <failed/>.

local st = require "util.stanza";

local connection = module:require "connection";
local own_of = module:require "session";
local sm = require "enjamb".smacks;
local new_prosody_error = require "enjamb.prosody".new_error;

local format = string.format;
local ipairs, sub = ipairs, string.sub;

local xmlns_errors = "urn:ietf:params:xml:ns:xmpp-stanzas";

-- Given by mod_smacks.lua.
local closing, journal, managed, options;

-- The other end of a session, for the library.
local function origin_of(session)
	if session.username or sub(session.type, 1, 3) ~= "s2s" then
		return {
			account = session.username and connection.bare_jid(session);
			bound = session.full_jid ~= nil;
			bosh = connection.is_bosh(session);
		};
	end
	return {
		is_server = true;
		authenticated = session.type == "s2sin" or session.type == "s2sout";
		allowed = options.s2s;
	};
end

-- What is refused, as an error that other modules know. `h`: what is remembered to have been handled.
local function new_error(refused, h)
	return new_prosody_error({ type = "cancel", condition = refused.condition, text = refused.text },
		{ h = h, too_high = refused.h and refused });
end

-- How much was sent, of which more was acknowledged; nil if that is not so.
local function too_high(xmlns, err)
	return err.h and st.stanza("handled-count-too-high", {
		xmlns = xmlns, h = format("%d", err.h), ["send-count"] = format("%d", err.send_count),
	}) or nil;
end

local function send_failed(session, xmlns, err)
	local context = err.context or {};
	local failed = st.stanza("failed", { xmlns = xmlns, h = context.h and format("%d", context.h) })
		:tag(err.condition, { xmlns = xmlns_errors }):up();
	if context.too_high then
		failed:add_child(too_high(xmlns, context.too_high));
	end
	(session.sends2s or session.send)(failed);
end

-- Decides on an <enable/>. Returns nil and an error, or a table whose finish() is to be called once the client has been
-- told (mod_sasl2_sm does so within its own answer).
local function enable(session, stanza)
	local ok, id, timeout = sm.enable(options.limits, origin_of(session), own_of(session).stream ~= nil, stanza.attr.resume, stanza.attr.max);
	if not ok then
		session.log("debug", "Not enabling stream management: %s", id.text);
		return nil, new_error(id);
	end
	return {
		type = "enabled";
		id = id;
		resume_max = timeout and format("%d", timeout);
		session = session;
		finish = function ()
			managed.manage(session, stanza.attr.xmlns, id, timeout, connection.waiting_stanzas(session, stanza));
			if id then journal.commit(); end -- the id is a promise
			if connection.is_bosh(session) then
				closing.watch_bosh(session);
			end
			session.log("debug", "Stream management enabled, resumable: %s", id ~= nil);
		end;
	};
end

local function handle_enable(session, stanza)
	local enabled, err = enable(session, stanza);
	if not enabled then
		send_failed(session, stanza.attr.xmlns, err);
		return true;
	end
	(session.sends2s or session.send)(st.stanza("enabled", {
		xmlns = stanza.attr.xmlns;
		id = enabled.id;
		resume = enabled.id and "true"; -- Conversations does not take "1"
		max = enabled.resume_max;
	}));
	if not session.destroyed then
		enabled.finish();
	end
	return true;
end

local function offer(event)
	local session, features = event.origin, event.features;
	for _, xmlns in ipairs(sm.offer(origin_of(session), own_of(session).stream ~= nil)) do
		features:tag("sm", { xmlns = xmlns }):tag("optional"):up():up();
	end
end

return {
	take = function (parts)
		closing, journal, managed, options = parts.closing, parts.journal, parts.managed, parts.options;
	end;
	enable = enable;
	error = new_error;
	handle_enable = handle_enable;
	offer = offer;
	origin_of = origin_of;
	send_failed = send_failed;
	too_high = too_high;
};
