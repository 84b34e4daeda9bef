-- What was said and taken back, or said better: who joins later gets it as the room has it by then.

local muc = require "support.muc";
local gateway = require "support.gateway";

local ns_fasten, ns_sid = "urn:xmpp:fasten:0", "urn:xmpp:sid:0";

-- What a message is, but for where it goes.
local function told(el)
	return (tostring(el):gsub(" to='[^']*'", ""):gsub(" xmlns='jabber:client'", ""));
end

-- The children of a message, in an order that does not depend on Lua's.
local function parts(el)
	local out = { el.attr.from, el.attr.id or "-" };
	for _, child in ipairs(el:children()) do
		local inner = {};
		for _, c in ipairs(child:children()) do inner[#inner + 1] = c.name .. " " .. c.ns .. " " .. c:text(); end
		table.sort(inner);
		out[#out + 1] = table.concat({ child.name, child.ns, child.attr.id or "", child.attr.by or "", child:text(), table.unpack(inner) }, " ");
	end
	table.sort(out);
	return out;
end

local function all_parts(list)
	local out = {};
	for i, el in ipairs(list) do out[i] = table.concat(parts(el), "; "); end
	return out;
end

muc.account("taking back in Prosody's rooms", {
	community = { "muc_moderation" };
	extra = 'Component "moderated.localhost" "muc"\n\tmodules_enabled = { "muc_mam"; "muc_moderation" }\n\trestrict_room_creation = false\n';
}, function (ctx, it)
	local function someone_says(body)
		local room, owner = muc.open(ctx, { service = "moderated.localhost", client = { host = "plain.localhost" } });
		local phone = muc.client(ctx);
		muc.enter(phone, room, "ada");
		local bob = muc.client(ctx, { host = "plain.localhost" });
		muc.enter(bob, room, "bob");
		muc.say(bob, room, "before", { id = "b" });
		muc.say(bob, room, body, { id = "v" });
		muc.say(bob, room, "after", { id = "a" });
		local said = owner:expect(muc.groupchat(room, "bob", body));
		return room, owner, bob, phone, said:child("stanza-id", ns_sid).attr.id;
	end

	-- What another device of the account gets, and somebody who is not with minimix.
	local function both(room, phone)
		muc.settle(phone);
		local laptop = muc.client(ctx, { user = phone.username });
		local eve = muc.client(ctx, { host = "plain.localhost" });
		return muc.enter(laptop, room, "ada").history, muc.enter(eve, room, "eve").history;
	end

	it("a moderator's retraction leaves what it leaves in the room", function ()
		local room, owner, _, phone, id = someone_says("vile");
		local answer = owner:iq("set", ("<apply-to xmlns='%s' id='%s'><moderate xmlns='urn:xmpp:message-moderate:0'>"
			.. "<retract xmlns='urn:xmpp:message-retract:0'/><reason>rude</reason></moderate></apply-to>"):format(ns_fasten, id), room);
		assert.equal("result", answer.attr.type, tostring(answer));
		phone:expect(function (el) return el:child("apply-to", ns_fasten); end);
		local ours, theirs = both(room, phone);
		assert.equal(4, #ours);
		-- In the form of XEP-0425 0.3 as well, if the room told it so, and with whose it was.
		local more = {};
		for i, el in ipairs(ours) do
			assert.is_nil(told(el):find("vile", 1, true), told(el));
			local left = {};
			for _, part in ipairs(parts(el)) do left[part] = true; end
			for _, part in ipairs(parts(theirs[i])) do
				assert.is_true(left[part], part.." is not in "..told(el));
				left[part] = nil;
			end
			for part in pairs(left) do more[#more + 1] = i.." "..part:match("^%S+ %S+"); end
		end
		for _, part in ipairs(more) do
			assert.truthy(part == "2 occupant-id urn:xmpp:occupant-id:0" or part == "2 retracted urn:xmpp:message-retract:1", part);
		end
	end);

	it("a correction comes after what it corrects", function ()
		local room, _, bob, phone = someone_says("wrogn");
		muc.say(bob, room, "wrong", nil, "<replace id='v' xmlns='urn:xmpp:message-correct:0'/>");
		phone:expect(muc.groupchat(room, "bob", "wrong"));
		local ours, theirs = both(room, phone);
		assert.same(all_parts(theirs), all_parts(ours));
		assert.equal(4, #ours);
	end);
end);

muc.account("taking back in other rooms", gateway.options, function (ctx, it)
	local moderated = "<moderated by='$room/mod' xmlns='urn:xmpp:message-moderate:1'/>";
	local by = "<occupant-id xmlns='urn:xmpp:occupant-id:0' id='%s'/>";
	local forms = {
		["a moderator, now"] = { nil, "<retract id='s2' xmlns='urn:xmpp:message-retract:1'>" .. moderated
			.. "<reason>rude</reason></retract>" };
		["a moderator, as it was"] = { nil, "<apply-to id='s2' xmlns='urn:xmpp:fasten:0'><moderated by='$room/mod' xmlns='urn:xmpp:message-moderate:0'>"
			.. "<retract xmlns='urn:xmpp:message-retract:0'/></moderated></apply-to>" };
		["the author, now"] = { "bob", "<retract id='s2' xmlns='urn:xmpp:message-retract:1'/><body>This was taken back</body>" };
		["the author, without words"] = { "bob", "<retract id='s2' xmlns='urn:xmpp:message-retract:1'/>" };
		["the author, as it was"] = { "bob", "<apply-to id='m2' xmlns='urn:xmpp:fasten:0'><retract xmlns='urn:xmpp:message-retract:0'/></apply-to>" };
		["the author, under another nickname"] = { "bobby", "<retract id='s4' xmlns='urn:xmpp:message-retract:1'/>" .. by:format("o1"), true };
	};
	local function a_room()
		local room = gateway.open(ctx);
		local phone = muc.client(ctx);
		muc.enter(phone, room, "ada");
		gateway.says(ctx, room, gateway.words("bob", "one", { id = "m1", sid = "s1" }));
		gateway.says(ctx, room, gateway.words("bob", "vile", { id = "m2", sid = "s2" }));
		gateway.says(ctx, room, gateway.words("bob", "three", { id = "m3", sid = "s3" }));
		gateway.says(ctx, room, gateway.message("bob", "<body>vile, too</body>" .. by:format("o1"), { id = "m4", sid = "s4" }));
		return room, phone;
	end
	local function history(room, phone)
		muc.settle(phone);
		return muc.enter(muc.client(ctx, { user = phone.username }), room, "ada").history;
	end

	for who, form in pairs(forms) do
		it("by " .. who .. ": another device gets the announcement, and not the words", function ()
			local room, phone = a_room();
			gateway.says(ctx, room, gateway.message(form[1], form[2], { id = "r" }));
			phone:expect({ name = "message", id = "r" });
			local got = history(room, phone);
			assert.equal(5, #got);
			local gone = form[3] and 4 or 2;
			for i, el in ipairs(got) do
				assert.equal(i == 5 and "r" or "m" .. i, el.attr.id);
				if i < 5 then
					assert.equal(i ~= gone, el:body() ~= nil, tostring(el));
					assert.equal("s" .. i, el:child("stanza-id", ns_sid).attr.id);
				end
			end
		end);
	end

	for what, forged in pairs {
		["an occupant who says it is a moderator"] = { "eve", "<retract id='s2' xmlns='urn:xmpp:message-retract:1'>" .. moderated .. "</retract>" };
		["somebody else"] = { "eve", "<retract id='s2' xmlns='urn:xmpp:message-retract:1'/>" };
		["somebody else under the same nickname"] = { "bob", "<retract id='s4' xmlns='urn:xmpp:message-retract:1'/>" .. by:format("o2") };
	} do
		it("by " .. what .. ": nothing is gone", function ()
			local room, phone = a_room();
			gateway.says(ctx, room, gateway.message(forged[1], forged[2], { id = "r" }));
			phone:expect({ name = "message", id = "r" });
			local bodies = {};
			for _, el in ipairs(history(room, phone)) do bodies[#bodies + 1] = el:body(); end
			assert.same({ "one", "vile", "three", "vile, too" }, bodies);
		end);
	end

	it("what was taken back while the room had forgotten the account is gone, too", function ()
		local room, phone = a_room();
		muc.settle(phone);
		gateway.forget(ctx, room);
		local tombstone = "<retracted stamp='2024-01-01T00:00:00Z' xmlns='urn:xmpp:message-retract:1'>" .. moderated .. "</retracted>";
		gateway.script(ctx, room, { join = {
			gateway.own(), gateway.words("bob", "one", { id = "m1", sid = "s1", stamp = gateway.ago(0) }),
			gateway.message("bob", tombstone, { id = "m2", sid = "s2", stamp = gateway.ago(0) }),
			gateway.message(nil, "<retract id='s2' xmlns='urn:xmpp:message-retract:1'>" .. moderated .. "</retract>",
				{ id = "r", sid = "s5", stamp = gateway.ago(0) }),
			gateway.subject(),
		} });
		local mark = muc.mark(phone);
		muc.say(phone, room, "anybody?");
		phone:expect({ name = "message", id = "r" });
		local ids = {};
		for _, el in ipairs(muc.got(phone, mark, { name = "message", type = "groupchat" })) do ids[#ids + 1] = el.attr.id; end
		assert.same({ "r" }, ids);
		for _, el in ipairs(history(room, phone)) do assert.not_equal("vile", el:body()); end
	end);
end);
