//! A report as tables, and as an HTML page with plots.

mod calibration_page;
mod calibration_plot;
mod calibration_table;
mod connections;
mod format;
mod page;
mod plot;
mod table;
mod tuning;

pub use calibration_page::calibration_page;
pub use calibration_table::calibration_table;
pub use page::page;
pub use plot::Error;
pub use table::table;
pub use tuning::tuning;

#[cfg(test)]
mod calibration_tests;
#[cfg(test)]
mod tests;
