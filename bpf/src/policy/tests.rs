use std::ops::RangeInclusive;

use proptest::prelude::*;

use super::{
    encode::{WITH_L4, WITH_PORTS},
    *,
};

/// A plain reading of a list: what [`evaluate`] must agree with.
fn walk(clauses: &[Clause], holds: &dyn Fn(u32, u32) -> bool, query: Query) -> Decision {
    let within = |ranges: &Option<Vec<RangeInclusive<u16>>>, keyed: &[u8], key: u16| match ranges {
        None => true,
        Some(ranges) => keyed.contains(&query.protocol) && ranges.iter().any(|r| r.contains(&key)),
    };
    let mut at = 0;
    while let Some(clause) = clauses.get(at) {
        let matches = clause.src.is_none_or(|e| holds(e, query.src_class))
            && clause.dst.is_none_or(|e| holds(e, query.dst_class))
            && clause.protocols.contains(query.protocol)
            && within(&clause.l4, &WITH_L4, query.l4)
            && within(&clause.sport, &WITH_PORTS, query.sport);
        at = match clause.action {
            _ if !matches => at + 1,
            ClauseAction::Allow => return Decision::Allow(clause.rule),
            ClauseAction::Deny => return Decision::Drop(Reason::Denied, clause.rule),
            ClauseAction::Pass(target) => target as usize,
            ClauseAction::Log => at + 1,
        };
    }
    Decision::Drop(Reason::NoRule, Decision::NO_RULE)
}

fn any_ranges() -> impl Strategy<Value = Option<Vec<RangeInclusive<u16>>>> {
    let port = prop_oneof![
        Just(0u16),
        Just(80),
        Just(443),
        Just(0x0800),
        Just(65535),
        any::<u16>()
    ];
    let range = (port.clone(), port).prop_map(|(a, b)| a.min(b)..=a.max(b));
    prop::option::weighted(0.4, prop::collection::vec(range, 0..4))
}

fn any_protocols() -> impl Strategy<Value = ProtocolSet> {
    prop_oneof![
        2 => Just(ProtocolSet::ANY),
        3 => prop::sample::select(vec![1u8, 6, 17, 58, 132, 136, 47]).prop_map(ProtocolSet::only),
        1 => prop::sample::select(vec![1u8, 6, 17]).prop_map(ProtocolSet::except),
    ]
}

/// Lists of `clauses` with few logs and passes, as real ones have.
fn any_list(clauses: impl Into<prop::collection::SizeRange>) -> impl Strategy<Value = Vec<Clause>> {
    let expression = || prop::option::weighted(0.7, 0..24u32);
    let clause = (
        expression(),
        expression(),
        any_protocols(),
        any_ranges(),
        any_ranges(),
        0..100u8,
        any::<u32>(),
    );
    prop::collection::vec(clause, clauses).prop_map(|parts| {
        let len = parts.len();
        let mut special = 0;
        let mut list = Vec::new();
        for (i, (src, dst, protocols, l4, sport, action, skip)) in parts.into_iter().enumerate() {
            let rare = action < 12 && special < 12;
            special += usize::from(rare);
            let action = match action {
                0..6 if rare => ClauseAction::Log,
                6..12 if rare => ClauseAction::Pass((i + 1) as u32 + skip % (len - i) as u32),
                _ if action % 2 == 0 => ClauseAction::Allow,
                _ => ClauseAction::Deny,
            };
            // Few clauses ask for source ports.
            let sport = sport.filter(|_| skip % 4 == 0);
            list.push(Clause {
                src,
                dst,
                protocols,
                l4,
                sport,
                action,
                rule: 1000 + i as u32,
            });
        }
        list
    })
}

fn any_query(classes: u32) -> impl Strategy<Value = Query> {
    let port = || prop_oneof![Just(80u16), Just(443), Just(0x0800), any::<u16>()];
    let protocol = prop::sample::select(vec![1u8, 6, 6, 17, 58, 132, 136, 47, 255]);
    (1..=classes, 1..=classes, protocol, port(), port()).prop_map(|(s, d, protocol, l4, sport)| {
        Query {
            src_class: s,
            dst_class: d,
            protocol,
            l4: if WITH_L4.contains(&protocol) { l4 } else { 0 },
            sport: if WITH_PORTS.contains(&protocol) {
                sport
            } else {
                0
            },
        }
    })
}

/// A pseudo-random relation between expressions and classes.
fn relation(seed: u32) -> impl Fn(u32, u32) -> bool {
    move |expression, class| {
        let x = (expression.wrapping_mul(0x9e37_79b9) ^ class.wrapping_mul(0x85eb_ca6b) ^ seed)
            .wrapping_mul(0xc2b2_ae35);
        (x >> 16).is_multiple_of(4)
    }
}

