//! The duration of a command, read from the usual forms of preStop hooks.
//!
//! A shell script is read up to the first construct that is not a plain sequence of commands. Then it takes at least the
//! time read so far.

use super::{
    instant_commands::{ends_a_process, returns_immediately},
    shell_script::{Command, Then, Word, parse},
    step::{CommandDuration, nanoseconds, whole_seconds},
    windows_commands as windows,
};

/// A duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HookDuration {
    /// This number of seconds.
    Exactly(i64),
    /// At least this number of seconds; how many more is unknown.
    AtLeast(i64),
    /// No grace period is long enough, as for `sleep infinity`.
    Endless,
}

/// Shells that run a script with `-c`.
pub const SHELLS: [&str; 7] = ["ash", "bash", "dash", "ksh", "mksh", "sh", "zsh"];
/// Commands that run the command in their arguments.
const PREFIXES: [&str; 6] = ["busybox", "command", "env", "exec", "nohup", "toybox"];
/// How deep commands may be nested: a manifest can nest any number.
const DEPTH: usize = 8;
/// A year, in seconds. A longer sleep is meant to never end.
const MAX_SLEEP: i64 = 365 * 86_400;

/// The duration of a container's command.
pub(super) fn duration(command: &[&str]) -> HookDuration {
    let words: Vec<Word> = command.iter().map(|text| Word::literal(text)).collect();
    match run(&words, Context { depth: DEPTH, cmd: false }) {
        CommandDuration::Exactly(seconds) | CommandDuration::AtLeast(seconds) if seconds > MAX_SLEEP => {
            HookDuration::Endless
        }
        CommandDuration::Exactly(seconds) => HookDuration::Exactly(seconds),
        // Without a sleep, its duration is unknown.
        CommandDuration::None => HookDuration::AtLeast(0),
        CommandDuration::AtLeast(seconds) => HookDuration::AtLeast(seconds),
    }
}

/// The context of a command.
#[derive(Clone, Copy, Debug)]
struct Context {
    /// How many more commands may be nested.
    depth: usize,
    /// Whether it runs in `cmd.exe`, where some names are other programs.
    cmd: bool,
}

fn run(words: &[Word], context: Context) -> CommandDuration {
    let assignments = words.iter().take_while(|word| word.is_assignment()).count();
    let Some((program, arguments)) = words[assignments..].split_first() else { return CommandDuration::None };
    let (Some(path), Some(depth)) = (program.as_literal(), context.depth.checked_sub(1)) else {
        return CommandDuration::AtLeast(0);
    };
    let context = Context { depth, ..context };
    match base_name(path).as_str() {
        "sleep" => sleep(arguments),
        "usleep" => microseconds(arguments),
        "timeout" => timeout(arguments, context),
        "ping" => windows::ping(arguments),
        "nginx" if arguments.first().is_some_and(|word| word.text == "-s") => CommandDuration::None,
        "powershell" | "pwsh" => windows::powershell(arguments),
        "cmd" => windows::cmd_script(arguments).map_or(CommandDuration::AtLeast(0), |script| {
            sequence(&parse(&script, "nul"), Context { cmd: true, ..context })
        }),
        name if SHELLS.contains(&name) => shell(arguments, context),
        name if PREFIXES.contains(&name) => prefixed(name, arguments, context),
        name if returns_immediately(path, name, arguments, context.cmd) => CommandDuration::None,
        _ => CommandDuration::AtLeast(0),
    }
}

