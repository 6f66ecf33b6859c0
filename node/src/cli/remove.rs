//! `delete`, with what goes along with some resources.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::str::FromStr as _;
use std::time::Duration;

use cleat_datastore::ipam::{IpamError, Owner, ReleaseRequest};
use cleat_datastore::resource::NodeSpec;
use cleat_datastore::store::{self, Entry, Filter, StoreError};
use cleat_datastore::value::Cidr;
use cleat_datastore::{Key, Kind, Resource};
use serde_json::Value;

use super::outcome::{Outcome, Verb};
use super::resource_args::{Delete, Sources};
use super::selection::{self, Scope};
use super::session::{Session, with_store};
use super::write::{self, Refusal, same_uid, same_version, writable};
use super::{Args, Failure, get, note};
use crate::output::Format;

/// What to delete: its key, and the version and uid that it must have.
struct Doomed {
    key: Key,
    version: Option<String>,
    uid: Option<String>,
}

/// Deletes resources.
pub(super) fn delete(args: &Args, delete: &Delete) -> Result<String, Failure> {
    let selection = &delete.selection;
    let scope = Scope {
        namespace: selection.namespace.as_deref(),
        all: false,
    };
    let mut doomed: Vec<Doomed> = if selection.files.is_empty() {
        let keys = selection::keys(&selection.what, scope, "delete")?;
        keys.into_iter().map(Doomed::of).collect()
    } else {
        let sources = Sources {
            paths: selection.files.clone(),
            recursive: selection.recursive,
            skip_empty: selection.skip_empty,
            namespace: selection.namespace.clone(),
        };
        let Some(documents) = write::read(&sources, Verb::Delete)? else {
            return Ok(write::NOTHING.to_owned());
        };
        // What was applied last may refer to what was applied first.
        let objects = documents.objects.into_iter().rev();
        objects
            .map(|(key, resource)| Doomed {
                version: resource
                    .metadata()
                    .and_then(|metadata| metadata.resource_version.clone()),
                uid: resource
                    .metadata()
                    .and_then(|metadata| metadata.uid.clone()),
                key,
            })
            .collect()
    };
    doomed.sort_by_key(|doomed| turn(&doomed.key));
    with_store(args, async |session| {
        let mut outcome = Outcome::new(Verb::Delete, doomed.iter().map(|doomed| &doomed.key));
        let mut gone = Vec::new();
        for doomed in &doomed {
            let result = match remove(&session, doomed).await {
                Err(Refusal::Store(StoreError::NotFound(_))) if delete.skip_not_exists => Ok(()),
                Err(refusal) => Err(refusal.tell(Verb::Delete)),
                Ok(()) => {
                    gone.push(doomed.key.clone());
                    Ok(())
                }
            };
            if !outcome.note(result) {
                break;
            }
        }
        let (said, result) = outcome.finish();
        let said = if args.format() == Format::Name {
            get::names(gone.iter())
        } else {
            said
        };
        match result {
            Ok(()) => Ok(said),
            Err(failure) => {
                super::emit(&said);
                Err(failure)
            }
        }
    })
}

/// When it is an object's turn: a tier only goes without its policies, and a node takes others along.
fn turn(key: &Key) -> u8 {
    match key.kind() {
        Some(Kind::Node) => 2,
        Some(Kind::Tier) => 1,
        _ => 0,
    }
}

impl Doomed {
    fn of(key: Key) -> Self {
        Self {
            key,
            version: None,
            uid: None,
        }
    }
}

async fn remove(session: &Session, doomed: &Doomed) -> Result<(), Refusal> {
    let key = &doomed.key;
    writable(key)?;
    let current = session.store.get(key).await?;
    if let Some(current) = &current {
        same_version(current, doomed.version.as_deref())?;
        same_uid(current, key, doomed.uid.as_deref())?;
    }
    match key.kind() {
        Some(Kind::Tier) if store::is_fixed(key) => {
            return Err(StoreError::Fixed(key.clone()).into());
        }
        Some(Kind::Tier) => not_empty(session, key).await?,
        // Even without its resource a node may have left things behind.
        Some(Kind::Node) => node(session, key.name(), current.as_ref()).await?,
        Some(Kind::IpPool) => {
            if let Some(current) = &current {
                return pool(session, key, current, doomed.version.is_some()).await;
            }
        }
        _ => {}
    }
    let Some(current) = current else {
        return Err(StoreError::NotFound(key.clone()).into());
    };
    let revision = doomed.version.as_ref().map(|_| current.revision);
    // By the name under which it is stored, which for policies may be a longer one.
    session.store.delete(&current.key, revision).await?;
    write::take_over(session, key).await
}

