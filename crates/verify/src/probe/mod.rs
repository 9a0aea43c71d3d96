//! Observes connections that stay open: how long the server keeps idle ones, and how those end that are held while pods
//! terminate.

mod clock;
mod error_text;
mod frame;
mod hold;
mod http1;
mod http2;
mod idle;
mod target;
mod websocket;

pub use hold::hold;
pub use idle::keep_alive;
pub use target::Target;

#[cfg(test)]
mod tests;
