//! The duration of commands of Windows.

use super::{
    shell_script::Word,
    step::{CommandDuration, NANOSECONDS, nanoseconds, whole_seconds},
};

/// The longest `Start-Sleep`, in seconds; a longer one is an error.
const LONGEST_SLEEP: i64 = 2_147_483;

/// `ping -n 11 127.0.0.1` of Windows, which has no sleep: one per second, the first immediately. To other hosts, each may
/// take longer.
pub(super) fn ping(arguments: &[Word]) -> CommandDuration {
    let [option, count, host] = arguments else { return CommandDuration::AtLeast(0) };
    let count = count.as_literal().filter(|_| option.text == "-n").and_then(|count| count.parse().ok());
    let Some(seconds) = count.filter(|count: &i64| *count > 0).map(|count| count - 1) else {
        return CommandDuration::AtLeast(0);
    };
    let local = host.as_literal().is_some_and(|host| ["127.0.0.1", "localhost", "::1"].contains(&host));
    if local { CommandDuration::Exactly(seconds) } else { CommandDuration::AtLeast(seconds) }
}

/// `powershell -NoProfile -Command "Start-Sleep -Seconds 90"`.
pub(super) fn powershell(arguments: &[Word]) -> CommandDuration {
    let Some(script) = powershell_script(arguments) else { return CommandDuration::AtLeast(0) };
    let (mut total, mut slept) = (0_i64, false);
    for statement in script.split([';', '\n']) {
        let statement = statement.to_ascii_lowercase();
        let words: Vec<&str> = statement.split_whitespace().collect();
        let time = match words.as_slice() {
            [] => continue,
            _ if !is_plain(&statement) => None,
            ["exit"] | ["exit", _] => break,
            ["write-host" | "write-output" | "echo", ..] => continue,
            ["start-sleep" | "sleep", seconds] => nanoseconds_of_digits(seconds, NANOSECONDS),
            ["start-sleep" | "sleep", option, number] if is_option(option, "-seconds") => {
                nanoseconds_of_digits(number, NANOSECONDS)
            }
            ["start-sleep" | "sleep", option, number] if is_option(option, "-milliseconds") => {
                nanoseconds_of_digits(number, NANOSECONDS / 1000)
            }
            _ => None,
        };
        let seconds = time.map(whole_seconds).filter(|seconds| *seconds <= LONGEST_SLEEP);
        let Some(seconds) = seconds else { return CommandDuration::AtLeast(total) };
        (total, slept) = (total.saturating_add(seconds), true);
    }
    if slept { CommandDuration::Exactly(total) } else { CommandDuration::None }
}

/// The commands in the arguments of PowerShell. `None` with an option that changes what runs, or how long.
fn powershell_script(arguments: &[Word]) -> Option<String> {
    let mut rest = arguments;
    while let Some((option, more)) = rest.split_first().filter(|(word, _)| word.text.starts_with(['-', '/']))
    {
        let name = option.text[1..].to_ascii_lowercase();
        rest = match name.as_str() {
            "c" | "command" => {
                rest = more;
                break;
            }
            "mta" | "nologo" | "noni" | "noninteractive" | "nop" | "noprofile" | "sta" => more,
            name if ["ep", "ex", "inp", "w"].iter().any(|prefix| name.starts_with(prefix)) => {
                more.get(1..)?
            }
            _ => return None,
        };
    }
    let script = rest.iter().map(|word| word.text.as_str()).collect::<Vec<_>>().join(" ");
    Some(script).filter(|script| !script.trim().is_empty() && script != "-")
}

/// Whether a statement of PowerShell runs only its command: it has no expression, pipe, block, redirection or
/// comment, and no string that continues in the next one.
fn is_plain(statement: &str) -> bool {
    let paired = |quote: char| statement.matches(quote).count().is_multiple_of(2);
    !statement.contains(['(', ')', '{', '}', '$', '|', '&', '<', '>', '@', '`', '#', '[', ']'])
        && paired('"')
        && paired('\'')
}

/// A number without a unit, in units of so many nanoseconds.
fn nanoseconds_of_digits(text: &str, unit: i128) -> Option<i128> {
    let plain = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    Some(nanoseconds(text).filter(|_| plain)? * unit / NANOSECONDS)
}

/// An option of PowerShell may be abbreviated: `-s` is `-Seconds`.
fn is_option(option: &str, name: &str) -> bool {
    option.len() > 1 && name.starts_with(option)
}

/// The script of `cmd /c "ping -n 11 127.0.0.1 >nul"`, in the syntax of a shell. `None` with other options.
pub(super) fn cmd_script(arguments: &[Word]) -> Option<String> {
    let options = arguments.iter().take_while(|word| word.text.starts_with('/')).count();
    let (options, rest) = arguments.split_at(options);
    if !options.last().is_some_and(|option| option.text.eq_ignore_ascii_case("/c")) {
        return None;
    }
    let script = rest.iter().map(|word| word.text.as_str()).collect::<Vec<_>>().join(" ");
    // `&` separates commands and ignores failures, except in `2>&1`. Paths contain backslashes.
    let mut before = ' ';
    let translated = script.chars().map(|char| {
        let after_redirection = std::mem::replace(&mut before, char) == '>';
        match char {
            '&' if !after_redirection => ';',
            '\\' => '/',
            char => char,
        }
    });
    let mut script: String = translated.collect();
    // These have another meaning for a shell of Linux, so what follows is unknown.
    if let Some(other) = script.find(['\'', '%', '^', '#', '!', '\n']) {
        script.replace_range(other.., "(");
    }
    Some(script)
}
