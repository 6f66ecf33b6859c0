//! `cleat ipam`: addresses, in calicoctl's words and tables.

mod args;
mod words;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cleat_datastore::ipam::report::{Report, agreed};
use cleat_datastore::ipam::{
    AddressInfo, AddressRequest, AssignRequest, Assignee, Borrowed, Collected, Collector, EtcdKv,
    Finding, Ipam, IpamConfig, IpamError, LOAD_BALANCER, Leak, Owner, PoolUse, ReleaseRequest,
};
use cleat_datastore::resource::AllowedUse;
use cleat_datastore::store::Etcd;
use serde_json::json;

pub(super) use args::IpamCommand;
use args::{Assign, Check, ConfigureCommand, Gc, Persistence, Release, Settings, Show, Split, Use};
use words::{check_text, print_collected, problems};

use super::{Args, Code, Failure, emit, note, print, settings};
use crate::config::StoreKind;
use crate::output::{Format, Table, structured};

/// Does what the command says.
pub(super) fn run(args: &Args, command: &IpamCommand) -> Result<String, Failure> {
    match command {
        IpamCommand::Show(what) => show(args, what),
        IpamCommand::Check(how) => check(args, how),
        IpamCommand::Release(what) => release(args, what),
        IpamCommand::Gc(how) => gc(args, how),
        IpamCommand::Assign(what) => assign(args, what),
        IpamCommand::Split(what) => split(args, what),
        IpamCommand::Configure {
            command: Some(ConfigureCommand::Show),
            ..
        } => with_ipam(args, async |ipam| {
            Ok(print_config(args, &ipam.config().await?))
        }),
        IpamCommand::Configure {
            command: Some(ConfigureCommand::Set(settings)),
            ..
        }
        | IpamCommand::Configure {
            command: None,
            settings,
        } => configure(args, settings),
    }
}

fn show(args: &Args, what: &Show) -> Result<String, Failure> {
    with_ipam(args, async |ipam| {
        if let Some(address) = what.ip {
            let info = ipam.show_address(address).await?;
            return Ok(match args.format() {
                format @ (Format::Json | Format::Yaml) => structured(format, &info),
                Format::Table | Format::Wide | Format::Name => match info {
                    Some(info) => describe(&info),
                    None => format!("{address} is not assigned\n"),
                },
            });
        }
        if let Some(handle) = &what.handle {
            let addresses = ipam.show_handle(handle).await?;
            return Ok(print(args, &addresses, address_table));
        }
        if what.configuration {
            return Ok(print_config(args, &ipam.config().await?));
        }
        let (pools, outside) = ipam.show().await?;
        if what.borrowed {
            let borrowed: Vec<&Borrowed> = pools
                .iter()
                .flat_map(|pool| &pool.blocks)
                .chain(&outside)
                .flat_map(|block| &block.borrowed)
                .collect();
            return Ok(print(args, &borrowed, |borrowed| borrowed_table(borrowed)));
        }
        if matches!(args.format(), Format::Json | Format::Yaml) {
            // Not by way of a JSON value, whose numbers end before the number of addresses of a large pool.
            let all = Shown {
                pools: &pools,
                blocks_outside_pools: &outside,
            };
            return Ok(structured(args.format(), &all));
        }
        let mut table = Table::new(&[
            "GROUPING",
            "CIDR",
            "IPS TOTAL",
            "IPS IN USE",
            "IPS RESERVED",
            "IPS FREE",
            "IPS COOLING",
        ]);
        for pool in &pools {
            table.row(usage_row(&Usage::from(pool)));
            if what.blocks {
                for block in &pool.blocks {
                    table.row(usage_row(&Usage::from(block)));
                }
            }
        }
        // Nobody sees blocks outside all pools unless they are shown.
        for block in outside.iter().filter(|_| what.blocks) {
            table.row(usage_row(&Usage::from(block)));
        }
        if table.is_empty() {
            note("there is no pool");
        }
        Ok(table.render(!args.no_headers))
    })
}

fn check(args: &Args, how: &Check) -> Result<String, Failure> {
    with_ipam(args, async |ipam| {
        let (report, findings) = (ipam.report().await?, ipam.check().await?);
        if let Some(file) = &how.report {
            let text = structured(Format::Json, &report);
            std::fs::write(file, text).map_err(|error| {
                Failure::new(Code::Failed, format!("{}: {error}", file.display()))
            })?;
        }
        let out = if matches!(args.format(), Format::Json | Format::Yaml) {
            structured(args.format(), &report)
        } else {
            check_text(how, &report, &findings)
        };
        if findings.is_empty() {
            return Ok(out);
        }
        emit(&out);
        let message = format!(
            "{}; `cleat ipam gc --dry-run` tells what can be mended by itself",
            problems(findings.len())
        );
        Err(Failure::new(Code::Failed, message))
    })
}

