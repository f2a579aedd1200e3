//! Container logs: the CRI log format, its options, following across rotation.

use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use jiff::{SignedDuration, Timestamp};
use podsync::{Container, pod as spec};
use tokio::sync::mpsc;

use crate::pods::Entry;
use crate::server::Server;
use crate::server::body::{Body, text};
use crate::server::request::{self, Query};

const READ: usize = 64 << 10;
/// Chunks waiting for a slow client.
const CHUNKS: usize = 8;
/// How soon a follower notices that its container has ended without another line.
const FOLLOW_CHECK: Duration = Duration::from_secs(1);
/// A line without an end is passed on in pieces of this size.
const MAX_LINE: usize = 1 << 20;

/// One line: `2026-01-02T03:04:05.000000006Z stdout F text`. `P` marks a part of a longer line.
#[derive(Debug, PartialEq, Eq)]
pub struct Line<'a> {
    pub time: &'a str,
    pub stream: &'a str,
    pub partial: bool,
    pub content: &'a [u8],
}

pub fn parse(line: &[u8]) -> Option<Line<'_>> {
    let mut parts = line.splitn(4, |byte| *byte == b' ');
    let mut word = || std::str::from_utf8(parts.next()?).ok();
    let (time, stream, tags) = (word()?, word()?, word()?);
    let content = parts.next()?;
    let partial = tags.split(':').next() == Some("P");
    matches!(stream, "stdout" | "stderr").then_some(Line { time, stream, partial, content })
}

#[derive(Debug, Clone, Default)]
pub struct Options {
    pub follow: bool,
    pub timestamps: bool,
    pub tail: Option<usize>,
    pub since: Option<Timestamp>,
    pub limit: Option<u64>,
    pub stream: Option<&'static str>,
}

impl Options {
    fn of(query: &Query, now: Timestamp) -> Result<Options, Box<Response<Body>>> {
        let bad = |message: &str| Box::new(text(StatusCode::UNPROCESSABLE_ENTITY, message));
        let seconds: Option<i64> = query.number("sinceSeconds")?;
        let since = match (query.get("sinceTime"), seconds) {
            (Some(_), Some(_)) => return Err(bad("at most one of `sinceTime` or `sinceSeconds` may be specified")),
            (Some(text), None) => Some(text.parse().map_err(|_| bad("unable to decode query: invalid sinceTime"))?),
            (None, Some(seconds)) if seconds < 1 => return Err(bad("sinceSeconds: must be greater than 0")),
            (None, Some(seconds)) => Some(now - SignedDuration::from_secs(seconds)),
            (None, None) => None,
        };
        let stream = match query.get("stream") {
            None | Some("All") => None,
            Some("Stdout") => Some("stdout"),
            Some("Stderr") => Some("stderr"),
            Some(_) => return Err(bad("stream: must be All, Stdout or Stderr")),
        };
        Ok(Options {
            follow: query.flag("follow"),
            timestamps: query.flag("timestamps"),
            tail: query.number("tailLines")?,
            since,
            limit: query.number("limitBytes")?,
            stream,
        })
    }
}

/// Turns raw log bytes into what the client sees.
struct Filter {
    options: Options,
    left: Option<u64>,
    /// The last piece was partial: the next continues its line, without a timestamp.
    within_line: bool,
}

impl Filter {
    fn new(options: Options) -> Filter {
        Filter { left: options.limit, options, within_line: false }
    }

    fn is_full(&self) -> bool {
        self.left == Some(0)
    }

    fn push(&mut self, raw: &[u8], out: &mut BytesMut) {
        let Some(line) = parse(raw) else { return };
        if self.options.stream.is_some_and(|wanted| wanted != line.stream) {
            return;
        }
        let time = line.time.parse::<Timestamp>();
        if self.options.since.is_some_and(|since| time.is_ok_and(|time| time < since)) {
            return;
        }
        let mut piece = Vec::with_capacity(line.content.len() + 40);
        if self.options.timestamps && !self.within_line {
            piece.extend(line.time.as_bytes());
            piece.push(b' ');
        }
        piece.extend(line.content);
        if !line.partial {
            piece.push(b'\n');
        }
        self.within_line = line.partial;
        if let Some(left) = &mut self.left {
            piece.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= piece.len() as u64;
        }
        out.extend_from_slice(&piece);
    }
}

