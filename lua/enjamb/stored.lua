-- What a store has of somebody; nil if it has nothing, or nil and an error. A record that is empty is none: Prosody's storage makes
-- it so before it removes it, and may have been killed in between.

local next, type = next, type;

return function (store, key)
	local data, err = store:get(key);
	if type(data) == "table" and next(data) == nil then return nil; end
	return data, err;
end;
