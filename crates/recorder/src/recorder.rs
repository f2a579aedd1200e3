//! Carries requests out and keeps what came of them.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ::history::{Operation, Outcome, Request};
use etcd_client::{Client, Error};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::wire::execute;

/// Ticks are microseconds.
pub const TICKS_PER_SECOND: u64 = 1_000_000;
/// gRPC codes by which a server says that a request was looked at and not carried out:
/// invalid argument, not found, failed precondition, out of range.
const REFUSALS: [i32; 4] = [3, 5, 9, 11];

#[derive(Debug)]
pub struct Recorder {
    begun: Instant,
    /// How long an answer is waited for.
    patience: Duration,
    operations: Mutex<Vec<Operation>>,
    answered: AtomicUsize,
    pub progress: Notify,
}

impl Recorder {
    pub fn new(patience: Duration) -> Recorder {
        Recorder {
            begun: Instant::now(),
            patience,
            operations: Mutex::new(Vec::new()),
            answered: AtomicUsize::new(0),
            progress: Notify::new(),
        }
    }

    pub fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_micros()).expect("a short test")
    }

    pub fn answered(&self) -> usize {
        self.answered.load(Ordering::Relaxed)
    }

    pub fn take(&self) -> Vec<Operation> {
        std::mem::take(&mut *self.operations.lock().expect("no writer panics"))
    }

    /// Carries a request out and returns what was recorded of it.
    pub async fn run(&self, number: u32, client: &mut Client, request: Request) -> Outcome {
        let call = self.now();
        let outcome = match timeout(self.patience, execute(client, &request)).await {
            Ok(Ok((revision, answer))) => Outcome::Answered { revision, answer },
            Ok(Err(Error::GRpcStatus(status))) if REFUSALS.contains(&i32::from(status.code())) => {
                Outcome::Refused(status.message().to_owned())
            }
            Ok(Err(_)) | Err(_) => Outcome::Unknown,
        };
        let recorded = Operation { client: number, call, ret: self.now(), request, outcome: outcome.clone() };
        self.operations.lock().expect("no writer panics").push(recorded);
        if outcome != Outcome::Unknown {
            self.answered.fetch_add(1, Ordering::Relaxed);
            self.progress.notify_one();
        }
        outcome
    }
}
