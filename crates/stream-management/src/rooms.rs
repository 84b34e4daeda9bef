//! What a room's presence says of whether a client is in it, and which rooms a client is out of that does not know it
//! (XEP-0045 §7.2, §7.14, §17.3).
//!
//! A session that outlives the server finds rooms of that server that do not: they have forgotten their occupants. A room that
//! shuts down tells them (status 332); this one could not, so it is said in its place.

/// What a presence from an occupant's address in a room means to its recipient's own place in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnPresence {
    /// It is in, under the nickname that the presence comes from.
    Entered,
    /// It is out.
    Left,
    /// Nothing: it is of another occupant, or the rest follows.
    Nothing,
}

/// Reads a presence. `codes` are its status codes, `own_nickname` says that it comes from the nickname under which the
/// recipient is known to be in the room.
pub fn own_presence<'a>(
    unavailable: bool,
    codes: impl IntoIterator<Item = &'a str>,
    own_nickname: bool,
) -> OwnPresence {
    let (mut is_own, mut renamed) = (false, false);
    for code in codes {
        is_own |= code == "110"; // §7.2.3
        renamed |= code == "303"; // §7.6: the presence under another nickname follows
    }
    match (unavailable, is_own) {
        (false, true) => OwnPresence::Entered,
        // Some rooms leave the code out when they throw somebody out.
        (true, _) if (is_own || own_nickname) && !renamed => OwnPresence::Left,
        _ => OwnPresence::Nothing,
    }
}

/// What is known of a room that a session was in before the server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// The session's account is in it by itself, and looks after its clients.
    pub has_account: bool,
    /// The room is there, and has the session for an occupant.
    pub has_session: bool,
}

/// The status codes with which the session is told that it is out, if it is: that it is about itself (110), and that the
/// room was shut down (332).
pub fn told_out(room: Room) -> Option<[&'static str; 2]> {
    (!room.has_account && !room.has_session).then_some(["110", "332"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ones_own_presence_says_something() {
        assert_eq!(own_presence(false, ["110"], false), OwnPresence::Entered);
        assert_eq!(own_presence(false, ["100", "110", "201"], true), OwnPresence::Entered);
        assert_eq!(own_presence(false, ["201"], true), OwnPresence::Nothing);
        assert_eq!(own_presence(true, ["110"], false), OwnPresence::Left);
        assert_eq!(own_presence(true, [], true), OwnPresence::Left);
        assert_eq!(own_presence(true, ["307"], false), OwnPresence::Nothing);
        assert_eq!(own_presence(true, ["303", "110"], true), OwnPresence::Nothing, "renamed");
    }

    #[test]
    fn who_is_still_in_is_told_nothing() {
        for (has_account, has_session) in [(true, true), (true, false), (false, true)] {
            assert_eq!(told_out(Room { has_account, has_session }), None);
        }
        assert!(told_out(Room { has_account: false, has_session: false }).is_some());
    }
}
