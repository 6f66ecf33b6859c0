//! Objects that hold every field of every kind, in the form in which they are written. Fields that exclude
//! each other are in different objects of the kind.

use serde_json::{Value, json};

use crate::Kind;

/// One side of a rule, with all that can be together.
fn entity() -> Value {
    json!({"nets": ["10.0.0.0/8", "10.1.2.3"], "notNets": ["10.9.0.0/16"], "selector": "a == 'b'",
        "notSelector": "has(c)", "namespaceSelector": "global()", "ports": [80, "100:200", "http"],
        "notPorts": ["x"], "serviceAccounts": {"names": ["sa"], "selector": "has(x)"}, "later": 1})
}

fn rule() -> Value {
    json!({"action": "Allow", "ipVersion": 4, "protocol": "TCP", "source": entity(), "destination": entity(),
        "metadata": {"annotations": {"a": "b"}}, "later": {}})
}

fn icmp_rules() -> [Value; 3] {
    [
        json!({"action": "Log", "protocol": 58, "icmp": {"type": 128, "code": 0}, "notICMP": {"type": 1, "code": 4}}),
        json!({"action": "Pass", "notProtocol": "UDPLite"}),
        json!({"action": "Deny"}),
    ]
}

/// Rules that hold every field there can be in this direction.
fn rules(ingress: bool) -> Value {
    let mut rules = vec![rule()];
    rules.extend(icmp_rules());
    let service = json!({"services": {"name": "s", "namespace": "n"}});
    let side = if ingress { "source" } else { "destination" };
    rules.push(json!({"action": "Deny", side: service}));
    if ingress {
        rules[0]["http"] =
            json!({"methods": ["GET"], "paths": [{"exact": "/a"}, {"prefix": "/b"}]});
    }
    rules.into()
}

fn policy(global: bool) -> Value {
    let mut policy = json!({"tier": "sec", "order": 10.5, "selector": "all()", "types": ["Ingress", "Egress"],
        "ingress": rules(true), "egress": rules(false), "serviceAccountSelector": "has(b)",
        "performanceHints": ["AssumeNeededOnEveryNode"], "later": 1});
    if global {
        for (name, value) in [
            ("namespaceSelector", json!("has(a)")),
            ("doNotTrack", json!(true)),
            ("applyOnForward", json!(true)),
        ] {
            policy[name] = value;
        }
    }
    policy
}

fn staged(mut policy: Value) -> Value {
    policy["stagedAction"] = "Set".into();
    policy
}

fn pre_dnat() -> Value {
    json!({"preDNAT": true, "applyOnForward": true, "types": ["Ingress"]})
}

fn filter(cidr: &str, longest: u8) -> Value {
    json!([
        {"action": "Accept", "asPathPrefix": [65000], "cidr": cidr, "communities": {"values": ["65000:1"]},
            "interface": "eth*", "matchOperator": "In", "operations": [
                {"addCommunity": {"value": "65000:100"}}, {"prependASPath": {"prefix": [65000, 4_200_000_000_u32]}},
                {"setPriority": {"value": 256}, "later": 1}],
            "peerType": "eBGP", "prefixLength": {"min": 8, "max": longest}, "priority": 1024,
            "source": "RemotePeers", "later": 1},
        {"action": "Reject"},
    ])
}

fn label_selector() -> Value {
    json!({"matchLabels": {"a": "b"},
        "matchExpressions": [{"key": "c", "operator": "In", "values": ["d"]}, {"key": "e", "operator": "Exists"}]})
}

