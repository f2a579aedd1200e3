//! The binary ends with 0 on the signals a runtime sends, and only then.

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

/// The kernel's view: the process has blocked SIGTERM, so sending it cannot kill.
fn wait_until_blocking(pid: u32) {
    let since = Instant::now();
    loop {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a running child has a status");
        let blocked = status.lines().find_map(|line| line.strip_prefix("SigBlk:\t")).expect("a SigBlk line");
        let mask = u64::from_str_radix(blocked.trim(), 16).expect("a hexadecimal mask");
        if mask & (1 << (libc::SIGTERM - 1)) != 0 {
            return;
        }
        assert!(since.elapsed() < DEADLINE, "pause never blocked SIGTERM");
        std::thread::yield_now();
    }
}

#[allow(unsafe_code)]
fn check(signal: libc::c_int) {
    let mut child = Guard(Command::new(env!("CARGO_BIN_EXE_pause")).spawn().expect("the binary starts"));
    wait_until_blocking(child.0.id());
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
