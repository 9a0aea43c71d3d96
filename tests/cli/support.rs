//! Runs the command line.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use serde_json::Value;

/// What a command did.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// Runs `adieu` with these arguments and this standard input.
pub fn adieu(arguments: &[&str], input: &str) -> Ran {
    run(Command::new(env!("CARGO_BIN_EXE_adieu")).args(arguments), input)
}

/// Runs a command with this standard input.
pub fn run(command: &mut Command, input: &str) -> Ran {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.as_bytes().to_owned();
    // A command that reads no standard input may be gone before it is written.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    Ran {
        code: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Runs `adieu`, which must succeed; its standard output and standard error.
pub fn succeed(arguments: &[&str], input: &str) -> (String, String) {
    let ran = adieu(arguments, input);
    assert_eq!(ran.code, 0, "{arguments:?}: {}", ran.stderr);
    (ran.stdout, ran.stderr)
}

/// The documents of a stream, empty ones left out, by another reader of YAML than adieu's.
pub fn documents(text: &str) -> Vec<Value> {
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    documents.into_iter().filter(|document| !document.is_null()).collect()
}
