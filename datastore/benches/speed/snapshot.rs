//! The last good state, to a file and back.

use std::{
    hint::black_box,
    time::{Instant, SystemTime},
};

use cleat_datastore::{
    Key, Resource,
    resource::decode,
    snapshot::{self, Origin},
};

use crate::{
    cluster::ENDPOINTS,
    decode::stored,
    measure::{Report, cpu_time, section, short},
};

pub(crate) fn run(report: &mut Report) {
    section("the last good state, 100,000 endpoints");
    let objects: Vec<(Key, Resource)> = (0..ENDPOINTS)
        .map(|endpoint| {
            let (path, value) = stored(endpoint);
            let key = Key::parse(&path).expect("it is a path");
            let resource = decode(&key, &value).expect("it is an endpoint");
            (key, resource)
        })
        .collect();
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("state");
    let entries = || objects.iter().map(|(key, resource)| (key, 1, resource));
    let write = || {
        let start = Instant::now();
        let (time, bytes) = cpu_time(|| {
            snapshot::write(&path, &Origin::default(), SystemTime::UNIX_EPOCH, entries())
        });
        (time, start.elapsed(), bytes.expect("it is written"))
    };
    write();
    let (time, wall, bytes) = write();
    let figure = format!(
        "{}, {} with the disk, {:.1} MB",
        short(time),
        short(wall),
        bytes as f64 / 1e6
    );
    report.judge("write", &figure, time.as_secs_f64(), 1.5, "s");

    let (time, read) = cpu_time(|| snapshot::read(&path, ""));
    let read = read.expect("it is read").expect("it is there");
    assert_eq!(black_box(read).entries.len(), ENDPOINTS);
    report.judge("load", &short(time), time.as_secs_f64(), 1.5, "s");
}
