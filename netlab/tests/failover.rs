//! Routers and daemons that die.
#![cfg(feature = "lab")]

use netlab::{House, eventually, house::EXAMPLE_MATRIX, secs, steady::finish};

#[test]
fn traffic_goes_on_when_a_tor_loses_its_power() {
    let house = House::running("tor").unwrap();
    house.expect(EXAMPLE_MATRIX, secs(15)).unwrap();
    let streams = house.streams().unwrap();
    house.power_off(0).unwrap();
    eventually("alpha's routes through tor2 alone", secs(20), || {
        let text = house
            .alpha
            .namespace
            .run("ip", &["route", "show", "10.65.2.0/26"])
            .map_err(|error| format!("{error:#}"))?;
        if text.contains("10.0.3.1") && !text.contains("10.0.1.1") {
            Ok(())
        } else {
            Err(text)
        }
    })
    .unwrap();
    house.expect(EXAMPLE_MATRIX, secs(15)).unwrap();
    let report = finish(streams).unwrap();
    // A stream that was on the dead router's side lost what was sent until the routes were gone.
    assert!(report.longest_gap < secs(5), "{report}");
}

#[test]
fn a_killed_daemon_is_missed_by_no_packet() {
    let house = House::running("kill").unwrap();
    house.expect(EXAMPLE_MATRIX, secs(15)).unwrap();
    let streams = house.streams().unwrap();
    house.alpha.process().unwrap().kill();
    // New connections are judged as before while nobody is there.
    house.expect(EXAMPLE_MATRIX, secs(5)).unwrap();
    house.alpha.start(&house.lab).unwrap();
    house.alpha.wait_ready(secs(20)).unwrap();
    house.wait_sessions(secs(20)).unwrap();
    house.expect(EXAMPLE_MATRIX, secs(5)).unwrap();
    let report = finish(streams).unwrap();
    assert_eq!(report.lost(), 0, "{report}");
    assert!(report.sent > 1000, "{report}");
}

#[test]
fn a_daemon_that_is_asked_to_end_does_so_and_is_missed_by_no_packet() {
    let house = House::running("stop").unwrap();
    house.expect(EXAMPLE_MATRIX, secs(15)).unwrap();
    let streams = house.streams().unwrap();
    let status = house.alpha.process().unwrap().terminate(secs(10)).unwrap();
    assert!(status.success(), "{status}");
    house.alpha.start(&house.lab).unwrap();
    house.alpha.wait_ready(secs(20)).unwrap();
    house.wait_sessions(secs(20)).unwrap();
    let report = finish(streams).unwrap();
    assert_eq!(report.lost(), 0, "{report}");
}

#[test]
fn a_store_that_is_away_changes_nothing() {
    let house = House::running("store").unwrap();
    house.expect(EXAMPLE_MATRIX, secs(15)).unwrap();
    house.etcd.process().kill();
    house.expect(EXAMPLE_MATRIX, secs(5)).unwrap();
    house.wait_sessions(secs(5)).unwrap();
}
