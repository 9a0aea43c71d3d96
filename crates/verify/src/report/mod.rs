//! A report as tables, and as an HTML page with plots.

mod connections;
mod format;
mod page;
mod plot;
mod table;
mod tuning;

pub use page::page;
pub use plot::Error;
pub use table::table;
pub use tuning::tuning;

#[cfg(test)]
mod tests;
