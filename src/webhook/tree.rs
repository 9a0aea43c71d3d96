//! The memory that parsed JSON takes, computed before parsing.
//!
//! A tree of values takes many times its text: a member of an array of zeros is two bytes of text and at least [`ITEM`]
//! bytes of memory, and `{"a":1}` is seven and [`OBJECT`]. So the text is scanned first, which allocates nothing. Text
//! whose tree would be too large is not parsed. The others share [`TreeBudget`], from before they are parsed until the
//! decision is made. Nothing waits for the network in between, so a share is released after milliseconds.

use std::{mem::size_of, sync::Arc};

use serde_json::Value;
use tokio::{
    runtime::{Handle, RuntimeFlavor},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::block_in_place,
    time::timeout,
};

use super::deadline::Deadline;

/// The maximum size of the trees of one review (object and oldObject), in bytes. An update of a Deployment with 1.4 MB of
/// environment variables takes less than half.
pub(super) const TREE_LIMIT: usize = 8 * MIB;
/// The deepest nesting that is parsed: the limit of `serde_json`, less the levels of the review. Workloads have some 20
/// levels.
pub(super) const DEPTH_LIMIT: usize = 100;
/// The largest tree that needs no share of the budget. Few are larger, and since nothing waits between parsing and
/// answering, there are at most as many at a time as threads.
const FREE: usize = MIB / 2;
const MIB: usize = 1024 * 1024;

/// An array starts with a capacity of four values, plus the allocator's overhead.
const ARRAY: usize = 4 * size_of::<Value>() + 16;
/// A value in an array. Its buffer doubles, and during that there are two.
const ITEM: usize = 3 * size_of::<Value>();
/// A node of a `BTreeMap` has room for eleven entries.
const OBJECT: usize = 11 * ENTRY + 32;
/// A further entry: nodes that are filled in order are half full.
const MEMBER: usize = 2 * ENTRY + 16;
const ENTRY: usize = size_of::<String>() + size_of::<Value>();
/// A string has its own block, which the allocator rounds up.
const STRING: usize = 32;

/// The shape of a JSON text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Shape {
    /// The depth of nested arrays and objects.
    pub(super) depth: usize,
    /// The maximum size of its tree, in bytes.
    pub(super) tree: usize,
}

impl Shape {
    /// Scans a text. Invalid JSON gets an arbitrary shape.
    pub(super) fn of(text: &str) -> Self {
        let (mut shape, mut depth) = (Self::default(), 0_usize);
        // A bit for each open level, the innermost lowest: whether it is an object.
        let mut objects = 0_u128;
        let mut bytes = text.as_bytes().iter();
        while let Some(byte) = bytes.next() {
            match byte {
                b'"' => {
                    let before = bytes.len();
                    skip_string(&mut bytes);
                    shape.tree += STRING + before - bytes.len();
                }
                b'{' | b'[' => {
                    let is_object = *byte == b'{';
                    objects = objects << 1 | u128::from(is_object);
                    depth += 1;
                    shape.depth = shape.depth.max(depth);
                    shape.tree += if is_object { OBJECT } else { ARRAY };
                }
                b'}' | b']' => {
                    objects >>= 1;
                    depth = depth.saturating_sub(1);
                }
                b',' => shape.tree += if objects & 1 == 1 { MEMBER } else { ITEM },
                _ => {}
            }
        }
        shape
    }

    /// The shape of two texts.
    pub(super) fn and(self, other: Self) -> Self {
        Self { depth: self.depth.max(other.depth), tree: self.tree + other.tree }
    }
}

fn skip_string(bytes: &mut std::slice::Iter<'_, u8>) {
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => return,
            b'\\' => drop(bytes.next()),
            _ => {}
        }
    }
}

