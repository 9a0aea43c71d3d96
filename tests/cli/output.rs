//! Errors, warnings and output files.

use std::fs;

use crate::{
    POLICY, WEB, folder, inject,
    support::{adieu, succeed},
};

#[test]
fn errors_have_file_document_and_line_and_nothing_is_written() {
    let drain =
        |value: &str| WEB.replace("\"true\"", &format!("\"true\"\n    adieu.dev/drain-seconds: {value}"));
    let on_template = WEB.replace(
        "      labels:",
        "      annotations:\n        adieu.dev/pre-stop-method: nap\n      labels:",
    );
    let in_list =
        format!("kind: List\napiVersion: v1\nitems:\n- {}\n", drain("ten").trim_end().replace('\n', "\n  "));
    for (input, place, says) in [
        (
            format!("{POLICY}---\n{}", drain("ten")),
            "document 2, line 14",
            "Deployment web: metadata.annotations[adieu.dev/drain-seconds]: Invalid value: \"ten\": must be a whole number",
        ),
        (drain("10"), "document 1, line 7", "must be a string: put it in quotes"),
        (WEB.replace("\"true\"", "yes"), "document 1, line 6", "Invalid value: true: must be a string"),
        (on_template, "document 1, line 11", "spec.template.metadata.annotations[adieu.dev/pre-stop-method]"),
        (in_list, "document 1, line 10", "must be a whole number"),
        (
            format!("{WEB}---\n{POLICY}  drainSeconds: 4000\n"),
            "document 2, line 23",
            "GracefulPolicy all: spec.drainSeconds: Invalid value: 4000: must be at most 3600",
        ),
        (
            format!("{POLICY}  drainSecond: 4\n"),
            "document 1, line 7",
            "spec.drainSecond: Invalid value: 4: unknown field",
        ),
        (
            format!("{POLICY}  drainSeconds: 600\n  marginSeconds: 1\n"),
            "document 1, line 5",
            "must not exceed maxGracePeriodSeconds",
        ),
        ("a: 1\n---\nb: c: d\n".into(), "document 2, line 3, column 5", "mapping values are not allowed"),
        ("a:\n\t- b\n".into(), "document 1, line 2, column 2", "spaces instead of tabs"),
        ("a: 1\n...\nb: 2\n".into(), "document 1, line 3", "begin it with `---`"),
    ] {
        let folder = folder("mistakes", &[("x.yaml", &input)]);
        let file = folder.join("x.yaml");
        let finished = adieu(&["inject", "-f", file.to_str().unwrap()], "");
        assert_eq!((finished.code, finished.stdout.as_str()), (1, ""), "{input}");
        let place = format!("{}, {place}: ", file.display());
        assert!(finished.stderr.starts_with(&format!("adieu: {place}")), "{}", finished.stderr);
        assert!(finished.stderr.contains(says), "{}", finished.stderr);
    }
}

#[test]
fn all_errors_are_reported_together() {
    let bad = WEB.replace("\"true\"", "\"maybe\"");
    let finished = adieu(&["inject", "-f", "-"], &format!("{bad}---\n{bad}---\n{WEB}"));
    assert_eq!((finished.code, finished.stdout.as_str()), (1, ""));
    let lines: Vec<_> = finished.stderr.lines().collect();
    assert_eq!(lines.len(), 2, "{}", finished.stderr);
    assert!(lines[0].starts_with("adieu: standard input, document 1, line 6: "), "{}", finished.stderr);
    assert!(lines[1].starts_with("adieu: standard input, document 2, line 22: "), "{}", finished.stderr);
}

#[test]
fn warnings_go_to_standard_error_and_the_exit_code_is_0() {
    let named = WEB.replace("graceful: \"true\"", "policy: missing");
    let (injected, warnings) = succeed(&["inject", "-f", "-"], &named);
    assert_ne!(injected, named);
    assert!(
        warnings.starts_with("warning: standard input, document 1, line 1: Deployment web: "),
        "{warnings}"
    );
    assert!(warnings.contains("\"missing\" does not exist"), "{warnings}");
    let broken = inject(WEB).replace("{\"optedInBy\"", "{\"opted");
    let (reverted, warnings) = succeed(&["revert", "-f", "-"], &broken);
    assert_eq!(reverted, broken);
    assert!(warnings.contains("cannot be read, so nothing is reverted"), "{warnings}");
}

