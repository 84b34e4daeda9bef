-- Sessions that come back after a restart, and those that do not: which, the library decides (crates/sessions/src/returning.rs) by
-- what accounts.lib.lua and rights.lib.lua say is so today; how one is made again is revive.lib.lua's.
--
-- What is in a queue was acknowledged to whoever sent it. So a session that must not come back (its password was changed)
-- is still brought back for a moment, and ended in the ordinary way: what is queued is stored or returned. And one of which
-- nobody can tell just now stays in the journal, where nothing is lost.
--
-- Accounts and roles are looked at before the first client is read from for as many sessions as that takes no time; if storage fails, for all. The
-- others wait for their clients at once: their accounts are looked at when a client of them comes, and a little at a time when the server is up.

local parse_xml = require "util.xml".parse;

local enjamb = require "enjamb";
local accounts = module:require "accounts";
local contain = require "enjamb.contain"(module);
local for_all = require "enjamb.for_all"(module);
local own_of = module:require "session";
local revive = module:require "revive";
local queue_of = module:require "queue";
local rights = module:require "rights";
local waiting = module:require "waiting";

local jn, sm = enjamb.journal, enjamb.smacks;
local ipairs, math_min, next, os, pairs, type = ipairs, math.min, next, os, pairs, type;
local os_time = os.time;

local host, hosts = module.host, prosody.hosts;

-- So many seconds of the process's time are spent on accounts before the first client is read from.
local judging_time = 0.05;

-- Sessions that were looked at and stay as they are until the next start, by token. One for all hosts.
local left = module:shared("/*/smacks/left");
-- Sessions of which nobody can tell yet whether they come back, by full JID. One for all hosts.
local undecided = module:shared("/*/smacks/undecided");

