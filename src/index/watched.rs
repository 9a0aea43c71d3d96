//! Objects that are listed and watched.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::unusable_objects::UnusableReason;

/// A watched object.
pub(super) trait Watched: Clone + Send + Sync + Sized + 'static {
    /// Its kind, as a label of metrics; `Workload` for all workloads.
    const KIND: &'static str;

    /// The memory that objects of the kind may take in every namespace, in bytes, whatever others have.
    const FLOOR: usize;

    /// How many objects of the kind are read in a namespace: each workload is compared with all of them.
    const MAX_IN_NAMESPACE: usize = usize::MAX;

    /// Whether objects are kept, and take a part of the quota.
    const IS_CACHED: bool = true;

    /// Whether the API server sends only their metadata.
    const IS_METADATA: bool = false;

    /// Whether the consumer of events removes an object from the unusable ones, once it has applied the event with its usable
    /// version. Otherwise that happens before the event.
    const USABLE_ONCE_APPLIED: bool = false;

    /// Decodes an object.
    fn decode(text: &[u8]) -> Result<Self, UnusableReason>;

    /// Decodes an object of this API version and kind, for types of several kinds: items of a list need not name theirs.
    fn decode_as(_api_version: &str, _kind: &str, text: &[u8]) -> Result<Self, UnusableReason> {
        Self::decode(text)
    }

    /// The name under which unusable objects of a kind are counted.
    fn counted_as(_api_version: &str, kind: &'static str) -> &'static str {
        kind
    }

    /// An object with metadata only.
    fn of_metadata(metadata: ObjectMeta) -> Self;

    /// The approximate memory that it takes in a cache, in bytes.
    fn cached_size(&self) -> usize;

    /// Whether it is of use. If not, it is dropped, and takes no part of the quota.
    fn is_relevant(&self) -> bool {
        true
    }

    /// A stub that takes less memory, if the kind has one.
    fn stub(&self, _too_large: &str) -> Option<Self> {
        None
    }

    /// Why it is a stub, if so.
    fn too_large(&self) -> Option<&str> {
        None
    }
}
