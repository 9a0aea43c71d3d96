//! Conditions by the API conventions: one per type, with the time of its last transition.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

/// Replaces the condition of the same type. `lastTransitionTime` is kept unless the status changed, so that a comparison
/// of statuses finds only real differences.
pub fn merge_condition(conditions: &mut Vec<Condition>, mut condition: Condition) {
    match conditions.iter_mut().find(|c| c.type_ == condition.type_) {
        Some(existing) => {
            if existing.status == condition.status {
                condition.last_transition_time = existing.last_transition_time.clone();
            }
            *existing = condition;
        }
        None => conditions.push(condition),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};

    use super::*;

    fn condition(status: &str, reason: &str, second: i64) -> Condition {
        Condition {
            type_: "Ready".into(),
            status: status.into(),
            reason: reason.into(),
            message: String::new(),
            observed_generation: None,
            last_transition_time: Time(Timestamp::from_second(second).unwrap_or_default()),
        }
    }

    #[test]
    fn transition_time_changes_only_with_the_status() {
        let mut conditions = vec![condition("False", "Pending", 1)];
        merge_condition(&mut conditions, condition("False", "Progressing", 2));
        assert_eq!(conditions, [condition("False", "Progressing", 1)]);
        merge_condition(&mut conditions, condition("True", "Injected", 3));
        assert_eq!(conditions, [condition("True", "Injected", 3)]);
    }
}
