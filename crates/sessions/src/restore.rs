//! Sessions that were found at the start: each waits until its owner takes it, leaves it, or gives it up.

use crate::claim::Claims;
use crate::keeping::Kept;
use crate::record::{self, LIVE, STANZA_HEADER, Unreadable};
use crate::sessions::Sessions;
use enjamb_journal::Error;
use enjamb_stream_management::{Enabled, H, Limits, Queue, Stream, StreamKey};
use std::sync::Arc;

/// A session that waits to be brought back.
#[derive(Debug)]
pub struct Found {
    /// By which it is named until it is back.
    pub token: u64,
    /// What its owner needs to bring it back, as it was kept.
    pub state: Result<Vec<u8>, NotRestored>,
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

impl Sessions {
    /// The sessions that wait, in no order.
    pub fn found(&mut self) -> Vec<Found> {
        let Some(journal) = &mut self.journal else { return Vec::new() };
        let read = |token: u64| Found {
            token,
            state: journal
                .meta(token)
                .map_err(NotRestored::from)
                .and_then(|meta| Ok(record::read(&meta)?.1.to_vec())),
        };
        self.found.iter().copied().map(read).collect()
    }

    /// Keeps another state for a session that waits.
    ///
    /// # Errors
    /// If it cannot be read or written.
    pub fn rewrite(&mut self, token: u64, state: &[u8]) -> Result<(), NotRestored> {
        let journal = self.journal.as_mut().ok_or(NotRestored::NotOpen)?;
        let meta = journal.meta(token)?;
        let (numbering, _) = record::read(&meta)?;
        Ok(journal.set_meta(token, &record::describe(&numbering, state))?)
    }

    /// Gives up a session that waits, with its queue.
    pub fn discard(&mut self, token: u64) {
        if self.found.remove(&token)
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
        let meta = journal.meta(token)?;
        let (mut numbering, state) = record::read(&meta)?;
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
        let kept = Kept { id: token, numbering, handled, state: state.into() };
        // It is away from here on, and has been sent nothing since.
        let described = kept.describe(journal);
        let key = self.streams.insert(stream, Some(account), enabled);
        self.found.remove(&token);
        self.kept.insert(key, kept);
        self.claims.insert(key, Claims::found(H(handled)));
        if described.is_err() {
            self.behind.insert(key);
        }
        Ok(Restored { key, h: H(handled), lost, had_waited })
    }
}
