//! The kinds of resources, in one table.

use std::fmt;

use crate::key::{CLEAT_ROOT, RESOURCE_ROOT};

/// The version of Calico's API.
pub const API_VERSION: &str = "projectcalico.org/v3";

struct Facts {
    name: &'static str,
    plural: &'static str,
    scope: Scope,
    aliases: &'static [&'static str],
}

#[derive(PartialEq)]
enum Scope {
    Cluster,
    Namespaced,
}

macro_rules! kinds {
    ($($kind:ident: $name:literal, $plural:literal, $scope:ident, [$($alias:literal),*];)*) => {
        /// A kind of resource.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[expect(missing_docs, reason = "a variant is the kind of that name")]
        pub enum Kind {
            $($kind,)*
        }

        impl Kind {
            /// Every kind.
            pub const ALL: [Kind; [$($name),*].len()] = [$(Kind::$kind),*];

            const fn facts(self) -> &'static Facts {
                match self {
                    $(Kind::$kind => &Facts {
                        name: $name,
                        plural: $plural,
                        scope: Scope::$scope,
                        aliases: &[$($alias),*],
                    },)*
                }
            }
        }
    };
}

kinds! {
    BgpConfiguration: "BGPConfiguration", "bgpconfigurations", Cluster, ["bgpconfig", "bgpconfigs"];
    BgpFilter: "BGPFilter", "bgpfilters", Cluster, ["bgpf", "bgpfs", "bf", "bfs"];
    BgpPeer: "BGPPeer", "bgppeers", Cluster, ["bgpp", "bgpps", "bp", "bps"];
    CalicoNodeStatus: "CalicoNodeStatus", "caliconodestatuses", Cluster, ["nodestatus", "nodestatuses"];
    ClusterInformation: "ClusterInformation", "clusterinformations", Cluster, ["clusterinfo", "clusterinfos"];
    EndpointSlice: "EndpointSlice", "endpointslices", Namespaced, ["eps", "epslice"];
    FelixConfiguration: "FelixConfiguration", "felixconfigurations", Cluster, ["felixconfig", "felixconfigs"];
    GlobalNetworkPolicy: "GlobalNetworkPolicy", "globalnetworkpolicies", Cluster, ["gnp", "gnps"];
    GlobalNetworkSet: "GlobalNetworkSet", "globalnetworksets", Cluster, ["gnetset", "gnetsets"];
    HostEndpoint: "HostEndpoint", "hostendpoints", Cluster, ["hep", "heps"];
    IpPool: "IPPool", "ippools", Cluster, ["ipp", "ipps", "pool", "pools"];
    IpReservation: "IPReservation", "ipreservations", Cluster, ["reservation", "reservations", "ipres"];
    IpamConfiguration: "IPAMConfiguration", "ipamconfigurations", Cluster, ["ipamconfig", "ipamconfigs"];
    KubeControllersConfiguration: "KubeControllersConfiguration", "kubecontrollersconfigurations", Cluster, ["kubecontrollersconfig", "kubecontrollersconfigs", "kcc"];
    LiveMigration: "LiveMigration", "livemigrations", Namespaced, ["lm", "lms"];
    NetworkPolicy: "NetworkPolicy", "networkpolicies", Namespaced, ["np", "nps", "policy", "policies", "pol", "pols"];
    NetworkSet: "NetworkSet", "networksets", Namespaced, ["netset", "netsets"];
    Node: "Node", "nodes", Cluster, ["no", "nos"];
    Profile: "Profile", "profiles", Cluster, ["pro", "pros"];
    Service: "Service", "services", Namespaced, ["svc", "svcs"];
    StagedGlobalNetworkPolicy: "StagedGlobalNetworkPolicy", "stagedglobalnetworkpolicies", Cluster, ["sgnp", "sgnps"];
    StagedKubernetesNetworkPolicy: "StagedKubernetesNetworkPolicy", "stagedkubernetesnetworkpolicies", Namespaced, ["stagedkubernetespolicy", "stagedkubernetespolicies", "sknp", "skpol", "skpols"];
    StagedNetworkPolicy: "StagedNetworkPolicy", "stagednetworkpolicies", Namespaced, ["stagedpolicy", "stagedpolicies", "snp", "spol", "spols"];
    Tier: "Tier", "tiers", Cluster, [];
    WorkloadEndpoint: "WorkloadEndpoint", "workloadendpoints", Namespaced, ["wep", "weps"];
}

impl Kind {
    /// The name as it stands in `kind:`.
    pub fn name(self) -> &'static str {
        self.facts().name
    }

    /// The name as it stands in a path.
    pub fn plural(self) -> &'static str {
        self.facts().plural
    }

    /// Whether objects of this kind lie in a namespace.
    pub fn namespaced(self) -> bool {
        self.facts().scope == Scope::Namespaced
    }

    /// What the command line accepts beside the name, in lower case.
    pub fn aliases(self) -> &'static [&'static str] {
        self.facts().aliases
    }

    /// Whether it is one of Calico's v3 API, and not one of Kubernetes.
    pub fn is_calico(self) -> bool {
        !matches!(self, Kind::Service | Kind::EndpointSlice)
    }

    /// What stands in `apiVersion:`.
    pub fn api_version(self) -> &'static str {
        if self == Kind::Service {
            "v1"
        } else if self == Kind::EndpointSlice {
            "discovery.k8s.io/v1"
        } else {
            API_VERSION
        }
    }

    /// What the paths of its objects begin with, before the plural.
    pub fn root(self) -> &'static str {
        if self.is_calico() {
            RESOURCE_ROOT
        } else {
            CLEAT_ROOT
        }
    }

    /// What the paths of its objects, and of no other kind's, begin with.
    pub fn prefix(self) -> String {
        format!("{}{}/", self.root(), self.plural())
    }

    /// Whether an object's fields are in `spec`; those of some of Kubernetes lie beside the metadata.
    pub fn has_spec(self) -> bool {
        self != Kind::EndpointSlice
    }

    /// The kind of a path's segment.
    pub fn from_plural(plural: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.plural() == plural)
    }

    /// The kind written exactly so in `kind:`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The kind meant by a word on the command line: name, plural or alias, in any case.
    pub fn from_word(word: &str) -> Option<Self> {
        let word = word.to_ascii_lowercase();
        Self::ALL.into_iter().find(|kind| {
            kind.name().eq_ignore_ascii_case(&word)
                || kind.plural() == word
                || kind.aliases().contains(&word.as_str())
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
