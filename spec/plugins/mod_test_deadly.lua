-- On a component: the n-th presence to it kills the server, where the file "deadly" in the data path has a number n.

local seen = 0;

module:hook("presence/full", function ()
	local f = io.open(prosody.paths.data.."/deadly");
	if not f then return; end
	local deadly = f:read("n");
	f:close();
	seen = seen + 1;
	if seen == deadly then
		os.execute("kill -KILL $PPID");
	end
end, 1000);
