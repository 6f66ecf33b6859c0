"""Writes to etcd what Neutron's Calico driver writes, with the driver's own code.

Arguments: etcd's host and port, and a JSON text: {"neutron": tables, "do": [[operation, argument ...], ...]}. The tables
stand in for Neutron's database: the driver's syncers ask them what it would ask Neutron. Everything that goes to etcd
is made and sent by networking-calico. What an operation finds out is printed, one JSON line each.
"""

import builtins
import json
import sys
import warnings

warnings.filterwarnings("ignore")
# The package is of Python 2's time, where this was built in and texts were bytes.
builtins.intern = lambda text: sys.intern(text.decode())

# flake8: noqa: E402
from networking_calico import datamodel_v2, datamodel_v3, etcdv3
from networking_calico.common import config
from networking_calico.compat import cfg
from networking_calico.plugins.ml2.drivers.calico import mech_calico
from networking_calico.plugins.ml2.drivers.calico.endpoints import (
    FloatingIP,
    WorkloadEndpointSyncer,
)
from networking_calico.plugins.ml2.drivers.calico.policy import SG_NAME_PREFIX, PolicySyncer
from networking_calico.plugins.ml2.drivers.calico.subnets import SubnetSyncer


class Neutron:
    """The tables, asked as the core plugin is asked."""

    def __init__(self, tables):
        self.tables = tables
        # The driver passes a context along, whose session it puts some queries to.
        self.session = self

    def rows(self, table, **wanted):
        rows = self.tables.get(table, [])
        return [dict(row) for row in rows if all(row[key] in wanted[key] for key in wanted)]

    def get_port(self, _context, port_id):
        return self.rows("ports", id=[port_id])[0]

    def get_subnet(self, _context, subnet_id):
        return self.rows("subnets", id=[subnet_id])[0]

    def get_subnets(self, _context, filters=None):
        return self.rows("subnets", **(filters or {}))

    def get_security_groups(self, _context, filters=None, default_sg=False):
        return self.rows("security_groups", **(filters or {}))

    def get_security_group_rules(self, _context, filters=None):
        return self.rows("rules", **(filters or {}))

    def _get_port_security_group_bindings(self, _context, filters):
        ports = self.rows("ports", id=filters["port_id"])
        return [{"security_group_id": of} for port in ports for of in port["security_groups"]]

    def query(self, model):
        return Query(self, "floating_ips" if model is FloatingIP else "allocations")


class Query:
    def __init__(self, neutron, table):
        self.neutron = neutron
        self.table = table

    def filter_by(self, **wanted):
        return self.neutron.rows(self.table, **{key: [value] for key, value in wanted.items()})


class Driver:
    """The operations, as the driver runs them when Neutron tells it of a change."""

    def __init__(self, neutron):
        self.neutron = neutron
        self.policies = PolicySyncer(neutron, None)
        # Without a keystone the projects' names stay unknown, and the driver leaves them out.
        self.endpoints = WorkloadEndpointSyncer(neutron, None, self.policies, None)
        self.subnets = SubnetSyncer(neutron, None)

    def configure(self):
        """What the driver tells Felix when it starts."""
        try:
            datamodel_v3.get("ClusterInformation", "default")
        except etcdv3.KeyNotFound:
            # The driver would make this up in the manner of Python 2.
            spec = {datamodel_v3.CLUSTER_GUID: "0ddba11c0ffee0ddba11c0ffee0dd001"}
            datamodel_v3.put("ClusterInformation", None, "default", spec, mod_revision=0)
        mech_calico.CalicoMechanismDriver.provide_felix_config(self)

    def profile(self, name, spec):
        assert datamodel_v3.put("Profile", datamodel_v3.NOT_NAMESPACED, name, spec)

    def port(self, port_id):
        self.endpoints.write_endpoint(self.neutron.get_port(None, port_id), self.neutron)

    def port_gone(self, port_id):
        self.endpoints.delete_endpoint(self.neutron.get_port(None, port_id))

    def groups(self, *group_ids):
        self.policies.write_sgs_to_etcd(list(group_ids), self.neutron)

    def group_gone(self, group_id):
        assert self.policies.delete_from_etcd(SG_NAME_PREFIX + group_id, None)

    def subnet(self, subnet_id):
        assert self.subnets.subnet_created(self.neutron.get_subnet(None, subnet_id), self.neutron)

    def subnet_gone(self, subnet_id):
        self.subnets.subnet_deleted(subnet_id)

    def compact(self):
        """What the driver does with etcd every hour."""
        _, revision = etcdv3.get_status()
        etcdv3.request_compaction(revision)
        print(json.dumps(revision))

    def statuses(self):
        """The endpoints whose status the driver would tell Neutron."""
        found = {}
        region = config.get_region_string()
        for key, value, _ in etcdv3.get_prefix(datamodel_v2.felix_status_dir(region)):
            endpoint = datamodel_v2.get_endpoint_id_from_key(region, key.decode())
            if endpoint is not None:
                found[endpoint.endpoint] = [endpoint.host, json.loads(value)]
        print(json.dumps(found))


def main():
    host, port, request = sys.argv[1:]
    config.register_options(cfg.CONF)
    cfg.CONF.set_override("etcd_host", host, "calico")
    cfg.CONF.set_override("etcd_port", int(port), "calico")
    # The client's own default is a path that etcd gave up in 3.4.
    etcdv3._get_client().api_path = "/v3/"
    request = json.loads(request)
    driver = Driver(Neutron(request["neutron"]))
    for operation, *arguments in request["do"]:
        getattr(driver, operation)(*arguments)


main()
