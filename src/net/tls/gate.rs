//! The gate that handshakes pass one by one, so that they do not hold up those who are through with theirs.
//!
//! The cryptography of one takes as long as some hundred small gets, and a thousand clients may shake hands at once. So
//! whoever has sent a piece of a handshake has it looked at only once it is let through here. Rules:
//! - each time the runtime has looked at its sockets, one piece is let through, behind all that was found there; so
//!   whoever is connected waits for one piece, not for a crowd. Where there is so much else to do that the runtime looks
//!   at its sockets before all of it is done, pieces come to about as large a part of the work as all the rest;
//! - first come, first served. Who sends nothing takes up no place, and who has left is not waited for.

use tokio::sync::{mpsc, oneshot};
use tokio::task::yield_now;

/// Where the connections of a worker ask. As many wait as there are connections.
#[derive(Clone, Debug)]
pub(in crate::net) struct Gate(mpsc::UnboundedSender<oneshot::Sender<()>>);

/// Who lets them through.
#[derive(Debug)]
pub(in crate::net) struct Keeper(mpsc::UnboundedReceiver<oneshot::Sender<()>>);

/// A gate, and its keeper.
pub(in crate::net) fn gate() -> (Gate, Keeper) {
    let (ask, asked) = mpsc::unbounded_channel();
    (Gate(ask), Keeper(asked))
}

impl Gate {
    /// Waits to be let through.
    pub(super) async fn pass(&self) {
        let (open, opened) = oneshot::channel();
        if self.0.send(open).is_ok() {
            // Without a keeper the worker is about to end, and with it all that wait.
            let _ = opened.await;
        }
    }
}

impl Keeper {
    /// Lets them through until the last connection has gone. To be part of the future that the worker's runtime blocks
    /// on: that is what it comes back to each time it has looked at its sockets, however much else is waiting.
    pub(in crate::net) async fn keep(mut self) {
        while let Some(open) = self.0.recv().await {
            if open.send(()).is_ok() {
                yield_now().await;
            }
        }
    }
}
