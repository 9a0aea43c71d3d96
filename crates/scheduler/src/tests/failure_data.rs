//! How a failure ends, and how it doesn't.

/// The history of a failure.
pub(super) const FAILED: &str = "
    policy a/p max=1 generation=1
    wait a/1 a/p
    wait a/2 a/p
    start a/1
    reported a/1
    failed a/p a/1=ProgressDeadlineExceeded";

/// Steps after that: a name, the steps, the remaining failures, and the last step.
pub(super) const ENDS: &[(&str, &str, &str, &str)] = &[
    ("it completes", "complete a/1", "", "may a/2"),
    ("it is deleted", "delete a/1", "", "may a/2"),
    ("its owner changes the template", "owner a/1", "", "may a/2"),
    ("its policy requests another template", "wait a/1 a/p template=3", "a/1=superseded", "may a/1"),
    (
        "another generation of the policy that changes nothing",
        "policy a/p max=1 generation=2",
        "a/1=ProgressDeadlineExceeded",
        "may",
    ),
    ("it is scaled", "scale a/1", "a/1=ProgressDeadlineExceeded", "may"),
    ("it is scaled to zero", "zero a/1\ncomplete a/1", "a/1=ProgressDeadlineExceeded", "may"),
    ("it is paused", "pause a/1\ncomplete a/1", "a/1=ProgressDeadlineExceeded", "may"),
    ("it is scaled up again and completes", "zero a/1\ncomplete a/1\nup a/1\ncomplete a/1", "", "may a/2"),
    ("it makes progress again", "rolling a/1", "a/1=ProgressDeadlineExceeded", "may"),
    ("time passes", "after 100000", "a/1=ProgressDeadlineExceeded", "may"),
    ("its owner reverts it", "undo a/1", "a/1=ProgressDeadlineExceeded", "may"),
    (
        "its owner reverts it, which completes",
        "undo a/1\ncomplete a/1",
        "a/1=ProgressDeadlineExceeded",
        "may",
    ),
    (
        "the policy changes after it was reverted",
        "undo a/1\ncomplete a/1\npolicy a/p max=1 generation=2",
        "",
        "may a/1",
    ),
    (
        "the policy requests another template after it was reverted",
        "undo a/1\ncomplete a/1\nwait a/1 a/p template=3",
        "",
        "may a/1",
    ),
    (
        "the policy requests that once more later",
        "undo a/1\ncomplete a/1\nwait a/1 a/p template=3\nwait a/1 a/p template=2",
        "",
        "may a/1",
    ),
    (
        "its change waits for the next update after it was reverted",
        "undo a/1\ncomplete a/1\nlater a/1",
        "",
        "may a/2",
    ),
    (
        "another policy requests the same template after it was reverted",
        "undo a/1\ncomplete a/1\npolicy a/q max=1\nwait a/1 a/q",
        "",
        "may a/1 a/2",
    ),
];
