//! `/logs/`: the node's own log files.
//!
//! Pods may be allowed to write to that directory, so a link in it is followed only to what lies in it as well.

use std::fmt::Write;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use bytes::Bytes;
use http::{Response, StatusCode, header};
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use tokio::sync::mpsc;

use crate::server::body::{Body, page, text};

pub const ROOT: &str = "/var/log";
/// What has a meaning of its own in a link, or in the page around it.
const IN_LINKS: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'.').remove(b'-').remove(b'_');
const CHUNK_BYTES: u64 = 64 * 1024;
/// Read ahead of the client.
const CHUNKS: usize = 4;

/// `path` is the request's, `/logs` and what follows.
pub fn serve(root: &Path, path: &str) -> Response<Body> {
    let path = percent_decode_str(path).decode_utf8_lossy();
    let path = path.trim_start_matches('/');
    let below = path.strip_prefix("logs").unwrap_or(path);
    match open(root, below) {
        Ok(file) => answer(file, below),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => text(StatusCode::FORBIDDEN, "403 Forbidden\n"),
        Err(_) => text(StatusCode::NOT_FOUND, "404 page not found\n"),
    }
}

fn open(root: &Path, below: &str) -> io::Result<File> {
    let outside = || io::Error::from(io::ErrorKind::PermissionDenied);
    let relative = PathBuf::from(below.trim_matches('/'));
    if !relative.components().all(|c| matches!(c, Component::Normal(_))) {
        return Err(outside());
    }
    let root = root.canonicalize()?;
    let real = root.join(relative).canonicalize()?;
    let relative = real.strip_prefix(&root).map_err(|_| outside())?;
    let relative = if relative.as_os_str().is_empty() { Path::new(".") } else { relative };
    // What was resolved has no links; what has become one since is not followed. Nor does a pipe hold anybody up.
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    let how = OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
    Ok(File::from(openat2(File::open(&root)?, relative, how)?))
}

fn answer(file: File, below: &str) -> Response<Body> {
    let found = file.metadata().map(|m| (m.is_dir(), m.is_file(), m.len()));
    match found {
        Ok((true, ..)) if !below.ends_with('/') => {
            // Links in a list are relative to the directory.
            let name = below.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or("logs");
            let mut response = text(StatusCode::MOVED_PERMANENTLY, "");
            if let Ok(location) = format!("{}/", utf8_percent_encode(name, IN_LINKS)).parse() {
                response.headers_mut().insert(header::LOCATION, location);
            }
            response
        }
        Ok((true, ..)) => page(StatusCode::OK, "text/html; charset=utf-8", list(&file)),
        Ok((_, true, length)) => content(file, length),
        _ => text(StatusCode::FORBIDDEN, "403 Forbidden\n"),
    }
}

fn list(dir: &File) -> String {
    use std::os::fd::AsRawFd;
    let path = format!("/proc/self/fd/{}", dir.as_raw_fd());
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    let name = |entry: std::fs::DirEntry| {
        let slash = if entry.path().is_dir() { "/" } else { "" };
        format!("{}{slash}", entry.file_name().to_string_lossy())
    };
    let mut names: Vec<String> = entries.map(name).collect();
    names.sort();
    let mut out = String::from("<!doctype html>\n<pre>\n");
    for name in names {
        let _ = writeln!(out, "<a href=\"{}\">{}</a>", utf8_percent_encode(&name, IN_LINKS), escape(&name));
    }
    out + "</pre>\n"
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&#34;")
}

/// As long as it is now: a log that grows is no reason never to end.
fn content(file: File, length: u64) -> Response<Body> {
    let (sender, chunks) = mpsc::channel(CHUNKS);
    tokio::task::spawn_blocking(move || {
        let mut rest = file.take(length);
        loop {
            let mut chunk = Vec::new();
            match (&mut rest).take(CHUNK_BYTES).read_to_end(&mut chunk) {
                Ok(count) if count > 0 && sender.blocking_send(Bytes::from(chunk)).is_ok() => {}
                _ => return,
            }
        }
    });
    let mut response = Response::new(Body::stream(chunks));
    let kind = header::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;
    use std::os::unix::fs::symlink;

    #[tokio::test]
    async fn what_is_below_and_nothing_else() {
        let temp = tempfile::tempdir().expect("a temporary directory");
        let root = temp.path().join("log");
        std::fs::create_dir_all(root.join("pods/p")).expect("writable");
        std::fs::write(root.join("pods/p/0.log"), "hello").expect("writable");
        std::fs::write(temp.path().join("secret"), "secret").expect("writable");
        symlink(root.join("pods/p/0.log"), root.join("c<1>.log")).expect("a link");
        symlink(temp.path().join("secret"), root.join("out")).expect("a link");
        let check = async |path: &str, status: u16, body: &str| {
            let response = serve(&root, path);
            assert_eq!(response.status().as_u16(), status, "{path}");
            let found = response.into_body().collect().await.expect("a body").to_bytes();
            assert_eq!(found, body.as_bytes(), "{path}");
        };
        check("/logs", 301, "").await;
        check("/logs/pods", 301, "").await;
        let names = "<a href=\"0.log\">0.log</a>\n";
        check("/logs/pods/p/", 200, &format!("<!doctype html>\n<pre>\n{names}</pre>\n")).await;
        check("/logs/pods/p/0.log", 200, "hello").await;
        check("/logs/c%3C1%3E.log", 200, "hello").await;
        check("/logs/out", 403, "403 Forbidden\n").await;
        check("/logs/%2e%2e/secret", 403, "403 Forbidden\n").await;
        check("/logs/../secret", 403, "403 Forbidden\n").await;
        check("/logs/none", 404, "404 page not found\n").await;
        let listed = serve(&root, "/logs/").into_body().collect().await.expect("a body").to_bytes();
        assert!(String::from_utf8_lossy(&listed).contains("<a href=\"c%3C1%3E.log\">c&lt;1&gt;.log</a>"), "{listed:?}");
    }
}
