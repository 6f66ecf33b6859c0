//! The log: standard error, which the service manager keeps.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::{Format, Log};

/// Starts logging. `CLEAT_LOG` holds a finer filter than the configuration's level, such as `info,cleat_bgp=debug`.
pub(super) fn start(log: &Log) {
    let filter =
        EnvFilter::try_from_env("CLEAT_LOG").unwrap_or_else(|_| EnvFilter::new(log.level.as_str()));
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let registry = tracing_subscriber::registry().with(filter);
    // The journal has its own clock.
    let journal = std::env::var_os("JOURNAL_STREAM").is_some();
    let color = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let started = match (log.format, journal) {
        (Format::Json, _) => registry.with(layer.json()).try_init(),
        (Format::Text, true) => registry
            .with(layer.with_ansi(false).without_time())
            .try_init(),
        (Format::Text, false) => registry.with(layer.with_ansi(color)).try_init(),
    };
    if let Err(error) = started {
        tracing::debug!(%error, "the log was started before");
    }
}
