//! Routes of this host, and what is told to peers.

use super::super::*;
use super::*;

#[test]
fn own_blocks_and_borrowed_addresses_are_originated() {
    for (pool, block, foreign, own, borrowed, outside) in [
        (
            "10.0.0.0/16",
            "10.0.0.0/26",
            "10.0.0.64/26",
            "10.0.0.1/32",
            "10.0.0.65/32",
            "172.16.0.1/32",
        ),
        (
            "fd00::/64",
            "fd00::/122",
            "fd00::40/122",
            "fd00::1/128",
            "fd00::41/128",
            "fd01::1/128",
        ),
    ] {
        let pool_with = |spec: Value| {
            let mut pool =
                json!({"kind": "IPPool", "metadata": {"name": "pool"}, "spec": {"cidr": pool}});
            pool["spec"]
                .as_object_mut()
                .unwrap()
                .extend(spec.as_object().unwrap().clone());
            pool
        };
        let rest = [
            endpoint("a", "e1", "here", json!({}), &[own, borrowed, outside], &[]),
            json!({"kind": "BlockAffinity", "host": "here", "block": block, "value": {"state": "confirmed"}}),
            json!({"kind": "BlockAffinity", "host": "there", "block": foreign, "value": {"state": "confirmed"}}),
        ];
        let graph = |pool: Option<Value>| {
            fresh(&state(
                &pool.into_iter().chain(rest.clone()).collect::<Vec<_>>(),
            ))
        };
        let dev = || Route::Dev("calie1".into());
        let open = graph(Some(pool_with(json!({}))));
        assert_eq!(
            open.plan().routes,
            [
                (net(block), Route::Blackhole),
                (net(own), dev()),
                (net(borrowed), dev()),
                (net(outside), dev())
            ]
            .into()
        );
        assert_eq!(
            open.plan().originated,
            [
                (net(block), Originated::Block),
                (net(borrowed), Originated::Address)
            ]
            .into()
        );
        assert_eq!(
            graph(Some(pool_with(json!({"disabled": true}))))
                .plan()
                .originated,
            open.plan().originated
        );
        assert!(
            graph(Some(pool_with(json!({"disableBGPExport": true}))))
                .plan()
                .originated
                .is_empty()
        );
        assert!(graph(None).plan().originated.is_empty());
    }
}

#[test]
fn an_unconfirmed_block_ends_in_a_blackhole_and_is_not_told() {
    let graph = fresh(&state(&[
        json!({"kind": "IPPool", "metadata": {"name": "pool"}, "spec": {"cidr": "10.0.0.0/16"}}),
        json!({"kind": "BlockAffinity", "host": "here", "block": "10.0.0.0/26", "value": {"state": "pending"}}),
        json!({"kind": "BlockAffinity", "host": "here", "block": "10.0.1.1/32", "value": {"state": "confirmed"}}),
    ]));
    assert_eq!(
        graph.plan().routes,
        [(net("10.0.0.0/26"), Route::Blackhole)].into()
    );
    assert_eq!(
        graph.plan().originated,
        [(net("10.0.1.1/32"), Originated::Block)].into()
    );
}
