//! What `<enable/>` and `<resume/>` ask for, and why they are refused (XEP-0198 §3, §5, §6).

use crate::h::{H, MalformedH};
use crate::queue::AckError;
use crate::stream_error::HandledCountTooHigh;
use std::fmt;

/// An SM-ID: 128 random bits, written as 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ResumptionId(pub u128);

impl ResumptionId {
    /// Reads what [`fmt::Display`] wrote; anything else is no id of ours.
    pub fn parse(text: &str) -> Option<ResumptionId> {
        let ours = text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        ours.then(|| u128::from_str_radix(text, 16).ok().map(ResumptionId)).flatten()
    }
}

impl fmt::Display for ResumptionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Who is at the other end of the stream that a request came in on.
#[derive(Clone, Copy, Debug)]
pub enum Peer<'a> {
    /// Nobody knows yet.
    Unauthenticated,
    /// A client of that account (its bare JID), with or without a resource.
    Client {
        /// The bare JID.
        account: &'a str,
        /// Whether it has bound a resource.
        bound: bool,
    },
    /// Another server, which has been authenticated.
    Server,
}

/// The attributes of an `<enable/>`.
#[derive(Clone, Copy, Debug, Default)]
pub struct EnableRequest<'a> {
    /// `resume`
    pub resume: Option<&'a str>,
    /// `max`, the longest time in seconds for which the client wants to be waited for.
    pub max: Option<&'a str>,
}

impl EnableRequest<'_> {
    /// Whether the stream is to be resumable: an `xs:boolean`.
    pub fn wants_resumption(&self) -> bool {
        matches!(self.resume, Some("true" | "1"))
    }

    /// The time to wait for the client, in seconds: what it asks for, up to what the admin allows. A `max` that is
    /// no `xs:positiveInteger` asks for nothing.
    pub fn timeout(&self, allowed: u32) -> u32 {
        let digits = self.max.filter(|m| !m.is_empty() && m.bytes().all(|b| b.is_ascii_digit()));
        match digits.map(str::parse::<u32>) {
            Some(Ok(0)) | None => allowed,
            Some(Ok(max)) => max.min(allowed),
            // All digits and yet no u32: longer than anybody allows.
            Some(Err(_)) => allowed,
        }
    }
}

/// An `<enable/>` that will be granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Enabled {
    /// The id to resume by, and the seconds to wait, if the stream will be resumable.
    pub resumption: Option<(ResumptionId, u32)>,
}

/// The attributes of a `<resume/>`.
#[derive(Clone, Copy, Debug, Default)]
pub struct ResumeRequest<'a> {
    /// `previd`
    pub previd: Option<&'a str>,
    /// `h`
    pub h: Option<&'a str>,
}

