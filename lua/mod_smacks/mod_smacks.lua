-- XEP-0198: Stream Management, the Prosody side of Enjamb.
--
-- Prosody's events become calls, and the answers what Prosody does. Nothing about the protocol is decided here: that is done by
-- the library (crates/stream-management, crates/sessions), which also keeps the counters and the queue.
--
-- This file has the hooks, and puts the others together. A session's way through them: negotiate or s2s (it is enabled), managed (it
-- has a stream), filters (its stanzas), direct (those that are bytes already), asking and acks; hibernate (its connection is lost),
-- resume (it has another), closing, undelivered (it ends, with something queued), remembered. What is kept of it: journal, state,
-- fields, rooms, contacts, pep; restore, accounts, rights and revive bring it back; replica, standby and fence have it outlive the machine. What
-- others see: queue, metrics, shell. What it is to Prosody: connection, sending; and waiting, without a connection. What this module
-- keeps on it: session.

if not pcall(require, "enjamb.refusal") then -- Prosody 0.11 does not look beside its modules
	package.path = package.path..";"..module:get_directory():gsub("[^/]*$", "").."?.lua";
end

if module.host == "*" then -- prosodyctl mod_smacks check: there is no server
	module:set_global();
	module.command = module:require "check".command;
	return;
end

local async = require "util.async";
local st = require "util.stanza";
local timer = require "util.timer";

local version = "0.1.0";
local enjamb = require "enjamb.of_version"("mod_smacks", version);
require "enjamb.prosody".prepare(module);
local contain = require "enjamb.contain"(module);
local own_of = module:require "session";
local queue_of = module:require "queue";
local room_services = module:require "mod_muc_enjamb/loading";
local sending = module:require "sending";

-- Each of these has something of its own (hooks, stores, options), so it is loaded here, once, and given to who needs it.
local parts = {};
for _, name in ipairs {
	"options", "replica", "metrics", "journal", "state", "fields", "rooms", "contacts", "pep", "shell", "filters", "direct", "asking", "managed", "acks",
	"remembered", "undelivered", "hibernate", "closing", "negotiate", "s2s", "resume", "replaced",
} do
	parts[name] = module:require(name);
end
for _, part in pairs(parts) do
	if part.take then
		part.take(parts);
	end
end
local acks, asking, closing, contacts, filters = parts.acks, parts.asking, parts.closing, parts.contacts, parts.filters;
local hibernate, journal, managed, negotiate, resume = parts.hibernate, parts.journal, parts.managed, parts.negotiate, parts.resume;
local s2s, state, undelivered = parts.s2s, parts.state, parts.undelivered;
local drained, request_ack = resume.drained, asking.request;
journal.note_by(state.note, state.note_all);
journal.write_down_by(contacts.write_down);

local ipairs, pairs = ipairs, pairs;

local xmlns_errors = "urn:ietf:params:xml:ns:xmpp-stanzas";
local xmlns_streams = "http://etherx.jabber.org/streams";

-- For other modules: mod_sasl2_sm calls these two.
do_enable = negotiate.enable;
do_resume = resume.resume;

-- mod_sasl2_sm and mod_sasl2_bind2 call this when a request is refused, Prosody 0.12 has not got it.
if not st.stanza_mt.add_error then
	function st.stanza_mt:add_error(err)
		return self:tag(err.condition, { xmlns = xmlns_errors }):up();
	end
end

-- Elements --------------------------------------------------------------------------------------------------------------

module:hook("stream-features", negotiate.offer);
module:hook("s2s-stream-features", negotiate.offer);
module:hook_tag(xmlns_streams, "features", s2s.features);

for _, xmlns in ipairs(enjamb.smacks.namespaces) do
	module:hook_tag(xmlns, "enable", negotiate.handle_enable, 100);
	module:hook_tag(xmlns, "enabled", s2s.handle_enabled, 100);
	module:hook_tag(xmlns, "failed", s2s.handle_failed);
	module:hook_tag(xmlns, "resume", resume.handle_resume);
	module:hook_tag(xmlns, "resumed", s2s.handle_resumed);
	module:hook_tag(xmlns, "r", acks.handle_r);
	module:hook_tag(xmlns, "a", acks.handle_a);
end

