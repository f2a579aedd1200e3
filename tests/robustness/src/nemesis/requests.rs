//! What an operator asks of a cluster at a bad moment: another leader, a defragmentation, a snapshot.

use std::time::Duration;

use anyhow::Result;
use rand::Rng as _;
use tokio::time::timeout;

use super::Lane;
use crate::member::name;

#[derive(Debug, Clone, Copy)]
enum Wish {
    MoveLeader,
    Defragment,
    Snapshot,
}

const WISHES: [(Wish, u32); 3] = [(Wish::MoveLeader, 4), (Wish::Defragment, 1), (Wish::Snapshot, 1)];
const PATIENCE: Duration = Duration::from_secs(5);

pub async fn run(mut lane: Lane<'_>) -> Result<()> {
    while !lane.over() {
        lane.wait(2_000, 8_000).await;
        let wish = lane.choose(&WISHES);
        // That it cannot be had just now is no fault of the store's.
        let had = timeout(PATIENCE, Box::pin(lane.ask(wish))).await;
        lane.cluster.journal.note(&format!("{wish:?}: {had:?}"));
    }
    Ok(())
}

impl Lane<'_> {
    async fn ask(&mut self, wish: Wish) -> Result<(), etcd_client::Error> {
        let cluster = self.cluster;
        let n = self.rng.random_range(0..cluster.size());
        match wish {
            Wish::MoveLeader => {
                let Some(leader) = cluster.leader().await else { return Ok(()) };
                cluster.journal.count("move leader", &format!("{} to {}", name(leader), name(n)));
                cluster.client(leader).await.move_leader(cluster.members[n].id()).await.map(drop)
            }
            Wish::Defragment => {
                cluster.journal.count("defragment", &name(n));
                cluster.client(n).await.defragment().await.map(drop)
            }
            Wish::Snapshot => {
                cluster.journal.count("save a snapshot", &name(n));
                let mut stream = cluster.client(n).await.snapshot().await?;
                while stream.message().await?.is_some() {}
                Ok(())
            }
        }
    }
}
