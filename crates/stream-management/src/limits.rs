//! What the admin allows.

/// The limits of one host. Zero means none of it is allowed, not that there is no limit, where nothing else is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// `smacks_hibernation_time`: how long a disconnected session waits for its client, in seconds.
    pub hibernation_time: u32,
    /// `smacks_max_queue_size`: how many stanzas may wait for a client that is away.
    pub queue_stanzas: usize,
    /// `smacks_max_queue_bytes`: how many bytes of stanzas may wait for a client, away or not.
    pub queue_bytes: usize,
    /// `smacks_max_account_queue_bytes`: how many for all sessions of one account together.
    pub account_bytes: usize,
    /// `smacks_max_server_queue_bytes`: how many for all sessions of the server together.
    pub server_bytes: usize,
    /// `smacks_max_memory_queue_bytes`: how many of those may be in memory: of sessions that are not kept elsewhere, or
    /// cannot be just now.
    pub memory_bytes: usize,
    /// `smacks_max_unacked_stanzas`: how many stanzas may be unacknowledged before an ack is asked for.
    pub unacked: usize,
    /// `smacks_max_inactive_unacked_stanzas`: the same while the client says that it is inactive (XEP-0352).
    pub inactive_unacked: usize,
    /// `smacks_max_ack_delay`: after how many seconds an ack that was asked for is late; zero: never.
    pub ack_delay: u32,
    /// `smacks_max_hibernated_sessions`: how many sessions of one account may wait at a time.
    pub hibernated: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            hibernation_time: 600,
            queue_stanzas: 500,
            queue_bytes: 64 << 20,
            account_bytes: 256 << 20,
            server_bytes: 8 << 30,
            memory_bytes: 256 << 20,
            unacked: 0,
            inactive_unacked: 256,
            ack_delay: 30,
            hibernated: 10,
        }
    }
}
