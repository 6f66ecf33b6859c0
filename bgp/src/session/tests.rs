//! One session against a peer made by hand.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a test looks for one kind of output"
)]

use super::*;
use crate::config::{Config, PeerConfig};
use crate::wire::{Capability, GracefulRestartCapability};

#[test]
fn a_message_out_of_place_is_an_error_of_its_state() {
    let update = crate::wire::end_of_rib(Family::Ipv4Unicast);
    let cases: &[(&str, Stage, &[u8], u8)] = &[
        ("KEEPALIVE in OpenSent", Stage::OpenSent, &keepalive(), 1),
        ("UPDATE in OpenSent", Stage::OpenSent, &update, 1),
        (
            "OPEN in OpenConfirm",
            Stage::OpenConfirm,
            &open(|_| {}).encode(),
            2,
        ),
        ("UPDATE in OpenConfirm", Stage::OpenConfirm, &update, 2),
        (
            "OPEN in Established",
            Stage::Established,
            &open(|_| {}).encode(),
            3,
        ),
    ];
    for (name, stage, bytes, subcode) in cases {
        let mut peer = Hand::new(*stage);
        let out = peer.says(bytes);
        assert_eq!(
            last_word(&out).map(|word| (word.code, word.subcode)),
            Some((5, *subcode)),
            "{name}"
        );
        assert!(out.contains(&Output::Close(CONN)), "{name}");
        assert_eq!(peer.session.state(), SessionState::Active, "{name}");
    }
}

#[test]
fn silence_before_the_session_is_up_ends_the_connection_too() {
    for (stage, seconds) in [(Stage::OpenSent, 30), (Stage::OpenConfirm, 90)] {
        let mut peer = Hand::new(stage);
        assert_eq!(
            peer.session.next_deadline(),
            Some(peer.now + Duration::from_secs(seconds)),
            "{stage:?}"
        );
        let out = peer.waits(Duration::from_secs(seconds));
        assert_eq!(last_word(&out).map(|word| word.code), Some(4), "{stage:?}");
    }
}

#[test]
fn attempts_to_connect_come_at_the_retry_time_shortened_by_a_quarter_at_most() {
    let mut peer = Hand::new(Stage::Connect);
    // Nobody answers: given up and tried again at once.
    let out = peer.waits(Duration::from_secs(5));
    assert!(
        matches!(
            out[..],
            [Output::Close(_), Output::Failed(_), Output::Connect(_)]
        ),
        "{out:?}"
    );
    // Refused: after a pause.
    let mut conn = ConnId::Dialled(1);
    for _ in 0..50 {
        peer.act(|session, cx| session.connect_failed(conn, "refused".into(), cx));
        assert_eq!(peer.session.state(), SessionState::Active);
        let pause = peer.session.next_deadline().unwrap() - peer.now;
        assert!(
            (Duration::from_millis(3750)..=Duration::from_secs(5)).contains(&pause),
            "{pause:?}"
        );
        let out = peer.waits(pause);
        let [Output::Connect(next)] = out[..] else {
            panic!("{out:?}")
        };
        conn = next;
    }
}

#[test]
fn what_ends_a_session_decides_whether_the_peers_routes_are_kept() {
    type Happens = Box<dyn Fn(&mut Hand) -> Vec<Output>>;
    let hard = Notification::cease(cease::ADMINISTRATIVE_SHUTDOWN, "").hard();
    let soft = Notification::new(code::CEASE, cease::ADMINISTRATIVE_RESET);
    let bad_update = [&[0xff; 16][..], &[0, 23, 2, 0, 9, 0, 0]].concat();
    // What happens; kept without graceful restart, with RFC 4724 alone, with RFC 8538 too.
    let cases: Vec<(&str, Happens, [bool; 3])> = vec![
        (
            "connection lost",
            Box::new(|peer| peer.act(|session, cx| session.closed(CONN, "reset".into(), cx))),
            [false, true, true],
        ),
        (
            "silence",
            Box::new(|peer| peer.waits(Duration::from_secs(90))),
            [false, false, true],
        ),
        (
            "NOTIFICATION",
            Box::new(move |peer| peer.says(&soft.encode())),
            [false, false, true],
        ),
        (
            "Hard Reset",
            Box::new(move |peer| peer.says(&hard.encode())),
            [false, false, false],
        ),
        (
            "malformed UPDATE",
            Box::new(move |peer| peer.says(&bad_update)),
            [false, false, true],
        ),
        (
            "our own shutdown",
            Box::new(|peer| peer.act(|session, cx| session.stop(None, cx))),
            [false, false, false],
        ),
    ];
    for (name, happens, expected) in &cases {
        let restarts = [None, Some(false), Some(true)];
        for (notification, expected) in restarts.into_iter().zip(expected) {
            let mut peer = Hand::with(Stage::Established, |open| {
                open.capabilities.extend(notification.map(restart));
            });
            let out = happens(&mut peer);
            let graceful = out.iter().find_map(|output| match output {
                Output::Down { graceful, .. } => Some(*graceful),
                _ => None,
            });
            assert_eq!(graceful, Some(*expected), "{name}, {notification:?}");
        }
    }
}

#[test]
fn the_shutdown_of_a_session_is_hard_only_for_a_peer_that_knows_it() {
    for (knows, expected) in [(false, (6, 2)), (true, (6, 9))] {
        let mut peer = Hand::with(Stage::Established, |open| {
            open.capabilities.push(restart(knows));
        });
        let word = Notification::cease(cease::ADMINISTRATIVE_SHUTDOWN, "bye");
        let out = peer.act(|session, cx| session.stop(Some(word), cx));
        let word = last_word(&out).unwrap();
        assert_eq!((word.code, word.subcode), expected);
        assert_eq!(word.inner().communication().as_deref(), Some("bye"));
    }
}

