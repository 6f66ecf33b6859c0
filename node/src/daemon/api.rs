//! The API: HTTP and JSON on a unix socket. Everything is asked for with GET, but for the one thing that is done.
//!
//! | path | answer |
//! | --- | --- |
//! | `/v1/status` | [`answers::Status`] |
//! | `/v1/endpoints` | [`answers::Endpoint`]s |
//! | `/v1/endpoint?name=` | one, by `namespace/name`, name or interface |
//! | `/v1/policy?endpoint=` | [`answers::EndpointPolicy`] |
//! | `/v1/conntrack?limit=&address=` | [`answers::Flow`]s |
//! | `/v1/parameters` | [`answers::Parameter`]s |
//! | `/v1/drift` | [`answers::Drift`]s |
//! | `/v1/store` | [`answers::StoreStatus`] |
//! | POST `/v1/store/accept` | [`answers::Accepted`] |
//! | `/v1/bgp/peers` | [`answers::Peer`]s |
//! | `/v1/bgp/routes?table=&peer=&family=&prefix=&limit=` | [`answers::Route`]s |
//!
//! What the owner knows, the owner answers; what the speaker knows, the speaker.

use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::Context as _;
use cleat_datastore::store::HoldHandle;
use hyper::{Method, StatusCode};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot};

use super::Event;
use super::http::{self, Ask, Reply};
use super::keeper::Notes;
use super::sessions::Sessions;
use crate::output::answers;

/// The socket's name in the configuration's `runPath`.
pub const SOCKET: &str = "api.sock";

/// What the owner is asked. An answer that is not wanted any more is dropped.
#[derive(Debug)]
pub enum Question {
    /// How the daemon is, without the peers.
    Status(oneshot::Sender<answers::Status>),
    /// This host's endpoints.
    Endpoints(oneshot::Sender<Vec<answers::Endpoint>>),
    /// The rules of an endpoint; `Err` when there is none of that name.
    Policy(
        String,
        oneshot::Sender<Result<answers::EndpointPolicy, String>>,
    ),
    /// At most so many flows, perhaps only of one address.
    Flows {
        /// At most so many.
        limit: usize,
        /// From or to this address.
        address: Option<IpAddr>,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<Vec<answers::Flow>, String>>,
    },
    /// What is not as it should be.
    Drift(oneshot::Sender<Vec<answers::Drift>>),
    /// Felix's parameters.
    Parameters(oneshot::Sender<Vec<answers::Parameter>>),
}

/// What the API needs of the store.
#[derive(Debug, Clone)]
pub struct StoreSide {
    /// The watch's hold.
    pub hold: HoldHandle,
    /// The way to the thread that keeps the last good state, if there is one.
    pub notes: Option<Notes>,
}

/// Binds the socket, replacing one that a former run left, and serves until the runtime ends.
///
/// Its mode is 0660: whoever is in the socket's group may ask, and may accept a store that is held.
pub fn start(
    directory: &Path,
    owner: mpsc::Sender<Event>,
    sessions: Sessions,
    store: StoreSide,
) -> anyhow::Result<()> {
    std::fs::create_dir_all(directory)
        .with_context(|| format!("create runPath {}", directory.display()))?;
    let path = directory.join(SOCKET);
    if std::os::unix::net::UnixStream::connect(&path).is_ok() {
        anyhow::bail!(
            "another daemon answers at {}; set another runPath or stop it",
            path.display()
        );
    }
    let _ = std::fs::remove_file(&path);
    let listener =
        UnixListener::bind(&path).with_context(|| format!("listen on {}", path.display()))?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o660))?;
    tokio::spawn(accept(listener, owner, sessions, store));
    Ok(())
}

