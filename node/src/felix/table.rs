//! Every parameter of Felix: one line says its names, its default, what it may be, and what cleat does with it.
//!
//! A parameter is set by a field of FelixConfiguration (the second name; without one, by this host only), by `FELIX_` and its
//! first name in the environment, or by its first name in `felix.cfg`.

use super::schema::Schema::{
    self, Bool, Cidrs, Dscp, Duration, Endpoints, Exclusions, File, Host, Int, Interfaces, Ipv4,
    Ipv6, Like, Mark, Millis, OneOf, Pairs, PortRange, PortRanges, Prefixes, ProtoPorts, Regex,
    Region, TableRange, TableRanges, Text, Timeouts,
};
use super::schema::{LEAST, MOST};

/// A parameter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Param {
    /// Its name in `felix.cfg`, and after `FELIX_` in the environment.
    pub name: &'static str,
    /// The field of FelixConfiguration; empty if there is none.
    pub field: &'static str,
    /// What Calico's Felix takes without it; empty for nothing.
    pub default: &'static str,
    /// What cleat takes instead, if that is something else.
    pub own_default: Option<&'static str>,
    /// What values it may have.
    pub schema: Schema,
    /// Only the host itself may set it.
    pub local: bool,
    /// Felix does not start with a wrong value; of the others it takes the default.
    pub needed: bool,
    /// What cleat does with it.
    pub used: Used,
}

/// What cleat does with a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Used {
    /// Nothing: there is no such thing here, or not yet.
    No,
    /// It takes effect at the next start.
    AtStart,
    /// It takes effect at once.
    Live,
}

impl std::fmt::Display for Used {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::No => "no",
            Self::AtStart => "at start",
            Self::Live => "live",
        })
    }
}

impl Param {
    const fn new(
        name: &'static str,
        field: &'static str,
        default: &'static str,
        schema: Schema,
    ) -> Self {
        Self {
            name,
            field,
            default,
            own_default: None,
            schema,
            local: false,
            needed: false,
            used: Used::No,
        }
    }

    const fn local(mut self) -> Self {
        self.local = true;
        self
    }

    const fn needed(mut self) -> Self {
        self.needed = true;
        self
    }

    const fn live(mut self) -> Self {
        self.used = Used::Live;
        self
    }

    const fn at_start(mut self) -> Self {
        self.used = Used::AtStart;
        self
    }

    const fn here(mut self, default: &'static str) -> Self {
        self.own_default = Some(default);
        self
    }

    /// The default in force here.
    pub fn default_text(&self) -> &'static str {
        self.own_default.unwrap_or(self.default)
    }

    /// The parameter of a name, in any case of letters.
    pub fn named(name: &str) -> Option<&'static Self> {
        PARAMS
            .iter()
            .find(|param| param.name.eq_ignore_ascii_case(name))
    }
}

