//! The store that a command works on.

use std::sync::Arc;

use cleat_datastore::ipam::kv::Kv;
use cleat_datastore::ipam::{EtcdKv, Ipam};
use cleat_datastore::store::{AnyStore, Etcd};

use super::{Args, Code, Failure, settings};
use crate::config::StoreKind;

/// A store, and the keys under it where it has any.
pub(super) struct Session {
    /// The store.
    pub(super) store: AnyStore,
    etcd: Option<Arc<Etcd>>,
}

impl Session {
    /// Address management; a directory has none.
    pub(super) fn ipam(&self) -> Option<Ipam<Arc<dyn Kv>>> {
        self.kv().map(Ipam::new)
    }

    /// The keys themselves; a directory has none.
    pub(super) fn kv(&self) -> Option<Arc<dyn Kv>> {
        let etcd = self.etcd.clone()?;
        Some(Arc::new(EtcdKv::new(etcd)))
    }
}

/// Opens the store that the configuration names and works on it.
pub(super) fn with_store<T>(
    args: &Args,
    work: impl AsyncFnOnce(Session) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let loaded = settings::load(args)?;
    if loaded.config.datastore.kind() == StoreKind::Memory {
        return Err(Failure::new(
            Code::Usage,
            "datastore.type memory lives inside the daemon and cannot be reached; use dir or etcd",
        ));
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let config = &loaded.config.datastore;
        if config.kind() == StoreKind::Etcd {
            let etcd = Arc::new(Etcd::new(crate::daemon::store::etcd(config)));
            let store = etcd.clone();
            return work(Session {
                store,
                etcd: Some(etcd),
            })
            .await;
        }
        let store = crate::daemon::store::open(config).map_err(|error| {
            Failure::new(
                Code::NoStore,
                format!("{error:#}; `cleat config show` tells which store is used"),
            )
        })?;
        work(Session { store, etcd: None }).await
    })
}
