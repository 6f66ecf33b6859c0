//! The command line: one binary whose subcommands run the daemon, ask it over its socket, or work on the store.
//!
//! The grammar and the sentences are calicoctl's, because its users have them in their fingers and in their scripts. What is
//! asked for goes to standard output, notes for people to standard error, and the exit code is one of [`Code`].

mod args;
mod ask;
mod columns;
mod documents;
mod edit;
mod get;
mod ipam;
mod outcome;
mod remove;
mod resource_args;
mod selection;
mod session;
mod settings;
mod store_state;
mod transfer;
mod write;

use std::io::Write as _;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

pub use args::Args;
use args::{
    BgpCommand, Command, ConfigCommand, ConntrackCommand, EndpointCommand, Output, PolicyCommand,
    ShowCommand,
};

use cleat_datastore::ipam::IpamError;
use cleat_datastore::store::StoreError;

use crate::config::Loaded;
use crate::output::{Format, Table, structured};

/// What an exit code tells a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// The answer is no, or the operation failed.
    Failed = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// The daemon does not answer on its socket.
    NoDaemon = 3,
    /// The store does not answer.
    NoStore = 4,
    /// Somebody else changed the object meanwhile, or it is there already.
    Conflict = 5,
    /// Refused for safety.
    Refused = 6,
}

/// An error with its exit code.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub code: Code,
    /// What to print; ends with what to do next where there is something.
    pub message: String,
    /// The message is a whole sentence, in the words of calicoctl, that wants nothing before it.
    whole: bool,
}

impl Failure {
    fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            whole: false,
        }
    }

    /// One whose message stands for itself.
    fn told(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            whole: true,
        }
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        let error = error.into();
        if let Some(refused) = error.downcast_ref::<StoreError>() {
            outcome::explain(outcome::Verb::Apply, refused)
        } else if let Some(refused) = error.downcast_ref::<IpamError>() {
            ipam::failure(refused)
        } else {
            Self::new(Code::Failed, format!("{error:#}"))
        }
    }
}

/// Reads the process's arguments and does what they say.
pub fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => error.exit(),
    };
    match dispatch(&args) {
        Ok(output) => {
            emit(&output);
            ExitCode::SUCCESS
        }
        Err(failure) => {
            let before = if failure.whole { "" } else { "error: " };
            let _ = writeln!(std::io::stderr(), "{before}{}", failure.message.trim_end());
            ExitCode::from(failure.code as u8)
        }
    }
}

fn dispatch(args: &Args) -> Result<String, Failure> {
    printable(args)?;
    match &args.command {
        Command::Run => {
            let loaded = settings::load(args)?;
            let (config, hostname) = (args.config.clone(), settings::hostname());
            crate::daemon::run(&loaded, move || {
                Loaded::from_host(config.as_deref(), &hostname).map_err(|error| error.to_string())
            })?;
            Ok(String::new())
        }
        Command::Create(create) => write::create(args, create),
        Command::Apply(sources) => write::apply(args, sources),
        Command::Replace(sources) => write::replace(args, sources),
        Command::Patch(patch) => edit::patch(args, patch),
        Command::Label(label) => edit::label(args, label),
        Command::Delete(delete) => remove::delete(args, delete),
        Command::Get(get) => get::get(args, get),
        Command::Export => transfer::export(args),
        Command::Import(import) => transfer::import(args, import),
        Command::Validate(sources) => write::validate(args, sources),
        Command::Status => ask::status(args),
        Command::Store { command } => store_state::run(args, *command),
        Command::Bgp {
            command: BgpCommand::Peers,
        } => ask::peers(args),
        Command::Bgp {
            command: BgpCommand::Routes(routes),
        } => ask::routes(args, routes),
        Command::Endpoint {
            command: EndpointCommand::List,
        } => ask::endpoints(args),
        Command::Endpoint {
            command: EndpointCommand::Show { endpoint },
        } => ask::endpoint(args, endpoint),
        Command::Policy {
            command: PolicyCommand::Show { endpoint },
        } => ask::policy(args, endpoint),
        Command::Conntrack {
            command: ConntrackCommand::List { limit, address },
        } => ask::flows(args, *limit, *address),
        Command::Show {
            command: ShowCommand::Drift,
        } => ask::drift(args),
        Command::Ipam { command } => ipam::run(args, command),
        Command::Config {
            command: ConfigCommand::Show,
        } => settings::show(args),
        Command::Config {
            command: ConfigCommand::Reference,
        } => Ok(crate::config::reference()),
        Command::Version => Ok(version(args)),
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Args::command(), "cleat", &mut script);
            Ok(String::from_utf8_lossy(&script).into_owned())
        }
    }
}

/// Whether the command can print in the form that was asked for.
fn printable(args: &Args) -> Result<(), Failure> {
    let usage = |message: String| Err(Failure::new(Code::Usage, message));
    match (&args.output, &args.command) {
        (Output::Other(_), Command::Export) | (Output::Columns(_), Command::Get(_)) => Ok(()),
        (_, Command::Export) if args.output != Output::Ps => {
            usage("-o names the file of `cleat export`, whose form is always the same; write -o ./json".to_owned())
        }
        (Output::Columns(_), _) => usage("custom-columns are for `cleat get`".to_owned()),
        (Output::Other(text), _) if text.starts_with("go-template") => usage(
            "there are no Go templates here; custom-columns=HEAD:.path.of.field prints single values, and `-o json` is \
             for jq"
                .to_owned(),
        ),
        (Output::Other(text), _) if text.starts_with("custom-columns") => {
            usage("need to specify at least one column, as in custom-columns=NAME".to_owned())
        }
        (Output::Other(text), _) => usage(format!(
            "unrecognized output format '{text}'; one of ps, wide, json, yaml, name, custom-columns=..."
        )),
        _ => Ok(()),
    }
}

fn version(args: &Args) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let revision = option_env!("CLEAT_REVISION").unwrap_or("unknown");
    match args.format() {
        Format::Table | Format::Wide | Format::Name => {
            format!("cleat {version} (revision {revision})\n")
        }
        format @ (Format::Json | Format::Yaml) => structured(
            format,
            &serde_json::json!({"version": version, "revision": revision}),
        ),
    }
}

/// Prints the struct for a program, or the table made of it for a person.
fn print<T: serde::Serialize>(args: &Args, value: &T, table: impl FnOnce(&T) -> Table) -> String {
    match args.format() {
        Format::Table | Format::Wide | Format::Name => {
            let table = table(value);
            if table.is_empty() {
                note("nothing found");
            }
            table.render(!args.no_headers)
        }
        format @ (Format::Json | Format::Yaml) => structured(format, value),
    }
}

/// Writes to standard output. A reader that has seen enough closes the pipe; that is no error of ours.
fn emit(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// Tells a person something that is not the answer.
fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn every_command_has_help_worth_reading() {
        fn check(path: &str, command: &clap::Command) {
            for sub in command
                .get_subcommands()
                .filter(|sub| sub.get_name() != "help")
            {
                let path = format!("{path} {}", sub.get_name());
                assert!(sub.get_about().is_some(), "{path} has no description");
                if !sub.has_subcommands() {
                    let after = sub
                        .get_after_help()
                        .map(ToString::to_string)
                        .unwrap_or_default();
                    assert!(
                        after.contains("Examples:") || after.contains("Example:"),
                        "{path} has no example"
                    );
                }
                check(&path, sub);
            }
        }
        check("cleat", &Args::command());
    }
}
