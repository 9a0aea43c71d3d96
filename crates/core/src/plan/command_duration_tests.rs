use super::{HookDuration::*, *};

fn of_script(script: &str) -> HookDuration {
    duration(&["/bin/sh", "-c", script])
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
        (&["timeout", "-s", "KILL", "10s", "/drain"], Exactly(10)),
        (&["timeout", "10s", "sleep", "infinity"], Exactly(10)),
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
        assert_eq!(duration(command), expected, "{command:?}");
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
        assert_eq!(duration(command), AtLeast(0), "{command:?}");
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
    ] {
        assert_eq!(of_script(script), Exactly(expected), "{script}");
    }
}

#[test]
fn sleep_of_more_than_a_year_never_ends() {
    for command in [
        &["sleep", "infinity"][..],
        &["sleep", "INF"],
        &["sleep", "5", "infinity"],
        &["sleep", "366d"],
        &["sleep", "2147483647"],
        &["sleep", "99999999999999999999"],
        &["sleep", "9223372036854775807d"],
        &["usleep", "9223372036854775807"],
        &["sh", "-c", "echo draining; exec sleep infinity"],
        &["sh", "-c", "/drain; sleep infinity"],
        &["timeout", "infinity", "sleep", "infinity"],
    ] {
        assert_eq!(duration(command), Endless, "{command:?}");
    }
    assert_eq!(duration(&["sleep", "365d"]), Exactly(365 * 86_400));
    assert_eq!(duration(&["sleep", "infinite"]), AtLeast(0));
}

/// Each of these may take longer than its sleeps, so a grace period isn't lowered because of them.
#[test]
fn commands_that_may_wait_are_unknown() {
    for command in [
        "killall -w app",
        "killall --wait app",
        "killall -qw app",
        "killall $OPTIONS app",
        "kill --timeout 1000 TERM 1",
        "kill -STOP $$",
        "kill -s TSTP 0",
        "pkill -F /run/app.pid",
        "pkill $OPTIONS",
        "rm -rf /cache",
        "rm -r /cache",
        "rm -i /cache",
        "rm $FILES",
        "date -f /run/ctl",
        "/app/bin/kill 1",
        "/app/echo draining",
        "./touch x",
        "exec -a true /drain",
        "env -S '/drain --now'",
        "env --split-string='/drain --now'",
        "env -u HOME /drain",
        "echo drain > /run/ctl",
        "echo drain >> /run/ctl",
        "echo drain >| /run/ctl",
        "echo drain &> /run/ctl",
        "echo drain >& /run/ctl",
        "echo drain 2> /run/ctl",
        "echo drain > /proc/1/fd/1",
        "echo drain > $LOG",
        "echo drain > \"$LOG\"",
        "touch /x < /run/ctl",
        "> /run/ctl",
        "X=1 > /run/ctl",
        "exec 3< /run/ctl",
        "timeout -s CONT 1 /drain",
        "timeout 0 /drain",
        "powershell -Command -",
        "pwsh",
        "pwsh -NoExit -Command exit",
    ] {
        assert_eq!(of_script(&format!("sleep 5; {command}")), AtLeast(5), "{command}");
        if !command.starts_with("exec -a") {
            assert_eq!(of_script(&format!("{command}\nsleep 5")), AtLeast(5), "{command}");
        }
    }
    for (script, at_least) in [
        ("sleep 5 > /tmp/log", 5),
        ("timeout 10 /drain || true", 10),
        // The signal may fail, and then it doesn't exit.
        ("sleep 5; kill -0 1 && exit 0; sleep 30; /drain", 35),
        ("sleep 5 || exit 0; sleep 30; /drain", 35),
    ] {
        assert_eq!(of_script(script), AtLeast(at_least), "{script}");
    }
    assert_eq!(of_script("sleep 5; kill -0 1 && exit 0; sleep 30"), Exactly(35));
    assert_eq!(duration(&["timeout", "10s", "/drain"]), AtLeast(10));
    assert_eq!(duration(&["timeout", "-s", "CONT", "5", "sleep", "20"]), AtLeast(0));
}

