//! The server in the test images. Answers on 8080 (or $PORT) with its host's name and its $VERSION, so that a test can
//! tell replicas and versions apart; `/healthz`, `/hostname`, `/version` answer with just that.
//!
//! As PID 1 of a container it must handle SIGTERM itself: it finishes what it is answering and leaves.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

/// A client that sends nothing is let go.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

fn main() -> std::io::Result<()> {
    std::thread::spawn(leave_on_signal);
    block_signals();
    let port = std::env::var("PORT").ok().and_then(|p| p.parse().ok()).unwrap_or(8080_u16);
    let listener = TcpListener::bind(("0.0.0.0", port))?;
    eprintln!("listening on {port}");
    for stream in listener.incoming().flatten() {
        std::thread::spawn(move || {
            let _ = answer(stream);
        });
    }
    Ok(())
}

fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_read_timeout(Some(READ_TIMEOUT))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut request = String::new();
    reader.read_line(&mut request)?;
    let mut header = String::new();
    while reader.read_line(&mut header)? > 2 {
        header.clear();
    }
    let path = request.split(' ').nth(1).unwrap_or("/");
    let (host, version) = (hostname(), std::env::var("VERSION").unwrap_or_default());
    let (code, body) = match path {
        "/" => ("200 OK", format!("{host} {version}\n")),
        "/healthz" => ("200 OK", "ok\n".to_owned()),
        "/hostname" => ("200 OK", format!("{host}\n")),
        "/version" => ("200 OK", format!("{version}\n")),
        _ => ("404 Not Found", "not found\n".to_owned()),
    };
    println!("{} {code}", request.trim());
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {code}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

fn hostname() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned()
}

fn signals() -> libc::sigset_t {
    // SAFETY: the set is initialised by sigemptyset before it is read.
    #[allow(unsafe_code)]
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGTERM);
        libc::sigaddset(&raw mut set, libc::SIGINT);
        set
    }
}

fn block_signals() {
    let set = signals();
    // SAFETY: `set` is an initialised signal set; the old mask is not asked for.
    #[allow(unsafe_code)]
    unsafe {
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
    }
}

fn leave_on_signal() {
    block_signals();
    let set = signals();
    let mut signal = 0;
    // SAFETY: both pointers are to live values of the right type.
    #[allow(unsafe_code)]
    unsafe {
        libc::sigwait(&raw const set, &raw mut signal);
    }
    std::process::exit(0);
}
