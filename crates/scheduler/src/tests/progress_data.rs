//! Histories: what is progress, and what fails.

use super::history::Data;

/// Progress and failures of rollouts.
pub(super) const PROGRESS: &[Data] = &[
    (
        "the condition of the previous rollout does not fail this one",
        8,
        "
        policy a/p max=1
        wait a/1 a/p
        condition a/1 7
        start a/1
        reported a/1
        failed a/p
        condition a/1 8
        failed a/p a/1=ProgressDeadlineExceeded",
    ),
    (
        "a Deployment whose replicas come and go fails at its deadline",
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
        "a rollout that makes progress continues",
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
        "a rollout that makes little progress fails in the end",
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
        "counts of the previous rollout are ignored",
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
        "a failure that the controller reports",
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
        "a written workload that is not observed",
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
        "a workload that breaks after its rollout holds no slot",
        2,
        "
        policy a/p max=1
        wait a/1 a/p
        wait a/2 a/p
        start a/1
        broken a/1
        may a/2",
    ),
    (
        "a restart during a rollout resets its progress",
        2,
        "
        policy a/p max=1
        wait a/1 a/p
        start a/1
        counts a/1 3 2 1
        after 599
        scale a/1
        counts a/1 1 3 3
        after 599
        failed a/p
        after 1
        failed a/p a/1=ProgressDeadlineExceeded",
    ),
    (
        "other numbers of replicas are not progress",
        2,
        "
        policy a/p max=1
        wait a/1 a/p
        start a/1
        counts a/1 2 3 1
        after 300
        counts a/1 2 3 1 desired=9
        after 299
        scale a/1
        after 1
        failed a/p a/1=ProgressDeadlineExceeded",
    ),
    (
        "flapping updated replicas are not progress",
        2,
        "
        policy a/p max=1
        wait a/1 a/p
        start a/1
        counts a/1 2 3 3
        after 300
        counts a/1 1 3 3
        after 299
        counts a/1 2 3 3
        after 1
        failed a/p a/1=ProgressDeadlineExceeded",
    ),
    (
        "the pods before a rollout may take longer to end than those after it",
        2,
        "
        policy a/p max=1
        wait a/1 a/p
        progress-deadline a/1 3600
        start a/1
        progress-deadline a/1 600
        after 3599
        failed a/p
        after 1
        failed a/p a/1=ProgressDeadlineExceeded",
    ),
    (
        "a rollout back to an older ReplicaSet is not complete before its condition changes",
        2,
        "
        policy a/p max=1
        wait a/1 a/p
        condition a/1 7
        start a/1
        broken a/1
        held 1
        condition a/1 8
        held 0",
    ),
    (
        "a failed rollout does not fail the next one before that is observed",
        2,
        "
        policy a/p max=1
        wait a/1 a/p
        start a/1
        reported a/1
        wait a/1 a/p template=3
        write a/1
        failed a/p
        after 599
        failed a/p
        after 1
        failed a/p a/1=ProgressDeadlineExceeded",
    ),
];
