//! Positions in a JSON text that is read in chunks.

use memchr::memchr2;

/// The position of the next byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JsonPosition {
    /// Outside of strings.
    Structure,
    /// In a string.
    String,
    /// After a backslash in a string.
    Escape,
}

impl JsonPosition {
    /// Reads bytes of a string from `at`. The position after its end, where this is [`Self::Structure`], or after the bytes.
    pub fn read_string(&mut self, bytes: &[u8], mut at: usize) -> usize {
        while at < bytes.len() {
            if *self == Self::Escape {
                *self = Self::String;
                at += 1;
                continue;
            }
            let Some(next) = memchr2(b'"', b'\\', &bytes[at..]) else { return bytes.len() };
            at += next + 1;
            if bytes[at - 1] == b'"' {
                *self = Self::Structure;
                return at;
            }
            *self = Self::Escape;
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_ends_at_its_quote_wherever_chunks_end() {
        let text = br#"a\"b\\\"c\\",1"#;
        let end = text.len() - 2;
        for length in 1..=text.len() {
            let (mut position, mut read) = (JsonPosition::String, 0);
            for chunk in text.chunks(length) {
                let at = position.read_string(chunk, 0);
                read += at;
                if position == JsonPosition::Structure {
                    break;
                }
                assert_eq!(at, chunk.len());
            }
            assert_eq!((position, read), (JsonPosition::Structure, end), "{length}");
        }
    }
}