#[test]
fn the_restart_bit_is_set_until_the_peer_was_once_up() {
    let mut peer = Hand::new(Stage::Down);
    peer.session = Session::new(settings(), TIMING, true);
    let restarting = |out: &[Output]| {
        out.iter().any(|output| match output {
            Output::Send(_, bytes) => Open::decode(&bytes[19..]).unwrap().capabilities.iter().any(|capability| {
                matches!(capability, Capability::GracefulRestart(restart) if restart.restarting && restart.families.iter().all(|family| family.2))
            }),
            _ => false,
        })
    };
    peer.act(Session::start);
    let out = peer.act(|session, cx| session.accepted(CONN, ENDS, cx));
    assert!(restarting(&out));
    peer.says(&open(|_| {}).encode());
    peer.says(&keepalive());
    assert_eq!(peer.session.state(), SessionState::Established);
    peer.act(|session, cx| session.closed(CONN, "reset".into(), cx));
    let out = peer.act(|session, cx| session.accepted(ConnId::Accepted(2), ENDS, cx));
    assert!(!restarting(&out));
}

#[test]
fn a_peer_without_capabilities_gets_what_rfc_4271_alone_has() {
    let bare = Open {
        my_as: 65002,
        hold_time: 30,
        router_id: [10, 0, 0, 2].into(),
        capabilities: Vec::new(),
    };
    let mut peer = Hand::new(Stage::OpenSent);
    peer.says(&bare.encode());
    let out = peer.says(&keepalive());
    let [Output::Up(up)] = &out[..] else {
        panic!("{out:?}")
    };
    let context = &up.negotiated.context;
    assert_eq!(context.families, [Family::Ipv4Unicast].into());
    assert_eq!((context.four_octet_as, context.max_len), (false, 4096));
    assert_eq!((up.negotiated.hold_time, up.negotiated.keepalive), (30, 10));
    assert_eq!(
        (up.negotiated.route_refresh, &up.negotiated.restart),
        (false, &None)
    );
}

/// A session, and the peer's side of it by hand.
struct Hand {
    session: Session,
    now: Instant,
    rng: Rng,
    next_conn: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Down,
    Connect,
    OpenSent,
    OpenConfirm,
    Established,
}

impl Hand {
    fn new(stage: Stage) -> Self {
        Self::with(stage, |_| {})
    }

    fn with(stage: Stage, change: impl Fn(&mut Open)) -> Self {
        let mut hand = Self {
            session: Session::new(settings(), TIMING, false),
            now: Instant::now(),
            rng: Rng::new(1),
            next_conn: 0,
        };
        if stage >= Stage::Connect {
            hand.act(Session::start);
        }
        if stage >= Stage::OpenSent {
            hand.act(|session, cx| {
                session.connect_failed(ConnId::Dialled(0), "refused".into(), cx);
            });
            hand.act(|session, cx| session.accepted(CONN, ENDS, cx));
        }
        if stage >= Stage::OpenConfirm {
            hand.says(&open(change).encode());
        }
        if stage >= Stage::Established {
            hand.says(&keepalive());
        }
        hand
    }

    fn act(&mut self, act: impl FnOnce(&mut Session, &mut Cx<'_>)) -> Vec<Output> {
        let mut out = Vec::new();
        act(
            &mut self.session,
            &mut Cx {
                now: self.now,
                rng: &mut self.rng,
                next_conn: &mut self.next_conn,
                out: &mut out,
            },
        );
        out
    }

    fn says(&mut self, bytes: &[u8]) -> Vec<Output> {
        self.act(|session, cx| session.received(CONN, bytes, cx))
    }

    fn waits(&mut self, time: Duration) -> Vec<Output> {
        self.now += time;
        self.act(Session::timeout)
    }
}

fn last_word(out: &[Output]) -> Option<Notification> {
    out.iter().find_map(|output| match output {
        Output::Send(_, bytes) if bytes[18] == MessageType::Notification as u8 => {
            Some(Notification::decode(&bytes[19..]))
        }
        _ => None,
    })
}

fn settings() -> Settings {
    Settings::new(
        &Config::new([10, 0, 0, 1].into(), 65001),
        &PeerConfig::new(65002),
    )
}

fn open(change: impl Fn(&mut Open)) -> Open {
    let mut peer = PeerConfig::new(65001);
    peer.graceful_restart = None;
    let mut open = Settings::new(&Config::new([10, 0, 0, 2].into(), 65002), &peer).open(false);
    change(&mut open);
    open
}

fn restart(notification: bool) -> Capability {
    Capability::GracefulRestart(GracefulRestartCapability {
        restarting: false,
        notification,
        restart_time: 120,
        families: vec![(1, 1, true), (2, 1, true)],
    })
}

const CONN: ConnId = ConnId::Accepted(1);
const TIMING: Timing = Timing {
    passive: false,
    connect_retry: Duration::from_secs(5),
};
const ENDS: Ends = Ends {
    local: SocketAddr::V4(std::net::SocketAddrV4::new(
        std::net::Ipv4Addr::new(192, 0, 2, 1),
        179,
    )),
    remote: SocketAddr::V4(std::net::SocketAddrV4::new(
        std::net::Ipv4Addr::new(192, 0, 2, 2),
        5000,
    )),
};