/// Makes a review without an object from the start of a review; `None` if the start has no object. The API server writes
/// `uid`, `kind` and `operation` before the object, in the order of the fields of its Go type.
pub(super) fn without_object(start: &[u8]) -> Option<String> {
    const KEY: &[u8] = b"\"object\"";
    let (mut depth, mut bytes) = (0_usize, start.iter());
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => {
                let from = start.len() - bytes.len() - 1;
                skip_string(&mut bytes);
                let is_key = || bytes.clone().find(|byte| !byte.is_ascii_whitespace()) == Some(&b':');
                if depth == 2 && start[from..].starts_with(KEY) && is_key() {
                    let head = str::from_utf8(&start[..from]).ok()?;
                    return Some(format!("{head}\"object\":null}}}}"));
                }
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    None
}

/// The memory for trees, shared by all requests, and the permit for large ones.
#[derive(Clone, Debug)]
pub(super) struct TreeBudget {
    bytes: Arc<Semaphore>,
    large: Arc<Semaphore>,
}

/// A share of the budget, until it is dropped.
#[derive(Debug)]
pub(super) struct TreeShare {
    _permit: Option<OwnedSemaphorePermit>,
}

/// No share was free in time.
#[derive(Clone, Copy, Debug)]
pub(super) struct NoBudget;

impl Default for TreeBudget {
    fn default() -> Self {
        Self { bytes: Arc::new(Semaphore::new(TREE_LIMIT)), large: Arc::new(Semaphore::new(1)) }
    }
}

impl TreeBudget {
    /// Runs `work`. If it is about many bytes, it runs alone, and off the threads that serve other requests.
    pub(super) async fn work<T>(
        &self,
        bytes: usize,
        deadline: Deadline,
        work: impl FnOnce() -> T,
    ) -> Result<T, NoBudget> {
        if bytes <= FREE {
            return Ok(work());
        }
        let Ok(Ok(_permit)) = timeout(deadline.left(), self.large.acquire()).await else {
            return Err(NoBudget);
        };
        let is_one_of_many = Handle::current().runtime_flavor() == RuntimeFlavor::MultiThread;
        Ok(if is_one_of_many { block_in_place(work) } else { work() })
    }

    /// Reserves memory for a tree, in the order of the calls.
    pub(super) async fn reserve(&self, bytes: usize, deadline: Deadline) -> Result<TreeShare, NoBudget> {
        if bytes <= FREE {
            return Ok(TreeShare { _permit: None });
        }
        let permits = u32::try_from(bytes.min(TREE_LIMIT)).map_err(|_| NoBudget)?;
        match timeout(deadline.left(), self.bytes.clone().acquire_many_owned(permits)).await {
            Ok(Ok(permit)) => Ok(TreeShare { _permit: Some(permit) }),
            _ => Err(NoBudget),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn brackets_and_commas_in_strings_do_not_count() {
        let shape = Shape::of(r#"{"a":["[{,\"[","\\"],"b":{}}"#);
        assert_eq!(shape.depth, 2);
        let strings = r#"a"[{,\"["\\"b""#.len() + 4 * STRING;
        assert_eq!(shape.tree, 2 * OBJECT + ARRAY + ITEM + MEMBER + strings);
    }

    #[test]
    fn the_shape_of_invalid_json_is_bounded_by_its_length() {
        for text in ["", "]]]}", "\"\\", "{\"a", &"[".repeat(100_000)] {
            let shape = Shape::of(text);
            assert!(shape.depth <= text.len() && shape.tree <= OBJECT * text.len(), "{shape:?}");
        }
    }

    #[test]
    fn the_start_of_a_review_is_truncated_at_its_object() {
        let cut = |start: &str| without_object(start.as_bytes());
        let start = r#"{"request":{"uid":"object","object" : {"object":{"a":"#;
        assert_eq!(cut(start).unwrap(), r#"{"request":{"uid":"object","object":null}}"#);
        assert_eq!(cut(r#"{"object":{"a":{"object":1"#), None, "not the object of a request");
        assert_eq!(cut(r#"{"request":{"uid":"1","obj"#), None);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn a_large_review_blocks_no_thread_of_the_others() {
        let (budget, deadline) = (TreeBudget::default(), Deadline::after(Duration::from_secs(30)));
        let (answered, wait) = std::sync::mpsc::channel();
        let large = budget.clone();
        let large = tokio::spawn(async move {
            large.work(FREE + 1, deadline, move || wait.recv_timeout(Duration::from_secs(20)).is_ok()).await
        });
        while budget.large.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let small = budget.clone();
        let small = tokio::spawn(async move { small.work(FREE, deadline, || answered.send(())).await });
        assert!(small.await.unwrap().unwrap().is_ok());
        assert!(large.await.unwrap().unwrap(), "it ended before the small one was answered");
    }

    #[tokio::test(start_paused = true)]
    async fn large_trees_wait_for_each_other_and_small_ones_for_none() {
        let budget = TreeBudget::default();
        let deadline = Deadline::after(Duration::from_secs(5));
        let all = budget.reserve(TREE_LIMIT, deadline).await.unwrap();
        assert!(budget.reserve(FREE, deadline).await.is_ok());
        let mut next = Box::pin(budget.reserve(FREE + 1, deadline));
        assert!(futures::poll!(&mut next).is_pending());
        drop(all);
        let _next = next.await.unwrap();
        assert!(budget.reserve(TREE_LIMIT, deadline).await.is_err(), "not in time");
    }
}
