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
