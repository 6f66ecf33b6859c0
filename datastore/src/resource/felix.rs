//! Settings of what enforces policy on the nodes.
//!
//! One line for each field: its name here and in the object, its type, which holds its bounds, and what Felix does without
//! it. Absent and set to the default are kept apart: an absent field leaves the word to the level below.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, Ipv6Addr},
};

use super::{
    ProgramClusterRoutes, Spec,
    check::{Check, CheckObject, Faults},
};
use crate::{
    Kind,
    selector::Selector,
    value::{Cidr, Dscp, GoDuration},
};

pub mod types;
use types::{
    AllowAction, AnyCase, AttachType, BpfLog, ChainInsertMode, ClientAuth,
    ConnectTimeLoadBalancing, ConntrackCleaner, ConntrackLog, ConntrackScaling, ConntrackTimeout,
    DenyAction, EndpointToHostAction, ExternalServiceMode, FeatureGates, FeatureOverrides,
    FlowEvaluation, FlowTableOffload, HealthTimeout, HostName, InterfaceName, IptablesBackend,
    JitHardening, L2Reachability, LogPrefix, LogSeverity, NatExclusions, NftablesMode, NodePorts,
    OverlaySource, PortRange, ProtoPort, RateLimit, Regex, Region, ReversePath, RouteSource,
    RouteTableIdRange, RouteTableRange, ServiceLoopPrevention, SourceSpoofing, SrcDstCheck, Toggle,
    Within,
};

