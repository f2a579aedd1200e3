//! How services reach the raft thread.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::core::{Input, Progress};
use crate::error::Refusal;
use crate::pb::kvraft::command::Op;
use crate::state::Outcome;

/// Proposals under way; what comes on top is refused, as etcd refuses it.
const MAX_PROPOSALS: usize = 5_000;
/// etcd's bound for a request: so long, and two elections.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
const REQUEST_ELECTIONS: u32 = 2;

pub type Answer = Result<Outcome, Refusal>;

pub struct Proposal {
    pub op: Op,
    /// The only term in which it may be proposed, and by this member as its leader, if there is one.
    pub only_in: Option<u64>,
    pub answer: oneshot::Sender<Answer>,
    /// Held until the proposal is answered.
    pub _permit: OwnedSemaphorePermit,
}

#[derive(Clone)]
pub struct Handle {
    inputs: UnboundedSender<Input>,
    permits: Arc<Semaphore>,
    /// How long a request may take.
    pub request_timeout: Duration,
}

impl Handle {
    pub(super) fn new(inputs: UnboundedSender<Input>, election_timeout: Duration) -> Handle {
        let request_timeout = REQUEST_TIMEOUT.saturating_add(election_timeout.saturating_mul(REQUEST_ELECTIONS));
        Handle { inputs, permits: Arc::new(Semaphore::new(MAX_PROPOSALS)), request_timeout }
    }

    /// Puts a command through the log and returns what applying it answered.
    pub async fn propose(&self, op: Op) -> Answer {
        self.propose_in(None, op).await
    }

    /// As [`Handle::propose`], if this member leads in this term; else nothing happens, not even through another leader.
    pub async fn propose_as_leader(&self, term: u64, op: Op) -> Answer {
        self.propose_in(Some(term), op).await
    }

    async fn propose_in(&self, only_in: Option<u64>, op: Op) -> Answer {
        let permits = self.permits.clone();
        let permit = permits.try_acquire_owned().map_err(|_| Refusal::TooManyRequests)?;
        let (answer, answered) = oneshot::channel();
        self.send(Input::Propose(Proposal { op, only_in, answer, _permit: permit }))?;
        self.wait(answered).await?
    }

    /// Returns when a read of the state is sure to see every write answered before this call. However many writes wait
    /// for the disk, this does not.
    pub async fn read_index(&self) -> Result<(), Refusal> {
        let (ready, is_ready) = oneshot::channel();
        self.send(Input::Read(ready))?;
        self.wait(is_ready).await
    }

    /// Makes the state as of now a durable checkpoint and gives the log's space back.
    pub async fn checkpoint(&self) -> Result<(), Refusal> {
        let (done, is_done) = oneshot::channel();
        self.send(Input::Checkpoint(done))?;
        is_done.await.map_err(|_| Refusal::Stopped)
    }

    /// Hands the leadership to another voter; what becomes of it shows in who leads.
    pub fn transfer_leader(&self, to: u64) -> Result<(), Refusal> {
        self.send(Input::TransferLeader(to))
    }

    /// No more is asked, and what was asked is to end soon.
    pub fn drain(&self) -> Result<(), Refusal> {
        self.send(Input::Drain)
    }

    /// How far a peer's log has come, if this member leads and knows the peer.
    pub async fn progress(&self, id: u64) -> Result<Option<Progress>, Refusal> {
        let (answer, answered) = oneshot::channel();
        self.send(Input::Progress(id, answer))?;
        answered.await.map_err(|_| Refusal::Stopped)
    }

    fn send(&self, input: Input) -> Result<(), Refusal> {
        self.inputs.send(input).map_err(|_| Refusal::Stopped)
    }

    async fn wait<T>(&self, answer: oneshot::Receiver<T>) -> Result<T, Refusal> {
        let answer = tokio::time::timeout(self.request_timeout, answer).await;
        answer.map_err(|_| Refusal::TimedOut)?.map_err(|_| Refusal::Stopped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where elections take long, so may what waits for one.
    #[test]
    fn a_request_may_take_two_elections_more() {
        let timeout = |election| Handle::new(super::super::inputs().0, election).request_timeout;
        assert_eq!(timeout(Duration::from_secs(1)), Duration::from_secs(7));
        assert_eq!(timeout(Duration::from_secs(10)), Duration::from_secs(25));
    }
}
