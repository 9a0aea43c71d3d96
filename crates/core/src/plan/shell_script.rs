//! Splits a shell script into commands, up to the first construct that is not a plain sequence.

/// A word of a command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) text: String,
    /// Whether a shell expands it, as a variable.
    pub(super) expanded: bool,
}

impl Word {
    pub(super) fn literal(text: &str) -> Self {
        Self { text: text.to_owned(), expanded: false }
    }

    /// The word, unless a shell expands it.
    pub(super) fn as_literal(&self) -> Option<&str> {
        Some(self.text.as_str()).filter(|_| !self.expanded)
    }

    pub(super) fn is_assignment(&self) -> bool {
        self.text.split_once('=').is_some_and(|(name, _)| {
            !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        })
    }
}

/// A command of a script, and the operator after it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Command {
    pub(super) words: Vec<Word>,
    /// Whether it is redirected from or to a file, which may wait, as for a FIFO.
    pub(super) opens_file: bool,
    pub(super) then: Then,
}

/// The operator after a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// `;`, or the end of the line.
    Next,
    /// `&&`.
    IfOk,
    /// `||`.
    Otherwise,
    /// A construct that is not supported: a pipe, a command in the background, a substitution, a group.
    Other,
}

/// The commands of a shell script, up to the first unsupported construct. A redirection to `null`, the null device, does
/// not wait.
pub(super) fn parse(script: &str, null: &str) -> Vec<Command> {
    let mut parser =
        Parser { rest: script, null, commands: Vec::new(), words: Vec::new(), opens_file: false };
    while !parser.rest.is_empty() {
        if !parser.step() {
            parser.end_command(Then::Other);
            return parser.commands;
        }
    }
    parser.end_command(Then::Next);
    parser.commands
}

struct Parser<'a> {
    rest: &'a str,
    null: &'a str,
    commands: Vec<Command>,
    /// The words of the present command.
    words: Vec<Word>,
    /// Whether the present command is redirected from or to a file.
    opens_file: bool,
}

impl Parser<'_> {
    /// Reads one word or operator. False if it is not supported.
    fn step(&mut self) -> bool {
        let text = self.rest;
        let after = |operator: &str| text.strip_prefix(operator);
        if let Some(rest) =
            after("\\\n").or_else(|| after(" ")).or_else(|| after("\t")).or_else(|| after("\r"))
        {
            self.rest = rest;
        } else if let Some(rest) = after("||") {
            self.rest = rest;
            self.end_command(Then::Otherwise);
        } else if let Some(rest) = after("&&") {
            self.rest = rest;
            self.end_command(Then::IfOk);
        } else if let Some(rest) = after(";").or_else(|| after("\n")) {
            self.rest = rest;
            self.end_command(Then::Next);
        } else if self.rest.starts_with('#') {
            self.rest = self.rest.find('\n').map_or("", |end| &self.rest[end..]);
        } else if let Some((operator, target)) = redirection(self.rest) {
            self.rest = target.trim_start_matches([' ', '\t']);
            let Some(target) = self.word() else { return false };
            self.opens_file |= !self.is_instant(operator, &target);
        } else {
            let Some(word) = self.word() else { return false };
            self.words.push(word);
        }
        true
    }

    fn end_command(&mut self, then: Then) {
        let (words, opens_file) = (std::mem::take(&mut self.words), std::mem::take(&mut self.opens_file));
        self.commands.push(Command { words, opens_file, then });
    }

    /// Whether a redirection opens only the null device: another descriptor, as in `2>&1`, is open already.
    fn is_instant(&self, operator: &str, target: &Word) -> bool {
        let descriptor =
            |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b == b'-');
        target.as_literal().is_some_and(|target| {
            target.eq_ignore_ascii_case(self.null) || [">&", "<&"].contains(&operator) && descriptor(target)
        })
    }

    /// The word at the start of the rest; `None` if it is not supported.
    fn word(&mut self) -> Option<Word> {
        let mut word = Word::default();
        let mut quote = None;
        let mut end = self.rest.len();
        let mut characters = self.rest.char_indices();
        while let Some((index, character)) = characters.next() {
            match (quote, character) {
                (Some(open), _) if character == open => quote = None,
                (Some('\''), _) => word.text.push(character),
                (None, '\'' | '"') => quote = Some(character),
                (_, '`') => return None,
                (_, '\\') => word.text.push(characters.next()?.1),
                (_, '$') if self.rest[index..].starts_with("$(") => return None,
                (Some(_), _) => {
                    word.expanded |= character == '$';
                    word.text.push(character);
                }
                (None, ' ' | '\t' | '\r' | '\n' | ';' | '&' | '|' | '<' | '>' | '(' | ')') => {
                    end = index;
                    break;
                }
                (None, _) => {
                    word.expanded |= ['$', '*', '?', '['].contains(&character);
                    word.text.push(character);
                }
            }
        }
        let is_word = quote.is_none() && end > 0;
        self.rest = &self.rest[end..];
        is_word.then_some(word)
    }
}

/// The operator of a redirection to a file or another descriptor, such as `>/dev/null` and `2>&1`, and the text after it.
fn redirection(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_start_matches(|c: char| c.is_ascii_digit());
    [">>", "&>>", "&>", ">&", ">|", ">", "<&", "<"].into_iter().find_map(|operator| {
        let rest = text.strip_prefix(operator).filter(|rest| !rest.starts_with(['<', '>', '(']))?;
        Some((operator, rest))
    })
}
