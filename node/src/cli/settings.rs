//! The configuration as the command line needs it.

use std::path::PathBuf;

use hyper::Method;

use super::{Args, Code, Failure, note, print};
use crate::config::{self, Loaded};
use crate::felix::{Effective, Used};
use crate::output::{Format, Table, answers, structured};

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

/// Every value with its origin: cleat's own fields, and Felix's parameters as the daemon has merged them.
pub(super) fn show(args: &Args) -> Result<String, Failure> {
    let loaded = load(args)?;
    let parameters: Vec<answers::Parameter> =
        match super::ask::send(args, Method::GET, "/v1/parameters") {
            Ok(parameters) => parameters,
            Err(failure) if failure.code == Code::NoDaemon => {
                note("the daemon does not answer: what FelixConfigurations say is not shown");
                Effective::of_host(&loaded.felix).list()
            }
            Err(failure) => return Err(failure),
        };
    let fields = loaded.effective().into_iter().map(|(key, value, origin)| {
        // What is a parameter of Felix too is told as the daemon has it.
        let parameter = config::parameter_of(&key);
        let merged = parameter.and_then(|name| {
            let known = parameters.iter().find(|known| known.name == name)?;
            let weaker = ["default", "file"]
                .iter()
                .any(|own| known.source.starts_with(own));
            (!weaker).then_some(known)
        });
        let (value, origin) = match merged {
            Some(known) => (known.value.clone(), known.source.clone()),
            None => (value, origin.to_string()),
        };
        let used = if config::is_live(&key) {
            Used::Live
        } else {
            Used::AtStart
        };
        (key, value, origin, used)
    });
    let fields: Vec<(String, String, String, Used)> = fields.collect();
    if matches!(args.format(), Format::Json | Format::Yaml) {
        let mut values: serde_json::Map<String, serde_json::Value> = fields
            .into_iter()
            .map(|(key, value, origin, used)| {
                let field =
                    serde_json::json!({"value": value, "origin": origin, "used": used.to_string()});
                (key, field)
            })
            .collect();
        values.insert(
            "felix".to_owned(),
            serde_json::to_value(&parameters).unwrap_or_default(),
        );
        return Ok(structured(args.format(), &values));
    }
    Ok(print(args, &(), |()| {
        let mut table = Table::new(&["FIELD", "VALUE", "ORIGIN", "USED"]);
        for (key, value, origin, used) in fields {
            table.row([key, value, origin, used.to_string()]);
        }
        let told = |parameter: &&answers::Parameter| {
            let set = !["default", "cleat"].contains(&parameter.source.as_str());
            !config::has_field(&parameter.name) && (set || parameter.used != Used::No.to_string())
        };
        for parameter in parameters.iter().filter(told) {
            let name = if parameter.field.is_empty() {
                &parameter.name
            } else {
                &parameter.field
            };
            table.row([
                format!("felix.{name}"),
                parameter.value.clone(),
                parameter.source.clone(),
                parameter.used.clone(),
            ]);
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
