use super::*;
use crate::wire::{Announcement, HEADER_LEN, MAX_LEN, end_of_rib, withdraw};

#[test]
fn an_update_as_on_the_wire_is_read() {
    let mut body = vec![0, 4, 24, 198, 51, 100, 0, 0];
    let attributes: &[&[u8]] = &[
        &[0x40, 1, 1, 0],
        &[0x40, 2, 10, 2, 2, 0, 0, 0xfd, 0xea, 0, 1, 0, 0],
        &[0x40, 3, 4, 192, 0, 2, 1],
        &[0x80, 4, 4, 0, 0, 0, 7],
        &[0x40, 6, 0],
        &[0xc0, 7, 8, 0, 0, 0xfd, 0xea, 10, 0, 0, 1],
        &[0xc0, 8, 8, 0xff, 0xff, 0xff, 1, 0, 1, 0, 2],
        &[0xc0, 32, 12, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3],
        &[0xc0, 99, 2, 1, 2],
        &[0x80, 98, 1, 1],
    ];
    let attributes = attributes.concat();
    body[6..8].copy_from_slice(&(attributes.len() as u16).to_be_bytes());
    body.extend(&attributes);
    body.extend([24, 203, 0, 113, 9, 10]);
    // The last prefix says 9 bits in two octets.
    body.extend([0]);
    let update = Update::decode(&body, &context()).unwrap();
    assert_eq!(update.errors, []);
    assert_eq!(update.withdrawn, nets(&["198.51.100.0/24"]));
    let [(attributes, prefixes)] = &update.announced[..] else {
        panic!("{update:?}");
    };
    assert_eq!(*prefixes, nets(&["203.0.113.0/24", "10.0.0.0/9"]));
    assert_eq!(attributes.as_path.to_string(), "65002 65536");
    assert_eq!(
        attributes.next_hop.address,
        "192.0.2.1".parse::<IpAddr>().unwrap()
    );
    assert_eq!(
        (attributes.med, attributes.atomic_aggregate),
        (Some(7), true)
    );
    assert_eq!(*attributes.communities, [0x0001_0002, 0xffff_ff01]);
    assert_eq!(*attributes.large_communities, [[1, 2, 3]]);
    assert_eq!(
        *attributes.unknown,
        [RawAttribute {
            code: 99,
            flags: 0xe0,
            value: [1, 2].into()
        }],
        "transitive ones are kept with Partial, others are not"
    );
}

#[test]
fn both_families_share_one_update() {
    let body = Body::default()
        .attribute(&[
            0x80, 14, 26, 0, 2, 1, 16, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0,
            32, 0x20, 1, 0xd, 0xb8,
        ])
        .mandatory()
        .nlri(&[8, 10])
        .build();
    let update = Update::decode(&body, &context()).unwrap();
    let seen: Vec<_> = update
        .announced
        .iter()
        .map(|(attributes, prefixes)| (attributes.next_hop.address.to_string(), prefixes.clone()))
        .collect();
    assert_eq!(
        seen,
        [
            ("192.0.2.1".to_owned(), nets(&["10.0.0.0/8"])),
            ("2001:db8::1".to_owned(), nets(&["2001:db8::/32"])),
        ]
    );
}

