//! Histories: what holds a slot.

use super::history::Data;

/// The holders of slots.
pub(super) const SLOTS: &[Data] = &[
    (
        "a write of unknown outcome ends with its slot",
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
        reserve a/1 denied",
    ),
    (
        "a workload with a conflict releases its slot",
        8,
        "
        policy a/p max=1
        wait a/1 a/p
        wait a/2 a/p
        may a/1
        rejected a/1
        may a/2
        start a/2
        reserve a/1 denied
        complete a/2
        may a/1",
    ),
    (
        "a workload with a conflict is offered a slot later",
        8,
        "
        policy a/p max=1
        wait a/1 a/p
        rejected a/1
        may
        after 60
        may a/1",
    ),
    (
        "a workload with a conflict may reserve a slot before",
        8,
        "
        policy a/p max=1
        wait a/1 a/p
        rejected a/1
        start a/1",
    ),
    (
        "an offer that expires goes to the next workload",
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
        "a blocked workload is offered no slot",
        8,
        "
        policy a/p max=1
        wait a/1 a/p
        wait a/2 a/p
        may a/1
        blocked a/1
        may a/2
        reserve a/1 denied
        start a/2
        complete a/2
        reserve a/1 granted",
    ),
    (
        "a workload that is no longer blocked is offered a slot",
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
        "a write of unknown outcome is retried",
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
        "a rollout of another client is waited for, and delays no other workload",
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
        "an owner's rollout replaces adieu's, and holds no slot",
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
        "a rollout continues while the workload is scaled",
        8,
        "
        policy a/p max=1
        wait a/1 a/p
        start a/1
        scale a/1
        held 1",
    ),
    (
        "a deleted workload releases its slot",
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
        "a workload that is created again holds no slot of the earlier one",
        8,
        "
        policy a/p max=1
        wait a/1 a/p
        wait a/2 a/p
        start a/1
        held 1
        again a/1
        held 0
        may a/2",
    ),
    (
        "a failure stops no other policy",
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
    (
        "a workload that is scaled to zero behind a Service keeps its slot for a minute",
        8,
        "
        policy a/p max=1
        wait a/1 a/p
        wait a/2 a/p
        zero a/1
        zero a/2
        may a/1
        start a/1
        complete a/1
        after 59
        held 1
        may
        after 1
        held 0
        may a/2",
    ),
    (
        "a template that is observed before its write is committed clears no other policy's failure",
        8,
        "
        policy a/p max=1
        policy a/q max=1
        wait a/1 a/p,a/q
        start a/1
        reported a/1
        failed a/p a/1=ProgressDeadlineExceeded
        failed a/q a/1=ProgressDeadlineExceeded
        policy a/p max=1 generation=2
        wait a/1 a/p template=3
        failed a/p a/1=superseded
        reserve a/1 granted
        owner a/1
        failed a/q a/1=ProgressDeadlineExceeded",
    ),
    (
        "a workload that is scaled to zero behind a Service comes after those of other namespaces",
        1,
        "
        policy all max=1
        wait b/1 all
        start b/1
        wait a/1 all
        zero a/1
        wait b/2 all
        complete b/1
        may b/2
        start b/2
        complete b/2
        may a/1",
    ),
    (
        "a workload that is scaled up meanwhile holds its slot until it completes",
        8,
        "
        policy a/p max=1
        wait a/1 a/p
        zero a/1
        start a/1
        complete a/1
        up a/1
        after 61
        held 1
        complete a/1
        held 0",
    ),
    (
        "a workload that is scaled up and fails is fixed once it completes",
        8,
        "
        policy a/p max=1
        wait a/1 a/p
        zero a/1
        start a/1
        complete a/1
        up a/1
        reported a/1
        failed a/p a/1=ProgressDeadlineExceeded
        complete a/1
        failed a/p",
    ),
    (
        "a workload that is scaled to zero may be written again meanwhile",
        8,
        "
        policy a/p max=1
        wait a/1 a/p
        zero a/1
        start a/1
        complete a/1
        wait a/1 a/p template=3
        start a/1
        complete a/1
        after 59
        held 1
        after 1
        held 0",
    ),
    (
        "workloads with replicas come first",
        8,
        "
        policy a/p max=1
        wait a/1 a/p
        zero a/1
        wait a/2 a/p
        may a/2",
    ),
];