fn kubernetes_peers() -> Value {
    json!([{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.9.0.0/16"]}},
        {"namespaceSelector": label_selector(), "podSelector": label_selector()}])
}

fn secret() -> Value {
    json!({"secretKeyRef": {"name": "s", "key": "k", "optional": true}})
}

/// The kinds and their specifications.
pub(super) fn all() -> Vec<(Kind, Value)> {
    let mut all = bgp();
    all.extend(policies());
    all.extend(endpoints());
    all.extend(services());
    all.extend(cluster());
    all
}

fn bgp() -> Vec<(Kind, Value)> {
    let session = json!({"filters": ["f"], "keepaliveTime": "30s", "localASNumber": 65002, "maxRestartTime": "120s",
        "nextHopMode": "Self", "numAllowedLocalASNumbers": 1, "password": secret(), "reversePeering": "Manual",
        "sourceAddress": "UseNodeIP", "ttlSecurity": 1, "later": 1});
    let peer = |more: Value| {
        let mut peer = session.clone();
        let fields = peer.as_object_mut().expect("an object");
        fields.extend(more.as_object().expect("an object").clone());
        peer
    };
    vec![
        (
            Kind::BgpConfiguration,
            json!({"asNumber": 64513, "bindMode": "NodeIP",
            "communities": [{"name": "c", "value": "1:2"}, {"name": "d", "value": "1:2:3"}],
            "ignoredInterfaces": ["eth*"], "ipv4NormalRoutePriority": 1, "ipv6NormalRoutePriority": 2,
            "listenPort": 1790, "localWorkloadPeeringIPV4": "169.254.1.1", "localWorkloadPeeringIPV6": "fe80::1",
            "logSeverityScreen": "info", "nodeMeshMaxRestartTime": "3m20s", "nodeMeshPassword": secret(),
            "nodeToNodeMeshEnabled": true, "prefixAdvertisements": [{"cidr": "10.0.0.0/8", "communities": ["c", "9:9"]}],
            "programClusterRoutes": "EnabledIPIPOnly", "serviceClusterIPs": [{"cidr": "10.96.0.0/12"}],
            "serviceExternalIPs": [{"cidr": "192.0.2.1"}], "serviceLoadBalancerAggregation": "Disabled",
            "serviceLoadBalancerIPs": [{"cidr": "fd00::/64"}], "later": [1]}),
        ),
        (
            Kind::BgpPeer,
            peer(
                json!({"asNumber": 65001, "peerIP": "[fd00::1]:1790", "reachableBy": "fd00::2",
                "nodeSelector": "all()", "keepOriginalNextHop": false}),
            ),
        ),
        (
            Kind::BgpPeer,
            peer(json!({"node": "n", "peerSelector": "has(tor)"})),
        ),
        (
            Kind::BgpPeer,
            peer(json!({"asNumber": 65001, "localWorkloadSelector": "has(router)"})),
        ),
        (
            Kind::BgpFilter,
            json!({"exportV4": filter("10.0.0.0/8", 32), "exportV6": filter("fd00::/8", 128),
            "importV4": filter("10.0.0.0/8", 32), "importV6": filter("fd00::/8", 128), "later": 1}),
        ),
    ]
}

fn policies() -> Vec<(Kind, Value)> {
    let kubernetes_ports =
        json!([{"port": 80, "endPort": 90, "protocol": "TCP"}, {"port": "http"}]);
    vec![
        (Kind::GlobalNetworkPolicy, policy(true)),
        (Kind::GlobalNetworkPolicy, pre_dnat()),
        (Kind::NetworkPolicy, policy(false)),
        (Kind::StagedGlobalNetworkPolicy, staged(policy(true))),
        (Kind::StagedGlobalNetworkPolicy, staged(pre_dnat())),
        (Kind::StagedNetworkPolicy, staged(policy(false))),
        (
            Kind::StagedKubernetesNetworkPolicy,
            json!({"stagedAction": "Learn", "podSelector": label_selector(), "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": kubernetes_peers(), "ports": kubernetes_ports}],
            "egress": [{"to": kubernetes_peers(), "ports": kubernetes_ports}], "later": 1}),
        ),
        (
            Kind::GlobalNetworkSet,
            json!({"nets": ["10.0.0.0/8", "fd00::1"], "later": 1}),
        ),
        (
            Kind::NetworkSet,
            json!({"nets": ["10.0.0.0/8"], "later": 1}),
        ),
        (
            Kind::Profile,
            json!({"ingress": rules(true), "egress": rules(false), "labelsToApply": {"a/b": ""}, "later": 1}),
        ),
        (
            Kind::Tier,
            json!({"order": 100, "defaultAction": "Pass", "later": 1}),
        ),
    ]
}

