-- Sessions that come back after a restart, and those that do not.
--
-- What is in a queue was acknowledged to whoever sent it. So a session that must not come back (its password was changed)
-- is still brought back for a moment, and ended in the ordinary way: what is queued is stored or returned. And one of which
-- nobody can tell just now stays in the journal, where nothing is lost.

local parse_xml = require "util.xml".parse;

local enjamb = require "enjamb";
local connection = module:require "connection";
local contain = module:require "contain";

local jn, sm = enjamb.journal, enjamb.smacks;
local ipairs, math_min, next, pairs, type = ipairs, math.min, next, pairs, type;
local os_time = os.time;

local host, hosts = module.host, prosody.hosts;

-- After how many seconds what could not be told is looked at again; each time after twice as many, up to the last.
local first_retry, last_retry = 5, 300;
-- For how many seconds the sessions of a host that is not there are kept: its name may be mistyped.
local patience = 24 * 60 * 60;

-- Sessions that were looked at and stay as they are until the next start, by token. One for all hosts.
local left = module:shared("/*/smacks/left");
-- Sessions of which nobody can tell yet whether they come back, by full JID. One for all hosts.
local undecided = module:shared("/*/smacks/undecided");

-- `smacks` has what the module does with sessions: attach, expire, hibernate, tell_that_it_waits; `journal`, `state`, `rooms` and `contacts` are
-- the libraries.
return function (smacks, journal, state, rooms, contacts, limits, hibernation_time)
	-- What is looked at when all sessions are back that can be, and other modules have what they had: before the first client
	-- is read from.
	local back;
	local function follow_up(session, had_waited)
		local one = { session = session, had_waited = had_waited };
		if back then
			back[#back+1] = one;
			return;
		end
		back = { one };
		module:add_timer(0, function ()
			local sessions = back;
			back = nil;
			for _, item in ipairs(sessions) do
				local each = item.session;
				if not each.destroyed then
					contain.attempt(each, "telling other modules of a session", smacks.tell_that_it_waits, each, item.had_waited);
				end
				if not each.destroyed then
					contain.attempt(each, "telling who is out of a room", rooms.say_that_it_is_out, each);
					journal.keep(each);
					contacts.came_back(each);
				end
			end
			journal.commit();
		end);
	end

	-- The session, or nil, why not, and whether that may change by itself. `ending`: it is not to be resumed.
	local function bring_back(token, kept, ending, account_gone)
		local session, err, may_change = state.revive(kept, connection.new_thread, ending, account_gone);
		if not session then
			return nil, err, may_change;
		end
		local timeout = math_min(kept.timeout, hibernation_time);
		local key, handle, h, lost, had_waited = jn.restore(token, limits, kept.username.."@"..host, not ending and kept.id or "", timeout);
		if not key then
			state.withdraw(session);
			return nil, handle;
		end
		smacks.attach(session, key, handle, kept.xmlns, kept.id, timeout, h);
		session.smacks_state = kept.text;
		if lost > 0 then
			session.log("error", "%d stanzas of %s's queue could not be read from the journal", lost, session.full_jid);
		end
		contain.attempt(session, "letting a session wait for its client", smacks.hibernate, session, key, timeout);
		journal.keep(session);
		if not ending then
			session.smacks_came_back = true;
			follow_up(session, had_waited);
		end
		return session;
	end

	-- Sends what is queued for a session on its way once more, as if its recipient were not there (which is so).
	local function send_on(token, kept)
		local bare = kept.username.."@"..kept.host;
		local key, handle = jn.restore(token, limits, bare, "", 0);
		if not key then
			return nil, handle;
		end
		local n = 0;
		local _, _, number = sm.counts(key);
		while number do
			local bytes, following = sm.copies(key, number, number + 1, 0, nil, bare);
			if not bytes and type(following) == "string" then
				return nil, following; -- it is in the journal, and comes back with what is left at the next start
			end
			local stanza = bytes and parse_xml(bytes);
			if stanza and stanza.attr.to then
				contain.attempt(nil, "sending on what was queued for "..bare, module.send, module, stanza);
				n = n + 1;
			end
			number = bytes and following;
		end
		journal.ended(key);
		return n, handle; -- while there is a handle the library has the stream
	end

	local function leave(token, kept, reason)
		left[token] = true;
		module:log("error", "A session of %s@%s stays in the journal, with what is queued for it, until the next start: %s",
			kept.username, kept.host, reason);
	end

	local function refuse(token, kept, objection, account_gone)
		module:log("info", "A session of %s does not come back: %s", kept.username, objection);
		local session, err, may_change = bring_back(token, kept, true, account_gone);
		if session then
			local account, full_jid, roster = kept.username.."@"..host, session.presence and session.full_jid, session.roster;
			smacks.expire(session, objection);
			if full_jid then
				contacts.ended(account, full_jid, roster);
			end
		elseif not may_change then
			leave(token, kept, err);
		end
		return session ~= nil or not may_change;
	end

	-- A session of a host that is not there.
	local function wait_for_host(token, kept)
		if not kept.missing_since then
			module:log("warn", "A session of %s@%s is kept for a day, with what is queued for it: there is no such host. If it was renamed "
				.."or its name is mistyped, mend that and restart", kept.username, kept.host);
			local ok, err = jn.rewrite(token, state.with(kept, "missing_since", os_time()));
			if not ok then
				module:log("error", "Since when there is no host %s could not be kept: %s", kept.host, err);
			end
		elseif os_time() - kept.missing_since >= patience then
			module:log("warn", "A session of %s@%s is dropped with what is queued for it, there has been no such host for a day",
				kept.username, kept.host);
			jn.discard(token);
		end
	end

	-- A session of another host, where nobody looks after it.
	local function adopt(token, kept)
		local other = hosts[kept.host];
		if not other then
			wait_for_host(token, kept);
		elseif not (other.modules and other.modules.smacks) then
			local n, err = send_on(token, kept);
			if n then
				module:log("info", "A session of %s@%s does not come back, stream management is not enabled there: "
					.."%d stanzas that were queued for it go to the account", kept.username, kept.host, n);
			else
				leave(token, kept, err);
			end
		end
	end

	-- What is in the journal and not back yet, as f(token, kept); what cannot be read is counted by reason.
	local function each_found(f)
		local texts, unreadable = jn.found();
		local reasons = {};
		for _, reason in pairs(unreadable) do
			reasons[reason] = (reasons[reason] or 0) + 1;
		end
		for token, text in pairs(texts) do
			local kept, reason = state.read(text);
			if not kept then
				reasons[reason] = (reasons[reason] or 0) + 1;
			elseif not left[token] then
				local ok = contain.attempt(nil, "bringing back a session of "..kept.username.."@"..kept.host, f, token, kept);
				if not ok then
					left[token] = true;
				end
			end
		end
		return reasons;
	end

	-- Brings back a session of this host if it may come back. Returns it; or nil, and why if nobody can tell now.
	local function try(token, kept, may)
		if not may then return nil; end
		local session, reason, may_change = bring_back(token, kept);
		if not session and not may_change then
			leave(token, kept, reason);
		end
		return session, may_change and reason or nil;
	end

	-- Those that do not come back, when all who do are there to be told; those of which nobody can tell are looked at again.
	local retry, told, waits = first_retry, nil, false;
	local function dispose()
		local unknown = nil;
		each_found(function (token, kept)
			if kept.host ~= host then
				return adopt(token, kept);
			end
			local may, reason, account_gone = state.may_return(kept);
			if may == false then
				if not refuse(token, kept, reason, account_gone) then
					unknown = "its roster cannot be read";
				end
				return;
			end
			local session, err = try(token, kept, may);
			if session then
				session.log("info", "%s is back now and waits for its client", session.full_jid);
			end
			undecided[kept.username.."@"..host.."/"..kept.resource] = (may == nil or err) and true or nil;
			unknown = may == nil and reason or err or unknown;
		end);
		journal.commit();
		if unknown and unknown ~= told then
			told = unknown;
			module:log("error", "Sessions of %s stay in the journal, since nobody can tell whether they may come back; "
				.."that is tried again: %s", host, unknown);
		end
		if unknown and not waits then
			waits = true;
			module:add_timer(retry, function ()
				waits = false;
				dispose();
			end);
			retry = math_min(retry * 2, last_retry);
		end
	end

	-- Brings back all sessions of this host.
	return function ()
		local n, stanzas, bytes = 0, 0, 0;
		local reasons = each_found(function (token, kept)
			local session = kept.host == host and try(token, kept, (state.may_return(kept)));
			if session then
				n = n + 1;
				stanzas = stanzas + session.outgoing_stanza_queue:count_unacked();
				bytes = bytes + session.outgoing_stanza_queue:count_bytes();
			end
		end);
		for reason, count in pairs(reasons) do
			module:log("error", "%d sessions of the journal cannot be brought back: %s", count, reason);
		end
		if n > 0 then
			module:log("info", "%d sessions are back from before the restart and wait for their clients, with %d stanzas (%d bytes) queued",
				n, stanzas, bytes);
		end
		module:add_timer(0, dispose);
		module:add_timer(0, contacts.find_gone);
		if next((jn.found())) ~= nil then
			-- A host that is not there is waited for by the hour.
			module:add_timer(3600, function () dispose(); return 3600; end);
		end
	end
end;
