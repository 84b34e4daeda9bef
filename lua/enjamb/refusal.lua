-- Refuses to load, with a sentence for the admin.
--
-- Prosody adds a traceback to an error that is a string, and shows any other as it is.

local refusal = {};

function refusal:__tostring()
	return self.sentence;
end

function refusal.__concat(a, b)
	return tostring(a)..tostring(b);
end

return function (sentence)
	error(setmetatable({ sentence = sentence }, refusal), 0);
end
