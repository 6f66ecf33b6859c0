//! Which of the kernel's routes are ours: those with our protocol number, and those with the number it was before.

use super::{Host, Wisher};
use crate::netlink::{RouteKey, Routes, Way};
use crate::reconcile::Table as _;

impl Host {
    /// Reads the kernel's routes and takes over what a former run left among them.
    pub(super) fn adopt_routes(&mut self) -> std::io::Result<()> {
        let mut table = Routes::new(
            &mut self.netlink,
            self.config.route_protocol,
            &mut self.our_routes,
        );
        self.routes.resync(&mut table)?;
        if !self.former {
            return Ok(());
        }
        let left = |fits: fn(&Way) -> bool| -> Vec<(RouteKey, Way)> {
            let found = self.routes.actual().filter(|(_, way)| fits(way));
            found.map(|(key, way)| (*key, way.clone())).collect()
        };
        let kept = left(|way| matches!(way, Way::Via(_)));
        self.past = left(|way| matches!(way, Way::Dev { .. } | Way::Blackhole));
        self.adopted |= self.routes.actual().next().is_some();
        let routes = &mut self.routes;
        self.wishes.replace(&Wisher::Former, kept, |key, way| {
            routes.want(*key, way.cloned());
        });
        Ok(())
    }

    /// Notes which routes have another protocol number than the one that is in force now, and reads those that have it.
    pub(super) fn mark_routes_anew(&mut self, former: u8) -> std::io::Result<()> {
        let old = self.our_routes.iter().map(|key| (*key, former));
        self.unmarked.extend(old);
        self.adopt_routes()
    }

    /// Drops the notes of routes that have the number by now, and removes those that nobody wants any more.
    pub(super) fn settle_marks(&mut self) {
        let Self {
            unmarked,
            routes,
            netlink,
            our_routes,
            ..
        } = self;
        unmarked.retain(|key, former| {
            if routes.actual_at(key).is_some() {
                return false;
            }
            if routes.wanted_at(key).is_some() {
                return true;
            }
            match Routes::new(netlink, *former, our_routes).delete(key) {
                Ok(()) => false,
                Err(error) => {
                    tracing::warn!(%error, route = %key.net, "a route of the former protocol number could not be removed");
                    true
                }
            }
        });
    }
}
