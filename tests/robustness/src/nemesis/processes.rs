//! Processes and their disks: killed, stopped, filled up, slowed down, replaced, restarted one after the other.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use etcd_client::{Compare, CompareOp, Txn, TxnOp};
use history::Request;
use tokio::time::timeout;

use super::Lane;
use crate::member::name;

#[derive(Debug, Clone, Copy)]
enum Fault {
    Kill,
    KillAll,
    Pause,
    Stutter,
    FullDisk,
    SlowDisk,
    Replace,
    Roll,
    KillInCompaction,
}

const FAULTS: [(Fault, u32); 9] = [
    (Fault::Kill, 6),
    (Fault::KillAll, 1),
    (Fault::Pause, 5),
    (Fault::Stutter, 2),
    (Fault::FullDisk, 2),
    (Fault::SlowDisk, 2),
    (Fault::Replace, 2),
    (Fault::Roll, 1),
    (Fault::KillInCompaction, 3),
];
/// What a member that is told to end may take: it waits for an election or two.
const STOPPING: Duration = Duration::from_secs(20);
/// From the write that found no room to the end of the process, which gives its clients some seconds to let go.
const ENDING: Duration = Duration::from_secs(7);
/// Writes of a payload that changes nothing, more than a segment of the log holds.
const PAYLOADS: usize = 80;
/// What a compaction leaves behind the newest revision.
const KEPT_REVISIONS: i64 = 50;
const PAYLOAD_BYTES: usize = 1 << 20;

pub async fn run(mut lane: Lane<'_>) -> Result<()> {
    while !lane.over() {
        lane.wait(500, 3_000).await;
        let fault = lane.choose(&FAULTS);
        lane.make(fault).await.with_context(|| format!("{fault:?}"))?;
        for member in &lane.cluster.members {
            member.assert_running()?;
        }
    }
    Ok(())
}

impl Lane<'_> {
    async fn make(&mut self, fault: Fault) -> Result<()> {
        let cluster = self.cluster;
        let n = self.victim().await;
        let (member, who) = (&cluster.members[n], name(n));
        match fault {
            Fault::Kill => {
                cluster.journal.count("kill", &who);
                member.kill()?;
                self.wait(0, 5_000).await;
                cluster.launch(n)?;
            }
            Fault::KillAll => {
                cluster.journal.count("kill all", "");
                cluster.members.iter().try_for_each(|m| m.kill())?;
                self.wait(0, 1_000).await;
                cluster.all().into_iter().try_for_each(|n| cluster.launch(n))?;
            }
            Fault::Pause => {
                let pause = self.ms(100, 8_000);
                cluster.journal.count("pause", &format!("{who} {pause:?}"));
                member.pause()?;
                tokio::time::sleep(pause).await;
                member.go_on()?;
            }
            Fault::Stutter => self.stutter(n).await?,
            Fault::FullDisk => self.full_disk(n).await?,
            Fault::SlowDisk => {
                let (rate, pause) = (self.choose(&[(3, 1), (10, 2), (50, 2)]), self.ms(2_000, 8_000));
                cluster.journal.count("slow disk", &format!("{who} {rate}/s {pause:?}"));
                member.disk.throttle(&member.cgroup, rate)?;
                tokio::time::sleep(pause).await;
                member.disk.throttle(&member.cgroup, 0)?;
            }
            Fault::Replace => {
                cluster.journal.count("replace", &who);
                cluster.replace(n).await?;
            }
            Fault::Roll => {
                cluster.journal.count("restart one by one", "");
                for member in &cluster.members {
                    member.terminate(STOPPING).await?;
                    cluster.launch(member.n)?;
                    self.wait(0, 1_500).await;
                }
            }
            Fault::KillInCompaction => self.kill_in_compaction(n).await?,
        }
        Ok(())
    }

    /// A machine that is short of processor time: many short stops.
    async fn stutter(&mut self, n: usize) -> Result<()> {
        self.cluster.journal.count("stutter", &name(n));
        for _ in 0..20 {
            self.cluster.members[n].pause()?;
            self.wait(10, 150).await;
            self.cluster.members[n].go_on()?;
            self.wait(10, 100).await;
        }
        Ok(())
    }

    /// The log's next segment has no room. The member must end with an error, and come back once there is room.
    async fn full_disk(&mut self, n: usize) -> Result<()> {
        let (cluster, member) = (self.cluster, &self.cluster.members[n]);
        cluster.journal.count("full disk", &name(n));
        member.disk.fill()?;
        self.load(n).await;
        let ended = member.await_end(ENDING).await?;
        if let Some(status) = ended {
            cluster.journal.count("ended on a full disk", &name(n));
            ensure!(!status.success(), "{} ended as if all were well on a full disk", name(n));
            // Nor can it start; or it can and has nothing to write yet.
            cluster.launch(n)?;
            self.wait(500, 2_000).await;
        }
        member.disk.free()?;
        // One that found no room a moment ago is still on its way out.
        if member.await_end(ENDING).await?.is_some() || !member.runs() {
            cluster.launch(n)?;
        }
        Ok(())
    }

    /// Fills the log without changing a key: transactions whose condition never holds.
    async fn load(&mut self, but: usize) {
        let Some(other) = self.cluster.all().into_iter().find(|n| *n != but) else { return };
        let mut client = self.cluster.client(other).await;
        for _ in 0..PAYLOADS {
            let never = Compare::version("payload", CompareOp::Less, 0);
            let put = TxnOp::put("payload", vec![b'x'; PAYLOAD_BYTES], None);
            let asked = client.txn(Txn::new().when([never]).and_then([put]));
            if timeout(Duration::from_secs(1), asked).await.is_err() || self.over() {
                return;
            }
        }
    }

    /// The clients compact all the time; one more, and the kill in the middle of it.
    async fn kill_in_compaction(&mut self, n: usize) -> Result<()> {
        let cluster = self.cluster;
        cluster.journal.count("kill in compaction", &name(n));
        let mut client = cluster.client(n).await;
        let revision = cluster.status(n).await.and_then(|s| Some(s.header()?.revision())).unwrap_or(0);
        let delay = self.ms(0, 20);
        let compaction = Request::Compact { revision: (revision - KEPT_REVISIONS).max(1) };
        let kill = async {
            tokio::time::sleep(delay).await;
            cluster.members[n].kill()
        };
        tokio::join!(self.recorder.run(0, &mut client, compaction), kill).1?;
        self.wait(0, 1_000).await;
        cluster.launch(n)
    }
}
