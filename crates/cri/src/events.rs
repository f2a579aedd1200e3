//! containerd's event service as a stream of "something about this container changed".
//!
//! CRI's own `GetContainerEvents` is missing in containerd 1.6, so the runtime's native stream is
//! read. It tells only whom to look at: state itself is always read through CRI.

use containerd_client::events::{TaskExit, TaskOom};
use containerd_client::services::v1::SubscribeRequest;
use containerd_client::services::v1::events_client::EventsClient;
use futures::stream::{Stream, StreamExt};
use prost::Message;

use crate::client::Client;

/// The containerd namespace CRI keeps everything in.
const CRI_NAMESPACE: &str = "k8s.io";

/// One noteworthy event; ids are those of containers and of sandboxes alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    Exited { id: String },
    OutOfMemory { id: String },
}

/// Subscribes; the stream ends when the connection does, and the caller subscribes again.
pub async fn subscribe(client: &Client) -> Result<impl Stream<Item = Event> + use<>, tonic::Status> {
    let filters = ["/tasks/exit", "/tasks/oom"]
        .map(|topic| format!("topic==\"{topic}\",namespace==\"{CRI_NAMESPACE}\""))
        .to_vec();
    let mut events = EventsClient::new(client.channel());
    let stream = events.subscribe(SubscribeRequest { filters }).await?.into_inner();
    let readable = stream.take_while(|item| futures::future::ready(item.is_ok()));
    Ok(readable.filter_map(|item| futures::future::ready(item.ok().and_then(|e| decode(&e.topic, &e.event?.value)))))
}

/// An exec's exit is no news: only the container's first process counts.
fn decode(topic: &str, body: &[u8]) -> Option<Event> {
    match topic {
        "/tasks/exit" => {
            let exit = TaskExit::decode(body).ok()?;
            (exit.id == exit.container_id).then_some(Event::Exited { id: exit.container_id })
        }
        "/tasks/oom" => Some(Event::OutOfMemory { id: TaskOom::decode(body).ok()?.container_id }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_init_process_counts() {
        let check = |topic: &str, container: &str, process: &str, expected: Option<Event>| {
            let exit = TaskExit { container_id: container.into(), id: process.into(), ..TaskExit::default() };
            assert_eq!(decode(topic, &exit.encode_to_vec()), expected, "{topic} {process}");
        };
        check("/tasks/exit", "a", "a", Some(Event::Exited { id: "a".into() }));
        check("/tasks/exit", "a", "exec-1", None);
        check("/tasks/oom", "a", "", Some(Event::OutOfMemory { id: "a".into() }));
        check("/tasks/start", "a", "a", None);
    }
}
