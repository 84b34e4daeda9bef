-- What a client knows of its contacts, and what is so, after a restart (RFC 6121 §4.3).
--
-- Sessions of this server that come back are as they were, and their contacts know it; but for components that are modules of this
-- server, which went with it: they are told anew. Of three things a client is told, and of nothing else:
-- - a session that cannot be resumed went with the server. That it was there is noted, and to whom it sent presence directly (RFC 6121
--   §4.6), and it is ended as if its connection had been lost: all of these are told, also those of other servers;
-- - whom it could see then and cannot now, or the other way round, since a roster was changed or an account is gone. Whom it
--   could see is kept with the session, as hashes;
-- - what became of contacts of other servers, and of gateways, nobody here knows. They are asked, once for each account, and
--   what they answer is compared with what was told last, of which the library keeps a likeness.

local base64 = require "util.encodings".base64;
local hashes = require "util.hashes";
local jid = require "util.jid";
local rostermanager = require "core.rostermanager";
local st = require "util.stanza";
local time_now = require "util.time".now;

local contacts = require "enjamb".contacts;
local contain = require "enjamb.contain"(module);
local own_of = module:require "session";
local waiting = module:require "waiting";

local is_stanza, ipairs, next, pairs, rawget, setmetatable, type = st.is_stanza, ipairs, next, pairs, rawget, setmetatable, type;
local find, match, sub = string.find, string.match, string.sub;
local math_huge, math_min = math.huge, math.min;
local table_concat, table_move, table_sort = table.concat, require "enjamb.prosody".move, table.sort;

local bare_sessions, full_sessions, hosts = prosody.bare_sessions, prosody.full_sessions, prosody.hosts;
local host = module.host;

-- What is left to do after a start is done a little at a time: so many seconds of work in each period, so many probes.
local period, work_per_period, probes_per_period = 0.1, 0.02, 50;
-- An answer to a probe that comes within so many seconds is one; who was not in it so many seconds after its beginning is gone.
local patience, complete_after = 60, 5;
-- A server or gateway that cannot be reached is asked again, after so many seconds each time.
local retries = { 2, 5, 15, 60, 300 };
-- Noted of a session of this server that is in no journal.
local here = "here";
-- Noted of whom such a session sent presence directly and that session, a line each.
local directed = "directed";

-- The process has one file for all hosts.
local file = module:shared("/*/smacks/contacts");

local is_kept;

-- Whether sessions of that domain are not ours to look after: of another server, a component, or a host without this module.
local function is_elsewhere(domain)
	local other = hosts[domain];
	return not (other and other.type == "local" and other.modules and other.modules.smacks);
end

-- Whether it is a component in this process, and none whose memory of who is there outlived the server.
local function is_forgetful(domain)
	local component = hosts[domain];
	return component and component.type == "component" and component.modules
		and not component.modules.component and not component.modules.muc;
end

-- Sessions that are not kept -------------------------------------------------------------------------------------------

local function bare_of(session)
	return session.username.."@"..host;
end

-- Contacts know that session; should the server be killed now, they are told at the next start that it is not there.
local function note_here(account, full_jid)
	if file.open then contacts.set(account, full_jid, here); end
end

-- By full JID: the session that had it has ended, and contacts are told of that a little later, unless the one that has it now has
-- presence by then (replaced.lib.lua). Until then it is noted of the former one, whatever becomes of the other.
local held = {};

local function hold(account, full_jid)
	local hold_of_it = {};
	held[full_jid] = hold_of_it;
	note_here(account, full_jid);
	return hold_of_it;
end

module:hook("presence/initial", function (event)
	local session = event.origin;
	if not session.full_jid then return; end
	local was_held = held[session.full_jid];
	held[session.full_jid] = nil;
	if is_kept and not is_kept(session) then
		note_here(bare_of(session), session.full_jid);
	elseif was_held and file.open then
		contacts.set(bare_of(session), session.full_jid, nil);
	end
end);

local function directed_key(to, full_jid)
	return to.."\n"..full_jid;
end

-- To whom, and the full JID of who sent it.
local function of_directed_key(key)
	return match(key, "^([^\n]*)\n(.*)$");
end

-- Rooms of this server look for themselves who is there.
local function is_room(to)
	local component = hosts[jid.host(to)];
	return component and component.modules and component.modules.muc;
end

