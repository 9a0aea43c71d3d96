use super::{Length::*, *};

fn of_script(script: &str) -> Length {
    length(&["/bin/sh", "-c", script])
}

#[test]
fn usual_forms_of_a_sleep_have_a_duration() {
    for (command, expected) in [
        (&["sleep", "10"][..], Exactly(10)),
        (&["/bin/sleep", "10s"], Exactly(10)),
        (&["sleep", "0"], Exactly(0)),
        (&["sleep", "0.5"], Exactly(1)),
        (&["sleep", ".5"], Exactly(1)),
        (&["sleep", "1.5m"], Exactly(90)),
        (&["sleep", "1m"], Exactly(60)),
        (&["sleep", "1h"], Exactly(3600)),
        (&["sleep", "1d"], Exactly(86_400)),
        (&["sleep", "10", "20"], Exactly(30)),
        (&["sleep", "1m", "0.2", "0.2"], Exactly(61)),
        (&["usleep", "15000000"], Exactly(15)),
        (&["/bin/busybox", "sleep", "15"], Exactly(15)),
        (&["env", "-i", "TZ=UTC", "sleep", "15"], Exactly(15)),
        (&["timeout", "20", "sleep", "15"], Exactly(15)),
        (&["timeout", "10s", "/drain"], Exactly(10)),
        (&["timeout", "-k", "5", "-s", "INT", "10", "/drain"], Exactly(15)),
        (&["timeout", "-k5", "10", "/drain"], Exactly(15)),
        (&["timeout", "--kill-after=5", "--foreground", "10", "/drain"], Exactly(15)),
        (&["bash", "-c", "sleep 15"], Exactly(15)),
        (&["bash", "-lc", "sleep 15"], Exactly(15)),
        (&["/bin/bash", "-ec", "sleep 15"], Exactly(15)),
        (&["sh", "-xc", "sleep 15"], Exactly(15)),
        (&["bash", "-o", "pipefail", "-c", "sleep 15"], Exactly(15)),
        (&["bash", "-euo", "pipefail", "-c", "sleep 15"], Exactly(15)),
        (&["bash", "--norc", "-c", "sleep 15"], Exactly(15)),
        (&["dash", "-c", "bash -c 'sleep 15'"], Exactly(15)),
        (&["busybox", "sh", "-c", "sleep 15"], Exactly(15)),
    ] {
        assert_eq!(length(command), expected, "{command:?}");
    }
}

#[test]
fn unreadable_duration_is_unknown() {
    for command in [
        &[][..],
        &[""],
        &["sleep"],
        &["sleep", ""],
        &["sleep", "10ss"],
        &["sleep", "s"],
        &["sleep", "."],
        &["sleep", "1.2.3"],
        &["sleep", "-5"],
        &["sleep", "+5"],
        &["sleep", "1e3"],
        &["sleep", "infinity"],
        &["sleep", "99999999999999999999"],
        &["sleep", "9223372036854775807d"],
        &["sleep", "10", "now"],
        &["usleep", "ten"],
        &["timeout", "0", "/drain"],
        &["timeout", "x", "/drain"],
        &["timeout"],
        &["timeout", "-k", "?", "10", "/drain"],
        &["sh", "sleep", "15"],
        &["sh", "-c"],
        &["sh", "-c", "sleep", "15"],
        &["bash", "/stop.sh"],
        &["nginx", "-s", "quit"],
        &["true"],
        &["/opt/stop.sh"],
        &["Sleep", "5"],
    ] {
        assert_eq!(length(command), AtLeast(0), "{command:?}");
    }
}

#[test]
fn script_of_sleeps_and_instant_commands_has_a_duration() {
    for (script, expected) in [
        ("sleep 10", 10),
        ("  sleep 10;", 10),
        ("\n  sleep 10\nnginx -s quit\n", 10),
        ("exec sleep 10", 10),
        ("exec sleep 10; /never/runs", 10),
        ("exec >/dev/null 2>&1; sleep 10", 10),
        ("sleep 10 || true", 10),
        ("sleep 10 || /never/runs", 10),
        ("sleep 10 || /never/runs && sleep 5", 15),
        ("sleep 10; true", 10),
        ("sleep 10 && echo 'done; really' && exit 0", 10),
        ("sleep 10; exit 0; /never/runs", 10),
        ("sleep 10 # until; endpoints | follow", 10),
        ("sleep 10 >/dev/null 2>&1", 10),
        ("sleep 10 &>/dev/null", 10),
        ("sleep 2m && nginx -s quit", 120),
        ("sleep 10&&nginx -s quit", 10),
        ("/bin/sleep 15; kill -QUIT 1", 15),
        ("nginx -s quit; sleep 15", 15),
        ("kill -TERM $PID; sleep 15", 15),
        ("touch /tmp/draining && sleep 15", 15),
        ("set -e\nsleep 5 &&\\\n sleep 10", 15),
        ("DELAY=10 sleep 10", 10),
        ("DELAY=10; sleep 10", 10),
        ("sleep \"10\"", 10),
        ("sleep '10'", 10),
        ("timeout 10 /drain || true", 10),
    ] {
        assert_eq!(of_script(script), Exactly(expected), "{script}");
    }
}

