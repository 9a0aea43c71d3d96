//! Whether a shell stays process 1 of a container, so that SIGTERM doesn't reach the application.
//!
//! Measured with bash 5.2, busybox 1.35 and dash 0.5.12: bash and busybox replace themselves by the last command of `-c`
//! if it is a plain one, bash not with a redirection, busybox not if the script ends with a newline. dash, the `sh` of
//! Debian and Ubuntu, never does.

use adieu_core::plan::SHELLS;

use crate::images::{Base, base};

/// Programs that forward signals, or shells that do by a handler.
const FORWARDS: [&str; 8] =
    ["trap", "exec", "tini", "dumb-init", "supervisord", "s6-svscan", "runsvdir", "catatonit"];

/// Scripts that wait forever.
const IDLE: [&str; 3] = ["sleep infinity", "sleep inf", "tail -f /dev/null"];
/// The beginnings of endless loops.
const ENDLESS: [&str; 2] = ["while true", "while :"];

/// Whether a shell stays process 1 with this command, and doesn't forward signals. False if it depends on an unknown
/// image, and for an endless loop or wait, which has no work to complete.
pub(crate) fn stays_process_1(command: &[&str], image: &str) -> bool {
    let Some((name, script)) = shell_and_script(command).filter(|(_, script)| !forwards(script)) else {
        return false;
    };
    let base = if name == "bash" { Some(Base::Bash) } else { base(image) };
    match (last_command(script), base) {
        (None | Some(LastCommand::Loop), _) | (Some(LastCommand::Plain | LastCommand::Redirected), None) => {
            false
        }
        (Some(LastCommand::Compound), _) | (Some(_), Some(Base::Dash)) => true,
        (Some(last), Some(Base::Bash)) => last == LastCommand::Redirected,
        (Some(_), Some(Base::Busybox)) => script.ends_with('\n'),
    }
}

/// Whether a shell ends with a loop, so that it stays process 1, and ignores SIGTERM.
pub(crate) fn ends_with_loop(command: &[&str]) -> bool {
    shell_and_script(command)
        .is_some_and(|(_, script)| !forwards(script) && last_command(script) == Some(LastCommand::Loop))
}

/// Whether this command sleeps or waits forever, and serves nothing.
pub(crate) fn only_waits(command: &[&str]) -> bool {
    let script = shell_and_script(command).map(|(_, script)| script.trim().to_owned());
    let plain = || {
        let (&program, arguments) = command.split_first()?;
        let words: Vec<&str> = program.rsplit('/').take(1).chain(arguments.iter().copied()).collect();
        Some(words.join(" "))
    };
    script.or_else(plain).is_some_and(|text| IDLE.contains(&text.as_str()) || is_sleep(&text))
}

/// Whether this is a sleep of any duration, such as `sleep 3650d`.
fn is_sleep(text: &str) -> bool {
    let number =
        text.strip_prefix("sleep ").map(|time| time.strip_suffix(['s', 'm', 'h', 'd']).unwrap_or(time));
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The name of a shell that runs a script with `-c`, and the script.
fn shell_and_script<'a>(command: &[&'a str]) -> Option<(&'a str, &'a str)> {
    let (&program, arguments) = command.split_first()?;
    let name = program.rsplit('/').next()?;
    let options = arguments.iter().take_while(|word| word.starts_with('-')).count();
    let is_script = |option: &&str| !option.starts_with("--") && option.contains('c');
    let script = arguments.get(options).filter(|_| arguments[..options].iter().any(is_script))?;
    SHELLS.contains(&name).then_some((name, *script))
}

/// Whether a script starts a program that forwards signals, or handles them.
fn forwards(script: &str) -> bool {
    words(script).any(|word| FORWARDS.contains(&word.rsplit('/').next().unwrap_or_default()))
}

/// The words of a script, at the operators of a shell too.
fn words(script: &str) -> impl Iterator<Item = &str> {
    script
        .split(|char: char| char.is_whitespace() || ";&|(){}".contains(char))
        .filter(|word| !word.is_empty())
}

/// The last command of a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LastCommand {
    /// A program and its arguments.
    Plain,
    /// The same, with its output in a file.
    Redirected,
    /// A loop, or the only command, which waits forever.
    Loop,
    /// Anything else: a pipe, a group, a command in the background.
    Compound,
}

/// `None` for an empty script.
fn last_command(script: &str) -> Option<LastCommand> {
    let plain = without_quotes(&script.replace("\\\n", " "));
    let mut lines = plain.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let line = lines.next_back()?;
    let command = line.rsplit(';').map(str::trim).find(|command| !command.is_empty())?;
    let command = command.rsplit("&&").next().unwrap_or_default().trim();
    let first = command.split_whitespace().next()?;
    // A loop may be in a function that is called last.
    let is_endless = ENDLESS.iter().any(|start| plain.contains(start)) && !plain.contains("break");
    let in_background = command.replace(">&", "").replace("&>", "").contains('&');
    Some(match first {
        _ if is_endless || IDLE.contains(&plain.trim()) => LastCommand::Loop,
        "done" => LastCommand::Loop,
        "fi" | "esac" | "}" | ")" | "wait" | "while" | "until" | "for" | "if" | "{" => LastCommand::Compound,
        _ if in_background || command.contains('|') => LastCommand::Compound,
        _ if command.contains(['<', '>']) => LastCommand::Redirected,
        _ => LastCommand::Plain,
    })
}