fn release(args: &Args, what: &Release) -> Result<String, Failure> {
    with_ipam(args, async |ipam| {
        if let Some(address) = what.ip {
            let released = ipam.release(&[ReleaseRequest::from(address)]).await?;
            if released.released.is_empty() {
                let message = format!("IP address {address} is not assigned");
                return Err(Failure::new(Code::Failed, message));
            }
            return Ok(say(
                args,
                &json!({"released": released.released}),
                format!("Successfully released IP address {address}\n"),
            ));
        }
        if let Some(handle) = &what.handle {
            let released = ipam.release_handle(handle, None).await?;
            let mut text = String::new();
            for address in &released {
                let _ = writeln!(text, "Successfully released IP address {address}");
            }
            return Ok(say(args, &json!({"released": released}), text));
        }
        release_reported(args, &ipam, what).await
    })
}

async fn release_reported(
    args: &Args,
    ipam: &Ipam<EtcdKv>,
    what: &Release,
) -> Result<String, Failure> {
    let refused = |reason: String| Failure::new(Code::Refused, reason);
    let current = ipam.report().await?;
    let mut reports = Vec::new();
    for file in &what.from_report {
        let name = file.display();
        let report = read_report(file)?;
        if report.cluster_guid != current.cluster_guid {
            return Err(refused(format!("{name} is of another cluster")));
        }
        if report.version != current.version && !what.force {
            return Err(refused(format!(
                "{name} was made by another release ({}); --force believes it",
                report.version
            )));
        }
        reports.push(report);
    }
    let is_fresh = |report: &Report| report.cluster_revision == current.cluster_revision;
    if !reports.iter().any(is_fresh) {
        return Err(refused(
            "the reports are all stale; make a new one with `cleat ipam check --report`".to_owned(),
        ));
    }
    if reports.len() < 2 && !current.datastore_locked && !what.force {
        return Err(refused(
            "a single report may show addresses that were just being set up; give another of a different time, or --force".to_owned(),
        ));
    }
    let agreed = agreed(&reports);
    let (mut released, mut skipped) = (Vec::new(), Vec::new());
    for request in agreed.addresses {
        let address = request.address;
        match ipam.release(&[request]).await {
            Ok(done) if !done.released.is_empty() => released.push(address),
            Ok(_) | Err(IpamError::BadSequenceNumber { .. } | IpamError::BadHandle { .. }) => {
                skipped.push(address);
            }
            Err(error) => return Err(failure(&error)),
        }
    }
    let mut handles = Vec::new();
    for handle in agreed.handles {
        if ipam.delete_handle(&handle).await? {
            handles.push(handle.id);
        }
    }
    let text = format!(
        "Released {} IPs; {} had already been released or assigned anew.\nReleased {} handles.\n",
        released.len(),
        skipped.len(),
        handles.len()
    );
    let value = json!({"released": released, "skipped": skipped, "handles": handles});
    Ok(say(args, &value, text))
}

fn gc(args: &Args, how: &Gc) -> Result<String, Failure> {
    with_ipam(args, async |ipam| {
        if how.dry_run {
            let (mended, left): (Vec<Finding>, Vec<Finding>) = ipam
                .check()
                .await?
                .into_iter()
                .partition(Finding::can_be_mended);
            let collected = Collected {
                waiting: mended,
                left,
                ..Collected::default()
            };
            return Ok(print_collected(args, &collected, true));
        }
        let mut collector = Collector::once(how.grace, how.settle);
        let mut collected = collector.round(&ipam).await?;
        let settle = how.settle.min(how.grace);
        if !collected.waiting.is_empty() && settle > 0 {
            note(&format!("looking again in {settle} s"));
            tokio::time::sleep(Duration::from_secs(settle)).await;
            let again = collector.round(&ipam).await?;
            collected.released.extend(again.released);
            collected.mended.extend(again.mended);
            collected.waiting = again.waiting;
            collected.left = again.left;
        }
        Ok(print_collected(args, &collected, false))
    })
}

