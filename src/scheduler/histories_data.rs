//! Histories: a name, the slots of the cluster, and the steps.

/// A history.
pub(super) type History = (&'static str, usize, &'static str);

/// How the slots are shared.
pub(super) const SHARING: &[History] = &[
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
        "eight slow Deployments of a tenant keep no other from its only one",
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
        "many policies of one namespace have no more than one",
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
        "within a namespace the policies take turns",
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
        "a policy of the cluster leaves a quarter to others",
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
        "one slot is shared in turn",
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
        "a quarter of the slots, and at least one",
        2,
        "
        policy a/p max=9
        wait a/1 a/p
        wait a/2 a/p
        may a/1",
    ),
    (
        "the policy's limit",
        10,
        "
        policy a/p max=2
        wait a/1 a/p
        wait a/2 a/p
        wait a/3 a/p
        may a/1 a/2",
    ),
    (
        "each policy that asks has a limit of its own",
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
];

/// What is progress, and what fails.
pub(super) const PROGRESS: &[History] = &[
    (
        "what its controller said of the rollout before fails no other",
        8,
        "
        policy a/p max=1
        wait a/1 a/p
        says a/1 7
        start a/1
        reported a/1
        failed a/p
        says a/1 8
        failed a/p a/1=ProgressDeadlineExceeded",
    ),
    (
        "a Deployment that flaps fails at its deadline",
        2,
        "
        policy a/p max=1
        wait a/1 a/p
        wait a/2 a/p
        may a/1
        start a/1
        counts a/1 1 3 3
        after 30
        counts a/1 1 4 3
        after 300
        counts a/1 1 3 3
        after 299
        counts a/1 1 4 3
        held 1
        after 1
        failed a/p a/1=ProgressDeadlineExceeded
        held 0
        may",
    ),
    (
        "one that makes progress goes on",
        2,
        "
        policy a/p max=1
        wait a/1 a/p
        start a/1
        counts a/1 1 3 3
        after 599
        counts a/1 2 3 2
        after 599
        counts a/1 3 3 1
        after 599
        counts a/1 3 3 0
        after 599
        failed a/p
        complete a/1
        held 0",
    ),
    (
        "one that makes little progress fails in the end",
        2,
        "
        policy a/p max=1
        wait a/1 a/p
        start a/1
        counts a/1 1 3 6
        after 599
        counts a/1 1 3 5
        after 599
        counts a/1 1 3 4
        after 599
        counts a/1 1 3 3
        after 599
        counts a/1 1 3 2
        failed a/p
        after 4
        failed a/p a/1=TotalTimeExceeded",
    ),
    (
        "counts of the rollout before are none of this one's",
        2,
        "
        policy a/p max=1
        wait a/1 a/p
        start a/1
        after 599
        counts a/1 0 3 3
        after 599
        failed a/p
        after 1
        failed a/p a/1=ProgressDeadlineExceeded",
    ),
    (
        "what its controller reports",
        2,
        "
        policy a/p max=1
        wait a/1 a/p
        start a/1
        reported a/1
        failed a/p a/1=ProgressDeadlineExceeded",
    ),
    (
        "a quota that allows no second pod",
        2,
        "
        policy a/p max=1
        wait a/1 a/p
        start a/1
        quota a/1
        failed a/p
        reported a/1
        failed a/p a/1=ReplicaFailure",
    ),
    (
        "a watch that brings nothing",
        2,
        "
        policy a/p max=1
        wait a/1 a/p
        write a/1
        after 599
        held 1
        after 1
        failed a/p a/1=ProgressDeadlineExceeded
        held 0",
    ),
    (
        "what was complete and broke is no rollout",
        2,
        "
        policy a/p max=1
        wait a/1 a/p
        wait a/2 a/p
        start a/1
        broken a/1
        may a/2",
    ),
];

/// What a failure stops.
pub(super) const LIMITS: &[History] = &[
    (
        "a policy of a namespace stops at its first",
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
        failed b/p",
    ),
    (
        "or at so many as it says",
        8,
        "
        policy a/p max=1 failures=2
        wait a/1 a/p
        wait a/2 a/p
        wait a/3 a/p
        start a/1
        reported a/1
        may a/2
        start a/2
        reported a/2
        may
        failed a/p a/1=ProgressDeadlineExceeded a/2=ProgressDeadlineExceeded",
    ),
    (
        "a policy of the cluster stops in the namespace, and goes on elsewhere",
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
        may shop/1
        start shop/1
        complete shop/1
        may shop/2",
    ),
    (
        "and everywhere after the third",
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
        may
        complete c/1
        may d/2 e/1",
    ),
    (
        "a percentage of the matched workloads",
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
        "of which at least one may fail",
        8,
        "
        policy all max=9 failures=1% matched=11
        wait a/1 all
        wait b/1 all
        start a/1
        reported a/1
        may",
    ),
];

