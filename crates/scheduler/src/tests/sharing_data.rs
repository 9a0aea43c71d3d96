//! Histories: which workloads get the free slots, and what a failure stops.

use super::history::Data;

/// How the slots are shared.
pub(super) const SHARING: &[Data] = &[
    (
        "one namespace leaves a quarter of the slots to others",
        4,
        "
        policy a/p max=1000
        wait a/1 a/p
        wait a/2 a/p
        wait a/3 a/p
        wait a/4 a/p
        may a/1 a/2 a/3
        start a/1
        start a/2
        start a/3
        may
        policy b/p max=1
        wait b/1 b/p
        may b/1
        start b/1
        held 4
        complete a/1
        may
        complete b/1
        may a/4",
    ),
    (
        "a slot goes to the namespace that holds the fewest",
        8,
        "
        policy a/p max=1000
        policy b/p max=1000
        policy c/p max=1000
        wait a/1 a/p
        wait a/2 a/p
        wait a/3 a/p
        wait a/4 a/p
        wait a/5 a/p
        wait a/6 a/p
        wait a/7 a/p
        wait b/1 b/p
        wait b/2 b/p
        wait b/3 b/p
        wait c/1 c/p
        may a/1 a/2 a/3 b/1 b/2 c/1
        start a/1
        complete a/1
        may a/2 a/3 b/1 b/2 b/3 c/1",
    ),
    (
        "eight slow Deployments of a namespace leave a slot to another namespace",
        4,
        "
        policy tenant/p max=1000
        wait tenant/1 tenant/p
        wait tenant/2 tenant/p
        wait tenant/3 tenant/p
        wait tenant/4 tenant/p
        wait tenant/5 tenant/p
        wait tenant/6 tenant/p
        wait tenant/7 tenant/p
        wait tenant/8 tenant/p
        may tenant/1 tenant/2 tenant/3
        start tenant/1
        start tenant/2
        start tenant/3
        after 90
        policy shop/p max=1
        wait shop/web shop/p
        may shop/web",
    ),
    (
        "a policy that changes again and again leaves slots to other namespaces",
        1,
        "
        policy tenant/p max=1000
        policy shop/p max=1
        wait tenant/1 tenant/p
        wait tenant/2 tenant/p
        wait shop/1 shop/p
        wait shop/2 shop/p
        may tenant/1
        start tenant/1
        wait tenant/1 tenant/p template=3
        wait tenant/2 tenant/p template=3
        complete tenant/1
        may shop/1
        start shop/1
        wait tenant/1 tenant/p template=4
        wait tenant/2 tenant/p template=4
        complete shop/1
        may tenant/1
        start tenant/1
        wait tenant/1 tenant/p template=5
        complete tenant/1
        may shop/2",
    ),
    (
        "many policies of a namespace share its slots",
        4,
        "
        policy a/p max=9
        policy a/q max=9
        policy a/r max=9
        policy a/s max=9
        wait a/1 a/p
        wait a/2 a/q
        wait a/3 a/r
        wait a/4 a/s
        may a/1 a/2 a/3",
    ),
    (
        "the policies of a namespace share its slots",
        4,
        "
        policy a/p max=9
        policy a/q max=9
        wait a/1 a/p
        wait a/2 a/p
        wait a/3 a/p
        wait a/4 a/q
        may a/1 a/2 a/4",
    ),
    (
        "a cluster policy leaves a quarter of the slots to others",
        4,
        "
        policy all max=1000
        wait a/1 all
        wait b/1 all
        wait c/1 all
        wait d/1 all
        may a/1 b/1 c/1
        policy e/p max=1
        wait e/1 e/p
        may a/1 b/1 c/1 e/1",
    ),
    (
        "a single slot alternates between namespaces",
        1,
        "
        policy a/p max=9
        policy b/p max=9
        wait a/1 a/p
        wait a/2 a/p
        wait b/1 b/p
        may a/1
        start a/1
        may
        complete a/1
        may b/1
        start b/1
        complete b/1
        may a/2",
    ),
    (
        "at least one slot is reserved",
        2,
        "
        policy a/p max=9
        wait a/1 a/p
        wait a/2 a/p
        may a/1",
    ),
    (
        "a policy has its limit",
        10,
        "
        policy a/p max=2
        wait a/1 a/p
        wait a/2 a/p
        wait a/3 a/p
        may a/1 a/2",
    ),
    (
        "each policy that requests a rollout has its own limit",
        10,
        "
        policy all max=1
        policy a/p max=5
        policy b/p max=5
        wait a/1 all,a/p
        wait b/1 all,b/p
        wait b/2 b/p
        may a/1 b/2",
    ),
    (
        "a cluster policy limits the rollouts of each namespace",
        8,
        "
        policy all max=1000 perNamespace=2
        policy a/p max=1000
        policy b/p max=1000
        wait a/1 a/p
        wait a/2 a/p
        wait a/3 a/p
        wait b/1 b/p
        may a/1 a/2 b/1
        start a/1
        start a/2
        may b/1
        reserve a/3 denied
        complete a/1
        may a/3 b/1",
    ),
    (
        "of several limits of a namespace, the lowest counts",
        8,
        "
        policy all max=9 perNamespace=3
        policy strict max=9 perNamespace=1
        policy a/p max=9
        wait a/1 a/p
        wait a/2 all
        may a/1",
    ),
    (
        "two slots serve two namespaces of one cluster policy",
        2,
        "
        policy all max=9
        wait a/1 all
        wait a/2 all
        wait b/1 all
        may a/1 b/1",
    ),
];

