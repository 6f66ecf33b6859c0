//! What the fuzzers run. `cargo test` replays their corpora through the same functions.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use ipnet::IpNet;

use crate::Family;
use crate::config::{Config, PeerConfig};
use crate::rng::Rng;
use crate::session::{ConnId, Cx, Ends, Output, Session, Settings, Timing};
use crate::status::SessionState;
use crate::wire::{
    Announcement, Context, EXTENDED_MAX_LEN, Framer, MAX_LEN, Update, keepalive, withdraw,
};

/// The stream of a peer into a session. The first octet says how far the session is and how the stream is cut.
///
/// # Panics
/// When the session breaks a promise.
pub fn stream_into_session(data: &[u8]) {
    let Some((&how, stream)) = data.split_first() else {
        return;
    };
    let mut now = Instant::now();
    let (mut rng, mut next_conn) = (Rng::new(how.into()), 0);
    let config = Config::new(Ipv4Addr::new(10, 0, 0, 1), 65001);
    let mut peer = PeerConfig::new(65002);
    peer.extended_next_hop = how & 0x80 != 0;
    let timing = Timing {
        passive: true,
        connect_retry: Duration::from_secs(5),
    };
    let mut session = Session::new(Settings::new(&config, &peer), timing, false);
    let conn = ConnId::Accepted(1);
    let ends = Ends {
        local: SocketAddr::from(([192, 0, 2, 1], 179)),
        remote: SocketAddr::from(([192, 0, 2, 2], 5000)),
    };
    let mut theirs = PeerConfig::new(65001);
    theirs.extended_next_hop = true;
    let open = Settings::new(&Config::new(Ipv4Addr::new(10, 0, 0, 2), 65002), &theirs)
        .open(false)
        .encode();

    let mut act =
        |session: &mut Session, now: Instant, act: &mut dyn FnMut(&mut Session, &mut Cx<'_>)| {
            let mut out = Vec::new();
            act(
                session,
                &mut Cx {
                    now,
                    rng: &mut rng,
                    next_conn: &mut next_conn,
                    out: &mut out,
                },
            );
            out
        };
    act(&mut session, now, &mut |session, cx| session.start(cx));
    act(&mut session, now, &mut |session, cx| {
        session.accepted(conn, ends, cx);
    });
    if how & 3 > 0 {
        act(&mut session, now, &mut |session, cx| {
            session.received(conn, &open, cx);
        });
    }
    if how & 3 > 1 {
        act(&mut session, now, &mut |session, cx| {
            session.received(conn, &keepalive(), cx);
        });
        assert_eq!(session.state(), SessionState::Established);
    }
    let chunk = [1, 7, 100, stream.len().max(1)][usize::from(how >> 2 & 3)];
    for bytes in stream.chunks(chunk) {
        let before = session.state();
        let out = act(&mut session, now, &mut |session, cx| {
            session.received(conn, bytes, cx);
        });
        let closed = out.contains(&Output::Close(conn));
        if before == SessionState::Established {
            assert_eq!(
                closed,
                session.state() != SessionState::Established,
                "a session ends with its connection"
            );
        }
        if closed {
            break;
        }
        now += Duration::from_millis(10);
        act(&mut session, now, &mut |session, cx| session.timeout(cx));
        assert!(
            session
                .next_deadline()
                .is_none_or(|deadline| deadline > now),
            "a deadline that passed is no more"
        );
    }
}

/// The body of an UPDATE: what is read and written again must be read as the same. The first octet says what was
/// agreed on.
///
/// # Panics
/// When it is not the same.
pub fn update_there_and_back(data: &[u8]) {
    let Some((&how, body)) = data.split_first() else {
        return;
    };
    let context = Context {
        families: match how & 3 {
            0 => [Family::Ipv4Unicast].into(),
            1 => [Family::Ipv6Unicast].into(),
            _ => Family::ALL.into(),
        },
        four_octet_as: how & 4 == 0,
        extended_next_hop: how & 8 != 0,
        ibgp: how & 16 != 0,
        max_len: if how & 32 == 0 {
            MAX_LEN
        } else {
            EXTENDED_MAX_LEN
        },
    };
    let Ok(update) = Update::decode(body, &context) else {
        return;
    };
    for family in Family::ALL {
        let of_family = |prefix: &&IpNet| Family::of(prefix) == family;
        let withdrawn: Vec<IpNet> = update.withdrawn.iter().filter(of_family).copied().collect();
        let mut out = Vec::new();
        withdraw(family, &withdrawn, &context, &mut out);
        let again: Vec<IpNet> = read(&out, &context)
            .into_iter()
            .flat_map(|update| update.withdrawn)
            .collect();
        assert_eq!(again, withdrawn);
    }
    for (attributes, prefixes) in &update.announced {
        let family = Family::of(&prefixes[0]);
        assert!(
            prefixes
                .iter()
                .all(|prefix| Family::of(prefix) == family && *prefix == prefix.trunc())
        );
        let Ok(mut announcement) = Announcement::new(family, attributes, &context) else {
            continue;
        };
        let (mut at, mut out) = (0, Vec::new());
        while at < prefixes.len() {
            at += announcement.message(&prefixes[at..], &mut out);
        }
        let mut again = Vec::new();
        for update in read(&out, &context) {
            assert_eq!(update.errors, []);
            for (read, prefixes) in update.announced {
                assert_eq!(read, *attributes);
                again.extend(prefixes);
            }
        }
        assert_eq!(again, *prefixes);
    }
}

fn read(bytes: &[u8], context: &Context) -> Vec<Update> {
    let mut framer = Framer::default();
    framer.allow_extended();
    framer.push(bytes);
    let mut updates = Vec::new();
    while let Some(frame) = framer
        .next_frame()
        .expect("our own messages have good headers")
    {
        updates
            .push(Update::decode(frame.body, context).expect("our own messages are well-formed"));
    }
    updates
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn the_corpora_do_not_find_anything() {
        type Target = fn(&[u8]);
        let targets: [(&str, Target); 2] = [
            ("stream_into_session", stream_into_session),
            ("update_there_and_back", update_there_and_back),
        ];
        for (name, target) in targets {
            let corpus = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("fuzz/corpus")
                .join(name);
            let files: Vec<_> = fs::read_dir(&corpus)
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .collect();
            assert!(files.len() >= 20, "{}", corpus.display());
            for file in files {
                let data = fs::read(&file).unwrap();
                for how in 0..64 {
                    let mut varied = data.clone();
                    if let Some(first) = varied.first_mut() {
                        *first ^= how;
                    }
                    target(&varied);
                }
            }
        }
    }
}