#[test]
fn commands_that_never_wait_take_no_time() {
    for command in [
        "killall -q -TERM app",
        "killall -s SIGTERM app",
        "killall --signal=USR1 app",
        "kill -15 1",
        "kill -s QUIT 1",
        "kill -sigterm -- -1",
        "kill $OPTIONS 1",
        "/bin/kill -CONT 1",
        "pkill -f -x -TERM app",
        "pkill --signal TERM app",
        "rm -f /ready /tmp/*",
        "date -u +%s",
        "env -i true",
        "exec 3>&1",
        "echo draining >&2",
        "echo draining 2>&1 >/dev/null </dev/null 2>&-",
        "cd /app",
    ] {
        assert_eq!(of_script(&format!("{command}; sleep 5")), Exactly(5), "{command}");
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
        (&["powershell", "Start-Sleep 5; Write-Host \"draining\"; exit 0; Wait-Process app"], Exactly(5)),
        (&["powershell", "Start-Sleep 5; Write-Output (Wait-Process -Name app)"], AtLeast(5)),
        (&["powershell", "Start-Sleep 5; Write-Host \"$(Wait-Process app)\""], AtLeast(5)),
        (&["powershell", "Start-Sleep 5; echo { Wait-Process app }"], AtLeast(5)),
        (&["powershell", "Start-Sleep 5; echo app | Wait-Process"], AtLeast(5)),
        (&["powershell", "Start-Sleep 5; echo app > \\\\.\\pipe\\ctl"], AtLeast(5)),
        (&["powershell", "Start-Sleep 5; exit (Wait-Process app)"], AtLeast(5)),
        (&["powershell", "Write-Host 'a; Start-Sleep 300; b'"], AtLeast(0)),
        (&["powershell", "Start-Sleep 99999999"], AtLeast(0)),
        (&["powershell", "-NoExit", "-Command", "Start-Sleep 5"], AtLeast(0)),
        (&["cmd", "/c", "ping -n 6 localhost & echo %TIME% & stop.cmd"], AtLeast(5)),
        (&["cmd", "/c", "ping -n 6 localhost & echo ' & stop.cmd & echo '"], AtLeast(5)),
        (&["cmd", "/c", "ping -n 6 localhost & # & stop.cmd"], AtLeast(5)),
        (&["cmd", "/c", "ping -n 6 localhost & set /p x="], AtLeast(5)),
        (&["cmd", "/c", "ping -n 6 localhost & date"], AtLeast(5)),
        (&["cmd", "/c", "ping -n 6 localhost > log.txt"], AtLeast(5)),
        (&["cmd", "/c", "ping -n 6 localhost >NUL 2>&1 & echo done"], Exactly(5)),
        (&["ping", "-n", "6", "10.0.0.1"], AtLeast(5)),
        (&["cmd", "/c", "ping -n 31 127.0.0.1 >nul"], Exactly(30)),
        (&["cmd.exe", "/S", "/C", "ping", "-n", "31", "127.0.0.1"], Exactly(30)),
        (&["cmd", "/c", "ping -n 11 localhost > nul & C:\\stop.cmd"], AtLeast(10)),
        (&["cmd", "/k", "ping -n 11 localhost"], AtLeast(0)),
        // It needs a console, which a hook has not.
        (&["cmd", "/c", "timeout /t 30 /nobreak"], AtLeast(0)),
        (&["ping", "-n", "11", "127.0.0.1"], Exactly(10)),
        (&["ping", "-n", "127.0.0.1"], AtLeast(0)),
    ] {
        assert_eq!(duration(command), expected, "{command:?}");
    }
}

#[test]
fn nested_commands_are_read_to_a_limited_depth() {
    let mut command = vec!["env"; 100_000];
    command.extend(["sleep", "5"]);
    assert_eq!(duration(&command), AtLeast(0));
    assert_eq!(of_script(&"sleep 1; ".repeat(50_000)), Exactly(50_000));
}