/// The script with `x` in the place of quoted texts and of substitutions, which may contain operators.
fn without_quotes(script: &str) -> String {
    let mut out = String::new();
    let (mut depth, mut quote, mut escaped) = (0_usize, None, false);
    let mut before = ' ';
    for char in script.chars() {
        let outside = depth == 0 && quote.is_none();
        if escaped {
            escaped = false;
        } else if char == '\\' && quote != Some('\'') {
            escaped = true;
        } else if quote == Some(char) {
            quote = None;
        } else if quote.is_none() && ['\'', '"', '`'].contains(&char) {
            quote = Some(char);
        } else if char == '(' && (before == '$' || depth > 0) && quote.is_none() {
            depth += 1;
        } else if char == ')' && depth > 0 && quote.is_none() {
            depth -= 1;
        } else if outside {
            out.push(char);
            before = char;
            continue;
        }
        if outside {
            out.push('x');
        }
        before = char;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_that_does_not_replace_itself_stays_process_1() {
        let (debian, alpine, unknown) = ("python:3.13-slim", "node:22-alpine", "registry.example/web:1");
        for (command, image, expected) in [
            (["sh", "-c", "node server.js"], debian, true),
            (["sh", "-c", "node server.js"], alpine, false),
            (["sh", "-c", "node server.js\n"], alpine, true),
            (["sh", "-c", "node server.js"], unknown, false),
            (["sh", "-c", "exec node server.js"], debian, false),
            (["sh", "-c", "migrate && exec node server.js"], debian, false),
            (["/bin/sh", "-ec", "migrate && node server.js"], debian, true),
            (["bash", "-c", "migrate && node server.js\n"], unknown, false),
            (["bash", "-c", "node server.js 2>&1"], unknown, true),
            (["bash", "-c", "node server.js | tee /log"], unknown, true),
            (["bash", "-c", "node --id=$((1 + $(id | wc -c))) '|'"], unknown, false),
            (["sh", "-c", "node server.js | tee /log"], alpine, true),
            (["sh", "-c", "while true; do sync; sleep 10; done"], "busybox", false),
            (["sh", "-c", "sleep infinity"], debian, false),
            (["sh", "-c", "nginx && tail -f /dev/null"], debian, true),
            (
                ["bash", "-c", "sync() {\n  while true; do\n    sleep 10\n  done\n}\nif a; then\n  sync\nfi"],
                unknown,
                false,
            ),
            (["bash", "-c", "while true; do a && break; done\nb | tee /log"], unknown, true),
            (["sh", "-c", "trap 'exit 0' TERM; a; b & wait"], "busybox", false),
            (["sh", "-c", "server & sidecar & wait"], "busybox", true),
            (["sh", "-c", "tini -- server"], debian, false),
            (["sh", "-c", "if a; then\n  exec b\nfi\nexec c\n"], debian, false),
            (["sh", "-c", "# nothing\n"], debian, false),
            (["sh", "/entrypoint.sh", ""], debian, false),
            (["node", "-c", "x"], debian, false),
        ] {
            assert_eq!(stays_process_1(&command, image), expected, "{command:?} in {image}");
        }
        assert!(!stays_process_1(&[], debian) && !stays_process_1(&["sh"], debian));
    }

    #[test]
    fn a_shell_that_ends_with_a_loop_stays_process_1() {
        for (script, expected) in [
            ("while true; do nc -l -p 8080; done", true),
            ("while :; do\n  serve\ndone\n", true),
            ("trap 'exit 0' TERM; while true; do sleep 1; done", false),
            ("while true; do a && break; done; exec server", false),
            ("server", false),
        ] {
            assert_eq!(ends_with_loop(&["sh", "-c", script]), expected, "{script}");
        }
        assert!(!ends_with_loop(&["server", "-c", "while true"]));
    }

    #[test]
    fn commands_that_only_wait_are_known() {
        for (command, expected) in [
            ("sleep infinity", true),
            ("/bin/sleep infinity", true),
            ("/bin/sleep 3650d", true),
            ("sleep 10", true),
            ("sleep d", false),
            ("sleep 10 && server", false),
            ("tail -f /dev/null", true),
            ("tail -f /log", false),
            ("server", false),
        ] {
            let words: Vec<_> = command.split(' ').collect();
            assert_eq!(only_waits(&words), expected, "{command}");
        }
        assert!(only_waits(&["/bin/sh", "-c", "tail -f /dev/null\n"]));
        assert!(only_waits(&["sh", "-c", "sleep 100000h"]));
        assert!(!only_waits(&["sh", "-c", "nginx && tail -f /dev/null"]) && !only_waits(&[]));
    }
}
