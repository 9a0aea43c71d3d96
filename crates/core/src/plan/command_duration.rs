//! The duration of a command, read from the usual forms of preStop hooks.
//!
//! A shell script is read up to the first construct that is not a plain sequence of commands. Then it takes at least the
//! time read so far.

use super::shell_script::{Command, Then, Word, parse};

/// A duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Length {
    /// This number of seconds.
    Exactly(i64),
    /// At least this number of seconds; how many more is unknown.
    AtLeast(i64),
}

/// Commands that return immediately.
const INSTANT: [&str; 14] = [
    ":", "true", "cd", "date", "echo", "exit", "export", "kill", "killall", "pkill", "printf", "rm", "set",
    "touch",
];
const SHELLS: [&str; 7] = ["ash", "bash", "dash", "ksh", "mksh", "sh", "zsh"];
/// Commands that run the command in their arguments.
const PREFIXES: [&str; 6] = ["busybox", "command", "env", "exec", "nohup", "toybox"];
/// How deep commands may be nested: a manifest can nest any number.
const DEPTH: usize = 8;
const NANOSECONDS: i128 = 1_000_000_000;

/// The duration of a container's command.
pub(super) fn length(command: &[&str]) -> Length {
    let words: Vec<Word> = command.iter().map(|text| Word::literal(text)).collect();
    match run(&words, DEPTH) {
        Step::Sleep(seconds) => Length::Exactly(seconds),
        // Without a sleep, its duration is unknown.
        Step::Instant => Length::AtLeast(0),
        Step::Unknown(seconds) => Length::AtLeast(seconds),
    }
}

/// The duration of one command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// This number of seconds, by a sleep.
    Sleep(i64),
    /// None.
    Instant,
    /// At least this number of seconds.
    Unknown(i64),
}

fn run(words: &[Word], depth: usize) -> Step {
    let assignments = words.iter().take_while(|word| word.is_assignment()).count();
    let Some((program, arguments)) = words[assignments..].split_first() else { return Step::Instant };
    let (Some(name), Some(depth)) = (program.as_literal().map(base_name), depth.checked_sub(1)) else {
        return Step::Unknown(0);
    };
    match name.as_str() {
        "sleep" => sleep(arguments),
        "usleep" => microseconds(arguments),
        "timeout" => timeout(arguments, depth),
        "ping" => ping(arguments),
        "nginx" if arguments.first().is_some_and(|word| word.text == "-s") => Step::Instant,
        "powershell" | "pwsh" => powershell(arguments),
        "cmd" => cmd(arguments, depth),
        name if SHELLS.contains(&name) => shell(arguments, depth),
        name if PREFIXES.contains(&name) => {
            let options = arguments.iter().take_while(|word| word.text.starts_with('-')).count();
            run(&arguments[options..], depth)
        }
        name if INSTANT.contains(&name) => Step::Instant,
        _ => Step::Unknown(0),
    }
}

/// The name of the program without its folder, and on Windows without `.exe`.
fn base_name(program: &str) -> String {
    let name = program.rsplit(['/', '\\']).next().unwrap_or_default();
    match name.to_ascii_lowercase().strip_suffix(".exe") {
        Some(windows) => windows.to_owned(),
        None => name.to_owned(),
    }
}

/// `sleep 10`, `sleep 1m 30s`: the sum, as in coreutils and busybox, rounded up.
fn sleep(arguments: &[Word]) -> Step {
    let times = arguments.iter().map(|word| word.as_literal().and_then(nanoseconds));
    let total = times.sum::<Option<i128>>().filter(|_| !arguments.is_empty());
    total.and_then(whole_seconds).map_or(Step::Unknown(0), Step::Sleep)
}

fn microseconds(arguments: &[Word]) -> Step {
    let [Word { text, expanded: false }] = arguments else { return Step::Unknown(0) };
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let number = digits.then(|| text.parse::<i64>().ok()).flatten();
    let seconds = number.and_then(|number| whole_seconds(i128::from(number) * 1000));
    seconds.map_or(Step::Unknown(0), Step::Sleep)
}

/// `timeout 10 /drain`: at most 10 s, and with `-k 5` at most 15 s.
fn timeout(arguments: &[Word], depth: usize) -> Step {
    let mut grace = Some(0);
    let mut rest = arguments;
    while let Some((option, more)) = rest.split_first().filter(|(word, _)| word.text.starts_with('-')) {
        let attached = option.text.strip_prefix("-k").or_else(|| option.text.strip_prefix("--kill-after="));
        let (value, more) = match option.text.as_str() {
            "-k" | "-s" | "--kill-after" | "--signal" => {
                (more.first().and_then(Word::as_literal), more.get(1..).unwrap_or_default())
            }
            _ => (attached, more),
        };
        if option.text == "--kill-after" || attached.is_some() {
            grace = value.and_then(nanoseconds);
        }
        rest = more;
    }
    let Some((limit, command)) = rest.split_first() else { return Step::Unknown(0) };
    let limit = limit.as_literal().and_then(nanoseconds).filter(|limit| *limit > 0);
    let limit = limit.zip(grace).and_then(|(limit, grace)| whole_seconds(limit + grace));
    match (run(command, depth), limit) {
        (Step::Sleep(seconds), Some(limit)) => Step::Sleep(seconds.min(limit)),
        (Step::Unknown(_), Some(limit)) => Step::Sleep(limit),
        (Step::Instant, _) => Step::Instant,
        (_, None) => Step::Unknown(0),
    }
}

/// `ping -n 11 127.0.0.1` of Windows, which has no sleep: one per second, the first immediately.
fn ping(arguments: &[Word]) -> Step {
    let [option, count, _host] = arguments else { return Step::Unknown(0) };
    let count = count.as_literal().filter(|_| option.text == "-n").and_then(|count| count.parse().ok());
    count.filter(|count| *count > 0).map_or(Step::Unknown(0), |count: i64| Step::Sleep(count - 1))
}

