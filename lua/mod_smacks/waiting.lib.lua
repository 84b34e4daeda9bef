-- A session that waits for its client, without a connection: what others find on it in place of what belonged to one.
--
-- There may be 100,000 of these, and most are never looked at. So the connection's part is let go of, the XML parser above all, and what is
-- large or has to be read or made (its thread, roster, role and presence) is there as soon as somebody asks for it, and not before.

local initialize_filters = require "util.filters".initialize;
local logger = require "util.logger";
local rostermanager = require "core.rostermanager";
local parse_xml = require "util.xml".parse;
local time_now = require "util.time".now;

local connection = module:require "connection";
local contain = require "enjamb.contain"(module);
local dispatch_stanza = require "enjamb.prosody".dispatch_stanza;
local own_of = module:require "session";
local rights = module:require "rights";
local sending = module:require "sending";

local debug_info = require "debug".getinfo;
local getmetatable, match, next, rawget, setmetatable, tostring = getmetatable, string.match, next, rawget, setmetatable, tostring;

local host = module.host;
local sessions_of_host = prosody.hosts[host].sessions;

-- On demand ---------------------------------------------------------------------------------------------------------------

-- The roster of an account that has sessions; and why it cannot be read, if that is so: then it is empty, and asked for again.
local function load_roster(username)
	local ok, roster, err = contain.attempt(username, "reading a roster", rostermanager.load_roster, username, host);
	if ok and not err then return roster; end
	local user = sessions_of_host[username];
	if user then
		user.roster = nil;
	end
	return { [false] = { pending = {}, broken = true } }, ok and tostring(err) or "an error was raised";
end

-- Has the roster of a session there. Returns why it cannot be read, if that is so; and it.
local function want_roster(session)
	if not own_of(session).lacks_roster then return; end
	local roster, err = load_roster(session.username);
	if not err then
		session.roster, own_of(session).lacks_roster = roster, nil;
	end
	return err, roster;
end

local function log_error(runner, traceback)
	runner.data.log("error", "Traceback[c2s]: %s", traceback);
end

local on_demand = {};

function on_demand.thread(session)
	session.thread = connection.new_thread(session, { error = log_error });
	return session.thread;
end

function on_demand.dispatch_stanza()
	return dispatch_stanza;
end

function on_demand.roster(session)
	local err, roster = want_roster(session);
	if err then
		session.log("error", "The roster of %s cannot be read: %s", session.full_jid, err);
	end
	return roster;
end

function on_demand.presence(session)
	local own = own_of(session);
	local bytes = own.kept_presence;
	if not bytes then return nil; end
	own.kept_presence = nil;
	local presence = parse_xml(bytes);
	session.presence, own.noted_presence = presence, presence; -- it is no other
	return presence;
end

-- Whether it has presence; asking for that itself makes a stanza of it.
local function is_available(session)
	return rawget(session, "presence") ~= nil or own_of(session).kept_presence ~= nil;
end

function on_demand.role(session)
	local own = own_of(session);
	if not own.unverified then return nil; end
	local ok, role = contain.attempt(session, "finding the role of a session", rights.restored, session.username, own.former_role);
	if not ok then return nil; end
	session.role = role;
	return role;
end

-- One table for all, which outlives a reload.
local waiting_mt = module:shared("waiting");
function waiting_mt.__index(session, field)
	local make = on_demand[field];
	return make and make(session);
end

-- What Prosody has for all sessions of an account. Its rostermanager takes a roster to be there when a session is.
local account_mt = module:shared("account");
function account_mt.__index(user, field)
	-- load_roster() itself looks whether there is one, and reads it if not.
	if field ~= "roster" or debug_info(2, "f").func == rostermanager.load_roster then return nil; end
	local _, session = next(user.sessions);
	return session and (load_roster(session.username));
end

-- Beginning and end -------------------------------------------------------------------------------------------------------

-- What it had of its connection it has no more. Another module's functions on it stay.
local function let_go_of_connection(session)
	if connection.is_bosh(session) or not sending.is_ours(session) then return; end
	session.stream, session.data, session.reset_stream, session.open_stream = nil, nil, nil, nil;
	sending.wait(session);
	local thread = session.thread;
	if thread and thread.state == "ready" and not thread.queue[1] then
		session.thread = nil;
	end
	if getmetatable(session) == nil then
		setmetatable(session, waiting_mt);
	end
end

-- One that was never connected, as Prosody makes a session.
local function new(ip)
	local session = { type = "c2s"; base_type = "c2s"; ip = ip; conntime = time_now() };
	local id, log = "c2s"..match(tostring(session), "%x+$"), nil;
	session.id = id;
	function session.log(level, ...)
		log = log or logger.init(id);
		return log(level, ...);
	end
	initialize_filters(session);
	sending.wait(session);
	return setmetatable(session, waiting_mt);
end

-- It gets the connection of another session, whose thread had these watchers.
local function ends(session, watchers)
	if getmetatable(session) ~= waiting_mt then return; end
	on_demand.presence(session);
	session.dispatch_stanza = rawget(session, "dispatch_stanza") or dispatch_stanza;
	setmetatable(session, nil);
	if not session.thread then
		session.thread = connection.new_thread(session, watchers or { error = log_error });
	end
end

return {
	ends = ends;
	is_available = is_available;
	new_account = function () return setmetatable({ sessions = {} }, account_mt); end;
	let_go_of_connection = let_go_of_connection;
	new = new;
	want_roster = want_roster;
};
