//! Two speakers over real sockets of the loopback device. Next hops there are no use to anyone, so the routes are seen
//! as received and refused; `tests/interop.rs` goes all the way.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::Family;
use crate::config::{Config, Origin, PeerConfig, Stop};
use crate::net::Speaker;
use crate::status::{PeerStatus, RouteFilter, RouteTable, SessionState};

#[tokio::test]
async fn two_speakers_meet_on_real_sockets_and_part_with_a_word() {
    for (a, b) in [("127.0.0.11", "127.0.0.12"), ("::1", "::1")] {
        let (a, b): (IpAddr, IpAddr) = (a.parse().unwrap(), b.parse().unwrap());
        let port = free_port(a);
        // With one loopback address of IPv6 only one side can listen and the other must not.
        let one = config(1, b, port, |peer| peer.passive = true, a);
        let mut two = config(2, a, port, |peer| peer.passive = false, b);
        two.listen.clear();
        let (one, two) = (Speaker::start(one), Speaker::start(two));
        one.originate(origins(&["10.1.0.0/26", "fd00:1::/122"]));
        two.originate(BTreeMap::new());
        eventually("session", async || {
            state(&one).await == SessionState::Established
                && state(&two).await == SessionState::Established
        })
        .await;
        let received = RouteFilter {
            table: RouteTable::Received,
            ..RouteFilter::default()
        };
        eventually("routes", async || two.routes(received).await.len() == 2).await;
        for route in two.routes(received).await {
            assert_eq!(route.as_path, "65001");
            assert_eq!(
                serde_json::to_value(route.peer).unwrap(),
                serde_json::json!(a.to_string())
            );
        }
        assert_eq!(two.status().await.unwrap().prefixes, 2);
        one.stop(Stop::Shutdown("good night".into())).await;
        eventually("the last word", async || {
            let error = peer(&two).await.last_error;
            error.and_then(|error| error.communication).as_deref() == Some("good night")
        })
        .await;
        assert!(one.status().await.is_none());
        two.stop(Stop::Restart).await;
    }
}

#[tokio::test]
async fn a_subscription_begins_with_everything_and_ends_with_the_speaker() {
    let mut config = Config::new([10, 0, 0, 1].into(), 65001);
    config.listen.clear();
    let speaker = Speaker::start(config);
    let mut fib = speaker.fib().await;
    let first = fib.next().await.unwrap();
    assert_eq!((first.changes.len(), first.converged), (0, false));
    speaker.originate(origins(&["10.1.0.0/26"]));
    let next = fib.next().await.unwrap();
    assert_eq!(
        (next.changes.len(), next.converged),
        (0, true),
        "without peers there is nothing to wait for"
    );
    speaker.stop(Stop::Restart).await;
    assert_eq!(fib.next().await, None);
}

#[tokio::test]
async fn what_was_configured_before_is_known_to_what_comes_after() {
    for _ in 0..20 {
        let mut config = Config::new([10, 0, 0, 1].into(), 65001);
        config.listen.clear();
        let speaker = Speaker::start(config.clone());
        assert!(speaker.peers().await.is_empty());
        let peer = PeerConfig {
            passive: true,
            ..PeerConfig::new(65002)
        };
        config.peers = [(IpAddr::from([192, 0, 2, 2]).into(), peer)].into();
        speaker.configure(config);
        speaker.originate(origins(&["10.1.0.0/26"]));
        let status = speaker.status().await.unwrap();
        assert_eq!(
            (status.originated, status.converged),
            (1, false),
            "it waits for the peer"
        );
        assert_eq!(speaker.peers().await.len(), 1);
        speaker.stop(Stop::Restart).await;
    }
}

#[tokio::test]
async fn a_port_that_is_taken_is_reported_and_tried_again() {
    let blocker = std::net::TcpListener::bind("127.0.0.13:0").unwrap();
    let mut config = Config::new([10, 0, 0, 1].into(), 65001);
    config.listen = vec![blocker.local_addr().unwrap()];
    let speaker = Speaker::start(config);
    let error = async || speaker.status().await.unwrap().listeners[0].error.clone();
    eventually("the error", async || {
        error().await.is_some_and(|error| error.contains("in use"))
    })
    .await;
    drop(blocker);
    eventually("listening", async || error().await.is_none()).await;
    speaker.stop(Stop::Restart).await;
}

#[tokio::test]
async fn keepalives_go_out_while_nobody_handles_events() {
    // A peer made by hand, so that what comes and when can be seen.
    let listener = tokio::net::TcpListener::bind("127.0.0.14:0").await.unwrap();
    let change = |peer: &mut PeerConfig| {
        peer.hold_time = Duration::from_secs(3);
        peer.port = listener.local_addr().unwrap().port();
    };
    let mut config = config(1, [127, 0, 0, 14].into(), 0, change, [127, 0, 0, 15].into());
    config.listen.clear();
    let speaker = Speaker::start(config.clone());
    let (mut stream, _) = listener.accept().await.unwrap();
    let mine = crate::session::Settings::new(
        &Config::new([9, 9, 9, 9].into(), 65002),
        &PeerConfig::new(65001),
    );
    stream.write_all(&mine.open(false).encode()).await.unwrap();
    let mut framer = crate::wire::Framer::default();
    let (start, mut keepalives) = (Instant::now(), 0);
    while keepalives < 4 {
        assert!(start.elapsed() < Duration::from_secs(20));
        stream.write_all(&crate::wire::keepalive()).await.unwrap();
        let mut bytes = [0; 4096];
        let len = stream.read(&mut bytes).await.unwrap();
        framer.push(&bytes[..len]);
        while let Some(frame) = framer.next_frame().unwrap() {
            assert_ne!(
                frame.kind,
                crate::wire::MessageType::Notification,
                "{frame:?}"
            );
            keepalives += usize::from(frame.kind == crate::wire::MessageType::Keepalive);
        }
    }
    assert!(start.elapsed() >= Duration::from_secs(2), "one a second");
    speaker.stop(Stop::Restart).await;
}

fn config(
    index: u8,
    other: IpAddr,
    port: u16,
    change: impl Fn(&mut PeerConfig),
    local: IpAddr,
) -> Config {
    let mut config = Config::new([10, 0, 0, index].into(), 65000 + u32::from(index));
    config.listen = vec![SocketAddr::new(local, port)];
    let mut peer = PeerConfig::new(65003 - u32::from(index));
    peer.port = port;
    peer.local_address = Some(local);
    peer.next_hops = [
        (Family::Ipv4Unicast, [192, 0, 2, index].into()),
        (
            Family::Ipv6Unicast,
            format!("2001:db8::{index}").parse().unwrap(),
        ),
    ]
    .into();
    change(&mut peer);
    config.peers = [(other.into(), peer)].into();
    config
}

fn origins(prefixes: &[&str]) -> BTreeMap<ipnet::IpNet, Origin> {
    prefixes
        .iter()
        .map(|prefix| (prefix.parse().unwrap(), Origin::default()))
        .collect()
}

fn free_port(address: IpAddr) -> u16 {
    std::net::TcpListener::bind(SocketAddr::new(address, 0))
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

async fn peer(speaker: &Speaker) -> PeerStatus {
    speaker.peers().await.remove(0)
}

async fn state(speaker: &Speaker) -> SessionState {
    peer(speaker).await.state
}

async fn eventually(what: &str, condition: impl AsyncFn() -> bool) {
    let start = Instant::now();
    while !condition().await {
        assert!(
            start.elapsed() < Duration::from_secs(15),
            "{what} never came"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