/// Every parameter, in the order and the groups of Calico's documentation.
#[rustfmt::skip]
pub const PARAMS: &[Param] = &[
    // Datastore connection.
    Param::new("DatastoreType", "", "etcdv3", OneOf(&["etcdv3", "kubernetes"])).local().needed().at_start(),
    Param::new("EtcdAddr", "", "127.0.0.1:2379", Like(r"^[^:/]+:\d+$")).local().at_start(),
    Param::new("EtcdCaFile", "", "", File).local().at_start(),
    Param::new("EtcdCertFile", "", "", File).local().at_start(),
    Param::new("EtcdEndpoints", "", "", Endpoints).local().at_start(),
    Param::new("EtcdKeyFile", "", "", File).local().at_start(),
    Param::new("EtcdScheme", "", "http", OneOf(&["http", "https"])).local().at_start(),
    Param::new("FelixHostname", "", "", Like(r"^[a-zA-Z0-9_.-]+$")).local().at_start(),
    Param::new("TyphaAddr", "", "", Like(r"^[^:/]+:\d+$")).local(),
    Param::new("TyphaCAFile", "", "", File).local(),
    Param::new("TyphaCN", "", "", Text).local(),
    Param::new("TyphaCertFile", "", "", File).local(),
    Param::new("TyphaK8sNamespace", "", "kube-system", Text).local(),
    Param::new("TyphaK8sServiceName", "", "", Text).local(),
    Param::new("TyphaKeyFile", "", "", File).local(),
    Param::new("TyphaReadTimeout", "", "30", Duration).local(),
    Param::new("TyphaURISAN", "", "", Text).local(),
    Param::new("TyphaWriteTimeout", "", "10", Duration).local(),
    // Process: Feature detection/overrides.
    Param::new("FeatureDetectOverride", "featureDetectOverride", "", Like(r"^([a-zA-Z0-9-_]+=(true|false|),)*([a-zA-Z0-9-_]+=(true|false|))?$")),
    Param::new("FeatureGates", "featureGates", "", Like(r"^([a-zA-Z0-9-_]+=([^=]+),)*([a-zA-Z0-9-_]+=([^=]+))?$")),
    // Process: Go runtime.
    Param::new("GoGCThreshold", "goGCThreshold", "40", Int(-1, MOST)),
    Param::new("GoMaxProcs", "goMaxProcs", "-1", Int(-1, MOST)),
    Param::new("GoMemoryLimitMB", "goMemoryLimitMB", "-1", Int(-1, MOST)),
    // Process: Health port and timeouts.
    Param::new("HealthEnabled", "healthEnabled", "false", Bool).live(),
    Param::new("HealthHost", "healthHost", "localhost", Host).live(),
    Param::new("HealthPort", "healthPort", "9099", Int(0, 65_535)).live(),
    Param::new("HealthTimeoutOverrides", "healthTimeoutOverrides", "", Pairs),
    // Process: Logging.
    Param::new("LogActionRateLimit", "logActionRateLimit", "", Like(r"^[1-9]\d{0,3}/(?:second|minute|hour|day)$")),
    Param::new("LogActionRateLimitBurst", "logActionRateLimitBurst", "5", Int(0, 9999)),
    Param::new("LogDebugFilenameRegex", "logDebugFilenameRegex", "", Regex),
    Param::new("LogFilePath", "logFilePath", "/var/log/calico/felix.log", Text).needed(),
    Param::new("LogPrefix", "logPrefix", "calico-packet", Like(r"^([a-zA-Z0-9%: /_-])*$")),
    Param::new("LogSeverityFile", "logSeverityFile", "INFO", OneOf(&["Debug", "Error", "Fatal", "Info", "Trace", "Warning"])),
    Param::new("LogSeverityScreen", "logSeverityScreen", "INFO", OneOf(&["Debug", "Error", "Fatal", "Info", "Trace", "Warning"])).live(),
    Param::new("LogSeveritySys", "logSeveritySys", "INFO", OneOf(&["Debug", "Error", "Fatal", "Info", "Trace", "Warning"])),
    // Process: Prometheus metrics.
    Param::new("PrometheusGoMetricsEnabled", "prometheusGoMetricsEnabled", "true", Bool),
    Param::new("PrometheusMetricsCAFile", "prometheusMetricsCAFile", "", Text),
    Param::new("PrometheusMetricsCertFile", "prometheusMetricsCertFile", "", Text),
    Param::new("PrometheusMetricsClientAuth", "prometheusMetricsClientAuth", "NoClientCert", OneOf(&["NoClientCert", "RequireAndVerifyClientCert", "RequireAnyClientCert", "VerifyClientCertIfGiven"])),
    Param::new("PrometheusMetricsEnabled", "prometheusMetricsEnabled", "false", Bool).live(),
    Param::new("PrometheusMetricsHost", "prometheusMetricsHost", "", Host).live(),
    Param::new("PrometheusMetricsKeyFile", "prometheusMetricsKeyFile", "", Text),
    Param::new("PrometheusMetricsPort", "prometheusMetricsPort", "9091", Int(0, 65_535)).live(),
    Param::new("PrometheusProcessMetricsEnabled", "prometheusProcessMetricsEnabled", "true", Bool),
    Param::new("PrometheusWireGuardMetricsEnabled", "prometheusWireGuardMetricsEnabled", "true", Bool),
    // Data path: Common.
    Param::new("AllowIPIPPacketsFromWorkloads", "allowIPIPPacketsFromWorkloads", "false", Bool),
    Param::new("AllowVXLANPacketsFromWorkloads", "allowVXLANPacketsFromWorkloads", "false", Bool),
    Param::new("CgroupV2Path", "cgroupV2Path", "", Text),
    Param::new("ChainInsertMode", "chainInsertMode", "insert", OneOf(&["Append", "Insert"])).needed(),
    Param::new("DataplaneDriver", "dataplaneDriver", "calico-iptables-plugin", Text).needed(),
    Param::new("DataplaneWatchdogTimeout", "dataplaneWatchdogTimeout", "90", Duration),
    Param::new("DefaultEndpointToHostAction", "defaultEndpointToHostAction", "DROP", OneOf(&["Accept", "Drop", "Return"])).needed().live(),
    Param::new("DeviceRouteProtocol", "deviceRouteProtocol", "3", Int(0, 255)).live().here("80"),
    Param::new("DeviceRouteSourceAddress", "deviceRouteSourceAddress", "", Ipv4).live(),
    Param::new("DeviceRouteSourceAddressIPv6", "deviceRouteSourceAddressIPv6", "", Ipv6).live(),
    Param::new("DisableConntrackInvalidCheck", "disableConntrackInvalidCheck", "false", Bool),
    Param::new("EndpointStatusPathPrefix", "endpointStatusPathPrefix", "/var/run/calico", Text).live(),
    Param::new("ExternalNodesCIDRList", "externalNodesList", "", Cidrs).needed(),
    Param::new("FailsafeInboundHostPorts", "failsafeInboundHostPorts", "tcp:22,udp:68,tcp:179,tcp:2379,tcp:2380,tcp:5473,tcp:6443,tcp:6666,tcp:6667", ProtoPorts).needed(),
    Param::new("FailsafeOutboundHostPorts", "failsafeOutboundHostPorts", "udp:53,udp:67,tcp:179,tcp:2379,tcp:2380,tcp:5473,tcp:6443,tcp:6666,tcp:6667", ProtoPorts).needed(),
    Param::new("FloatingIPs", "floatingIPs", "Disabled", OneOf(&["Disabled", "Enabled"])),
    Param::new("IPForwarding", "ipForwarding", "Enabled", OneOf(&["Disabled", "Enabled"])).live(),
    Param::new("IPv4ElevatedRoutePriority", "ipv4ElevatedRoutePriority", "512", Int(1, 2_147_483_646)),
    Param::new("IPv4NormalRoutePriority", "ipv4NormalRoutePriority", "1024", Int(1, 2_147_483_646)),
    Param::new("IPv6ElevatedRoutePriority", "ipv6ElevatedRoutePriority", "512", Int(1, 2_147_483_646)),
    Param::new("IPv6NormalRoutePriority", "ipv6NormalRoutePriority", "1024", Int(1, 2_147_483_646)),
    Param::new("InterfaceExclude", "interfaceExclude", "kube-ipvs0", Exclusions),
    Param::new("InterfacePrefix", "interfacePrefix", "cali", Prefixes).needed().live().here("cali,tap"),
    Param::new("InterfaceRefreshInterval", "interfaceRefreshInterval", "90", Duration),
    Param::new("Ipv6Support", "ipv6Support", "true", Bool),
    Param::new("IstioAmbientMode", "istioAmbientMode", "Disabled", OneOf(&["Disabled", "Enabled"])),
    Param::new("IstioDSCPMark", "istioDSCPMark", "23", Dscp),
    Param::new("LiveMigrationRouteConvergenceTime", "liveMigrationRouteConvergenceTime", "30", Duration),
    Param::new("LocalSubnetL2Reachability", "localSubnetL2Reachability", "Disabled", OneOf(&["Disabled", "PodsAndLoadBalancers"])),
    Param::new("LocalSubnetL2ReachabilityRefreshInterval", "localSubnetL2ReachabilityRefreshInterval", "120", Duration),
    Param::new("MTUIfacePattern", "mtuIfacePattern", "^((en|wl|ww|sl|ib)[Pcopsvx].*|(eth|wlan|wwan).*)", Regex),
    Param::new("NATOutgoingAddress", "natOutgoingAddress", "", Ipv4),
    Param::new("NATOutgoingExclusions", "natOutgoingExclusions", "IPPoolsOnly", OneOf(&["IPPoolsAndHostIPs", "IPPoolsOnly"])),
    Param::new("NATPortRange", "natPortRange", "", PortRange),
    Param::new("NFTablesFlowTableDataIfacePattern", "nftablesFlowTableDataIfacePattern", "", Regex),
    Param::new("NFTablesFlowTableOffload", "nftablesFlowTableOffload", "Disabled", OneOf(&["All", "Disabled"])),
    Param::new("NFTablesMode", "nftablesMode", "Auto", OneOf(&["Auto", "Disabled", "Enabled"])),
    Param::new("NetlinkTimeoutSecs", "netlinkTimeout", "10", Duration),
    Param::new("PolicySyncPathPrefix", "policySyncPathPrefix", "", Text),
    Param::new("ProgramClusterRoutes", "programClusterRoutes", "EnabledIPIPOnly", OneOf(&["Disabled", "Enabled", "EnabledIPIPOnly", "EnabledNoEncapOnly"])),
    Param::new("RemoveExternalRoutes", "removeExternalRoutes", "true", Bool),
    Param::new("RequireMTUFile", "requireMTUFile", "false", Bool),
    Param::new("RouteRefreshInterval", "routeRefreshInterval", "90", Duration).live(),
    Param::new("RouteSource", "routeSource", "CalicoIPAM", OneOf(&["CalicoIPAM", "WorkloadIPs"])),
    Param::new("RouteSyncDisabled", "routeSyncDisabled", "false", Bool),
    Param::new("RouteTableRange", "routeTableRange", "", TableRange).needed(),
    Param::new("RouteTableRanges", "routeTableRanges", "", TableRanges).needed(),
    Param::new("ServiceLoopPrevention", "serviceLoopPrevention", "Drop", OneOf(&["Disabled", "Drop", "Reject"])),
    Param::new("SidecarAccelerationEnabled", "sidecarAccelerationEnabled", "false", Bool),
    Param::new("UseInternalDataplaneDriver", "useInternalDataplaneDriver", "true", Bool),
    Param::new("WorkloadSourceSpoofing", "workloadSourceSpoofing", "Disabled", OneOf(&["Any", "Disabled"])),
    // Data path: iptables.
    Param::new("IpsetsRefreshInterval", "ipsetsRefreshInterval", "90", Duration),
    Param::new("IptablesBackend", "iptablesBackend", "auto", OneOf(&["Auto", "Legacy", "NFT"])),
    Param::new("IptablesFilterAllowAction", "iptablesFilterAllowAction", "ACCEPT", OneOf(&["Accept", "Return"])).needed(),
    Param::new("IptablesFilterDenyAction", "iptablesFilterDenyAction", "DROP", OneOf(&["Drop", "Reject"])).needed(),
    Param::new("IptablesLockProbeIntervalMillis", "iptablesLockProbeInterval", "50", Millis),
    Param::new("IptablesMangleAllowAction", "iptablesMangleAllowAction", "ACCEPT", OneOf(&["Accept", "Return"])).needed(),
    Param::new("IptablesMarkMask", "iptablesMarkMask", "0xffff0000", Mark(2)).needed(),
    Param::new("IptablesNATOutgoingInterfaceFilter", "iptablesNATOutgoingInterfaceFilter", "", Text),
    Param::new("IptablesPostWriteCheckIntervalSecs", "iptablesPostWriteCheckInterval", "5", Duration),
    Param::new("IptablesRefreshInterval", "iptablesRefreshInterval", "180", Duration),
    Param::new("KubeNodePortRanges", "kubeNodePortRanges", "30000:32767", PortRanges),
    Param::new("MaxIpsetSize", "maxIpsetSize", "1048576", Int(1, MOST)),
    // Data path: nftables.
    Param::new("NftablesFilterAllowAction", "nftablesFilterAllowAction", "ACCEPT", OneOf(&["Accept", "Return"])).needed(),
    Param::new("NftablesFilterDenyAction", "nftablesFilterDenyAction", "DROP", OneOf(&["Drop", "Reject"])).needed(),
    Param::new("NftablesMangleAllowAction", "nftablesMangleAllowAction", "ACCEPT", OneOf(&["Accept", "Return"])).needed(),
    Param::new("NftablesMarkMask", "nftablesMarkMask", "0xffff0000", Mark(8)).needed(),
    Param::new("NftablesRefreshInterval", "nftablesRefreshInterval", "180", Duration),
    // Data path: eBPF.
    Param::new("BPFAttachType", "bpfAttachType", "Netkit", OneOf(&["Netkit", "TC", "TCX"])),
    Param::new("BPFCTLBLogFilter", "bpfCTLBLogFilter", "", Text),
    Param::new("BPFConnectTimeLoadBalancing", "bpfConnectTimeLoadBalancing", "TCP", OneOf(&["Disabled", "Enabled", "TCP"])),
    Param::new("BPFConnectTimeLoadBalancingEnabled", "bpfConnectTimeLoadBalancingEnabled", "", Bool),
    Param::new("BPFConntrackCleanupMode", "bpfConntrackMode", "Auto", OneOf(&["Auto", "BPFProgram", "Userspace"])),
    Param::new("BPFConntrackLogLevel", "bpfConntrackLogLevel", "off", OneOf(&["Debug", "Off"])),
    Param::new("BPFConntrackTimeouts", "bpfConntrackTimeouts", "CreationGracePeriod=10s,TCPSynSent=20s,TCPEstablished=1h,TCPFinsSeen=Auto,TCPResetSeen=40s,UDPTimeout=60s,GenericTimeout=10m,ICMPTimeout=5s", Timeouts).live(),
    Param::new("BPFDSROptoutCIDRs", "bpfDSROptoutCIDRs", "", Cidrs),
    Param::new("BPFDataIfacePattern", "bpfDataIfacePattern", "^((en|wl|ww|sl|ib)[Popsx].*|(eth|wlan|wwan|bond).*)", Regex).live().here("^((en|ib)[Popsx].*|eth\\d+|bond\\d+)$"),
    Param::new("BPFDisableGROForIfaces", "bpfDisableGROForIfaces", "", Regex),
    Param::new("BPFDisableUnprivileged", "bpfDisableUnprivileged", "true", Bool),
    Param::new("BPFEnabled", "bpfEnabled", "false", Bool),
    Param::new("BPFEnforceRPF", "bpfEnforceRPF", "Loose", OneOf(&["Disabled", "Loose", "Strict"])),
    Param::new("BPFExcludeCIDRsFromNAT", "bpfExcludeCIDRsFromNAT", "", Cidrs),
    Param::new("BPFExportBufferSizeMB", "bpfExportBufferSizeMB", "1", Int(LEAST, MOST)),
    Param::new("BPFExtToServiceConnmark", "bpfExtToServiceConnmark", "0", Int(LEAST, MOST)),
    Param::new("BPFExternalServiceMode", "bpfExternalServiceMode", "tunnel", OneOf(&["DSR", "Tunnel"])),
    Param::new("BPFForceTrackPacketsFromIfaces", "bpfForceTrackPacketsFromIfaces", "docker+", Interfaces),
    Param::new("BPFHostConntrackBypass", "bpfHostConntrackBypass", "false", Bool),
    Param::new("BPFHostNetworkedNATWithoutCTLB", "bpfHostNetworkedNATWithoutCTLB", "Enabled", OneOf(&["Disabled", "Enabled"])),
    Param::new("BPFIPFragTimeout", "bpfIPFragTimeout", "0", Duration),
    Param::new("BPFIPFragmentReassemblyEnabled", "bpfIPFragmentReassemblyEnabled", "true", Bool),
    Param::new("BPFJITHardening", "bpfJITHardening", "Auto", OneOf(&["Auto", "Strict"])),
    Param::new("BPFKubeProxyHealthzPort", "bpfKubeProxyHealthzPort", "10256", Int(0, 65_535)),
    Param::new("BPFKubeProxyIptablesCleanupEnabled", "bpfKubeProxyIptablesCleanupEnabled", "true", Bool),
    Param::new("BPFKubeProxyMinSyncPeriod", "bpfKubeProxyMinSyncPeriod", "1", Duration),
    Param::new("BPFL3IfacePattern", "bpfL3IfacePattern", "", Regex),
    Param::new("BPFLogFilters", "bpfLogFilters", "", Pairs),
    Param::new("BPFLogLevel", "bpfLogLevel", "off", OneOf(&["Debug", "Info", "Off"])),
    Param::new("BPFMaglevMaxEndpointsPerService", "bpfMaglevMaxEndpointsPerService", "100", Int(1, 3000)),
    Param::new("BPFMaglevMaxServices", "bpfMaglevMaxServices", "100", Int(1, 3000)),
    Param::new("BPFMapSizeConntrack", "bpfMapSizeConntrack", "512000", Int(LEAST, MOST)),
    Param::new("BPFMapSizeConntrackCleanupQueue", "bpfMapSizeConntrackCleanupQueue", "100000", Int(1, MOST)),
    Param::new("BPFMapSizeConntrackScaling", "bpfMapSizeConntrackScaling", "DoubleIfFull", OneOf(&["Disabled", "DoubleIfFull"])),
    Param::new("BPFMapSizeIPSets", "bpfMapSizeIPSets", "1048576", Int(LEAST, MOST)),
    Param::new("BPFMapSizeIfState", "bpfMapSizeIfState", "1000", Int(LEAST, MOST)),
    Param::new("BPFMapSizeNATAffinity", "bpfMapSizeNATAffinity", "65536", Int(LEAST, MOST)),
    Param::new("BPFMapSizeNATBackend", "bpfMapSizeNATBackend", "262144", Int(LEAST, MOST)),
    Param::new("BPFMapSizeNATFrontend", "bpfMapSizeNATFrontend", "65536", Int(LEAST, MOST)),
    Param::new("BPFMapSizePerCPUConntrack", "bpfMapSizePerCpuConntrack", "0", Int(LEAST, MOST)),
    Param::new("BPFMapSizeRoute", "bpfMapSizeRoute", "262144", Int(LEAST, MOST)),
    Param::new("BPFOverlayHostSourceIP", "bpfOverlayHostSourceIP", "TunnelAddress", OneOf(&["HostAddress", "TunnelAddress"])),
    Param::new("BPFPSNATPorts", "bpfPSNATPorts", "20000:29999", PortRange),
    Param::new("BPFPolicyDebugEnabled", "bpfPolicyDebugEnabled", "true", Bool),
    Param::new("BPFProfiling", "bpfProfiling", "Disabled", OneOf(&["Disabled", "Enabled"])),
    Param::new("BPFRedirectToPeer", "bpfRedirectToPeer", "Enabled", OneOf(&["Disabled", "Enabled"])),
    // Data path: Windows.
    Param::new("WindowsManageFirewallRules", "windowsManageFirewallRules", "Disabled", OneOf(&["Disabled", "Enabled"])),
    // Data path: OpenStack support.
    Param::new("EndpointReportingDelaySecs", "endpointReportingDelay", "1", Duration).live(),
    Param::new("EndpointReportingEnabled", "endpointReportingEnabled", "false", Bool).live(),
    Param::new("MetadataAddr", "metadataAddr", "127.0.0.1", Text).needed(),
    Param::new("MetadataPort", "metadataPort", "8775", Int(0, 65_535)).needed(),
    Param::new("OpenstackRegion", "openstackRegion", "", Region).needed().live(),
    Param::new("ReportingIntervalSecs", "reportingInterval", "30", Duration).live(),
    Param::new("ReportingTTLSecs", "reportingTTL", "90", Duration).live(),
    // Data path: XDP acceleration for iptables data path.
    Param::new("GenericXDPEnabled", "genericXDPEnabled", "false", Bool),
    Param::new("XDPEnabled", "xdpEnabled", "true", Bool),
    Param::new("XDPRefreshInterval", "xdpRefreshInterval", "90", Duration),
    // Overlay: VXLAN overlay.
    Param::new("VXLANEnabled", "vxlanEnabled", "", Bool),
    Param::new("VXLANMTU", "vxlanMTU", "0", Int(LEAST, MOST)),
    Param::new("VXLANMTUV6", "vxlanMTUV6", "0", Int(LEAST, MOST)),
    Param::new("VXLANPort", "vxlanPort", "4789", Int(0, 65_535)),
    Param::new("VXLANVNI", "vxlanVNI", "4096", Int(LEAST, MOST)),
    // Overlay: IP-in-IP.
    Param::new("IpInIpEnabled", "ipipEnabled", "", Bool),
    Param::new("IpInIpMtu", "ipipMTU", "0", Int(LEAST, MOST)),
    // Overlay: Wireguard.
    Param::new("WireguardEnabled", "wireguardEnabled", "false", Bool),
    Param::new("WireguardEnabledV6", "wireguardEnabledV6", "false", Bool),
    Param::new("WireguardHostEncryptionEnabled", "wireguardHostEncryptionEnabled", "false", Bool),
    Param::new("WireguardInterfaceName", "wireguardInterfaceName", "wireguard.cali", Text),
    Param::new("WireguardInterfaceNameV6", "wireguardInterfaceNameV6", "wg-v6.cali", Text),
    Param::new("WireguardListeningPort", "wireguardListeningPort", "51820", Int(0, 65_535)),
    Param::new("WireguardListeningPortV6", "wireguardListeningPortV6", "51821", Int(0, 65_535)),
    Param::new("WireguardMTU", "wireguardMTU", "0", Int(LEAST, MOST)),
    Param::new("WireguardMTUV6", "wireguardMTUV6", "0", Int(LEAST, MOST)),
    Param::new("WireguardPersistentKeepAlive", "wireguardKeepAlive", "0", Duration),
    Param::new("WireguardRoutingRulePriority", "wireguardRoutingRulePriority", "99", Int(LEAST, MOST)),
    Param::new("WireguardThreadingEnabled", "wireguardThreadingEnabled", "false", Bool),
    // Flow logs: file reports.
    Param::new("FlowLogsCollectorDebugTrace", "flowLogsCollectorDebugTrace", "false", Bool),
    Param::new("FlowLogsFlushInterval", "flowLogsFlushInterval", "300", Duration),
    Param::new("FlowLogsGoldmaneServer", "flowLogsGoldmaneServer", "", Text),
    Param::new("FlowLogsLocalReporter", "flowLogsLocalReporter", "Disabled", OneOf(&["Disabled", "Enabled"])),
    Param::new("FlowLogsPolicyEvaluationMode", "flowLogsPolicyEvaluationMode", "Continuous", OneOf(&["Continuous", "None"])),
    // AWS integration.
    Param::new("AWSSrcDstCheck", "awsSrcDstCheck", "DoNothing", OneOf(&["Disable", "DoNothing", "Enable"])),
    // Debug/test-only (generally unsupported).
    Param::new("DebugBPFCgroupV2", "", "", Text).local(),
    Param::new("DebugCPUProfilePath", "", "/tmp/felix-cpu-<timestamp>.pprof", Text),
    Param::new("DebugDisableLogDropping", "debugDisableLogDropping", "false", Bool),
    Param::new("DebugHost", "debugHost", "localhost", Host),
    Param::new("DebugMemoryProfilePath", "debugMemoryProfilePath", "", Text),
    Param::new("DebugPanicAfter", "", "0", Duration),
    Param::new("DebugPort", "debugPort", "", Int(0, 65_535)),
    Param::new("DebugSimulateCalcGraphHangAfter", "debugSimulateCalcGraphHangAfter", "0", Duration),
    Param::new("DebugSimulateDataRace", "", "false", Bool),
    Param::new("DebugSimulateDataplaneApplyDelay", "debugSimulateDataplaneApplyDelay", "0", Duration),
    Param::new("DebugSimulateDataplaneHangAfter", "debugSimulateDataplaneHangAfter", "0", Duration),
    // Usage reporting.
    Param::new("UsageReportingEnabled", "usageReportingEnabled", "true", Bool),
    Param::new("UsageReportingInitialDelaySecs", "usageReportingInitialDelay", "300", Duration),
    Param::new("UsageReportingIntervalSecs", "usageReportingInterval", "86400", Duration),
];
