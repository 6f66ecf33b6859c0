//! What two OPENs amount to.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use crate::Family;
use crate::config::{Config, PeerConfig};
use crate::wire::{
    Capability, Context, EXTENDED_MAX_LEN, GracefulRestartCapability, MAX_LEN, Notification, Open,
    code,
};

/// Everything that an OPEN or its judgement depends on. A session whose settings change is reset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    router_id: Ipv4Addr,
    local_as: u32,
    remote_as: u32,
    hold_time: u16,
    keepalive: Option<u16>,
    families: BTreeSet<Family>,
    extended_next_hop: bool,
    /// Seconds; `None`: no graceful restart.
    restart_time: Option<u16>,
}

/// What both sides agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Negotiated {
    /// How UPDATE is read and written.
    pub context: Context,
    /// The peer's BGP identifier.
    pub remote_id: Ipv4Addr,
    /// Seconds; 0: silence does not end the session.
    pub hold_time: u16,
    /// Seconds; 0: no keepalives.
    pub keepalive: u16,
    /// The peer sends its routes again when asked.
    pub route_refresh: bool,
    /// Graceful restart of the peer; `None` unless both sides announced it.
    pub restart: Option<PeerRestart>,
}

/// What the peer announced for its restarts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerRestart {
    /// The peer has just restarted.
    pub restarting: bool,
    /// Seconds in which it wants to be back.
    pub restart_time: u16,
    /// A NOTIFICATION keeps routes as well (RFC 8538).
    pub notification: bool,
    /// The families in which it can keep forwarding, and whether it did.
    pub families: BTreeMap<Family, bool>,
}

impl Settings {
    /// The settings of a configured peer.
    pub fn new(config: &Config, peer: &PeerConfig) -> Self {
        let seconds =
            |duration: std::time::Duration| u16::try_from(duration.as_secs()).unwrap_or(u16::MAX);
        let hold_time = match seconds(peer.hold_time) {
            0 => 0,
            hold_time => hold_time.max(MIN_HOLD_TIME),
        };
        Self {
            router_id: config.router_id,
            local_as: peer.local_as.unwrap_or(config.local_as),
            remote_as: peer.remote_as,
            hold_time,
            keepalive: peer.keepalive.map(|keepalive| seconds(keepalive).max(1)),
            families: peer.families.clone(),
            extended_next_hop: peer.extended_next_hop,
            restart_time: peer
                .graceful_restart
                .map(|restart| seconds(restart.restart_time).min(MAX_RESTART_TIME)),
        }
    }

    /// Our AS towards the peer.
    pub fn local_as(&self) -> u32 {
        self.local_as
    }

    /// The peer is in our AS.
    pub fn ibgp(&self) -> bool {
        self.local_as == self.remote_as
    }

    /// Our OPEN. `restarting`: routes of an earlier process are still in the kernel.
    pub fn open(&self, restarting: bool) -> Open {
        let mut capabilities: Vec<Capability> = self
            .families
            .iter()
            .copied()
            .map(Capability::family)
            .collect();
        capabilities.push(Capability::RouteRefresh);
        if self.extended_next_hop {
            capabilities.push(Capability::ExtendedNextHop(vec![V4_BY_V6]));
        }
        capabilities.push(Capability::ExtendedMessage);
        if let Some(restart_time) = self.restart_time {
            capabilities.push(Capability::GracefulRestart(GracefulRestartCapability {
                restarting,
                notification: true,
                restart_time,
                families: self
                    .families
                    .iter()
                    .map(|family| (family.afi(), 1, restarting))
                    .collect(),
            }));
        }
        capabilities.push(Capability::FourOctetAs(self.local_as));
        Open {
            my_as: self.local_as,
            hold_time: self.hold_time,
            router_id: self.router_id,
            capabilities,
        }
    }

