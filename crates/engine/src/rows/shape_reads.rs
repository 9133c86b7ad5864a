//! The reads of whole shapes: which of them more clients can still join, and which have begun.

use std::collections::HashMap;
use std::sync::Arc;

use sync_core::shape::Shape;
use sync_core::turns::Ticket;

use super::spool::{Spool, SpoolReader};
use super::turns::{ReadClient, ReadTurns};

/// Reads of whole shapes.
#[derive(Debug)]
pub(super) struct ShapeReads<Head, End> {
    /// Reads that more clients can still join.
    waiting: HashMap<Shape, WaitingRead<Head, End>>,
    /// The number of reads that have begun.
    under_way: HashMap<Shape, usize>,
}

/// A read that has no turn yet.
#[derive(Debug)]
struct WaitingRead<Head, End> {
    spool: Arc<Spool<Head, End>>,
    /// The clients that have joined before it has asked for a turn.
    joined: Vec<ReadClient>,
    ticket: Option<Ticket>,
}

impl<Head, End> Default for ShapeReads<Head, End> {
    fn default() -> Self {
        Self {
            waiting: HashMap::new(),
            under_way: HashMap::new(),
        }
    }
}

impl<Head: Clone, End: Clone> ShapeReads<Head, End> {
    /// Joins the read of a shape that waits, if one does: it may also get a turn of this client.
    pub(super) fn join(
        &mut self,
        shape: &Shape,
        client: &ReadClient,
        turns: &ReadTurns,
    ) -> Option<SpoolReader<Head, End>> {
        let waiting = self.waiting.get_mut(shape)?;
        let pages = waiting.spool.join()?;
        match waiting.ticket {
            Some(ticket) => turns.join(ticket, client.clone()),
            None => waiting.joined.push(client.clone()),
        }
        Some(pages)
    }

    /// A read that clients may join from now on.
    pub(super) fn wait(&mut self, shape: &Shape, spool: &Arc<Spool<Head, End>>) {
        let waiting = WaitingRead {
            spool: spool.clone(),
            joined: Vec::new(),
            ticket: None,
        };
        self.waiting.insert(shape.clone(), waiting);
    }

    /// A read has asked for a turn.
    pub(super) fn requested(
        &mut self,
        shape: &Shape,
        spool: &Arc<Spool<Head, End>>,
        ticket: Ticket,
        turns: &ReadTurns,
    ) {
        if let Some(waiting) = self.waiting_of(shape, spool) {
            waiting.ticket = Some(ticket);
            for client in std::mem::take(&mut waiting.joined) {
                turns.join(ticket, client);
            }
        }
    }

    /// Lets no further client join a read.
    pub(super) fn close(&mut self, shape: &Shape, spool: &Arc<Spool<Head, End>>) {
        if self.waiting_of(shape, spool).is_some() {
            self.waiting.remove(shape);
        }
    }

    /// The read of a shape that waits, if it is the one of this spool: a newcomer may have replaced one that was
    /// abandoned.
    fn waiting_of(
        &mut self,
        shape: &Shape,
        spool: &Arc<Spool<Head, End>>,
    ) -> Option<&mut WaitingRead<Head, End>> {
        let waiting = self.waiting.get_mut(shape);
        waiting.filter(|waiting| Arc::ptr_eq(&waiting.spool, spool))
    }

    pub(super) fn is_under_way(&self, shape: &Shape) -> bool {
        self.under_way.contains_key(shape)
    }

    pub(super) fn begin(&mut self, shape: &Shape) {
        *self.under_way.entry(shape.clone()).or_default() += 1;
    }

    pub(super) fn end(&mut self, shape: &Shape) {
        if let Some(count) = self.under_way.get_mut(shape) {
            *count -= 1;
            if *count == 0 {
                self.under_way.remove(shape);
            }
        }
    }
}
