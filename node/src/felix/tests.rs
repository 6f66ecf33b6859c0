//! Every parameter reads its default and refuses nonsense; every level wins over those below, and gives way when it goes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cleat_datastore::Resource;
use cleat_datastore::resource::FelixConfiguration;
use cleat_datastore::resource::felix::FelixConfigurationSpec;
use serde_json::{Value as Json, json};

use super::*;
use crate::config::{Config, EndpointToHost};

type Objects = BTreeMap<String, Arc<FelixConfiguration>>;

/// An object with the second of its creation in place of a date.
#[expect(
    clippy::needless_pass_by_value,
    reason = "reads better where it is called"
)]
fn object(name: &str, created: &str, spec: Json) -> (String, Arc<FelixConfiguration>) {
    let manifest = json!({"apiVersion": "projectcalico.org/v3", "kind": "FelixConfiguration",
        "metadata": {"name": name, "creationTimestamp": created}, "spec": spec});
    let (_, resource) = cleat_datastore::resource::from_manifest(manifest).unwrap();
    let Resource::FelixConfiguration(configuration) = resource else {
        panic!("not a FelixConfiguration");
    };
    (name.to_owned(), Arc::new(configuration))
}

fn variables(pairs: &[(&str, &str)]) -> Local {
    let mut local = Local::default();
    let pairs = pairs
        .iter()
        .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
    assert_eq!(local.environment(&pairs.collect()), Vec::<String>::new());
    local
}

fn labels() -> BTreeMap<String, String> {
    [("rack".to_owned(), "a".to_owned())].into()
}

fn on_h1(local: &Local, objects: &Objects) -> Effective {
    Effective::new(local, "h1", &labels(), objects)
}

fn source(effective: &Effective, name: &str) -> String {
    effective.effect(name).unwrap().source.to_string()
}

#[test]
fn the_strongest_level_counts_and_the_next_one_when_it_goes() {
    let mut objects: Objects = [
        object(
            "default",
            "2026-01-01T00:00:00Z",
            json!({"routeRefreshInterval": "1s"}),
        ),
        object(
            "rack-a",
            "2026-01-03T00:00:00Z",
            json!({"nodeSelector": "rack == 'a'", "routeRefreshInterval": "2s"}),
        ),
        object(
            "newer",
            "2026-01-04T00:00:00Z",
            json!({"nodeSelector": "all()", "routeRefreshInterval": "9s"}),
        ),
        object(
            "elsewhere",
            "2026-01-01T00:00:00Z",
            json!({"nodeSelector": "rack == 'b'", "routeRefreshInterval": "8s"}),
        ),
        object(
            "node.h1",
            "2026-01-05T00:00:00Z",
            json!({"routeRefreshInterval": "3s"}),
        ),
        object(
            "node.h2",
            "2026-01-01T00:00:00Z",
            json!({"routeRefreshInterval": "7s"}),
        ),
    ]
    .into();
    let file = |local: &mut Local| {
        local.felix_file("[global]\nRouteRefreshInterval = 4\n");
    };
    let param = Param::named("RouteRefreshInterval").unwrap();
    let mut all = variables(&[("felix_RouteRefreshInterval", "6")]);
    file(&mut all);
    all.say(param, Source::File("resyncInterval".to_owned()), "5");
    let mut without_variable = Local::default();
    file(&mut without_variable);
    without_variable.say(param, Source::File("resyncInterval".to_owned()), "5");
    let mut felix_file = Local::default();
    file(&mut felix_file);

    let effective = on_h1(&all, &objects);
    let effect = effective.effect("routerefreshinterval").unwrap();
    assert_eq!(effect.value, Value::Duration(Duration::from_secs(6)));
    let overridden: Vec<(String, String)> = effect
        .overridden
        .iter()
        .map(|(source, text)| (source.to_string(), text.clone()))
        .collect();
    let expected = [
        ("file (resyncInterval)", "5"),
        ("felix.cfg", "4"),
        ("FelixConfiguration(node.h1)", "3s"),
        ("FelixConfiguration(rack-a)", "2s"),
        ("FelixConfiguration(default)", "1s"),
    ];
    assert_eq!(
        overridden,
        expected.map(|(source, text)| (source.to_owned(), text.to_owned()))
    );

    let interval = |local: &Local, objects: &Objects| {
        let effective = on_h1(local, objects);
        let text = effective
            .effect("RouteRefreshInterval")
            .unwrap()
            .value
            .to_string();
        (source(&effective, "RouteRefreshInterval"), text)
    };
    let is = |source: &str, value: &str| (source.to_owned(), value.to_owned());
    assert_eq!(
        interval(&without_variable, &objects),
        is("file (resyncInterval)", "5")
    );
    assert_eq!(interval(&felix_file, &objects), is("felix.cfg", "4s"));
    let none = Local::default();
    for (gone, expected) in [
        ("", is("FelixConfiguration(node.h1)", "3s")),
        ("node.h1", is("FelixConfiguration(rack-a)", "2s")),
        ("rack-a", is("FelixConfiguration(newer)", "9s")),
        ("newer", is("FelixConfiguration(default)", "1s")),
        ("default", is("default", "90s")),
    ] {
        objects.remove(gone);
        assert_eq!(interval(&none, &objects), expected, "without {gone:?}");
    }
}