    /// Judges the peer's OPEN (RFC 4271 §6.2, RFC 6286).
    pub fn negotiate(&self, open: &Open) -> Result<Negotiated, Notification> {
        let refuse = |subcode| Err(Notification::new(code::OPEN, subcode));
        if open.my_as != self.remote_as {
            return refuse(2);
        }
        if open.router_id.is_unspecified() || self.ibgp() && open.router_id == self.router_id {
            return refuse(3);
        }
        if (1..MIN_HOLD_TIME).contains(&open.hold_time) {
            return refuse(6);
        }
        let offer = Offer::read(&open.capabilities);
        let families: BTreeSet<Family> = self
            .families
            .intersection(&offer.families)
            .copied()
            .collect();
        if families.is_empty() {
            // RFC 5492 §5: the data are the capabilities that are missed.
            let missed: Vec<u8> = self
                .families
                .iter()
                .flat_map(|family| [1, 4, 0, family.afi() as u8, 0, 1])
                .collect();
            return Err(Notification::with_data(code::OPEN, 7, &missed));
        }
        let hold_time = self.hold_time.min(open.hold_time);
        let longest = hold_time / 3;
        Ok(Negotiated {
            context: Context {
                families,
                four_octet_as: open.four_octet_as().is_some(),
                extended_next_hop: self.extended_next_hop && offer.extended_next_hop,
                ibgp: self.ibgp(),
                max_len: if offer.extended_message {
                    EXTENDED_MAX_LEN
                } else {
                    MAX_LEN
                },
            },
            remote_id: open.router_id,
            hold_time,
            keepalive: self
                .keepalive
                .map_or(longest, |keepalive| keepalive.min(longest)),
            route_refresh: offer.route_refresh,
            restart: offer.restart.filter(|_| self.restart_time.is_some()),
        })
    }

    /// Whether, of two connections, the one that we made stays (RFC 4271 §6.8, RFC 6286 §2.3).
    pub fn ours_stays(&self, remote_id: Ipv4Addr) -> bool {
        (self.router_id, self.local_as) > (remote_id, self.remote_as)
    }
}

/// The capabilities of an OPEN, in the form that they are asked for.
#[derive(Default)]
struct Offer {
    families: BTreeSet<Family>,
    route_refresh: bool,
    extended_next_hop: bool,
    extended_message: bool,
    restart: Option<PeerRestart>,
}

impl Offer {
    fn read(capabilities: &[Capability]) -> Self {
        let mut offer = Self::default();
        let mut multiprotocol = false;
        for capability in capabilities {
            match capability {
                Capability::Multiprotocol { afi, safi } => {
                    multiprotocol = true;
                    offer.families.extend(Family::from_wire(*afi, *safi));
                }
                Capability::RouteRefresh => offer.route_refresh = true,
                Capability::ExtendedNextHop(entries) => {
                    offer.extended_next_hop |= entries.contains(&V4_BY_V6);
                }
                Capability::ExtendedMessage => offer.extended_message = true,
                Capability::GracefulRestart(restart) => {
                    // RFC 4724 §3: of several, the last counts.
                    offer.restart = Some(PeerRestart {
                        restarting: restart.restarting,
                        restart_time: restart.restart_time,
                        notification: restart.notification,
                        families: restart
                            .families
                            .iter()
                            .filter_map(|&(afi, safi, kept)| {
                                Some((Family::from_wire(afi, safi)?, kept))
                            })
                            .collect(),
                    });
                }
                Capability::FourOctetAs(_)
                | Capability::Fqdn { .. }
                | Capability::Unknown { .. } => {}
            }
        }
        if !multiprotocol {
            offer.families.insert(Family::Ipv4Unicast); // RFC 4760 §8: what a speaker without the capability does
        }
        offer
    }
}

/// The least hold time that is not "none" (RFC 4271 §4.2).
const MIN_HOLD_TIME: u16 = 3;
/// The restart time has twelve bits (RFC 4724 §3).
const MAX_RESTART_TIME: u16 = 4095;
/// IPv4 unicast by an IPv6 next hop (RFC 8950 §4).
const V4_BY_V6: (u16, u16, u16) = (1, 1, 2);
