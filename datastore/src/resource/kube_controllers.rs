//! Settings of Calico's controllers. Nothing here follows them; they are kept for whoever runs the controllers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    KubeControllersConfiguration, Metadata, Spec,
    check::{Check, CheckObject, Fault, Faults},
    codec::typed,
    felix::types::{self, Regex, Toggle, Within, forms, words},
};
use crate::{
    Kind,
    selector::Selector,
    value::{Cidr, GoDuration},
};

types::settings! {
    /// Settings of Calico's controllers.
    KubeControllersConfigurationSpec {
        /// The controllers, each with its settings; one that is absent does not run.
        controllers "controllers": Controllers;
        /// The port on which profiles are served; absent means not at all.
        debug_profile_port "debugProfilePort": Within<0, 65_535>;
        /// Time between two compactions of etcd; 0 for none.
        etcd_v3_compaction_period "etcdV3CompactionPeriod": GoDuration = "10m";
        /// Whether probes are served.
        health_checks "healthChecks": Toggle = "Enabled";
        /// How severe a message must be for standard output.
        log_severity_screen "logSeverityScreen": ControllerLogSeverity = "Info";
        /// The port on which metrics are served; 0 for none.
        prometheus_metrics_port "prometheusMetricsPort": Within<0, 65_535> = "9094";
    }
}

types::settings! {
    /// The controllers.
    Controllers {
        /// Gives addresses to services of type load balancer.
        load_balancer "loadBalancer": LoadBalancerController;
        /// Moves old data to new forms.
        migration "migration": MigrationController;
        /// Makes profiles of namespaces.
        namespace "namespace": Reconciler;
        /// Follows nodes, and gives back the addresses of those that are gone.
        node "node": NodeController;
        /// Copies Kubernetes' policies.
        policy "policy": Reconciler;
        /// Makes profiles of service accounts.
        service_account "serviceAccount": Reconciler;
        /// Copies labels of pods to their endpoints.
        workload_endpoint "workloadEndpoint": Reconciler;
    }
}

types::settings! {
    /// A controller with no other settings.
    Reconciler {
        /// Time between two comparisons with the store.
        reconciler_period "reconcilerPeriod": GoDuration = "5m";
    }
}

types::settings! {
    /// The controller of addresses of load balancers.
    LoadBalancerController {
        /// Which services get an address.
        assign_ips "assignIPs": AssignIps = "AllServices";
    }
}

types::settings! {
    /// The controller that moves data.
    MigrationController {
        /// Whether policies are renamed to the form of v3.
        policy_name_migrator "policyNameMigrator": Toggle = "Enabled";
    }
}

types::settings! {
    /// The controller of nodes.
    NodeController {
        /// Whether nodes get host endpoints.
        host_endpoint "hostEndpoint": AutoHostEndpoint;
        /// How long an address without a workload is taken for lost; 0 to keep it.
        leak_grace_period "leakGracePeriod": GoDuration = "15m";
        /// Time between two comparisons with the store.
        reconciler_period "reconcilerPeriod": GoDuration = "5m";
        /// Whether labels of Kubernetes' nodes are copied.
        sync_labels "syncLabels": Toggle = "Enabled";
    }
}

types::settings! {
    /// Host endpoints that are made for nodes.
    AutoHostEndpoint {
        /// Whether they are made.
        auto_create "autoCreate": Toggle = "Disabled";
        /// Whether one for all interfaces of the node is made.
        create_default_host_endpoint "createDefaultHostEndpoint": Toggle;
        /// What else is made.
        templates "templates": Vec<HostEndpointTemplate>;
    }
}

types::settings! {
    /// What host endpoints are made of.
    HostEndpointTemplate {
        /// Annotations they get.
        annotations "annotations": BTreeMap<String, String>;
        /// What their names end with.
        generate_name "generateName": GenerateName;
        /// The nets in which the node's addresses are looked for.
        interface_cidrs "interfaceCIDRs": Vec<Cidr>;
        /// The node's interfaces that get one each.
        interface_pattern "interfacePattern": Regex;
        /// Labels they get beside the node's.
        labels "labels": BTreeMap<String, String>;
        /// The nodes that get them.
        node_selector "nodeSelector": Selector;
    }
}

words! {
    /// Which services get an address.
    AssignIps { AllServices "AllServices", RequestedServicesOnly "RequestedServicesOnly" }
    /// How severe a message of the controllers is.
    ControllerLogSeverity {
        None "None", Debug "Debug", Info "Info", Warning "Warning", Error "Error", Fatal "Fatal", Panic "Panic",
    }
}

forms! {
    /// The end of a name: 253 letters, digits, dashes and dots at most.
    GenerateName is "part of a name" if |text| {
        text.len() <= 253
            && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte))
    };
}

types::settings! {
    /// What the controllers say of themselves.
    KubeControllersConfigurationStatus {
        /// Environment variables that were heeded.
        environment_vars "environmentVars": BTreeMap<String, String>;
        /// What is in force.
        running_config "runningConfig": KubeControllersConfigurationSpec;
    }
}

// In a box: every object takes the room of the largest, and there are many of the small ones.
impl Spec for Box<KubeControllersConfigurationSpec> {
    const KIND: Kind = Kind::KubeControllersConfiguration;
    const EMPTY_SAYS: bool = true;
}

impl KubeControllersConfiguration {
    /// What the controllers say of themselves.
    pub fn status(&self) -> KubeControllersConfigurationStatus {
        // Decoding has refused a status of another shape; an object made by hand may have one.
        status(self).unwrap_or_default()
    }
}

fn status(
    object: &KubeControllersConfiguration,
) -> Result<KubeControllersConfigurationStatus, Fault> {
    match object.extra.get("status") {
        Some(status) => typed("status", status.clone()),
        None => Ok(KubeControllersConfigurationStatus::default()),
    }
}

impl CheckObject for Box<KubeControllersConfigurationSpec> {
    fn check_status(status: &serde_json::Value, faults: &mut Faults) {
        match typed::<KubeControllersConfigurationStatus>("status", status.clone()) {
            Ok(status) => {
                if let Some(running) = status.running_config {
                    faults.at("status.runningConfig", |faults| running.check(faults));
                }
            }
            Err(fault) => faults.take(fault),
        }
    }
}

impl Check for KubeControllersConfigurationSpec {
    fn check(&self, faults: &mut Faults) {
        if !faults.is_strict() {
            return;
        }
        let node = self.controllers.as_ref().and_then(|all| all.node.as_ref());
        let templates = node.and_then(|node| node.host_endpoint.as_ref()?.templates.as_deref());
        let templates = templates.unwrap_or_default();
        faults.at("controllers.node.hostEndpoint", |faults| {
            faults.each("templates", templates, |template, faults| {
                // Labels and annotations obey the same rules wherever they stand.
                let metadata = Metadata {
                    labels: template.labels.clone().unwrap_or_default(),
                    annotations: template.annotations.clone().unwrap_or_default(),
                    ..Metadata::default()
                };
                metadata.check(faults);
            });
        });
    }
}