fn assign(args: &Args, what: &Assign) -> Result<String, Failure> {
    let loaded = settings::load(args)?;
    let node = what
        .node
        .clone()
        .unwrap_or_else(|| loaded.config.nodename.clone());
    let mut attributes: BTreeMap<String, String> = what.attributes.iter().cloned().collect();
    if what.allowed_use != Use::Loadbalancer {
        attributes
            .entry("node".to_owned())
            .or_insert_with(|| node.clone());
    }
    let assignee = Assignee {
        handle: what.handle.clone(),
        attributes,
    };
    let owner = match what.allowed_use {
        Use::Workload | Use::Tunnel => Owner::host(&node),
        Use::Loadbalancer => Owner::Virtual(LOAD_BALANCER.to_owned()),
    };
    with_ipam(args, async |ipam| {
        let assigned = if let Some(address) = what.ip {
            let request = AddressRequest {
                owner,
                address,
                assignee,
                max_per_handle: None,
                host_reserved: None,
            };
            vec![ipam.assign_address(&request).await?]
        } else {
            let (v4, v6) = (what.ipv4.unwrap_or(0), what.ipv6.unwrap_or(0));
            let request = AssignRequest {
                owner,
                allowed_use: match what.allowed_use {
                    Use::Workload => AllowedUse::Workload,
                    Use::Tunnel => AllowedUse::Tunnel,
                    Use::Loadbalancer => AllowedUse::LoadBalancer,
                },
                pools: what.pools.clone(),
                ..AssignRequest::workload(&node, v4, v6, assignee)
            };
            ipam.assign(&request).await?
        };
        let mut text = String::new();
        for net in &assigned {
            let _ = writeln!(text, "{net}");
        }
        Ok(say(args, &json!({"assigned": assigned}), text))
    })
}

fn split(args: &Args, what: &Split) -> Result<String, Failure> {
    with_ipam(args, async |ipam| {
        let name = match (&what.name, what.cidr) {
            (Some(name), _) => name.clone(),
            (None, cidr) => {
                let (pools, _) = ipam.show().await?;
                let pool = pools.into_iter().find(|pool| Some(pool.cidr) == cidr);
                let none = || {
                    let cidr = cidr.map(|cidr| cidr.to_string()).unwrap_or_default();
                    Failure::new(Code::Failed, format!("there is no pool of {cidr}"))
                };
                pool.ok_or_else(none)?.name
            }
        };
        let parts = ipam.split(&name, what.number).await?;
        let (pools, _) = ipam.show().await?;
        let mut text = format!(
            "IP Pool {name} was successfully split into {} smaller pools.\n",
            parts.len()
        );
        for pool in pools.iter().filter(|pool| parts.contains(&pool.name)) {
            let _ = writeln!(text, "Created {} with CIDR {}.", pool.name, pool.cidr);
        }
        Ok(say(args, &json!({"split": name, "into": parts}), text))
    })
}

fn configure(args: &Args, settings: &Settings) -> Result<String, Failure> {
    let persistence = settings
        .kubevirt_ip_persistence
        .map(|persistence| match persistence {
            Persistence::Enabled => "Enabled",
            Persistence::Disabled => "Disabled",
        });
    let mut text = String::new();
    for (name, value) in [
        (
            "StrictAffinity",
            settings.strict_affinity.map(|on| on.to_string()),
        ),
        (
            "MaxBlocksPerHost",
            settings.max_blocks_per_host.map(|count| count.to_string()),
        ),
        (
            "AutoAllocateBlocks",
            settings.auto_allocate_blocks.map(|on| on.to_string()),
        ),
        (
            "KubeVirtVMAddressPersistence",
            persistence.map(str::to_owned),
        ),
        (
            "IPCooldownSeconds",
            settings
                .ip_cooldown_seconds
                .map(|seconds| seconds.to_string()),
        ),
    ] {
        if let Some(value) = value {
            let _ = writeln!(text, "Successfully set {name} to: {value}");
        }
    }
    if text.is_empty() {
        let message = "at least one setting must be given; `cleat ipam configure show` shows them";
        return Err(Failure::new(Code::Usage, message));
    }
    with_ipam(args, async |ipam| {
        let config = ipam
            .configure(|config| {
                config.strict_affinity = settings.strict_affinity.unwrap_or(config.strict_affinity);
                config.max_blocks_per_host = settings
                    .max_blocks_per_host
                    .unwrap_or(config.max_blocks_per_host);
                config.auto_allocate_blocks = settings
                    .auto_allocate_blocks
                    .unwrap_or(config.auto_allocate_blocks);
                config.ip_cooldown_seconds = settings
                    .ip_cooldown_seconds
                    .unwrap_or(config.ip_cooldown_seconds);
                if let Some(persistence) = persistence {
                    config.vm_address_persistence = Some(persistence.to_owned());
                }
            })
            .await?;
        Ok(say(args, &config_value(&config), text.clone()))
    })
}

