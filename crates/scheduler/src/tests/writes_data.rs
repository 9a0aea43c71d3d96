//! Histories: what a writer may write, and when it fails.

use super::history::Data;

/// The permission to write.
pub(super) const WRITES: &[Data] = &[
    (
        "a writer gets a slot only for what was observed",
        8,
        "
        policy a/p max=1
        wait a/1 a/p
        may a/1
        reserve a/1 denied uid=another
        reserve a/1 denied generation=2
        reserve a/1 denied template=3
        reserve a/1 granted",
    ),
    (
        "a workload that changes after its offer is requeued",
        8,
        "
        policy a/p max=1
        policy a/q max=1
        wait a/1 a/p
        runnable a/1
        wait a/1 a/p
        runnable
        scale a/1
        runnable a/1
        wait a/1 a/p template=3
        runnable a/1
        wait a/1 a/p,a/q template=3
        runnable a/1
        policy all max=1 perNamespace=1
        wait a/1 a/p,a/q template=3
        runnable a/1
        runnable",
    ),
    (
        "a blocked workload gets no slot if all are held",
        1,
        "
        policy a/p max=1
        policy b/p max=1
        wait a/1 a/p
        wait b/1 b/p
        blocked b/1
        start a/1
        reserve b/1 denied
        complete a/1
        reserve b/1 granted",
    ),
    (
        "a blocked workload that is denied a slot waits for one like the others",
        1,
        "
        policy a/p max=1
        policy b/p max=1
        wait a/1 a/p
        wait b/1 b/p
        blocked b/1
        start a/1
        reserve b/1 denied
        complete a/1
        may b/1",
    ),
    (
        "a failed workload gets no slot that another one holds",
        8,
        "
        policy a/p max=1 failures=2
        wait a/1 a/p
        wait a/2 a/p
        start a/1
        reported a/1
        start a/2
        wait a/1 a/p template=3
        reserve a/1 denied
        complete a/2
        may a/1",
    ),
    (
        "a slot that is kept for a canary tool is only for the policies of that rollout",
        8,
        "
        policy a/p max=1
        policy a/q max=1
        wait a/1 a/p
        zero a/1
        start a/1
        complete a/1
        wait a/1 a/q template=3
        reserve a/1 denied
        after 60
        may a/1",
    ),
    (
        "a slot that is kept for a canary tool does not end a later write of unknown outcome",
        8,
        "
        policy a/p max=1
        wait a/1 a/p
        zero a/1
        start a/1
        complete a/1
        after 30
        wait a/1 a/p template=3
        unknown a/1
        after 30
        held 1
        after 29
        held 1
        after 1
        held 0
        may a/1",
    ),
    (
        "a slot that is kept for a canary tool may be used while it ends",
        8,
        "
        policy a/p max=1
        wait a/1 a/p
        zero a/1
        start a/1
        complete a/1
        after 30
        wait a/1 a/p template=3
        reserve a/1 granted
        after 31
        commit a/1
        complete a/1
        after 59
        held 1
        after 1
        held 0",
    ),
    (
        "a write of unknown outcome that was applied is a rollout",
        8,
        "
        policy a/p max=1
        wait a/1 a/p
        wait a/2 a/p
        unknown a/1
        applied a/1
        after 61
        held 1
        may
        reported a/1
        failed a/p a/1=ProgressDeadlineExceeded
        may",
    ),
    (
        "the time of a rollout starts when it is written",
        8,
        "
        policy a/p max=1
        wait a/1 a/p
        reserve a/1 granted
        after 300
        commit a/1
        deadline 600
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
        "a workload that completes while its next template is written has not failed",
        8,
        "
        policy a/p max=1
        wait a/1 a/p
        start a/1
        reported a/1
        wait a/1 a/p template=3
        failed a/p a/1=superseded
        reserve a/1 granted
        complete a/1
        failed a/p
        commit a/1
        held 1",
    ),
    (
        "a failed template is known by its desired template if the API server stores another one",
        8,
        "
        policy a/p max=1
        wait a/1 a/p
        wait a/2 a/p
        start a/1 stored=5
        reported a/1
        undo a/1
        complete a/1
        failed a/p a/1=ProgressDeadlineExceeded
        may",
    ),
    (
        "each state has its deadline",
        8,
        "
        policy a/p max=1
        wait a/1 a/p
        deadline none
        may a/1
        deadline 10
        rejected a/1
        deadline 60
        unknown a/1
        deadline 60
        start a/1
        deadline 600
        counts a/1 1 1 1
        after 10
        deadline 590
        complete a/1
        deadline none",
    ),
];
