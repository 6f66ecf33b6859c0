//! The log: standard error, which the service manager keeps.

use std::io::IsTerminal as _;

use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry, reload};

use crate::config::{Format, Level, Log};

/// The way to change how much is logged.
pub(super) struct Filter {
    handle: reload::Handle<EnvFilter, Registry>,
    /// `CLEAT_LOG` has the last word.
    fixed: bool,
    now: String,
}

impl Filter {
    /// Logs from this level on; what the speaker does, from a level of its own.
    pub(super) fn set(&mut self, level: Level, speaker: Option<Level>) {
        let mut wanted = level.as_str().to_owned();
        if let Some(speaker) = speaker {
            wanted = format!("{wanted},cleat_bgp={}", speaker.as_str());
        }
        if self.fixed || self.now == wanted {
            return;
        }
        match self.handle.reload(EnvFilter::new(&wanted)) {
            Ok(()) => tracing::info!(level = wanted, "the log's level is another"),
            Err(error) => tracing::warn!(%error, "the log's level could not be set"),
        }
        self.now = wanted;
    }
}

/// Starts logging. `CLEAT_LOG` holds a finer filter than the configuration's level, such as `info,cleat_bgp=debug`.
pub(super) fn start(log: &Log) -> Filter {
    let chosen = EnvFilter::try_from_env("CLEAT_LOG");
    let fixed = chosen.is_ok();
    let (filter, handle) =
        reload::Layer::new(chosen.unwrap_or_else(|_| EnvFilter::new(log.level.as_str())));
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
    Filter {
        handle,
        fixed,
        now: log.level.as_str().to_owned(),
    }
}