/// What holds a slot.
pub(super) const SLOTS: &[History] = &[
    (
        "a write of unknown outcome is forgotten after its slot",
        8,
        "
        policy a/p max=1
        wait a/1 a/p
        unknown a/1
        after 61
        owner a/1
        wait a/2 a/p
        may a/2",
    ),
    (
        "a write of unknown outcome is not repeated for a policy that was stopped since",
        8,
        "
        policy a/p max=2
        wait a/1 a/p
        wait a/2 a/p
        unknown a/1
        start a/2
        reported a/2
        asks a/1 denied",
    ),
    (
        "a workload that conflicts gives its slot to others",
        8,
        "
        policy a/p max=1
        wait a/1 a/p
        wait a/2 a/p
        may a/1
        refused a/1
        may a/2
        start a/2
        asks a/1 denied
        complete a/2
        may a/1",
    ),
    (
        "and is offered one later if it asks no more",
        8,
        "
        policy a/p max=1
        wait a/1 a/p
        refused a/1
        may
        after 60
        may a/1",
    ),
    (
        "and may ask before",
        8,
        "
        policy a/p max=1
        wait a/1 a/p
        refused a/1
        start a/1",
    ),
    (
        "an offer that is not taken goes to the next",
        8,
        "
        policy a/p max=1
        wait a/1 a/p
        wait a/2 a/p
        may a/1
        after 10
        may a/2
        after 10
        may
        after 50
        may a/1",
    ),
    (
        "a blocked workload is offered none",
        8,
        "
        policy a/p max=1
        wait a/1 a/p
        wait a/2 a/p
        may a/1
        blocked a/1
        may a/2
        asks a/1 denied
        start a/2
        complete a/2
        asks a/1 granted",
    ),
    (
        "until it is blocked no more",
        8,
        "
        policy a/p max=1
        wait a/1 a/p
        blocked a/1
        may
        unblocked a/1
        may a/1",
    ),
    (
        "a write of unknown outcome holds its slot for a while",
        8,
        "
        policy a/p max=1
        wait a/1 a/p
        wait a/2 a/p
        unknown a/1
        held 1
        may
        after 60
        held 0
        may a/1",
    ),
    (
        "or is tried again",
        8,
        "
        policy a/p max=1
        wait a/1 a/p
        unknown a/1
        start a/1
        held 1
        complete a/1
        held 0",
    ),
    (
        "a rollout of others is waited for, and delays no other",
        8,
        "
        policy a/p max=1
        wait a/1 a/p
        wait a/2 a/p
        rolling a/1
        held 0
        may a/2
        start a/2
        complete a/2
        may
        after 100000
        failed a/p
        complete a/1
        may a/1",
    ),
    (
        "an owner's rollout takes the place of adieu's",
        8,
        "
        policy a/p max=1
        wait a/1 a/p
        wait a/2 a/p
        start a/1
        held 1
        owner a/1
        held 0
        may a/2",
    ),
    (
        "one that is scaled goes on",
        8,
        "
        policy a/p max=1
        wait a/1 a/p
        start a/1
        scale a/1
        held 1",
    ),
    (
        "one that is deleted",
        8,
        "
        policy a/p max=1
        wait a/1 a/p
        wait a/2 a/p
        start a/1
        delete a/1
        may a/2",
    ),
    (
        "a new leader takes what goes on for its own",
        8,
        "
        policy a/p max=1
        wait a/1 a/p
        wait a/2 a/p
        start a/1
        restart
        held 1
        may
        reported a/1
        failed a/p a/1=ProgressDeadlineExceeded
        restart
        failed a/p a/1=ProgressDeadlineExceeded
        may",
    ),
    (
        "a policy that is gone stops nothing",
        8,
        "
        policy a/p max=1
        policy a/q max=1
        wait a/1 a/p
        wait a/2 a/q
        start a/1
        reported a/1
        may a/2",
    ),
];
