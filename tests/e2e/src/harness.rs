//! The test runner: one cluster for all cases, because bringing one up takes longer than most cases do. A case uses
//! namespaces of its own. Prints what `cargo test` prints.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

use crate::cluster::Cluster;
use crate::leader_killer;

/// A named test over the running cluster.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub name: &'static str,
    pub run: fn(&Cluster) -> anyhow::Result<()>,
}

pub fn main(cases: &[Case]) -> ExitCode {
    let mut filters: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    if std::env::args().any(|a| a == "--list") {
        cases.iter().for_each(|case| println!("{}: test", case.name));
        return ExitCode::SUCCESS;
    }
    let wanted = |case: &&Case| filters.is_empty() || filters.iter().any(|f| case.name.contains(f.as_str()));
    let chosen: Vec<&Case> = cases.iter().filter(wanted).collect();
    filters.clear();
    println!("\nrunning {} tests", chosen.len());
    let started = Instant::now();
    let cluster = match Cluster::up() {
        Ok(cluster) => cluster,
        Err(error) => {
            println!("the cluster did not come up: {error:#}");
            println!("\ntest result: FAILED. 0 passed; {} failed; 0 ignored", chosen.len());
            return ExitCode::FAILURE;
        }
    };
    let failures = std::thread::scope(|scope| {
        let (running, stop) = std::sync::mpsc::channel();
        let cluster = &cluster;
        let killer =
            leader_killer::interval().map(|every| scope.spawn(move || leader_killer::run(cluster, every, &stop)));
        let failures = run(&chosen, cluster);
        drop(running);
        if let Some(killed) = killer.and_then(|killer| killer.join().ok()) {
            println!("the store's leader was killed {killed} times");
        }
        failures
    });
    cluster.finish(failures.is_empty());
    for (name, why) in &failures {
        println!("\n---- {name} ----\n{why}");
    }
    let verdict = if failures.is_empty() { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {verdict}. {} passed; {} failed; 0 ignored; finished in {:.0} s",
        chosen.len() - failures.len(),
        failures.len(),
        started.elapsed().as_secs_f64()
    );
    if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run(cases: &[&Case], cluster: &Cluster) -> Vec<(&'static str, String)> {
    let mut failures = Vec::new();
    for case in cases {
        let at = Instant::now();
        match attempt(case, cluster) {
            Ok(()) => println!("test {} ... ok ({:.1} s)", case.name, at.elapsed().as_secs_f64()),
            Err(why) => {
                println!("test {} ... FAILED ({:.1} s)", case.name, at.elapsed().as_secs_f64());
                if failures.is_empty() {
                    println!("{}", cluster.state());
                }
                failures.push((case.name, why));
                // A daemon it has killed must not fail the cases after it.
                if let Err(error) = cluster.xtask_up(&[]) {
                    println!("the cluster does not come back: {error:#}");
                }
            }
        }
    }
    failures
}

/// A case that panics fails like one that returns an error: the cluster must still be taken down.
fn attempt(case: &Case, cluster: &Cluster) -> Result<(), String> {
    match catch_unwind(AssertUnwindSafe(|| (case.run)(cluster))) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(format!("{error:#}")),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            Err(text
                .or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()))
                .unwrap_or_else(|| "panicked".into()))
        }
    }
}