-- `smacks` has what the module does with sessions: all, attach, expire, mark_noted, tell_again, waits_again; `journal`, `rooms`, `contacts` and
-- `options` are the libraries.
return function (smacks, journal, rooms, contacts, options)
	local limits, hibernation_time = options.limits, options.hibernation_time;

	-- What is looked at when all sessions are back that can be, and other modules have what they had: before the first client
	-- is read from.
	local back;
	local function follow_up(session)
		if back then
			back[#back+1] = session;
			return;
		end
		back = { session };
		module:add_timer(0, function ()
			local sessions = back;
			back = nil;
			local is_hooked = queue_of.is_hooked("smacks-hibernation-start");
			for_all(sessions, "Telling of sessions that are back", function (each)
				local own = own_of(each);
				if is_hooked and not each.destroyed then
					contain.attempt(each, "telling other modules of a session", smacks.tell_again, each, own.had_waited);
				end
				own.had_waited = nil;
				if each.destroyed then return; end
				if own.rooms or own.out_of then
					contain.attempt(each, "telling who is out of a room", rooms.say_that_it_is_out, each);
				end
				if is_hooked or own.state_changed or own.addresses then
					journal.keep_changes(each, true);
				end
				if not own.unverified then
					contacts.came_back(each);
				end
			end);
			journal.commit();
		end);
	end

	-- What the library says of a session by its account, with its reasons; and the role that the session has today. `account`: what is
	-- known of that by now.
	local function judge_account(username, account, credentials, former_role, resource_is_taken)
		local facts = {
			account_exists = account.account_exists; account_is_enabled = account.account_is_enabled;
			same_password = accounts.same_password(account, username, credentials);
			resource_is_taken = resource_is_taken;
		};
		local role;
		if account.account_exists == true then
			local reason, may_change;
			role, reason, may_change = rights.restored(username, former_role);
			if not role and reason then
				facts[may_change and "role_unknown" or "role_refused"] = reason;
			end
		end
		return role, jn.verdict(facts);
	end

	local function is_taken(kept)
		local user = hosts[host].sessions[kept.username];
		return user ~= nil and user.sessions[kept.resource] ~= nil;
	end

	-- What is to become of a session that was found. `of_account`: what is known of accounts by now.
	local function judge(kept, of_account)
		if kept.host ~= host then
			local facts = { host = hosts[kept.host] and "without_us" or "missing"; missing_since = kept.missing_since; now = os_time() };
			return nil, jn.verdict(facts);
		end
		local account = of_account[kept.username] or accounts.facts(kept.username);
		of_account[kept.username] = account;
		return judge_account(kept.username, account, kept.credentials, kept.role, is_taken(kept));
	end

	-- The session, or nil, why not, and whether that may change by itself. `judged`: what is known of it by its account (revive.lib.lua);
	-- if it is `ending` it is not to be resumed.
	local function bring_back(token, kept, judged)
		local session, err, may_change = revive.revive(kept, judged);
		if not session then
			return nil, err, may_change;
		end
		local ending = judged and judged.ending;
		local timeout = math_min(kept.timeout, hibernation_time);
		local key, handle, h, lost, had_waited = jn.restore(token, limits, kept.username.."@"..host, not ending and kept.id or "", timeout);
		if not key then
			revive.withdraw(session);
			return nil, handle;
		end
		smacks.attach(session, key, handle, kept.xmlns, kept.id, timeout, h);
		if lost > 0 then
			session.log("error", "%d stanzas of %s's queue could not be read from the journal", lost, session.full_jid);
		end
		contain.attempt(session, "letting a session wait for its client", smacks.waits_again, session, key, timeout);
		if not ending then
			smacks.mark_noted(session);
			session.smacks_came_back = true;
			own_of(session).had_waited = had_waited;
			follow_up(session);
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

	local function refuse(token, kept, role, objection, account_gone)
		module:log("info", "A session of %s does not come back: %s", kept.username, objection);
		local session, err, may_change = bring_back(token, kept, { role = role, ending = true, account_gone = account_gone or nil });
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
	local function await_host(token, kept, is_new)
		if not is_new then return; end
		module:log("warn", "A session of %s@%s is kept for a day, with what is queued for it: there is no such host. If it was renamed "
			.."or its name is mistyped, mend that and restart", kept.username, kept.host);
		local ok, err = jn.host_is_missing(token, os_time());
		if not ok then
			module:log("error", "Since when there is no host %s could not be kept: %s", kept.host, err);
		end
	end

	local function drop(token, kept)
		module:log("warn", "A session of %s@%s is dropped with what is queued for it, there has been no such host for a day",
			kept.username, kept.host);
		jn.discard(token);
	end

	local function send_on_or_leave(token, kept)
		local n, err = send_on(token, kept);
		if n then
			module:log("info", "A session of %s@%s does not come back, stream management is not enabled there: "
				.."%d stanzas that were queued for it go to the account", kept.username, kept.host, n);
		else
			leave(token, kept, err);
		end
	end

	-- One that is in the journal and not back yet, as f(token, kept).
	local function look_at(token, of_host, f)
		local kept, err;
		if not left[token] then
			kept, err = jn.state(token);
		end
		if err then
			left[token] = true;
			module:log("error", "A session of %s stays in the journal until the next start: %s", of_host, err);
		elseif kept and not contain.attempt(kept.username.."@"..kept.host, "bringing back a session", f, token, kept) then
			left[token] = true;
		end
	end

	-- Whether nobody else looks after sessions of that host.
	local function is_ours_to_judge(of_host)
		local other = hosts[of_host];
		return of_host == host or not (other and other.modules and other.modules.smacks);
	end

	-- Brings back a session that may come back. Returns it; or nil, and why if nobody can tell now.
	local function try(token, kept, judged)
		local session, reason, may_change = bring_back(token, kept, judged);
		if not session and not may_change then
			leave(token, kept, reason);
		end
		return session, may_change and reason or nil;
	end

	-- Those that do not come back, when all who do are there to be told; those of which nobody can tell are looked at again.
	local n_retries, told, waits = 0, nil, false;
	local function dispose()
		local unknown, of_account = nil, {};
		local function dispose_of(token, kept)
			local role, verdict, reason, account_gone = judge(kept, of_account);
			local address = kept.username.."@"..kept.host.."/"..kept.resource;
			undecided[address] = nil;
			if verdict == "return" then
				local session, err = try(token, kept, { role = role });
				if session then
					session.log("info", "%s is back now and waits for its client", session.full_jid);
				end
				undecided[address] = err and true;
				unknown = err or unknown;
			elseif verdict == "end" then
				if not refuse(token, kept, role, reason, account_gone) then
					unknown = "its roster cannot be read";
				end
			elseif verdict == "ask again" then
				undecided[address] = true;
				unknown = reason;
			elseif verdict == "send on" then
				send_on_or_leave(token, kept);
			elseif verdict == "await host" then
				await_host(token, kept, reason);
			elseif verdict == "drop" then
				drop(token, kept);
			end
		end
		for of_host, tokens in pairs((jn.found())) do
			for _, token in ipairs(is_ours_to_judge(of_host) and tokens or {}) do
				look_at(token, of_host, dispose_of);
			end
		end
		journal.commit();
		if unknown and unknown ~= told then
			told = unknown;
			module:log("error", "Sessions of %s stay in the journal, since nobody can tell whether they may come back; "
				.."that is tried again: %s", host, unknown);
		end
		if unknown and not waits then
			waits = true;
			module:add_timer(jn.retry_after(n_retries), function ()
				waits = false;
				dispose();
			end);
			n_retries = n_retries + 1;
		end
	end

	local function bring_all_back()
		local tokens, n, stanzas, bytes = jn.found()[host] or {}, 0, 0, 0;
		local time_left, of_account = judging_time, {};
		local function bring_one_back(token, kept)
			local judged, session, unknown;
			if time_left > 0 then
				local began = os.clock();
				local role, verdict = judge(kept, of_account);
				if verdict == "return" then
					judged = { role = role };
					session, unknown = try(token, kept, judged);
				end
				-- While storage does not answer it is asked: of what cannot be told nobody is let in.
				time_left = (unknown or verdict == "ask again") and judging_time or time_left - (os.clock() - began);
			elseif not is_taken(kept) then
				session = try(token, kept);
			end
			if session then
				n = n + 1;
				stanzas = stanzas + session.outgoing_stanza_queue:count_unacked();
				bytes = bytes + session.outgoing_stanza_queue:count_bytes();
			end
		end
		for_all(tokens, "Bringing back sessions", function (token)
			look_at(token, host, bring_one_back);
		end);
		if n > 0 then
			module:log("info", "%d sessions are back from before the restart and wait for their clients, with %d stanzas (%d bytes) queued",
				n, stanzas, bytes);
		end
	end

	-- Looks at the account of a session that came back without that. Returns why nobody can tell whether it may stay; nothing if it may, or
	-- has ended.
	local function verify(session)
		local own = own_of(session);
		if session.destroyed or not own.unverified then return; end
		local username, account = session.username, accounts.facts(session.username);
		local role, verdict, reason, account_gone = judge_account(username, account, own.credentials, own.former_role);
		if verdict == "ask again" then return reason; end
		local err = waiting.want_roster(session);
		if err then
			return "the roster cannot be read: "..err;
		elseif session.destroyed then return; end
		local former_role = own.former_role;
		own.unverified, own.former_role = nil, nil;
		if verdict == "return" then
			session.role = role;
			if rights.describe(session) ~= former_role then
				journal.keep_changes(session, true);
			end
			contacts.came_back(session);
			return;
		end
		module:log("info", "A session of %s does not come back: %s", username, reason);
		local full_jid, roster = waiting.is_available(session) and session.full_jid, session.roster;
		own.account_gone = account_gone or nil;
		smacks.expire(session, reason);
		if full_jid then
			contacts.ended(username.."@"..host, full_jid, roster);
		end
	end

	-- Who logs in may be there because of that: before it has a session of its own, which makes a difference to what was queued.
	module:hook("pre-resource-bind", function (event)
		local user, unverified = hosts[host].sessions[event.session.username], {};
		for _, session in pairs(user and user.sessions or {}) do
			if own_of(session).unverified then
				unverified[#unverified+1] = session;
			end
		end
		for _, session in ipairs(unverified) do
			contain.attempt(session, "looking at the account of a session", verify, session);
		end
	end, 1000);

	-- The same for all, a little at a time.
	local n_unverified_retries = 0;
	local function verify_all()
		local sessions, n, unknown = {}, 0, nil;
		for _, session in ipairs(smacks.all()) do
			if own_of(session).unverified then
				sessions[#sessions+1] = session;
			end
		end
		local function verify_next()
			n = n + 1;
			if not sessions[n] then
				if unknown then
					module:log("error", "Nobody can tell whether sessions of %s may come back, they wait and are not resumed before; "
						.."that is tried again: %s", host, unknown);
					module:add_timer(jn.retry_after(n_unverified_retries), verify_all);
					n_unverified_retries = n_unverified_retries + 1;
				end
				return;
			end
			local _, reason = contain.attempt(sessions[n], "looking at the account of a session", verify, sessions[n]);
			unknown = reason or unknown;
			contacts.first(verify_next);
		end
		contacts.first(verify_next);
	end

	local function tell_what_cannot_be_read()
		local _, unreadable = jn.found();
		local reasons = {};
		for _, reason in pairs(unreadable) do
			reasons[reason] = (reasons[reason] or 0) + 1;
		end
		for reason, count in pairs(reasons) do
			module:log("error", "%d sessions of the journal cannot be brought back: %s", count, reason);
		end
	end

	-- Brings back all sessions of this host.
	local function restore_all()
		bring_all_back();
		verify_all();
		tell_what_cannot_be_read();
		module:add_timer(0, dispose);
		module:add_timer(0, contacts.find_gone);
		if next((jn.found())) ~= nil then
			-- A host that is not there is waited for by the hour.
			module:add_timer(3600, function () dispose(); return 3600; end);
		end
	end

	return restore_all, verify;
end;