/// A tier whose policies are still there stays, lest they lose their place.
async fn not_empty(session: &Session, key: &Key) -> Result<(), Refusal> {
    let kinds = [
        Kind::GlobalNetworkPolicy,
        Kind::NetworkPolicy,
        Kind::StagedGlobalNetworkPolicy,
        Kind::StagedNetworkPolicy,
    ];
    let filter = Filter::Kinds(kinds.into());
    let holds = session
        .store
        .list(&filter)
        .await?
        .entries
        .iter()
        .any(|entry| {
            let resource = entry.resource.as_ref().map(|resource| resource.to_value());
            resource.is_ok_and(|policy| {
                policy.pointer("/spec/tier").and_then(Value::as_str) == Some(key.name())
            })
        });
    if holds {
        let reason = "the tier is not empty: delete its policies first";
        return Err(Refusal::Unsupported(key.clone(), reason));
    }
    Ok(())
}

/// Takes away everything that is a node's: addresses, claims, endpoints, peers, configurations.
async fn node(session: &Session, name: &str, current: Option<&Entry>) -> Result<(), Refusal> {
    let kinds: BTreeSet<Kind> = [Kind::WorkloadEndpoint, Kind::BgpPeer, Kind::HostEndpoint].into();
    let mut addresses: BTreeSet<IpAddr> = BTreeSet::new();
    let mut keys = Vec::new();
    for entry in session.store.list(&Filter::Kinds(kinds)).await?.entries {
        let Ok(resource) = &entry.resource else {
            continue;
        };
        let value = resource.to_value();
        if value.pointer("/spec/node").and_then(Value::as_str) != Some(name) {
            continue;
        }
        if let Resource::WorkloadEndpoint(endpoint) = &**resource {
            addresses.extend(endpoint.spec.ip_networks.iter().map(Cidr::addr));
        }
        keys.push(entry.key);
    }
    let own = format!("node.{name}");
    keys.push(Key::global(Kind::FelixConfiguration, &own));
    keys.push(Key::global(Kind::BgpConfiguration, &own));
    if let Some(Resource::Node(node)) = current.and_then(|entry| entry.resource.as_deref().ok()) {
        addresses.extend(tunnels(&node.spec));
    }
    if let Some(ipam) = session.ipam() {
        let requests: Vec<ReleaseRequest> = addresses.into_iter().map(Into::into).collect();
        ipam.release(&requests).await.map_err(unreleased)?;
        ipam.remove_owner(&Owner::host(name))
            .await
            .map_err(unreleased)?;
    }
    let mut along = 0;
    for key in keys {
        match session.store.delete(&key, None).await {
            Ok(()) => along += 1,
            Err(StoreError::NotFound(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    if along > 0 {
        note(&format!("{along} resources of node {name} went with it"));
    }
    Ok(())
}

/// The addresses of a node's own tunnels, whichever fields they are in.
fn tunnels(spec: &NodeSpec) -> Vec<IpAddr> {
    let value = serde_json::to_value(spec).unwrap_or_default();
    [
        "/bgp/ipv4IPIPTunnelAddr",
        "/ipv4VXLANTunnelAddr",
        "/ipv6VXLANTunnelAddr",
        "/wireguard/interfaceIPv4Address",
        "/wireguard/interfaceIPv6Address",
    ]
    .iter()
    .filter_map(|pointer| value.pointer(pointer)?.as_str())
    .filter_map(|text| IpAddr::from_str(text.split('/').next().unwrap_or_default()).ok())
    .collect()
}

/// Disables a pool, so that nothing more is assigned from it, gives up the claims on its blocks, and deletes it.
async fn pool(
    session: &Session,
    key: &Key,
    current: &Entry,
    versioned: bool,
) -> Result<(), Refusal> {
    let mut revision = versioned.then_some(current.revision);
    if let Ok(Resource::IpPool(pool)) = current.resource.as_deref()
        && let Some(ipam) = session.ipam()
    {
        if !pool.spec.disabled {
            let mut disabled = pool.clone();
            disabled.spec.disabled = true;
            let disabled = Resource::IpPool(disabled);
            session.store.update(&disabled, current.revision).await?;
            revision = None;
            // Clients that read the pool before this may be about to assign from it, in several writes.
            tokio::time::sleep(GRACE).await;
        }
        ipam.give_up_pool(pool.spec.cidr.net(), false)
            .await
            .map_err(unreleased)?;
    }
    Ok(session.store.delete(key, revision).await?)
}

fn unreleased(error: IpamError) -> Refusal {
    if let IpamError::Unavailable(error) = error {
        Refusal::Store(StoreError::Unavailable(error.0))
    } else {
        Refusal::Other(format!("addresses cannot be released: {error}"))
    }
}

/// How long an assignment under way is given to end.
const GRACE: Duration = Duration::from_millis(500);
