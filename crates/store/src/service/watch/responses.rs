//! What a stream's task has said and the client has not read.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use futures::Stream;
use parking_lot::Mutex;
use tonic::Status;

use crate::pb::etcdserverpb as pb;

/// Responses a stream may hold that the client has not read.
const MAX_UNSENT: usize = 16;

pub type Answer = Result<pb::WatchResponse, Status>;

/// What the client has not read yet.
#[derive(Clone, Default)]
pub struct Responses(Arc<Mutex<VecDeque<Answer>>>);

impl Responses {
    /// Waits while there is no room. Nobody has to be woken for it: who takes one drives the task as well.
    pub async fn send(&self, response: Answer) {
        poll_fn(|_| if self.0.lock().len() < MAX_UNSENT { Poll::Ready(()) } else { Poll::Pending }).await;
        self.0.lock().push_back(response);
    }

    fn take(&self) -> Option<Answer> {
        self.0.lock().pop_front()
    }
}

/// What a task sends, read by whoever drives the task.
pub struct Driven<F> {
    pub task: Option<Pin<Box<F>>>,
    pub responses: Responses,
}

impl<F: Future<Output = ()>> Stream for Driven<F> {
    type Item = Answer;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> Poll<Option<Answer>> {
        self.task.take_if(|task| task.as_mut().poll(cx).is_ready());
        match (self.responses.take(), &self.task) {
            // Whoever takes it asks again, until there is none.
            (Some(response), _) => Poll::Ready(Some(response)),
            (None, Some(_)) => Poll::Pending,
            (None, None) => Poll::Ready(None),
        }
    }
}
