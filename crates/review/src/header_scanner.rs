//! Reads the header of a review that arrives in chunks, and keeps nothing else.
//!
//! The API server writes a request in the order of the fields of its Go type (`AdmissionRequest` of
//! `k8s.io/api/admission/v1`): `uid`, `kind`, …, `name`, `namespace`, `operation`, `userInfo`, `object`, `oldObject`,
//! `dryRun`, `options`. So the header is complete where `object` begins, and of the fields before it only `userInfo` can
//! be large. Its groups and extra fields come from the headers of a request, which may have 1 MiB and take six times as
//! much as JSON (`<`, `>` and `&` are escaped), or from an OIDC provider or an authentication webhook, which the API
//! server doesn't limit. So values of other fields are skipped, whatever their length, and in any order.

use adieu_core::json_position::JsonPosition as Position;

use crate::{envelope::ReviewHeader, error::BadRequest};

/// The maximum size of a header, in bytes. That of a valid object has less than 2 KiB: its name has at most 253 characters.
pub const HEADER_LIMIT: usize = 8 * 1024;

/// The fields of a header, and `object`, each with its depth. Those in [`REQUIRED`] come first.
const FIELDS: [(usize, &str); 9] = [
    (1, "kind"),
    (1, "apiVersion"),
    (2, "uid"),
    (2, "kind"),
    (2, "operation"),
    (2, "object"),
    (1, "request"),
    (2, "name"),
    (2, "namespace"),
];
/// The fields without which a header isn't complete, a bit for each.
const REQUIRED: u16 = 0b11_1111;
/// The index of `object`, whose value isn't kept.
const OBJECT: usize = 5;

/// How far a header is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderState {
    /// More bytes are needed.
    Incomplete,
    /// The other bytes aren't needed.
    Complete,
    /// It is longer than [`HEADER_LIMIT`], or the text isn't a review.
    TooLong,
}

/// Reads a header in memory of [`HEADER_LIMIT`], and each byte once.
#[derive(Debug)]
pub struct HeaderScanner {
    /// The text so far, with `null` in place of values that aren't part of a header.
    text: Vec<u8>,
    /// The length of the text up to its last complete field, and the depth there.
    complete: (usize, usize),
    depth: usize,
    position: Position,
    /// The start of the last string in the text.
    string: usize,
    /// The depth of the object with the field whose value is skipped.
    skipped: Option<usize>,
    /// The fields that were found, a bit for each of [`FIELDS`].
    found: u16,
    state: HeaderState,
}

impl Default for HeaderScanner {
    fn default() -> Self {
        Self {
            text: Vec::with_capacity(HEADER_LIMIT),
            complete: (0, 0),
            depth: 0,
            position: Position::Structure,
            string: 0,
            skipped: None,
            found: 0,
            state: HeaderState::Incomplete,
        }
    }
}

impl HeaderScanner {
    /// Reads the next bytes, up to the end of the header.
    pub fn read(&mut self, bytes: &[u8]) -> HeaderState {
        let mut at = 0;
        while at < bytes.len() && self.state == HeaderState::Incomplete {
            if self.position != Position::Structure {
                let end = self.position.read_string(bytes, at);
                self.keep(&bytes[at..end]);
                at = end;
            } else if let Some(depth) = self.skipped {
                at = self.skip(bytes, at, depth);
            } else {
                self.step(bytes[at]);
                at += 1;
            }
        }
        self.state
    }

    /// The header, of the complete fields so far.
    pub fn header(&self) -> Result<ReviewHeader, BadRequest> {
        let (length, depth) = self.complete;
        let text = str::from_utf8(&self.text[..length])?;
        ReviewHeader::parse(&format!("{text}{}", "}".repeat(depth)))
    }

    /// Skips a value up to its next string, or up to the byte after it, which isn't skipped. Returns the position there.
    fn skip(&mut self, bytes: &[u8], mut at: usize, depth: usize) -> usize {
        while let Some(byte) = bytes.get(at) {
            match byte {
                b'"' => {
                    self.position = Position::String;
                    return at + 1;
                }
                b'{' | b'[' => self.depth += 1,
                b',' | b'}' | b']' if self.depth <= depth => {
                    self.skipped = None;
                    return at;
                }
                b'}' | b']' => self.depth -= 1,
                _ => {}
            }
            at += 1;
        }
        at
    }

