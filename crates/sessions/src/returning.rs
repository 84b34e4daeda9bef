//! Who may come back: facts in, a verdict out.
//!
//! What is in a session's queue was acknowledged to whoever sent it, so none is ever just dropped while there may be somebody to
//! give it to. "Unknown" is not "no": a storage that fails is asked again, and the session waits meanwhile. Knows neither storage nor
//! rights; it is told what they say.

/// For how many seconds the sessions of a host that is not there are kept: its name may be mistyped.
const PATIENCE: i64 = 24 * 60 * 60;
/// After how many seconds what could not be told is looked at again: at first, and at most.
const FIRST_RETRY: u32 = 5;
const LAST_RETRY: u32 = 300;

/// The session's host, on this server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Host {
    /// It is there, and looks after sessions.
    #[default]
    Here,
    /// It is there; stream management is not enabled on it.
    WithoutUs,
    /// There is no such host.
    Missing,
}

/// What somebody says who may not be able to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Yes or no.
    Known(bool),
    /// Not now, and why.
    Unknown(String),
}

/// What is so today. What nobody was asked for does not stand in the way.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The session's host.
    pub host: Host,
    /// Since when there is no such host, if that was noted; and now, both in seconds since 1970.
    pub missing_since: Option<i64>,
    #[allow(missing_docs)]
    pub now: i64,
    /// Whether there is such an account.
    pub account_exists: Option<Answer>,
    /// Whether it may log in.
    pub account_is_enabled: Option<Answer>,
    /// Whether its password is the same.
    pub same_password: Option<Answer>,
    /// Why the session's role is not to be had.
    pub role_refused: Option<String>,
    /// Why nobody can tell whether it is.
    pub role_unknown: Option<String>,
    /// Whether somebody else has logged in with its resource.
    pub resource_is_taken: bool,
}

/// What becomes of a session that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It comes back.
    Return,
    /// It comes back for a moment, to be ended: what is queued is stored or returned.
    End {
        /// Why, for the log.
        reason: String,
        /// Nobody is left of that account.
        account_is_gone: bool,
    },
    /// It waits and is looked at again: [`retry_after`].
    AskAgain {
        /// Why, for the log.
        reason: String,
    },
    /// Nobody looks after it. What is queued goes to its account.
    SendOn,
    /// It waits for its host. `is_new`: since now, which is to be noted.
    AwaitHost {
        #[allow(missing_docs)]
        is_new: bool,
    },
    /// It is dropped with what is queued: its host did not come back.
    Drop,
}

/// Decides on one session.
pub fn verdict(facts: &Facts) -> Verdict {
    match facts.host {
        Host::Here => {}
        Host::WithoutUs => return Verdict::SendOn,
        Host::Missing => {
            return match facts.missing_since {
                Some(since) if facts.now.saturating_sub(since) >= PATIENCE => Verdict::Drop,
                since => Verdict::AwaitHost { is_new: since.is_none() },
            };
        }
    }
    let end = |reason: &str| Verdict::End { reason: reason.to_owned(), account_is_gone: false };
    let asked = [
        (&facts.account_exists, "the account is gone"),
        (&facts.account_is_enabled, "the account is disabled"),
        (&facts.same_password, "the password was changed"),
    ];
    for (n, (answer, objection)) in asked.into_iter().enumerate() {
        match answer {
            Some(Answer::Unknown(reason)) => return Verdict::AskAgain { reason: reason.clone() },
            Some(Answer::Known(false)) => {
                return Verdict::End { reason: objection.to_owned(), account_is_gone: n == 0 };
            }
            Some(Answer::Known(true)) | None => {}
        }
    }
    if let Some(reason) = &facts.role_unknown {
        return Verdict::AskAgain { reason: reason.clone() };
    }
    if let Some(reason) = &facts.role_refused {
        return end(reason);
    }
    if facts.resource_is_taken { end("its resource is taken") } else { Verdict::Return }
}

