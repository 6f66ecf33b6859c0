//! What systemd is told: READY, STATUS, WATCHDOG, RELOADING, STOPPING. Without systemd all of it does nothing.

use std::time::Duration;

use sd_notify::NotifyState;

/// Says that the service works. `status` is shown by `systemctl status`.
pub fn ready(status: &str) {
    send(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Says how the service is.
pub fn status(status: &str) {
    send(&[NotifyState::Status(status)]);
}

/// Says that the service lives; to be called more often than [`watchdog_interval`].
pub fn watchdog() {
    send(&[NotifyState::Watchdog]);
}

/// Says that the configuration is read again; [`ready`] ends it.
pub fn reloading() {
    if let Ok(at) = NotifyState::monotonic_usec_now() {
        send(&[NotifyState::Reloading, at]);
    }
}

/// Says that the service ends.
pub fn stopping() {
    send(&[NotifyState::Stopping]);
}

/// How often systemd wants to hear of us, if at all: half of `WatchdogSec=`.
pub fn watchdog_interval() -> Option<Duration> {
    let usec: u64 = std::env::var("WATCHDOG_USEC").ok()?.parse().ok()?;
    let meant =
        std::env::var("WATCHDOG_PID").map_or(true, |pid| pid == std::process::id().to_string());
    (meant && usec > 0).then(|| Duration::from_micros(usec / 2))
}

fn send(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "systemd was not told");
    }
}