-- Connections -----------------------------------------------------------------------------------------------------------

for event_name, force in pairs {
	["csi-client-active"] = true;
	["csi-flushing"] = false;
	["c2s-pre-ondrain"] = false;
	["s2s-pre-ondrain"] = false;
} do
	module:hook(event_name, function (event)
		request_ack(event.session or event.origin, force);
	end);
end

local function on_read_timeout(event)
	return asking.is_alive(event.session);
end

module:hook("c2s-read-timeout", on_read_timeout);
module:hook("s2s-read-timeout", on_read_timeout);

module:hook("c2s-ondrain", function (event) drained(event.session); end);
module:hook("csi-client-inactive", function (event) resume.inactive(event.origin); end, -10);

module:hook("pre-resource-unbind", function (event) return hibernate.lost(event.session); end);

module:hook("pre-session-close", function (event)
	contain.attempt(event.session, "closing a stream", closing.before_close, event.session, event.reason == false);
end);

module:hook("s2sout-established", function (event) s2s.established(event.session); end);

local function on_s2s_destroyed(event)
	if own_of(event.session).stream then
		undelivered.give_up(event.session);
	end
end

module:hook("s2sout-destroyed", on_s2s_destroyed);
module:hook("s2sin-destroyed", on_s2s_destroyed);

-- Coming back after a restart -------------------------------------------------------------------------------------------

local restore_all, verify = module:require "restore"({
	all = managed.all; attach = managed.attach; expire = hibernate.expire; mark_noted = state.mark_noted; tell_again = hibernate.tell_again;
	waits_again = hibernate.waits_again;
}, journal, parts.rooms, contacts, parts.options);
resume.verify_by(verify);

local function open_journal()
	if not journal.open() then return; end
	contacts.open(journal.is_kept);
	restore_all();
	for _, session in ipairs(managed.all()) do
		if journal.is_kept(session) and not own_of(session).noted then
			journal.keep(session);
		end
	end
end

if prosody.start_time then
	module:add_timer(0, open_journal);
else
	module:hook_global("server-started", open_journal, -10);
end

-- Reload, unload, shutdown ----------------------------------------------------------------------------------------------

parts.shell.show {
	sessions = managed.all;
	drop = function (session) hibernate.expire(session, "An admin ended it"); end;
	replica = parts.replica.state;
	hand_over = parts.replica.hand_over;
};

function module.load()
	sending.load();
	for _, session in ipairs(managed.all()) do
		queue_of.adopt(session.outgoing_stanza_queue);
		if session.hibernating then
			session.close = hibernate.close_disconnected;
		end
		filters.add(session);
	end
end

-- Stream management is switched off for a session that goes on, or waits.
local function let_go(session)
	if session.hibernating then
		return hibernate.expire(session, "Stream management was disabled");
	end
	session.log("debug", "Stream management was disabled");
	journal.ended(own_of(session).stream); -- while the session has its queue there is the stream
	managed.stop(session);
end

function module.unload()
	sending.unload();
	parts.shell.unload();
	parts.direct.withdraw();
	if not module.reloading then
		room_services.unload();
		parts.pep.unload();
		journal.unload();
	end
	for _, session in ipairs(managed.all()) do
		filters.remove(session);
		if not module.reloading then
			let_go(session);
		end
	end
end

-- On 0.12 a signal is handled wherever it comes in, even while a stanza is between being counted and being processed, and
-- with no connection to wait for the whole shutdown would take place there. So it goes on in the next turn of the main loop.
module:hook_global("server-stopping", function ()
	if not async.ready() then return; end
	local wait, done = async.waiter();
	timer.add_task(0, function () done(); end);
	wait();
end, -89);

-- Before mod_c2s closes the streams, which would end the sessions cleanly.
module:hook_global("server-stopping", function ()
	for _, session in ipairs(managed.all()) do
		contain.attempt(session, "stopping a session", closing.stop, session);
	end
end, -90);

-- After clients have been closed, and before mod_s2s closes what goes to other servers (-200). All hosts ask before one waits.
module:hook_global("server-stopping", closing.ask_servers, -150);
module:hook_global("server-stopping", closing.wait_for_servers, -151);
module:hook_global("server-stopping", closing.tell_servers, -152);
