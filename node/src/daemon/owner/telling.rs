//! What others are told of this host: the state of its endpoints, and answers to CalicoNodeStatus.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use cleat_datastore::status::{EndpointId, EndpointState};
use cleat_datastore::{Kind, Resource};
use tokio::sync::watch;

use super::Owner;
use crate::calc::Route;
use crate::daemon::node_status::{Asked, Spec};
use crate::daemon::report::{Endpoint, Wanted};

/// The ways to the tasks that tell.
pub(in crate::daemon) struct Telling {
    reports: watch::Sender<Option<Arc<Wanted>>>,
    asked: watch::Sender<Arc<Asked>>,
}

/// The ends of the ways.
pub(in crate::daemon) struct Heard {
    pub(in crate::daemon) reports: watch::Receiver<Option<Arc<Wanted>>>,
    pub(in crate::daemon) asked: watch::Receiver<Arc<Asked>>,
}

/// Both ends.
pub(in crate::daemon) fn channels() -> (Telling, Heard) {
    let (reports, wanted) = watch::channel(None);
    let (asked, asks) = watch::channel(Arc::default());
    let heard = Heard {
        reports: wanted,
        asked: asks,
    };
    (Telling { reports, asked }, heard)
}

impl Owner {
    /// Says how this host is, if that is another way than before. Not before the tables were written once: what is not
    /// programmed yet is not down.
    pub(super) fn tell_others(&self) {
        if !self.known.is_whole() || !self.told.ready {
            return;
        }
        let wanted = Arc::new(self.wanted());
        self.telling.reports.send_if_modified(|old| {
            let changed = old.as_ref() != Some(&wanted);
            *old = Some(wanted);
            changed
        });
        let asked = Arc::new(self.asked());
        self.telling.asked.send_if_modified(|old| {
            let changed = *old != asked;
            *old = asked;
            changed
        });
    }

    fn wanted(&self) -> Wanted {
        let mut endpoints = BTreeMap::new();
        for local in self.graph.local_endpoints() {
            let namespace = local.key.namespace().unwrap_or_default();
            if let Some(Resource::WorkloadEndpoint(endpoint)) =
                self.known.get(&local.key).map(AsRef::as_ref)
                && let Some(id) = EndpointId::of(namespace, &endpoint.spec)
            {
                let state = self.host.endpoint_state(&local.interface);
                endpoints.insert(id, Endpoint::new(&endpoint.spec, state));
            }
        }
        let node = self.config.nodename.as_str();
        let own = self.known.of_kind(Kind::HostEndpoint);
        let own = own.filter(|(_, resource)| {
            matches!(&***resource, Resource::HostEndpoint(endpoint) if endpoint.spec.node == node)
        });
        Wanted {
            settings: self.parameters.settings().reporting,
            endpoints,
            // Policy of host endpoints is not programmed by this version, which must not pass for "up".
            host_endpoints: own
                .map(|(key, _)| (key.name().to_owned(), EndpointState::Error))
                .collect(),
            quiet: self.known.is_frozen(),
        }
    }

    fn asked(&self) -> Asked {
        let node = self.config.nodename.as_str();
        let asking = self.known.of_kind(Kind::CalicoNodeStatus);
        let objects: BTreeMap<String, Spec> = asking
            .filter_map(|(key, resource)| Some((key.name().to_owned(), Spec::of(resource, node)?)))
            .collect();
        if objects.is_empty() {
            return Asked::default();
        }
        let local = self.graph.plan().routes.iter();
        let local = local.map(|(prefix, route)| {
            let interface = match route {
                Route::Dev(name) => Some(name.to_string()),
                Route::Blackhole => None,
            };
            (*prefix, interface)
        });
        let links: BTreeMap<IpAddr, String> = self.host.addresses().collect();
        Asked {
            objects,
            local: local.collect(),
            links,
            quiet: self.known.is_frozen(),
        }
    }
}
