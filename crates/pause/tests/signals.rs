//! The binary ends with 0 on the signals a runtime sends, and only then.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

const DEADLINE: Duration = Duration::from_secs(10);

struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts the binary with `signal` blocked, as it would block it itself: one sent early stays pending.
#[allow(unsafe_code)]
fn spawn(signal: libc::c_int) -> Guard {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pause"));
    let block = move || {
        // SAFETY: only async-signal-safe calls, on a set initialised here.
        unsafe {
            let mut set = std::mem::zeroed();
            libc::sigemptyset(&mut set);
            libc::sigaddset(&mut set, signal);
            libc::sigprocmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
        }
        Ok(())
    };
    // SAFETY: the closure allocates nothing and takes no lock.
    unsafe { command.pre_exec(block) };
    Guard(command.spawn().expect("the binary starts"))
}

#[allow(unsafe_code)]
fn check(signal: libc::c_int) {
    let mut child = spawn(signal);
    // SAFETY: the pid is our own child's, which is not reaped yet.
    unsafe { libc::kill(child.0.id() as i32, signal) };
    let since = Instant::now();
    loop {
        if let Some(status) = child.0.try_wait().expect("our own child can be waited for") {
            assert_eq!(status.code(), Some(0), "signal {signal}");
            return;
        }
        assert!(since.elapsed() < DEADLINE, "pause ignored signal {signal}");
        std::thread::yield_now();
    }
}

#[test]
fn sigterm_and_sigint_end_it_cleanly() {
    check(libc::SIGTERM);
    check(libc::SIGINT);
}
