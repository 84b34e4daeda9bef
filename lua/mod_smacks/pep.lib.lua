-- What the clients of sessions that come back want to be told by PEP (XEP-0163 §4.3): the nodes of their capabilities'
-- +notify. mod_pep learns it from presence, of which there is none after a restart, and keeps it in memory.
--
-- That memory is a table by account whose nodes they are: by full JID of who wants to know, a set of node names. mod_pep gives it away when it is
-- reloaded, and takes it back. So what is missing in it is put there when it is first asked for an account: a start on which
-- nobody publishes anything reads no roster.

local jid = require "util.jid";
local new_set = require "util.set".new;
local rostermanager = require "core.rostermanager";

local contain = require "enjamb.contain"(module);
local own_of = module:require "session";

local ipairs, pairs, rawequal, setmetatable, type = ipairs, pairs, rawequal, setmetatable, type;
local table_concat, table_sort = table.concat, table.sort;

local bare_sessions, hosts = prosody.bare_sessions, prosody.hosts;
local host = module.host;

-- Names of nodes come from a client, and are kept with its session: more than so many bytes are not.
local most_bytes = 32 * 1024;

-- What mod_pep keeps, where this file stands before it, and what stands there.
local behind = module:shared("pep");
-- By host: what each does. Contacts may be of another host of this server.
local by_host = module:shared("/*/smacks/pep");
local own = {};
by_host[host] = own;

local function module_pep()
	local pep = hosts[host].modules.pep;
	return pep and pep.module and pep.module.save and pep.module.restore and pep.module;
end

local function recipients_of(pep)
	local saved = pep.save();
	local recipients = type(saved) == "table" and saved.recipients;
	return type(recipients) == "table" and recipients or nil;
end

-- The same set for all who want the same nodes, as mod_pep does it.
local sets = setmetatable({}, { __mode = "v" });
local function set_of(nodes)
	local key = table_concat(nodes, "\0");
	local set = sets[key];
	if not set then
		set = new_set(nodes);
		sets[key] = set;
	end
	return set;
end

local lists = setmetatable({}, { __mode = "k" });
local function list_of(set)
	local list = lists[set];
	if list == nil then
		list = {};
		local bytes = 0;
		for node in set:items() do
			list[#list+1] = node;
			bytes = bytes + #node + 4;
		end
		table_sort(list);
		if bytes > most_bytes or not list[1] then
			list = false;
		end
		lists[set] = list;
	end
	return list or nil;
end

-- Before what mod_pep keeps: completes it for an account that it has nothing of.
local before = {};

-- The nodes that the client of a session of this host wants to be told of; nil if none are known.
function own.nodes_of(session)
	local pep = module_pep();
	local recipients = pep and recipients_of(pep);
	if not recipients then return own_of(session).notify; end
	if rawequal(recipients, behind.stand_in) then
		recipients = behind.recipients;
	end
	local of_account = recipients[session.username];
	if of_account then
		local set = of_account[session.full_jid];
		return set and list_of(set) or nil;
	end
	return own_of(session).notify;
end

-- Sessions of `account` that came back and whose presence goes to `contact`, if that is another.
local function add(of_account, account, contact)
	local user, of_host = bare_sessions[account], by_host[jid.host(account)];
	for _, session in pairs(user and of_host and user.sessions or {}) do
		local nodes = session.presence and own_of(session).notify and of_host.nodes_of(session);
		if nodes and (not contact or contact.both or session.directed and session.directed[contact.jid]) then
			of_account[session.full_jid] = set_of(nodes);
		end
	end
end

local function complete(username)
	local of_account, bare = {}, username.."@"..host;
	add(of_account, bare);
	-- Who is subscribed to the account's presence may be told, if theirs came here.
	local roster, err = rostermanager.load_roster(username, host);
	if err then return nil; end
	for contact, item in pairs(roster or {}) do
		local subscription = contact and item.subscription;
		if subscription == "both" or subscription == "from" then
			add(of_account, contact, { jid = bare, both = subscription == "both" });
		end
	end
	return of_account;
end

function before.__index(_, username)
	local recipients = behind.recipients;
	local of_account = recipients[username];
	if of_account == nil and type(username) == "string" then
		local ok, found = contain.attempt(nil, "finding who wants to be told of "..username.."'s nodes", complete, username);
		if ok and found then
			of_account = found;
			recipients[username] = found;
		end
	end
	return of_account;
end

function before.__newindex(_, username, of_account)
	behind.recipients[username] = of_account;
end

function own.stand_before()
	local pep = module_pep();
	local recipients = pep and recipients_of(pep);
	if not recipients or rawequal(recipients, behind.stand_in) then return; end
	behind.recipients, behind.stand_in = recipients, setmetatable({}, before);
	pep.restore { recipients = behind.stand_in };
end

-- A session comes back later than others: to an account that is complete it is added.
function own.add(username, full_jid, nodes)
	local of_account = behind.recipients and behind.recipients[username];
	if of_account then
		of_account[full_jid] = set_of(nodes);
	end
end

module:hook("smacks-save-session", function (event)
	event.state.notify = own.nodes_of(event.session);
end);

module:hook("smacks-restore-session", function (event)
	local nodes = event.state.notify;
	if type(nodes) ~= "table" then return; end
	for _, node in ipairs(nodes) do
		if type(node) ~= "string" then return; end
	end
	local session = event.session;
	own_of(session).notify = nodes;
	for _, of_host in pairs(by_host) do
		of_host.stand_before();
	end
	if not own.late then return; end
	own.add(session.username, session.full_jid, nodes);
	for contact, item in pairs(session.roster) do
		local contact_node, contact_host = jid.split(contact or nil);
		local of_host = contact_host and item.subscription == "both" and by_host[contact_host];
		if of_host then
			of_host.add(contact_node, session.full_jid, nodes);
		end
	end
end);

if behind.stand_in then -- before a reload
	setmetatable(behind.stand_in, before);
end

module:add_timer(0, function () own.late = true; end);

return {
	unload = function ()
		by_host[host] = nil;
		local pep = behind.stand_in and module_pep();
		if pep and rawequal(recipients_of(pep), behind.stand_in) then
			pep.restore { recipients = behind.recipients };
		end
	end;
};