/// Why `<enable/>` or `<resume/>` is answered by `<failed/>`. None of them changes anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// XEP-0198 §3: not before authentication.
    #[error("Authenticate before using stream management")]
    NotAuthenticated,
    /// XEP-0198 §3: a client must have bound a resource to enable.
    #[error("Bind a resource before enabling stream management")]
    NotBound,
    /// XEP-0198 §3: at most one attempt.
    #[error("Stream management is already enabled")]
    AlreadyEnabled,
    /// XEP-0198 §5: instead of binding a resource, not after.
    #[error("A session can only be resumed before a resource is bound")]
    AlreadyBound,
    /// Servers do not resume.
    #[error("Resumption is for clients")]
    NotForServers,
    /// The admin has switched it off between servers.
    #[error("Stream management is disabled between servers")]
    Disabled,
    /// BOSH has a resumption of its own.
    #[error("A session cannot be resumed over BOSH")]
    OverBosh,
    /// An `<a/>` or `<r/>` on a stream that is not managed.
    #[error("Stream management is not enabled")]
    NotEnabled,
    /// The request names no session.
    #[error("'previd' is missing")]
    MissingPrevid,
    /// The request does not say what the client has.
    #[error("'h' is missing")]
    MissingH,
    /// The request does not say it in a way that can be understood.
    #[error(transparent)]
    MalformedH(#[from] MalformedH),
    /// No session of this account has that id (any more).
    #[error("No such session to resume")]
    NotFound,
    /// The session's owner has lost it, though its stream is there.
    #[error("The session is lost")]
    SessionLost,
    /// The connection that was to resume a session was lost before it did.
    #[error("The connection was lost")]
    ConnectionLost,
    /// What `<resumed/>` may say to have been handled cannot be told now.
    #[error("The disk does not answer, try again")]
    DiskSilent,
    /// The session is there and stays, but the request's `h` cannot be true.
    #[error(transparent)]
    Untrue(#[from] AckError),
}

impl Refusal {
    /// The stanza error condition (RFC 6120 §8.3.3) to put into `<failed/>`.
    pub fn condition(&self) -> &'static str {
        match self {
            Refusal::NotAuthenticated
            | Refusal::NotBound
            | Refusal::AlreadyEnabled
            | Refusal::AlreadyBound
            | Refusal::NotEnabled => "unexpected-request",
            Refusal::NotForServers | Refusal::OverBosh => "feature-not-implemented",
            Refusal::Disabled => "service-unavailable",
            Refusal::MissingPrevid | Refusal::MissingH | Refusal::MalformedH(_) => "bad-request",
            Refusal::NotFound | Refusal::SessionLost | Refusal::ConnectionLost => "item-not-found",
            Refusal::DiskSilent => "internal-server-error",
            Refusal::Untrue(_) => "undefined-condition",
        }
    }

    /// Whether `<failed/>` says how much of a session that is gone had been handled, if that is remembered
    /// (XEP-0198 §5).
    pub fn tells_what_was_handled(&self) -> bool {
        matches!(self, Refusal::NotFound | Refusal::SessionLost)
    }

    /// The element that says how an `h` is untrue, if it is more than was sent (XEP-0198 §6).
    pub fn too_high(&self) -> Option<HandledCountTooHigh> {
        match *self {
            Refusal::Untrue(AckError::TooHigh { h, sent }) => {
                Some(HandledCountTooHigh { h, send_count: sent })
            }
            _ => None,
        }
    }
}

impl ResumeRequest<'_> {
    /// The request's two values.
    ///
    /// # Errors
    /// If one is missing or the count is malformed. A `previd` that cannot be one of ours is simply not found.
    pub(crate) fn read(&self) -> Result<(ResumptionId, H), Refusal> {
        let previd = self.previd.filter(|p| !p.is_empty()).ok_or(Refusal::MissingPrevid)?;
        let h = self.h.ok_or(Refusal::MissingH)?.parse()?;
        Ok((ResumptionId::parse(previd).ok_or(Refusal::NotFound)?, h))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_read_back_only_as_they_were_written() {
        let id = ResumptionId(0x1234);
        assert_eq!(ResumptionId::parse(&id.to_string()), Some(id));
        for text in ["", "1234", &"A".repeat(32), &"0".repeat(33), "+0000000000000000000000000001234"] {
            assert_eq!(ResumptionId::parse(text), None, "{text}");
        }
    }

    #[test]
    fn only_a_session_that_is_gone_is_remembered() {
        use Refusal::{ConnectionLost, DiskSilent, MissingH, NotFound, OverBosh, SessionLost};
        for (refusal, remembered) in [
            (NotFound, true),
            (SessionLost, true),
            (ConnectionLost, false),
            (DiskSilent, false),
            (MissingH, false),
            (OverBosh, false),
        ] {
            assert_eq!(refusal.tells_what_was_handled(), remembered, "{refusal}");
        }
    }

    #[test]
    fn max_is_honoured_up_to_what_is_allowed() {
        let timeout = |max| EnableRequest { resume: None, max }.timeout(600);
        assert_eq!(timeout(None), 600);
        assert_eq!(timeout(Some("60")), 60);
        assert_eq!(timeout(Some("601")), 600);
        for nonsense in ["", "0", "-1", "+5", "1.5", "0x3", "soon", "99999999999999999999"] {
            assert_eq!(timeout(Some(nonsense)), 600, "{nonsense}");
        }
    }
}