types::settings! {
    /// Settings of what enforces policy on the nodes, for all (`default`), for one (`node.NAME`), or for those with some labels.
    FelixConfigurationSpec {
        // Where it holds.
        /// Restricts an object that is neither `default` nor `node.NAME` to the nodes with matching labels.
        node_selector "nodeSelector": Selector;

        // Process: features, Go's runtime.
        /// Features of the platform that are taken for present or absent, whatever is found.
        feature_detect_override "featureDetectOverride": FeatureOverrides;
        /// Features that are not finished, switched on or off.
        feature_gates "featureGates": FeatureGates;
        /// Growth of the heap in percent before Go collects garbage; -1 for never.
        go_gc_threshold "goGCThreshold": i64 = "40";
        /// Processors that Go's runtime uses; -1 for all.
        go_max_procs "goMaxProcs": i64 = "-1";
        /// Memory that Go's runtime tries to stay within; -1 for no limit.
        go_memory_limit_mb "goMemoryLimitMB": i64 = "-1";

        // Process: health.
        /// Whether probes are served.
        health_enabled "healthEnabled": bool = "false";
        /// The address on which probes are served.
        health_host "healthHost": HostName = "localhost";
        /// The port on which probes are served.
        health_port "healthPort": i64 = "9099";
        /// How long single parts may be silent.
        health_timeout_overrides "healthTimeoutOverrides": Vec<HealthTimeout>;

        // Process: logging.
        /// How many packets that meet a Log rule are logged in a span of time.
        log_action_rate_limit "logActionRateLimit": RateLimit;
        /// How many packets beyond the rate are logged at once.
        log_action_rate_limit_burst "logActionRateLimitBurst": Within<0, 9_999> = "5";
        /// The source files whose debug messages are logged.
        log_debug_filename_regex "logDebugFilenameRegex": Regex;
        /// The log file; `none` for none.
        log_file_path "logFilePath": String = "/var/log/calico/felix.log";
        /// What logged packets begin with.
        log_prefix "logPrefix": LogPrefix = "calico-packet";
        /// How severe a message must be for the log file.
        log_severity_file "logSeverityFile": AnyCase<LogSeverity> = "Info";
        /// How severe a message must be for standard output.
        log_severity_screen "logSeverityScreen": AnyCase<LogSeverity> = "Info";
        /// How severe a message must be for syslog.
        log_severity_sys "logSeveritySys": AnyCase<LogSeverity> = "Info";

        // Process: metrics.
        /// Whether metrics of Go's runtime are served.
        prometheus_go_metrics_enabled "prometheusGoMetricsEnabled": bool = "true";
        /// Authority that signs the certificates of those who fetch metrics.
        prometheus_metrics_ca_file "prometheusMetricsCAFile": String;
        /// The certificate of the server of metrics.
        prometheus_metrics_cert_file "prometheusMetricsCertFile": String;
        /// What certificate is asked of those who fetch metrics.
        prometheus_metrics_client_auth "prometheusMetricsClientAuth": ClientAuth = "NoClientCert";
        /// Whether metrics are served.
        prometheus_metrics_enabled "prometheusMetricsEnabled": bool = "false";
        /// The address on which metrics are served; absent means all.
        prometheus_metrics_host "prometheusMetricsHost": HostName;
        /// The key of the server of metrics.
        prometheus_metrics_key_file "prometheusMetricsKeyFile": String;
        /// The port on which metrics are served.
        prometheus_metrics_port "prometheusMetricsPort": i64 = "9091";
        /// Whether metrics of the process are served.
        prometheus_process_metrics_enabled "prometheusProcessMetricsEnabled": bool = "true";
        /// Whether metrics of WireGuard are served.
        prometheus_wire_guard_metrics_enabled "prometheusWireGuardMetricsEnabled": bool = "true";

        // Data path: common.
        /// Whether workloads may send IP in IP.
        allow_ipip_packets_from_workloads "allowIPIPPacketsFromWorkloads": bool = "false";
        /// Whether workloads may send VXLAN.
        allow_vxlan_packets_from_workloads "allowVXLANPacketsFromWorkloads": bool = "false";
        /// Where the cgroup hierarchy is, if not where it is looked for.
        cgroup_v2_path "cgroupV2Path": String;
        /// Whether rules come before or after those of others.
        chain_insert_mode "chainInsertMode": AnyCase<ChainInsertMode> = "Insert";
        /// The external program that writes the data path.
        dataplane_driver "dataplaneDriver": String = "calico-iptables-plugin";
        /// How long the writer of the data path may be silent.
        dataplane_watchdog_timeout "dataplaneWatchdogTimeout": GoDuration = "90s";
        /// What becomes of a workload's packets to its host that policy allowed.
        default_endpoint_to_host_action "defaultEndpointToHostAction": AnyCase<EndpointToHostAction> = "Drop";
        /// The protocol number of the node's routes.
        device_route_protocol "deviceRouteProtocol": i64 = "3";
        /// The source address of IPv4 packets from the host to workloads.
        device_route_source_address "deviceRouteSourceAddress": Ipv4Addr;
        /// The source address of IPv6 packets from the host to workloads.
        device_route_source_address_ipv6 "deviceRouteSourceAddressIPv6": Ipv6Addr;
        /// Whether packets that connection tracking finds invalid may pass.
        disable_conntrack_invalid_check "disableConntrackInvalidCheck": bool = "false";
        /// The directory under which the states of endpoints are written to files.
        endpoint_status_path_prefix "endpointStatusPathPrefix": String = "/var/run/calico";
        /// Hosts outside the cluster from which IP in IP and VXLAN are taken.
        external_nodes_list "externalNodesList": Vec<Cidr>;
        /// Ports of the host that no policy closes; an empty list means none.
        failsafe_inbound_host_ports "failsafeInboundHostPorts": Vec<ProtoPort> = "tcp:22,udp:68,tcp:179,tcp:2379,tcp:2380,tcp:5473,tcp:6443,tcp:6666,tcp:6667";
        /// Ports that the host reaches whatever policy says; an empty list means none.
        failsafe_outbound_host_ports "failsafeOutboundHostPorts": Vec<ProtoPort> = "udp:53,udp:67,tcp:179,tcp:2379,tcp:2380,tcp:5473,tcp:6443,tcp:6666,tcp:6667";
        /// Whether the floating addresses of workloads are translated.
        floating_ips "floatingIPs": Toggle = "Disabled";
        /// Names and `/expressions/` of interfaces that are no host endpoints.
        interface_exclude "interfaceExclude": String = "kube-ipvs0";
        /// What the names of workloads' interfaces begin with, separated by commas.
        interface_prefix "interfacePrefix": String = "cali";
        /// Time between two looks at all interfaces; 0 for none.
        interface_refresh_interval "interfaceRefreshInterval": GoDuration = "90s";
        /// Whether the host is made to forward.
        ip_forwarding "ipForwarding": Toggle = "Enabled";
        /// The metric of IPv4 routes to workloads that are moving.
        ipv4_elevated_route_priority "ipv4ElevatedRoutePriority": Within<1, 2_147_483_646> = "512";
        /// The metric of ordinary IPv4 routes to workloads.
        ipv4_normal_route_priority "ipv4NormalRoutePriority": Within<1, 2_147_483_646> = "1024";
        /// The metric of IPv6 routes to workloads that are moving.
        ipv6_elevated_route_priority "ipv6ElevatedRoutePriority": Within<1, 2_147_483_646> = "512";
        /// The metric of ordinary IPv6 routes to workloads.
        ipv6_normal_route_priority "ipv6NormalRoutePriority": Within<1, 2_147_483_646> = "1024";
        /// Whether IPv6 is served.
        ipv6_support "ipv6Support": bool = "true";
        /// Whether Istio's ambient mesh is served.
        istio_ambient_mode "istioAmbientMode": Toggle = "Disabled";
        /// The mark of the mesh's packets.
        istio_dscp_mark "istioDSCPMark": Dscp = "23";
        /// How long routes of a moved workload keep their elevated metric.
        live_migration_route_convergence_time "liveMigrationRouteConvergenceTime": GoDuration = "30s";
        /// Which addresses of the host's own subnet are answered for with ARP and NDP.
        local_subnet_l2_reachability "localSubnetL2Reachability": L2Reachability = "Disabled";
        /// Time between two comparisons of these answers.
        local_subnet_l2_reachability_refresh_interval "localSubnetL2ReachabilityRefreshInterval": GoDuration = "120s";
        /// The interfaces whose MTU tells that of workloads.
        mtu_iface_pattern "mtuIfacePattern": Regex = "^((en|wl|ww|sl|ib)[Pcopsvx].*|(eth|wlan|wwan).*)";
        /// The address that outgoing packets of workloads get; absent means that of the interface.
        nat_outgoing_address "natOutgoingAddress": Ipv4Addr;
        /// Which destinations keep packets of workloads from being translated.
        nat_outgoing_exclusions "natOutgoingExclusions": NatExclusions = "IPPoolsOnly";
        /// The ports that translated connections get.
        nat_port_range "natPortRange": PortRange;
        /// How long an answer of the kernel is waited for.
        netlink_timeout "netlinkTimeout": GoDuration = "10s";
        /// The interfaces whose connections may be offloaded.
        nftables_flow_table_data_iface_pattern "nftablesFlowTableDataIfacePattern": Regex;
        /// Which connections are offloaded.
        nftables_flow_table_offload "nftablesFlowTableOffload": FlowTableOffload = "Disabled";
        /// Whether rules are written for nftables.
        nftables_mode "nftablesMode": NftablesMode = "Auto";
        /// The directory of the socket on which policy is told to others.
        policy_sync_path_prefix "policySyncPathPrefix": String;
        /// Which routes between nodes are programmed.
        program_cluster_routes "programClusterRoutes": ProgramClusterRoutes = "EnabledIPIPOnly";
        /// Whether routes of others to workloads' interfaces are removed.
        remove_external_routes "removeExternalRoutes": bool = "true";
        /// Whether to wait for the file that tells the MTU.
        require_mtu_file "requireMTUFile": bool = "false";
        /// Time between two comparisons of the kernel's routes; 0 for none.
        route_refresh_interval "routeRefreshInterval": GoDuration = "90s";
        /// What routes are made from.
        route_source "routeSource": AnyCase<RouteSource> = "CalicoIPAM";
        /// Whether the kernel's routes are left alone.
        route_sync_disabled "routeSyncDisabled": bool = "false";
        /// Routing tables that may be used; `routeTableRanges` has the last word.
        route_table_range "routeTableRange": RouteTableRange;
        /// Routing tables that may be used.
        route_table_ranges "routeTableRanges": Vec<RouteTableIdRange>;
        /// What becomes of packets to addresses of services that nobody serves.
        service_loop_prevention "serviceLoopPrevention": AnyCase<ServiceLoopPrevention> = "Drop";
        /// Whether traffic between a workload and its sidecar is shortened.
        sidecar_acceleration_enabled "sidecarAccelerationEnabled": bool = "false";
        /// Whether the data path is written without an external program.
        use_internal_dataplane_driver "useInternalDataplaneDriver": bool = "true";
        /// Whether a workload may send from addresses that it is not known by.
        workload_source_spoofing "workloadSourceSpoofing": AnyCase<SourceSpoofing> = "Disabled";

        // Data path: iptables and nftables.
        /// Time between two comparisons of the kernel's sets.
        ipsets_refresh_interval "ipsetsRefreshInterval": GoDuration = "90s";
        /// Which kind of iptables is used.
        iptables_backend "iptablesBackend": IptablesBackend = "Auto";
        /// How allowed packets leave the filter table.
        iptables_filter_allow_action "iptablesFilterAllowAction": AnyCase<AllowAction> = "Accept";
        /// What becomes of denied packets.
        iptables_filter_deny_action "iptablesFilterDenyAction": AnyCase<DenyAction> = "Drop";
        /// Time between two tries to get the lock of iptables.
        iptables_lock_probe_interval "iptablesLockProbeInterval": GoDuration = "50ms";
        /// How allowed packets leave the mangle table.
        iptables_mangle_allow_action "iptablesMangleAllowAction": AnyCase<AllowAction> = "Accept";
        /// The bits of a packet's mark that may be used.
        iptables_mark_mask "iptablesMarkMask": Within<0, 4_294_967_295> = "0xffff0000";
        /// The interface to which the translation of outgoing packets is limited.
        iptables_nat_outgoing_interface_filter "iptablesNATOutgoingInterfaceFilter": InterfaceName;
        /// Time after a write at which it is looked at again.
        iptables_post_write_check_interval "iptablesPostWriteCheckInterval": GoDuration = "5s";
        /// Time between two comparisons of rules; 0 for none.
        iptables_refresh_interval "iptablesRefreshInterval": GoDuration = "180s";
        /// Ports that services have on nodes.
        kube_node_port_ranges "kubeNodePortRanges": NodePorts = "30000:32767";
        /// The most members of a set.
        max_ipset_size "maxIpsetSize": i64 = "1048576";
        /// How allowed packets leave the filter table.
        nftables_filter_allow_action "nftablesFilterAllowAction": AnyCase<AllowAction> = "Accept";
        /// What becomes of denied packets.
        nftables_filter_deny_action "nftablesFilterDenyAction": AnyCase<DenyAction> = "Drop";
        /// How allowed packets leave the mangle table.
        nftables_mangle_allow_action "nftablesMangleAllowAction": AnyCase<AllowAction> = "Accept";
        /// The bits of a packet's mark that may be used.
        nftables_mark_mask "nftablesMarkMask": Within<0, 4_294_967_295> = "0xffff0000";
        /// Time between two comparisons of rules; 0 for none.
        nftables_refresh_interval "nftablesRefreshInterval": GoDuration = "180s";

        // Data path: eBPF.
        /// How programs are attached to interfaces.
        bpf_attach_type "bpfAttachType": AttachType = "Netkit";
        /// What the programs at connect time log.
        bpf_ctlb_log_filter "bpfCTLBLogFilter": String;
        /// For which services a backend is chosen when a socket connects.
        bpf_connect_time_load_balancing "bpfConnectTimeLoadBalancing": ConnectTimeLoadBalancing = "TCP";
        /// Whether a backend is chosen when a socket connects; `bpfConnectTimeLoadBalancing` has the last word.
        bpf_connect_time_load_balancing_enabled "bpfConnectTimeLoadBalancingEnabled": bool = "true";
        /// What the cleaner of tracked connections logs.
        bpf_conntrack_log_level "bpfConntrackLogLevel": ConntrackLog = "Off";
        /// Who removes connections that have ended.
        bpf_conntrack_mode "bpfConntrackMode": ConntrackCleaner = "Auto";
        /// How long tracked connections may be silent.
        bpf_conntrack_timeouts "bpfConntrackTimeouts": ConntrackTimeouts;
        /// Clients who are not answered by the backend's node directly.
        bpf_dsr_optout_cidrs "bpfDSROptoutCIDRs": Vec<Cidr>;
        /// The interfaces to the fabric.
        bpf_data_iface_pattern "bpfDataIfacePattern": Regex = "^((en|wl|ww|sl|ib)[Popsx].*|(eth|wlan|wwan|bond).*)";
        /// The interfaces on which received packets are not joined.
        bpf_disable_gro_for_ifaces "bpfDisableGROForIfaces": Regex;
        /// Whether users without privileges are kept from using eBPF.
        bpf_disable_unprivileged "bpfDisableUnprivileged": bool = "true";
        /// Whether the data path is made of eBPF programs.
        bpf_enabled "bpfEnabled": bool = "false";
        /// How strictly the way back to a packet's source is looked at.
        bpf_enforce_rpf "bpfEnforceRPF": AnyCase<ReversePath> = "Loose";
        /// Destinations that are never taken for a service.
        bpf_exclude_cidrs_from_nat "bpfExcludeCIDRsFromNAT": Vec<Cidr>;
        /// The size of the buffer in which programs report events.
        bpf_export_buffer_size_mb "bpfExportBufferSizeMB": i64 = "1";
        /// The mark of connections from outside to services.
        bpf_ext_to_service_connmark "bpfExtToServiceConnmark": Within<0, 4_294_967_295> = "0";
        /// Whether the backend's node answers clients outside directly.
        bpf_external_service_mode "bpfExternalServiceMode": AnyCase<ExternalServiceMode> = "Tunnel";
        /// Interfaces whose packets the kernel's connection tracking must see.
        bpf_force_track_packets_from_ifaces "bpfForceTrackPacketsFromIfaces": Vec<InterfaceName> = "docker+";
        /// Whether the kernel's connection tracking is left out.
        bpf_host_conntrack_bypass "bpfHostConntrackBypass": bool = "false";
        /// Whether the host reaches services without programs at connect time.
        bpf_host_networked_nat_without_ctlb "bpfHostNetworkedNATWithoutCTLB": Toggle = "Enabled";
        /// How long fragments are waited for; 0 for the kernel's time.
        bpf_ip_frag_timeout "bpfIPFragTimeout": GoDuration = "0s";
        /// Whether fragments are put together before they are judged.
        bpf_ip_fragment_reassembly_enabled "bpfIPFragmentReassemblyEnabled": bool = "true";
        /// Whether the kernel's hardening of compiled programs is kept.
        bpf_jit_hardening "bpfJITHardening": JitHardening = "Auto";
        /// The port of the probe for services' health.
        bpf_kube_proxy_healthz_port "bpfKubeProxyHealthzPort": i64 = "10256";
        /// Whether what kube-proxy left is removed.
        bpf_kube_proxy_iptables_cleanup_enabled "bpfKubeProxyIptablesCleanupEnabled": bool = "true";
        /// Least time between two updates of services.
        bpf_kube_proxy_min_sync_period "bpfKubeProxyMinSyncPeriod": GoDuration = "1s";
        /// Interfaces to the fabric without Ethernet headers.
        bpf_l3_iface_pattern "bpfL3IfacePattern": Regex;
        /// Which packets are logged, by interface.
        bpf_log_filters "bpfLogFilters": BTreeMap<String, String>;
        /// How much the programs log.
        bpf_log_level "bpfLogLevel": AnyCase<BpfLog> = "Off";
        /// The most backends of a service with consistent hashing.
        bpf_maglev_max_endpoints_per_service "bpfMaglevMaxEndpointsPerService": Within<1, 3_000> = "100";
        /// The most services with consistent hashing.
        bpf_maglev_max_services "bpfMaglevMaxServices": Within<1, 3_000> = "100";
        /// The most tracked connections.
        bpf_map_size_conntrack "bpfMapSizeConntrack": i64 = "512000";
        /// The most connections that are removed at once.
        bpf_map_size_conntrack_cleanup_queue "bpfMapSizeConntrackCleanupQueue": Within<1, { i64::MAX }> = "100000";
        /// What happens when the table of connections is full.
        bpf_map_size_conntrack_scaling "bpfMapSizeConntrackScaling": AnyCase<ConntrackScaling> = "DoubleIfFull";
        /// The most members of all sets.
        bpf_map_size_ip_sets "bpfMapSizeIPSets": i64 = "1048576";
        /// The most interfaces.
        bpf_map_size_if_state "bpfMapSizeIfState": i64 = "1000";
        /// The most clients that keep their backend.
        bpf_map_size_nat_affinity "bpfMapSizeNATAffinity": i64 = "65536";
        /// The most backends.
        bpf_map_size_nat_backend "bpfMapSizeNATBackend": i64 = "262144";
        /// The most addresses and ports of services.
        bpf_map_size_nat_frontend "bpfMapSizeNATFrontend": i64 = "65536";
        /// The most tracked connections for each processor; 0 to count them together.
        bpf_map_size_per_cpu_conntrack "bpfMapSizePerCpuConntrack": i64 = "0";
        /// The most routes.
        bpf_map_size_route "bpfMapSizeRoute": i64 = "262144";
        /// The host's address towards workloads behind an overlay.
        bpf_overlay_host_source_ip "bpfOverlayHostSourceIP": OverlaySource = "TunnelAddress";
        /// The ports that connections get when theirs is taken.
        bpf_psnat_ports "bpfPSNATPorts": PortRange = "20000:29999";
        /// Whether policy is kept in a form that people read.
        bpf_policy_debug_enabled "bpfPolicyDebugEnabled": bool = "true";
        /// Whether programs are timed.
        bpf_profiling "bpfProfiling": Toggle = "Disabled";
        /// Whether packets go to the workload's end of its interface at once.
        bpf_redirect_to_peer "bpfRedirectToPeer": Toggle = "Enabled";

        // Data path: Windows, OpenStack, XDP.
        /// Whether the Windows firewall is opened for metrics.
        windows_manage_firewall_rules "windowsManageFirewallRules": Toggle = "Disabled";
        /// Time before the state of an endpoint is reported.
        endpoint_reporting_delay "endpointReportingDelay": GoDuration = "1s";
        /// Whether the states of endpoints are reported to the store.
        endpoint_reporting_enabled "endpointReportingEnabled": bool = "false";
        /// The server of cloud-init's data; `none` for none.
        metadata_addr "metadataAddr": String = "127.0.0.1";
        /// The port of that server.
        metadata_port "metadataPort": i64 = "8775";
        /// The region of OpenStack that the node belongs to.
        openstack_region "openstackRegion": Region;
        /// Time between two reports that the node lives; 0 for none.
        reporting_interval "reportingInterval": GoDuration = "30s";
        /// How long such a report holds.
        reporting_ttl "reportingTTL": GoDuration = "90s";
        /// Whether XDP is used without the driver's help.
        generic_xdp_enabled "genericXDPEnabled": bool = "false";
        /// Whether untracked rules that deny are applied by XDP.
        xdp_enabled "xdpEnabled": bool = "true";
        /// Time between two comparisons of XDP's tables; 0 for none.
        xdp_refresh_interval "xdpRefreshInterval": GoDuration = "90s";

        // Overlays.
        /// Whether there is a VXLAN of IPv4; absent means that the pools tell.
        vxlan_enabled "vxlanEnabled": bool;
        /// The MTU of the IPv4 VXLAN; 0 for what fits.
        vxlan_mtu "vxlanMTU": i64 = "0";
        /// The MTU of the IPv6 VXLAN; 0 for what fits.
        vxlan_mtu_v6 "vxlanMTUV6": i64 = "0";
        /// The UDP port of VXLAN.
        vxlan_port "vxlanPort": i64 = "4789";
        /// The number of the VXLAN.
        vxlan_vni "vxlanVNI": i64 = "4096";
        /// Whether there is an IP in IP interface; absent means that the pools tell.
        ipip_enabled "ipipEnabled": bool;
        /// The MTU of IP in IP; 0 for what fits.
        ipip_mtu "ipipMTU": i64 = "0";
        /// Whether IPv4 between workloads is encrypted.
        wireguard_enabled "wireguardEnabled": bool = "false";
        /// Whether IPv6 between workloads is encrypted.
        wireguard_enabled_v6 "wireguardEnabledV6": bool = "false";
        /// Whether packets between hosts are encrypted too.
        wireguard_host_encryption_enabled "wireguardHostEncryptionEnabled": bool = "false";
        /// The IPv4 WireGuard interface.
        wireguard_interface_name "wireguardInterfaceName": InterfaceName = "wireguard.cali";
        /// The IPv6 WireGuard interface.
        wireguard_interface_name_v6 "wireguardInterfaceNameV6": InterfaceName = "wg-v6.cali";
        /// Time between two keepalives; 0 for none.
        wireguard_keep_alive "wireguardKeepAlive": GoDuration = "0s";
        /// The UDP port of IPv4 WireGuard.
        wireguard_listening_port "wireguardListeningPort": Within<1, 65_535> = "51820";
        /// The UDP port of IPv6 WireGuard.
        wireguard_listening_port_v6 "wireguardListeningPortV6": Within<1, 65_535> = "51821";
        /// The MTU of IPv4 WireGuard; 0 for what fits.
        wireguard_mtu "wireguardMTU": i64 = "1440";
        /// The MTU of IPv6 WireGuard; 0 for what fits.
        wireguard_mtu_v6 "wireguardMTUV6": i64 = "1420";
        /// The priority of WireGuard's routing rule.
        wireguard_routing_rule_priority "wireguardRoutingRulePriority": Within<1, 32_765> = "99";
        /// Whether WireGuard has a thread for each device.
        wireguard_threading_enabled "wireguardThreadingEnabled": bool = "false";

        // Flow logs, AWS, debugging, usage.
        /// Whether the collector of flows logs all it sees.
        flow_logs_collector_debug_trace "flowLogsCollectorDebugTrace": bool = "false";
        /// Time between two exports of flows.
        flow_logs_flush_interval "flowLogsFlushInterval": GoDuration = "300s";
        /// The server to which flows are told.
        flow_logs_goldmane_server "flowLogsGoldmaneServer": String;
        /// Whether flows are told on a local socket.
        flow_logs_local_reporter "flowLogsLocalReporter": Toggle = "Disabled";
        /// When flows in progress are judged again.
        flow_logs_policy_evaluation_mode "flowLogsPolicyEvaluationMode": FlowEvaluation = "Continuous";
        /// What to do about Amazon's check of source and destination.
        aws_src_dst_check "awsSrcDstCheck": SrcDstCheck = "DoNothing";
        /// Whether writers wait for a full log.
        debug_disable_log_dropping "debugDisableLogDropping": bool = "false";
        /// The address on which profiles are served.
        debug_host "debugHost": HostName = "localhost";
        /// Where a signal writes a profile of the memory.
        debug_memory_profile_path "debugMemoryProfilePath": String;
        /// The port on which profiles are served; absent means not at all.
        debug_port "debugPort": i64;
        /// For tests of the watchdog: when the calculation hangs.
        debug_simulate_calc_graph_hang_after "debugSimulateCalcGraphHangAfter": GoDuration = "0s";
        /// For tests: how much slower each write is.
        debug_simulate_dataplane_apply_delay "debugSimulateDataplaneApplyDelay": GoDuration = "0s";
        /// For tests of the watchdog: when the data path hangs.
        debug_simulate_dataplane_hang_after "debugSimulateDataplaneHangAfter": GoDuration = "0s";
        /// Whether version and size are told to projectcalico.org.
        usage_reporting_enabled "usageReportingEnabled": bool = "true";
        /// Time before the first such report.
        usage_reporting_initial_delay "usageReportingInitialDelay": GoDuration = "300s";
        /// Time between two such reports.
        usage_reporting_interval "usageReportingInterval": GoDuration = "86400s";
    }
}