/// Prints a value for a program, or a text for a person.
fn say(args: &Args, value: &serde_json::Value, text: String) -> String {
    match args.format() {
        format @ (Format::Json | Format::Yaml) => structured(format, value),
        Format::Table | Format::Wide | Format::Name => text,
    }
}

fn describe(info: &AddressInfo) -> String {
    let mut out = format!("IP {} is in use\n", info.address);
    if let Some(since) = &info.released_at {
        out = format!(
            "IP {} was released at {since} and cools down\n",
            info.address
        );
    }
    let handle = info.handle.as_deref().unwrap_or("<none>");
    let _ = writeln!(out, "Handle ID: {handle}");
    let affinity = info.affinity.as_deref().unwrap_or("<none>");
    let _ = writeln!(out, "Block: {} (affinity {affinity})", info.block);
    let _ = writeln!(out, "Sequence number: {}", info.sequence_number);
    let mut notes = |title: &str, notes: &BTreeMap<String, String>| {
        if !notes.is_empty() {
            let _ = writeln!(out, "{title}:");
        }
        for (name, value) in notes {
            let _ = writeln!(out, "  {name}: {value}");
        }
    };
    notes("Active Owner Attributes", &info.attributes);
    notes("Alternate Owner Attributes", &info.alternate_owner);
    if info.attributes.is_empty() {
        out.push_str("No Active Owner attributes defined\n");
    }
    out
}

fn address_table(addresses: &Vec<AddressInfo>) -> Table {
    let mut table = Table::new(&["IP", "BLOCK", "AFFINITY", "NODE", "ATTRIBUTES"]);
    for info in addresses {
        let notes: Vec<String> = info
            .attributes
            .iter()
            .filter(|(name, _)| *name != "node")
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        table.row([
            info.address.to_string(),
            info.block.to_string(),
            info.affinity.clone().unwrap_or_default(),
            info.attributes.get("node").cloned().unwrap_or_default(),
            notes.join(","),
        ]);
    }
    table
}

fn borrowed_table(borrowed: &[&Borrowed]) -> Table {
    let mut table = Table::new(&[
        "IP",
        "BORROWING-NODE",
        "BLOCK",
        "BLOCK OWNER",
        "TYPE",
        "ALLOCATED-TO",
    ]);
    for one in borrowed {
        table.row([
            one.address.to_string(),
            one.node.clone(),
            one.block.to_string(),
            one.block_owner.clone(),
            one.kind.clone(),
            one.allocated_to.clone(),
        ]);
    }
    table
}

/// What `show` shows to programs.
#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown<'a> {
    pools: &'a [PoolUse],
    blocks_outside_pools: &'a [cleat_datastore::ipam::BlockUse],
}

/// How full something is.
struct Usage {
    grouping: &'static str,
    cidr: String,
    size: u128,
    counts: [u128; 4],
}

impl From<&PoolUse> for Usage {
    fn from(pool: &PoolUse) -> Self {
        Self {
            grouping: "IP Pool",
            cidr: pool.cidr.to_string(),
            size: pool.size,
            counts: [
                u128::from(pool.in_use),
                pool.reserved,
                pool.free,
                u128::from(pool.cooling),
            ],
        }
    }
}

impl From<&cleat_datastore::ipam::BlockUse> for Usage {
    fn from(block: &cleat_datastore::ipam::BlockUse) -> Self {
        let counts = [block.in_use, block.reserved, block.free, block.cooling];
        Self {
            grouping: "Block",
            cidr: block.cidr.to_string(),
            size: block.size as u128,
            counts: counts.map(|count| count as u128),
        }
    }
}

fn usage_row(usage: &Usage) -> Vec<String> {
    let mut row = vec![
        usage.grouping.to_owned(),
        usage.cidr.clone(),
        short(usage.size),
    ];
    row.extend(usage.counts.map(|count| {
        let percent = 100.0 * count as f64 / usage.size.max(1) as f64;
        format!("{} ({percent:.0}%)", short(count))
    }));
    row
}

/// Five digits, as `%.5g` has them.
fn short(number: u128) -> String {
    if number < 100_000 {
        return number.to_string();
    }
    let text = format!("{:.4e}", number as f64);
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let mantissa = mantissa.trim_end_matches('0').trim_end_matches('.');
    format!("{mantissa}e+{exponent:0>2}")
}

fn config_value(config: &IpamConfig) -> serde_json::Value {
    json!({
        "strictAffinity": config.strict_affinity,
        "autoAllocateBlocks": config.auto_allocate_blocks,
        "maxBlocksPerHost": config.max_blocks_per_host,
        "kubeVirtVMAddressPersistence": config.vm_address_persistence.as_deref().unwrap_or("Enabled"),
        "ipCooldownSeconds": config.ip_cooldown_seconds,
    })
}

