//! Ten clients do everything at once, the server is killed twice meanwhile, and what they
//! were told is checked: linearizability of keys, transactions and leases, and every promise
//! that watches are given.

use std::sync::Arc;

use ::history::{At, History, Keys, Message, Outcome, Range, Request, Watch, check};
use etcd_client::Client;
use recorder::observer::{End, observe, resumed, watches};
use recorder::{Recorder, TICKS_PER_SECOND, Worker};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::harness::{DEADLINE, Server};

const CLIENTS: u32 = 10;
const OPERATIONS_PER_CLIENT: usize = 350;
/// After how many answers the server is killed.
const KILLS: [usize; 2] = [1_000, 2_200];
const FIRST_OBSERVER: u32 = 100;

/// What everyone is told while the test runs: whether the server is there, and the last revision to be waited for, 0
/// until it is known.
#[derive(Clone)]
struct Stage {
    up: watch::Receiver<bool>,
    last: watch::Receiver<i64>,
}

async fn work(mut worker: Worker, mut client: Client, recorder: Arc<Recorder>, mut stage: Stage) {
    for _ in 0..OPERATIONS_PER_CLIENT {
        let request = worker.request();
        let outcome = recorder.run(worker.number, &mut client, request).await;
        worker.learn(&outcome);
        if outcome == Outcome::Unknown {
            stage.up.wait_for(|up| *up).await.expect("the test is waiting");
        }
    }
}

/// Watches until it has been told of the last revision, taking the watch up again whenever it
/// breaks off.
async fn watch_on(mut watch: Watch, mut client: Client, recorder: Arc<Recorder>, mut stage: Stage) -> Vec<Watch> {
    let mut watches = Vec::new();
    loop {
        stage.up.wait_for(|up| *up).await.expect("the test is waiting");
        let end = observe(&mut watch, &mut client, &recorder, stage.last.clone(), DEADLINE).await;
        let next = resumed(&watch);
        watches.push(std::mem::replace(&mut watch, next));
        if end == End::Complete {
            return watches;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_clients_are_told_through_two_kills() {
    // Few entries per checkpoint: a kill finds one under way now and then.
    let mut server = Server::start(&["--snapshot-count", "300", "--watch-progress-notify-interval", "100ms"]);
    let recorder = Arc::new(Recorder::new(DEADLINE));
    let ((up, is_up), (last, is_last)) = (watch::channel(true), watch::channel(0));
    let stage = Stage { up: is_up, last: is_last };
    let mut workers = Vec::new();
    for number in 1..=CLIENTS {
        let worker = Worker::new(number, u64::from(number));
        workers.push(tokio::spawn(work(worker, server.client().await, recorder.clone(), stage.clone())));
    }
    let mut observers = Vec::new();
    for watch in watches(FIRST_OBSERVER) {
        let observer = watch_on(watch, server.client().await, recorder.clone(), stage.clone());
        observers.push(tokio::spawn(observer));
    }
    for kill in KILLS {
        while recorder.answered() < kill {
            timeout(DEADLINE, recorder.progress.notified()).await.expect("the clients get on");
        }
        up.send_replace(false);
        server.kill();
        server.restart();
        up.send_replace(true);
    }
    for worker in workers {
        timeout(DEADLINE, worker).await.expect("in time").expect("no panic");
    }
    let everything = Request::Range(Range { keys: Keys::all(), limit: 0 }, At::Latest);
    let seen = recorder.run(0, &mut server.client().await, everything).await;
    let Outcome::Answered { revision, .. } = seen else { panic!("the server is there: {seen:?}") };
    last.send_replace(revision);
    let mut history = History { operations: recorder.take(), ticks_per_second: TICKS_PER_SECOND, ..History::default() };
    for observer in observers {
        history.watches.extend(timeout(DEADLINE, observer).await.expect("in time").expect("no panic"));
    }
    judge(&history);
}

fn judge(history: &History) {
    let events = |watch: &Watch| {
        let lists = watch.responses.iter().map(|response| match &response.message {
            Message::Events { events, .. } => events.len(),
            _ => 0,
        });
        lists.sum::<usize>()
    };
    let unknown = history.operations.iter().filter(|o| o.outcome == Outcome::Unknown).count();
    let seen: usize = history.watches.iter().map(events).sum();
    println!("{} operations, {unknown} without an answer, {seen} events", history.operations.len());
    let report = check(history);
    assert!(report.is_clean(), "{report}");
    // A history in which nothing happened would pass as well.
    assert!(seen > KILLS[1] / 4, "{seen} events");
    assert!(
        history.watches.len() >= watches(FIRST_OBSERVER).len() * (1 + KILLS.len()),
        "every kill breaks every watch"
    );
}
