//! What follows when a connection is lost: its session waits, or ends.

use crate::registry::{Hibernation, StreamKey};

/// What becomes of a session whose connection is lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lost {
    /// It waits for its client.
    Waits(Hibernation),
    /// It ends: what is queued is stored or returned.
    Ends {
        /// It could have been resumed, but its account may have none that waits. What it had handled is remembered, for a
        /// client that tries (XEP-0198 §5, the `h` of `<failed/>`).
        is_remembered: bool,
    },
}

impl Lost {
    /// Decides for the stream of that key, by what [`crate::Registry::hibernate`] says of it.
    pub fn of(key: StreamKey, hibernation: Option<Hibernation>) -> Lost {
        match hibernation {
            None => Lost::Ends { is_remembered: false },
            // The latest to go is evicted only if none may wait.
            Some(hibernation) if hibernation.evicted.contains(&key) => Lost::Ends { is_remembered: true },
            Some(hibernation) => Lost::Waits(hibernation),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Enabled, Limits, Registry, ResumptionId};
    use std::sync::Arc;

    fn lost(hibernated: usize, resumption: Option<(ResumptionId, u32)>) -> Lost {
        let mut registry = Registry::default();
        let limits = Arc::new(Limits { hibernated, ..Limits::default() });
        let key = registry.start(limits, Some("a@b"), Enabled { resumption }, 0);
        let hibernation = registry.hibernate(key, 1);
        Lost::of(key, hibernation)
    }

    #[test]
    fn a_session_waits_if_it_can_be_resumed_and_may() {
        let resumption = Some((ResumptionId(1), 60));
        assert_eq!(lost(1, resumption), Lost::Waits(Hibernation { timeout: 60, evicted: Vec::new() }));
        assert_eq!(lost(0, resumption), Lost::Ends { is_remembered: true });
        assert_eq!(lost(1, None), Lost::Ends { is_remembered: false });
    }
}
