mod failure_data;
mod histories;
mod history;
mod progress_data;
mod sharing_data;
mod slots_data;
