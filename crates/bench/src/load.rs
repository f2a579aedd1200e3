//! The closed loop: every client asks, waits, asks again, through a warm-up and a window.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::measure::{Round, Spent};
use crate::process::Usage;
use crate::processors::Processors;
use crate::workloads::{Client, Clients};

const MAX_WARM_UP: Duration = Duration::from_millis(500);
/// A request that takes longer than this beyond the window is stuck.
const STUCK: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Copy)]
struct Window {
    start: Instant,
    end: Instant,
}

#[derive(Debug, Default)]
struct Samples {
    /// Of requests answered within the window.
    latencies_us: Vec<u32>,
    /// Acknowledged at any time.
    writes: u64,
}

/// Runs one round. `usage` reads what the servers and this process have used so far.
pub async fn run(clients: &mut Clients, length: Duration, usage: impl Fn() -> Result<(Usage, Usage)>) -> Result<Round> {
    let start = Instant::now() + MAX_WARM_UP.min(length);
    let window = Window { start, end: start + length };
    let mut tasks = JoinSet::new();
    for client in clients.drain(..) {
        tasks.spawn(drive(client, window));
    }
    tokio::time::sleep_until(window.start).await;
    let (processors, (server_before, client_before)) = (Processors::now()?, usage()?);
    tokio::time::sleep_until(window.end).await;
    let (stolen, (server_after, client_after)) = (Processors::now()?.stolen_since(processors), usage()?);
    let mut all = Samples::default();
    let collecting = async {
        while let Some(ended) = tasks.join_next().await {
            let (client, samples) = ended??;
            clients.push(client);
            all.latencies_us.extend(samples.latencies_us);
            all.writes += samples.writes;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(STUCK, collecting).await.context("requests are stuck")??;
    let spent = Spent {
        server: server_after.cpu.saturating_sub(server_before.cpu),
        client: client_after.cpu.saturating_sub(client_before.cpu),
        stolen,
    };
    Round::new(all.latencies_us, length, all.writes, spent)
}

async fn drive(mut client: Box<dyn Client>, window: Window) -> Result<(Box<dyn Client>, Samples)> {
    let mut samples = Samples::default();
    loop {
        let asked = Instant::now();
        if asked >= window.end {
            return Ok((client, samples));
        }
        samples.writes += client.request().await?;
        let answered = Instant::now();
        if answered >= window.start && answered < window.end {
            let took = (answered - asked).as_micros();
            samples.latencies_us.push(u32::try_from(took).unwrap_or(u32::MAX));
        }
    }
}
