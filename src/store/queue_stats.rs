//! Statistics of the two queues that eviction works on.

/// The items of one queue, over all shards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueStats {
    /// Items, expired ones that were not found yet included.
    pub items: u64,
    /// The time since the last access to the item that eviction looks at next, in seconds: the longest of all shards.
    pub head_idle_seconds: u64,
}

/// The items of both queues.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueuesStats {
    /// The queue that new items go to.
    pub probation: QueueStats,
    /// The queue that items move to when they are used again.
    pub main: QueueStats,
}