#[test]
fn script_with_other_commands_takes_at_least_its_sleeps() {
    for (script, at_least) in [
        ("sleep 5; /drain --timeout=300s", 5),
        ("sleep 5; kill -QUIT 1; tail --pid=1 -f /dev/null", 5),
        ("sleep 5; (sleep 10)", 5),
        ("sleep 5; sleep $DELAY", 5),
        ("/drain; sleep 30", 30),
        ("/drain || sleep 30", 0),
        ("kill -QUIT 1 || sleep 30", 0),
        ("sleep 10 & wait-for-drain", 0),
        ("sleep 10 &", 0),
        ("sleep 10 | drain", 0),
        ("sleep $DELAY", 0),
        ("sleep ${DELAY:-10}", 0),
        ("sleep \"$DELAY\"", 0),
        ("sleep $(cat /delay)", 0),
        ("sleep `cat /delay`", 0),
        ("sleep 5; echo \"$(/drain)\"", 5),
        ("sleep 5; cat <<EOF\nsleep 100\nEOF", 5),
        ("while kill -0 1; do sleep 1; done", 0),
        ("if [ -f /skip ]; then exit 0; fi; sleep 5; /drain", 5),
        ("test -f /skip && exit 0; sleep 30", 30),
        ("[ -f /skip ] && exit 0\nsleep 30", 30),
        ("{ sleep 5; }", 0),
        ("\"sleep 5", 0),
        ("sleep 5; 'sleep", 5),
        ("$SLEEP 5", 0),
        ("sleep [0-9]", 0),
        ("true", 0),
        ("", 0),
    ] {
        assert_eq!(of_script(script), AtLeast(at_least), "{script}");
    }
}

#[test]
fn sleeps_of_windows_are_read() {
    for (command, expected) in [
        (&["powershell.exe", "-Command", "Start-Sleep -Seconds 90"][..], Exactly(90)),
        (&["powershell", "-c", "start-sleep -s 90"], Exactly(90)),
        (&["PowerShell.exe", "Start-Sleep 20"], Exactly(20)),
        (&["pwsh", "-NoProfile", "-ExecutionPolicy", "Bypass", "-Command", "Start-Sleep", "20"], Exactly(20)),
        (
            &["C:\\Windows\\System32\\WindowsPowerShell\\v1.0\\powershell.exe", "Start-Sleep 20; exit 0"],
            Exactly(20),
        ),
        (&["powershell", "Start-Sleep -Milliseconds 1500"], Exactly(2)),
        (&["powershell", "Start-Sleep 5; Stop-Service w3svc; Start-Sleep 20"], AtLeast(5)),
        (&["powershell", "Start-Sleep $delay"], AtLeast(0)),
        (&["powershell", "Start-Sleep 5m"], AtLeast(0)),
        (&["powershell", "-File", "stop.ps1"], AtLeast(0)),
        (&["powershell"], AtLeast(0)),
        (&["cmd", "/c", "ping -n 31 127.0.0.1 >nul"], Exactly(30)),
        (&["cmd.exe", "/S", "/C", "ping", "-n", "31", "127.0.0.1"], Exactly(30)),
        (&["cmd", "/c", "ping -n 11 localhost > nul & C:\\stop.cmd"], AtLeast(10)),
        (&["cmd", "/k", "ping -n 11 localhost"], AtLeast(0)),
        // It needs a console, which a hook has not.
        (&["cmd", "/c", "timeout /t 30 /nobreak"], AtLeast(0)),
        (&["ping", "-n", "11", "127.0.0.1"], Exactly(10)),
        (&["ping", "-n", "127.0.0.1"], AtLeast(0)),
    ] {
        assert_eq!(length(command), expected, "{command:?}");
    }
}

#[test]
fn nested_commands_are_read_to_a_limited_depth() {
    let mut command = vec!["env"; 100_000];
    command.extend(["sleep", "5"]);
    assert_eq!(length(&command), AtLeast(0));
    assert_eq!(of_script(&"sleep 1; ".repeat(50_000)), Exactly(50_000));
}
