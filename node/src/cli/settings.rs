//! The configuration as the command line needs it.

use std::path::PathBuf;

use super::{Args, Code, Failure, print};
use crate::config::Loaded;
use crate::output::{Format, Table, structured};

/// The configuration that the daemon would use.
pub(super) fn load(args: &Args) -> Result<Loaded, Failure> {
    Loaded::from_host(args.config.as_deref(), &hostname())
        .map_err(|error| Failure::new(Code::Usage, error.to_string()))
}

/// The daemon's socket.
pub(super) fn socket(args: &Args) -> Result<PathBuf, Failure> {
    match &args.socket {
        Some(path) => Ok(path.clone()),
        None => Ok(load(args)?.config.run_path.join(crate::daemon::api::SOCKET)),
    }
}

/// Every value with its origin.
pub(super) fn show(args: &Args) -> Result<String, Failure> {
    let loaded = load(args)?;
    let effective = loaded.effective();
    if matches!(args.format(), Format::Json | Format::Yaml) {
        let values: serde_json::Map<String, serde_json::Value> = effective
            .into_iter()
            .map(|(key, value, origin)| {
                (
                    key,
                    serde_json::json!({"value": value, "origin": origin.to_string()}),
                )
            })
            .collect();
        return Ok(structured(args.format(), &values));
    }
    Ok(print(args, &(), |()| {
        let mut table = Table::new(&["FIELD", "VALUE", "ORIGIN"]);
        for (key, value, origin) in effective {
            table.row([key, value, origin.to_string()]);
        }
        table
    }))
}

/// The name the kernel has for this host.
pub(super) fn hostname() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}
