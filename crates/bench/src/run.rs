//! Row after row: both clusters are started, loaded in turns, weighed, and ended. And all rows again, so that a minute
//! in which the machine is slow falls on some rounds of many rows, not on all rounds of one.

use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

use crate::certificates::Certificates;
use crate::cluster::{Cluster, Program};
use crate::disk::Disk;
use crate::document::{self, Setting};
use crate::environment::Environment;
use crate::flags::Plan;
use crate::measure::{Measured, Round, are_enough};
use crate::pb::etcdserverpb::{CompactionRequest, LeaseGrantRequest, LeaseRevokeRequest, RangeRequest};
use crate::process::Usage;
use crate::processors::OnOne;
use crate::progress::Progress;
use crate::report::{self, Row};
use crate::workloads::{Clients, Kind};
use crate::{chart, fill, load};

/// At rest is who takes no more than this of a core.
const REST_LOOK: Duration = Duration::from_millis(100);
const REST_CPU: Duration = Duration::from_millis(20);
/// etcd commits to its database this often.
const COMMIT_INTERVAL: Duration = Duration::from_millis(100);
const SETTLE_TTL_SECONDS: i64 = 60;
/// What does not come to rest is measured all the same.
const REST_DEADLINE: Duration = Duration::from_secs(10);

/// Measures everything planned. Ends early, with everything removed, on Ctrl-C and its like.
pub async fn run(plan: Plan) -> Result<()> {
    let interrupts = Interrupts::catch()?;
    tokio::select! {
        measured = measure_all(&plan) => measured,
        name = interrupts.first() => bail!("stopped by {name}; every process and file of it is gone"),
    }
}

/// Signals that would end the process; caught before there is anything to remove.
struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Interrupts {
    fn catch() -> Result<Interrupts> {
        Ok(Interrupts {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn first(mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "Ctrl-C",
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.hangup.recv() => "SIGHUP",
        }
    }
}

/// What every row needs.
struct Bench<'a> {
    plan: &'a Plan,
    ours: Program,
    peer: Program,
    dir: &'a Path,
    tls: Option<Certificates>,
    progress: Progress,
}

async fn measure_all(plan: &Plan) -> Result<()> {
    let dir = tempfile::Builder::new().prefix("store-bench.").tempdir_in(&plan.dir)?;
    let bench = Bench {
        plan,
        ours: Program::examine("kube-store", &plan.ours)?,
        peer: Program::examine("etcd", &plan.peer)?,
        dir: dir.path(),
        tls: if plan.tls { Some(Certificates::make(dir.path())?) } else { None },
        progress: Progress::new(planned_rounds(plan)),
    };
    let setting = setting(&bench)?;
    for line in setting.lines(plan) {
        bench.progress.say(&line);
    }
    if let Some(load) = plan.fill {
        return fill::run(plan, load, bench.dir, |line| bench.progress.say(line)).await;
    }
    let (rows, failures) = bench.rows().await;
    drop(bench);
    println!("\n{}", report::table(&rows));
    for row in &rows {
        println!("{}", row.json());
    }
    if let Some(file) = &plan.chart {
        write(file, &chart::svg(&rows))?;
        write(&file.with_extension("md"), &document::markdown(&setting, plan, &rows, file))?;
    }
    ensure!(failures == 0, "{failures} rows could not be measured, see above");
    Ok(())
}

fn planned_rounds(plan: &Plan) -> usize {
    plan.members.len() * plan.kinds.len() * plan.clients.len() * plan.rounds * 2
}

fn write(file: &Path, text: &str) -> Result<()> {
    std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

fn setting(bench: &Bench<'_>) -> Result<Setting> {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    Ok(Setting {
        ours: bench.ours.version(),
        peer: bench.peer.version(),
        cores: std::thread::available_parallelism()?.get(),
        kernel: kernel.trim().to_owned(),
        disk: Disk::probe(bench.dir)?,
        date: jiff::Zoned::now().date().to_string(),
    })
}

