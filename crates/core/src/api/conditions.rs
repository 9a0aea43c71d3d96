//! Conditions as the API conventions want them: one per type, with a time that tells when it changed.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

/// Puts `condition` in the place of the one of its type. `lastTransitionTime` stays what it was unless
/// the status changed, so that comparing statuses finds real differences only.
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
    fn the_time_moves_only_with_the_status() {
        let mut conditions = vec![condition("False", "Pending", 1)];
        merge_condition(&mut conditions, condition("False", "Progressing", 2));
        assert_eq!(conditions, [condition("False", "Progressing", 1)]);
        merge_condition(&mut conditions, condition("True", "Injected", 3));
        assert_eq!(conditions, [condition("True", "Injected", 3)]);
    }
}
