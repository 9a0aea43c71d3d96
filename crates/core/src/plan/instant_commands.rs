//! Commands that return immediately.

use super::shell_script::Word;

/// The folders of a system's own programs. A program of the same name in another one may do anything.
const FOLDERS: [&str; 8] =
    ["", "/bin", "/sbin", "/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin", "/busybox"];

/// Signals that end a process, unless it ignores them.
const ENDING: [&str; 18] = [
    "1", "2", "3", "6", "9", "10", "12", "14", "15", "ABRT", "ALRM", "HUP", "INT", "KILL", "QUIT", "TERM",
    "USR1", "USR2",
];
/// Other signals. STOP and its like are in neither list: they could stop the hook itself.
const HARMLESS: [&str; 8] = ["0", "17", "18", "28", "CHLD", "CONT", "URG", "WINCH"];

/// Options with which a program returns immediately.
struct Options {
    /// Options of one letter.
    letters: &'static str,
    /// Options with `--`. Those with a value may have it attached.
    long: &'static [&'static str],
    /// Options whose value is a signal.
    signal: &'static [&'static str],
    /// Whether a signal may be an option, as in `kill -TERM 1`.
    is_signal: bool,
}

const REMOVE: Options = Options { letters: "fv", long: &["force", "verbose"], signal: &[], is_signal: false };
const DATE: Options = Options { letters: "IRu", long: &["utc"], signal: &[], is_signal: false };
const KILL: Options = Options { letters: "lq", long: &[], signal: &["-n", "-s"], is_signal: true };
const KILL_ALL: Options = Options {
    letters: "Iegqruv",
    long: &["exact", "ignore-case", "process-group", "quiet", "regexp", "verbose"],
    signal: &["-s", "--signal"],
    is_signal: true,
};
const KILL_BY_PATTERN: Options = Options {
    letters: "GPUcefginostuvx",
    long: &["count", "echo", "exact", "full", "ignore-case", "newest", "oldest", "parent"],
    signal: &["--signal"],
    is_signal: true,
};

/// Whether a program, by its path and name, returns immediately with these arguments: none of them lets it wait, ask,
/// read a file or remove a whole folder. In `cmd.exe`, fewer programs do.
pub(super) fn returns_immediately(path: &str, name: &str, arguments: &[Word], in_cmd: bool) -> bool {
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    if !FOLDERS.contains(&folder) || path.contains('\\') {
        return false;
    }
    match name {
        "cd" | "echo" | "exit" => true,
        _ if in_cmd => false,
        ":" | "export" | "printf" | "set" | "touch" | "true" => true,
        "date" => DATE.allow(arguments),
        "kill" => {
            // In a shell, whatever a variable contains: its own `kill` doesn't wait.
            let literal: Vec<Word> = arguments.iter().filter(|word| !word.expanded).cloned().collect();
            KILL.allow(&literal)
        }
        "killall" => KILL_ALL.allow(arguments),
        "pkill" => KILL_BY_PATTERN.allow(arguments),
        "rm" => REMOVE.allow(arguments),
        _ => false,
    }
}

/// Whether a process ends by this signal, unless it ignores it.
pub(super) fn ends_a_process(signal: &str) -> bool {
    ENDING.contains(&without_prefix(signal).as_str())
}

fn is_signal(text: &str) -> bool {
    ends_a_process(text) || HARMLESS.contains(&without_prefix(text).as_str())
}

fn without_prefix(signal: &str) -> String {
    let name = signal.to_ascii_uppercase();
    name.strip_prefix("SIG").map_or_else(|| name.clone(), str::to_owned)
}

impl Options {
    /// Whether all options among the arguments are known. A variable may expand to any option.
    fn allow(&self, arguments: &[Word]) -> bool {
        let mut arguments = arguments.iter().take_while(|word| word.text != "--");
        while let Some(word) = arguments.next() {
            let Some(option) = word.as_literal() else {
                if word.text.starts_with(['-', '$', '*', '?', '[']) {
                    return false;
                }
                continue;
            };
            let known = if self.signal.contains(&option) {
                arguments.next().and_then(Word::as_literal).is_some_and(is_signal)
            } else {
                self.knows(option)
            };
            if !known {
                return false;
            }
        }
        true
    }

    fn knows(&self, argument: &str) -> bool {
        if let Some(long) = argument.strip_prefix("--") {
            let (name, value) = long.split_once('=').unwrap_or((long, ""));
            return self.long.contains(&name) || self.is_signal && name == "signal" && is_signal(value);
        }
        argument.strip_prefix('-').is_none_or(|option| {
            option.chars().all(|letter| self.letters.contains(letter)) || self.is_signal && is_signal(option)
        })
    }
}
