//! Checks generated cases, and simplifies a failing one.

use std::collections::{BTreeSet, HashMap};

use futures::{StreamExt as _, stream};
use proptest::strategy::ValueTree;

use crate::figures::print_line;

/// Concurrent requests.
const CONCURRENCY: usize = 8;

/// Steps towards a simpler failing case.
const STEPS: usize = 400;

/// Checks every value, some concurrently. Simplifies the first failing one, and panics with it.
pub async fn check_all<T: ValueTree, O, F>(mut trees: Vec<T>, check: impl Fn(T::Value) -> F) -> Vec<O>
where
    F: Future<Output = Result<O, String>>,
{
    let cases: Vec<_> = trees.iter().map(ValueTree::current).enumerate().collect();
    let checks = cases.into_iter().map(|(index, case)| {
        let checked = check(case);
        async move { (index, checked.await) }
    });
    let checked: Vec<_> = stream::iter(checks).buffer_unordered(CONCURRENCY).collect().await;
    let mut failures = HashMap::new();
    let mut outcomes = Vec::new();
    for (index, outcome) in checked {
        match outcome {
            Ok(outcome) => outcomes.push(outcome),
            Err(error) => drop(failures.insert(index, error)),
        }
    }
    if let Some(first) = failures.keys().min().copied() {
        let heads: BTreeSet<_> = failures.values().filter_map(|error| error.lines().next()).collect();
        print_line(&format!("{} of {} fail: {heads:#?}", failures.len(), trees.len()));
        let (case, error) = simplest(&mut trees[first], failures[&first].clone(), check).await;
        unreachable!("case {first}: {error}\nsimplified to {case:?}");
    }
    outcomes
}

async fn simplest<T: ValueTree, O, F>(
    tree: &mut T,
    error: String,
    check: impl Fn(T::Value) -> F,
) -> (T::Value, String)
where
    F: Future<Output = Result<O, String>>,
{
    let mut found = (tree.current(), error);
    let mut continues = tree.simplify();
    for _ in 0..STEPS {
        if !continues {
            break;
        }
        let case = tree.current();
        continues = match check(tree.current()).await {
            Err(error) => {
                found = (case, error);
                tree.simplify()
            }
            Ok(_) => tree.complicate(),
        };
    }
    found
}
