//! A response too large for one message, as several.

use prost::Message;

use crate::pb::etcdserverpb as pb;
use crate::pb::mvccpb;

/// Cuts a response into pieces below `max` bytes; all but the last say that more follows.
pub fn fragments(response: pb::WatchResponse, max: usize) -> Vec<pb::WatchResponse> {
    let head = pb::WatchResponse { events: Vec::new(), ..response };
    let mut parts: Vec<pb::WatchResponse> = Vec::new();
    let mut room = 0;
    for event in response.events {
        let bytes = event_bytes(&event);
        match parts.last_mut() {
            Some(part) if bytes <= room => part.events.push(event),
            _ => {
                room = max.saturating_sub(head.encoded_len());
                parts.push(pb::WatchResponse { events: vec![event], fragment: true, ..head.clone() });
            }
        }
        room = room.saturating_sub(bytes);
    }
    if let Some(last) = parts.last_mut() {
        last.fragment = false;
    }
    parts
}

fn event_bytes(event: &mvccpb::Event) -> usize {
    let len = event.encoded_len();
    len + prost::length_delimiter_len(len) + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fragments_keep_every_event_and_the_last_says_so() {
        let event = |n: u8| mvccpb::Event {
            kv: Some(mvccpb::KeyValue { value: vec![n; 100].into(), ..Default::default() }),
            ..Default::default()
        };
        let events: Vec<_> = (0..10).map(event).collect();
        let response = pb::WatchResponse { watch_id: 3, events: events.clone(), ..Default::default() };
        let parts = fragments(response, 350);
        assert!(parts.iter().all(|p| p.encoded_len() <= 350 && p.watch_id == 3));
        assert_eq!(parts.iter().map(|p| p.fragment).collect::<Vec<_>>(), [true, true, true, false]);
        assert_eq!(parts.into_iter().flat_map(|p| p.events).collect::<Vec<_>>(), events);
    }
}