/// One wrong attribute beside right ones: what it does and which word it gets.
#[test]
fn wrong_attributes_do_what_rfc_7606_says() {
    use ErrorClass::{AttributeDiscard as Discard, TreatAsWithdraw as Withdraw};
    let cases: &[(&str, &[u8], ErrorClass)] = &[
        ("ORIGIN of two octets", &[0x40, 1, 2, 0, 0], Withdraw),
        ("ORIGIN undefined", &[0x40, 1, 1, 3], Withdraw),
        (
            "AS_PATH one octet left",
            &[0x40, 2, 3, 2, 0, 0xf2],
            Withdraw,
        ),
        (
            "AS_PATH with confederation",
            &[0x40, 2, 6, 3, 1, 0, 0, 0, 1],
            Withdraw,
        ),
        ("NEXT_HOP too long", &[0x40, 3, 5, 1, 1, 1, 1, 1], Withdraw),
        ("MED too short", &[0x80, 4, 3, 0, 0, 0], Withdraw),
        ("MED transitive", &[0xc0, 4, 4, 0, 0, 0, 0], Withdraw),
        (
            "LOCAL_PREF from outside",
            &[0x40, 5, 4, 0, 0, 0, 1],
            Discard,
        ),
        (
            "LOCAL_PREF from outside, too short",
            &[0x40, 5, 1, 0],
            Discard,
        ),
        ("ATOMIC_AGGREGATE with data", &[0x40, 6, 1, 0], Discard),
        (
            "AGGREGATOR of the old width",
            &[0xc0, 7, 6, 0, 1, 1, 1, 1, 1],
            Discard,
        ),
        (
            "AGGREGATOR of AS 0",
            &[0xc0, 7, 8, 0, 0, 0, 0, 1, 1, 1, 1],
            Discard,
        ),
        ("COMMUNITIES empty", &[0xc0, 8, 0], Withdraw),
        ("COMMUNITIES cut", &[0xc0, 8, 5, 0, 0, 0, 0, 0], Withdraw),
        ("ORIGINATOR_ID from outside", &[0x80, 9, 0], Discard),
        (
            "CLUSTER_LIST from outside",
            &[0x80, 10, 3, 0, 0, 0],
            Discard,
        ),
        (
            "EXTENDED COMMUNITIES cut",
            &[0xc0, 16, 7, 0, 0, 0, 0, 0, 0, 0],
            Withdraw,
        ),
        ("AS4_PATH malformed", &[0xc0, 17, 1, 2], Discard),
        ("AS4_AGGREGATOR cut", &[0xc0, 18, 1, 2], Discard),
        (
            "LARGE_COMMUNITY cut",
            &[0xc0, 32, 11, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            Withdraw,
        ),
        ("OTC cut", &[0xc0, 35, 1, 0], Withdraw),
        ("unknown well-known", &[0x40, 77, 0], Withdraw),
        ("beyond the end", &[0xc0, 99, 200, 0], Withdraw),
        ("half a header", &[0xc0, 99], Withdraw),
    ];
    for (name, attribute, class) in cases {
        // In front of the good ones when complete, so that "all but the first are discarded" also holds for it.
        let body = if attribute.len() >= 3 && usize::from(attribute[2]) == attribute.len() - 3 {
            Body::default()
                .attribute(attribute)
                .mandatory_without(attribute[1])
        } else {
            Body::default().mandatory().attribute(attribute)
        };
        let update = Update::decode(&body.nlri(&[8, 10]).build(), &context()).unwrap();
        assert_eq!(update.errors.len(), 1, "{name}: {:?}", update.errors);
        assert_eq!(update.errors[0].class, *class, "{name}");
        let withdrawn = *class == Withdraw;
        assert_eq!(update.withdrawn.len(), usize::from(withdrawn), "{name}");
        assert_eq!(update.announced.len(), usize::from(!withdrawn), "{name}");
    }
}

#[test]
fn only_what_hides_the_prefixes_ends_the_session() {
    let reach = |value: &[u8]| {
        let mut attribute = vec![0x80, 14, value.len() as u8];
        attribute.extend_from_slice(value);
        attribute
    };
    let twice = [reach(&[0, 9, 9, 0, 0]), reach(&[0, 9, 9, 0, 0])].concat();
    let cases: &[(&str, Vec<u8>, u8)] = &[
        ("withdrawn beyond the end", vec![0, 9, 0, 0], 1),
        ("attributes beyond the end", vec![0, 0, 0, 9], 1),
        ("half a length", vec![0, 0, 0], 1),
        (
            "prefix of 33 bits",
            Body::default()
                .mandatory()
                .nlri(&[33, 1, 1, 1, 1, 1])
                .build(),
            10,
        ),
        ("prefix of 255 bits", vec![0, 1, 255, 0, 0], 10),
        (
            "prefix beyond the end",
            Body::default().mandatory().nlri(&[24, 1, 1]).build(),
            10,
        ),
        (
            "MP_REACH twice",
            Body::default().attribute(&twice).build(),
            1,
        ),
        (
            "MP_REACH too short",
            Body::default().attribute(&reach(&[0, 2, 1, 0])).build(),
            9,
        ),
        (
            "MP_REACH next hop of 8",
            Body::default()
                .attribute(&reach(&[0, 2, 1, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0]))
                .build(),
            9,
        ),
        (
            "MP_REACH next hop beyond the end",
            Body::default().attribute(&reach(&[0, 2, 1, 16, 0])).build(),
            9,
        ),
        (
            "MP_UNREACH prefix of 129",
            Body::default()
                .attribute(&[0x80, 15, 4, 0, 2, 1, 129])
                .build(),
            9,
        ),
    ];
    for (name, body, subcode) in cases {
        let error = Update::decode(body, &context()).unwrap_err();
        assert_eq!((error.code, error.subcode), (3, *subcode), "{name}");
    }
}

#[test]
fn missing_mandatory_attributes_withdraw_the_routes() {
    for missing in [ORIGIN, AS_PATH, NEXT_HOP] {
        let body = Body::default()
            .mandatory_without(missing)
            .nlri(&[8, 10])
            .build();
        let update = Update::decode(&body, &context()).unwrap();
        assert_eq!(update.withdrawn, nets(&["10.0.0.0/8"]), "{missing}");
        assert_eq!(
            (update.errors[0].code, update.errors[0].problem),
            (missing, "missing")
        );
    }
}

#[test]
fn families_that_were_not_agreed_on_are_not_looked_into() {
    let only_v4 = Context {
        families: [Family::Ipv4Unicast].into(),
        ..context()
    };
    // EVPN, flow specification, VPN, and IPv6 with nonsense behind.
    for (afi, safi) in [(25u16, 70u8), (1, 133), (1, 128), (2, 1), (0xffff, 255)] {
        let [high, low] = afi.to_be_bytes();
        let body = Body::default()
            .mandatory()
            .attribute(&[0x90, 14, 0, 9, high, low, safi, 1, 9, 0, 255, 255, 255])
            .attribute(&[0x90, 15, 0, 5, high, low, safi, 255, 255])
            .nlri(&[8, 10])
            .build();
        let update = Update::decode(&body, &only_v4).unwrap();
        assert_eq!(update.announced.len(), 1, "{afi}/{safi}");
        assert_eq!(
            (update.withdrawn, update.errors),
            (vec![], vec![]),
            "{afi}/{safi}"
        );
    }
    let only_v6 = Context {
        families: [Family::Ipv6Unicast].into(),
        ..context()
    };
    let body = Body::default().mandatory().nlri(&[8, 10]).build();
    assert_eq!(Update::decode(&body, &only_v6).unwrap(), Update::default());
}

#[test]
fn an_ipv4_prefix_has_an_ipv6_next_hop_only_when_agreed_on() {
    let mut value = vec![0x80, 14, 23, 0, 1, 1, 16];
    value.extend("2001:db8::1".parse::<Ipv6Addr>().unwrap().octets());
    value.extend([0, 8, 10]);
    value[2] = (value.len() - 3) as u8;
    let body = Body::default()
        .attribute(&value)
        .mandatory_without(NEXT_HOP)
        .build();
    assert_eq!(Update::decode(&body, &context()).unwrap_err().subcode, 9);
    let extended = Context {
        extended_next_hop: true,
        ..context()
    };
    let update = Update::decode(&body, &extended).unwrap();
    assert_eq!(
        update.announced[0].0.next_hop.address.to_string(),
        "2001:db8::1"
    );
    assert_eq!(update.announced[0].1, nets(&["10.0.0.0/8"]));
    assert_same_after_encoding(&update, &extended);
}

#[test]
fn a_next_hop_of_32_octets_keeps_both_addresses() {
    let mut value = vec![0x80, 14, 0, 0, 2, 1, 32];
    value.extend("2001:db8::1".parse::<Ipv6Addr>().unwrap().octets());
    value.extend("fe80::1".parse::<Ipv6Addr>().unwrap().octets());
    value.extend([0, 0]);
    value[2] = (value.len() - 3) as u8;
    let body = Body::default()
        .attribute(&value)
        .mandatory_without(NEXT_HOP)
        .build();
    let update = Update::decode(&body, &context()).unwrap();
    let next_hop = update.announced[0].0.next_hop;
    assert_eq!(next_hop.address.to_string(), "2001:db8::1");
    assert_eq!(next_hop.link_local.unwrap().to_string(), "fe80::1");
    assert_same_after_encoding(&update, &context());
}

#[test]
fn end_of_rib_is_found_for_each_family() {
    for family in Family::ALL {
        let bytes = end_of_rib(family);
        let update = Update::decode(&bytes[HEADER_LEN..], &context()).unwrap();
        assert_eq!(update.end_of_rib, Some(family));
        assert_eq!(update.errors, []);
    }
    let mut out = Vec::new();
    withdraw(
        Family::Ipv6Unicast,
        &nets(&["2001:db8::/32"]),
        &context(),
        &mut out,
    );
    assert_eq!(
        Update::decode(&out[HEADER_LEN..], &context())
            .unwrap()
            .end_of_rib,
        None
    );
}

#[test]
fn prefixes_fill_messages_to_the_last_octet_that_fits() {
    let prefixes: Vec<IpNet> = (0..3000u32)
        .map(|index| {
            ipnet::Ipv4Net::new((0x0a00_0000 + (index << 8)).into(), 24)
                .unwrap()
                .into()
        })
        .collect();
    let mut attributes = Attributes::new("192.0.2.1".parse::<IpAddr>().unwrap().into());
    attributes.as_path = AsPath::sequence(&[65001]);
    let mut announcement = Announcement::new(Family::Ipv4Unicast, &attributes, &context()).unwrap();
    let (mut at, mut sizes) = (0, Vec::new());
    while at < prefixes.len() {
        let mut out = Vec::new();
        at += announcement.message(&prefixes[at..], &mut out);
        sizes.push(out.len());
        assert!(Update::decode(&out[HEADER_LEN..], &context()).is_ok());
    }
    assert_eq!(sizes.len(), 3);
    assert!(
        sizes[..2]
            .iter()
            .all(|&size| size > MAX_LEN - 4 && size <= MAX_LEN),
        "{sizes:?}"
    );
}

#[test]
fn attributes_that_leave_no_room_are_refused() {
    let mut attributes = Attributes::new("192.0.2.1".parse::<IpAddr>().unwrap().into());
    attributes.communities = (0..2000).collect();
    assert!(Announcement::new(Family::Ipv4Unicast, &attributes, &context()).is_err());
    let extended = Context {
        max_len: super::super::EXTENDED_MAX_LEN,
        ..context()
    };
    assert!(Announcement::new(Family::Ipv4Unicast, &attributes, &extended).is_ok());
    attributes.communities = (0..20_000).collect();
    assert!(Announcement::new(Family::Ipv4Unicast, &attributes, &extended).is_err());
}

#[test]
fn two_octet_peers_get_and_give_the_true_path() {
    let narrow = Context {
        four_octet_as: false,
        ..context()
    };
    let mut attributes = Attributes::new("192.0.2.1".parse::<IpAddr>().unwrap().into());
    attributes.as_path = AsPath::sequence(&[65001, 4_200_000_000]);
    attributes.aggregator = Some(Aggregator {
        asn: 4_200_000_000,
        router_id: Ipv4Addr::new(1, 1, 1, 1),
    });
    let mut out = Vec::new();
    let mut announcement = Announcement::new(Family::Ipv4Unicast, &attributes, &narrow).unwrap();
    announcement.message(&nets(&["10.0.0.0/8"]), &mut out);
    let update = Update::decode(&out[HEADER_LEN..], &narrow).unwrap();
    assert_eq!(update.announced[0].0, attributes);
}

/// The smallest inputs that make zettabgp 0.6.0 panic, hang or allocate without end.
#[test]
fn inputs_that_kill_the_codec_behind_do_not_reach_it() {
    let corpus = include_str!("../../tests/vectors/zettabgp-killers.txt");
    let mut count = 0;
    for line in corpus
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
    {
        let body = hex(line);
        for four_octet_as in [true, false] {
            for extended_next_hop in [true, false] {
                for ibgp in [true, false] {
                    let context = Context {
                        four_octet_as,
                        extended_next_hop,
                        ibgp,
                        ..context()
                    };
                    let _ = Update::decode(&body, &context);
                }
            }
        }
        count += 1;
    }
    assert!(count > 60, "the corpus is there: {count}");
}

#[test]
fn nested_attribute_sets_are_only_carried() {
    let mut value = vec![0; 4];
    for _ in 0..500 {
        let mut outer = vec![0, 0, 0, 1, 0xd0, 128];
        outer.extend((value.len() as u16).to_be_bytes());
        outer.append(&mut value);
        value = outer;
    }
    let mut attribute = vec![0xd0, 128];
    attribute.extend((value.len() as u16).to_be_bytes());
    attribute.extend(value);
    let body = Body::default()
        .mandatory()
        .attribute(&attribute)
        .nlri(&[8, 10])
        .build();
    let update = Update::decode(&body, &context()).unwrap();
    assert_eq!(update.announced[0].0.unknown[0].code, 128);
}

mod properties {
    use proptest::collection::{btree_set, vec};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_are_decoded_or_refused(body in vec(any::<u8>(), 0..600)) {
            let _ = Update::decode(&body, &context());
        }

        #[test]
        fn any_attributes_are_decoded_or_refused(attributes in vec((any::<u8>(), 0u8..40, vec(any::<u8>(), 0..40)), 0..12)) {
            let mut body = Body::default();
            for (flags, code, value) in attributes {
                let mut attribute = vec![flags & !EXTENDED_LENGTH, code, value.len() as u8];
                attribute.extend(value);
                body = body.attribute(&attribute);
            }
            let _ = Update::decode(&body.nlri(&[8, 10]).build(), &context());
        }

        #[test]
        fn what_is_encoded_is_decoded_again((attributes, prefixes) in route(), four_octet_as: bool) {
            let context = Context { four_octet_as, ibgp: true, extended_next_hop: true, max_len: 12_000, ..context() };
            let family = Family::of(&prefixes[0]);
            let mut announcement = Announcement::new(family, &attributes, &context).unwrap();
            let (mut at, mut got) = (0, Vec::new());
            while at < prefixes.len() {
                let mut out = Vec::new();
                at += announcement.message(&prefixes[at..], &mut out);
                prop_assert!(out.len() <= context.max_len);
                let update = Update::decode(&out[HEADER_LEN..], &context).unwrap();
                prop_assert_eq!(&update.errors, &[]);
                prop_assert_eq!(&update.announced[0].0, &attributes);
                got.extend(update.announced[0].1.clone());
            }
            prop_assert_eq!(&got, &prefixes);
            let mut out = Vec::new();
            withdraw(family, &prefixes, &context, &mut out);
            let mut framer = super::super::super::Framer::default();
            framer.allow_extended();
            framer.push(&out);
            let mut withdrawn = Vec::new();
            while let Some(frame) = framer.next_frame().unwrap() {
                withdrawn.extend(Update::decode(frame.body, &context).unwrap().withdrawn);
            }
            prop_assert_eq!(withdrawn, prefixes);
        }
    }

    fn route() -> impl Strategy<Value = (Attributes, Vec<IpNet>)> {
        (any::<bool>(), any::<bool>()).prop_flat_map(|(v6, v6_next_hop)| {
            let prefix = move |bits: u128, len: u8| -> IpNet {
                if v6 {
                    ipnet::Ipv6Net::new(bits.into(), len % 129)
                        .unwrap()
                        .trunc()
                        .into()
                } else {
                    ipnet::Ipv4Net::new((bits as u32).into(), len % 33)
                        .unwrap()
                        .trunc()
                        .into()
                }
            };
            let prefixes = vec(
                (any::<u128>(), any::<u8>()).prop_map(move |(bits, len)| prefix(bits, len)),
                1..900,
            );
            (attributes(v6 || v6_next_hop), prefixes)
        })
    }

    fn attributes(v6_next_hop: bool) -> impl Strategy<Value = Attributes> {
        let next_hop =
            (any::<u128>(), any::<u32>(), any::<bool>()).prop_map(move |(v6, v4, both)| {
                if v6_next_hop {
                    NextHop {
                        address: Ipv6Addr::from(v6 | 1).into(),
                        link_local: both.then(|| Ipv6Addr::from(0xfe80 << 112 | v6 & 0xffff_ffff)),
                    }
                } else {
                    IpAddr::from(Ipv4Addr::from(v4)).into()
                }
            });
        let as_path = vec((any::<bool>(), vec(1u32.., 1..300)), 0..3).prop_map(|segments| {
            let kind = |set| {
                if set {
                    super::super::super::SegmentKind::Set
                } else {
                    super::super::super::SegmentKind::Sequence
                }
            };
            let mut path = AsPath::default();
            for (set, asns) in segments {
                if set {
                    let mut segments = vec![super::super::super::Segment {
                        kind: kind(true),
                        asns: asns.into_iter().take(255).collect(),
                    }];
                    segments.extend(path.segments().iter().cloned());
                    path = AsPath::from_segments(segments);
                } else {
                    for asn in asns {
                        path = path.prepend(asn);
                    }
                }
            }
            path
        });
        let numbers = (
            prop::option::of(any::<u32>()),
            prop::option::of(any::<u32>()),
            any::<bool>(),
            prop::option::of((1u32.., any::<u32>())),
            prop::option::of(any::<u32>()),
            prop::option::of(any::<u32>()),
        );
        let lists = (
            btree_set(any::<u32>(), 0..70),
            btree_set(any::<u64>(), 0..40),
            btree_set(any::<[u32; 3]>(), 0..30),
            vec(any::<u32>(), 0..70),
            btree_set((100u8..120, vec(any::<u8>(), 0..300)), 0..3),
        );
        let origin = prop_oneof![
            Just(OriginCode::Igp),
            Just(OriginCode::Egp),
            Just(OriginCode::Incomplete)
        ];
        (origin, as_path, next_hop, numbers, lists).prop_map(
            |(origin, as_path, next_hop, numbers, lists)| {
                let (
                    med,
                    local_pref,
                    atomic_aggregate,
                    aggregator,
                    originator_id,
                    only_to_customer,
                ) = numbers;
                let (communities, extended, large, clusters, unknown) = lists;
                let mut codes = std::collections::BTreeSet::new();
                Attributes {
                    origin,
                    as_path,
                    next_hop,
                    med,
                    local_pref,
                    atomic_aggregate,
                    aggregator: aggregator.map(|(asn, id)| Aggregator {
                        asn,
                        router_id: id.into(),
                    }),
                    communities: communities.into_iter().collect(),
                    extended_communities: extended.into_iter().collect(),
                    large_communities: large.into_iter().collect(),
                    originator_id: originator_id.map(Ipv4Addr::from),
                    cluster_list: clusters.into_iter().map(Ipv4Addr::from).collect(),
                    only_to_customer,
                    unknown: unknown
                        .into_iter()
                        .filter(|(code, _)| codes.insert(*code))
                        .map(|(code, value)| RawAttribute {
                            code,
                            flags: 0xe0,
                            value: value.into(),
                        })
                        .collect(),
                }
            },
        )
    }
}

