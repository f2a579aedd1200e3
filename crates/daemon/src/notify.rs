//! Readiness for systemd's `Type=notify`; without a notify socket these do nothing.

use sd_notify::NotifyState;

fn send(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "could not notify the service manager");
    }
}

/// The daemon serves.
pub fn ready() {
    send(&[NotifyState::Ready]);
}

/// The daemon drains.
pub fn stopping() {
    send(&[NotifyState::Stopping]);
}
