//! The node's threads, from before there is a node until the process ends.

use std::sync::mpsc::channel;
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result};
use tokio::runtime::{Builder, Handle};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::core::Input;
use super::node::Node;

/// Runs the node and everything that speaks with peers: between a peer's message and Raft no thread has to be woken. What
/// takes long has no place here.
pub struct RaftThread {
    pub runtime: Handle,
    node: oneshot::Sender<Node>,
    closed: CancellationToken,
    thread: JoinHandle<()>,
}

impl RaftThread {
    pub fn start() -> Result<RaftThread> {
        let (node, given) = oneshot::channel::<Node>();
        let (runtimes, runtime) = channel();
        let closed = CancellationToken::new();
        let closing = closed.clone();
        let thread = spawn("raft", move || {
            let runtime = Builder::new_current_thread().enable_all().build();
            let built = runtime.as_ref().map(|runtime| runtime.handle().clone()).map_err(|error| error.to_string());
            let _ = runtimes.send(built);
            let Ok(runtime) = runtime else { return };
            runtime.block_on(async {
                // Without a node nothing was started.
                let Ok(node) = given.await else { return };
                node.run().await;
                // Peers are still answered.
                closing.cancelled().await;
            });
        })?;
        let runtime = runtime.recv().context("the raft thread has ended")?;
        Ok(RaftThread { runtime: runtime.map_err(anyhow::Error::msg)?, node, closed, thread })
    }

    pub(super) fn begin(self, node: Node, inputs: UnboundedSender<Input>, others: Vec<JoinHandle<()>>) -> Threads {
        // Should the thread have ended, everything that is asked of it finds out.
        let _ = self.node.send(node);
        Threads { inputs, others, raft: Closing { closed: self.closed, thread: self.thread } }
    }
}

pub(super) fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    let spawned = thread::Builder::new().name(name.to_owned()).spawn(body);
    spawned.with_context(|| format!("cannot start the {name} thread"))
}

/// The node's threads, to be stopped and waited for.
pub struct Threads {
    inputs: UnboundedSender<Input>,
    /// They end when the node does.
    others: Vec<JoinHandle<()>>,
    raft: Closing,
}

impl Threads {
    /// Answers what is under way, writes a last checkpoint and ends the node; peers are served until that is closed, too.
    /// Blocks.
    pub fn stop(self) -> Closing {
        // A node that has failed is gone already.
        let _ = self.inputs.send(Input::Stop);
        drop(self.inputs);
        self.others.into_iter().for_each(join);
        self.raft
    }
}

/// A raft thread without a node.
pub struct Closing {
    closed: CancellationToken,
    thread: JoinHandle<()>,
}

impl Closing {
    /// Blocks, for a moment.
    pub fn close(self) {
        self.closed.cancel();
        join(self.thread);
    }
}

fn join(thread: JoinHandle<()>) {
    if thread.join().is_err() {
        tracing::error!("a thread of the node panicked");
    }
}