fn assert_same_after_encoding(update: &Update, context: &Context) {
    for (attributes, prefixes) in &update.announced {
        let mut out = Vec::new();
        let mut announcement =
            Announcement::new(Family::of(&prefixes[0]), attributes, context).unwrap();
        assert_eq!(announcement.message(prefixes, &mut out), prefixes.len());
        let again = Update::decode(&out[HEADER_LEN..], context).unwrap();
        assert_eq!(again.announced, [(attributes.clone(), prefixes.clone())]);
    }
}

fn context() -> Context {
    Context {
        families: Family::ALL.into(),
        four_octet_as: true,
        extended_next_hop: false,
        ibgp: false,
        max_len: MAX_LEN,
    }
}

fn nets(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn hex(text: &str) -> Vec<u8> {
    let digits = text.trim().as_bytes();
    let octet = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(octet).collect()
}

/// An UPDATE's body in the making.
#[derive(Default)]
struct Body {
    attributes: Vec<u8>,
    nlri: Vec<u8>,
}

impl Body {
    fn attribute(mut self, attribute: &[u8]) -> Self {
        self.attributes.extend_from_slice(attribute);
        self
    }

    fn mandatory(self) -> Self {
        self.mandatory_without(0)
    }

    fn mandatory_without(mut self, code: u8) -> Self {
        let attributes: [&[u8]; 3] = [
            &[0x40, 1, 1, 0],
            &[0x40, 2, 6, 2, 1, 0, 0, 0xfd, 0xea],
            &[0x40, 3, 4, 192, 0, 2, 1],
        ];
        for attribute in attributes {
            if attribute[1] != code {
                self.attributes.extend_from_slice(attribute);
            }
        }
        self
    }

    fn nlri(mut self, nlri: &[u8]) -> Self {
        self.nlri.extend_from_slice(nlri);
        self
    }

    fn build(self) -> Vec<u8> {
        let mut body = vec![0, 0];
        body.extend((self.attributes.len() as u16).to_be_bytes());
        body.extend(self.attributes);
        body.extend(self.nlri);
        body
    }
}
