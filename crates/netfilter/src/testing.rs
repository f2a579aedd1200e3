//! Network namespaces for tests: nameless, so that they vanish with the threads and processes inside, also when a test
//! fails. Needs root.

use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;

use nix::sched::{CloneFlags, unshare};
use nix::unistd::gettid;

/// Runs `work` in a network namespace of its own, with loopback up. Tasks and commands that it starts are inside too,
/// as its runtime has but this thread.
pub fn in_namespace<T: Send>(work: impl AsyncFnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let inside = scope.spawn(|| {
            enter();
            run(work())
        });
        inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Another namespace, alive until this is dropped; a thread in it does what it is told.
pub struct Namespace {
    thread_id: i32,
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<thread::JoinHandle<()>>,
}

type Job = Box<dyn FnOnce() + Send>;

impl Namespace {
    pub fn new() -> Self {
        let (jobs, queue) = mpsc::channel::<Job>();
        let (ready, started) = mpsc::channel();
        let thread = thread::spawn(move || {
            enter();
            ready.send(gettid().as_raw()).expect("the creator waits");
            queue.iter().for_each(|job| job());
        });
        let thread_id = started.recv().expect("the thread has entered its namespace");
        Self { thread_id, jobs: Some(jobs), thread: Some(thread) }
    }

    /// For `ip link set ... netns`.
    pub fn id(&self) -> String {
        self.thread_id.to_string()
    }

    /// Runs `job` inside and returns what it returns.
    pub fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, result) = mpsc::channel();
        let job = Box::new(move || {
            let _ = done.send(job());
        });
        self.jobs.as_ref().expect("only drop takes it").send(job).expect("the thread lives as long as this");
        result.recv().expect("the job does not panic")
    }
}

impl Default for Namespace {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Runs a command that must succeed, such as `ip link set lo up`, and returns what it prints.
pub fn command(line: &str) -> String {
    let mut words = line.split_whitespace();
    let program = words.next().expect("a command");
    let output = Command::new(program).args(words).stdin(Stdio::null()).output().expect("the command exists");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}: {stderr}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn enter() {
    unshare(CloneFlags::CLONE_NEWNET).expect("the test runs as root");
    command("ip link set lo up");
}

fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(work)
}