/// Where the last `lines` lines of the file begin.
fn tail_offset(file: &mut std::fs::File, lines: usize) -> std::io::Result<u64> {
    let mut end = file.seek(SeekFrom::End(0))?;
    if lines == 0 {
        return Ok(end);
    }
    let mut seen = 0;
    let mut buffer = vec![0; READ];
    let last = end;
    while end > 0 {
        let start = end.saturating_sub(READ as u64);
        let size = usize::try_from(end - start).unwrap_or(READ);
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(&mut buffer[..size])?;
        for (index, byte) in buffer[..size].iter().enumerate().rev() {
            // The newline at the very end closes the last line rather than beginning another.
            if *byte == b'\n' && start + index as u64 + 1 != last {
                seen += 1;
                if seen == lines {
                    return Ok(start + index as u64 + 1);
                }
            }
        }
        end = start;
    }
    Ok(0)
}

/// The end of a log as plain text.
pub fn tail(path: &Path, lines: usize, max_bytes: usize) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = std::fs::File::open(path)?;
        let offset = tail_offset(&mut file, lines)?;
        file.seek(SeekFrom::Start(offset))?;
        let mut raw = Vec::new();
        file.take(MAX_LINE as u64).read_to_end(&mut raw)?;
        Ok(raw)
    };
    let raw = read().unwrap_or_default();
    let mut filter = Filter::new(Options::default());
    let mut out = BytesMut::new();
    raw.split(|byte| *byte == b'\n').for_each(|line| filter.push(line, &mut out));
    let start = out.len().saturating_sub(max_bytes);
    String::from_utf8_lossy(&out[start..]).into_owned()
}

/// Removes an instance's log and what was rotated out of it.
pub fn remove(dir: &Path, restart_count: u32) {
    let name = format!("{restart_count}.log");
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let file = entry.file_name().to_string_lossy().into_owned();
        if file == name || file.starts_with(&format!("{name}.")) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

struct Reader {
    path: PathBuf,
    file: std::fs::File,
    pending: BytesMut,
    filter: Filter,
}

impl Reader {
    fn open(path: PathBuf, options: Options) -> std::io::Result<Reader> {
        let mut file = std::fs::File::open(&path)?;
        let offset = options.tail.map_or(Ok(0), |lines| tail_offset(&mut file, lines))?;
        file.seek(SeekFrom::Start(offset))?;
        Ok(Reader { path, file, pending: BytesMut::new(), filter: Filter::new(options) })
    }

    /// The next chunk for the client; `None` at the end of the file.
    fn next(&mut self) -> std::io::Result<Option<Bytes>> {
        let mut buffer = vec![0; READ];
        loop {
            let count = self.file.read(&mut buffer)?;
            if count == 0 {
                return Ok(None);
            }
            self.pending.extend_from_slice(&buffer[..count]);
            let mut out = BytesMut::new();
            while let Some(end) = self.pending.iter().position(|byte| *byte == b'\n') {
                let line = self.pending.split_to(end + 1);
                self.filter.push(&line[..end], &mut out);
            }
            if self.pending.len() > MAX_LINE {
                self.pending.clear();
            }
            if !out.is_empty() || self.filter.is_full() {
                return Ok(Some(out.freeze()));
            }
        }
    }

    /// After rotation the name leads to another file, which continues this one.
    fn follow_rotation(&mut self) -> std::io::Result<bool> {
        let Ok(named) = std::fs::metadata(&self.path) else { return Ok(false) };
        if named.ino() == self.file.metadata()?.ino() {
            return Ok(false);
        }
        self.file = std::fs::File::open(&self.path)?;
        Ok(true)
    }
}

pub async fn serve(
    server: &Server,
    request: &Request<Incoming>,
    namespace: &str,
    pod: &str,
    container: &str,
) -> Response<Body> {
    match try_serve(server, request, namespace, pod, container) {
        Ok(response) => response,
        Err(refusal) => *refusal,
    }
}

fn try_serve(
    server: &Server,
    request: &Request<Incoming>,
    namespace: &str,
    pod: &str,
    container: &str,
) -> Result<Response<Body>, Box<Response<Body>>> {
    let query = Query::of(request.uri());
    let options = Options::of(&query, Timestamp::now())?;
    let entry = request::pod(server, namespace, pod, None)?;
    let desired = entry.desired();
    if spec::container(&desired.pod, container).is_none() {
        let message = format!("container {container:?} not found in pod {pod:?}");
        return Err(Box::new(text(StatusCode::NOT_FOUND, message)));
    }
    let bad = |message: String| Box::new(text(StatusCode::BAD_REQUEST, message));
    let instance = instance(&entry, container, query.flag("previous")).map_err(bad)?;
    let dir = crate::container::sandbox::log_dir(&server.ctx, &desired.pod).join(container);
    let path = dir.join(format!("{}.log", instance.restart_count));
    let reader = Reader::open(path, options)
        .map_err(|e| Box::new(text(StatusCode::INTERNAL_SERVER_ERROR, format!("failed to open log file: {e}"))))?;
    let (chunks, receiver) = mpsc::channel(CHUNKS);
    tokio::spawn(pump(reader, chunks, entry, instance.id));
    let mut response = Response::new(Body::stream(receiver));
    response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("text/plain"));
    Ok(response)
}

