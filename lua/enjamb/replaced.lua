-- Sessions that end since their client has logged in anew under their resource (RFC 6120 §7.7.2.2): to others it need not be gone.
-- Of all modules that hold something for it meanwhile.

local setmetatable, type = setmetatable, type;

local sessions = setmetatable({}, { __mode = "k" });

return {
	-- For "pre-session-close".
	note = function (event)
		local reason = event.reason;
		if type(reason) == "table" and reason.condition == "conflict" then
			sessions[event.session] = true;
		end
	end;
	is = function (session) return sessions[session] ~= nil; end;
};