#[test]
fn labels_of_the_node_decide_which_object_concerns_it() {
    let objects: Objects = [object(
        "a",
        "2026-01-01T00:00:00Z",
        json!({"nodeSelector": "rack == 'a'", "removeExternalRoutes": false}),
    )]
    .into();
    let none = Local::default();
    let with = Effective::new(&none, "h1", &labels(), &objects);
    assert_eq!(
        source(&with, "RemoveExternalRoutes"),
        "FelixConfiguration(a)"
    );
    let without = Effective::new(&none, "h1", &BTreeMap::new(), &objects);
    assert_eq!(source(&without, "RemoveExternalRoutes"), "default");
}

#[test]
fn of_several_objects_that_select_a_node_the_newer_are_told() {
    let objects: Objects = [
        object(
            "b",
            "2026-01-01T00:00:00Z",
            json!({"nodeSelector": "all()"}),
        ),
        object(
            "a",
            "2026-01-02T00:00:00Z",
            json!({"nodeSelector": "all()"}),
        ),
        object("c", "2026-01-02T00:00:00Z", json!({})),
        object(
            "default",
            "2026-01-02T00:00:00Z",
            json!({"nodeSelector": "all()"}),
        ),
    ]
    .into();
    let effective = on_h1(&Local::default(), &objects);
    let told: Vec<String> = effective
        .problems()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        told,
        [
            "FelixConfiguration(c): spec.nodeSelector: is needed unless the object is called default or node.NAME: it concerns no node",
            "FelixConfiguration(default): spec.nodeSelector: has no meaning in this object, which says by its name whom it concerns",
            "FelixConfiguration(a): spec.nodeSelector: selects this node, but FelixConfiguration(b) does so for longer and counts",
        ]
    );
}

#[test]
fn a_wrong_value_is_the_default_or_passed_over_and_is_told() {
    let objects: Objects = [
        object(
            "node.h1",
            "",
            json!({"healthPort": 70_000, "interfacePrefix": "a/b,c"}),
        ),
        object(
            "default",
            "",
            json!({"healthPort": 1, "interfacePrefix": "vnet", "deviceRouteProtocol": 2}),
        ),
    ]
    .into();
    let effective = on_h1(&Local::default(), &objects);
    let port = effective.effect("HealthPort").unwrap();
    // Felix does not look further down either.
    assert_eq!(
        (&port.value, source(&effective, "HealthPort").as_str()),
        (&Value::Int(9099), "FelixConfiguration(node.h1)")
    );
    assert!(port.fault.is_some());
    // Felix would not run; a node that runs takes the next level.
    assert_eq!(
        source(&effective, "InterfacePrefix"),
        "FelixConfiguration(default)"
    );
    let told: Vec<String> = effective
        .problems()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        told,
        [
            "FelixConfiguration(node.h1): spec.healthPort: \"70000\" is no whole number from 0 to 65535; the default holds",
            "FelixConfiguration(default): spec.deviceRouteProtocol: 2 marks routes of the kernel or of people; cleat needs a number of its own; the default holds",
            "FelixConfiguration(node.h1): spec.interfacePrefix: \"a/b,c\" is no list of beginnings of interfaces' names; the value is passed over",
        ]
    );
    let config = effective.overlay(&Config::default());
    assert_eq!(
        (config.route_protocol, config.workload_interface_prefixes),
        (80, vec!["vnet".to_owned()])
    );
}

#[test]
fn the_host_refuses_to_start_with_what_felix_refuses() {
    for (name, text, fits) in [
        ("FELIX_INTERFACEPREFIX", "a b", false),
        ("FELIX_INTERFACEPREFIX", "none", false),
        ("FELIX_CHAININSERTMODE", "prepend", false),
        ("FELIX_IPTABLESMARKMASK", "1", false),
        ("FELIX_FAILSAFEINBOUNDHOSTPORTS", "tcp:ssh", false),
        ("FELIX_FAILSAFEINBOUNDHOSTPORTS", "none", true),
        ("FELIX_LOGFILEPATH", "None", true),
        ("FELIX_HEALTHPORT", "many", true),
    ] {
        assert_eq!(
            variables(&[(name, text)]).check().is_ok(),
            fits,
            "{name}={text}"
        );
    }
}