/// The instance whose log is asked for; errors in upstream's words.
fn instance(entry: &Entry, name: &str, previous: bool) -> Result<Container, String> {
    let view = entry.view();
    let pod = spec::name(&entry.desired().pod).to_owned();
    let mut instances = view.runtime.containers.into_iter().filter(|c| c.name == name);
    let waiting = || {
        let statuses = view.status.as_ref().map(|s| {
            [&s.init_container_statuses, &s.container_statuses, &s.ephemeral_container_statuses]
                .into_iter()
                .flatten()
                .flatten()
                .filter(|s| s.name == name)
                .find_map(|s| s.state.as_ref()?.waiting.as_ref()?.reason.clone())
        });
        statuses.flatten().unwrap_or_else(|| "ContainerCreating".into())
    };
    if previous {
        let running = instances.next().filter(|c| c.exit().is_none());
        let ended = if running.is_some() { instances.find(|c| c.exit().is_some()) } else { None };
        return ended
            .or_else(|| {
                entry.view().runtime.containers.into_iter().filter(|c| c.name == name).find(|c| c.exit().is_some())
            })
            .ok_or_else(|| format!("previous terminated container {name:?} in pod {pod:?} not found"));
    }
    match instances.find(|c| c.is_running() || c.exit().is_some()) {
        Some(found) => Ok(found),
        None => Err(format!("container {name:?} in pod {pod:?} is waiting to start: {}", waiting())),
    }
}

