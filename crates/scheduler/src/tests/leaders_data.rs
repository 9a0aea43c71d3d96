//! Histories: recorded failures and changes of leader.

use super::history::Data;

/// Which recorded failures a leader restores.
pub(super) const RECORDED: &[Data] = &[
    (
        "a failure is restored once its policy can be decoded",
        8,
        "
        policy a/p max=1
        wait a/1 a/p
        wait a/2 a/p
        start a/1
        reported a/1
        restart a/p
        failed a/p
        may a/2
        decoded a/p
        failed a/p a/1=ProgressDeadlineExceeded
        may",
    ),
    (
        "a failure is restored once its workload is managed again",
        8,
        "
        policy a/p max=1
        wait a/1 a/p
        wait a/2 a/p
        start a/1
        reported a/1
        restart a/p
        unmanaged a/1
        decoded a/p
        failed a/p
        reported a/1
        failed a/p a/1=ProgressDeadlineExceeded
        may",
    ),
    (
        "a workload that is created again before its policy can be decoded has no failure",
        8,
        "
        policy a/p max=1
        wait a/1 a/p
        wait a/2 a/p
        start a/1
        reported a/1
        restart a/p
        delete a/1
        wait a/1 a/p
        decoded a/p
        wait a/1 a/p
        failed a/p
        may a/1",
    ),
    (
        "a workload that is created again while there is no leader has no failure",
        8,
        "
        policy a/p max=1
        wait a/1 a/p
        wait a/2 a/p
        start a/1
        reported a/1
        crash
        delete a/1
        wait a/1 a/p
        restart
        failed a/p
        may a/1",
    ),
    (
        "a recorded failure ends if the previous leader wrote another template",
        8,
        "
        policy a/p max=1
        wait a/1 a/p
        wait a/2 a/p
        start a/1
        reported a/1
        wait a/1 a/p template=3
        crash
        applied a/1
        restart
        failed a/p
        held 1
        complete a/1
        may a/2",
    ),
    (
        "a policy that is deleted has no failures",
        8,
        "
        policy a/p max=1
        policy a/q max=1
        wait a/1 a/p,a/q
        wait a/2 a/p
        wait a/3 a/q
        start a/1
        reported a/1
        may
        remove a/p
        failed a/p
        failed a/q a/1=ProgressDeadlineExceeded
        may a/2",
    ),
];

/// Which rollouts in progress a leader takes over.
pub(super) const IN_PROGRESS: &[Data] = &[
    (
        "a new leader counts the rollouts in progress",
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
        "a new leader records the failure of a rollout that the previous one started",
        8,
        "
        policy a/p max=1
        wait a/1 a/p
        wait a/2 a/p
        start a/1
        after 5
        crash
        after 5
        reported a/1
        after 5
        restart
        failed a/p a/1=ProgressDeadlineExceeded
        may",
    ),
    (
        "rollouts that look like those of a previous leader hold no more slots than one could give",
        4,
        "
        policy a/p max=8
        policy b/p max=8
        policy c/p max=8
        wait a/1 a/p
        wait a/2 a/p
        wait a/3 a/p
        wait a/4 a/p
        wait a/5 a/p
        wait b/1 b/p
        wait c/1 c/p
        crash
        applied a/1
        applied a/2
        applied a/3
        applied a/4
        applied a/5
        applied b/1
        restart
        held 4
        may
        complete a/1
        may c/1
        reported a/5
        failed a/p a/5=ProgressDeadlineExceeded
        complete a/2
        complete a/3
        complete a/4
        held 2",
    ),
    (
        "a rollout holds a slot after one of a previous leader that held none and failed",
        1,
        "
        policy a/p max=1
        policy b/p max=1
        wait a/1 a/p
        wait b/1 b/p
        crash
        applied a/1
        applied b/1
        restart
        held 1
        complete a/1
        held 0
        reported b/1
        failed b/p b/1=ProgressDeadlineExceeded
        wait b/1 b/p template=3
        start b/1
        held 1
        wait a/1 a/p template=3
        may",
    ),
    (
        "a rollout holds a slot after one of a previous leader that held none and is complete",
        1,
        "
        policy a/p max=1
        policy b/p max=1
        wait a/1 a/p
        wait b/1 b/p
        crash
        applied a/1
        applied b/1
        restart
        wait b/1 b/p template=3
        complete a/1
        complete b/1
        start b/1
        held 1",
    ),
    (
        "a write of unknown outcome holds a slot after a rollout of a previous leader that held none",
        1,
        "
        policy a/p max=1
        policy b/p max=1
        wait a/1 a/p
        wait b/1 b/p
        crash
        applied a/1
        applied b/1
        restart
        complete a/1
        reported b/1
        wait b/1 b/p template=3
        unknown b/1
        applied b/1
        after 61
        held 1",
    ),
    (
        "a new leader doesn't count the rollout of the owner",
        8,
        "
        policy a/p max=1
        wait a/1 a/p
        wait a/2 a/p
        start a/1
        complete a/1
        after 60
        owner a/1
        restart
        held 0
        may a/2
        reported a/1
        failed a/p",
    ),
    (
        "a failure that the previous leader did not record is that of the owner's rollout",
        8,
        "
        policy a/p max=1
        wait a/1 a/p
        wait a/2 a/p
        start a/1
        complete a/1
        owner a/1
        after 5
        reported a/1
        after 5
        crash
        restart
        failed a/p
        may a/2",
    ),
];
