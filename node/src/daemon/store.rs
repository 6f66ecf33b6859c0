//! Opens the store that the configuration names.

use std::sync::Arc;

use anyhow::Context as _;
use cleat_datastore::store::{AnyStore, Dir, Etcd, EtcdConfig, Memory};

use crate::config::{Datastore, StoreKind};

/// Opens the store. It need not answer yet.
pub fn open(config: &Datastore) -> anyhow::Result<AnyStore> {
    Ok(match config.kind() {
        StoreKind::Dir => {
            let path = &config.path;
            std::fs::create_dir_all(path)
                .with_context(|| format!("create datastore.path {}", path.display()))?;
            Arc::new(Dir::new(path))
        }
        StoreKind::Etcd => Arc::new(Etcd::new(etcd(config))),
        StoreKind::Memory => Arc::new(Memory::new()),
    })
}

/// How to reach the etcd that the configuration names.
pub fn etcd(config: &Datastore) -> EtcdConfig {
    let mut etcd = EtcdConfig::new(&config.endpoints);
    etcd.user = config.username.clone().zip(config.password.clone());
    etcd.ca_file.clone_from(&config.ca_file);
    etcd.cert_file.clone_from(&config.cert_file);
    etcd.key_file.clone_from(&config.key_file);
    etcd.ca_pem.clone_from(&config.ca_cert);
    etcd.cert_pem.clone_from(&config.cert);
    etcd.key_pem.clone_from(&config.key);
    etcd
}
