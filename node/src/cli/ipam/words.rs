//! What `check` and `gc` found, in words.

use std::fmt::Write as _;

use cleat_datastore::ipam::report::{Allocation, Report};

use super::args::Check;
use super::*;

pub(super) fn check_text(how: &Check, report: &Report, findings: &[Finding]) -> String {
    let allocations = || report.allocations.values().flatten();
    let used = allocations().filter(|allocation| allocation.in_use).count();
    let mut out = format!(
        "Found {} assigned IPs, {used} of them used by endpoints and nodes.\n",
        allocations().count()
    );
    if how.show_all_ips {
        for allocation in allocations() {
            let _ = writeln!(out, "  {}", allocation_line(allocation));
        }
    }
    let mut counts: BTreeMap<&'static str, usize> = BTreeMap::new();
    for finding in findings {
        *counts.entry(sort_of(finding)).or_default() += 1;
        let is_of_an_address = matches!(
            finding,
            Finding::Leaked { .. } | Finding::NotAssigned { .. } | Finding::UsedTwice { .. }
        );
        if !is_of_an_address || how.show_problem_ips || how.show_all_ips {
            let _ = writeln!(out, "  {}", line(finding));
        }
    }
    for (sort, count) in counts {
        let _ = writeln!(out, "Found {count} {sort}.");
    }
    let _ = writeln!(
        out,
        "Found {} handles with no matching IPs.",
        report.leaked_handles.len()
    );
    let _ = writeln!(out, "Check complete; found {}.", problems(findings.len()));
    out
}

pub(super) fn problems(count: usize) -> String {
    format!("{count} problem{}", if count == 1 { "" } else { "s" })
}

fn allocation_line(allocation: &Allocation) -> String {
    let Allocation {
        ip,
        handle,
        node,
        owners,
        ..
    } = allocation;
    let users = if owners.is_empty() {
        "nobody".to_owned()
    } else {
        owners.join(", ")
    };
    let borrowed = if allocation.borrowed {
        ", borrowed"
    } else {
        ""
    };
    format!("{ip} assigned by {handle:?} on {node:?}{borrowed}; used by {users}")
}

fn sort_of(finding: &Finding) -> &'static str {
    match finding {
        Finding::Unreadable { .. } => "keys that cannot be read",
        Finding::FreeListWrong { .. } => "blocks whose free list is wrong",
        Finding::Overlap { .. } => "blocks that overlap others",
        Finding::OutsidePools { .. } => "blocks outside all pools",
        Finding::Unclaimed { .. } => "blocks without the claim of their owner",
        Finding::StaleClaim { .. } => "claims that are stale or half-done",
        Finding::HandleCount { .. } => "handles that count wrong",
        Finding::Leaked { .. } => "IPs that are assigned but not in use",
        Finding::Orphaned { .. } => "empty blocks of hosts without a node",
        Finding::NotAssigned { .. } => "IPs that are in use but not assigned",
        Finding::UsedTwice { .. } => "IPs that are used by several",
    }
}

fn line(finding: &Finding) -> String {
    match finding {
        Finding::Unreadable { key, reason } => format!("{key}: {reason}"),
        Finding::FreeListWrong { block, places } => {
            format!("{block}: places {places:?} are not listed as they are")
        }
        Finding::Overlap { block, inner } => format!("{inner} is part of {block}"),
        Finding::OutsidePools { block } => format!("{block} is in no pool"),
        Finding::Unclaimed { block, affinity } => {
            format!("{block} is kept for {affinity}, which has no claim on it")
        }
        Finding::StaleClaim {
            block,
            owner,
            state,
        } => format!("{owner} claims {block} ({state}), which is not its own"),
        Finding::HandleCount {
            handle,
            block,
            counted,
            assigned,
        } => format!("handle {handle} counts {counted} IPs of {block}, which has {assigned} of it"),
        Finding::Leaked {
            address,
            handle,
            node,
            leak,
            ..
        } => {
            let why = match leak {
                Leak::NoNode => "its node is gone",
                Leak::NoEndpoint => "its pod has no endpoint",
                Leak::Unknown => "nobody can tell whose it is",
            };
            let (handle, node) = (
                handle.as_deref().unwrap_or("<none>"),
                node.as_deref().unwrap_or("<none>"),
            );
            format!("{address} leaked: {why} (handle {handle}, node {node})")
        }
        Finding::Orphaned { block, owner } => {
            format!("{block} is empty and kept for {owner}, which has no node")
        }
        Finding::NotAssigned { address, user } => {
            format!("{address} is used by {user} but not assigned")
        }
        Finding::UsedTwice { address, users } => {
            format!("{address} is used by {}", users.join(" and "))
        }
    }
}

pub(super) fn print_collected(args: &Args, collected: &Collected, dry_run: bool) -> String {
    if let format @ (Format::Json | Format::Yaml) = args.format() {
        return structured(format, collected);
    }
    let mut out = String::new();
    for address in &collected.released {
        let _ = writeln!(out, "released {address}");
    }
    for finding in &collected.mended {
        let _ = writeln!(out, "mended: {}", line(finding));
    }
    let waiting = if dry_run {
        "would mend"
    } else {
        "not old enough"
    };
    for finding in &collected.waiting {
        let _ = writeln!(out, "{waiting}: {}", line(finding));
    }
    for finding in &collected.left {
        let _ = writeln!(out, "left: {}", line(finding));
    }
    let _ = writeln!(
        out,
        "Released {} IPs and mended {}; {} left to a person.",
        collected.released.len(),
        problems(collected.mended.len()),
        collected.left.len()
    );
    out
}
