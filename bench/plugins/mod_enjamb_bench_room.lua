-- Rooms in which nobody is told who joins: with hundreds of occupants that is not what is to be measured, and takes
-- most of the time.

module:hook("muc-room-created", function (event)
	event.room:set_presence_broadcast { visitor = false, participant = false, moderator = false };
end);
