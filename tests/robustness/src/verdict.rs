//! What a history is worth: checked, counted, kept if something is wrong.

use std::fs;
use std::io::{BufWriter, Write as _};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use history::{History, Message, Outcome, Watch, check};

use crate::cluster::Cluster;

#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    pub operations: usize,
    pub unknown: usize,
    pub refused: usize,
    pub watches: usize,
    pub events: usize,
    pub revision: i64,
}

impl Counts {
    pub fn of(history: &History) -> Counts {
        let with = |wanted: fn(&Outcome) -> bool| history.operations.iter().filter(|o| wanted(&o.outcome)).count();
        let revisions = history.operations.iter().filter_map(|o| match o.outcome {
            Outcome::Answered { revision, .. } => Some(revision),
            Outcome::Refused(_) | Outcome::Unknown => None,
        });
        Counts {
            operations: history.operations.len(),
            unknown: with(|o| *o == Outcome::Unknown),
            refused: with(|o| matches!(o, Outcome::Refused(_))),
            watches: history.watches.len(),
            events: history.watches.iter().map(events).sum(),
            revision: revisions.max().unwrap_or(0),
        }
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Counts { operations, unknown, refused, watches, events, revision } = self;
        write!(f, "{operations} operations ({unknown} unanswered, {refused} refused) up to revision {revision}, ")?;
        write!(f, "{events} events on {watches} watches")
    }
}

fn events(watch: &Watch) -> usize {
    let lists = watch.responses.iter().map(|response| match &response.message {
        Message::Events { events, .. } => events.len(),
        _ => 0,
    });
    lists.sum()
}

/// Whether the store kept its promises.
pub fn judge(history: &History) -> Result<()> {
    let report = check(history);
    ensure!(report.is_clean(), "the history breaks promises:\n{report}");
    Ok(())
}

/// Logs, journal and history of what went wrong, out of the directory that is removed.
pub fn keep(cluster: &Cluster<'_>, history: Option<&History>, kept: &Path, name: &str) -> Result<()> {
    let target = kept.join(name);
    let _ = fs::remove_dir_all(&target);
    fs::create_dir_all(&target).with_context(|| format!("cannot create {}", target.display()))?;
    for entry in fs::read_dir(&cluster.dir)?.flatten() {
        fs::copy(entry.path(), target.join(entry.file_name()))?;
    }
    let Some(history) = history else { return Ok(()) };
    let mut file = BufWriter::new(fs::File::create(target.join("history.txt"))?);
    for (n, operation) in history.operations.iter().enumerate() {
        writeln!(file, "#{n} {operation:?}")?;
    }
    for (n, watch) in history.watches.iter().enumerate() {
        writeln!(file, "watch {n} {watch:?}")?;
    }
    file.flush().context("cannot write the history")
}
