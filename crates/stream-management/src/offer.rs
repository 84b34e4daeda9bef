//! Who is offered stream management (XEP-0198 §3), and who somebody is that asks for it.

use crate::element::NAMESPACES;
use crate::negotiate::{Peer, Refusal};

/// The other end of a connection, as its owner sees it.
#[derive(Clone, Copy, Debug)]
pub enum Origin<'a> {
    /// A client.
    Client {
        /// The bare JID of its account, if it is authenticated.
        account: Option<&'a str>,
        /// Whether it has bound a resource.
        bound: bool,
        /// Whether it sends by requests of HTTP (XEP-0124), which has acks and resumption of its own.
        over_bosh: bool,
    },
    /// Another server.
    Server {
        /// It has proven who it is.
        authenticated: bool,
        /// `smacks_enabled_s2s`.
        allowed: bool,
    },
}

impl<'a> Origin<'a> {
    /// Who asks.
    ///
    /// # Errors
    /// If nobody of its kind may.
    pub fn peer(&self) -> Result<Peer<'a>, Refusal> {
        match *self {
            Origin::Client { account: Some(account), bound, .. } => Ok(Peer::Client { account, bound }),
            Origin::Client { account: None, .. } => Ok(Peer::Unauthenticated),
            Origin::Server { allowed: false, .. } => Err(Refusal::Disabled),
            Origin::Server { authenticated: true, .. } => Ok(Peer::Server),
            Origin::Server { authenticated: false, .. } => Ok(Peer::Unauthenticated),
        }
    }

    /// Who asks to resume. XEP-0198 §5 has the new stream take the place of the old one, which a session over BOSH cannot:
    /// its stream is made of requests.
    ///
    /// # Errors
    /// If nobody of its kind may.
    pub fn resuming(&self) -> Result<Peer<'a>, Refusal> {
        match self {
            Origin::Client { over_bosh: true, .. } => Err(Refusal::OverBosh),
            _ => self.peer(),
        }
    }

    /// The namespaces in which stream management is among the features that the other end is told: none before it is
    /// authenticated, or if it is `enabled` already.
    pub fn offer(&self, enabled: bool) -> &'static [&'static str] {
        match self.peer() {
            Ok(Peer::Client { .. } | Peer::Server) if !enabled => &NAMESPACES,
            _ => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: Origin = Origin::Client { account: Some("a@b"), bound: false, over_bosh: false };

    #[test]
    fn it_is_offered_to_whoever_may_ask() {
        assert_eq!(CLIENT.offer(false), NAMESPACES);
        assert!(CLIENT.offer(true).is_empty());
        let unknown = Origin::Client { account: None, bound: false, over_bosh: false };
        assert!(unknown.offer(false).is_empty());
        for (authenticated, allowed) in [(true, true), (true, false), (false, true), (false, false)] {
            let offer = Origin::Server { authenticated, allowed }.offer(false);
            assert_eq!(!offer.is_empty(), authenticated && allowed);
        }
    }

    #[test]
    fn between_servers_it_may_be_disabled_and_over_bosh_nothing_is_resumed() {
        let server = Origin::Server { authenticated: true, allowed: false };
        assert!(matches!(server.peer(), Err(Refusal::Disabled)));
        let bosh = Origin::Client { account: Some("a@b"), bound: false, over_bosh: true };
        assert!(bosh.peer().is_ok());
        assert!(matches!(bosh.resuming(), Err(Refusal::OverBosh)));
        assert!(matches!(CLIENT.resuming(), Ok(Peer::Client { account: "a@b", bound: false })));
    }
}
