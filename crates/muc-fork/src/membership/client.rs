//! A client of an account, as far as it is in one room.

use crate::history::Request;
use crate::restored::{RestoredClient, Waits};
use std::sync::Arc;

/// How far a client is.
#[derive(Debug, PartialEq)]
pub enum Stage {
    /// It waits for the account to be let in.
    /// `was_in`: it had been let in before, and joined again while the account did.
    /// `password`: its own, if it gave one.
    Waiting { id: Option<Box<str>>, request: Request, password: Option<Box<str>>, was_in: bool },
    /// It has been told that it is in the room. `held` is what it asked of the history that is still coming in.
    In { held: Option<Request> },
    /// It was the last one and waits for the room to confirm that the account left.
    Leaving { id: Option<Box<str>> },
}

#[derive(Debug)]
pub struct Client {
    pub resource: Box<str>,
    /// The nickname that it asked for, which need not be the account's.
    pub asked: Box<str>,
    /// Its last presence in this room: children and language, no address.
    pub presence: Arc<[u8]>,
    /// When it sent that, as a count.
    pub turn: u64,
    pub stage: Stage,
    /// It has been told the subject since it joined.
    pub has_subject: bool,
    /// What it may get of a history that comes after its time, if it did not ask for all.
    pub late: Option<Request>,
    /// So many of its last stanzas to the room were errors.
    pub errors: u32,
}

impl Client {
    /// As it is kept across a restart.
    pub fn kept(&self) -> RestoredClient {
        let id = |id: &Option<Box<str>>| id.as_deref().map(Into::into);
        RestoredClient {
            resource: self.resource.to_string(),
            asked: self.asked.to_string(),
            presence: self.presence.to_vec(),
            waits: match &self.stage {
                Stage::In { .. } => None,
                Stage::Waiting { id: join, request, password, was_in } => Some(Waits::ToBeIn {
                    id: id(join),
                    request: *request,
                    password: password.as_deref().map(Into::into),
                    was_in: *was_in,
                }),
                Stage::Leaving { id: leave } => Some(Waits::ToBeOut { id: id(leave) }),
            },
        }
    }

    /// As it was kept; its presence is the `turn`th.
    pub fn restored(kept: RestoredClient, turn: u64) -> Client {
        let stage = match kept.waits {
            None => Stage::In { held: None },
            Some(Waits::ToBeIn { id, request, password, was_in }) => {
                let password = password.map(Into::into);
                Stage::Waiting { id: id.map(Into::into), request, password, was_in }
            }
            Some(Waits::ToBeOut { id }) => Stage::Leaving { id: id.map(Into::into) },
        };
        Client {
            resource: kept.resource.into(),
            asked: kept.asked.into(),
            presence: kept.presence.into(),
            turn,
            has_subject: stage == Stage::In { held: None },
            stage,
            late: None,
            errors: 0,
        }
    }

    pub fn is_in(&self) -> bool {
        matches!(self.stage, Stage::In { .. })
    }

    /// Has been told of the room's occupants.
    pub fn was_told(&self) -> bool {
        matches!(self.stage, Stage::In { .. } | Stage::Waiting { was_in: true, .. })
    }

    /// That with which it asks to be let in.
    pub fn password(&self) -> Option<&str> {
        match &self.stage {
            Stage::Waiting { password, .. } => password.as_deref(),
            _ => None,
        }
    }

    /// Wants to be in the room, whether it is told so already or not.
    pub fn stays(&self) -> bool {
        !matches!(self.stage, Stage::Leaving { .. })
    }
}