/// Who is loaded when: each side goes first as often as the other, so that a machine that
/// slows down slows down both.
fn turns(rounds: Range<usize>) -> impl Iterator<Item = usize> {
    rounds.flat_map(|round| if round % 2 == 0 { [0, 1] } else { [1, 0] })
}

/// The rounds of this pass: as many in each, or one more.
fn rounds_of(pass: usize, plan: &Plan) -> Range<usize> {
    pass * plan.rounds / plan.passes..(pass + 1) * plan.rounds / plan.passes
}

/// What is to be measured, and what has been so far.
struct Planned {
    kind: &'static Kind,
    clients: usize,
    members: usize,
    measured: [Measured; 2],
}

impl std::fmt::Display for Planned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, {} clients, {} members", self.kind.name, self.clients, self.members)
    }
}

impl Planned {
    fn row(&self) -> Row {
        let [ours, peer] = &self.measured;
        Row {
            kind: self.kind,
            clients: self.clients,
            members: self.members,
            ours: ours.side(self.kind.unit),
            peer: peer.side(self.kind.unit),
        }
    }
}

impl Bench<'_> {
    async fn rows(&self) -> (Vec<Row>, usize) {
        let mut all = self.planned();
        let planned = all.len();
        for pass in 0..self.plan.passes {
            let mut measured = Vec::new();
            for mut row in all {
                match self.visit(&mut row, rounds_of(pass, self.plan)).await {
                    Ok(()) => {
                        self.tell(&row.row(), pass);
                        measured.push(row);
                    }
                    Err(error) => self.progress.say(&format!("FAIL {row}: {error:#}")),
                }
            }
            all = measured;
        }
        (all.iter().map(Planned::row).collect(), planned - all.len())
    }

    fn planned(&self) -> Vec<Planned> {
        let mut all = Vec::new();
        for &members in &self.plan.members {
            if members > 1 && !self.ours.forms_clusters {
                let line = format!("kube-store does not know --listen-peer-urls: {members} members are left out");
                self.progress.say(&line);
                self.progress.skip(planned_rounds(self.plan) / self.plan.members.len());
                continue;
            }
            for &kind in &self.plan.kinds {
                let row = |&clients: &usize| Planned { kind, clients, members, measured: Default::default() };
                all.extend(self.plan.clients.iter().map(row));
            }
        }
        all
    }

    fn tell(&self, row: &Row, pass: usize) {
        self.progress.say(&format!(
            "{:<18} {:>5} clients, {} members: {:>10.2} to {:>10.2} {:<3}  ratio {:.2}  pass {} of {}",
            row.kind.name,
            row.clients,
            row.members,
            row.ours.value,
            row.peer.value,
            row.kind.unit.name(),
            row.ratio(),
            pass + 1,
            self.plan.passes,
        ));
    }

    async fn visit(&self, row: &mut Planned, rounds: Range<usize>) -> Result<()> {
        self.progress.doing(row.to_string());
        // Declared first: dropped when what it is about has ended.
        let _on_one = if row.clients == 1 && !self.plan.unpinned { Some(OnOne::start()?) } else { None };
        let mut sides = [Loaded::start(self, &self.ours, row).await?, Loaded::start(self, &self.peer, row).await?];
        for turn in turns(rounds.clone()) {
            self.turn(row, &mut sides, turn).await?;
        }
        // As many again at most, and of both: who is loaded more often has the larger files.
        for round in rounds.clone() {
            if sides.iter().all(|side| are_enough(&side.rounds, rounds.len())) {
                break;
            }
            self.progress.more(2);
            for turn in turns(round..round + 1) {
                self.turn(row, &mut sides, turn).await?;
            }
        }
        for (side, measured) in sides.into_iter().zip(&mut row.measured) {
            side.finish(measured, rounds.len()).await?;
        }
        Ok(())
    }

    async fn turn(&self, row: &Planned, sides: &mut [Loaded; 2], turn: usize) -> Result<()> {
        for side in &*sides {
            side.rest().await?;
        }
        let name = sides[turn].name;
        self.progress.doing(format!("{row}: {name}"));
        sides[turn].round(self.plan.window).await.with_context(|| format!("a round of {name}"))?;
        self.progress.round_done();
        Ok(())
    }
}

