//! Load at a constant rate, and what a disruption did to it.
//!
//! | module | what it holds | what it may use |
//! |---|---|---|
//! | [`verify`] | samples, pods' timelines, what was lost where, which drain is enough | data only |
//! | [`load`] | requests at a constant rate | the service under load |
//! | [`report`] | findings as tables, and as a page with plots | data only |

pub mod load;
pub mod report;
pub mod verify;