#[test]
fn settings_that_have_an_effect_are_typed() {
    let objects: Objects = [object("default", "", json!({
        "bpfDataIfacePattern": "^(eth|ens)", "defaultEndpointToHostAction": "accept", "deviceRouteProtocol": 90,
        "routeRefreshInterval": "500ms", "logSeverityScreen": "DEBUG", "ipForwarding": "Disabled",
        "healthEnabled": true, "healthHost": "127.0.0.2", "prometheusMetricsEnabled": true, "prometheusMetricsPort": 9191,
        "bpfConntrackTimeouts": {"udpTimeout": "1m30s", "tcpFinsSeen": "Auto"},
        "deviceRouteSourceAddress": "192.0.2.1", "deviceRouteSourceAddressIPv6": "2001:db8::1",
        "endpointReportingEnabled": true, "endpointReportingDelay": "3s", "reportingInterval": "0s", "reportingTTL": "2m",
        "openstackRegion": "north", "endpointStatusPathPrefix": "none",
    }))]
    .into();
    let effective = on_h1(&Local::default(), &objects);
    assert_eq!(effective.problems(), []);
    assert_eq!(effective.unused().count(), 0);
    let config = effective.overlay(&Config::default());
    let fabric = |name: &str| {
        config
            .host_interfaces
            .iter()
            .any(|pattern| pattern.matches(name))
    };
    assert!(fabric("eth0") && fabric("ens3") && !fabric("veth0"));
    assert_eq!(
        config.default_endpoint_to_host_action,
        EndpointToHost::Accept
    );
    assert_eq!((config.route_protocol, config.resync_interval), (90, 1));
    assert_eq!(config.log.level.as_str(), "debug");
    let settings = effective.settings();
    let listen = |host: &str, port| {
        Some(Listen {
            host: host.to_owned(),
            port,
        })
    };
    assert_eq!(settings.health, listen("127.0.0.2", 9099));
    assert_eq!(settings.metrics, listen("", 9191));
    assert!(settings.keeps_forwarding);
    assert_eq!(
        settings.flow_timeouts,
        [
            ("tcpfinsseen".to_owned(), FlowTimeout::Auto),
            (
                "udptimeout".to_owned(),
                FlowTimeout::After(Duration::from_secs(90))
            ),
        ]
    );
    assert_eq!(settings.source_v4, Some([192, 0, 2, 1].into()));
    assert_eq!(settings.source_v6, Some("2001:db8::1".parse().unwrap()));
    assert_eq!(
        settings.reporting,
        Reporting {
            endpoints: true,
            delay: Duration::from_secs(3),
            interval: None,
            ttl: Duration::from_mins(2),
            region: Some("north".to_owned()),
            status_path: None,
        }
    );
    assert_eq!(
        Reporting::default(),
        Reporting {
            endpoints: false,
            delay: Duration::from_secs(1),
            interval: Some(Duration::from_secs(30)),
            ttl: Duration::from_secs(90),
            region: None,
            status_path: Some("/var/run/calico".into()),
        }
    );
}

#[test]
fn what_is_set_without_effect_is_told_and_what_is_set_to_its_default_is_not() {
    let objects: Objects = [object("default", "", json!({"wireguardEnabled": true, "bpfEnabled": false, "xdpEnabled": true, "floatingIPs": "Enabled"}))].into();
    let effective = on_h1(
        &variables(&[("FELIX_USAGEREPORTINGENABLED", "false")]),
        &objects,
    );
    let unused: Vec<&str> = effective.unused().map(|effect| effect.param.name).collect();
    assert_eq!(
        unused,
        ["FloatingIPs", "WireguardEnabled", "UsageReportingEnabled"]
    );
    assert_eq!(
        effective.effect("BPFEnabled").unwrap().value,
        Value::Bool(true)
    );
}

#[test]
fn an_annotation_sets_what_has_no_field() {
    let (name, configuration) = object("default", "", json!({}));
    let mut configuration = Arc::unwrap_or_clone(configuration);
    configuration.metadata.annotations.insert(
        "config.projectcalico.org/DebugPanicAfter".to_owned(),
        "5".to_owned(),
    );
    let effective = on_h1(&Local::default(), &[(name, Arc::new(configuration))].into());
    assert_eq!(
        effective.effect("DebugPanicAfter").unwrap().value,
        Value::Duration(Duration::from_secs(5))
    );
}