/// One side of a row: its cluster, the clients that load it, and what was measured.
struct Loaded {
    name: &'static str,
    clients: Clients,
    environment: Environment,
    cluster: Cluster,
    rounds: Vec<Round>,
    /// When everything was prepared.
    before: Usage,
}

impl Loaded {
    async fn start(bench: &Bench<'_>, program: &Program, row: &Planned) -> Result<Loaded> {
        let cluster = Cluster::start(program, row.members, bench.dir, bench.tls.as_ref()).await?;
        let environment = cluster.environment(row.clients).await?;
        let preparing = row.kind.workload.prepare(&environment, row.clients);
        let clients = preparing.await.with_context(|| format!("cannot prepare {}", program.name))?;
        let mut loaded =
            Loaded { name: program.name, clients, environment, cluster, rounds: Vec::new(), before: Usage::default() };
        loaded.settle().await?;
        loaded.rest().await?;
        loaded.before = loaded.cluster.usage()?;
        Ok(loaded)
    }

    async fn round(&mut self, window: Duration) -> Result<()> {
        let cluster = &self.cluster;
        let usage = || Ok((cluster.usage()?, Usage::of(std::process::id())?));
        let round = load::run(&mut self.clients, window, usage).await?;
        if round.writes > 0 {
            self.compact().await.context("cannot compact")?;
        }
        self.rounds.push(round);
        Ok(())
    }

    /// As an API server has it done every few minutes; outside the measured time.
    async fn compact(&self) -> Result<()> {
        let store = self.environment.connection(0);
        let range = RangeRequest { key: "/".into(), ..RangeRequest::default() };
        let header = store.range(&range).await?.header.context("an answer without a header")?;
        store.compact(&CompactionRequest { revision: header.revision, physical: false }).await?;
        Ok(())
    }

    /// Lets go of what preparing has left behind. Every read of etcd 3.4 copies the buffer of the
    /// writes before the last commit, as large as it ever was; after ten thousand keys written at
    /// once that is most of a read. It shrinks with a commit that writes no key: that of a lease.
    async fn settle(&self) -> Result<()> {
        let store = self.environment.connection(0);
        for _ in 0..2 {
            let granted = store.grant(&LeaseGrantRequest { ttl: SETTLE_TTL_SECONDS, id: 0 }).await?;
            store.revoke(&LeaseRevokeRequest { id: granted.id }).await?;
            tokio::time::sleep(2 * COMMIT_INTERVAL).await;
        }
        Ok(())
    }

    /// Waits until what goes on behind the answers is done: checkpoints, compaction.
    async fn rest(&self) -> Result<()> {
        let deadline = Instant::now() + REST_DEADLINE;
        let mut before = self.cluster.usage()?.cpu;
        while Instant::now() < deadline {
            tokio::time::sleep(REST_LOOK).await;
            let now = self.cluster.usage()?.cpu;
            if now - before <= REST_CPU {
                return Ok(());
            }
            before = now;
        }
        Ok(())
    }

    async fn finish(self, measured: &mut Measured, count: usize) -> Result<()> {
        self.rest().await?;
        let after = self.cluster.usage()?;
        let disk_bytes = after.written_bytes.saturating_sub(self.before.written_bytes);
        measured.add(self.rounds, count, after.peak_memory_bytes, disk_bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_alternate() {
        assert_eq!(turns(0..3).collect::<Vec<_>>(), [0, 1, 1, 0, 0, 1]);
        assert_eq!(turns(3..4).collect::<Vec<_>>(), [1, 0]);
    }
}
