//! What the tables hold, for people.

use std::net::IpAddr;

use cleat_bpf::{Flow, FlowKey, V4, V6};

use super::{HOOKS, Host, ROUTES, SETTINGS};
use crate::calc::ListId;
use crate::daemon::flows;
use crate::dataplane;
use crate::netlink::RouteKey;
use crate::output::answers;
use crate::reconcile::Drift;

impl Host {
    /// How often each line of a list was met.
    pub(in crate::daemon) fn hits(&self, list: ListId) -> Vec<u64> {
        self.render.hits(list, &self.tables.arena)
    }

    /// At most `limit` flows, perhaps only of one address.
    pub(in crate::daemon) fn flows(
        &self,
        limit: usize,
        address: Option<IpAddr>,
    ) -> Result<Vec<answers::Flow>, String> {
        let now = dataplane::monotonic();
        let v4 = self
            .dataplane
            .flows::<V4>()
            .map_err(|error| error.to_string())?;
        let v6 = self
            .dataplane
            .flows::<V6>()
            .map_err(|error| error.to_string())?;
        let v4 = v4.list().map_err(|error| error.to_string())?;
        let v6 = v6.list().map_err(|error| error.to_string())?;
        let v4 = v4
            .iter()
            .map(|(key, flow): &(FlowKey<V4>, Flow)| flows::describe(key, flow, now));
        let v6 = v6
            .iter()
            .map(|(key, flow): &(FlowKey<V6>, Flow)| flows::describe(key, flow, now));
        let mut found: Vec<answers::Flow> = v4
            .chain(v6)
            .filter(|flow| {
                address.is_none_or(|address| flow.source == address || flow.destination == address)
            })
            .take(limit)
            .collect();
        let order = |flow: &answers::Flow| {
            (
                flow.source,
                flow.destination,
                flow.protocol.clone(),
                flow.source_port,
                flow.destination_port,
            )
        };
        found.sort_by_key(order);
        Ok(found)
    }

    /// Where the tables differ from what is wanted.
    pub(in crate::daemon) fn drift(&self) -> Vec<answers::Drift> {
        fn row<K, V: std::fmt::Debug>(
            table: &str,
            key: impl Fn(&K) -> String,
            drift: &Drift<'_, K, V>,
        ) -> answers::Drift {
            let show = |value: Option<&V>| value.map(|value| format!("{value:?}"));
            let actual = if drift.unknown {
                Some("unknown".to_owned())
            } else {
                show(drift.actual)
            };
            answers::Drift {
                table: table.to_owned(),
                key: key(drift.key),
                wanted: show(drift.wanted),
                actual,
                reason: String::new(),
            }
        }
        let maps = self
            .render
            .drift()
            .into_iter()
            .map(|(table, key, wanted, actual)| answers::Drift {
                table: table.to_owned(),
                key,
                wanted,
                actual,
                reason: String::new(),
            });
        maps.chain(
            self.routes
                .drift()
                .map(|drift| row(ROUTES, |key: &RouteKey| key.net.to_string(), &drift)),
        )
        .chain(
            self.settings
                .drift()
                .map(|drift| row(SETTINGS, String::clone, &drift)),
        )
        .chain(
            self.hooks
                .drift()
                .map(|drift| row(HOOKS, |index| self.name_of(*index), &drift)),
        )
        .collect()
    }
}