fn agrees(list: &[Clause], seed: u32, queries: &[Query], classes: u32) {
    let holds = relation(seed);
    let blob = encode(list, 1..=classes, &holds).unwrap();
    for &query in queries {
        assert_eq!(blob.ask(query), walk(list, &holds, query), "{query:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn a_blob_decides_as_the_list_reads(
        list in any_list(0..200),
        seed in any::<u32>(),
        queries in prop::collection::vec(any_query(300), 50),
    ) {
        agrees(&list, seed, &queries, 300);
    }

    #[test]
    fn damaged_words_never_panic(
        list in any_list(0..80),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u64>()), 1..8),
        query in any_query(20),
        base in any::<u32>(),
    ) {
        let mut words = encode(&list, 1..=20, &relation(1)).unwrap().words().to_vec();
        for (at, word) in damage {
            let at = at.index(words.len());
            words[at] = word;
        }
        let arena = Arena(std::iter::once(0).chain(words).collect());
        let _ = evaluate(&arena, 1, query);
        let _ = evaluate(&arena, base, query);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, ..ProptestConfig::default() })]

    #[test]
    fn a_blob_learns_classes_as_if_it_had_known_them(
        list in any_list(0..20),
        seed in any::<u32>(),
        queries in prop::collection::vec(any_query(700), 40),
    ) {
        let holds = relation(seed);
        let mut blob = encode(&list, 1..=200, &holds).unwrap();
        let unknown = Query { src_class: 201, dst_class: 1, ..queries[0] };
        prop_assert_eq!(blob.ask(unknown), Decision::Drop(Reason::UnknownClass, u32::MAX));
        for class in 201..=700 {
            let before = blob.words().to_vec();
            match blob.learn(class, &holds) {
                Learn::InPlace(writes) => {
                    let mut arena = before;
                    for &(at, word) in &writes {
                        arena[at as usize] = word;
                    }
                    prop_assert_eq!(&arena, blob.words());
                }
                Learn::Reencode => blob = encode(&list, 1..=class, &holds).unwrap(),
            }
        }
        let fresh = encode(&list, 1..=700, &holds).unwrap();
        prop_assert_eq!(blob.hash(), fresh.hash());
        for query in queries {
            prop_assert_eq!(blob.ask(query), walk(&list, &holds, query));
        }
        for class in 201..=700 {
            let _ = blob.forget(class, &holds);
        }
        prop_assert_eq!(blob.hash(), encode(&list, 1..=200, &holds).unwrap().hash());
        prop_assert_eq!(blob.ask(unknown), Decision::Drop(Reason::UnknownClass, u32::MAX));
    }

    #[test]
    fn thousands_of_clauses_decide_as_the_list_reads(
        list in any_list(1000..9000),
        seed in any::<u32>(),
        queries in prop::collection::vec(any_query(500), 60),
    ) {
        agrees(&list, seed, &queries, 500);
    }
}

struct Arena(Vec<u64>);

impl Words for Arena {
    fn word(&self, index: u32) -> Option<u64> {
        self.0.get(index as usize).copied()
    }

    fn hit(&self, _: u32) {}
}

fn clause(action: ClauseAction, rule: u32) -> Clause {
    Clause {
        src: None,
        dst: None,
        protocols: ProtocolSet::ANY,
        l4: None,
        sport: None,
        action,
        rule,
    }
}

#[test]
fn a_list_without_clauses_allows_nothing() {
    let blob = encode(&[], 1..=3, &|_, _| true).unwrap();
    let query = Query {
        src_class: 1,
        dst_class: 2,
        protocol: 6,
        l4: 80,
        sport: 1024,
    };
    assert_eq!(
        blob.ask(query),
        Decision::Drop(Reason::NoRule, Decision::NO_RULE)
    );
}

#[test]
fn base_zero_is_no_policy() {
    let answer = evaluate(&Arena(vec![0; 64]), 0, Query::default());
    assert_eq!(answer, Decision::Drop(Reason::NoPolicy, Decision::NO_RULE));
}

#[test]
fn the_last_word_of_a_row_is_searched_to_its_end() {
    let mut list = vec![clause(ClauseAction::Deny, 0); 64 * 65 + 63];
    for clause in &mut list {
        clause.protocols = ProtocolSet::only(17);
    }
    list.push(clause(ClauseAction::Allow, 7));
    let blob = encode(&list, 1..=1, &|_, _| true).unwrap();
    let query = Query {
        src_class: 1,
        dst_class: 1,
        protocol: 6,
        l4: 80,
        sport: 1,
    };
    assert_eq!(blob.ask(query), Decision::Allow(7));
}

#[test]
fn lists_that_no_program_could_walk_are_refused() {
    let many = vec![clause(ClauseAction::Log, 0); 16_385];
    assert_eq!(
        encode(&many, 1..=1, &|_, _| true).unwrap_err(),
        EncodeError::TooManyClauses { clauses: 16_385 }
    );
    assert!(matches!(
        encode(&many[..400], 1..=1, &|_, _| true).unwrap_err(),
        EncodeError::TooManyRounds { .. }
    ));
    assert_eq!(
        encode(&[clause(ClauseAction::Pass(0), 0)], 1..=1, &|_, _| true).unwrap_err(),
        EncodeError::PassBackward { clause: 0 }
    );
}

#[test]
fn the_content_hash_does_not_depend_on_expression_ids() {
    let with = |id| Clause {
        src: Some(id),
        ..clause(ClauseAction::Allow, 1)
    };
    let a = encode(&[with(1)], 1..=9, &|_, class| class > 4).unwrap();
    let b = encode(&[with(2)], 1..=9, &|_, class| class > 4).unwrap();
    let c = encode(&[with(2)], 1..=9, &|_, class| class > 5).unwrap();
    assert_eq!(a.hash(), b.hash());
    assert_ne!(a.hash(), c.hash());
}
