//! The end of a join: its history and subject are complete, as far as can be told.

use crate::change::Change;
use crate::history::Request;
use crate::membership::client::Stage;
use crate::stay::Stay;

impl Stay<'_> {
    /// The history and subject of the account's join are complete: clients that asked for something in particular get it, and
    /// those who were in before are told who is gone.
    pub(crate) fn settle(&mut self) {
        if self.m.discussion.settled {
            return;
        }
        self.m.discussion.settled = true;
        self.m.discussion.ending = false;
        self.tell_gone();
        let (account, name) = (self.account, self.name);
        let m = &mut *self.m;
        for i in 0..m.clients.len() {
            let Stage::In { held } = &mut m.clients[i].stage else { continue };
            let held = held.take();
            if let Some(request) = held {
                let served = m.serve_history(account, name, &m.clients[i], &request, self.out);
                let most = request.maxstanzas.map(|most| most.saturating_sub(served));
                let late = Request { maxstanzas: most, ..request };
                m.clients[i].late = (!request.is_default()).then_some(late);
            }
            if !std::mem::replace(&mut m.clients[i].has_subject, true) {
                m.serve_subject(account, name, &m.clients[i], self.out);
            }
        }
        self.release();
        self.m.repeats.settle();
    }

    /// What was said while the account joined goes to those who are in.
    pub(crate) fn release(&mut self) {
        let m = &mut *self.m;
        let attended = m.is_attended();
        for said in std::mem::take(&mut m.discussion.held) {
            for client in m.clients.iter().filter(|c| c.is_in()) {
                m.serve_said(self.account, self.name, client, &said, self.out);
            }
            m.discussion.early.push(said.mark);
            m.discussion.keep(said, attended);
            m.discussion.missed += 1;
        }
        if attended {
            m.discussion.missed = 0;
        }
        // Not before: who was not told when the server is killed is told after it.
        let told = m.discussion.early.drain(..);
        self.changes.extend(told.map(|mark| Change::Message { room: self.name.into(), mark }));
    }
}