#[test]
fn the_table_has_every_parameter_and_every_field_once() {
    let names: std::collections::BTreeSet<String> = PARAMS
        .iter()
        .map(|param| param.name.to_lowercase())
        .collect();
    assert_eq!((names.len(), PARAMS.len()), (209, 209));
    let fields: std::collections::BTreeSet<&str> = PARAMS
        .iter()
        .map(|param| param.field)
        .filter(|field| !field.is_empty())
        .collect();
    // Everything but the selector, which is about the object and not about Felix.
    let typed: std::collections::BTreeSet<&str> = FelixConfigurationSpec::FIELDS
        .iter()
        .map(|field| field.name)
        .filter(|name| *name != "nodeSelector")
        .collect();
    assert_eq!(fields, typed);
    for param in PARAMS {
        assert!(!param.local || param.field.is_empty(), "{}", param.name);
        for default in [param.default, param.default_text()] {
            param
                .schema
                .parse(default)
                .unwrap_or_else(|error| panic!("{}: {error}", param.name));
        }
    }
}

#[test]
fn values_are_read_as_felix_reads_them() {
    use Schema::{
        Bool, Cidrs, Dscp, Duration, Endpoints, Exclusions, Host, Int, Interfaces, Ipv4, Ipv6,
        Like, Mark, Millis, OneOf, Pairs, PortRange, ProtoPorts, Regex, Region, TableRange,
        TableRanges, Timeouts,
    };
    for (schema, text, value) in [
        (Bool, "Yes", Some("true")),
        (Bool, "0", Some("false")),
        (Bool, "on", None),
        (Int(0, 10), "0x0a", Some("10")),
        (Int(0, 10), "11", None),
        (Duration, "1.5", Some("1.5s")),
        (Duration, "1m30s", Some("90s")),
        (Duration, "-1", None),
        (Millis, "50", Some("0.05s")),
        (OneOf(&["Drop", "Accept"]), "ACCEPT", Some("Accept")),
        (OneOf(&["Continuous", "None"]), "none", Some("None")),
        (OneOf(&["Drop"]), "", Some("")),
        (
            ProtoPorts,
            "22, udp:68,tcp:10.0.0.0/8:80,udp:[fd00::/8]:53",
            Some("tcp:22,udp:68,tcp:10.0.0.0/8:80,udp:[fd00::/8]:53"),
        ),
        (ProtoPorts, "tcp:70000", None),
        (ProtoPorts, "gre:1", None),
        (ProtoPorts, "NONE", Some("")),
        (Cidrs, "10.0.0.0/8, fd00::1", Some("10.0.0.0/8,fd00::1")),
        (Mark(8), "0xffff0000", Some("4294901760")),
        (Mark(8), "0x7f", None),
        (PortRange, "1024:2048", Some("1024:2048")),
        (PortRange, "http", None),
        (TableRange, "1-250", Some("1-250")),
        (TableRange, "1-251", None),
        (TableRanges, "1-10,100-65000", Some("1-10,100-65000")),
        (TableRanges, "0-10", None),
        (Pairs, "a=b, c=d=e", Some("a=b,c=d=e")),
        (Pairs, "a", None),
        (
            Timeouts,
            "UDPTimeout=60s,TCPFinsSeen=Auto",
            Some("TCPFinsSeen=Auto,UDPTimeout=60s"),
        ),
        (Timeouts, "UDPTimeout=soon", None),
        (
            Exclusions,
            "kube-ipvs0,/^veth.*/",
            Some("kube-ipvs0,/^veth.*/"),
        ),
        (Exclusions, "/a[/", None),
        (Regex, "a[", None),
        (Region, "north-1", Some("north-1")),
        (
            Region,
            "a-region-with-a-name-of-more-than-46-characters-1",
            None,
        ),
        (Ipv4, "fd00::1", None),
        (Ipv6, "fd00::1", Some("fd00::1")),
        (Host, "a.example", Some("a.example")),
        (Host, "a b", None),
        (
            Endpoints,
            "http://a:1,https://b:2/",
            Some("http://a:1,https://b:2/"),
        ),
        (Endpoints, "a:1", None),
        (Dscp, "ef", Some("ef")),
        (Dscp, "64", None),
        (Like("^a+$"), "aa", Some("aa")),
        (Like("^a+$"), "ab", None),
        (Interfaces, "docker+,eth0", Some("docker+,eth0")),
    ] {
        let read = schema.parse(text).ok().map(|value| value.to_string());
        assert_eq!(read.as_deref(), value, "{schema:?} {text:?}");
    }
}
