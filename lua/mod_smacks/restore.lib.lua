-- Sessions that come back after a restart, and those that do not: which, the library decides (crates/sessions/src/returning.rs) by
-- what accounts.lib.lua and rights.lib.lua say is so today; how one is made again is revive.lib.lua's.
--
-- What is in a queue was acknowledged to whoever sent it. So a session that must not come back (its password was changed)
-- is still brought back for a moment, and ended in the ordinary way: what is queued is stored or returned. And one of which
-- nobody can tell just now stays in the journal, where nothing is lost.

local parse_xml = require "util.xml".parse;

local enjamb = require "enjamb";
local accounts = module:require "accounts";
local connection = module:require "connection";
local contain = require "enjamb.contain"(module);
local revive = module:require "revive";
local queue_of = module:require "queue";
local rights = module:require "rights";

local jn, sm = enjamb.journal, enjamb.smacks;
local collectgarbage, ipairs, math_min, next, pairs, type = collectgarbage, ipairs, math.min, next, pairs, type;
local os_time = os.time;

local host, hosts = module.host, prosody.hosts;

-- While sessions are made Lua's collector stands still, since it would run whenever their number has grown by a part, and none
-- of them is garbage; until memory has doubled and grown by so many KiB.
local uncollected = 32 * 1024;

-- Sessions that were looked at and stay as they are until the next start, by token. One for all hosts.
local left = module:shared("/*/smacks/left");
-- Sessions of which nobody can tell yet whether they come back, by full JID. One for all hosts.
local undecided = module:shared("/*/smacks/undecided");

-- Calls f(look), which calls `look` now and then: with the collector stopped, and afterwards as it was.
local function without_collector(f)
	if not collectgarbage("isrunning") then return f(function () end); end
	local before = collectgarbage("count");
	collectgarbage("stop");
	contain.attempt(nil, "bringing back sessions", f, function ()
		local now = collectgarbage("count");
		if now > 2 * before + uncollected then
			collectgarbage();
			before = collectgarbage("count");
		end
	end);
	collectgarbage("restart");
end

-- `smacks` has what the module does with sessions: attach, expire, mark_noted, waits_again; `journal`, `rooms`, `contacts` and `options` are
-- the libraries.
return function (smacks, journal, rooms, contacts, options)
	local limits, hibernation_time = options.limits, options.hibernation_time;

	-- Has modules know that it waits. What is in its queue they know if it had waited before.
	local function tell_that_it_waits(session, had_waited)
		if not session.hibernating then return; end
		queue_of.fire("smacks-hibernation-start", session, { origin = session, queue = had_waited and {} or nil });
	end

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
					contain.attempt(each, "telling other modules of a session", tell_that_it_waits, each, item.had_waited);
				end
				if not each.destroyed then
					contain.attempt(each, "telling who is out of a room", rooms.say_that_it_is_out, each);
					journal.keep_changes(each, true);
					contacts.came_back(each);
				end
			end
			journal.commit();
		end);
	end

	-- What the library says is to become of a session, with its reasons; and the role that it has today. `of_account`: what is known of
	-- accounts by now.
	local function judge(kept, of_account)
		if kept.host ~= host then
			local facts = { host = hosts[kept.host] and "without_us" or "missing"; missing_since = kept.missing_since; now = os_time() };
			return nil, jn.verdict(facts);
		end
		local account = of_account[kept.username] or accounts.facts(kept.username);
		of_account[kept.username] = account;
		local user = hosts[host].sessions[kept.username];
		local facts = {
			account_exists = account.account_exists; account_is_enabled = account.account_is_enabled;
			same_password = accounts.same_password(account, kept.username, kept.credentials);
			resource_is_taken = user ~= nil and user.sessions[kept.resource] ~= nil;
		};
		local role;
		if account.account_exists == true then
			local reason, may_change;
			role, reason, may_change = rights.restored(kept.username, kept.role);
			if not role and reason then
				facts[may_change and "role_unknown" or "role_refused"] = reason;
			end
		end
		return role, jn.verdict(facts);
	end

	-- The session, or nil, why not, and whether that may change by itself. `ending`: it is not to be resumed.
	local function bring_back(token, kept, role, ending, account_gone)
		local session, err, may_change = revive.revive(kept, role, connection.new_thread, ending, account_gone);
		if not session then
			return nil, err, may_change;
		end
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

	local function refuse(token, kept, role, objection, account_gone)
		module:log("info", "A session of %s does not come back: %s", kept.username, objection);
		local session, err, may_change = bring_back(token, kept, role, true, account_gone);
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

	-- What is in the journal and not back yet, of hosts for which is_wanted(host), as f(token, kept).
	local function each_found(is_wanted, f)
		for of_host, tokens in pairs((jn.found())) do
			for _, token in ipairs(is_wanted(of_host) and tokens or {}) do
				local kept, err;
				if not left[token] then
					kept, err = jn.state(token);
				end
				if err then
					left[token] = true;
					module:log("error", "A session of %s stays in the journal until the next start: %s", of_host, err);
				elseif kept and not contain.attempt(nil, "bringing back a session of "..kept.username.."@"..kept.host, f, token, kept) then
					left[token] = true;
				end
			end
		end
	end

	-- Whether nobody else looks after sessions of that host.
	local function is_ours_to_judge(of_host)
		local other = hosts[of_host];
		return of_host == host or not (other and other.modules and other.modules.smacks);
	end

	-- Brings back a session that may come back. Returns it; or nil, and why if nobody can tell now.
	local function try(token, kept, role)
		local session, reason, may_change = bring_back(token, kept, role);
		if not session and not may_change then
			leave(token, kept, reason);
		end
		return session, may_change and reason or nil;
	end

	-- Those that do not come back, when all who do are there to be told; those of which nobody can tell are looked at again.
	local n_retries, told, waits = 0, nil, false;
	local function dispose()
		local unknown, of_account = nil, {};
		each_found(is_ours_to_judge, function (token, kept)
			local role, verdict, reason, account_gone = judge(kept, of_account);
			local address = kept.username.."@"..kept.host.."/"..kept.resource;
			undecided[address] = nil;
			if verdict == "return" then
				local session, err = try(token, kept, role);
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
		end);
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
		local n, stanzas, bytes, of_account = 0, 0, 0, {};
		without_collector(function (look)
			each_found(function (of_host) return of_host == host; end, function (token, kept)
				look();
				local role, verdict = judge(kept, of_account);
				local session = verdict == "return" and try(token, kept, role);
				if session then
					n = n + 1;
					stanzas = stanzas + session.outgoing_stanza_queue:count_unacked();
					bytes = bytes + session.outgoing_stanza_queue:count_bytes();
				end
			end);
		end);
		if n > 0 then
			module:log("info", "%d sessions are back from before the restart and wait for their clients, with %d stanzas (%d bytes) queued",
				n, stanzas, bytes);
		end
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
	return function ()
		bring_all_back();
		tell_what_cannot_be_read();
		module:add_timer(0, dispose);
		module:add_timer(0, contacts.find_gone);
		if next((jn.found())) ~= nil then
			-- A host that is not there is waited for by the hour.
			module:add_timer(3600, function () dispose(); return 3600; end);
		end
	end
end;