async fn accept(
    listener: UnixListener,
    owner: mpsc::Sender<Event>,
    sessions: Sessions,
    store: StoreSide,
) {
    let connections = http::connections();
    loop {
        let Ok(permit) = connections.clone().acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let (owner, sessions, store) = (owner.clone(), sessions.clone(), store.clone());
                tokio::spawn(async move {
                    let answer = |ask| answer(ask, owner.clone(), sessions.clone(), store.clone());
                    http::serve(stream, answer).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the API cannot accept");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

async fn answer(
    ask: Ask,
    owner: mpsc::Sender<Event>,
    sessions: Sessions,
    store: StoreSide,
) -> Reply {
    let answer = match ask.method {
        Method::POST => change(&ask, &store),
        _ => route(&ask, &owner, &sessions, &store).await,
    };
    match answer {
        Ok(reply) | Err(reply) => reply,
    }
}

async fn route(
    ask: &Ask,
    owner: &mpsc::Sender<Event>,
    sessions: &Sessions,
    store: &StoreSide,
) -> Result<Reply, Reply> {
    Ok(match ask.path.as_str() {
        "/v1/status" => {
            let mut status = question(owner, Question::Status).await?;
            status.peers = sessions.count().await;
            status.problems.extend(sessions.problems().await);
            Reply::json(&status)
        }
        "/v1/endpoints" => Reply::json(&question(owner, Question::Endpoints).await?),
        "/v1/endpoint" => {
            let name = required(ask, "name")?;
            let endpoints = question(owner, Question::Endpoints).await?;
            match endpoints
                .into_iter()
                .find(|endpoint| is_called(endpoint, name))
            {
                Some(endpoint) => Reply::json(&endpoint),
                None => missing(name),
            }
        }
        "/v1/policy" => {
            let name = required(ask, "endpoint")?.to_owned();
            match question(owner, |reply| Question::Policy(name.clone(), reply)).await? {
                Ok(policy) => Reply::json(&policy),
                Err(reason) if reason.is_empty() => missing(&name),
                Err(reason) => Reply::text(StatusCode::INTERNAL_SERVER_ERROR, reason),
            }
        }
        "/v1/conntrack" => {
            let limit = optional(ask, "limit")?
                .unwrap_or(MAX_ANSWERS)
                .min(MAX_ANSWERS);
            let address = optional(ask, "address")?;
            match question(owner, |reply| Question::Flows {
                limit,
                address,
                reply,
            })
            .await?
            {
                Ok(flows) => Reply::json(&flows),
                Err(reason) => Reply::text(StatusCode::INTERNAL_SERVER_ERROR, reason),
            }
        }
        "/v1/parameters" => Reply::json(&question(owner, Question::Parameters).await?),
        "/v1/drift" => Reply::json(&question(owner, Question::Drift).await?),
        "/v1/store" => Reply::json(&answers::StoreStatus {
            store: question(owner, Question::Status).await?.store,
            kept: store.notes.as_ref().map(Notes::kept),
        }),
        "/v1/bgp/peers" => Reply::json(&sessions.peers().await),
        "/v1/bgp/routes" => {
            let table = ask.get("table").unwrap_or("best");
            let limit = optional(ask, "limit")?
                .unwrap_or(MAX_ANSWERS)
                .min(MAX_ANSWERS);
            let (peer, prefix) = (optional(ask, "peer")?, optional(ask, "prefix")?);
            let routes = sessions
                .routes(table, peer, ask.get("family"), prefix, limit)
                .await;
            Reply::json(&routes.map_err(|reason| Reply::text(StatusCode::BAD_REQUEST, reason))?)
        }
        _ => return Err(unknown()),
    })
}

fn change(ask: &Ask, store: &StoreSide) -> Result<Reply, Reply> {
    match ask.path.as_str() {
        "/v1/store/accept" => {
            let accepted = store.hold.accept();
            if accepted {
                tracing::warn!("an operator has accepted the store as it is");
            }
            Ok(Reply::json(&answers::Accepted { accepted }))
        }
        _ => Err(unknown()),
    }
}

fn unknown() -> Reply {
    Reply::text(
        StatusCode::NOT_FOUND,
        "the daemon does not know this question; is it older than this command?\n",
    )
}

/// True when a user who says `name` means this endpoint.
pub(super) fn is_called(endpoint: &answers::Endpoint, name: &str) -> bool {
    endpoint.name == name
        || endpoint.interface == name
        || format!("{}/{}", endpoint.namespace, endpoint.name) == name
}

async fn question<T>(
    owner: &mpsc::Sender<Event>,
    ask: impl FnOnce(oneshot::Sender<T>) -> Question,
) -> Result<T, Reply> {
    let stopping = || Reply::text(StatusCode::SERVICE_UNAVAILABLE, "the daemon is stopping\n");
    let (reply, answer) = oneshot::channel();
    owner
        .send(Event::Ask(ask(reply)))
        .await
        .map_err(|_| stopping())?;
    answer.await.map_err(|_| stopping())
}

fn required<'a>(ask: &'a Ask, key: &str) -> Result<&'a str, Reply> {
    ask.get(key)
        .ok_or_else(|| Reply::text(StatusCode::BAD_REQUEST, format!("{key} is required\n")))
}

fn optional<T: std::str::FromStr<Err: std::fmt::Display>>(
    ask: &Ask,
    key: &str,
) -> Result<Option<T>, Reply> {
    let parse = |text: &str| {
        text.parse()
            .map_err(|error| Reply::text(StatusCode::BAD_REQUEST, format!("{key}: {error}\n")))
    };
    ask.get(key).map(parse).transpose()
}

fn missing(name: &str) -> Reply {
    let text =
        format!("no endpoint of this host is called {name:?}; `cleat endpoint list` lists them\n");
    Reply::text(StatusCode::NOT_FOUND, text)
}

/// What one answer holds at most, whatever is asked for.
const MAX_ANSWERS: usize = 100_000;
