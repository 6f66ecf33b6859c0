//! A directory of YAML files is a store too: the embedded default.
#![cfg(feature = "lab")]

use netlab::{
    Expect::{self, Reaches, Silent},
    Matrix,
    Proto::{Ping, Tcp},
    Single, Station, Workload,
    probe::{check, rows},
    secs,
};

const RESOURCES: &str = "\
apiVersion: projectcalico.org/v3
kind: WorkloadEndpoint
metadata:
  name: solo-k8s-web-eth0
  namespace: shop
  labels: {app: web, projectcalico.org/namespace: shop, projectcalico.org/orchestrator: k8s}
spec:
  orchestrator: k8s
  node: solo
  pod: web
  endpoint: eth0
  containerID: c0ffee
  interfaceName: cali0web
  ipNetworks: [10.65.1.1/32, 'fd65:0:0:1::1/128']
---
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  selector: app == 'web'
  types: [Ingress, Egress]
  ingress:
    - action: Allow
      protocol: TCP
      destination: {ports: [80]}
  egress:
    - action: Allow
      protocol: TCP
      destination: {ports: [443]}
";

fn expect(stations: &[&Station], questions: &[(usize, usize, netlab::Proto, Expect)]) {
    let asked = questions.iter().flat_map(|&(from, to, proto, expected)| {
        rows(stations[from], stations[to], proto, expected)
    });
    let mut matrix = Matrix {
        rows: asked.collect(),
    };
    assert!(!matrix.rows.is_empty());
    if let Err(error) = check(&mut matrix, stations, secs(10)) {
        panic!("{error:#}");
    }
}

#[test]
fn a_file_written_into_the_directory_takes_hold() {
    let single = Single::with_directory("directory", "solo").unwrap();
    let addresses = [
        "10.65.1.1".parse().unwrap(),
        "fd65:0:0:1::1".parse().unwrap(),
    ];
    let serves = [Tcp(80), Tcp(81)];
    let web = Workload::container(
        &single.lab,
        &single.host.namespace,
        "web",
        "cali0web",
        &addresses,
        &serves,
    )
    .unwrap();
    let stations = [&single.world, &web.station];
    single.host.start(&single.lab).unwrap();
    single.host.wait_ready(secs(20)).unwrap();
    // A workload's interface without an endpoint drops.
    expect(
        &stations,
        &[(0, 1, Tcp(80), Silent), (1, 0, Tcp(443), Silent)],
    );

    let file = single.lab.dir("resources").unwrap().join("web.yaml");
    std::fs::write(&file, RESOURCES).unwrap();
    expect(
        &stations,
        &[
            (0, 1, Tcp(80), Reaches),
            (0, 1, Tcp(81), Silent),
            (0, 1, Ping, Silent),
            (1, 0, Tcp(443), Reaches),
            (1, 0, Ping, Silent),
        ],
    );

    std::fs::write(&file, RESOURCES.replace("[80]", "[81]")).unwrap();
    expect(
        &stations,
        &[(0, 1, Tcp(80), Silent), (0, 1, Tcp(81), Reaches)],
    );

    std::fs::remove_file(&file).unwrap();
    expect(
        &stations,
        &[(0, 1, Tcp(81), Silent), (1, 0, Tcp(443), Silent)],
    );
}
