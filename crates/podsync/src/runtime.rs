//! What the container runtime says about one pod.

use jiff::Timestamp;

/// Newest first, both lists.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PodRuntime {
    pub sandboxes: Vec<Sandbox>,
    pub containers: Vec<Container>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Sandbox {
    pub id: String,
    pub attempt: u32,
    pub ready: bool,
    pub created_at: Timestamp,
    /// The primary address first; empty for a pod on the host's network.
    pub ips: Vec<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Container {
    pub id: String,
    pub sandbox_id: String,
    pub name: String,
    /// How often this container of the pod had been started before this instance.
    pub restart_count: u32,
    /// Of the spec it was created from; see [`crate::pod::container_hash`].
    pub hash: String,
    pub created_at: Timestamp,
    /// The reference the user wrote and what it resolved to.
    pub image: String,
    pub image_id: String,
    pub state: State,
}

#[derive(Debug, Clone, PartialEq)]
pub enum State {
    Created,
    Running { started_at: Timestamp },
    Exited(Exit),
    Unknown,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Exit {
    pub code: i32,
    pub reason: String,
    pub message: String,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
}

impl Container {
    pub fn is_running(&self) -> bool {
        matches!(self.state, State::Running { .. })
    }

    /// Anything that still may hold a process.
    pub fn may_run(&self) -> bool {
        matches!(self.state, State::Running { .. } | State::Unknown)
    }

    pub fn exit(&self) -> Option<&Exit> {
        if let State::Exited(exit) = &self.state { Some(exit) } else { None }
    }

    pub fn started_at(&self) -> Option<Timestamp> {
        match &self.state {
            State::Running { started_at } => Some(*started_at),
            State::Exited(exit) => exit.started_at,
            _ => None,
        }
    }
}

impl PodRuntime {
    /// The newest instance of a container, in whatever sandbox.
    pub fn latest(&self, name: &str) -> Option<&Container> {
        self.containers.iter().find(|c| c.name == name)
    }

    pub fn latest_in<'a>(&'a self, sandbox: &str, name: &str) -> Option<&'a Container> {
        self.containers.iter().find(|c| c.name == name && c.sandbox_id == sandbox)
    }

    /// The sandbox new containers go into, if the pod has a usable one.
    pub fn current_sandbox(&self, host_network: bool) -> Option<&Sandbox> {
        let mut ready = self.sandboxes.iter().filter(|s| s.ready);
        let newest = self.sandboxes.first()?;
        let only = ready.next().is_some() && ready.next().is_none();
        (only && newest.ready && (host_network || !newest.ips.is_empty())).then_some(newest)
    }

    pub fn is_empty(&self) -> bool {
        self.sandboxes.is_empty() && self.containers.is_empty()
    }

    pub fn any_running(&self) -> bool {
        self.containers.iter().any(Container::may_run)
    }
}
