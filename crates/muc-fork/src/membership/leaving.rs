//! The room was told that the account leaves, and has not confirmed.

#[derive(Debug)]
pub struct Leaving {
    /// The `id` of the account's leave.
    pub id: String,
    /// Its clients have been told without the room's confirming it: what the room still says is kept from them.
    pub lingering: bool,
}
