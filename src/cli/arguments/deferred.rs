//! Arguments of a verb that are described to clap only if the verb was given. Describing those of all verbs
//! takes a large part of a short command's time.

use std::sync::atomic::{AtomicBool, Ordering};

use clap::{ArgMatches, Args, Command, Error, FromArgMatches, Parser};

/// The arguments `T` of a verb.
pub struct Deferred<T>(pub T);

/// Help and errors are about all verbs, so these must be described.
static IS_LAZY: AtomicBool = AtomicBool::new(false);

/// Parses this process's arguments.
pub fn parse<P: Parser>() -> Result<P, Error> {
    IS_LAZY.store(true, Ordering::Relaxed);
    let parsed = P::try_parse();
    IS_LAZY.store(false, Ordering::Relaxed);
    parsed.or_else(|_| P::try_parse())
}

impl<T: Args> Args for Deferred<T> {
    fn augment_args(command: Command) -> Command {
        match IS_LAZY.load(Ordering::Relaxed) {
            true => command.defer(T::augment_args),
            false => T::augment_args(command),
        }
    }

    fn augment_args_for_update(command: Command) -> Command {
        T::augment_args_for_update(command)
    }
}

impl<T: FromArgMatches> FromArgMatches for Deferred<T> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        T::from_arg_matches(matches).map(Self)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        self.0.update_from_arg_matches(matches)
    }
}