fn endpoints() -> Vec<(Kind, Value)> {
    vec![
        (
            Kind::Node,
            json!({"bgp": {"asNumber": 64513, "ipv4Address": "10.0.0.1/24", "ipv6Address": "fd00::1/64",
            "ipv4IPIPTunnelAddr": "192.168.1.1", "routeReflectorClusterID": "224.0.0.1", "later": 1},
            "ipv4VXLANTunnelAddr": "192.168.1.2", "ipv6VXLANTunnelAddr": "fd00::2",
            "vxlanTunnelMACAddr": "66:00:00:00:00:01", "vxlanTunnelMACAddrV6": "66:00:00:00:00:02",
            "orchRefs": [{"nodeName": "n", "orchestrator": "k8s"}],
            "wireguard": {"interfaceIPv4Address": "192.168.1.3", "interfaceIPv6Address": "fd00::3"},
            "addresses": [{"address": "10.0.0.1", "type": "CalicoNodeIP"}, {"address": "10.0.0.2/24", "type": "InternalIP"}],
            "interfaces": [{"name": "eth0", "addresses": ["10.0.0.1"]}], "later": 1}),
        ),
        (
            Kind::WorkloadEndpoint,
            json!({"orchestrator": "k8s", "workload": "w", "node": "node-1", "containerID": "c0",
            "pod": "pod-1", "endpoint": "eth0", "serviceAccountName": "sa", "ipNetworks": ["10.0.0.5/32", "fd00::5/128"],
            "ipNATs": [{"internalIP": "10.0.0.5", "externalIP": "192.0.2.1"}], "ipv4Gateway": "169.254.1.1",
            "ipv6Gateway": "fe80::1", "profiles": ["p"], "interfaceName": "cali1", "mac": "66:00:00:00:00:01",
            "ports": [{"name": "http", "protocol": "TCP", "port": 80, "hostPort": 8080, "hostIP": "10.0.0.1"}],
            "allowSpoofedSourcePrefixes": ["10.9.0.0/16"],
            "qosControls": {"ingressBandwidth": 1000, "egressBandwidth": 1000, "ingressBurst": 1000, "egressBurst": 1000,
                "ingressPeakrate": 1010, "egressPeakrate": 1010, "ingressMinburst": 1000, "egressMinburst": 1000,
                "ingressPacketRate": 1, "egressPacketRate": 1, "ingressPacketBurst": 1, "egressPacketBurst": 1,
                "ingressMaxConnections": 1, "egressMaxConnections": 1, "dscp": "AF11", "later": 1}, "later": 1}),
        ),
        (
            Kind::HostEndpoint,
            json!({"node": "n", "interfaceName": "eth0", "expectedIPs": ["10.0.0.1", "fd00::1"], "profiles": ["p"],
            "ports": [{"name": "ssh", "protocol": "TCP", "port": 22, "later": 1}], "later": 1}),
        ),
        (
            Kind::LiveMigration,
            json!({"source": {"workloadEndpoint": {"hostname": "h1", "orchestratorID": "openstack",
                "workloadID": "openstack/vm", "endpointID": "port"}, "later": 1},
            "target": {"workloadEndpoint": {"hostname": "h2", "orchestratorID": "openstack",
                "workloadID": "openstack/vm", "endpointID": "port"}, "later": 1}, "later": 1}),
        ),
        (
            Kind::LiveMigration,
            json!({"source": {"workload": {"hostname": "h1", "orchestratorID": "k8s", "workloadID": "ns/vm"}},
            "target": {"selector": "has(vm)"}}),
        ),
    ]
}

fn services() -> Vec<(Kind, Value)> {
    vec![
        (
            Kind::Service,
            json!({"type": "LoadBalancer", "selector": {"app": "web"}, "clusterIP": "10.96.0.10",
            "clusterIPs": ["10.96.0.10", "fd00:96::10"], "externalIPs": ["192.0.2.1"], "loadBalancerIP": "192.0.2.2",
            "loadBalancerSourceRanges": ["198.51.100.0/24"], "loadBalancerClass": "cleat.io/bgp",
            "ports": [{"name": "http", "protocol": "TCP", "appProtocol": "http", "port": 80, "targetPort": 8080,
                "nodePort": 30080, "later": 1}, {"name": "dns", "protocol": "UDP", "port": 53, "targetPort": "dns"}],
            "sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10800}},
            "internalTrafficPolicy": "Local", "externalTrafficPolicy": "Cluster", "trafficDistribution": "PreferClose",
            "healthCheckNodePort": 32000, "allocateLoadBalancerNodePorts": false, "ipFamilies": ["IPv4", "IPv6"],
            "ipFamilyPolicy": "PreferDualStack", "publishNotReadyAddresses": true, "later": 1}),
        ),
        (
            Kind::Service,
            json!({"type": "ExternalName", "externalName": "db.example.org"}),
        ),
        (
            Kind::Service,
            json!({"clusterIP": "None", "clusterIPs": ["None"], "ports": [{"port": 80}]}),
        ),
        (
            Kind::EndpointSlice,
            json!({"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.5"],
                "conditions": {"ready": true, "serving": true, "terminating": false}, "hostname": "web-0",
                "nodeName": "n", "zone": "z", "hints": {"forZones": [{"name": "z"}], "forNodes": [{"name": "n"}]},
                "targetRef": {"apiVersion": "v1", "kind": "Pod", "namespace": "ns", "name": "web-0", "uid": "u",
                    "resourceVersion": "1", "fieldPath": "spec"},
                "deprecatedTopology": {"topology.kubernetes.io/rack": "r"}, "later": 1}],
            "ports": [{"name": "http", "protocol": "TCP", "appProtocol": "http", "port": 8080, "later": 1}], "later": 1}),
        ),
    ]
}

