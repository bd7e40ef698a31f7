//! Whether the server is well: each worker is asked to answer, and what the process is doing is kept.
//!
//! Nothing is done for it until somebody asks, so requests pay nothing.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

/// How long a worker may take to answer. It answers between two turns, which take microseconds.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(3);

/// How many questions may wait for a worker.
const QUESTIONS_MAX: usize = 8;

/// A question to a worker, which answers it once it gets to it.
pub(super) type Question = oneshot::Sender<()>;

/// What the server is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It does not accept connections yet.
    Starting,
    /// It serves.
    Serving,
    /// It is about to end.
    Stopping,
}

/// The state of the server, and a way to ask its workers whether they are well.
#[derive(Debug)]
pub struct Health {
    state: AtomicU8,
    workers: Vec<mpsc::Sender<Question>>,
}

impl Health {
    /// The health of a server that starts with so many workers, and where each gets its questions from.
    pub(super) fn of(workers: usize) -> (Health, Vec<mpsc::Receiver<Question>>) {
        let (workers, questions) = (0..workers).map(|_| mpsc::channel(QUESTIONS_MAX)).unzip();
        (Health { state: AtomicU8::new(State::Starting as u8), workers }, questions)
    }

    pub(super) fn set_state(&self, state: State) {
        self.state.store(state as u8, Ordering::Relaxed);
    }

    /// What the server is doing.
    pub fn state(&self) -> State {
        match self.state.load(Ordering::Relaxed) {
            0 => State::Starting,
            1 => State::Serving,
            _ => State::Stopping,
        }
    }

    /// The numbers of the workers that do not answer, which takes some seconds if there are any. To be called within a
    /// tokio runtime.
    pub async fn stuck_workers(&self) -> Vec<usize> {
        // All are asked before the first answer is waited for.
        let ask = |worker: &mpsc::Sender<Question>| {
            let worker = worker.clone();
            tokio::spawn(tokio::time::timeout(ANSWER_TIME_MAX, async move {
                let (question, answer) = oneshot::channel();
                // Many may ask at once: who finds the queue full waits for its turn.
                worker.send(question).await.is_ok() && answer.await.is_ok()
            }))
        };
        let asked: Vec<_> = self.workers.iter().map(ask).collect();
        let mut stuck = Vec::new();
        for (number, asking) in asked.into_iter().enumerate() {
            if !matches!(asking.await, Ok(Ok(true))) {
                stuck.push(number);
            }
        }
        stuck
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_worker_that_does_not_answer_is_named() {
        let (health, mut questions) = Health::of(3);
        let health = std::sync::Arc::new(health);
        let third = questions.pop().unwrap();
        drop(questions.pop()); // the second has ended
        let mut first = questions.pop().unwrap();
        tokio::spawn(async move {
            while let Some(question) = first.recv().await {
                let _ = question.send(());
            }
        });
        // All at once: questions that nobody takes are no more than there may be.
        let asked: Vec<_> = (0..2 * QUESTIONS_MAX)
            .map(|_| {
                let health = std::sync::Arc::clone(&health);
                tokio::spawn(async move { health.stuck_workers().await })
            })
            .collect();
        for stuck in asked {
            assert_eq!(stuck.await.unwrap(), [1, 2], "one that answers is well, however many ask");
        }
        assert_eq!(third.len(), QUESTIONS_MAX);
    }

    #[test]
    fn the_state_is_as_it_was_set() {
        let (health, _) = Health::of(0);
        assert_eq!(health.state(), State::Starting);
        for state in [State::Serving, State::Stopping, State::Starting] {
            health.set_state(state);
            assert_eq!(health.state(), state);
        }
    }
}