/// The effects of a failure.
pub(super) const LIMITS: &[Data] = &[
    (
        "a policy stops at its first failure",
        8,
        "
        policy a/p max=3
        policy b/p max=3
        wait a/1 a/p
        wait a/2 a/p
        wait b/1 b/p
        start a/1
        reported a/1
        may b/1
        failed b/p
        stops a/p everywhere limit=1
        stops b/p nowhere limit=1",
    ),
    (
        "a policy stops at its maximum of failures",
        8,
        "
        policy a/p max=1 failures=2
        wait a/1 a/p
        wait a/2 a/p
        wait a/3 a/p
        start a/1
        reported a/1
        may a/2
        stops a/p nowhere limit=2
        start a/2
        reported a/2
        may
        failed a/p a/1=ProgressDeadlineExceeded a/2=ProgressDeadlineExceeded",
    ),
    (
        "a cluster policy stops in the namespace of a failure, and continues elsewhere",
        8,
        "
        policy all max=1
        wait quota/1 all
        wait quota/2 all
        wait shop/1 all
        wait shop/2 all
        start quota/1
        quota quota/1
        reported quota/1
        failed all quota/1=ReplicaFailure
        stops all quota limit=3
        may shop/1
        start shop/1
        complete shop/1
        may shop/2",
    ),
    (
        "a cluster policy stops everywhere after the third failure",
        8,
        "
        policy all max=9
        wait a/1 all
        wait b/1 all
        wait c/1 all
        wait d/1 all
        wait d/2 all
        may a/1 b/1 c/1 d/1 d/2
        start a/1
        start b/1
        start c/1
        start d/1
        reported a/1
        reported b/1
        wait e/1 all
        may d/2 e/1
        reported c/1
        stops all everywhere limit=3
        may
        complete c/1
        may d/2 e/1",
    ),
    (
        "the maximum is a percentage of the matched workloads",
        8,
        "
        policy all max=9 failures=10% matched=11
        wait a/1 all
        wait b/1 all
        wait c/1 all
        start a/1
        reported a/1
        start b/1
        may c/1
        reported b/1
        stops all everywhere limit=2
        may",
    ),
    (
        "for a policy of the cluster, each namespace counts once",
        8,
        "
        policy all max=9
        wait a/1 all
        wait a/2 all
        wait a/3 all
        start a/1
        start a/2
        start a/3
        reported a/1
        reported a/2
        reported a/3
        wait b/1 all
        may b/1",
    ),
    (
        "of a percentage, at least one may fail",
        8,
        "
        policy all max=9 failures=1% matched=11
        wait a/1 all
        wait b/1 all
        start a/1
        reported a/1
        may",
    ),
    (
        "another policy's rollout fixes a failure once it completes",
        8,
        "
        policy all max=9
        policy a/p max=9
        wait a/1 all,a/p
        start a/1
        reported a/1
        failed all a/1=ProgressDeadlineExceeded
        failed a/p a/1=ProgressDeadlineExceeded
        wait a/1 a/p template=3
        failed a/p a/1=superseded
        start a/1
        failed all a/1=ProgressDeadlineExceeded
        failed a/p
        restart
        failed all a/1=ProgressDeadlineExceeded
        wait a/2 all
        may
        complete a/1
        failed all
        may a/2",
    ),
    (
        "a policy that requests a rollout again during another policy's rollout keeps its failure",
        8,
        "
        policy all max=9
        policy a/p max=9
        wait a/1 all,a/p
        start a/1
        reported a/1
        wait a/1 a/p template=3
        start a/1
        wait a/1 all template=4
        failed all a/1=ProgressDeadlineExceeded
        complete a/1
        failed all
        may a/1",
    ),
];
