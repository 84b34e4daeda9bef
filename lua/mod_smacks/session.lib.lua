-- What this module keeps on a session: the table session.enjamb, and what each of its fields means.
--
-- What other modules know from Prosody's own mod_smacks is on the session itself: smacks, resumption_token, hibernating,
-- hibernating_watchdog, outgoing_stanza_queue, handled_stanza_count, awaiting_ack. So is smacks_came_back
-- (docs/for-modules.md). Other modules of Enjamb know session.enjamb.rooms, out_of and account_gone, nothing else.
--
-- Of the stream
--   stream            the library's key of it; nil: the session is not managed
--   timeout           for how many seconds it waits for its client; nil: it cannot be resumed
--   initiator         s2sout: how far this side has come that asks for stream management (the library's)
--   asking            BOSH: an ack is asked for at the end of this turn of the main loop
--   send, send_before session.send as it is and as it was (sending)
-- Of a resumption
--   draining          the connection has not yet taken all that it was given
--   resend_timer      goes on with what is sent again, if the connection does not say when
-- What is kept, and what it is made of
--   unverified        it came back, and its account has not been looked at yet (restore)
--   former_role       what its role was called then (state)
--   lacks_roster      its roster has not been read yet (waiting)
--   kept_presence     its presence as bytes, of which nobody has asked for a stanza yet (waiting)
--   had_waited        its client was away already when the server ended (restore)
--   account_gone      it came back only to be ended, and its account is no more
--   in_memory_only    it cannot come back after a restart (state)
--   noted             the library has all of it, and these for its presence and directed presence (state):
--   noted_presence, noted_directed
--   noted_roster_version  what of its roster that was made of (contacts)
--   addresses         with whom directed presence, or being in a room, may have begun or ended since (state, rooms)
--   state_changed     something of what is kept may be another; a number: after so many stanzas had been handled (journal)
--   lacks_fields      it came back, and takes over fields from its first connection (fields)
--   credentials       a hash of what its account's password was, or false (state)
--   directed_bytes    about how large its directed presence is (state)
--   rooms             rooms of this server that it is in by itself: nickname by room (rooms)
--   out_of            rooms of this server that it was told to be out of when they were not there (rooms, mod_muc_enjamb)
--   saw, saw_version  what it came back with of what it saw of its contacts (contacts)
--   has_directed      it is not kept, and whom it sent presence directly is noted (contacts)
--   is_held           it ends since its client has logged in anew under its resource, and its contacts are not told so yet (replaced)
--   n_told            of so much of its queue modules that notify have been told while it is away, and have seen to it (hibernate)
--   is_telling        they have been told of more, and may not have seen to it yet (queue)
--   notify            which nodes it wants to be told of (pep)

-- The table, which is made if it is not there.
return function (session)
	local own = session.enjamb;
	if not own then
		own = {};
		session.enjamb = own;
	end
	return own;
end;
