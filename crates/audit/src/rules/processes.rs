//! Signals to the processes of a container.

use crate::{Finding, Rule, Severity, shell::stays_process_1, subject::Subject};

/// Process 1 ignores SIGTERM unless it handles it, and a shell neither handles nor forwards it.
pub(super) fn shell_as_pid_1(subject: &Subject<'_>) -> Vec<Finding> {
    // A Job's script usually ends by itself before.
    if subject.pod.spec["shareProcessNamespace"] == true || subject.is("Job") || subject.is("CronJob") {
        return vec![];
    }
    let all = subject.pod.containers.iter().chain(&subject.pod.native_sidecars);
    all.filter(|container| !container.is_idle() && stays_process_1(&container.command(), container.image()))
        .map(|container| {
            let found = subject.finding(Rule::ShellAsPid1, Severity::Warning, container.path("command"));
            found.in_container(container).says(
                "a shell is process 1 of this container and does not forward SIGTERM: the application is killed when the \
                 grace period ends",
                "start the application with exec, for example sh -c 'exec server', or with tini",
            )
        })
        .collect()
}