    /// Reads a byte outside of strings.
    fn step(&mut self, byte: u8) {
        let is_outer = self.depth <= 2;
        match byte {
            b':' if is_outer => return self.begin_value(),
            b',' | b'}' | b']' if is_outer => self.complete_field(),
            _ => {}
        }
        match byte {
            b'"' => {
                self.position = Position::String;
                self.string = self.text.len();
            }
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
        self.keep(&[byte]);
    }

    /// Keeps the value after this key, or skips it.
    fn begin_value(&mut self) {
        let key = self.text[self.string..].trim_ascii_end();
        let key = key.strip_prefix(b"\"").and_then(|key| key.strip_suffix(b"\"")).unwrap_or_default();
        let field = FIELDS.iter().position(|(depth, field)| *depth == self.depth && field.as_bytes() == key);
        if let Some(field) = field {
            self.found |= 1 << field;
        }
        if field.is_some_and(|field| field != OBJECT) {
            return self.keep(b":");
        }
        self.keep(b":null");
        self.skipped = Some(self.depth);
        self.complete_field();
    }

    fn complete_field(&mut self) {
        if self.state == HeaderState::Incomplete {
            self.complete = (self.text.len(), self.depth);
            if self.found & REQUIRED == REQUIRED {
                self.state = HeaderState::Complete;
            }
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        if self.skipped.is_some() {
            return;
        }
        if self.text.len() + bytes.len() <= HEADER_LIMIT {
            self.text.extend_from_slice(bytes);
        } else {
            self.state = HeaderState::TooLong;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: &str = r#"{"group":"apps","version":"v1","kind":"Deployment"}"#;

    /// The start of a review as the API server writes it, up to its object.
    fn start(user_info: &str) -> String {
        format!(
            r#"{{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{{"uid":"705ab4f5","kind":{KIND},"resource":{{"group":"apps","version":"v1","resource":"deployments"}},"name":"web","namespace":"shop","operation":"CREATE","userInfo":{user_info},"object":"#
        )
    }

    /// Reads a text in chunks of this length.
    fn read(text: &str, length: usize) -> (HeaderScanner, HeaderState) {
        let mut scanner = HeaderScanner::default();
        for chunk in text.as_bytes().chunks(length) {
            scanner.read(chunk);
            assert!(scanner.text.len() <= HEADER_LIMIT);
        }
        let state = scanner.read(b"");
        (scanner, state)
    }

    #[test]
    fn the_header_of_a_review_is_complete_at_its_object_wherever_chunks_end() {
        let group = r#""}]},\"object\":\\{[""#;
        let groups = vec![group; 20_000].join(",");
        let user_info = format!(r#"{{"username":"object","groups":[{groups}],"extra":{{"object":[{{}}]}}}}"#);
        let text = start(&user_info);
        for length in [1, 2, 3, 7, 1000, usize::MAX] {
            let (scanner, state) = read(&text, length);
            assert_eq!(state, HeaderState::Complete, "{length}");
            let header = scanner.header().unwrap();
            let found = [&header.uid, &header.name, &header.namespace].map(String::as_str);
            assert_eq!(found, ["705ab4f5", "web", "shop"]);
            let (_, state) = read(&text[..text.len() - 1], length);
            assert_eq!(state, HeaderState::Incomplete, "{length}");
        }
    }

    #[test]
    fn the_fields_of_a_header_may_come_in_any_order() {
        let large = format!("[{}0]", "{\"uid\":0},".repeat(10_000));
        let fields = [
            r#""namespace":"shop""#.to_owned(),
            format!(r#""object":{{"request":{large}}}"#),
            r#""operation" : "CREATE""#.to_owned(),
            format!(r#""oldObject":{large}"#),
            format!(r#""kind":{KIND}"#),
            r#""dryRun":false"#.to_owned(),
            r#""uid":"705ab4f5""#.to_owned(),
        ];
        for shift in 0..fields.len() {
            let mut fields = fields.clone();
            fields.rotate_left(shift);
            let fields = fields.join(", ");
            let text = format!(
                r#" {{"request":{{{fields}}},"x":1,"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1"}}"#
            );
            let (scanner, state) = read(&text, 100);
            assert_eq!(state, HeaderState::Complete, "{shift}");
            let header = scanner.header().unwrap();
            assert_eq!([&header.uid, &header.namespace], ["705ab4f5", "shop"], "{shift}");
        }
    }

    #[test]
    fn the_namespace_is_known_before_the_object() {
        let text = start("{}");
        let end = text.find("\"userInfo\"").unwrap();
        let (scanner, state) = read(&text[..end], 10);
        assert_eq!(state, HeaderState::Incomplete);
        assert_eq!(scanner.header().unwrap().namespace, "shop");
        assert!(read(&text[..20], 10).0.header().is_err());
    }

    #[test]
    fn other_text_is_no_header_and_takes_bounded_memory() {
        let long = "x".repeat(HEADER_LIMIT);
        for (text, expected) in [
            (" ".repeat(HEADER_LIMIT + 1), HeaderState::TooLong),
            ("[".repeat(HEADER_LIMIT + 1), HeaderState::TooLong),
            (start("{}").replace("web", &long), HeaderState::TooLong),
            (format!(r#"{{"kind":"{long}"#), HeaderState::TooLong),
            (format!(r#"{{"a":"{long}"#), HeaderState::Incomplete),
            (format!(r#"{{"object":{{"a":["{long}"]}}}}"#), HeaderState::Incomplete),
            (start("{}").replace("\"uid\"", "\"uuid\""), HeaderState::Incomplete),
            ("]}]:{,\"\\".to_owned(), HeaderState::Incomplete),
        ] {
            let (scanner, state) = read(&text, 1000);
            assert_eq!(state, expected, "{text:.80}");
            assert!(state == HeaderState::TooLong || scanner.header().is_err(), "{text:.80}");
        }
    }
}