fn cluster() -> Vec<(Kind, Value)> {
    vec![
        (
            Kind::IpPool,
            json!({"cidr": "10.0.0.0/16", "blockSize": 26, "ipipMode": "Never", "vxlanMode": "CrossSubnet",
            "natOutgoing": true, "disabled": true, "disableBGPExport": true, "nodeSelector": "all()",
            "namespaceSelector": "has(x)", "allowedUses": ["Workload"], "assignmentMode": "Manual", "later": 1}),
        ),
        (
            Kind::IpReservation,
            json!({"reservedCIDRs": ["10.0.0.0/30", "fd00::1"], "later": 1}),
        ),
        (
            Kind::IpamConfiguration,
            json!({"strictAffinity": true, "autoAllocateBlocks": true, "maxBlocksPerHost": 3,
            "kubeVirtVMAddressPersistence": "Disabled", "ipCooldownSeconds": 60, "later": 1}),
        ),
        (
            Kind::CalicoNodeStatus,
            json!({"classes": ["Agent", "BGP", "Routes"], "node": "n", "updatePeriodSeconds": 10, "later": 1}),
        ),
        (
            Kind::ClusterInformation,
            json!({"calicoVersion": "v3.33", "clusterGUID": "0123456789abcdef0123456789abcdef",
            "clusterType": "openstack,bgp", "datastoreReady": true, "variant": "Calico", "later": 1}),
        ),
        (Kind::FelixConfiguration, json!({"later": 1})),
        (Kind::KubeControllersConfiguration, json!({"later": 1})),
    ]
}

/// What an object of this kind is called.
fn name_of(kind: Kind) -> &'static str {
    if kind == Kind::WorkloadEndpoint {
        "node--1-k8s-pod--1-eth0"
    } else if matches!(
        kind,
        Kind::BgpConfiguration | Kind::ClusterInformation | Kind::IpamConfiguration
    ) {
        "default"
    } else {
        "thing"
    }
}

fn status_of(kind: Kind) -> Value {
    let conditions = json!({"conditions": [{"type": "example.org/Allocatable", "status": "True", "observedGeneration": 3,
        "lastTransitionTime": "2026-11-22T01:17:52Z", "reason": "PoolActive", "message": "fine"}]});
    if kind == Kind::Node {
        json!({"wireguardPublicKey": "jlkVyQYooZYzI2wFfNhSZez5eWh44yfq1wKVjLvSXgY=",
            "wireguardPublicKeyV6": "jlkVyQYooZYzI2wFfNhSZez5eWh44yfq1wKVjLvSXgY=", "podCIDRs": ["10.0.0.0/24"]})
    } else if kind == Kind::CalicoNodeStatus {
        let speaker = json!({"state": "Ready", "version": "1", "routerID": "10.0.0.1",
            "lastBootTime": "2026-11-22", "lastReconfigurationTime": "2026-11-22"});
        let peers = json!([{"peerIP": "10.0.0.2", "type": "NodeMesh", "state": "Established", "since": "01:17:52"}]);
        let routes = json!([{"destination": "10.0.0.0/26", "gateway": "10.0.0.2", "interface": "eth0", "type": "FIB",
            "learnedFrom": {"sourceType": "NodeMesh", "peerIP": "10.0.0.2"}}]);
        json!({"lastUpdated": "2026-11-22T01:17:52Z", "agent": {"birdV4": speaker, "birdV6": speaker},
            "bgp": {"numberEstablishedV4": 1, "numberEstablishedV6": 0, "numberNotEstablishedV4": 0,
                "numberNotEstablishedV6": 0, "peersV4": peers, "peersV6": peers},
            "routes": {"routesV4": routes, "routesV6": routes}})
    } else if kind == Kind::Service {
        json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.2", "hostname": "lb.example.org", "ipMode": "VIP",
            "ports": [{"port": 80, "protocol": "TCP"}]}]}, "conditions": []})
    } else {
        conditions
    }
}

/// The whole object.
pub(super) fn manifest(kind: Kind, spec: Value) -> Value {
    let mut manifest = json!({"kind": kind.name(), "apiVersion": kind.api_version(),
        "metadata": {"name": name_of(kind), "uid": "u", "creationTimestamp": "2026-11-22T01:17:52Z",
            "labels": {"a": "b"}, "annotations": {"c": "d"}, "generation": 3},
        "spec": spec});
    let map = manifest.as_object_mut().expect("an object");
    if kind.has_spec() {
        map.insert("status".to_owned(), status_of(kind));
    } else if let Some(Value::Object(fields)) = map.remove("spec") {
        map.extend(fields);
    }
    if kind.namespaced() {
        manifest["metadata"]["namespace"] = "ns".into();
    }
    manifest
}
