//! Sessions that were found at the start: each waits until its owner takes it, leaves it, or gives it up.

use crate::attributes::{Attribute, Attributes, Key, Kind, Scope, State, text};
use crate::claim::Claims;
use crate::keeping::{Journaled, Standing};
use crate::record::{self, LIVE, Numbering, STANZA_HEADER, Unreadable};
use crate::sessions::Sessions;
use enjamb_journal::{Error, Journal};
use enjamb_stream_management::{Enabled, H, Limits, Queue, Stream, StreamKey};
use std::sync::Arc;

/// A session that waits to be brought back.
#[derive(Debug)]
pub struct Found {
    /// By which it is named until it is back.
    pub token: u64,
    /// Whose it is; or why it cannot be brought back.
    pub host: Result<Box<str>, NotRestored>,
}

/// A stream that is back.
#[derive(Debug)]
pub struct Restored {
    /// Which one it is now.
    pub key: StreamKey,
    /// How many stanzas had been handled.
    pub h: H,
    /// How many of its queued stanzas could not be read: something without content stands in their place.
    pub lost: usize,
    /// Whether its peer was away already when the process ended.
    pub had_waited: bool,
}

/// Why a session cannot be brought back. It stays where it is.
#[derive(Debug, thiserror::Error)]
pub enum NotRestored {
    /// Nothing is kept here.
    #[error("the journal is not open")]
    NotOpen,
    /// It has no such session.
    #[error("there is no such session in the journal")]
    NoSuchSession,
    /// What is known of it cannot be used.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// The journal cannot read it.
    #[error(transparent)]
    Journal(#[from] Error),
}

/// What the journal's slots hold of a session.
fn attributes_of(journal: &mut Journal, token: u64) -> Result<Attributes, NotRestored> {
    let mut slots = Vec::new();
    journal.slots(token, |_, record| slots.push(record.map(Box::from)))?;
    Ok(Attributes::read(slots)?)
}

/// What the journal has of a session that waits. Of one that has no attributes yet, since the process ended while it
/// began, nothing was promised.
fn look(journal: &mut Journal, token: u64) -> Result<(Numbering, Attributes), NotRestored> {
    let meta = journal.meta(token)?;
    let (numbering, text) = record::read(&meta)?;
    let mut attributes = attributes_of(journal, token)?;
    if let Some(text) = text {
        // An earlier release wrote it; this one may since have noted something beside it.
        let mut state = text::read(text)?;
        state.missing_since = attributes.iter().collect::<State>().missing_since.or(state.missing_since);
        attributes.replace(&state.attributes(), Scope::Whole);
    }
    Ok((numbering, attributes))
}

impl Sessions {
    /// The sessions that wait, in no order.
    pub fn found(&mut self) -> Vec<Found> {
        let Some(journal) = &mut self.journal else { return Vec::new() };
        let mut all = Vec::new();
        self.found.retain(|&token, known| {
            let host = match known.clone() {
                Some(host) => Ok(host),
                None => look(journal, token).and_then(|(_, attributes)| {
                    let state: State = attributes.iter().collect();
                    if state.is_complete() { Ok(state.host.into()) } else { Err(Unreadable::Damaged.into()) }
                }),
            };
            if let Ok(host) = &host {
                *known = Some(host.clone());
            }
            let is_begun = host.is_ok() || !is_unfinished(journal, token);
            if is_begun {
                all.push(Found { token, host });
            }
            is_begun
        });
        all
    }

    /// What is known of a session that waits.
    ///
    /// # Errors
    /// Why that cannot be told.
    pub fn state(&mut self, token: u64) -> Result<State, NotRestored> {
        let journal = self.journal.as_mut().ok_or(NotRestored::NotOpen)?;
        let (_, attributes) = look(journal, token)?;
        Ok(attributes.iter().collect())
    }

    /// Notes of a session that waits since when, in seconds since 1970, there is no such host.
    ///
    /// # Errors
    /// If it cannot be read or written.
    pub fn host_is_missing(&mut self, token: u64, since: i64) -> Result<(), NotRestored> {
        let journal = self.journal.as_mut().ok_or(NotRestored::NotOpen)?;
        let mut attributes = attributes_of(journal, token)?;
        attributes.set(&Attribute::MissingSince(since));
        Ok(attributes.write(|slot, record| journal.set_slot(token, slot, record))?)
    }

    /// Gives up a session that waits, with its queue.
    pub fn discard(&mut self, token: u64) {
        if self.found.remove(&token).is_some()
            && let Some(journal) = &mut self.journal
            && let Err(error) = journal.end(token)
        {
            tracing::warn!("a session that was given up is found once more at the next start: {error}");
        }
    }

    /// Brings a session back: a hibernating stream of that account, with its counters and its queue.
    ///
    /// # Errors
    /// If it cannot be read; it waits on.
    pub fn restore(
        &mut self,
        token: u64,
        limits: Arc<Limits>,
        account: &str,
        enabled: Enabled,
    ) -> Result<Restored, NotRestored> {
        let journal = self.journal.as_mut().ok_or(NotRestored::NotOpen)?;
        let (mut numbering, mut attributes) = look(journal, token)?;
        attributes.unset(Key::Only(Kind::MissingSince));
        let counters = journal.counters(token).ok_or(NotRestored::NoSuchSession)?;
        if numbering.in_journal(numbering.counted) > counters.acked {
            // The other half of an ack did not reach the disk.
            let last = counters.acked + counters.queued as u64;
            journal.ack(token, numbering.in_journal(numbering.counted).min(last))?;
        }
        let counters = journal.counters(token).ok_or(NotRestored::NoSuchSession)?;
        let first = numbering.base + counters.acked;
        let lengths: Vec<_> = journal.lengths(token)?.collect();
        let lost = lengths.iter().filter(|len| len.is_none()).count();
        let length = |len: Option<u32>| len.unwrap_or(0).saturating_sub(STANZA_HEADER as u32);
        let queue = Queue::restored(first, numbering.h_at(first), lengths.into_iter().map(length));
        let had_waited = numbering.unsent_from != LIVE;
        numbering.unsent_from = numbering.unsent_from.min(queue.end());
        let handled = counters.inbound as u32;
        let stream = Stream::restored(limits, H(handled), queue, numbering.unsent_from);
        let mut journaled = Box::new(Journaled { id: token, numbering, handled, attributes });
        // It is away from here on, and has been sent nothing since.
        let is_behind = journaled.came_back(journal).is_err();
        let key = self.streams.insert(stream, Some(account), enabled);
        self.found.remove(&token);
        if let Some((_, standing)) = self.streams.both_mut(key) {
            let claims = Claims::found(H(handled));
            *standing = Standing { journaled: Some(journaled), is_behind, is_dismissed: false, claims };
        }
        if is_behind {
            self.behind.push(key);
        }
        Ok(Restored { key, h: H(handled), lost, had_waited })
    }
}

/// Whether the process ended while that session was begun; then it is given up.
fn is_unfinished(journal: &mut Journal, token: u64) -> bool {
    let mut holds_any = journal.counters(token).is_none_or(|c| c.queued > 0 || c.acked > 0);
    let is_ours = journal.meta(token).is_ok_and(|meta| matches!(record::read(&meta), Ok((_, None))));
    let read = journal.slots(token, |_, record| holds_any |= record.is_none_or(|r| !r.is_empty()));
    let unfinished = is_ours && read.is_ok() && !holds_any;
    if unfinished && let Err(error) = journal.end(token) {
        tracing::debug!("a session that had hardly begun stays in the journal: {error}");
    }
    unfinished
}
