//! The warnings about one template, within bounds: a name in it may be as long as a request, and it may have thousands of
//! containers.

use crate::text::truncate_bytes;

/// The maximum number of warnings.
const MAX_NUMBER: usize = 100;
/// The maximum length of a warning, in bytes.
const MAX_LENGTH: usize = 1024;

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Warnings(Vec<String>);

impl Warnings {
    /// Adds a warning, shortened, if it is one of the first.
    pub(super) fn push(&mut self, mut warning: String) {
        if self.is_full() {
            return;
        }
        truncate_bytes(&mut warning, MAX_LENGTH);
        self.0.push(warning);
    }

    fn is_full(&self) -> bool {
        self.0.len() >= MAX_NUMBER
    }

    /// The warnings.
    pub(super) fn into_vec(self) -> Vec<String> {
        self.0
    }
}

impl Extend<String> for Warnings {
    /// Adds the first of these. The others are not computed.
    fn extend<T: IntoIterator<Item = String>>(&mut self, warnings: T) {
        let mut warnings = warnings.into_iter();
        while !self.is_full()
            && let Some(warning) = warnings.next()
        {
            self.push(warning);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn number_and_length_of_warnings_are_limited() {
        let mut warnings = Warnings::default();
        warnings.push("ü".repeat(MAX_LENGTH));
        let mut computed = 0;
        warnings.extend((0..10 * MAX_NUMBER).map(|number| {
            computed += 1;
            number.to_string()
        }));
        warnings.push("one more".into());
        let warnings = warnings.into_vec();
        assert_eq!((warnings.len(), computed), (MAX_NUMBER, MAX_NUMBER - 1));
        assert_eq!(warnings[0], format!("{}…", "ü".repeat(MAX_LENGTH / 2 - 2)));
        assert_eq!(warnings[MAX_NUMBER - 1], (MAX_NUMBER - 2).to_string());
    }
}