#[test]
fn unreadable_input_is_an_error() {
    let empty = folder("empty", &[("notes.txt", "")]);
    let binary = folder("binary", &[]);
    fs::create_dir_all(&binary).unwrap();
    let binary = binary.join("x.yaml");
    fs::write(&binary, b"a: 1\nb:\xff\n").unwrap();
    for (arguments, code, says) in [
        (vec!["inject"], 2, "--filename"),
        (vec!["inject", "-f", "-", "-o", "toml"], 2, "yaml"),
        (vec!["inject", "-f", "no-such-file.yaml"], 1, "no-such-file.yaml: "),
        (vec!["inject", "-f", "-", "-f", "-"], 1, "only once"),
        (vec!["revert", "-f", empty.to_str().unwrap()], 1, "--recursive"),
        (vec!["revert", "-f", binary.to_str().unwrap()], 1, "x.yaml: not UTF-8 (line 2, byte 7)"),
        (vec!["inject", "-f", "/dev/zero"], 1, "/dev/zero: with it, the input is larger than 64 MiB"),
    ] {
        let finished = adieu(&arguments, "");
        assert_eq!((finished.code, finished.stdout.as_str()), (code, ""), "{arguments:?}");
        assert!(finished.stderr.contains(says), "{}", finished.stderr);
    }
}

#[test]
fn the_output_can_be_a_file() {
    let folder = folder("output-file", &[("web.yaml", WEB)]);
    let (input, output) = (folder.join("web.yaml"), folder.join("out.yaml"));
    let arguments = ["inject", "-f", input.to_str().unwrap(), "--output-file", output.to_str().unwrap()];
    assert_eq!(succeed(&arguments, "").0, "");
    assert_eq!(fs::read_to_string(&output).unwrap(), inject(WEB));
}

#[test]
fn a_full_disk_leaves_the_file_unchanged_and_no_other_file() {
    let folder = folder("full-disk", &[("web.yaml", WEB)]);
    let file = folder.join("web.yaml");
    let name = file.to_str().unwrap();
    // A limit on the size of files simulates a full disk.
    let script = "ulimit -f 1; trap '' XFSZ; exec \"$@\"";
    let input = format!("{WEB}---\n").repeat(10);
    fs::write(&file, &input).unwrap();
    let arguments =
        ["-c", script, "sh", env!("CARGO_BIN_EXE_adieu"), "inject", "-f", name, "--output-file", name];
    let finished = crate::support::run(std::process::Command::new("sh").args(arguments), "");
    assert_eq!(finished.code, 1, "{}", finished.stderr);
    assert!(finished.stderr.contains(&format!("cannot write {name}: ")), "{}", finished.stderr);
    assert_eq!(fs::read_to_string(&file).unwrap(), input);
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "no other file is left");
}

#[test]
fn a_file_is_replaced_with_its_mode_and_through_a_link() {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    let folder = folder("replaced", &[("web.yaml", WEB)]);
    let (file, link) = (folder.join("web.yaml"), folder.join("link.yaml"));
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    let _ = fs::remove_file(&link);
    symlink("web.yaml", &link).unwrap();
    succeed(&["inject", "-f", link.to_str().unwrap(), "--output-file", link.to_str().unwrap()], "");
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(fs::read_to_string(&file).unwrap(), inject(WEB));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
    fs::remove_file(link).unwrap();
}

#[test]
fn output_is_written_even_if_warnings_cannot_be() {
    let script = "exec \"$@\" 2>/dev/full";
    for command in ["inject", "revert"] {
        let arguments = ["-c", script, "sh", env!("CARGO_BIN_EXE_adieu"), command, "-f", "-"];
        let input = WEB.replace("graceful: \"true\"", "policy: missing");
        let finished = crate::support::run(std::process::Command::new("sh").args(arguments), &input);
        assert_eq!(finished.code, 0, "{command}");
        assert!(finished.stdout.starts_with("apiVersion: apps/v1\n"), "{command}: {}", finished.stdout);
    }
}

#[test]
fn control_characters_of_manifests_are_escaped() {
    let name = r#""web\e[2J\nadieu: 1 injected\u2028\u202e\x7f\u009b""#;
    let key = r#"    "adieu.dev/x\e[31m\nwarning: forged": "1""#;
    let web = WEB.replace("name: web\n  annotations:", &format!("name: {name}\n  annotations:\n{key}"));
    let wrong = web.replace("\"true\"", "\"true\"\n    adieu.dev/drain-seconds: \"\\e[2J\\n5\"");
    for (input, code) in [(&web, 0), (&wrong, 1)] {
        for command in ["inject", "revert"] {
            let finished = adieu(&[command, "-f", "-"], input);
            if command == "inject" {
                assert_eq!(finished.code, code, "{finished:?}");
                assert!(
                    finished.stderr.contains(r"web\u{1b}[2J\nadieu: 1 injected\u{2028}\u{202e}\u{7f}\u{9b}")
                );
            }
            let raw = finished.stderr.chars().find(|char| char.is_control() && *char != '\n');
            assert_eq!(raw, None, "{}", finished.stderr);
            assert!(!finished.stderr.contains("\nwarning: forged"), "{}", finished.stderr);
        }
    }
}
