//! The daemon's relation to its store: whether it is followed, held or away, and the last good state on disk.

use std::time::Duration;

use hyper::Method;

use super::args::StoreCommand;
use super::{Args, Code, Failure, ask, print};
use crate::output::{Format, Table, answers, duration, structured};

/// `cleat store`.
pub(super) fn run(args: &Args, command: StoreCommand) -> Result<String, Failure> {
    match command {
        StoreCommand::Status => status(args),
        StoreCommand::Accept => accept(args),
        StoreCommand::Lock => super::transfer::set_ready(args, false),
        StoreCommand::Unlock => super::transfer::set_ready(args, true),
    }
}

/// How the store is, in one line.
pub(super) fn words(store: &answers::Store) -> String {
    let mut words = Vec::new();
    words.push(match &store.snapshot {
        Some(snapshot) => format!(
            "running from the state on disk of {} ({} old)",
            snapshot.confirmed,
            duration(Duration::from_secs(snapshot.age_seconds))
        ),
        None if store.in_sync => "in sync".to_owned(),
        None => "not in sync".to_owned(),
    });
    if let Some(held) = &store.held {
        words.push(format!(
            "HELD for {}: {} of {} objects are missing, {} (cleat store accept)",
            duration(Duration::from_secs(held.since_seconds)),
            held.missing,
            held.known,
            held.reason
        ));
    }
    if store.frozen {
        words.push("frozen: ClusterInformation says datastoreReady: false".to_owned());
    }
    if !store.trouble.is_empty() {
        words.push(store.trouble.clone());
    }
    words.join(", ")
}

fn status(args: &Args) -> Result<String, Failure> {
    let status: answers::StoreStatus = ask::send(args, Method::GET, "/v1/store")?;
    let text = print(args, &status, table);
    if status.store.held.is_none() {
        return Ok(text);
    }
    super::emit(&text);
    Err(Failure::new(
        Code::Failed,
        "the store looks lost and is not obeyed; what is in force stays. It ends by itself when the store has its objects \
         again. If they are meant to be gone: cleat store accept",
    ))
}

fn table(status: &answers::StoreStatus) -> Table {
    let store = &status.store;
    let mut table = Table::new(&["FIELD", "VALUE"]);
    let mut row = |field: &str, value: String| table.row([field.to_owned(), value]);
    row("kind", store.kind.clone());
    row("state", words(store));
    row("revision", store.revision.to_string());
    if let Some(kept) = &status.kept {
        row("last good state", kept.path.clone());
        if kept.written.is_empty() {
            row("written", "not yet".to_owned());
        } else {
            row("written", kept.written.clone());
            row("confirmed", kept.confirmed.clone());
            row(
                "holds",
                format!(
                    "{} objects, revision {}, {} bytes",
                    kept.objects, kept.revision, kept.bytes
                ),
            );
        }
        if !kept.trouble.is_empty() {
            row("cannot be written", kept.trouble.clone());
        }
    }
    table
}

fn accept(args: &Args) -> Result<String, Failure> {
    let accepted: answers::Accepted = ask::send(args, Method::POST, "/v1/store/accept")?;
    Ok(match args.format() {
        format @ (Format::Json | Format::Yaml) => structured(format, &accepted),
        Format::Table | Format::Wide | Format::Name if accepted.accepted => {
            "the store is accepted as it is\n".to_owned()
        }
        Format::Table | Format::Wide | Format::Name => "nothing was held\n".to_owned(),
    })
}
