//! What others may ask about accounts and rooms.

use crate::accounts::Accounts;

impl Accounts {
    /// Rooms that any account is in.
    pub fn has_room(&self, room: &str) -> bool {
        self.rooms.contains_key(room)
    }

    /// The clients of an account that are in a room, and the account's nickname there.
    pub fn clients(&self, account: &str, room: &str) -> Option<(String, Vec<String>)> {
        let m = self.membership(account, room)?;
        let clients = m.clients.iter().filter(|c| c.is_in()).map(|c| c.resource.to_string()).collect();
        Some((m.nick.to_string(), clients))
    }

    /// The resources of all clients that [`Accounts::groupchat`] may give a copy to, in its order.
    pub fn resources(&self, account: &str, room: &str) -> impl Iterator<Item = &str> {
        self.membership(account, room).into_iter().flat_map(|m| m.clients.iter().map(|c| &*c.resource))
    }

    /// The resource of the client whose presence an account shows in a room, if it is in it and one of its clients is.
    pub fn shown(&self, account: &str, room: &str) -> Option<&str> {
        let m = self.membership(account, room)?;
        Some(&*m.latest()?.resource)
    }

    /// Accounts, memberships, and bytes that are kept of what rooms said and of what waits for an answer, for metrics.
    pub fn totals(&self) -> (usize, usize, usize) {
        let memberships = self.accounts.values().map(|a| a.rooms.len()).sum();
        let requests: usize = self.accounts.values().map(|a| a.requests.bytes()).sum();
        (self.accounts.len(), memberships, self.memory.used() + requests)
    }

    /// Rooms, and the bytes that are kept of their occupants, for the shell.
    pub fn rooms(&self) -> impl Iterator<Item = (&str, usize)> {
        self.rooms.iter().map(|(name, room)| (&**name, room.view.bytes()))
    }
}
