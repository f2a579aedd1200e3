//! The checkpoint thread: brings the engine up to date, away from everything that waits.

use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use raftlog::Mark;
use tokio::sync::mpsc::UnboundedSender;

use super::core::Input;
use super::effects::Job;
use crate::checkpoint::Checkpoint;
use crate::metrics::Gauges;

/// A disk that takes longer hangs, or might as well.
fn may_take(bytes: u64) -> Duration {
    const AT_ALL: Duration = Duration::from_secs(10);
    const BYTES_PER_SECOND: u64 = 1 << 20;
    AT_ALL + Duration::from_secs(bytes / BYTES_PER_SECOND)
}

pub fn run(
    mut checkpoint: Box<dyn Checkpoint>,
    jobs: &Receiver<Job>,
    inputs: &UnboundedSender<Input>,
    gauges: &Arc<Gauges>,
) {
    gauges.set_disk_bytes(checkpoint.size_on_disk());
    while let Ok(mut job) = jobs.recv() {
        drop(job.replaced.take());
        let start = Instant::now();
        let mark = Mark { index: job.head.applied_index, term: job.head.applied_term };
        let (written, removed) = (job.changes.written.len(), job.changes.removed.len());
        let bytes = job.changes.written_bytes;
        failpoint!("checkpoint-before-save");
        let saved = gauges.checkpoint_disk.during(may_take(bytes as u64), || {
            if job.whole {
                checkpoint.replace(&job.head, &job.changes.written)
            } else {
                checkpoint.save(&job.head, job.changes)
            }
        });
        failpoint!("checkpoint-after-save");
        gauges.checkpoints.observe(start.elapsed());
        gauges.set_disk_bytes(checkpoint.size_on_disk());
        let input = match saved {
            Ok(()) => {
                tracing::debug!(index = mark.index, written, removed, "checkpoint saved");
                Input::Checkpointed(mark)
            }
            Err(error) => Input::Failed(error),
        };
        if inputs.send(input).is_err() {
            return;
        }
        // The log can be cut by now; what follows keeps only the next checkpoint waiting.
        let all = checkpoint.size_on_disk();
        if let Err(error) = gauges.checkpoint_disk.during(may_take(all), || checkpoint.tidy()) {
            let _ = inputs.send(Input::Failed(error));
            return;
        }
        gauges.set_disk_bytes(checkpoint.size_on_disk());
    }
}