/// `10`, `10s`, `0.5m`, `1h`, `1d`.
fn nanoseconds(text: &str) -> Option<i128> {
    let (number, unit) = match text.as_bytes().last()? {
        b's' => (&text[..text.len() - 1], 1),
        b'm' => (&text[..text.len() - 1], 60),
        b'h' => (&text[..text.len() - 1], 3600),
        b'd' => (&text[..text.len() - 1], 86_400),
        _ => (text, 1),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = !number.is_empty() && number != "." && fraction.len() <= 9;
    if !digits || !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) {
        return None;
    }
    let whole: i64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let fraction: i64 = format!("{fraction:0<9}").parse().ok()?;
    Some((i128::from(whole) * NANOSECONDS + i128::from(fraction)) * unit)
}

fn whole_seconds(nanoseconds: i128) -> Option<i64> {
    i64::try_from((nanoseconds + NANOSECONDS - 1) / NANOSECONDS).ok()
}

/// `sh -c 'sleep 10'`, with the usual options: `-ec`, `-lc`, `-o pipefail -c`.
fn shell(arguments: &[Word], depth: usize) -> Step {
    let mut rest = arguments;
    let mut commands = false;
    while let Some((option, more)) = rest.split_first().filter(|(word, _)| word.text.starts_with(['-', '+']))
    {
        let short = !option.text.starts_with("--");
        commands |= short && option.text.contains('c');
        let takes_value = short && option.text.contains('o');
        rest = if takes_value { more.get(1..).unwrap_or_default() } else { more };
    }
    match rest.first().and_then(Word::as_literal) {
        Some(script) if commands => sequence(&parse(script), depth),
        _ => Step::Unknown(0),
    }
}

/// The duration of commands that run one after the other and succeed.
fn sequence(commands: &[Command], depth: usize) -> Step {
    let (mut total, mut slept, mut certain) = (0_i64, false, true);
    let mut alternative_to: Option<Step> = None;
    for Command { words, then } in commands {
        if *then == Then::Other {
            certain = false;
            break;
        }
        if words.is_empty() {
            continue;
        }
        let step = run(words, depth);
        match alternative_to {
            // A sleep succeeds, so its alternative does not run.
            Some(before) => certain &= matches!(before, Step::Sleep(_)) || step == Step::Instant,
            None => match step {
                Step::Sleep(seconds) => (total, slept) = (total.saturating_add(seconds), true),
                Step::Instant => {}
                Step::Unknown(seconds) => (total, certain) = (total.saturating_add(seconds), false),
            },
        }
        let ends = words[0].text == "exit" || words[0].text == "exec" && words.len() > 1;
        // It may depend on an unknown command before, as in `test -f /skip && exit 0`.
        if ends && certain && alternative_to.is_none() {
            break;
        }
        alternative_to = (*then == Then::Otherwise).then(|| alternative_to.unwrap_or(step));
    }
    match (certain, slept) {
        (true, true) => Step::Sleep(total),
        (true, false) => Step::Instant,
        (false, _) => Step::Unknown(total),
    }
}

/// `powershell -NoProfile -Command "Start-Sleep -Seconds 90"`.
fn powershell(arguments: &[Word]) -> Step {
    let mut rest = arguments;
    while let Some((option, more)) = rest.split_first().filter(|(word, _)| word.text.starts_with(['-', '/']))
    {
        let name = option.text[1..].to_ascii_lowercase();
        let takes_value = name.starts_with("ex") || name.starts_with('w') || name.starts_with("inp");
        rest = if takes_value { more.get(1..).unwrap_or_default() } else { more };
    }
    let script = rest.iter().map(|word| word.text.as_str()).collect::<Vec<_>>().join(" ");
    let (mut total, mut slept) = (0_i64, false);
    for statement in script.split([';', '\n']) {
        let statement = statement.to_ascii_lowercase();
        let words: Vec<&str> = statement.split_whitespace().collect();
        let time = match words.as_slice() {
            [] | ["exit" | "write-host" | "write-output" | "echo", ..] => continue,
            ["start-sleep" | "sleep", seconds] => nanoseconds_of_digits(seconds, NANOSECONDS),
            ["start-sleep" | "sleep", option, number] if is_option(option, "-seconds") => {
                nanoseconds_of_digits(number, NANOSECONDS)
            }
            ["start-sleep" | "sleep", option, number] if is_option(option, "-milliseconds") => {
                nanoseconds_of_digits(number, NANOSECONDS / 1000)
            }
            _ => None,
        };
        let Some(seconds) = time.and_then(whole_seconds) else { return Step::Unknown(total) };
        (total, slept) = (total.saturating_add(seconds), true);
    }
    if slept { Step::Sleep(total) } else { Step::Instant }
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

/// `cmd /c "ping -n 11 127.0.0.1 >nul"`.
fn cmd(arguments: &[Word], depth: usize) -> Step {
    let options = arguments.iter().take_while(|word| word.text.starts_with('/')).count();
    let (options, rest) = arguments.split_at(options);
    if !options.last().is_some_and(|option| option.text.eq_ignore_ascii_case("/c")) {
        return Step::Unknown(0);
    }
    let script = rest.iter().map(|word| word.text.as_str()).collect::<Vec<_>>().join(" ");
    // `&` separates commands and ignores failures. Paths contain backslashes.
    let script = script.replace("&&", "&").replace('&', ";").replace('\\', "/");
    sequence(&parse(&script), depth)
}

#[cfg(test)]
#[path = "command_duration_tests.rs"]
mod tests;