-- After mod_presence, which has it in the session by then.
for _, kind in ipairs { "bare", "full", "host" } do
	module:hook("pre-presence/"..kind, function (event)
		local session, to = event.origin, event.stanza.attr.to;
		if not file.open or not is_kept or not to or not session.full_jid or is_kept(session) or is_room(to) then return; end
		if session.directed and session.directed[to] then
			own_of(session).has_directed = true;
			contacts.set(bare_of(session), directed_key(to, session.full_jid), directed);
		elseif own_of(session).has_directed then
			contacts.set(bare_of(session), directed_key(to, session.full_jid), nil);
		end
	end, -10);
end

-- It is in the journal, or not there any more; `is_told`: contacts are told that now.
local function not_here(session, is_told)
	if not session.full_jid then return; end
	if is_told then
		held[session.full_jid] = nil;
	end
	if not file.open then return; end
	local account, own = bare_of(session), own_of(session);
	if not held[session.full_jid] then
		contacts.set(account, session.full_jid, nil);
	end
	if own.has_directed then
		own.has_directed = nil;
		for key, what in pairs(contacts.get(account)) do
			if what == directed then
				local _, full_jid = of_directed_key(key);
				if full_jid == session.full_jid then contacts.set(account, key, nil); end
			end
		end
	end
end

-- Noting what is told ----------------------------------------------------------------------------------------------------

-- Elements that say when it was sent, not how somebody is.
local passing = { ["urn:xmpp:delay"] = true, ["jabber:x:delay"] = true };
local of_address = { to = true, from = true, id = true, type = true, xmlns = true };

