//! Connections: which member, who asks, and the TLS files as they are now.

use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use etcd_client::{Certificate, Client, ConnectOptions, Identity, TlsOptions};

use super::{
    EtcdConfig, random,
    request::{Point, RequestError, limited},
};

/// A client of one member.
#[derive(Clone)]
pub(super) struct Connection {
    pub(super) client: Client,
    /// The store as the member that answered had it.
    pub(super) point: Point,
    /// The TLS files that it was made with.
    files: Vec<Option<Stamp>>,
}

/// What tells one state of a file from the next.
type Stamp = (u64, Option<SystemTime>);

pub(super) struct Connector {
    pub(super) config: EtcdConfig,
}

impl Connector {
    /// A new client of a member that answers, signed in, with the TLS files as they are now.
    ///
    /// A client of all members at once would send every so many requests to one that is away.
    pub(super) async fn connect(&self) -> Result<Connection, RequestError> {
        let config = &self.config;
        let members = config.endpoints.len();
        // All members get their turn within the time of one request.
        let each = config.request_timeout / u32::try_from(members.max(1)).unwrap_or(u32::MAX);
        let mut options = ConnectOptions::new()
            .with_connect_timeout(each)
            .with_keep_alive(Duration::from_secs(30), Duration::from_secs(10))
            .with_require_leader(true);
        if let Some((name, password)) = &config.user {
            options = options
                .with_user(name, password)
                .with_auto_token_refresh(true);
        }
        let files = self.stamps().await;
        if let Some(tls) = self.tls().await? {
            options = options.with_tls(tls);
        }
        let mut failure = RequestError::Other("no member of the cluster is named".to_owned());
        let first = random() as usize;
        for index in 0..members {
            let member = &config.endpoints[(first % members + index) % members];
            let connecting = async {
                let client = Client::connect([member], Some(options.clone())).await?;
                // Nothing has been sent yet, but perhaps to sign in. The answer proves a leader, too.
                let answer = client.kv_client().get(super::CALICO_ROOT, None).await?;
                Ok((client, answer))
            };
            match limited(each, Box::pin(connecting)).await {
                Ok((client, answer)) => {
                    return Ok(Connection {
                        client,
                        point: Point::of(&answer)?,
                        files,
                    });
                }
                Err(error) => failure = RequestError::Other(format!("{member}: {error}")),
            }
        }
        Err(failure)
    }

    /// A connection in place of one whose TLS files have changed, if it can be had.
    ///
    /// Files are replaced one after the other; what does not fit together is tried again later, and the
    /// old connection does until then.
    pub(super) async fn renew(&self, old: &Connection) -> Option<Connection> {
        if self.stamps().await == old.files {
            return None;
        }
        match Box::pin(self.connect()).await {
            Ok(new) => {
                tracing::info!("new certificates are in use");
                Some(new)
            }
            Err(error) => {
                tracing::warn!(%error, "the changed certificates cannot be used yet");
                None
            }
        }
    }

    async fn stamps(&self) -> Vec<Option<Stamp>> {
        let config = &self.config;
        let mut stamps = Vec::new();
        for path in [&config.ca_file, &config.cert_file, &config.key_file] {
            stamps.push(match path {
                Some(path) => stamp(path).await,
                None => None,
            });
        }
        stamps
    }

    async fn tls(&self) -> Result<Option<TlsOptions>, RequestError> {
        let config = &self.config;
        let ca = pem(config.ca_pem.as_deref(), config.ca_file.as_ref()).await?;
        let cert = pem(config.cert_pem.as_deref(), config.cert_file.as_ref()).await?;
        let key = pem(config.key_pem.as_deref(), config.key_file.as_ref()).await?;
        if ca.is_none() && cert.is_none() {
            return Ok(None);
        }
        let mut tls = TlsOptions::new();
        if let Some(ca) = ca {
            tls = tls.ca_certificate(Certificate::from_pem(ca));
        }
        match (cert, key) {
            (Some(cert), Some(key)) => tls = tls.identity(Identity::from_pem(cert, key)),
            (None, None) => {}
            (Some(_), None) => {
                let reason = "a client certificate is given without its key";
                return Err(RequestError::Other(reason.to_owned()));
            }
            (None, Some(_)) => {
                let reason = "a client's key is given without its certificate";
                return Err(RequestError::Other(reason.to_owned()));
            }
        }
        Ok(Some(tls))
    }
}

/// What is given in place, or else what the file holds.
async fn pem(text: Option<&str>, path: Option<&PathBuf>) -> Result<Option<Vec<u8>>, RequestError> {
    match (text, path) {
        (Some(text), _) => Ok(Some(text.as_bytes().to_vec())),
        (None, Some(path)) => match tokio::fs::read(path).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) => Err(RequestError::Other(format!("{}: {error}", path.display()))),
        },
        (None, None) => Ok(None),
    }
}

async fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = tokio::fs::metadata(path).await.ok()?;
    Some((metadata.len(), metadata.modified().ok()))
}