fn print_config(args: &Args, config: &IpamConfig) -> String {
    print(args, &config_value(config), |value| {
        let mut table = Table::new(&["PROPERTY", "VALUE"]);
        for (property, field) in [
            ("StrictAffinity", "strictAffinity"),
            ("AutoAllocateBlocks", "autoAllocateBlocks"),
            ("MaxBlocksPerHost", "maxBlocksPerHost"),
            (
                "KubeVirtVMAddressPersistence",
                "kubeVirtVMAddressPersistence",
            ),
            ("IPCooldownSeconds", "ipCooldownSeconds"),
        ] {
            let value = &value[field];
            let text = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            table.row([property.to_owned(), text]);
        }
        table
    })
}

fn read_report(file: &Path) -> Result<Report, Failure> {
    let failed =
        |reason: String| Failure::new(Code::Failed, format!("{}: {reason}", file.display()));
    let size = std::fs::metadata(file)
        .map_err(|error| failed(error.to_string()))?
        .len();
    if size > MAX_REPORT {
        return Err(failed(format!("is larger than {MAX_REPORT} bytes")));
    }
    let bytes = std::fs::read(file).map_err(|error| failed(error.to_string()))?;
    serde_json::from_slice(&bytes).map_err(|error| failed(error.to_string()))
}

/// The largest report that is read, in bytes: a million addresses.
const MAX_REPORT: u64 = 1 << 30;

/// What a refusal means to the caller.
pub(super) fn failure(error: &IpamError) -> Failure {
    let (code, hint) = match error {
        IpamError::Unavailable(_) => (
            Code::NoStore,
            "; `cleat config show` tells which store is used, ETCD_ENDPOINTS names another",
        ),
        IpamError::Conflict
        | IpamError::InUse { .. }
        | IpamError::BadSequenceNumber { .. }
        | IpamError::BadHandle { .. }
        | IpamError::OtherOwner { .. }
        | IpamError::Exists(_)
        | IpamError::PoolExists(_) => (Code::Conflict, ""),
        IpamError::NoNode(_) => (Code::Failed, "; create it, or name another with --node"),
        IpamError::NoPool { .. } | IpamError::NoSuchPool(_) => {
            (Code::Failed, "; `cleat get ippools` lists them")
        }
        IpamError::UnknownPool(_) => (Code::Failed, "; `cleat get ippools` lists what is there"),
        IpamError::BlockLimit { .. }
        | IpamError::NoNewBlocks(_)
        | IpamError::StrictAffinityFull { .. }
        | IpamError::PoolsFull { .. } => (
            Code::Failed,
            "; `cleat ipam show --show-blocks` tells what is free, `cleat ipam configure show` what is allowed",
        ),
        IpamError::OutsidePools(_)
        | IpamError::NotYours { .. }
        | IpamError::HandleLimit { .. }
        | IpamError::UnknownHandle(_)
        | IpamError::BadSplit(_)
        | IpamError::SplitsBlocks { .. }
        | IpamError::SmallerThanBlock(_)
        | IpamError::BadName(_)
        | IpamError::BadDocuments(_)
        | IpamError::Overlaps { .. }
        | IpamError::NoAlternateOwner(_)
        | IpamError::OtherAlternateOwner { .. }
        | IpamError::TooMuchAtOnce
        | IpamError::Unreadable(_) => (Code::Failed, ""),
    };
    Failure::new(code, format!("{error}{hint}"))
}

/// IPAM over the configured store, which must be one with transactions.
fn with_ipam<T>(
    args: &Args,
    work: impl AsyncFnOnce(Ipam<EtcdKv>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let loaded = settings::load(args)?;
    let kind = loaded.config.datastore.kind();
    if kind != StoreKind::Etcd {
        return Err(Failure::new(
            Code::Usage,
            "addresses are managed in etcd alone: a directory of files has no transactions, and memory lives inside the daemon; \
             set datastore.type to etcd, or ETCD_ENDPOINTS",
        ));
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let config = crate::daemon::store::etcd(&loaded.config.datastore);
        let etcd = Arc::new(Etcd::new(config));
        // Without any member the store's own words are the better ones.
        etcd.client().await?;
        work(Ipam::new(EtcdKv::new(etcd))).await
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_numbers_have_five_digits() {
        for (number, text) in [
            (0, "0"),
            (65_536, "65536"),
            (99_999, "99999"),
            (131_072, "1.3107e+05"),
            (1 << 20, "1.0486e+06"),
            (1 << 64, "1.8447e+19"),
            (100_000, "1e+05"),
        ] {
            assert_eq!(short(number), text);
        }
    }
}