local function write(out, element, is_top)
	local names = {};
	for name in pairs(element.attr) do
		if not is_top or not of_address[name] then
			names[#names+1] = name;
		end
	end
	table_sort(names);
	out[#out+1] = "<";
	out[#out+1] = element.name;
	for _, name in ipairs(names) do
		out[#out+1] = " "..name.."="..#element.attr[name]..":";
		out[#out+1] = element.attr[name];
	end
	out[#out+1] = ">";
	for _, child in ipairs(element) do
		if not is_stanza(child) then
			out[#out+1] = #child..":"..child;
		elseif not passing[child.attr.xmlns] then
			write(out, child);
		end
	end
	out[#out+1] = "</>";
end

-- The same for presences that say the same, in each process.
local function likeness(presence)
	local out = {};
	write(out, presence, true);
	return sub(hashes.sha1(table_concat(out), true), 1, 16);
end

-- Probes whose answers are waited for: by account and contact, tables { known, left, has_answered, tries }.
local asked = {};

local function sees(roster, contact)
	local item = roster and roster[contact];
	return item and (item.subscription == "to" or item.subscription == "both");
end

local function is_seen_by(roster, contact)
	local item = roster and roster[contact];
	return item and (item.subscription == "from" or item.subscription == "both");
end

local function is_subscribed(user, contact)
	local _, session = next(user.sessions);
	return session and sees(session.roster, contact);
end

-- The ordinary way: somebody may be blocked.
local function send_unavailable(session, from)
	module:send(st.presence({ type = "unavailable", from = from, to = session.full_jid }));
end

local function send_presence(session, to)
	local presence = st.clone(session.presence);
	presence.attr.from, presence.attr.to = session.full_jid, to;
	module:send(presence);
end

-- Tells the clients of an account that came back that somebody is not available any more.
local function tell_gone(account, from)
	contacts.set(account, from, nil);
	local user = bare_sessions[account];
	for _, session in pairs(user and user.sessions or {}) do
		if session.smacks_came_back and waiting.is_available(session) then
			send_unavailable(session, from);
		end
	end
end

-- Whoever was available and is not in the answer.
local function complete(account, probe)
	for from in pairs(probe.left) do
		probe.left[from], probe.known[from] = nil, nil; -- should it come back that is news
		contain.attempt(nil, "telling "..account.." who is gone", tell_gone, account, from);
	end
end

local ask_again;

-- Whether that presence is nothing new to the account's clients: an answer to a probe that says what they know.
local function is_known(account, contact, probe, stanza)
	local from, kind = stanza.attr.from, stanza.attr.type;
	if kind == "error" then
		ask_again(account, contact, probe);
		return true;
	elseif kind == nil then
		if not probe.has_answered then
			probe.has_answered = true;
			module:add_timer(complete_after, function () complete(account, probe); end);
		end
		local was, is = probe.known[from], likeness(stanza);
		probe.known[from], probe.left[from] = is, nil;
		return was == is;
	elseif kind == "unavailable" then
		local was_known = probe.known[from] ~= nil;
		probe.known[from], probe.left[from] = nil, nil;
		if from == contact then -- nobody of that account is there
			complete(account, probe);
		end
		return not was_known;
	elseif kind == "unsubscribed" then
		complete(account, probe);
	end
	return false;
end

local function from_elsewhere(event)
	local stanza = event.stanza;
	local from, to, kind = stanza.attr.from, stanza.attr.to, stanza.attr.type;
	if not from or not to then return; end
	local at = find(from, "@", 1, true) or 0;
	local slash = find(from, "/", at + 1, true) or 0;
	if not is_elsewhere(sub(from, at + 1, slash - 1)) then return; end
	local to_slash = find(to, "/", 1, true) or 0;
	local account, contact = sub(to, 1, to_slash - 1), sub(from, 1, slash - 1);
	local user = bare_sessions[account];
	if not user or not file.open then return; end
	local probe = to_slash == 0 and asked[account] and asked[account][contact];
	if probe and is_known(account, contact, probe, stanza) then return true; end
	if kind == "unavailable" then
		contacts.set(account, from, nil);
	elseif kind == nil and is_subscribed(user, contact) then
		contacts.set(account, from, likeness(stanza));
	end
end

-- After mod_blocklist, and mod_pep (10), which learns capabilities from it; before mod_presence.
module:hook("presence/bare", from_elsewhere, 5);
module:hook("presence/full", from_elsewhere, 5);

module:hook("presence/bare", function (event)
	local session, attr = event.origin, event.stanza.attr;
	if not attr.to and attr.type == "unavailable" and session.type == "c2s" then
		not_here(session, true);
	end
end, 5);

module:hook("resource-unbind", function (event)
	local session = event.session;
	if not file.open or not session.username then return; end
	not_here(session);
	local account = bare_of(session);
	if not bare_sessions[account] then
		contacts.forget(account); -- who logs in next knows nothing, and asks
		asked[account] = nil;
		if held[session.full_jid] then
			note_here(account, session.full_jid);
		end
	end
end, -10);

-- After a start ----------------------------------------------------------------------------------------------------------

-- Functions to be called, those in `first_work` before the others, and then probes to be sent.
local first_work, work, probes = {}, {}, {};
local is_working = false;
-- For all hosts, since contacts may be of another one: by hash of the account, accounts of sessions that came back, and sessions that
-- went with the server; and which hosts have `first` work to do, and any. Forgotten when none has.
local start = module:shared("/*/smacks/start");
start.first, start.any = start.first or {}, start.any or {};

local function some_of(list, until_then)
	local n = 0;
	while list[n + 1] and time_now() < until_then do
		n = n + 1;
		contain.attempt(nil, "finding out what changed of contacts", list[n]);
	end
	return table_move(list, n + 1, #list, 1, {});
end

local function some_work()
	local until_then = time_now() + work_per_period;
	first_work = some_of(first_work, until_then);
	start.first[host] = first_work[1] and true or nil;
	if next(start.first) then return period; end
	work = some_of(work, until_then);
	if work[1] or first_work[1] then return period; end
	start.any[host] = nil;
	if next(start.any) == nil then
		start.back, start.gone = nil, nil;
	end
	local batch = table_move(probes, 1, math_min(#probes, probes_per_period), 1, {});
	probes = table_move(probes, #batch + 1, #probes, 1, {});
	some_of(batch, math_huge);
	if probes[1] or work[1] then return period; end
	is_working = false;
end

local function start_working()
	if not (first_work[1] or work[1] or probes[1]) then return; end
	if first_work[1] or work[1] then
		start.any[host], start.first[host] = true, first_work[1] and true or start.first[host];
	end
	if not is_working then
		is_working = true;
		module:add_timer(period, some_work);
	end
end

local function ask(account, contact, probe)
	local function stop()
		if asked[account] and asked[account][contact] == probe and not probe.waits then
			asked[account][contact] = nil;
			if next(asked[account]) == nil then asked[account] = nil; end
		end
	end
	probes[#probes+1] = function ()
		probe.waits = nil;
		if not bare_sessions[account] or not asked[account] or asked[account][contact] ~= probe then return; end
		module:add_timer(patience, stop);
		module:send(st.presence({ type = "probe", from = account, to = contact }));
	end
	start_working();
end

function ask_again(account, contact, probe)
	if probe.has_answered or probe.waits then return; end
	probe.tries = probe.tries + 1;
	local delay = retries[probe.tries];
	if not delay then return; end
	probe.waits = true;
	module:add_timer(delay, function () ask(account, contact, probe); end);
end

-- Asks for the presence of those contacts. Of others the account's clients are to know nothing.
local function ask_all(account, whom)
	local known = {};
	for from, what in pairs(contacts.get(account)) do
		local contact = jid.bare(from);
		if whom[contact] then
			known[contact] = known[contact] or {};
			known[contact][from] = what;
		elseif what ~= here and what ~= directed then
			tell_gone(account, from);
		end
	end
	asked[account] = asked[account] or {};
	for contact in pairs(whom) do
		if not asked[account][contact] then
			local probe = { known = known[contact] or {}, left = {}, tries = 0, waits = true };
			for from in pairs(probe.known) do
				probe.left[from] = true;
			end
			asked[account][contact] = probe;
			ask(account, contact, probe);
		end
	end
end

-- Whom a session could see: of each contact a few bytes of a hash, as text. A roster has a version, which changes with it.
local hash_bytes = 6;
local function hash_of(contact)
	return sub(hashes.sha1(contact), 1, hash_bytes);
end

local seen = setmetatable({}, { __mode = "k" });
local function seen_text(session)
	local roster = session.roster;
	local version = roster[false] and roster[false].version;
	local known = seen[roster];
	if known and known.version == version and version ~= nil then return known.text, version; end
	local all = {};
	for contact in pairs(roster) do
		if contact and sees(roster, contact) and not is_elsewhere(jid.host(contact)) then
			all[#all+1] = hash_of(contact);
		end
	end
	table_sort(all);
	known = { version = version, text = base64.encode(table_concat(all)) };
	seen[roster] = known;
	return known.text, version;
end

module:hook("smacks-save-session", function (event)
	local session, state = event.session, event.state;
	if rawget(session, "roster") then -- else nobody has asked for it since the restart
		state.sees, state.roster_version = seen_text(session);
		own_of(session).noted_roster_version = state.roster_version;
	else
		state.sees, state.roster_version = own_of(session).saw, own_of(session).saw_version;
	end
end);

module:hook("smacks-restore-session", function (event)
	local session, state = event.session, event.state;
	if type(state.sees) ~= "string" then return; end
	own_of(session).saw, own_of(session).saw_version = state.sees, state.roster_version;
end);

local function note_back(session)
	if session.destroyed or not waiting.is_available(session) then return; end
	local account = bare_of(session);
	local hash = hash_of(account);
	start.back = start.back or {};
	start.back[hash] = start.back[hash] or {};
	start.back[hash][account] = true;
end

-- A session has ended since the start, and those in its account's roster have been told.
local function note_gone(account, full_jid, roster)
	local hash = hash_of(account);
	start.gone = start.gone or {};
	start.gone[hash] = start.gone[hash] or {};
	start.gone[hash][full_jid] = roster or {};
end

-- The sessions of an account that were there before the restart and are.
local function each_back(account, f)
	local user = bare_sessions[account];
	for _, session in pairs(user and user.sessions or {}) do
		if session.smacks_came_back and waiting.is_available(session) then f(session); end
	end
end

local function can_see(session, account, contact)
	local visible = false;
	if sees(session.roster, contact) then
		each_back(contact, function (other) visible = visible or is_seen_by(other.roster, account); end);
	end
	return visible;
end

-- Whom the session could see before, and those whom it can see now: what differs it is told.
local function compare(session, account, text)
	local bytes, saw = base64.decode(text) or "", {};
	for i = 1, #bytes, hash_bytes do
		local hash = sub(bytes, i, i + hash_bytes - 1);
		saw[hash] = true;
		for full_jid, roster in pairs(start.gone and start.gone[hash] or {}) do
			if not is_seen_by(roster, account) then
				send_unavailable(session, full_jid);
			end
		end
		for contact in pairs(start.back and start.back[hash] or {}) do
			if contact ~= account and not can_see(session, account, contact) then
				seen[session.roster] = nil;
				each_back(contact, function (other) send_unavailable(session, other.full_jid); end);
			end
		end
	end
	for contact in pairs(session.roster) do
		if contact and contact ~= account and bare_sessions[contact] and not saw[hash_of(contact)]
		and not is_elsewhere(jid.host(contact)) and can_see(session, account, contact) then
			seen[session.roster] = nil;
			each_back(contact, function (other) send_presence(other, session.full_jid); end);
		end
	end
end

-- What a session that came back may know of its contacts and what is not so any more.
local function look(session)
	if session.destroyed or not waiting.is_available(session) then return; end
	local account, elsewhere = bare_of(session), {};
	local text, roster = own_of(session).saw, session.roster;
	if text and not seen[roster] then
		seen[roster] = { version = own_of(session).saw_version, text = text };
	end
	own_of(session).saw, own_of(session).saw_version = nil, nil;
	if text then -- else it was kept by an earlier version
		compare(session, account, text);
	end
	local known = seen[roster];
	if not known or known.version == nil or known.version ~= (roster[false] and roster[false].version) then
		module:fire_event("smacks-session-changed", { session = session }); -- what it sees is another
	end
	for contact in pairs(session.roster) do
		if contact and contact ~= account and is_elsewhere(jid.host(contact)) then
			if sees(session.roster, contact) then
				elsewhere[contact] = true;
			end
			if is_seen_by(session.roster, contact) and is_forgetful(jid.host(contact)) then
				send_presence(session, contact);
			end
		end
	end
	ask_all(account, elsewhere);
end

-- Ends a session that went with the server, as mod_presence would if its connection were lost now.
local function end_gone(account, full_jid, got_directed)
	local successor = full_sessions[full_jid];
	local is_back = successor and successor.presence; -- they have been told of that
	if is_back and is_kept and not is_kept(successor) then return; end -- and what is noted is of that one
	if file.open then
		contacts.set(account, full_jid, nil);
		for to in pairs(got_directed or {}) do
			contacts.set(account, directed_key(to, full_jid), nil);
		end
	end
	if is_back then return; end
	local username = jid.node(account);
	local roster = rostermanager.load_roster(username, host) or {};
	local session = {
		type = "c2s"; username = username; host = host; full_jid = full_jid; resource = jid.resource(full_jid);
		roster = roster; presence = st.presence(); directed = got_directed; log = module._log; send = function () return true; end;
	};
	prosody.core_process_stanza(session, st.presence({ type = "unavailable" }));
	note_gone(account, full_jid, roster);
end

-- Which sessions of this host were there, and are not.
local function find_gone()
	local got_directed = {};
	for _, full_jid in ipairs(contacts.noted_as(here)) do
		got_directed[full_jid] = {};
	end
	for _, key in ipairs(contacts.noted_as(directed)) do
		local to, full_jid = of_directed_key(key);
		if full_jid then
			got_directed[full_jid] = got_directed[full_jid] or {};
			got_directed[full_jid][to] = true;
		end
	end
	for full_jid, whom in pairs(got_directed) do
		local account = jid.bare(full_jid);
		if jid.host(account) == host then
			first_work[#first_work+1] = function () end_gone(account, full_jid, next(whom) and whom); end
		end
	end
	first_work[#first_work+1] = function ()
		for _, account in ipairs(contacts.accounts()) do
			if jid.host(account) == host and not bare_sessions[account] then
				contacts.forget(account);
			end
		end
	end
	start_working();
end

-- Hands what was noted to the operating system. After the queues: killed in between, a client is told what it knows.
local function write_down()
	if file.open then contacts.write_down(); end
end

return {
	open = function (kept)
		is_kept = kept;
		if file.open then return; end
		local ok, err = contacts.open(prosody.paths.data.."/enjamb-contacts");
		if not ok then
			module:log("error", "What clients know of their contacts cannot be kept across a restart: %s", err);
			return;
		end
		file.open = true;
	end;
	-- The session is in the journal from now on.
	kept = function (session) not_here(session); end;
	find_gone = find_gone;
	came_back = function (session)
		first_work[#first_work+1] = function () note_back(session); end
		work[#work+1] = function () look(session); end
		start_working();
	end;
	ended = note_gone;
	hold = hold;
	-- Contacts are told now, if they are to be.
	end_hold = function (account, full_jid, hold_of_it)
		if held[full_jid] ~= hold_of_it then return; end
		held[full_jid] = nil;
		end_gone(account, full_jid);
	end;
	-- The same of a session that is about to end, before it is in the journal no more.
	note_ending = function (session)
		if waiting.is_available(session) then
			note_here(bare_of(session), session.full_jid);
			write_down();
		end
	end;
	-- f() is called soon, before anybody is told anything.
	first = function (f)
		first_work[#first_work+1] = f;
		start_working();
	end;
	write_down = write_down;
};
