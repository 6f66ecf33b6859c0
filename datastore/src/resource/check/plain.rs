//! Kinds that have no rules beyond their types yet.

use super::{Check, CheckObject, Checked};
use crate::resource::{
    BgpFilterSpec, CalicoNodeStatusSpec, ClusterInformationSpec, EndpointSliceSpec,
    HostEndpointSpec, IpReservationSpec, IpamConfigurationSpec, LiveMigrationSpec, ServiceSpec,
    StagedGlobalNetworkPolicySpec, StagedKubernetesNetworkPolicySpec, StagedNetworkPolicySpec,
};

impl CheckObject for BgpFilterSpec {}

impl Check for BgpFilterSpec {
    fn check(&self) -> Checked {
        Ok(())
    }
}

impl CheckObject for CalicoNodeStatusSpec {}

impl Check for CalicoNodeStatusSpec {
    fn check(&self) -> Checked {
        Ok(())
    }
}

impl CheckObject for ClusterInformationSpec {}

impl Check for ClusterInformationSpec {
    fn check(&self) -> Checked {
        Ok(())
    }
}

impl CheckObject for ServiceSpec {}

impl Check for ServiceSpec {
    fn check(&self) -> Checked {
        Ok(())
    }
}

impl CheckObject for EndpointSliceSpec {}

impl Check for EndpointSliceSpec {
    fn check(&self) -> Checked {
        Ok(())
    }
}

impl CheckObject for HostEndpointSpec {}

impl Check for HostEndpointSpec {
    fn check(&self) -> Checked {
        Ok(())
    }
}

impl CheckObject for IpReservationSpec {}

impl Check for IpReservationSpec {
    fn check(&self) -> Checked {
        Ok(())
    }
}

impl CheckObject for IpamConfigurationSpec {}

impl Check for IpamConfigurationSpec {
    fn check(&self) -> Checked {
        Ok(())
    }
}

impl CheckObject for LiveMigrationSpec {}

impl Check for LiveMigrationSpec {
    fn check(&self) -> Checked {
        Ok(())
    }
}

impl CheckObject for StagedGlobalNetworkPolicySpec {}

impl Check for StagedGlobalNetworkPolicySpec {
    fn check(&self) -> Checked {
        Ok(())
    }
}

impl CheckObject for StagedKubernetesNetworkPolicySpec {}

impl Check for StagedKubernetesNetworkPolicySpec {
    fn check(&self) -> Checked {
        Ok(())
    }
}

impl CheckObject for StagedNetworkPolicySpec {}

impl Check for StagedNetworkPolicySpec {
    fn check(&self) -> Checked {
        Ok(())
    }
}