/// The command in the arguments of another, such as `env -i sleep 10`.
fn prefixed(name: &str, arguments: &[Word], context: Context) -> CommandDuration {
    // Other options have values, such as `exec -a NAME` and `env -S COMMAND`.
    let known: &[&str] = match name {
        "env" => &["-", "-i", "--ignore-environment"],
        "command" => &["-p"],
        "exec" => &["-c", "-l", "-cl", "-lc"],
        _ => &[],
    };
    let options = arguments.iter().take_while(|word| word.text.starts_with('-')).count();
    let (options, command) = arguments.split_at(options);
    if options.iter().all(|option| known.contains(&option.text.as_str())) {
        run(command, context)
    } else {
        CommandDuration::AtLeast(0)
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
fn sleep(arguments: &[Word]) -> CommandDuration {
    let times = arguments.iter().map(|word| word.as_literal().and_then(nanoseconds));
    let total = times.sum::<Option<i128>>().filter(|_| !arguments.is_empty());
    total.map(whole_seconds).map_or(CommandDuration::AtLeast(0), CommandDuration::Exactly)
}

fn microseconds(arguments: &[Word]) -> CommandDuration {
    let [Word { text, expanded: false }] = arguments else { return CommandDuration::AtLeast(0) };
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let number = digits.then(|| text.parse::<i64>().ok()).flatten();
    let seconds = number.map(|number| whole_seconds(i128::from(number) * 1000));
    seconds.map_or(CommandDuration::AtLeast(0), CommandDuration::Exactly)
}

/// `timeout 10 sleep 15`: 10 s. A program that ignores SIGTERM takes longer, unless SIGKILL follows: `timeout -k 5 10
/// /drain` takes at most 15 s.
fn timeout(arguments: &[Word], context: Context) -> CommandDuration {
    let (mut grace, mut kills, mut ends) = (Some(0), false, true);
    let mut rest = arguments;
    while let Some((option, more)) = rest.split_first().filter(|(word, _)| word.text.starts_with('-')) {
        let (name, value);
        (name, value, rest) = timeout_option(option, more);
        match name {
            "-k" | "--kill-after" => {
                grace = value.and_then(nanoseconds);
                kills |= grace.is_some_and(|grace| grace > 0);
            }
            "-s" | "--signal" => {
                kills |= value.is_some_and(|signal| ["9", "KILL", "SIGKILL"].contains(&signal));
                ends = value.is_some_and(ends_a_process);
            }
            _ => {}
        }
    }
    let Some((limit, command)) = rest.split_first() else { return CommandDuration::AtLeast(0) };
    let limit = limit.as_literal().and_then(nanoseconds).filter(|limit| *limit > 0);
    let limit = limit.zip(grace).map(|(limit, grace)| whole_seconds(limit + grace));
    match (run(command, context), limit.filter(|_| ends || kills)) {
        (CommandDuration::Exactly(seconds), Some(limit)) => CommandDuration::Exactly(seconds.min(limit)),
        (CommandDuration::AtLeast(_), Some(limit)) if kills => CommandDuration::Exactly(limit),
        (CommandDuration::AtLeast(_), Some(limit)) => CommandDuration::AtLeast(limit),
        (CommandDuration::None, _) => CommandDuration::None,
        (_, None) => CommandDuration::AtLeast(0),
    }
}

/// The name and the value of an option of `timeout`, and the arguments after it.
fn timeout_option<'w>(option: &'w Word, more: &'w [Word]) -> (&'w str, Option<&'w str>, &'w [Word]) {
    const WITH_VALUE: [&str; 4] = ["-k", "--kill-after", "-s", "--signal"];
    let text = option.text.as_str();
    if WITH_VALUE.contains(&text) {
        return (text, more.first().and_then(Word::as_literal), more.get(1..).unwrap_or_default());
    }
    let attached = WITH_VALUE.iter().find_map(|name| Some((*name, text.strip_prefix(name)?)));
    attached.map_or((text, None, more), |(name, value)| {
        (name, option.as_literal().map(|_| value.trim_start_matches('=')), more)
    })
}

/// `sh -c 'sleep 10'`, with the usual options: `-ec`, `-lc`, `-o pipefail -c`.
fn shell(arguments: &[Word], context: Context) -> CommandDuration {
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
        Some(script) if commands => sequence(&parse(script, "/dev/null"), Context { cmd: false, ..context }),
        _ => CommandDuration::AtLeast(0),
    }
}

/// The duration of commands that run one after the other.
fn sequence(commands: &[Command], context: Context) -> CommandDuration {
    let (mut total, mut slept, mut certain) = (0_i64, false, true);
    let mut alternative_to: Option<CommandDuration> = None;
    // Whether the command certainly runs: those before `&&` may fail.
    let mut runs = true;
    for Command { words, opens_file, then } in commands {
        if *then == Then::Other {
            certain = false;
            break;
        }
        if words.is_empty() && !opens_file {
            continue;
        }
        let is_certain = certain;
        let step = run(words, context);
        // To open a FIFO waits for its other end.
        let step = if *opens_file { step.or_longer() } else { step };
        match alternative_to {
            // A sleep succeeds, so its alternative does not run.
            Some(before) => {
                certain &= matches!(before, CommandDuration::Exactly(_)) || step == CommandDuration::None;
            }
            None => match step {
                CommandDuration::Exactly(seconds) => (total, slept) = (total.saturating_add(seconds), true),
                CommandDuration::None => {}
                CommandDuration::AtLeast(seconds) => {
                    (total, certain) = (total.saturating_add(seconds), false);
                }
            },
        }
        let name = words.first().map(|word| word.text.as_str());
        let ends = name == Some("exit") || name == Some("exec") && words.len() > 1;
        // It may depend on an unknown command before, as in `test -f /skip && exit 0`.
        if ends && is_certain && runs && alternative_to.is_none() {
            break;
        }
        runs = match then {
            Then::IfOk => runs && matches!(step, CommandDuration::Exactly(_)),
            Then::Otherwise => false,
            Then::Next | Then::Other => true,
        };
        alternative_to = (*then == Then::Otherwise).then(|| alternative_to.unwrap_or(step));
    }
    match (certain, slept) {
        (true, true) => CommandDuration::Exactly(total),
        (true, false) => CommandDuration::None,
        (false, _) => CommandDuration::AtLeast(total),
    }
}

#[cfg(test)]
#[path = "command_duration_tests.rs"]
mod tests;
