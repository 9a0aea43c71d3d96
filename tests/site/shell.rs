//! The words of commands.

/// The commands of a line of a shell, as words without quotes. Pipes, lists, substitutions and redirections separate them.
pub fn simple_commands(line: &str) -> Vec<Vec<String>> {
    let mut commands = vec![Vec::new()];
    let mut word: Option<String> = None;
    let mut quote = None;
    for character in line.chars() {
        match (quote, character) {
            (Some(end), _) if character == end => quote = None,
            (None, '\'' | '"') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (None, '#') if word.is_none() => break,
            (None, ' ' | '\t') => end_word(&mut commands, &mut word),
            (None, '|' | '&' | ';' | '(' | ')' | '<' | '>') => {
                end_word(&mut commands, &mut word);
                commands.push(Vec::new());
            }
            _ => word.get_or_insert_default().push(character),
        }
    }
    end_word(&mut commands, &mut word);
    commands
}

fn end_word(commands: &mut [Vec<String>], word: &mut Option<String>) {
    if let (Some(word), Some(command)) = (word.take(), commands.last_mut()) {
        command.push(word);
    }
}

/// The words of a command from `adieu` on, if it runs that, also as plugin of kubectl.
pub fn of_adieu(command: &[String]) -> Option<&[String]> {
    let start = command.iter().position(|word| !is_assignment(word))?;
    let words = &command[start..];
    let words = if words[0] == "kubectl" { &words[1..] } else { words };
    words.first().filter(|program| *program == "adieu").map(|_| words)
}

fn is_assignment(word: &str) -> bool {
    let is_name =
        |name: &str| name.chars().all(|character| character.is_ascii_uppercase() || character == '_');
    word.split_once('=').is_some_and(|(name, _)| is_name(name))
}

#[test]
fn commands_are_separated_and_quotes_removed() {
    let line = "a 'b c' | A=1 d \"e | f\" > g; source <(h -x) && i # j";
    let words = |command: &Vec<String>| command.join(",");
    let commands: Vec<_> =
        simple_commands(line).iter().map(words).filter(|words| !words.is_empty()).collect();
    assert_eq!(commands, ["a,b c", "A=1,d,e | f", "g", "source", "h,-x", "i"]);
}
