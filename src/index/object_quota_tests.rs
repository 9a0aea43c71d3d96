use super::*;

const MIB: usize = 1 << 20;
const FLOOR: usize = 2 * MIB;

fn quota() -> Quota {
    Quota { limits: Limits { of_namespace: 10 * MIB, in_all: 15 * MIB, for_stubs: MIB }, ..Quota::default() }
}

fn object(namespace: &str, name: &str) -> ObjectMeta {
    ObjectMeta { namespace: Some(namespace.into()), name: Some(name.into()), ..ObjectMeta::default() }
}

fn reserve(quota_of_kind: &KindQuota, namespace: &str, name: &str, mib: usize) -> Result<(), String> {
    quota_of_kind.reserve(&object(namespace, name), mib * MIB, false).map_err(|reason| reason.to_string())
}

#[test]
fn objects_above_the_floor_need_room_in_the_namespace_and_in_the_cluster() {
    let quota = quota();
    let [policies, services] = [FLOOR, FLOOR].map(|floor| quota.for_kind(floor));
    for (quota_of_kind, namespace, name, mib, rejected_by) in [
        (&policies, "greedy", "a", 7, None),
        (&services, "greedy", "a", 7, None),
        // 10 MiB above the two floors.
        (&services, "greedy", "b", 1, Some("its namespace")),
        (&policies, "greedy", "b", 1, Some("its namespace")),
        (&policies, "greedy", "a", 8, Some("its namespace")),
        (&policies, "greedy", "a", 7, None),
        // Smaller ones make room.
        (&policies, "greedy", "a", 6, None),
        (&services, "greedy", "b", 1, None),
        (&services, "second", "a", 7, None),
        (&services, "second", "b", 1, Some("the cluster")),
        (&services, "second", "a", 6, None),
        // Floors are guaranteed, whatever the others have.
        (&services, "second", "b", 1, None),
        (&policies, "second", "a", 2, None),
        (&services, "shop", "a", 2, None),
        (&services, "shop", "b", 1, Some("the cluster")),
        (&policies, "shop", "a", 2, None),
    ] {
        let rejected = reserve(quota_of_kind, namespace, name, mib).err();
        let expected = rejected_by.is_none_or(|of| rejected.as_ref().is_some_and(|text| text.contains(of)));
        assert!(
            expected && rejected.is_some() == rejected_by.is_some(),
            "{namespace}/{name} {mib}: {rejected:?}"
        );
    }
}

#[test]
fn an_ordinary_namespace_keeps_its_objects_after_greedy_ones_in_any_order() {
    let namespaces = ["a-greedy", "b-greedy", "shop"];
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let quota = quota();
        let kinds = [FLOOR; 4].map(|floor| quota.for_kind(floor));
        // Two lists: the second one has the same order.
        for _ in 0..2 {
            kinds.iter().for_each(KindQuota::list_begins);
            for namespace in order.map(|number| namespaces[number]) {
                for quota_of_kind in &kinds {
                    let count = if namespace == "shop" { 2 } else { 100 };
                    let reserved = (0..count)
                        .filter(|name| reserve(quota_of_kind, namespace, &name.to_string(), 1).is_ok());
                    assert!(reserved.count() >= 2, "{namespace} in {order:?}");
                }
            }
            kinds.iter().for_each(KindQuota::list_ends);
        }
        assert_eq!(quota.usage().all, 15 * MIB);
    }
}

#[test]
fn stubs_may_use_a_reserve() {
    let quota = quota();
    let quota_of_kind = quota.for_kind(0);
    assert!(reserve(&quota_of_kind, "greedy", "a", 10).is_ok());
    for (namespace, name, size, is_reserved) in [
        ("greedy", "b", 512 << 10, true),
        ("greedy", "c", 512 << 10, true),
        ("greedy", "d", 1, false),
        ("shop", "a", 1, true),
    ] {
        assert_eq!(
            quota_of_kind.reserve(&object(namespace, name), size, true).is_ok(),
            is_reserved,
            "{namespace}/{name}"
        );
    }
}

#[test]
fn a_list_is_requested_once_room_was_released_after_a_rejection() {
    let quota = quota();
    let [policies, services] = [0, FLOOR].map(|floor| quota.for_kind(floor));
    assert!(reserve(&policies, "greedy", "a", 10).is_ok());
    assert!(reserve(&services, "shop", "a", 1).is_ok());
    assert!(reserve(&policies, "greedy", "b", 1).is_err());
    services.release(&object("shop", "a"));
    assert!(!policies.should_relist(), "what is within a floor gives no room");
    policies.release(&object("greedy", "a"));
    assert!(policies.should_relist() && !services.should_relist());
    policies.list_begins();
    assert!(!policies.should_relist());
    assert!(reserve(&policies, "greedy", "b", 1).is_ok());
    policies.list_ends();
    assert!(!policies.should_relist());
}

#[test]
fn a_list_removes_objects_that_it_does_not_have() {
    let quota = quota();
    let quota_of_kind = quota.for_kind(0);
    for (namespace, name) in [("shop", "a"), ("shop", "b"), ("bank", "a")] {
        assert!(reserve(&quota_of_kind, namespace, name, 5).is_ok());
    }
    quota_of_kind.list_begins();
    assert!(reserve(&quota_of_kind, "shop", "a", 5).is_ok());
    quota_of_kind.list_ends();
    assert_eq!(quota.usage().all, 5 * MIB);
    assert!(
        reserve(&quota_of_kind, "shop", "b", 5).is_ok() && reserve(&quota_of_kind, "bank", "a", 5).is_ok()
    );
    quota_of_kind.list_begins();
    quota_of_kind.list_ends();
    let (of_kind, usage) = (quota_of_kind.usage(), quota.usage());
    assert!(
        usage.all == 0 && usage.namespaces.is_empty() && of_kind.namespaces.is_empty(),
        "{usage:?} {of_kind:?}"
    );
}

#[test]
fn a_namespace_may_have_a_limited_number_of_objects() {
    let policies = quota().for_kind(FLOOR).with_max_objects(2);
    for (namespace, name, is_kept) in [
        ("greedy", "a", true),
        ("greedy", "b", true),
        ("greedy", "c", false),
        ("greedy", "a", true),
        ("shop", "a", true),
    ] {
        assert_eq!(reserve(&policies, namespace, name, 0).is_ok(), is_kept, "{namespace}/{name}");
    }
    policies.release(&object("greedy", "a"));
    assert!(policies.should_relist() || reserve(&policies, "greedy", "c", 0).is_ok());
    assert!(reserve(&policies, "greedy", "c", 0).is_ok(), "another one was deleted");
}
