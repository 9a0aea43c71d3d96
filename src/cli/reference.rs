//! Parses workloads like kubectl: KIND/NAME, or KIND NAME.

use std::str::FromStr;

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, error::ErrorKind};

use crate::plan::Kind;

/// A workload by its kind and name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reference {
    pub(super) kind: Kind,
    pub(super) name: String,
}

impl FromStr for Reference {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, name) = text
            .split_once('/')
            .filter(|(_, name)| !name.is_empty() && !name.contains('/'))
            .ok_or("use KIND/NAME or KIND NAME, such as deployment/web")?;
        let known = match kind.to_ascii_lowercase().trim_end_matches(".apps").trim_end_matches(".v1") {
            "deployment" | "deployments" | "deploy" => Kind::Deployment,
            "statefulset" | "statefulsets" | "sts" => Kind::StatefulSet,
            "daemonset" | "daemonsets" | "ds" => Kind::DaemonSet,
            _ => {
                return Err(format!(
                    "{kind:?} is not a kind of workload: use deployment, statefulset or daemonset"
                ));
            }
        };
        Ok(Self { kind: known, name: name.to_owned() })
    }
}

/// The argument's id, for conflicts with others.
const ID: &str = "workload";

/// The workloads of a command: `deploy/web`, `deploy web`, `deploy/web sts/db` or `deploy web api`. `T` says how many there
/// may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Workloads<T>(pub(super) T);

/// A number of workloads.
pub(super) trait Number: Sized {
    /// Whether there must be one.
    const IS_REQUIRED: bool;
    /// The text of `--help`.
    const HELP: &'static str;

    /// # Errors
    /// If there are too many.
    fn of(references: Vec<Reference>) -> Result<Self, String>;
}

impl Number for Vec<Reference> {
    const IS_REQUIRED: bool = false;
    const HELP: &'static str = "The workloads, as kubectl takes them, such as deployment/web, sts/db or ds agent. Default: all of \
                        the namespace";

    fn of(references: Vec<Reference>) -> Result<Self, String> {
        Ok(references)
    }
}

impl Number for Option<Reference> {
    const IS_REQUIRED: bool = false;
    const HELP: &'static str =
        "The workload, as kubectl takes it, such as deployment/web, sts/db or ds agent";

    fn of(references: Vec<Reference>) -> Result<Self, String> {
        let count = references.len();
        let mut references = references.into_iter();
        match (references.next(), references.next()) {
            (first, None) => Ok(first),
            _ => Err(format!("give one workload, not {count}")),
        }
    }
}

impl Number for Reference {
    const IS_REQUIRED: bool = true;
    const HELP: &'static str = Option::<Self>::HELP;

    fn of(references: Vec<Reference>) -> Result<Self, String> {
        Option::<Self>::of(references)?.ok_or_else(|| "give one workload, such as deployment/web".to_owned())
    }
}

impl<T: Number> FromArgMatches for Workloads<T> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let words: Vec<_> = matches.get_many::<String>(ID).into_iter().flatten().collect();
        let parsed = parse(&words).and_then(T::of);
        parsed.map(Self).map_err(|message| clap::Error::raw(ErrorKind::ValueValidation, message))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl<T: Number> Args for Workloads<T> {
    fn augment_args(command: Command) -> Command {
        let argument = Arg::new(ID).value_name("KIND/NAME").num_args(1..).action(ArgAction::Append);
        command.arg(argument.required(T::IS_REQUIRED).help(T::HELP))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

fn parse(words: &[&String]) -> Result<Vec<Reference>, String> {
    match words {
        [kind, names @ ..] if !kind.contains('/') && !names.is_empty() => {
            names.iter().map(|name| format!("{kind}/{name}").parse::<Reference>()).collect()
        }
        words => words.iter().map(|word| word.parse::<Reference>()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The workloads of a command line, or its error.
    fn parsed<T: Number>(words: &str) -> Result<T, String> {
        let command = Workloads::<T>::augment_args(Command::new("adieu").no_binary_name(true));
        let matches = command.try_get_matches_from(words.split_whitespace());
        let matches = matches.map_err(|error| error.to_string())?;
        Workloads::from_arg_matches(&matches).map(|workloads| workloads.0).map_err(|error| error.to_string())
    }

    #[test]
    fn kind_and_name_may_be_two_words() {
        let names = |words: &str| -> Result<Vec<String>, String> {
            let all: Vec<Reference> = parsed(words)?;
            Ok(all.iter().map(|workload| format!("{}/{}", workload.kind, workload.name)).collect())
        };
        for (words, expected) in [
            ("", &[][..]),
            ("deploy/web", &["Deployment/web"]),
            ("deploy web", &["Deployment/web"]),
            ("sts db cache", &["StatefulSet/db", "StatefulSet/cache"]),
            ("deploy/web sts/db", &["Deployment/web", "StatefulSet/db"]),
        ] {
            assert_eq!(names(words).unwrap(), expected, "{words}");
        }
        for words in ["web", "deploy", "deploy/web api", "deploy sts/db", "pod web"] {
            names(words).unwrap_err();
        }
    }

    #[test]
    fn the_number_of_workloads_is_checked() {
        assert_eq!(parsed::<Option<Reference>>(""), Ok(None));
        let web: Reference = parsed("deploy web").unwrap();
        assert_eq!(parsed("deploy/web"), Ok(Some(web)));
        let error = parsed::<Option<Reference>>("deploy web api").unwrap_err();
        assert!(error.contains("give one workload, not 2"), "{error}");
        let error = parsed::<Reference>("").unwrap_err();
        assert!(error.contains("KIND/NAME"), "{error}");
    }

    #[test]
    fn kinds_are_parsed_like_kubectl() {
        for (text, kind) in [
            ("deployment/web", Kind::Deployment),
            ("deploy/web", Kind::Deployment),
            ("deployments.apps/web", Kind::Deployment),
            ("Deployment.v1.apps/web", Kind::Deployment),
            ("sts/web", Kind::StatefulSet),
            ("ds/web", Kind::DaemonSet),
        ] {
            assert_eq!(text.parse(), Ok(Reference { kind, name: "web".into() }), "{text}");
        }
        for text in ["web", "deploy/", "pod/web", "/web", "deploy/a/b"] {
            text.parse::<Reference>().unwrap_err();
        }
    }
}
