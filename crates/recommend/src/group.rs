//! Groups of workloads that one policy can be for.

use crate::{member::Member, times::Times};

/// Workloads that need the same times.
#[derive(Debug)]
pub(crate) struct Group<'a> {
    pub(crate) times: Times,
    /// In the order of their keys.
    pub(crate) members: Vec<&'a Member<'a>>,
}

/// The fewest groups. A workload that needs only one time joins the largest group with this time.
pub(crate) fn groups<'a>(members: impl IntoIterator<Item = &'a Member<'a>>) -> Vec<Group<'a>> {
    let mut sorted: Vec<_> = members.into_iter().collect();
    sorted.sort_by(|a, b| {
        b.wanted.count().cmp(&a.wanted.count()).then_with(|| a.candidate.key.cmp(&b.candidate.key))
    });
    let mut groups: Vec<Group<'a>> = Vec::new();
    for member in sorted {
        let compatible = groups.iter_mut().filter(|group| group.times.is_compatible(member.wanted));
        match compatible.max_by_key(|group| group.members.len()) {
            Some(group) => {
                group.times = group.times.or(member.wanted);
                group.members.push(member);
            }
            None => groups.push(Group { times: member.wanted, members: vec![member] }),
        }
    }
    for group in &mut groups {
        group.members.sort_by(|a, b| a.candidate.key.cmp(&b.candidate.key));
    }
    groups.sort_by_key(|group| group.times);
    groups
}