/// In how many seconds what could not be told is looked at again, if it was that many times before: 5, 10, 20 and so on, at
/// most 300.
pub fn retry_after(times: u32) -> u32 {
    FIRST_RETRY.saturating_mul(1u32.checked_shl(times).unwrap_or(u32::MAX)).min(LAST_RETRY)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn yes() -> Option<Answer> {
        Some(Answer::Known(true))
    }

    fn unknown() -> Option<Answer> {
        Some(Answer::Unknown("the disk is gone".into()))
    }

    fn fine() -> Facts {
        Facts { account_exists: yes(), account_is_enabled: yes(), same_password: yes(), ..Facts::default() }
    }

    fn again() -> Verdict {
        Verdict::AskAgain { reason: "the disk is gone".into() }
    }

    fn ends(reason: &str, account_is_gone: bool) -> Verdict {
        Verdict::End { reason: reason.into(), account_is_gone }
    }

    #[test]
    fn who_has_an_account_that_is_as_it_was_comes_back() {
        assert_eq!(verdict(&fine()), Verdict::Return);
        assert_eq!(verdict(&Facts::default()), Verdict::Return);
    }

    #[test]
    fn a_no_ends_it_and_says_why() {
        let no = || Some(Answer::Known(false));
        let facts = Facts { account_exists: no(), same_password: no(), ..fine() };
        assert_eq!(verdict(&facts), ends("the account is gone", true));
        let facts = Facts { account_is_enabled: no(), ..fine() };
        assert_eq!(verdict(&facts), ends("the account is disabled", false));
        let facts = Facts { same_password: no(), ..fine() };
        assert_eq!(verdict(&facts), ends("the password was changed", false));
        let facts = Facts { role_refused: Some("no such role".into()), ..fine() };
        assert_eq!(verdict(&facts), ends("no such role", false));
        let facts = Facts { resource_is_taken: true, ..fine() };
        assert_eq!(verdict(&facts), ends("its resource is taken", false));
    }

    #[test]
    fn unknown_is_not_no() {
        assert_eq!(verdict(&Facts { account_exists: unknown(), ..fine() }), again());
        assert_eq!(verdict(&Facts { account_is_enabled: unknown(), ..fine() }), again());
        assert_eq!(verdict(&Facts { same_password: unknown(), resource_is_taken: true, ..fine() }), again());
        let role_unknown = Some("the disk is gone".to_owned());
        assert_eq!(verdict(&Facts { role_unknown, role_refused: Some("x".into()), ..fine() }), again());
        // What is known to be so is no reason to wait for the rest.
        let gone = Facts { account_exists: Some(Answer::Known(false)), same_password: unknown(), ..fine() };
        assert_eq!(verdict(&gone), ends("the account is gone", true));
    }

    #[test]
    fn a_host_that_is_not_there_is_waited_for_a_day() {
        let missing = |missing_since, now| {
            verdict(&Facts { host: Host::Missing, missing_since, now, account_exists: unknown(), ..fine() })
        };
        assert_eq!(missing(None, 100), Verdict::AwaitHost { is_new: true });
        assert_eq!(missing(Some(100), 100 + PATIENCE - 1), Verdict::AwaitHost { is_new: false });
        assert_eq!(missing(Some(100), 100 + PATIENCE), Verdict::Drop);
        assert_eq!(missing(Some(i64::MAX), i64::MIN), Verdict::AwaitHost { is_new: false });
        assert_eq!(verdict(&Facts { host: Host::WithoutUs, ..fine() }), Verdict::SendOn);
    }

    #[test]
    fn it_is_asked_less_and_less_often() {
        assert_eq!((0..8).map(retry_after).collect::<Vec<_>>(), [5, 10, 20, 40, 80, 160, 300, 300]);
        assert_eq!(retry_after(u32::MAX), 300);
    }
}