// In a box: every object takes the room of the largest, and there are many of the small ones.
impl Spec for Box<FelixConfigurationSpec> {
    const KIND: Kind = Kind::FelixConfiguration;
    const EMPTY_SAYS: bool = true;
}

impl CheckObject for Box<FelixConfigurationSpec> {}

impl Check for FelixConfigurationSpec {
    // The types hold all there is to hold; no field depends on another.
    fn check(&self, _: &mut Faults) {}
}

types::settings! {
    /// How long tracked connections may be silent, by their state.
    ConntrackTimeouts {
        /// Connections just made, whatever their state.
        creation_grace_period "creationGracePeriod": ConntrackTimeout = "10s";
        /// TCP with no answer yet.
        tcp_syn_sent "tcpSynSent": ConntrackTimeout = "20s";
        /// TCP in use.
        tcp_established "tcpEstablished": ConntrackTimeout = "1h";
        /// TCP that both ends have closed.
        tcp_fins_seen "tcpFinsSeen": ConntrackTimeout = "Auto";
        /// TCP that one end has broken off.
        tcp_reset_seen "tcpResetSeen": ConntrackTimeout = "40s";
        /// UDP.
        udp_timeout "udpTimeout": ConntrackTimeout = "60s";
        /// Other protocols.
        generic_timeout "genericTimeout": ConntrackTimeout = "10m";
        /// ICMP and ICMPv6.
        icmp_timeout "icmpTimeout": ConntrackTimeout = "5s";
    }
}

#[cfg(test)]
mod tests;
