//! Links: cut both ways or one way, split in all shapes, lossy, slow, flapping.

use anyhow::{Context, Result};
use rand::Rng as _;
use rand::seq::SliceRandom as _;

use super::Lane;
use crate::links::{Cuts, Place};
use crate::member::name;

#[derive(Debug, Clone, Copy)]
enum Fault {
    Unplug,
    CutFromPeers,
    Deaf,
    Mute,
    Split,
    Bridge,
    Lossy,
    Slow,
    Flap,
}

const FAULTS: [(Fault, u32); 9] = [
    (Fault::Unplug, 2),
    (Fault::CutFromPeers, 4),
    (Fault::Deaf, 2),
    (Fault::Mute, 2),
    (Fault::Split, 3),
    (Fault::Bridge, 2),
    (Fault::Lossy, 2),
    (Fault::Slow, 2),
    (Fault::Flap, 1),
];
const FLAPS: usize = 6;

pub async fn run(mut lane: Lane<'_>) -> Result<()> {
    while !lane.over() {
        lane.wait(500, 4_000).await;
        let fault = lane.choose(&FAULTS);
        lane.disturb(fault).await.with_context(|| format!("{fault:?}"))?;
    }
    Ok(())
}

impl Lane<'_> {
    async fn disturb(&mut self, fault: Fault) -> Result<()> {
        let cluster = self.cluster;
        let n = self.victim().await;
        let others: Vec<usize> = cluster.all().into_iter().filter(|m| *m != n).collect();
        match fault {
            Fault::Unplug => {
                cluster.journal.count("unplug", &name(n));
                cluster.set_link(n, false)?;
                self.wait(500, 6_000).await;
                cluster.set_link(n, true)
            }
            Fault::CutFromPeers => self.cut("cut from peers", &name(n), &Cuts::default().apart(&[n], &others)).await,
            Fault::Deaf => {
                let deaf = |cuts: Cuts, from: &usize| cuts.one_way(Place::Member(*from), n);
                self.cut("deaf", &name(n), &others.iter().fold(Cuts::default(), deaf)).await
            }
            Fault::Mute => {
                let mute = |cuts: Cuts, to: &usize| cuts.one_way(Place::Member(n), *to);
                self.cut("mute", &name(n), &others.iter().fold(Cuts::default(), mute)).await
            }
            Fault::Split => {
                let mut all = cluster.all();
                all.shuffle(&mut self.rng);
                let (minority, majority) = all.split_at(all.len() / 2);
                let cuts = Cuts::default().apart(minority, majority);
                self.cut("split", &format!("{minority:?} {majority:?}"), &cuts).await
            }
            Fault::Bridge => {
                let (left, right) = others.split_at(others.len() / 2);
                let cuts = Cuts::default().apart(left, right);
                self.cut("bridge", &format!("{left:?} {} {right:?}", name(n)), &cuts).await
            }
            Fault::Lossy => {
                let percent = self.rng.random_range(2..30);
                let lossy = |cuts: Cuts, to: usize| cuts.lossy(to, percent);
                self.cut("loss", &format!("{percent} %"), &cluster.all().into_iter().fold(Cuts::default(), lossy)).await
            }
            Fault::Slow => {
                let rate = self.choose(&[(100, 1), (400, 2), (1_500, 1)]);
                cluster.journal.count("slow link", &format!("{} {rate} kbit/s", name(n)));
                cluster.slow_link(n, Some(rate))?;
                self.wait(2_000, 8_000).await;
                cluster.slow_link(n, None)
            }
            Fault::Flap => {
                cluster.journal.count("flap", &name(n));
                for _ in 0..FLAPS {
                    cluster.set_link(n, false)?;
                    self.wait(50, 800).await;
                    cluster.set_link(n, true)?;
                    self.wait(50, 800).await;
                }
                Ok(())
            }
        }
    }

    async fn cut(&mut self, fault: &'static str, whom: &str, cuts: &Cuts) -> Result<()> {
        self.cluster.journal.count(fault, whom);
        self.cluster.cut(cuts)?;
        self.wait(500, 8_000).await;
        self.cluster.cut(&Cuts::default())?;
        self.cluster.journal.note("whole again");
        Ok(())
    }
}
