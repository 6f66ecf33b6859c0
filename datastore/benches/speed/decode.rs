//! Paths and bytes to keys and objects, as a listing makes them, and objects to bytes.

use std::hint::black_box;

use cleat_datastore::{Key, Resource, resource::decode};

use crate::{
    cluster::{self, ENDPOINTS},
    measure::{Report, median_cpu_time, resident, section, short, tell},
};

const RUNS: usize = 5;

pub(crate) fn run(report: &mut Report) {
    section("100,000 endpoints, by one thread");
    let stored: Vec<(String, Vec<u8>)> = (0..ENDPOINTS).map(stored).collect();
    let bytes: usize = stored.iter().map(|(_, value)| value.len()).sum();
    tell("as stored", &format!("{:.1} MB", bytes as f64 / 1e6));

    let read = |(path, value): &(String, Vec<u8>)| -> (Key, Resource) {
        let key = Key::parse(path).expect("it is a path");
        let resource = decode(&key, value).expect("it is an endpoint");
        (key, resource)
    };
    let time = median_cpu_time(RUNS, || {
        for one in &stored {
            drop(black_box(read(one)));
        }
    });
    let figure = format!("{}, {} each", short(time), short(time / ENDPOINTS as u32));
    report.judge("decode", &figure, time.as_secs_f64(), 1.0, "s");

    let before = resident();
    let objects: Vec<(Key, Resource)> = stored.iter().map(read).collect();
    let each = resident().saturating_sub(before) / ENDPOINTS as u64;
    tell("memory of one decoded", &format!("{each} bytes"));

    let encode = || {
        for (_, resource) in &objects {
            drop(black_box(resource.encode()));
        }
    };
    let time = median_cpu_time(RUNS, encode);
    let figure = format!("{}, {} each", short(time), short(time / ENDPOINTS as u32));
    report.judge("encode", &figure, time.as_secs_f64(), 1.0, "s");
}

/// An endpoint's path and bytes.
pub(crate) fn stored(endpoint: usize) -> (String, Vec<u8>) {
    let (path, value) = cluster::stored(endpoint);
    (path, value.to_string().into_bytes())
}
