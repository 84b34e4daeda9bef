//! The room has let the account in.

#[derive(Debug)]
pub struct Joined {
    /// The `id` of the account's join.
    pub join_id: String,
    /// The password in it.
    pub password: Option<Box<str>>,
    /// The answer to that may be to come, since something else was taken for it.
    pub guess: Option<Guess>,
    /// Until when there may be more of the history, in rooms that send it in another order.
    pub late_until: u64,
    /// The account's own ping is under way.
    pub ping: bool,
    /// There is a reason to look whether the account is still in.
    pub doubt: bool,
}

/// Something was taken for the answer to a join that has not its `id`.
#[derive(Debug)]
pub struct Guess {
    /// Until when the answer itself may come.
    pub until: u64,
    /// Of the join, should it turn out to be under way still: see [`super::joining::Joining::bookmark_changed`].
    pub bookmark_changed: bool,
}

impl Joined {
    /// Whether the answer to the join may still come.
    pub fn is_guessed(&self, now: u64) -> bool {
        self.guess.as_ref().is_some_and(|guess| now < guess.until)
    }
}
