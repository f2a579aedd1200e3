//! Receives what a watch is sent, and knows from where it goes on after it broke off.

use std::time::Duration;

use ::history::{Keys, Message, Watch};
use bytes::Bytes;
use etcd_client::{Client, WatchFilterType, WatchOptions, WatchStream};
use tokio::sync::watch::Receiver;
use tokio::time::sleep;

use crate::recorder::Recorder;
use crate::wire::{start, watch_response};

/// How a watch ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It was told of everything up to the last revision.
    Complete,
    /// It was cancelled, cut off, or silent for too long.
    Broken,
}

/// Watches once, from the watch's start, until it has been told of the last revision or breaks off. `last` is 0 until
/// the last revision is known.
pub async fn observe(
    watch: &mut Watch,
    client: &mut Client,
    recorder: &Recorder,
    last: Receiver<i64>,
    patience: Duration,
) -> End {
    watch.call = recorder.now();
    let opened = client.watch(start(&watch.keys), Some(options(watch)));
    match tokio::time::timeout(patience, opened).await {
        Ok(Ok(mut stream)) => receive(watch, &mut stream, recorder, last, patience).await,
        Ok(Err(_)) | Err(_) => End::Broken,
    }
}

async fn receive(
    watch: &mut Watch,
    stream: &mut WatchStream,
    recorder: &Recorder,
    mut last: Receiver<i64>,
    patience: Duration,
) -> End {
    let mut asked = false;
    loop {
        let until = *last.borrow_and_update();
        if until > 0 && !asked && stream.request_progress().await.is_err() {
            return End::Broken;
        }
        asked = until > 0;
        let received = tokio::select! {
            received = stream.message() => received,
            changed = last.changed() => {
                changed.expect("the test is waiting");
                continue;
            }
            () = sleep(patience) => return End::Broken,
        };
        let Ok(Some(response)) = received else { return End::Broken };
        let response = watch_response(recorder.now(), &response);
        let (message, revision) = (response.message.clone(), response.revision);
        watch.responses.push(response);
        match message {
            Message::Canceled { .. } => return End::Broken,
            Message::Progress if until > 0 && revision >= until => return End::Complete,
            Message::Progress => asked = false,
            Message::Created | Message::Events { .. } => {}
        }
    }
}

/// The watch that goes on where this one broke off.
pub fn resumed(watch: &Watch) -> Watch {
    let told = watch.responses.iter().map(|response| match &response.message {
        Message::Events { events, .. } => events.iter().map(|e| e.kv.mod_revision + 1).max().unwrap_or(0),
        Message::Progress => response.revision + 1,
        Message::Canceled { compact_revision } => *compact_revision,
        Message::Created => 0,
    });
    let start_revision = told.fold(watch.start_revision, i64::max);
    Watch { start_revision, responses: Vec::new(), ..watch.clone() }
}

fn options(watch: &Watch) -> WatchOptions {
    let mut options = WatchOptions::new().with_start_revision(watch.start_revision).with_progress_notify();
    options = match &watch.keys {
        Keys::One(_) => options,
        Keys::Prefix(prefix) if prefix.is_empty() => options.with_all_keys(),
        Keys::Prefix(_) => options.with_prefix(),
    };
    if watch.prev_kv {
        options = options.with_prev_key();
    }
    if watch.no_put { options.with_filters([WatchFilterType::NoPut]) } else { options }
}

/// From the first revision on, of the workers' keys: everything; a prefix with previous versions; the deletions of one
/// key.
pub fn watches(client: u32) -> [Watch; 3] {
    let watch = |client, keys, prev_kv, no_put| Watch {
        client,
        call: 0,
        keys,
        start_revision: 1,
        prev_kv,
        no_put,
        no_delete: false,
        fragment: false,
        responses: Vec::new(),
    };
    [
        watch(client, Keys::all(), false, false),
        watch(client + 1, Keys::Prefix(Bytes::from_static(b"a/")), true, false),
        watch(client + 2, Keys::One(Bytes::from_static(b"b/1")), true, true),
    ]
}