async fn pump(mut reader: Reader, chunks: mpsc::Sender<Bytes>, entry: Arc<Entry>, id: String) {
    let dir = reader.path.parent().unwrap_or(Path::new("/")).to_owned();
    let follow = reader.filter.options.follow;
    // Set up before the first read, so that nothing written meanwhile goes unnoticed.
    let mut watch = if follow { daemon::watch_file::Watch::new([dir.as_path()]).ok() } else { None };
    loop {
        match reader.next() {
            Ok(Some(chunk)) => {
                if chunks.send(chunk).await.is_err() || reader.filter.is_full() {
                    return;
                }
                continue;
            }
            Ok(None) if !follow => return,
            Ok(None) => {}
            Err(_) => return,
        }
        if reader.follow_rotation().unwrap_or(false) {
            continue;
        }
        // Asked before waiting, believed only after one more look at the file.
        let running = entry.view().runtime.containers.iter().any(|c| c.id == id && c.is_running());
        if !running {
            while let Ok(Some(chunk)) = reader.next() {
                if chunks.send(chunk).await.is_err() {
                    return;
                }
            }
            return;
        }
        let changed = async {
            match &mut watch {
                Some(watch) => drop(watch.changed().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = changed => {}
            () = tokio::time::sleep(FOLLOW_CHECK) => {}
            () = chunks.closed() => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn lines() {
        let line = parse(b"2026-01-02T03:04:05.000000006Z stdout F hello world").expect("a line");
        assert_eq!((line.time, line.stream, line.partial), ("2026-01-02T03:04:05.000000006Z", "stdout", false));
        assert_eq!(line.content, b"hello world");
        assert!(parse(b"2026-01-02T03:04:05Z stderr P part").expect("a line").partial);
        assert_eq!(parse(b"2026-01-02T03:04:05Z stdout F ").expect("a line").content, b"");
        for bad in [&b""[..], b"rubbish", b"2026 stdout", b"2026 nowhere F x"] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }

    const LOG: &str = "2026-01-01T00:00:01Z stdout F one\n2026-01-01T00:00:02Z stdout P tw\n\
        2026-01-01T00:00:02Z stdout F o\n2026-01-01T00:00:03Z stderr F three\n";

    fn read(options: Options) -> String {
        let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
        file.write_all(LOG.as_bytes()).expect("writable");
        let mut reader = Reader::open(file.path().to_owned(), options).expect("readable");
        let mut all = Vec::new();
        while let Ok(Some(chunk)) = reader.next() {
            all.extend(chunk);
            if reader.filter.is_full() {
                break;
            }
        }
        String::from_utf8(all).expect("text")
    }

    #[test]
    fn options() {
        let check = |options: Options, expected: &str| assert_eq!(read(options.clone()), expected, "{options:?}");
        check(Options::default(), "one\ntwo\nthree\n");
        check(Options { tail: Some(1), ..Options::default() }, "three\n");
        check(Options { tail: Some(0), ..Options::default() }, "");
        check(Options { tail: Some(99), ..Options::default() }, "one\ntwo\nthree\n");
        check(Options { limit: Some(5), ..Options::default() }, "one\nt");
        check(Options { stream: Some("stderr"), ..Options::default() }, "three\n");
        check(Options { since: "2026-01-01T00:00:03Z".parse().ok(), ..Options::default() }, "three\n");
        let stamped = "2026-01-01T00:00:01Z one\n2026-01-01T00:00:02Z two\n2026-01-01T00:00:03Z three\n";
        check(Options { timestamps: true, ..Options::default() }, stamped);
    }

    #[test]
    fn the_end_of_a_log() {
        let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
        file.write_all(LOG.as_bytes()).expect("writable");
        assert_eq!(tail(file.path(), 1, 100), "three\n");
        assert_eq!(tail(file.path(), 80, 4), "ree\n");
        assert_eq!(tail(Path::new("/nonexistent"), 80, 100), "");
    }

    #[test]
    fn rotation_is_followed() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("0.log");
        std::fs::write(&path, "2026-01-01T00:00:01Z stdout F old\n").expect("writable");
        let mut reader = Reader::open(path.clone(), Options::default()).expect("readable");
        assert_eq!(reader.next().expect("read").as_deref(), Some(&b"old\n"[..]));
        assert!(!reader.follow_rotation().expect("same file"));
        std::fs::rename(&path, dir.path().join("0.log.1")).expect("renamed");
        std::fs::write(&path, "2026-01-01T00:00:02Z stdout F new\n").expect("writable");
        assert!(reader.follow_rotation().expect("another file"));
        assert_eq!(reader.next().expect("read").as_deref(), Some(&b"new\n"[..]));
    }
}
