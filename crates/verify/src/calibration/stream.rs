//! The load through one way, with new or with kept connections.

use serde::{Deserialize, Serialize};

/// The connections of a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Connections {
    /// Each request opens a connection.
    New,
    /// Requests reuse connections.
    Kept,
}

/// The load through one way, with one kind of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stream {
    /// The index of the way.
    pub way: usize,
    /// Its connections.
    pub connections: Connections,
}

impl Connections {
    /// Both kinds.
    pub const ALL: [Self; 2] = [Self::New, Self::Kept];

    fn segment(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Kept => "kept",
        }
    }
}

impl Stream {
    /// The end of the path of its requests.
    #[must_use]
    pub fn path(self) -> String {
        format!("/{}/{}", self.way, self.connections.segment())
    }

    /// The stream of a request with this path, which may begin with other segments; `None` if it isn't of a load.
    #[must_use]
    pub fn of_path(path: &str) -> Option<Self> {
        let mut segments = path.rsplit('/');
        let last = segments.next()?;
        let connections = Connections::ALL.into_iter().find(|connections| connections.segment() == last)?;
        Some(Self { way: segments.next()?.parse().ok()?, connections })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_a_request_names_its_stream() {
        for way in [0, 12] {
            for connections in Connections::ALL {
                let stream = Stream { way, connections };
                assert_eq!(Stream::of_path(&stream.path()), Some(stream));
                assert_eq!(Stream::of_path(&format!("/adieu-calibrate-x{}", stream.path())), Some(stream));
            }
        }
        for path in ["", "/", "/ready", "/new", "/x/new", "/-1/kept", "/1/other", "/1/new/"] {
            assert_eq!(Stream::of_path(path), None, "{path}");
        }
    }
}
